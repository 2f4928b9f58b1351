//! Who is begun when: an office in which agents never die, and tasks end when the test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use crate::core::Core;
use crate::core::effect::Effect;
use crate::core::event::{Branches, Event, FileRead, PaneFound, Room};
use crate::core::fact::Fact;
use crate::core::snapshot::TaskState;
use crate::core::state::Durable;
use crate::model::agent::{AgentSpec, DriverKind, Limits, RestartKind, RestartPolicy, StallAnswer};
use crate::model::alert::AlertKind;
use crate::model::beat::{Activity, Beat};
use crate::model::fault::Place;
use crate::model::github::GithubSpec;
use crate::model::id::{AgentId, Incarnation, RepositoryName, Role, RunId, TaskId};
use crate::model::order::WorkOrder;
use crate::model::plan::{
    MergeMode, Plan, RepositorySpec, ResourceLimits, SchedulerSpec, SessionSpec, SpoolLimits, Workflow,
};
use crate::model::report::{FailureKind, Outcome, REPORT_SCHEMA, Report};
use crate::model::request::{Request, RequestId};
use crate::model::size::Size;
use crate::model::stock::{AttemptBranch, Stock};
use crate::model::task::{
    Assignee, Every, FailureClass, Missed, NoChange, OnFailure, PoolSpec, Priority, RepositoryChoice, RetryPolicy,
    TaskFile, TaskNode, TaskSpec, Work,
};
use crate::model::time::Timestamp;
use crate::model::touch::Touch;
use crate::model::watching::WatchFaults;

const FIRST: Incarnation = Incarnation(1);
const YEAR: Duration = Duration::from_hours(24 * 365);
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn agent_spec(id: &str, role: &str) -> AgentSpec {
    AgentSpec {
        id: AgentId::new(id).unwrap(),
        name: id.to_owned(),
        role: Role::new(role).unwrap(),
        labels: BTreeSet::new(),
        driver: DriverKind::Echo,
        command: Vec::new(),
        env: BTreeSet::new(),
        heartbeat: YEAR,
        heartbeat_timeout: YEAR,
        start_timeout: YEAR,
        stop_timeout: YEAR,
        timeout: YEAR,
        stall: YEAR,
        on_stall: StallAnswer::Escalate,
        limits: Limits::default(),
        restart: RestartPolicy {
            policy: RestartKind::Permanent,
            intensity: 5,
            period: YEAR,
            backoff: YEAR,
            backoff_max: YEAR,
            reset_after: YEAR,
        },
    }
}

fn plan(agents: &[(&str, &str)]) -> Plan {
    Plan {
        session: SessionSpec { name: "t".to_owned(), socket: "t".to_owned() },
        agents: agents.iter().map(|(id, role)| agent_spec(id, role)).collect(),
        repositories: vec![RepositorySpec {
            name: app(),
            path: "/app".into(),
            remote: None,
            checks: None,
            merge: MergeMode::Local,
            protected: Vec::new(),
            attempts_max: None,
            github: None,
        }],
        workflow: Workflow::default(),
        resources: ResourceLimits::default(),
        scheduler: SchedulerSpec::default(),
        spool: SpoolLimits::default(),
        alert_command: Vec::new(),
        github: GithubSpec::default(),
        log_days: 7,
        attempt_log_days: 30,
        drain: Duration::from_secs(30),
    }
}

fn app() -> RepositoryName {
    RepositoryName::new("app").unwrap()
}

fn id(name: &str) -> TaskId {
    TaskId::new(format!("f/{name}")).unwrap()
}

/// A task that anybody of the role codegen may do, without a repository.
fn task() -> TaskSpec {
    let role = Assignee::Role(Role::new("codegen").unwrap());
    TaskSpec {
        no_change: NoChange::Ok,
        retry: RetryPolicy { limit: 0, ..RetryPolicy::default() },
        ..TaskSpec::plain(role, Work::Run("true".to_owned()), RepositoryChoice::None)
    }
}

fn with_priority(priority: u8) -> TaskSpec {
    TaskSpec { priority: Priority::try_from(priority).unwrap(), ..task() }
}

fn with_pools(pools: &[&str]) -> TaskSpec {
    TaskSpec { pools: pools.iter().map(|pool| pool.parse().unwrap()).collect(), ..task() }
}

