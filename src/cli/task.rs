//! `miyabi task list | show | messages | why | retry | cancel | wait`.

use std::collections::BTreeSet;

use super::board::task_tone;
use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result, accepted};
use super::output::{Color, Form, Tone, one_line};
use super::table::{Cell, Table};
use super::{report, task_messages, task_wait, when};
use crate::control::protocol::{AttemptState, AttemptView, Call, EdgeView, TaskDetail, Why};
use crate::core::snapshot::{TaskState, TaskView};
use crate::io::clock;
use crate::model::id::{StageName, TaskId};
use crate::model::report::Outcome;
use crate::model::request::{Answer, Request};
use crate::model::time::Timestamp;

/// What to do with tasks.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Lists tasks, in the order of their acceptance
    #[command(
        after_help = "Examples:\n  miyabi task list\n  miyabi task list --limit 50\n  miyabi task list --limit 50 --before example/hello\n  \
        miyabi task list --state dead\n  miyabi task list --json | jq -r '.[] | select(.stuck) | .id'"
    )]
    List(Page),
    /// Shows a task with its attempts
    #[command(after_help = "Example:\n  miyabi task show example/hello")]
    Show(One),
    /// Shows what agents said to one another in a task's current run
    #[command(after_help = "Example:\n  miyabi task messages example/hello")]
    Messages(One),
    /// Says why a task is where it is
    #[command(after_help = "Example:\n  miyabi task why example/publish")]
    Why(One),
    /// Begins a new run of a task that failed, was cancelled, is parked, or is done
    #[command(
        after_help = "Examples:\n  miyabi task retry example/hello\n  miyabi task retry example/hello --no-cache"
    )]
    Retry(Again),
    /// Gives up a task; its running attempt is ended
    #[command(after_help = "Example:\n  miyabi task cancel example/hello")]
    Cancel(One),
    /// Waits until tasks have ended: exit code 0 when all are done, 1 when not
    #[command(after_help = "Examples:\n  miyabi task wait example/publish\n  miyabi task wait")]
    Wait(Several),
}

/// Which tasks are listed.
#[derive(Debug, clap::Args)]
pub struct Page {
    /// Only tasks that are so, e.g. dead
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub state: Option<TaskState>,
    /// Only so many, the newest ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Only tasks that were accepted before this one
    #[arg(long, value_name = "ID")]
    pub before: Option<String>,
}

fn state(text: &str) -> std::result::Result<TaskState, String> {
    TaskState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let known: Vec<&str> = TaskState::ALL.iter().map(|state| state.as_str()).collect();
        format!("known: {}", known.join(", "))
    })
}

/// One task.
#[derive(Debug, clap::Args)]
pub struct One {
    /// FILE/NAME, or the id that `submit` printed
    #[arg(value_name = "ID")]
    pub id: String,
}

/// One task, once more.
#[derive(Debug, clap::Args)]
pub struct Again {
    /// FILE/NAME, or the id that `submit` printed
    #[arg(value_name = "ID")]
    pub id: String,
    /// Does the work again although its result is known (`cache: true`)
    #[arg(long)]
    pub no_cache: bool,
}

/// Some tasks.
#[derive(Debug, clap::Args)]
pub struct Several {
    /// FILE/NAME, or the id that `submit` printed [default: all tasks]
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
}

