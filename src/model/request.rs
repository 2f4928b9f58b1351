//! Requests: what people and programs ask of the supervisor, and its answers. The contract of the control socket and of REST.

use serde::{Deserialize, Serialize};

use super::id::{AgentId, RepositoryName, Role, RunId, SubmissionKey, TaskId};
use super::task::{NoChange, Priority, RetryPolicy};

/// A change that is asked of the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Accept a work order from a person or program.
    Submit(Box<Submission>),
    /// Begin a new run of tasks that failed, were cancelled, are parked, or are done.
    TaskRetry {
        /// Which task.
        task: TaskId,
        /// Whether the work is done again although an earlier result is known.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_cache: bool,
    },
    /// Give up a task that is not done; its running attempt is ended.
    TaskCancel {
        /// Which task.
        task: TaskId,
    },
    /// Stop an agent and start it again.
    AgentRestart {
        /// Which agent.
        agent: AgentId,
    },
    /// Stop an agent once it is free and keep it down.
    AgentPause {
        /// Which agent.
        agent: AgentId,
    },
    /// Start a paused or crash-looping agent again.
    AgentResume {
        /// Which agent.
        agent: AgentId,
    },
    /// The operator's mark for a freeze was written or removed: look at it now.
    FreezeChanged,
    /// Ask every repository on GitHub at once; answered when all have answered.
    GithubSync,
    /// Let running attempts end, stop the agents, then end.
    Drain,
}

/// What may be said in `submit`, and in an ORDER.json file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The agent that must do it; at most one of `agent` and `role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The role that must do it; neither: the role of the workflow's first stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What the agent's CLI is asked; exactly one of `prompt` and `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A shell command that the runner executes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Extra check commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// Where: a repository's name or `none`; absent: the only repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<RepositoryName>,
    /// Whether a commit is expected; absent: it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_change: Option<NoChange>,
    /// Tasks that must be done first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<TaskId>,
    /// The time limit of one attempt in milliseconds; absent: the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// Makes the order one that is never accepted twice: whoever submits with the same key again gets the first one's task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SubmissionKey>,
    /// Whether an earlier result of the same order is taken; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    /// How often a failed attempt is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub retry: Option<RetryPolicy>,
}

/// The supervisor's answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// The order was accepted and is durable.
    Submitted {
        /// The task's id, a ULID: the "work order's id" that people see.
        task: TaskId,
        /// Its run.
        run: RunId,
        /// Whether an earlier order with the same key was accepted, and this one was not.
        #[serde(default)]
        repeated: bool,
    },
    /// It was done, or is under way.
    Accepted {
        /// One line for people.
        message: String,
    },
    /// It cannot be done; nothing has changed.
    Refused {
        /// Why.
        reason: String,
        /// What to do.
        hint: Option<String>,
        /// Whether the request itself was wrong, or only came at the wrong time.
        kind: RefusalKind,
    },
}

/// Which exit code a refusal becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// No such task or agent, or nonsense: exit code 4.
    Invalid,
    /// Not now, not allowed: exit code 5.
    NotNow,
}

/// Ties an answer to its request within one supervisor process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);
