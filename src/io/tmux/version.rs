//! Versions of tmux, because each has traps of its own.

use std::fmt;

/// The oldest version that is good enough: control clients without output, and `-e` for new windows.
pub const OLDEST: Version = Version { major: 3, minor: 2 };

/// Below this one the server can lose the news of a child's death.
pub(super) const COLLECTS_ITS_CHILDREN: Version = Version { major: 3, minor: 6 };

/// A version of tmux; the letter of a patch release does not matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The number before the point.
    pub major: u32,
    /// The number after the point.
    pub minor: u32,
}

impl Version {
    /// Reads `3.3a`, `tmux 3.5`, `next-3.7`. A build from the `master` branch counts as newer than all.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("tmux ").unwrap_or(text);
        if text == "master" {
            return Some(Self { major: u32::MAX, minor: 0 });
        }
        let (major, rest) = text.strip_prefix("next-").unwrap_or(text).split_once('.')?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { major: major.parse().ok()?, minor: digits.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_and_not_by_text() {
        let parse = |text| Version::parse(text).unwrap();
        assert_eq!(parse("tmux 3.3a\n"), Version { major: 3, minor: 3 });
        assert_eq!(parse("next-3.7"), Version { major: 3, minor: 7 });
        assert!(parse("3.10") > parse("3.9"));
        assert!(parse("3.1c") < OLDEST && parse("3.2") >= OLDEST && parse("master") > OLDEST);
        assert_eq!(Version::parse("openbsd"), None);
    }
}
