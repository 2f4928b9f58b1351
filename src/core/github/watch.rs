//! Single issues that are asked for: those that files list, those that tasks wait for and nobody works on, and what must be
//! known anew before a task is begun.

use crate::core::Core;
use crate::core::issues::FileIssue;
use crate::core::state::{Phase, TaskRecord};
use crate::model::github::{Issue, IssueRef, Trouble, Watch, WatchOne};
use crate::model::id::{RepositoryName, TaskId};
use crate::model::task::ResolvedWhen;
use crate::model::time::Timestamp;

use std::collections::BTreeMap;
use std::time::Duration;

use super::hint::Hints;
use super::intake::{GONE, Read, is_of_issue, is_open};
use super::state::GithubFact;
use super::{Again, Call, GithubEffect, ROUND_MAX, outbox};

/// How many issues are asked for at once.
const WATCH_MAX: usize = 100;

/// However often GitHub is asked, what was said so long ago is not asked for again.
const FRESH_MIN: Duration = Duration::from_secs(30);

/// An issue that is watched.
#[derive(Debug, Clone)]
pub(super) struct Watching {
    /// When it is asked for next.
    next: Timestamp,
    failures: u32,
    trouble: Option<String>,
}

impl Core {
    /// Asks for the issues whose turn it is, the longest overdue first.
    pub(super) fn begin_watch(&mut self) {
        if std::mem::take(&mut self.github.is_watch_stale) {
            self.choose_what_to_watch();
        }
        let now = self.now;
        let durable = &self.durable;
        let waits =
            |task: &TaskId| durable.tasks.get(task).is_none_or(|record| matches!(record.phase, Phase::Waiting { .. }));
        self.github.asks.retain(|task, _| waits(task));
        self.github.watch_under_way.take_if(|(asked, _)| *asked + ROUND_MAX <= now);
        if self.github.watch_under_way.is_some() || self.github.paused.is_some() {
            return;
        }
        let asks = self.github.asks.iter().map(|(task, ask)| (ask.at, task));
        let watched = self.github.watch.iter().map(|(task, it)| (it.next, task));
        let mut due: Vec<(Timestamp, &TaskId)> =
            asks.chain(watched).filter(|(at, task)| *at <= now && self.is_free_to_ask(task)).collect();
        due.sort_unstable();
        due.truncate(WATCH_MAX);
        due.sort_unstable_by_key(|(_, task)| *task);
        due.dedup_by_key(|(_, task)| *task);
        let issues: Vec<WatchOne> = due.into_iter().filter_map(|(_, task)| self.question(task)).collect();
        if issues.is_empty() {
            return;
        }
        let homes = issues.iter().filter_map(|one| self.home_of(&one.issue)).map(|home| home.name.clone()).collect();
        self.github.watch_under_way = Some((now, homes));
        self.push_github(GithubEffect::Watch { what: Watch { issues, asked: now } });
    }

    /// Says whether single issues of a repository are being asked for.
    pub(super) fn is_watching(&self, name: &RepositoryName) -> bool {
        self.github.watch_under_way.as_ref().is_some_and(|(_, homes)| homes.contains(name))
    }

    /// Says whether an issue can be asked for. An older answer must never come after a newer one, so of a repository only one is
    /// waited for.
    fn is_free_to_ask(&self, task: &TaskId) -> bool {
        self.home_name_of(task).is_none_or(|home| !self.is_in_round(&home) && !self.is_looking(&home))
    }

    /// Says whether a round of a repository is under way.
    pub(super) fn is_in_round(&self, name: &RepositoryName) -> bool {
        self.github.rounds.get(name).is_some_and(|round| round.under_way.is_some())
    }

    /// Says whether what a webhook has named in a repository is being looked at.
    pub(super) fn is_looking(&self, name: &RepositoryName) -> bool {
        self.github.hints.get(name).is_some_and(Hints::is_looking)
    }

    fn home_name_of(&self, task: &TaskId) -> Option<RepositoryName> {
        let issue = self.issue_of(task)?;
        self.home_of(&issue).map(|home| home.name.clone())
    }

    fn question(&self, task: &TaskId) -> Option<WatchOne> {
        let issue = self.issue_of(task)?;
        let listed = self.durable.issues.get(task);
        let merged = listed.is_some_and(|listed| listed.spec.resolved_when == Some(ResolvedWhen::Merged));
        let home = self.home_of(&issue).and_then(|repository| repository.github.as_ref());
        let is_work =
            listed.is_some_and(|listed| !listed.spec.external) || self.durable.tasks.get(task).is_some_and(is_of_issue);
        Some(WatchOne {
            issue,
            closely: home.is_some() && is_work,
            merged,
            labels: home.map(|on| on.labels.clone()).unwrap_or_default(),
            trust: self.plan.github.trust.clone(),
        })
    }

