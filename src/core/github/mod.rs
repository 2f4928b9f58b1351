//! GitHub: what is asked there, what is taken from there, and what is written there, once.
//!
//! Nothing here is a queue that could be lost: what is still to be written follows from the tasks and from what is known
//! to be written. [`outbox`] says when, `publish` what, `intake` what becomes of issues, comments and pull requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::claim::Claims;
use crate::model::github::{
    Delivery, Discover, Found, Issue, IssueRef, Labelling, Quota, Trouble, Watch, Write, WriteKind, Written,
};
use crate::model::id::{RepositoryName, RepositorySlug, RunId, TaskId};
use crate::model::request::RequestId;
use crate::model::time::Timestamp;

mod claim;
pub mod command;
mod compose;
pub mod fence;
mod hint;
mod intake;
mod mark;
mod mentions;
pub mod outbox;
mod publish;
mod redact;
mod report;
mod review;
pub mod route;
pub mod state;
mod view;
mod watch;

use super::Core;
use super::effect::Effect;
pub(super) use claim::Standing;
use hint::Hints;
use state::GithubFact;

/// How long a round of discovery may take before it counts as lost.
const ROUND_MAX: Duration = Duration::from_secs(600);

/// How long a write may take before it is begun anew.
const WRITE_MAX: Duration = Duration::from_secs(600);

/// Something that we want done on GitHub, or with what came from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GithubEffect {
    /// Look what has changed. Ends as [`GithubEvent::Discovered`].
    Discover {
        /// The repository.
        repository: RepositoryName,
        /// What is to be looked at.
        what: Discover,
    },
    /// Look at what a webhook has named. Ends as [`GithubEvent::LookedAt`].
    LookAt {
        /// The repository.
        repository: RepositoryName,
        /// What is to be looked at.
        what: Discover,
    },
    /// Deliveries of webhooks were handled. No answer: what is not noted is handled once more.
    Settle {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Look at single issues. Ends as [`GithubEvent::Watched`].
    Watch {
        /// Which.
        what: Watch,
    },
    /// Look who works on an issue. Ends as [`GithubEvent::ClaimsSeen`].
    LookAtClaims {
        /// The task that the issue is here.
        task: TaskId,
        /// The issue.
        issue: IssueRef,
        /// When it was asked; the answer says so too.
        asked: Timestamp,
    },
    /// Write something. Ends as [`GithubEvent::Written`]; asking twice writes once.
    Write {
        /// The task that it is about.
        task: TaskId,
        /// The repository.
        repository: RepositoryName,
        /// The repository on GitHub.
        slug: RepositorySlug,
        /// The issue.
        issue: Option<u64>,
        /// What.
        write: Write,
    },
    /// Bring a local branch up to what GitHub has. Ends as [`GithubEvent::CaughtUp`].
    CatchUp {
        /// The task whose merge is looked for.
        task: TaskId,
        /// The repository.
        repository: RepositoryName,
        /// The branch.
        target: String,
    },
}

