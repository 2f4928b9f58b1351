//! What becomes of what was found: issues become tasks, comments become commands, merged pull requests end the wait.

use std::collections::BTreeSet;

use crate::core::Core;
use crate::core::fact::{Fact, Origin};
use crate::core::state::{Phase, TaskRecord};
use crate::model::github::{Comment, Discover, Found, Issue, IssueRef, Pull, PullState, Reach, Trouble, task_of};
use crate::model::id::{RepositoryName, TaskId};
use crate::model::plan::RepositorySpec;
use crate::model::request::{Answer, RequestId};
use crate::model::task::{Cache, RepositoryChoice, ResolvedWhen};
use crate::model::time::Timestamp;

use super::command::{self, Command};
use super::compose::{EXTERNAL, UNLISTED};
use super::route::{self, Trust};
use super::state::{Change, GithubFact};
use super::{Asked, Call, GithubEffect, NotTaken, ROUND_MAX, Sync, fence, outbox};

/// Why a task is cancelled when its issue was closed.
const CLOSED: &str = "its issue was closed";

/// Why a task is cancelled when its issue has lost the label.
const UNLABELLED: &str = "its issue has lost the label";

/// Why a task is cancelled when its issue is not found any more.
pub(super) const GONE: &str = "its issue is no longer open with the label (closed, transferred or deleted)";

/// Where an issue was read.
pub(super) struct Read<'f> {
    pub(super) repository: &'f RepositorySpec,
    pub(super) issue: &'f Issue,
    pub(super) task: TaskId,
    pub(super) of: IssueRef,
}

impl Core {
    /// Asks every repository whose turn it is.
    pub(super) fn begin_rounds(&mut self) {
        let names: Vec<RepositoryName> = self
            .plan
            .repositories
            .iter()
            .filter(|repository| repository.github.is_some())
            .map(|repository| repository.name.clone())
            .collect();
        self.github.rounds.retain(|name, _| names.contains(name));
        let paused = self.github.paused.is_some();
        for name in names {
            let now = self.now;
            let round = self.github.rounds.entry(name.clone()).or_default();
            if round.under_way.as_ref().is_some_and(|asked| asked.deadline <= now) {
                round.under_way = None;
                round.trouble = Some("the last round did not end in time".to_owned());
            }
            let is_asked = self.is_looking(&name) || self.is_watching(&name);
            let round = self.github.rounds.entry(name.clone()).or_default();
            if paused || is_asked || round.under_way.is_some() || round.next > now {
                continue;
            }
            let reach = match &round.since {
                Some(since) if round.next_all > now => Reach::Since(since.clone()),
                Some(_) | None => Reach::All,
            };
            let all = reach == Reach::All;
            if let Some(what) = self.discovery(&name, reach) {
                if let Some(round) = self.github.rounds.get_mut(&name) {
                    round.under_way = Some(Asked { at: now, deadline: now + ROUND_MAX, all });
                }
                self.push_github(GithubEffect::Discover { repository: name, what });
            }
        }
    }

    pub(super) fn discovery(&self, name: &RepositoryName, reach: Reach) -> Option<Discover> {
        let on_github = self.plan.repository(name)?.github.as_ref()?;
        let pulls = self
            .durable
            .github
            .tasks
            .iter()
            .filter(|(task, _)| self.repository_of(task).is_some_and(|found| found.name == *name))
            .filter_map(|(_, on)| on.pull.as_ref())
            .filter(|pull| !matches!(pull.state, PullState::Merged { .. }))
            .map(|pull| pull.number)
            .collect();
        let reviewed = self
            .durable
            .github
            .tasks
            .iter()
            .filter(|(task, _)| self.repository_of(task).is_some_and(|found| found.name == *name))
            .flat_map(|(_, on)| on.reviewed.iter().copied())
            .collect();
        let listed = self.durable.issues.values().filter(|listed| listed.issue.slug == on_github.slug);
        let work = listed.clone().filter(|listed| !listed.spec.external);
        let by_merge = listed.filter(|listed| listed.spec.resolved_when == Some(ResolvedWhen::Merged));
        Some(Discover {
            listed: work.map(|listed| listed.issue.number).collect(),
            by_merge: by_merge.map(|listed| listed.issue.number).collect(),
            slug: on_github.slug.clone(),
            labels: on_github.labels.clone(),
            trust: self.plan.github.trust.clone(),
            reach,
            comments_since: self.durable.github.comments.get(name).and_then(|comments| comments.since.clone()),
            pulls,
            reviewed,
            asked: self.now,
        })
    }

