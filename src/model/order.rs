//! Work orders: what the supervisor asks of an agent (`work-order@1`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::id::{AgentId, EnvelopeId, RepositoryName, RunId, StageName, TaskId};
use super::report::{CheckResult, Comment, Outcome};
use super::stage::StageKind;
use super::task::{NoChange, Priority, Work};
use super::time::Timestamp;

/// The version of [`WorkOrder`]'s JSON form.
pub const WORK_ORDER_SCHEMA: &str = "work-order@1";

/// The trailer by which the commit of an attempt is found again; its value is the attempt's [`attempt_key`].
pub const ATTEMPT_TRAILER: &str = "Miyabi-Attempt";

/// Names an attempt for git: `RUN/STAGE/N`.
#[must_use]
pub fn attempt_key(run: RunId, stage: &StageName, attempt: u32) -> String {
    format!("{run}/{stage}/{attempt}")
}

/// One attempt at one stage of one task, as it is handed to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WorkOrder {
    /// Always `work-order@1`.
    pub schema: String,
    /// The id of the envelope that carries the order.
    pub id: EnvelopeId,
    /// The task.
    pub task: TaskId,
    /// The run that the attempt belongs to.
    pub run: RunId,
    /// The stage of the workflow.
    pub stage: StageName,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The agent that is asked.
    pub agent: AgentId,
    /// What is to be done.
    pub work: Work,
    /// Commands that must succeed, the task's and the repository's.
    pub checks: Vec<String>,
    /// Whether a commit is expected.
    pub no_change: NoChange,
    /// The time limit, in milliseconds from the start of the agent's program.
    pub timeout_ms: u64,
    /// How urgent it is.
    pub priority: Priority,
    /// Where to work; absent: a scratch folder without git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workplace: Option<Workplace>,
    /// What became of the attempt before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// What is expected of the attempt.
    #[serde(default)]
    pub expects: Expects,
    /// How many reviews have asked for changes before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rounds: u32,
    /// What the stages before have reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// When the supervisor wrote the order.
    pub queued_at: Timestamp,
}

/// The repository side of a work order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Workplace {
    /// The repository's name.
    pub repository: RepositoryName,
    /// The absolute path of the repository.
    pub path: PathBuf,
    /// The branch on whose newest commit the work begins.
    pub target: String,
    /// The attempt's own branch.
    pub branch: String,
    /// The commit whose files the work begins with; absent: the newest one of `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Whether the usual check of the project's type is made, because neither the task nor the repository names one.
    #[serde(default)]
    pub detect_check: bool,
    /// Paths that the attempt must not change, as git's glob patterns from the repository's top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protected: Vec<String>,
}

/// What became of an earlier attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Previous {
    /// Its number.
    pub attempt: u32,
    /// Why it did not do, in one line.
    pub reason: String,
    /// The end of what its agent printed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// The checks of the attempt, with the end of their output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// Its changes as a unified diff, cut to a bounded size.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
    /// Branches of attempts that ended without a report, newest first. A commit found on one of them is not made again but checked at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreported: Vec<String>,
}

/// What is expected of an attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expects {
    /// A commit, proven by the checks.
    #[default]
    Commit,
    /// `outcome` `done` or `changes_requested`; nothing that is changed is kept.
    Verdict,
    /// The `title` and the `body` of a pull request; nothing that is changed is kept.
    PullText,
    /// That it is done; nothing that is changed is kept.
    Deed,
    /// Only the checks, at the commit that `workplace.start` names: no program is run, nothing is made.
    Proof,
}

/// The commit whose files an attempt begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Start {
    /// The commit.
    pub commit: String,
    /// The commit on which the attempt's own commit is made.
    pub base: String,
}

/// What a stage before has reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Input {
    /// The stage.
    pub stage: StageKind,
    /// Who did it.
    pub agent: AgentId,
    /// The attempt's number.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What was said of it.
    pub summary: String,
    /// What a review asks for, in detail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<Comment>,
    /// The commit that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}
