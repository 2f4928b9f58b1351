//! Alerts: what needs an operator's eye until it is over.

use serde::{Deserialize, Serialize};

use super::id::{AgentId, TaskId};
use super::time::Timestamp;

/// Something that needs an operator's eye. It is raised once, and is over by itself or by the verb that its text names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What kind of thing.
    pub kind: AlertKind,
    /// The agent that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The task that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The attempt of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When it was raised.
    pub since: Timestamp,
    /// One line for people: what is wrong, and what to do or when it will be over.
    pub text: String,
}

/// What kind of thing an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// An agent's restart budget is used up; it stays down until it is resumed.
    CrashLoop,
    /// An attempt shows no progress.
    Stalled,
    /// An agent's program used more memory than it may, and the kernel killed it.
    OutOfMemory,
    /// An agent's program could not start more processes than it may.
    TasksLimit,
    /// The root's disk has little room; nothing new is begun.
    LowDisk,
    /// The machine has little memory to give; nothing new is begun.
    LowMemory,
    /// The worktrees of attempts take more of the disk than they may; nothing new is begun.
    WorktreesFull,
    /// A task is not done within its `sla`.
    SlaMissed,
    /// A task has used up its attempts.
    Dead,
    /// Most of the newest attempts have failed; attempts are begun one at a time.
    Failures,
    /// Tasks wait for one another: what a file says and what GitHub says do not go together.
    Circle,
    /// Another orchestra works on an issue that this one had claimed.
    ClaimLost,
}

impl AlertKind {
    /// Returns the name as it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CrashLoop => "crash-loop",
            Self::Stalled => "stalled",
            Self::OutOfMemory => "out-of-memory",
            Self::TasksLimit => "tasks-limit",
            Self::LowDisk => "low-disk",
            Self::LowMemory => "low-memory",
            Self::WorktreesFull => "worktrees-full",
            Self::SlaMissed => "sla-missed",
            Self::Dead => "dead",
            Self::Failures => "failures",
            Self::Circle => "circle",
            Self::ClaimLost => "claim-lost",
        }
    }
}

impl Alert {
    /// Returns what tells this alert from all others that are not over, e.g. `crash-loop/kaede`.
    #[must_use]
    pub fn key(&self) -> String {
        let kind = self.kind.as_str();
        match (&self.task, &self.agent) {
            (Some(task), _) => format!("{kind}/{task}"),
            (None, Some(agent)) => format!("{kind}/{agent}"),
            (None, None) => kind.to_owned(),
        }
    }
}
