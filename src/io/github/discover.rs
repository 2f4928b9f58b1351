//! One round of discovery in one repository.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::client::Client;
use super::wire::encoded;
use crate::io::clock;
use crate::model::github::{
    Actor, Association, Comment, Discover, Found, Issue, IssueRef, LineComment, Pull, PullState, Reach, Review,
    Trouble, Watch, WatchOne,
};
use crate::model::id::RepositorySlug;
use crate::model::report::COMMENTS_MAX;

/// How far back a first round begins to listen when there is no issue to go by.
const MARGIN: Duration = Duration::from_secs(60);

/// Only what we read: one missing field of a stricter form would fail the whole list.
#[derive(Debug, Deserialize)]
struct RawIssue {
    number: u64,
    #[serde(default)]
    title: String,
    #[serde(default)]
    body: Option<String>,
    state: String,
    #[serde(default)]
    labels: Vec<RawLabel>,
    #[serde(default)]
    user: Option<RawUser>,
    #[serde(default = "nobody")]
    author_association: Association,
    updated_at: String,
    #[serde(default)]
    pull_request: Option<RawMerge>,
    #[serde(default)]
    issue_dependencies_summary: Option<RawSummary>,
    #[serde(default)]
    sub_issues_summary: Option<RawSubIssues>,
}

/// Whether a pull request was merged, as lists of issues tell it.
#[derive(Debug, Deserialize)]
struct RawMerge {
    #[serde(default)]
    merged_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RawSubIssues {
    #[serde(default)]
    total: u64,
    #[serde(default)]
    completed: u64,
}

/// Something that has happened to an issue.
#[derive(Debug, Deserialize)]
struct RawHappening {
    #[serde(default)]
    event: String,
    #[serde(default)]
    source: Option<RawSource>,
}

#[derive(Debug, Deserialize)]
struct RawSource {
    #[serde(default)]
    issue: Option<RawMention>,
}

#[derive(Debug, Deserialize)]
struct RawMention {
    #[serde(default)]
    pull_request: Option<RawMerge>,
}

const fn nobody() -> Association {
    Association::None
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawLabel {
    Name(String),
    Label { name: Option<String> },
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct RawUser {
    pub(super) login: String,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
}

#[derive(Debug, Deserialize)]
struct RawSummary {
    #[serde(default)]
    blocked_by: u64,
}

#[derive(Debug, Deserialize)]
struct RawRelated {
    number: u64,
    state: String,
    #[serde(default)]
    repository_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RawEvent {
    event: String,
    #[serde(default)]
    actor: Option<RawUser>,
    #[serde(default)]
    label: Option<RawLabel>,
}

#[derive(Debug, Deserialize)]
struct RawPermission {
    #[serde(default)]
    permission: String,
    #[serde(default)]
    role_name: String,
}

#[derive(Debug, Deserialize)]
struct RawComment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    user: Option<RawUser>,
    #[serde(default = "nobody")]
    author_association: Association,
    updated_at: String,
    issue_url: String,
}

#[derive(Debug, Deserialize)]
struct RawReview {
    id: u64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    user: Option<RawUser>,
    #[serde(default = "nobody")]
    author_association: Association,
    state: String,
}

#[derive(Debug, Deserialize)]
struct RawLineComment {
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    line: Option<u32>,
    #[serde(default)]
    original_line: Option<u32>,
    #[serde(default)]
    body: Option<String>,
}

/// A pull request as GitHub tells it.
#[derive(Debug, Deserialize)]
pub(super) struct RawPull {
    pub(super) number: u64,
    pub(super) html_url: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) merged_at: Option<String>,
    #[serde(default)]
    pub(super) merge_commit_sha: Option<String>,
    #[serde(default)]
    pub(super) user: Option<RawUser>,
    pub(super) head: RawHead,
}

/// Where a pull request comes from.
#[derive(Debug, Deserialize)]
pub(super) struct RawHead {
    pub(super) sha: String,
}

impl RawLabel {
    fn into_name(self) -> Option<String> {
        match self {
            Self::Name(name) => Some(name),
            Self::Label { name } => name,
        }
    }
}

impl RawLineComment {
    fn into_comment(self) -> LineComment {
        LineComment { path: self.path, line: self.line.or(self.original_line), text: self.body.unwrap_or_default() }
    }
}

impl RawPull {
    pub(super) fn into_pull(self) -> Pull {
        let state = match (self.state.as_str(), &self.merged_at) {
            (_, Some(_)) => PullState::Merged { commit: self.merge_commit_sha },
            ("open", None) => PullState::Open,
            (_, None) => PullState::Closed,
        };
        Pull { number: self.number, url: self.html_url, state }
    }
}

/// How closely an issue is looked at.
struct Closer<'w> {
    slug: &'w RepositorySlug,
    labels: &'w [String],
    trust: &'w BTreeSet<Association>,
    /// Also without any of the labels.
    without_label: bool,
    /// Whether it matters that a merged pull request has closed it.
    merged: bool,
}

impl Client {
    /// Looks what has changed in a repository.
    ///
    /// # Errors
    /// The first trouble ends the round; the next one reads it all again.
    pub async fn discover(&self, what: &Discover) -> Result<Found, Trouble> {
        let begun = clock::now() - MARGIN;
        let raw = self.issues(what).await?;
        let newest = raw.iter().map(|issue| issue.updated_at.clone()).max();
        let since = match (&what.reach, newest) {
            (_, Some(newest)) => newest,
            (Reach::Since(since), None) => since.clone(),
            (Reach::All | Reach::These(_), None) => begun.to_string(),
        };
        let mut actors = BTreeMap::new();
        let mut issues = Vec::with_capacity(raw.len());
        for issue in raw.into_iter().filter(|issue| issue.pull_request.is_none()) {
            issues.push(self.look_closer(what, issue, &mut actors).await?);
        }
        let comments = match &what.comments_since {
            Some(since) => self.comments(&what.slug, since).await?,
            None => Vec::new(),
        };
        let mut pulls = Vec::with_capacity(what.pulls.len());
        let mut reviews = Vec::new();
        for number in &what.pulls {
            let pull: RawPull = self.get(&format!("/repos/{}/pulls/{number}", what.slug)).await?;
            let pull = pull.into_pull();
            if pull.state == PullState::Open {
                reviews.extend(self.reviews(what, *number).await?);
            }
            pulls.push(pull);
        }
        Ok(Found { issues, comments, pulls, reviews, since })
    }

