//! The plan: what agents.toml says, checked and with defaults filled in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agent::AgentSpec;
use super::github::{GithubSpec, RepositoryOnGithub};
use super::id::{AgentId, RepositoryName, Role};
use super::size::Size;
use super::span::{self, DAY};
use super::stage::{Stage, StageKind};

/// The whole configuration of one root folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The tmux session.
    pub session: SessionSpec,
    /// The agents, in the order of the file.
    pub agents: Vec<AgentSpec>,
    /// The repositories, in the order of the file.
    pub repositories: Vec<RepositorySpec>,
    /// The stages of every run.
    pub workflow: Workflow,
    /// When nothing new is begun.
    pub resources: ResourceLimits,
    /// In which order work is begun, and how much of it at once.
    #[serde(default)]
    pub scheduler: SchedulerSpec,
    /// The program that is run for each new alert, and its arguments; empty: none.
    pub alert_command: Vec<String>,
    /// How much the spool may hold, and for how long.
    #[serde(default)]
    pub spool: SpoolLimits,
    /// How many days the supervisor's log files are kept.
    #[serde(default = "log_days")]
    pub log_days: u32,
    /// How many days the logs of attempts are kept that nobody needs any more.
    #[serde(default = "attempt_log_days")]
    pub attempt_log_days: u32,
    /// How GitHub is asked.
    #[serde(default)]
    pub github: GithubSpec,
    /// How long running attempts may go on when the supervisor goes down.
    #[serde(default = "drain", with = "span")]
    pub drain: Duration,
}

/// How long running attempts may go on when nobody says otherwise.
pub const DRAIN: Duration = Duration::from_secs(30);

const fn drain() -> Duration {
    DRAIN
}

/// How many days log files are kept when nobody says otherwise.
pub const LOG_DAYS: u32 = 7;

pub(super) const fn log_days() -> u32 {
    LOG_DAYS
}

/// How many days the logs of attempts are kept when nobody says otherwise.
pub const ATTEMPT_LOG_DAYS: u32 = 30;

const fn attempt_log_days() -> u32 {
    ATTEMPT_LOG_DAYS
}

impl Plan {
    /// Finds an agent by its id.
    #[must_use]
    pub fn agent(&self, id: &AgentId) -> Option<&AgentSpec> {
        self.agents.iter().find(|agent| agent.id == *id)
    }

    /// Says whether anything is to be found on GitHub.
    #[must_use]
    pub fn uses_github(&self) -> bool {
        self.repositories.iter().any(|repository| repository.github.is_some())
    }

    /// Finds a repository by its name.
    #[must_use]
    pub fn repository(&self, name: &RepositoryName) -> Option<&RepositorySpec> {
        self.repositories.iter().find(|repository| repository.name == *name)
    }
}

/// The tmux session that holds the panes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// The session's name.
    pub name: String,
    /// The name of the tmux server's socket (`tmux -L`).
    pub socket: String,
}

/// A git repository that tasks work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositorySpec {
    /// The name that tasks use.
    pub name: RepositoryName,
    /// The checkout or bare repository, absolute.
    pub path: PathBuf,
    /// Where `path` is cloned from when it does not exist yet.
    pub remote: Option<String>,
    /// Commands that must succeed at every commit; absent: the usual one of the project's type, where a task has none.
    pub checks: Option<Vec<String>>,
    /// Paths that no attempt may change, as git's glob patterns.
    #[serde(default)]
    pub protected: Vec<String>,
    /// How a proven commit becomes part of the target branch.
    pub merge: MergeMode,
    /// Its part on GitHub.
    #[serde(default)]
    pub github: Option<RepositoryOnGithub>,
    /// How many attempts may work in it at once; `None`: as many as there are agents.
    #[serde(default)]
    pub attempts_max: Option<u32>,
}

/// The largest number that `attempts_max` may be.
pub const ATTEMPTS_AT_ONCE_MAX: u32 = 10_000;

/// In which order work is begun, and how much of it at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerSpec {
    /// How long a ready task waits until it counts as one priority more urgent.
    #[serde(with = "span")]
    pub ageing: Duration,
    /// How many agents of a role may work at once; a role that is not named: all.
    pub roles: BTreeMap<Role, u32>,
    /// The load average of one minute per processor, in hundredths, above which attempts are begun one at a time; 0: never.
    pub load_high: u32,
    /// How many of the newest [`OUTCOMES`] tasks' attempts may have failed before attempts are begun one at a time; 0: never.
    pub failures_max: u32,
}

/// How many outcomes `failures_max` looks at.
pub const OUTCOMES: u32 = 10;

