//! The `command` driver: any program that follows the agent protocol.

use super::{DriverError, Program, Verdict};
use crate::model::agent::AgentSpec;

/// The longest piece of output that a reason quotes, in characters.
const QUOTE_CHARS_MAX: usize = 200;

/// Starts the agent's command as it is written in agents.toml.
///
/// # Errors
/// An agent without a command can only do `run:` tasks.
pub fn start(agent: &AgentSpec) -> Result<Program, DriverError> {
    if agent.command.is_empty() {
        return Err(DriverError::NoCommand { agent: agent.id.to_string() });
    }
    Ok(Program::plain(agent.command.iter().map(Into::into).collect()))
}

/// Judges by the exit code.
#[must_use]
pub fn judge(exit_code: i32, output: &str) -> Verdict {
    if exit_code == 0 {
        return Verdict::Succeeded { complaint: None };
    }
    let reason = match last_line(output) {
        Some(line) => format!("the program ended with exit code {exit_code}: {line}"),
        None => format!("the program ended with exit code {exit_code} and printed nothing"),
    };
    Verdict::Failed { reason }
}

/// Returns the last line of an output that says something, without control characters.
fn last_line(output: &str) -> Option<String> {
    let line = output.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().filter(|letter| !letter.is_control()).take(QUOTE_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_quotes_the_last_thing_that_was_said() {
        let Verdict::Failed { reason } = judge(3, "working\nno such file: 日本\n\n") else { panic!("it failed") };
        assert_eq!(reason, "the program ended with exit code 3: no such file: 日本");
        assert_eq!(judge(0, "error"), Verdict::Succeeded { complaint: None });
    }
}
