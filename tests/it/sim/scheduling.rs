//! What tasks take from one another: slots of pools, files, places among the agents of a role and in a repository.

use std::collections::BTreeMap;
use std::time::Duration;

use miyabi::core::Core;
use miyabi::core::state::{Phase, TaskRecord};
use miyabi::model::id::{AgentId, PoolName, Role, TaskId};
use miyabi::model::plan::{Plan, SchedulerSpec};
use miyabi::model::stage::StageKind;
use miyabi::model::task::{Assignee, Every, FailureClass, Missed, OnFailure, RepositoryChoice, TaskSpec};
use miyabi::model::time::Timestamp;
use miyabi::model::touch::Touch;

use super::world::{HOUR, World};
use crate::rng::Rng;

/// How long a run of a recurring task may take, with all that may go wrong on the way.
const RUN_MAX: i64 = HOUR;

pub(super) fn pool(name: &str) -> PoolName {
    name.parse().unwrap()
}

/// Draws the slots of the pools that the files declare.
pub(super) fn pools(rng: &mut Rng) -> BTreeMap<PoolName, u32> {
    let slots = u32::try_from(rng.between(1, 2)).unwrap();
    BTreeMap::from([(pool("llm"), slots), (pool("staging"), 1)])
}

/// Draws what a task takes, and what its failure means.
pub(super) fn takes(rng: &mut Rng, spec: &mut TaskSpec) {
    for name in ["llm", "staging"] {
        if rng.chance(300_000) {
            spec.pools.push(pool(name));
        }
    }
    if spec.repository != RepositoryChoice::None {
        for pattern in ["src/**", "src/api/*.rs", "docs", "**/main.rs"] {
            if rng.chance(150_000) {
                spec.touches.push(Touch::new(pattern).unwrap());
            }
        }
    }
    spec.sla = rng.chance(250_000).then(|| Duration::from_secs(u64::try_from(rng.between(60, 7_200)).unwrap()));
    if rng.chance(300_000) {
        for (_, class) in FailureClass::ALL {
            if rng.chance(300_000) {
                spec.retry.limits.insert(class, u32::try_from(rng.between(0, 4)).unwrap());
            }
        }
    }
    // The day on which every history begins, so that it comes to rest.
    let missed = [Missed::Once, Missed::Skip, Missed::All];
    spec.every = rng.chance(120_000).then(|| Every {
        cron: "*/20 8-9 15 1 *".to_owned(),
        zone: "UTC".to_owned(),
        missed: missed[rng.below(3)],
    });
    spec.on_failure = match rng.below(8) {
        0 => OnFailure::Continue,
        1 => OnFailure::Pause,
        _ => OnFailure::SkipDownstream,
    };
}

/// Draws how much may be done at once.
pub(super) fn limits(rng: &mut Rng, plan: &mut Plan) {
    let roles =
        if rng.chance(300_000) { BTreeMap::from([(Role::new("codegen").unwrap(), 1)]) } else { BTreeMap::new() };
    plan.scheduler = SchedulerSpec {
        ageing: Duration::from_secs(u64::try_from(rng.between(60, 3_600)).unwrap()),
        roles,
        load_high: if rng.chance(500_000) { 400 } else { 0 },
        failures_max: u32::try_from(rng.between(0, 10)).unwrap(),
    };
    if let (true, Some(app)) = (rng.chance(300_000), plan.repositories.first_mut()) {
        app.attempts_max = Some(1);
    }
}

impl World {
    /// Called when an attempt is about to be queued: nothing may be taken twice.
    pub(super) fn check_admission(&mut self, task: &TaskId, agent: &AgentId) {
        let violation = self.admission_violation(task, agent);
        if let Some(text) = violation {
            self.checks.fail(format!("{task} is given to {agent}: {text}"));
        }
    }

