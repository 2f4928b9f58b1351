//! A supervisor's core with one agent, in made-up time: what it wants of GitHub goes over the real client, and its journal is
//! all that is left when it is killed.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use sha2::{Digest, Sha256};

use miyabi::core::Core;
use miyabi::core::effect::Effect;
use miyabi::core::event::{Event, OrderPlace, PaneFound};
use miyabi::core::fact::Recorded;
use miyabi::core::github::{GithubEffect, GithubEvent};
use miyabi::core::state::{Durable, Phase, TaskRecord};
use miyabi::io::github::client::Client;
use miyabi::model::beat::{Activity, Beat};
use miyabi::model::github::{Delivery, Publish, Trouble, Write, WriteKind, Written};
use miyabi::model::id::{AgentId, EnvelopeId, Incarnation, RepositoryName, TaskId};
use miyabi::model::order::WorkOrder;
use miyabi::model::report::{CheckResult, Outcome, Report};
use miyabi::model::spent::Spent;
use miyabi::model::time::Timestamp;
use miyabi::model::watching::WatchFaults;

use super::octo::{Octo, slug};
use crate::reports::report_on;

/// How many steps a life may take; far more than it does.
const STEPS_MAX: usize = 20_000;

/// What is said of the team when nothing else is asked for.
pub(super) const TEAM: &str = r#"
[[agent]]
id = "kaede"
role = "codegen"
driver = "echo"

[[repository]]
path = "app"
github = "octo/app"
merge = "pull-request"

[github]
poll = "10s"
reconcile = "1m"
"#;

pub(super) struct World {
    pub(super) octo: Octo,
    team: String,
    journal: Vec<String>,
    core: Core,
    client: Client,
    pub(super) now: Timestamp,
    inbox: VecDeque<Event>,
    panes: BTreeMap<AgentId, (Incarnation, u64)>,
    orders: BTreeMap<EnvelopeId, OrderPlace>,
    /// Every order that was ever delivered, in order.
    pub(super) delivered: Vec<WorkOrder>,
    reports: BTreeMap<String, Report>,
    /// When each write began, of all lives.
    pub(super) writes: Vec<(Timestamp, WriteKind)>,
    pub(super) kills: usize,
    /// The deliveries of webhooks that were handled.
    pub(super) settled: Vec<String>,
    /// How often the local branch was brought up to what GitHub has.
    pub(super) followed: usize,
    /// Answers to that which are on their way until the test lets them go.
    pub(super) held: Option<Vec<Event>>,
}

fn app() -> RepositoryName {
    RepositoryName::new("app").unwrap()
}

pub(super) fn task(number: u64) -> TaskId {
    TaskId::new(format!("app/issue-{number}")).unwrap()
}

fn plan(team: &str) -> miyabi::model::plan::Plan {
    miyabi::config::agents::parse("agents.toml", team, Path::new("/root")).unwrap()
}

impl World {
    pub(super) async fn new(team: &str) -> Self {
        let octo = Octo::start().await;
        let now = Timestamp::from_millis(1_800_000_000_000);
        let core = Core::restore(plan(team), Durable::default(), now);
        let client = octo.client();
        let mut world = Self {
            octo,
            team: team.to_owned(),
            journal: Vec::new(),
            core,
            client,
            now,
            inbox: VecDeque::new(),
            panes: BTreeMap::new(),
            orders: BTreeMap::new(),
            delivered: Vec::new(),
            reports: BTreeMap::new(),
            writes: Vec::new(),
            kills: 0,
            settled: Vec::new(),
            followed: 0,
            held: None,
        };
        world.look_around();
        world
    }

