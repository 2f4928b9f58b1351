//! Running effects. Nothing here waits in the loop: what is slow goes to a task, and its result comes back as an event.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::control::protocol::{ErrorKind, ReplyError, Status, Top};
use crate::core::Core;
use crate::core::effect::{Effect, FindResult, Merge};
use crate::core::event::{Branches, Event, MergeResult, OrderPlace, PaneFound, Room};
use crate::io::git::branch::Deletion;
use crate::io::tmux::TmuxError;
use crate::io::{freeze, git, resources, stock};
use crate::model::fault::with_causes;
use crate::model::github_view::WebhookView;
use crate::model::id::{AgentId, EnvelopeId, Mailbox, RepositoryName};
use crate::model::layout::Layout;
use crate::model::plan::Plan;
use crate::model::request::{Answer, RefusalKind, Request, RequestId};
use crate::model::stock::{AttemptBranch, AttemptLog};
use crate::tasks::Tasks;

use super::alerts;
use super::desk::{Desk, Job};
use super::eyes;
use super::github::Github;
use super::merging;
use super::panes::Panes;
use super::start::{self, Options};
use super::turn::Input;
use super::webhooks::Inbox;

/// Everything that effects need.
pub(super) struct Hands {
    layout: Layout,
    inputs: mpsc::Sender<Input>,
    desk: Desk,
    panes: Panes,
    environment: BTreeMap<String, String>,
    github: Github,
    /// What the worktrees took at the last looks, which come one after another.
    measured: Arc<Mutex<stock::Measured>>,
}

impl Hands {
    pub(super) fn new(
        options: &Options,
        layout: &Layout,
        plan: &Plan,
        inputs: mpsc::Sender<Input>,
        desk: Desk,
        webhooks: Option<Inbox>,
    ) -> Self {
        let panes = Panes::new(options, layout, plan, inputs.clone(), desk.clone());
        let environment = options.environment.clone();
        let github = Github::new(options.github.clone(), layout, inputs.clone(), webhooks);
        let measured = Arc::default();
        Self { layout: layout.clone(), inputs, desk, panes, environment, github, measured }
    }

    pub(super) async fn connect(&self) -> Result<(), TmuxError> {
        self.panes.connect().await
    }

    /// Makes the connection to tmux again whenever it is lost.
    pub(super) fn keep_connected(&self, tasks: &mut Tasks) {
        self.panes.keep_connected(tasks);
    }

    /// Looks whether everybody who should have a pane has one.
    pub(super) fn look_at_panes(&self, tasks: &mut Tasks, core: &Core) {
        let expected = core.with_panes();
        if !expected.is_empty() {
            self.panes.look(tasks, expected);
        }
    }

    /// Lets the tmux server end when its last session is gone, if it was us who started it.
    pub(super) async fn leave_tmux(&self) {
        self.panes.leave().await;
    }

    pub(super) async fn panes_found(&self) -> Result<Vec<PaneFound>, TmuxError> {
        self.panes.found().await
    }

    pub(super) fn tmux_socket(&self) -> &str {
        self.panes.socket()
    }

    /// Tells the loop once more of the webhooks that wait.
    pub(super) fn sweep_webhooks(&self) {
        self.github.sweep();
    }

    /// Shows the receiving side of webhooks.
    pub(super) fn webhook_view(&self) -> Option<WebhookView> {
        self.github.webhook_view()
    }

    pub(super) fn sweep_reports(&self) {
        self.desk.give(Job::SweepReports);
    }

    /// Has what is old cleared away.
    pub(super) fn sweep_retention(&self, tasks: &mut Tasks, core: &Core) {
        self.desk.give(Job::SweepRetention);
        self.look_at_stock(tasks, core);
    }

    pub(super) async fn reports_waiting(&self) -> Vec<Event> {
        self.desk.reports_waiting().await
    }

    pub(super) async fn places(&self, orders: Vec<(AgentId, EnvelopeId)>) -> BTreeMap<EnvelopeId, OrderPlace> {
        self.desk.places(orders).await
    }

