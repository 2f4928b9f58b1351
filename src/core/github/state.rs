//! What must survive a crash of everything that has to do with GitHub: facts, and what they add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::fact::Told;
use crate::core::state::IllegalFact;
use crate::model::github::{IssueRef, LineComment, Pull, PullState, WriteKind};
use crate::model::id::{AgentId, RepositoryName, RunId, TaskId};
use crate::model::task::Priority;
use crate::model::time::Timestamp;

use super::outbox;

/// How many commits of one branch are remembered as ours.
const PUSHED_MAX: usize = 16;

/// How many reviews of one pull request are remembered one by one.
const REVIEWS_MAX: usize = 200;

/// How many reviews of one pull request may wait for the next round; the newest ones count.
const ASKED_MAX: usize = 20;

/// How many comments are remembered as dealt with, of each repository.
const COMMENTS_MAX: usize = 2_000;

/// Something that has happened between us and GitHub and must never be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "github", rename_all = "kebab-case")]
pub enum GithubFact {
    /// A task belongs to an issue that says this.
    IssueSeen {
        /// The task.
        task: TaskId,
        /// The issue.
        issue: IssueRef,
        /// Its title, harmless.
        title: String,
        /// A print of its text.
        print: String,
    },
    /// Somebody who may has vouched for an issue as it stood then.
    Approved {
        /// The issue's task.
        task: TaskId,
        /// Who.
        by: String,
        /// A print of the text that was vouched for.
        print: String,
    },
    /// A command in a comment was dealt with, and is never again.
    CommandTaken {
        /// The repository.
        repository: RepositoryName,
        /// The comment.
        comment: u64,
        /// The task that it is about.
        task: Option<TaskId>,
        /// Who.
        by: String,
        /// What came of it, for people.
        text: String,
        /// What is different from now on.
        change: Change,
    },
    /// Comments up to a change were read.
    CommentsRead {
        /// The repository.
        repository: RepositoryName,
        /// The change, as GitHub writes its time.
        since: String,
    },
    /// Somebody who may has asked for changes in a review, which counts once.
    ChangesAsked {
        /// The task.
        task: TaskId,
        /// The review.
        review: u64,
        /// What is asked for.
        ask: Ask,
    },
    /// What people ask for is not done: it was asked too often.
    ChangesDeclined {
        /// The task.
        task: TaskId,
        /// Why, for people.
        reason: String,
    },
    /// A write is about to begin: it counts, whatever becomes of it.
    WriteBegun {
        /// The task that it is about.
        task: TaskId,
        /// What is written.
        kind: WriteKind,
        /// The commit that is pushed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        /// The label that is added.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// A commit is published.
    Published {
        /// The task.
        task: TaskId,
        /// The run that made it.
        run: RunId,
        /// The commit.
        commit: String,
        /// The pull request.
        pull: Pull,
    },
    /// A pull request of ours is not as it was.
    PullChanged {
        /// The task.
        task: TaskId,
        /// The run that the task was in.
        run: RunId,
        /// The pull request.
        pull: Pull,
    },
    /// The comment of a run says this.
    Commented {
        /// The task.
        task: TaskId,
        /// The run.
        run: RunId,
        /// The comment.
        comment: u64,
        /// A print of what it says.
        print: String,
    },
    /// An issue no longer holds up those who need it, or does so again.
    IssueResolved {
        /// The task that the issue is, or would be.
        task: TaskId,
        /// The issue.
        issue: IssueRef,
        /// Why, as a fragment behind its name; absent: it holds them up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        how: Option<String>,
    },
    /// The state of a commit is set.
    StatusSet {
        /// The task.
        task: TaskId,
        /// The commit.
        commit: String,
    },
    /// This orchestra was seen to be the one that works on an issue.
    Claimed {
        /// The task.
        task: TaskId,
        /// The claim.
        claim: Claim,
    },
    /// The claim on an issue was given up or lost.
    ClaimEnded {
        /// The task.
        task: TaskId,
        /// The run.
        run: RunId,
        /// Why, for people.
        reason: String,
    },
    /// Another orchestra has answered what somebody commented: this one need not.
    AnsweredElsewhere {
        /// The task.
        task: TaskId,
        /// The comment that was to be answered.
        comment: u64,
    },
    /// Comments of ours on a run are of no use.
    LeftBehind {
        /// The task.
        task: TaskId,
        /// The comments.
        comments: BTreeSet<u64>,
    },
    /// An issue bears the label of those that are worked on, or does so no more.
    Labelled {
        /// The task.
        task: TaskId,
        /// The label; absent: it is gone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// A comment of ours was taken away, or somebody has deleted it.
    CommentWithdrawn {
        /// The task.
        task: TaskId,
        /// The comment.
        comment: u64,
    },
}

/// A claim on an issue that was seen to count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The run that it is for.
    pub run: RunId,
    /// The comment that says so.
    pub comment: u64,
    /// Until when it is believed in, by our clock: for the shortest lease that any edit of ours gives it, as an edit that was
    /// taken for lost may still arrive after a later one.
    pub until: Timestamp,
    /// When it ends, by our clock.
    pub ends: Timestamp,
    /// How long it lives without being renewed.
    #[serde(with = "crate::model::span")]
    pub lease: Duration,
    /// The claims that it names as ended.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub over: BTreeSet<u64>,
}

impl Claim {
    /// Returns when it is renewed.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        self.ends - self.lease / 2
    }
}

