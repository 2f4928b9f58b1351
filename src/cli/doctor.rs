//! `miyabi doctor`: looks for what is missing on this machine, and says what to do.

mod machine;
mod root;
mod service;
mod webhook;

use serde::Serialize;

use super::context::Context;
use super::failure::{Ended, Result};
use super::output::{Color, Form, Tone, one_line};

/// The arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The exit code is 1 when something fails; warnings do not count.\n\n\
    Examples:\n  miyabi doctor\n  miyabi doctor --json | jq '.[] | select(.verdict != \"ok\")'")]
pub struct Args {}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, and could be better.
    Warn,
    /// Does not work.
    Fail,
}

impl Finding {
    fn ok(check: &str, message: impl Into<String>) -> Self {
        Self { check: check.to_owned(), verdict: Verdict::Ok, message: message.into(), hint: None }
    }

    fn warn(check: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check: check.to_owned(), verdict: Verdict::Warn, message: message.into(), hint: Some(hint.into()) }
    }

    fn fail(check: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check: check.to_owned(), verdict: Verdict::Fail, message: message.into(), hint: Some(hint.into()) }
    }
}

/// Performs all checks; each is shown as soon as it is known.
///
/// # Errors
/// Only when nobody reads the findings.
pub fn run(context: &Context, _: &Args) -> Result {
    let mut findings: Vec<Finding> = Vec::new();
    let checks: [fn(&Context) -> Vec<Finding>; 3] = [machine::look, root::look, service::look];
    for check in checks {
        let found = check(context);
        if context.out.form == Form::Text {
            for finding in &found {
                context.out.text(&draw(finding, context.out.color))?;
            }
        }
        findings.extend(found);
    }
    if context.out.form == Form::Json {
        context.out.json(&findings)?;
    }
    let broken = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if broken { Ended::NotWell } else { Ended::Well })
}

fn draw(finding: &Finding, color: Color) -> String {
    let (tone, word) = match finding.verdict {
        Verdict::Ok => (Tone::Good, "ok  "),
        Verdict::Warn => (Tone::Warning, "warn"),
        Verdict::Fail => (Tone::Bad, "fail"),
    };
    let mut text = format!("{}  {:<12} {}\n", color.paint(tone, word), finding.check, one_line(&finding.message));
    if let Some(hint) = &finding.hint {
        text.push_str(&format!("{:<20}{} {}\n", "", color.paint(Tone::Faint, "->"), one_line(hint)));
    }
    text
}
