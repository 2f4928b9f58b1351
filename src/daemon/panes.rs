//! Panes: starting, adopting, stopping runners, and clearing away what they leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::core::effect::Stop;
use crate::core::event::{Event, Evidence, PaneFound};
use crate::io::cgroup;
use crate::io::clock;
use crate::io::process::{self, ProcessId};
use crate::io::tmux::{SpawnPane, Tmux, TmuxError, TmuxEvent, TmuxSpec};
use crate::model::agent::AgentSpec;
use crate::model::fault::with_causes;
use crate::model::id::{AgentId, EnvelopeId, Incarnation};
use crate::model::launch::{LAUNCH_SCHEMA, Launch};
use crate::model::layout::Layout;
use crate::model::plan::{Plan, SpoolLimits};
use crate::tasks::Tasks;

use super::desk::{Desk, Job};
use super::hands::{replace_file, send};
use super::start::Options;
use super::turn::Input;

/// How long what an agent left may take to end by itself before it is killed.
const REMAINS_GRACE: Duration = Duration::from_millis(1_500);

/// How long lies between the two looks that show that a pane is gone: somebody may be moving it at that moment.
const GONE_APART: Duration = Duration::from_secs(1);

/// The wait before a lost connection to tmux is made again; it doubles with each try that fails.
const CONNECT_FIRST: Duration = Duration::from_millis(50);

/// The longest of these waits.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// Names the unit of the tmux server where a service manager keeps it.
const SERVER_UNIT: &str = "MIYABI_TMUX_UNIT";

/// The variables that everything in a pane may see, besides those that the agent's `env` names.
const COMMON: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TMUX_TMPDIR"];

/// Everything that is needed to work with panes.
#[derive(Clone)]
pub(super) struct Panes {
    tmux: Arc<Tmux>,
    socket: String,
    layout: Layout,
    session: String,
    spool: SpoolLimits,
    log_days: u32,
    worktree_days: u32,
    program: PathBuf,
    environment: Arc<BTreeMap<String, String>>,
    under_systemd: bool,
    inputs: mpsc::Sender<Input>,
    desk: Desk,
    /// Set when the session is left for good, and with it the connection.
    left: CancellationToken,
}

impl Panes {
    pub(super) fn new(
        options: &Options,
        layout: &Layout,
        plan: &Plan,
        inputs: mpsc::Sender<Input>,
        desk: Desk,
    ) -> Self {
        let environment = &options.environment;
        let mut common: BTreeMap<String, String> = COMMON
            .iter()
            .filter_map(|name| environment.get(*name).map(|value| ((*name).to_owned(), value.clone())))
            .collect();
        // Japanese cells become underscores under LC_ALL=C.
        let utf8 = |value: &String| value.to_ascii_lowercase().replace('-', "").contains("utf8");
        if !["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| common.get(*name)).any(utf8) {
            common.remove("LC_ALL");
            common.insert("LANG".to_owned(), "C.UTF-8".to_owned());
        }
        common.entry("TERM".to_owned()).or_insert_with(|| "screen-256color".to_owned());
        let tmpdir = environment.get("TMUX_TMPDIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let spec = TmuxSpec {
            program: PathBuf::from("tmux"),
            socket: plan.session.socket.clone(),
            tmpdir,
            session: plan.session.name.clone(),
            root: layout.root().to_owned(),
            env: common,
            server_is_kept: environment.get(SERVER_UNIT).is_some_and(|unit| !unit.is_empty()),
        };
        let socket = spec.socket_path().display().to_string();
        Self {
            tmux: Arc::new(Tmux::new(spec)),
            socket,
            layout: layout.clone(),
            session: plan.session.name.clone(),
            spool: plan.spool,
            log_days: plan.log_days,
            worktree_days: plan.resources.worktree_days,
            program: options.program.clone(),
            environment: Arc::new(environment.clone()),
            under_systemd: environment.contains_key("NOTIFY_SOCKET"),
            inputs,
            desk,
            left: CancellationToken::new(),
        }
    }

    pub(super) async fn connect(&self) -> Result<(), TmuxError> {
        let how = self.tmux.connect().await?;
        tracing::info!(?how, "tmux is there");
        Ok(())
    }