fn touching(pattern: &str) -> TaskSpec {
    TaskSpec { touches: vec![Touch::new(pattern).unwrap()], repository: RepositoryChoice::Named(app()), ..task() }
}

struct Office {
    core: Core,
    now: Timestamp,
    nodes: Vec<TaskNode>,
    pools: BTreeMap<&'static str, u32>,
    /// What is being worked on.
    open: BTreeMap<AgentId, WorkOrder>,
    facts: Vec<Fact>,
    merges: Vec<(TaskId, RunId, u32)>,
    beats: u64,
    /// Why attempts fail.
    failure: FailureKind,
    retry_at: Option<Timestamp>,
}

impl Office {
    fn new(plan: Plan) -> Self {
        let now = Timestamp::from_millis(1_000_000_000);
        let core = Core::restore(plan, Durable::default(), now);
        let mut office = Self {
            core,
            now,
            nodes: Vec::new(),
            pools: BTreeMap::new(),
            open: BTreeMap::new(),
            facts: Vec::new(),
            merges: Vec::new(),
            beats: 0,
            failure: FailureKind::AgentFailed,
            retry_at: None,
        };
        office.bring_up();
        office
    }

    /// Starts the supervisor, which finds the panes of the one before it, and lets every agent come up.
    fn bring_up(&mut self) {
        let agents: Vec<AgentId> = self.core.plan().agents.iter().map(|spec| spec.id.clone()).collect();
        let is_new = self.core.durable().agents.is_empty();
        let found = |agent: &AgentId| PaneFound {
            agent: agent.clone(),
            incarnation: FIRST,
            pane: "%1".to_owned(),
            pid: 1,
            launched: None,
        };
        let panes = if is_new { Vec::new() } else { agents.iter().map(found).collect() };
        self.tell(Event::Started { panes, orders: BTreeMap::new() });
        for agent in agents {
            if is_new {
                let pane = "%1".to_owned();
                self.tell(Event::PaneSpawned { agent: agent.clone(), incarnation: FIRST, pane, pid: 1 });
            }
            self.beats += 1;
            let (at, sequence) = (self.now, self.beats);
            let activity = Activity::Idle;
            let beat = Beat {
                agent,
                incarnation: FIRST,
                pid: 1,
                sequence,
                at,
                activity,
                progress: None,
                watching: WatchFaults::default(),
            };
            self.tell(Event::BeatsSeen(vec![beat]));
        }
    }

