//! One call of GitHub's API: what is sent, and what an answer means.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::GithubError;
use crate::io::clock;
use crate::model::fault::with_causes;
use crate::model::github::{Quota, Trouble};
use crate::model::secret::Secret;
use crate::model::time::Timestamp;

/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(60);

/// The largest answer that is read, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How much of an error's text is kept, in characters.
const REASON_CHARS_MAX: usize = 300;

/// The way to one API, for whoever has something to show there.
#[derive(Debug)]
pub(super) struct Wire {
    octocrab: Octocrab,
    /// The address of the API, without a slash at its end.
    pub(super) api: String,
}

/// A question or a wish.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Option<&'a serde_json::Value>,
    /// What was answered last: only what differs is wanted.
    pub(super) known: Option<HeaderValue>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl<'a> Call<'a> {
    /// Asks for something.
    pub(super) const fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, body: None, known: None }
    }
}

impl Wire {
    /// Sets up the way to an API.
    pub(super) fn new(api: &str) -> Result<Self, GithubError> {
        // octocrab is built without its feature `retry`: its repeats would also send writes twice.
        let octocrab = Octocrab::builder()
            .base_uri(api)
            .map_err(|source| GithubError::Address { api: api.to_owned(), source: Box::new(source) })?
            .build()
            .map_err(|source| GithubError::Setup(Box::new(source)))?;
        Ok(Self { octocrab, api: api.trim_end_matches('/').to_owned() })
    }

    /// Calls once. A refusal is an answer too.
    pub(super) async fn call(&self, bearer: &Secret, call: Call<'_>) -> Result<Answered, Trouble> {
        let mut shown = HeaderValue::from_str(&format!("Bearer {}", bearer.expose())).map_err(|_| {
            Trouble::Refused { status: 401, reason: "the token has characters that no token has".to_owned() }
        })?;
        shown.set_sensitive(true);
        let mut request = http::request::Builder::new().method(call.method).uri(call.path);
        request = request.header(http::header::AUTHORIZATION, shown);
        if let Some(known) = call.known {
            request = request.header(http::header::IF_NONE_MATCH, known);
        }
        let asked = async {
            let request = self.octocrab.build_request(request, call.body).map_err(|error| unsure(&error))?;
            self.octocrab.execute(request).await.map_err(|error| unsure(&error))
        };
        let (parts, body) = in_time(asked).await?.into_parts();
        let body = async {
            let collected = Limited::new(body, BODY_BYTES_MAX).collect().await;
            collected.map_err(|error| Trouble::Unsure { reason: format!("the answer breaks off: {error}") })
        };
        Ok(Answered { status: parts.status, headers: parts.headers, body: in_time(body).await?.to_bytes().to_vec() })
    }
}

impl Answered {
    /// Goes on with the answer unless it asks to wait.
    pub(super) fn at_once(self) -> Result<Self, Trouble> {
        match limit(&self, clock::now()) {
            Some(trouble) => Err(trouble),
            None => Ok(self),
        }
    }

    /// Reads what was answered, unless that is a refusal.
    pub(super) fn parsed<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        if self.status.is_success() { parse(&self.body) } else { Err(refused(self.status, &self.body).of(path)) }
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
fn limit(Answered { status, headers, body }: &Answered, now: Timestamp) -> Option<Trouble> {
    let status = *status;
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

/// Reads when an answer was given, by the clock of whoever gave it.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    chrono::DateTime::parse_from_rfc2822(text).ok().map(|at| Timestamp::from_millis(at.timestamp_millis()))
}

pub(super) fn quota(headers: &HeaderMap) -> Option<Quota> {
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
