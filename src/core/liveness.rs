//! The liveness of one agent: one explicit set of states, and what moves it from one to the next.

use std::time::Duration;

use crate::model::agent::AgentSpec;
use crate::model::beat::{Activity, Beat};
use crate::model::id::{AgentId, EnvelopeId, Incarnation};
use crate::model::time::Timestamp;

use super::Core;
use super::effect::{Effect, Stop};
use super::event::{Evidence, OrderPlace, PaneFound};
use super::fact::{Budget, DownCause, Fact, Hold};
use super::restart::{self, Restart};
use super::team;

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
    at: Timestamp,
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
                let patience = spec.map_or(ANSWER_TIMEOUT, |spec| spec.heartbeat_timeout);
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
    /// Whether it runs with other settings than those in force: it is started again as soon as it is idle.
    pub(super) outdated: bool,
}

impl Live {
    pub(super) const fn new(state: Liveness, since: Timestamp) -> Self {
        Self { state, since, finished: None, outdated: false }
    }
}

impl Core {
    pub(super) fn enter(&mut self, agent: &AgentId, state: Liveness) {
        let now = self.now;
        match self.agents.get_mut(agent) {
            Some(live) => {
                if std::mem::discriminant(&live.state) != std::mem::discriminant(&state) {
                    live.since = now;
                }
                live.state = state;
            }
            None => {
                self.agents.insert(agent.clone(), Live::new(state, now));
            }
        }
    }

    pub(super) fn incarnation(&self, agent: &AgentId) -> Incarnation {
        self.durable.agents.get(agent).map_or(Incarnation(0), |record| record.incarnation)
    }

    fn is_current(&self, agent: &AgentId, incarnation: Incarnation) -> bool {
        self.durable.agents.get(agent).is_some_and(|record| record.incarnation == incarnation && !record.down)
    }

    pub(super) fn hold_of(&self, agent: &AgentId) -> Option<Hold> {
        self.durable.agents.get(agent).and_then(|record| record.hold)
    }

    /// Takes what was found at the start: matching panes are adopted, everything else is cleared away. Returns who was
    /// adopted, and what differed from the journal, for people.
    pub(super) fn reconcile_panes(
        &mut self,
        panes: &[PaneFound],
        orders: &[(AgentId, EnvelopeId, OrderPlace)],
    ) -> (Vec<AgentId>, Vec<String>) {
        let mut names: Vec<AgentId> = self.agents.keys().cloned().collect();
        names.extend(self.durable.agents.keys().filter(|agent| self.was_running(agent)).cloned());
        names.extend(panes.iter().map(|pane| pane.agent.clone()));
        names.extend(orders.iter().map(|(agent, _, _)| agent.clone()));
        names.sort();
        names.dedup();
        let (mut adopted, mut repaired) = (Vec::new(), Vec::new());
        for agent in names {
            let found: Vec<&PaneFound> = panes.iter().filter(|pane| pane.agent == agent).collect();
            let order = orders.iter().find(|(owner, _, _)| *owner == agent).map(|(_, _, place)| *place);
            let known = self.plan.agent(&agent).is_some();
            match (found.as_slice(), self.difference(&agent, &found, order)) {
                ([pane], None) => {
                    self.take_over(pane);
                    adopted.push(agent);
                }
                ([], None) if known => {
                    let state = self.hold_of(&agent).map_or(Liveness::Absent, Liveness::Held);
                    self.enter(&agent, state);
                }
                ([], None) => {
                    self.agents.remove(&agent);
                }
                ([] | [_, ..], difference) => {
                    repaired.extend(difference);
                    self.clear(&agent, DownCause::Lost);
                }
            }
        }
        (adopted, repaired)
    }

