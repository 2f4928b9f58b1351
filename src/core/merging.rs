//! Merging: what is finished goes onto its target branch, one after another in each repository, in the order in which it was
//! finished.
//!
//! In a queue (`merge = "queue"`) nothing is merged that was not checked on just the commit that the branch ends with. Whoever
//! is first is put onto that commit by the supervisor and checked there by a runner; meanwhile all others of the repository
//! wait. What does not hold there goes back to its author.

use std::time::Duration;

use crate::model::id::{RepositoryName, RunId, TaskId};
use crate::model::plan::MergeMode;
use crate::model::report::{CheckResult, FailureKind, Outcome, Report};
use crate::model::stage::StageKind;
use crate::model::task::{FailureClass, RepositoryChoice};
use crate::model::time::Timestamp;

use super::Core;
use super::effect::{Effect, Merge, Terms};
use super::event::MergeResult;
use super::fact::{AttemptCause, Fact, Then};
use super::snapshot::MergeQueue;
use super::stages::CONFLICT;
use super::state::{AttemptRecord, Phase, Rebased, TaskRecord};

/// How long a merge may take before it is asked for again.
const MERGE_TIMEOUT: Duration = Duration::from_secs(600);

/// The first and the longest wait between two tries of a merge that is parked.
const MERGE_RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How often one run's commit is put onto a target branch that has moved again while it was checked.
pub const REBASES_MAX: u32 = 20;

/// The one merge of a repository that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MergeUnderWay {
    pub(super) task: TaskId,
    pub(super) run: RunId,
    pub(super) attempt: u32,
    pub(super) deadline: Timestamp,
}

/// When a parked merge is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MergeRetry {
    pub(super) at: Timestamp,
    pub(super) wait: Duration,
}

/// Where a task stands in a merge queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergePlace {
    /// Of which repository.
    pub repository: RepositoryName,
    /// Its place, from 1.
    pub place: u32,
    /// Who is first.
    pub first: TaskId,
}

impl TaskRecord {
    /// Returns what the checks said of an attempt's commit where it would be merged, if it did not hold there.
    pub(super) fn failed_recheck(&self, made: &AttemptRecord) -> Option<&Report> {
        let recheck = self.attempts.iter().rev().find(|later| later.stage == StageKind::Recheck.name())?;
        let report = recheck.report.as_deref()?;
        (made.outcome_is(CONFLICT) && recheck.attempt > made.attempt && report.outcome == Outcome::Failed)
            .then_some(report)
    }
}

impl Core {
    /// Begins the merges that can begin: one per repository, in the order in which the work was finished.
    pub(super) fn merge_next(&mut self) {
        let now = self.now;
        let next: Vec<(RepositoryName, TaskId)> = self
            .idle_merges()
            .filter_map(|(repository, candidates)| {
                let task = candidates
                    .into_iter()
                    .find(|task| self.merge_retries.get(*task).is_none_or(|retry| retry.at <= now));
                task.map(|task| (repository.clone(), task.clone()))
            })
            .collect();
        for (repository, task) in next {
            self.begin_merge(&repository, &task);
        }
    }

    /// Returns when the next parked merge is tried again. While another merge of its repository is under way, the end of that is
    /// what is waited for.
    pub(super) fn next_merge_retry(&self) -> Option<Timestamp> {
        let candidates = self.idle_merges().flat_map(|(_, candidates)| candidates);
        candidates.filter_map(|task| self.merge_retries.get(task)).map(|retry| retry.at).min()
    }

    /// Returns who can be merged next in each repository in which no merge is under way. In a queue that is nobody but the first.
    fn idle_merges(&self) -> impl Iterator<Item = (&RepositoryName, Vec<&TaskId>)> {
        let idle = self.index.merging().filter(|(repository, _)| !self.merges.contains_key(*repository));
        idle.map(|(repository, tasks)| {
            let most = if self.is_queued(repository) { 1 } else { usize::MAX };
            let is_finished = |task: &&TaskId| {
                let phase = self.durable.tasks.get(*task).map(|record| &record.phase);
                matches!(phase, Some(Phase::Merging { .. }))
                    && !self.merges_by_pull_request(task)
                    && self.may_go_on(task)
            };
            (repository, tasks.take(most).filter(is_finished).collect())
        })
    }

