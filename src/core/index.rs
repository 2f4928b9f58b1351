//! What can be looked up quickly. Everything here follows from the durable state and is built anew at every start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::id::{AgentId, EnvelopeId, PoolName, RepositoryName, Role, TaskId};
use crate::model::plan::Plan;
use crate::model::stage::StageKind;
use crate::model::task::{Assignee, OnFailure, RepositoryChoice};
use crate::model::time::Timestamp;

use super::scheduler::admission::Demand;
use super::scheduler::graph::NeedGraph;
use super::scheduler::rank::Turn;
use super::scheduler::recurrence::wake_at;
use super::stages;
use super::state::{Durable, Phase, TaskRecord};

/// How many tasks may grow older in one turn; the rest in the next ones.
const OLDER_MAX: usize = 500;

/// Where a task stands in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Ready { line: (Queue, Demand), turn: Turn, older_at: Timestamp },
    Later { until: Timestamp },
    Open { agent: AgentId },
    Merging,
    Elsewhere,
}

/// For whom a ready task waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queue {
    Agent(AgentId),
    Role(Role),
}

/// The index.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    repositories: BTreeSet<RepositoryName>,
    /// Who does the stages after the work itself.
    roles: BTreeMap<StageKind, Role>,
    ageing: Duration,
    /// The slots of all pools.
    slots: BTreeMap<PoolName, u32>,
    graph: NeedGraph,
    entries: BTreeMap<TaskId, Entry>,
    ready: BTreeMap<(Queue, Demand), BTreeSet<Turn>>,
    /// When ready tasks count as more urgent.
    older: BTreeSet<(Timestamp, TaskId)>,
    later: BTreeSet<(Timestamp, TaskId)>,
    open: BTreeMap<AgentId, (TaskId, EnvelopeId)>,
    /// Whose work is finished, in the order in which it was.
    merging: BTreeMap<RepositoryName, BTreeSet<(u64, u64, TaskId)>>,
    merging_in: BTreeMap<TaskId, (RepositoryName, (u64, u64, TaskId))>,
    /// Tasks under way whose files nobody else may touch.
    touching: BTreeSet<TaskId>,
    /// Ready tasks that could take an earlier result.
    reusing: BTreeSet<TaskId>,
    /// Tasks that have used up their attempts.
    dead: BTreeSet<TaskId>,
    /// Files of which nothing is begun, with the failed tasks that hold them up.
    paused: BTreeMap<String, BTreeSet<TaskId>>,
    /// When runs must have ended that have not.
    due: BTreeSet<(Timestamp, TaskId)>,
    due_of: BTreeMap<TaskId, Timestamp>,
    /// When something must be done about tasks that come again.
    recurring: BTreeSet<(Timestamp, TaskId)>,
    recurring_at: BTreeMap<TaskId, Timestamp>,
    /// Back-offs from before the clock was set back: when they were to end, and when they end by the clock of today.
    shifted: BTreeMap<TaskId, (Timestamp, Timestamp)>,
}

impl Index {
    pub(super) fn build(durable: &Durable, plan: &Plan, now: Timestamp) -> Self {
        let repositories = plan.repositories.iter().map(|repository| repository.name.clone()).collect();
        let shifted = durable.tasks.iter().filter_map(|(task, record)| Some((task.clone(), shift(record, now)?)));
        let shifted = shifted.collect();
        let roles = StageKind::ALL.into_iter().map(|kind| (kind, stages::role_at(plan, kind))).collect();
        let mut index = Self { repositories, roles, shifted, ageing: plan.scheduler.ageing, ..Self::default() };
        index.read_pools(durable);
        for (task, record) in &durable.tasks {
            index.graph.register(task, &record.spec.needs);
            index.note_pause(durable, task, record);
        }
        for task in durable.tasks.keys().chain(durable.github.resolved.keys()).filter(|task| durable.is_met(task)) {
            index.graph.set_met(task, true);
        }
        index.graph.measure(durable);
        for task in durable.tasks.keys() {
            index.place(durable, task, now);
        }
        index
    }

