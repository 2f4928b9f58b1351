//! The proof: every check command, in a clean worktree at exactly the attempt's commit.

use super::context::Context;
use super::event::Trouble;
use super::pane::Tone;
use super::program::{self, Ended, Leash, Program};
use super::workplace::trouble;
use crate::io::clock;
use crate::io::git::worktree;
use crate::model::order::WorkOrder;
use crate::model::report::CheckResult;

/// The exit code that shells use for a command that cannot be started.
const NOT_STARTED: i32 = 127;

/// Runs the checks in order up to the first that does not pass, or until the leash is pulled.
pub(super) async fn run(
    context: &Context,
    order: &WorkOrder,
    commit: Option<&str>,
    leash: Leash,
) -> Result<Vec<CheckResult>, Trouble> {
    let dir = match (&order.workplace, commit) {
        (Some(workplace), Some(commit)) => {
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
    for command in &order.checks {
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
