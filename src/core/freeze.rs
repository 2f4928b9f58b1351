//! Freeze and thaw: the operator's mark, and what it means while it is there.
//!
//! While everything is frozen nothing is begun and nobody is judged: neither silence nor a slow start nor a long attempt counts.
//! What dies is still noticed and cleared away, and what the operator asks for is done. At the thaw every patience begins anew.

use crate::model::request::Answer;
use crate::model::time::Timestamp;

use super::Core;
use super::effect::Effect;
use super::fact::Fact;
use super::liveness::table::News;
use super::liveness::{ANSWER_TIMEOUT, Liveness};
use super::work::INSPECT_AFTER;

impl Core {
    pub(super) fn on_freeze_seen(&mut self, since: Option<Timestamp>) {
        match (self.frozen, since) {
            (None, Some(since)) => {
                self.frozen = Some(since);
                self.record(Fact::Frozen { since });
                self.push(Effect::ObeyFreeze);
            }
            // Whoever starts while we look may have escaped the first time.
            (Some(_), Some(_)) => self.push(Effect::ObeyFreeze),
            (Some(_), None) => {
                self.frozen = None;
                self.record(Fact::Thawed);
                self.push(Effect::ObeyFreeze);
                self.begin_patience_anew();
            }
            (None, None) => {}
        }
    }

    pub(super) fn freeze_answer(&self) -> Answer {
        let message = if self.frozen.is_some() { "everything is frozen" } else { "everything goes on" };
        Answer::Accepted { message: message.to_owned() }
    }

    /// Counts no second of the freeze for anybody.
    fn begin_patience_anew(&mut self) {
        let now = self.now;
        let agents: Vec<_> = self.agents.keys().cloned().collect();
        for agent in agents {
            let slice = self.start_slice(&agent);
            let Some(live) = self.agents.get_mut(&agent) else { continue };
            live.begin_anew(now);
            match &mut live.state {
                Liveness::Spawning { deadline, .. } => *deadline = now + ANSWER_TIMEOUT,
                Liveness::Starting { deadline, .. } => *deadline = now + slice,
                Liveness::Up { last_beat, .. } => last_beat.at = now,
                Liveness::Suspect { pane, last_beat, activity, .. } => {
                    last_beat.at = now;
                    let up = Liveness::Up { pane: pane.clone(), last_beat: *last_beat, activity: activity.clone() };
                    self.enter(&agent, News::ReadyBeat, up);
                }
                Liveness::Absent
                | Liveness::Stopping { .. }
                | Liveness::Clearing { .. }
                | Liveness::BackingOff { .. }
                | Liveness::Held(_) => {}
            }
        }
        for watch in self.orders.values_mut() {
            watch.inspect_at = now + INSPECT_AFTER;
            watch.struck_at = now;
            watch.strikes = 0;
        }
    }
}
