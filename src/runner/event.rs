//! The words between a runner's decisions and its shell: events, effects and what they carry. Pure.

use std::sync::Arc;

use super::attempt::{Commit, Prepared, Ran};
use crate::model::beat::Beat;
use crate::model::envelope::Envelope;
use crate::model::freeze::PastFreeze;
use crate::model::id::EnvelopeId;
use crate::model::order::WorkOrder;
use crate::model::report::CheckResult;
use crate::model::signal::Signal;
use crate::model::time::Timestamp;

/// Something went wrong in the shell; the text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

/// Something happened outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The shell is set up: folders exist, the mailbox is watched. Once, first.
    Ready,
    /// The mailbox may hold something new. A hint: it may be missing, late or wrong.
    MailboxChanged,
    /// The answer to [`Effect::Lease`].
    Leased(Result<Option<Arc<WorkOrder>>, Trouble>),
    /// The order's name is gone from `leased/`: somebody took it away. Ignored unless it is the order in hand.
    OrderGone(EnvelopeId),
    /// The answer to [`Effect::Prepare`].
    Prepared(Result<Prepared, Trouble>),
    /// The program that runs tells of its state: it works, waits for somebody, or has nothing more to do.
    Heard(Signal),
    /// The answer to [`Effect::Run`]; comes when the whole process group has ended.
    Ran(Box<Ran>),
    /// The answer to [`Effect::Commit`]; `None`: nothing differs from the base.
    Committed(Result<Option<Commit>, Trouble>),
    /// The answer to [`Effect::Check`]: the checks up to the first that failed or was killed.
    Checked(Result<Vec<CheckResult>, Trouble>),
    /// The answer to [`Effect::Deliver`]; an envelope that was delivered before counts as delivered.
    Delivered(Result<(), Trouble>),
    /// The answer to [`Effect::Ack`]; a name that is gone counts as acknowledged.
    Acked(Result<(), Trouble>),
    /// The answer to [`Effect::Clear`]; what could not be removed is not the machine's concern.
    Cleared,
    /// The operator's mark for a freeze is there, and says since when.
    Frozen(Timestamp),
    /// It is gone, or was never there; with the freeze that was ended last, which may have been missed.
    Thawed(Option<PastFreeze>),
    /// The disk was full when the step that is under way failed; comes before the step's own event.
    DiskFull,
    /// SIGTERM or SIGHUP.
    StopRequested,
}

/// Something we want done. Each but `Beat`, `Look`, `Signal` and `Exit` is answered by one event.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Replace the heartbeat file.
    Beat(Beat),
    /// Lease the next order, if there is one. Answer: [`Event::Leased`].
    Lease,
    /// See whether the order is still ours; say [`Event::OrderGone`] if not, nothing if so.
    Look(EnvelopeId),
    /// Look for the commit of an unreported attempt, else make the worktree or scratch folder. Answer: [`Event::Prepared`].
    Prepare(Arc<WorkOrder>),
    /// Run the agent's program or the task's command. Answer: [`Event::Ran`].
    Run(Arc<WorkOrder>),
    /// Put everything since the base into one commit on the attempt's branch. Answer: [`Event::Committed`].
    Commit {
        /// The order.
        order: Arc<WorkOrder>,
        /// The commit on which the work began.
        base: String,
        /// What the commit is for.
        purpose: Purpose,
        /// What the agent says of its work, if anything.
        summary: Option<String>,
    },
    /// Run the checks in a clean worktree at a commit, or in the scratch folder. Answer: [`Event::Checked`].
    Check {
        /// The order.
        order: Arc<WorkOrder>,
        /// The commit on which the work began; absent: no repository.
        base: Option<String>,
        /// The commit; absent: no repository.
        commit: Option<String>,
    },
    /// Send a signal to the running program's whole group; its step then ends with its own event.
    Signal(Pull),
    /// Deliver the report. Answer: [`Event::Delivered`].
    Deliver(Arc<Envelope>),
    /// Acknowledge the order and the messages that were handed out with it. Answer: [`Event::Acked`].
    Ack(Arc<WorkOrder>),
    /// Remove the attempt's folders, never work that is nowhere else. Answer: [`Event::Cleared`].
    Clear(Arc<WorkOrder>),
    /// End the runner; the last effect.
    Exit,
}

/// What a commit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is to be proven; it carries the attempt's trailer.
    Proof,
    /// It only saves what a failed attempt left; no later attempt takes it up.
    Salvage,
}

/// How hard a program is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pull {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

impl Event {
    /// Says whether the event tells that a step has failed, so that it is worth a look whether the disk is full.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Prepared(result) => result.is_err(),
            Self::Ran(ran) => ran.failure.is_some(),
            Self::Committed(result) => result.is_err(),
            Self::Checked(result) => result.as_ref().map_or(true, |checks| checks.iter().any(|check| !check.passed())),
            Self::Ready
            | Self::MailboxChanged
            | Self::Leased(_)
            | Self::OrderGone(_)
            | Self::Delivered(_)
            | Self::Acked(_)
            | Self::Cleared
            | Self::Frozen(_)
            | Self::Thawed(_)
            | Self::Heard(_)
            | Self::DiskFull
            | Self::StopRequested => false,
        }
    }

    /// Names the event, for errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::MailboxChanged => "mailbox changed",
            Self::Leased(_) => "leased",
            Self::OrderGone(_) => "order gone",
            Self::Prepared(_) => "prepared",
            Self::Heard(_) => "heard",
            Self::Ran(_) => "ran",
            Self::Committed(_) => "committed",
            Self::Checked(_) => "checked",
            Self::Delivered(_) => "delivered",
            Self::Acked(_) => "acked",
            Self::Cleared => "cleared",
            Self::Frozen(_) => "frozen",
            Self::Thawed(_) => "thawed",
            Self::DiskFull => "disk full",
            Self::StopRequested => "stop requested",
        }
    }
}