    /// Finds the issues that have to be watched one by one. What changes in our own repositories is also told by the rounds.
    fn choose_what_to_watch(&mut self) {
        let mut wanted: BTreeMap<TaskId, ()> = BTreeMap::new();
        for (task, listed) in &self.durable.issues {
            let is_settled = self.durable.tasks.get(task).is_some_and(TaskRecord::is_settled);
            if !is_settled || listed.is_resolved_by_itself() {
                wanted.insert(task.clone(), ());
            }
        }
        for record in self.durable.tasks.values().filter(|record| !record.is_settled()) {
            for need in &record.spec.needs {
                let is_idle = self.durable.tasks.get(need).is_none_or(|needed| {
                    is_of_issue(needed) && matches!(needed.phase, Phase::Cancelled { .. } | Phase::Failed { .. })
                });
                if is_idle && !wanted.contains_key(need) && self.issue_of(need).is_some() {
                    wanted.insert(need.clone(), ());
                }
            }
        }
        self.github.watch.retain(|task, _| wanted.contains_key(task));
        for task in wanted.into_keys() {
            let next = self.now;
            self.github.watch.entry(task).or_insert(Watching { next, failures: 0, trouble: None });
        }
    }

    /// Says whether other issues may have to be watched since something has happened to a task.
    pub(super) fn may_change_what_is_watched(&self, task: &TaskId) -> bool {
        let is_unknown = |need: &TaskId| self.github.watch.contains_key(need) || !self.durable.tasks.contains_key(need);
        let record = self.durable.tasks.get(task);
        self.github.watch.contains_key(task)
            || self.durable.issues.contains_key(task)
            || record.is_some_and(|record| {
                is_of_issue(record) && self.index.is_needed(task) || record.spec.needs.iter().any(is_unknown)
            })
    }

    /// Returns when something here is due next.
    pub(super) fn watch_wake(&self, paused: Timestamp) -> Option<Timestamp> {
        if let Some((asked, _)) = &self.github.watch_under_way {
            return Some(*asked + ROUND_MAX);
        }
        let asks = self.github.asks.iter().map(|(task, ask)| (ask.at, task));
        let all = asks.chain(self.github.watch.iter().map(|(task, watched)| (watched.next, task)));
        // What belongs to a repository that is being asked is asked for when that answer is here, or its time is over.
        let next = all.filter(|(_, task)| self.is_free_to_ask(task)).map(|(at, _)| at).min()?;
        Some(next.max(paused))
    }

    /// Takes in what became of a question. Answers that nobody waits for any more mean nothing.
    pub(super) fn on_watched(&mut self, asked: Timestamp, found: Vec<(IssueRef, Result<Box<Issue>, Trouble>)>) {
        if self.github.watch_under_way.take_if(|(under_way, _)| *under_way == asked).is_none() {
            return;
        }
        for (of, found) in found {
            let Some(task) = self.task_of_issue(&of) else { continue };
            match found {
                Ok(issue) => self.on_watched_one(&task, &of, &issue),
                Err(trouble) => self.on_watch_trouble(&task, &trouble),
            }
        }
    }

    fn on_watched_one(&mut self, task: &TaskId, of: &IssueRef, issue: &Issue) {
        self.github.limited.remove(&Call::Question);
        self.note_read(task, issue);
        let Some(repository) = self.home_of(of).cloned() else { return };
        let is_work = self.durable.issues.contains_key(task) || self.durable.tasks.contains_key(task);
        if is_work {
            self.consider(&Read { repository: &repository, issue, task: task.clone(), of: of.clone() });
        }
    }

    fn on_watch_trouble(&mut self, task: &TaskId, trouble: &Trouble) {
        let now = self.now;
        if let Trouble::Limited { until, reason } = trouble {
            self.pause(Call::Question, *until, reason);
            return;
        }
        let is_gone = matches!(trouble, Trouble::Refused { status: 404 | 410, .. });
        let text = if is_gone {
            "GitHub has no such issue, or the token may not see it".to_owned()
        } else {
            trouble.to_string()
        };
        let poll = self.plan.github.poll;
        if let Some(watched) = self.github.watch.get_mut(task) {
            watched.failures = watched.failures.saturating_add(1);
            watched.next = now + outbox::unsure_wait(watched.failures).max(poll);
            watched.trouble = Some(text.clone());
        }
        if let Some(ask) = self.github.asks.get_mut(task) {
            ask.times = ask.times.saturating_add(1);
            ask.at = now + outbox::unsure_wait(ask.times).max(poll);
            ask.reason = text;
        }
        if is_gone && self.durable.tasks.get(task).is_some_and(|record| is_of_issue(record) && is_open(record)) {
            self.cancel(task, GONE);
        }
    }

