//! What travels over the control socket.
//!
//! The client's first and only line is a [`Question`]. Each line that comes back is a [`Reply`]: a value, an error, or
//! the end of a stream. A connection that closes without its value, or a stream without its end, was interrupted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::snapshot::{AgentView, MergeQueue, QueueView, TaskState, TaskView};
use crate::model::alert::Alert;
use crate::model::fault::Fault;
use crate::model::id::{AgentId, Incarnation, StageName, TaskId};
use crate::model::report::{Outcome, Report};
use crate::model::request::Request;
use crate::model::size::Size;
use crate::model::time::Timestamp;
use crate::model::usage::Usage;
use crate::model::watching::WatchFaults;

/// The version of the contract.
pub const VERSION: u32 = 1;

/// The longest line that a client may send, in bytes.
pub const QUESTION_BYTES_MAX: u64 = 1024 * 1024;

/// The longest line that a client reads, in bytes: a list of some hundred thousand tasks.
pub const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The client's line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// The version of the contract that the client speaks.
    pub v: u32,
    /// What it asks.
    pub call: Call,
}

impl Question {
    /// Asks in the version of this program.
    #[must_use]
    pub const fn new(call: Call) -> Self {
        Self { v: VERSION, call }
    }
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// Answered with [`Status`].
    Status,
    /// Answered with a list of [`TaskView`].
    Tasks,
    /// Answered with a list of [`TaskView`]: the newest ones, in the order of their acceptance.
    TaskPage {
        /// Only tasks that are so; absent: all.
        #[serde(default)]
        state: Option<TaskState>,
        /// Only tasks that were accepted before this one.
        #[serde(default)]
        before: Option<TaskId>,
        /// How many at most; absent: all.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// Answered with [`TaskDetail`].
    Task {
        /// Which task.
        id: TaskId,
    },
    /// Answered with [`Why`].
    Why {
        /// Which task.
        id: TaskId,
    },
    /// Answered with the newest [`crate::model::report::Report`] of a task.
    Report {
        /// Which task, or whose work order.
        id: TaskId,
    },
    /// Answered with a list of [`AgentView`].
    Agents,
    /// A stream of [`EventView`].
    Events {
        /// Only events from this time on; absent: all that are kept.
        #[serde(default)]
        since: Option<Timestamp>,
        /// Whether the stream goes on with what happens from now on.
        #[serde(default)]
        follow: bool,
    },
    /// A stream of [`TaskView`]: each task as it is now, then at each change of its state; ends when all are settled.
    WaitTask {
        /// Which tasks; empty: all.
        ids: Vec<TaskId>,
    },
    /// agents.toml and the dependency files are read again; answered with [`crate::model::request::Answer`].
    Reload,
    /// A change; answered with [`crate::model::request::Answer`].
    Request(Request),
    /// Answered with [`Top`].
    Top,
    /// Answered with [`crate::model::github_view::GithubView`].
    Github,
    /// Answered with [`crate::model::github_view::RouteView`].
    Route {
        /// `owner/name#12`, `repository#12`, or the task's id.
        issue: String,
    },
    /// Answered with [`Pong`]: the supervisor's loop turns.
    Ping,
}

impl Call {
    /// Says whether many values may come back, closed by an end.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        match self {
            Self::Events { .. } | Self::WaitTask { .. } => true,
            Self::Status
            | Self::Tasks
            | Self::TaskPage { .. }
            | Self::Task { .. }
            | Self::Why { .. }
            | Self::Report { .. }
            | Self::Agents
            | Self::Reload
            | Self::Request(_)
            | Self::Top
            | Self::Github
            | Self::Route { .. }
            | Self::Ping => false,
        }
    }
}

/// One line that comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The answer, or the next value of a stream.
    Value(serde_json::Value),
    /// There is no answer; nothing follows.
    Error(ReplyError),
    /// The stream is complete; nothing follows.
    End(bool),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ReplyError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What happened: a lower-case fragment.
    pub message: String,
    /// What to do, if we know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ReplyError {
    /// Builds an error without a hint.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What kind of failure a [`ReplyError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The question is no question, or speaks another version.
    Malformed,
    /// It names something that does not exist, or makes no sense.
    Invalid,
    /// Not now, or not allowed.
    Refused,
    /// Too many ask at once; asking again later helps.
    Busy,
    /// The supervisor could not find out.
    Failed,
}

/// The answer to [`Call::Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The supervisor itself.
    pub supervisor: SupervisorView,
    /// The agents, in the order of agents.toml.
    pub agents: Vec<AgentView>,
    /// How many tasks are in each state; every state is present.
    pub tasks: BTreeMap<TaskState, usize>,
    /// The mailboxes.
    pub queues: Vec<QueueView>,
    /// The merge queues that are not empty.
    #[serde(default)]
    pub merge_queues: Vec<MergeQueue>,
    /// Faults of dependency files whose newest version is not in force.
    pub faults: Vec<Fault>,
    /// What needs an operator's eye.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Since when everything is frozen.
    #[serde(default)]
    pub frozen: Option<Timestamp>,
    /// Why nothing new is begun, for people; absent: nothing holds it.
    #[serde(default)]
    pub holding: Option<String>,
    /// How well changes of files are followed: `supervisor`, and every agent whose runner missed something.
    #[serde(default)]
    pub watching: BTreeMap<String, WatchFaults>,
}

