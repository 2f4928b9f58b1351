//! The scheduler: which ready task is begun next, by whom, and what it must wait for.
//!
//! Tasks that take the same things wait in one line, so a line whose first cannot be begun costs one look. The lines are
//! gone through together, in the order of their first tasks. A task takes everything it needs when it is begun, or nothing:
//! nobody holds one thing while it waits for another, so no deadlock can form. The exception are the files of a task between
//! two of its stages; so nothing is kept for whoever waits for those. One that has waited beyond the most urgent priority
//! gets what it needs kept for it, so that no stream of smaller tasks can starve it.

pub(super) mod admission;
pub(super) mod graph;
pub(super) mod rank;
pub(super) mod recurrence;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::model::id::{AgentId, Role, TaskId};
use crate::model::plan::OUTCOMES;
use crate::model::stage::StageKind;
use crate::model::task::Assignee;

use super::Core;
use super::github::Standing;
use super::index::Queue;
use super::stages::CONFLICT;
use super::state::{Phase, TaskRecord, WITHDRAWN};
use admission::{Blocker, Demand, Load, Rest};
use rank::Turn;

/// How many issues one dispatch asks for before it goes on.
const ASKED_MAX: usize = 100;

/// Tasks that wait for the same agents and take the same things.
struct Line<'i> {
    whom: &'i Queue,
    demand: &'i Demand,
    turns: std::collections::btree_set::Iter<'i, Turn>,
}

/// What one dispatch decides.
#[derive(Default)]
struct Choice {
    /// What is begun, and by whom.
    chosen: Vec<(TaskId, AgentId)>,
    /// The issues that must be asked for first.
    asked_first: Vec<TaskId>,
    /// The tasks that must be claimed first.
    unclaimed: Vec<TaskId>,
}

impl Core {
    /// Hands ready tasks to free agents.
    pub(super) fn dispatch(&mut self) {
        if self.drain.is_some() || self.frozen.is_some() {
            return;
        }
        self.index.freshen(&self.durable, self.now);
        if !self.index.has_ready() || self.holding().is_some() {
            return;
        }
        self.seek_results();
        let choice = self.choose();
        self.ask_first(choice.asked_first);
        self.want_claims(choice.unclaimed);
        for (task, agent) in choice.chosen {
            self.order(&task, &agent);
        }
    }

    /// Decides which ready tasks are begun now, and by whom, and what must be known or claimed before that of others can be
    /// decided.
    fn choose(&self) -> Choice {
        let mut free: Vec<(&AgentId, &Role)> =
            self.plan.agents.iter().filter(|spec| self.is_free(&spec.id)).map(|spec| (&spec.id, &spec.role)).collect();
        let mut choice = Choice::default();
        if free.is_empty() {
            return choice;
        }
        let mut load = self.load();
        let mut working = self.working();
        let one_at_a_time = self.slowed().is_some();
        let mut lines: Vec<Line<'_>> =
            self.index.lines().map(|((whom, demand), turns)| Line { whom, demand, turns: turns.iter() }).collect();
        let mut heads: BinaryHeap<Reverse<(&Turn, usize)>> =
            lines.iter_mut().enumerate().filter_map(|(at, line)| Some(Reverse((line.turns.next()?, at)))).collect();
        while let Some(Reverse((turn, at))) = heads.pop() {
            if free.is_empty() || (one_at_a_time && load.attempts > 0) {
                break;
            }
            let Some(line) = lines.get_mut(at) else { continue };
            let candidates: Vec<&AgentId> = free
                .iter()
                .filter(|(agent, role)| is_for(line.whom, agent, role) && self.has_room_for(role, &working))
                .map(|(agent, _)| *agent)
                .collect();
            let blockers: Vec<Blocker> = load.blockers(line.demand, self.index.slots(), &self.plan).collect();
            let is_lasting = blockers.iter().any(Blocker::is_lasting);
            if candidates.is_empty() || !blockers.is_empty() {
                if turn.is_aged() && !is_lasting && self.could_take(line.whom) {
                    load.take(&turn.task, line.demand);
                }
                // All behind it in the line wait for the same.
                continue;
            }
            let standing = self.standing(&turn.task);
            if standing == Standing::Elsewhere {
                heads.extend(line.turns.next().map(|turn| Reverse((turn, at))));
                continue;
            }
            let stale = self.stale_issues(&turn.task);
            if choice.asked_first.len() < ASKED_MAX {
                choice.asked_first.extend(stale.iter().cloned());
            }
            let may_begin = stale.is_empty() && !self.is_retiring(&turn.task) && !self.is_sought(&turn.task);
            let agent = if may_begin { self.pick(&turn.task, &candidates) } else { None };
            let is_claimed = standing != Standing::Open;
            if agent.is_some() && !is_claimed {
                choice.unclaimed.push(turn.task.clone());
            }
            // An agent is kept for a task whose claim is on its way, so that no more is claimed than can be begun.
            let is_kept = is_claimed || self.is_claimed_soon(&turn.task);
            if let Some(agent) = agent.cloned().filter(|_| is_kept) {
                load.attempts += 1;
                load.take(&turn.task, line.demand);
                if let Some((_, role)) = free.iter().find(|(other, _)| **other == agent) {
                    *working.entry((*role).clone()).or_default() += 1;
                }
                free.retain(|(other, _)| **other != agent);
                if is_claimed {
                    choice.chosen.push((turn.task.clone(), agent));
                }
            }
            heads.extend(line.turns.next().map(|turn| Reverse((turn, at))));
        }
        choice
    }

