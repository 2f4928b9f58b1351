//! How everything about GitHub stands, as `github status` and `route` show it.

use serde::{Deserialize, Serialize};

use super::github::{Pull, Quota};
use super::id::{RepositoryName, RepositorySlug, TaskId};
use super::time::Timestamp;

/// The answer to `github status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GithubView {
    /// The address of the API.
    pub api_url: String,
    /// How many calls are left, as GitHub said last.
    pub quota: Option<Quota>,
    /// Until when nothing is asked because GitHub wants it.
    pub paused_until: Option<Timestamp>,
    /// Why.
    pub paused_reason: Option<String>,
    /// The repositories, in the order of agents.toml.
    pub repositories: Vec<RepositoryView>,
    /// The queue of writes.
    pub writes: WritesView,
    /// The receiving side of webhooks, if there is one.
    #[serde(default)]
    pub webhook: Option<WebhookView>,
    /// Issues with the label that nobody vouches for.
    pub not_trusted: Vec<NotTakenView>,
    /// Issues that cannot be taken for another reason.
    pub conflicts: Vec<NotTakenView>,
    /// Tasks that have something on GitHub.
    pub tasks: Vec<TaskOnGithubView>,
    /// The name of this orchestra among others that watch the same repositories.
    #[serde(default)]
    pub orchestra: String,
    /// Which issues are claimed, and by whom.
    #[serde(default)]
    pub claims: Vec<ClaimView>,
}

/// A claim that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimView {
    /// The task that the issue is here.
    pub task: TaskId,
    /// The orchestra that works on it.
    pub orchestra: String,
    /// Whether that is this one.
    pub ours: bool,
    /// When the claim ends unless it is renewed; absent: the work is done.
    pub until: Option<Timestamp>,
}

/// The receiving side of webhooks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookView {
    /// Where it listens.
    pub listen: String,
    /// Why it cannot.
    pub trouble: Option<String>,
    /// How many deliveries were kept since the start.
    pub received: u64,
    /// How many came once more.
    pub repeated: u64,
    /// How many were refused because too many waited, or because the disk had no room.
    pub refused: u64,
    /// When the newest one came.
    pub last: Option<Timestamp>,
}

/// One repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryView {
    /// Its name in agents.toml.
    pub name: RepositoryName,
    /// Its name on GitHub.
    pub slug: RepositorySlug,
    /// When it was asked last, with an answer.
    pub last_poll: Option<Timestamp>,
    /// When it is asked next.
    pub next_poll: Option<Timestamp>,
    /// Why the last question had no answer.
    pub trouble: Option<String>,
}

/// The queue of writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritesView {
    /// How many are to be made, the one under way included.
    pub waiting: usize,
    /// When the next one can begin.
    pub next_at: Option<Timestamp>,
    /// How many began within the last minute.
    pub last_minute: usize,
    /// How many began within the last hour.
    pub last_hour: usize,
    /// Those that did not go through, a line each.
    pub troubles: Vec<String>,
}

/// An issue that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotTakenView {
    /// The issue, e.g. `owner/name#12`.
    pub issue: String,
    /// Its title.
    pub title: String,
    /// Who wrote it.
    pub author: String,
    /// Why it is not taken.
    pub reason: String,
}

/// A task that has something on GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOnGithubView {
    /// The task.
    pub task: TaskId,
    /// The issue, e.g. `owner/name#12`.
    pub issue: Option<String>,
    /// The pull request.
    pub pull: Option<Pull>,
    /// The id of the comment of the current run.
    pub comment: Option<u64>,
}

/// The answer to `route`: where an issue goes, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// The issue, e.g. `owner/name#12`.
    pub issue: String,
    /// Its task.
    pub task: TaskId,
    /// Whether it is taken.
    pub taken: bool,
    /// Who does it, e.g. `role codegen`.
    pub assignee: String,
    /// 1 (highest) to 5.
    pub priority: u8,
    /// What must be done first.
    pub needs: Vec<TaskId>,
    /// How that came about, a line each.
    pub because: Vec<String>,
}
