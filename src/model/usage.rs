//! What agents use of the machine.

use serde::{Deserialize, Serialize};

/// What everybody uses at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The agents, in the order of agents.toml.
    pub agents: Vec<AgentUsage>,
    /// The supervisor itself.
    pub supervisor: AgentUsage,
}

/// What the processes of one agent use together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUsage {
    /// The agent's id, or `supervisor`.
    pub name: String,
    /// How many processes run.
    pub processes: usize,
    /// Share of one core, in thousandths, over the last half second.
    pub cpu_permille: u32,
    /// Processor time of the processes that run, and of their children that have ended, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory, in bytes; what processes share is counted for each.
    pub memory_bytes: u64,
    /// What the processes that run have read from the disk, in bytes.
    pub read_bytes: u64,
    /// What they have written, in bytes.
    pub written_bytes: u64,
    /// How many files they have open.
    pub files: usize,
    /// What lies on the root's disk for it, in bytes: its logs, its mailboxes, the worktree of its attempt. For the supervisor:
    /// everything else below data/ and logs/.
    #[serde(default)]
    pub disk_bytes: u64,
}
