//! Writing on GitHub: each thing is looked for by what it is known by before it is made.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::discover::{RawPull, RawUser};
use super::wire::{Call, encoded, refused};
use crate::model::claim::{ClaimComment, Claimant, Claims, Holder, may_claim};
use crate::model::github::{Association, Closed, Labelling, Publish, Pull, PullRequestKind, Trouble};
use crate::model::id::RepositorySlug;
use crate::model::time::Timestamp;

/// The name under which the state of a commit is shown.
const STATUS_CONTEXT: &str = "miyabi";

/// The longest description of a state that GitHub takes, in characters.
const STATUS_CHARS_MAX: usize = 140;

#[derive(Debug, Deserialize)]
struct RawComment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    user: Option<RawUser>,
    #[serde(default = "nobody")]
    author_association: Association,
    #[serde(default)]
    updated_at: Option<Timestamp>,
}

const fn nobody() -> Association {
    Association::None
}

impl Client {
    /// Finds the pull request of a branch that is pushed already, or makes it. One of somebody else is never touched.
    ///
    /// # Errors
    /// [`Trouble::Stopped`] where a person has to decide.
    pub async fn open_pull(&self, slug: &RepositorySlug, publish: &Publish) -> Result<Pull, Trouble> {
        let (title, body) = (&publish.title, &publish.body);
        let Some(found) = self.find_pull(slug, publish).await? else {
            let draft = publish.kind == PullRequestKind::Draft;
            let new = json!({
                "title": title, "body": body, "head": publish.branch, "base": publish.base, "draft": draft,
            });
            let path = format!("/repos/{slug}/pulls");
            return match self.send::<RawPull>(Method::POST, &path, &new).await {
                Ok(made) => Ok(made.into_pull()),
                // Somebody was quicker, most likely ourselves before a crash.
                Err(refusal @ Trouble::Refused { status: 422, .. }) => {
                    self.find_pull(slug, publish).await?.map(RawPull::into_pull).ok_or(refusal)
                }
                Err(trouble) => Err(trouble),
            };
        };
        let path = format!("/repos/{slug}/pulls/{}", found.number);
        let (open, merged) = (found.state == "open", found.merged_at.is_some());
        let change = match publish.closed {
            _ if merged => return Ok(found.into_pull()),
            _ if open => json!({ "title": title, "body": body }),
            Closed::Reopen => json!({ "title": title, "body": body, "state": "open" }),
            Closed::Ask => return Ok(found.into_pull()),
        };
        self.send::<RawPull>(Method::PATCH, &path, &change).await.map(RawPull::into_pull)
    }

    async fn find_pull(&self, slug: &RepositorySlug, publish: &Publish) -> Result<Option<RawPull>, Trouble> {
        let owner = slug.as_str().split('/').next().unwrap_or_default();
        let head = encoded(&format!("{owner}:{}", publish.branch));
        let path = format!("/repos/{slug}/pulls?state=all&per_page=100&head={head}");
        let found: Vec<RawPull> = self.list(&path).await?;
        if found.is_empty() {
            return Ok(None);
        }
        let us = self.login().await?;
        let (ours, others): (Vec<RawPull>, Vec<RawPull>) =
            found.into_iter().partition(|pull| pull.user.as_ref().is_some_and(|user| user.login == us));
        if let Some(other) = others.iter().find(|pull| pull.state == "open") {
            let by = other.user.as_ref().map_or("somebody else", |user| user.login.as_str());
            let branch = &publish.branch;
            return Err(Trouble::Stopped {
                reason: format!("pull request #{} of the branch {branch} is by {by}, not by {us}", other.number),
            });
        }
        // An open one goes before one that was merged with this very commit, and that before the newest closed one. A merged
        // one with another commit belongs to an earlier run, and is over.
        let merged = |pull: &RawPull| pull.merged_at.is_some();
        let rank = |pull: &RawPull| match pull {
            pull if pull.state == "open" => Some(2),
            pull if merged(pull) => (pull.head.sha == publish.commit).then_some(1),
            _ => Some(0),
        };
        Ok(ours.into_iter().filter(|pull| rank(pull).is_some()).max_by_key(|pull| (rank(pull), pull.number)))
    }

