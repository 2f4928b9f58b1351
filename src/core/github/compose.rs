//! What the task of an issue is: its text and its edges from GitHub, and on top what a dependency file says of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::Core;
use crate::core::fact::Origin;
use crate::core::state::Phase;
use crate::model::github::{Issue, IssueRef, foreign_task, number_of, task_of};
use crate::model::id::{RepositoryName, TaskId};
use crate::model::plan::RepositorySpec;
use crate::model::task::{Assignee, EdgeSource, NoChange, RepositoryChoice, TaskSpec, Work};

use super::intake::{Read, is_open};
use super::{fence, mentions, route};

/// Why a task is cancelled when no file lists its issue any more, which does not have the label either.
pub(super) const UNLISTED: &str = "its file no longer lists the issue, which lacks the label";

/// Why a task is cancelled when its issue is only watched from now on.
pub(super) const EXTERNAL: &str = "its file says that the issue is only watched";

/// The needs of a task that GitHub says.
type Said = BTreeMap<TaskId, BTreeSet<EdgeSource>>;

impl Core {
    pub(super) fn spec_of_issue(&self, found: &Read<'_>) -> TaskSpec {
        let Read { repository, issue, task, of } = found;
        let work = Work::Prompt(fence::prompt(self.durable.seed, issue, of));
        self.compose(task, &repository.name, issue, self.said_by(found), work)
    }

    /// Puts together what labels, the file, and commands in comments say; whoever said it last, by hand, counts most.
    fn compose(&self, task: &TaskId, repository: &RepositoryName, issue: &Issue, said: Said, work: Work) -> TaskSpec {
        let routed = route::route(issue, &self.plan.github, &self.first_role());
        let on = self.durable.github.tasks.get(task);
        let listed = self.durable.issues.get(task).map(|listed| &listed.spec);
        let assignee = on
            .and_then(|on| on.agent.clone())
            .map(Assignee::Agent)
            .or_else(|| listed.and_then(|listed| listed.assignee.clone()))
            .unwrap_or(routed.assignee);
        let priority = on
            .and_then(|on| on.priority)
            .or_else(|| listed.and_then(|listed| listed.priority))
            .unwrap_or(routed.priority);
        let mut needs: BTreeSet<TaskId> = said.keys().cloned().collect();
        needs.extend(listed.into_iter().flat_map(|listed| &listed.needs).filter(|need| *need != task).cloned());
        let usual = TaskSpec {
            needs: needs.into_iter().collect(),
            said,
            priority,
            sla: listed.and_then(|listed| listed.sla).or(routed.sla),
            ..TaskSpec::plain(assignee, work, RepositoryChoice::Named(repository.clone()))
        };
        let Some(listed) = listed else { return usual };
        TaskSpec {
            checks: listed.checks.clone(),
            no_change: listed.no_change.unwrap_or(NoChange::Refused),
            timeout: listed.timeout,
            stall: listed.stall,
            on_stall: listed.on_stall,
            retry: listed.retry.clone(),
            pools: listed.pools.clone(),
            touches: listed.touches.clone(),
            on_failure: listed.on_failure,
            cache: listed.cache,
            stages: listed.stages.clone(),
            ..usual
        }
    }

    /// Collects what GitHub says that an issue needs.
    fn said_by(&self, found: &Read<'_>) -> Said {
        let Read { issue, task, of, .. } = found;
        let mut said = Said::new();
        let mut add = |of: &IssueRef, source: EdgeSource| {
            if let Some(need) = self.task_of_issue(of).filter(|need| need != task) {
                said.entry(need).or_default().insert(source);
            }
        };
        for blocker in &issue.blocked_by {
            add(blocker, EdgeSource::BlockedBy);
        }
        for child in &issue.sub_issues {
            add(child, EdgeSource::SubIssue);
        }
        if self.plan.github.body_depends {
            for (slug, number) in mentions::find(&issue.body) {
                let slug = slug.unwrap_or_else(|| of.slug.clone());
                add(&IssueRef { slug, number }, EdgeSource::Body);
            }
        }
        // GitHub closes an issue as soon as its pull request is merged, and our branch, on which the work would begin, follows
        // a moment later.
        let record = self.durable.tasks.get(task);
        let listed = self.durable.issues.get(task).map(|listed| listed.spec.needs.as_slice()).unwrap_or_default();
        for need in record.into_iter().flat_map(|record| &record.spec.needs) {
            let is_merging =
                |need| self.durable.tasks.get(need).is_some_and(|record| matches!(record.phase, Phase::Merging { .. }));
            if is_merging(need) && !said.contains_key(need) {
                match record.and_then(|record| record.spec.said.get(need)) {
                    Some(sources) => said.insert(need.clone(), sources.clone()),
                    None if listed.contains(need) => None,
                    None => said.insert(need.clone(), BTreeSet::from([EdgeSource::BlockedBy])),
                };
            }
        }
        said
    }