    /// Starts one effect.
    pub(super) fn run(&self, effect: Effect, tasks: &mut Tasks, core: &Core) {
        match effect {
            Effect::SpawnPane { agent, incarnation } => self.panes.spawn(tasks, core.plan(), agent, incarnation),
            Effect::AdoptPane { agent, incarnation, pane, pid } => {
                self.panes.adopt(tasks, agent, incarnation, &pane, pid);
            }
            Effect::StopPane { agent, incarnation, how } => self.panes.stop(tasks, agent, incarnation, how),
            Effect::ClearRemains { agent, incarnation, order } => {
                self.panes.clear(tasks, agent, incarnation, order);
            }
            Effect::Probe { agent, incarnation, pid } => self.panes.probe(tasks, agent, incarnation, pid),
            Effect::DeliverOrder(order) => self.desk.give(Job::Deliver(order)),
            Effect::InspectOrder { agent, envelope } => self.desk.give(Job::Inspect { agent, envelope }),
            Effect::RetireOrder { agent, envelope, how } => self.desk.give(Job::Retire { agent, envelope, how }),
            Effect::AckReport { receipt } => match receipt.parse() {
                Ok(id) => self.desk.give(Job::AckReport(id)),
                Err(_) => tracing::error!(receipt, "a receipt of ours is not an id"),
            },
            Effect::Nudge { agent, text } => self.desk.give(Job::Nudge { agent, text }),
            Effect::ForgetLogs(logs) => self.forget_logs(tasks, logs),
            Effect::ForgetBranches { repository, branches } => {
                self.forget_branches(tasks, core.plan(), &repository, branches);
            }
            Effect::ObeyFreeze => self.obey_freeze(tasks, core.plan()),
            Effect::Alert(alert) => alerts::tell(tasks, core.plan(), &self.environment, &alert),
            Effect::Merge(merge) => self.merge(tasks, merge, core.plan()),
            Effect::FindResult(find) => self.find_result(tasks, find, core.plan()),
            Effect::Github(effect) => self.github.run(*effect, tasks, core.plan()),
            // The loop takes these out itself.
            Effect::Record(_) | Effect::Answer { .. } | Effect::Exit => {}
        }
    }

    /// Suspends or continues what runs below the runners, as the operator's mark says.
    fn obey_freeze(&self, tasks: &mut Tasks, plan: &Plan) {
        let (layout, spared) = (self.layout.clone(), freeze::spared(plan));
        tasks.start_blocking("freeze", move || match freeze::obey(&layout, &spared) {
            Ok(obeyed) => tracing::debug!(?obeyed, "the operator's mark is obeyed"),
            Err(error) => tracing::error!(error = with_causes(&error), "the agents cannot be suspended or continued"),
        });
    }

    /// Looks at what attempts have on the disk.
    fn look_at_stock(&self, tasks: &mut Tasks, core: &Core) {
        let (layout, inputs, measured) = (self.layout.clone(), self.inputs.clone(), Arc::clone(&self.measured));
        let in_use = core.attempts_in_hand().into_iter().flat_map(|(_, run, stage, attempt)| {
            [layout.worktree(run, &stage, attempt), layout.check_worktree(run, &stage, attempt)]
        });
        let in_use: BTreeSet<PathBuf> = in_use.collect();
        // Whoever makes room by hand while everything waits for it is heard of at the next look.
        let is_awaited = core.are_worktrees_full();
        tasks.start_blocking("stock", move || {
            let mut measured = measured.lock().unwrap_or_else(PoisonError::into_inner);
            if is_awaited {
                *measured = stock::Measured::default();
            }
            let seen = Event::StockSeen(stock::look(&layout, &mut measured, &in_use));
            drop(measured);
            if inputs.blocking_send(Input::Event(seen)).is_err() {
                tracing::debug!("the loop has ended; a look at what attempts have on the disk is dropped");
            }
        });
    }

    /// Throws logs of attempts away.
    fn forget_logs(&self, tasks: &mut Tasks, logs: Vec<AttemptLog>) {
        let layout = self.layout.clone();
        tasks.start_blocking("old logs", move || {
            let gone = stock::forget(&layout, &logs);
            tracing::info!(gone, "old logs of attempts are thrown away");
        });
    }

    /// Looks at the branches of attempts.
    pub(super) fn look_at_branches(&self, tasks: &mut Tasks, plan: &Plan) {
        for found in plan.repositories.iter().filter(|found| found.path.exists()) {
            let (repository, path, inputs) = (found.name.clone(), found.path.clone(), self.inputs.clone());
            tasks.start("branches", move |_| async move {
                match git::branch::of_attempts(&path).await {
                    Ok(branches) => send(&inputs, Event::BranchesSeen { repository, branches }).await,
                    Err(error) => {
                        tracing::warn!(error = with_causes(&error), "the branches of attempts cannot be listed");
                    }
                }
            });
        }
    }

