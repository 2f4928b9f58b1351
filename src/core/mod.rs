//! The decisions: a value without I/O, clock or randomness. The same history gives the same decisions.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ulid::Ulid;

use crate::model::agent::AgentSpec;
use crate::model::id::{AgentId, EnvelopeId, RepositoryName, Role, RunId, StageName, TaskId};
use crate::model::plan::Plan;
use crate::model::request::Answer;
use crate::model::size::Size;
use crate::model::span;
use crate::model::time::Timestamp;

mod alerts;
mod circles;
pub mod dag;
mod digest;
pub mod effect;
pub mod event;
pub mod fact;
mod freeze;
pub mod github;
mod healing;
mod index;
pub mod issues;
mod keeping;
pub mod liveness;
pub mod memo;
pub mod merging;
mod progress;
mod reload;
mod requests;
pub mod restart;
mod retiring;
mod room;
mod scheduler;
pub mod snapshot;
pub mod stages;
pub mod state;
mod team;
mod view;
pub mod work;

use effect::{Effect, Stop};
use event::{Branches, Event, OrderPlace, PaneFound, Room};
use fact::{Budget, DownCause, Fact, Recorded};
use index::Index;
use liveness::table::News;
use liveness::{Live, Liveness, Pane};
use memo::Seeking;
use merging::{MergeRetry, MergeUnderWay};
use reload::{Files, NeedsPlaces};
use retiring::Retiring;
use state::{Durable, IllegalFact, TaskRecord};
use work::OrderWatch;

/// The first and the longest wait before an order that could not be written is tried again.
const LATER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// How often that wait doubles at most.
const LATER_DOUBLINGS_MAX: usize = 6;

/// The heart of the supervisor. Events go in, effects come out.
#[derive(Debug, Clone)]
pub struct Core {
    plan: Plan,
    durable: Durable,
    now: Timestamp,
    started: bool,
    drain: Option<Timestamp>,
    exited: bool,
    /// Since when everything is frozen, as the mark says that was seen last.
    frozen: Option<Timestamp>,
    room: Option<Room>,
    /// How much the worktrees took when they were looked at last.
    worktrees: Option<Size>,
    /// The branch of an attempt up to which each repository's old ones were looked at.
    branches_judged: BTreeMap<RepositoryName, String>,
    agents: BTreeMap<AgentId, Live>,
    index: Index,
    orders: BTreeMap<TaskId, OrderWatch>,
    /// Orders that must leave their mailboxes and are not known to have done so.
    retiring: BTreeMap<EnvelopeId, Retiring>,
    merges: BTreeMap<RepositoryName, MergeUnderWay>,
    merge_retries: BTreeMap<TaskId, MergeRetry>,
    seeking: BTreeMap<TaskId, Seeking>,
    files: Files,
    /// Where those files say what a task needs.
    needs_places: NeedsPlaces,
    faults: Vec<crate::model::fault::Fault>,
    branches: Branches,
    /// What was found of an earlier supervisor's team, in one line.
    found: Option<String>,
    effects: VecDeque<Effect>,
    github: github::Live,
    /// Tasks that wait for one another, each group as one path.
    circles: Vec<Vec<TaskId>>,
    broken: Option<IllegalFact>,
}

impl Core {
    /// Builds the core from the plan and from what the facts add up to.
    #[must_use]
    pub fn restore(plan: Plan, durable: Durable, now: Timestamp) -> Self {
        let index = Index::build(&durable, &plan, now);
        let agents = plan.agents.iter().map(|spec| (spec.id.clone(), Live::new(Liveness::Absent, now))).collect();
        let frozen = durable.frozen;
        let mut core = Self {
            plan,
            durable,
            now,
            started: false,
            drain: None,
            exited: false,
            frozen,
            room: None,
            worktrees: None,
            branches_judged: BTreeMap::new(),
            agents,
            index,
            orders: BTreeMap::new(),
            retiring: BTreeMap::new(),
            merges: BTreeMap::new(),
            merge_retries: BTreeMap::new(),
            seeking: BTreeMap::new(),
            files: Files::new(),
            needs_places: NeedsPlaces::new(),
            faults: Vec::new(),
            branches: Branches::new(),
            found: None,
            effects: VecDeque::new(),
            github: github::Live::default(),
            circles: Vec::new(),
            broken: None,
        };
        core.begin_github();
        let open: Vec<(TaskId, EnvelopeId)> =
            core.index.open_orders().map(|(_, task, envelope)| (task.clone(), envelope)).collect();
        for (task, envelope) in open {
            core.watch_order(&task, envelope);
        }
        core
    }