    /// Returns the repository that a task works in.
    pub(super) fn repository_of(&self, task: &TaskId) -> Option<&RepositorySpec> {
        match &self.durable.tasks.get(task)?.spec.repository {
            RepositoryChoice::None => None,
            RepositoryChoice::Named(name) => self.plan.repository(name),
        }
    }

    /// Has every repository asked at once, everything that is open; the answer comes when all have answered.
    pub(in crate::core) fn github_sync(&mut self, id: RequestId) -> Option<Answer> {
        if !self.plan.uses_github() {
            return Some(super::super::requests::invalid(
                "no repository is on GitHub",
                Some("write `github = \"owner/name\"` below a [[repository]] of agents.toml"),
            ));
        }
        let now = self.now;
        let mut left = BTreeSet::new();
        for repository in self.plan.repositories.iter().filter(|repository| repository.github.is_some()) {
            let round = self.github.rounds.entry(repository.name.clone()).or_default();
            round.next = now;
            round.next_all = now;
            left.insert(repository.name.clone());
        }
        self.github.syncs.push(Sync { id, left, found: 0, troubles: Vec::new() });
        None
    }

    pub(super) fn on_discovered(
        &mut self,
        name: &RepositoryName,
        asked: Timestamp,
        found: Result<Box<Found>, Trouble>,
    ) {
        let now = self.now;
        let wait = outbox::poll_wait(self.plan.github.poll, self.quota_of(name), now);
        let reconcile = self.plan.github.reconcile;
        let Some(repository) = self.plan.repository(name).cloned() else { return };
        let Some(round) = self.github.rounds.get_mut(name) else { return };
        // What was asked decides what the answer means, and an answer that nobody waits for any more means nothing.
        let Some(Asked { all, .. }) = round.under_way.take_if(|round| round.at == asked) else { return };
        match found {
            Ok(found) => {
                round.failures = 0;
                round.trouble = None;
                round.last = Some(now);
                // Somebody may have asked for everything meanwhile.
                let overtaken = !all && round.next_all <= now;
                round.next = if overtaken { now } else { now + wait };
                // Where nothing is open there is nothing newer to go by either, and the same question again is free.
                if !(all && found.issues.is_empty() && round.since.is_some()) {
                    round.since = Some(found.since.clone());
                }
                if all {
                    round.next_all = now + reconcile;
                    round.open = found.issues.len();
                }
                self.github.limited.remove(&Call::Question);
                self.take(&repository, &found, all);
                if !overtaken {
                    self.note_synced(name, None);
                }
            }
            Err(trouble) => {
                round.failures = round.failures.saturating_add(1);
                round.trouble = Some(trouble.to_string());
                round.next = now
                    + match &trouble {
                        Trouble::Limited { .. } => wait,
                        Trouble::Unsure { .. } => outbox::unsure_wait(round.failures).max(wait),
                        Trouble::Refused { .. } | Trouble::Stopped { .. } => outbox::refused_wait(round.failures),
                    };
                if let Trouble::Limited { until, reason } = &trouble {
                    self.pause(Call::Question, *until, reason);
                }
                self.note_synced(name, Some(&trouble));
            }
        }
    }

    /// Answers those who wait for a round of every repository.
    fn note_synced(&mut self, name: &RepositoryName, trouble: Option<&Trouble>) {
        let open = self.github.rounds.get(name).map_or(0, |round| round.open);
        let mut ended = Vec::new();
        for sync in &mut self.github.syncs {
            if sync.left.remove(name) {
                sync.found += open;
                sync.troubles.extend(trouble.map(|trouble| format!("{name}: {trouble}")));
            }
        }
        self.github.syncs.retain(|sync| {
            let done = sync.left.is_empty();
            if done {
                ended.push(sync.clone());
            }
            !done
        });
        for sync in ended {
            let answer = if sync.troubles.is_empty() {
                let (found, not) = (sync.found, self.github.untrusted.len());
                Answer::Accepted { message: format!("{found} open issues with the label; {not} of them not trusted") }
            } else {
                super::super::requests::not_now(&sync.troubles.join("; "), "see `miyabi github status`")
            };
            self.push(crate::core::effect::Effect::Answer { id: sync.id, answer });
        }
    }