    fn admission_violation(&self, task: &TaskId, agent: &AgentId) -> Option<String> {
        let record = self.shadow.tasks.get(task)?;
        if record.spec.every.is_some() && record.attempt == 0 && !record.is_scheduled {
            return Some("it comes again, and nobody knows when".to_owned());
        }
        let plan = self.core.as_ref().map_or(&self.plan, |core| core.plan());
        let queued: Vec<(&TaskId, &TaskRecord)> =
            self.shadow.tasks.iter().filter(|(_, other)| other.phase == Phase::Queued).collect();
        for pool in &record.spec.pools {
            let slots = self.shadow.pools.values().filter_map(|pools| pools.get(pool)).min().copied().unwrap_or(1);
            let taken = queued.iter().filter(|(_, other)| other.spec.pools.contains(pool)).count();
            if taken >= usize::try_from(slots).unwrap() {
                return Some(format!("pool {pool} has {slots} slots, and {taken} are taken"));
            }
        }
        if let Some(text) = self.files_violation(task, record) {
            return Some(text);
        }
        if let RepositoryChoice::Named(name) = &record.spec.repository
            && let Some(most) = plan.repository(name).and_then(|found| found.attempts_max)
        {
            let taken = queued.iter().filter(|(_, other)| other.spec.repository == record.spec.repository).count();
            if taken >= usize::try_from(most).unwrap() {
                return Some(format!("{taken} attempts work in {name}, and {most} may"));
            }
        }
        let role_of = |agent: &AgentId| plan.agent(agent).map(|spec| spec.role.clone());
        if let Some(role) = role_of(agent)
            && let Some(most) = plan.scheduler.roles.get(&role)
        {
            let of_role = |other: &TaskRecord| {
                other.current().is_some_and(|current| role_of(&current.agent).as_ref() == Some(&role))
            };
            let taken = queued.iter().filter(|(_, other)| of_role(other)).count();
            if taken >= usize::try_from(*most).unwrap() {
                return Some(format!("{taken} agents of role {role} work, and {most} may"));
            }
        }
        let failed = self.shadow.outcomes.iter().filter(|(_, is_good)| !is_good).count();
        let most = usize::try_from(plan.scheduler.failures_max).unwrap();
        if most > 0 && failed >= most && !queued.is_empty() {
            return Some(format!("{failed} of the last ten tasks failed, and it is not begun alone"));
        }
        if self.load_seen.is_some_and(|load| plan.scheduler.load_high > 0 && load > plan.scheduler.load_high)
            && !queued.is_empty()
        {
            return Some("the load is high, and it is not begun alone".to_owned());
        }
        // The work of one that only waits for its merge was finished before, and others wait behind it.
        if let Some(paused) = self.paused_by(task).filter(|_| !record.waits_for_merge()) {
            return Some(format!("{paused} failed, and its file is paused"));
        }
        self.repeats(record, agent, plan)
    }