/// Something that happened on GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GithubEvent {
    /// A round of discovery has ended.
    Discovered {
        /// The repository.
        repository: RepositoryName,
        /// When it was asked for.
        asked: Timestamp,
        /// What was found.
        found: Result<Box<Found>, Trouble>,
        /// What is left of the quota, if that was said.
        quota: Option<Quota>,
    },
    /// A webhook has named something. Told twice, it is looked at once more.
    Hinted(Delivery),
    /// What a webhook has named was looked at.
    LookedAt {
        /// The repository.
        repository: RepositoryName,
        /// When it was asked for.
        asked: Timestamp,
        /// What was found.
        found: Result<Box<Found>, Trouble>,
        /// What is left of the quota, if that was said.
        quota: Option<Quota>,
    },
    /// Single issues were looked at.
    Watched {
        /// When it was asked for.
        asked: Timestamp,
        /// What was found; those that are missing were not reached.
        found: Vec<(IssueRef, Result<Box<Issue>, Trouble>)>,
        /// What is left of the quota, if that was said.
        quota: Option<Quota>,
    },
    /// It was looked who works on an issue.
    ClaimsSeen {
        /// The task that the issue is here.
        task: TaskId,
        /// When it was asked for.
        asked: Timestamp,
        /// What was seen.
        seen: Result<Claims, Trouble>,
        /// What is left of the quota, if that was said.
        quota: Option<Quota>,
    },
    /// A write has ended.
    Written {
        /// The task that it is about.
        task: TaskId,
        /// What was written.
        kind: WriteKind,
        /// What came of it.
        written: Result<Written, Trouble>,
        /// What is left of the quota, if that was said.
        quota: Option<Quota>,
    },
    /// A local branch was looked at.
    CaughtUp {
        /// The task whose merge is looked for.
        task: TaskId,
        /// The newest commit of the branch, or why it could not be moved.
        result: Result<String, String>,
    },
}

/// What is known of GitHub for as long as this process lives.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    rounds: BTreeMap<RepositoryName, Round>,
    /// What webhooks have named.
    hints: BTreeMap<RepositoryName, Hints>,
    /// What is left of each quota: an app has one for each owner of repositories, a token has one.
    quotas: BTreeMap<String, Quota>,
    /// Until when nothing may be asked, and why.
    paused: Option<(Timestamp, String)>,
    /// How often in a row a question, and a write, was answered with a wish to wait.
    limited: BTreeMap<Call, u32>,
    writing: Option<Writing>,
    /// Writes that did not go through: when they are tried again.
    again: BTreeMap<(TaskId, WriteKind), Again>,
    /// Tasks for which something may have to be written.
    dirty: BTreeSet<TaskId>,
    /// When the next write can begin, if one waits.
    write_at: Option<Timestamp>,
    /// Merged pull requests whose commit is not here yet: when that is asked for again.
    catching: BTreeMap<TaskId, Again>,
    /// The local branches that are being brought up to what GitHub has.
    following: BTreeMap<Place, Following>,
    /// Issues with the label that nobody vouches for.
    untrusted: BTreeMap<TaskId, NotTaken>,
    /// What else keeps issues from being taken.
    conflicts: BTreeMap<TaskId, NotTaken>,
    /// Issues as they were read, without their bodies.
    seen: BTreeMap<TaskId, Issue>,
    /// Prints of their texts: what somebody who approves now has seen.
    prints: BTreeMap<TaskId, String>,
    /// Who waits for a round of every repository.
    syncs: Vec<Sync>,
    /// Issues that are asked for one by one.
    watch: BTreeMap<TaskId, watch::Watching>,
    /// Whether others may have to be watched.
    is_watch_stale: bool,
    /// When the question that is under way was asked, and which of our repositories it is about.
    watch_under_way: Option<(Timestamp, BTreeSet<RepositoryName>)>,
    /// Issues that are asked for before a task is begun.
    asks: BTreeMap<TaskId, Again>,
    /// When each issue was read last.
    known_at: BTreeMap<TaskId, Timestamp>,
    /// What is known of claims that are wanted.
    claims: BTreeMap<TaskId, claim::Claiming>,
    /// The tasks that have a claim.
    claimed: BTreeSet<TaskId>,
}

/// What can be limited by itself: GitHub refuses writes while it answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Question,
    Write,
}

/// The discovery of one repository.
#[derive(Debug, Clone, Default)]
struct Round {
    next: Timestamp,
    next_all: Timestamp,
    under_way: Option<Asked>,
    since: Option<String>,
    last: Option<Timestamp>,
    trouble: Option<String>,
    failures: u32,
    open: usize,
}

/// A question that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    at: Timestamp,
    /// When the answer must have come.
    deadline: Timestamp,
    /// Whether everything that is open was asked for.
    all: bool,
}