    pub(super) fn take(&mut self, repository: &RepositorySpec, found: &Found, all: bool) {
        let Some(on_github) = &repository.github else { return };
        let mut present = BTreeSet::new();
        for issue in &found.issues {
            let Some(task) = task_of(&repository.name, issue.number) else { continue };
            present.insert(task.clone());
            let of = IssueRef { slug: on_github.slug.clone(), number: issue.number };
            self.note_read(&task, issue);
            self.consider(&Read { repository, issue, task, of });
        }
        if all {
            self.give_up_missing(repository, &present);
        }
        let mut newest = None;
        for comment in &found.comments {
            self.obey(repository, comment);
            newest = newest.max(Some(comment.updated_at.clone()));
        }
        // The first round only begins to listen: what was commanded before anybody was there is over.
        let known = self.durable.github.comments.get(&repository.name).and_then(|comments| comments.since.clone());
        let since = newest.or_else(|| known.is_none().then(|| found.since.clone()));
        if let Some(since) = since.filter(|since| Some(since) != known.as_ref()) {
            self.record_github(GithubFact::CommentsRead { repository: repository.name.clone(), since });
        }
        for pull in &found.pulls {
            self.note_pull(repository, pull);
        }
        for review in &found.reviews {
            self.note_review(repository, review);
        }
    }

    /// Gives up what waits or runs for issues that are not among those that are open with the label.
    fn give_up_missing(&mut self, repository: &RepositorySpec, present: &BTreeSet<TaskId>) {
        let prefix = format!("{}/issue-", repository.name);
        // Those that a file lists are asked for one by one.
        let listed = self.durable.issues.keys().filter(|task| task.as_str().starts_with(&prefix));
        let present: BTreeSet<TaskId> = present.iter().chain(listed).cloned().collect();
        for list in [&mut self.github.untrusted, &mut self.github.conflicts] {
            list.retain(|task, _| present.contains(task) || !task.as_str().starts_with(&prefix));
        }
        self.github.seen.retain(|task, _| present.contains(task) || !task.as_str().starts_with(&prefix));
        self.github.prints.retain(|task, _| present.contains(task) || !task.as_str().starts_with(&prefix));
        let gone: Vec<TaskId> = self
            .durable
            .tasks
            .iter()
            .filter(|(task, record)| {
                task.as_str().starts_with(&prefix) && is_of_issue(record) && is_open(record) && !present.contains(*task)
            })
            .map(|(task, _)| task.clone())
            .collect();
        for task in gone {
            self.cancel(&task, GONE);
        }
    }

    /// Makes the task of an issue agree with the issue.
    pub(super) fn consider(&mut self, found: &Read<'_>) {
        let Read { repository, issue, task, of } = found;
        let Some(on_github) = &repository.github else { return };
        let listed = self.durable.issues.get(task);
        let external = listed.is_some_and(|listed| listed.spec.external);
        // Whoever writes a file has asked for what it lists, with or without the label.
        let wanted = !external && (listed.is_some() || route::trigger(issue, on_github).is_some());
        self.github.conflicts.remove(task);
        let not_taken = |reason: &str| NotTaken {
            issue: of.clone(),
            title: fence::title(&issue.title),
            author: issue.author.clone(),
            reason: reason.to_owned(),
        };
        let record = self.durable.tasks.get(task);
        if record.is_some_and(|record| !is_of_issue(record)) {
            let conflict = not_taken("another task has its name: rename that in its dependency file");
            self.github.conflicts.insert(task.clone(), conflict);
            return;
        }
        if !issue.open || !wanted {
            self.github.untrusted.remove(task);
            self.github.seen.remove(task);
            self.github.prints.remove(task);
            if record.is_some_and(is_open) {
                let unwanted = if external { EXTERNAL } else { UNLABELLED };
                self.cancel(task, if issue.open { unwanted } else { CLOSED });
            }
            return;
        }
        self.github.seen.insert(task.clone(), Issue { body: String::new(), ..(*issue).clone() });
        self.github.prints.insert(task.clone(), fence::print_of(issue));
        if let Some(reason) = self.vouch(found) {
            self.github.untrusted.insert(task.clone(), not_taken(&reason));
            return;
        }
        self.github.untrusted.remove(task);
        self.take_issue(found);
    }

