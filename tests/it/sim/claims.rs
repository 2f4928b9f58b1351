//! Several orchestras watch one repository: their clocks differ, they die and come back, machines are suspended, answers are lost and
//! requests arrive late. GitHub's order of comments is all that they share.
//!
//! At no moment may two of them believe in a claim on one issue, none begins or publishes anything without one, and in the
//! end every issue has one pull request and one comment, and no label that says that it is worked on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use miyabi::config;
use miyabi::core::Core;
use miyabi::core::effect::Effect;
use miyabi::core::event::{Branches, Event, OrderPlace, PaneFound};
use miyabi::core::fact::{Fact, Recorded};
use miyabi::core::github::{GithubEffect, GithubEvent};
use miyabi::core::state::{Durable, Phase};
use miyabi::model::beat::{Activity, Beat};
use miyabi::model::claim::{ClaimComment, Claimant, Claims, Holder};
use miyabi::model::github::{
    Association, Comment, Found, Issue, Labelling, Pull, PullState, Reach, Trouble, Write, Written, task_of,
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
    { path = "app", github = "octo/app", merge = "pull-request" },
]
[github]
poll = "1m"
reconcile = "5m"
claim_lease = "6m"
claim_label = "in-progress"
"#;

const DAWN: i64 = 1_800_000_000_000;
const FIRST: Incarnation = Incarnation(1);
const YEAR: Duration = Duration::from_hours(24 * 365);
const ISSUES: u64 = 6;

/// How long things go wrong.
const BUSY: i64 = 8 * HOUR;

/// How long everything then has to come to its end.
const CALM: i64 = 16 * HOUR;

/// How long a call waits for its answer.
const CALL_MAX: i64 = 60 * SECOND;

#[derive(Debug)]
enum Happening {
    /// A request of an orchestra reaches GitHub; it was sent in a life.
    Arrives(usize, u64, GithubEffect),
    /// A comment was written for it, and what is claimed is looked at next.
    Looks(usize, u64, GithubEffect, u64),
    /// An answer comes back.
    Answers(usize, u64, Box<GithubEvent>),
    Reports(usize),
    Dies(usize),
    Rises(usize),
    /// A machine is suspended until then.
    Sleeps(usize),
    Merges(u64),
    Asks,
}

/// A comment on an issue.
#[derive(Debug, Clone)]
struct Said {
    issue: u64,
    body: String,
    updated: i64,
    by_us: bool,
}

struct Orchestra {
    core: Core,
    life: u64,
    /// Whether its supervisor runs.
    is_up: bool,
    /// Until when its machine is suspended.
    asleep: i64,
    facts: Vec<String>,
    shadow: Durable,
    beats: u64,
    open: BTreeMap<AgentId, WorkOrder>,
    /// By how much its clock is wrong, and how much too fast it runs, in millionths.
    offset: i64,
    ppm: i64,
}

struct World {
    rng: Rng,
    t: i64,
    plan: Plan,
    orchestras: Vec<Orchestra>,
    queue: BTreeMap<(i64, u64), Happening>,
    serial: u64,
    comments: BTreeMap<u64, Said>,
    last_id: u64,
    /// The pull request of each issue: who has made it, and how it is.
    pulls: BTreeMap<u64, (usize, PullState)>,
    closed: BTreeMap<u64, i64>,
    /// The issues that bear the label of those that are worked on.
    labelled: BTreeSet<u64>,
    /// How often that was changed.
    labellings: usize,
    /// Issues whose label was added so late that its sender had given up on it.
    labelled_late: BTreeSet<u64>,
    violation: Option<String>,
    trace: Vec<String>,
    begun: usize,
    lost: usize,
    late: usize,
}

fn task(issue: u64) -> TaskId {
    task_of(&"app".parse().unwrap(), issue).unwrap()
}

