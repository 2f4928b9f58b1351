//! What a seed decides before its history begins: the plan, the odds of faults, and what tasks look like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use miyabi::model::agent::{AgentSpec, DriverKind, Limits, RestartKind, RestartPolicy, StallAnswer};
use miyabi::model::fault::Place;
use miyabi::model::id::{AgentId, RepositoryName, Role, TaskId};
use miyabi::model::plan::{
    MergeMode, Plan, RepositorySpec, ResourceLimits, SchedulerSpec, SessionSpec, SpoolLimits, Workflow,
};
use miyabi::model::task::{
    Assignee, NoChange, OnFailure, Priority, RepositoryChoice, RetryPolicy, TaskNode, TaskSpec, Work,
};

use crate::rng::Rng;

/// How often things go wrong, in parts per million of their occasions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Odds {
    /// The supervisor dies between two effects.
    pub(super) death: u32,
    /// A hint is lost; the sweep finds the news later.
    pub(super) hint_lost: u32,
    /// News comes twice.
    pub(super) doubled: u32,
    /// News takes seconds instead of milliseconds.
    pub(super) late: u32,
    pub(super) spawn_failed: u32,
    pub(super) spawn_silent: u32,
    pub(super) probe_blind: u32,
    pub(super) stop_ignored: u32,
    pub(super) merge_unanswered: u32,
    pub(super) clear_unanswered: u32,
    /// A step of a runner fails, or its success is not known.
    pub(super) step_failed: u32,
    /// A runner is killed in the middle of a step.
    pub(super) step_killed: u32,
    /// An agent's program does not do.
    pub(super) program_bad: u32,
    pub(super) check_bad: u32,
    /// A timeout is handled although nothing is due.
    pub(super) early_wake: u32,
    /// An order is not taken out of its mailbox, or nobody hears that it was.
    pub(super) retire_failed: u32,
    /// The clock leaps while an agent starts.
    pub(super) leap_at_start: u32,
}

impl Odds {
    pub(super) const CALM: Self = Self {
        death: 0,
        hint_lost: 0,
        doubled: 0,
        late: 0,
        spawn_failed: 0,
        spawn_silent: 0,
        probe_blind: 0,
        stop_ignored: 0,
        merge_unanswered: 0,
        clear_unanswered: 0,
        step_failed: 0,
        step_killed: 0,
        program_bad: 0,
        check_bad: 0,
        early_wake: 0,
        retire_failed: 0,
        leap_at_start: 0,
    };

    /// A world in which nothing breaks: news is late, doubled or missed, the supervisor is started anew now and then.
    pub(super) const HEALTHY: Self = Self {
        death: 20,
        hint_lost: 100_000,
        doubled: 50_000,
        late: 100_000,
        probe_blind: 100_000,
        early_wake: 10_000,
        leap_at_start: 100_000,
        ..Self::CALM
    };

    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut up_to = |most: i64| if rng.chance(250_000) { 0 } else { u32::try_from(rng.between(0, most)).unwrap() };
        Self {
            death: up_to(6_000),
            hint_lost: up_to(300_000),
            doubled: up_to(200_000),
            late: up_to(200_000),
            spawn_failed: up_to(150_000),
            spawn_silent: up_to(100_000),
            probe_blind: up_to(400_000),
            stop_ignored: up_to(300_000),
            merge_unanswered: up_to(200_000),
            clear_unanswered: up_to(200_000),
            step_failed: up_to(60_000),
            step_killed: up_to(60_000),
            program_bad: up_to(400_000),
            check_bad: up_to(250_000),
            early_wake: up_to(50_000),
            retire_failed: up_to(200_000),
            leap_at_start: up_to(300_000),
        }
    }
}

/// In which order the effects of one turn are carried out; both are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As the core asked for them.
    AsAsked,
    /// All records of the turn first.
    RecordsFirst,
}

pub(super) fn agent_id(text: &str) -> AgentId {
    AgentId::new(text).unwrap()
}

pub(super) fn repository_name(text: &str) -> RepositoryName {
    RepositoryName::new(text).unwrap()
}

pub(super) fn plan(rng: &mut Rng) -> Plan {
    let names = [("kaede", "codegen"), ("momo", "codegen"), ("sakura", "review"), ("conductor", "dashboard")];
    let agents = names.iter().map(|(id, role)| agent(rng, id, role)).collect();
    let repository = |name: &str, merge: MergeMode, checks: &[&str]| RepositorySpec {
        github: None,
        name: repository_name(name),
        path: PathBuf::from(format!("/sim/{name}")),
        remote: None,
        checks: Some(checks.iter().map(|check| (*check).to_owned()).collect()),
        protected: Vec::new(),
        merge,
        attempts_max: None,
    };
    Plan {
        resources: ResourceLimits::default(),
        scheduler: SchedulerSpec::default(),
        spool: SpoolLimits::default(),
        alert_command: vec!["tell".to_owned()],
        session: SessionSpec { name: "sim".to_owned(), socket: "sim".to_owned() },
        agents,
        repositories: vec![
            repository("app", MergeMode::Local, &["make check"]),
            repository("site", MergeMode::Local, &[]),
            repository("notes", MergeMode::None, &[]),
        ],
        workflow: Workflow::default(),
        log_days: 7,
        attempt_log_days: 30,
        drain: Duration::from_secs(30),
        github: miyabi::model::github::GithubSpec::default(),
    }
}

