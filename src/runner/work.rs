//! The work itself: an order's files, its program, and what came of it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::attempt::{Failure, Ran};
use super::context::{Assignment, AttemptFiles, Context};
use super::drive::News;
use super::ears::{self, Ears};
use super::output::Output;
use super::pane::Tone;
use super::program::{self, Ended, Leash, Program};
use super::verdict;
use crate::drivers::meter::Meter;
use crate::drivers::{Files, Input, Start, Verdict, prompt, registry};
use crate::io::cgroup::Strikes;
use crate::io::clock;
use crate::io::git::commit;
use crate::io::spool::lease::Leased;
use crate::model::fault::with_causes;
use crate::model::order::{Expects, WorkOrder};
use crate::model::report::{AgentReport, ClaimedFailure, DIFF_BYTES_MAX, FailureKind, Outcome, SUMMARY_CHARS_MAX};
use crate::model::task::Work;

/// The largest report that a program may write.
const CLAIM_BYTES_MAX: u64 = 1024 * 1024;

/// Works on an order to the end of its program.
pub(super) async fn run(context: &Context, assignment: &Assignment, leash: Leash, news: mpsc::Sender<News>) -> Ran {
    let order = &assignment.order;
    let files = context.files(order);
    let mut output = context.output(order);
    let mut text = prompt::text(order);
    match change(order).await {
        Ok(diff) => text.push_str(&prompt::change(&diff)),
        Err(reason) => return failed(FailureKind::Infrastructure, reason),
    }
    let start = match &order.work {
        Work::Run(command) => {
            let dir = context.worktree(order);
            Ok(Begin::Program(Program::shell(command, dir, context.environment(order, &files)), Vec::new()))
        }
        Work::Prompt(_) => {
            let places = Files { prompt: &files.prompt, folder: &files.folder };
            registry::start(&context.agent, order, &text, places).map(|start| begin(context, assignment, &files, start))
        }
    };
    let start = match start {
        Ok(start) => start,
        Err(error) => return failed(FailureKind::NotStarted, error.to_string()),
    };
    let messages = lease_messages(context, assignment);
    context.progress.begin_anew();
    if let Err(error) = write_files(context, &files, &text, &messages, &start).await {
        return failed(FailureKind::Infrastructure, format!("cannot write into {}: {error}", files.folder.display()));
    }
    tokio::task::block_in_place(|| context.post.note_submitted(&messages, clock::now()));
    match start {
        Begin::Answer(answer) => {
            output.take(format!("{}\n", answer.trim_end()).as_bytes()).await;
            let summary = Some(answer.chars().take(SUMMARY_CHARS_MAX).collect());
            // Whoever answers at once has no objection.
            let outcome = (order.expects == Expects::Verdict).then_some(Outcome::Done);
            Ran {
                claim: AgentReport { summary, outcome, ..AgentReport::default() },
                exit_code: Some(0),
                output: output.take_tail(),
                ..Ran::default()
            }
        }
        Begin::Program(program, _) => {
            let before = context.strikes();
            if let Work::Prompt(_) = &order.work {
                output.listen(Ears::new(context.agent.driver, context.progress.clone(), news));
                output.measure(Meter::new(context.agent.driver));
            }
            let ended = program::run(&program, context, leash, &mut output).await;
            judge(context, assignment, &files, (ended, before), &mut output).await
        }
    }
}

/// Reads the change that an order is about, where it makes none itself.
async fn change(order: &WorkOrder) -> Result<String, String> {
    let (Some(workplace), Expects::Verdict | Expects::PullText) = (&order.workplace, order.expects) else {
        return Ok(String::new());
    };
    let Some(start) = &workplace.start else { return Ok(String::new()) };
    let diff = commit::diff(&workplace.path, &start.base, &start.commit, DIFF_BYTES_MAX).await;
    diff.map_err(|error| format!("the change cannot be read: {}", with_causes(&error)))
}

/// What an order begins with.
enum Begin {
    /// A program, and the files that it needs.
    Program(Program, Vec<(PathBuf, String)>),
    Answer(String),
}

fn begin(context: &Context, assignment: &Assignment, files: &AttemptFiles, start: Start) -> Begin {
    match start {
        Start::Answer(answer) => Begin::Answer(answer),
        Start::Program(program) => {
            let mut env = context.environment(&assignment.order, files);
            env.extend(program.env.into_iter().map(|(name, value)| (name.into(), value)));
            let input = match program.input {
                Input::Nothing => None,
                Input::Prompt => Some(files.prompt.clone()),
            };
            let dir = context.worktree(&assignment.order);
            Begin::Program(Program { argv: program.argv, dir, env, input }, program.files)
        }
    }
}

/// Takes the messages for the agent. They are acknowledged with the order; without a report they come again.
fn lease_messages(context: &Context, assignment: &Assignment) -> Vec<Leased> {
    let limit = Duration::from_millis(assignment.order.timeout_ms);
    let messages = tokio::task::block_in_place(|| context.post.lease_messages(limit, clock::now()));
    match messages {
        Ok(messages) => {
            assignment.hand_out(messages.iter().map(|message| message.receipt.clone()));
            messages
        }
        Err(error) => {
            tracing::warn!(error = %with_causes(&error), "the agent gets no messages with this order");
            Vec::new()
        }
    }
}

