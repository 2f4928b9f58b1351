//! The webhooks that GitHub keeps of a repository or an app: looked at, never changed.

use http::StatusCode;
use serde::Deserialize;

use super::client::Client;
use super::installation::App;
use super::wire::{Call, parse};
use crate::model::github::Trouble;
use crate::model::id::RepositorySlug;

/// A webhook as GitHub keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Where deliveries go.
    pub url: String,
    /// Whether they do.
    pub is_active: bool,
    /// Which events are delivered; `*` is all.
    pub events: Vec<String>,
    /// How they are written.
    pub content_type: String,
    /// Whether they are signed.
    pub is_signed: bool,
    /// How the last one was answered, if there was one: the status, and what GitHub says of it.
    pub last: Option<(u16, String)>,
}

#[derive(Debug, Deserialize)]
struct RawHook {
    #[serde(default)]
    active: bool,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    config: RawConfig,
    #[serde(default)]
    last_response: Option<RawResponse>,
}

#[derive(Debug, Default, Deserialize)]
struct RawConfig {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    secret: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RawResponse {
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RawDelivery {
    status_code: u16,
    #[serde(default)]
    status: String,
}

#[derive(Debug, Deserialize)]
struct RawApp {
    #[serde(default)]
    events: Vec<String>,
}

impl RawConfig {
    fn into_hook(self, events: Vec<String>) -> Hook {
        Hook {
            url: self.url.unwrap_or_default(),
            is_active: true,
            events,
            // GitHub's own default.
            content_type: self.content_type.unwrap_or_else(|| "form".to_owned()),
            is_signed: self.secret.is_some_and(|secret| !secret.is_empty()),
            last: None,
        }
    }
}

/// Lists the webhooks of a repository; nothing when the token may not see them.
///
/// # Errors
/// Those of the call.
pub async fn of_repository(client: &Client, slug: &RepositorySlug) -> Result<Option<Vec<Hook>>, Trouble> {
    let path = format!("/repos/{slug}/hooks?per_page=100");
    let answered = client.ask(Call::get(&path)).await?;
    if matches!(answered.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
        return Ok(None);
    }
    let listed: Vec<RawHook> = answered.parsed(&path)?;
    let hooks = listed.into_iter().map(|raw| {
        let last = raw.last_response.and_then(|last| Some((last.code?, last.message.unwrap_or_default())));
        Hook { is_active: raw.active, last, ..raw.config.into_hook(raw.events) }
    });
    Ok(Some(hooks.collect()))
}

/// Looks at the webhook of an app, which is for all its repositories; it may have none.
///
/// # Errors
/// Those of the calls.
pub async fn of_app(app: &App) -> Result<Option<Hook>, Trouble> {
    let path = "/app/hook/config";
    let answered = app.ask(Call::get(path)).await?;
    if answered.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let config: RawConfig = answered.parsed(path)?;
    if config.url.as_deref().unwrap_or_default().is_empty() {
        return Ok(None);
    }
    let events = app.ask(Call::get("/app")).await?.parsed::<RawApp>("/app")?.events;
    let answered = app.ask(Call::get("/app/hook/deliveries?per_page=1")).await?;
    let deliveries: Vec<RawDelivery> = if answered.status.is_success() { parse(&answered.body)? } else { Vec::new() };
    let last = deliveries.into_iter().next().map(|last| (last.status_code, last.status));
    Ok(Some(Hook { last, ..config.into_hook(events) }))
}
