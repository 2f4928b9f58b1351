//! The start: one supervisor per root, everything it knows read back, everything outside looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config;
use crate::control::server;
use crate::control::socket::{self, BindError};
use crate::core::Core;
use crate::core::fact::{FACT_VERSION, Fact, Recorded};
use crate::core::state::{Durable, IllegalFact, STATE_VERSION};
use crate::io::clock;
use crate::io::github::connection::Credential;
use crate::io::journal::{Journal, JournalError, NewFact};
use crate::io::lockfile::{self, LockError};
use crate::io::tmux::TmuxError;
use crate::model::fault::Fault;
use crate::model::layout::Layout;
use crate::model::plan::Plan;
use crate::model::secret::Secret;
use crate::tasks::{self, Tasks};

use super::desk::Desk;
use super::hands::Hands;
use super::turn::{Input, Supervisor};
use super::webhooks::Inbox;

/// How many inputs may wait for the loop. More than that means that it stands still, and those who send wait.
const INPUTS_MAX: usize = 1_024;

/// How many questions may wait for the loop.
const ASKS_MAX: usize = 128;

/// How many facts are read from the journal at once.
const FACTS_PAGE: u32 = 5_000;

/// How long background tasks may take to end.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// What the supervisor must be told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The root folder, absolute.
    pub root: PathBuf,
    /// The environment of the process.
    pub environment: BTreeMap<String, String>,
    /// What is shown to GitHub; in no environment, so that nothing that is started inherits it.
    pub github: Option<Credential>,
    /// The secret of GitHub's webhooks; in no environment either.
    pub webhook_secret: Option<Secret>,
    /// The `miyabi` program, absolute: what runs in the panes.
    pub program: PathBuf,
}

