//! Where things lie under a root folder. Paths only; nothing here touches the disk.

use std::path::{Path, PathBuf};

use super::id::{AgentId, RepositoryName, RunId, StageName};

/// The folders and files of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Describes the root folder at an absolute path.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns the root folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("agents.toml")
    }

    /// Returns the folder of dependency files.
    #[must_use]
    pub fn dag(&self) -> PathBuf {
        self.root.join("dag")
    }

    /// Returns the folder of log files.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Returns the folder of one agent's logs: the output of every attempt.
    #[must_use]
    pub fn agent_logs(&self, agent: &AgentId) -> PathBuf {
        self.logs().join(agent.as_str())
    }

    /// Returns the folder of run-time state.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Returns the journal's database.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.data().join("miyabi.db")
    }

    /// Returns the spool's folder.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.data().join("spool")
    }

    /// Returns the bare clone from which a repository's commits are published; no agent works in it.
    #[must_use]
    pub fn publisher(&self, repository: &RepositoryName) -> PathBuf {
        self.data().join("publish").join(format!("{repository}.git"))
    }

    /// Returns the folder of the deliveries of webhooks.
    #[must_use]
    pub fn webhooks(&self) -> PathBuf {
        self.data().join("webhooks")
    }

    /// Returns the folder of sockets, locks and heartbeats.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.data().join("run")
    }

    /// Returns the supervisor's lock file, which names its process.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.run().join("supervisor.lock")
    }

    /// Returns the supervisor's control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// Returns the folder of the operator's mark for a freeze; it holds little else, so that it can be watched.
    #[must_use]
    pub fn freeze(&self) -> PathBuf {
        self.data().join("freeze")
    }

    /// Returns the operator's mark: while it is there, everything is frozen.
    #[must_use]
    pub fn frozen(&self) -> PathBuf {
        self.freeze().join("frozen.json")
    }

    /// Returns the record of the freeze that was ended last.
    #[must_use]
    pub fn thawed(&self) -> PathBuf {
        self.freeze().join("thawed.json")
    }

    /// Returns the folder where an agent's program puts its events, e.g. by hooks.
    #[must_use]
    pub fn events(&self, agent: &AgentId) -> PathBuf {
        self.run().join("events").join(agent.as_str())
    }

    /// Returns the folder of heartbeat files.
    #[must_use]
    pub fn beats(&self) -> PathBuf {
        self.run().join("beats")
    }

    /// Returns an agent's heartbeat file, which its runner replaces by rename.
    #[must_use]
    pub fn beat(&self, agent: &AgentId) -> PathBuf {
        self.beats().join(format!("{agent}.json"))
    }

    /// Returns the file from which a runner learns what it is.
    #[must_use]
    pub fn launch(&self, agent: &AgentId) -> PathBuf {
        self.run().join("launch").join(format!("{agent}.json"))
    }

    /// Returns the folder of all attempts' files.
    #[must_use]
    pub fn attempts(&self) -> PathBuf {
        self.data().join("attempts")
    }

    /// Returns the folder in which one attempt's files (order, inbox, report) lie.
    #[must_use]
    pub fn attempt(&self, run: RunId, stage: &StageName, attempt: u32) -> PathBuf {
        self.attempts().join(format!("{run}-{stage}-{attempt}"))
    }

    /// Returns everything that an attempt has on the disk beside its log: its worktree, that of its check, and its files.
    #[must_use]
    pub fn places(&self, run: RunId, stage: &StageName, attempt: u32) -> [PathBuf; 3] {
        [
            self.worktree(run, stage, attempt),
            self.check_worktree(run, stage, attempt),
            self.attempt(run, stage, attempt),
        ]
    }

    /// Returns the folder of all worktrees and scratch folders.
    #[must_use]
    pub fn worktrees(&self) -> PathBuf {
        self.data().join("worktrees")
    }

    /// Returns the worktree, or scratch folder, in which one attempt works.
    #[must_use]
    pub fn worktree(&self, run: RunId, stage: &StageName, attempt: u32) -> PathBuf {
        self.worktrees().join(format!("{run}-{stage}-{attempt}"))
    }

    /// Returns the clean worktree in which one attempt's commit is checked.
    #[must_use]
    pub fn check_worktree(&self, run: RunId, stage: &StageName, attempt: u32) -> PathBuf {
        self.worktrees().join(format!("{run}-{stage}-{attempt}-check"))
    }
}
