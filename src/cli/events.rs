//! `miyabi events`.

use super::context::Context;
use super::failure::{Ended, Result};
use super::output::{Color, Form, Tone, one_line};
use super::when;
use crate::control::protocol::{Call, EventView};
use crate::io::clock;

/// The arguments of `events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  miyabi events --since 10m\n  miyabi events --follow\n  \
    miyabi events --since 2026-11-20T08:00:00Z --json | jq -r .text")]
pub struct Args {
    /// Only what happened from this time on: a time, or how long ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Goes on with what happens from now on
    #[arg(long, short)]
    pub follow: bool,
}

/// Tells what has happened, one event a line.
///
/// # Errors
/// Exit code 3 without a supervisor.
pub fn run(context: &Context, args: &Args) -> Result {
    let since = args.since.as_deref().map(|text| when::parse(text, clock::now())).transpose()?;
    for event in context.client()?.stream::<EventView>(Call::Events { since, follow: args.follow })? {
        let event = event?;
        match context.out.form {
            Form::Json => context.out.json(&event)?,
            Form::Text => context.out.line(&describe(&event, context.out.color))?,
        }
    }
    Ok(Ended::Well)
}

fn describe(event: &EventView, color: Color) -> String {
    let mut subjects = Vec::new();
    if let Some(agent) = &event.agent {
        let incarnation = event.incarnation.map(|number| format!("#{number}")).unwrap_or_default();
        subjects.push(format!("{agent}{incarnation}"));
    }
    if let Some(task) = &event.task {
        let attempt = event.attempt.map(|number| format!("·{number}")).unwrap_or_default();
        subjects.push(format!("{task}{attempt}"));
    }
    let subject = if subjects.is_empty() { String::new() } else { format!("{} ", subjects.join(" ")) };
    format!(
        "{}  {}{}",
        color.paint(Tone::Faint, &when::local(event.at)),
        color.paint(Tone::Active, &subject),
        one_line(&event.text)
    )
}
