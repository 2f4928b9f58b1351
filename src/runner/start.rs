//! The runner's beginning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::id::{AgentId, Incarnation};

/// Why a runner ended other than it should.
#[derive(Debug, thiserror::Error)]
#[error("this program has no runner for {agent}#{incarnation} in {root} yet")]
pub struct RunnerError {
    root: PathBuf,
    agent: AgentId,
    incarnation: Incarnation,
}

/// Runs one agent's runner until it is told to stop.
///
/// # Errors
/// Says what went wrong.
#[expect(clippy::unused_async, reason = "the loop will wait for events")]
pub async fn run(
    root: PathBuf,
    agent: AgentId,
    incarnation: Incarnation,
    environment: BTreeMap<String, String>,
) -> Result<(), RunnerError> {
    drop(environment);
    Err(RunnerError { root, agent, incarnation })
}