    fn is_queued(&self, repository: &RepositoryName) -> bool {
        self.plan.repository(repository).is_some_and(|found| found.merge == MergeMode::Queue)
    }

    /// Returns where a task stands in the merge queue of its repository.
    #[must_use]
    pub fn merge_place(&self, task: &TaskId) -> Option<MergePlace> {
        let record = self.durable.tasks.get(task)?;
        let RepositoryChoice::Named(repository) = &record.spec.repository else { return None };
        if record.turn.is_none() || !self.is_queued(repository) {
            return None;
        }
        let (_, tasks) = self.index.merging().find(|(name, _)| *name == repository)?;
        let queue: Vec<&TaskId> = tasks.collect();
        let at = queue.iter().position(|other| *other == task)?;
        let place = u32::try_from(at + 1).unwrap_or(u32::MAX);
        Some(MergePlace { repository: repository.clone(), place, first: (*queue.first()?).clone() })
    }

    /// Returns the merge queues that are not empty: each repository's, first first.
    #[must_use]
    pub fn merge_queues(&self) -> Vec<MergeQueue> {
        let queues = self.index.merging().filter(|(repository, _)| self.is_queued(repository));
        queues
            .map(|(repository, tasks)| MergeQueue { repository: repository.clone(), tasks: tasks.cloned().collect() })
            .collect()
    }

    /// Says what a task in a merge queue waits for.
    pub(super) fn why_queued_to_merge(&self, task: &TaskId) -> Option<String> {
        let MergePlace { repository, place, first } = self.merge_place(task)?;
        if place == 1 {
            return Some(format!("it is the first in the merge queue of {repository}"));
        }
        let record = self.durable.tasks.get(&first)?;
        let what = match (&record.phase, record.stage()) {
            (Phase::Merging { parked: Some(reason) }, _) => format!("cannot be merged: {reason}"),
            (Phase::Queued, StageKind::Recheck) => "is being checked again".to_owned(),
            (_, StageKind::Recheck) => "waits to be checked again".to_owned(),
            (_, StageKind::Code | StageKind::Review | StageKind::PullRequest | StageKind::Deploy) => {
                "is being merged".to_owned()
            }
        };
        Some(format!("it is number {place} in the merge queue of {repository}; the first is {first}, which {what}"))
    }

