//! `miyabi report`.

use super::context::Context;
use super::failure::{Ended, Result};
use super::output::{Color, Tone, printable};
use super::when;
use crate::control::protocol::Call;
use crate::model::id::TaskId;
use crate::model::report::{Outcome, Report};

/// The arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  miyabi report example/hello\n  miyabi report 01JD8Y0Q6V4W3N5X7Z9B2C4D6F --json")]
pub struct Args {
    /// The task, or the id that `submit` printed
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Shows the newest report of a task.
///
/// # Errors
/// Exit code 4 when there is no such task or it has no report yet.
pub fn run(context: &Context, args: &Args) -> Result {
    let id = TaskId::new(&args.id)?;
    let report: Report = context.client()?.ask(Call::Report { id })?;
    context.out.show(&report, || draw(&report, context.out.color))?;
    Ok(Ended::Well)
}

/// Draws a report for people.
#[must_use]
pub fn draw(report: &Report, color: Color) -> String {
    let (tone, outcome) = match report.outcome {
        Outcome::Done => (Tone::Good, "done"),
        Outcome::NoChange => (Tone::Good, "done, nothing had to change"),
        Outcome::ChangesRequested => (Tone::Warning, "changes requested"),
        Outcome::Failed => (Tone::Bad, "failed"),
    };
    let took = when::precise(report.ended_at.since(report.started_at));
    let mut text = format!(
        "{} {} · attempt {} · {} · {took}\n",
        color.paint(Tone::Heading, report.task.as_str()),
        color.paint(tone, outcome),
        report.attempt,
        report.agent
    );
    text.push_str(&format!("{}\n", printable(report.summary.trim_end())));
    let facts = [("branch", &report.branch), ("commit", &report.commit), ("log", &report.log)];
    for (name, value) in facts {
        if let Some(value) = value {
            text.push_str(&format!("{} {value}\n", color.paint(Tone::Faint, &format!("{name:<7}"))));
        }
    }
    text.push_str(&details(report, color));
    text
}

/// Draws what proves or disproves an attempt: its checks, and of a failed one what was printed and changed.
#[must_use]
pub fn details(report: &Report, color: Color) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let (tone, word) = if check.passed() { (Tone::Good, "passed") } else { (Tone::Bad, "failed") };
        text.push_str(&format!(
            "{} {} `{}` ({} ms)\n",
            color.paint(Tone::Faint, "check  "),
            color.paint(tone, word),
            printable(&check.command),
            check.duration_ms
        ));
        if !check.passed() {
            text.push_str(&indented(&check.output));
        }
    }
    if report.outcome == Outcome::Failed && !report.output.is_empty() {
        text.push_str(&format!("{}\n{}", color.paint(Tone::Faint, "output"), indented(&report.output)));
    }
    if report.outcome == Outcome::Failed && !report.diff.is_empty() {
        text.push_str(&format!("{}\n{}", color.paint(Tone::Faint, "changes"), indented(&report.diff)));
    }
    text
}

fn indented(output: &str) -> String {
    printable(output).lines().map(|line| format!("  {line}\n")).collect()
}
