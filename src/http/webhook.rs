//! Webhooks of GitHub: what is signed and names something to look at is kept before it is answered.
//!
//! A delivery is only a hint: it says where something has changed, and what has changed is asked of GitHub, the same way as
//! at every poll. So nothing of its text is kept or believed.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::model::github::{Delivery, WEBHOOK_PATH};
use crate::model::id::RepositorySlug;
use crate::model::secret::Secret;

/// The largest delivery, in bytes. GitHub's own limit is 25 MB, but what names an issue is far smaller.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How many deliveries are read at once; with their largest size that is the most memory that strangers can take.
pub const AT_ONCE_MAX: usize = 8;

/// How long a body may take to come: GitHub gives up on an answer after ten seconds.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

/// The longest id of a delivery, in characters.
const ID_CHARS_MAX: usize = 64;

/// What comes from GitHub and may mean something to us.
const EVENTS: [&str; 7] = [
    "issues",
    "issue_comment",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "sub_issues",
    "issue_dependencies",
];

/// What became of a delivery that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is on the disk and will be handled.
    New,
    /// It was kept before.
    Known,
    /// Too many wait.
    Full,
    /// The disk has refused it.
    Failed,
}

/// Whoever keeps deliveries.
pub trait Deliveries: Send + Sync + 'static {
    /// Keeps a delivery; when it returns [`Kept::New`], no crash loses it.
    fn keep(&self, delivery: Delivery) -> impl Future<Output = Kept> + Send;
}

/// The receiving side of one webhook.
pub struct Webhook<D> {
    secret: Secret,
    deliveries: D,
    at_once: Semaphore,
}

impl<D: Deliveries> Webhook<D> {
    /// Sets up the receiving side.
    #[must_use]
    pub fn new(secret: Secret, deliveries: D) -> Self {
        Self { secret, deliveries, at_once: Semaphore::new(AT_ONCE_MAX) }
    }

    /// Returns the routes.
    pub fn router(self) -> Router {
        Router::new().route(WEBHOOK_PATH, post(receive::<D>)).with_state(Arc::new(self))
    }
}

async fn receive<D: Deliveries>(
    State(hook): State<Arc<Webhook<D>>>,
    headers: HeaderMap,
    body: Body,
) -> (StatusCode, &'static str) {
    // Size first: nothing is computed over what is too large, or over more than fits into memory at once.
    let length = text(&headers, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > BODY_BYTES_MAX) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "too large");
    }
    let Ok(_permit) = hook.at_once.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many deliveries at once");
    };
    let body = match tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return (StatusCode::PAYLOAD_TOO_LARGE, "too large, or broken off"),
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "too slow"),
    };
    if !is_signed(&hook.secret, text(&headers, "x-hub-signature-256"), &body) {
        return (StatusCode::UNAUTHORIZED, "the signature does not fit");
    }
    let event = text(&headers, "x-github-event").unwrap_or_default();
    if !EVENTS.contains(&event) {
        return (StatusCode::OK, "nothing to do with it");
    }
    let Some(id) = text(&headers, "x-github-delivery").filter(|id| is_id(id)) else {
        return (StatusCode::BAD_REQUEST, "no id of a delivery");
    };
    let Some((slug, numbers)) = named(&body) else {
        return (StatusCode::BAD_REQUEST, "no repository is named");
    };
    if numbers.is_empty() {
        return (StatusCode::OK, "nothing to look at");
    }
    match hook.deliveries.keep(Delivery { id: id.to_owned(), slug, numbers }).await {
        Kept::New => (StatusCode::ACCEPTED, "kept"),
        Kept::Known => (StatusCode::OK, "known"),
        Kept::Full => (StatusCode::SERVICE_UNAVAILABLE, "too many wait; it is found by asking"),
        Kept::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "it cannot be kept; it is found by asking"),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn is_id(id: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Checks the signature of a body as it came, in a time that tells nothing.
fn is_signed(secret: &Secret, signature: Option<&str>, body: &[u8]) -> bool {
    let Some(signature) = signature.and_then(|signature| bytes_of(signature.strip_prefix("sha256=")?)) else {
        return false;
    };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { return false };
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

/// Reads what a delivery names: its repository, and the issues and pull requests that it is about.
fn named(body: &[u8]) -> Option<(RepositorySlug, Vec<u64>)> {
    #[derive(Deserialize)]
    struct Repository {
        full_name: String,
    }
    #[derive(Deserialize)]
    struct Numbered {
        number: u64,
    }
    #[derive(Deserialize)]
    struct Payload {
        repository: Repository,
        issue: Option<Numbered>,
        pull_request: Option<Numbered>,
        sub_issue: Option<Numbered>,
        parent_issue: Option<Numbered>,
        blocked_issue: Option<Numbered>,
        blocking_issue: Option<Numbered>,
    }
    let payload: Payload = serde_json::from_slice(body).ok()?;
    let slug = RepositorySlug::new(payload.repository.full_name).ok()?;
    let named = [
        payload.issue,
        payload.pull_request,
        payload.sub_issue,
        payload.parent_issue,
        payload.blocked_issue,
        payload.blocking_issue,
    ];
    Some((slug, named.into_iter().flatten().map(|named| named.number).collect()))
}