    async fn issues(&self, what: &Discover) -> Result<Vec<RawIssue>, Trouble> {
        let slug = &what.slug;
        match &what.reach {
            Reach::Since(since) => {
                let since = encoded(since);
                let path =
                    format!("/repos/{slug}/issues?state=all&sort=updated&direction=asc&per_page=100&since={since}");
                self.list(&path).await
            }
            Reach::These(numbers) => {
                let mut found = Vec::with_capacity(numbers.len());
                for number in numbers {
                    match self.get::<RawIssue>(&format!("/repos/{slug}/issues/{number}")).await {
                        Ok(issue) => found.push(issue),
                        // Deleted or transferred: the next look at everything sees that it is gone.
                        Err(Trouble::Refused { status: 301 | 404 | 410, .. }) => {}
                        Err(trouble) => return Err(trouble),
                    }
                }
                Ok(found)
            }
            Reach::All => {
                // A list by several labels would have only issues with all of them.
                let mut found = BTreeMap::new();
                for label in &what.labels {
                    let label = encoded(label);
                    let path = format!(
                        "/repos/{slug}/issues?state=open&sort=created&direction=asc&per_page=100&labels={label}"
                    );
                    let issues: Vec<RawIssue> = self.list(&path).await?;
                    found.extend(issues.into_iter().map(|issue| (issue.number, issue)));
                }
                Ok(found.into_values().collect())
            }
        }
    }

    /// Asks what the list does not tell, where it matters.
    async fn look_closer(
        &self,
        what: &Discover,
        raw: RawIssue,
        actors: &mut BTreeMap<String, bool>,
    ) -> Result<Issue, Trouble> {
        let (without_label, merged) = (what.listed.contains(&raw.number), what.by_merge.contains(&raw.number));
        let closer = Closer { slug: &what.slug, labels: &what.labels, trust: &what.trust, without_label, merged };
        self.look(&closer, raw, actors).await
    }