    fn tell(&mut self, event: Event) {
        self.core.handle_event(event, self.now);
        self.carry_out();
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "of the effects only those that concern orders matter here")]
    fn carry_out(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::DeliverOrder(order) => {
                    let before = self.open.insert(order.agent.clone(), *order);
                    assert!(before.is_none(), "an agent has two orders");
                }
                Effect::RetireOrder { agent, envelope, .. } => {
                    if self.open.get(&agent).is_some_and(|order| order.id == envelope) {
                        self.open.remove(&agent);
                    }
                    self.core.handle_event(Event::OrderRetired { envelope }, self.now);
                }
                Effect::Merge(merge) => self.merges.push((merge.task, merge.run, merge.attempt)),
                Effect::Record(recorded) => self.facts.push(recorded.fact),
                _ => {}
            }
        }
        assert_eq!(self.core.broken(), None);
    }

    fn wait(&mut self, millis: i64) {
        self.now = Timestamp::from_millis(self.now.as_millis() + millis);
        self.core.handle_timeout(self.now);
        self.carry_out();
    }

    /// Adds tasks to the one file.
    fn add(&mut self, tasks: &[(&str, TaskSpec)]) {
        let place = Place { file: "dag/f.yaml".into(), line: 1, column: 1, start: 0, end: 0 };
        for (name, spec) in tasks {
            self.nodes.push(TaskNode {
                id: id(name),
                place: place.clone(),
                needs_places: vec![place.clone(); spec.needs.len()],
                pools_places: vec![place.clone(); spec.pools.len()],
                spec: spec.clone(),
            });
        }
        let pools = self.pools.iter();
        let pools = pools
            .map(|(pool, slots)| (pool.parse().unwrap(), PoolSpec { slots: *slots, place: place.clone() }))
            .collect();
        let file = TaskFile {
            stem: "f".to_owned(),
            path: "dag/f.yaml".to_owned(),
            pools,
            nodes: self.nodes.clone(),
            issues: Vec::new(),
            refs: BTreeMap::new(),
        };
        let branches = Branches::from([(app(), Ok("main".to_owned()))]);
        self.tell(Event::DagRead { files: vec![FileRead::Good(file)], branches });
    }

    fn working(&self) -> Vec<String> {
        let mut names: Vec<String> = self.open.values().map(|order| order.task.to_string()).collect();
        names.sort();
        names
    }

    fn report(&mut self, agent: &str, outcome: Outcome) -> String {
        let order = self.open.get(&AgentId::new(agent).unwrap()).expect("the agent has an order").clone();
        let in_repository = order.workplace.is_some() && outcome == Outcome::Done;
        let report = Report {
            schema: REPORT_SCHEMA.to_owned(),
            order: order.id,
            task: order.task.clone(),
            run: order.run,
            stage: order.stage.clone(),
            attempt: order.attempt,
            agent: order.agent.clone(),
            incarnation: FIRST,
            outcome,
            failure: (outcome == Outcome::Failed).then_some(self.failure),
            retry_at: self.retry_at,
            summary: "so it went".to_owned(),
            commit: in_repository.then(|| "c0ffee".to_owned()),
            base: in_repository.then(|| "ba5e".to_owned()),
            branch: None,
            checks: Vec::new(),
            output: String::new(),
            diff: String::new(),
            comments: Vec::new(),
            title: None,
            body: None,
            exit_code: Some(0),
            log: None,
            spent: None,
            started_at: self.now,
            ended_at: self.now,
        };
        self.tell(Event::ReportArrived { report: Box::new(report), receipt: "r".to_owned() });
        order.task.to_string()
    }

    fn done(&mut self, agent: &str) -> String {
        self.report(agent, Outcome::Done)
    }

    fn failed(&mut self, agent: &str) -> String {
        self.report(agent, Outcome::Failed)
    }

    fn merged(&mut self) {
        for (task, run, attempt) in std::mem::take(&mut self.merges) {
            let result = crate::core::event::MergeResult::Merged { commit: "c0ffee".to_owned() };
            self.tell(Event::MergeEnded { task, run, attempt, result });
        }
    }

    fn state(&self, name: &str) -> TaskState {
        self.core.task(&id(name)).unwrap().state
    }

    fn why(&self, name: &str) -> String {
        self.core.why(&id(name)).join("; ")
    }

    /// Lets one agent do everything, and tells in which order.
    fn order_of_work(&mut self, agent: &str) -> Vec<String> {
        std::iter::from_fn(|| (!self.open.is_empty()).then(|| self.done(agent))).collect()
    }
}

fn one() -> Office {
    Office::new(plan(&[("kaede", "codegen")]))
}

fn two() -> Office {
    Office::new(plan(&[("kaede", "codegen"), ("momo", "codegen")]))
}

#[test]
fn urgent_tasks_overtake_and_equals_go_by_deadline_then_critical_path_then_acceptance() {
    let mut office = one();
    office.add(&[("now", task())]);
    let due = |minutes: u64| TaskSpec { sla: Some(Duration::from_mins(minutes)), ..task() };
    let needing = |name: &str| TaskSpec { needs: vec![id(name)], ..with_priority(5) };
    office.add(&[
        ("first", task()),
        ("chain", task()),
        ("chain2", needing("chain")),
        ("chain3", needing("chain2")),
        ("late", due(90)),
        ("soon", due(30)),
        ("urgent", with_priority(1)),
        ("lazy", with_priority(5)),
    ]);
    let order = office.order_of_work("kaede");
    let expected = ["now", "urgent", "soon", "late", "chain", "first", "chain2", "chain3", "lazy"];
    assert_eq!(order, expected.map(|name| format!("f/{name}")));
}

#[test]
fn a_lazy_task_is_begun_although_urgent_ones_never_stop_coming() {
    let mut office = one();
    office.add(&[("u0", with_priority(1)), ("lazy", with_priority(5))]);
    let mut began = None;
    for number in 1..=60 {
        // One more urgent task comes for each that is done.
        let name = format!("u{number}");
        office.add(&[(&name, with_priority(1))]);
        office.wait(10 * MINUTE);
        office.done("kaede");
        if office.working() == ["f/lazy"] {
            began = Some(number);
            break;
        }
    }
    // After four hours it counts as urgent as they do, and is older.
    assert_eq!(began, Some(24), "in tens of minutes");
}

