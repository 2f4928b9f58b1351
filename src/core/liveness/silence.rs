//! Heartbeats, and what follows when they fail to come: two independent signs before an agent is ended.

use std::time::Duration;

use crate::core::Core;
use crate::core::effect::{Effect, Stop};
use crate::core::event::Evidence;
use crate::core::fact::{DownCause, Fact};
use crate::model::agent::AgentSpec;
use crate::model::beat::{Activity, Beat};
use crate::model::id::{AgentId, Incarnation};
use crate::model::time::Timestamp;

use super::table::News;
use super::{ANSWER_TIMEOUT, Live, Liveness, Pane, Seen};

impl Core {
    pub(in crate::core) fn on_beat(&mut self, beat: Beat) {
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
                let activity = beat.activity.clone();
                self.enter(&agent, News::ReadyBeat, Liveness::Up { pane, last_beat: seen, activity });
                if self.durable.agents.get(&agent).is_some_and(|record| record.up_since.is_none()) {
                    self.record(Fact::AgentUp { agent: agent.clone(), incarnation: beat.incarnation });
                }
                self.note_progress(&agent, &beat);
            }
            Liveness::Up { pane, last_beat, .. } | Liveness::Suspect { pane, last_beat, .. } => {
                if last_beat.is_older_than(&beat) {
                    let pane = pane.clone();
                    let activity = beat.activity.clone();
                    self.note_started(&agent, &activity);
                    self.enter(&agent, News::ReadyBeat, Liveness::Up { pane, last_beat: seen, activity });
                    self.note_progress(&agent, &beat);
                }
            }
            Liveness::Stopping { .. }
            | Liveness::Absent
            | Liveness::Clearing { .. }
            | Liveness::BackingOff { .. }
            | Liveness::Held(_) => {}
        }
    }

    /// Looks at an agent that has missed its beats; the last look falls on the end of its heartbeat timeout.
    pub(super) fn suspect(
        &mut self,
        agent: &AgentId,
        pane: Pane,
        last_beat: Seen,
        activity: Activity,
        first: Option<Evidence>,
    ) {
        let incarnation = self.incarnation(agent);
        self.push(Effect::Probe { agent: agent.clone(), incarnation, pid: pane.pid });
        let timeout = self.plan.agent(agent).map_or(ANSWER_TIMEOUT, |spec| spec.heartbeat_timeout);
        let gap = self.plan.agent(agent).map_or(LOOK_GAP_MIN, look_gap);
        let probe_at = (last_beat.at + timeout).max(self.now + gap);
        self.enter(agent, News::Due, Liveness::Suspect { pane, last_beat, activity, first, probe_at });
    }

    /// Judges a silent agent: only a second, independent sign lets it be ended.
    pub(in crate::core) fn on_probed(&mut self, agent: &AgentId, incarnation: Incarnation, evidence: Option<Evidence>) {
        if !self.is_current(agent, incarnation) {
            return;
        }
        if self.frozen.is_some() {
            return;
        }
        let timeout = self.plan.agent(agent).map_or(ANSWER_TIMEOUT, |spec| spec.heartbeat_timeout);
        let gap = self.plan.agent(agent).map_or(LOOK_GAP_MIN, look_gap);
        let Some(Live { state: Liveness::Suspect { first, activity, last_beat, .. }, .. }) = self.agents.get_mut(agent)
        else {
            return;
        };
        let patience = if activity.is_legitimately_silent() { timeout * TIMEOUTS_OF_WAITERS } else { gap };
        let is_overdue = seen_at(evidence).is_some_and(|at| at.since(last_beat.at) >= timeout);
        // A look that failed means nothing: unknown is not dead.
        let Some(seen) = evidence else { return };
        let Some(before) = *first else {
            *first = Some(seen);
            return;
        };
        // The same look, told twice, is no second sign; neither is one that follows at once, or comes before its time.
        // What lies between them must have passed for the runner too: the clock may have leapt since the first.
        let passed = seen.awake.saturating_sub(before.awake);
        if passed < gap || !is_overdue {
            return;
        }
        // A runner that is stopped cannot beat however busy its children are.
        let is_still = seen.is_still_since(&before) && seen.stopped == before.stopped;
        if (before.stopped && seen.stopped) || (is_still && passed >= patience) {
            self.stop(agent, News::SecondSign, DownCause::Silent, Stop::Kill);
        } else if !is_still {
            *first = Some(seen);
        }
    }
}

/// For how many timeouts nothing may move in an agent that waits for somebody and does not beat. Its program uses no time anyway,
/// so that one look as good as the other says little; but its runner beats all the while, unless it hangs.
const TIMEOUTS_OF_WAITERS: u32 = 4;

/// The shortest time between two looks at a suspect.
const LOOK_GAP_MIN: Duration = Duration::from_secs(1);

fn seen_at(evidence: Option<Evidence>) -> Option<Timestamp> {
    evidence.map(|seen| seen.at)
}

/// Returns how long lies between two looks at a suspect at least. A living runner beats in that time, also after the machine
/// was suspended, when the clock has leapt and its timer has not.
fn look_gap(spec: &AgentSpec) -> Duration {
    (spec.heartbeat + spec.heartbeat / 4).max(LOOK_GAP_MIN)
}

/// Returns how old a beat may become before its agent is looked at: so early that the second look can fall on the end of the
/// timeout, but not before a beat was missed.
pub(super) fn suspect_after(spec: &AgentSpec) -> Duration {
    let missed = spec.heartbeat + spec.heartbeat / 4;
    let early = (spec.heartbeat_timeout / 2).min(spec.heartbeat_timeout.saturating_sub(look_gap(spec)));
    early.max(missed).min(spec.heartbeat_timeout)
}