    pub(super) fn record(&self, number: u64) -> Option<&TaskRecord> {
        self.core.durable().tasks.get(&task(number))
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn is_done(&self, number: u64) -> bool {
        matches!(self.record(number).map(|record| &record.phase), Some(Phase::Done { .. }))
    }

    /// A webhook names something.
    pub(super) fn hint(&mut self, delivery: Delivery) {
        self.inbox.push_back(Event::Github(Box::new(GithubEvent::Hinted(delivery))));
    }

    /// Kills the supervisor at once.
    pub(super) fn kill(&mut self) {
        self.octo.state().points.dead = true;
        self.come_back();
    }

    /// Lets the answers go that were held.
    pub(super) fn let_go(&mut self) {
        let held = self.held.take().unwrap_or_default();
        self.inbox.extend(held);
    }

    /// Begins anew with another agents.toml.
    pub(super) fn reconfigure(&mut self, team: &str) {
        team.clone_into(&mut self.team);
        self.kill();
    }

    /// Goes on until something holds.
    pub(super) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..STEPS_MAX {
            if holds(self) {
                return;
            }
            self.step().await;
        }
        let log = self.octo.state().log.clone();
        panic!(
            "gave up: {what}\n{:#?}\n{:#?}",
            self.core.durable().tasks,
            log.iter().rev().take(20).collect::<Vec<_>>()
        );
    }

