//! The stages of a run: nobody reviews own work while another is there, nothing is merged before its review, nothing is
//! deployed before it is merged, and reviews come to an end.

use miyabi::core::effect::Merge;
use miyabi::core::fact::Then;
use miyabi::core::stages::stages_of;
use miyabi::core::state::TaskRecord;
use miyabi::model::id::{AgentId, Role, StageName, TaskId};
use miyabi::model::order::{Expects, WorkOrder};
use miyabi::model::plan::{Plan, Workflow};
use miyabi::model::report::{AgentReport, Comment, Outcome, Report};
use miyabi::model::stage::{Stage, StageKind};

use super::agent::repository_of;
use super::world::World;
use crate::rng::Rng;

/// Draws what a run goes through. In some worlds whoever writes code reviews it as well.
pub(super) fn draw(rng: &mut Rng, plan: &mut Plan) {
    let role = |text: &str| Role::new(text).unwrap();
    let mut stages = vec![StageKind::Code.stage()];
    if rng.chance(600_000) {
        let reviewer = if rng.chance(400_000) { "codegen" } else { "review" };
        stages.push(Stage { kind: StageKind::Review, role: role(reviewer) });
    }
    if rng.chance(400_000) {
        stages.push(Stage { kind: StageKind::Deploy, role: role("codegen") });
    }
    let rounds_max = u32::try_from(rng.between(1, 4)).unwrap();
    plan.workflow = Workflow { stages, rounds_max, ..Workflow::default() };
}

impl World {
    /// Returns what an agent writes of a change that it reviews.
    pub(super) fn verdict(&mut self, order: &WorkOrder, claim: AgentReport) -> AgentReport {
        if order.expects != Expects::Verdict {
            return claim;
        }
        let outcome = match self.stage_rng.below(if self.calm { 3 } else { 4 }) {
            0 => Some(Outcome::ChangesRequested),
            1 | 2 => Some(Outcome::Done),
            _ => None,
        };
        let comments = vec![Comment { path: None, line: None, text: "better".to_owned() }];
        AgentReport { outcome, comments, ..claim }
    }

    fn role_at(&self, kind: StageKind) -> Role {
        let plan = self.core.as_ref().map_or(&self.plan, |core| core.plan());
        let found = plan.workflow.stages.iter().find(|stage| stage.kind == kind);
        found.map_or_else(|| kind.role(), |stage| stage.role.clone())
    }

    fn has_stage(&self, record: &TaskRecord, kind: StageKind) -> bool {
        let plan = self.core.as_ref().map_or(&self.plan, |core| core.plan());
        stages_of(plan, &record.spec).iter().any(|stage| stage.kind == kind)
    }

    /// Called when an attempt is about to be queued; the shadow is the state before it.
    pub(super) fn check_stage(&mut self, task: &TaskId, stage: &StageName, agent: &AgentId) {
        let Some(record) = self.shadow.tasks.get(task).cloned() else { return };
        if *stage == StageKind::Recheck.name() {
            return self.check_recheck(task);
        }
        let kind: StageKind = stage.as_str().parse().unwrap();
        let works_as = self.settings_of(agent).role;
        match kind {
            StageKind::Code => {}
            StageKind::Review => {
                if works_as != self.role_at(kind) {
                    self.checks.fail(format!("{task} is to be reviewed by {agent}, whose role is {works_as}"));
                }
                self.check_reviewer(task, &record, agent);
            }
            StageKind::PullRequest => {
                self.checks.fail(format!("{task} is at {stage}, and nothing here is a pull request"));
            }
            // It is no stage of a workflow.
            StageKind::Recheck => {}
            StageKind::Deploy => {
                let target = repository_of(&record.spec.repository).cloned().map(|name| self.git.repository(&name));
                let is_there = target
                    .zip(record.merged.as_ref())
                    .is_some_and(|(repository, merged)| repository.target.iter().any(|landed| landed.id == *merged));
                if !is_there {
                    self.checks.fail(format!("{task} is to be deployed, and {:?} is not merged", record.merged));
                }
            }
        }
    }