    /// Tells where pane, lease and journal disagree about an agent; nothing when they do not.
    fn difference(&self, agent: &AgentId, found: &[&PaneFound], order: Option<OrderPlace>) -> Option<String> {
        let expected = self.incarnation(agent);
        match found {
            [] if self.was_running(agent) && matches!(order, Some(OrderPlace::Leased(_))) => {
                Some(format!("{agent} has a lease and no pane"))
            }
            [] if self.was_running(agent) => Some(format!("{agent} has no pane any more")),
            [] if order.is_some() => Some(format!("{agent} has an order and is down")),
            [] => None,
            [pane] if !self.durable.agents.contains_key(agent) => {
                Some(format!("pane {} is of {agent}, whom nobody knows", pane.pane))
            }
            [pane] if pane.incarnation != expected => Some(format!(
                "pane {} is {agent}'s start {}, and {expected} is the newest",
                pane.pane, pane.incarnation
            )),
            [pane] if !self.is_current(agent, pane.incarnation) => {
                Some(format!("pane {} is of {agent}, who was said to be down", pane.pane))
            }
            [_] => match order {
                Some(OrderPlace::Leased(holder)) if holder != expected => {
                    Some(format!("{agent}'s lease is held by its start {holder}, and {expected} has the pane"))
                }
                // Reports were taken before: what is neither waiting nor held was lost, and nobody will report it.
                Some(OrderPlace::Done | OrderPlace::Dead) => Some(format!("{agent} has a pane, and its lease is gone")),
                Some(OrderPlace::Missing) if self.has_begun_order(agent) => {
                    Some(format!("{agent} has a pane, and its lease is gone"))
                }
                Some(OrderPlace::Leased(_) | OrderPlace::New | OrderPlace::Missing) | None => None,
            },
            [_, ..] => Some(format!("{agent} has {} panes", found.len())),
        }
    }

    fn take_over(&mut self, found: &PaneFound) {
        let agent = &found.agent;
        // An agent that is no longer in the team may end its work first.
        let spec = self.plan.agent(agent);
        let outdated = team::is_outdated(found.launched.as_deref(), spec);
        let deadline = self.now + self.start_slice(agent);
        self.push(Effect::AdoptPane {
            agent: agent.clone(),
            incarnation: found.incarnation,
            pane: found.pane.clone(),
            pid: found.pid,
        });
        let pane = Pane { id: found.pane.clone(), pid: found.pid };
        self.enter(agent, Liveness::Starting { pane, deadline, slice: 1 });
        if let Some(live) = self.agents.get_mut(agent) {
            live.outdated = outdated;
        }
    }

    fn was_running(&self, agent: &AgentId) -> bool {
        self.durable.agents.get(agent).is_some_and(|record| !record.down && record.incarnation > Incarnation(0))
    }

    /// Starts an agent. The number is durable before the pane is asked for, so no crash can use it twice.
    pub(super) fn spawn(&mut self, agent: &AgentId, budget: Budget) {
        let Some(spec) = self.plan.agent(agent) else { return };
        let deadline = self.now + spec.start_timeout.max(ANSWER_TIMEOUT);
        let incarnation = self.incarnation(agent).next();
        self.record(Fact::SpawnRequested { agent: agent.clone(), incarnation, budget });
        self.push(Effect::SpawnPane { agent: agent.clone(), incarnation });
        self.enter(agent, Liveness::Spawning { deadline, tries: 1, early: None });
        if let Some(live) = self.agents.get_mut(agent) {
            live.outdated = false;
        }
    }

    pub(super) fn on_pane_spawned(&mut self, agent: &AgentId, incarnation: Incarnation, pane: Pane) {
        if !self.is_current(agent, incarnation) {
            return;
        }
        let Some(Live { state: Liveness::Spawning { early, .. }, .. }) = self.agents.get(agent) else { return };
        let early = early.clone();
        let deadline = self.now + self.start_slice(agent);
        self.enter(agent, Liveness::Starting { pane, deadline, slice: 1 });
        if let Some(beat) = early {
            self.on_beat(beat);
        }
    }

    pub(super) fn on_spawn_failed(&mut self, agent: &AgentId, incarnation: Incarnation, reason: String) {
        let spawning = matches!(self.agents.get(agent), Some(Live { state: Liveness::Spawning { .. }, .. }));
        if spawning && self.is_current(agent, incarnation) {
            self.clear(agent, DownCause::SpawnFailed { reason });
        }
    }

    pub(super) fn on_pane_died(&mut self, agent: &AgentId, incarnation: Incarnation) {
        if !self.is_current(agent, incarnation) {
            return;
        }
        let Some(live) = self.agents.get(agent) else { return };
        let cause = match &live.state {
            Liveness::Stopping { cause, .. } => cause.clone(),
            Liveness::Up { activity: Activity::Stopped, .. } => DownCause::Clean,
            Liveness::Spawning { .. } | Liveness::Starting { .. } | Liveness::Up { .. } | Liveness::Suspect { .. } => {
                DownCause::PaneDied
            }
            Liveness::Absent | Liveness::Clearing { .. } | Liveness::BackingOff { .. } | Liveness::Held(_) => return,
        };
        self.clear(agent, cause);
    }