#[test]
fn a_task_that_takes_two_things_is_not_starved_by_those_that_take_one() {
    let mut office = two();
    office.pools = BTreeMap::from([("a", 1), ("b", 1)]);
    office.add(&[("a0", with_pools(&["a"])), ("b0", with_pools(&["b"])), ("both", with_pools(&["a", "b"]))]);
    let mut turn = 0;
    while office.working() != ["f/both"] {
        turn += 1;
        assert!(turn < 100, "starved: {}", office.why("both"));
        // Of the two agents always one is at work: `a` and `b` are never free together by chance.
        let agent = if turn % 2 == 0 { "kaede" } else { "momo" };
        let names = [format!("a{turn}"), format!("b{turn}")];
        office.add(&[(&names[0], with_pools(&["a"])), (&names[1], with_pools(&["b"]))]);
        office.wait(10 * MINUTE);
        if office.open.contains_key(&AgentId::new(agent).unwrap()) {
            office.done(agent);
        }
    }
    // It waits for three hours until it is beyond the most urgent priority, then for those who work.
    assert!(turn <= 3 * 6 + 4, "{turn} turns");
}

#[test]
fn slots_come_from_all_files_and_a_task_in_back_off_has_none() {
    let mut office = two();
    office.pools = BTreeMap::from([("llm", 1)]);
    let retry = RetryPolicy { limit: 1, interval: Duration::from_hours(1), ..RetryPolicy::default() };
    office.add(&[("x", TaskSpec { retry, ..with_pools(&["llm"]) }), ("y", with_pools(&["llm"]))]);
    assert_eq!(office.working(), ["f/x"]);
    assert_eq!(office.why("y"), "waits for pool llm: its one slot is taken");
    office.failed("kaede");
    assert_eq!(office.working(), ["f/y"], "the failed task waits for an hour and has no slot");
    assert!(office.why("x").starts_with("waits until "), "{}", office.why("x"));
    office.pools = BTreeMap::from([("llm", 2)]);
    office.add(&[("z", with_pools(&["llm"]))]);
    assert_eq!(office.working(), ["f/y", "f/z"], "a slot more is there at once");
}

#[test]
fn tasks_that_touch_the_same_files_are_apart_until_the_first_is_merged() {
    let mut office = two();
    office.add(&[("api", touching("src/api/**")), ("user", touching("**/user.rs")), ("web", touching("src/web"))]);
    assert_eq!(office.working(), ["f/api", "f/web"]);
    let why = "waits for f/api: its `src/api/**` and this task's `**/user.rs` could be the same file";
    assert!(office.why("user").contains(why), "{}", office.why("user"));
    office.done("kaede");
    assert_eq!(office.working(), ["f/web"], "the work of api is not merged yet");
    assert_eq!(office.merges.len(), 1);
    office.merged();
    assert_eq!(office.working(), ["f/web"], "web could hold a user.rs too");
    office.done("momo");
    office.merged();
    assert_eq!(office.working(), ["f/user"]);
}

#[test]
fn roles_and_repositories_have_their_limits() {
    let mut plan = plan(&[("kaede", "codegen"), ("momo", "codegen"), ("sakura", "review"), ("ume", "review")]);
    plan.scheduler.roles = BTreeMap::from([(Role::new("review").unwrap(), 1)]);
    plan.repositories[0].attempts_max = Some(1);
    let mut office = Office::new(plan);
    let review = TaskSpec { assignee: Assignee::Role(Role::new("review").unwrap()), ..task() };
    let inside = TaskSpec { repository: RepositoryChoice::Named(app()), ..task() };
    office.add(&[("r1", review.clone()), ("r2", review), ("i1", inside.clone()), ("i2", inside)]);
    assert_eq!(office.working(), ["f/i1", "f/r1"]);
    assert_eq!(office.why("r2"), "waits for role review: 1 of its agents work, and no more may at once");
    assert_eq!(office.why("i2"), "waits for repository app: 1 attempts work in it, and no more may");
}