    /// Takes over what the files in force say of pools.
    pub(super) fn read_pools(&mut self, durable: &Durable) {
        self.slots.clear();
        for (pool, slots) in durable.pools.values().flatten() {
            // While files contradict one another neither is in force; the smaller number is the safer one.
            self.slots.entry(pool.clone()).and_modify(|known| *known = (*known).min(*slots)).or_insert(*slots);
        }
    }

    /// Brings one task, and those that wait for it, up to date.
    pub(super) fn update(&mut self, durable: &Durable, task: &TaskId, now: Timestamp) {
        let record = durable.tasks.get(task);
        if let Some(record) = record {
            self.graph.register(task, &record.spec.needs);
        }
        for dependent in self.graph.set_met(task, durable.is_met(task)) {
            self.place(durable, &dependent, now);
        }
        let Some(record) = record else { return };
        self.place(durable, task, now);
        for stem in self.note_pause(durable, task, record) {
            for other in of_file(durable, &stem) {
                self.place(durable, &other, now);
            }
        }
    }

    /// Notes whether a task holds its file up; returns the files that this lets go on or stops.
    fn note_pause(&mut self, durable: &Durable, task: &TaskId, record: &TaskRecord) -> Vec<String> {
        let stem = durable.stem_of(task);
        let holds_up = matches!(record.phase, Phase::Failed { .. })
            && record.spec.on_failure == OnFailure::Pause
            && !record.detached;
        let mut turned = Vec::new();
        // An issue can have moved from one file to another.
        for (paused, holders) in &mut self.paused {
            let is_over = !holds_up || stem != Some(paused);
            if is_over && holders.remove(task) && holders.is_empty() {
                turned.push(paused.clone());
            }
        }
        self.paused.retain(|_, holders| !holders.is_empty());
        if let Some(stem) = stem.filter(|_| holds_up) {
            if !self.paused.contains_key(stem) {
                turned.push(stem.to_owned());
            }
            self.paused.entry(stem.to_owned()).or_default().insert(task.clone());
        }
        turned
    }

    /// Returns the failed task because of which nothing of a task's file is begun.
    pub(super) fn paused_by(&self, durable: &Durable, task: &TaskId) -> Option<&TaskId> {
        if self.paused.is_empty() || durable.tasks.get(task).is_some_and(TaskRecord::waits_for_merge) {
            // Of the latter the work was finished before, and others wait behind it.
            return None;
        }
        self.paused.get(durable.stem_of(task)?)?.first()
    }

    /// Says whether tasks may wait for one another since this was asked last, in a way that they did not before.
    pub(super) fn take_changed(&mut self) -> bool {
        self.graph.take_changed()
    }

    /// Says whether anything needs a task.
    pub(super) fn is_needed(&self, task: &TaskId) -> bool {
        self.graph.is_needed(task)
    }

    fn place(&mut self, durable: &Durable, task: &TaskId, now: Timestamp) {
        self.forget(task);
        let Some(record) = durable.tasks.get(task) else { return };
        let entry = self.entry(durable, task, record, now);
        match &entry {
            Entry::Ready { line, turn, older_at } => {
                self.ready.entry(line.clone()).or_default().insert(turn.clone());
                self.older.insert((*older_at, task.clone()));
            }
            Entry::Later { until } => {
                self.later.insert((*until, task.clone()));
            }
            Entry::Open { agent } => {
                if let Some(current) = record.current() {
                    self.open.insert(agent.clone(), (task.clone(), current.envelope));
                }
            }
            Entry::Merging | Entry::Elsewhere => {}
        }
        if record.may_reuse() && matches!(entry, Entry::Ready { .. }) {
            self.reusing.insert(task.clone());
        }
        if matches!(record.phase, Phase::Failed { .. }) {
            self.dead.insert(task.clone());
        }
        if let RepositoryChoice::Named(repository) = &record.spec.repository
            && record.waits_for_merge()
        {
            // An old journal gave no turns.
            let turn = (record.turn.unwrap_or(0), record.seq, task.clone());
            self.merging.entry(repository.clone()).or_default().insert(turn.clone());
            self.merging_in.insert(task.clone(), (repository.clone(), turn));
        }
        let is_under_way = match &entry {
            Entry::Open { .. } | Entry::Merging => true,
            Entry::Ready { .. } | Entry::Later { .. } | Entry::Elsewhere => {
                record.holds_change() && !record.is_settled()
            }
        };
        if is_under_way && record.merged.is_none() && !record.spec.touches.is_empty() {
            self.touching.insert(task.clone());
        }
        if let Some(due) = record.due().filter(|_| !record.is_settled() && !record.sla_missed) {
            self.due.insert((due, task.clone()));
            self.due_of.insert(task.clone(), due);
        }
        if let Some(at) = wake_at(record, now) {
            self.recurring.insert((at, task.clone()));
            self.recurring_at.insert(task.clone(), at);
        }
        if entry != Entry::Elsewhere {
            self.entries.insert(task.clone(), entry);
        }
    }

