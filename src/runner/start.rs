//! The start of a runner: what it is, where it works, and who tells it to stop.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::clearing::{self, Clearing};
use super::context::Context;
use super::drive::{News, Shell};
use super::event::Event;
use super::hints::Hints;
use super::leftovers;
use super::machine::{Duty, Illegal, Machine, Settings};
use super::pane::{self, Pane, Style, Tone};
use super::post::Post;
use super::progress::Counters;
use super::show;
use super::strays;
use super::workplace;
use crate::drivers::dashboard;
use crate::io::cgroup::{self, AgentGroup};
use crate::io::clock;
use crate::io::spool::Spool;
use crate::io::spool::limits::Limits;
use crate::model::agent::AgentSpec;
use crate::model::fault::with_causes;
use crate::model::id::{AgentId, Incarnation};
use crate::model::launch::{LAUNCH_SCHEMA, Launch};
use crate::model::layout::Layout;
use crate::model::span;
use crate::telemetry::{self, Format, Logging, StandardError};

/// Set to `1` by the tmux server's unit: what lies below the unit's control group is ours.
const DELEGATED: &str = "MIYABI_DELEGATED";

/// How many threads a runner has beside those for blocking calls: the loop must turn while a step computes.
const THREADS: usize = 2;

/// How long tasks may take to end when the machine has ended: a killed program is collected within this time.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a runner cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The launch file cannot be read.
    #[error("cannot read {path}; runners are started by the supervisor")]
    Launch {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The launch file is not one.
    #[error("{path} is not a launch of schema {LAUNCH_SCHEMA}")]
    LaunchShape {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The launch file is another start's: a newer one has begun, or this one was started by hand.
    #[error("{path} is for start {found} of agent `{agent}`, not for start {asked}")]
    OtherStart {
        /// The file.
        path: PathBuf,
        /// The agent that it names.
        agent: AgentId,
        /// The start that it names.
        found: Incarnation,
        /// The start that this process is.
        asked: Incarnation,
    },
    /// The runner's surroundings cannot be set up.
    #[error("cannot {doing}")]
    Setup {
        /// What was tried.
        doing: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The spool is out of order.
    #[error("cannot use the spool")]
    Spool {
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What lies among the work orders is none.
    #[error("cannot read the next order")]
    Order {
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A mistake of ours.
    #[error("the runner has lost its way")]
    Illegal(#[from] Illegal),
}

/// Runs an agent's runner until it is told to stop. Blocks; makes its own runtime.
///
/// # Errors
/// Tells why the runner could not start or had to end; the supervisor decides whether to start another.
pub fn run(
    root: &Path,
    agent: &AgentId,
    incarnation: Incarnation,
    environment: BTreeMap<String, String>,
) -> Result<(), RunnerError> {
    let layout = Layout::new(root.to_owned());
    let launch = read_launch(&layout, agent, incarnation)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("runner")
        .enable_all()
        .build()
        .map_err(|source| RunnerError::Setup { doing: "start the runtime".to_owned(), source })?;
    // Without a log the agent works all the same.
    let _log = telemetry::start(&logging(&layout, &launch)).ok();
    let result = runtime.block_on(live(layout, launch, environment));
    // A blocking call that hangs on a dead disk must not keep a stopped runner alive.
    runtime.shutdown_timeout(FAREWELL);
    result
}

/// Decides how a runner logs: beside the supervisor, since its pane belongs to the agent.
fn logging(layout: &Layout, launch: &Launch) -> Logging {
    Logging {
        folder: layout.logs(),
        prefix: telemetry::RUNNERS_PREFIX,
        filter: None,
        format: Format::Compact,
        days_kept: usize::try_from(launch.log_days).unwrap_or(usize::MAX),
        standard_error: StandardError::Silent,
    }
}

fn read_launch(layout: &Layout, agent: &AgentId, incarnation: Incarnation) -> Result<Launch, RunnerError> {
    let path = layout.launch(agent);
    let text = fs::read(&path).map_err(|source| RunnerError::Launch { path: path.clone(), source })?;
    let launch: Launch = serde_json::from_slice(&text)
        .map_err(|source| RunnerError::LaunchShape { path: path.clone(), source: Some(source) })?;
    if launch.schema != LAUNCH_SCHEMA {
        return Err(RunnerError::LaunchShape { path, source: None });
    }
    if launch.incarnation != incarnation || launch.agent.id != *agent {
        let (agent, found) = (launch.agent.id, launch.incarnation);
        return Err(RunnerError::OtherStart { path, agent, found, asked: incarnation });
    }
    Ok(launch)
}

async fn live(layout: Layout, launch: Launch, environment: BTreeMap<String, String>) -> Result<(), RunnerError> {
    leftovers::adopt().map_err(|source| RunnerError::Setup { doing: "become a subreaper".to_owned(), source })?;
    make_folder(&layout.beats())?;
    make_folder(&layout.freeze())?;
    let (pane, pieces) = Pane::new(Style::of_stdout(environment.get("NO_COLOR").map(String::as_str)));
    let Launch { agent, incarnation, program, spool, worktree_days, .. } = launch;
    let duty = if agent.takes_work() { Duty::Work } else { Duty::Show };
    let settings = Settings {
        agent: agent.id.clone(),
        incarnation,
        pid: std::process::id(),
        heartbeat: agent.heartbeat,
        stop_timeout: agent.stop_timeout,
        duty,
    };
    let machine = Machine::new(settings, clock::now());
    let post = Post::new(Spool::with_limits(layout.spool(), Limits::from(&spool)), &agent, incarnation);
    let group = enter_group(&agent, &environment, &pane);
    let progress = Counters::default();
    let clearing = Clearing::default();
    let context = Arc::new(Context {
        layout,
        agent,
        incarnation,
        environment,
        pane: pane.clone(),
        post,
        group,
        progress,
        clearing,
    });
    let mut shell = Shell::new(Arc::clone(&context), machine);
    let sender = shell.sender.clone();
    shell.tasks.start("pane", |stop| pane::write(pieces, stop));
    let stops = Stops::new()?;
    shell.tasks.start("signals", {
        let sender = sender.clone();
        |_| stops.watch(sender)
    });
    match duty {
        Duty::Work => {
            let line = format!("{} ({}) waits for work", context.agent.name, context.agent.id);
            context.pane.say(Tone::Step, &line);
            let events = context.layout.events(&context.agent.id);
            make_folder(&events)?;
            context.post.open().map_err(|error| RunnerError::Spool { source: Box::new(error) })?;
            // Found before the first order is taken, so that none of ours is among them.
            for order in workplace::leftovers(&context) {
                context.clearing.add(&order, order.attempt);
            }
            let context_of_clearing = Arc::clone(&context);
            shell.tasks.start("clearing", |stop| clearing::keep(context_of_clearing, stop));
            let (context_of_strays, keep) = (Arc::clone(&context), span::DAY.saturating_mul(worktree_days));
            shell.tasks.start("strays", move |stop| strays::sweep(context_of_strays, keep, stop));
            shell.hints = Hints::of(&context.post, context.layout.freeze(), events);
        }
        Duty::Show => {
            let (context, program) = (Arc::clone(&context), dashboard::start(&program, context.layout.root()));
            shell.tasks.start("show", |stop| async move { show::keep(&context, &program, stop).await });
        }
    }
    sender.send(News::Event(Event::Ready)).await.ok();
    shell.drive(FAREWELL).await
}

/// Enters the agent's control group where systemd has delegated one to us.
fn enter_group(agent: &AgentSpec, environment: &BTreeMap<String, String>, pane: &Pane) -> Option<AgentGroup> {
    let told = |reason: &str| {
        if agent.limits.is_any() {
            let text = format!("the limits of {} do not hold: {reason}", agent.id);
            tracing::warn!("{text}");
            pane.say(Tone::Bad, &text);
        }
    };
    if environment.get(DELEGATED).is_none_or(|value| value != "1") {
        told("the tmux server was not started by its systemd unit");
        return None;
    }
    if !cgroup::is_unified() {
        told("this machine has no cgroup v2");
        return None;
    }
    match AgentGroup::enter(&agent.id, &agent.limits) {
        Ok(group) => Some(group),
        Err(error) => {
            told(&with_causes(&error));
            None
        }
    }
}

/// The signals that mean "stop": from the supervisor, from a pane that is closed, from a person at the pane.
struct Stops {
    signals: [tokio::signal::unix::Signal; 3],
}

impl Stops {
    fn new() -> Result<Self, RunnerError> {
        let watch =
            |kind| signal(kind).map_err(|source| RunnerError::Setup { doing: "watch for signals".to_owned(), source });
        let [term, hup, int] = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
        Ok(Self { signals: [watch(term)?, watch(hup)?, watch(int)?] })
    }

    async fn watch(self, news: mpsc::Sender<News>) {
        let [mut term, mut hup, mut int] = self.signals;
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = hup.recv() => {}
                _ = int.recv() => {}
            }
            if news.send(News::Event(Event::StopRequested)).await.is_err() {
                return;
            }
        }
    }
}

fn make_folder(path: &Path) -> Result<(), RunnerError> {
    fs::create_dir_all(path)
        .map_err(|source| RunnerError::Setup { doing: format!("create {}", path.display()), source })
}
