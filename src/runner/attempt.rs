//! What one attempt has gathered so far, and the report that it becomes. Pure.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::model::envelope::{Envelope, EnvelopeKind};
use crate::model::id::{AgentId, EnvelopeId, Incarnation, Mailbox};
use crate::model::order::{Expects, WorkOrder};
use crate::model::report::{
    AgentReport, COMMENT_CHARS_MAX, COMMENTS_MAX, CheckResult, Comment, FailureKind, Outcome, REPORT_SCHEMA, Report,
    SUMMARY_CHARS_MAX,
};
use crate::model::signal::Signal;
use crate::model::spent::Spent;
use crate::model::task::NoChange;
use crate::model::time::Timestamp;

/// The most bytes of a passed check's output that travel in a report; only the failed one is of interest to the next attempt.
const PASSED_OUTPUT_BYTES_MAX: usize = 1_024;

/// How often the supervisor may lease a report before it counts as poisoned.
const REPORT_LEASES_MAX: u32 = 1_000;

/// What the shell found when it made the place for the work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// The commit on which the work begins; absent without a repository.
    pub base: Option<String>,
    /// The commit of an earlier attempt that ended between its commit and its report.
    pub recovered: Option<Commit>,
}

/// A commit that holds an attempt's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its full hash.
    pub id: String,
    /// The commit on which it was made.
    pub base: String,
    /// The branch that holds it.
    pub branch: String,
    /// Its changes as a unified diff, cut to [`crate::model::report::DIFF_BYTES_MAX`].
    pub diff: String,
    /// Paths that it changes although they are protected, at most [`PROTECTED_TOLD_MAX`].
    pub protected: Vec<String>,
}

/// How many changed paths that are protected are told.
pub const PROTECTED_TOLD_MAX: usize = 10;

/// How the agent's program, or the task's command, ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// Why it failed, as its driver judges it; `None`: it did not.
    pub failure: Option<Failure>,
    /// What its output complained about, for an attempt that turns out to have no commit.
    pub complaint: Option<String>,
    /// What the program wrote to `MIYABI_REPORT`.
    pub claim: AgentReport,
    /// What the program says that it has used.
    pub spent: Option<Spent>,
    /// The program's exit code.
    pub exit_code: Option<i32>,
    /// The end of what it printed.
    pub output: String,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// One line for people.
    pub reason: String,
}

/// One order in a runner's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The order.
    pub order: Arc<WorkOrder>,
    /// When it was leased.
    pub since: Timestamp,
    /// The commit on which the work began.
    pub base: Option<String>,
    /// The commit that holds the work; absent until it is made.
    pub commit: Option<Commit>,
    /// How the program ended; absent until then, and for recovered work.
    pub ran: Option<Ran>,
    /// The checks that were run.
    pub checks: Vec<CheckResult>,
    /// Why it failed; the first reason stays.
    pub failure: Option<Failure>,
    /// What its program said last of its state, and since when it says so.
    pub heard: Option<(Signal, Timestamp)>,
    /// Whether the disk was full when something failed: then that is why.
    pub disk_was_full: bool,
}

impl Attempt {
    /// Takes an order in hand.
    #[must_use]
    pub const fn new(order: Arc<WorkOrder>, since: Timestamp) -> Self {
        Self {
            order,
            since,
            base: None,
            commit: None,
            ran: None,
            checks: Vec::new(),
            failure: None,
            heard: None,
            disk_was_full: false,
        }
    }