    /// Sees to it that nothing of an agent's incarnation is left.
    fn clear(&mut self, agent: &AgentId, cause: DownCause) {
        let deadline = self.now + ANSWER_TIMEOUT;
        let order = self.index.open_order(agent).map(|(_, envelope)| envelope);
        let incarnation = self.incarnation(agent);
        self.push(Effect::ClearRemains { agent: agent.clone(), incarnation, order });
        self.enter(agent, Liveness::Clearing { cause, deadline });
    }

    pub(super) fn on_remains_cleared(&mut self, agent: &AgentId, incarnation: Incarnation, order: Option<OrderPlace>) {
        let Some(Live { state: Liveness::Clearing { cause, .. }, .. }) = self.agents.get(agent) else { return };
        let cause = cause.clone();
        if self.incarnation(agent) != incarnation {
            return;
        }
        let decision = self.decide_restart(agent, &cause);
        if self.was_running(agent) {
            let streak = match (self.plan.agent(agent), self.durable.agents.get(agent)) {
                (Some(spec), Some(record)) => restart::streak_after(record, &spec.restart, &cause, self.now),
                (None, _) | (_, None) => 0,
            };
            self.record(Fact::AgentDown { agent: agent.clone(), incarnation, cause: cause.clone(), streak });
        }
        let restarts_now = matches!(decision, Some(Restart::At(at, _)) if at <= self.now) && self.drain.is_none();
        self.settle_order_of_dead_agent(agent, &cause, order, restarts_now);
        match decision {
            None => {
                self.agents.remove(agent);
            }
            Some(Restart::Hold(hold)) => {
                if self.hold_of(agent) != Some(hold) {
                    self.record(Fact::AgentHeld { agent: agent.clone(), hold });
                }
                self.enter(agent, Liveness::Held(hold));
            }
            Some(Restart::At(_, Budget::Free)) => self.enter(agent, Liveness::Absent),
            Some(Restart::At(until, Budget::Counted)) => self.enter(agent, Liveness::BackingOff { until }),
        }
    }

    /// Decides what follows; `None`: the agent is no longer in the plan.
    fn decide_restart(&self, agent: &AgentId, cause: &DownCause) -> Option<Restart> {
        let spec = self.plan.agent(agent)?;
        if let Some(hold) = self.hold_of(agent) {
            return Some(Restart::Hold(hold));
        }
        let Some(record) = self.durable.agents.get(agent) else {
            return Some(Restart::At(self.now, Budget::Free));
        };
        Some(restart::after_end(agent, record, &spec.restart, cause, self.now, self.durable.seed))
    }

    pub(super) fn on_beat(&mut self, beat: Beat) {
        if !self.is_current(&beat.agent, beat.incarnation) {
            return;
        }
        let seen = Seen::new(&beat, self.now);
        let agent = beat.agent.clone();
        let Some(live) = self.agents.get_mut(&agent) else { return };
        match &mut live.state {
            Liveness::Spawning { early, .. } => *early = Some(beat),
            Liveness::Starting { pane, .. } => {
                if beat.activity == Activity::Starting {
                    return;
                }
                let pane = pane.clone();
                self.note_started(&agent, &beat.activity);
                self.enter(&agent, Liveness::Up { pane, last_beat: seen, activity: beat.activity });
                if self.durable.agents.get(&agent).is_some_and(|record| record.up_since.is_none()) {
                    self.record(Fact::AgentUp { agent, incarnation: beat.incarnation });
                }
            }
            Liveness::Up { last_beat, activity, .. } => {
                if last_beat.is_older_than(&beat) {
                    *last_beat = seen;
                    *activity = beat.activity.clone();
                    self.note_started(&agent, &beat.activity);
                }
            }
            Liveness::Suspect { pane, last_beat, .. } => {
                if last_beat.is_older_than(&beat) {
                    let pane = pane.clone();
                    self.note_started(&agent, &beat.activity);
                    self.enter(&agent, Liveness::Up { pane, last_beat: seen, activity: beat.activity });
                }
            }
            Liveness::Stopping { .. }
            | Liveness::Absent
            | Liveness::Clearing { .. }
            | Liveness::BackingOff { .. }
            | Liveness::Held(_) => {}
        }
    }

