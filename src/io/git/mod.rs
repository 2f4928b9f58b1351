//! The real `git` program: worktrees and commits for the runner, merges for the supervisor.
//!
//! Every call has a time limit, runs without hooks, pager, prompts and automatic maintenance, and ignores `GIT_*`
//! variables that would point it elsewhere. The user's configuration (identity, ignore files, filters, trusted
//! folders) stays in force.

pub mod branch;
mod call;
mod checkout;
pub mod clone;
pub mod commit;
mod heal;
mod locks;
pub mod merge;
pub mod publish;
pub mod queue;
mod registry;
pub mod worktree;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What git could not do.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program is missing or could not be started.
    #[error("cannot start git in {path}")]
    Start {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// git ended with an error.
    #[error("`git {command}` failed in {path}: {detail}")]
    Failed {
        /// Where.
        path: PathBuf,
        /// The subcommand.
        command: String,
        /// What it printed.
        detail: String,
    },
    /// git did not end in time and was killed.
    #[error("`git {command}` did not end within {limit:?} in {path}")]
    TimedOut {
        /// Where.
        path: PathBuf,
        /// The subcommand.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// git printed more than we are ready to hold.
    #[error("`git {command}` printed more than {bytes} bytes in {path}")]
    TooMuch {
        /// Where.
        path: PathBuf,
        /// The subcommand.
        command: String,
        /// The limit.
        bytes: u64,
    },
    /// git printed something that we do not understand.
    #[error("`git {command}` printed something unexpected in {path}: {detail}")]
    Unexpected {
        /// Where.
        path: PathBuf,
        /// The subcommand.
        command: String,
        /// What it printed.
        detail: String,
    },
    /// There is no repository.
    #[error("{path} is not a git repository: {detail}")]
    NotARepository {
        /// Where.
        path: PathBuf,
        /// What git said.
        detail: String,
    },
    /// The current branch has no commit yet.
    #[error("branch `{branch}` of {path} has no commit yet")]
    Unborn {
        /// Where.
        path: PathBuf,
        /// The branch.
        branch: String,
    },
    /// No branch is checked out.
    #[error("{path} has no branch checked out (detached HEAD)")]
    Detached {
        /// Where.
        path: PathBuf,
    },
    /// The branch does not exist.
    #[error("{path} has no branch `{branch}`")]
    NoBranch {
        /// Where.
        path: PathBuf,
        /// The branch.
        branch: String,
    },
    /// A commit that is to be merged does not have exactly one parent.
    #[error("commit {commit} of {path} has {parents} parents, not one")]
    Parents {
        /// Where.
        path: PathBuf,
        /// The commit.
        commit: String,
        /// How many it has.
        parents: usize,
    },
    /// The worktree's link to its repository was removed or points elsewhere.
    #[error("{path} is no longer a worktree of {repository}")]
    Foreign {
        /// The worktree.
        path: PathBuf,
        /// The repository that it should belong to.
        repository: PathBuf,
    },
    /// Another process keeps the list of worktrees to itself.
    #[error("{path} was not free for {limit:?}: another process is making or removing a worktree")]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A worktree that is in the way holds work that is nowhere else.
    #[error("{path} is in the way and cannot be removed: {reason}")]
    InTheWay {
        /// The worktree.
        path: PathBuf,
        /// What it holds.
        reason: String,
    },
    /// A file could not be read, written or removed.
    #[error("cannot {act} {path}")]
    File {
        /// What was tried.
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Who made a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name, e.g. `カエデ`.
    pub name: String,
    /// The address, e.g. `kaede@miyabi.invalid`.
    pub email: String,
}
