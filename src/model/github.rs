//! GitHub's nouns, as far as the orchestra knows them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::claim::{Claimant, Claims};
use super::id::{RepositorySlug, TaskId};
use super::span;
use super::task::{Assignee, Priority};
use super::time::Timestamp;

/// The API that is asked when nobody names another.
pub const API_URL: &str = "https://api.github.com";

/// The variable that holds the token when nobody names another.
pub const TOKEN_ENV: &str = "GITHUB_TOKEN";

/// The label that makes an issue work when nobody names another.
pub const TRIGGER_LABEL: &str = "auto-code";

/// `[github]`: how GitHub is asked, and what becomes of its issues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GithubSpec {
    /// The address of the API, without a slash at its end.
    pub api_url: String,
    /// The name of the variable with the token. The token itself is no part of the plan.
    pub token_env: String,
    /// The app that is shown instead of a token.
    #[serde(default)]
    pub app: Option<AppSpec>,
    /// How often each repository is asked for what has changed.
    #[serde(with = "span")]
    pub poll: Duration,
    /// How often everything that is open is read anew.
    #[serde(with = "span")]
    pub reconcile: Duration,
    /// Whose issues are taken without anybody's approval.
    pub trust: BTreeSet<Association>,
    /// Who does what, in the order of the file: the first one that fits an issue decides.
    pub routes: Vec<Route>,
    /// How fast may be written.
    pub pace: Pace,
    /// Where GitHub tells what has changed, if it does.
    #[serde(default)]
    pub webhook: Option<WebhookSpec>,
    /// Whether "Depends on #12" in the text of an issue is what its task needs.
    #[serde(default)]
    pub body_depends: bool,
    /// How other orchestras are told that an issue is worked on.
    #[serde(default)]
    pub claim: ClaimKind,
    /// How long a claim lives without being renewed.
    #[serde(default = "claim_lease", with = "span")]
    pub claim_lease: Duration,
    /// The label that an issue bears as long as a run works on it, for people to see.
    #[serde(default)]
    pub claim_label: Option<String>,
}

/// How long a claim lives when nobody says so.
const fn claim_lease() -> Duration {
    Duration::from_secs(1_800)
}

/// How other orchestras are told that an issue is worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimKind {
    /// By a line in the comment of the run.
    #[default]
    Comment,
    /// Not at all: there is one orchestra.
    None,
}

impl Default for GithubSpec {
    fn default() -> Self {
        Self {
            api_url: API_URL.to_owned(),
            token_env: TOKEN_ENV.to_owned(),
            app: None,
            poll: Duration::from_secs(60),
            reconcile: Duration::from_secs(300),
            trust: Association::COLLABORATING.into(),
            routes: Vec::new(),
            pace: Pace::default(),
            webhook: None,
            body_depends: false,
            claim: ClaimKind::default(),
            claim_lease: claim_lease(),
            claim_label: None,
        }
    }
}

/// The number of a GitHub App.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppId(pub u32);

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The app that the supervisor is on GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// Which one.
    pub id: AppId,
    /// The file with its key, absolute. The key itself is no part of the plan.
    pub private_key_file: PathBuf,
}

/// `[github.webhook]`: where GitHub tells what has changed, before it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSpec {
    /// The address, on loopback.
    pub listen: String,
    /// The name of the variable with the secret. The secret itself is no part of the plan.
    pub secret_env: String,
}

/// Where GitHub's webhooks are received.
pub const WEBHOOK_PATH: &str = "/webhooks/github";

/// The events that a webhook must tell of so that nothing waits for a poll.
pub const WEBHOOK_EVENTS: [&str; 4] = ["issues", "issue_comment", "pull_request", "pull_request_review"];

/// The variable that holds the secret of the webhook when nobody names another.
pub const WEBHOOK_SECRET_ENV: &str = "MIYABI_WEBHOOK_SECRET";

/// What a webhook has named: something may have changed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id, the same when it is sent again.
    pub id: String,
    /// The repository.
    pub slug: RepositorySlug,
    /// Issues and pull requests.
    pub numbers: Vec<u64>,
}