#[test]
fn attempts_are_begun_one_at_a_time_while_most_fail_or_the_machine_is_loaded() {
    let mut office = two();
    let names: Vec<String> = (0..14).map(|number| format!("t{number:02}")).collect();
    let tasks: Vec<(&str, TaskSpec)> = names.iter().map(|name| (name.as_str(), task())).collect();
    office.add(&tasks);
    for _ in 0..4 {
        office.failed("kaede");
        office.failed("momo");
    }
    assert_eq!(office.working().len(), 1, "eight of the last ten tasks have failed");
    assert!(office.core.durable().alerts.contains_key(AlertKind::Failures.as_str()));
    assert!(office.why("t13").contains("8 of the last 10 tasks that were tried have failed"), "{}", office.why("t13"));
    for _ in 0..3 {
        let agent = office.open.keys().next().unwrap().to_string();
        office.done(&agent);
    }
    assert_eq!(office.working().len(), 2, "fewer than eight have");
    assert!(!office.core.durable().alerts.contains_key(AlertKind::Failures.as_str()));

    let room = |load| Event::RoomSeen(Room { disk: Size(1 << 40), memory: Size(1 << 40), load: Some(load) });
    office.tell(room(950));
    office.done("kaede");
    assert_eq!(office.working().len(), 1);
    assert!(office.why("t13").contains("the load of the machine is 9.5 per processor"), "{}", office.why("t13"));
    office.tell(room(100));
    assert_eq!(office.working().len(), 2);
}

/// Each task needs the one before it and the one halfway: there are more ways through the graph than could be gone one by one.
#[test]
fn a_web_of_needs_is_shown_without_going_every_way_through_it() {
    let mut office = one();
    let need = |number: u32| id(&format!("t{number}"));
    let spec = |number: u32| TaskSpec {
        needs: if number > 2 { vec![need(number / 2), need(number - 1)] } else { Vec::new() },
        ..task()
    };
    let names: Vec<String> = (1..=400).map(|number| format!("t{number}")).collect();
    let tasks: Vec<(&str, TaskSpec)> = names.iter().map(String::as_str).zip((1..).map(spec)).collect();
    office.add(&tasks);
    let stuck = |office: &Office| office.core.snapshot(office.now).tasks.iter().filter(|task| task.stuck).count();
    assert_eq!(stuck(&office), 0);
    assert!(!office.core.task(&id("t400")).unwrap().stuck);
    // All but the two that need nothing wait for what fails now, most of them for something that waits for it.
    office.report("kaede", Outcome::Failed);
    assert_eq!(stuck(&office), 398);
    assert!(office.core.task(&id("t400")).unwrap().stuck);
}

/// Returns the branches that are deleted after a look at some, which all have commits from long ago.
fn forgotten(office: &mut Office, branches: &[(String, RunId)]) -> Vec<String> {
    let branch = |(name, run): &(String, RunId)| AttemptBranch {
        name: name.clone(),
        run: *run,
        commit: "c".to_owned(),
        committed: Timestamp::EPOCH,
    };
    let repository = RepositoryName::new("app").unwrap();
    let branches = branches.iter().map(branch).collect();
    office.core.handle_event(Event::BranchesSeen { repository, branches }, office.now);
    let mut found = Vec::new();
    while let Some(effect) = office.core.poll_effect() {
        if let Effect::ForgetBranches { branches, .. } = effect {
            found.extend(branches.into_iter().map(|branch| branch.name));
        }
    }
    found
}

#[test]
fn old_branches_are_given_up_in_turn_but_for_those_of_runs_that_are_not_over() {
    let mut office = one();
    office.now = office.now + Duration::from_hours(24 * 91);
    office.add(&[("a", task())]);
    let running = office.open.values().next().unwrap().run;
    let mut branches = vec![("a-running".to_owned(), running)];
    let other: RunId = "01KAPZ3XZ00000000000000001".parse().unwrap();
    branches.extend((0..300).map(|number| (format!("b{number:03}"), other)));
    let first = forgotten(&mut office, &branches);
    assert_eq!((first.len(), first[0].as_str(), first[199].as_str()), (200, "b000", "b199"));
    let second = forgotten(&mut office, &branches);
    assert_eq!((second[0].as_str(), second[99].as_str(), second[100].as_str()), ("b200", "b299", "b000"));
    assert!(!first.iter().chain(&second).any(|name| name == "a-running"), "its run is not over");
}

