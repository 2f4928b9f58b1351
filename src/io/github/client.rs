//! Asking GitHub: conditional questions, what is left of the quota, and what a refusal means.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::io::clock;
use crate::model::fault::with_causes;
use crate::model::github::{Quota, Trouble};
use crate::model::secret::Secret;
use crate::model::time::Timestamp;

/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(60);

/// The largest answer that is read, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many answers are kept for conditional questions.
const KEPT_MAX: usize = 2_000;

/// How many bytes of answers are kept.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many pages of one list are read.
const PAGES_MAX: usize = 500;

/// How much of an error's text is kept, in characters.
const REASON_CHARS_MAX: usize = 300;

/// One token's way to GitHub.
#[derive(Debug)]
pub struct Client {
    octocrab: Octocrab,
    /// The address of the API, without a slash at its end.
    api: String,
    token: Secret,
    kept: Mutex<Kept>,
    quota: Mutex<Option<Quota>>,
    login: OnceCell<String>,
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
}

impl Client {
    /// Sets up a client.
    ///
    /// # Errors
    /// The address is none, or no connection can be set up.
    pub fn new(token: Secret, api: &str) -> Result<Self, super::GithubError> {
        let octocrab = super::connect(token.expose(), Some(api))?;
        Ok(Self {
            octocrab,
            api: api.trim_end_matches('/').to_owned(),
            token,
            kept: Mutex::default(),
            quota: Mutex::default(),
            login: OnceCell::new(),
        })
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
            .get_or_try_init(|| async { self.get::<User>("/user").await.map(|user| user.login) })
            .await
            .map(String::as_str)
    }