/// Writes what the program reads, beside the order.
async fn write_files(
    context: &Context,
    files: &AttemptFiles,
    prompt: &str,
    messages: &[Leased],
    start: &Begin,
) -> io::Result<()> {
    let events = context.layout.events(&context.agent.id);
    tokio::task::block_in_place(|| ears::forget_events(&events))?;
    if let Begin::Program(_, own) = start {
        for (path, text) in own {
            tokio::fs::write(path, text).await?;
        }
    }
    tokio::fs::write(&files.prompt, prompt).await?;
    let mut inbox = Vec::new();
    for message in messages {
        serde_json::to_writer(&mut inbox, &message.envelope).map_err(io::Error::other)?;
        inbox.push(b'\n');
    }
    tokio::fs::write(&files.inbox, inbox).await
}

async fn judge(
    context: &Context,
    assignment: &Assignment,
    files: &AttemptFiles,
    (ended, before): (Ended, Strikes),
    output: &mut Output,
) -> Ran {
    let turn = output.end_listening().await;
    let mut ran = Ran { output: output.take_tail(), spent: output.take_spent(), ..Ran::default() };
    ran.exit_code = if let Ended::Exited(code) = &ended { Some(*code) } else { None };
    let summary = turn.as_ref().and_then(|turn| turn.summary.clone());
    let fail = |kind, reason| Some(Failure { kind, reason });
    let mut retry_at = None;
    match ended {
        Ended::NotStarted(reason) => ran.failure = fail(FailureKind::NotStarted, reason),
        // Whoever has said that its turn is over is told to end; what it says of the turn counts.
        Ended::Killed(signal) if turn.is_none() && !context.progress.is_over() => {
            ran.failure = fail(FailureKind::AgentCrashed, format!("the program was killed by signal {signal}"));
        }
        Ended::Exited(_) | Ended::Killed(_) => {
            let code = ran.exit_code.unwrap_or(0);
            let driver = match &assignment.order.work {
                Work::Prompt(_) => context.agent.driver,
                Work::Run(_) => crate::model::agent::DriverKind::Command,
            };
            match registry::judge(driver, code, &ran.output, turn.as_ref()) {
                Verdict::Succeeded { complaint } => ran.complaint = complaint,
                Verdict::Failed { reason } => ran.failure = fail(FailureKind::AgentFailed, reason),
                Verdict::Limited { until, reason } => {
                    ran.failure = fail(FailureKind::Limited, reason);
                    retry_at = until;
                }
            }
        }
    }
    // Whatever the program said of its own end: this is why.
    if let (Some(failure), Some((kind, reason))) = (&mut ran.failure, context.struck(before)) {
        *failure = Failure { kind, reason: format!("{reason}; {}", failure.reason) };
    }
    match read_claim(&files.report).await {
        Ok(claim) => ran.claim = claim,
        Err(reason) if ran.failure.is_none() => ran.failure = fail(FailureKind::AgentFailed, reason),
        Err(reason) => tracing::debug!(reason, "a failed program left no readable report either"),
    }
    ran.claim.retry_at = ran.claim.retry_at.or(retry_at);
    ran.claim.summary = ran.claim.summary.take().or(summary);
    if assignment.order.expects == Expects::Verdict && ran.claim.outcome.is_none() {
        verdict::read(&ran.output, &mut ran.claim);
    }
    if ran.claim.outcome == Some(Outcome::Failed) && ran.failure.is_none() {
        let reason = ran.claim.summary.clone().unwrap_or_else(|| "the agent says that it failed".to_owned());
        ran.failure = fail(FailureKind::AgentFailed, reason);
    }
    // A program that failed by its exit code may say that it is not its work.
    if let (Some(failure), Some(claimed)) = (&mut ran.failure, ran.claim.failure)
        && failure.kind == FailureKind::AgentFailed
    {
        failure.kind = match claimed {
            ClaimedFailure::Limited => FailureKind::Limited,
            ClaimedFailure::Refused => FailureKind::Refused,
        };
    }
    if let Some(failure) = &ran.failure {
        output.note(&failure.reason);
        context.pane.say(Tone::Bad, &failure.reason);
    }
    ran
}

/// Reads what the program wrote to `MIYABI_REPORT`; nothing is fine, nonsense is not.
async fn read_claim(path: &Path) -> Result<AgentReport, String> {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AgentReport::default()),
        Err(error) => return Err(format!("its report cannot be read: {error}")),
    };
    let mut text = Vec::new();
    file.take(CLAIM_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .await
        .map_err(|error| format!("its report cannot be read: {error}"))?;
    if text.len() as u64 > CLAIM_BYTES_MAX {
        return Err(format!("its report has more than {CLAIM_BYTES_MAX} bytes"));
    }
    if text.trim_ascii().is_empty() {
        return Ok(AgentReport::default());
    }
    serde_json::from_slice(&text).map_err(|error| format!("its report is not a report: {error}"))
}

fn failed(kind: FailureKind, reason: String) -> Ran {
    Ran { failure: Some(Failure { kind, reason }), ..Ran::default() }
}