/// How fast may be written with one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// The least time between the beginnings of two writes.
    #[serde(with = "span")]
    pub interval: Duration,
    /// The most writes that may begin within any minute.
    pub per_minute: u32,
    /// The most writes that may begin within any hour.
    pub per_hour: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), per_minute: 80, per_hour: 500 }
    }
}

/// One rule of routing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The label that an issue must have.
    pub label: String,
    /// Who does it; absent: the role of the workflow's first stage.
    pub assignee: Option<Assignee>,
    /// How urgent it is; absent: as usual.
    pub priority: Option<Priority>,
    /// How long a run may take before somebody is told; absent: for ever.
    #[serde(default, with = "super::task::optional_span", skip_serializing_if = "Option::is_none")]
    pub sla: Option<Duration>,
}

/// A repository's part on GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryOnGithub {
    /// Which one.
    pub slug: RepositorySlug,
    /// The labels any of which makes an issue work.
    pub labels: Vec<String>,
    /// How pull requests are opened.
    pub pull_request: PullRequestKind,
}

/// How a pull request is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullRequestKind {
    /// Ready for review.
    Ready,
    /// As a draft.
    Draft,
}

/// What an author is to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Association {
    /// Owns it.
    Owner,
    /// Belongs to the organisation that owns it.
    Member,
    /// Was invited to it.
    Collaborator,
    /// Has committed to it.
    Contributor,
    /// Anybody else, also of kinds that this program does not know.
    #[serde(other)]
    None,
}

impl Association {
    /// Those who may steer a repository.
    pub const COLLABORATING: [Self; 3] = [Self::Owner, Self::Member, Self::Collaborator];

    /// Says whether it may steer the repository.
    #[must_use]
    pub const fn collaborates(self) -> bool {
        match self {
            Self::Owner | Self::Member | Self::Collaborator => true,
            Self::Contributor | Self::None => false,
        }
    }

    /// Returns the word as GitHub writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "OWNER",
            Self::Member => "MEMBER",
            Self::Collaborator => "COLLABORATOR",
            Self::Contributor => "CONTRIBUTOR",
            Self::None => "NONE",
        }
    }
}

/// An issue of a repository: `owner/name#12`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IssueRef {
    /// The repository.
    pub slug: RepositorySlug,
    /// The issue's number.
    pub number: u64,
}

impl fmt::Display for IssueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.slug, self.number)
    }
}

/// An issue as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// Its number.
    pub number: u64,
    /// Its title: untrusted text.
    pub title: String,
    /// Its body: untrusted text.
    pub body: String,
    /// Whether it is open.
    pub open: bool,
    /// Its labels.
    pub labels: Vec<String>,
    /// Who wrote it.
    pub author: String,
    /// What its author is to the repository.
    pub association: Association,
    /// Who set the label that makes it work, as far as that was asked: only where the author does not suffice.
    pub labelled_by: Option<Actor>,
    /// The issues that block it and are open.
    pub blocked_by: Vec<IssueRef>,
    /// Its sub-issues that are open.
    #[serde(default)]
    pub sub_issues: Vec<IssueRef>,
    /// Whether a merged pull request has closed it, or it is a merged one, as far as that was asked.
    #[serde(default)]
    pub merged: bool,
    /// When it was changed, as GitHub writes it.
    pub updated_at: String,
}

/// Somebody who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The login.
    pub login: String,
    /// Whether the repository can be written by them.
    pub collaborates: bool,
}

/// A comment on an issue or pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// Its id.
    pub id: u64,
    /// The number of the issue or pull request.
    pub issue: u64,
    /// Its text: untrusted.
    pub body: String,
    /// Who wrote it.
    pub author: String,
    /// What its author is to the repository.
    pub association: Association,
    /// When it was changed, as GitHub writes it.
    pub updated_at: String,
}

/// Somebody asks for changes of a pull request of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Its id.
    pub id: u64,
    /// The number of the pull request.
    pub pull: u64,
    /// Who wrote it.
    pub author: String,
    /// What its author is to the repository.
    pub association: Association,
    /// Whether it says so by its kind; if not, its text may.
    pub requests_changes: bool,
    /// Its text: untrusted.
    pub body: String,
    /// What it says of single lines: untrusted.
    pub comments: Vec<LineComment>,
}

/// What a review says of a line.
pub type LineComment = super::report::Comment;