/// Performs a verb on tasks.
///
/// # Errors
/// Exit code 3 without a supervisor, 4 for an unknown task, 5 when it cannot be done now.
pub fn run(context: &Context, verb: Verb) -> Result {
    let client = context.client()?;
    let out = &context.out;
    match verb {
        Verb::List(page) => {
            let before = page.before.map(TaskId::new).transpose()?;
            let tasks: Vec<TaskView> = client.ask(Call::TaskPage { state: page.state, before, limit: page.limit })?;
            out.show(&tasks, || list(&tasks, clock::now()).render(out.color, out.width))?;
        }
        Verb::Show(one) => {
            let detail: TaskDetail = client.ask(Call::Task { id: TaskId::new(one.id)? })?;
            out.show(&detail, || show(&detail, clock::now(), out.color, out.width))?;
        }
        Verb::Messages(one) => {
            let detail: TaskDetail = client.ask(Call::Task { id: TaskId::new(one.id)? })?;
            task_messages::show(context, detail.task.run)?;
        }
        Verb::Why(one) => {
            let why: Why = client.ask(Call::Why { id: TaskId::new(one.id)? })?;
            out.show(&why, || draw_why(&why, out.color))?;
        }
        Verb::Retry(again) => {
            let request = Request::TaskRetry { task: TaskId::new(again.id)?, no_cache: again.no_cache };
            change(context, request)?;
        }
        Verb::Cancel(one) => change(context, Request::TaskCancel { task: TaskId::new(one.id)? })?,
        Verb::Wait(some) => {
            let ids: std::result::Result<BTreeSet<TaskId>, _> = some.ids.into_iter().map(TaskId::new).collect();
            return task_wait::wait(context, &client, &ids?);
        }
    }
    Ok(Ended::Well)
}

/// Asks for a change and shows the supervisor's one line.
///
/// # Errors
/// The refusal.
pub fn change(context: &Context, request: Request) -> Result<()> {
    match accepted(context.client()?.ask::<Answer>(Call::Request(request))?)? {
        Answer::Accepted { message } => match context.out.form {
            Form::Json => context.out.json(&serde_json::json!({ "message": message })),
            Form::Text => context.out.line(&one_line(&message)),
        },
        Answer::Submitted { .. } | Answer::Refused { .. } => {
            Err(Failure::say(Kind::Failed, "the supervisor answered another question"))
        }
    }
}