#[test]
fn nothing_new_is_begun_while_worktrees_take_more_than_they_may() {
    let mut office = one();
    let stock = |gib: u64| Event::StockSeen(Stock { worktrees: Size(gib << 30), logs: Vec::new() });
    office.tell(stock(101));
    office.add(&[("a", task())]);
    assert_eq!(office.working(), Vec::<String>::new());
    let why = "the worktrees of attempts take 101 GiB, and may take 100 GiB (`worktrees_max`); it goes on at 90";
    assert!(office.why("a").contains(why), "{}", office.why("a"));
    let kind = AlertKind::WorktreesFull.as_str();
    assert!(office.core.durable().alerts.contains_key(kind));
    office.tell(stock(95));
    assert_eq!(office.working(), Vec::<String>::new(), "it does not go on and off at the bound");
    office.tell(stock(80));
    assert_eq!(office.working(), ["f/a"]);
    assert!(!office.core.durable().alerts.contains_key(kind));
}

#[test]
fn a_failed_task_goes_to_another_agent_also_if_that_one_is_busy() {
    let mut office = two();
    let retry = RetryPolicy { limit: 3, interval: Duration::ZERO, ..RetryPolicy::default() };
    office.add(&[("hard", TaskSpec { retry, ..task() }), ("long", task())]);
    office.failed("kaede");
    office.wait(1);
    assert_eq!(office.working(), ["f/long"], "kaede failed at it, and momo will be free one day");
    let why = "waits for another agent of role codegen than kaede, which failed at it last";
    assert!(office.why("hard").contains(why), "{}", office.why("hard"));
    office.done("momo");
    assert_eq!(office.working(), ["f/hard"]);
    assert!(office.open.contains_key(&AgentId::new("momo").unwrap()));
}

#[test]
fn a_failed_task_goes_to_the_same_agent_when_there_is_no_other() {
    let mut office = one();
    let retry = RetryPolicy { limit: 3, interval: Duration::ZERO, ..RetryPolicy::default() };
    office.add(&[("hard", TaskSpec { retry, ..task() })]);
    office.failed("kaede");
    office.wait(1);
    assert_eq!(office.working(), ["f/hard"]);
}

#[test]
fn what_a_failure_means_for_others_is_said_by_on_failure() {
    let mut office = one();
    let after = |name: &str| TaskSpec { needs: vec![id(name)], ..task() };
    let failing = |on_failure| TaskSpec { on_failure, ..with_priority(1) };
    office.add(&[
        ("skip", failing(OnFailure::SkipDownstream)),
        ("skipped", after("skip")),
        ("continue", failing(OnFailure::Continue)),
        ("continued", after("continue")),
    ]);
    office.failed("kaede");
    office.failed("kaede");
    assert_eq!(office.working(), ["f/continued"]);
    assert_eq!(office.why("skipped"), "is skipped: it needs f/skip, which is dead (dag/f.yaml:1:1)");
    office.done("kaede");

    office.add(&[("pause", failing(OnFailure::Pause)), ("other", task())]);
    office.failed("kaede");
    assert_eq!(office.working(), [""; 0]);
    assert!(office.why("other").contains("its file is paused because f/pause failed"), "{}", office.why("other"));
    assert!(office.core.task(&id("other")).unwrap().stuck);
    let request = Request::TaskCancel { task: id("pause") };
    office.tell(Event::Asked { id: RequestId(1), request, branches: Branches::new() });
    assert_eq!(office.working(), ["f/other"]);
}

#[test]
fn a_late_run_raises_an_alert_and_goes_on() {
    let mut office = one();
    office.add(&[("slow", TaskSpec { sla: Some(Duration::from_hours(1)), ..task() })]);
    office.wait(HOUR - 1);
    assert!(!office.facts.iter().any(|fact| matches!(fact, Fact::SlaMissed { .. })));
    office.wait(1);
    assert!(office.facts.iter().any(|fact| matches!(fact, Fact::SlaMissed { .. })));
    assert!(office.core.durable().alerts.contains_key("sla-missed/f/slow"));
    office.done("kaede");
    assert_eq!(office.state("slow"), TaskState::Done);
    assert!(office.core.durable().alerts.is_empty());
}

