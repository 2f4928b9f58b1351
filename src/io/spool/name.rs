//! The grammar of file names. Folder and name together are the whole state of an envelope; nothing here touches the disk.
//!
//! ```text
//! new/     3-01JD2V5XQK6M8W0R1T4Y7Z9ABC-a1                           priority, id, number of the next attempt
//! later/   1795162841123~3-01JD…-a2                                  not before, then the same
//! leased/  3-01JD…-a2~kaede.7~1795162841123                          holder and end of the lease: the receipt
//! done/    3-01JD…-a2~kaede.7~1795162841123                          who ended it, and when
//! dead/    3-01JD…-a2~kaede.7~1795162841123                          the same, with NAME.reason.json beside it
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::id::EnvelopeId;
use crate::model::task::Priority;
use crate::model::time::Timestamp;

use super::holder::Holder;

/// What separates the parts of a name.
const PART: char = '~';

/// Begins the name of what is no envelope.
const BAD: &str = "bad~";

/// Stands where a holder would, for an envelope that nobody held when it ended.
pub(super) const NOBODY: &str = "-";

/// A folder of a mailbox in which an envelope can lie: its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Folder {
    /// Delivered, waiting.
    New,
    /// Delivered, not before a time.
    Later,
    /// In one holder's hands, until a time.
    Leased,
    /// Acknowledged.
    Done,
    /// Given up, with the reason beside it.
    Dead,
}

impl Folder {
    /// All folders, in the order in which an envelope goes through them.
    pub const ALL: [Self; 5] = [Self::Later, Self::New, Self::Leased, Self::Done, Self::Dead];

    /// Returns the folder's name on disk.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Later => "later",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What every name has: `3-01JD…-a1`. It is the whole name in `new/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stem {
    /// How urgent it is. A person may rename an envelope in `new/` to change it.
    pub priority: Priority,
    /// The envelope.
    pub id: EnvelopeId,
    /// The number of the attempt: the next one in `new/` and `later/`, this one in `leased/`, the last one elsewhere.
    pub attempt: u32,
}

impl Stem {
    /// Returns the name of an envelope that was never leased.
    #[must_use]
    pub const fn first(priority: Priority, id: EnvelopeId) -> Self {
        Self { priority, id, attempt: 1 }
    }

    /// Returns the name for the attempt after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { attempt: self.attempt.saturating_add(1), ..self }
    }

    /// Reads a name; `None` if it is not exactly one that we would write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        canonical(text, |text| {
            let mut parts = text.splitn(3, '-');
            let priority = Priority::try_from(parts.next()?.parse::<u8>().ok()?).ok()?;
            let id = parts.next()?.parse().ok()?;
            let attempt = parts.next()?.strip_prefix('a')?.parse().ok().filter(|attempt| *attempt > 0)?;
            Some(Self { priority, id, attempt })
        })
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-a{}", self.priority.get(), self.id, self.attempt)
    }
}

/// A name in `later/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaterName {
    /// When it may be leased.
    pub not_before: Timestamp,
    /// What it is.
    pub stem: Stem,
}

impl LaterName {
    /// Reads a name; `None` if it is not exactly one that we would write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        canonical(text, |text| {
            let (not_before, stem) = text.split_once(PART)?;
            Some(Self { not_before: millis(not_before)?, stem: Stem::parse(stem)? })
        })
    }
}

impl fmt::Display for LaterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PART}{}", Millis(self.not_before), self.stem)
    }
}

/// A name in `leased/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeasedName {
    /// What it is.
    pub stem: Stem,
    /// Who holds it.
    pub holder: Holder,
    /// When the lease ends.
    pub until: Timestamp,
}

impl LeasedName {
    /// Reads a name; `None` if it is not exactly one that we would write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        canonical(text, |text| {
            let mut parts = text.splitn(3, PART);
            let stem = Stem::parse(parts.next()?)?;
            let holder = Holder::parse(parts.next()?)?;
            Some(Self { stem, holder, until: millis(parts.next()?)? })
        })
    }
}

impl fmt::Display for LeasedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PART}{}{PART}{}", self.stem, self.holder, Millis(self.until))
    }
}

/// A name in `done/` or `dead/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndedName {
    /// What it is.
    pub stem: Stem,
    /// Who held it when it ended.
    pub holder: Option<Holder>,
    /// When it ended.
    pub ended_at: Timestamp,
}

impl EndedName {
    /// Reads a name; `None` if it is not exactly one that we would write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        canonical(text, |text| {
            let mut parts = text.splitn(3, PART);
            let stem = Stem::parse(parts.next()?)?;
            let holder = match parts.next()? {
                NOBODY => None,
                holder => Some(Holder::parse(holder)?),
            };
            Some(Self { stem, holder, ended_at: millis(parts.next()?)? })
        })
    }
}

impl fmt::Display for EndedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PART}", self.stem)?;
        match &self.holder {
            Some(holder) => write!(f, "{holder}")?,
            None => f.write_str(NOBODY)?,
        }
        write!(f, "{PART}{}", Millis(self.ended_at))
    }
}

