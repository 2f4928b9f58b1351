//! Reports: what an agent's runner says of an attempt (`report@1`).

use serde::{Deserialize, Serialize};

use super::id::{AgentId, EnvelopeId, Incarnation, RunId, StageName, TaskId};
use super::spent::Spent;
use super::task::FailureClass;
use super::time::Timestamp;

/// The version of [`Report`]'s JSON form.
pub const REPORT_SCHEMA: &str = "report@1";

/// The longest `summary`, in characters.
pub const SUMMARY_CHARS_MAX: usize = 4_000;

/// The most bytes of a program's output that travel in a report; the log file has all of it.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// The most bytes of a diff that travel in a report.
pub const DIFF_BYTES_MAX: usize = 64 * 1024;

/// How many comments one review may have.
pub const COMMENTS_MAX: usize = 100;

/// The longest text of one comment, and of a pull request, in characters.
pub const COMMENT_CHARS_MAX: usize = 8_000;

/// One thing that a review asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Comment {
    /// The file, from the repository's top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What is wrong and what should be there.
    pub text: String,
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Report {
    /// Always `report@1`.
    pub schema: String,
    /// The work order that is answered.
    pub order: EnvelopeId,
    /// The task.
    pub task: TaskId,
    /// The run.
    pub run: RunId,
    /// The stage.
    pub stage: StageName,
    /// The attempt's number.
    pub attempt: u32,
    /// Who did it.
    pub agent: AgentId,
    /// Which start of the agent did it.
    pub incarnation: Incarnation,
    /// How it ended.
    pub outcome: Outcome,
    /// From when on it is worth another try, as far as the agent knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Why it failed; absent unless `outcome` is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    /// One line for people: what was done or what went wrong.
    pub summary: String,
    /// The commit that was made and checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The commit on which the work began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The branch that holds `commit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The checks that were run, in order; the first failure ends them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// The end of what the agent's program printed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// The changes as a unified diff, cut to [`DIFF_BYTES_MAX`]; only of a failed attempt, for the next one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
    /// What a review asks for, in detail; at most [`COMMENTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<Comment>,
    /// The title of a pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The text of a pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The program's exit code; absent when it was killed or never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The log file with the whole output, relative to the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// What the agent's program says that it has used; absent: it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// When the order was leased.
    pub started_at: Timestamp,
    /// When the report was written.
    pub ended_at: Timestamp,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Proven: a commit (unless none was expected) and every check passed at it.
    Done,
    /// Proven, and nothing had to change.
    NoChange,
    /// A review asks for another round.
    ChangesRequested,
    /// It did not do.
    Failed,
}

impl Outcome {
    /// Returns the outcome's name as it is written in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NoChange => "no_change",
            Self::ChangesRequested => "changes_requested",
            Self::Failed => "failed",
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The agent's program said so, or ended with a non-zero code.
    AgentFailed,
    /// The agent's program was killed by a signal that we did not send.
    AgentCrashed,
    /// The agent's program could not be started.
    NotStarted,
    /// A commit was expected and there was none.
    NoCommit,
    /// A path was changed that the repository protects.
    ProtectedPath,
    /// A check did not succeed.
    CheckFailed,
    /// The time limit was reached.
    TimedOut,
    /// The agent used more memory than its limit; the kernel killed what was over it.
    OutOfMemory,
    /// The agent could not start more processes than its limit.
    TasksLimit,
    /// git or the file system failed under us.
    Infrastructure,
    /// The disk was full; the attempt does not count.
    NoSpace,
    /// The agent says that a usage limit of its service is in force.
    Limited,
    /// The agent says that it will not do this.
    Refused,
}

impl FailureKind {
    /// Returns the kind as policies tell it apart; nothing if it is nobody's failure.
    #[must_use]
    pub const fn class(self) -> Option<FailureClass> {
        match self {
            Self::AgentFailed | Self::NoCommit => Some(FailureClass::Agent),
            Self::CheckFailed | Self::ProtectedPath => Some(FailureClass::Check),
            Self::TimedOut => Some(FailureClass::Timeout),
            Self::AgentCrashed | Self::OutOfMemory | Self::TasksLimit => Some(FailureClass::Crash),
            Self::Limited => Some(FailureClass::Limited),
            Self::Refused => Some(FailureClass::Refused),
            Self::NotStarted | Self::Infrastructure => Some(FailureClass::Infrastructure),
            Self::NoSpace => None,
        }
    }
}

/// One check command and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CheckResult {
    /// The command, as configured.
    pub command: String,
    /// Its exit code; absent when it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The end of its output, cut to [`OUTPUT_BYTES_MAX`].
    pub output: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl CheckResult {
    /// Says whether the check succeeded.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.exit_code == Some(0)
    }
}

/// What an agent's program may write to `MIYABI_REPORT`; every field may be missing, unknown ones are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AgentReport {
    /// How the agent sees it. `done` is only a claim: the runner proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What was done or what went wrong; becomes the commit's message and the report's summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What a review asks for, in detail; what is beyond [`COMMENTS_MAX`] is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<Comment>,
    /// The title of a pull request, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The text of a pull request, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Why it failed, where that is not its work; only with `outcome` `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ClaimedFailure>,
    /// From when on it is worth another try, e.g. when a usage limit ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
}

/// Why an agent's program says that it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimedFailure {
    /// A usage limit of its service is in force.
    Limited,
    /// It will not do this.
    Refused,
}
