//! `miyabi github`.

use super::context::Context;
use super::failure::{Ended, Result};
use super::output::Tone;
use super::task::change;
use super::when;
use crate::control::protocol::Call;
use crate::io::clock;
use crate::model::github::PullState;
use crate::model::github_view::{GithubView, NotTakenView};
use crate::model::request::Request;
use crate::model::time::Timestamp;

/// What to do about GitHub.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Shows quota, last polls, the queue of writes, and issues that are not taken
    #[command(after_help = "Example:\n  miyabi github status --json | jq .not_trusted")]
    Status,
    /// Asks every repository at once what has changed, and says what was found
    #[command(after_help = "Example:\n  miyabi github sync")]
    Sync,
}

/// Performs a verb on GitHub.
///
/// # Errors
/// Exit code 3 without a supervisor, 5 when GitHub cannot be asked.
pub fn run(context: &Context, verb: &Verb) -> Result {
    match verb {
        Verb::Status => {
            let view: GithubView = context.client()?.ask(Call::Github)?;
            context.out.show(&view, || draw(context, &view, clock::now()))?;
        }
        Verb::Sync => change(context, Request::GithubSync)?,
    }
    Ok(Ended::Well)
}

fn draw(context: &Context, view: &GithubView, now: Timestamp) -> String {
    let mut text = format!("{}\n", view.api_url);
    match &view.quota {
        Some(quota) => {
            text.push_str(&format!(
                "quota        {} of {} calls left, all again at {}\n",
                quota.remaining, quota.limit, quota.reset
            ));
        }
        None => text.push_str("quota        not known yet\n"),
    }
    if let Some(until) = view.paused_until {
        let reason = view.paused_reason.as_deref().unwrap_or_default();
        let line = format!("paused until {until}: {reason}");
        text.push_str(&format!("{}\n", context.out.color.paint(Tone::Warning, &line)));
    }
    for repository in &view.repositories {
        let polled = match repository.last_poll {
            Some(at) => format!("asked {} ago", when::short(now.since(at))),
            None => "not asked yet".to_owned(),
        };
        text.push_str(&format!("{:<12} {} {polled}\n", repository.name.as_str(), repository.slug));
        if let Some(trouble) = &repository.trouble {
            text.push_str(&format!("{:<12} {}\n", "", context.out.color.paint(Tone::Bad, trouble)));
        }
    }
    let writes = &view.writes;
    text.push_str(&format!(
        "writes       {} waiting, {} in the last minute, {} in the last hour\n",
        writes.waiting, writes.last_minute, writes.last_hour
    ));
    for trouble in &writes.troubles {
        text.push_str(&format!("{:<12} {}\n", "", context.out.color.paint(Tone::Bad, trouble)));
    }
    if let Some(webhook) = &view.webhook {
        let last =
            webhook.last.map_or_else(|| "none yet".to_owned(), |at| format!("{} ago", when::short(now.since(at))));
        text.push_str(&format!(
            "webhooks     at {}: {} kept, {} repeated, {} refused; the last {last}\n",
            webhook.listen, webhook.received, webhook.repeated, webhook.refused
        ));
        if let Some(trouble) = &webhook.trouble {
            text.push_str(&format!("{:<12} {}\n", "", context.out.color.paint(Tone::Bad, trouble)));
        }
    }
    claims(&mut text, view);
    section(&mut text, "not trusted", &view.not_trusted);
    section(&mut text, "conflicts", &view.conflicts);
    if !view.tasks.is_empty() {
        text.push_str("\ntasks\n");
    }
    for task in &view.tasks {
        let pull = match &task.pull {
            Some(pull) => match pull.state {
                PullState::Open => format!("pull request #{} is open: {}", pull.number, pull.url),
                PullState::Closed => format!("pull request #{} is closed: {}", pull.number, pull.url),
                PullState::Merged { .. } => format!("pull request #{} is merged", pull.number),
            },
            None => "no pull request".to_owned(),
        };
        text.push_str(&format!("  {}  {pull}\n", task.task));
    }
    text
}

fn claims(text: &mut String, view: &GithubView) {
    if !view.claims.is_empty() {
        text.push_str(&format!("\nclaims (this orchestra is {})\n", view.orchestra));
    }
    for claim in &view.claims {
        let by = if claim.ours { "this orchestra" } else { &claim.orchestra };
        let line = match claim.until {
            Some(until) => format!("held by {by} until {until}"),
            None => format!("done by {by}"),
        };
        text.push_str(&format!("  {}  {line}\n", claim.task));
    }
}

fn section(text: &mut String, name: &str, entries: &[NotTakenView]) {
    if entries.is_empty() {
        return;
    }
    text.push_str(&format!("\n{name}\n"));
    for entry in entries {
        text.push_str(&format!("  {}  {} (by {}): {}\n", entry.issue, entry.title, entry.author, entry.reason));
    }
}