    /// Deletes branches of attempts, one after another, where that loses nothing.
    fn forget_branches(&self, tasks: &mut Tasks, plan: &Plan, name: &RepositoryName, branches: Vec<AttemptBranch>) {
        let Some(path) = plan.repository(name).map(|found| found.path.clone()) else { return };
        tasks.start("old branches", move |stop| async move {
            let Ok(target) = git::branch::current_branch(&path).await else { return };
            for branch in branches {
                if stop.is_cancelled() {
                    return;
                }
                match git::branch::delete_if_elsewhere(&path, &branch.name, &branch.commit, &target).await {
                    Ok(Deletion::Deleted) => {
                        tracing::info!(name = branch.name, "an old branch of an attempt is deleted");
                    }
                    Ok(Deletion::Kept { reason }) => {
                        tracing::debug!(name = branch.name, reason, "an old branch stays");
                    }
                    Err(error) => {
                        tracing::warn!(
                            name = branch.name,
                            error = with_causes(&error),
                            "an old branch cannot be deleted"
                        );
                    }
                }
            }
        });
    }

    /// Looks at the room of disk and memory.
    pub(super) fn look_at_room(&self, tasks: &mut Tasks) {
        let (layout, inputs) = (self.layout.clone(), self.inputs.clone());
        tasks.start_blocking("room", move || {
            if let Some(room) = Self::room(&layout)
                && inputs.blocking_send(Input::Event(Event::RoomSeen(room))).is_err()
            {
                tracing::debug!("the loop has ended; a look at the room is dropped");
            }
        });
    }

    /// Returns the room of disk and memory; nothing when it cannot be seen, which means nothing.
    pub(super) fn room(layout: &Layout) -> Option<Room> {
        let disk = resources::disk_free(&layout.data());
        let memory = resources::memory_available();
        match (disk, memory) {
            (Ok(disk), Ok(memory)) => Some(Room { disk, memory, load: resources::load().ok() }),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "the room of disk and memory cannot be seen");
                None
            }
        }
    }

    /// Answers with what every agent uses.
    pub(super) fn answer_top(&self, tasks: &mut Tasks, core: &Core, answerer: crate::control::answer::Answerer) {
        let layout = self.layout.clone();
        let agents: Vec<AgentId> = core.plan().agents.iter().map(|agent| agent.id.clone()).collect();
        let mut theirs: BTreeMap<PathBuf, AgentId> = BTreeMap::new();
        for agent in &agents {
            let mailboxes =
                [Mailbox::agent(agent), Mailbox::work(agent)].map(|name| layout.spool().join(name.as_str()));
            theirs.extend(mailboxes.into_iter().chain([layout.agent_logs(agent)]).map(|path| (path, agent.clone())));
        }
        for (agent, run, stage, attempt) in core.attempts_in_hand() {
            theirs.extend(layout.places(run, &stage, attempt).map(|path| (path, agent.clone())));
        }
        let worktrees_max = core.plan().resources.worktrees_max;
        tasks.start_blocking("top", move || match resources::usage(layout.root(), &agents) {
            Ok(mut usage) => {
                let (disk, others) = resources::disk_used(&[layout.data(), layout.logs()], &theirs);
                for agent in &mut usage.agents {
                    agent.disk_bytes = disk.get(agent.name.as_str()).map_or(0, |size| size.0);
                }
                usage.supervisor.disk_bytes = others.0;
                let room = Self::room(&layout);
                let worktrees = stock::worktrees(&layout);
                answerer.value(&Top::new(usage, room.map(|room| (room.disk, room.memory)), (worktrees, worktrees_max)));
            }
            Err(error) => answerer.error(failed(with_causes(&error))),
        });
    }

    /// Looks whether one of some known results can be taken; what cannot be found out is none.
    fn find_result(&self, tasks: &mut Tasks, find: FindResult, plan: &Plan) {
        let path = plan.repository(&find.repository).map(|repository| repository.path.clone());
        let inputs = self.inputs.clone();
        tasks.start("result", move |_| async move {
            let FindResult { task, run, target, known, .. } = find;
            let base = match path {
                Some(path) => git::branch::find_base(&path, &target, &known).await.unwrap_or_else(|error| {
                    tracing::warn!(%task, error = with_causes(&error), "an earlier result cannot be looked for");
                    None
                }),
                None => None,
            };
            send(&inputs, Event::ResultFound { task, run, base }).await;
        });
    }

    fn merge(&self, tasks: &mut Tasks, merge: Merge, plan: &Plan) {
        let repository = plan.repository(&merge.repository).cloned();
        let way = self.github.queue_way(plan, &merge.repository);
        let inputs = self.inputs.clone();
        tasks.start("merge", move |_| async move {
            let (task, run, attempt) = (merge.task.clone(), merge.run, merge.attempt);
            let result = match repository {
                Some(repository) => merging::merge(&repository, way, merge).await,
                None => {
                    MergeResult::NotNow { reason: format!("repository {} is not in agents.toml", merge.repository) }
                }
            };
            send(&inputs, Event::MergeEnded { task, run, attempt, result }).await;
        });
    }

    /// Reads the dependency files and the branches of the repositories.
    pub(super) fn read_dag(&self, tasks: &mut Tasks, plan: &Plan) {
        let (layout, plan, inputs) = (self.layout.clone(), plan.clone(), self.inputs.clone());
        tasks.start("dag", move |_| async move {
            let branches = branches(&plan).await;
            // Files are small and few; a thread of its own would cost more than it saves.
            let (files, seen) = tokio::task::block_in_place(|| eyes::read_files(&layout, &plan));
            if inputs.send(Input::DagRead { files, branches, seen }).await.is_err() {
                tracing::debug!("the loop has ended; dependency files were read in vain");
            }
        });
    }

    /// Reads agents.toml and the dependency files for [`Event::PlanRead`]; a fault of agents.toml is answered at once.
    pub(super) fn read_team(&self, tasks: &mut Tasks, id: RequestId) {
        let (layout, inputs) = (self.layout.clone(), self.inputs.clone());
        tasks.start("reload", move |_| async move {
            let input = match tokio::task::block_in_place(|| start::read_plan(&layout)) {
                Ok(plan) => {
                    let branches = branches(&plan).await;
                    let (files, _) = tokio::task::block_in_place(|| eyes::read_files(&layout, &plan));
                    Input::Event(Event::PlanRead { id, plan: Box::new(plan), files, branches })
                }
                Err(error) => Input::Refused(id, not_read(&error)),
            };
            if inputs.send(input).await.is_err() {
                tracing::debug!("the loop has ended; agents.toml was read in vain");
            }
        });
    }

    /// Looks up what a request needs to be decided, then hands it to the loop.
    pub(super) fn prepare(&self, tasks: &mut Tasks, plan: &Plan, id: RequestId, request: Request) {
        let inputs = self.inputs.clone();
        let needs_branches = matches!(request, Request::Submit(_) | Request::TaskRetry { .. });
        let plan = plan.clone();
        tasks.start("request", move |_| async move {
            let branches = if needs_branches { branches(&plan).await } else { Branches::new() };
            if inputs.send(Input::Asked(id, request, branches)).await.is_err() {
                tracing::debug!("the loop has ended; a request goes unanswered");
            }
        });
    }

    /// Completes a status with the lengths of the mailboxes.
    pub(super) fn answer_status(
        &self,
        tasks: &mut Tasks,
        mut status: Status,
        answerer: crate::control::answer::Answerer,
    ) {
        let desk = self.desk.clone();
        tasks.start_blocking("status", move || {
            status.queues = desk.queues();
            answerer.value(&status);
        });
    }

    /// Streams what the journal holds.
    pub(super) fn journal_path(&self) -> PathBuf {
        self.layout.journal()
    }
}

