//! How each kind of agent program is started, handed its work, and judged. One file per driver; nothing here runs anything.

pub mod aider;
pub mod claude;
pub mod codex;
pub mod command;
pub mod dashboard;
pub mod echo;
pub mod events;
pub mod gemini;
pub mod listener;
pub mod meter;
pub mod opencode;
pub mod prompt;
pub mod registry;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::model::agent::AgentSpec;
use crate::model::time::Timestamp;

/// A program that is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments; at least one.
    pub argv: Vec<OsString>,
    /// Variables beside those that every agent gets.
    pub env: Vec<(String, OsString)>,
    /// Files of the attempt that are written before it starts.
    pub files: Vec<(PathBuf, String)>,
    /// What it reads from its standard input.
    pub input: Input,
}

/// Puts a command line together: the agent's `command`, or a program where it has none, with a driver's arguments between the
/// program and the user's own, which come later and so win.
fn argv(agent: &AgentSpec, program: &str, arguments: &[&str]) -> Vec<OsString> {
    let mut own = agent.command.iter().map(OsString::from);
    let mut argv = vec![own.next().unwrap_or_else(|| program.into())];
    argv.extend(arguments.iter().map(OsString::from));
    argv.extend(own);
    argv
}

/// What a program reads from its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    Nothing,
    /// The prompt.
    Prompt,
}

impl Program {
    /// A program that needs nothing but its arguments.
    #[must_use]
    pub const fn plain(argv: Vec<OsString>) -> Self {
        Self { argv, env: Vec::new(), files: Vec::new(), input: Input::Nothing }
    }
}

/// How an order's prompt is worked off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// By running a program.
    Program(Program),
    /// By answering at once, with this text.
    Answer(String),
}

/// The files of an attempt that a driver may use.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// What is asked, as text.
    pub prompt: &'a Path,
    /// The attempt's own folder, outside of the worktree; removed after the attempt.
    pub folder: &'a Path,
}

/// Why a driver cannot start its program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The `command` driver has no program of its own.
    #[error("agent `{agent}` has no `command`, so it can only do `run:` tasks")]
    NoCommand {
        /// The agent.
        agent: String,
    },
    /// The dashboard shows and does not work.
    #[error("agent `{agent}` only shows the dashboard and takes no orders")]
    TakesNoOrders {
        /// The agent.
        agent: String,
    },
}

/// What a driver makes of a program that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It claims success, which is still to be proven.
    Succeeded {
        /// What its output complained about; it tells why, if no commit is found.
        complaint: Option<String>,
    },
    /// A usage limit of its service is in force.
    Limited {
        /// When it will end, if known.
        until: Option<Timestamp>,
        /// What it said, in one line.
        reason: String,
    },
    /// It failed.
    Failed {
        /// Why, in one line.
        reason: String,
    },
}