/// Why the supervisor ended other than by wish.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one holds the root.
    #[error("a supervisor is already running as process {pid}")]
    AlreadyRunning {
        /// Its process id.
        pid: String,
    },
    /// agents.toml cannot be read.
    #[error("cannot read {path}")]
    NoConfig {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// agents.toml has faults.
    #[error("{path} has {} faults", faults.len())]
    Config {
        /// The file.
        path: PathBuf,
        /// Its text, for excerpts.
        text: String,
        /// The faults.
        faults: Vec<Fault>,
    },
    /// A folder could not be made.
    #[error("cannot make folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The lock could not be tried.
    #[error("cannot lock the root")]
    Lock(#[source] LockError),
    /// The journal cannot be used.
    #[error("the journal cannot be used")]
    Journal(#[from] JournalError),
    /// A fact of the journal is from a later version, or is damaged.
    #[error("fact {seq} of the journal cannot be understood")]
    Fact {
        /// Its number.
        seq: i64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A fact or snapshot of the journal is from a later version.
    #[error(
        "fact {seq} of the journal has version {version}, and this program knows {known} at most: use the newer one"
    )]
    Newer {
        /// Its number.
        seq: i64,
        /// Its version.
        version: i64,
        /// What this program knows.
        known: i64,
    },
    /// Facts are not there.
    #[error("facts {first} to {last} of the journal are missing")]
    Missing {
        /// The first of them.
        first: i64,
        /// The last of them.
        last: i64,
    },
    /// Nothing of the journal can be read.
    #[error("nothing of the journal can be read; a copy is in {folder}")]
    NothingLeft {
        /// Where the copy is.
        folder: PathBuf,
    },
    /// The journal's files cannot be copied or replaced.
    #[error("cannot {what} {path}")]
    Repair {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A fact of the journal does not fit the ones before it.
    #[error("fact {seq} of the journal does not fit")]
    Illegal {
        /// Its number.
        seq: i64,
        /// What and why.
        #[source]
        source: IllegalFact,
    },
    /// We made a fact that does not fit: a mistake of ours. What is in the journal is sound.
    #[error("the supervisor came to a decision that contradicts itself")]
    Broken(#[source] IllegalFact),
    /// tmux cannot be used.
    #[error("tmux cannot be used")]
    Tmux(#[from] TmuxError),
    /// The control socket cannot be made.
    #[error("the control socket cannot be made")]
    Socket(#[from] BindError),
    /// The system refused something basic.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    /// Returns the faults of agents.toml, if it is those that this is about.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Config { faults, .. } => faults,
            Self::AlreadyRunning { .. }
            | Self::NoConfig { .. }
            | Self::Folder { .. }
            | Self::Lock(_)
            | Self::Journal(_)
            | Self::Fact { .. }
            | Self::Newer { .. }
            | Self::Missing { .. }
            | Self::NothingLeft { .. }
            | Self::Repair { .. }
            | Self::Illegal { .. }
            | Self::Broken(_)
            | Self::Tmux(_)
            | Self::Socket(_)
            | Self::System { .. } => &[],
        }
    }
}

/// Runs the supervisor until it is told to end.
///
/// # Errors
/// Says why it could not start, or why it had to end.
pub async fn run(options: Options) -> Result<(), StartError> {
    tasks::as_task(supervise(options)).await
}

async fn supervise(options: Options) -> Result<(), StartError> {
    let layout = Layout::new(options.root.clone());
    make_folders(&layout)?;
    let lock = lockfile::acquire(&layout.lock()).map_err(|error| match error {
        LockError::Held { pid, .. } => StartError::AlreadyRunning { pid },
        other @ LockError::Io { .. } => StartError::Lock(other),
    })?;
    let plan = read_plan(&layout)?;
    let mut journal = Journal::open(&layout.journal()).await?;
    let (durable, unsaved) = restore(&mut journal).await?;
    let core = Core::restore(plan.clone(), durable, clock::now());

    let mut tasks = Tasks::new();
    let (inputs, inbox) = mpsc::channel(INPUTS_MAX);
    let desk = Desk::start(&mut tasks, &layout, &plan.spool, inputs.clone());
    let webhooks = plan.github.webhook.as_ref().zip(options.webhook_secret.clone());
    let webhooks = webhooks.map(|(spec, secret)| Inbox::start(&mut tasks, &layout, spec, secret, inputs.clone()));
    let hands = Hands::new(&options, &layout, &plan, inputs.clone(), desk, webhooks);
    hands.keep_connected(&mut tasks);
    hands.connect().await?;

    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let bound = socket::bind(&layout.control_socket())?;
    tasks.start("control", |stop| async move {
        if let Err(error) = server::serve(bound, asks, stop).await {
            tracing::error!(%error, "the control socket cannot be served");
        }
    });
    watch_signals(&mut tasks, &inputs)?;

    let supervisor = Supervisor::new(core, unsaved, journal, layout, hands, tasks);
    let ended = supervisor.run(inbox, asked).await;
    drop(lock);
    ended
}

fn make_folders(layout: &Layout) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let launch = layout.run().join("launch");
    let folders = [
        layout.dag(),
        layout.logs(),
        layout.data(),
        layout.spool(),
        layout.run(),
        layout.beats(),
        layout.freeze(),
        launch,
    ];
    for path in folders {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| StartError::Folder { path: path.clone(), source })?;
    }
    Ok(())
}

pub(super) fn read_plan(layout: &Layout) -> Result<Plan, StartError> {
    let path = layout.config();
    let text = std::fs::read_to_string(&path).map_err(|source| StartError::NoConfig { path: path.clone(), source })?;
    config::agents::parse("agents.toml", &text, layout.root()).map_err(|faults| StartError::Config {
        path,
        text,
        faults,
    })
}

/// Adds up the newest snapshot and the facts behind it, and says how many these are. A journal that is new gets its seed.
pub(super) async fn restore(journal: &mut Journal) -> Result<(Durable, u64), StartError> {
    let (mut durable, mut seq) = match journal.latest_snapshot().await? {
        Some(snapshot) if snapshot.version > STATE_VERSION => {
            return Err(StartError::Newer { seq: snapshot.seq, version: snapshot.version, known: STATE_VERSION });
        }
        Some(snapshot) if snapshot.version == STATE_VERSION => {
            let durable = serde_json::from_str(&snapshot.body)
                .map_err(|source| StartError::Fact { seq: snapshot.seq, source })?;
            (durable, snapshot.seq)
        }
        Some(_) | None => (Durable::default(), 0),
    };
    let first = seq;
    loop {
        let page = journal.facts_after(seq, FACTS_PAGE).await?;
        if page.is_empty() {
            break;
        }
        for stored in page {
            if stored.version > FACT_VERSION {
                return Err(StartError::Newer { seq: stored.seq, version: stored.version, known: FACT_VERSION });
            }
            if stored.seq != seq + 1 {
                return Err(StartError::Missing { first: seq + 1, last: stored.seq - 1 });
            }
            seq = stored.seq;
            let recorded: Recorded =
                serde_json::from_str(&stored.body).map_err(|source| StartError::Fact { seq: stored.seq, source })?;
            durable.apply(&recorded).map_err(|source| StartError::Illegal { seq: stored.seq, source })?;
        }
    }
    if seq == 0 {
        let seed = clock::fresh_run_id().0.0;
        let seed = u64::try_from(seed & u128::from(u64::MAX)).unwrap_or(1).max(1);
        let recorded = Recorded { at: clock::now(), fact: Fact::Begun { seed } };
        append(journal, std::slice::from_ref(&recorded)).await?;
        durable.apply(&recorded).map_err(|source| StartError::Illegal { seq: 1, source })?;
    }
    tracing::info!(facts = seq - first, snapshot = first, tasks = durable.tasks.len(), "the journal is read");
    Ok((durable, u64::try_from(seq - first).unwrap_or(0)))
}

/// Writes facts to the journal; they are on the disk when this returns.
pub(super) async fn append(journal: &mut Journal, facts: &[Recorded]) -> Result<i64, JournalError> {
    journal.append(facts.iter().map(row)).await
}

fn row(recorded: &Recorded) -> NewFact {
    let body = serde_json::to_string(recorded).expect("facts are plain values, which always have a JSON form");
    NewFact { at: recorded.at, version: FACT_VERSION, kind: recorded.fact.tell().kind.to_owned(), body }
}

fn watch_signals(tasks: &mut Tasks, inputs: &mpsc::Sender<Input>) -> Result<(), StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    let system = |source| StartError::System { what: "cannot listen for signals", source };
    let mut term = signal(SignalKind::terminate()).map_err(system)?;
    let mut int = signal(SignalKind::interrupt()).map_err(system)?;
    let mut hup = signal(SignalKind::hangup()).map_err(system)?;
    let inputs = inputs.clone();
    tasks.start("signals", |stop| async move {
        loop {
            let input = tokio::select! {
                () = stop.cancelled() => return,
                _ = term.recv() => Input::Detach,
                _ = hup.recv() => Input::Detach,
                _ = int.recv() => Input::Interrupt,
            };
            if inputs.send(input).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Ends the background tasks.
pub(super) async fn end(tasks: Tasks) {
    tasks.shut_down(END_PATIENCE).await;
}

/// Shows a path for people: relative to the root where it lies below it.
pub(super) fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