    /// Notes why the attempt failed, unless a reason is known already: what follows is only its consequence.
    pub fn fail(&mut self, kind: FailureKind, reason: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(Failure { kind, reason: reason.into() });
        }
    }

    /// Says whether the agent asks for another round instead of claiming success.
    #[must_use]
    pub fn asks_for_changes(&self) -> bool {
        self.failure.is_none()
            && self.ran.as_ref().is_some_and(|ran| ran.claim.outcome == Some(Outcome::ChangesRequested))
    }

    /// Says whether the attempt is about a commit that is to be proven: what others change is only saved.
    #[must_use]
    pub fn leaves_commit(&self) -> bool {
        match self.order.expects {
            Expects::Commit | Expects::Proof => true,
            Expects::Verdict | Expects::PullText | Expects::Deed => false,
        }
    }

    /// Notes how the agent's program ended, and fails the attempt when its answer lacks what was asked for.
    pub fn answered(&mut self, mut ran: Ran) {
        if let Some(failure) = ran.failure.take() {
            self.fail(failure.kind, failure.reason);
        }
        let claim = &ran.claim;
        match self.order.expects {
            Expects::Verdict if !matches!(claim.outcome, Some(Outcome::Done | Outcome::ChangesRequested)) => {
                self.fail(
                    FailureKind::AgentFailed,
                    "the review names no outcome: `done` or `changes_requested` must stand in MIYABI_REPORT",
                );
            }
            Expects::PullText if claim.title.is_none() && claim.summary.is_none() => {
                self.fail(
                    FailureKind::AgentFailed,
                    "the pull request has no title: `title` and `body` must stand in MIYABI_REPORT",
                );
            }
            Expects::Commit | Expects::Verdict | Expects::PullText | Expects::Deed | Expects::Proof => {}
        }
        self.ran = Some(ran);
    }

    /// Notes what the commit step brought, and fails the attempt when a commit was expected and there is none, or when it
    /// changes what is protected.
    pub fn committed(&mut self, commit: Option<Commit>) {
        if !self.leaves_commit() {
            return;
        }
        let none = commit.is_none();
        self.commit = commit;
        if let Some(commit) = &self.commit
            && !commit.protected.is_empty()
        {
            let paths = commit.protected.join("`, `");
            self.fail(FailureKind::ProtectedPath, format!("it changes what the repository protects: `{paths}`"));
        }
        if none && self.order.no_change == NoChange::Refused && !self.asks_for_changes() {
            let complaint = self.ran.as_ref().and_then(|ran| ran.complaint.clone());
            let reason = complaint.map_or_else(
                || "nothing was changed, and the task does not say `no_change: ok`".to_owned(),
                |complaint| format!("nothing was changed; the program printed: {complaint}"),
            );
            self.fail(FailureKind::NoCommit, reason);
        }
    }

    /// Notes the results of the checks, and fails the attempt at the first that did not pass.
    pub fn checked(&mut self, checks: Vec<CheckResult>) {
        let failed = checks.iter().find(|check| !check.passed()).map(|check| match check.exit_code {
            Some(code) => format!("check `{}` ended with exit code {code}", check.command),
            None => format!("check `{}` was killed", check.command),
        });
        self.checks = checks;
        if let Some(reason) = failed {
            self.fail(FailureKind::CheckFailed, reason);
        }
    }

    fn outcome(&self) -> Outcome {
        if self.failure.is_some() {
            Outcome::Failed
        } else if self.asks_for_changes() {
            Outcome::ChangesRequested
        } else if self.leaves_commit() && self.commit.is_none() && self.order.workplace.is_some() {
            Outcome::NoChange
        } else {
            Outcome::Done
        }
    }

    fn summary(&self, outcome: Outcome) -> String {
        let claim = self.ran.as_ref().and_then(|ran| ran.claim.summary.as_deref()).map(str::trim).unwrap_or_default();
        let text = match (&self.failure, outcome) {
            (Some(failure), _) => failure.reason.clone(),
            (None, _) if !claim.is_empty() => claim.to_owned(),
            (None, Outcome::NoChange) => "nothing had to change".to_owned(),
            (None, Outcome::Done | Outcome::ChangesRequested | Outcome::Failed) => match (&self.commit, &self.ran) {
                (Some(commit), None) if self.order.expects == Expects::Proof => {
                    format!("commit {} holds where it is merged", short(&commit.id))
                }
                (Some(commit), None) => format!("the work of an earlier attempt at {} was proven", short(&commit.id)),
                (Some(commit), Some(_)) => format!("commit {} was proven", short(&commit.id)),
                (None, _) => "done".to_owned(),
            },
        };
        text.chars().take(SUMMARY_CHARS_MAX).collect()
    }

    /// Returns what a review asks for, cut to its bounds.
    fn comments(&self) -> Vec<Comment> {
        let Some(ran) = self.ran.as_ref().filter(|_| self.order.expects == Expects::Verdict) else { return Vec::new() };
        let cut = |comment: &Comment| Comment { text: cut_end(&comment.text), ..comment.clone() };
        ran.claim.comments.iter().take(COMMENTS_MAX).map(cut).collect()
    }

    /// Returns one of the texts of a pull request, where that was asked for.
    fn pull_text(&self, text: impl Fn(&AgentReport) -> Option<&str>) -> Option<String> {
        let ran = self.ran.as_ref().filter(|_| self.order.expects == Expects::PullText)?;
        text(&ran.claim).map(cut_end)
    }

    /// Writes the report.
    #[must_use]
    pub fn report(&self, agent: &AgentId, incarnation: Incarnation, now: Timestamp) -> Report {
        let outcome = self.outcome();
        let order = &self.order;
        let mut checks = self.checks.clone();
        for check in checks.iter_mut().filter(|check| check.passed()) {
            tail(&mut check.output, PASSED_OUTPUT_BYTES_MAX);
        }
        Report {
            schema: REPORT_SCHEMA.to_owned(),
            order: order.id,
            task: order.task.clone(),
            run: order.run,
            stage: order.stage.clone(),
            attempt: order.attempt,
            agent: agent.clone(),
            incarnation,
            outcome,
            failure: self
                .failure
                .as_ref()
                .map(|failure| if self.disk_was_full { FailureKind::NoSpace } else { failure.kind }),
            retry_at: self.ran.as_ref().and_then(|ran| ran.claim.retry_at).filter(|_| self.failure.is_some()),
            summary: self.summary(outcome),
            commit: self.commit.as_ref().map(|commit| commit.id.clone()),
            base: self.commit.as_ref().map(|commit| commit.base.clone()).or_else(|| self.base.clone()),
            branch: self.commit.as_ref().map(|commit| commit.branch.clone()),
            checks,
            output: self.ran.as_ref().map(|ran| ran.output.clone()).unwrap_or_default(),
            diff: match (outcome, &self.commit) {
                (Outcome::Failed | Outcome::ChangesRequested, Some(commit)) => commit.diff.clone(),
                (Outcome::Done | Outcome::NoChange, _) | (_, None) => String::new(),
            },
            comments: self.comments(),
            title: self.pull_text(|claim| claim.title.as_deref()),
            body: self.pull_text(|claim| claim.body.as_deref()),
            exit_code: self.ran.as_ref().and_then(|ran| ran.exit_code),
            log: Some(log_name(agent, order)),
            spent: self.ran.as_ref().and_then(|ran| ran.spent),
            started_at: self.since,
            ended_at: now,
        }
    }
}

