//! What kind of mistake a fault is: a short code that can be looked up, e.g. `DAG031`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which kind of file a fault is in; it begins the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// agents.toml: `CFG`.
    Config,
    /// Dependency files: `DAG`.
    Dag,
}

impl Family {
    /// Returns the letters that begin the code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "CFG",
            Self::Dag => "DAG",
        }
    }
}

/// A kind of mistake. The numbers are counted from 1 in this order, and never change: new kinds are added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mistake {
    /// Not valid YAML or TOML.
    Syntax,
    /// More than may be.
    TooMuch,
    /// Nothing where something must be.
    Empty,
    /// A second document in one file.
    SecondDocument,
    /// An alias that repeats nothing, or itself.
    Alias,
    /// A tag.
    Tag,
    /// A key given twice.
    KeyTwice,
    /// A merge key.
    MergeKey,
    /// Something that cannot be a key.
    NoKey,
    /// A number that YAML takes for a comment.
    VanishedKey,
    /// An unknown key.
    UnknownKey,
    /// A key is missing. Number 12 was given up with what it told, and is not given again.
    MissingKey = 12,
    /// A value of another kind.
    WrongType,
    /// A value that is too small or too large.
    OutOfRange,
    /// A word that is not one of those known.
    UnknownWord,
    /// A text that cannot be used.
    BadText,
    /// The same thing twice in one list.
    StandsTwice,
    /// A name that cannot be one.
    BadName,
    /// A task that needs itself.
    NeedsItself,
    /// Two keys that exclude one another.
    Exclusive,
    /// A task with nothing to do.
    NothingToDo,
    /// An agent or a role that is not in the team.
    UnknownAgent,
    /// Work for somebody who takes none.
    TakesNoWork,
    /// An unknown repository.
    UnknownRepository,
    /// A task that does not say which repository.
    WhichRepository,
    /// A task that nobody can do.
    Nobody,
    /// Values that contradict one another.
    Contradiction,
    /// A name or path that is taken.
    NameTaken,
    /// A need that leads to no task.
    UnknownTask,
    /// Tasks that wait for one another.
    Cycle,
    /// A file that cannot be read.
    Unreadable,
    /// A pool that no file declares.
    UnknownPool,
    /// A text that names no issue.
    BadIssue,
    /// A repository that is not on GitHub.
    NotOnGithub,
    /// An issue that is listed twice.
    IssueTwice,
    /// An issue of a repository that is not ours.
    ForeignIssue,
}

impl Mistake {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 36] = [
        Self::Syntax,
        Self::TooMuch,
        Self::Empty,
        Self::SecondDocument,
        Self::Alias,
        Self::Tag,
        Self::KeyTwice,
        Self::MergeKey,
        Self::NoKey,
        Self::VanishedKey,
        Self::UnknownKey,
        Self::MissingKey,
        Self::WrongType,
        Self::OutOfRange,
        Self::UnknownWord,
        Self::BadText,
        Self::StandsTwice,
        Self::BadName,
        Self::NeedsItself,
        Self::Exclusive,
        Self::NothingToDo,
        Self::UnknownAgent,
        Self::TakesNoWork,
        Self::UnknownRepository,
        Self::WhichRepository,
        Self::Nobody,
        Self::Contradiction,
        Self::NameTaken,
        Self::UnknownTask,
        Self::Cycle,
        Self::Unreadable,
        Self::UnknownPool,
        Self::BadIssue,
        Self::NotOnGithub,
        Self::IssueTwice,
        Self::ForeignIssue,
    ];

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16 + 1
    }

    /// Returns what it is, as a fragment.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Syntax => "not valid YAML or TOML",
            Self::TooMuch => "more than may be",
            Self::Empty => "nothing where something must be",
            Self::SecondDocument => "a second document in one file",
            Self::Alias => "an alias that repeats nothing, or itself",
            Self::Tag => "a tag",
            Self::KeyTwice => "a key given twice",
            Self::MergeKey => "a merge key",
            Self::NoKey => "something that cannot be a key",
            Self::VanishedKey => "a number that YAML takes for a comment",
            Self::UnknownKey => "an unknown key",
            Self::MissingKey => "a key is missing",
            Self::WrongType => "a value of another kind",
            Self::OutOfRange => "a value that is too small or too large",
            Self::UnknownWord => "a word that is not one of those known",
            Self::BadText => "a text that cannot be used",
            Self::StandsTwice => "the same thing twice in one list",
            Self::BadName => "a name that cannot be one",
            Self::NeedsItself => "a task that needs itself",
            Self::Exclusive => "two keys that exclude one another",
            Self::NothingToDo => "a task with nothing to do",
            Self::UnknownAgent => "an agent or a role that is not in the team",
            Self::TakesNoWork => "work for somebody who takes none",
            Self::UnknownRepository => "an unknown repository",
            Self::WhichRepository => "a task that does not say which repository",
            Self::Nobody => "a task that nobody can do",
            Self::Contradiction => "values that contradict one another",
            Self::NameTaken => "a name or path that is taken",
            Self::UnknownTask => "a need that leads to no task",
            Self::Cycle => "tasks that wait for one another",
            Self::Unreadable => "a file that cannot be read",
            Self::UnknownPool => "a pool that no file declares",
            Self::BadIssue => "a text that names no issue",
            Self::NotOnGithub => "a repository that is not on GitHub",
            Self::IssueTwice => "an issue that is listed twice",
            Self::ForeignIssue => "an issue of a repository that is not ours",
        }
    }
}

/// The code of a fault; its text form is `DAG031` or `CFG011`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// In which kind of file.
    pub family: Family,
    /// Which mistake.
    pub mistake: Mistake,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:03}", self.family.as_str(), self.mistake.number())
    }
}

/// A text that is no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no code of a fault; codes look like DAG031 or CFG011")]
pub struct NoCode(pub String);

impl FromStr for Code {
    type Err = NoCode;

    /// Reads a code in capital or small letters.
    fn from_str(text: &str) -> Result<Self, NoCode> {
        let no_code = || NoCode(text.to_owned());
        let (letters, digits) = text.split_at_checked(3).ok_or_else(no_code)?;
        let family = [Family::Config, Family::Dag]
            .into_iter()
            .find(|family| family.as_str().eq_ignore_ascii_case(letters))
            .ok_or_else(no_code)?;
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(no_code());
        }
        let number: u16 = digits.parse().map_err(|_| no_code())?;
        let mistake = Mistake::ALL.into_iter().find(|mistake| mistake.number() == number).ok_or_else(no_code)?;
        Ok(Self { family, mistake })
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_text_form() {
        for family in [Family::Config, Family::Dag] {
            let numbers: Vec<u16> = (1..=37).filter(|number| *number != 12).collect();
            assert_eq!(Mistake::ALL.map(Mistake::number).to_vec(), numbers, "the list is in the order of the enum");
            for mistake in Mistake::ALL {
                let code = Code { family, mistake };
                assert_eq!(code.to_string().parse(), Ok(code));
                assert_eq!(code.to_string().to_lowercase().parse(), Ok(code));
            }
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in ["", "DAG", "DAG0", "DAG000", "DAG999", "DAG1", "XYZ001", "DAG+01", "カエデ", "DAG0011"] {
            assert_eq!(text.parse::<Code>(), Err(NoCode(text.to_owned())));
        }
    }
}
