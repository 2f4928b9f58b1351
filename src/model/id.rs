//! Names and numbers of things. Every kind has its own type, so that one cannot be taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use ulid::Ulid;

use super::shared::SharedText;

/// The longest name of an agent, role, repository or task, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// The text is empty.
    #[error("a {kind} must not be empty")]
    Empty {
        /// What was to be named.
        kind: &'static str,
    },
    /// The text is longer than [`NAME_BYTES_MAX`].
    #[error("{kind} `{text}` is longer than {NAME_BYTES_MAX} bytes")]
    TooLong {
        /// What was to be named.
        kind: &'static str,
        /// The text as written.
        text: String,
    },
    /// The text holds something that is not allowed.
    #[error("{kind} `{text}` is not valid: {rule}")]
    Shape {
        /// What was to be named.
        kind: &'static str,
        /// The text as written.
        text: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(SharedText);

        impl $name {
            /// Checks the text and takes it as a name.
            ///
            /// # Errors
            /// Names the rule that the text breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, NameFault> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if text.is_empty() {
                    return Err(NameFault::Empty { kind: $kind });
                }
                if text.len() > NAME_BYTES_MAX * 2 + 1 {
                    return Err(NameFault::TooLong { kind: $kind, text });
                }
                if valid(&text) { Ok(Self(text.into())) } else { Err(NameFault::Shape { kind: $kind, text, rule: $rule }) }
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameFault;

            fn from_str(text: &str) -> Result<Self, NameFault> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn slug(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Says whether a text names a repository on GitHub. It becomes part of addresses, so nothing else may be in it.
fn is_slug(text: &str) -> bool {
    let part = |part: &str| {
        (1..=NAME_BYTES_MAX).contains(&part.len())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            && !part.chars().all(|c| c == '.')
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// Says whether a text can be one segment of a task's id: it becomes part of a branch name and of a folder name.
#[must_use]
pub fn is_task_segment(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !text.contains("..")
        && !text.ends_with('.')
        && !text.ends_with(".lock")
}

name!(
    /// The key of an order that must not be accepted twice.
    SubmissionKey,
    "key",
    "spaces and control characters are not allowed in it",
    |text| text.chars().all(|c| !c.is_control() && !c.is_whitespace())
);

name!(
    /// The ASCII id of an agent, e.g. `kaede`.
    AgentId, "agent id", "use a-z, 0-9 and `-`, begin with a letter, at most 32 characters", slug
);
name!(
    /// What an agent is good for, e.g. `codegen`.
    Role, "role", "use a-z, 0-9 and `-`, begin with a letter, at most 32 characters", slug
);
name!(
    /// The name of a pool of slots, e.g. `anthropic`.
    PoolName, "pool name", "use a-z, 0-9 and `-`, begin with a letter, at most 32 characters", slug
);
name!(
    /// The name of a `[[repository]]`.
    RepositoryName, "repository name", "use letters, digits, `_`, `-` and `.`", is_task_segment
);
name!(
    /// A repository on GitHub: `owner/name`.
    RepositorySlug, "repository on GitHub", "write it as owner/name", is_slug
);
name!(
    /// Which orchestra: every root folder is one.
    OrchestraId, "orchestra", "use a-z, 0-9 and `-`, begin with a letter, at most 32 characters", slug
);
name!(
    /// The name of a workflow stage, e.g. `code`.
    StageName, "stage", "use a-z, 0-9 and `-`, begin with a letter, at most 32 characters", slug
);
name!(
    /// The id of a task: `FILE-STEM/NAME` for one of a dependency file, a ULID for a submitted one.
    TaskId, "task id", "write NAME or FILE/NAME with letters, digits, `_`, `-` and `.`",
    |text| text.split('/').count() <= 2 && text.split('/').all(is_task_segment)
);
name!(
    /// The name of a mailbox of the spool: `kaede`, `kaede.work`, `role.review`, `supervisor`.
    Mailbox, "mailbox", "use a-z, 0-9 and `-`, with at most one `.`, at most 64 characters",
    |text| text.len() <= 64 && text.split('.').count() <= 2 && text.split('.').all(slug)
);

impl Mailbox {
    /// Returns the mailbox of an agent's work orders.
    #[must_use]
    pub fn work(agent: &AgentId) -> Self {
        Self(format!("{agent}.work").into())
    }

    /// Returns the mailbox of an agent's messages.
    #[must_use]
    pub fn agent(agent: &AgentId) -> Self {
        Self(agent.0.clone())
    }

    /// Returns the mailbox that all agents of a role share.
    #[must_use]
    pub fn role(role: &Role) -> Self {
        Self(format!("role.{role}").into())
    }

    /// Returns the reserved mailbox of the supervisor.
    #[must_use]
    pub fn supervisor() -> Self {
        Self("supervisor".into())
    }

    /// Returns the agent whose work orders lie here, if this is such a mailbox.
    #[must_use]
    pub fn worked_by(&self) -> Option<AgentId> {
        self.0.strip_suffix(".work").and_then(|agent| AgentId::new(agent).ok())
    }
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Ulid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ulid::DecodeError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ulid::from_string(text).map(Self)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"})
            }
        }
    };
}

ulid_id!(
    /// The id of an envelope in the spool.
    EnvelopeId
);
ulid_id!(
    /// One run of a task through the workflow; `task retry` begins a new one.
    RunId
);

/// How many times an agent has been started; news of another incarnation is stale.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Returns the number of the next start.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn japanese_task_names_are_fine_and_dangerous_ones_are_not() {
        for text in ["example/hello", "example/挨拶", "a.b/c_d-1"] {
            assert!(TaskId::new(text).is_ok(), "{text} was refused");
        }
        for text in ["", "a/b/c", "../x", "a/", "/a", "a b", ".git/x", "a/b.lock", "a/b..c", "-x"] {
            assert!(TaskId::new(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn mailboxes_know_whose_work_they_hold() {
        let kaede = AgentId::new("kaede").unwrap();
        assert_eq!(Mailbox::work(&kaede).worked_by(), Some(kaede));
        assert_eq!(Mailbox::supervisor().worked_by(), None);
    }
}