#[test]
fn each_kind_of_failure_is_counted_by_itself_if_the_policy_says_so() {
    let mut office = one();
    let limits = BTreeMap::from([(FailureClass::Check, 2), (FailureClass::Refused, 0)]);
    let retry = RetryPolicy { limit: 1, interval: Duration::ZERO, limits, ..RetryPolicy::default() };
    office.add(&[("hard", TaskSpec { retry: retry.clone(), ..task() }), ("no", TaskSpec { retry, ..task() })]);
    let mut fail = |failure: FailureKind| {
        office.failure = failure;
        office.failed("kaede");
        office.wait(1);
        (office.state("hard"), office.state("no"))
    };
    assert_eq!(fail(FailureKind::CheckFailed).0, TaskState::Queued, "the first of two failed checks that may be");
    assert_eq!(fail(FailureKind::AgentFailed).0, TaskState::Queued, "the one other failure that may be");
    assert_eq!(fail(FailureKind::CheckFailed).0, TaskState::Queued, "the second");
    assert_eq!(fail(FailureKind::CheckFailed).0, TaskState::Dead, "there may be no third");
    assert_eq!(fail(FailureKind::Refused).1, TaskState::Dead, "who refuses is not asked again");
}

#[test]
fn a_usage_limit_is_waited_for_until_the_agent_says() {
    let mut office = one();
    office.add(&[("later", TaskSpec { retry: RetryPolicy::default(), ..task() })]);
    office.failure = FailureKind::Limited;
    office.retry_at = Some(office.now + Duration::from_hours(5));
    office.failed("kaede");
    office.wait(5 * HOUR - 1);
    assert_eq!(office.working(), [""; 0]);
    assert!(!office.core.is_failing(), "nothing is known to be wrong");
    office.wait(1);
    assert_eq!(office.working(), ["f/later"]);
}

#[test]
fn a_task_that_comes_again_runs_at_its_times_also_across_a_restart() {
    let mut office = one();
    // The clock of the office begins on 1970-01-12 at 13:46:40.
    let every = |missed| Some(Every { cron: "0 * * * *".to_owned(), zone: "UTC".to_owned(), missed });
    office.add(&[("hourly", TaskSpec { every: every(Missed::Once), ..task() })]);
    assert_eq!(office.working(), [""; 0], "it waits for its time");
    assert!(
        office.why("hourly").contains("its next run begins at 1970-01-12T14:00:00.000Z"),
        "{}",
        office.why("hourly")
    );
    office.wait(13 * MINUTE + 20_000);
    assert_eq!(office.working(), ["f/hourly"]);
    office.done("kaede");
    assert_eq!(office.state("hourly"), TaskState::Done);
    office.wait(HOUR);
    assert_eq!(office.working(), ["f/hourly"]);
    office.done("kaede");

    // Nobody is there for five hours: one run stands for all that were missed.
    office.now = office.now + Duration::from_hours(5);
    let again = Core::restore(office.core.plan().clone(), office.core.durable().clone(), office.now);
    let before = office.facts.len();
    office.core = again;
    office.bring_up();
    assert_eq!(office.working(), ["f/hourly"]);
    office.done("kaede");
    assert_eq!(office.working(), [""; 0]);
    let runs = office.facts[before..].iter().filter(|fact| matches!(fact, Fact::RunScheduled { .. })).count();
    assert_eq!(runs, 1);
    // Who asks for it gets it at once.
    let request = Request::TaskRetry { task: id("hourly"), no_cache: false };
    office.tell(Event::Asked { id: RequestId(1), request, branches: Branches::new() });
    assert_eq!(office.working(), ["f/hourly"]);
}

#[test]
fn the_healer_is_asked_once_about_a_task_that_has_failed_for_good() {
    let mut plan = plan(&[("kaede", "codegen"), ("sakura", "review")]);
    plan.workflow.healer = Some(Role::new("review").unwrap());
    let mut office = Office::new(plan);
    let retry = RetryPolicy { limit: 1, interval: Duration::ZERO, ..RetryPolicy::default() };
    office.add(&[("hard", TaskSpec { retry, ..task() })]);
    office.failed("kaede");
    office.wait(1);
    assert_eq!(office.working(), ["f/hard"], "there is another attempt");
    office.failed("kaede");
    let order = office.open.get(&AgentId::new("sakura").unwrap()).expect("the healer is asked").clone();
    let Work::Prompt(prompt) = &order.work else { panic!("a question") };
    assert!(prompt.contains("The task f/hard has failed for good after 2 attempts"), "{prompt}");
    assert!(prompt.contains("attempt 2 by kaede: failed: so it went (log: -)"), "{prompt}");
    assert!(office.why("hard").contains("is asked to find out why"), "{}", office.why("hard"));
    office.done("sakura");
    assert!(office.why("hard").contains("found out: so it went"), "{}", office.why("hard"));
    assert_eq!(office.working(), [""; 0], "it is asked once");
}

