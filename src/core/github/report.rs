//! What people read on GitHub: the comment of a run, and the text of a pull request.

use std::fmt::Write as _;

use crate::core::Core;
use crate::core::state::{Phase, TaskRecord};
use crate::model::claim;
use crate::model::github::PullState;
use crate::model::id::{AgentId, RunId, TaskId};
use crate::model::report::{CheckResult, Report};
use crate::model::stage::StageKind;

use super::redact::redact;
use super::state::TaskOnGithub;

/// The most bytes of one output in a comment.
const OUTPUT_BYTES_MAX: usize = 4_000;

/// The most bytes of a title.
const TITLE_BYTES_MAX: usize = 250;

/// The most bytes of what an agent writes into a pull request.
const BODY_BYTES_MAX: usize = 20_000;

/// The most bytes of a summary.
const SUMMARY_BYTES_MAX: usize = 2_000;

/// How many attempts a comment lists.
const ATTEMPTS_MAX: usize = 10;

/// How many checks a comment lists.
const CHECKS_MAX: usize = 20;

/// Returns the hidden text by which the comment of a run is found again.
pub(super) fn marker(run: RunId) -> String {
    format!("<!-- miyabi:run={run} kind=report -->")
}

/// Writes the comment of a run; nothing before there is something to say.
pub(super) fn comment(core: &Core, task: &TaskId, record: &TaskRecord, on: &TaskOnGithub) -> Option<String> {
    let current = record.current();
    if current.is_none() && on.note.is_none() && matches!(record.phase, Phase::Waiting { .. }) {
        return None;
    }
    Some(text(core, task, record, on))
}

/// Writes the comment of a run, also when there is nothing to say but that its issue is claimed.
pub(super) fn text(core: &Core, task: &TaskId, record: &TaskRecord, on: &TaskOnGithub) -> String {
    let current = record.current();
    let name = |agent| core.plan().agent(agent).map_or_else(|| agent.to_string(), |spec| spec.name.clone());
    let headline = match (&record.phase, current) {
        (Phase::Waiting { .. }, Some(_)) if record.merged.is_some() => "Merged; it is deployed next.".to_owned(),
        (Phase::Waiting { .. }, Some(_)) if record.holds_change() && record.stage() == StageKind::Code => {
            let who = record.asks_last().map_or_else(|| "The review".to_owned(), |ask| ask.by.clone());
            format!("{who} asks for changes; round {} follows.", record.rounds + 1)
        }
        (Phase::Waiting { .. }, Some(_)) if record.holds_change() => {
            format!("Proven; the stage {} is next.", record.stage().as_str())
        }
        (Phase::Waiting { .. }, Some(last)) => {
            format!("Attempt {} did not do; another one follows.", last.attempt)
        }
        (Phase::Waiting { .. }, None) => "Waits for its turn.".to_owned(),
        (Phase::Queued, Some(current)) if record.rounds > 0 => {
            let round = record.rounds + 1;
            format!("{} works on it (round {round}, attempt {}).", name(&current.agent), current.attempt)
        }
        (Phase::Queued, Some(current)) => {
            format!("{} works on it (attempt {}).", name(&current.agent), current.attempt)
        }
        (Phase::Queued, None) => "Is handed out.".to_owned(),
        (Phase::Merging { .. }, _) => match &on.pull {
            Some(pull) if on.published.as_ref().is_some_and(|(run, _)| *run == record.run) => match pull.state {
                PullState::Open if record.rounds > 0 => {
                    format!("Proven: pull request #{} waits to be merged (round {}).", pull.number, record.rounds + 1)
                }
                PullState::Open => format!("Proven: pull request #{} waits to be merged.", pull.number),
                PullState::Closed => format!(
                    "Pull request #{} was closed without a merge. Reopen it, or comment `/miyabi retry` or `/miyabi cancel`.",
                    pull.number
                ),
                PullState::Merged { .. } => format!("Pull request #{} is merged.", pull.number),
            },
            Some(_) | None => "Proven; it is being published.".to_owned(),
        },
        (Phase::Done { commit: Some(commit), .. }, _) => {
            format!("Done, merged as `{}`.", commit.get(..10).unwrap_or(commit))
        }
        (Phase::Done { commit: None, .. }, _) => "Done; nothing had to be changed.".to_owned(),
        (Phase::Failed { .. }, _) => {
            format!("Given up after {} attempts. `/miyabi retry` begins anew.", record.attempt)
        }
        (Phase::Cancelled { reason, .. }, _) => format!("Cancelled: {}.", one_line(reason)),
    };
    let answers = on.answers.map(claim::answers).unwrap_or_default();
    let mut text = format!("{}{answers}\n**miyabi** · {headline}\n", marker(record.run));
    if let Some(note) = &on.note {
        text.push_str(&format!("\n{}\n", quoted(note)));
    }
    if !record.attempts.is_empty() {
        text.push_str("\n| attempt | agent | result |\n| --- | --- | --- |\n");
    }
    let skipped = record.attempts.len().saturating_sub(ATTEMPTS_MAX);
    for attempt in record.attempts.iter().skip(skipped) {
        let result = attempt.outcome.as_deref().unwrap_or("under way");
        let _ = writeln!(text, "| {} | {} | {result} |", attempt.attempt, name(&attempt.agent));
    }
    if let Some(spent) = record.spent {
        let _ = writeln!(text, "\nCost: {spent}.");
    }
    if let Some(report) = current.and_then(|current| current.report.as_deref()) {
        text.push_str(&details("Summary", &cut_end(&report.summary, SUMMARY_BYTES_MAX)));
        text.push_str(&checks(report));
    } else if let Some(reason) = current.and_then(|current| current.reason.as_deref()) {
        text.push_str(&details("Reason", &cut_end(reason, SUMMARY_BYTES_MAX)));
    }
    let _ = writeln!(text, "\n<sub>task `{task}`, run `{}`</sub>", record.run);
    redact(&text)
}

