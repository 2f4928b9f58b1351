//! The operator, the folder of dependency files, and what breaks.

use std::collections::BTreeMap;

use miyabi::core::event::{Branches, Event, FileRead};
use miyabi::model::fault::{Fault, Place};
use miyabi::model::id::{AgentId, PoolName, RepositoryName, SubmissionKey, TaskId};
use miyabi::model::request::{Request, RequestId, Submission};
use miyabi::model::task::{Assignee, NoChange, PoolSpec, RepositoryChoice, TaskFile, TaskSpec, Work};

use super::scenario::{self, Odds};
use super::scheduling;
use super::world::{Happening, MINUTE, SECOND, World};
use crate::rng::Rng;

/// How many tasks one history may have.
const TASKS_MAX: usize = 40;

/// One dependency file.
#[derive(Debug, Clone, Default)]
struct Text {
    tasks: Vec<(TaskId, TaskSpec)>,
    broken: bool,
    pools: BTreeMap<PoolName, u32>,
}

/// The folder of dependency files.
#[derive(Debug, Default)]
pub(super) struct Dag {
    texts: BTreeMap<String, Text>,
    version: u64,
    read: Option<(u64, u64, Branches)>,
    names: u64,
    /// Draws what tasks take, apart from everything else.
    takes: Option<Rng>,
}

impl Dag {
    pub(super) fn draw(rng: &mut Rng, mut takes: Rng) -> Self {
        let mut dag = Self::default();
        dag.texts.entry("night".to_owned()).or_default().pools = scheduling::pools(&mut takes);
        dag.takes = Some(takes);
        for stem in ["night", "day"] {
            for _ in 0..rng.between(1, 5) {
                dag.add(rng, stem);
            }
        }
        dag
    }

    fn add(&mut self, rng: &mut Rng, stem: &str) {
        let known = self.known();
        self.names += 1;
        let id = TaskId::new(format!("{stem}/t{}", self.names)).unwrap();
        let mut spec = scenario::spec(rng, &known);
        if let Some(takes) = &mut self.takes {
            scheduling::takes(takes, &mut spec);
        }
        self.texts.entry(stem.to_owned()).or_default().tasks.push((id, spec));
    }

    fn known(&self) -> Vec<TaskId> {
        self.texts.values().flat_map(|text| text.tasks.iter().map(|(id, _)| id.clone())).collect()
    }

    /// Changes one file: a new text, a task more, a task less, a mistake, or its correction.
    fn edit(&mut self, rng: &mut Rng) {
        let stems: Vec<String> = self.texts.keys().cloned().collect();
        let Some(stem) = rng.pick(&stems) else { return };
        let choice = rng.below(5);
        self.version += 1;
        if let Some(takes) = &mut self.takes
            && takes.chance(200_000)
        {
            let pools = scheduling::pools(takes);
            self.texts.values_mut().filter(|text| !text.pools.is_empty()).for_each(|text| text.pools = pools.clone());
        }
        if choice == 0 && self.known().len() < TASKS_MAX {
            return self.add(rng, &stem);
        }
        let Some(text) = self.texts.get_mut(&stem) else { return };
        let index = rng.below(text.tasks.len());
        match choice {
            1 if text.tasks.len() > 1 => {
                let (gone, _) = text.tasks.remove(index);
                for (_, spec) in self.texts.values_mut().flat_map(|text| &mut text.tasks) {
                    spec.needs.retain(|need| *need != gone);
                }
            }
            2 => text.broken = !text.broken,
            _ => {
                if let Some((_, spec)) = text.tasks.get_mut(index) {
                    spec.work = Work::Prompt(format!("another text {}", rng.below(1_000)));
                }
            }
        }
    }

    /// Takes every mistake out.
    pub(super) fn mend(&mut self) {
        self.version += 1;
        for text in self.texts.values_mut() {
            text.broken = false;
        }
    }

    /// Says whether this life of the supervisor has something new to read.
    pub(super) fn read_by(&mut self, life: u64, branches: &Branches) -> bool {
        let now = Some((life, self.version, branches.clone()));
        let changed = self.read != now;
        self.read = now;
        changed
    }

    /// Notes that the supervisor was told of branches beside: whatever they are now is read again, as its shell does every few seconds.
    pub(super) fn told(&mut self, branches: &Branches) {
        self.read.take_if(|(_, _, read)| read != branches);
    }