    /// Picks one of several free agents: whose work comes back to it, and else not the one that failed at the task last or that
    /// did what is to be reviewed, as long as another of its role can take work, now or later.
    fn pick<'a>(&self, task: &TaskId, candidates: &[&'a AgentId]) -> Option<&'a AgentId> {
        let record = self.durable.tasks.get(task)?;
        if let Some(author) = self.author_awaited(record) {
            return candidates.iter().find(|agent| **agent == author).copied();
        }
        // An author's own review is worth less than that of somebody who failed once.
        let unwanted = unwanted(record);
        for from in 0..=unwanted.len() {
            let unwanted = unwanted.get(from..).unwrap_or_default();
            let other = candidates.iter().find(|agent| !unwanted.contains(agent)).copied();
            if other.is_some() || self.has_another(record, unwanted) {
                return other;
            }
        }
        None
    }

    /// Returns the agent whose work has come back to it, as long as it can take it, now or later.
    fn author_awaited<'r>(&self, record: &'r TaskRecord) -> Option<&'r AgentId> {
        let author = record.author_asked_again().filter(|author| !unwanted(record).contains(author))?;
        let spec = self.plan.agent(author).filter(|spec| spec.takes_work() && self.is_usable(&spec.id))?;
        let fits = match &record.spec.assignee {
            Assignee::Agent(agent) => agent == author,
            Assignee::Role(role) => spec.role == *role,
        };
        fits.then_some(author)
    }

    /// Says whether another agent than these could take a task.
    fn has_another(&self, record: &TaskRecord, unwanted: &[&AgentId]) -> bool {
        match self.assignee_of(record) {
            Assignee::Agent(_) => false,
            Assignee::Role(role) => self.plan.agents.iter().any(|spec| {
                spec.role == role && !unwanted.contains(&&spec.id) && spec.takes_work() && self.is_usable(&spec.id)
            }),
        }
    }

    fn is_usable(&self, agent: &AgentId) -> bool {
        self.hold_of(agent).is_none() && self.agents.contains_key(agent)
    }

    /// Says whether somebody is there for a line, now or when they have ended what they do.
    fn could_take(&self, whom: &Queue) -> bool {
        self.plan
            .agents
            .iter()
            .any(|spec| is_for(whom, &spec.id, &spec.role) && spec.takes_work() && self.is_usable(&spec.id))
    }

    /// Says whether one more agent of a role may work.
    fn has_room_for(&self, role: &Role, working: &BTreeMap<Role, u32>) -> bool {
        let most = self.plan.scheduler.roles.get(role);
        most.is_none_or(|most| working.get(role).copied().unwrap_or(0) < *most)
    }

    /// Counts the agents at work by role.
    fn working(&self) -> BTreeMap<Role, u32> {
        let mut working = BTreeMap::new();
        for (agent, _, _) in self.index.open_orders() {
            if let Some(spec) = self.plan.agent(agent) {
                *working.entry(spec.role.clone()).or_default() += 1;
            }
        }
        working
    }

    /// Counts what is taken by attempts that are under way, by those of which it is not known that they have ended, and by
    /// work that is not merged yet.
    pub(super) fn load(&self) -> Load {
        let mut load = Load::default();
        for (_, task, _) in self.index.open_orders() {
            if let Some(record) = self.durable.tasks.get(task) {
                load.attempt(task, record);
            }
        }
        for task in self.retiring_tasks() {
            if let Some(record) = self.durable.tasks.get(task).filter(|record| record.phase != Phase::Queued) {
                load.attempt(task, record);
            }
        }
        for task in self.index.touching() {
            let Some(record) = self.durable.tasks.get(task) else { continue };
            match &record.phase {
                Phase::Merging { parked: Some(_) } => load.unmerged(task, record, Rest::Parked),
                // One that needs another task again, which was changed or retried meanwhile, lets its files go: that task may
                // want just those, and each would wait for the other. So does one whose file is paused: until somebody acts,
                // others would wait for nothing.
                Phase::Waiting { .. }
                    if record.holds_change()
                        && self.index.is_unblocked(task, record)
                        && self.index.paused_by(&self.durable, task).is_none() =>
                {
                    load.unmerged(task, record, Rest::BetweenStages);
                }
                Phase::Merging { parked: None } => load.unmerged(task, record, Rest::None),
                Phase::Queued if record.holds_change() => load.unmerged(task, record, Rest::None),
                // What an attempt takes is counted with it.
                Phase::Waiting { .. }
                | Phase::Queued
                | Phase::Done { .. }
                | Phase::Failed { .. }
                | Phase::Cancelled { .. } => {}
            }
        }
        load
    }

    /// Says why attempts are begun one at a time, for people; nothing when they are not.
    pub(super) fn slowed(&self) -> Option<String> {
        let high = self.plan.scheduler.load_high;
        if let Some(load) = self.room.and_then(|room| room.load).filter(|load| high > 0 && *load > high) {
            let (load, high) = (f64::from(load) / 100.0, f64::from(high) / 100.0);
            return Some(format!(
                "attempts are begun one at a time: the load of the machine is {load:.1} per processor, and {high:.1} is high"
            ));
        }
        self.is_failing().then(|| {
            let failed = self.durable.outcomes.iter().filter(|(_, is_good)| !is_good).count();
            format!(
                "attempts are begun one at a time: {failed} of the last {OUTCOMES} tasks that were tried have failed; \
                 it ends when fewer than {} have",
                self.plan.scheduler.failures_max
            )
        })
    }

    /// Says whether too many of the newest attempts have failed.
    pub(super) fn is_failing(&self) -> bool {
        let failed = self.durable.outcomes.iter().filter(|(_, is_good)| !is_good).count();
        let most = usize::try_from(self.plan.scheduler.failures_max).unwrap_or(usize::MAX);
        most > 0 && failed >= most
    }

    /// Says everything that keeps a ready task from being begun.
    pub(super) fn why_not_begun(&self, record: &TaskRecord, task: &TaskId) -> Vec<String> {
        let load = self.load();
        let demand = Demand::of(record);
        let mut reasons: Vec<String> =
            load.blockers(&demand, self.index.slots(), &self.plan).map(|blocker| blocker.to_string()).collect();
        let working = self.working();
        if let Assignee::Role(role) = &self.assignee_of(record)
            && let Some(most) = self.plan.scheduler.roles.get(role)
            && !self.has_room_for(role, &working)
        {
            reasons.push(format!("waits for role {role}: {most} of its agents work, and no more may at once"));
        }
        if let Some(slowed) = self.slowed().filter(|_| load.attempts > 0) {
            reasons.push(slowed);
        }
        let stale = self.stale_issues(task);
        if !stale.is_empty() {
            reasons.push(self.why_asked_first(&stale));
        }
        reasons.extend(self.why_unclaimed(task));
        if self.is_retiring(task) {
            reasons.push("waits until its last attempt has ended for certain".to_owned());
        }
        let unwanted = unwanted(record);
        if let Some(author) = self.author_awaited(record).filter(|author| !self.is_free(author)) {
            reasons.push(format!("waits for {author}, whose work has come back to it"));
        } else if let (Assignee::Role(role), Some(first)) = (self.assignee_of(record), unwanted.first())
            && self.has_another(record, &unwanted)
        {
            let why = if failed_last(record) == Some(*first) { "which failed at it last" } else { "whose work it is" };
            reasons.push(format!("waits for another agent of role {role} than {first}, {why}"));
        }
        reasons
    }
}

/// Says whether an agent serves a line.
fn is_for(whom: &Queue, agent: &AgentId, role: &Role) -> bool {
    match whom {
        Queue::Agent(wanted) => wanted == agent,
        Queue::Role(wanted) => wanted == role,
    }
}

/// Returns who should not be asked at a run's stage as long as somebody else is there.
fn unwanted(record: &TaskRecord) -> Vec<&AgentId> {
    let author = record.change().filter(|_| record.stage() == StageKind::Review).map(|change| &change.agent);
    failed_last(record).into_iter().chain(author).collect()
}

/// Returns who failed at a task last. What was taken back, or could not be merged, is not the agent's failure.
fn failed_last(record: &TaskRecord) -> Option<&AgentId> {
    let last = record.current().filter(|last| last.stage == record.stage().name())?;
    let is_failure = !matches!(last.outcome.as_deref(), None | Some(WITHDRAWN | CONFLICT));
    is_failure.then_some(&last.agent)
}
