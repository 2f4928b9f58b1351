//! Needs from all sources at once: dependency files, blocked-by, sub-issues and the texts of issues, in a world in which people
//! change all of it while agents work, GitHub answers late or not at all, and the supervisor dies.
//!
//! The oracle is the truth of this world; the core knows only what it was told. What people have just changed cannot be known
//! yet, so a rule is checked only where nothing was changed for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use miyabi::config;
use miyabi::core::Core;
use miyabi::core::effect::Effect;
use miyabi::core::event::{Branches, Event, FileRead, MergeResult, OrderPlace, PaneFound};
use miyabi::core::fact::{Fact, Recorded};
use miyabi::core::github::{GithubEffect, GithubEvent};
use miyabi::core::state::{Durable, Phase};
use miyabi::model::alert::AlertKind;
use miyabi::model::beat::{Activity, Beat};
use miyabi::model::github::{
    Association, Found, Issue, IssueRef, Reach, Trouble, Write, Written, foreign_task, task_of,
};
use miyabi::model::id::{AgentId, Incarnation, TaskId};
use miyabi::model::order::WorkOrder;
use miyabi::model::plan::Plan;
use miyabi::model::report::{Outcome, Report};
use miyabi::model::time::Timestamp;
use miyabi::model::watching::WatchFaults;

use super::world::{HOUR, MINUTE, SECOND};
use crate::reports::report_on;
use crate::rng::Rng;

const TEAM: &str = r#"
agent = [
    { id = "kaede", role = "codegen", driver = "echo" },
]
repository = [
    { path = "app", github = "octo/app" },
    { path = "site", github = "octo/site" },
]
[github]
poll = "1m"
reconcile = "5m"
body_depends = true
claim = "none"
"#;

const DAWN: i64 = 1_800_000_000_000;
const FIRST: Incarnation = Incarnation(1);
const YEAR: Duration = Duration::from_hours(24 * 365);

/// How long people go on changing things.
const BUSY: i64 = 3 * HOUR;

/// How long everything then has to come to rest.
const CALM: i64 = 3 * HOUR;

/// Until when the core may not know of a change: the bound of its knowledge, and the longest ways of questions and answers.
const UNKNOWN: i64 = MINUTE + 45 * SECOND;

/// An issue as it is.
#[derive(Debug, Clone, Default)]
struct Truth {
    open: bool,
    labelled: bool,
    blocked_by: BTreeSet<IssueRef>,
    subs: BTreeSet<IssueRef>,
    body: BTreeSet<IssueRef>,
    /// When its text, state or labels were changed: that alone tells GitHub's lists.
    updated: i64,
    /// When anything about it was changed.
    changed: i64,
}

/// What the file says of an issue.
#[derive(Debug, Clone, Default)]
struct Said {
    needs: BTreeSet<IssueRef>,
    external: bool,
    closed: bool,
}

#[derive(Debug)]
enum Happening {
    Answer(u64, Box<GithubEffect>),
    Reports(AgentId),
    Merges(Box<miyabi::core::effect::Merge>),
    People,
    Death,
}

struct World {
    rng: Rng,
    t: i64,
    plan: Plan,
    core: Core,
    life: u64,
    facts: Vec<String>,
    shadow: Durable,
    queue: BTreeMap<(i64, u64), Happening>,
    serial: u64,
    beats: u64,
    open: BTreeMap<AgentId, WorkOrder>,
    truth: BTreeMap<IssueRef, Truth>,
    file: BTreeMap<IssueRef, Said>,
    /// The issues that each task of the file needs.
    tasks: BTreeMap<String, BTreeSet<IssueRef>>,
    /// The version of the file that is in force, when it was saved, and whether the newest one was taken.
    in_force: (BTreeMap<IssueRef, Said>, BTreeMap<String, BTreeSet<IssueRef>>),
    saved: i64,
    begun: usize,
    circles: usize,
    violation: Option<String>,
    trace: Vec<String>,
}

