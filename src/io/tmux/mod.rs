//! tmux: one session per root, one window per agent, asked through one persistent control-mode client.
//!
//! Panes are found again by two pane options, [`AGENT_TAG`] and [`INCARNATION_TAG`], the session by [`ROOT_TAG`]; names
//! and titles are for people and prove nothing.

mod client;
mod error;
mod framing;
mod leave;
mod oneshot;
mod panes;
mod script;
mod session;
mod version;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, mpsc};

use self::client::{Asked, Client, Events};
pub use self::error::TmuxError;
use self::framing::Block;
use self::panes::Slots;
use self::script::Script;
pub use self::version::{OLDEST, Version};
use crate::io::process::{self, ProcessId};
use crate::model::id::{AgentId, Incarnation};

/// The pane option that names the agent.
pub const AGENT_TAG: &str = "@miyabi_agent";

/// The pane option that names the agent's incarnation.
pub const INCARNATION_TAG: &str = "@miyabi_incarnation";

/// The session option that names the root.
pub const ROOT_TAG: &str = "@miyabi_root";

/// How many events may wait: each connection gives one at its end, and connecting again is the reader's own act.
const EVENTS_MAX: usize = 16;

/// Which server and session are ours, and what the server is started with.
#[derive(Debug, Clone)]
pub struct TmuxSpec {
    /// The program, e.g. `tmux`.
    pub program: PathBuf,
    /// The name of the socket.
    pub socket: String,
    /// The folder for sockets (`TMUX_TMPDIR`); tmux's own default when absent.
    pub tmpdir: Option<PathBuf>,
    /// The name of the session.
    pub session: String,
    /// The root that the session belongs to.
    pub root: PathBuf,
    /// The environment of the server, and so of every pane: PATH, HOME, LANG and what else is on the list.
    pub env: BTreeMap<String, String>,
    /// Whether somebody else, a service manager, starts the server and starts it again: then we wait for it and never start
    /// one, which would live, with all agents, where we live.
    pub server_is_kept: bool,
}

impl TmuxSpec {
    /// Returns the path of the server's socket.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        let user = rustix::process::geteuid().as_raw();
        let folder = self.tmpdir.clone().unwrap_or_else(|| PathBuf::from("/tmp"));
        folder.join(format!("tmux-{user}")).join(&self.socket)
    }

    /// Returns the root as it is written into the session's tag: on one line.
    fn root_tag(&self) -> String {
        self.root.to_string_lossy().replace(|c: char| c.is_control(), "\u{fffd}")
    }
}

/// What was there when a connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connected {
    /// A server was running.
    Joined,
    /// A server had to be started, so no pane of before is left.
    StartedServer,
}

/// Why the connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TmuxEvent {
    /// The server is gone, and every pane with it.
    ServerLost,
    /// The server runs, but our session is gone: its last pane ended, or somebody killed it.
    SessionLost,
    /// Only our client ended.
    ClientLost {
        /// What the server said about it.
        reason: String,
    },
}

/// A pane of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaneSeen {
    /// Its id, e.g. `%3`; never given out again while the server runs.
    pub pane: String,
    /// The id of its window, e.g. `@2`.
    pub window: String,
    /// The process that was started in it.
    pub pid: u32,
    /// Whose it is.
    pub agent: AgentId,
    /// Which incarnation of the agent it was started for.
    pub incarnation: Incarnation,
    /// Whether that process has ended.
    pub dead: bool,
}

/// A pane to be made.
#[derive(Debug, Clone)]
pub struct SpawnPane {
    /// For whom.
    pub agent: AgentId,
    /// For which incarnation.
    pub incarnation: Incarnation,
    /// The name that people see; the agent's id if it is empty.
    pub title: String,
    /// The program and its arguments; no shell reads them.
    pub argv: Vec<String>,
    /// What its environment has beside the server's.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: PathBuf,
}

/// The server that was last talked to.
#[derive(Debug, Clone, Copy)]
struct Server {
    process: Option<ProcessId>,
    version: Version,
}

