//! What is written: for each task the difference between what should stand on GitHub and what is known to stand there.

use crate::core::Core;
use crate::core::fact::Fact;
use crate::core::state::{Phase, TaskRecord};
use crate::model::github::{Closed, Publish, Pull, PullState, Trouble, Write, WriteKind, Written, branch_of};
use crate::model::id::TaskId;
use crate::model::plan::MergeMode;
use crate::model::report::Report;
use crate::model::time::Timestamp;

use super::state::{GithubFact, TaskOnGithub};
use super::{Again, Call, GithubEffect, WRITE_MAX, Writing, fence, outbox, report};

impl Core {
    /// Returns the tasks that are to be published.
    pub(super) fn published_tasks(&self) -> Vec<TaskId> {
        self.durable.tasks.keys().filter(|task| self.is_published(task)).cloned().collect()
    }

    /// Says whether a task is proven and waits for its pull request.
    pub(super) fn is_published(&self, task: &TaskId) -> bool {
        matches!(self.durable.tasks.get(task), Some(TaskRecord { phase: Phase::Merging { .. }, .. }))
            && self.merges_by_pull_request(task)
    }

    /// Says whether a task's repository takes commits by pull requests.
    pub(in crate::core) fn merges_by_pull_request(&self, task: &TaskId) -> bool {
        self.repository_of(task).is_some_and(|repository| repository.merge == MergeMode::PullRequest)
    }

    /// Begins the next write, if one is due; else notes when one will be.
    pub(super) fn begin_write(&mut self) {
        self.github.write_at = None;
        if let Some(writing) = &self.github.writing {
            if writing.deadline > self.now {
                return;
            }
            self.github.writing = None;
        }
        let open = outbox::next_write(&self.durable.github.begun, &self.plan.github.pace, self.now);
        let open = open.max(self.paused_until());
        if open > self.now {
            // What is to be written is made up only when something may be: that looks at every task that has changed.
            self.github.write_at = (!self.github.dirty.is_empty()).then_some(open);
            return;
        }
        while let Some((ready, task, kind)) = self.next_due() {
            if ready > self.now {
                self.github.write_at = Some(ready);
                return;
            }
            self.begin(&task, kind);
            if self.github.writing.is_some() {
                return;
            }
            // Nothing can be written of it any more.
            self.github.dirty.remove(&task);
        }
    }

    /// Finds what is to be written first: of what may be tried now, branches before comments before states.
    fn next_due(&mut self) -> Option<(Timestamp, TaskId, WriteKind)> {
        let now = self.now;
        let mut best: Option<(Timestamp, WriteKind, TaskId)> = None;
        let mut clean = Vec::new();
        for task in &self.github.dirty {
            let due = self.due(task);
            if due.is_empty() {
                clean.push(task.clone());
            }
            for kind in due {
                let again = self.github.again.get(&(task.clone(), kind)).map_or(now, |again| again.at.max(now));
                let candidate = (again, kind, task.clone());
                if best.as_ref().is_none_or(|best| candidate < *best) {
                    best = Some(candidate);
                }
            }
        }
        for task in clean {
            self.github.dirty.remove(&task);
        }
        best.map(|(at, kind, task)| (at, task, kind))
    }

    /// Counts what is to be written, the write under way included.
    pub(super) fn writes_waiting(&self) -> usize {
        self.github.dirty.iter().map(|task| self.due(task).len()).sum()
    }

    /// Lets everything that did not go through for a task be tried again now.
    pub(in crate::core) fn write_again(&mut self, task: &TaskId) {
        self.github.again.retain(|(of, _), _| of != task);
        self.touch_github(task);
        if let Some(again) = self.github.catching.get_mut(task) {
            again.at = self.now;
        }
    }

    /// Returns what is to be written for a task.
    fn due(&self, task: &TaskId) -> Vec<WriteKind> {
        let mut due = Vec::new();
        let Some(record) = self.durable.tasks.get(task) else { return due };
        let none = TaskOnGithub::default();
        let on = self.durable.github.tasks.get(task).unwrap_or(&none);
        if self.repository_of(task).is_none_or(|repository| repository.github.is_none()) {
            return due;
        }
        let commit = record.change().and_then(|report| report.commit.as_ref());
        let published = on.published.as_ref().filter(|(run, _)| *run == record.run).map(|(_, commit)| commit);
        if self.is_published(task) && commit.is_some() && published != commit {
            due.push(WriteKind::Publish);
        }
        if published.is_some() && on.status.as_ref() != published {
            due.push(WriteKind::Status);
        }
        if on.issue.is_some()
            && let Some(text) = report::comment(self, task, record, on)
        {
            let print = fence::print_of_text(&text);
            let same = on.comment.as_ref().is_some_and(|(run, _, said)| *run == record.run && *said == print);
            if !same {
                due.push(WriteKind::Comment);
            }
        }
        due
    }