pub(super) async fn send(inputs: &mpsc::Sender<Input>, event: Event) {
    if inputs.send(Input::Event(event)).await.is_err() {
        tracing::debug!("the loop has ended; an event is dropped");
    }
}

/// Looks up the branch that is checked out in each repository. A repository that is missing is cloned first if it says from where.
async fn branches(plan: &Plan) -> Branches {
    let mut branches = Branches::new();
    for repository in &plan.repositories {
        if let (Some(remote), false) = (&repository.remote, repository.path.exists())
            && let Err(error) = git::clone::clone(remote, &repository.path).await
        {
            branches.insert(repository.name.clone(), Err(with_causes(&error)));
            continue;
        }
        let branch = git::branch::current_branch(&repository.path).await.map_err(|error| with_causes(&error));
        branches.insert(repository.name.clone(), branch);
    }
    branches
}

/// Says why agents.toml is not put in force.
fn not_read(error: &start::StartError) -> Answer {
    let reason = match error.faults() {
        [] => with_causes(error),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first}, and {} more faults", rest.len()),
    };
    let hint = Some("nothing has changed; `miyabi config check` shows every fault".to_owned());
    Answer::Refused { reason, hint, kind: RefusalKind::Invalid }
}

/// Says that something could not be found out.
pub(super) fn failed(message: impl Into<String>) -> ReplyError {
    ReplyError::new(ErrorKind::Failed, message)
}

/// Writes a file so that readers see the old or the new content, never a part.
pub(super) fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&draft, bytes)?;
    std::fs::rename(&draft, path)
}