/// The answer to [`Call::Top`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    /// What everybody uses.
    #[serde(flatten)]
    pub usage: Usage,
    /// Room on the root's disk, in bytes, if it could be seen.
    pub disk_free_bytes: Option<u64>,
    /// Memory that the machine can give, in bytes, if it could be seen.
    pub memory_available_bytes: Option<u64>,
    /// What the worktrees of attempts take of the disk, in bytes.
    #[serde(default)]
    pub worktrees_bytes: u64,
    /// What they may take before nothing new is begun, in bytes; absent: whatever they like.
    #[serde(default)]
    pub worktrees_max_bytes: Option<u64>,
}

impl Top {
    /// Puts the answer together; `worktrees` is what they take and may take.
    #[must_use]
    pub fn new(usage: Usage, room: Option<(Size, Size)>, worktrees: (Size, Size)) -> Self {
        let (disk, memory) = room.unzip();
        let (used, max) = worktrees;
        Self {
            usage,
            disk_free_bytes: disk.map(|size| size.0),
            memory_available_bytes: memory.map(|size| size.0),
            worktrees_bytes: used.0,
            worktrees_max_bytes: Some(max.0).filter(|max| *max > 0),
        }
    }
}

/// The supervisor itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorView {
    /// Its process id.
    pub pid: u32,
    /// The version of its program.
    pub version: String,
    /// When it was started.
    pub since: Timestamp,
    /// Whether it is on its way down.
    pub state: SupervisorState,
    /// The path of the tmux server's socket that holds the panes, if it is known.
    #[serde(default)]
    pub tmux_socket: Option<String>,
    /// What it found of an earlier supervisor's team when it came, in one line.
    #[serde(default)]
    pub found: Option<String>,
}

/// How the supervisor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SupervisorState {
    /// At work.
    Running,
    /// Lets running attempts end, starts nothing new, then ends.
    Draining,
}

/// The answer to [`Call::Task`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDetail {
    /// The task as `task list` shows it.
    #[serde(flatten)]
    pub task: TaskView,
    /// The stages that its runs go through.
    #[serde(default)]
    pub stages: Vec<StageName>,
    /// What is executed, as the supervisor understood it.
    pub spec: serde_json::Value,
    /// Every attempt of the current run, oldest first.
    pub attempts: Vec<AttemptView>,
    /// The tasks that it needs and that are not done.
    pub blocked_by: Vec<TaskId>,
    /// Of a dead task: the newest report, with the checks, the changes and what was printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_report: Option<Box<Report>>,
    /// Where it is written what it needs.
    #[serde(default)]
    pub edges: Vec<EdgeView>,
}

/// A need of a task, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeView {
    /// What it needs.
    pub need: TaskId,
    /// Each place: `dag/release.yaml:3:20`, or what GitHub says.
    pub from: Vec<String>,
    /// Whether it need not wait for it any more.
    pub met: bool,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Its number, from 1.
    pub attempt: u32,
    /// The stage of the workflow.
    pub stage: StageName,
    /// Who has or had it.
    pub agent: AgentId,
    /// How far it is.
    pub state: AttemptState,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When its order was written.
    pub queued_at: Timestamp,
    /// When its order was leased.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// Its branch.
    pub branch: Option<String>,
    /// Its commit.
    pub commit: Option<String>,
    /// The log file with its output, relative to the root.
    pub log: Option<String>,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptState {
    /// Its order lies in the agent's mailbox.
    Queued,
    /// The agent works on it.
    Leased,
    /// Reported, or given up.
    Ended,
}

/// The answer to [`Call::Why`]: why a task is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The task.
    pub id: TaskId,
    /// Its state.
    pub state: TaskState,
    /// The reasons, each a sentence for people.
    pub reasons: Vec<String>,
}

/// The answer to [`Call::Ping`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The supervisor's process id.
    pub pid: u32,
    /// The version of its program.
    pub version: String,
}

/// Something that happened, for people and programs that watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Its place in the journal; grows.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What kind it is, e.g. `attempt-queued`.
    pub kind: String,
    /// The agent that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Which start of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// The task that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Which attempt of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What happened, in one line for people.
    pub text: String,
    /// Whatever else is known, by name.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub details: serde_json::Map<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_the_documented_form() {
        let text = |call: Call| serde_json::to_string(&Question::new(call)).unwrap();
        assert_eq!(text(Call::Status), r#"{"v":1,"call":"status"}"#);
        assert_eq!(text(Call::WaitTask { ids: Vec::new() }), r#"{"v":1,"call":{"wait-task":{"ids":[]}}}"#);
        assert_eq!(text(Call::Request(Request::Drain)), r#"{"v":1,"call":{"request":{"verb":"drain"}}}"#);
        let bare: Question = serde_json::from_str(r#"{"v":1,"call":{"events":{}}}"#).unwrap();
        assert_eq!(bare.call, Call::Events { since: None, follow: false });
    }

    #[test]
    fn replies_have_the_documented_form() {
        assert_eq!(serde_json::to_string(&Reply::End(true)).unwrap(), r#"{"end":true}"#);
        let error = ReplyError::new(ErrorKind::Invalid, "no task `x`").with_hint("see `miyabi task list`");
        assert_eq!(
            serde_json::to_string(&Reply::Error(error)).unwrap(),
            r#"{"error":{"kind":"invalid","message":"no task `x`","hint":"see `miyabi task list`"}}"#
        );
    }
}
