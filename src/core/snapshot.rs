//! What the supervisor shows of itself: the values behind `status`, `task list` and `agent list`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::alert::Alert;
use crate::model::fault::Fault;
use crate::model::id::{AgentId, Incarnation, Mailbox, RepositoryName, Role, RunId, StageName, TaskId};
use crate::model::spent::Spent;
use crate::model::task::EdgeSource;
use crate::model::time::Timestamp;

/// The state of everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The moment.
    pub at: Timestamp,
    /// Whether the supervisor is on its way down.
    pub draining: bool,
    /// Since when everything is frozen.
    pub frozen: Option<Timestamp>,
    /// Why nothing new is begun, for people.
    pub holding: Option<String>,
    /// What needs an operator's eye, in the order in which it was raised.
    pub alerts: Vec<Alert>,
    /// The agents, in the order of agents.toml, then those who are on their way out.
    pub agents: Vec<AgentView>,
    /// What was found of an earlier supervisor's team at the start, in one line.
    #[serde(default)]
    pub found: Option<String>,
    /// The merge queues that are not empty.
    #[serde(default)]
    pub merge_queues: Vec<MergeQueue>,
    /// The tasks, in the order in which they were accepted.
    pub tasks: Vec<TaskView>,
    /// Faults of dependency files whose newest version is not in force.
    pub faults: Vec<Fault>,
}

/// The merge queue of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeQueue {
    /// The repository.
    pub repository: RepositoryName,
    /// The tasks whose work is finished, in the order in which it is merged.
    pub tasks: Vec<TaskId>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// The ASCII id.
    pub id: AgentId,
    /// The display name.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// Free words that tell it apart from others of its role.
    #[serde(default)]
    pub labels: Vec<String>,
    /// How it is.
    pub state: AgentState,
    /// Since when.
    pub since: Timestamp,
    /// Which start it is.
    pub incarnation: Incarnation,
    /// How many restarts the budget's window holds.
    pub restarts: u32,
    /// The tmux pane, e.g. `%3`.
    pub pane: Option<String>,
    /// The process id of its runner.
    pub pid: Option<u32>,
    /// The task it has.
    pub task: Option<TaskId>,
    /// Why it is in this state, for people.
    pub reason: Option<String>,
}

/// How an agent is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentState {
    /// Not started yet.
    Absent,
    /// Started, not yet ready.
    Starting,
    /// Ready and free.
    Idle,
    /// Working.
    Busy,
    /// Waits for a human.
    Waiting,
    /// A usage limit is in force.
    Limited,
    /// Silent; a second sign is looked for.
    Suspect,
    /// Being stopped.
    Stopping,
    /// Down; will be started again at a known time.
    BackingOff,
    /// Down for good: the restart budget is used up.
    CrashLoop,
    /// Down because the operator said so, or because it ended as its restart policy allows.
    Paused,
}

impl AgentState {
    /// Returns the state's name as it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::Limited => "limited",
            Self::Suspect => "suspect",
            Self::Stopping => "stopping",
            Self::BackingOff => "backing-off",
            Self::CrashLoop => "crash-loop",
            Self::Paused => "paused",
        }
    }
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// `FILE-STEM/NAME`, or a ULID.
    pub id: TaskId,
    /// How it is.
    pub state: TaskState,
    /// The agent of the newest attempt, or the one that is asked for.
    pub agent: Option<AgentId>,
    /// The role that is asked for.
    pub role: Option<Role>,
    /// The number of the newest attempt; 0 before the first.
    pub attempt: u32,
    /// What must be done first.
    pub needs: Vec<TaskId>,
    /// Which of them GitHub says, and how.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub said: BTreeMap<TaskId, BTreeSet<EdgeSource>>,
    /// 1 (highest) to 5.
    pub priority: u8,
    /// The current run.
    pub run: RunId,
    /// The current stage.
    pub stage: StageName,
    /// How many reviews of the run have asked for changes.
    #[serde(default)]
    pub rounds: u32,
    /// Until when the run must have ended; absent: no `sla` is asked for.
    #[serde(default)]
    pub due: Option<Timestamp>,
    /// When the newest attempt was queued.
    pub queued_at: Option<Timestamp>,
    /// When the newest attempt was leased.
    pub started_at: Option<Timestamp>,
    /// When the task came to its end.
    pub ended_at: Option<Timestamp>,
    /// The branch of the newest attempt.
    pub branch: Option<String>,
    /// The commit: the merged one, or the proven one where nothing is merged.
    pub commit: Option<String>,
    /// The task whose earlier result was taken; absent: the work was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reused: Option<TaskId>,
    /// Its place in the merge queue of its repository, from 1; absent: it is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_place: Option<u32>,
    /// What the attempts of the run have used, as far as their programs said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// Whether nothing will happen to it until an operator or the outside acts.
    #[serde(default)]
    pub stuck: bool,
    /// The dependency file it comes from, e.g. `example`; absent: submitted.
    pub file: Option<String>,
    /// The issue on GitHub that it comes from, e.g. `owner/name#12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
}

/// How a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Something it needs is not done.
    Blocked,
    /// Could start; waits for an agent or for a back-off.
    Ready,
    /// Its order lies in an agent's mailbox.
    Queued,
    /// An agent is working on it.
    Leased,
    /// Its commit is being checked or merged.
    Verifying,
    /// Proven and merged.
    Done,
    /// All attempts used up; it stays so, with all that is known of it, until it is retried or cancelled.
    #[serde(alias = "failed")]
    Dead,
    /// Given up by the operator or by the removal from its file.
    Cancelled,
    /// Waits for something that only the outside can change.
    Parked,
}

impl TaskState {
    /// All states, in the order of a task's life.
    pub const ALL: [Self; 9] = [
        Self::Blocked,
        Self::Ready,
        Self::Queued,
        Self::Leased,
        Self::Verifying,
        Self::Done,
        Self::Dead,
        Self::Cancelled,
        Self::Parked,
    ];

    /// Returns the state's name as it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Verifying => "verifying",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Parked => "parked",
        }
    }

    /// Says whether the task has come to an end that only an operator changes.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Done | Self::Dead | Self::Cancelled => true,
            Self::Blocked | Self::Ready | Self::Queued | Self::Leased | Self::Verifying | Self::Parked => false,
        }
    }
}

/// The length of one mailbox, by folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// The mailbox.
    pub mailbox: Mailbox,
    /// Delivered, waiting.
    pub new: usize,
    /// In a holder's hands.
    pub leased: usize,
    /// Delivered, not before a time.
    pub later: usize,
    /// Gave up.
    pub dead: usize,
    /// How many messages of senders that flood were slowed, ever.
    #[serde(default)]
    pub slowed: u64,
}