fn number(task: &TaskId) -> u64 {
    task.as_str().rsplit('-').next().unwrap().parse().unwrap()
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0xc1a1);
        let mut plan = config::agents::parse("agents.toml", TEAM, Path::new("/sim")).unwrap();
        for agent in &mut plan.agents {
            (agent.heartbeat, agent.heartbeat_timeout, agent.timeout, agent.stall) = (YEAR, YEAR, YEAR, YEAR);
            agent.start_timeout = YEAR;
        }
        let orchestras = (0..count)
            .map(|who| {
                let offset = rng.between(-2 * HOUR, 2 * HOUR);
                let ppm = rng.between(-100, 100);
                let at = Timestamp::from_millis(DAWN + offset);
                let begun = Recorded { at, fact: Fact::Begun { seed: seed * 100 + who as u64 } };
                let mut shadow = Durable::default();
                shadow.apply(&begun).unwrap();
                let core = Core::restore(plan.clone(), shadow.clone(), at);
                let facts = vec![serde_json::to_string(&begun).unwrap()];
                let (open, is_up) = (BTreeMap::new(), true);
                Orchestra { core, life: 1, is_up, asleep: 0, facts, shadow, beats: 0, open, offset, ppm }
            })
            .collect();
        let mut world = Self {
            rng,
            t: DAWN,
            plan,
            orchestras,
            queue: BTreeMap::new(),
            serial: 0,
            comments: BTreeMap::new(),
            last_id: 0,
            pulls: BTreeMap::new(),
            closed: BTreeMap::new(),
            labelled: BTreeSet::new(),
            labellings: 0,
            labelled_late: BTreeSet::new(),
            violation: None,
            trace: Vec::new(),
            begun: 0,
            lost: 0,
            late: 0,
        };
        for who in 0..count {
            world.start(who);
            let (dies, sleeps) = (world.rng.between(5, 60) * MINUTE, world.rng.between(5, 90) * MINUTE);
            world.soon(dies, Happening::Dies(who));
            world.soon(sleeps, Happening::Sleeps(who));
        }
        world.soon(7 * MINUTE, Happening::Asks);
        world
    }

    fn is_busy(&self) -> bool {
        self.t < DAWN + BUSY
    }

    fn soon(&mut self, after: i64, happening: Happening) {
        self.serial += 1;
        self.queue.insert((self.t + after, self.serial), happening);
    }

    /// What an orchestra's clock shows.
    fn local(&self, who: usize) -> Timestamp {
        let of = &self.orchestras[who];
        let past = self.t - DAWN;
        Timestamp::from_millis(DAWN + of.offset + past + past * of.ppm / 1_000_000)
    }

    /// When an orchestra's clock will show that.
    fn when(&self, who: usize, local: Timestamp) -> i64 {
        let of = &self.orchestras[who];
        let past = local.as_millis() - DAWN - of.offset;
        DAWN + past - past * of.ppm / 1_000_000 + 2
    }

    fn tell(&mut self, who: usize, event: Event) {
        let now = self.local(who);
        self.orchestras[who].core.handle_event(event, now);
        self.carry_out(who);
    }

    fn start(&mut self, who: usize) {
        let now = self.local(who);
        let of = &mut self.orchestras[who];
        let is_new = of.facts.len() == 1;
        let kaede: AgentId = "kaede".parse().unwrap();
        let found =
            PaneFound { agent: kaede.clone(), incarnation: FIRST, pane: "%1".to_owned(), pid: 1, launched: None };
        let panes = if is_new { Vec::new() } else { vec![found] };
        let orders = of.open.values().map(|order| (order.id, OrderPlace::Leased(FIRST))).collect();
        of.beats += 1;
        let beat = Beat {
            agent: kaede.clone(),
            incarnation: FIRST,
            pid: 1,
            sequence: of.beats,
            at: now,
            activity: Activity::Idle,
            progress: None,
            watching: WatchFaults::default(),
        };
        self.tell(who, Event::Started { panes, orders });
        if is_new {
            let spawned = Event::PaneSpawned { agent: kaede, incarnation: FIRST, pane: "%1".to_owned(), pid: 1 };
            self.tell(who, spawned);
        }
        self.tell(who, Event::BeatsSeen(vec![beat]));
        let branches = Branches::from([("app".parse().unwrap(), Ok("main".to_owned()))]);
        self.tell(who, Event::DagRead { files: Vec::new(), branches });
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "of the effects only those on orders and GitHub matter here")]
    fn carry_out(&mut self, who: usize) {
        while let Some(effect) = self.orchestras[who].core.poll_effect() {
            match effect {
                Effect::DeliverOrder(order) => {
                    let after = self.rng.between(60, 3_000) * SECOND;
                    let agent = order.agent.clone();
                    if self.orchestras[who].open.insert(agent, *order).is_none() {
                        self.soon(after, Happening::Reports(who));
                    }
                }
                Effect::RetireOrder { agent, envelope, .. } => {
                    let of = &mut self.orchestras[who];
                    if of.open.get(&agent).is_some_and(|order| order.id == envelope) {
                        of.open.remove(&agent);
                        self.queue.retain(|_, it| !matches!(it, Happening::Reports(of) if *of == who));
                    }
                    let now = self.local(who);
                    self.orchestras[who].core.handle_event(Event::OrderRetired { envelope }, now);
                }
                Effect::Github(effect) => self.send(who, *effect),
                Effect::Record(recorded) => self.record(who, &recorded),
                _ => {}
            }
        }
        assert_eq!(self.orchestras[who].core.broken(), None);
        self.check_claims();
    }

    fn record(&mut self, who: usize, recorded: &Recorded) {
        let text = serde_json::to_string(recorded).unwrap();
        let read: Recorded = serde_json::from_str(&text).unwrap();
        self.trace.push(format!("{} {who}: {}", self.t - DAWN, read.fact.tell().text));
        if let Fact::AttemptQueued { task, .. } = &read.fact {
            self.begun += 1;
            self.check_begin(who, task, "begins");
        }
        self.lost += usize::from(text.contains("\"github\":\"claim-ended\"") && text.contains("works on its issue"));
        let of = &mut self.orchestras[who];
        of.shadow.apply(&read).expect("what was recorded fits");
        of.facts.push(text);
    }

    /// Nothing is begun or published where GitHub says that another one works, or without a claim.
    fn check_begin(&mut self, who: usize, task: &TaskId, what: &str) {
        let durable = self.orchestras[who].core.durable();
        let run = durable.tasks[task].run;
        let claim = durable.github.tasks[task].claim.as_ref();
        if claim.is_none_or(|claim| claim.run != run || claim.until <= self.local(who)) {
            self.violation = Some(format!("{who} {what} {task} without a claim"));
        }
        let us = Claimant { orchestra: self.orchestras[who].core.orchestra(), run };
        if let Holder::Other { orchestra, .. } = self.claims(number(task)).holder(&us, None) {
            self.violation = Some(format!("{who} {what} {task}, and {orchestra} works on it"));
        }
    }

    /// At no moment do two believe that they may work on one issue.
    fn check_claims(&mut self) {
        let mut holders: BTreeMap<TaskId, usize> = BTreeMap::new();
        for (who, of) in self.orchestras.iter().enumerate().filter(|(_, of)| of.is_up) {
            let durable = of.core.durable();
            for (task, on) in &durable.github.tasks {
                let record = durable.tasks.get(task);
                let is_held = on.claim.as_ref().is_some_and(|claim| {
                    claim.until > self.local(who)
                        && record.is_some_and(|record| record.run == claim.run && !record.is_settled())
                });
                if let Some(other) = is_held.then(|| holders.insert(task.clone(), who)).flatten() {
                    self.violation = Some(format!("{other} and {who} both hold {task}"));
                }
            }
        }
    }

    /// A request sets out. It may come late, and its sender gives up on it after a while.
    fn send(&mut self, who: usize, effect: GithubEffect) {
        if let GithubEffect::Write { task, write: Write::Publish(_), .. } = &effect {
            self.check_begin(who, &task.clone(), "publishes");
        }
        let life = self.orchestras[who].life;
        let mut after = self.rng.between(50, 4_000);
        if self.is_busy() && self.rng.chance(30_000) {
            after = self.rng.between(1, 8) * MINUTE;
            self.late += 1;
        }
        if after > CALL_MAX
            && let Some(event) = unsure(&effect)
        {
            self.soon(CALL_MAX, Happening::Answers(who, life, Box::new(event)));
            if let GithubEffect::Write { issue: Some(issue), write: Write::Label(Labelling::Add(_)), .. } = &effect {
                self.labelled_late.insert(*issue);
            }
        }
        self.soon(after, Happening::Arrives(who, life, effect));
    }

    fn answer(&mut self, who: usize, life: u64, event: GithubEvent) {
        let after = self.rng.between(50, 4_000);
        self.soon(after, Happening::Answers(who, life, Box::new(event)));
    }

    /// What orchestras' comments say now, as GitHub tells it.
    fn claims(&self, issue: u64) -> Claims {
        let of_issue = self.comments.iter().filter(|(_, said)| said.issue == issue && said.by_us);
        // GitHub tells whole seconds.
        let second = |at: i64| Timestamp::from_millis(at - at.rem_euclid(1_000));
        let comments = of_issue.filter_map(|(id, said)| ClaimComment::parse(*id, &said.body, second(said.updated)));
        Claims { at: second(self.t), comments: comments.collect() }
    }

    fn post(&mut self, issue: u64, body: String) -> u64 {
        self.last_id += 1;
        self.comments.insert(self.last_id, Said { issue, body, updated: self.t, by_us: true });
        self.last_id
    }

    /// Edits a comment; says whether it is there.
    fn edit(&mut self, id: u64, body: String) -> bool {
        let now = self.t;
        self.comments.get_mut(&id).map(|said| (said.body, said.updated) = (body, now)).is_some()
    }

    fn arrive(&mut self, who: usize, life: u64, effect: GithubEffect) {
        let fails = self.is_busy() && self.rng.chance(40_000);
        if fails && self.rng.chance(500_000) {
            if let Some(event) = unsure(&effect) {
                self.answer(who, life, event);
            }
            return;
        }
        let lost = || Trouble::Unsure { reason: "the answer is lost".to_owned() };
        let event = match effect {
            GithubEffect::Discover { repository, what } => {
                let found = self.found(&what.reach, &what.pulls);
                GithubEvent::Discovered { repository, asked: what.asked, found: Ok(Box::new(found)), quota: None }
            }
            GithubEffect::Watch { what } => {
                let one = |of: &miyabi::model::github::WatchOne| {
                    (of.issue.clone(), Ok(Box::new(self.issue(of.issue.number))))
                };
                GithubEvent::Watched { asked: what.asked, found: what.issues.iter().map(one).collect(), quota: None }
            }
            GithubEffect::LookAtClaims { task, issue, asked } => {
                let seen = self.claims(issue.number);
                GithubEvent::ClaimsSeen { task, asked, seen: Ok(seen), quota: None }
            }
            GithubEffect::CatchUp { task, .. } => GithubEvent::CaughtUp { task, result: Ok("c0de".to_owned()) },
            GithubEffect::Settle { .. } | GithubEffect::LookAt { .. } => panic!("nobody has sent a webhook"),
            GithubEffect::Write { ref task, issue, ref write, .. } => {
                let (task, kind, issue) = (task.clone(), write.kind(), issue.unwrap());
                let gone = || Trouble::Refused { status: 404, reason: "Not Found".to_owned() };
                let written = match write.clone() {
                    Write::Claim { known: None, body, .. } => {
                        let id = self.post(issue, body);
                        return self.look_after(who, life, effect, id);
                    }
                    Write::Claim { known: Some(id), body, .. } => {
                        if self.edit(id, body) {
                            return self.look_after(who, life, effect, id);
                        }
                        Err(gone())
                    }
                    Write::Comment { known, marker, body } => {
                        let is_ours = |(id, said): (&u64, &Said)| {
                            (said.issue == issue && said.body.contains(&marker)).then_some(*id)
                        };
                        let known = known.filter(|id| self.comments.contains_key(id));
                        let id = known.or_else(|| self.comments.iter().find_map(is_ours));
                        match id {
                            Some(id) => {
                                self.edit(id, body);
                                Ok(Written::Commented(id))
                            }
                            None => Ok(Written::Commented(self.post(issue, body))),
                        }
                    }
                    Write::Withdraw { comment } => {
                        self.comments.remove(&comment);
                        Ok(Written::Withdrawn(comment))
                    }
                    Write::Status { .. } => Ok(Written::StatusSet),
                    Write::Label(how) => self.label(issue, &how),
                    Write::Publish(publish) => self.publish(who, issue, publish.claimant.as_ref()),
                };
                let written = if fails { Err(lost()) } else { written };
                GithubEvent::Written { task, kind, written, quota: None }
            }
        };
        self.answer(who, life, event);
    }

    fn label(&mut self, issue: u64, how: &Labelling) -> Result<Written, Trouble> {
        self.labellings += 1;
        match how {
            Labelling::Add(_) => self.labelled.insert(issue),
            Labelling::Remove(_) => self.labelled.remove(&issue),
        };
        Ok(Written::Labelled)
    }

    /// Between a write and the look after it others act.
    fn look_after(&mut self, who: usize, life: u64, effect: GithubEffect, comment: u64) {
        let after = self.rng.between(50, 3_000);
        self.soon(after, Happening::Looks(who, life, effect, comment));
    }

    fn publish(&mut self, who: usize, issue: u64, claimant: Option<&Claimant>) -> Result<Written, Trouble> {
        let stopped = |reason: &str| Err(Trouble::Stopped { reason: reason.to_owned() });
        let claimant = claimant.expect("what is published is claimed");
        if !matches!(self.claims(issue).holder(claimant, None), Holder::Us { .. }) {
            return stopped("the claim on its issue has ended");
        }
        match self.pulls.get(&issue) {
            Some((by, _)) if *by != who => return stopped("the branch holds what we have not pushed"),
            Some(_) => {}
            None => {
                self.pulls.insert(issue, (who, PullState::Open));
                let after = self.rng.between(5, 120) * MINUTE;
                self.soon(after, Happening::Merges(issue));
            }
        }
        Ok(Written::Published(self.pull(issue)))
    }

    fn pull(&self, issue: u64) -> Pull {
        Pull { number: 500 + issue, url: String::new(), state: self.pulls[&issue].1.clone() }
    }

    fn issue(&self, number: u64) -> Issue {
        let mark = self.labelled.contains(&number).then_some("in-progress");
        Issue {
            number,
            title: "Say hello".to_owned(),
            body: "Please.".to_owned(),
            open: !self.closed.contains_key(&number),
            labels: ["auto-code"].into_iter().chain(mark).map(str::to_owned).collect(),
            author: "alice".to_owned(),
            association: Association::Owner,
            labelled_by: None,
            blocked_by: Vec::new(),
            sub_issues: Vec::new(),
            merged: false,
            updated_at: Timestamp::from_millis(self.closed.get(&number).copied().unwrap_or(DAWN)).to_string(),
        }
    }

    fn found(&self, reach: &Reach, pulls: &[u64]) -> Found {
        let issues = (1..=ISSUES).map(|number| self.issue(number));
        let issues = issues.filter(|issue| match reach {
            Reach::All => issue.open,
            Reach::These(_) => false,
            Reach::Since(since) => issue.updated_at >= *since,
        });
        let comment = |(id, said): (&u64, &Said)| Comment {
            id: *id,
            issue: said.issue,
            body: said.body.clone(),
            author: if said.by_us { "bot" } else { "alice" }.to_owned(),
            association: Association::Owner,
            updated_at: Timestamp::from_millis(said.updated).to_string(),
        };
        Found {
            issues: issues.collect(),
            comments: self.comments.iter().map(comment).collect(),
            pulls: pulls.iter().map(|number| self.pull(number - 500)).collect(),
            reviews: Vec::new(),
            since: Timestamp::from_millis(self.t - MINUTE).to_string(),
        }
    }

    fn report(&mut self, who: usize) {
        let now = self.local(who);
        if !self.orchestras[who].is_up {
            return self.soon(MINUTE, Happening::Reports(who));
        }
        let Some(order) = self.orchestras[who].open.values().next().cloned() else { return };
        let report = Report {
            commit: Some(format!("{who}-{}", order.id)),
            base: Some("ba5e".to_owned()),
            branch: Some("miyabi/branch".to_owned()),
            ..report_on(&order, FIRST, Outcome::Done, now)
        };
        self.tell(who, Event::ReportArrived { report: Box::new(report), receipt: "r".to_owned() });
    }

    /// Whose machine sleeps does and hears nothing until it wakes; requests that it was sending go out then.
    fn is_put_off(&mut self, happening: &Happening) -> Option<i64> {
        let who = match happening {
            Happening::Answers(who, ..) | Happening::Reports(who) | Happening::Dies(who) | Happening::Rises(who) => {
                *who
            }
            Happening::Arrives(..)
            | Happening::Looks(..)
            | Happening::Sleeps(_)
            | Happening::Merges(_)
            | Happening::Asks => return None,
        };
        Some(self.orchestras[who].asleep - self.t).filter(|left| *left > 0)
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(left) = self.is_put_off(&happening) {
            return self.soon(left, happening);
        }
        match happening {
            Happening::Arrives(who, life, effect) => self.arrive(who, life, effect),
            Happening::Looks(who, life, effect, comment) => {
                let GithubEffect::Write { task, issue, write, .. } = effect else { panic!("only writes look") };
                let fails = self.is_busy() && self.rng.chance(40_000);
                let lost = || Trouble::Unsure { reason: "the answer is lost".to_owned() };
                let seen = self.claims(issue.unwrap());
                let written = if fails { Err(lost()) } else { Ok(Written::Claimed(comment, seen)) };
                self.answer(who, life, GithubEvent::Written { task, kind: write.kind(), written, quota: None });
            }
            Happening::Answers(who, life, event) => {
                if self.orchestras[who].is_up && self.orchestras[who].life == life {
                    self.tell(who, Event::Github(event));
                }
            }
            Happening::Reports(who) => self.report(who),
            Happening::Dies(who) if self.is_busy() => {
                self.trace.push(format!("{} {who}: dies", self.t - DAWN));
                self.orchestras[who].is_up = false;
                let long = if self.rng.chance(400_000) { 40 * MINUTE } else { MINUTE };
                let after = self.rng.between(SECOND, long);
                self.soon(after, Happening::Rises(who));
            }
            Happening::Dies(_) => {}
            Happening::Rises(who) => {
                self.rise(who);
                let after = self.rng.between(5, 120) * MINUTE;
                self.soon(after, Happening::Dies(who));
            }
            Happening::Sleeps(who) if self.is_busy() => {
                let long = self.rng.between(1, 25) * MINUTE;
                self.trace.push(format!("{} {who}: is suspended for {long}", self.t - DAWN));
                self.orchestras[who].asleep = self.t + long;
                // What was on its way stays on its way.
                let of_it = |it: &Happening| matches!(it, Happening::Arrives(of, ..) if *of == who);
                let held: Vec<(i64, u64)> =
                    self.queue.iter().filter(|(_, it)| of_it(it)).map(|(key, _)| *key).collect();
                for (at, serial) in held {
                    let happening = self.queue.remove(&(at, serial)).unwrap();
                    self.queue.insert((at + long, serial), happening);
                }
                let after = long + self.rng.between(10, 180) * MINUTE;
                self.soon(after, Happening::Sleeps(who));
            }
            Happening::Sleeps(_) => {}
            Happening::Merges(issue) => {
                self.pulls.get_mut(&issue).unwrap().1 = PullState::Merged { commit: Some("c0de".to_owned()) };
                self.closed.insert(issue, self.t);
            }
            Happening::Asks => {
                let issue = self.rng.between(1, i64::try_from(ISSUES).unwrap()).unsigned_abs();
                self.last_id += 1;
                let (body, updated) = ("/miyabi why".to_owned(), self.t);
                self.comments.insert(self.last_id, Said { issue, body, updated, by_us: false });
                if self.is_busy() {
                    self.soon(50 * MINUTE, Happening::Asks);
                }
            }
        }
    }

    fn rise(&mut self, who: usize) {
        let (now, plan) = (self.local(who), self.plan.clone());
        let of = &mut self.orchestras[who];
        (of.is_up, of.life) = (true, of.life + 1);
        let mut durable = Durable::default();
        for text in &of.facts {
            durable.apply(&serde_json::from_str(text).unwrap()).expect("what was recorded fits");
        }
        of.core = Core::restore(plan, durable, now);
        self.trace.push(format!("{} {who}: comes back", self.t - DAWN));
        self.start(who);
    }

    fn run(&mut self) -> Result<(), String> {
        let end = DAWN + BUSY + CALM;
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wakes = self.orchestras.iter().enumerate().filter(|(_, of)| of.is_up).filter_map(|(who, of)| {
                let (at, _) = of.core.poll_timeout()?;
                Some((self.when(who, at).max(of.asleep).max(self.t), who))
            });
            let wake = wakes.min();
            let at = next.into_iter().chain(wake.map(|(at, _)| at)).min().unwrap_or(end);
            if at >= end {
                break;
            }
            self.t = self.t.max(at);
            match wake {
                Some((due, who)) if next.is_none_or(|next| due < next) => {
                    let now = self.local(who);
                    self.orchestras[who].core.handle_timeout(now);
                    self.carry_out(who);
                }
                Some(_) | None => {
                    let (_, happening) = self.queue.pop_first().unwrap();
                    self.happen(happening);
                }
            }
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.t = end;
        self.check_end()
    }

    fn check_end(&self) -> Result<(), String> {
        for (who, of) in self.orchestras.iter().enumerate() {
            if *of.core.durable() != of.shadow {
                return Err(format!("the recorded facts of {who} do not add up to its live state"));
            }
        }
        if let Some(issue) = self.labelled.difference(&self.labelled_late).next() {
            return Err(format!("issue {issue} is done, and its label says that it is worked on"));
        }
        // Once when somebody begins and once at the end, and some more when a claim was lost or an answer.
        if self.labellings > 2 * (self.begun + self.lost) + self.begun {
            return Err(format!("{} labellings for {} attempts: they fight", self.labellings, self.begun));
        }
        for issue in 1..=ISSUES {
            let Some((by, PullState::Merged { .. })) = self.pulls.get(&issue) else {
                let why: Vec<_> = self.orchestras.iter().map(|of| of.core.why(&task(issue))).collect();
                return Err(format!("issue {issue} has no merged pull request: {why:?}"));
            };
            let phase = &self.orchestras[*by].shadow.tasks[&task(issue)].phase;
            if !matches!(phase, Phase::Done { .. }) {
                return Err(format!("issue {issue} is {} where its pull request was made", phase.name()));
            }
            // Whoever was asked why while nobody worked on it has answered; runs that were begun have one comment. An edit that comes
            // after a later one can shorten a lease that rests: then another run may have begun before the merge was seen.
            let is_of_run = |said: &&Said| {
                let is_over = said.body.contains("Cancelled: its issue") && !said.body.contains("miyabi:claim=");
                said.issue == issue && said.by_us && said.body.contains("| attempt |") && !is_over
            };
            let comments: Vec<&Said> = self.comments.values().filter(is_of_run).collect();
            // An edit that was taken for lost may have come last, so what it says is not compared.
            if comments.len() != 1 {
                return Err(format!("issue {issue} has not one comment: {comments:#?}"));
            }
        }
        Ok(())
    }
}