/// The label of an issue that is worked on, as far as we may have to take it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "label", content = "name", rename_all = "kebab-case")]
pub enum Mark {
    /// It may be there: we were about to add it, or somebody else has claimed the issue since.
    Unsure(String),
    /// It was seen or set while the issue was ours.
    Set(String),
}

impl Mark {
    /// Returns the label.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Unsure(label) | Self::Set(label) => label,
        }
    }
}

/// What a command changes for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", content = "to", rename_all = "kebab-case")]
pub enum Change {
    /// Nothing that is not in another fact.
    Nothing,
    /// How urgent it is.
    Priority(Priority),
    /// Who does it.
    Agent(AgentId),
    /// What its comment says besides.
    Note(String),
    /// What its pull request holds.
    Ask(Ask),
}

/// What somebody asks for who has looked at a pull request; harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who.
    pub by: String,
    /// What, as a whole.
    pub text: String,
    /// What, line by line.
    #[serde(default)]
    pub comments: Vec<LineComment>,
}

/// What survives of everything on GitHub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnGithub {
    /// Tasks that have something on GitHub.
    pub tasks: BTreeMap<TaskId, TaskOnGithub>,
    /// When the writes of the last hour began.
    pub begun: Vec<Timestamp>,
    /// Which comments were dealt with.
    pub comments: BTreeMap<RepositoryName, Comments>,
    /// Issues that no longer hold up those who need them, and why.
    #[serde(default)]
    pub resolved: BTreeMap<TaskId, String>,
}

/// Which comments of a repository were dealt with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comments {
    /// From which change on they are read.
    pub since: Option<String>,
    /// Those that held a command, the newest ones.
    pub done: BTreeSet<u64>,
}