    /// Makes the connection again whenever it is lost: with the client, the session or the whole server.
    pub(super) fn keep_connected(&self, tasks: &mut Tasks) {
        let (this, mut lost) = (self.clone(), self.tmux.events());
        tasks.start("tmux connection", move |stop| async move {
            let keep = async {
                while let Some(event) = lost.recv().await {
                    this.connect_again(&event).await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = this.left.cancelled() => {}
                () = keep => {}
            }
        });
    }

    async fn connect_again(&self, event: &TmuxEvent) {
        let mut wait = CONNECT_FIRST;
        loop {
            match self.tmux.connect().await {
                Ok(how) => return tracing::info!(?event, ?how, "tmux is there again"),
                Err(error) => tracing::warn!(error = with_causes(&error), ?event, "tmux cannot be connected again yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(CONNECT_MAX);
        }
    }

    /// Looks for the panes that there should be: the slow second sign beside the death of their processes. Whoever has lost his
    /// pane, or its tags, can be neither seen nor stopped there, and counts as dead.
    pub(super) fn look(&self, tasks: &mut Tasks, expected: Vec<(AgentId, Incarnation)>) {
        let this = self.clone();
        tasks.start("panes", move |_| async move {
            let Some(doubted) = this.missing(expected).await.filter(|missing| !missing.is_empty()) else { return };
            tokio::time::sleep(GONE_APART).await;
            for (agent, incarnation) in this.missing(doubted).await.unwrap_or_default() {
                tracing::warn!(%agent, %incarnation, "its pane is gone");
                send(&this.inputs, Event::PaneDied { agent, incarnation }).await;
            }
        });
    }

    /// Returns those who have no pane; nothing when that cannot be known. Without a connection there may be no server, and
    /// then the ends of the processes say what there is to say.
    async fn missing(&self, expected: Vec<(AgentId, Incarnation)>) -> Option<Vec<(AgentId, Incarnation)>> {
        if !self.tmux.is_connected().await {
            return None;
        }
        let panes = self.tmux.list_panes().await.ok()?;
        let is_there = |(agent, incarnation): &(AgentId, Incarnation)| {
            panes.iter().any(|pane| pane.agent == *agent && pane.incarnation == *incarnation && !pane.dead)
        };
        Some(expected.into_iter().filter(|expected| !is_there(expected)).collect())
    }

    pub(super) async fn leave(&self) {
        self.left.cancel();
        // Under a service manager the server has a unit of its own that ends it.
        if !self.under_systemd
            && let Err(error) = self.tmux.end_when_empty().await
        {
            tracing::debug!(%error, "the tmux server is gone already");
        }
    }

    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    pub(super) async fn found(&self) -> Result<Vec<PaneFound>, TmuxError> {
        let panes = self.tmux.list_panes().await?;
        Ok(panes
            .into_iter()
            .filter(|pane| !pane.dead)
            .map(|pane| PaneFound {
                launched: self.launched(&pane.agent, pane.incarnation),
                agent: pane.agent,
                incarnation: pane.incarnation,
                pane: pane.pane,
                pid: pane.pid,
            })
            .collect())
    }

    /// Reads with which settings an incarnation was started.
    fn launched(&self, agent: &AgentId, incarnation: Incarnation) -> Option<Box<AgentSpec>> {
        let text = std::fs::read(self.layout.launch(agent)).ok()?;
        let launch: Launch = serde_json::from_slice(&text).ok()?;
        (launch.schema == LAUNCH_SCHEMA && launch.incarnation == incarnation).then(|| Box::new(launch.agent))
    }

    pub(super) fn spawn(&self, tasks: &mut Tasks, plan: &Plan, agent: AgentId, incarnation: Incarnation) {
        let Some(spec) = plan.agent(&agent).cloned() else { return };
        let this = self.clone();
        tasks.start("spawn", move |stop| async move {
            match this.spawn_pane(&spec, incarnation).await {
                Ok((pane, pid)) => {
                    let process = process::identify(pid);
                    let spawned = Event::PaneSpawned { agent: agent.clone(), incarnation, pane, pid };
                    send(&this.inputs, spawned).await;
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = this.watch_death(agent, incarnation, process) => {}
                    }
                }
                Err(reason) => {
                    send(&this.inputs, Event::PaneSpawnFailed { agent, incarnation, reason }).await;
                }
            }
        });
    }

    async fn spawn_pane(&self, spec: &AgentSpec, incarnation: Incarnation) -> Result<(String, u32), String> {
        let launch = Launch {
            schema: LAUNCH_SCHEMA.to_owned(),
            root: self.layout.root().to_owned(),
            agent: spec.clone(),
            incarnation,
            session: self.session.clone(),
            spool: self.spool,
            log_days: self.log_days,
            worktree_days: self.worktree_days,
            program: self.program.clone(),
        };
        let path = self.layout.launch(&spec.id);
        let bytes = serde_json::to_vec_pretty(&launch).map_err(|error| error.to_string())?;
        replace_file(&path, &bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let root = self.layout.root();
        let argv = [
            self.program.display().to_string(),
            "-C".to_owned(),
            root.display().to_string(),
            "runner".to_owned(),
            spec.id.to_string(),
            "--incarnation".to_owned(),
            incarnation.to_string(),
        ];
        let mut env: BTreeMap<String, String> = self
            .environment
            .iter()
            .filter(|(name, _)| spec.env.contains(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for (name, value) in self.marks(&spec.id) {
            env.insert(name, value);
        }
        env.insert("MIYABI_INCARNATION".to_owned(), incarnation.to_string());
        let spawn = SpawnPane {
            agent: spec.id.clone(),
            incarnation,
            title: spec.name.clone(),
            argv: argv.to_vec(),
            env,
            cwd: root.to_owned(),
        };
        let pane = match self.tmux.spawn_pane(&spawn).await {
            Ok(pane) => pane,
            Err(first) => {
                // The server may have died with everything in it: one new connection, one more try.
                tracing::warn!(error = with_causes(&first), "a pane could not be made; tmux is connected again");
                self.tmux.connect().await.map_err(|error| with_causes(&error))?;
                self.tmux.spawn_pane(&spawn).await.map_err(|error| with_causes(&error))?
            }
        };
        Ok((pane.pane, pane.pid))
    }

    /// The marks by which an agent's processes are found again, whatever became of their parents.
    fn marks(&self, agent: &AgentId) -> Vec<(String, String)> {
        vec![
            ("MIYABI_ROOT".to_owned(), self.layout.root().display().to_string()),
            ("MIYABI_AGENT".to_owned(), agent.to_string()),
        ]
    }

    pub(super) fn adopt(&self, tasks: &mut Tasks, agent: AgentId, incarnation: Incarnation, pane: &str, pid: u32) {
        let this = self.clone();
        tracing::info!(%agent, %incarnation, pane, pid, "adopted");
        tasks.start("adopt", move |stop| async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = this.watch_death(agent, incarnation, process::identify(pid)) => {}
            }
        });
    }

    /// Waits for the end of a pane's process; a pidfd tells it within half a millisecond.
    async fn watch_death(&self, agent: AgentId, incarnation: Incarnation, process: Option<ProcessId>) {
        if let Some(process) = process
            && let Err(error) = process::wait_for_exit(process).await
        {
            // Without a pidfd the heartbeat tells it later.
            tracing::warn!(%error, %agent, "a pane's process cannot be watched");
            return;
        }
        send(&self.inputs, Event::PaneDied { agent, incarnation }).await;
        // tmux below 3.6 may have lost the signal that its child has ended.
        if let Err(error) = self.tmux.reap().await {
            tracing::debug!(%error, "tmux cannot be nudged");
        }
    }

    pub(super) fn stop(&self, tasks: &mut Tasks, agent: AgentId, incarnation: Incarnation, how: Stop) {
        let this = self.clone();
        tasks.start("stop", move |_| async move {
            let panes = match this.tmux.list_panes().await {
                Ok(panes) => panes,
                Err(error) => {
                    tracing::warn!(%error, %agent, "tmux cannot be asked for the pane to stop");
                    return;
                }
            };
            for pane in panes.into_iter().filter(|pane| pane.agent == agent && pane.incarnation == incarnation) {
                let Some(process) = process::identify(pane.pid) else { continue };
                let signal = match how {
                    Stop::Term => Signal::TERM,
                    Stop::Kill => Signal::KILL,
                };
                if let Err(error) = process::signal(&process, signal) {
                    tracing::warn!(%error, %agent, "a runner cannot be signalled");
                }
            }
        });
    }

    pub(super) fn clear(&self, tasks: &mut Tasks, agent: AgentId, incarnation: Incarnation, order: Option<EnvelopeId>) {
        let this = self.clone();
        tasks.start("clear", move |_| async move {
            let first = process::end_marked(&this.marks(&agent), REMAINS_GRACE).await;
            // Under systemd the agent has a group of its own, which goes with it; what forks faster than it is found ends here.
            if let Some(server) = this.tmux.server_pid().await
                && let Err(error) = cgroup::remove(server, &agent).await
            {
                tracing::warn!(error = with_causes(&error), %agent, "the agent's control group cannot be removed");
            }
            let ended = match first {
                Ok(ended) => Ok(ended),
                Err(_) => process::end_marked(&this.marks(&agent), REMAINS_GRACE).await,
            };
            match ended {
                Ok(0) => {}
                Ok(ended) => tracing::info!(%agent, %incarnation, ended, "processes that the agent left were ended"),
                Err(error) => {
                    // No answer: the core asks again, and starts nothing before it is sure.
                    tracing::error!(error = with_causes(&error), %agent, "what the agent left cannot be ended");
                    return;
                }
            }
            this.desk.give(Job::Cleared { agent, incarnation, order });
        });
    }

    pub(super) fn probe(&self, tasks: &mut Tasks, agent: AgentId, incarnation: Incarnation, pid: u32) {
        let inputs = self.inputs.clone();
        let events = self.layout.events(&agent);
        tasks.start("probe", move |_| async move {
            let seen = process::identify(pid).and_then(|process| process::evidence(&process));
            let evidence = seen.map(|seen| Evidence {
                at: clock::now(),
                awake: clock::awake(),
                stopped: matches!(seen.state, 'T' | 't'),
                cpu_ticks: seen.cpu_ticks,
                told_ms: changed_ms(&events),
            });
            send(&inputs, Event::Probed { agent, incarnation, evidence }).await;
        });
    }
}

/// Returns when something was last put into a folder, in milliseconds since 1970; 0 when that cannot be seen.
fn changed_ms(folder: &Path) -> u64 {
    let changed = std::fs::metadata(folder).and_then(|meta| meta.modified()).ok();
    let since = changed.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