    fn forget(&mut self, task: &TaskId) {
        self.touching.remove(task);
        self.dead.remove(task);
        self.reusing.remove(task);
        if let Some(due) = self.due_of.remove(task) {
            self.due.remove(&(due, task.clone()));
        }
        if let Some(at) = self.recurring_at.remove(task) {
            self.recurring.remove(&(at, task.clone()));
        }
        if let Some((repository, turn)) = self.merging_in.remove(task)
            && let Some(queue) = self.merging.get_mut(&repository)
        {
            queue.remove(&turn);
        }
        match self.entries.remove(task) {
            Some(Entry::Ready { line, turn, older_at }) => {
                self.older.remove(&(older_at, task.clone()));
                if let Some(turns) = self.ready.get_mut(&line) {
                    turns.remove(&turn);
                    if turns.is_empty() {
                        self.ready.remove(&line);
                    }
                }
            }
            Some(Entry::Later { until }) => {
                self.later.remove(&(until, task.clone()));
            }
            Some(Entry::Open { agent }) => {
                if self.open.get(&agent).is_some_and(|(owner, _)| owner == task) {
                    self.open.remove(&agent);
                }
            }
            Some(Entry::Merging | Entry::Elsewhere) | None => {}
        }
    }

    /// Brings the order of the ready tasks up to date: chains that have become longer, tasks that have become older.
    pub(super) fn freshen(&mut self, durable: &Durable, now: Timestamp) {
        for task in self.graph.measure(durable) {
            if matches!(self.entries.get(&task), Some(Entry::Ready { .. })) {
                self.place(durable, &task, now);
            }
        }
        for _ in 0..OLDER_MAX {
            let Some((_, task)) = self.older.first().filter(|(at, _)| *at <= now).cloned() else { break };
            self.place(durable, &task, now);
        }
    }

    /// Returns the lines of ready tasks.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&(Queue, Demand), &BTreeSet<Turn>)> {
        self.ready.iter()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns the slots of all pools.
    pub(super) const fn slots(&self) -> &BTreeMap<PoolName, u32> {
        &self.slots
    }

    /// Returns the tasks under way whose files nobody else may touch.
    pub(super) fn touching(&self) -> impl Iterator<Item = &TaskId> {
        self.touching.iter()
    }

    /// Says whether everything that a task needs is done.
    pub(super) fn is_unblocked(&self, task: &TaskId, record: &TaskRecord) -> bool {
        // What was begun when everything was done is not held up on its way to the target branch: others wait behind it.
        record.waits_for_merge() || self.graph.is_ready(task)
    }

    /// Returns the order that an agent has.
    pub(super) fn open_order(&self, agent: &AgentId) -> Option<(&TaskId, EnvelopeId)> {
        self.open.get(agent).map(|(task, envelope)| (task, *envelope))
    }

    pub(super) fn open_orders(&self) -> impl Iterator<Item = (&AgentId, &TaskId, EnvelopeId)> {
        self.open.iter().map(|(agent, (task, envelope))| (agent, task, *envelope))
    }

    /// Returns when the next back-off of a task ends.
    pub(super) fn next_later(&self) -> Option<Timestamp> {
        self.later.first().map(|(until, _)| *until)
    }

    pub(super) fn due(&self, now: Timestamp) -> Vec<TaskId> {
        self.later.iter().take_while(|(until, _)| *until <= now).map(|(_, task)| task.clone()).collect()
    }