fn agent(rng: &mut Rng, id: &str, role: &str) -> AgentSpec {
    let heartbeat = Duration::from_secs(u64::try_from(rng.between(10, 25)).unwrap());
    let kinds = [RestartKind::Permanent, RestartKind::Permanent, RestartKind::Transient, RestartKind::Temporary];
    AgentSpec {
        id: agent_id(id),
        name: id.to_owned(),
        role: Role::new(role).unwrap(),
        labels: BTreeSet::new(),
        driver: if role == "dashboard" { DriverKind::Dashboard } else { DriverKind::Command },
        command: Vec::new(),
        env: BTreeSet::new(),
        heartbeat,
        heartbeat_timeout: heartbeat * 3,
        start_timeout: Duration::from_secs(u64::try_from(rng.between(30, 90)).unwrap()),
        stop_timeout: Duration::from_secs(u64::try_from(rng.between(2, 15)).unwrap()),
        timeout: Duration::from_secs(u64::try_from(rng.between(300, 900)).unwrap()),
        stall: Duration::from_secs(u64::try_from(rng.between(150, 600)).unwrap()),
        on_stall: rng.pick(&StallAnswer::ALL).unwrap(),
        limits: Limits::default(),
        restart: RestartPolicy {
            policy: rng.pick(&kinds).unwrap(),
            intensity: u32::try_from(rng.between(2, 8)).unwrap(),
            period: Duration::from_secs(u64::try_from(rng.between(300, 3_600)).unwrap()),
            backoff: Duration::from_secs(u64::try_from(rng.between(1, 10)).unwrap()),
            backoff_max: Duration::from_secs(120),
            reset_after: Duration::from_secs(600),
        },
    }
}

/// Draws a task that needs some of the tasks given.
pub(super) fn spec(rng: &mut Rng, known: &[TaskId]) -> TaskSpec {
    let mut needs = Vec::new();
    for _ in 0..rng.below(3) {
        needs.extend(rng.pick(known).filter(|need| !needs.contains(need)));
    }
    let assignees = [
        Assignee::Role(Role::new("codegen").unwrap()),
        Assignee::Role(Role::new("codegen").unwrap()),
        Assignee::Role(Role::new("review").unwrap()),
        Assignee::Agent(agent_id("kaede")),
    ];
    let repositories = [
        RepositoryChoice::Named(repository_name("app")),
        RepositoryChoice::Named(repository_name("app")),
        RepositoryChoice::Named(repository_name("site")),
        RepositoryChoice::Named(repository_name("notes")),
        RepositoryChoice::None,
    ];
    TaskSpec {
        needs,
        said: BTreeMap::new(),
        assignee: rng.pick(&assignees).unwrap(),
        work: Work::Prompt(format!("text {}", rng.below(1_000))),
        checks: if rng.chance(300_000) { vec!["make test".to_owned()] } else { Vec::new() },
        no_change: if rng.chance(250_000) { NoChange::Ok } else { NoChange::Refused },
        timeout: rng.chance(300_000).then(|| Duration::from_secs(u64::try_from(rng.between(60, 600)).unwrap())),
        stall: rng.chance(200_000).then(|| Duration::from_secs(u64::try_from(rng.between(150, 600)).unwrap())),
        on_stall: if rng.chance(200_000) { rng.pick(&StallAnswer::ALL) } else { None },
        retry: RetryPolicy {
            limit: u32::try_from(rng.between(0, 3)).unwrap(),
            interval: Duration::from_secs(u64::try_from(rng.between(1, 60)).unwrap()),
            backoff: 2.0,
            max_interval: Duration::from_secs(600),
            limits: BTreeMap::new(),
        },
        priority: Priority::try_from(u8::try_from(rng.between(1, 5)).unwrap()).unwrap(),
        sla: None,
        pools: Vec::new(),
        touches: Vec::new(),
        on_failure: OnFailure::default(),
        every: None,
        stages: None,
        cache: miyabi::model::task::Cache::Off,
        repository: rng.pick(&repositories).unwrap(),
    }
}

pub(super) fn node(id: TaskId, path: &str, spec: TaskSpec) -> TaskNode {
    let place = Place { file: path.into(), line: 1, column: 1, start: 0, end: 0 };
    let needs_places = vec![place.clone(); spec.needs.len()];
    let pools_places = vec![place.clone(); spec.pools.len()];
    TaskNode { id, place, spec, needs_places, pools_places }
}
