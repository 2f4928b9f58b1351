//! Asking GitHub: conditional questions, and what is left of the quota.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::installation::Installation;
use super::wire::{Answered, Call, Wire, date, parse, quota, refused};
use crate::io::clock;
use crate::model::github::{Quota, Trouble};
use crate::model::id::RepositorySlug;
use crate::model::secret::Secret;
use crate::model::time::Timestamp;

/// How many answers are kept for conditional questions.
const KEPT_MAX: usize = 2_000;

/// How many bytes of answers are kept.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many pages of one list are read.
const PAGES_MAX: usize = 500;

/// The way to GitHub of one token, or of one installation of an app.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    access: Access,
    kept: Mutex<Kept>,
    quota: Mutex<Option<Quota>>,
    login: OnceCell<String>,
}

/// What is shown to GitHub.
#[derive(Debug)]
enum Access {
    /// The token of a person or machine user.
    Token(Secret),
    /// The tokens that an app is given, each for an hour.
    Installation(Arc<Installation>),
}

/// Answers that may be asked for again with "only if it has changed".
#[derive(Debug, Default)]
struct Kept {
    answers: BTreeMap<String, Answer>,
    bytes: usize,
    turn: u64,
}

#[derive(Debug, Clone)]
struct Answer {
    etag: HeaderValue,
    body: Vec<u8>,
    next: Option<String>,
    used: u64,
}

/// A page of a list.
struct Page {
    body: Vec<u8>,
    next: Option<String>,
    /// When it was answered by GitHub's clock.
    at: Option<Timestamp>,
}

impl Client {
    /// Sets up a client for a token.
    ///
    /// # Errors
    /// The address is none, or no connection can be set up.
    pub fn new(token: Secret, api: &str) -> Result<Self, super::GithubError> {
        Self::with(Access::Token(token), api)
    }

    /// Sets up a client for an installation of an app.
    ///
    /// # Errors
    /// The address is none, or no connection can be set up.
    pub fn of_installation(installation: Arc<Installation>, api: &str) -> Result<Self, super::GithubError> {
        Self::with(Access::Installation(installation), api)
    }

    fn with(access: Access, api: &str) -> Result<Self, super::GithubError> {
        let (kept, quota) = (Mutex::default(), Mutex::default());
        Ok(Self { wire: Wire::new(api)?, access, kept, quota, login: OnceCell::new() })
    }

    /// Returns what is left of the quota, as GitHub said last.
    #[must_use]
    pub fn quota(&self) -> Option<Quota> {
        *self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns who the token is.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn login(&self) -> Result<&str, Trouble> {
        #[derive(Deserialize)]
        struct User {
            login: String,
        }
        self.login
            .get_or_try_init(|| async {
                match &self.access {
                    Access::Token(_) => self.get::<User>("/user").await.map(|user| user.login),
                    Access::Installation(installation) => installation.login().await,
                }
            })
            .await
            .map(String::as_str)
    }

    /// Returns what git is to show to GitHub now.
    ///
    /// # Errors
    /// An app is given no token.
    pub async fn token(&self) -> Result<Secret, Trouble> {
        match &self.access {
            Access::Token(token) => Ok(token.clone()),
            Access::Installation(installation) => installation.token().await,
        }
    }

    /// Notes that a token may be worth nothing any more; says whether the next one is another.
    pub async fn doubt(&self, token: &Secret) -> bool {
        match &self.access {
            Access::Token(_) => false,
            Access::Installation(installation) => {
                installation.doubt(token).await;
                true
            }
        }
    }

    /// Names a repository of those that this is for.
    pub(super) fn find_by(&self, slug: &RepositorySlug) {
        match &self.access {
            Access::Token(_) => {}
            Access::Installation(installation) => installation.find_by(slug),
        }
    }

    /// Takes the tokens out of a text.
    #[must_use]
    pub fn hide_in(&self, text: &str) -> String {
        match &self.access {
            Access::Token(token) => token.hide_in(text),
            Access::Installation(installation) => installation.hide_in(text),
        }
    }

    /// Reads one thing. When it has not changed since it was read last, that costs nothing of the quota.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let page = self.page(path).await?;
        parse(&page.body)
    }

