//! The liveness of one agent: what each of its states holds. What moves it from one to the next stands in [`table`].

use std::time::Duration;

use crate::model::agent::AgentSpec;
use crate::model::beat::{Activity, Beat};
use crate::model::id::EnvelopeId;
use crate::model::time::Timestamp;

use super::event::Evidence;
use super::fact::{DownCause, Hold};
use super::progress::Still;
use table::State;

mod adopt;
mod moves;
mod silence;
pub mod table;
#[cfg(test)]
mod tests;

/// How long the answer to an effect may take before the effect is asked for again.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a killed pane may take to be gone before it is killed again.
const KILL_REPEAT: Duration = Duration::from_secs(5);

/// The start timeout is waited for in so many slices: a clock that leaps over hours, as after a suspend, ends only one of them.
const START_SLICES: u32 = 4;

/// How many times a pane is asked for before the start counts as failed.
const SPAWN_TRIES_MAX: u8 = 3;

/// The pane of a running agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pane {
    pub(super) id: String,
    pub(super) pid: u32,
}

/// The newest beat that was seen.
///
/// Its age is counted on our own clock: the runner's may be ahead or behind. Its number keeps an old file that is read again
/// from making a silent agent look alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: Timestamp,
    pid: u32,
    sequence: u64,
}

impl Seen {
    const fn new(beat: &Beat, at: Timestamp) -> Self {
        Self { at, pid: beat.pid, sequence: beat.sequence }
    }

    const fn is_older_than(&self, beat: &Beat) -> bool {
        self.pid != beat.pid || self.sequence < beat.sequence
    }
}

/// How one agent is. Everything that is true only in one state is held by that state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Liveness {
    /// Nothing of it runs.
    Absent,
    /// A pane was asked for.
    Spawning { deadline: Timestamp, tries: u8, early: Option<Beat> },
    /// The pane is there; the first ready beat is awaited.
    Starting { pane: Pane, deadline: Timestamp, slice: u32 },
    /// It beats.
    Up { pane: Pane, last_beat: Seen, activity: Activity },
    /// It has missed its beats; a second sign is looked for.
    Suspect { pane: Pane, last_beat: Seen, activity: Activity, first: Option<Evidence>, probe_at: Timestamp },
    /// It was told to end.
    Stopping { pane: Pane, cause: DownCause, deadline: Timestamp },
    /// Its pane is gone; what it left is being cleared.
    Clearing { cause: DownCause, deadline: Timestamp },
    /// It is started again at a known time.
    BackingOff { until: Timestamp },
    /// It stays down.
    Held(Hold),
}

impl Liveness {
    /// Returns the state's name in the table.
    pub(super) const fn state(&self) -> State {
        match self {
            Self::Absent => State::Absent,
            Self::Spawning { .. } => State::Spawning,
            Self::Starting { .. } => State::Starting,
            Self::Up { .. } => State::Up,
            Self::Suspect { .. } => State::Suspect,
            Self::Stopping { .. } => State::Stopping,
            Self::Clearing { .. } => State::Clearing,
            Self::BackingOff { .. } => State::BackingOff,
            Self::Held(Hold::CrashLoop) => State::CrashLoop,
            Self::Held(Hold::Paused) => State::Paused,
            Self::Held(Hold::Ended) => State::Ended,
        }
    }

    pub(super) const fn pane(&self) -> Option<&Pane> {
        match self {
            Self::Starting { pane, .. }
            | Self::Up { pane, .. }
            | Self::Suspect { pane, .. }
            | Self::Stopping { pane, .. } => Some(pane),
            Self::Absent | Self::Spawning { .. } | Self::Clearing { .. } | Self::BackingOff { .. } | Self::Held(_) => {
                None
            }
        }
    }

    /// Says whether the agent's newest beat came after a time and tells that it has nothing to do.
    pub(super) fn is_idle_since(&self, time: Timestamp) -> bool {
        matches!(self, Self::Up { activity: Activity::Idle, last_beat, .. } if last_beat.at > time)
    }

    /// Returns what the agent said last that it is doing.
    pub(super) const fn activity(&self) -> Option<&Activity> {
        match self {
            Self::Up { activity, .. } | Self::Suspect { activity, .. } => Some(activity),
            Self::Absent
            | Self::Spawning { .. }
            | Self::Starting { .. }
            | Self::Stopping { .. }
            | Self::Clearing { .. }
            | Self::BackingOff { .. }
            | Self::Held(_) => None,
        }
    }

    /// Says whether nothing of the agent runs, as far as is known for certain.
    pub(super) const fn is_down(&self) -> bool {
        match self {
            Self::Absent | Self::BackingOff { .. } | Self::Held(_) => true,
            Self::Spawning { .. }
            | Self::Starting { .. }
            | Self::Up { .. }
            | Self::Suspect { .. }
            | Self::Stopping { .. }
            | Self::Clearing { .. } => false,
        }
    }

    pub(super) fn wake_at(&self, spec: Option<&AgentSpec>) -> Option<(Timestamp, &'static str)> {
        match self {
            Self::Absent | Self::Held(_) => None,
            Self::Spawning { deadline, .. } => Some((*deadline, "a pane was not made in time")),
            Self::Starting { deadline, .. } => Some((*deadline, "an agent is not ready in time")),
            Self::Up { last_beat, .. } => {
                let patience = spec.map_or(ANSWER_TIMEOUT, silence::suspect_after);
                Some((last_beat.at + patience, "a heartbeat is overdue"))
            }
            Self::Suspect { probe_at, .. } => Some((*probe_at, "a suspect is looked at")),
            Self::Stopping { deadline, .. } => Some((*deadline, "an agent has not stopped in time")),
            Self::Clearing { deadline, .. } => Some((*deadline, "remains were not cleared in time")),
            Self::BackingOff { until } => Some((*until, "a back-off ends")),
        }
    }
}

/// What is known of one agent beside the durable state.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) state: Liveness,
    pub(super) since: Timestamp,
    /// The newest order whose report is in: the agent is free although it may still say that it is busy.
    pub(super) finished: Option<EnvelopeId>,
    /// What is known of the progress of its attempt.
    pub(super) still: Option<Still>,
    /// Whether it runs with other settings than those in force: it is started again as soon as it is idle.
    pub(super) outdated: bool,
}

impl Live {
    pub(super) const fn new(state: Liveness, since: Timestamp) -> Self {
        Self { state, since, finished: None, still: None, outdated: false }
    }

    /// Forgets how long its attempt has stood still.
    pub(super) fn begin_anew(&mut self, now: Timestamp) {
        if let Some(still) = &mut self.still {
            still.begin_anew(now);
        }
    }
}