/// The one write that is under way.
#[derive(Debug, Clone)]
struct Writing {
    task: TaskId,
    run: RunId,
    kind: WriteKind,
    began: Timestamp,
    deadline: Timestamp,
    /// The comment that is edited.
    known: Option<u64>,
    /// The claims that a new one names as ended.
    over: BTreeSet<u64>,
    /// A print of the comment that is written.
    print: String,
    commit: Option<String>,
    label: Option<Labelling>,
}

/// A repository and one of its branches.
type Place = (RepositoryName, String);

/// A local branch on its way to what GitHub has.
#[derive(Debug, Clone)]
struct Following {
    /// Who has asked.
    task: TaskId,
    /// Those that were merged before that.
    tasks: BTreeSet<TaskId>,
    /// Those that were merged since.
    late: BTreeSet<TaskId>,
    deadline: Timestamp,
}

/// Something that is tried again.
#[derive(Debug, Clone)]
struct Again {
    at: Timestamp,
    times: u32,
    reason: String,
}

/// An issue that is not taken.
#[derive(Debug, Clone)]
struct NotTaken {
    issue: IssueRef,
    title: String,
    author: String,
    reason: String,
}

/// Somebody who waits for a round of every repository.
#[derive(Debug, Clone)]
struct Sync {
    id: RequestId,
    left: BTreeSet<RepositoryName>,
    found: usize,
    troubles: Vec<String>,
}

impl Core {
    /// Forgets what was known of an earlier process: everything that may have to be written is looked at once.
    pub(super) fn begin_github(&mut self) {
        self.github.dirty = self.durable.github.tasks.keys().cloned().collect();
        self.github.dirty.extend(self.published_tasks());
        self.github.is_watch_stale = true;
        let claimed = self.durable.github.tasks.iter().filter(|(_, on)| on.claim.is_some());
        self.github.claimed = claimed.map(|(task, _)| task.clone()).collect();
    }

    pub(super) fn on_github(&mut self, event: GithubEvent) {
        match event {
            GithubEvent::Discovered { repository, asked, found, quota } => {
                self.note_quota(Some(&repository), quota);
                self.on_discovered(&repository, asked, found);
            }
            GithubEvent::Hinted(delivery) => self.on_hinted(delivery),
            GithubEvent::LookedAt { repository, asked, found, quota } => {
                self.note_quota(Some(&repository), quota);
                self.on_looked_at(&repository, asked, found);
            }
            GithubEvent::Watched { asked, found, quota } => {
                // An app has a quota for each owner, and the rounds tell of it; a token has one.
                if let (None, Some(quota)) = (&self.plan.github.app, quota) {
                    self.github.quotas.insert(String::new(), quota);
                }
                self.on_watched(asked, found);
            }
            GithubEvent::ClaimsSeen { task, asked, seen, quota } => {
                let repository = self.repository_of(&task).map(|repository| repository.name.clone());
                self.note_quota(repository.as_ref(), quota);
                self.on_claims_seen(&task, asked, seen);
            }
            GithubEvent::Written { task, kind, written, quota } => {
                let repository = self.repository_of(&task).map(|repository| repository.name.clone());
                self.note_quota(repository.as_ref(), quota);
                self.on_written(&task, kind, written);
            }
            GithubEvent::CaughtUp { task, result } => self.on_caught_up(&task, &result),
        }
    }

    /// Notes that something about a task may have to be written.
    pub(super) fn touch_github(&mut self, task: &TaskId) {
        self.github.is_watch_stale |= self.may_change_what_is_watched(task);
        self.note_claimed(task);
        if self.durable.github.tasks.contains_key(task) || self.is_published(task) {
            self.github.dirty.insert(task.clone());
        }
    }

