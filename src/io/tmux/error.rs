//! What can go wrong with tmux.

use std::path::PathBuf;
use std::time::Duration;

use super::version::{OLDEST, Version};
use crate::model::id::{AgentId, Incarnation};

/// What can go wrong with tmux.
#[derive(Debug, thiserror::Error)]
pub enum TmuxError {
    /// The program cannot be run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program is too old.
    #[error("tmux {found} is too old: {OLDEST} or later is needed")]
    TooOld {
        /// What is there.
        found: Version,
    },
    /// The program's version cannot be read.
    #[error("`{text}` is no version of tmux")]
    UnknownVersion {
        /// What it said.
        text: String,
    },
    /// No server listens on the socket.
    #[error("no tmux server runs on the socket {socket}")]
    NoServer {
        /// The socket.
        socket: PathBuf,
    },
    /// The server refused a command.
    #[error("tmux refused `{verb}`: {message}")]
    Refused {
        /// The first command of the sequence.
        verb: String,
        /// What the server said.
        message: String,
    },
    /// The server did not answer.
    #[error("tmux did not answer `{verb}` within {patience:?}")]
    Silent {
        /// The first command of the sequence.
        verb: String,
        /// How long was waited.
        patience: Duration,
    },
    /// The connection ended before the answer; the command may have been carried out.
    #[error("the connection to tmux ended before it answered `{verb}`")]
    Lost {
        /// The first command of the sequence.
        verb: String,
    },
    /// An answer does not have the form that was asked for.
    #[error("tmux answered `{verb}` with `{answer}`, which makes no sense")]
    Nonsense {
        /// The first command of the sequence.
        verb: String,
        /// The answer.
        answer: String,
    },
    /// An argument holds a NUL.
    #[error("an argument of `{verb}` holds a NUL character, which tmux cannot take")]
    Nul {
        /// The first command of the sequence.
        verb: String,
    },
    /// The session's name is changed or misread by some versions of tmux.
    #[error("`{name}` cannot be the name of a session: use letters, digits, `_` and `-`")]
    SessionName {
        /// The name.
        name: String,
    },
    /// The session is another orchestra's.
    #[error("the tmux session `{session}` belongs to {owner}: give this one another name or socket")]
    Foreign {
        /// The session's name.
        session: String,
        /// The other root, or who else.
        owner: String,
    },
    /// The agent still has a pane of another incarnation; two at a time are never allowed.
    #[error("agent {agent} still lives in pane {pane} as incarnation {incarnation}")]
    StillThere {
        /// The agent.
        agent: AgentId,
        /// Its pane.
        pane: String,
        /// The incarnation in it.
        incarnation: Incarnation,
    },
    /// The pane belongs to somebody else by now.
    #[error("pane {pane} does not belong to {agent} incarnation {incarnation} but to `{found}`")]
    WrongPane {
        /// The pane.
        pane: String,
        /// Who was expected.
        agent: AgentId,
        /// Which incarnation was expected.
        incarnation: Incarnation,
        /// The tags found.
        found: String,
    },
    /// There is nothing to run in the pane.
    #[error("agent {agent} has no program to run")]
    NoProgram {
        /// The agent.
        agent: AgentId,
    },
}
