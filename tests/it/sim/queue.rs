//! The merge queue: what is merged was checked on just the commit below it, one after another, in the order in which it was
//! finished, also when somebody else lets the target branch go on meanwhile.

use miyabi::core::effect::Merge;
use miyabi::core::event::MergeResult;
use miyabi::core::fact::Recorded;
use miyabi::model::id::{RepositoryName, TaskId};
use miyabi::model::plan::MergeMode;
use miyabi::model::report::{CheckResult, Outcome, Report};

use super::agent::repository_of;
use super::scenario::repository_name;
use super::world::World;

/// How often somebody else lets the target branch go on before a merge, in parts per million.
const FOREIGN: u32 = 250_000;

/// The repository with a queue. All its commits have a check.
pub(super) const QUEUED: &str = "app";

impl World {
    /// A world in which one repository has a merge queue, and orders are submitted more than once.
    pub(super) fn queued(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.keyed = true;
        for plan in [&mut world.plan, &mut world.full] {
            for repository in plan.repositories.iter_mut().filter(|found| found.name.as_str() == QUEUED) {
                repository.merge = MergeMode::Queue;
            }
        }
        world
    }

    fn is_queued(&self, name: &RepositoryName) -> bool {
        self.full.repository(name).is_some_and(|found| found.merge == MergeMode::Queue)
    }

    /// Called after a fact: who waits for the merge now, behind whom.
    pub(super) fn follow_line(&mut self, recorded: &Recorded) {
        let Some(task) = recorded.fact.tell().task else { return };
        let Some(record) = self.shadow.tasks.get(&task) else { return };
        let waits = record.waits_for_merge();
        let Some(name) = repository_of(&record.spec.repository).cloned() else { return };
        let line = self.checks.lines.entry(name).or_default();
        let stands = line.iter().position(|(other, run)| *other == task && *run == record.run);
        match (waits, stands) {
            (true, None) => {
                line.retain(|(other, _)| *other != task);
                line.push((task, record.run));
            }
            (false, Some(at)) => drop(line.remove(at)),
            (true, Some(_)) | (false, None) => line.retain(|(other, run)| *other != task || *run == record.run),
        }
    }

    /// Called when a merge is about to be carried out.
    pub(super) fn disturb(&mut self, merge: &Merge) {
        if self.is_queued(&merge.repository) && !self.calm && self.queue_rng.chance(FOREIGN) {
            let part = self.queue_rng.next() % 3;
            self.tell(|| "  git: somebody else pushes".to_owned());
            self.git.push_foreign(&merge.repository, part);
        }
    }

    /// Called when a report is about to be taken.
    pub(super) fn note_proof(&mut self, report: &Report) {
        let passed = !report.checks.is_empty() && report.checks.iter().all(CheckResult::passed);
        if let (Outcome::Done, true, Some(commit), Some(base)) = (report.outcome, passed, &report.commit, &report.base)
        {
            self.checks.proven.insert((commit.clone(), base.clone()));
        }
    }

    /// Called after a step of a queue.
    pub(super) fn check_queue_step(&mut self, merge: &Merge, result: &MergeResult) {
        if !self.is_queued(&merge.repository) || !matches!(result, MergeResult::Merged { .. } | MergeResult::Rebased(_))
        {
            return;
        }
        let first = self.checks.lines.get(&merge.repository).and_then(|line| line.first().cloned());
        if first != Some((merge.task.clone(), merge.run)) {
            self.checks.fail(format!("{} is merged, and it is the turn of {first:?}", merge.task));
        }
        let MergeResult::Merged { commit } = result else { return };
        let target = &self.git.repository(&merge.repository).target;
        let below = target.iter().position(|landed| landed.id == *commit).unwrap_or(usize::MAX);
        let proof = (commit.clone(), format!("base-{below}"));
        if !self.checks.proven.contains(&proof) {
            let text = format!("{} is merged as {commit} onto {}, and was not checked there", merge.task, proof.1);
            self.checks.fail(text);
        }
    }

    /// Called when a task is about to be checked again: that is for its merge, and only the first is.
    pub(super) fn check_recheck(&mut self, task: &TaskId) {
        let Some(record) = self.shadow.tasks.get(task) else { return };
        let rebased = record.rebased.clone();
        let first = self.checks.lines.get(&repository_name(QUEUED)).and_then(|line| line.first().cloned());
        if rebased.is_none() || first != Some((task.clone(), record.run)) {
            self.checks.fail(format!("{task} is to be checked again as {rebased:?}, and first is {first:?}"));
        }
    }
}
