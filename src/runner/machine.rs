//! The decisions of one runner: a value without I/O and clock, driven like the core.
//!
//! The shell tells it what happened ([`Machine::handle_event`]), that time has passed ([`Machine::handle_timeout`]),
//! and does what it asks for ([`Machine::poll_effect`]), in order. The life of an order:
//!
//! ```text
//! Starting -> Idle -> Preparing -> Running -> Committing -> Checking -> Reporting -> Acking -> Clearing -> Idle
//!                         |  (commit of an earlier attempt found)          ^
//!                         +------------------------------------------------+
//! ```
//!
//! - At most one of the steps is under way, and each ends with exactly one event of its own, also when it was cut short.
//! - Cancelled ([`Event::OrderGone`]): the program's group is ended, what it did is saved, nothing is reported.
//! - Told to stop ([`Event::StopRequested`]): the program's group is ended, nothing is reported, the last beat says so.
//! - Frozen: it beats and does nothing else; what happens meanwhile waits, and every limit stands still.
//! - Only a delivered report is followed by an acknowledgement.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use self::stage::{Next, Stage, committed, limit, prepared, ran_to_its_end, retry_after};
use self::state::{Asking, Fate, State};
use super::attempt::{self, Attempt};
use super::event::{Effect, Event, Pull, Purpose, Trouble};
use crate::model::beat::Beat;
use crate::model::freeze::PastFreeze;
use crate::model::id::{AgentId, Incarnation};
use crate::model::order::WorkOrder;
use crate::model::report::FailureKind;
use crate::model::signal::Signal;
use crate::model::span;
use crate::model::time::Timestamp;
use crate::model::watching::WatchFaults;

mod ending;
mod stage;
mod state;
#[cfg(test)]
mod tests;

/// How often an idle runner looks into its mailbox although nothing was announced; announcements can get lost.
pub const SWEEP: Duration = Duration::from_secs(5);

/// How long a cancelled program may take to end by itself; its successor waits for the lease's end.
pub const CANCEL_GRACE: Duration = Duration::from_millis(500);

/// The shortest distance of two beats, whatever is configured.
const HEARTBEAT_MIN: Duration = Duration::from_millis(10);

/// How long a program may stay after it has said that its turn is over. Some never end by themselves.
pub const TURN_GRACE: Duration = Duration::from_secs(5);

/// How many beats must be missed before we take it that the clock has leapt: a busy machine is late as well.
const LEAP_BEATS: u32 = 2;

/// What a runner is told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose runner it is.
    pub agent: AgentId,
    /// Which start it is.
    pub incarnation: Incarnation,
    /// The runner's process.
    pub pid: u32,
    /// How often it beats.
    pub heartbeat: Duration,
    /// How long ending a program may take before SIGKILL.
    pub stop_timeout: Duration,
    /// Whether it takes orders.
    pub duty: Duty,
}

/// Whether a runner takes orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// It leases and works.
    Work,
    /// It only shows something in its pane.
    Show,
}

/// The event cannot happen in this state: a mistake in the shell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {event} cannot happen while {state}")]
pub struct Illegal {
    state: String,
    event: String,
}

/// One runner.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    state: State,
    beat_at: Timestamp,
    beats: u64,
    /// Since when everything is frozen: nothing is begun, no limit runs, and what happens waits in `held`.
    frozen: Option<Timestamp>,
    /// When it was last seen that nothing is frozen.
    awake_at: Timestamp,
    /// The past freeze that was made up for, or needed not to be: a clock that is set back would have it happen again.
    past: Option<PastFreeze>,
    held: VecDeque<Event>,
    effects: VecDeque<Effect>,
}

