//! Progress, watched apart from life: a runner can beat while its agent's program hangs.

use std::time::Duration;

use crate::model::agent::StallAnswer;
use crate::model::alert::{Alert, AlertKind};
use crate::model::beat::{Activity, Beat, Progress, Step};
use crate::model::id::{AgentId, EnvelopeId, TaskId};
use crate::model::span;
use crate::model::time::Timestamp;

use super::Core;
use super::effect::{Effect, Stop};
use super::fact::{DownCause, Fact};
use super::liveness::table::News;
use super::state::TaskRecord;

/// The processor time that counts as progress. A program that only waits uses less in its stall time.
const CPU_STEP_MS: u64 = 500;

/// How many messages an agent is sent about one stall.
const NUDGES_MAX: u32 = 3;

/// What is known of the progress of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Still {
    order: EnvelopeId,
    /// How far it was when it last came on.
    progress: Progress,
    /// For how long it has stood still. Counted from beat to beat, so that a clock that leaps counts for one beat only.
    still: Duration,
    seen_at: Timestamp,
    nudges: u32,
    answered: bool,
}

impl Still {
    const fn new(order: EnvelopeId, progress: Progress, now: Timestamp) -> Self {
        Self { order, progress, still: Duration::ZERO, seen_at: now, nudges: 0, answered: false }
    }

    pub(super) const fn begin_anew(&mut self, now: Timestamp) {
        *self = Self::new(self.order, self.progress, now);
    }

    const fn has_come_on(&self, to: &Progress) -> bool {
        let from = &self.progress;
        from.output_bytes != to.output_bytes
            || from.git_ms != to.git_ms
            || from.events != to.events
            || to.cpu_ms < from.cpu_ms
            || to.cpu_ms - from.cpu_ms >= CPU_STEP_MS
    }
}

impl Core {
    /// Notes what a beat says of the progress of its attempt, and answers a stall.
    pub(super) fn note_progress(&mut self, agent: &AgentId, beat: &Beat) {
        let now = self.now;
        let Some((task, order)) = self.index.open_order(agent).map(|(task, order)| (task.clone(), order)) else {
            if let Some(live) = self.agents.get_mut(agent) {
                live.still = None;
            }
            return;
        };
        let heartbeat = self.plan.agent(agent).map_or(Duration::ZERO, |spec| spec.heartbeat);
        let frozen = self.frozen.is_some();
        let Some(live) = self.agents.get_mut(agent) else { return };
        let progress = match (&beat.activity, beat.progress) {
            (Activity::Busy { order: of, step: Step::Running | Step::Checking, .. }, Some(progress))
                if *of == order =>
            {
                progress
            }
            // It waits for somebody, or does something of its own that has limits of its own.
            (
                Activity::Busy { .. }
                | Activity::WaitingForHuman { .. }
                | Activity::Limited { .. }
                | Activity::Starting
                | Activity::Idle
                | Activity::Stopped,
                _,
            ) => return live.begin_anew(now),
        };
        let still = live.still.filter(|still| still.order == order).unwrap_or(Still::new(order, progress, now));
        if still.has_come_on(&progress) || frozen {
            live.still = Some(Still::new(order, progress, now));
            if !frozen {
                self.clear_alert(&format!("{}/{task}", AlertKind::Stalled.as_str()));
            }
            return;
        }
        let passed = now.since(still.seen_at).min(heartbeat * 2);
        live.still = Some(Still { still: still.still + passed, seen_at: now, ..still });
        self.answer_stall(agent, &task);
    }

    fn answer_stall(&mut self, agent: &AgentId, task: &TaskId) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let Some(spec) = self.plan.agent(agent) else { return };
        let stall = record.spec.stall.unwrap_or(spec.stall);
        let wanted = record.spec.on_stall.unwrap_or(spec.on_stall);
        let attempt = record.attempt;
        let Some(live) = self.agents.get_mut(agent) else { return };
        let Some(still) = &mut live.still else { return };
        if still.answered || still.still < stall * (still.nudges + 1) {
            return;
        }
        let answer = match wanted {
            StallAnswer::Nudge if still.nudges < NUDGES_MAX => StallAnswer::Nudge,
            StallAnswer::Nudge | StallAnswer::Escalate => StallAnswer::Escalate,
            StallAnswer::Restart => StallAnswer::Restart,
        };
        match answer {
            StallAnswer::Nudge => still.nudges += 1,
            StallAnswer::Escalate | StallAnswer::Restart => still.answered = true,
        }
        let (since, nudges) = (still.still, still.nudges);
        let still_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let (task, agent) = (task.clone(), agent.clone());
        self.record(Fact::AttemptStalled { task: task.clone(), attempt, agent: agent.clone(), still_ms, answer });
        let shown = span::format(Duration::from_secs(since.as_secs()));
        match answer {
            StallAnswer::Nudge => {
                let text = format!(
                    "{task}: nothing was printed, committed or computed for {shown}. Go on, or say in your report what you wait \
                     for (message {nudges} of {NUDGES_MAX})."
                );
                self.push(Effect::Nudge { agent, text });
            }
            StallAnswer::Escalate => {
                let hint = format!("see `miyabi attach {agent}`, or give it up with `miyabi task cancel {task}`");
                let text = format!("{task} has shown no progress for {shown} at {agent}; {hint}");
                let kind = AlertKind::Stalled;
                let attempt = Some(attempt);
                self.raise(Alert { kind, agent: Some(agent), task: Some(task), attempt, since: self.now, text });
            }
            StallAnswer::Restart => self.stop(&agent, News::Hopeless, DownCause::Stalled, Stop::Term),
        }
    }

    /// Says for how long the current attempt of a task has stood still, once that is worth a word.
    pub(super) fn stands_still(&self, record: &TaskRecord) -> Option<Duration> {
        let current = record.current()?;
        let spec = self.plan.agent(&current.agent)?;
        let still = self.agents.get(&current.agent)?.still.filter(|still| still.order == current.envelope)?;
        (still.still >= record.spec.stall.unwrap_or(spec.stall)).then_some(still.still)
    }
}