    pub(super) fn files(&self) -> Vec<FileRead> {
        self.texts
            .iter()
            .map(|(stem, text)| {
                let path = format!("dag/{stem}.yaml");
                if text.broken {
                    let place = Place { file: path.into(), line: 1, column: 1, start: 0, end: 0 };
                    let code = "DAG001".parse().unwrap();
                    let fault =
                        Fault { place, code, message: "this is no file".to_owned(), help: None, related: Vec::new() };
                    return FileRead::Bad { stem: stem.clone(), faults: vec![fault] };
                }
                let nodes =
                    text.tasks.iter().map(|(id, spec)| scenario::node(id.clone(), &path, spec.clone())).collect();
                let place = Place { file: path.as_str().into(), line: 1, column: 1, start: 0, end: 0 };
                let declared = text.pools.iter();
                let pools = declared
                    .map(|(pool, slots)| (pool.clone(), PoolSpec { slots: *slots, place: place.clone() }))
                    .collect();
                FileRead::Good(TaskFile {
                    stem: stem.clone(),
                    path,
                    pools,
                    nodes,
                    issues: Vec::new(),
                    refs: BTreeMap::new(),
                })
            })
            .collect()
    }
}

impl World {
    pub(super) fn operator_acts(&mut self) {
        if self.calm {
            return;
        }
        let most = if self.healthy { 120 * MINUTE } else { 8 * MINUTE };
        let after = self.rng.between(20 * SECOND, most);
        self.soon(after, Happening::Operator);
        let agents: Vec<AgentId> = self.plan.agents.iter().map(|agent| agent.id.clone()).collect();
        let tasks: Vec<TaskId> = self.shadow.tasks.keys().cloned().collect();
        let (agent, task) = (self.rng.pick(&agents), self.rng.pick(&tasks));
        if self.rng.chance(if self.healthy { 50_000 } else { 80_000 }) && self.mark.is_none() {
            return self.freeze();
        }
        if self.healthy {
            if tasks.len() < TASKS_MAX {
                let request = self.submission(&tasks);
                self.ask(request);
            }
            return;
        }
        let request = match (self.rng.below(20), agent, task) {
            (0..=6, _, _) if tasks.len() < TASKS_MAX => self.submission(&tasks),
            (7 | 8, _, Some(task)) => Request::TaskCancel { task },
            (9 | 10, _, Some(task)) => {
                let no_cache = self.keyed && self.queue_rng.chance(200_000);
                Request::TaskRetry { task, no_cache }
            }
            (11, Some(agent), _) => Request::AgentRestart { agent },
            (12, Some(agent), _) => Request::AgentPause { agent },
            (13 | 14, Some(agent), _) => Request::AgentResume { agent },
            (15, _, _) if self.rng.chance(300_000) => Request::Drain,
            _ => {
                self.dag.edit(&mut self.rng);
                if !self.rng.chance(self.odds.hint_lost) {
                    let (after, life) = (self.delay(), self.life);
                    self.soon(after, Happening::DagHint { life });
                }
                return;
            }
        };
        self.ask(request);
    }

    /// In a queued world, asks now and then for the same work without a repository as before, under a key of its own.
    fn ask_for_a_twin(&mut self) {
        let has_none = |submission: &&Submission| submission.repo.as_ref().is_some_and(|repo| repo.as_str() == "none");
        let without: Vec<Submission> = self.submitted.iter().filter(has_none).cloned().collect();
        if self.keyed
            && self.queue_rng.chance(600_000)
            && let Some(earlier) = self.queue_rng.pick(&without)
        {
            let key = SubmissionKey::new(format!("key-{}", self.submitted.len())).ok();
            let twin = Submission { key, cache: Some(true), ..earlier };
            self.submitted.push(twin.clone());
            self.ask(Request::Submit(Box::new(twin)));
        }
    }