fn issue(text: &str) -> IssueRef {
    let (slug, number) = text.split_once('#').unwrap();
    IssueRef { slug: slug.parse().unwrap(), number: number.parse().unwrap() }
}

fn id_of(issue: &IssueRef) -> TaskId {
    match issue.slug.as_str().strip_prefix("octo/") {
        Some(name) => task_of(&name.parse().unwrap(), issue.number).unwrap(),
        None => foreign_task(issue).unwrap(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut plan = config::agents::parse("agents.toml", TEAM, Path::new("/sim")).unwrap();
        for agent in &mut plan.agents {
            (agent.heartbeat, agent.heartbeat_timeout, agent.timeout, agent.stall) = (YEAR, YEAR, YEAR, YEAR);
            agent.start_timeout = YEAR;
        }
        let all = (1..=6).map(|n| format!("octo/app#{n}")).chain((1..=3).map(|n| format!("octo/site#{n}")));
        let all = all.chain((1..=2).map(|n| format!("other/lib#{n}")));
        let truth = all
            .map(|text| (issue(&text), Truth { open: true, updated: DAWN, changed: DAWN, ..Truth::default() }))
            .collect();
        let now = Timestamp::from_millis(DAWN);
        let core = Core::restore(plan.clone(), Durable::default(), now);
        let mut world = Self {
            rng: Rng::new(seed ^ 0x6a11),
            t: DAWN,
            plan,
            core,
            life: 1,
            facts: Vec::new(),
            shadow: Durable::default(),
            queue: BTreeMap::new(),
            serial: 0,
            beats: 0,
            open: BTreeMap::new(),
            truth,
            file: BTreeMap::new(),
            tasks: (1..=3).map(|n| (format!("t{n}"), BTreeSet::new())).collect(),
            in_force: Default::default(),
            saved: DAWN,
            begun: 0,
            circles: 0,
            violation: None,
            trace: Vec::new(),
        };
        for lib in ["other/lib#1", "other/lib#2"] {
            world.file.insert(issue(lib), Said { external: true, ..Said::default() });
        }
        for _ in 0..12 {
            world.change();
        }
        world.start();
        world.soon(10 * SECOND, Happening::People);
        world.soon(20 * MINUTE, Happening::Death);
        world
    }

    fn soon(&mut self, after: i64, happening: Happening) {
        self.serial += 1;
        self.queue.insert((self.t + after, self.serial), happening);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.t)
    }

    fn tell(&mut self, event: Event) {
        self.core.handle_event(event, self.now());
        self.carry_out();
    }

    /// A supervisor begins, with what was recorded.
    fn start(&mut self) {
        let agents: Vec<AgentId> = self.plan.agents.iter().map(|spec| spec.id.clone()).collect();
        let is_new = self.facts.is_empty();
        let found = |agent: &AgentId| {
            let (agent, pane) = (agent.clone(), "%1".to_owned());
            PaneFound { agent, incarnation: FIRST, pane, pid: 1, launched: None }
        };
        let panes = if is_new { Vec::new() } else { agents.iter().map(found).collect() };
        let orders = self.open.values().map(|order| (order.id, OrderPlace::Leased(FIRST))).collect();
        self.tell(Event::Started { panes, orders });
        for agent in agents {
            if is_new {
                let pane = "%1".to_owned();
                self.tell(Event::PaneSpawned { agent: agent.clone(), incarnation: FIRST, pane, pid: 1 });
            }
            self.beats += 1;
            let (at, sequence, activity) = (self.now(), self.beats, Activity::Idle);
            let watching = WatchFaults::default();
            let beat = Beat { agent, incarnation: FIRST, pid: 1, sequence, at, activity, progress: None, watching };
            self.tell(Event::BeatsSeen(vec![beat]));
        }
        self.read_file();
    }

    fn die(&mut self) {
        self.trace.push(format!("{}: the supervisor dies", self.t - DAWN));
        self.life += 1;
        let mut durable = Durable::default();
        for text in &self.facts {
            let recorded: Recorded = serde_json::from_str(text).unwrap();
            durable.apply(&recorded).expect("what was recorded fits");
        }
        self.core = Core::restore(self.plan.clone(), durable, self.now());
        self.start();
    }

    /// Writes the file as a person would, with every way to name an issue.
    fn text(&self) -> String {
        let named = |issue: &IssueRef| match issue.slug.as_str() {
            "octo/app" if issue.number.is_multiple_of(2) => issue.number.to_string(),
            "octo/site" => format!("site#{}", issue.number),
            _ => format!("\"{issue}\""),
        };
        let list = |needs: &BTreeSet<IssueRef>| needs.iter().map(&named).collect::<Vec<_>>().join(", ");
        let mut text = "repo: app\nissues:\n".to_owned();
        for (issue, said) in &self.file {
            let what = match (said.external, said.closed) {
                (true, _) => "external: true".to_owned(),
                (false, true) => format!("needs: [{}], resolved_when: closed", list(&said.needs)),
                (false, false) => format!("needs: [{}]", list(&said.needs)),
            };
            text.push_str(&format!("  {}: {{{what}}}\n", named(issue)));
        }
        text.push_str("tasks:\n");
        for (task, needs) in &self.tasks {
            text.push_str(&format!("  {task}: {{run: make, no_change: ok, needs: [{}]}}\n", list(needs)));
        }
        text
    }

    fn read_file(&mut self) {
        let file = match config::dag::parse("dag/plan.yaml", &self.text(), &self.plan) {
            Ok(file) => FileRead::Good(file),
            // An issue that needs itself, for one.
            Err(faults) => FileRead::Bad { stem: "plan".to_owned(), faults },
        };
        let branches = ["app", "site"].map(|name| (name.parse().unwrap(), Ok("main".to_owned())));
        self.tell(Event::DagRead { files: vec![file], branches: Branches::from(branches) });
        if self.core.snapshot(self.now()).faults.is_empty() {
            self.in_force = (self.file.clone(), self.tasks.clone());
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "of the effects only those on orders and GitHub matter here")]
    fn carry_out(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::DeliverOrder(order) => {
                    // One agent for all: what is ready waits for it, and meanwhile people go on.
                    let after = self.rng.between(60, 900) * SECOND;
                    if self.open.insert(order.agent.clone(), (*order).clone()).is_none() {
                        self.soon(after, Happening::Reports(order.agent));
                    }
                }
                Effect::RetireOrder { agent, envelope, .. } => {
                    if self.open.get(&agent).is_some_and(|order| order.id == envelope) {
                        self.open.remove(&agent);
                        self.queue.retain(|_, it| !matches!(it, Happening::Reports(of) if *of == agent));
                    }
                    self.core.handle_event(Event::OrderRetired { envelope }, self.now());
                }
                Effect::Merge(merge) => {
                    let after = self.rng.between(1, 20) * SECOND;
                    self.soon(after, Happening::Merges(Box::new(merge)));
                }
                Effect::Github(effect) => {
                    let after = self.rng.between(0, 15) * SECOND;
                    self.soon(after, Happening::Answer(self.life, effect));
                }
                Effect::Record(recorded) => self.record(&recorded),
                _ => {}
            }
        }
        assert_eq!(self.core.broken(), None);
    }

    fn record(&mut self, recorded: &Recorded) {
        let text = serde_json::to_string(recorded).unwrap();
        let read: Recorded = serde_json::from_str(&text).unwrap();
        self.trace.push(format!("{}: {}", self.t - DAWN, read.fact.tell().text));
        if let Fact::AttemptQueued { task, .. } = &read.fact {
            self.begun += 1;
            let told = self.begun_wrongly(task);
            self.violation = self.violation.take().or(told.map(|why| format!("{task} is begun, and {why}")));
        }
        if let Fact::AlertRaised { alert } = &read.fact
            && alert.kind == AlertKind::Circle
        {
            self.circles += 1;
        }
        self.shadow.apply(&read).expect("what was recorded fits");
        self.facts.push(text);
    }

    /// What an issue needs in truth, and who says so.
    fn needs_of(&self, issue: &IssueRef) -> Vec<(IssueRef, &'static str)> {
        let truth = &self.truth[issue];
        let is_open = |other: &&IssueRef| self.truth[*other].open;
        let mut needs: Vec<(IssueRef, &'static str)> = Vec::new();
        needs.extend(truth.blocked_by.iter().filter(is_open).map(|it| (it.clone(), "blocked by")));
        needs.extend(truth.subs.iter().filter(is_open).map(|it| (it.clone(), "sub-issue")));
        needs.extend(truth.body.iter().map(|it| (it.clone(), "the text of the issue")));
        let said = self.in_force.0.get(issue).into_iter().flat_map(|said| &said.needs);
        needs.extend(said.map(|it| (it.clone(), "dag/plan.yaml:")));
        needs.retain(|(need, _)| need != issue);
        needs
    }

    /// Says whether an issue holds nobody up, by the truth and by what was recorded of work.
    fn is_resolved(&self, issue: &IssueRef) -> bool {
        let closed = !self.truth[issue].open;
        let said = self.in_force.0.get(issue);
        if said.is_some_and(|said| said.external || said.closed) {
            return closed;
        }
        match self.shadow.tasks.get(&id_of(issue)).map(|record| &record.phase) {
            None | Some(Phase::Cancelled { .. } | Phase::Failed { .. }) => closed,
            Some(phase) => matches!(phase, Phase::Done { .. }),
        }
    }

    fn is_settled_since(&self, issue: &IssueRef) -> bool {
        self.truth[issue].changed < self.t - UNKNOWN
    }

    /// Finds a reason for which a task must not have been begun.
    fn begun_wrongly(&self, task: &TaskId) -> Option<String> {
        if self.saved >= self.t - UNKNOWN {
            return None;
        }
        let own = self.truth.keys().find(|issue| id_of(issue) == *task);
        let needs: Vec<(IssueRef, &'static str)> = match own {
            Some(own) => {
                if !self.is_settled_since(own) {
                    return None;
                }
                let listed = self.in_force.0.get(own);
                if !self.truth[own].open {
                    return Some("its issue is closed".to_owned());
                }
                if listed.map_or(!self.truth[own].labelled, |said| said.external) {
                    return Some("nobody wants it".to_owned());
                }
                self.needs_of(own)
            }
            None => {
                let name = task.as_str().strip_prefix("plan/")?;
                self.in_force.1.get(name)?.iter().map(|need| (need.clone(), "dag/plan.yaml:")).collect()
            }
        };
        needs
            .into_iter()
            .find(|(need, _)| self.is_settled_since(need) && !self.is_resolved(need))
            .map(|(need, source)| format!("it needs {need} ({source})"))
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Answer(life, effect) if life == self.life => self.answer(*effect),
            Happening::Answer(..) => {}
            Happening::Reports(agent) => self.report(&agent),
            Happening::Merges(merge) => {
                let result = MergeResult::Merged { commit: format!("c{}", self.serial) };
                let (task, run, attempt) = (merge.task, merge.run, merge.attempt);
                self.tell(Event::MergeEnded { task, run, attempt, result });
            }
            Happening::People => {
                self.change();
                if self.saved == self.t {
                    self.read_file();
                }
                if self.t < DAWN + BUSY {
                    let after = self.rng.between(5, 240) * SECOND;
                    self.soon(after, Happening::People);
                }
            }
            Happening::Death => {
                self.die();
                if self.t < DAWN + BUSY {
                    let after = self.rng.between(2, 60) * MINUTE;
                    self.soon(after, Happening::Death);
                }
            }
        }
    }

    fn report(&mut self, agent: &AgentId) {
        let Some(order) = self.open.get(agent).cloned() else { return };
        let in_repository = order.workplace.is_some() && order.task.as_str().contains("issue-");
        let outcome = if in_repository { Outcome::Done } else { Outcome::NoChange };
        let report = Report {
            commit: in_repository.then(|| "c0ffee".to_owned()),
            base: in_repository.then(|| "ba5e".to_owned()),
            ..report_on(&order, FIRST, outcome, self.now())
        };
        self.tell(Event::ReportArrived { report: Box::new(report), receipt: "r".to_owned() });
    }

    /// What GitHub tells of an issue, closely or as a list does.
    fn told(&self, of: &IssueRef, closely: bool) -> Issue {
        let truth = &self.truth[of];
        let body: Vec<String> = truth.body.iter().map(|need| format!("Depends on {need}")).collect();
        let open = |list: &BTreeSet<IssueRef>| {
            list.iter().filter(|it| closely && truth.open && self.truth[*it].open).cloned().collect()
        };
        Issue {
            number: of.number,
            title: "Say hello".to_owned(),
            body: body.join("\n"),
            open: truth.open,
            labels: if truth.labelled { vec!["auto-code".to_owned()] } else { Vec::new() },
            author: "alice".to_owned(),
            association: Association::Owner,
            labelled_by: None,
            blocked_by: open(&truth.blocked_by),
            sub_issues: open(&truth.subs),
            merged: false,
            updated_at: Timestamp::from_millis(truth.updated).to_string(),
        }
    }

    fn answer(&mut self, effect: GithubEffect) {
        let fails = self.rng.chance(if self.t < DAWN + BUSY { 80_000 } else { 0 });
        let trouble = || Trouble::Unsure { reason: "no answer".to_owned() };
        let event = match effect {
            GithubEffect::Discover { repository, what } => {
                let of_it = self.truth.iter().filter(|(issue, _)| issue.slug == what.slug);
                let issues = of_it
                    .filter(|(_, truth)| match &what.reach {
                        Reach::All => truth.open && truth.labelled,
                        Reach::These(_) => false,
                        Reach::Since(since) => Timestamp::from_millis(truth.updated).to_string() >= *since,
                    })
                    .map(|(issue, truth)| self.told(issue, truth.labelled || what.listed.contains(&issue.number)))
                    .collect();
                let since = Timestamp::from_millis(self.t - MINUTE).to_string();
                let found = Found { issues, comments: Vec::new(), pulls: Vec::new(), reviews: Vec::new(), since };
                let found = if fails { Err(trouble()) } else { Ok(Box::new(found)) };
                GithubEvent::Discovered { repository, asked: what.asked, found, quota: None }
            }
            GithubEffect::Watch { what } => {
                let one = |one: &miyabi::model::github::WatchOne| {
                    let told = if fails { Err(trouble()) } else { Ok(Box::new(self.told(&one.issue, one.closely))) };
                    (one.issue.clone(), told)
                };
                GithubEvent::Watched { asked: what.asked, found: what.issues.iter().map(one).collect(), quota: None }
            }
            GithubEffect::Write { task, write, .. } => {
                let kind = write.kind();
                let written = match write {
                    Write::Comment { known, .. } => Ok(Written::Commented(known.unwrap_or(self.serial))),
                    Write::Status { .. } => Ok(Written::StatusSet),
                    Write::Claim { .. } | Write::Withdraw { .. } | Write::Label(_) => panic!("there is one orchestra"),
                    Write::Publish(_) => Err(Trouble::Stopped { reason: "nothing is published".to_owned() }),
                };
                GithubEvent::Written { task, kind, written, quota: None }
            }
            GithubEffect::LookAtClaims { .. } => panic!("there is one orchestra"),
            GithubEffect::CatchUp { task, .. } => GithubEvent::CaughtUp { task, result: Err("never".to_owned()) },
            GithubEffect::Settle { .. } | GithubEffect::LookAt { .. } => panic!("nobody has sent a webhook"),
        };
        self.tell(Event::Github(Box::new(event)));
    }

    /// Somebody changes something, on GitHub or in the file.
    fn change(&mut self) {
        let all: Vec<IssueRef> = self.truth.keys().cloned().collect();
        let (one, other) = (self.rng.pick(&all).unwrap(), self.rng.pick(&all).unwrap());
        let is_ours = one.slug.as_str().starts_with("octo/");
        let what = self.rng.below(14);
        if what >= 12 {
            return self.say_the_opposite();
        }
        self.trace.push(format!("{}: people do {what} to {one} with {other}", self.t - DAWN));
        let t = self.t;
        let truth = self.truth.get_mut(&one).unwrap();
        let toggle = |set: &mut BTreeSet<IssueRef>| {
            if !set.remove(&other) {
                set.insert(other.clone());
            }
        };
        match what {
            // A new blocker does not touch the issue that it blocks.
            0 | 1 if is_ours => toggle(&mut truth.blocked_by),
            2 if is_ours => toggle(&mut truth.subs),
            3 if is_ours => {
                toggle(&mut truth.body);
                truth.updated = t;
            }
            4..=6 => {
                truth.open = !truth.open || self.rng.chance(300_000);
                truth.updated = t;
            }
            7 | 8 if is_ours => {
                truth.labelled = !truth.labelled;
                truth.updated = t;
            }
            9 if is_ours => {
                if self.file.remove(&one).is_none() {
                    self.file.insert(one.clone(), Said::default());
                }
                self.saved = t;
            }
            10 if is_ours && self.file.contains_key(&one) => {
                let chance = self.rng.below(4);
                if let Some(said) = self.file.get_mut(&one) {
                    match chance {
                        0 => *said = Said { external: !said.external, ..Said::default() },
                        1 => said.closed = !said.closed && !said.external,
                        _ if !said.external => toggle(&mut said.needs),
                        _ => {}
                    }
                }
                self.saved = t;
            }
            _ => {
                let names: Vec<String> = self.tasks.keys().cloned().collect();
                let name = self.rng.pick(&names).unwrap();
                toggle(self.tasks.get_mut(&name).unwrap());
                self.saved = t;
            }
        }
        self.truth.get_mut(&one).unwrap().changed = t;
    }

    /// Somebody makes an issue wait for one that waits for it, without knowing: a circle, unless another source takes it back.
    fn say_the_opposite(&mut self) {
        let is_ours = |issue: &IssueRef| issue.slug.as_str().starts_with("octo/") && self.truth[issue].open;
        let ours = self.truth.keys().filter(|issue| is_ours(issue));
        let pairs: Vec<(IssueRef, IssueRef)> = ours
            .flat_map(|issue| self.needs_of(issue).into_iter().map(|(need, _)| (issue.clone(), need)))
            .filter(|(_, need)| is_ours(need))
            .collect();
        let Some((issue, need)) = self.rng.pick(&pairs) else { return };
        self.trace.push(format!("{}: people block {need} by {issue}", self.t - DAWN));
        let truth = self.truth.get_mut(&need).unwrap();
        truth.blocked_by.insert(issue);
        truth.changed = self.t;
    }

    fn run(&mut self) -> Result<(), String> {
        let end = DAWN + BUSY + CALM;
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wake = self.core.poll_timeout().map(|(at, _)| at.as_millis().max(self.t));
            let at = next.into_iter().chain(wake).min().unwrap_or(end);
            if at >= end {
                break;
            }
            self.t = self.t.max(at);
            if next.is_some_and(|next| next <= at) {
                let (_, happening) = self.queue.pop_first().unwrap();
                self.happen(happening);
            } else {
                self.core.handle_timeout(self.now());
                self.carry_out();
            }
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.t = end;
        self.check_rest()
    }

    /// At rest whoever waits has a reason in truth, and every circle of the truth is told with its origins.
    fn check_rest(&mut self) -> Result<(), String> {
        if *self.core.durable() != self.shadow {
            return Err("the recorded facts do not add up to the live state".to_owned());
        }
        let mut waits: BTreeMap<TaskId, Vec<(TaskId, &'static str)>> = BTreeMap::new();
        for (task, record) in &self.shadow.tasks {
            if !matches!(record.phase, Phase::Waiting { .. }) {
                continue;
            }
            let own = self.truth.keys().find(|issue| id_of(issue) == *task);
            let needs = match own {
                Some(own) => self.needs_of(own),
                None => {
                    let name = task.as_str().strip_prefix("plan/").unwrap();
                    self.in_force.1[name].iter().map(|need| (need.clone(), "dag/plan.yaml:")).collect()
                }
            };
            let unmet: Vec<(TaskId, &'static str)> = needs
                .into_iter()
                .filter(|(need, _)| !self.is_resolved(need))
                .map(|(need, source)| (id_of(&need), source))
                .collect();
            if unmet.is_empty() {
                return Err(format!("{task} waits for nothing: {:?}", self.core.why(task)));
            }
            let why = self.core.why(task).join("\n");
            if let Some((need, source)) =
                unmet.iter().find(|(need, source)| !why.contains(need.as_str()) || !why.contains(source))
            {
                return Err(format!("{task} needs {need} ({source}), and says only: {why}"));
            }
            waits.insert(task.clone(), unmet);
        }
        self.check_circles(&waits)
    }

    fn check_circles(&self, waits: &BTreeMap<TaskId, Vec<(TaskId, &'static str)>>) -> Result<(), String> {
        let reach = |from: &TaskId| {
            let mut seen: BTreeSet<TaskId> = BTreeSet::new();
            let mut next: Vec<&TaskId> = vec![from];
            while let Some(task) = next.pop() {
                for (need, _) in waits.get(task).into_iter().flatten() {
                    if seen.insert(need.clone()) {
                        next.push(need);
                    }
                }
            }
            seen
        };
        let alerts: Vec<_> =
            self.shadow.alerts.values().filter(|alert| alert.kind == AlertKind::Circle).cloned().collect();
        for task in waits.keys().filter(|task| reach(task).contains(*task)) {
            let group = reach(task);
            let told = alerts.iter().any(|alert| {
                alert.task.as_ref().is_some_and(|first| group.contains(first) && reach(first).contains(task))
            });
            if !told {
                return Err(format!("{task} waits for itself, and no alert says so: {alerts:?}"));
            }
        }
        for alert in &alerts {
            let first = alert.task.as_ref().unwrap();
            if !reach(first).contains(first) {
                return Err(format!("there is no such circle: {}", alert.text));
            }
        }
        Ok(())
    }
}

#[test]
fn needs_of_every_source_hold_whatever_people_change_meanwhile() {
    let (mut begun, mut circles, mut done) = (0, 0, 0);
    for seed in 0..40 {
        let mut world = World::new(seed);
        if let Err(violation) = world.run() {
            let from = world.trace.len().saturating_sub(150);
            eprintln!("{}\n{}", world.trace[from..].join("\n"), world.text());
            panic!("seed {seed}: {violation}");
        }
        begun += world.begun;
        circles += world.circles;
        done += world.shadow.tasks.values().filter(|record| matches!(record.phase, Phase::Done { .. })).count();
    }
    eprintln!("{begun} attempts begun, {done} tasks done, {circles} circles told");
    // Circles that come about by chance are a few in all these histories; most are made.
    assert!(begun > 200 && done > 180 && circles > 25, "the histories are too quiet: {begun}, {done}, {circles}");
}