    /// Returns what survives a crash.
    #[must_use]
    pub const fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Returns the plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the orders that the journal holds for open, so that they can be looked for in the spool.
    #[must_use]
    pub fn open_orders(&self) -> Vec<(AgentId, EnvelopeId)> {
        self.index.open_orders().map(|(agent, _, envelope)| (agent.clone(), envelope)).collect()
    }

    /// Returns the attempts that agents have in hand.
    #[must_use]
    pub fn attempts_in_hand(&self) -> Vec<(AgentId, RunId, StageName, u32)> {
        let open = self.index.open_orders().filter_map(|(agent, task, _)| {
            let record = self.durable.tasks.get(task)?;
            let current = record.current()?;
            Some((agent.clone(), record.run, current.stage.clone(), current.attempt))
        });
        open.collect()
    }

    /// Returns the fact of our own that did not fit, if ever: a mistake of ours, on which the supervisor must end.
    #[must_use]
    pub const fn broken(&self) -> Option<&IllegalFact> {
        self.broken.as_ref()
    }

    /// Says whether every agent is up, or is not expected to be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.started
            && self.agents.values().all(|live| match live.state {
                // What is frozen is not expected to come up.
                Liveness::Absent | Liveness::Spawning { .. } | Liveness::Starting { .. } if self.frozen.is_some() => {
                    true
                }
                Liveness::Up { .. } | Liveness::Suspect { .. } | Liveness::BackingOff { .. } | Liveness::Held(_) => {
                    true
                }
                Liveness::Absent
                | Liveness::Spawning { .. }
                | Liveness::Starting { .. }
                | Liveness::Stopping { .. }
                | Liveness::Clearing { .. } => false,
            })
    }

    /// Takes in what happened outside.
    pub fn handle_event(&mut self, event: Event, now: Timestamp) {
        self.advance(now);
        match event {
            Event::Started { panes, orders } => self.on_started(&panes, &orders),
            Event::PaneSpawned { agent, incarnation, pane, pid } => {
                self.on_pane_spawned(&agent, incarnation, Pane { id: pane, pid });
            }
            Event::PaneSpawnFailed { agent, incarnation, reason } => {
                self.on_spawn_failed(&agent, incarnation, reason);
            }
            Event::PaneDied { agent, incarnation } => self.on_pane_died(&agent, incarnation),
            Event::RemainsCleared { agent, incarnation, order } => {
                self.on_remains_cleared(&agent, incarnation, order);
            }
            Event::BeatsSeen(beats) => {
                // Nothing follows from a beat for others than its agent: what beats cost does not grow with the team.
                let agents: Vec<AgentId> = beats.iter().map(|beat| beat.agent.clone()).collect();
                for beat in beats {
                    self.on_beat(beat);
                }
                return self.steer_those(&agents);
            }
            Event::Probed { agent, incarnation, evidence } => self.on_probed(&agent, incarnation, evidence),
            Event::OrderInspected { agent, envelope, place } => self.on_inspected(&agent, envelope, place),
            Event::OrderNotDelivered { agent, envelope, reason } => {
                self.on_not_delivered(&agent, envelope, &reason);
            }
            Event::OrderRetired { envelope } => self.on_retired(envelope),
            Event::FreezeSeen { since } => self.on_freeze_seen(since),
            Event::RoomSeen(room) => self.on_room_seen(room),
            Event::StockSeen(stock) => self.on_stock_seen(stock),
            Event::BranchesSeen { repository, branches } => self.on_branches_seen(repository, branches),
            Event::ReportArrived { report, receipt } => self.on_report(&report, receipt),
            Event::MergeEnded { task, run, attempt, result } => self.on_merge_ended(&task, run, attempt, result),
            Event::ResultFound { task, run, base } => self.on_result_found(&task, run, base.as_deref()),
            Event::DagRead { files, branches } => self.on_dag_read(files, &branches),
            Event::Asked { id, request, branches } => self.on_request(id, request, &branches),
            Event::PlanRead { id, plan, files, branches } => self.on_plan_read(id, *plan, files, &branches),
            Event::Github(event) => self.on_github(*event),
        }
        self.steer();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance(now);
        if self.started {
            let names: Vec<AgentId> = self.agents.keys().cloned().collect();
            for agent in names {
                self.wake_agent(&agent);
            }
            for task in self.index.due(self.now) {
                self.index.update(&self.durable, &task, self.now);
            }
            self.wake_slas();
            self.wake_orders();
            self.wake_merges();
            self.wake_seeking();
            self.wake_retiring();
        }
        self.steer();
    }

    /// Returns the next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        if !self.started {
            return None;
        }
        let agents = self.lives().filter_map(|(live, spec)| self.wake_of(live, spec));
        let thawed = self.frozen.is_none();
        let orders = self.orders.values().map(|watch| (watch.inspect_at, "an order is looked for"));
        let tasks = self.index.next_later().map(|until| (until, "a task's back-off ends"));
        let merges = self.merges.values().map(|under_way| (under_way.deadline, "a merge is overdue"));
        let retiring = self.retiring.values().map(|retiring| (retiring.again_at, "an order is not out of its mailbox"));
        let retries = self.next_merge_retry().map(|at| (at, "a parked merge is tried again"));
        let drain =
            self.drain.filter(|deadline| *deadline > self.now).map(|deadline| (deadline, "the drain's patience ends"));
        let slas = self.index.next_overdue().map(|due| (due, "a run is late"));
        let recurring = self.index.next_recurring().map(|at| (at, "a task comes again"));
        let seeking = self.seeking.values().filter_map(|seeking| seeking.until);
        let seeking = seeking.map(|until| (until, "a look for an earlier result takes too long"));
        let moving = orders.chain(tasks).chain(retries).filter(|_| thawed);
        agents
            .chain(moving)
            .chain(slas)
            .chain(recurring)
            .chain(merges)
            .chain(seeking)
            .chain(retiring)
            .chain(drain)
            .chain(self.github_wake())
            .min_by_key(|(at, _)| *at)
    }

    /// Goes through all agents with their settings; those that leave the team have none.
    fn lives(&self) -> impl Iterator<Item = (&Live, Option<&AgentSpec>)> {
        let team = self.plan.agents.iter();
        let team = team.filter_map(|spec| self.agents.get(&spec.id).map(|live| (live, Some(spec))));
        // Everybody in the plan is among the agents, so whoever is left over leaves.
        let some_leave = self.agents.len() > self.plan.agents.len();
        let leaving = self.agents.iter().filter(move |(agent, _)| some_leave && self.plan.agent(agent).is_none());
        team.chain(leaving.map(|(_, live)| (live, None)))
    }

    fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    fn on_started(&mut self, panes: &[PaneFound], places: &BTreeMap<EnvelopeId, OrderPlace>) {
        if self.started {
            return;
        }
        self.started = true;
        // The mark is the truth, also for processes that an earlier supervisor was just stopping or continuing when it died.
        self.push(Effect::ObeyFreeze);
        let orders: Vec<(AgentId, EnvelopeId, OrderPlace)> = self
            .open_orders()
            .into_iter()
            .map(|(agent, envelope)| {
                let place = places.get(&envelope).copied().unwrap_or(OrderPlace::Missing);
                (agent, envelope, place)
            })
            .collect();
        self.retire_again();
        self.heal_all();
        let (adopted, repaired) = self.reconcile_panes(panes, &orders);
        if !adopted.is_empty() || !repaired.is_empty() {
            self.found = Some(fact::found_text(&adopted, &repaired));
            self.record(Fact::TeamFound { adopted, repaired });
        }
        for (agent, _, place) in &orders {
            let adopted = self.agents.get(agent).is_some_and(|live| live.state.pane().is_some());
            let task = self.index.open_order(agent).map(|(task, _)| task.clone());
            if let (true, OrderPlace::Missing, Some(task)) = (adopted, place, task) {
                // The order was intended and the crash came before it was written.
                self.deliver(&task);
            }
        }
    }

    fn on_not_delivered(&mut self, agent: &AgentId, envelope: EnvelopeId, reason: &str) {
        let Some((task, open)) = self.index.open_order(agent) else { return };
        let task = task.clone();
        if open == envelope {
            self.withdraw_for_later(&task, reason);
        }
    }

    /// Takes back an attempt whose order could not be written. A full disk is nobody's failure; the waits grow, so that it is
    /// not hammered.
    fn withdraw_for_later(&mut self, task: &TaskId, reason: &str) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let in_a_row = record.attempts.iter().rev().skip(1);
        let in_a_row = in_a_row.take_while(|earlier| earlier.outcome.as_deref() == Some(state::WITHDRAWN)).count();
        let wait = LATER.0 * 2_u32.pow(u32::try_from(in_a_row.min(LATER_DOUBLINGS_MAX)).unwrap_or(0));
        let not_before = Some(self.now + wait.min(LATER.1));
        let text = format!("the order could not be written: {reason}");
        self.withdraw(task, &text, not_before);
    }

    fn begin_drain(&mut self) -> Answer {
        if self.drain.is_none() {
            self.drain = Some(self.now + self.plan.drain);
        }
        let busy = self.index.open_orders().count();
        Answer::Accepted {
            message: format!("going down; {busy} running attempts have {} to end", span::format(self.plan.drain)),
        }
    }

    /// Does everything that follows from the state as it is now.
    fn steer(&mut self) {
        let all: Vec<AgentId> = self.agents.keys().cloned().collect();
        self.steer_those(&all);
    }

    /// Does everything that follows from news of some agents.
    fn steer_those(&mut self, agents: &[AgentId]) {
        if !self.started {
            return;
        }
        for agent in agents {
            self.steer_agent(agent);
        }
        self.settle_circles();
        self.settle_alerts();
        self.wake_recurring();
        self.dispatch();
        if self.frozen.is_none() {
            self.merge_next();
        }
        self.steer_github();
        if self.drain.is_some() && !self.exited && self.agents.values().all(|live| live.state.is_down()) {
            self.exited = true;
            self.push(Effect::Exit);
        }
    }

    fn steer_agent(&mut self, agent: &AgentId) {
        if self.drain.is_none() && self.steer_out(agent) {
            return;
        }
        let Some(live) = self.agents.get(agent) else { return };
        let hold = self.hold_of(agent);
        match (&live.state, self.drain) {
            (Liveness::Absent, None) => match hold {
                Some(hold) => self.enter(agent, News::Held, Liveness::Held(hold)),
                None if self.frozen.is_some() => {}
                None => self.spawn(agent, News::Wanted, Budget::Free),
            },
            (Liveness::Starting { .. } | Liveness::Up { .. } | Liveness::Suspect { .. }, Some(deadline))
                if !self.has_begun_order(agent) || deadline <= self.now =>
            {
                self.stop(agent, News::Drained, DownCause::Drain, Stop::Term);
            }
            (Liveness::Starting { .. } | Liveness::Up { .. } | Liveness::Suspect { .. }, None)
                if hold.is_some() && !self.has_begun_order(agent) =>
            {
                self.stop(agent, News::Held, DownCause::Operator, Stop::Term);
            }
            (
                Liveness::Absent
                | Liveness::Spawning { .. }
                | Liveness::Starting { .. }
                | Liveness::Up { .. }
                | Liveness::Suspect { .. }
                | Liveness::Stopping { .. }
                | Liveness::Clearing { .. }
                | Liveness::BackingOff { .. }
                | Liveness::Held(_),
                _,
            ) => {}
        }
    }

    /// Says whether an agent is known to be working on an order.
    fn has_begun_order(&self, agent: &AgentId) -> bool {
        self.index
            .open_order(agent)
            .and_then(|(task, _)| self.durable.tasks.get(task))
            .and_then(TaskRecord::current)
            .is_some_and(|current| current.started.is_some())
    }

    fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Makes a fact: into the state at once, into the journal before anything that comes after it.
    fn record(&mut self, fact: Fact) {
        if self.broken.is_some() {
            return;
        }
        let recorded = Recorded { at: self.now, fact };
        match self.durable.apply(&recorded) {
            Ok(()) => {
                if let Some(task) = recorded.fact.tell().task {
                    self.index.update(&self.durable, &task, self.now);
                    self.touch_github(&task);
                }
                self.push(Effect::Record(recorded));
            }
            Err(illegal) => self.broken = Some(illegal),
        }
    }

    fn first_role(&self) -> Role {
        self.plan
            .workflow
            .stages
            .first()
            .map_or_else(|| Role::new("codegen").expect("the word is a valid role"), |stage| stage.role.clone())
    }

    fn fresh_run(&self) -> RunId {
        RunId(self.fresh_id())
    }

    /// Makes an identifier from the time and the number of those made before: unique, and the same in every replay.
    fn fresh_id(&self) -> Ulid {
        let millis = u64::try_from(self.now.as_millis()).unwrap_or(0);
        let high = u128::from(restart::hash(self.durable.seed, "id", self.durable.ids)) << 64;
        let low = u128::from(restart::hash(self.durable.seed, "more of it", self.durable.ids));
        Ulid::from_parts(millis, high | low)
    }
}