impl Machine {
    /// Makes a runner that is starting, and lets it beat for the first time.
    #[must_use]
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        let mut machine = Self {
            settings,
            state: State::Starting,
            beat_at: now,
            beats: 0,
            frozen: None,
            awake_at: now,
            past: None,
            held: VecDeque::new(),
            effects: VecDeque::new(),
        };
        machine.beat(now);
        machine
    }

    /// Returns the next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`], and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        let own = match &self.state {
            State::Stopped => return None,
            State::Starting | State::Idle { .. } | State::Working { .. } if self.frozen.is_some() => None,
            State::Starting => None,
            State::Idle { sweep_at, .. } => Some((*sweep_at, "sweep")),
            State::Working { fate, stage, .. } => {
                let stop = match fate {
                    Fate::Stopping { until } => Some((*until, "stop timeout")),
                    Fate::Live | Fate::Cancelled => None,
                };
                stage.timeout().into_iter().chain(stop).min()
            }
        };
        own.into_iter().chain([(self.beat_at, "heartbeat")]).min()
    }

    /// Gives whatever is under way the time back over which the clock has leapt, or the machine has slept: we wake for every beat, so
    /// a beat that is so late was not waited for.
    fn make_up_for_leaps(&mut self, now: Timestamp) {
        let late = now.since(self.beat_at);
        if self.frozen.is_some() || late < self.settings.heartbeat * LEAP_BEATS {
            return;
        }
        self.beat_at = now;
        // Counted from the last beat on: when in between it leapt nobody knows.
        self.state.shift(late + self.settings.heartbeat);
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.make_up_for_leaps(now);
        if self.beat_at <= now && self.state != State::Stopped {
            self.beat(now);
            if let State::Working { attempt, .. } = &self.state {
                self.effects.push_back(Effect::Look(attempt.order.id));
            }
        }
        if self.frozen.is_some() {
            return;
        }
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Idle { asking, sweep_at } if sweep_at <= now => {
                self.state = State::Idle { asking, sweep_at: now + SWEEP };
                self.ask();
            }
            State::Working { fate: Fate::Stopping { until }, .. } if until <= now => self.finish(now),
            State::Working { attempt, fate, stage } => self.handle_stage_timeout(attempt, fate, stage, now),
            state @ (State::Starting | State::Idle { .. } | State::Stopped) => self.state = state,
        }
    }

    fn handle_stage_timeout(&mut self, mut attempt: Box<Attempt>, fate: Fate, stage: Stage, now: Timestamp) {
        let kill_at = now + self.settings.stop_timeout;
        let stage = match stage {
            Stage::Running { until, .. } if until <= now => {
                attempt.fail(
                    FailureKind::TimedOut,
                    format!("the time limit of {} was reached", span::format(limit(&attempt.order))),
                );
                self.pull(stage, kill_at)
            }
            Stage::Running { over_at: Some(at), .. } if at <= now => self.pull(stage, kill_at),
            Stage::Checking { until } if until <= now => {
                let limit = span::format(limit(&attempt.order));
                attempt.fail(FailureKind::TimedOut, format!("the checks did not end within {limit}"));
                self.pull(stage, kill_at)
            }
            Stage::EndingRun { kill_at: Some(at) } if at <= now => {
                self.effects.push_back(Effect::Signal(Pull::Kill));
                Stage::EndingRun { kill_at: None }
            }
            Stage::EndingCheck { kill_at: Some(at) } if at <= now => {
                self.effects.push_back(Effect::Signal(Pull::Kill));
                Stage::EndingCheck { kill_at: None }
            }
            Stage::WaitingToDeliver { report, tries, at } if at <= now => {
                self.effects.push_back(Effect::Deliver(Arc::clone(&report)));
                Stage::Delivering { report, tries }
            }
            Stage::WaitingToAck { tries, at } if at <= now => {
                self.effects.push_back(Effect::Ack(Arc::clone(&attempt.order)));
                Stage::Acking { tries }
            }
            Stage::Preparing
            | Stage::Running { .. }
            | Stage::EndingRun { .. }
            | Stage::Committing
            | Stage::Checking { .. }
            | Stage::EndingCheck { .. }
            | Stage::Delivering { .. }
            | Stage::WaitingToDeliver { .. }
            | Stage::Acking { .. }
            | Stage::WaitingToAck { .. }
            | Stage::Clearing => stage,
        };
        self.state = State::Working { attempt, fate, stage };
    }

    /// Takes in what happened.
    ///
    /// # Errors
    /// Tells that the event cannot happen now; nothing has changed.
    pub fn handle_event(&mut self, event: Event, now: Timestamp) -> Result<(), Illegal> {
        self.make_up_for_leaps(now);
        match (self.frozen, event) {
            // Its clock may not agree with the one of whoever put the mark down.
            (None, Event::Frozen(since)) => self.frozen = Some(since.max(self.awake_at).min(now)),
            (Some(_), Event::Frozen(_)) => {}
            (None, Event::Thawed(past)) => {
                self.make_up_for_missed(past, now);
                self.awake_at = now;
            }
            (Some(since), Event::Thawed(past)) => {
                self.past = past;
                return self.thaw(since, now);
            }
            // Whoever is told to end does not wait for the thaw.
            (Some(since), Event::StopRequested) => {
                self.thaw(since, now)?;
                return self.handle(Event::StopRequested, now);
            }
            // Hints: the thaw looks for what they announce.
            (Some(_), Event::MailboxChanged | Event::OrderGone(_)) => {}
            // Said before it was suspended; it begins nothing.
            (Some(_), event @ Event::Heard(_)) => return self.handle(event, now),
            (Some(_), event) => self.held.push_back(event),
            (None, event) => return self.handle(event, now),
        }
        Ok(())
    }

    /// Gives whatever is under way the time back of a freeze that came and went unseen: only the hint of it got lost, and the
    /// programs stood still all the same.
    fn make_up_for_missed(&mut self, past: Option<PastFreeze>, now: Timestamp) {
        let Some(past) = past.filter(|past| self.past != Some(*past)) else { return };
        self.past = Some(past);
        self.state.shift(past.until.min(now).since(past.since.max(self.awake_at)));
    }

    /// Goes on where it stood: every limit is longer by the time of the freeze.
    fn thaw(&mut self, since: Timestamp, now: Timestamp) -> Result<(), Illegal> {
        self.frozen = None;
        self.awake_at = now;
        self.state.shift(now.since(since));
        for event in std::mem::take(&mut self.held) {
            self.handle(event, now)?;
        }
        if let State::Working { attempt, .. } = &self.state {
            self.effects.push_back(Effect::Look(attempt.order.id));
        }
        self.ask();
        Ok(())
    }

    fn handle(&mut self, event: Event, now: Timestamp) -> Result<(), Illegal> {
        match (std::mem::replace(&mut self.state, State::Stopped), event) {
            (State::Starting, Event::Ready) => self.rest(now),
            (State::Idle { asking, sweep_at }, Event::MailboxChanged) => {
                self.state = State::Idle { asking, sweep_at };
                self.ask();
            }
            (State::Idle { asking: Asking::Once | Asking::Again, .. }, Event::Leased(Ok(Some(order)))) => {
                self.begin(order, now);
            }
            (State::Idle { asking: Asking::Again, sweep_at }, Event::Leased(Ok(None) | Err(_))) => {
                self.state = State::Idle { asking: Asking::No, sweep_at };
                self.ask();
            }
            (State::Idle { asking: Asking::Once, sweep_at }, Event::Leased(Ok(None) | Err(_))) => {
                self.state = State::Idle { asking: Asking::No, sweep_at };
            }
            (State::Starting | State::Idle { .. }, Event::StopRequested) => self.finish(now),
            (State::Working { attempt, fate, stage }, event) => {
                return self.handle_working(attempt, fate, stage, event, now);
            }
            // Hints may come late, and after the end nothing matters any more.
            (state @ (State::Starting | State::Idle { .. }), Event::OrderGone(_) | Event::Heard(_)) => {
                self.state = state;
            }
            (State::Starting, Event::MailboxChanged) => self.state = State::Starting,
            // Taken out before they come here.
            (state @ (State::Starting | State::Idle { .. }), Event::Frozen(_) | Event::Thawed(_)) => self.state = state,
            (State::Stopped, _) => self.state = State::Stopped,
            (state, event) => {
                let illegal = Illegal { state: state.name().to_owned(), event: event.name().to_owned() };
                self.state = state;
                return Err(illegal);
            }
        }
        Ok(())
    }

    fn handle_working(
        &mut self,
        mut attempt: Box<Attempt>,
        fate: Fate,
        stage: Stage,
        event: Event,
        now: Timestamp,
    ) -> Result<(), Illegal> {
        match (stage, event) {
            (stage, Event::OrderGone(id)) if id == attempt.order.id => self.cancel(attempt, fate, stage, now),
            (stage, Event::StopRequested) => self.stop(attempt, fate, stage, now),
            (stage, Event::DiskFull) => {
                attempt.disk_was_full = true;
                self.state = State::Working { attempt, fate, stage };
            }
            // The sweep finds what these announce.
            (stage, Event::MailboxChanged | Event::OrderGone(_)) => {
                self.state = State::Working { attempt, fate, stage };
            }
            (Stage::Preparing, Event::Prepared(result)) => {
                let next = prepared(&mut attempt, result);
                self.advance(attempt, fate, next, now);
            }
            (Stage::Running { until, over_at }, Event::Heard(signal)) => {
                let over_at = (signal == Signal::Over).then_some(over_at.unwrap_or(now + TURN_GRACE));
                self.hear(attempt, fate, Stage::Running { until, over_at }, signal, now);
            }
            // It runs no longer.
            (stage, Event::Heard(_)) => self.state = State::Working { attempt, fate, stage },
            (Stage::Running { .. } | Stage::EndingRun { .. }, Event::Ran(ran)) => {
                let next = ran_to_its_end(&mut attempt, *ran);
                self.advance(attempt, fate, next, now);
            }
            (Stage::Committing, Event::Committed(result)) => {
                let next = committed(&mut attempt, result);
                self.advance(attempt, fate, next, now);
            }
            (Stage::Checking { .. } | Stage::EndingCheck { .. }, Event::Checked(result)) => {
                match result {
                    Ok(checks) => attempt.checked(checks),
                    Err(Trouble(reason)) => attempt.fail(FailureKind::Infrastructure, reason),
                }
                self.advance(attempt, fate, Next::Report, now);
            }
            (Stage::Delivering { .. }, Event::Delivered(Ok(()))) => {
                self.effects.push_back(Effect::Ack(Arc::clone(&attempt.order)));
                self.state = State::Working { attempt, fate, stage: Stage::Acking { tries: 0 } };
            }
            (Stage::Delivering { report, tries }, Event::Delivered(Err(_))) => {
                let at = now + retry_after(tries);
                self.resume(attempt, fate, Stage::WaitingToDeliver { report, tries: tries.saturating_add(1), at }, now);
            }
            (Stage::Acking { .. }, Event::Acked(Ok(()))) => self.advance(attempt, fate, Next::Clear, now),
            (Stage::Acking { tries }, Event::Acked(Err(_))) => {
                let at = now + retry_after(tries);
                self.resume(attempt, fate, Stage::WaitingToAck { tries: tries.saturating_add(1), at }, now);
            }
            (Stage::Clearing, Event::Cleared) => match fate {
                Fate::Live | Fate::Cancelled => self.rest(now),
                Fate::Stopping { .. } => self.finish(now),
            },
            (stage, event) => {
                let illegal = Illegal { state: stage.name().to_owned(), event: event.name().to_owned() };
                self.state = State::Working { attempt, fate, stage };
                return Err(illegal);
            }
        }
        Ok(())
    }

    /// Notes what the program says of its state, and beats when that changes what is shown.
    fn hear(&mut self, attempt: Box<Attempt>, fate: Fate, stage: Stage, signal: Signal, now: Timestamp) {
        self.state = State::Working { attempt, fate, stage };
        let before = self.state.activity();
        if let State::Working { attempt, .. } = &mut self.state
            && attempt.heard.as_ref().is_none_or(|(before, _)| *before != signal)
        {
            attempt.heard = Some((signal, now));
        }
        if self.state.activity() != before {
            self.beat(now);
        }
    }

    /// Becomes idle and asks for work.
    fn rest(&mut self, now: Timestamp) {
        self.state = State::Idle { asking: Asking::No, sweep_at: now + SWEEP };
        self.beat(now);
        self.ask();
    }

    /// Asks for an order, unless the question is under way.
    fn ask(&mut self) {
        if let (State::Idle { asking, .. }, Duty::Work) = (&mut self.state, self.settings.duty) {
            *asking = match *asking {
                Asking::No => {
                    self.effects.push_back(Effect::Lease);
                    Asking::Once
                }
                Asking::Once | Asking::Again => Asking::Again,
            };
        }
    }

    fn begin(&mut self, order: Arc<WorkOrder>, now: Timestamp) {
        let attempt = Box::new(Attempt::new(Arc::clone(&order), now));
        self.state = State::Working { attempt, fate: Fate::Live, stage: Stage::Preparing };
        self.beat(now);
        self.effects.push_back(Effect::Prepare(order));
    }

    /// Goes on to the next step, or winds up when the order is cancelled or the runner is stopping.
    fn advance(&mut self, attempt: Box<Attempt>, fate: Fate, next: Next, now: Timestamp) {
        let order = Arc::clone(&attempt.order);
        let (stage, effect) = match (fate, next) {
            (Fate::Stopping { .. }, _) => return self.finish(now),
            // A cancelled attempt's work is saved, but neither checked nor reported.
            (Fate::Cancelled, Next::Commit(base, _)) => {
                (Stage::Committing, Effect::Commit { order, base, purpose: Purpose::Salvage, summary: None })
            }
            (Fate::Cancelled, Next::Run | Next::Check(_) | Next::Report | Next::Clear) | (Fate::Live, Next::Clear) => {
                (Stage::Clearing, Effect::Clear(order))
            }
            (Fate::Live, Next::Run) => {
                (Stage::Running { until: now + limit(&order), over_at: None }, Effect::Run(order))
            }
            (Fate::Live, Next::Commit(base, purpose)) => {
                let summary = attempt.ran.as_ref().and_then(|ran| ran.claim.summary.clone());
                (Stage::Committing, Effect::Commit { order, base, purpose, summary })
            }
            (Fate::Live, Next::Check(commit)) => {
                let base = attempt.base.clone();
                (Stage::Checking { until: now + limit(&order) }, Effect::Check { order, base, commit })
            }
            (Fate::Live, Next::Report) => {
                let report = attempt.report(&self.settings.agent, self.settings.incarnation, now);
                let report = Arc::new(attempt::envelope(&report, &order, now));
                (Stage::Delivering { report: Arc::clone(&report), tries: 0 }, Effect::Deliver(report))
            }
        };
        self.state = State::Working { attempt, fate, stage };
        self.beat(now);
        self.effects.push_back(effect);
    }

    fn finish(&mut self, now: Timestamp) {
        self.state = State::Stopped;
        self.beat(now);
        self.effects.push_back(Effect::Exit);
    }

    fn beat(&mut self, now: Timestamp) {
        self.beats += 1;
        self.beat_at = now + self.settings.heartbeat.max(HEARTBEAT_MIN);
        self.effects.push_back(Effect::Beat(Beat {
            agent: self.settings.agent.clone(),
            incarnation: self.settings.incarnation,
            pid: self.settings.pid,
            sequence: self.beats,
            at: now,
            activity: self.state.activity(),
            // The shell, which sees the programs, fills it in.
            progress: None,
            watching: WatchFaults::default(),
        }));
    }
}