/// What survives of a task's part on GitHub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOnGithub {
    /// The issue; absent for a task of another origin in a repository with pull requests.
    pub issue: Option<IssueRef>,
    /// The issue's title, harmless.
    pub title: String,
    /// A print of the issue's text.
    pub print: String,
    /// Who has vouched for it, and a print of what they saw.
    pub approved: Option<(String, String)>,
    /// How urgent it is by a command.
    pub priority: Option<Priority>,
    /// Who does it by a command.
    pub agent: Option<AgentId>,
    /// What its comment says besides.
    pub note: Option<String>,
    /// The comment of somebody that the note answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<u64>,
    /// Commits that its branch may hold because we pushed them.
    pub pushed: Vec<String>,
    /// What is published: the run and its commit.
    pub published: Option<(RunId, String)>,
    /// The pull request.
    pub pull: Option<Pull>,
    /// In which run somebody closed the pull request without a merge.
    pub closed_in: Option<RunId>,
    /// The comment: its run, its id, and a print of what it says.
    pub comment: Option<(RunId, u64, String)>,
    /// The commit whose state is set.
    pub status: Option<String>,
    /// What people ask for and nobody has begun to do.
    #[serde(default)]
    pub asked: Vec<Ask>,
    /// The reviews that were dealt with, the newest ones.
    #[serde(default)]
    pub reviewed: BTreeSet<u64>,
    /// Up to which review all were dealt with: older ones are not kept one by one.
    #[serde(default)]
    pub reviewed_up_to: u64,
    /// The claim on its issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Comments of ours that are of no use and are to be taken away.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leftovers: BTreeSet<u64>,
    /// The label that it may bear because it is worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

impl OnGithub {
    /// Takes a fact into the state.
    ///
    /// # Errors
    /// Refuses a fact about a task that has nothing on GitHub.
    pub fn apply(&mut self, fact: &GithubFact, at: Timestamp) -> Result<(), IllegalFact> {
        match fact {
            GithubFact::IssueSeen { task, issue, title, print } => {
                let record = self.tasks.entry(task.clone()).or_default();
                record.issue = Some(issue.clone());
                record.title.clone_from(title);
                record.print.clone_from(print);
            }
            GithubFact::Approved { task, by, print } => {
                self.tasks.entry(task.clone()).or_default().approved = Some((by.clone(), print.clone()));
            }
            GithubFact::CommandTaken { repository, comment, task, change, .. } => {
                let comments = self.comments.entry(repository.clone()).or_default();
                comments.done.insert(*comment);
                while comments.done.len() > COMMENTS_MAX {
                    comments.done.pop_first();
                }
                if let Some(task) = task {
                    self.change(task, change, *comment);
                }
            }
            GithubFact::CommentsRead { repository, since } => {
                self.comments.entry(repository.clone()).or_default().since = Some(since.clone());
            }
            GithubFact::ChangesAsked { task, review, ask } => {
                let record = self.known(task, "changes-asked")?;
                record.reviewed.insert(*review);
                while record.reviewed.len() > REVIEWS_MAX {
                    record.reviewed_up_to = record.reviewed.pop_first().unwrap_or_default();
                }
                record.ask(ask);
            }
            GithubFact::ChangesDeclined { task, reason } => {
                let record = self.known(task, "changes-declined")?;
                record.asked.clear();
                record.note = Some(reason.clone());
                record.answers = None;
            }
            GithubFact::WriteBegun { task, commit, label, .. } => {
                outbox::forget(&mut self.begun, at);
                self.begun.push(at);
                self.tasks.entry(task.clone()).or_default().begin_write(commit.as_ref(), label.as_ref());
            }
            GithubFact::Published { task, run, commit, pull } => {
                let record = self.known(task, "published")?;
                record.published = Some((*run, commit.clone()));
                record.note_pull(pull, *run);
            }
            GithubFact::PullChanged { task, run, pull } => self.known(task, "pull-changed")?.note_pull(pull, *run),
            GithubFact::Commented { task, run, comment, print } => {
                self.known(task, "commented")?.comment = Some((*run, *comment, print.clone()));
            }
            GithubFact::IssueResolved { task, how: Some(how), .. } => {
                self.resolved.insert(task.clone(), how.clone());
            }
            GithubFact::IssueResolved { task, how: None, .. } => {
                self.resolved.remove(task);
            }
            GithubFact::StatusSet { task, commit } => self.known(task, "status-set")?.status = Some(commit.clone()),
            GithubFact::Labelled { .. }
            | GithubFact::AnsweredElsewhere { .. }
            | GithubFact::Claimed { .. }
            | GithubFact::ClaimEnded { .. }
            | GithubFact::LeftBehind { .. }
            | GithubFact::CommentWithdrawn { .. } => self.apply_claim(fact)?,
        }
        Ok(())
    }