    /// Goes on for a while.
    pub(super) async fn pass(&mut self, time: std::time::Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step().await;
        }
    }

    /// Goes on until nothing waits, neither work nor a write; then whatever is due next is only a question or a beat.
    pub(super) async fn settle(&mut self) {
        self.until("it is settled", |world| {
            world.inbox.is_empty() && world.core.github_view(world.now).writes.waiting == 0
        })
        .await;
    }

    async fn step(&mut self) {
        // GitHub has its own clock, which is right.
        self.octo.state().now = self.now;
        if let Some(effect) = self.core.poll_effect() {
            self.run(effect).await;
            if self.octo.state().points.dead {
                self.come_back();
            }
            return;
        }
        if let Some(event) = self.inbox.pop_front() {
            self.core.handle_event(event, self.now);
        } else {
            let (due, _) = self.core.poll_timeout().expect("an agent that beats is always waited for");
            if due > self.now {
                // Whoever is alive has beaten meanwhile.
                self.now = due;
                let names: Vec<AgentId> = self.panes.keys().cloned().collect();
                let beats: Vec<Event> = names.into_iter().map(|agent| self.beat(&agent)).collect();
                self.inbox.extend(beats);
            } else {
                self.core.handle_timeout(self.now);
            }
        }
        assert_eq!(self.core.broken(), None);
    }

    /// Another supervisor begins with what the journal, the panes and the spool say.
    fn come_back(&mut self) {
        self.kills += 1;
        self.inbox.clear();
        {
            let mut state = self.octo.state();
            state.points.dead = false;
            state.points.kill = None;
        }
        let mut durable = Durable::default();
        for text in &self.journal {
            durable.apply(&serde_json::from_str(text).expect("a fact can be read")).expect("a recorded fact fits");
        }
        self.core = Core::restore(plan(&self.team), durable, self.now);
        self.client = self.octo.client();
        self.look_around();
    }

    fn look_around(&mut self) {
        let waiting: Vec<Event> = self.reports.iter().map(|(receipt, report)| arrived(receipt, report)).collect();
        self.inbox.extend(waiting);
        let found = |(agent, (incarnation, _)): (&AgentId, &(Incarnation, u64))| PaneFound {
            agent: agent.clone(),
            incarnation: *incarnation,
            pane: "%1".to_owned(),
            pid: 1,
            launched: None,
        };
        let panes: Vec<PaneFound> = self.panes.iter().map(found).collect();
        self.inbox.push_back(Event::Started { panes, orders: self.orders.clone() });
        let branches = BTreeMap::from([(app(), Ok("main".to_owned()))]);
        self.inbox.push_back(Event::DagRead { files: Vec::new(), branches });
        let names: Vec<AgentId> = self.panes.keys().cloned().collect();
        for agent in names {
            let beat = self.beat(&agent);
            self.inbox.push_back(beat);
        }
    }

    fn beat(&mut self, agent: &AgentId) -> Event {
        let (incarnation, sequence) = self.panes.get_mut(agent).expect("it has a pane");
        *sequence += 1;
        Event::BeatsSeen(vec![Beat {
            agent: agent.clone(),
            incarnation: *incarnation,
            pid: 1,
            sequence: *sequence,
            at: self.now,
            activity: Activity::Idle,
            progress: None,
            watching: WatchFaults::default(),
        }])
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what this world has not been taught is told with its name")]
    async fn run(&mut self, effect: Effect) {
        let name = match &effect {
            Effect::Record(recorded) => Some(format!("record {}", recorded.fact.tell().kind)),
            Effect::DeliverOrder(_) => Some("deliver the order".to_owned()),
            Effect::AckReport { .. } => Some("acknowledge the report".to_owned()),
            Effect::RetireOrder { .. } => Some("take the order out".to_owned()),
            _ => None,
        };
        let index = match name {
            Some(name) => {
                let Some(index) = self.octo.state().points.enter(&name) else { return };
                Some(index)
            }
            None => None,
        };
        match effect {
            Effect::Record(recorded) => self.append(&recorded),
            Effect::SpawnPane { agent, incarnation } => {
                self.panes.insert(agent.clone(), (incarnation, 0));
                let spawned = Event::PaneSpawned { agent: agent.clone(), incarnation, pane: "%1".to_owned(), pid: 1 };
                let beat = self.beat(&agent);
                self.inbox.extend([spawned, beat]);
            }
            Effect::DeliverOrder(order) => self.work(*order),
            Effect::AckReport { receipt } => {
                self.reports.remove(&receipt);
            }
            Effect::RetireOrder { envelope, .. } => {
                self.orders.insert(envelope, OrderPlace::Done);
                self.inbox.push_back(Event::OrderRetired { envelope });
            }
            Effect::InspectOrder { agent, envelope } => {
                let place = self.orders.get(&envelope).copied().unwrap_or(OrderPlace::Missing);
                self.inbox.push_back(Event::OrderInspected { agent, envelope, place });
            }
            Effect::ClearRemains { agent, incarnation, order } => {
                let order = order.map(|order| self.orders.get(&order).copied().unwrap_or(OrderPlace::Missing));
                self.inbox.push_back(Event::RemainsCleared { agent, incarnation, order });
            }
            Effect::Github(effect) => self.ask_github(*effect).await,
            Effect::AdoptPane { .. } | Effect::ObeyFreeze | Effect::Alert(_) | Effect::Answer { .. } => {}
            other => panic!("nobody has taught this world {other:?}"),
        }
        if let Some(index) = index {
            self.octo.state().points.leave(index);
        }
    }

    fn append(&mut self, recorded: &Recorded) {
        self.journal.push(serde_json::to_string(recorded).expect("a fact can be written"));
    }

    /// The agent does an order, once, however often it is delivered.
    fn work(&mut self, order: WorkOrder) {
        if self.orders.contains_key(&order.id) {
            return;
        }
        self.orders.insert(order.id, OrderPlace::Done);
        let report = report_of(&order, &self.panes[&order.agent].0);
        let receipt = order.id.to_string();
        self.inbox.push_back(arrived(&receipt, &report));
        self.reports.insert(receipt, report);
        self.delivered.push(order);
    }

    async fn ask_github(&mut self, effect: GithubEffect) {
        let event = match effect {
            GithubEffect::Discover { repository, what } => {
                let found = self.client.discover(&what).await.map(Box::new);
                GithubEvent::Discovered { repository, asked: what.asked, found, quota: None }
            }
            GithubEffect::LookAt { repository, what } => {
                let found = self.client.discover(&what).await.map(Box::new);
                GithubEvent::LookedAt { repository, asked: what.asked, found, quota: None }
            }
            GithubEffect::Settle { ids } => {
                self.settled.extend(ids);
                return;
            }
            GithubEffect::Watch { what } => {
                let found = self.client.watch(&what).await;
                GithubEvent::Watched { asked: what.asked, found, quota: None }
            }
            GithubEffect::LookAtClaims { task, issue, asked } => {
                let seen = self.client.claims(&issue.slug, issue.number).await;
                GithubEvent::ClaimsSeen { task, asked, seen, quota: None }
            }
            GithubEffect::Write { task, issue, write, .. } => {
                let kind = write.kind();
                self.writes.push((self.now, kind));
                let begun = self.journal.iter().filter(|fact| fact.contains("\"github\":\"write-begun\"")).count();
                assert!(begun >= self.writes.len(), "a write that nobody would remember: {kind:?}");
                let written = self.perform(issue, write).await;
                GithubEvent::Written { task, kind, written, quota: None }
            }
            GithubEffect::CatchUp { task, .. } => {
                self.followed += 1;
                let Some(index) = self.octo.state().points.enter("follow the merge") else { return };
                self.octo.state().points.leave(index);
                let event = GithubEvent::CaughtUp { task, result: Ok("9".repeat(40)) };
                if let Some(held) = &mut self.held {
                    return held.push(Event::Github(Box::new(event)));
                }
                event
            }
        };
        self.inbox.push_back(Event::Github(Box::new(event)));
    }

    async fn perform(&self, issue: Option<u64>, write: Write) -> Result<Written, Trouble> {
        match write {
            Write::Publish(publish) => {
                if let (Some(claimant), Some(issue)) = (&publish.claimant, issue) {
                    self.client.check_claim(&slug(), issue, claimant).await?;
                }
                self.push(&publish)?;
                self.client.open_pull(&slug(), &publish).await.map(Written::Published)
            }
            Write::Comment { known, marker, body } => {
                self.client.comment(&slug(), issue.unwrap(), known, &marker, &body).await.map(Written::Commented)
            }
            Write::Claim { known, body, .. } => {
                let claimed = self.client.claim(&slug(), issue.unwrap(), known, &body).await;
                claimed.map(|(comment, claims)| Written::Claimed(comment, claims))
            }
            Write::Withdraw { comment } => {
                self.client.withdraw(&slug(), comment).await.map(|()| Written::Withdrawn(comment))
            }
            Write::Status { commit, description } => {
                self.client.status(&slug(), &commit, &description).await.map(|()| Written::StatusSet)
            }
            Write::Label(how) => self.client.label(&slug(), issue.unwrap(), &how).await.map(|()| Written::Labelled),
        }
    }

    /// Pushes as the publisher does: over nothing, and over what we have pushed.
    fn push(&self, publish: &Publish) -> Result<(), Trouble> {
        let gone = || Trouble::Unsure { reason: "the connection is gone".to_owned() };
        let mut state = self.octo.state();
        let index = state.points.enter("push the branch").ok_or_else(gone)?;
        match state.branches.get(&publish.branch) {
            Some(held) if *held != publish.commit && !publish.ours.contains(held) => {
                return Err(Trouble::Stopped { reason: format!("the branch holds {held}") });
            }
            Some(_) | None => state.branches.insert(publish.branch.clone(), publish.commit.clone()),
        };
        if state.points.leave(index) { Ok(()) } else { Err(gone()) }
    }
}

fn arrived(receipt: &str, report: &Report) -> Event {
    Event::ReportArrived { report: Box::new(report.clone()), receipt: receipt.to_owned() }
}

/// What the agent reports: a commit that is its own for every order, and a check that has passed.
fn report_of(order: &WorkOrder, incarnation: &Incarnation) -> Report {
    let hash = |text: String| Sha256::digest(text).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let workplace = order.workplace.as_ref().expect("an issue is worked on in a repository");
    Report {
        summary: "done".to_owned(),
        commit: Some(hash(order.id.to_string())[..40].to_owned()),
        base: Some("b".repeat(40)),
        branch: Some(workplace.branch.clone()),
        checks: vec![CheckResult {
            command: "make test".to_owned(),
            exit_code: Some(0),
            output: "ok".to_owned(),
            duration_ms: 1_000,
        }],
        spent: Some(Spent { tokens_in: Some(1_000), tokens_out: Some(10), micro_usd: Some(20_000) }),
        ..report_on(order, *incarnation, Outcome::Done, order.queued_at)
    }
}