/// Our side of tmux. All methods may be called at the same time.
#[derive(Debug)]
pub struct Tmux {
    spec: Arc<TmuxSpec>,
    client: Mutex<Option<Client>>,
    server: std::sync::Mutex<Option<Server>>,
    /// Held while a pane is made, so that two calls cannot choose the same place or make the session twice.
    slots: Mutex<Slots>,
    events: Events,
}

impl Tmux {
    /// Describes our side; nothing happens before [`Tmux::connect`].
    #[must_use]
    pub fn new(spec: TmuxSpec) -> Self {
        Self {
            spec: Arc::new(spec),
            client: Mutex::new(None),
            server: std::sync::Mutex::new(None),
            slots: Mutex::new(Slots::default()),
            events: Events::default(),
        }
    }

    /// Returns the news of lost connections; an earlier receiver gets none any more. Connecting again is the caller's
    /// decision.
    #[must_use]
    pub fn events(&self) -> mpsc::Receiver<TmuxEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Returns the version of the program.
    ///
    /// # Errors
    /// When it cannot be run, or is older than [`OLDEST`].
    pub async fn version(&self) -> Result<Version, TmuxError> {
        oneshot::version(&self.spec).await
    }

    /// Says whether the persistent connection is open; without it every question starts a process.
    pub async fn is_connected(&self) -> bool {
        self.client.lock().await.as_ref().is_some_and(Client::is_open)
    }

    /// Returns the command that attaches a person's terminal, to a pane's window if one is named.
    #[must_use]
    pub fn attach_argv(&self, pane: Option<&str>) -> Vec<String> {
        let mut argv = vec![self.spec.program.to_string_lossy().into_owned(), "-u".to_owned()];
        if self.spec.tmpdir.is_some() {
            // The person's own TMUX_TMPDIR may differ from ours.
            argv.extend(["-S".to_owned(), self.spec.socket_path().to_string_lossy().into_owned()]);
        } else {
            argv.extend(["-L".to_owned(), self.spec.socket.clone()]);
        }
        if let Some(pane) = pane {
            argv.extend(["select-window", "-t", pane, ";"].map(str::to_owned));
        }
        argv.extend(["attach-session".to_owned(), "-t".to_owned(), format!("={}", self.spec.session)]);
        argv
    }

    /// Makes the server collect ended children: below 3.6 it can miss the news of a death, and then keeps a zombie and
    /// an empty window.
    ///
    /// # Errors
    /// When the server's process cannot be signalled.
    pub async fn reap(&self) -> Result<(), TmuxError> {
        let server = self.server().await?;
        if server.version >= version::COLLECTS_ITS_CHILDREN {
            return Ok(());
        }
        let Some(process) = server.process else { return Ok(()) };
        match process::signal(&process, rustix::process::Signal::CHILD) {
            Ok(process::Sent::Delivered | process::Sent::Gone) => Ok(()),
            Err(error) => Err(TmuxError::Refused { verb: "SIGCHLD".to_owned(), message: error.to_string() }),
        }
    }

    /// Runs a sequence: through the connection if there is one, else by starting a process.
    async fn ask(&self, script: &Script) -> Result<Vec<String>, TmuxError> {
        let verb = || script.verb().to_owned();
        if script.has_nul() {
            return Err(TmuxError::Nul { verb: verb() });
        }
        let line = self.client.lock().await.as_ref().filter(|client| client.is_open()).map(Client::line);
        if let Some(line) = line {
            let asked = tokio::time::timeout(oneshot::PATIENCE, line.ask(script)).await;
            match asked.map_err(|_| TmuxError::Silent { verb: verb(), patience: oneshot::PATIENCE })? {
                Asked::Answered(blocks) => return printed(script, blocks),
                Asked::Lost => return Err(TmuxError::Lost { verb: verb() }),
                Asked::NotSent => {}
            }
        }
        oneshot::ask(&self.spec, script).await
    }
}

fn printed(script: &Script, blocks: Vec<Block>) -> Result<Vec<String>, TmuxError> {
    let mut lines = Vec::new();
    for block in blocks {
        if !block.ok {
            return Err(TmuxError::Refused { verb: script.verb().to_owned(), message: block.lines.join("; ") });
        }
        lines.extend(block.lines);
    }
    Ok(lines)
}