    fn files_violation(&self, task: &TaskId, record: &TaskRecord) -> Option<String> {
        let is_met = |need: &TaskId| {
            self.shadow.tasks.get(need).is_some_and(|record| match record.phase {
                Phase::Done { .. } => true,
                Phase::Failed { .. } => record.spec.on_failure == OnFailure::Continue,
                Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } | Phase::Cancelled { .. } => false,
            })
        };
        let under_way = |id: &TaskId, other: &TaskRecord| {
            matches!(other.phase, Phase::Queued | Phase::Merging { .. })
                || other.holds_change()
                    && !other.is_settled()
                    && (other.waits_for_merge() || other.spec.needs.iter().all(is_met))
                    && self.paused_by(id).is_none()
        };
        let overlaps = |other: &TaskRecord| {
            record.spec.touches.iter().any(|mine| other.spec.touches.iter().any(|theirs| mine.overlaps(theirs)))
        };
        self.shadow
            .tasks
            .iter()
            .find(|(id, other)| {
                *id != task
                    && other.merged.is_none()
                    && record.merged.is_none()
                    && other.spec.repository == record.spec.repository
                    && under_way(id, other)
                    && overlaps(other)
            })
            .map(|(other, _)| format!("{other} is under way and could touch the same files"))
    }

    fn paused_by(&self, task: &TaskId) -> Option<&TaskId> {
        let stem = task.as_str().split_once('/')?.0;
        let of_file = |other: &TaskId| other.as_str().split_once('/').is_some_and(|(other, _)| other == stem);
        self.shadow
            .tasks
            .iter()
            .find(|(other, record)| {
                of_file(other)
                    && !record.detached
                    && record.spec.on_failure == OnFailure::Pause
                    && matches!(record.phase, Phase::Failed { .. })
            })
            .map(|(other, _)| other)
    }

    /// Whoever failed at a task last does not get it again while another of the role could.
    fn repeats(&self, record: &TaskRecord, agent: &AgentId, plan: &Plan) -> Option<String> {
        let last = record.current()?;
        let failed = last.outcome.as_deref() == Some("failed") && last.agent == *agent;
        if record.stage() != StageKind::Code || last.stage != record.stage().name() {
            return None;
        }
        let Assignee::Role(role) = &record.spec.assignee else { return None };
        let other = plan.agents.iter().find(|spec| {
            spec.role == *role
                && spec.id != *agent
                && self.shadow.agents.get(&spec.id).is_some_and(|record| record.hold.is_none() && !record.down)
        })?;
        failed.then(|| format!("it failed at it last, and {} is there", other.id))
    }

    /// Called when the run of a task that comes again gets its time: none is made up twice.
    pub(super) fn check_scheduled(&mut self, task: &TaskId, begins: Timestamp, at: Timestamp) {
        let Some(record) = self.shadow.tasks.get(task) else { return };
        if record.spec.every.is_none() || record.is_scheduled && begins > record.occurrence() {
            self.checks.fail(format!("{task} is scheduled for {begins}, and it had its time already"));
        }
        // A time that lies ahead still may be brought forward, by whoever asks for a run or by a clock that was put back.
        if record.occurrence.is_some_and(|before| begins < before && before <= at) {
            let text = format!("{task} is scheduled for {begins}, and ran for {:?} before", record.occurrence);
            self.checks.fail(text);
        }
    }

    /// Called when a run is said to be late.
    pub(super) fn check_late(&mut self, task: &TaskId, due: Timestamp, at: Timestamp) {
        let Some(record) = self.shadow.tasks.get(task) else { return };
        if record.due() != Some(due) || at < due || record.is_settled() {
            self.checks.fail(format!("{task} is called late at {at}, and it is due at {:?}", record.due()));
        }
    }

    /// Says whether the next run of a recurring task has begun so late that it may still be under way in the end.
    pub(super) fn has_come_again(&self, task: &TaskId) -> bool {
        let now = self.t + self.skew;
        self.shadow.tasks.get(task).is_some_and(|record| {
            record.spec.every.is_some() && record.is_scheduled && now - record.occurrence().as_millis() < RUN_MAX
        })
    }

    /// Says whether a task waits for its next time, or needs one that does.
    pub(super) fn waits_for_its_time(&self, task: &TaskId, depth: usize) -> bool {
        let now = self.t + self.skew;
        if self.has_come_again(task) {
            return true;
        }
        let Some(record) = self.shadow.tasks.get(task) else { return false };
        let waits = matches!(record.phase, Phase::Waiting { .. });
        let is_ahead = record.is_scheduled && record.attempt == 0 && record.occurrence().as_millis() > now;
        waits
            && (is_ahead && record.spec.every.is_some()
                || depth < 100 && record.spec.needs.iter().any(|need| self.waits_for_its_time(need, depth + 1)))
    }

    /// Called when the supervisor has done what was due: whoever should have ended by now is known to be late.
    pub(super) fn check_not_overlooked(&mut self, core: &Core, now: Timestamp) {
        let is_overlooked = |record: &TaskRecord| {
            !record.is_settled() && !record.sla_missed && record.due().is_some_and(|due| due <= now)
        };
        let overlooked = core.durable().tasks.iter().find(|(_, record)| is_overlooked(record));
        if let Some((task, record)) = overlooked {
            let text = format!("{task} was due at {:?}, it is {now}, and nobody said so", record.due());
            self.checks.fail(text);
        }
    }
}