    async fn look(
        &self,
        how: &Closer<'_>,
        raw: RawIssue,
        actors: &mut BTreeMap<String, bool>,
    ) -> Result<Issue, Trouble> {
        let labels: Vec<String> = raw.labels.into_iter().filter_map(RawLabel::into_name).collect();
        let has = |label: &String| labels.iter().any(|found| found.to_lowercase() == label.to_lowercase());
        let trigger = how.labels.iter().find(|label| has(label)).cloned();
        let open = raw.state == "open";
        let mut issue = Issue {
            number: raw.number,
            title: raw.title,
            body: raw.body.unwrap_or_default(),
            open,
            labels,
            author: raw.user.map(|user| user.login).unwrap_or_default(),
            association: raw.author_association,
            labelled_by: None,
            blocked_by: Vec::new(),
            sub_issues: Vec::new(),
            merged: raw.pull_request.is_some_and(|pull| pull.merged_at.is_some()),
            updated_at: raw.updated_at,
        };
        if !open && how.merged && !issue.merged {
            issue.merged = self.was_closed_by_merge(how.slug, issue.number).await?;
        }
        if !open || (trigger.is_none() && !how.without_label) {
            return Ok(issue);
        }
        if let Some(trigger) = trigger.filter(|_| !how.trust.contains(&issue.association)) {
            issue.labelled_by = self.labelled_by(how.slug, issue.number, &trigger, actors).await?;
        }
        if raw.issue_dependencies_summary.is_some_and(|summary| summary.blocked_by > 0) {
            issue.blocked_by = self.related(how.slug, issue.number, "dependencies/blocked_by").await?;
        }
        if raw.sub_issues_summary.is_some_and(|summary| summary.total > summary.completed) {
            issue.sub_issues = self.related(how.slug, issue.number, "sub_issues").await?;
        }
        Ok(issue)
    }

    /// Looks at single issues, one after the other; those behind one for which GitHub asks to wait are not reached.
    pub async fn watch(&self, what: &Watch) -> Vec<(IssueRef, Result<Box<Issue>, Trouble>)> {
        let mut actors = BTreeMap::new();
        let mut found = Vec::with_capacity(what.issues.len());
        for one in &what.issues {
            let result = self.watch_one(one, &mut actors).await.map(Box::new);
            let is_limited = matches!(result, Err(Trouble::Limited { .. }));
            found.push((one.issue.clone(), result));
            if is_limited {
                break;
            }
        }
        found
    }

    async fn watch_one(&self, one: &WatchOne, actors: &mut BTreeMap<String, bool>) -> Result<Issue, Trouble> {
        let IssueRef { slug, number } = &one.issue;
        let raw: RawIssue = self.get(&format!("/repos/{slug}/issues/{number}")).await?;
        let is_pull = raw.pull_request.is_some();
        if is_pull && one.closely {
            return Err(Trouble::Stopped { reason: format!("{} is a pull request, and no issue", one.issue) });
        }
        let (without_label, merged) = (one.closely, one.merged && !is_pull);
        let closer = Closer { slug, labels: &one.labels, trust: &one.trust, without_label, merged };
        self.look(&closer, raw, actors).await
    }

    /// Says whether a pull request that names an issue was merged: GitHub says of no issue what has closed it.
    async fn was_closed_by_merge(&self, slug: &RepositorySlug, number: u64) -> Result<bool, Trouble> {
        let path = format!("/repos/{slug}/issues/{number}/timeline?per_page=100");
        let events: Vec<RawHappening> = self.list(&path).await?;
        Ok(events.into_iter().filter(|event| matches!(event.event.as_str(), "cross-referenced" | "connected")).any(
            |event| {
                let pull = event.source.and_then(|source| source.issue).and_then(|issue| issue.pull_request);
                pull.is_some_and(|pull| pull.merged_at.is_some())
            },
        ))
    }