/// Puts a report into its envelope. A repeated report of the same order is the same envelope.
#[must_use]
pub fn envelope(report: &Report, order: &WorkOrder, now: Timestamp) -> Envelope {
    let body = serde_json::to_value(report).expect("a report has only text keys and finite numbers");
    let (id, from, to) = (report_id(order.id), report.agent.to_string(), Mailbox::supervisor());
    Envelope {
        from_incarnation: report.incarnation,
        priority: order.priority,
        reply_to: Some(order.id),
        thread: Some(order.run.to_string()),
        attempts_max: REPORT_LEASES_MAX,
        ..Envelope::new(id, EnvelopeKind::Report, from, to, now, body)
    }
}

/// Derives the id of an order's report: the order's time and a hash, so that whoever reports an order uses one id.
#[must_use]
pub fn report_id(order: EnvelopeId) -> EnvelopeId {
    let digest = Sha256::new().chain_update(order.0.to_bytes()).chain_update(b"report").finalize();
    let random = digest.iter().take(10).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    EnvelopeId(Ulid::from_parts(order.0.timestamp_ms(), random))
}

/// Names the log file of an attempt, relative to the root.
#[must_use]
pub fn log_name(agent: &AgentId, order: &WorkOrder) -> String {
    let task = order.task.as_str().replace('/', "_");
    format!("logs/{agent}/{task}-{}-{}-{}.log", order.run, order.stage, order.attempt)
}

fn cut_end(text: &str) -> String {
    text.chars().take(COMMENT_CHARS_MAX).collect()
}

/// Keeps the last `bytes` bytes of a text, whole characters only.
pub fn tail(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let from = text.ceil_char_boundary(text.len() - bytes);
        text.drain(..from);
    }
}

/// Shortens a commit's hash for people.
#[must_use]
pub fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_same_id_whenever_it_is_written() {
        let order = EnvelopeId(Ulid::from_string("01KAPZ3XZ00000000000000000").unwrap());
        let other = EnvelopeId(Ulid::from_string("01KAPZ3XZ00000000000000001").unwrap());
        assert_eq!(report_id(order), report_id(order));
        assert_ne!(report_id(order), report_id(other));
        assert_ne!(report_id(order), order);
        assert_eq!(report_id(order).0.timestamp_ms(), order.0.timestamp_ms(), "reports sort like their orders");
    }

    #[test]
    fn a_tail_never_cuts_a_character() {
        let mut text = "あいう".to_owned();
        tail(&mut text, 5);
        assert_eq!(text, "う");
    }
}