/// How many calls a token may still make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Calls per hour.
    pub limit: u32,
    /// Calls left.
    pub remaining: u32,
    /// When all of them are there again.
    pub reset: Timestamp,
}

/// A pull request of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Its page.
    pub url: String,
    /// How it is.
    pub state: PullState,
}

/// How a pull request is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum PullState {
    /// Waits to be merged.
    Open,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged {
        /// The commit on the base branch.
        commit: Option<String>,
    },
}

/// Names the task of an issue in a repository.
#[must_use]
pub fn task_of(repository: &super::id::RepositoryName, number: u64) -> Option<TaskId> {
    TaskId::new(format!("{repository}/issue-{number}")).ok()
}

/// Names the branch on which an issue's work is published.
#[must_use]
pub fn branch_of(number: u64) -> String {
    format!("auto-code/issue-{number}")
}

/// Returns the issue that a task of [`task_of`] stands for, without its repository.
#[must_use]
pub fn number_of(task: &TaskId) -> Option<(&str, u64)> {
    let (place, number) = task.as_str().split_once("/issue-")?;
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    Some((place, number.parse().ok().filter(|_| is_plain)?))
}

/// Names an issue of a repository that is not in agents.toml, as if it were a task. Owners have no dots in their names, so the
/// first one stands for the slash.
#[must_use]
pub fn foreign_task(issue: &IssueRef) -> Option<TaskId> {
    TaskId::new(format!("{}/issue-{}", issue.slug.as_str().replacen('/', ".", 1), issue.number)).ok()
}

/// Single issues that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Which.
    pub issues: Vec<WatchOne>,
    /// When it was asked; the answer says so too.
    pub asked: Timestamp,
}

/// One issue that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOne {
    /// Which.
    pub issue: IssueRef,
    /// Whether somebody may work on it, so that what blocks it and who vouches for it matters too.
    pub closely: bool,
    /// Whether it matters that a merged pull request has closed it.
    pub merged: bool,
    /// The labels any of which makes an issue work.
    pub labels: Vec<String>,
    /// Whose issues need nobody who vouches for them.
    pub trust: BTreeSet<Association>,
}

/// A round of discovery that is asked for in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discover {
    /// Where.
    pub slug: RepositorySlug,
    /// The labels any of which makes an issue work.
    pub labels: Vec<String>,
    /// Whose issues need nobody who vouches for them.
    pub trust: BTreeSet<Association>,
    /// What is read.
    pub reach: Reach,
    /// Comments are read from this change on; absent: none are.
    pub comments_since: Option<String>,
    /// Pull requests of ours that are not merged, to be looked at.
    pub pulls: Vec<u64>,
    /// The issues that are work also without any of the labels, because files list them.
    pub listed: BTreeSet<u64>,
    /// The issues for which it matters that a merged pull request has closed them.
    pub by_merge: BTreeSet<u64>,
    /// Reviews of these that need not be read again.
    pub reviewed: BTreeSet<u64>,
    /// When it was asked; the answer says so too, so that a late one is told from the one that is waited for.
    pub asked: Timestamp,
}

/// How much a round of discovery reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Everything that is open and has a label.
    All,
    /// Whatever was changed at this time or later.
    Since(String),
    /// Whatever these issues and pull requests are now.
    These(Vec<u64>),
}

/// What a round of discovery has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The issues; with [`Reach::All`] all that are open and have a label.
    pub issues: Vec<Issue>,
    /// The comments, oldest change first.
    pub comments: Vec<Comment>,
    /// The pull requests that were asked for.
    pub pulls: Vec<Pull>,
    /// The reviews of these that may ask for changes, oldest first.
    pub reviews: Vec<Review>,
    /// From which change on the next round must read.
    pub since: String,
}

/// Why GitHub did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Too much was asked: nothing may be asked before a time, or for a growing while.
    #[error("GitHub asks to wait: {reason}")]
    Limited {
        /// Until when, if it was said.
        until: Option<Timestamp>,
        /// What was said.
        reason: String,
    },
    /// It says no; asking again soon does not help.
    #[error("GitHub refuses with {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What was said.
        reason: String,
    },
    /// No answer, or a broken one: it may have been done or not.
    #[error("GitHub cannot be asked: {reason}")]
    Unsure {
        /// What went wrong.
        reason: String,
    },
    /// Something is in the way that a person has to decide about.
    #[error("{reason}")]
    Stopped {
        /// What, for people.
        reason: String,
    },
}

