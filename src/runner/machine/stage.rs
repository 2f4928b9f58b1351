//! Where in its life an order is, and what follows each step.

use std::sync::Arc;
use std::time::Duration;

use crate::model::beat::Step;
use crate::model::envelope::Envelope;
use crate::model::order::{Expects, WorkOrder};
use crate::model::report::FailureKind;
use crate::model::time::Timestamp;
use crate::runner::attempt::{Attempt, Commit, Prepared, Ran};
use crate::runner::event::{Purpose, Trouble};

/// The wait after the first failure to deliver or acknowledge; it doubles from there.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest wait between two tries to deliver or acknowledge.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Where in its life the order in hand is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    Preparing,
    Running {
        until: Timestamp,
        /// When a program is told to end that has said that its turn is over, and stays.
        over_at: Option<Timestamp>,
    },
    /// The program of `Running` was told to end; `kill_at` is `None` once SIGKILL was sent.
    EndingRun {
        kill_at: Option<Timestamp>,
    },
    Committing,
    Checking {
        until: Timestamp,
    },
    /// The check that was running was told to end.
    EndingCheck {
        kill_at: Option<Timestamp>,
    },
    Delivering {
        report: Arc<Envelope>,
        tries: u32,
    },
    WaitingToDeliver {
        report: Arc<Envelope>,
        tries: u32,
        at: Timestamp,
    },
    Acking {
        tries: u32,
    },
    WaitingToAck {
        tries: u32,
        at: Timestamp,
    },
    Clearing,
}

impl Stage {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running { .. } => "running",
            Self::EndingRun { .. } => "ending the program",
            Self::Committing => "committing",
            Self::Checking { .. } => "checking",
            Self::EndingCheck { .. } => "ending a check",
            Self::Delivering { .. } => "delivering the report",
            Self::WaitingToDeliver { .. } => "waiting to deliver the report",
            Self::Acking { .. } => "acknowledging",
            Self::WaitingToAck { .. } => "waiting to acknowledge",
            Self::Clearing => "clearing up",
        }
    }

    pub(super) const fn step(&self) -> Step {
        match self {
            Self::Preparing => Step::Preparing,
            Self::Running { .. } | Self::EndingRun { .. } => Step::Running,
            Self::Committing => Step::Committing,
            Self::Checking { .. } | Self::EndingCheck { .. } => Step::Checking,
            Self::Delivering { .. }
            | Self::WaitingToDeliver { .. }
            | Self::Acking { .. }
            | Self::WaitingToAck { .. }
            | Self::Clearing => Step::Reporting,
        }
    }

    pub(super) fn shift(&mut self, by: Duration) {
        match self {
            Self::Running { until, over_at } => {
                *until = *until + by;
                *over_at = over_at.map(|at| at + by);
            }
            Self::Checking { until } => *until = *until + by,
            Self::EndingRun { kill_at: Some(at) }
            | Self::EndingCheck { kill_at: Some(at) }
            | Self::WaitingToDeliver { at, .. }
            | Self::WaitingToAck { at, .. } => *at = *at + by,
            Self::Preparing
            | Self::EndingRun { kill_at: None }
            | Self::Committing
            | Self::EndingCheck { kill_at: None }
            | Self::Delivering { .. }
            | Self::Acking { .. }
            | Self::Clearing => {}
        }
    }

    pub(super) fn timeout(&self) -> Option<(Timestamp, &'static str)> {
        match self {
            Self::Running { until, over_at: Some(at) } if at < until => Some((*at, "the end after a turn")),
            Self::Running { until, .. } => Some((*until, "time limit")),
            Self::Checking { until } => Some((*until, "time limit of the checks")),
            Self::EndingRun { kill_at: Some(at) } | Self::EndingCheck { kill_at: Some(at) } => Some((*at, "SIGKILL")),
            Self::WaitingToDeliver { at, .. } => Some((*at, "delivery")),
            Self::WaitingToAck { at, .. } => Some((*at, "acknowledgement")),
            Self::Preparing
            | Self::EndingRun { kill_at: None }
            | Self::Committing
            | Self::EndingCheck { kill_at: None }
            | Self::Delivering { .. }
            | Self::Acking { .. }
            | Self::Clearing => None,
        }
    }
}

/// The step that comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Run,
    /// On this base, for this purpose.
    Commit(String, Purpose),
    /// At this commit, or in the scratch folder.
    Check(Option<String>),
    Report,
    Clear,
}

pub(super) fn prepared(attempt: &mut Attempt, result: Result<Prepared, Trouble>) -> Next {
    match result {
        Ok(Prepared { recovered: Some(commit), .. }) => {
            attempt.base = Some(commit.base.clone());
            let id = commit.id.clone();
            attempt.committed(Some(commit));
            if attempt.failure.is_some() { Next::Report } else { check(attempt, Some(id)) }
        }
        Ok(Prepared { recovered: None, .. }) if attempt.order.expects == Expects::Proof => {
            attempt.fail(FailureKind::Infrastructure, "the commit that is to be checked was not found");
            Next::Report
        }
        Ok(Prepared { base, recovered: None }) => {
            attempt.base = base;
            Next::Run
        }
        Err(Trouble(reason)) => {
            attempt.fail(FailureKind::Infrastructure, reason);
            Next::Report
        }
    }
}

pub(super) fn ran_to_its_end(attempt: &mut Attempt, ran: Ran) -> Next {
    attempt.answered(ran);
    let proven = attempt.failure.is_none() && !attempt.asks_for_changes() && attempt.leaves_commit();
    match (attempt.base.clone(), proven) {
        (Some(base), true) => Next::Commit(base, Purpose::Proof),
        (Some(base), false) => Next::Commit(base, Purpose::Salvage),
        (None, true) => check(attempt, None),
        (None, false) => Next::Report,
    }
}

pub(super) fn committed(attempt: &mut Attempt, result: Result<Option<Commit>, Trouble>) -> Next {
    match result {
        Ok(commit) => attempt.committed(commit),
        Err(Trouble(reason)) => attempt.fail(FailureKind::Infrastructure, reason),
    }
    if attempt.failure.is_some() || attempt.asks_for_changes() || !attempt.leaves_commit() {
        return Next::Report;
    }
    let at = attempt.commit.as_ref().map(|commit| commit.id.clone()).or_else(|| attempt.base.clone());
    check(attempt, at)
}

/// Nothing to check needs no clean worktree either.
fn check(attempt: &Attempt, commit: Option<String>) -> Next {
    let detects = attempt.order.workplace.as_ref().is_some_and(|workplace| workplace.detect_check);
    if attempt.order.checks.is_empty() && !detects { Next::Report } else { Next::Check(commit) }
}

/// Returns the time limit of the program, and that of all checks together.
pub(super) const fn limit(order: &WorkOrder) -> Duration {
    Duration::from_millis(order.timeout_ms)
}

pub(super) fn retry_after(tries: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1_u32.checked_shl(tries.min(16)).unwrap_or(u32::MAX)).min(RETRY_MAX)
}