    fn begin_merge(&mut self, repository: &RepositoryName, task: &TaskId) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let Some(report) = record.change() else { return };
        let (Some(commit), Some(base), Some(target)) = (&report.commit, &report.base, &record.target) else {
            let reason = "its report names no commit and base, or no branch to merge into".to_owned();
            self.fail(task, AttemptCause::Lost, reason);
            return;
        };
        // A commit that was recovered from an earlier attempt carries that attempt's number, as its branch does.
        let attempt_of_commit = report
            .branch
            .as_deref()
            .and_then(|branch| branch.rsplit('-').next())
            .and_then(|number| number.parse::<u32>().ok())
            .unwrap_or(report.attempt);
        let merge = Merge {
            task: task.clone(),
            run: record.run,
            attempt: record.attempt,
            repository: repository.clone(),
            target: target.clone(),
            commit: commit.clone(),
            base: base.clone(),
            // A result that was taken from another run carries that one's.
            trailer: format!("{}/{}/{attempt_of_commit}", report.run, report.stage),
            terms: self.terms(repository, record),
        };
        let deadline = self.now + MERGE_TIMEOUT;
        let under_way = MergeUnderWay { task: task.clone(), run: record.run, attempt: record.attempt, deadline };
        self.merges.insert(repository.clone(), under_way);
        self.push(Effect::Merge(merge));
    }

    /// Says what must hold of what is merged: where nothing would be checked, nothing needs to be checked again.
    fn terms(&self, repository: &RepositoryName, record: &TaskRecord) -> Terms {
        let (commands, detects) = self.checks_of(record);
        if self.is_queued(repository) && (detects || !commands.is_empty()) {
            Terms::Proven { rebased: record.rebased.clone() }
        } else {
            Terms::Fits
        }
    }

    /// Takes in what became of a merge; the answer of an earlier run says nothing of this one's commit.
    pub(super) fn on_merge_ended(&mut self, task: &TaskId, run: RunId, attempt: u32, result: MergeResult) {
        let under_way = self
            .merges
            .iter()
            .find(|(_, it)| it.task == *task && it.run == run && it.attempt == attempt)
            .map(|(repository, _)| repository.clone());
        let Some(repository) = under_way else { return };
        self.merges.remove(&repository);
        let Some(record) = self.durable.tasks.get(task) else { return };
        let Phase::Merging { parked } = &record.phase else { return };
        if record.run != run || record.attempt != attempt {
            return;
        }
        let same_reason = matches!((&result, parked), (MergeResult::NotNow { reason }, Some(held)) if reason == held);
        match result {
            MergeResult::Merged { commit } => {
                self.merge_retries.remove(task);
                let next = self.after_merge(task);
                self.record(Fact::Merged { task: task.clone(), attempt, commit, next });
            }
            MergeResult::Rebased(rebased) => {
                self.merge_retries.remove(task);
                self.on_rebased(task, rebased);
            }
            MergeResult::Gone { detail } => {
                self.merge_retries.remove(task);
                self.fail(task, AttemptCause::Conflict, format!("its commit is not there any more: {detail}"));
            }
            MergeResult::Conflict { detail } => {
                self.merge_retries.remove(task);
                self.fail(
                    task,
                    AttemptCause::Conflict,
                    format!("its commit conflicts with the target branch: {detail}"),
                );
            }
            MergeResult::NotNow { reason } => {
                let wait =
                    self.merge_retries.get(task).map_or(MERGE_RETRY.0, |retry| (retry.wait * 2).min(MERGE_RETRY.1));
                self.merge_retries.insert(task.clone(), MergeRetry { at: self.now + wait, wait });
                if !same_reason {
                    self.record(Fact::MergeParked { task: task.clone(), reason });
                }
            }
        }
    }

    /// Lets a commit be checked where it would be merged, unless that was done in vain too often.
    fn on_rebased(&mut self, task: &TaskId, rebased: Rebased) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let (attempt, Rebased { commit, onto }) = (record.attempt, rebased);
        if record.rebases < REBASES_MAX {
            self.record(Fact::Rebased { task: task.clone(), attempt, commit, onto });
            return;
        }
        let branch = record.target.clone().unwrap_or_default();
        let reason = format!("{branch} has moved {REBASES_MAX} times while the commit was checked");
        let (cause, then) = (AttemptCause::Conflict, Then::GiveUp);
        self.record(Fact::AttemptFailed { task: task.clone(), attempt, cause, reason, then });
        self.heal(task);
    }

    /// Decides what follows the checks of a commit where it would be merged.
    pub(super) fn after_recheck(&self, record: &TaskRecord, report: &Report) -> Then {
        let wanted = record.rebased.as_ref().map(|rebased| rebased.commit.as_str());
        let is_proven = report.outcome == Outcome::Done
            && report.checks.iter().all(CheckResult::passed)
            && wanted.is_some()
            && report.commit.as_deref() == wanted;
        if is_proven {
            return Then::Merge;
        }
        let kind = report.failure.unwrap_or(FailureKind::AgentFailed);
        if record.class_of(kind) != Some(FailureClass::Conflict) {
            return self.after_failure(record, report);
        }
        match self.retry(record, AttemptCause::Conflict) {
            Then::GiveUp => Then::GiveUp,
            Then::Done | Then::Merge | Then::Stage { .. } | Then::Rework | Then::Redo | Then::Retry { .. } => {
                Then::Redo
            }
        }
    }

    /// Asks again for merges whose answer is overdue.
    pub(super) fn wake_merges(&mut self) {
        let now = self.now;
        self.merges.retain(|_, under_way| under_way.deadline > now);
    }
}