    /// Edits the comment with a marker, or makes it.
    ///
    /// # Errors
    /// Those of the calls.
    pub async fn comment(
        &self,
        slug: &RepositorySlug,
        issue: u64,
        known: Option<u64>,
        marker: &str,
        body: &str,
    ) -> Result<u64, Trouble> {
        let new = json!({ "body": body });
        if let Some(known) = known {
            let path = format!("/repos/{slug}/issues/comments/{known}");
            match self.send::<RawComment>(Method::PATCH, &path, &new).await {
                Ok(comment) => return Ok(comment.id),
                // Somebody has deleted it.
                Err(Trouble::Refused { status: 404 | 410, .. }) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let us = self.login().await?;
        let comments: Vec<RawComment> =
            self.list(&format!("/repos/{slug}/issues/{issue}/comments?per_page=100")).await?;
        let ours = comments.into_iter().find(|comment| {
            comment.user.as_ref().is_some_and(|user| user.login == us)
                && comment.body.as_ref().is_some_and(|body| body.contains(marker))
        });
        let (method, path) = match ours {
            Some(ours) => (Method::PATCH, format!("/repos/{slug}/issues/comments/{}", ours.id)),
            None => (Method::POST, format!("/repos/{slug}/issues/{issue}/comments")),
        };
        self.send::<RawComment>(method, &path, &new).await.map(|comment| comment.id)
    }

    /// Looks which orchestras' comments are on an issue, as far as their authors count.
    ///
    /// # Errors
    /// Those of the calls.
    pub async fn claims(&self, slug: &RepositorySlug, issue: u64) -> Result<Claims, Trouble> {
        let us = self.login().await?;
        let path = format!("/repos/{slug}/issues/{issue}/comments?per_page=100");
        let (comments, at) = self.list_at::<RawComment>(&path).await?;
        let read = |comment: RawComment| {
            let user = comment.user?;
            let is_app = user.kind == "Bot";
            let counts = may_claim(user.login == us, comment.author_association, is_app);
            ClaimComment::parse(comment.id, comment.body.as_deref()?, comment.updated_at?).filter(|_| counts)
        };
        Ok(Claims { at, comments: comments.into_iter().filter_map(read).collect() })
    }

    /// Edits a comment with a claim, or makes one, and looks at what is claimed then.
    ///
    /// # Errors
    /// Those of the calls. The comment may be there all the same.
    pub async fn claim(
        &self,
        slug: &RepositorySlug,
        issue: u64,
        known: Option<u64>,
        body: &str,
    ) -> Result<(u64, Claims), Trouble> {
        let (method, path) = match known {
            Some(known) => (Method::PATCH, format!("/repos/{slug}/issues/comments/{known}")),
            None => (Method::POST, format!("/repos/{slug}/issues/{issue}/comments")),
        };
        let comment: RawComment = self.send(method, &path, &json!({ "body": body })).await?;
        Ok((comment.id, self.claims(slug, issue).await?))
    }

    /// Goes on only if an orchestra's claim holds: right before something that others would see.
    ///
    /// # Errors
    /// [`Trouble::Stopped`] if it does not.
    pub async fn check_claim(&self, slug: &RepositorySlug, issue: u64, us: &Claimant) -> Result<(), Trouble> {
        let reason = match self.claims(slug, issue).await?.holder(us, None) {
            Holder::Us { .. } => return Ok(()),
            Holder::Other { orchestra, .. } => format!("the orchestra {orchestra} works on its issue"),
            Holder::Nobody { .. } => "the claim on its issue has ended".to_owned(),
        };
        Err(Trouble::Stopped { reason })
    }

    /// Takes a comment away; one that is gone already is gone.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn withdraw(&self, slug: &RepositorySlug, comment: u64) -> Result<(), Trouble> {
        let path = format!("/repos/{slug}/issues/comments/{comment}");
        let answered = self.ask(Call { method: Method::DELETE, ..Call::get(&path) }).await?;
        match answered.status.as_u16() {
            200..300 | 404 | 410 => Ok(()),
            _ => Err(refused(answered.status, &answered.body).of(&path)),
        }
    }

    /// Adds a label to an issue, or takes it away; one that is there or gone already is as it should be.
    ///
    /// # Errors
    /// Those of the call; a refusal says what to look at.
    pub async fn label(&self, slug: &RepositorySlug, issue: u64, how: &Labelling) -> Result<(), Trouble> {
        let path = format!("/repos/{slug}/issues/{issue}/labels");
        let done = match how {
            Labelling::Add(label) => {
                self.send::<serde_json::Value>(Method::POST, &path, &json!({ "labels": [label] })).await.map(drop)
            }
            Labelling::Remove(label) => {
                let path = format!("{path}/{}", encoded(label));
                let answered = self.ask(Call { method: Method::DELETE, ..Call::get(&path) }).await?;
                match answered.status.as_u16() {
                    200..300 | 404 | 410 => Ok(()),
                    _ => Err(refused(answered.status, &answered.body).of(&path)),
                }
            }
        };
        done.map_err(|trouble| match (trouble, how) {
            (Trouble::Refused { status, reason }, Labelling::Add(label)) => {
                let hint =
                    "the token must write issues, and `claim_label` must name a label that the repository can have";
                Trouble::Refused { status, reason: format!("{reason}; the label `{label}` cannot be set: {hint}") }
            }
            (trouble, _) => trouble,
        })
    }

    /// Says that a commit is proven; saying it again changes nothing.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn status(&self, slug: &RepositorySlug, commit: &str, description: &str) -> Result<(), Trouble> {
        let description: String = description.chars().take(STATUS_CHARS_MAX).collect();
        let state = json!({ "state": "success", "context": STATUS_CONTEXT, "description": description });
        let path = format!("/repos/{slug}/statuses/{commit}");
        self.send::<serde_json::Value>(Method::POST, &path, &state).await.map(drop)
    }
}