    /// Sees whether somebody vouches for an issue as it stands now; tells why not.
    fn vouch(&mut self, found: &Read<'_>) -> Option<String> {
        let Read { issue, task, .. } = found;
        let print = fence::print_of(issue);
        let approved = self.durable.github.tasks.get(task).and_then(|on| on.approved.clone());
        match (route::trust(issue, &self.plan.github), approved) {
            (Trust::Author(_), _) => None,
            (_, Some((_, seen))) if seen == print => None,
            (_, Some((by, _))) => Some(format!(
                "its text was changed after {by} had vouched for it; a collaborator can comment `/miyabi approve`"
            )),
            (Trust::Label(login), None) => {
                self.record_github(GithubFact::Approved { task: task.clone(), by: login, print });
                None
            }
            (Trust::None, None) => Some(format!(
                "{} is {} here; a collaborator can set the label or comment `/miyabi approve`",
                issue.author,
                issue.association.as_str()
            )),
        }
    }

    fn take_issue(&mut self, found: &Read<'_>) {
        let Read { issue, task, of, .. } = found;
        // Its task may be new: what was just read is not asked for again before that is begun.
        self.github.known_at.insert(task.clone(), self.now);
        let (title, print) = (fence::title(&issue.title), fence::print_of(issue));
        let known = self.durable.github.tasks.get(task);
        if known.is_none_or(|on| on.print != print || on.issue.as_ref() != Some(of) || on.title != title) {
            let issue = of.clone();
            self.record_github(GithubFact::IssueSeen { task: task.clone(), issue, title, print });
        }
        let spec = self.spec_of_issue(found);
        let branches = self.branches.clone();
        let came_back = matches!(
            self.durable.tasks.get(task).map(|record| &record.phase),
            Some(Phase::Cancelled { reason, .. }) if is_ended_by_issue(reason)
        );
        let origin = Origin::Issue { issue: of.clone() };
        self.adopt_spec(task, origin, &spec, &branches);
        // A changed text has begun another run already.
        let still = matches!(self.durable.tasks.get(task).map(|record| &record.phase), Some(Phase::Cancelled { .. }));
        if came_back && still {
            let target = super::super::reload::target_of(&spec, &branches);
            let run = self.fresh_run();
            self.record(Fact::TaskRetried { task: task.clone(), run, target, no_cache: false });
        }
    }

    /// Does what a comment commands, once.
    fn obey(&mut self, repository: &RepositorySpec, comment: &Comment) {
        let done = self.durable.github.comments.get(&repository.name).is_some_and(|it| it.done.contains(&comment.id));
        if done || !comment.association.collaborates() {
            return;
        }
        let Some(parsed) = command::parse(&comment.body) else { return };
        let task = self.task_of_comment(repository, comment.issue);
        let (text, change) = match (parsed, &task) {
            (Err(mistake), _) => (mistake.clone(), Change::Note(mistake)),
            (Ok(command), Some(task)) => self.perform(&command, task, comment),
            (Ok(_), None) => ("there is no such issue".to_owned(), Change::Nothing),
        };
        let task =
            task.filter(|task| self.durable.tasks.contains_key(task) || self.durable.github.tasks.contains_key(task));
        self.record_github(GithubFact::CommandTaken {
            repository: repository.name.clone(),
            comment: comment.id,
            task: task.clone(),
            by: comment.author.clone(),
            text,
            change,
        });
        // The next round reads the issue anew, with what was changed.
        if let Some(round) = self.github.rounds.get_mut(&repository.name) {
            round.next_all = self.now;
            round.next = self.now;
        }
    }

    /// Finds the task of a comment on an issue, or on the pull request of one.
    fn task_of_comment(&self, repository: &RepositorySpec, number: u64) -> Option<TaskId> {
        self.task_of_pull(repository, number).or_else(|| task_of(&repository.name, number))
    }