/// A name in `dead/` of something that never was an envelope, or whose name said nothing: `bad~1795162841123~0c4f81aa`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BadName {
    /// When it was found.
    pub ended_at: Timestamp,
    /// Tells apart what was found at the same time: the beginning of a checksum of its old place.
    pub mark: String,
}

impl BadName {
    /// Reads a name; `None` if it is not exactly one that we would write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        canonical(text, |text| {
            let (ended_at, mark) = text.strip_prefix(BAD)?.split_once(PART)?;
            let hexadecimal = mark.len() == 8 && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
            hexadecimal.then_some(Self { ended_at: millis(ended_at)?, mark: mark.to_owned() })
        })
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BAD}{}{PART}{}", Millis(self.ended_at), self.mark)
    }
}

/// A time in a name: milliseconds with at least 13 digits, so that names sort by time until the year 2286.
struct Millis(Timestamp);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:013}", self.0.as_millis().max(0))
    }
}

fn millis(text: &str) -> Option<Timestamp> {
    text.parse::<i64>().ok().filter(|millis| *millis >= 0).map(Timestamp::from_millis)
}

/// Parses a text and accepts it only if writing the value gives the text again, so that one state has one name.
pub(super) fn canonical<T: fmt::Display>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    parse(text).filter(|value| value.to_string() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::receipt::Receipt;
    use super::*;
    use crate::model::id::Incarnation;

    const STEM: &str = "3-01JD2V5XQK6M8W0R1T4Y7Z9ABC-a1";

    fn stem() -> impl Strategy<Value = Stem> {
        (1..=5u8, any::<u128>(), 1..=u32::MAX).prop_map(|(priority, id, attempt)| Stem {
            priority: Priority::try_from(priority).unwrap(),
            id: EnvelopeId(ulid::Ulid::from(id)),
            attempt,
        })
    }

    fn holder() -> impl Strategy<Value = Holder> {
        ("[A-Za-z0-9_][A-Za-z0-9_-]{0,31}", any::<u64>())
            .prop_map(|(agent, incarnation)| Holder::new(agent, Incarnation(incarnation)).unwrap())
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        (0..=i64::MAX).prop_map(Timestamp::from_millis)
    }

    proptest! {
        #[test]
        fn every_name_reads_back_as_what_was_written(
            stem in stem(), holder in holder(), nobody in any::<bool>(), time in time()
        ) {
            prop_assert_eq!(Stem::parse(&stem.to_string()), Some(stem));
            let later = LaterName { not_before: time, stem };
            prop_assert_eq!(LaterName::parse(&later.to_string()), Some(later));
            let leased = LeasedName { stem, holder: holder.clone(), until: time };
            prop_assert_eq!(LeasedName::parse(&leased.to_string()), Some(leased.clone()));
            let ended = EndedName { stem, holder: (!nobody).then_some(holder), ended_at: time };
            prop_assert_eq!(EndedName::parse(&ended.to_string()), Some(ended));
            let receipt = Receipt { mailbox: "role.review".parse().unwrap(), name: leased };
            prop_assert_eq!(receipt.to_string().parse::<Receipt>().unwrap(), receipt);
        }

        #[test]
        fn no_text_makes_the_parsers_stumble(text in ".*", shaped in "[0-9a-zA-Z~.\\-/]{0,80}") {
            for text in [text, shaped] {
                let read = [
                    Stem::parse(&text).map(|name| name.to_string()),
                    LaterName::parse(&text).map(|name| name.to_string()),
                    LeasedName::parse(&text).map(|name| name.to_string()),
                    EndedName::parse(&text).map(|name| name.to_string()),
                    text.parse::<Receipt>().ok().map(|name| name.to_string()),
                ];
                for written in read.into_iter().flatten() {
                    prop_assert_eq!(&written, &text);
                }
            }
        }
    }

    #[test]
    fn names_that_only_look_right_are_foreign() {
        assert!(Stem::parse(STEM).is_some());
        for text in ["", "3", "3-01jd2v5xqk6m8w0r1t4y7z9abc-a1", "03-01JD2V5XQK6M8W0R1T4Y7Z9ABC-a1"] {
            assert_eq!(Stem::parse(text), None, "{text}");
        }
        for text in ["-a0", "-a01", "-a", "-a1~", "-a4294967296", "-a+1"] {
            assert_eq!(Stem::parse(&STEM.replace("-a1", text)), None, "{text}");
        }
        for text in ["kaede.7~1", "kaede~1795162841123", "kaede.07~1795162841123", "ka.ede.7~+795162841123", "-~1"] {
            assert_eq!(LeasedName::parse(&format!("{STEM}~{text}")), None, "{text}");
        }
        assert!("kaede/../x".parse::<Receipt>().is_err());
    }

    #[test]
    fn sorting_names_sorts_by_priority_and_then_by_age() {
        let at = |millis| EnvelopeId(ulid::Ulid::from_parts(millis, 7));
        let name = |priority, id| Stem::first(Priority::try_from(priority).unwrap(), id).to_string();
        let mut names = [name(3, at(5)), name(5, at(1)), name(1, at(9)), name(3, at(4))];
        names.sort();
        assert_eq!(names, [name(1, at(9)), name(3, at(4)), name(3, at(5)), name(5, at(1))]);
    }
}
