//! Durations as people write them: `500ms`, `45s`, `30m`, `4h`, `2d`, and sums such as `1h30m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// 24 hours.
pub const DAY: Duration = Duration::from_hours(24);

/// The longest duration that is accepted: 3650 days.
pub const MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpanFault {
    /// No digits, an unknown unit, or something between them.
    #[error("`{0}` is not a duration; write 500ms, 45s, 30m, 4h, 2d or 1h30m")]
    Malformed(String),
    /// Longer than [`MAX`].
    #[error("`{0}` is longer than ten years")]
    TooLong(String),
}

/// Reads a duration.
///
/// # Errors
/// Tells what is wrong with the text.
pub fn parse(text: &str) -> Result<Duration, SpanFault> {
    let malformed = || SpanFault::Malformed(text.to_owned());
    let too_long = || SpanFault::TooLong(text.to_owned());
    let mut rest = text.trim();
    let mut millis: u64 = 0;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err(malformed());
        }
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        millis = number.checked_mul(*factor).and_then(|part| millis.checked_add(part)).ok_or_else(too_long)?;
        rest = tail;
    }
    let span = Duration::from_millis(millis);
    if span > MAX { Err(too_long()) } else { Ok(span) }
}

/// Writes a duration in the shortest form that [`parse`] reads back to the same value.
#[must_use]
pub fn format(span: Duration) -> String {
    let mut millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in UNITS.iter().rev() {
        let count = millis / factor;
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
            millis %= factor;
        }
    }
    text
}

/// Serialises a duration in its text form, for `#[serde(with = "span")]`.
///
/// # Errors
/// Only those of the serialiser.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*span))
}

/// Deserialises the text form, for `#[serde(with = "span")]`.
///
/// # Errors
/// Tells what is wrong with the text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_their_text_form() {
        for text in ["500ms", "45s", "1h30m", "2d", "0s", "1m500ms"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in ["", "5", "s", "5x", "-5s", "5 s", "1.5h", "99999999999999999999s"] {
            assert!(parse(text).is_err(), "{text} was accepted");
        }
        assert_eq!(parse("9999d"), Err(SpanFault::TooLong("9999d".to_owned())));
    }
}