    /// Finds out who set a label last, and whether they may: the label's presence alone proves nothing.
    async fn labelled_by(
        &self,
        slug: &RepositorySlug,
        number: u64,
        label: &str,
        actors: &mut BTreeMap<String, bool>,
    ) -> Result<Option<Actor>, Trouble> {
        let events: Vec<RawEvent> = self.list(&format!("/repos/{slug}/issues/{number}/events?per_page=100")).await?;
        let last = events.into_iter().rev().find_map(|event| {
            let name = event.label.and_then(RawLabel::into_name)?;
            (event.event == "labeled" && name.to_lowercase() == label.to_lowercase()).then_some(event.actor)?
        });
        let Some(RawUser { login, .. }) = last else { return Ok(None) };
        let collaborates = match actors.get(&login) {
            Some(known) => *known,
            None => {
                let known = self.collaborates(slug, &login).await?;
                actors.insert(login.clone(), known);
                known
            }
        };
        Ok(Some(Actor { login, collaborates }))
    }

    async fn collaborates(&self, slug: &RepositorySlug, login: &str) -> Result<bool, Trouble> {
        let path = format!("/repos/{slug}/collaborators/{}/permission", encoded(login));
        let may = |word: &str| matches!(word, "admin" | "maintain" | "write" | "push" | "triage");
        match self.get::<RawPermission>(&path).await {
            Ok(found) => Ok(may(&found.permission) || may(&found.role_name)),
            Err(Trouble::Refused { status: 404, .. }) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    /// Returns the open issues to which an issue has a relation, also those of other repositories.
    async fn related(&self, slug: &RepositorySlug, number: u64, relation: &str) -> Result<Vec<IssueRef>, Trouble> {
        let path = format!("/repos/{slug}/issues/{number}/{relation}?per_page=100");
        let related: Vec<RawRelated> = self.list(&path).await?;
        Ok(related
            .into_iter()
            .filter(|issue| issue.state == "open")
            .map(|issue| {
                let named = issue.repository_url.as_deref().and_then(|url| url.split_once("/repos/"));
                let slug = named.and_then(|(_, name)| RepositorySlug::new(name).ok()).unwrap_or_else(|| slug.clone());
                IssueRef { slug, number: issue.number }
            })
            .collect())
    }

    /// Reads the reviews of a pull request that may ask for changes and were not dealt with. Only those of people who may steer
    /// the repository are read closer: anybody can write reviews.
    async fn reviews(&self, what: &Discover, pull: u64) -> Result<Vec<Review>, Trouble> {
        let path = format!("/repos/{}/pulls/{pull}/reviews", what.slug);
        let listed: Vec<RawReview> = self.list(&format!("{path}?per_page=100")).await?;
        let mut reviews = Vec::new();
        for raw in listed {
            let body = raw.body.unwrap_or_default();
            let requests_changes = raw.state == "CHANGES_REQUESTED";
            let commands = raw.state == "COMMENTED" && body.trim_start().starts_with("/miyabi");
            if what.reviewed.contains(&raw.id)
                || !raw.author_association.collaborates()
                || !(requests_changes || commands)
            {
                continue;
            }
            let comments: Vec<RawLineComment> = self.list(&format!("{path}/{}/comments?per_page=100", raw.id)).await?;
            reviews.push(Review {
                id: raw.id,
                pull,
                author: raw.user.map(|user| user.login).unwrap_or_default(),
                association: raw.author_association,
                requests_changes,
                body,
                comments: comments.into_iter().take(COMMENTS_MAX).map(RawLineComment::into_comment).collect(),
            });
        }
        Ok(reviews)
    }

    async fn comments(&self, slug: &RepositorySlug, since: &str) -> Result<Vec<Comment>, Trouble> {
        let since = encoded(since);
        let path = format!("/repos/{slug}/issues/comments?sort=updated&direction=asc&per_page=100&since={since}");
        let comments: Vec<RawComment> = self.list(&path).await?;
        Ok(comments
            .into_iter()
            .filter_map(|raw| {
                Some(Comment {
                    id: raw.id,
                    issue: raw.issue_url.rsplit('/').next()?.parse().ok()?,
                    body: raw.body.unwrap_or_default(),
                    author: raw.user.map(|user| user.login).unwrap_or_default(),
                    association: raw.author_association,
                    updated_at: raw.updated_at,
                })
            })
            .collect())
    }
}