/// What whoever has sent a request is told that gives up on it.
fn unsure(effect: &GithubEffect) -> Option<GithubEvent> {
    let trouble = || Trouble::Unsure { reason: "no answer".to_owned() };
    Some(match effect {
        GithubEffect::Discover { repository, what } => {
            let (repository, asked, found) = (repository.clone(), what.asked, Err(trouble()));
            GithubEvent::Discovered { repository, asked, found, quota: None }
        }
        GithubEffect::Watch { what } => {
            let found = what.issues.iter().map(|one| (one.issue.clone(), Err(trouble()))).collect();
            GithubEvent::Watched { asked: what.asked, found, quota: None }
        }
        GithubEffect::LookAtClaims { task, asked, .. } => {
            GithubEvent::ClaimsSeen { task: task.clone(), asked: *asked, seen: Err(trouble()), quota: None }
        }
        GithubEffect::Write { task, write, .. } => {
            let (task, kind) = (task.clone(), write.kind());
            GithubEvent::Written { task, kind, written: Err(trouble()), quota: None }
        }
        GithubEffect::CatchUp { .. } | GithubEffect::Settle { .. } | GithubEffect::LookAt { .. } => return None,
    })
}

fn histories(count: usize, seeds: std::ops::Range<u64>) {
    let (mut begun, mut lost, mut late, mut labellings, mut makers) = (0, 0, 0, 0, BTreeSet::new());
    for seed in seeds {
        let mut world = World::new(seed, count);
        if let Err(violation) = world.run() {
            let from = world.trace.len().saturating_sub(4_000);
            eprintln!("{}", world.trace[from..].join("\n"));
            panic!("seed {seed}: {violation}");
        }
        begun += world.begun;
        lost += world.lost;
        late += world.late;
        labellings += world.labellings;
        makers.extend(world.pulls.values().map(|(who, _)| *who));
    }
    eprintln!(
        "{begun} attempts begun, {lost} claims lost, {late} requests late, {labellings} labels added or taken away"
    );
    assert!(lost > 3 && late > 100 && makers.len() == count, "too quiet: {begun}, {lost}, {late}, {makers:?}");
}

#[test]
fn of_two_orchestras_never_both_work_on_an_issue_whatever_is_killed_suspended_or_lost() {
    histories(2, 0..20);
}

#[test]
fn of_three_orchestras_never_two_work_on_an_issue() {
    histories(3, 100..106);
}
