//! Heartbeats: how a runner shows that it lives and what it is doing.

use serde::{Deserialize, Serialize};

use super::id::{AgentId, EnvelopeId, Incarnation, TaskId};
use super::time::Timestamp;
use super::watching::WatchFaults;

/// The content of a heartbeat file. The runner replaces the file by rename, at every change and at every interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Whose beat it is.
    pub agent: AgentId,
    /// Which start of the agent.
    pub incarnation: Incarnation,
    /// The process id of the runner.
    pub pid: u32,
    /// Counts the beats of this incarnation from 1.
    pub sequence: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What the agent is doing.
    pub activity: Activity,
    /// How far the programs of its attempt have come; absent while none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How well the runner follows its mailbox; absent while nothing went wrong.
    #[serde(default, skip_serializing_if = "WatchFaults::is_none")]
    pub watching: WatchFaults,
}

/// What an attempt's programs have done so far. Only the difference of two of the same attempt means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// How much they have printed, in bytes.
    pub output_bytes: u64,
    /// The processor time of those that run, in milliseconds.
    pub cpu_ms: u64,
    /// When the worktree's index, branch or commits last changed, in milliseconds since 1970; 0 without git.
    pub git_ms: u64,
    /// How many events they have told of, by hooks or in their output.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub events: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What an agent is doing, as its runner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Activity {
    /// The runner is up and not yet ready for work.
    Starting,
    /// Ready and free.
    Idle,
    /// Working on an order.
    Busy {
        /// The order's envelope.
        order: EnvelopeId,
        /// Its task.
        task: TaskId,
        /// When the order was leased.
        since: Timestamp,
        /// How far it is.
        step: Step,
    },
    /// Waits for a human's answer; legitimate silence.
    WaitingForHuman {
        /// When the waiting began.
        since: Timestamp,
        /// What is waited for.
        reason: String,
        /// The order in hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<EnvelopeId>,
        /// Its task.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<TaskId>,
    },
    /// A usage limit is in force; legitimate silence.
    Limited {
        /// When it will end, if known.
        until: Option<Timestamp>,
        /// What the agent's CLI said.
        reason: String,
        /// The order in hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<EnvelopeId>,
        /// Its task.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<TaskId>,
    },
    /// Ended cleanly; the last beat of an incarnation.
    Stopped,
}

impl Activity {
    /// Returns the task that is worked on.
    #[must_use]
    pub const fn task(&self) -> Option<&TaskId> {
        match self {
            Self::Busy { task, .. } => Some(task),
            Self::WaitingForHuman { task, .. } | Self::Limited { task, .. } => task.as_ref(),
            Self::Starting | Self::Idle | Self::Stopped => None,
        }
    }

    /// Returns the order in hand.
    #[must_use]
    pub const fn order(&self) -> Option<EnvelopeId> {
        match self {
            Self::Busy { order, .. } => Some(*order),
            Self::WaitingForHuman { order, .. } | Self::Limited { order, .. } => *order,
            Self::Starting | Self::Idle | Self::Stopped => None,
        }
    }

    /// Says whether nothing is heard or seen of an agent for a good reason: it waits for a human or for a usage limit.
    #[must_use]
    pub const fn is_legitimately_silent(&self) -> bool {
        match self {
            Self::WaitingForHuman { .. } | Self::Limited { .. } => true,
            Self::Starting | Self::Idle | Self::Busy { .. } | Self::Stopped => false,
        }
    }
}

/// How far a runner is with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The worktree is being made.
    Preparing,
    /// The agent's program, or the task's command, is running.
    Running,
    /// The commit is being made.
    Committing,
    /// The checks are running at the commit.
    Checking,
    /// The report is being delivered.
    Reporting,
}