    fn begin(&mut self, task: &TaskId, kind: WriteKind) {
        let Some((write, print, commit)) = self.write_of(task, kind) else { return };
        let Some(repository) = self.repository_of(task) else { return };
        let Some(slug) = repository.github.as_ref().map(|on| on.slug.clone()) else { return };
        let repository = repository.name.clone();
        let issue = self.durable.github.tasks.get(task).and_then(|on| on.issue.as_ref()).map(|issue| issue.number);
        // It counts from here on, and what is pushed is known to be ours, whatever becomes of us.
        let pushed = commit.clone().filter(|_| kind == WriteKind::Publish);
        self.record_github(GithubFact::WriteBegun { task: task.clone(), kind, commit: pushed });
        let deadline = self.now + WRITE_MAX;
        self.github.writing = Some(Writing { task: task.clone(), kind, deadline, print, commit });
        self.push_github(GithubEffect::Write { task: task.clone(), repository, slug, issue, write });
    }

    fn write_of(&self, task: &TaskId, kind: WriteKind) -> Option<(Write, String, Option<String>)> {
        let record = self.durable.tasks.get(task)?;
        let none = TaskOnGithub::default();
        let on = self.durable.github.tasks.get(task).unwrap_or(&none);
        match kind {
            WriteKind::Publish => {
                let report = record.change()?;
                let commit = report.commit.clone()?;
                let publish = self.publish(task, record, on, report)?;
                Some((Write::Publish(Box::new(publish)), String::new(), Some(commit)))
            }
            WriteKind::Comment => {
                let body = report::comment(self, task, record, on)?;
                let known = on.comment.as_ref().filter(|(run, ..)| *run == record.run).map(|(_, id, _)| *id);
                let print = fence::print_of_text(&body);
                Some((Write::Comment { known, marker: report::marker(record.run), body }, print, None))
            }
            WriteKind::Status => {
                let (_, commit) = on.published.clone()?;
                let report = record.change()?;
                let write = Write::Status { commit: commit.clone(), description: report::status(report) };
                Some((write, String::new(), Some(commit)))
            }
        }
    }

    fn publish(&self, task: &TaskId, record: &TaskRecord, on: &TaskOnGithub, report: &Report) -> Option<Publish> {
        let kind = self.repository_of(task)?.github.as_ref()?.pull_request;
        Some(Publish {
            commit: report.commit.clone()?,
            from: report.branch.clone()?,
            branch: on.issue.as_ref().map_or_else(|| format!("auto-code/{task}"), |issue| branch_of(issue.number)),
            ours: on.pushed.clone(),
            base: record.target.clone()?,
            title: report::pull_title(task, record, on),
            body: report::pull_body(self, task, record, on, report),
            kind,
            closed: if on.closed_in.is_some_and(|run| run != record.run) { Closed::Reopen } else { Closed::Ask },
        })
    }

    pub(super) fn on_written(&mut self, task: &TaskId, kind: WriteKind, written: Result<Written, Trouble>) {
        let Some(writing) = self.github.writing.take_if(|writing| writing.task == *task && writing.kind == kind) else {
            return;
        };
        let Some(run) = self.durable.tasks.get(task).map(|record| record.run) else { return };
        let task = task.clone();
        match written {
            Ok(written) => {
                self.github.limited.remove(&Call::Write);
                self.github.again.remove(&(task.clone(), kind));
                match (written, writing.commit) {
                    (Written::Published(pull), Some(commit)) => self.on_published(&task, commit, pull),
                    (Written::Commented(comment), _) => {
                        self.record_github(GithubFact::Commented { task, run, comment, print: writing.print });
                    }
                    (Written::StatusSet, Some(commit)) => {
                        self.record_github(GithubFact::StatusSet { task, commit });
                    }
                    (Written::Published(_) | Written::StatusSet, None) => {}
                }
            }
            Err(trouble) => self.on_not_written(&task, kind, &trouble),
        }
    }

