//! Versions of tmux, because each has traps of its own. `tests/it/tmux_traps.rs` provokes each of them.
//!
//! | trap | versions | our care, which we take on all of them |
//! | --- | --- | --- |
//! | the news of a child's death is lost, a zombie stays | below 3.6, with libutempter | [`super::Tmux::reap`] |
//! | pasting into a dead pane crashes the server | below 3.4 | panes do not remain, nothing types |
//! | a respawn beside a client with unread output crashes the server | below 3.6 | our client gets no output |
//! | the last windows dying at once beside a control client crash the server | 3.3a | a window without a process |
//! | a client or pipe that is not read makes the server hoard | 3.3a, 3.8 | no output, no pipes |
//! | arguments above 16 KiB are refused | all | standard input and control lines |
//! | what is typed is changed, or swallowed by copy mode | all | prompts travel as files |
//! | a text and the Enter behind it arrive as one | all | prompts travel as files |
//! | control characters but tab may not arrive from a format | some | fields are separated by tabs |
//! | targets match by their beginning, names are changed | all; below 3.7 | ids, `=name`, checked names |
//! | no Japanese under the C locale | all | `-u` and LANG |
//! | a killed server leaves its socket | all | a connection is tried |
//! | panes leave the unit's limits over the session bus | from 3.4 | a listed environment |

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