    fn check_reviewer(&mut self, task: &TaskId, record: &TaskRecord, agent: &AgentId) {
        let newest = record.attempts.iter().rev().find(|attempt| attempt.stage == StageKind::Code.name());
        // Whoever takes an earlier result has not made an attempt of its own: the work is that of the run that has.
        let earlier = record.reused.as_ref().and_then(|_| record.change()).map(|change| change.agent.clone());
        let Some(author) = newest.map(|attempt| attempt.agent.clone()).or(earlier) else {
            return self.checks.fail(format!("{task} is to be reviewed, and nobody has made anything"));
        };
        let role = self.role_at(StageKind::Review);
        let plan = self.core.as_ref().map_or(&self.plan, |core| core.plan());
        let failed = record.current().filter(|last| last.stage != StageKind::Code.name()).map(|last| &last.agent);
        let other = plan.agents.iter().find(|spec| {
            spec.role == role
                && spec.id != author
                && Some(&spec.id) != failed
                && self.shadow.agents.get(&spec.id).is_some_and(|record| record.hold.is_none() && !record.down)
        });
        if let Some(other) = other.filter(|_| author == *agent) {
            let text = format!("{task} is to be reviewed by {agent}, whose work it is, and {} is there", other.id);
            self.checks.fail(text);
        }
    }

    /// Called when a report is about to be taken; the shadow is the state before it.
    pub(super) fn check_step(&mut self, report: &Report, then: &Then) {
        let Some(record) = self.shadow.tasks.get(&report.task).cloned() else { return };
        let is_review = report.stage == StageKind::Review.name();
        let looked_at = self.spool.orders.get(&report.order).and_then(|filed| filed.order.workplace.clone()?.start);
        match (is_review, then) {
            (true, Then::Rework) => {
                let rounds = self.checks.rounds.entry((report.run, record.fingerprint.clone())).or_default();
                *rounds += 1;
                if *rounds >= self.full.workflow.rounds_max {
                    let text =
                        format!("{} has had {rounds} reviews that ask for changes, and gets another", report.task);
                    self.checks.fail(text);
                }
                if report.outcome != Outcome::ChangesRequested {
                    self.checks.fail(format!("{} goes back, and its review said {:?}", report.task, report.outcome));
                }
            }
            (true, Then::Redo) => self.checks.fail(format!("{} is thrown back by a review", report.task)),
            (true, Then::Done | Then::Merge | Then::Stage { .. }) => {
                if report.outcome != Outcome::Done {
                    self.checks.fail(format!("{} goes on, and its review said {:?}", report.task, report.outcome));
                }
                if let Some(start) = looked_at {
                    self.checks.reviewed.insert((report.run, start.commit));
                }
            }
            (false, Then::Rework) => self.checks.fail(format!("{} goes back without a review", report.task)),
            (false, Then::Done) if report.commit.is_some() && self.has_stage(&record, StageKind::Review) => {
                self.checks.fail(format!("{} is done without a review", report.task));
            }
            (true | false, Then::Retry { .. } | Then::GiveUp)
            | (false, Then::Done | Then::Merge | Then::Redo | Then::Stage { .. }) => {}
        }
    }

    /// Called after a merge: what is reviewed was reviewed at this commit.
    pub(super) fn check_reviewed(&mut self, merge: &Merge) {
        let Some(record) = self.shadow.tasks.get(&merge.task).filter(|record| record.run == merge.run).cloned() else {
            return;
        };
        if self.has_stage(&record, StageKind::Review)
            && !self.checks.reviewed.contains(&(merge.run, merge.commit.clone()))
        {
            self.checks.fail(format!("{} is merged, and nobody has reviewed {}", merge.task, merge.commit));
        }
    }
}