    /// Takes a fact about a claim, or about the label that shows it, into the state.
    fn apply_claim(&mut self, fact: &GithubFact) -> Result<(), IllegalFact> {
        match fact {
            GithubFact::Claimed { task, claim } => self.known(task, "claimed")?.claim = Some(claim.clone()),
            GithubFact::ClaimEnded { task, .. } => self.known(task, "claim-ended")?.end_claim(),
            GithubFact::Labelled { task, label } => {
                self.known(task, "labelled")?.mark = label.clone().map(Mark::Set);
            }
            GithubFact::AnsweredElsewhere { task, comment } => {
                let record = self.known(task, "answered-elsewhere")?;
                if record.answers == Some(*comment) {
                    (record.note, record.answers) = (None, None);
                }
            }
            GithubFact::LeftBehind { task, comments } => {
                self.known(task, "left-behind")?.leftovers = comments.clone();
            }
            GithubFact::CommentWithdrawn { task, comment } => {
                let record = self.known(task, "comment-withdrawn")?;
                record.leftovers.remove(comment);
                record.comment.take_if(|(_, id, _)| id == comment);
                if record.claim.as_ref().is_some_and(|claim| claim.comment == *comment) {
                    record.end_claim();
                }
            }
            GithubFact::IssueSeen { .. }
            | GithubFact::Approved { .. }
            | GithubFact::CommandTaken { .. }
            | GithubFact::CommentsRead { .. }
            | GithubFact::ChangesAsked { .. }
            | GithubFact::ChangesDeclined { .. }
            | GithubFact::WriteBegun { .. }
            | GithubFact::Published { .. }
            | GithubFact::PullChanged { .. }
            | GithubFact::Commented { .. }
            | GithubFact::IssueResolved { .. }
            | GithubFact::StatusSet { .. } => {}
        }
        Ok(())
    }

    fn change(&mut self, task: &TaskId, change: &Change, comment: u64) {
        let record = self.tasks.entry(task.clone()).or_default();
        match change {
            Change::Nothing => {}
            Change::Priority(priority) => record.priority = Some(*priority),
            Change::Agent(agent) => record.agent = Some(agent.clone()),
            Change::Note(note) => (record.note, record.answers) = (Some(note.clone()), Some(comment)),
            Change::Ask(ask) => record.ask(ask),
        }
    }

    fn known(&mut self, task: &TaskId, fact: &'static str) -> Result<&mut TaskOnGithub, IllegalFact> {
        self.tasks.get_mut(task).ok_or_else(|| IllegalFact {
            fact,
            subject: task.to_string(),
            state: "not on GitHub".to_owned(),
        })
    }
}

impl TaskOnGithub {
    /// Says whether a review was dealt with.
    #[must_use]
    pub fn has_dealt_with(&self, review: u64) -> bool {
        review <= self.reviewed_up_to || self.reviewed.contains(&review)
    }

    /// Whatever becomes of a write, what it leaves is known to be ours.
    fn begin_write(&mut self, commit: Option<&String>, label: Option<&String>) {
        if let Some(label) = label {
            self.mark = Some(Mark::Unsure(label.clone()));
        }
        if let Some(commit) = commit.filter(|commit| !self.pushed.contains(commit)) {
            self.pushed.push(commit.clone());
            if self.pushed.len() > PUSHED_MAX {
                self.pushed.remove(0);
            }
        }
    }

    /// From here on others may claim the issue, and do with its label what they want.
    fn end_claim(&mut self) {
        self.claim = None;
        self.mark = self.mark.take().map(|mark| Mark::Unsure(mark.label().to_owned()));
    }