    fn perform(&mut self, command: &Command, task: &TaskId, comment: &Comment) -> (String, Change) {
        let branches = self.branches.clone();
        let told = |answer: Answer| match answer {
            Answer::Accepted { message } => message,
            Answer::Submitted { task, .. } => task.to_string(),
            Answer::Refused { reason, .. } => reason,
        };
        match command {
            Command::Retry => {
                if let Some(Phase::Merging { .. }) = self.durable.tasks.get(task).map(|record| &record.phase) {
                    // Whoever comments knows the pull request and wants another one.
                    let target = self.durable.tasks.get(task).and_then(|record| record.target.clone());
                    let run = self.fresh_run();
                    self.record(Fact::TaskRetried { task: task.clone(), run, target, no_cache: false });
                    return (format!("{task} begins run {run}"), Change::Nothing);
                }
                (told(self.task_retry(task, Cache::On, &branches)), Change::Nothing)
            }
            Command::Cancel => {
                let text = told(self.task_cancel(task));
                (text, Change::Nothing)
            }
            Command::Priority(priority) => (format!("priority {}", priority.get()), Change::Priority(*priority)),
            Command::Why => {
                let why = self.why(task).join("\n");
                let why = if why.is_empty() { "it is done".to_owned() } else { why };
                (format!("asks why: {}", why.lines().next().unwrap_or_default()), Change::Note(why))
            }
            Command::Change(text) => self.take_change(task, &comment.author, text),
            Command::Agent(agent) if self.plan.agent(agent).is_some_and(|spec| spec.takes_work()) => {
                (format!("agent {agent}"), Change::Agent(agent.clone()))
            }
            Command::Agent(agent) => {
                let text = format!("there is no agent {agent} that takes work");
                (text.clone(), Change::Note(text))
            }
            Command::Approve => {
                let waits = self.github.untrusted.contains_key(task);
                match self.github.prints.get(task).filter(|_| waits).cloned() {
                    Some(print) => {
                        let by = comment.author.clone();
                        self.record_github(GithubFact::Approved { task: task.clone(), by, print });
                        ("approves".to_owned(), Change::Nothing)
                    }
                    None => ("approves, which was not needed".to_owned(), Change::Nothing),
                }
            }
        }
    }

    /// Notes how a pull request is.
    fn note_pull(&mut self, repository: &RepositorySpec, pull: &Pull) {
        let known = self.durable.github.tasks.iter().find(|(task, on)| {
            on.pull.as_ref().is_some_and(|known| known.number == pull.number)
                && self.repository_of(task).is_some_and(|found| found.name == repository.name)
        });
        let Some((task, on)) = known else { return };
        let (task, same) = (task.clone(), on.pull.as_ref() == Some(pull));
        let Some(record) = self.durable.tasks.get(&task) else { return };
        let (run, phase) = (record.run, record.phase.clone());
        if same {
            return;
        }
        self.record_github(GithubFact::PullChanged { task: task.clone(), run, pull: pull.clone() });
        match (&pull.state, phase) {
            (PullState::Merged { .. }, Phase::Waiting { .. } | Phase::Queued) => {
                self.cancel(&task, &format!("pull request #{} of an earlier run was merged", pull.number));
            }
            (_, Phase::Merging { .. }) => self.park_at_pull(&task),
            (PullState::Open | PullState::Closed, Phase::Waiting { .. } | Phase::Queued)
            | (_, Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. }) => {}
        }
    }
}

/// Says whether a task was cancelled because its issue is not wanted any more.
pub(super) fn is_ended_by_issue(reason: &str) -> bool {
    [CLOSED, UNLABELLED, GONE, UNLISTED, EXTERNAL].contains(&reason)
}

pub(super) const fn is_of_issue(record: &TaskRecord) -> bool {
    match record.origin {
        Origin::Issue { .. } => true,
        Origin::File { .. } | Origin::Submitted | Origin::Healer { .. } => false,
    }
}

/// Says whether a task waits or runs: what is proven is not given up because its issue was closed.
pub(super) const fn is_open(record: &TaskRecord) -> bool {
    match record.phase {
        Phase::Waiting { .. } | Phase::Queued => true,
        Phase::Merging { .. } | Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => false,
    }
}