    /// Returns when the next run must have ended.
    pub(super) fn next_overdue(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Returns when something must next be done about a task that comes again.
    pub(super) fn next_recurring(&self) -> Option<Timestamp> {
        self.recurring.first().map(|(at, _)| *at)
    }

    /// Returns the tasks that come again and about which something must be done.
    pub(super) fn recurring_due(&self, now: Timestamp) -> Vec<TaskId> {
        self.recurring.iter().take_while(|(at, _)| *at <= now).map(|(_, task)| task.clone()).collect()
    }

    /// Returns the runs that have not ended in time, and when they should have.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<(Timestamp, TaskId)> {
        self.due.iter().take_while(|(due, _)| *due <= now).cloned().collect()
    }

    /// Returns the ready tasks that could take an earlier result, in the order of their ids.
    pub(super) fn reusing(&self) -> impl Iterator<Item = &TaskId> {
        self.reusing.iter()
    }

    /// Returns the tasks that have used up their attempts.
    pub(super) fn dead(&self) -> impl Iterator<Item = &TaskId> {
        self.dead.iter()
    }

    pub(super) fn is_dead(&self, task: &TaskId) -> bool {
        self.dead.contains(task)
    }

    /// Returns whose work is finished and not merged, in the order in which it was finished.
    pub(super) fn merging(&self) -> impl Iterator<Item = (&RepositoryName, impl Iterator<Item = &TaskId>)> {
        let queues = self.merging.iter().filter(|(_, queue)| !queue.is_empty());
        queues.map(|(repository, queue)| (repository, queue.iter().map(|(_, _, task)| task)))
    }

    /// Returns when a back-off ends by the clock of today.
    pub(super) fn end_of_back_off(&self, task: &TaskId, until: Timestamp) -> Timestamp {
        self.shifted.get(task).filter(|(recorded, _)| *recorded == until).map_or(until, |(_, end)| *end)
    }

    /// Says whether the task's repository can be worked in.
    fn has_workplace(&self, record: &TaskRecord) -> bool {
        match &record.spec.repository {
            RepositoryChoice::None => true,
            RepositoryChoice::Named(name) => record.target.is_some() && self.repositories.contains(name),
        }
    }

    fn entry(&self, durable: &Durable, task: &TaskId, record: &TaskRecord, now: Timestamp) -> Entry {
        match &record.phase {
            Phase::Waiting { .. } if wake_at(record, now).is_some() => Entry::Elsewhere,
            Phase::Waiting { .. } if !self.has_workplace(record) || self.paused_by(durable, task).is_some() => {
                Entry::Elsewhere
            }
            Phase::Waiting { not_before: Some(until) } if self.end_of_back_off(task, *until) > now => {
                Entry::Later { until: self.end_of_back_off(task, *until) }
            }
            Phase::Waiting { .. } if self.is_unblocked(task, record) => {
                let whom = match (self.roles.get(&record.stage()), &record.spec.assignee) {
                    (Some(role), _) if !matches!(record.stage(), StageKind::Code | StageKind::Recheck) => {
                        Queue::Role(role.clone())
                    }
                    (_, Assignee::Agent(agent)) => Queue::Agent(agent.clone()),
                    (_, Assignee::Role(role)) => Queue::Role(role.clone()),
                };
                let behind = self.graph.behind(task);
                let (turn, older_at) = Turn::of(durable, (task, record), behind, self.ageing, now);
                Entry::Ready { line: (whom, Demand::of(record)), turn, older_at }
            }
            Phase::Queued => {
                record.current().map_or(Entry::Elsewhere, |current| Entry::Open { agent: current.agent.clone() })
            }
            Phase::Merging { .. } => Entry::Merging,
            Phase::Waiting { .. } | Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => {
                Entry::Elsewhere
            }
        }
    }
}

/// Finds a back-off whose attempt ended ahead of our time: the clock was set back since, and it would last that much longer.
fn shift(record: &TaskRecord, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let Phase::Waiting { not_before: Some(until) } = record.phase else { return None };
    let ended = record.attempts.last()?.ended_at.filter(|ended| *ended > now)?;
    Some((until, now + until.since(ended)))
}

/// Returns the tasks and issues of a file.
fn of_file(durable: &Durable, stem: &str) -> Vec<TaskId> {
    durable.tasks.keys().filter(|task| durable.stem_of(task) == Some(stem)).cloned().collect()
}