    fn on_published(&mut self, task: &TaskId, commit: String, pull: Pull) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let run = record.run;
        let current = record.change().and_then(|report| report.commit.clone());
        if current.as_ref() != Some(&commit) {
            // Another run began meanwhile: the branch is ours, the commit is not what is wanted any more.
            self.record_github(GithubFact::PullChanged { task: task.clone(), run, pull });
            return;
        }
        self.record_github(GithubFact::Published { task: task.clone(), run, commit, pull });
        self.park_at_pull(task);
    }

    /// Says what a proven task waits for, now that its pull request is as it is.
    pub(super) fn park_at_pull(&mut self, task: &TaskId) {
        let Some(pull) = self.durable.github.tasks.get(task).and_then(|on| on.pull.clone()) else { return };
        match &pull.state {
            PullState::Open => {
                self.park(task, format!("pull request #{} waits to be merged: {}", pull.number, pull.url));
            }
            PullState::Closed => self.park(
                task,
                format!(
                    "pull request #{} was closed without a merge; reopen it, retry or cancel the task",
                    pull.number
                ),
            ),
            PullState::Merged { .. } => {
                let again = Again { at: self.now, times: 0, reason: String::new() };
                self.github.catching.insert(task.clone(), again);
            }
        }
    }

    fn park(&mut self, task: &TaskId, reason: String) {
        if let Some(TaskRecord { phase: Phase::Merging { parked }, .. }) = self.durable.tasks.get(task)
            && parked.as_ref() != Some(&reason)
        {
            self.record(Fact::MergeParked { task: task.clone(), reason });
        }
    }

    fn on_not_written(&mut self, task: &TaskId, kind: WriteKind, trouble: &Trouble) {
        let key = (task.clone(), kind);
        let times = self.github.again.get(&key).map_or(1, |again| again.times.saturating_add(1));
        let wait = match trouble {
            Trouble::Limited { until, reason } => {
                self.pause(Call::Write, *until, reason);
                self.paused_until().since(self.now)
            }
            Trouble::Unsure { .. } => outbox::unsure_wait(times),
            Trouble::Refused { .. } | Trouble::Stopped { .. } => outbox::refused_wait(times),
        };
        self.github.again.insert(key, Again { at: self.now + wait, times, reason: trouble.to_string() });
        if kind == WriteKind::Publish {
            self.park(task, format!("it cannot be published: {trouble}"));
        }
    }

    /// Asks for the commits of merged pull requests.
    pub(super) fn begin_catching_up(&mut self) {
        let now = self.now;
        let waiting: Vec<TaskId> = self
            .github
            .dirty
            .iter()
            .filter(|task| !self.github.catching.contains_key(*task) && self.is_merged_on_github(task))
            .cloned()
            .collect();
        for task in waiting {
            self.github.catching.insert(task, Again { at: now, times: 0, reason: String::new() });
        }
        let due: Vec<TaskId> =
            self.github.catching.iter().filter(|(_, again)| again.at <= now).map(|(task, _)| task.clone()).collect();
        for task in due {
            let target = self.durable.tasks.get(&task).and_then(|record| record.target.clone());
            let repository = self.repository_of(&task).map(|repository| repository.name.clone());
            let (Some(target), Some(repository), true) = (target, repository, self.is_merged_on_github(&task)) else {
                self.github.catching.remove(&task);
                continue;
            };
            if let Some(again) = self.github.catching.get_mut(&task) {
                again.at = now + WRITE_MAX;
            }
            self.push_github(GithubEffect::CatchUp { task, repository, target });
        }
    }

    fn is_merged_on_github(&self, task: &TaskId) -> bool {
        let pull = self.durable.github.tasks.get(task).and_then(|on| on.pull.as_ref());
        self.is_published(task) && matches!(pull, Some(Pull { state: PullState::Merged { .. }, .. }))
    }

    pub(super) fn on_caught_up(&mut self, task: &TaskId, result: Result<String, String>) {
        if !self.is_merged_on_github(task) {
            self.github.catching.remove(task);
            return;
        }
        match result {
            Ok(tip) => {
                self.github.catching.remove(task);
                let pull = self.durable.github.tasks.get(task).and_then(|on| on.pull.as_ref());
                let commit = match pull.map(|pull| &pull.state) {
                    Some(PullState::Merged { commit: Some(commit) }) => commit.clone(),
                    Some(PullState::Merged { commit: None } | PullState::Open | PullState::Closed) | None => tip,
                };
                let Some(attempt) = self.durable.tasks.get(task).map(|record| record.attempt) else { return };
                let next = self.after_merge(task);
                self.record(Fact::Merged { task: task.clone(), attempt, commit, next });
            }
            Err(reason) => {
                let times = self.github.catching.get(task).map_or(1, |again| again.times + 1);
                let at = self.now + outbox::unsure_wait(times);
                self.github.catching.insert(task.clone(), Again { at, times, reason: reason.clone() });
                self.park(task, format!("its pull request is merged, but the local branch cannot follow: {reason}"));
            }
        }
    }
}