    /// Notes how an issue is, from whichever side it was read.
    pub(super) fn note_read(&mut self, task: &TaskId, issue: &Issue) {
        let now = self.now;
        let every = self.watch_every(task);
        self.github.asks.remove(task);
        let watched = self.github.watch.get_mut(task);
        let is_known =
            watched.is_some() || self.durable.tasks.contains_key(task) || self.github.seen.contains_key(task);
        if let Some(watched) = watched {
            *watched = Watching { next: now + every, failures: 0, trouble: None };
        }
        if is_known || self.durable.issues.contains_key(task) {
            self.github.known_at.insert(task.clone(), now);
        }
        let matters = self.index.is_needed(task) || self.durable.issues.contains_key(task);
        let how = self.how_resolved(task, issue);
        let known = self.durable.github.resolved.get(task);
        if (matters || known.is_some())
            && known != how.as_ref()
            && let Some(issue) = self.issue_of(task)
        {
            self.record_github(GithubFact::IssueResolved { task: task.clone(), issue, how });
        }
    }

    fn watch_every(&self, task: &TaskId) -> Duration {
        let is_home = self.issue_of(task).is_some_and(|issue| self.home_of(&issue).is_some());
        if is_home {
            self.plan.github.reconcile
        } else {
            outbox::poll_wait(self.plan.github.poll, self.scarcest_quota().as_ref(), self.now)
        }
    }

    /// Says why an issue does not hold up those who need it any more, if so.
    fn how_resolved(&self, task: &TaskId, issue: &Issue) -> Option<String> {
        match self.durable.issues.get(task).and_then(|listed| listed.spec.resolved_when.as_ref()) {
            Some(ResolvedWhen::Label(label)) => {
                super::route::has(issue, label).then(|| format!("has the label `{label}`"))
            }
            Some(ResolvedWhen::Merged) => issue.merged.then(|| "was closed by a merged pull request".to_owned()),
            Some(ResolvedWhen::Closed) | None => (!issue.open).then(|| "is closed".to_owned()),
        }
    }

    /// Returns the issues that must be asked for before a task is begun: a blocker that is closed or opened again does not touch
    /// whoever it blocks.
    pub(in crate::core) fn stale_issues(&self, task: &TaskId) -> Vec<TaskId> {
        if !self.plan.uses_github() {
            return Vec::new();
        }
        // Work that waits to be merged was finished before.
        let record = self.durable.tasks.get(task).filter(|record| !record.waits_for_merge());
        let Some(record) = record else { return Vec::new() };
        let bound = self.plan.github.poll.max(FRESH_MIN);
        let is_old = |task: &TaskId| self.github.known_at.get(task).is_none_or(|at| self.now.since(*at) > bound);
        let is_issue = |need: &TaskId| {
            let by_itself = self.durable.issues.get(need).is_some_and(FileIssue::is_resolved_by_itself);
            by_itself || !self.durable.tasks.contains_key(need) && self.issue_of(need).is_some()
        };
        let own = is_of_issue(record).then_some(task);
        let needs = record.spec.needs.iter().filter(|need| is_issue(need));
        own.into_iter().chain(needs).filter(|task| is_old(task)).cloned().collect()
    }

    /// Has issues asked for at once, unless that has just failed.
    pub(in crate::core) fn ask_first(&mut self, issues: Vec<TaskId>) {
        let at = self.now;
        for task in issues {
            self.github.asks.entry(task).or_insert(Again { at, times: 0, reason: String::new() });
        }
    }

    /// Says for people that issues are asked for before a task is begun.
    pub(in crate::core) fn why_asked_first(&self, issues: &[TaskId]) -> String {
        let names: Vec<&str> = issues.iter().map(TaskId::as_str).collect();
        let trouble = issues.iter().find_map(|task| self.github.asks.get(task).filter(|ask| !ask.reason.is_empty()));
        let trouble = trouble.map_or_else(String::new, |ask| format!(": {}", ask.reason));
        format!("waits until GitHub says how it stands with {}{trouble}", names.join(", "))
    }

    /// Says for people how an issue stands that nobody works on, as a fragment behind "needs X, which".
    pub(in crate::core) fn issue_text(&self, task: &TaskId) -> Option<String> {
        let issue = self.issue_of(task)?;
        if let Some(not) = self.github.untrusted.get(task) {
            return Some(format!("is not taken: {}", not.reason));
        }
        let trouble = self.github.watch.get(task).and_then(|watched| watched.trouble.as_ref());
        if let Some(trouble) = trouble {
            return Some(format!("cannot be asked for: {trouble}"));
        }
        if !self.github.known_at.contains_key(task) {
            return Some(format!("has not been read yet ({issue})"));
        }
        Some(match self.durable.issues.get(task).and_then(|listed| listed.spec.resolved_when.as_ref()) {
            Some(ResolvedWhen::Label(label)) => format!("lacks the label `{label}` ({issue})"),
            Some(ResolvedWhen::Merged) => format!("no merged pull request has closed ({issue})"),
            Some(ResolvedWhen::Closed) | None => format!("is open ({issue})"),
        })
    }
}
