//! Launches: what the supervisor tells a runner before it starts it (`launch@1`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::agent::AgentSpec;
use super::id::Incarnation;
use super::plan::SpoolLimits;

/// The version of [`Launch`]'s JSON form.
pub const LAUNCH_SCHEMA: &str = "launch@1";

/// The content of the file from which a runner learns what it is. The supervisor writes it before each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Always `launch@1`.
    pub schema: String,
    /// The root folder, absolute.
    pub root: PathBuf,
    /// The agent, with every default filled in.
    pub agent: AgentSpec,
    /// Which start this is; a runner that was started as another one refuses.
    pub incarnation: Incarnation,
    /// The tmux session that holds the pane.
    pub session: String,
    /// The bounds of the spool.
    #[serde(default)]
    pub spool: SpoolLimits,
    /// How many days of the runners' log files are kept.
    #[serde(default = "super::plan::log_days")]
    pub log_days: u32,
    /// How many days a worktree is left alone that nobody works in and nobody has cleared away.
    #[serde(default = "super::plan::worktree_days")]
    pub worktree_days: u32,
    /// The `miyabi` program, absolute; the dashboard's pane runs its `status --watch`.
    pub program: PathBuf,
}
