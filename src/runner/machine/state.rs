//! What a runner is at one moment.

use std::time::Duration;

use super::stage::Stage;
use crate::model::beat::Activity;
use crate::model::signal::Signal;
use crate::model::time::Timestamp;
use crate::runner::attempt::Attempt;

/// What becomes of the order in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Live,
    Cancelled,
    Stopping { until: Timestamp },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Starting,
    Idle { asking: Asking, sweep_at: Timestamp },
    Working { attempt: Box<Attempt>, fate: Fate, stage: Stage },
    Stopped,
}

impl State {
    /// Moves every limit into the future.
    pub(super) fn shift(&mut self, by: Duration) {
        match self {
            Self::Idle { sweep_at, .. } => *sweep_at = *sweep_at + by,
            Self::Working { fate, stage, .. } => {
                if let Fate::Stopping { until } = fate {
                    *until = *until + by;
                }
                stage.shift(by);
            }
            Self::Starting | Self::Stopped => {}
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle { .. } => "idle",
            Self::Working { stage, .. } => stage.name(),
            Self::Stopped => "stopped",
        }
    }

    pub(super) fn activity(&self) -> Activity {
        match self {
            Self::Starting => Activity::Starting,
            Self::Idle { .. } => Activity::Idle,
            Self::Working { attempt, stage, .. } => {
                let (order, task) = (attempt.order.id, attempt.order.task.clone());
                match (stage, &attempt.heard) {
                    (Stage::Running { .. }, Some((Signal::Waiting { reason }, since))) => Activity::WaitingForHuman {
                        since: *since,
                        reason: reason.clone(),
                        order: Some(order),
                        task: Some(task),
                    },
                    (Stage::Running { .. }, Some((Signal::Limited { until, reason }, _))) => Activity::Limited {
                        until: *until,
                        reason: reason.clone(),
                        order: Some(order),
                        task: Some(task),
                    },
                    _ => Activity::Busy { order, task, since: attempt.since, step: stage.step() },
                }
            }
            Self::Stopped => Activity::Stopped,
        }
    }
}

/// Whether a lease is under way, and whether to ask again after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    No,
    Once,
    Again,
}
