//! Which driver does what: the only place that knows all of them.

use super::{DriverError, Files, Start, Verdict, aider, command, echo};
use crate::model::agent::{AgentSpec, DriverKind};
use crate::model::order::WorkOrder;

/// Names, for every driver, of the untracked files that its program leaves in a worktree and that are nobody's work.
pub const LITTER: [&str; 1] = [aider::LITTER];

/// Names the untracked files that one driver's program leaves in a worktree and that are nobody's work.
#[must_use]
pub const fn litter(driver: DriverKind) -> &'static [&'static str] {
    match driver {
        DriverKind::Aider => &[aider::LITTER],
        DriverKind::Command | DriverKind::Echo | DriverKind::Dashboard => &[],
    }
}

/// Says how an order's prompt is worked off by an agent.
///
/// # Errors
/// Tells why the agent cannot do it.
pub fn start(agent: &AgentSpec, order: &WorkOrder, prompt: &str, files: Files<'_>) -> Result<Start, DriverError> {
    match agent.driver {
        DriverKind::Command => command::start(agent).map(Start::Program),
        DriverKind::Echo => Ok(echo::start(order, prompt)),
        DriverKind::Aider => Ok(Start::Program(aider::start(agent, files))),
        DriverKind::Dashboard => Err(DriverError::TakesNoOrders { agent: agent.id.to_string() }),
    }
}

/// Judges a program that ended by itself, by its exit code and the end of its output.
#[must_use]
pub fn judge(driver: DriverKind, exit_code: i32, output: &str) -> Verdict {
    match driver {
        DriverKind::Aider => aider::judge(exit_code, output),
        DriverKind::Command | DriverKind::Echo | DriverKind::Dashboard => command::judge(exit_code, output),
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
        DriverKind::Command | DriverKind::Echo | DriverKind::Dashboard => None,
    }
}