    fn ask(&mut self, ask: &Ask) {
        (self.note, self.answers) = (None, None);
        self.asked.push(ask.clone());
        if self.asked.len() > ASKED_MAX {
            self.asked.remove(0);
        }
    }

    fn note_pull(&mut self, pull: &Pull, run: RunId) {
        match pull.state {
            PullState::Closed => self.closed_in = Some(run),
            PullState::Open | PullState::Merged { .. } => self.closed_in = None,
        }
        self.pull = Some(pull.clone());
    }
}

impl GithubFact {
    /// Tells the fact to people and programs.
    #[must_use]
    pub fn tell(&self) -> Told {
        let (kind, task, text) = match self {
            Self::IssueSeen { task, issue, .. } => ("issue-seen", Some(task), format!("{task} is the issue {issue}")),
            Self::Approved { task, by, .. } => ("issue-approved", Some(task), format!("{by} vouches for {task}")),
            Self::CommandTaken { task, by, text, .. } => {
                ("command-taken", task.as_ref(), format!("{by} commented: {text}"))
            }
            Self::CommentsRead { repository, since } => {
                ("comments-read", None, format!("the comments of {repository} are read up to {since}"))
            }
            Self::ChangesAsked { task, ask, .. } => {
                ("changes-asked", Some(task), format!("{} asks for changes of {task}", ask.by))
            }
            Self::ChangesDeclined { task, reason } => {
                ("changes-declined", Some(task), format!("{task} is not changed: {reason}"))
            }
            Self::WriteBegun { task, kind, .. } => {
                ("write-begun", Some(task), format!("{} of {task} is written to GitHub", kind.as_str()))
            }
            Self::Published { task, pull, .. } => {
                ("published", Some(task), format!("{task} is pull request #{}: {}", pull.number, pull.url))
            }
            Self::PullChanged { task, pull, .. } => {
                let state = match &pull.state {
                    PullState::Open => "open",
                    PullState::Closed => "closed without a merge",
                    PullState::Merged { .. } => "merged",
                };
                ("pull-changed", Some(task), format!("pull request #{} of {task} is {state}", pull.number))
            }
            Self::Commented { task, comment, .. } => {
                ("commented", Some(task), format!("the comment {comment} says how {task} stands"))
            }
            Self::IssueResolved { task, issue, how } => {
                let text = match how {
                    Some(how) => format!("{issue} {how} and holds nobody up"),
                    None => format!("{issue} holds up those who need it"),
                };
                ("issue-resolved", Some(task), text)
            }
            Self::StatusSet { task, commit } => {
                let short = commit.get(..10).unwrap_or(commit);
                ("status-set", Some(task), format!("the state of {short} of {task} is set"))
            }
            Self::Labelled { task, label } => {
                let text = match label {
                    Some(label) => format!("the issue of {task} bears the label `{label}`"),
                    None => format!("the issue of {task} no longer bears the label of those that are worked on"),
                };
                ("labelled", Some(task), text)
            }
            Self::AnsweredElsewhere { task, .. } => {
                ("answered-elsewhere", Some(task), format!("another orchestra has answered a comment on {task}"))
            }
            Self::Claimed { task, claim } => {
                ("claimed", Some(task), format!("{task} is claimed on GitHub until {}", claim.until))
            }
            Self::ClaimEnded { task, reason, .. } => {
                ("claim-ended", Some(task), format!("{task} is no longer claimed on GitHub: {reason}"))
            }
            Self::LeftBehind { task, comments } => {
                let count = comments.len();
                ("left-behind", Some(task), format!("{count} comments of ours on {task} are of no use"))
            }
            Self::CommentWithdrawn { task, comment } => {
                ("comment-withdrawn", Some(task), format!("the comment {comment} on {task} is gone"))
            }
        };
        Told { kind, agent: None, incarnation: None, task: task.cloned(), attempt: None, text }
    }
}