fn list(tasks: &[TaskView], now: Timestamp) -> Table {
    let mut table = Table::new(&["TASK", "STATE", "AGENT", "ATTEMPT", "WHEN", "COMMIT", ""]);
    for task in tasks {
        let wanted = task.role.as_ref().map(|role| format!("({role})"));
        let agent = task.agent.as_ref().map(ToString::to_string).or(wanted);
        let changed = task.ended_at.or(task.started_at).or(task.queued_at);
        table.row(vec![
            Cell::plain(task.id.as_str()),
            Cell::new(task_tone(task.state), task.state.as_str()),
            Cell::maybe(agent.as_deref()),
            Cell::maybe((task.attempt > 0).then(|| task.attempt.to_string()).as_deref()),
            Cell::maybe(changed.map(|time| when::ago(now, time)).as_deref()),
            Cell::maybe(task.commit.as_deref().map(short_commit)),
            Cell::new(Tone::Faint, task.reason.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

fn short_commit(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn show(detail: &TaskDetail, now: Timestamp, color: Color, width: Option<usize>) -> String {
    let task = &detail.task;
    let mut text = format!(
        "{} {}\n",
        color.paint(Tone::Heading, task.id.as_str()),
        color.paint(task_tone(task.state), task.state.as_str())
    );
    let names = |ids: &[TaskId]| ids.iter().map(TaskId::as_str).collect::<Vec<_>>().join(", ");
    let facts = [
        ("reason", task.reason.clone().unwrap_or_default()),
        ("agent", task.agent.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("role", task.role.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("needs", needs(detail)),
        ("waits for", names(&detail.blocked_by)),
        ("priority", task.priority.to_string()),
        ("due", task.due.map(|due| due.to_string()).unwrap_or_default()),
        ("run", task.run.to_string()),
        ("stage", stage(task, &detail.stages)),
        ("merge", task.merge_place.map(|place| format!("number {place} in the queue")).unwrap_or_default()),
        ("cost", task.spent.map(|spent| spent.to_string()).unwrap_or_default()),
        ("branch", task.branch.clone().unwrap_or_default()),
        ("commit", task.commit.clone().unwrap_or_default()),
        ("work", work(&detail.spec)),
    ];
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{} {}\n", color.paint(Tone::Faint, &format!("{name:<9}")), one_line(value)));
    }
    if !detail.attempts.is_empty() {
        text.push('\n');
        text.push_str(&attempts(&detail.attempts, now).render(color, width));
    }
    if let Some(report) = &detail.last_report {
        text.push('\n');
        text.push_str(&report::details(report, color));
    }
    text
}

/// Shows what a task needs, each with the place where it is written.
fn needs(detail: &TaskDetail) -> String {
    let shown = |edge: &EdgeView| format!("{} ({})", edge.need, edge.from.join("; "));
    detail.edges.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Shows the stages of a run, the one that it is at, and how often reviews have asked for changes.
fn stage(task: &TaskView, stages: &[StageName]) -> String {
    let names: Vec<&str> = stages.iter().map(StageName::as_str).collect();
    let all = if names.len() > 1 { format!(" of {}", names.join(", ")) } else { String::new() };
    let rounds = match task.rounds {
        0 => String::new(),
        1 => " · 1 review has asked for changes".to_owned(),
        rounds => format!(" · {rounds} reviews have asked for changes"),
    };
    format!("{}{all}{rounds}", task.stage)
}

/// Shows what is executed, whichever kind it is.
fn work(spec: &serde_json::Value) -> String {
    let Some(work) = spec.get("work") else { return String::new() };
    let of = |name: &str| work.get(name).and_then(serde_json::Value::as_str);
    match (of("run"), of("prompt")) {
        (Some(command), _) => format!("run: {command}"),
        (None, Some(prompt)) => format!("prompt: {prompt}"),
        (None, None) => String::new(),
    }
}

fn attempts(attempts: &[AttemptView], now: Timestamp) -> Table {
    let mut table = Table::new(&["ATTEMPT", "STAGE", "AGENT", "STATE", "WHEN", "TOOK", "COMMIT", "LOG", ""]);
    for attempt in attempts {
        let (tone, state) = attempt_word(attempt);
        let begun = attempt.started_at.unwrap_or(attempt.queued_at);
        let took = attempt.started_at.map(|start| when::precise(attempt.ended_at.unwrap_or(now).since(start)));
        table.row(vec![
            Cell::plain(&attempt.attempt.to_string()),
            Cell::plain(attempt.stage.as_str()),
            Cell::plain(attempt.agent.as_str()),
            Cell::new(tone, state),
            Cell::plain(&when::ago(now, begun)),
            Cell::maybe(took.as_deref()),
            Cell::maybe(attempt.commit.as_deref().map(short_commit)),
            Cell::maybe(attempt.log.as_deref()),
            Cell::new(Tone::Faint, attempt.reason.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

const fn attempt_word(attempt: &AttemptView) -> (Tone, &'static str) {
    match (attempt.state, attempt.outcome) {
        (AttemptState::Queued, _) => (Tone::Plain, "queued"),
        (AttemptState::Leased, _) => (Tone::Active, "leased"),
        (AttemptState::Ended, Some(Outcome::Done)) => (Tone::Good, "done"),
        (AttemptState::Ended, Some(Outcome::NoChange)) => (Tone::Good, "no change"),
        (AttemptState::Ended, Some(Outcome::ChangesRequested)) => (Tone::Warning, "changes requested"),
        (AttemptState::Ended, Some(Outcome::Failed)) => (Tone::Bad, "failed"),
        (AttemptState::Ended, None) => (Tone::Bad, "given up"),
    }
}

fn draw_why(why: &Why, color: Color) -> String {
    let mut text = format!("{} is {}\n", why.id, color.paint(task_tone(why.state), why.state.as_str()));
    for reason in &why.reasons {
        text.push_str(&format!("  {}\n", one_line(reason)));
    }
    text
}
