//! Which driver does what: the only place that knows all of them.

use super::events::{self, Turn, TurnFailure};
use super::{DriverError, Files, Start, Verdict, aider, claude, codex, command, echo, gemini, opencode};
use crate::model::agent::{AgentSpec, DriverKind};
use crate::model::order::WorkOrder;

/// Names, for every driver, of the untracked files that its program leaves in a worktree and that are nobody's work.
pub const LITTER: [&str; 1] = [aider::LITTER];

/// Names the untracked files that one driver's program leaves in a worktree and that are nobody's work.
#[must_use]
pub const fn litter(driver: DriverKind) -> &'static [&'static str] {
    match driver {
        DriverKind::Aider => &[aider::LITTER],
        DriverKind::Command
        | DriverKind::Echo
        | DriverKind::Claude
        | DriverKind::Codex
        | DriverKind::Gemini
        | DriverKind::Opencode
        | DriverKind::Dashboard => &[],
    }
}

/// Says how an order's prompt is worked off by an agent.
///
/// # Errors
/// Tells why the agent cannot do it.
pub fn start(agent: &AgentSpec, order: &WorkOrder, prompt: &str, files: Files<'_>) -> Result<Start, DriverError> {
    Ok(Start::Program(match agent.driver {
        DriverKind::Command => command::start(agent)?,
        DriverKind::Echo => return Ok(echo::start(order, prompt)),
        DriverKind::Aider => aider::start(agent, files),
        DriverKind::Claude => claude::start(agent, files),
        DriverKind::Codex => codex::start(agent),
        DriverKind::Gemini => gemini::start(agent),
        DriverKind::Opencode => opencode::start(agent),
        DriverKind::Dashboard => return Err(DriverError::TakesNoOrders { agent: agent.id.to_string() }),
    }))
}

/// Judges a program that ended by itself: by what it says of its turn, else by its exit code and the end of its output.
#[must_use]
pub fn judge(driver: DriverKind, exit_code: i32, output: &str, turn: Option<&Turn>) -> Verdict {
    match (driver, turn) {
        (DriverKind::Aider, _) => aider::judge(exit_code, output),
        (DriverKind::Command | DriverKind::Echo | DriverKind::Dashboard, _) => command::judge(exit_code, output),
        (_, Some(turn)) => by_turn(turn, exit_code),
        (DriverKind::Claude | DriverKind::Codex | DriverKind::Gemini | DriverKind::Opencode, None) => {
            match command::judge(exit_code, output) {
                Verdict::Failed { reason } => match events::limit(output) {
                    Some(until) => Verdict::Limited { until, reason },
                    None => Verdict::Failed { reason },
                },
                // Its commit has to prove it.
                Verdict::Succeeded { .. } | Verdict::Limited { .. } => Verdict::Succeeded {
                    complaint: Some(format!("{} did not say how its turn ended", driver.as_str())),
                },
            }
        }
    }
}

/// The exit code says less than the program's own words: it may be told to end when its turn is over.
fn by_turn(turn: &Turn, exit_code: i32) -> Verdict {
    match &turn.failure {
        Some(TurnFailure::Limited { until, reason }) => Verdict::Limited { until: *until, reason: reason.clone() },
        Some(TurnFailure::Failed(reason)) => Verdict::Failed { reason: reason.clone() },
        None => Verdict::Succeeded {
            complaint: (exit_code != 0).then(|| format!("it ended with exit code {exit_code} after its turn")),
        },
    }
}

/// Returns the command that stands for an empty `command` in agents.toml; empty: there is none.
#[must_use]
pub fn default_command(driver: DriverKind) -> Vec<String> {
    program_name(driver).map(str::to_owned).into_iter().collect()
}

/// Returns the program by which `miyabi init` sees on PATH whether the driver can be used; `None`: it needs none.
#[must_use]
pub const fn program_name(driver: DriverKind) -> Option<&'static str> {
    match driver {
        DriverKind::Aider => Some(aider::PROGRAM),
        DriverKind::Claude => Some(claude::PROGRAM),
        DriverKind::Codex => Some(codex::PROGRAM),
        DriverKind::Gemini => Some(gemini::PROGRAM),
        DriverKind::Opencode => Some(opencode::PROGRAM),
        DriverKind::Command | DriverKind::Echo | DriverKind::Dashboard => None,
    }
}
