//! agents.toml is changed while everybody works.

use miyabi::core::event::Event;
use miyabi::core::fact::DownCause;
use miyabi::core::state::Phase;
use miyabi::model::agent::AgentSpec;
use miyabi::model::id::AgentId;
use miyabi::model::request::RequestId;

use super::world::{Happening, MINUTE, SECOND, World};

impl World {
    /// Changes the file; mostly somebody then asks for it to be read, else the next start does.
    pub(super) fn team_is_edited(&mut self) {
        if self.calm {
            return;
        }
        let after = self.team_rng.between(5 * MINUTE, 40 * MINUTE);
        self.soon(after, Happening::TeamEdited);
        let index = self.team_rng.below(self.plan.agents.len());
        let missing: Vec<AgentSpec> =
            self.full.agents.iter().filter(|spec| self.plan.agent(&spec.id).is_none()).cloned().collect();
        match self.team_rng.below(5) {
            0 if self.plan.agents.len() > 2 => {
                let gone = self.plan.agents.remove(index);
                self.checks.touched.insert(gone.id);
            }
            1 => {
                if let Some(back) = missing.first() {
                    self.checks.touched.insert(back.id.clone());
                    self.plan.agents.push(back.clone());
                }
            }
            2 => {
                let spec = &mut self.plan.agents[index];
                spec.command.push("--more".to_owned());
                self.checks.touched.insert(spec.id.clone());
            }
            3 => self.plan.agents[index].restart.intensity += 1,
            _ => self.plan.agents[index].timeout *= 2,
        }
        let names: Vec<&str> = self.plan.agents.iter().map(|spec| spec.id.as_str()).collect();
        let names = names.join(", ");
        self.tell(|| format!("agents.toml is changed: {names}"));
        if self.team_rng.chance(700_000) {
            self.ask_for_reload();
        }
    }

    /// The whole team comes back, so that all work can end.
    pub(super) fn team_is_whole(&mut self) {
        for spec in self.full.agents.clone() {
            if self.plan.agent(&spec.id).is_none() {
                self.checks.touched.insert(spec.id.clone());
                self.plan.agents.push(spec);
            }
        }
        self.dag.mend();
        self.ask_for_reload();
    }

    fn ask_for_reload(&mut self) {
        let id = RequestId(u64::try_from(self.requests.len()).unwrap());
        self.requests.insert(id, false);
        let (life, branches, files) = (self.life, self.branches(), self.dag.files());
        let event = Event::PlanRead { id, plan: Box::new(self.plan.clone()), files, branches };
        self.soon(SECOND / 10, Happening::News { life, event: Box::new(event) });
    }

    /// Returns with which settings an agent is started now: those in force, else those of the file.
    pub(super) fn settings_of(&self, agent: &AgentId) -> AgentSpec {
        let in_force = self.core.as_ref().and_then(|core| core.plan().agent(agent));
        let found = in_force.or_else(|| self.plan.agent(agent)).or_else(|| self.full.agent(agent));
        found.expect("only agents of some plan are started").clone()
    }

    /// A changed or removed agent is only ended when that costs nobody's work; unchanged ones feel nothing.
    pub(super) fn check_change(&mut self, agent: &AgentId, cause: &DownCause) {
        let reconfigured = *cause == DownCause::Reconfigured;
        if !reconfigured && *cause != DownCause::Removed {
            return;
        }
        if !self.checks.touched.contains(agent) {
            self.checks.fail(format!("{agent} was not changed and ended: it {}", cause.text()));
        }
        let spoiled = self.shadow.tasks.iter().find(|(_, record)| {
            record.phase == Phase::Queued
                && record
                    .current()
                    .is_some_and(|current| current.agent == *agent && (reconfigured || current.started.is_some()))
        });
        if let Some((task, _)) = spoiled {
            let text = format!("{agent} had {task} when it ended: it {}", cause.text());
            self.checks.fail(text);
        }
    }

    /// In the end everybody runs with the settings in force, and nobody else runs.
    pub(super) fn check_team(&mut self) {
        let Some(core) = &self.core else { return };
        let odd = self
            .panes
            .values()
            .filter(|pane| pane.alive)
            .find(|pane| core.plan().agent(&pane.agent).is_none_or(|spec| !pane.spec.runs_like(spec)));
        if let Some(pane) = odd {
            let text = format!("{} runs with settings that are not in force", pane.agent);
            self.checks.fail(text);
        }
        if core.plan().agents.len() != self.full.agents.len() {
            self.checks.fail("the team is not whole in the end");
        }
    }
}