/// Writes the title of a pull request.
pub(super) fn pull_title(task: &TaskId, record: &TaskRecord, on: &TaskOnGithub) -> String {
    let title = match written(record) {
        Some((title, _)) => title,
        None if on.title.is_empty() => task.to_string(),
        None => on.title.clone(),
    };
    redact(&cut_end(&title, TITLE_BYTES_MAX))
}

/// Returns what the stage `pull-request` has written: a title on one line, and a text.
fn written(record: &TaskRecord) -> Option<(String, String)> {
    let report = record.reports.get(&StageKind::PullRequest)?;
    let (first, rest) = report.summary.split_once('\n').unwrap_or((&report.summary, ""));
    let title = one_line(report.title.as_deref().unwrap_or(first));
    let body = report.body.as_deref().unwrap_or(rest).trim();
    (!title.is_empty()).then(|| (title, cut_end(body, BODY_BYTES_MAX)))
}

/// Writes the text of a pull request.
pub(super) fn pull_body(core: &Core, task: &TaskId, record: &TaskRecord, on: &TaskOnGithub, report: &Report) -> String {
    let mut text = String::new();
    if let Some(issue) = &on.issue {
        let _ = writeln!(text, "Closes #{}\n", issue.number);
    }
    if let Some((_, body)) = written(record).filter(|(_, body)| !body.is_empty()) {
        let _ = writeln!(text, "{body}\n");
    }
    let _ = writeln!(text, "Made by {}, attempt {}.", author(core, &report.agent), report.attempt);
    text.push_str(&details("Summary", &cut_end(&report.summary, SUMMARY_BYTES_MAX)));
    text.push_str(&checks(report));
    text.push_str(
        "\n### To ask for changes\n\nReview this pull request with *Request changes*, or comment `/miyabi change` and what is \
         wanted: this pull request gets a new commit. To begin anew, say in the issue what is wanted and comment \
         `/miyabi retry` there. Closing it stops the work until somebody decides.\n",
    );
    let _ = writeln!(text, "\n<sub>task `{task}`, run `{}`</sub>", record.run);
    redact(&text)
}

/// Names an agent with its program and, as far as its command says so, its model.
fn author(core: &Core, agent: &AgentId) -> String {
    let Some(spec) = core.plan().agent(agent) else { return format!("`{agent}`") };
    let model = model_of(&spec.command).map_or_else(String::new, |model| format!(", model `{}`", one_line(model)));
    format!("**{}** (`{agent}`, {}{model})", spec.name, spec.driver.as_str())
}

/// Finds the model that a command names, as most agents' programs are told of it.
fn model_of(command: &[String]) -> Option<&str> {
    command.iter().enumerate().find_map(|(at, word)| match word.as_str() {
        "--model" | "-m" => command.get(at + 1).map(String::as_str),
        word => word.strip_prefix("--model="),
    })
}

/// Says in one line how a commit was proven.
pub(super) fn status(report: &Report) -> String {
    match report.checks.len() {
        0 => format!("attempt {} by {}, without checks", report.attempt, report.agent),
        1 => format!("1 check passed, attempt {} by {}", report.attempt, report.agent),
        many => format!("{many} checks passed, attempt {} by {}", report.attempt, report.agent),
    }
}

fn checks(report: &Report) -> String {
    let mut text = String::new();
    for check in report.checks.iter().take(CHECKS_MAX) {
        let title = format!("{} {}", if check.passed() { "✅" } else { "❌" }, summary_of(check));
        text.push_str(&details(&title, &cut_front(&check.output)));
    }
    text
}

fn summary_of(check: &CheckResult) -> String {
    let command = cut_end(&one_line(&check.command), 200);
    let command = command.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<code>{command}</code>, {} s", check.duration_ms / 1_000)
}

/// Folds a text away, between fences that are longer than any in it.
fn details(title: &str, text: &str) -> String {
    format!("\n<details><summary>{title}</summary>\n\n{}\n</details>\n", quoted(text))
}

fn quoted(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", text.trim_end())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cut_end(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

fn cut_front(text: &str) -> String {
    let mut from = text.len().saturating_sub(OUTPUT_BYTES_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::model_of;

    #[test]
    fn a_model_is_found_where_programs_are_told_of_it() {
        let found = |command: &str| {
            let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
            model_of(&command).map(str::to_owned)
        };
        assert_eq!(found("aider --model ollama_chat/qwen3 --map-tokens 0").as_deref(), Some("ollama_chat/qwen3"));
        assert_eq!(found("claude --model=opus").as_deref(), Some("opus"));
        assert_eq!(found("codex exec -m gpt-5").as_deref(), Some("gpt-5"));
        assert_eq!(found("sh -c true --model"), None);
        assert_eq!(found("aider --models x"), None);
    }
}