    /// Begins what can begin.
    pub(super) fn steer_github(&mut self) {
        if !self.plan.uses_github() || self.drain.is_some() {
            self.github.write_at = None;
            return;
        }
        if self.github.paused.as_ref().is_some_and(|(until, _)| *until <= self.now) {
            self.github.paused = None;
        }
        self.begin_hints();
        self.begin_rounds();
        self.begin_rework();
        self.begin_watch();
        self.begin_catching_up();
        self.begin_write();
        self.begin_claims();
    }

    /// Returns when something here is due next, and why.
    pub(super) fn github_wake(&self) -> Option<(Timestamp, &'static str)> {
        if !self.plan.uses_github() || self.drain.is_some() {
            return None;
        }
        let paused = self.paused_until();
        let rounds = self.github.rounds.iter().filter_map(|(name, round)| {
            let due = match &round.under_way {
                Some(asked) => asked.deadline,
                // It waits for the answer to another question, which has a deadline of its own.
                None if self.is_looking(name) || self.is_watching(name) => return None,
                None => round.next.max(paused),
            };
            Some((due, "GitHub is asked what has changed"))
        });
        let write = match &self.github.writing {
            Some(writing) => Some(writing.deadline),
            None => self.github.write_at,
        };
        let catching = self.github.catching.values().map(|again| (again.at, "a merged pull request is fetched"));
        let hints = self.github.hints.iter().filter_map(|(name, hints)| {
            let is_asked = self.is_in_round(name) || self.is_watching(name);
            hints.due(paused).filter(|_| hints.is_looking() || !is_asked)
        });
        let hints = hints.map(|at| (at, "what a webhook has named is looked at"));
        let watch = self.watch_wake(paused).map(|at| (at, "GitHub is asked for single issues"));
        let claims = self.claim_wake(paused).map(|at| (at, "a claim on GitHub is looked at or renewed"));
        rounds
            .chain(catching)
            .chain(claims)
            .chain(hints)
            .chain(watch)
            .chain(write.map(|at| (at, "something is written to GitHub")))
            .min_by_key(|(at, _)| *at)
    }

    fn paused_until(&self) -> Timestamp {
        self.github.paused.as_ref().map_or(Timestamp::EPOCH, |(until, _)| *until)
    }

    fn note_quota(&mut self, repository: Option<&RepositoryName>, quota: Option<Quota>) {
        if let (Some(purse), Some(quota)) = (repository.and_then(|name| self.purse_of(name)), quota) {
            self.github.quotas.insert(purse, quota);
        }
    }

    /// Names the quota that a repository's calls are counted in.
    fn purse_of(&self, name: &RepositoryName) -> Option<String> {
        let slug = &self.plan.repository(name)?.github.as_ref()?.slug;
        let owner = slug.as_str().split('/').next().unwrap_or_default().to_lowercase();
        Some(if self.plan.github.app.is_some() { owner } else { String::new() })
    }

    /// Returns what is left for a repository's calls.
    fn quota_of(&self, name: &RepositoryName) -> Option<&Quota> {
        self.github.quotas.get(&self.purse_of(name)?)
    }

    /// Returns the quota of which the least is left.
    fn scarcest_quota(&self) -> Option<Quota> {
        self.github.quotas.values().min_by_key(|quota| quota.remaining).copied()
    }

    /// Stops asking for as long as GitHub wants it.
    fn pause(&mut self, call: Call, until: Option<Timestamp>, reason: &str) {
        let times = self.github.limited.entry(call).or_default();
        *times = times.saturating_add(1);
        let until = match until {
            Some(until) => until.max(self.now + outbox::HOUR / 3_600),
            None => self.now + outbox::limited_wait(*times),
        };
        self.github.paused = Some((until.max(self.paused_until()), reason.to_owned()));
    }

    fn record_github(&mut self, fact: GithubFact) {
        self.record(super::fact::Fact::Github(fact));
    }

    fn push_github(&mut self, effect: GithubEffect) {
        self.push(Effect::Github(Box::new(effect)));
    }
}