impl Default for SchedulerSpec {
    fn default() -> Self {
        Self { ageing: Duration::from_hours(1), roles: BTreeMap::new(), load_high: 400, failures_max: 8 }
    }
}

/// How a proven commit becomes part of the target branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MergeMode {
    /// The supervisor puts it on the local target branch.
    Local,
    /// It waits its turn, is put onto the newest commit of the target branch and checked again there; that is then pushed, if
    /// the repository has a remote.
    Queue,
    /// A pull request on GitHub asks for it; the task is done when somebody has merged that.
    PullRequest,
    /// It stays on the attempt's branch.
    None,
}

/// The stages that every run goes through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    /// The stages in order; the first is the work itself.
    pub stages: Vec<Stage>,
    /// How many reviews of one run there may be before it has failed.
    #[serde(default = "rounds_max")]
    pub rounds_max: u32,
    /// What agents are told at a stage beside what is always said.
    #[serde(default)]
    pub words: BTreeMap<StageKind, String>,
    /// The command that deploys; `None`: the agent is asked.
    #[serde(default)]
    pub deploy_run: Option<String>,
    /// The role that is asked about tasks that have failed for good; `None`: nobody is.
    #[serde(default)]
    pub healer: Option<Role>,
}

impl Default for Workflow {
    /// Only the work itself.
    fn default() -> Self {
        Self {
            stages: vec![StageKind::Code.stage()],
            rounds_max: ROUNDS_MAX,
            words: BTreeMap::new(),
            deploy_run: None,
            healer: None,
        }
    }
}

/// How many reviews of one run there may be when nobody says otherwise.
pub const ROUNDS_MAX: u32 = 3;

/// The largest number that `rounds_max` may be.
pub const ROUNDS_MOST: u32 = 20;

const fn rounds_max() -> u32 {
    ROUNDS_MAX
}

/// When nothing new is begun because something runs low, and when work goes on. Zero: never mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Room on the root's disk below which nothing new is begun.
    pub disk_low: Size,
    /// Room at which work goes on.
    pub disk_resume: Size,
    /// Memory below which nothing new is begun.
    pub memory_low: Size,
    /// Memory at which work goes on.
    pub memory_resume: Size,
    /// How much the worktrees of all attempts may take before nothing new is begun.
    #[serde(default = "worktrees_max")]
    pub worktrees_max: Size,
    /// How many days a worktree is left alone that nobody works in and nobody has cleared away.
    #[serde(default = "worktree_days")]
    pub worktree_days: u32,
    /// How many days branches of attempts are kept whose work is elsewhere too; 0: for ever.
    #[serde(default = "branch_days")]
    pub branch_days: u32,
}

const fn branch_days() -> u32 {
    90
}

pub(super) const fn worktree_days() -> u32 {
    14
}

const fn worktrees_max() -> Size {
    Size(100 << 30)
}

impl Default for ResourceLimits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            disk_low: Size(512 * MIB),
            disk_resume: Size(1_024 * MIB),
            memory_low: Size(128 * MIB),
            memory_resume: Size(256 * MIB),
            worktrees_max: worktrees_max(),
            worktree_days: worktree_days(),
            branch_days: branch_days(),
        }
    }
}

/// The largest bound that one envelope may be given.
pub const ENVELOPE_BYTES_MOST: Size = Size(64 << 20);

/// How much the spool may hold, and for how long. Everybody who uses a spool must go by the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolLimits {
    /// The largest file of one envelope.
    pub envelope_bytes_max: Size,
    /// How many envelopes may wait or be leased in one mailbox.
    pub mailbox_envelopes_max: u32,
    /// How much the whole spool may hold before messages are refused.
    pub bytes_max: Size,
    /// How much room on the disk is kept free of messages.
    pub disk_reserve: Size,
    /// How long acknowledged envelopes are kept.
    #[serde(with = "span")]
    pub done_age_max: Duration,
    /// How many of them in one mailbox.
    pub done_envelopes_max: u32,
    /// How much of them in one mailbox.
    pub done_bytes_max: Size,
    /// How long dead letters are kept.
    #[serde(with = "span")]
    pub dead_age_max: Duration,
    /// How many of them in one mailbox.
    pub dead_envelopes_max: u32,
    /// How much of them in one mailbox.
    pub dead_bytes_max: Size,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            envelope_bytes_max: Size(MIB),
            mailbox_envelopes_max: 100_000,
            bytes_max: Size(4_096 * MIB),
            disk_reserve: Size(64 * MIB),
            done_age_max: 7 * DAY,
            done_envelopes_max: 10_000,
            done_bytes_max: Size(256 * MIB),
            dead_age_max: 30 * DAY,
            dead_envelopes_max: 1_000,
            dead_bytes_max: Size(64 * MIB),
        }
    }
}
