//! The moves of an agent from state to state.

use std::time::Duration;

use crate::core::Core;
use crate::core::effect::{Effect, Stop};
use crate::core::event::OrderPlace;
use crate::core::fact::{Budget, DownCause, Fact, Hold};
use crate::core::restart::{self, Restart};
use crate::model::agent::AgentSpec;
use crate::model::beat::Activity;
use crate::model::id::{AgentId, Incarnation};
use crate::model::time::Timestamp;

use super::table::{self, News, State};
use super::{ANSWER_TIMEOUT, KILL_REPEAT, Live, Liveness, Pane, SPAWN_TRIES_MAX, START_SLICES};

impl Core {
    /// Moves an agent on.
    ///
    /// # Panics
    /// When the table does not know the move: a mistake of ours.
    pub(in crate::core) fn enter(&mut self, agent: &AgentId, news: News, state: Liveness) {
        let now = self.now;
        let from = self.agents.get(agent).map_or(State::Absent, |live| live.state.state());
        assert!(
            table::targets(from, news).contains(&state.state()),
            "{agent} cannot go from {} to {} because {}",
            from.as_str(),
            state.state().as_str(),
            news.as_str()
        );
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

    pub(in crate::core) fn incarnation(&self, agent: &AgentId) -> Incarnation {
        self.durable.agents.get(agent).map_or(Incarnation(0), |record| record.incarnation)
    }

    /// Says whether a piece of news changes anything about an agent now.
    pub(in crate::core) fn heeds(&self, agent: &AgentId, news: News) -> bool {
        self.agents.get(agent).is_some_and(|live| !table::targets(live.state.state(), news).is_empty())
    }

    pub(in crate::core) fn is_current(&self, agent: &AgentId, incarnation: Incarnation) -> bool {
        self.durable.agents.get(agent).is_some_and(|record| record.incarnation == incarnation && !record.down)
    }

    pub(in crate::core) fn hold_of(&self, agent: &AgentId) -> Option<Hold> {
        self.durable.agents.get(agent).and_then(|record| record.hold)
    }

    pub(super) fn was_running(&self, agent: &AgentId) -> bool {
        self.durable.agents.get(agent).is_some_and(|record| !record.down && record.incarnation > Incarnation(0))
    }

    /// Starts an agent. The number is durable before the pane is asked for, so no crash can use it twice.
    pub(in crate::core) fn spawn(&mut self, agent: &AgentId, news: News, budget: Budget) {
        let Some(spec) = self.plan.agent(agent) else { return };
        let deadline = self.now + spec.start_timeout.max(ANSWER_TIMEOUT);
        let incarnation = self.incarnation(agent).next();
        self.record(Fact::SpawnRequested { agent: agent.clone(), incarnation, budget });
        self.push(Effect::SpawnPane { agent: agent.clone(), incarnation });
        self.enter(agent, news, Liveness::Spawning { deadline, tries: 1, early: None });
        if let Some(live) = self.agents.get_mut(agent) {
            live.outdated = false;
        }
    }

    pub(in crate::core) fn on_pane_spawned(&mut self, agent: &AgentId, incarnation: Incarnation, pane: Pane) {
        if !self.is_current(agent, incarnation) {
            return;
        }
        let Some(Live { state: Liveness::Spawning { early, .. }, .. }) = self.agents.get(agent) else { return };
        let early = early.clone();
        let deadline = self.now + self.start_slice(agent);
        self.enter(agent, News::Spawned, Liveness::Starting { pane, deadline, slice: 1 });
        if let Some(beat) = early {
            self.on_beat(beat);
        }
    }

    pub(in crate::core) fn on_spawn_failed(&mut self, agent: &AgentId, incarnation: Incarnation, reason: String) {
        if self.heeds(agent, News::SpawnFailed) && self.is_current(agent, incarnation) {
            self.clear(agent, News::SpawnFailed, DownCause::SpawnFailed { reason });
        }
    }

    pub(in crate::core) fn on_pane_died(&mut self, agent: &AgentId, incarnation: Incarnation) {
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
        self.clear(agent, News::PaneDied, cause);
    }

    /// Sees to it that nothing of an agent's incarnation is left.
    pub(super) fn clear(&mut self, agent: &AgentId, news: News, cause: DownCause) {
        let deadline = self.now + ANSWER_TIMEOUT;
        let order = self.index.open_order(agent).map(|(_, envelope)| envelope);
        let incarnation = self.incarnation(agent);
        self.push(Effect::ClearRemains { agent: agent.clone(), incarnation, order });
        self.enter(agent, news, Liveness::Clearing { cause, deadline });
    }

    pub(in crate::core) fn on_remains_cleared(
        &mut self,
        agent: &AgentId,
        incarnation: Incarnation,
        order: Option<OrderPlace>,
    ) {
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
        let restarts_now = matches!(decision, Some(Restart::At(at, _)) if at <= self.now)
            && self.drain.is_none()
            && self.frozen.is_none();
        self.settle_order_of_dead_agent(agent, &cause, order, restarts_now);
        match decision {
            None => {
                self.agents.remove(agent);
            }
            Some(Restart::Hold(hold)) => {
                if self.hold_of(agent) != Some(hold) {
                    self.record(Fact::AgentHeld { agent: agent.clone(), hold });
                }
                self.enter(agent, News::Cleared, Liveness::Held(hold));
            }
            Some(Restart::At(_, Budget::Free)) => self.enter(agent, News::Cleared, Liveness::Absent),
            Some(Restart::At(until, Budget::Counted)) => {
                self.enter(agent, News::Cleared, Liveness::BackingOff { until });
            }
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

    /// Tells an agent to end.
    pub(in crate::core) fn stop(&mut self, agent: &AgentId, news: News, cause: DownCause, how: Stop) {
        if !self.heeds(agent, news) {
            return;
        }
        let Some(pane) = self.agents.get(agent).and_then(|live| live.state.pane()).cloned() else { return };
        let deadline = self.now + self.stop_patience(agent, how);
        self.push(Effect::StopPane { agent: agent.clone(), incarnation: self.incarnation(agent), how });
        self.enter(agent, news, Liveness::Stopping { pane, cause, deadline });
    }

    /// Returns how long an agent that is told to end may take.
    fn stop_patience(&self, agent: &AgentId, how: Stop) -> Duration {
        match how {
            Stop::Term => self.plan.agent(agent).map_or(KILL_REPEAT, |spec| spec.stop_timeout + KILL_REPEAT),
            Stop::Kill => KILL_REPEAT,
        }
    }

    /// Does what is due for one agent.
    pub(in crate::core) fn wake_agent(&mut self, agent: &AgentId) {
        let Some(live) = self.agents.get(agent) else { return };
        if self.wake_of(live, self.plan.agent(agent)).is_none_or(|(at, _)| at > self.now) {
            return;
        }
        let incarnation = self.incarnation(agent);
        match live.state.clone() {
            Liveness::Absent | Liveness::Held(_) => {}
            Liveness::Spawning { tries, early, .. } => {
                if tries >= SPAWN_TRIES_MAX {
                    self.clear(agent, News::Due, DownCause::SpawnFailed { reason: "tmux did not answer".to_owned() });
                } else {
                    let deadline = self.now + ANSWER_TIMEOUT;
                    self.push(Effect::SpawnPane { agent: agent.clone(), incarnation });
                    self.enter(agent, News::Due, Liveness::Spawning { deadline, tries: tries + 1, early });
                }
            }
            // A slice that ends so late was not waited for: the clock has leapt, or we have slept.
            Liveness::Starting { pane, deadline, slice } if self.now.since(deadline) >= self.start_slice(agent) => {
                let deadline = self.now + self.start_slice(agent);
                self.enter(agent, News::Due, Liveness::Starting { pane, deadline, slice });
            }
            Liveness::Starting { pane, slice, .. } if slice < START_SLICES => {
                let deadline = self.now + self.start_slice(agent);
                self.enter(agent, News::Due, Liveness::Starting { pane, deadline, slice: slice + 1 });
            }
            Liveness::Starting { .. } => self.stop(agent, News::Due, DownCause::StartTimeout, Stop::Kill),
            Liveness::Up { pane, last_beat, activity } => {
                self.suspect(agent, pane, last_beat, activity, None);
            }
            Liveness::Suspect { pane, last_beat, activity, first, .. } => {
                self.suspect(agent, pane, last_beat, activity, first);
            }
            // Whoever was told to end gets its time again as well.
            Liveness::Stopping { pane, cause, deadline } if self.now.since(deadline) >= KILL_REPEAT => {
                let deadline = self.now + self.stop_patience(agent, Stop::Term);
                self.enter(agent, News::Due, Liveness::Stopping { pane, cause, deadline });
            }
            Liveness::Stopping { cause, .. } => self.stop(agent, News::Due, cause, Stop::Kill),
            Liveness::Clearing { cause, .. } => self.clear(agent, News::Due, cause),
            Liveness::BackingOff { .. } => {
                if self.drain.is_none() {
                    self.spawn(agent, News::Due, Budget::Counted);
                } else {
                    self.enter(agent, News::Due, Liveness::Absent);
                }
            }
        }
    }

    /// Returns when an agent must be looked after. While everything is frozen only what ends is waited for.
    pub(in crate::core) fn wake_of(&self, live: &Live, spec: Option<&AgentSpec>) -> Option<(Timestamp, &'static str)> {
        let wake = live.state.wake_at(spec);
        match live.state {
            Liveness::Stopping { .. } | Liveness::Clearing { .. } => wake,
            Liveness::Absent
            | Liveness::Spawning { .. }
            | Liveness::Starting { .. }
            | Liveness::Up { .. }
            | Liveness::Suspect { .. }
            | Liveness::BackingOff { .. }
            | Liveness::Held(_) => wake.filter(|_| self.frozen.is_none()),
        }
    }

    pub(in crate::core) fn start_slice(&self, agent: &AgentId) -> Duration {
        self.plan.agent(agent).map_or(ANSWER_TIMEOUT, |spec| spec.start_timeout) / START_SLICES
    }
}