    /// Tells an agent to end.
    pub(super) fn stop(&mut self, agent: &AgentId, cause: DownCause, how: Stop) {
        let Some(pane) = self.agents.get(agent).and_then(|live| live.state.pane()).cloned() else { return };
        let patience = match how {
            Stop::Term => self.plan.agent(agent).map_or(KILL_REPEAT, |spec| spec.stop_timeout + KILL_REPEAT),
            Stop::Kill => KILL_REPEAT,
        };
        let deadline = self.now + patience;
        self.push(Effect::StopPane { agent: agent.clone(), incarnation: self.incarnation(agent), how });
        self.enter(agent, Liveness::Stopping { pane, cause, deadline });
    }

    /// Does what is due for one agent.
    pub(super) fn wake_agent(&mut self, agent: &AgentId) {
        let spec = self.plan.agent(agent).cloned();
        let Some(live) = self.agents.get(agent) else { return };
        if live.state.wake_at(spec.as_ref()).is_none_or(|(at, _)| at > self.now) {
            return;
        }
        let incarnation = self.incarnation(agent);
        match live.state.clone() {
            Liveness::Absent | Liveness::Held(_) => {}
            Liveness::Spawning { tries, early, .. } => {
                if tries >= SPAWN_TRIES_MAX {
                    self.clear(agent, DownCause::SpawnFailed { reason: "tmux did not answer".to_owned() });
                } else {
                    let deadline = self.now + ANSWER_TIMEOUT;
                    self.push(Effect::SpawnPane { agent: agent.clone(), incarnation });
                    self.enter(agent, Liveness::Spawning { deadline, tries: tries + 1, early });
                }
            }
            Liveness::Starting { pane, slice, .. } if slice < START_SLICES => {
                let deadline = self.now + self.start_slice(agent);
                self.enter(agent, Liveness::Starting { pane, deadline, slice: slice + 1 });
            }
            Liveness::Starting { .. } => self.stop(agent, DownCause::StartTimeout, Stop::Kill),
            Liveness::Up { pane, last_beat, activity } => {
                self.push(Effect::Probe { agent: agent.clone(), incarnation, pid: pane.pid });
                let probe_at = self.now + self.probe_interval(agent);
                self.enter(agent, Liveness::Suspect { pane, last_beat, activity, first: None, probe_at });
            }
            Liveness::Suspect { pane, last_beat, activity, first, .. } => {
                self.push(Effect::Probe { agent: agent.clone(), incarnation, pid: pane.pid });
                let probe_at = self.now + self.probe_interval(agent);
                self.enter(agent, Liveness::Suspect { pane, last_beat, activity, first, probe_at });
            }
            Liveness::Stopping { cause, .. } => self.stop(agent, cause, Stop::Kill),
            Liveness::Clearing { cause, .. } => self.clear(agent, cause),
            Liveness::BackingOff { .. } => {
                if self.drain.is_none() {
                    self.spawn(agent, Budget::Counted);
                } else {
                    self.enter(agent, Liveness::Absent);
                }
            }
        }
    }

    fn start_slice(&self, agent: &AgentId) -> Duration {
        self.plan.agent(agent).map_or(ANSWER_TIMEOUT, |spec| spec.start_timeout) / START_SLICES
    }

    /// Between two looks a living runner has time for at least one beat.
    fn probe_interval(&self, agent: &AgentId) -> Duration {
        self.plan.agent(agent).map_or(ANSWER_TIMEOUT, |spec| spec.heartbeat * 2).max(Duration::from_secs(1))
    }

    /// Judges a silent agent: only a second, independent sign lets it be ended.
    pub(super) fn on_probed(&mut self, agent: &AgentId, incarnation: Incarnation, evidence: Option<Evidence>) {
        if !self.is_current(agent, incarnation) {
            return;
        }
        let interval = self.probe_interval(agent) / 2;
        let Some(Live { state: Liveness::Suspect { first, activity, .. }, .. }) = self.agents.get_mut(agent) else {
            return;
        };
        let waits = activity.is_legitimately_silent();
        // A look that failed means nothing: unknown is not dead.
        let Some(seen) = evidence else { return };
        let Some(before) = *first else {
            *first = Some(seen);
            return;
        };
        // The same look, told twice, is no second sign; neither is one that follows at once.
        if seen.at.since(before.at) < interval {
            return;
        }
        // A runner that is stopped cannot beat however busy its children are; one that waits for somebody uses no time.
        if (before.stopped && seen.stopped) || (before.cpu_ticks == seen.cpu_ticks && !waits) {
            self.stop(agent, DownCause::Silent, Stop::Kill);
        } else {
            *first = Some(seen);
        }
    }
}