    /// Reads all pages of a list.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Trouble> {
        self.list_at(path).await.map(|(items, _)| items)
    }

    /// Reads all pages of a list, and says when it began by GitHub's own clock.
    pub(super) async fn list_at<T: DeserializeOwned>(&self, path: &str) -> Result<(Vec<T>, Timestamp), Trouble> {
        let mut items = Vec::new();
        let mut next = Some(path.to_owned());
        let mut began = None;
        for _ in 0..PAGES_MAX {
            let Some(path) = next else { return Ok((items, began.unwrap_or_else(clock::now))) };
            let page = self.page(&path).await?;
            began = began.or(page.at);
            items.extend(parse::<Vec<T>>(&page.body)?);
            next = page.next;
        }
        Err(Trouble::Unsure { reason: format!("{path} has more than {PAGES_MAX} pages") })
    }

    /// Writes something, once: whether to ask again is decided by who asks.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Trouble> {
        // What is written must never hold a token, wherever it came from.
        let text = serde_json::to_string(body).map_err(|error| Trouble::Unsure { reason: error.to_string() })?;
        let body: serde_json::Value = serde_json::from_str(&self.hide_in(&text))
            .map_err(|error| Trouble::Unsure { reason: error.to_string() })?;
        self.ask(Call { method, path, body: Some(&body), known: None }).await?.parsed(path)
    }

    /// Asks and returns whatever is answered, unless that is to wait.
    pub(super) async fn ask(&self, call: Call<'_>) -> Result<Answered, Trouble> {
        let token = self.token().await?;
        let mut answered = self.wire.call(&token, call.clone()).await?;
        // Nothing is done for a token that is refused, so that this is no second try of a write.
        if answered.status == StatusCode::UNAUTHORIZED && self.doubt(&token).await {
            answered = self.wire.call(&self.token().await?, call).await?;
        }
        if let Some(quota) = quota(&answered.headers) {
            *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = Some(quota);
        }
        answered.at_once()
    }

    async fn page(&self, path: &str) -> Result<Page, Trouble> {
        let kept = self.kept(path);
        let known = kept.as_ref().map(|kept| kept.etag.clone());
        let answered = self.ask(Call { known, ..Call::get(path) }).await?;
        let at = date(&answered.headers);
        match (answered.status, kept) {
            (StatusCode::NOT_MODIFIED, Some(kept)) => Ok(Page { body: kept.body, next: kept.next, at }),
            (status, _) if status.is_success() => {
                let next = self.next(&answered.headers)?;
                if let Some(etag) = answered.headers.get(http::header::ETAG) {
                    self.keep(path, etag.clone(), &answered.body, next.clone());
                }
                Ok(Page { body: answered.body, next, at })
            }
            (status, _) => Err(refused(status, &answered.body).of(path)),
        }
    }

    /// Returns the path of the next page. It must lie on the same server: whoever it names is given the token.
    fn next(&self, headers: &HeaderMap) -> Result<Option<String>, Trouble> {
        let Some(link) = headers.get(http::header::LINK).and_then(|link| link.to_str().ok()) else { return Ok(None) };
        for part in link.split(',') {
            let mut fields = part.split(';').map(str::trim);
            let address = fields.next().and_then(|field| field.strip_prefix('<')?.strip_suffix('>'));
            if let (Some(address), true) = (address, fields.any(|field| field == "rel=\"next\"")) {
                return match address.strip_prefix(&self.wire.api) {
                    Some(path) if path.starts_with('/') => Ok(Some(path.to_owned())),
                    Some(_) | None => {
                        Err(Trouble::Unsure { reason: format!("the next page lies on another server: {address}") })
                    }
                };
            }
        }
        Ok(None)
    }

    fn kept(&self, path: &str) -> Option<Answer> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.turn += 1;
        let turn = kept.turn;
        let answer = kept.answers.get_mut(path)?;
        answer.used = turn;
        Some(answer.clone())
    }

    fn keep(&self, path: &str, etag: HeaderValue, body: &[u8], next: Option<String>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.turn += 1;
        let used = kept.turn;
        let answer = Answer { etag, body: body.to_vec(), next, used };
        kept.bytes += body.len();
        if let Some(old) = kept.answers.insert(path.to_owned(), answer) {
            kept.bytes -= old.body.len();
        }
        while kept.answers.len() > KEPT_MAX || kept.bytes > KEPT_BYTES_MAX {
            let oldest = kept.answers.iter().min_by_key(|(_, answer)| answer.used).map(|(path, _)| path.clone());
            let Some(old) = oldest.and_then(|path| kept.answers.remove(&path)) else { break };
            kept.bytes -= old.body.len();
        }
    }
}
