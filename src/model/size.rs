//! Amounts of memory and disk as people write them: `512MiB`, `4GiB`, `64KiB`, `0B`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The units, largest first.
const UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// An amount of memory or disk, in bytes; its text form is that of [`parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeFault {
    /// No digits, or an unknown unit.
    #[error("`{0}` is not an amount; write 64KiB, 512MiB, 4GiB or 1TiB")]
    Malformed(String),
    /// More than can be counted.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// Reads an amount.
///
/// # Errors
/// Tells what is wrong with the text.
pub fn parse(text: &str) -> Result<Size, SizeFault> {
    let malformed = || SizeFault::Malformed(text.to_owned());
    let too_large = || SizeFault::TooLarge(text.to_owned());
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(malformed());
    }
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
    let number: u64 = number.parse().map_err(|_| too_large())?;
    // SQLite and JSON readers count with signed numbers.
    let bytes = number.checked_mul(*factor).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(too_large)?;
    Ok(Size(bytes))
}

/// Writes an amount in the largest unit that [`parse`] reads back to the same value.
#[must_use]
pub fn format(size: Size) -> String {
    let (name, factor) =
        UNITS.iter().find(|(_, factor)| size.0 > 0 && size.0.is_multiple_of(*factor)).unwrap_or(&UNITS[4]);
    format!("{}{name}", size.0 / factor)
}

/// Writes an amount for people: three digits are enough, e.g. `312 MiB`, `1.5 GiB`.
#[must_use]
pub fn round(size: Size) -> String {
    let (name, factor) = UNITS.iter().find(|(_, factor)| size.0 >= *factor).unwrap_or(&UNITS[4]);
    let (whole, tenth) = (size.0 / factor, size.0 % factor * 10 / factor);
    if whole < 10 && tenth > 0 { format!("{whole}.{tenth} {name}") } else { format!("{whole} {name}") }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(*self))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_survive_their_text_form() {
        for text in ["0B", "512MiB", "1GiB", "1025KiB", "7B", "3TiB"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in ["", "5", "MiB", "5MB", "-5MiB", "1.5GiB", "5 MiB", "99999999999999999999B"] {
            assert!(parse(text).is_err(), "{text} was accepted");
        }
        assert_eq!(parse("9999999TiB"), Err(SizeFault::TooLarge("9999999TiB".to_owned())));
    }

    #[test]
    fn people_read_three_digits() {
        let shown = |text: &str| round(parse(text).unwrap());
        assert_eq!(
            [shown("312MiB"), shown("1536MiB"), shown("0B"), shown("1GiB")],
            ["312 MiB", "1.5 GiB", "0 B", "1 GiB"]
        );
    }
}
