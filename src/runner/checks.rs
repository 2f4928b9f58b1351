//! The proof: every check command, in a clean worktree at exactly the attempt's commit.

use std::collections::BTreeMap;

use super::context::Context;
use super::event::Trouble;
use super::pane::Tone;
use super::program::{self, Ended, Leash, Program};
use super::project;
use super::workplace::trouble;
use crate::io::clock;
use crate::io::git::{commit, worktree};
use crate::model::order::WorkOrder;
use crate::model::report::CheckResult;

/// The exit code that shells use for a command that cannot be started.
const NOT_STARTED: i32 = 127;

/// How much of a file is read that tells a project's type.
const PROJECT_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Runs the checks in order up to the first that does not pass, or until the leash is pulled. `commits` are the one on which
/// the work began and the one to prove.
pub(super) async fn run(
    context: &Context,
    order: &WorkOrder,
    commits: Option<(&str, &str)>,
    leash: Leash,
) -> Result<Vec<CheckResult>, Trouble> {
    let commands = commands(order, commits).await?;
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let dir = match (&order.workplace, commits) {
        (Some(workplace), Some((_, commit))) => {
            let path = context.check_worktree(order);
            worktree::prepare_detached(&workplace.path, commit, &path).await.map_err(|error| trouble(&error))?;
            path
        }
        (None, _) | (Some(_), None) => context.worktree(order),
    };
    let files = context.files(order);
    let environment = context.environment(order, &files);
    let mut output = context.output(order);
    let mut results = Vec::new();
    for command in &commands {
        let begun = clock::now();
        output.note(&format!("check: {command}"));
        context.pane.say(Tone::Step, &format!("check: {command}"));
        let program = Program::shell(command, dir.clone(), environment.clone());
        let (exit_code, complaint) = match program::run(&program, context, leash.clone(), &mut output).await {
            Ended::Exited(code) => (Some(code), None),
            Ended::Killed(_) => (None, None),
            Ended::NotStarted(reason) => (Some(NOT_STARTED), Some(reason)),
        };
        let duration = clock::now().since(begun).as_millis();
        let result = CheckResult {
            command: command.clone(),
            exit_code,
            output: complaint.unwrap_or_else(|| output.take_tail()),
            duration_ms: u64::try_from(duration).unwrap_or(u64::MAX),
        };
        let passed = result.passed();
        results.push(result);
        // A program that was told to end may still claim success; it did not see everything.
        if !passed || leash.borrow().is_some() {
            break;
        }
    }
    if let Some(workplace) = &order.workplace {
        let path = context.check_worktree(order);
        worktree::remove_scratch(&workplace.path, &path).await.map_err(|error| trouble(&error))?;
    }
    Ok(results)
}

/// Returns the commands of the order, or else what is usual for the project. The commit on which the work began has the first
/// word: an attempt does not choose its own judge.
async fn commands(order: &WorkOrder, commits: Option<(&str, &str)>) -> Result<Vec<String>, Trouble> {
    let (Some(workplace), Some((base, commit)), true) = (&order.workplace, commits, order.checks.is_empty()) else {
        return Ok(order.checks.clone());
    };
    if workplace.detect_check {
        let later = Some(commit).filter(|commit| *commit != base);
        for commit in std::iter::once(base).chain(later) {
            let mut files = BTreeMap::new();
            for name in commit::root_files(&workplace.path, commit).await.map_err(|error| trouble(&error))? {
                let text = if project::READ.contains(&name.as_str()) {
                    commit::text_of(&workplace.path, commit, &name, PROJECT_FILE_BYTES_MAX)
                        .await
                        .map_err(|error| trouble(&error))?
                } else {
                    String::new()
                };
                files.insert(name, text);
            }
            if let Some(command) = project::usual_check(&files) {
                return Ok(vec![command.to_owned()]);
            }
        }
    }
    Ok(Vec::new())
}
