//! What can be looked up quickly. Everything here follows from the durable state and is built anew at every start.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::id::{AgentId, EnvelopeId, RepositoryName, Role, TaskId};
use crate::model::task::{Assignee, RepositoryChoice};
use crate::model::time::Timestamp;

use super::state::{Durable, Phase, TaskRecord};

/// The order in which ready tasks are taken: by priority, then by acceptance.
pub(super) type Turn = (u8, u64, TaskId);

/// Where a task stands in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Ready { assignee: Queue, turn: Turn },
    Later { until: Timestamp },
    Open { agent: AgentId },
    Merging { repository: RepositoryName, seq: u64 },
    Elsewhere,
}

/// Whose queue a ready task waits in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queue {
    Agent(AgentId),
    Role(Role),
}

/// The index.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    repositories: BTreeSet<RepositoryName>,
    entries: BTreeMap<TaskId, Entry>,
    ready: BTreeMap<Queue, BTreeSet<Turn>>,
    later: BTreeSet<(Timestamp, TaskId)>,
    open: BTreeMap<AgentId, (TaskId, EnvelopeId)>,
    merging: BTreeMap<RepositoryName, BTreeSet<(u64, TaskId)>>,
    dependents: BTreeMap<TaskId, BTreeSet<TaskId>>,
    needs: BTreeMap<TaskId, Vec<TaskId>>,
    /// Back-offs from before the clock was set back: when they were to end, and when they end by the clock of today.
    shifted: BTreeMap<TaskId, (Timestamp, Timestamp)>,
}

impl Index {
    pub(super) fn build(durable: &Durable, repositories: BTreeSet<RepositoryName>, now: Timestamp) -> Self {
        let shifted = durable.tasks.iter().filter_map(|(task, record)| Some((task.clone(), shift(record, now)?)));
        let mut index = Self { repositories, shifted: shifted.collect(), ..Self::default() };
        for task in durable.tasks.keys() {
            index.update(durable, task, now);
        }
        index
    }

    /// Brings one task, and those that wait for it, up to date.
    pub(super) fn update(&mut self, durable: &Durable, task: &TaskId, now: Timestamp) {
        self.update_one(durable, task, now);
        let dependents: Vec<TaskId> = self.dependents.get(task).into_iter().flatten().cloned().collect();
        for dependent in dependents {
            self.update_one(durable, &dependent, now);
        }
    }

    fn update_one(&mut self, durable: &Durable, task: &TaskId, now: Timestamp) {
        self.forget(task);
        let Some(record) = durable.tasks.get(task) else { return };
        for need in &record.spec.needs {
            self.dependents.entry(need.clone()).or_default().insert(task.clone());
        }
        self.needs.insert(task.clone(), record.spec.needs.clone());
        let entry = self.place(durable, task, record, now);
        match &entry {
            Entry::Ready { assignee, turn } => {
                self.ready.entry(assignee.clone()).or_default().insert(turn.clone());
            }
            Entry::Later { until } => {
                self.later.insert((*until, task.clone()));
            }
            Entry::Open { agent } => {
                if let Some(current) = record.current() {
                    self.open.insert(agent.clone(), (task.clone(), current.envelope));
                }
            }
            Entry::Merging { repository, seq } => {
                self.merging.entry(repository.clone()).or_default().insert((*seq, task.clone()));
            }
            Entry::Elsewhere => {}
        }
        self.entries.insert(task.clone(), entry);
    }

    fn forget(&mut self, task: &TaskId) {
        for need in self.needs.remove(task).into_iter().flatten() {
            if let Some(dependents) = self.dependents.get_mut(&need) {
                dependents.remove(task);
            }
        }
        match self.entries.remove(task) {
            Some(Entry::Ready { assignee, turn }) => {
                if let Some(queue) = self.ready.get_mut(&assignee) {
                    queue.remove(&turn);
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
            Some(Entry::Merging { repository, seq }) => {
                if let Some(queue) = self.merging.get_mut(&repository) {
                    queue.remove(&(seq, task.clone()));
                }
            }
            Some(Entry::Elsewhere) | None => {}
        }
    }

    /// Returns the ready tasks that an agent may take, the first of its own queue and of its role's in their order.
    pub(super) fn all_for(&self, agent: &AgentId, role: &Role) -> impl Iterator<Item = &TaskId> {
        let mut own = self.ready.get(&Queue::Agent(agent.clone())).into_iter().flatten().peekable();
        let mut shared = self.ready.get(&Queue::Role(role.clone())).into_iter().flatten().peekable();
        std::iter::from_fn(move || match (own.peek(), shared.peek()) {
            (Some(mine), Some(ours)) if mine <= ours => own.next(),
            (Some(_), None) => own.next(),
            (Some(_) | None, Some(_)) => shared.next(),
            (None, None) => None,
        })
        .map(|(_, _, task)| task)
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready.values().any(|queue| !queue.is_empty())
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

    pub(super) fn merging(&self) -> impl Iterator<Item = (&RepositoryName, impl Iterator<Item = &TaskId>)> {
        self.merging.iter().map(|(repository, queue)| (repository, queue.iter().map(|(_, task)| task)))
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

    fn place(&self, durable: &Durable, task: &TaskId, record: &TaskRecord, now: Timestamp) -> Entry {
        match &record.phase {
            Phase::Waiting { .. } if !self.has_workplace(record) => Entry::Elsewhere,
            Phase::Waiting { not_before: Some(until) } if self.end_of_back_off(task, *until) > now => {
                Entry::Later { until: self.end_of_back_off(task, *until) }
            }
            Phase::Waiting { .. } if needs_are_done(durable, record) => Entry::Ready {
                assignee: match &record.spec.assignee {
                    Assignee::Agent(agent) => Queue::Agent(agent.clone()),
                    Assignee::Role(role) => Queue::Role(role.clone()),
                },
                turn: (record.spec.priority.get(), record.seq, task.clone()),
            },
            Phase::Queued => {
                record.current().map_or(Entry::Elsewhere, |current| Entry::Open { agent: current.agent.clone() })
            }
            Phase::Merging { .. } => match &record.spec.repository {
                RepositoryChoice::Named(repository) => {
                    Entry::Merging { repository: repository.clone(), seq: record.seq }
                }
                RepositoryChoice::None => Entry::Elsewhere,
            },
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

/// Says whether everything that a task needs is done.
pub(super) fn needs_are_done(durable: &Durable, record: &TaskRecord) -> bool {
    record.spec.needs.iter().all(|need| {
        durable.tasks.get(need).is_some_and(|needed| match needed.phase {
            Phase::Done { .. } => true,
            Phase::Waiting { .. }
            | Phase::Queued
            | Phase::Merging { .. }
            | Phase::Failed { .. }
            | Phase::Cancelled { .. } => false,
        })
    })
}
