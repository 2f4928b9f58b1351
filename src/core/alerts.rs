//! Alerts: raised once, told once, and over by themselves or by an operator's verb.

use crate::model::alert::{Alert, AlertKind};
use crate::model::id::TaskId;
use crate::model::report::{FailureKind, Report};

use super::Core;
use super::effect::Effect;
use super::fact::{Fact, Hold};
use super::state::Phase;

/// How many alerts of dead tasks there may be at once: when everything fails, one more says nothing new.
pub(super) const DEAD_ALERTS_MAX: usize = 20;

impl Core {
    /// Raises an alert, unless it is raised.
    pub(super) fn raise(&mut self, alert: Alert) {
        if self.durable.alerts.contains_key(&alert.key()) {
            return;
        }
        // Recorded before it is told: after a crash in between it is shown, and not told twice.
        self.record(Fact::AlertRaised { alert: alert.clone() });
        if !self.plan.alert_command.is_empty() {
            self.push(Effect::Alert(alert));
        }
    }

    /// Ends an alert, if it is raised.
    pub(super) fn clear_alert(&mut self, key: &str) {
        if self.durable.alerts.contains_key(key) {
            self.record(Fact::AlertCleared { key: key.to_owned() });
        }
    }

    /// Raises an alert for an agent that was struck by one of its limits, and ends it with the agent's next attempt that was not.
    pub(super) fn note_strike(&mut self, report: &Report) {
        let struck = report.failure.and_then(strike);
        for kind in [AlertKind::OutOfMemory, AlertKind::TasksLimit] {
            let (task, agent) = (&report.task, &report.agent);
            let said = report.summary.lines().next().unwrap_or_default();
            let text =
                format!("{agent} at {task}: {said}; its `limits` are in agents.toml, see `miyabi report {task}`");
            let alert = Alert { kind, agent: Some(agent.clone()), task: None, attempt: None, since: self.now, text };
            // An alert of an agent that has left the team would be over at once.
            if struck == Some(kind) && self.plan.agent(agent).is_some() {
                self.raise(alert);
            } else {
                self.clear_alert(&alert.key());
            }
        }
    }

    /// Raises an alert for each crash loop, and ends those whose reason is gone.
    pub(super) fn settle_alerts(&mut self) {
        let looping: Vec<_> = self
            .durable
            .agents
            .iter()
            .filter(|(agent, record)| record.hold == Some(Hold::CrashLoop) && self.plan.agent(agent).is_some())
            .map(|(agent, record)| (agent.clone(), record.last_end.as_ref().map(|(_, text)| text.clone())))
            .collect();
        for (agent, last_end) in looping {
            let why = last_end.map_or_else(String::new, |text| format!("; the last time it {text}"));
            let text = format!("{agent} used up its restarts and stays down until `miyabi agent resume {agent}`{why}");
            let kind = AlertKind::CrashLoop;
            self.raise(Alert { kind, agent: Some(agent), task: None, attempt: None, since: self.now, text });
        }
        if self.is_failing()
            && let Some(text) = self.slowed()
        {
            let kind = AlertKind::Failures;
            self.raise(Alert { kind, agent: None, task: None, attempt: None, since: self.now, text });
        }
        self.tell_of_the_dead();
        let over: Vec<String> =
            self.durable.alerts.iter().filter(|(_, alert)| self.is_over(alert)).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.clear_alert(&key);
        }
    }

    /// Raises an alert for dead tasks of which the operator was not told.
    fn tell_of_the_dead(&mut self) {
        let told = self.durable.alerts.values().filter(|alert| alert.kind == AlertKind::Dead).count();
        let untold =
            |task: &&TaskId| !self.durable.alerts.contains_key(&format!("{}/{task}", AlertKind::Dead.as_str()));
        let room = DEAD_ALERTS_MAX.saturating_sub(told);
        if room == 0 {
            return;
        }
        let fresh: Vec<TaskId> = self.index.dead().filter(untold).take(room).cloned().collect();
        for task in fresh {
            let Some(Phase::Failed { reason, .. }) = self.durable.tasks.get(&task).map(|record| &record.phase) else {
                continue;
            };
            let said = reason.lines().next().unwrap_or_default();
            let text = format!(
                "{task} has used up its attempts: {said}; see `miyabi task show {task}`, then `miyabi task retry {task}` \
                 or `miyabi task cancel {task}`"
            );
            let kind = AlertKind::Dead;
            self.raise(Alert { kind, agent: None, task: Some(task), attempt: None, since: self.now, text });
        }
    }

    /// Says of runs that they are late.
    pub(super) fn wake_slas(&mut self) {
        for (due, task) in self.index.overdue(self.now) {
            self.record(Fact::SlaMissed { task: task.clone(), due });
            let text =
                format!("{task} should have been done by {due}; `miyabi task why {task}` says what it waits for");
            let kind = AlertKind::SlaMissed;
            self.raise(Alert { kind, agent: None, task: Some(task), attempt: None, since: self.now, text });
        }
    }

    fn is_over(&self, alert: &Alert) -> bool {
        match alert.kind {
            AlertKind::CrashLoop => alert
                .agent
                .as_ref()
                .is_none_or(|agent| self.hold_of(agent) != Some(Hold::CrashLoop) || self.plan.agent(agent).is_none()),
            AlertKind::Stalled => alert
                .task
                .as_ref()
                .and_then(|task| self.durable.tasks.get(task))
                .is_none_or(|record| record.phase != Phase::Queued || Some(record.attempt) != alert.attempt),
            AlertKind::OutOfMemory | AlertKind::TasksLimit => {
                alert.agent.as_ref().is_none_or(|agent| self.plan.agent(agent).is_none())
            }
            AlertKind::SlaMissed => alert
                .task
                .as_ref()
                .and_then(|task| self.durable.tasks.get(task))
                .is_none_or(|record| record.is_settled() || !record.sla_missed),
            AlertKind::Dead => alert.task.as_ref().is_none_or(|task| !self.index.is_dead(task)),
            AlertKind::Failures => !self.is_failing(),
            AlertKind::Circle => self.circles.iter().all(|circle| circle.first() != alert.task.as_ref()),
            AlertKind::ClaimLost => alert.task.as_ref().is_none_or(|task| self.is_claim_settled(task)),
            // The next look at the disk ends these.
            AlertKind::LowDisk | AlertKind::LowMemory | AlertKind::WorktreesFull => false,
        }
    }
}

const fn strike(kind: FailureKind) -> Option<AlertKind> {
    match kind {
        FailureKind::OutOfMemory => Some(AlertKind::OutOfMemory),
        FailureKind::TasksLimit => Some(AlertKind::TasksLimit),
        FailureKind::AgentFailed
        | FailureKind::AgentCrashed
        | FailureKind::NotStarted
        | FailureKind::NoCommit
        | FailureKind::CheckFailed
        | FailureKind::ProtectedPath
        | FailureKind::TimedOut
        | FailureKind::Infrastructure
        | FailureKind::NoSpace
        | FailureKind::Limited
        | FailureKind::Refused => None,
    }
}
