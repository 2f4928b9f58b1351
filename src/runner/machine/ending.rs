//! Orders that are taken away, and runners that are told to stop.

use super::stage::{Next, Stage};
use super::state::{Fate, State};
use super::{CANCEL_GRACE, Machine};
use crate::model::time::Timestamp;
use crate::runner::attempt::Attempt;
use crate::runner::event::{Effect, Pull};

impl Machine {
    pub(super) fn cancel(&mut self, attempt: Box<Attempt>, fate: Fate, stage: Stage, now: Timestamp) {
        let fate = match fate {
            Fate::Live | Fate::Cancelled => Fate::Cancelled,
            Fate::Stopping { until } => Fate::Stopping { until },
        };
        let kill_at = now + CANCEL_GRACE.min(self.settings.stop_timeout);
        let stage = self.pull(stage, kill_at);
        self.resume(attempt, fate, stage, now);
    }

    pub(super) fn stop(&mut self, attempt: Box<Attempt>, fate: Fate, stage: Stage, now: Timestamp) {
        let until = match fate {
            Fate::Live | Fate::Cancelled => now + self.settings.stop_timeout,
            Fate::Stopping { until } => until,
        };
        // The supervisor kills this process after the stop timeout: the program must be gone before that.
        let stage = self.pull(stage, now + self.settings.stop_timeout / 2);
        self.resume(attempt, Fate::Stopping { until }, stage, now);
    }

    /// Tells a running program to end, unless it has been told; an earlier end is kept.
    pub(super) fn pull(&mut self, stage: Stage, kill_at: Timestamp) -> Stage {
        match stage {
            Stage::Running { .. } => {
                self.effects.push_back(Effect::Signal(Pull::Term));
                Stage::EndingRun { kill_at: Some(kill_at) }
            }
            Stage::Checking { .. } => {
                self.effects.push_back(Effect::Signal(Pull::Term));
                Stage::EndingCheck { kill_at: Some(kill_at) }
            }
            Stage::EndingRun { kill_at: earlier } => {
                Stage::EndingRun { kill_at: earlier.map(|earlier| earlier.min(kill_at)) }
            }
            Stage::EndingCheck { kill_at: earlier } => {
                Stage::EndingCheck { kill_at: earlier.map(|earlier| earlier.min(kill_at)) }
            }
            Stage::Preparing
            | Stage::Committing
            | Stage::Delivering { .. }
            | Stage::WaitingToDeliver { .. }
            | Stage::Acking { .. }
            | Stage::WaitingToAck { .. }
            | Stage::Clearing => stage,
        }
    }

    /// Stays in a stage, unless it only waits for another try that will not come.
    pub(super) fn resume(&mut self, attempt: Box<Attempt>, fate: Fate, stage: Stage, now: Timestamp) {
        match (&stage, fate) {
            (Stage::WaitingToDeliver { .. } | Stage::WaitingToAck { .. }, Fate::Cancelled | Fate::Stopping { .. }) => {
                self.advance(attempt, fate, Next::Clear, now);
            }
            (_, Fate::Live | Fate::Cancelled | Fate::Stopping { .. }) => {
                self.state = State::Working { attempt, fate, stage };
            }
        }
    }
}