impl Trouble {
    /// Names what was asked for: a missing permission is found by that.
    #[must_use]
    pub fn of(self, path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        match self {
            Self::Refused { status, reason } => Self::Refused { status, reason: format!("{reason} ({path})") },
            Self::Unsure { reason } => Self::Unsure { reason: format!("{reason} ({path})") },
            other @ (Self::Limited { .. } | Self::Stopped { .. }) => other,
        }
    }
}

/// What is written: each is at most one write for GitHub, and repeating it writes nothing twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A branch, and the pull request that asks for it.
    Publish(Box<Publish>),
    /// The comment that says how a run stands.
    Comment {
        /// The comment, if it is known.
        known: Option<u64>,
        /// The hidden text by which it is found again.
        marker: String,
        /// Everything that it says, the marker included.
        body: String,
    },
    /// The same comment with a claim in it; what is claimed is looked at afterwards.
    Claim {
        /// What it is written for.
        kind: WriteKind,
        /// The comment that is edited; absent: a new one is made, whatever is there.
        known: Option<u64>,
        /// Everything that it says.
        body: String,
    },
    /// A comment of ours that nobody needs is taken away.
    Withdraw {
        /// The comment.
        comment: u64,
    },
    /// The state of a commit.
    Status {
        /// The commit.
        commit: String,
        /// What is said of it.
        description: String,
    },
    /// The label by which people see that an issue is worked on.
    Label(Labelling),
}

/// What becomes of a label of an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labelling {
    /// It is added.
    Add(String),
    /// It is taken away.
    Remove(String),
}

/// A proven commit on its way to a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The commit.
    pub commit: String,
    /// The branch of the attempt that holds it, in the repository that was worked in.
    pub from: String,
    /// The branch that will hold it on GitHub.
    pub branch: String,
    /// What that branch may hold before: commits that we have pushed.
    pub ours: Vec<String>,
    /// The branch that is asked to take it.
    pub base: String,
    /// The title of the pull request.
    pub title: String,
    /// Its text.
    pub body: String,
    /// How it is opened.
    pub kind: PullRequestKind,
    /// What becomes of one that somebody has closed.
    pub closed: Closed,
    /// Whose claim must hold: looked at right before anything is changed. Absent: none is needed.
    pub claimant: Option<Claimant>,
}

/// What becomes of a pull request of ours that somebody has closed without a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It stays so, and people are asked.
    Ask,
    /// Somebody has asked for another run since: it is opened again.
    Reopen,
}

/// What came of a [`Write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The pull request.
    Published(Pull),
    /// The comment's id.
    Commented(u64),
    /// The comment's id, and what is claimed now.
    Claimed(u64, Claims),
    /// The comment is gone.
    Withdrawn(u64),
    /// The state is set.
    StatusSet,
    /// The label is as it should be.
    Labelled,
}

impl Write {
    /// Returns what kind of write it is.
    #[must_use]
    pub const fn kind(&self) -> WriteKind {
        match self {
            Self::Publish(_) => WriteKind::Publish,
            Self::Comment { .. } => WriteKind::Comment,
            Self::Claim { kind, .. } => *kind,
            Self::Withdraw { .. } => WriteKind::Withdraw,
            Self::Status { .. } => WriteKind::Status,
            Self::Label(_) => WriteKind::Label,
        }
    }
}

/// The kinds of writes, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteKind {
    /// A branch and its pull request.
    Publish,
    /// The label of an issue that is worked on; it goes before the comment with which a claim is given up, so that it is never
    /// taken away from the next one who claims.
    Label,
    /// The comment of a run.
    Comment,
    /// The state of a commit.
    Status,
    /// The claim of an issue, in the comment of a run.
    Claim,
    /// A comment that nobody needs.
    Withdraw,
}

impl WriteKind {
    /// Returns the kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Label => "label",
            Self::Comment => "comment",
            Self::Status => "status",
            Self::Claim => "claim",
            Self::Withdraw => "withdraw",
        }
    }
}