    /// Reads one thing. When it has not changed since it was read last, that costs nothing of the quota.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let page = self.page(path).await?;
        parse(&page.body)
    }

    /// Reads all pages of a list.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Trouble> {
        let mut items = Vec::new();
        let mut next = Some(path.to_owned());
        for _ in 0..PAGES_MAX {
            let Some(path) = next else { return Ok(items) };
            let page = self.page(&path).await?;
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
        // What is written must never hold the token, wherever it came from.
        let text = serde_json::to_string(body).map_err(|error| Trouble::Unsure { reason: error.to_string() })?;
        let body: serde_json::Value = serde_json::from_str(&self.token.hide_in(&text))
            .map_err(|error| Trouble::Unsure { reason: error.to_string() })?;
        let (status, _, body) = self.ask(method, path, Some(&body)).await?;
        if status.is_success() { parse(&body) } else { Err(refused(status, &body).of(path)) }
    }

    /// Asks once and returns whatever is answered, unless that is to wait.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Trouble> {
        let call = async {
            let request = http::request::Builder::new().method(method).uri(path);
            let request = self.octocrab.build_request(request, body).map_err(|error| unsure(&error))?;
            self.octocrab.execute(request).await.map_err(|error| unsure(&error))
        };
        let response = in_time(call).await?;
        self.read(response).await
    }

    async fn page(&self, path: &str) -> Result<Page, Trouble> {
        let kept = self.kept(path);
        let mut headers = HeaderMap::new();
        if let Some(kept) = &kept {
            headers.insert(http::header::IF_NONE_MATCH, kept.etag.clone());
        }
        let call = async { self.octocrab._get_with_headers(path, Some(headers)).await.map_err(|error| unsure(&error)) };
        let response = in_time(call).await?;
        let (status, headers, body) = self.read(response).await?;
        match (status, kept) {
            (StatusCode::NOT_MODIFIED, Some(kept)) => Ok(Page { body: kept.body, next: kept.next }),
            (status, _) if status.is_success() => {
                let next = self.next(&headers)?;
                if let Some(etag) = headers.get(http::header::ETAG) {
                    self.keep(path, etag.clone(), &body, next.clone());
                }
                Ok(Page { body, next })
            }
            (status, _) => Err(refused(status, &body).of(path)),
        }
    }

    /// Reads an answer's body and what it says of the quota.
    async fn read<B>(&self, response: http::Response<B>) -> Result<(StatusCode, HeaderMap, Vec<u8>), Trouble>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = response.into_parts();
        let body = async {
            let collected = Limited::new(body, BODY_BYTES_MAX).collect().await;
            collected.map_err(|error| Trouble::Unsure { reason: format!("the answer breaks off: {error}") })
        };
        let body = in_time(body).await?.to_bytes().to_vec();
        if let Some(quota) = quota(&parts.headers) {
            *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = Some(quota);
        }
        if !parts.status.is_success()
            && let Some(trouble) = limit(parts.status, &parts.headers, &body, clock::now())
        {
            return Err(trouble);
        }
        Ok((parts.status, parts.headers, body))
    }

    /// Returns the path of the next page. It must lie on the same server: whoever it names is given the token.
    fn next(&self, headers: &HeaderMap) -> Result<Option<String>, Trouble> {
        let Some(link) = headers.get(http::header::LINK).and_then(|link| link.to_str().ok()) else { return Ok(None) };
        for part in link.split(',') {
            let mut fields = part.split(';').map(str::trim);
            let address = fields.next().and_then(|field| field.strip_prefix('<')?.strip_suffix('>'));
            if let (Some(address), true) = (address, fields.any(|field| field == "rel=\"next\"")) {
                return match address.strip_prefix(&self.api) {
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

async fn in_time<T>(call: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(result) => result,
        Err(_) => Err(Trouble::Unsure { reason: format!("no answer within {} s", CALL_MAX.as_secs()) }),
    }
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Trouble> {
    serde_json::from_slice(body)
        .map_err(|error| Trouble::Unsure { reason: format!("the answer cannot be understood: {error}") })
}

fn unsure(error: &octocrab::Error) -> Trouble {
    Trouble::Unsure { reason: short(&with_causes(error)) }
}

pub(super) fn refused(status: StatusCode, body: &[u8]) -> Trouble {
    let reason = reason(body);
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        Trouble::Unsure { reason: format!("it answers {status}: {reason}") }
    } else {
        Trouble::Refused { status: status.as_u16(), reason }
    }
}

/// Sees whether an answer means that too much was asked, and until when nothing may be asked.
fn limit(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Option<Trouble> {
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let reason = reason(body);
    if let Some(seconds) = number(headers, "retry-after") {
        return Some(Trouble::Limited { until: Some(now + Duration::from_secs(seconds)), reason });
    }
    if number(headers, "x-ratelimit-remaining") == Some(0)
        && let Some(quota) = quota(headers)
    {
        return Some(Trouble::Limited { until: Some(quota.reset), reason });
    }
    // A secondary limit may come without any header: only its text tells it from a missing permission.
    let text = reason.to_lowercase();
    let secondary = text.contains("rate limit") || text.contains("abuse") || text.contains("too quickly");
    (secondary || status == StatusCode::TOO_MANY_REQUESTS).then_some(Trouble::Limited { until: None, reason })
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn quota(headers: &HeaderMap) -> Option<Quota> {
    let small = |name: &str| number(headers, name).and_then(|number| u32::try_from(number).ok());
    let reset = i64::try_from(number(headers, "x-ratelimit-reset")?).ok()?;
    Some(Quota {
        limit: small("x-ratelimit-limit")?,
        remaining: small("x-ratelimit-remaining")?,
        reset: Timestamp::from_millis(reset.saturating_mul(1_000)),
    })
}

fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
        #[serde(default)]
        errors: Vec<serde_json::Value>,
    }
    match serde_json::from_slice::<Said>(body) {
        Ok(said) if said.errors.is_empty() => short(&said.message),
        Ok(said) => {
            let errors: Vec<String> = said
                .errors
                .iter()
                .map(|error| {
                    error.get("message").and_then(|text| text.as_str()).map_or_else(|| error.to_string(), str::to_owned)
                })
                .collect();
            short(&format!("{}: {}", said.message, errors.join("; ")))
        }
        Err(_) => short(String::from_utf8_lossy(body).trim()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Writes a text so that it can stand in an address.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}