    /// Asks for a new order with a key of its own, or in a queued world now and then for an old one once more.
    fn submission(&mut self, tasks: &[TaskId]) -> Request {
        if self.keyed
            && self.queue_rng.chance(300_000)
            && let Some(again) = self.queue_rng.pick(&self.submitted)
        {
            self.ask(Request::Submit(Box::new(again)));
        }
        self.ask_for_a_twin();
        let spec = scenario::spec(&mut self.rng, tasks);
        let (agent, role) = match spec.assignee {
            Assignee::Agent(agent) => (Some(agent), None),
            Assignee::Role(role) => (None, Some(role)),
        };
        let repo = match spec.repository {
            RepositoryChoice::None => RepositoryName::new("none").ok(),
            RepositoryChoice::Named(name) => Some(name),
        };
        let key = SubmissionKey::new(format!("key-{}", self.submitted.len())).ok();
        let submission = Submission {
            key,
            cache: (self.keyed && self.queue_rng.chance(500_000)).then_some(true),
            agent,
            role,
            prompt: Some("do it".to_owned()),
            run: None,
            checks: spec.checks,
            repo,
            no_change: (spec.no_change == NoChange::Ok).then_some(NoChange::Ok),
            needs: spec.needs,
            timeout_ms: spec.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap()),
            priority: spec.priority,
            retry: Some(spec.retry),
        };
        self.submitted.push(submission.clone());
        Request::Submit(Box::new(submission))
    }

    pub(super) fn ask(&mut self, request: Request) {
        let id = RequestId(u64::try_from(self.requests.len()).unwrap());
        self.requests.insert(id, false);
        let branches = self.branches();
        self.dag.told(&branches);
        let life = self.life;
        self.soon(1, Happening::News { life, event: Box::new(Event::Asked { id, request, branches }) });
    }

    pub(super) fn something_breaks(&mut self) {
        if self.calm {
            return;
        }
        let after = self.rng.between(30 * SECOND, 12 * MINUTE);
        self.soon(after, Happening::Breaks);
        if self.healthy {
            return self.something_is_slow();
        }
        let living: Vec<u32> = self.panes.values().filter(|pane| pane.alive).map(|pane| pane.pid).collect();
        let victim = self.rng.pick(&living);
        let choice = self.rng.below(14);
        self.tell(|| format!("fault {choice} on {victim:?}"));
        match (choice, victim) {
            (0..=3, Some(pid)) => self.kill_pane(pid),
            (4, Some(pid)) => self.stop_runner(pid),
            (5, Some(pid)) => {
                if let Some(pane) = self.panes.get_mut(&pid) {
                    pane.mute = true;
                    pane.sick = true;
                }
            }
            (6, Some(pid)) => self.slow_down(pid),
            (7 | 8, _) => self.die(),
            (9, _) => self.step_clock(),
            (10, _) => {
                self.disk_full = true;
                let after = self.rng.between(SECOND, 3 * MINUTE);
                self.soon(after, Happening::Mended);
            }
            (11, _) => {
                let name = scenario::repository_name(if self.rng.chance(500_000) { "app" } else { "site" });
                self.git.repository(&name).busy = Some("its files are being changed".to_owned());
                let after = self.rng.between(SECOND, 20 * MINUTE);
                self.soon(after, Happening::Mended);
            }
            (12, _) => {
                self.disk_free = 300 << 20;
                self.load = 900;
                let after = self.rng.between(SECOND, 20 * MINUTE);
                self.soon(after, Happening::Mended);
            }
            _ => {
                let name = scenario::repository_name("site");
                self.git.repository(&name).detached = true;
                let after = self.rng.between(MINUTE, 40 * MINUTE);
                self.soon(after, Happening::Mended);
            }
        }
    }

    /// In a healthy world the machine is busy, or was suspended, or its clock was set.
    fn something_is_slow(&mut self) {
        let living: Vec<u32> = self.panes.values().filter(|pane| pane.alive).map(|pane| pane.pid).collect();
        match (self.rng.below(40), self.rng.pick(&living)) {
            (0, _) => self.step_clock(),
            (1, _) => self.die(),
            (_, Some(pid)) => self.slow_down(pid),
            (_, None) => {}
        }
    }

    /// The operator's verb: the mark, the supervisor if it listens, the processes.
    fn freeze(&mut self) {
        let most = if self.rng.chance(200_000) { 200 * MINUTE } else { 10 * MINUTE };
        let after = self.rng.between(SECOND, most);
        self.tell(|| "the operator freezes".to_owned());
        self.mark = Some(miyabi::model::time::Timestamp::from_millis(self.t + self.skew));
        self.frozen_since = self.t;
        self.obey_freeze();
        self.tell_of_mark();
        self.soon(after, Happening::Thaw);
    }

    pub(super) fn thaw(&mut self) {
        let Some(since) = self.mark.take() else { return };
        let until = miyabi::model::time::Timestamp::from_millis(self.t + self.skew);
        self.past_freeze = Some(miyabi::model::freeze::PastFreeze { since, until });
        self.tell(|| "the operator thaws".to_owned());
        self.obey_freeze();
        self.tell_of_mark();
    }

    fn tell_of_mark(&mut self) {
        let (life, since) = (self.life, self.mark);
        if !self.rng.chance(self.odds.hint_lost) {
            self.soon(1, Happening::News { life, event: Box::new(Event::FreezeSeen { since }) });
            self.ask(Request::FreezeChanged);
        }
        let agents: Vec<AgentId> =
            self.plan.agents.iter().filter(|agent| agent.takes_work()).map(|agent| agent.id.clone()).collect();
        let event =
            since.map_or(miyabi::runner::event::Event::Thawed(self.past_freeze), miyabi::runner::event::Event::Frozen);
        for agent in agents {
            self.hint_runner(&agent, &event);
        }
    }

    /// Programs stand still, or go on, as the mark says.
    pub(super) fn obey_freeze(&mut self) {
        let t = self.t;
        let since = self.frozen_since;
        match self.mark {
            Some(_) => {
                for program in self.programs.values_mut() {
                    program.stand_still();
                }
            }
            None => {
                for program in self.programs.values_mut() {
                    program.go_on(t, since);
                }
                for serial in std::mem::take(&mut self.standing) {
                    let after = self.rng.between(1, 20 * SECOND);
                    self.soon(after, Happening::ProgramEnds { program: serial });
                }
            }
        }
    }

    fn stop_runner(&mut self, pid: u32) {
        let goes_on = self.rng.chance(500_000);
        let after = self.rng.between(SECOND, 3 * MINUTE);
        if let Some(pane) = self.panes.get_mut(&pid) {
            pane.stopped = true;
            pane.sick = true;
        }
        if goes_on {
            self.soon(after, Happening::Continued { pid });
        }
    }

    /// A busy machine: the runner finds no time to beat, but its program works.
    fn slow_down(&mut self, pid: u32) {
        let until = self.t + self.rng.between(30 * SECOND, 4 * MINUTE);
        let works = self
            .panes
            .get(&pid)
            .and_then(|pane| pane.program)
            .and_then(|program| self.programs.get(&program))
            .is_some_and(|program| program.waits.is_none());
        if let Some(pane) = self.panes.get_mut(&pid)
            && works
        {
            pane.slow_until = until;
        }
    }

    /// The machine was suspended, or somebody set its clock.
    pub(super) fn step_clock(&mut self) {
        self.leaps += 1;
        let forward = self.rng.chance(600_000);
        let by = if forward { self.rng.between(SECOND, 180 * MINUTE) } else { -self.rng.between(SECOND, 60 * MINUTE) };
        self.skew += by;
        self.tell(|| format!("the clock steps by {} s", by / SECOND));
        let pids: Vec<u32> = self.panes.values().filter(|pane| pane.alive).map(|pane| pane.pid).collect();
        // Whoever sleeps until a time notices at its next turn.
        for pid in pids {
            self.pump(pid);
        }
    }

    pub(super) fn mend(&mut self) {
        self.disk_full = false;
        self.disk_free = super::world::ROOMY;
        self.load = 50;
        for repository in self.git.repositories.values_mut() {
            repository.busy = None;
            repository.detached = false;
        }
    }

    /// Faults stop, and the operator lets everybody work again.
    pub(super) fn calm_down(&mut self) {
        self.tell(|| "faults stop".to_owned());
        if self.core.is_none() || !self.started {
            self.soon(SECOND, Happening::Calm);
            self.odds = Odds::CALM;
            return;
        }
        self.mend();
        self.thaw();
        let was_calm = std::mem::replace(&mut self.calm, true);
        self.odds = Odds::CALM;
        self.team_is_whole();
        let agents: Vec<AgentId> = self.plan.agents.iter().map(|agent| agent.id.clone()).collect();
        for agent in agents {
            self.ask(Request::AgentResume { agent });
        }
        // A supervisor that is draining ends soon, and agents that hang may use up their restarts: look again.
        if !was_calm || self.t < self.end - 45 * MINUTE {
            self.soon(10 * MINUTE, Happening::Calm);
        }
    }
}
