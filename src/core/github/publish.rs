//! What is written: for each task the difference between what should stand on GitHub and what is known to stand there.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::Core;
use crate::core::fact::Fact;
use crate::core::state::{Phase, TaskRecord};
use crate::model::claim::Hold;
use crate::model::github::{
    Closed, Labelling, Publish, Pull, PullState, Trouble, Write, WriteKind, Written, branch_of,
};
use crate::model::id::{RunId, TaskId};
use crate::model::plan::MergeMode;
use crate::model::report::Report;
use crate::model::time::Timestamp;

use super::claim::{Claiming, Standing};
use super::intake::is_ended_by_issue;
use super::state::{GithubFact, TaskOnGithub};
use super::{Again, Call, Following, GithubEffect, Place, WRITE_MAX, Writing, fence, outbox, report};

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

    /// Finds what is to be written first: of what may be tried now, claims that agents wait for and those that are about to end, then
    /// branches, labels, comments and states, and last the claims that are only renewed.
    fn next_due(&mut self) -> Option<(Timestamp, TaskId, WriteKind)> {
        let now = self.now;
        let mut best: Option<(Timestamp, u8, WriteKind, TaskId)> = None;
        let (mut clean, mut unclaimed, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for task in &self.github.dirty {
            let due = self.due(task);
            found.extend(self.found_label(task).map(|label| (task.clone(), label)));
            if due.is_empty() {
                clean.push(task.clone());
                if self.must_claim_first(task) {
                    unclaimed.push(task.clone());
                }
            }
            for kind in due {
                let again = self.github.again.get(&(task.clone(), kind)).map_or(now, |again| again.at.max(now));
                // Nobody begins without a claim, and there are never more of these than agents that could.
                let is_urgent = kind == WriteKind::Claim && (self.is_pressing(task) || self.held(task).is_none());
                let rank = u8::from(!is_urgent);
                let candidate = (again, rank, kind, task.clone());
                if best.as_ref().is_none_or(|best| candidate < *best) {
                    best = Some(candidate);
                }
            }
        }
        for task in clean {
            self.github.dirty.remove(&task);
        }
        self.want_claims(unclaimed);
        for (task, label) in found {
            self.record_github(GithubFact::Labelled { task, label: Some(label) });
        }
        best.map(|(at, _, kind, task)| (at, task, kind))
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
        if self.leftover(task).is_some() {
            due.push(WriteKind::Withdraw);
        }
        if self.labelling(task).is_some() {
            due.push(WriteKind::Label);
        }
        let standing = self.standing(task);
        if !record.is_settled() && !matches!(standing, Standing::Needless | Standing::Held) {
            // What is not claimed is neither published nor spoken of.
            if matches!(self.github.claims.get(task), Some(Claiming::Free { .. })) {
                due.push(WriteKind::Claim);
            }
            return due;
        }
        let commit = record.change().and_then(|report| report.commit.as_ref());
        let published = on.published.as_ref().filter(|(run, _)| *run == record.run).map(|(_, commit)| commit);
        // With a claim that is about to end nothing is begun that may take long.
        let is_worn = self.is_worn(task) && !self.lets_go(task);
        if self.is_published(task) && commit.is_some() && published != commit && !is_worn {
            due.push(WriteKind::Publish);
        }
        if published.is_some() && on.status.as_ref() != published {
            due.push(WriteKind::Status);
        }
        if self.says_something_new(task, record, on) {
            due.push(WriteKind::Comment);
        } else if is_worn {
            due.push(WriteKind::Claim);
        }
        due
    }

    /// Says whether the comment of a run does not say what it should.
    fn says_something_new(&self, task: &TaskId, record: &TaskRecord, on: &TaskOnGithub) -> bool {
        let Some(text) = on.issue.as_ref().and_then(|_| report::comment(self, task, record, on)) else { return false };
        let comment = on.comment.as_ref().filter(|(run, ..)| *run == record.run);
        if self.needs_claim(task) && record.is_settled() {
            if comment.is_none() && !self.speaks_first(task, record) {
                return false;
            }
            // The claim is given up with the last word.
            if on.claim.as_ref().is_some_and(|claim| claim.run == record.run) {
                return true;
            }
        }
        let gives_up = on.note.is_some() && self.lets_go(task);
        gives_up || comment.is_none_or(|(_, _, said)| *said != fence::print_of_text(&text))
    }

    /// Says whether the end of a run of which nothing was said is worth a comment: not where the issue itself has ended it, and not
    /// where another orchestra speaks.
    fn speaks_first(&self, task: &TaskId, record: &TaskRecord) -> bool {
        let is_told_elsewhere = matches!(self.github.claims.get(task), Some(Claiming::Elsewhere { .. }));
        match &record.phase {
            Phase::Cancelled { reason, .. } => {
                !is_told_elsewhere && !is_ended_by_issue(reason) && record.attempts.is_empty()
            }
            Phase::Waiting { .. }
            | Phase::Queued
            | Phase::Merging { .. }
            | Phase::Done { .. }
            | Phase::Failed { .. } => !is_told_elsewhere,
        }
    }

    /// Says whether the newest commit of a run is in its pull request.
    pub(super) fn is_published_now(&self, task: &TaskId) -> bool {
        let Some(record) = self.durable.tasks.get(task) else { return false };
        let commit = record.change().and_then(|report| report.commit.as_ref());
        let published = self.durable.github.tasks.get(task).and_then(|on| on.published.as_ref());
        published.is_some_and(|(run, published)| *run == record.run && Some(published) == commit)
    }

    fn begin(&mut self, task: &TaskId, kind: WriteKind) {
        let Some((write, print, commit)) = self.write_of(task, kind) else { return };
        let Some(run) = self.durable.tasks.get(task).map(|record| record.run) else { return };
        let Some(repository) = self.repository_of(task) else { return };
        let Some(slug) = repository.github.as_ref().map(|on| on.slug.clone()) else { return };
        let repository = repository.name.clone();
        let issue = self.durable.github.tasks.get(task).and_then(|on| on.issue.as_ref()).map(|issue| issue.number);
        // It counts from here on, and what is pushed is known to be ours, whatever becomes of us.
        let pushed = commit.clone().filter(|_| kind == WriteKind::Publish);
        let label = match &write {
            Write::Label(how) => Some(how.clone()),
            Write::Publish(_)
            | Write::Comment { .. }
            | Write::Claim { .. }
            | Write::Withdraw { .. }
            | Write::Status { .. } => None,
        };
        let added = match &label {
            Some(Labelling::Add(label)) => Some(label.clone()),
            Some(Labelling::Remove(_)) | None => None,
        };
        self.record_github(GithubFact::WriteBegun { task: task.clone(), kind, commit: pushed, label: added });
        let (began, deadline) = (self.now, self.now + WRITE_MAX);
        let known = match &write {
            Write::Comment { known, .. } | Write::Claim { known, .. } => *known,
            Write::Publish(_) | Write::Withdraw { .. } | Write::Status { .. } | Write::Label(_) => None,
        };
        let over = self.claim_line(task).map(|line| line.over).unwrap_or_default();
        let writing = Writing { task: task.clone(), run, kind, began, deadline, known, over, print, commit, label };
        self.github.writing = Some(writing);
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
            WriteKind::Comment | WriteKind::Claim => {
                let text = report::text(self, task, record, on);
                let known = on.comment.as_ref().filter(|(run, ..)| *run == record.run).map(|(_, id, _)| *id);
                let print = fence::print_of_text(&text);
                let line = self.claim_line(task);
                let body = line.as_ref().map_or_else(|| text.clone(), |line| line.put_into(&text, self.now));
                let is_claimed = on.claim.as_ref().is_some_and(|claim| claim.run == record.run);
                let write = if line.is_some() && !record.is_settled() {
                    // A claim is born with its comment: none is put into one that has none.
                    let known = known.filter(|_| self.held(task).is_some());
                    Write::Claim { kind, known, body }
                } else if record.is_settled() && is_claimed && known.is_some() {
                    // The last look at what is there: a comment that was taken for lost may have come since.
                    Write::Claim { kind, known, body }
                } else {
                    Write::Comment { known, marker: report::marker(record.run), body }
                };
                Some((write, print, None))
            }
            WriteKind::Withdraw => {
                self.leftover(task).map(|comment| (Write::Withdraw { comment }, String::new(), None))
            }
            WriteKind::Label => self.labelling(task).map(|how| (Write::Label(how), String::new(), None)),
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
            claimant: self.claimant(task).filter(|_| self.needs_claim(task)),
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
                match (written, writing.commit.clone()) {
                    (Written::Published(pull), Some(commit)) => self.on_published(&task, commit, pull),
                    (Written::Commented(comment), _) => self.on_commented(&task, run, comment, writing),
                    (Written::Claimed(comment, claims), _) => self.on_claim_written(&task, comment, &claims, &writing),
                    (Written::Withdrawn(comment), _) => self.on_withdrawn(&task, comment),
                    (Written::StatusSet, Some(commit)) => {
                        self.record_github(GithubFact::StatusSet { task, commit });
                    }
                    (Written::Labelled, _) => {
                        if let Some(how) = writing.label {
                            self.on_labelled(&task, &how);
                        }
                    }
                    (Written::Published(_) | Written::StatusSet, None) => {}
                }
            }
            Err(trouble) => self.on_not_written(&task, &writing, &trouble),
        }
    }

    fn on_commented(&mut self, task: &TaskId, run: RunId, comment: u64, writing: Writing) {
        self.record_github(GithubFact::Commented { task: task.clone(), run, comment, print: writing.print });
        self.give_claim_up(task, run);
    }

    /// Notes that a claim has been given up with what was just written.
    pub(super) fn give_claim_up(&mut self, task: &TaskId, run: RunId) {
        let is_claimed = self.durable.github.tasks.get(task).is_some_and(|on| on.claim.is_some());
        if is_claimed && self.claim_line(task).is_none_or(|line| line.hold == Hold::Done) {
            let reason = "its run has ended, or has not begun".to_owned();
            self.record_github(GithubFact::ClaimEnded { task: task.clone(), run, reason });
        }
    }

    fn on_withdrawn(&mut self, task: &TaskId, comment: u64) {
        self.record_github(GithubFact::CommentWithdrawn { task: task.clone(), comment });
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

    pub(super) fn park(&mut self, task: &TaskId, reason: String) {
        if let Some(TaskRecord { phase: Phase::Merging { parked }, .. }) = self.durable.tasks.get(task)
            && parked.as_ref() != Some(&reason)
        {
            self.record(Fact::MergeParked { task: task.clone(), reason });
        }
    }

    fn on_not_written(&mut self, task: &TaskId, writing: &Writing, trouble: &Trouble) {
        let kind = writing.kind;
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
        let is_gone = matches!(trouble, Trouble::Refused { status: 404 | 410, .. });
        if let (WriteKind::Comment | WriteKind::Claim, Some(comment), true) = (kind, writing.known, is_gone) {
            // Somebody has deleted it, and the claim with it.
            self.github.again.remove(&(task.clone(), kind));
            self.record_github(GithubFact::CommentWithdrawn { task: task.clone(), comment });
        }
        if matches!(kind, WriteKind::Publish | WriteKind::Claim) {
            // Whether a claim was made or is lost is seen before anything else is tried.
            self.doubt_claim(task);
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
        let mut starting: BTreeMap<Place, BTreeSet<TaskId>> = BTreeMap::new();
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
            let place = (repository, target);
            match self.github.following.get_mut(&place).filter(|following| following.deadline > now) {
                Some(following) => drop(following.late.insert(task)),
                None => drop(starting.entry(place).or_default().insert(task)),
            }
        }
        // Two of them on one branch would only be in each other's way, and one answers for all that were merged before it.
        for (place, tasks) in starting {
            let Some(task) = tasks.first().cloned() else { continue };
            let (repository, target) = place.clone();
            let late = BTreeSet::new();
            self.github
                .following
                .insert(place, Following { task: task.clone(), tasks, late, deadline: now + WRITE_MAX });
            self.push_github(GithubEffect::CatchUp { task, repository, target });
        }
    }

    fn is_merged_on_github(&self, task: &TaskId) -> bool {
        let pull = self.durable.github.tasks.get(task).and_then(|on| on.pull.as_ref());
        self.is_published(task) && matches!(pull, Some(Pull { state: PullState::Merged { .. }, .. }))
    }

    pub(super) fn on_caught_up(&mut self, task: &TaskId, result: &Result<String, String>) {
        let of = self.github.following.iter().find(|(_, following)| following.task == *task);
        let Some(following) = of.map(|(place, _)| place.clone()).and_then(|place| self.github.following.remove(&place))
        else {
            return;
        };
        for task in &following.tasks {
            self.catch_up_with(task, result);
        }
        for late in following.late {
            if let Some(again) = self.github.catching.get_mut(&late) {
                again.at = self.now;
            }
        }
    }

    fn catch_up_with(&mut self, task: &TaskId, result: &Result<String, String>) {
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
                    Some(PullState::Merged { commit: None } | PullState::Open | PullState::Closed) | None => {
                        tip.clone()
                    }
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
