//! Tasks: the nodes of the dependency graph.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agent::StallAnswer;
use super::fault::Place;
use super::id::{AgentId, RepositoryName, Role, TaskId};
use super::span;

/// What a dependency file or a submitted order says of one task, defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Tasks that must be done first.
    pub needs: Vec<TaskId>,
    /// Who may take it.
    pub assignee: Assignee,
    /// What is to be done.
    pub work: Work,
    /// Commands that must succeed at the task's commit, besides the repository's own.
    pub checks: Vec<String>,
    /// Whether a commit is expected.
    pub no_change: NoChange,
    /// The time limit of one attempt; `None`: the agent's.
    #[serde(default, with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long an attempt may stand still before it counts as stalled; `None`: the agent's.
    #[serde(default, with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub stall: Option<Duration>,
    /// What follows then; `None`: what the agent's table says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_stall: Option<StallAnswer>,
    /// How often and how soon a failed attempt is repeated.
    pub retry: RetryPolicy,
    /// 1 (highest) to 5.
    pub priority: Priority,
    /// Where the work happens.
    pub repository: RepositoryChoice,
}

/// Who may take a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assignee {
    /// This agent only.
    Agent(AgentId),
    /// Any agent of the role.
    Role(Role),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Handed to the agent's CLI.
    Prompt(String),
    /// A shell command that the runner executes itself.
    Run(String),
}

/// Whether a task may end without a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoChange {
    /// An attempt without a commit has failed.
    Refused,
    /// No commit is expected.
    Ok,
}

/// How often and how soon a failed attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// How many attempts may follow the first one.
    pub limit: u32,
    /// The wait before the second attempt.
    #[serde(with = "span")]
    pub interval: Duration,
    /// The factor by which the wait grows.
    pub backoff: f64,
    /// The longest wait.
    #[serde(with = "span")]
    pub max_interval: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { limit: 2, interval: Duration::from_secs(1), backoff: 2.0, max_interval: Duration::from_secs(600) }
    }
}

/// The largest number that `retry.limit` may be.
pub const RETRY_LIMIT_MAX: u32 = 100;

/// The urgency of a task or message: 1 (highest) to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    /// The priority of things that name none.
    pub const DEFAULT: Self = Self(3);

    /// Returns the number, 1 to 5.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The number is not a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("priority {0} is not between 1 (highest) and 5")]
pub struct PriorityFault(u8);

impl TryFrom<u8> for Priority {
    type Error = PriorityFault;

    fn try_from(number: u8) -> Result<Self, PriorityFault> {
        if (1..=5).contains(&number) { Ok(Self(number)) } else { Err(PriorityFault(number)) }
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// Where a task's work happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepositoryChoice {
    /// A scratch folder, no git.
    None,
    /// A worktree of this repository.
    Named(RepositoryName),
}

/// One parsed dependency file.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFile {
    /// The file's name without folder and extension; the first segment of its tasks' ids.
    pub stem: String,
    /// The path as shown to people, e.g. `dag/example.yaml`.
    pub path: String,
    /// The tasks, in the order of the file.
    pub nodes: Vec<TaskNode>,
}

/// One task of a dependency file, with the places that messages point at.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskNode {
    /// `FILE-STEM/NAME`.
    pub id: TaskId,
    /// Where the task's name stands.
    pub place: Place,
    /// What the file says of it.
    pub spec: TaskSpec,
    /// Where each entry of `spec.needs` stands, in the same order.
    pub needs_places: Vec<Place>,
}

mod optional_span {
    //! An optional duration in its text form.

    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::span;

    #[expect(clippy::ref_option, reason = "serde's `with` hands over a reference to the field")]
    pub(super) fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => span::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            Some(text) => span::parse(&text).map(Some).map_err(serde::de::Error::custom),
            None => Ok(None),
        }
    }
}