#[test]
fn nobody_is_asked_about_the_healers_own_failures() {
    let mut plan = plan(&[("kaede", "codegen"), ("sakura", "review")]);
    plan.workflow.healer = Some(Role::new("review").unwrap());
    let mut office = Office::new(plan);
    office.add(&[("hard", task())]);
    office.failed("kaede");
    for _ in 0..10 {
        if office.open.is_empty() {
            break;
        }
        office.failed("sakura");
        office.wait(HOUR);
    }
    assert_eq!(office.working(), [""; 0]);
    assert_eq!(office.core.durable().tasks.len(), 2);
}

/// What the tasks of a made-up office take.
fn any_task() -> impl Strategy<Value = TaskSpec> {
    let pools = prop::sample::subsequence(vec!["a", "b", "c"], 0..3);
    let touches = prop::sample::subsequence(vec!["src", "src/x/*", "**/y", "docs"], 0..2);
    (pools, touches, 1..6_u8, 0..3_u32).prop_map(|(pools, touches, priority, limit)| TaskSpec {
        touches: touches.into_iter().map(|touch| Touch::new(touch).unwrap()).collect(),
        repository: RepositoryChoice::Named(app()),
        priority: Priority::try_from(priority).unwrap(),
        retry: RetryPolicy { limit, interval: Duration::from_secs(30), ..RetryPolicy::default() },
        ..with_pools(&pools)
    })
}

fn takes_the_same(a: &TaskSpec, b: &TaskSpec) -> bool {
    a.touches.iter().any(|mine| b.touches.iter().any(|other| mine.overlaps(other)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Whatever tasks take and however they end: nothing is taken twice, nobody idles while something could be begun, and
    /// all work ends, so no deadlock can have formed.
    #[test]
    fn all_work_ends_and_nothing_is_taken_twice(
        tasks in prop::collection::vec((any_task(), prop::collection::vec(0..40_usize, 0..3)), 1..40),
        ends in prop::collection::vec((0..3_usize, 0..10_u8, 0..30_i64), 400),
    ) {
        let mut office = Office::new(plan(&[("kaede", "codegen"), ("momo", "codegen"), ("ume", "codegen")]));
        office.pools = BTreeMap::from([("a", 1), ("b", 1), ("c", 2)]);
        let names: Vec<String> = (0..tasks.len()).map(|number| format!("t{number}")).collect();
        let specs: Vec<(&str, TaskSpec)> = tasks.iter().enumerate().map(|(number, (spec, needs))| {
            let mut needs: Vec<TaskId> =
                needs.iter().filter(|need| **need < number).map(|need| id(&names[*need])).collect();
            needs.sort();
            needs.dedup();
            (names[number].as_str(), TaskSpec { needs, on_failure: OnFailure::Continue, ..spec.clone() })
        }).collect();
        office.add(&specs);
        let slots = office.pools.clone();
        for (who, how, after) in ends {
            let working: Vec<TaskSpec> = office.open.values()
                .map(|order| office.core.task_record(&order.task).unwrap().spec.clone()).collect();
            for (pool, most) in &slots {
                let taken = working.iter().filter(|spec| spec.pools.iter().any(|name| name.as_str() == *pool)).count();
                prop_assert!(taken <= usize::try_from(*most).unwrap(), "pool {} is taken {} times", pool, taken);
            }
            for (at, spec) in working.iter().enumerate() {
                prop_assert!(working.iter().skip(at + 1).all(|other| !takes_the_same(spec, other)));
            }
            let open: Vec<String> = office.open.keys().map(ToString::to_string).collect();
            if let Some(agent) = open.get(who % open.len().max(1)) {
                let outcome = if how < 3 { Outcome::Failed } else { Outcome::Done };
                office.report(agent, outcome);
            }
            if how % 2 == 0 || open.is_empty() {
                office.merged();
            }
            office.wait(after * 1_000);
        }
        for _ in 0..400 {
            if let Some(agent) = office.open.keys().next().map(ToString::to_string) {
                office.done(&agent);
            }
            office.merged();
            office.wait(MINUTE);
        }
        for (name, _) in &specs {
            let state = office.state(name);
            prop_assert!(state.is_settled(), "{} is {} in the end: {}", name, state.as_str(), office.why(name));
        }
        let restored = Core::restore(office.core.plan().clone(), office.core.durable().clone(), office.now);
        prop_assert_eq!(restored.durable(), office.core.durable());
    }
}