    /// Names the task that an issue is, whether or not it is ours.
    pub(super) fn task_of_issue(&self, issue: &IssueRef) -> Option<TaskId> {
        match self.home_of(issue) {
            Some(repository) => task_of(&repository.name, issue.number),
            None => foreign_task(issue),
        }
    }

    /// Finds the repository of an issue among ours. GitHub does not tell apart names by case.
    pub(super) fn home_of(&self, issue: &IssueRef) -> Option<&RepositorySpec> {
        let is_home = |repository: &&RepositorySpec| {
            repository.github.as_ref().is_some_and(|on| on.slug.as_str().eq_ignore_ascii_case(issue.slug.as_str()))
        };
        self.plan.repositories.iter().find(is_home)
    }

    /// Finds the issue that a need stands for; nothing if it is a task of another kind.
    pub(in crate::core) fn issue_of(&self, task: &TaskId) -> Option<IssueRef> {
        if let Some(listed) = self.durable.issues.get(task) {
            return Some(listed.issue.clone());
        }
        if let Some(record) = self.durable.tasks.get(task) {
            return match &record.origin {
                Origin::Issue { issue } => Some(issue.clone()),
                Origin::File { .. } | Origin::Submitted | Origin::Healer { .. } => None,
            };
        }
        let (place, number) = number_of(task)?;
        if let Some(repository) = self.plan.repositories.iter().find(|repository| repository.name.as_str() == place) {
            return Some(IssueRef { slug: repository.github.as_ref()?.slug.clone(), number });
        }
        let slug = place.replacen('.', "/", 1).parse().ok()?;
        Some(IssueRef { slug, number })
    }

    /// Says whether an id stands for an issue of one of our repositories, or for one that a file lists.
    pub(in crate::core) fn is_issue_of_ours(&self, task: &TaskId) -> bool {
        self.durable.issues.contains_key(task)
            || self.issue_of(task).is_some_and(|issue| self.home_of(&issue).is_some())
    }

    /// Makes the task of an issue agree with what files say of it since they were changed. Whatever GitHub has to be asked for
    /// is asked before the task is begun.
    pub(in crate::core) fn reconsider(&mut self, task: &TaskId) {
        self.github.watch.remove(task);
        self.github.known_at.remove(task);
        self.github.is_watch_stale = true;
        let Some(record) = self.durable.tasks.get(task) else { return };
        let Origin::Issue { issue: of } = record.origin.clone() else { return };
        let Some(repository) = self.home_of(&of).cloned() else { return };
        let Some(seen) = self.github.seen.get(task).cloned() else { return };
        let labelled = repository.github.as_ref().is_some_and(|on| route::trigger(&seen, on).is_some());
        let listed = self.durable.issues.get(task);
        let reason = match listed {
            Some(listed) if listed.spec.external => Some(EXTERNAL),
            None if !labelled => Some(UNLISTED),
            Some(_) | None => None,
        };
        if let Some(reason) = reason {
            if is_open(record) {
                self.cancel(task, reason);
            }
            return;
        }
        if !is_open(record) {
            return;
        }
        let newest = record.pending.as_ref().map_or(&record.spec, |(spec, _)| spec);
        let spec = self.compose(task, &repository.name, &seen, newest.said.clone(), newest.work.clone());
        let branches = self.branches.clone();
        self.adopt_spec(task, Origin::Issue { issue: of }, &spec, &branches);
    }
}
