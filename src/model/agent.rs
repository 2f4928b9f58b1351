//! Agents: named roles that should be running.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{AgentId, Role};
use super::size::Size;
use super::span;

/// Everything the configuration says of one agent, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// The ASCII id, e.g. `kaede`.
    pub id: AgentId,
    /// The display name, e.g. `カエデ`.
    pub name: String,
    /// What the agent is good for.
    pub role: Role,
    /// Free words that tell the agent apart from others of its role.
    pub labels: BTreeSet<String>,
    /// How the agent's program is driven.
    pub driver: DriverKind,
    /// The program and its arguments; empty: the driver's own default.
    pub command: Vec<String>,
    /// Names of the environment variables that the agent may see.
    pub env: BTreeSet<String>,
    /// How often the runner beats.
    #[serde(with = "span")]
    pub heartbeat: Duration,
    /// How old the newest beat may be before the agent is suspected.
    #[serde(with = "span")]
    pub heartbeat_timeout: Duration,
    /// How long a start may take until the first ready beat.
    #[serde(with = "span")]
    pub start_timeout: Duration,
    /// How long a stop may take before SIGKILL.
    #[serde(with = "span")]
    pub stop_timeout: Duration,
    /// The time limit of an attempt for tasks that name none.
    #[serde(with = "span")]
    pub timeout: Duration,
    /// How long an attempt may show neither output nor commits nor processor time before it counts as stalled.
    #[serde(with = "span")]
    pub stall: Duration,
    /// What follows then.
    pub on_stall: StallAnswer,
    /// What the agent may use of the machine.
    #[serde(default)]
    pub limits: Limits,
    /// When and how often the agent is started again.
    pub restart: RestartPolicy,
}

/// What an agent, with all that it starts, may use of the machine. The kernel sees to it, on cgroup v2 under systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// The most memory; beyond it the kernel kills.
    #[serde(default)]
    pub memory_max: Option<Size>,
    /// The memory from which on the kernel slows the agent down and takes back what it can.
    #[serde(default)]
    pub memory_high: Option<Size>,
    /// The most processes and threads; beyond it none can be started.
    #[serde(default)]
    pub tasks_max: Option<u32>,
    /// The share of the processors while there are not enough of them for all, 1 to 10000; 100 for whoever has none.
    #[serde(default)]
    pub cpu_weight: Option<u32>,
}

impl Limits {
    /// Says whether there is any.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

impl AgentSpec {
    /// Says whether a runner that was started with these settings does all that `other` asks: what differs, if anything,
    /// is looked at by the supervisor alone.
    #[must_use]
    pub fn runs_like(&self, other: &Self) -> bool {
        let common = Self {
            labels: other.labels.clone(),
            heartbeat_timeout: other.heartbeat_timeout,
            start_timeout: other.start_timeout,
            timeout: other.timeout,
            stall: other.stall,
            on_stall: other.on_stall,
            restart: other.restart.clone(),
            ..self.clone()
        };
        common == *other
    }

    /// Says whether the agent is ever given work.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        match self.driver {
            DriverKind::Command
            | DriverKind::Echo
            | DriverKind::Aider
            | DriverKind::Claude
            | DriverKind::Codex
            | DriverKind::Gemini
            | DriverKind::Opencode => true,
            DriverKind::Dashboard => false,
        }
    }
}

/// What is done about an attempt that has stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StallAnswer {
    /// The operator is told, and nothing else is done.
    Escalate,
    /// The agent is sent a message, a bounded number of times; then the operator is told.
    Nudge,
    /// The agent is ended, and the task is tried again.
    Restart,
}

impl StallAnswer {
    /// All answers, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Escalate, Self::Nudge, Self::Restart];

    /// Returns the word as it is written in agents.toml.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Escalate => "escalate",
            Self::Nudge => "nudge",
            Self::Restart => "restart",
        }
    }
}

/// How an agent's program is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DriverKind {
    /// Any program that follows the agent protocol.
    Command,
    /// Answers with its order: the smallest driver.
    Echo,
    /// The aider CLI.
    Aider,
    /// Claude Code.
    Claude,
    /// The Codex CLI.
    Codex,
    /// The Gemini CLI.
    Gemini,
    /// OpenCode.
    Opencode,
    /// Shows `miyabi status --watch` and is never given work.
    Dashboard,
}

impl DriverKind {
    /// All drivers, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Command,
        Self::Echo,
        Self::Aider,
        Self::Claude,
        Self::Codex,
        Self::Gemini,
        Self::Opencode,
        Self::Dashboard,
    ];

    /// Returns the name as it is written in agents.toml.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Echo => "echo",
            Self::Aider => "aider",
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Opencode => "opencode",
            Self::Dashboard => "dashboard",
        }
    }
}

/// When and how often an agent is started again (the words are Erlang/OTP's).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Which exits are followed by a restart.
    pub policy: RestartKind,
    /// How many restarts are allowed within `period`.
    pub intensity: u32,
    /// The window in which restarts are counted.
    #[serde(with = "span")]
    pub period: Duration,
    /// The wait before the second restart; it doubles from there. The first restart after a stable time is immediate.
    #[serde(with = "span")]
    pub backoff: Duration,
    /// The longest wait.
    #[serde(with = "span")]
    pub backoff_max: Duration,
    /// How long an agent must be up before the back-off begins anew.
    #[serde(with = "span")]
    pub reset_after: Duration,
}

/// Which exits are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartKind {
    /// Every exit.
    Permanent,
    /// Every exit but a clean one.
    Transient,
    /// None.
    Temporary,
}
