//! The team: what a new reading of agents.toml changes, and what the supervisor found of it when it came back.

use std::collections::BTreeSet;

use crate::model::agent::AgentSpec;
use crate::model::fault::Fault;
use crate::model::id::AgentId;
use crate::model::plan::Plan;
use crate::model::request::{Answer, RefusalKind, RequestId};
use crate::model::task::TaskFile;

use super::Core;
use super::dag;
use super::effect::{Effect, Stop};
use super::event::{Branches, FileRead};
use super::fact::{DownCause, Fact, Hold};
use super::index::Index;
use super::liveness::table::News;
use super::liveness::{Live, Liveness};

impl Core {
    /// Puts a new reading of agents.toml and of the dependency files in force, or none of it.
    pub(super) fn on_plan_read(&mut self, id: RequestId, plan: Plan, files: Vec<FileRead>, branches: &Branches) {
        let answer = match self.refusal_of(&plan, &files) {
            Some(refusal) => refusal,
            None => {
                let message = self.change_team(plan);
                self.on_dag_read(files, branches);
                Answer::Accepted { message }
            }
        };
        self.push(Effect::Answer { id, answer });
    }

    fn refusal_of(&self, plan: &Plan, files: &[FileRead]) -> Option<Answer> {
        let refused =
            |kind, reason: String, hint: &str| Some(Answer::Refused { reason, hint: Some(hint.to_owned()), kind });
        if self.drain.is_some() {
            return refused(RefusalKind::NotNow, "the supervisor is going down".to_owned(), "the next start reads it");
        }
        if plan.session != self.plan.session {
            let reason = format!(
                "agents.toml asks for another tmux session: `{}` at socket `{}` instead of `{}` at `{}`",
                plan.session.name, plan.session.socket, self.plan.session.name, self.plan.session.socket
            );
            return refused(RefusalKind::NotNow, reason, "that needs `miyabi down`, then a new start");
        }
        let faults = self.faults_of(files);
        let first = faults.first()?;
        let place = &first.place;
        let more = if faults.len() > 1 { format!(", and {} more faults", faults.len() - 1) } else { String::new() };
        let reason = format!("{}:{}:{}: {}{more}", place.file, place.line, place.column, first.message);
        refused(RefusalKind::Invalid, reason, "nothing has changed; `miyabi dag check` shows every fault")
    }

    /// Finds what is wrong with the dependency files, each for itself and all together.
    fn faults_of(&self, files: &[FileRead]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut good: Vec<TaskFile> = Vec::new();
        for file in files {
            match file {
                FileRead::Good(file) => good.push(file.clone()),
                FileRead::Bad { faults: found, .. } => faults.extend(found.iter().cloned()),
            }
        }
        if faults.is_empty() {
            faults = dag::check(&good, &self.durable.tasks.keys().cloned().collect());
        }
        faults.sort();
        faults
    }

    /// Takes a plan over and tells what it changes. What follows for each agent is decided by [`Core::steer`].
    fn change_team(&mut self, plan: Plan) -> String {
        let old = std::mem::replace(&mut self.plan, plan);
        let added: Vec<AgentId> = missing_in(&old, &self.plan);
        let removed: Vec<AgentId> = missing_in(&self.plan, &old);
        let (mut outdated, mut adjusted) = (Vec::new(), Vec::new());
        for spec in &self.plan.agents {
            match old.agent(&spec.id) {
                Some(before) if before == spec => {}
                Some(before) if before.runs_like(spec) => adjusted.push(spec.id.clone()),
                Some(_) => outdated.push(spec.id.clone()),
                None => {}
            }
        }
        for agent in &added {
            // One that is still on its way out is started again when it is gone.
            self.agents.entry(agent.clone()).or_insert_with(|| Live::new(Liveness::Absent, self.now)).outdated = true;
        }
        for agent in &outdated {
            if let Some(live) = self.agents.get_mut(agent) {
                live.outdated = true;
            }
            // Its budget was used up by settings that are no longer in force.
            if self.hold_of(agent) == Some(Hold::CrashLoop) {
                self.record(Fact::AgentReleased { agent: agent.clone() });
                if matches!(self.agents.get(agent).map(|live| &live.state), Some(Liveness::Held(_))) {
                    self.enter(agent, News::Released, Liveness::Absent);
                }
            }
        }
        self.index = Index::build(&self.durable, &self.plan, self.now);
        if old.github.claim_label != self.plan.github.claim_label {
            self.reconsider_labels();
        }
        let text = told(&added, &removed, &outdated, &adjusted, old == self.plan);
        if old != self.plan {
            self.record(Fact::TeamChanged { text: text.clone() });
        }
        text
    }

    /// Ends agents that are no longer in the team, or that run with settings of yesterday, as soon as they are free.
    /// Returns whether it has dealt with the agent.
    pub(super) fn steer_out(&mut self, agent: &AgentId) -> bool {
        let Some(live) = self.agents.get(agent) else { return true };
        let (removed, outdated) = (self.plan.agent(agent).is_none(), live.outdated);
        match &live.state {
            Liveness::Absent | Liveness::BackingOff { .. } | Liveness::Held(_) if removed => {
                self.agents.remove(agent);
                true
            }
            // A removed agent that was just found may be at work: its first beat tells.
            Liveness::Up { .. } | Liveness::Suspect { .. } if removed && !self.has_begun_order(agent) => {
                self.stop(agent, News::Held, DownCause::Removed, Stop::Term);
                true
            }
            Liveness::Starting { .. } | Liveness::Up { .. } | Liveness::Suspect { .. }
                if outdated && !removed && self.index.open_order(agent).is_none() =>
            {
                self.stop(agent, News::Held, DownCause::Reconfigured, Stop::Term);
                true
            }
            Liveness::Absent
            | Liveness::Spawning { .. }
            | Liveness::Starting { .. }
            | Liveness::Up { .. }
            | Liveness::Suspect { .. }
            | Liveness::Stopping { .. }
            | Liveness::Clearing { .. }
            | Liveness::BackingOff { .. }
            | Liveness::Held(_) => false,
        }
    }
}

/// Says whether a pane that was found runs with other settings than those in force; unknown is no reason to restart it.
pub(super) fn is_outdated(launched: Option<&AgentSpec>, spec: Option<&AgentSpec>) -> bool {
    matches!((launched, spec), (Some(launched), Some(spec)) if !launched.runs_like(spec))
}

fn missing_in(plan: &Plan, other: &Plan) -> Vec<AgentId> {
    let present: BTreeSet<&AgentId> = plan.agents.iter().map(|spec| &spec.id).collect();
    other.agents.iter().map(|spec| &spec.id).filter(|id| !present.contains(id)).cloned().collect()
}

fn told(added: &[AgentId], removed: &[AgentId], outdated: &[AgentId], adjusted: &[AgentId], same: bool) -> String {
    let parts = [
        ("added", added),
        ("leaving as soon as free", removed),
        ("started again as soon as idle", outdated),
        ("changed at once", adjusted),
    ];
    let told: Vec<String> = parts
        .iter()
        .filter(|(_, agents)| !agents.is_empty())
        .map(|(what, agents)| {
            let names: Vec<&str> = agents.iter().map(AgentId::as_str).collect();
            format!("{what}: {}", names.join(", "))
        })
        .collect();
    match (told.is_empty(), same) {
        (true, true) => "nothing has changed in agents.toml".to_owned(),
        (true, false) => "agents.toml is in force; no agent is touched".to_owned(),
        (false, _) => told.join("; "),
    }
}
