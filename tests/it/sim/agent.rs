//! Panes with real runner machines in them; what their shells do is made up.

use std::collections::BTreeMap;
use std::sync::Arc;

use miyabi::core::event::Event as News;
use miyabi::model::agent::AgentSpec;
use miyabi::model::beat::{Activity, Step};
use miyabi::model::envelope::Envelope;
use miyabi::model::id::{AgentId, EnvelopeId, Incarnation};
use miyabi::model::order::{Expects, WorkOrder, attempt_key};
use miyabi::model::report::Report;
use miyabi::model::task::RepositoryChoice;
use miyabi::runner::attempt::{Commit, Prepared};
use miyabi::runner::event::{Effect, Event, Purpose, Trouble};
use miyabi::runner::machine::{Duty, Machine, Settings};

use super::git::Committed;
use super::program::HANGS;
use super::world::{Clock, Happening, MINUTE, SECOND, World};

/// After so many timeouts a runner that hangs while its program waits for somebody has been ended.
const HANGS_TIMEOUTS_MAX: i64 = 8;

/// A pane and the runner in it.
#[derive(Debug)]
pub(super) struct Pane {
    pub(super) pid: u32,
    pub(super) agent: AgentId,
    pub(super) incarnation: Incarnation,
    /// The settings with which it was started.
    pub(super) spec: AgentSpec,
    pub(super) machine: Machine,
    pub(super) clock: Clock,
    pub(super) alive: bool,
    /// The life of the supervisor that hears of its end.
    pub(super) watched: u64,
    /// Stopped by a signal: it does nothing, and what happens to it waits.
    pub(super) stopped: bool,
    pub(super) held: Vec<Happening>,
    /// Its heartbeat file cannot be written.
    pub(super) mute: bool,
    /// It is slow: until then it finds no time to beat, though its program works.
    pub(super) slow_until: i64,
    /// Something happened to it that makes a restart right.
    pub(super) sick: bool,
    /// It was told to end, or its program was.
    pub(super) told_to_stop: bool,
    /// Processor time of its programs that have ended.
    pub(super) burnt: u64,
    /// The program that it drives now.
    pub(super) program: Option<u64>,
    turn: u64,
}

/// A part of a step of a runner's shell.
#[derive(Debug)]
pub(super) enum Act {
    Lease,
    Look(EnvelopeId),
    Prepare(Arc<WorkOrder>),
    Run(Arc<WorkOrder>),
    Commit { order: Arc<WorkOrder>, base: String, purpose: Purpose },
    Check(Arc<WorkOrder>),
    Deliver(Arc<Envelope>),
    Ack(Arc<WorkOrder>),
}

impl World {
    pub(super) fn spawn_pane(&mut self, life: u64, agent: &AgentId, incarnation: Incarnation) {
        self.check_spawn(agent, incarnation);
        if self.rng.chance(self.odds.spawn_failed) {
            let reason = "tmux is not there".to_owned();
            self.news(life, News::PaneSpawnFailed { agent: agent.clone(), incarnation, reason });
            return;
        }
        let silent = self.rng.chance(self.odds.spawn_silent);
        if silent && self.rng.chance(500_000) {
            return;
        }
        let found = self
            .panes
            .values()
            .find(|pane| pane.alive && pane.agent == *agent && pane.incarnation == incarnation)
            .map(|pane| pane.pid);
        let pid = found.unwrap_or_else(|| self.make_pane(agent, incarnation));
        if !silent {
            if let Some(pane) = self.panes.get_mut(&pid) {
                pane.watched = life;
            }
            let event = News::PaneSpawned { agent: agent.clone(), incarnation, pane: format!("%{pid}"), pid };
            self.news(life, event);
        }
    }

    fn make_pane(&mut self, agent: &AgentId, incarnation: Incarnation) -> u32 {
        let pid = u32::try_from(self.panes.len()).unwrap() + 1;
        let spec = self.settings_of(agent);
        let mut clock = Clock::new(self.t, self.skew);
        let settings = Settings {
            agent: agent.clone(),
            incarnation,
            pid,
            heartbeat: spec.heartbeat,
            stop_timeout: spec.stop_timeout,
            duty: if spec.takes_work() { Duty::Work } else { Duty::Show },
        };
        let machine = Machine::new(settings, clock.now(self.t, self.skew));
        let hangs = !self.calm && !self.healthy && self.rng.chance(20_000);
        self.checks.spawns += 1;
        self.panes.insert(
            pid,
            Pane {
                pid,
                agent: agent.clone(),
                incarnation,
                spec: spec.clone(),
                machine,
                clock,
                alive: true,
                watched: 0,
                stopped: false,
                held: Vec::new(),
                mute: false,
                slow_until: 0,
                sick: hangs,
                told_to_stop: false,
                burnt: 0,
                program: None,
                turn: 0,
            },
        );
        self.pump(pid);
        if !hangs {
            let slow = i64::try_from(spec.start_timeout.as_millis()).unwrap() / 2;
            let after = if self.rng.chance(150_000) { slow } else { self.rng.between(100, 3 * SECOND) };
            if !self.calm && self.rng.chance(self.odds.leap_at_start) {
                let at = self.rng.between(1, after);
                self.soon(at, Happening::Leap);
            }
            self.soon(after, Happening::RunnerHears { pid, event: Box::new(Event::Ready) });
        }
        pid
    }

    /// Tells the runner of an agent something that it may also miss.
    pub(super) fn hint_runner(&mut self, agent: &AgentId, event: &Event) {
        let pids: Vec<u32> =
            self.panes.values().filter(|pane| pane.alive && pane.agent == *agent).map(|pane| pane.pid).collect();
        for pid in pids {
            if !self.rng.chance(self.odds.hint_lost) {
                let after = self.delay();
                self.soon(after, Happening::RunnerHears { pid, event: Box::new(event.clone()) });
            }
        }
    }

    /// Takes a happening for a runner that lives and is not stopped; holds it for one that is stopped.
    fn runs(&mut self, pid: u32, happening: impl FnOnce() -> Happening) -> bool {
        let Some(pane) = self.panes.get_mut(&pid).filter(|pane| pane.alive) else { return false };
        if pane.stopped {
            let held = happening();
            pane.held.push(held);
            return false;
        }
        true
    }

    pub(super) fn runner_hears(&mut self, pid: u32, event: Event) {
        if !self.runs(pid, || Happening::RunnerHears { pid, event: Box::new(event.clone()) }) {
            return;
        }
        let (t, skew) = (self.t, self.skew);
        self.tell(|| format!("    runner {pid} hears {}", event.name()));
        let Some(pane) = self.panes.get_mut(&pid) else { return };
        let now = pane.clock.now(t, skew);
        if matches!(event, Event::StopRequested) {
            pane.told_to_stop = true;
        }
        // The shell looks at the mark itself before it says so.
        let is_mark = matches!(event, Event::Frozen(_) | Event::Thawed(_));
        let event = if is_mark { self.mark.map_or(Event::Thawed(self.past_freeze), Event::Frozen) } else { event };
        if self.disk_full && event.is_failure() && pane.machine.handle_event(Event::DiskFull, now).is_err() {
            self.checks.fail(format!("runner {pid}: a full disk cannot be told"));
        }
        let Some(pane) = self.panes.get_mut(&pid) else { return };
        if let Err(illegal) = pane.machine.handle_event(event, now) {
            self.checks.fail(format!("runner {pid}: {illegal}"));
        }
        self.pump(pid);
    }

    pub(super) fn runner_wakes(&mut self, pid: u32, turn: u64) {
        if self.panes.get(&pid).is_none_or(|pane| pane.turn != turn) {
            return;
        }
        if !self.runs(pid, || Happening::RunnerWakes { pid, turn }) {
            return;
        }
        let (t, skew) = (self.t, self.skew);
        let Some(pane) = self.panes.get_mut(&pid) else { return };
        let now = pane.clock.now(t, skew);
        let works = self.full.agent(&pane.agent).is_some_and(miyabi::model::agent::AgentSpec::takes_work);
        let mark = self.mark.filter(|_| works).map_or(Event::Thawed(self.past_freeze), Event::Frozen);
        if let Err(illegal) = pane.machine.handle_event(mark, now) {
            self.checks.fail(format!("runner {pid}: {illegal}"));
        }
        let Some(pane) = self.panes.get_mut(&pid) else { return };
        pane.machine.handle_timeout(now);
        if let Some((at, why)) = pane.machine.poll_timeout().filter(|(at, _)| *at <= now) {
            self.checks.fail(format!("a hot loop: after {now} runner {pid} wakes at {at}: {why}"));
        }
        self.pump(pid);
    }

    /// Does what a runner asks for, and sets its timer.
    pub(super) fn pump(&mut self, pid: u32) {
        while let Some(effect) =
            self.panes.get_mut(&pid).filter(|pane| pane.alive).and_then(|pane| pane.machine.poll_effect())
        {
            self.run_runner_effect(pid, effect);
        }
        let (t, skew) = (self.t, self.skew);
        let Some(pane) = self.panes.get_mut(&pid).filter(|pane| pane.alive) else { return };
        pane.turn += 1;
        let turn = pane.turn;
        let now = pane.clock.now(t, skew);
        if let Some((at, _)) = pane.machine.poll_timeout() {
            let after = (at.as_millis() - now.as_millis()).max(0);
            self.soon(after, Happening::RunnerWakes { pid, turn });
        }
    }

    fn run_runner_effect(&mut self, pid: u32, effect: Effect) {
        let act = match effect {
            Effect::Beat(beat) => return self.write_beat(pid, beat),
            Effect::Signal(pull) => return self.signal(pid, pull),
            Effect::Exit => return self.end_pane(pid),
            Effect::Clear(_) => {
                let after = self.rng.between(10, 500);
                return self.soon(after, Happening::RunnerHears { pid, event: Box::new(Event::Cleared) });
            }
            Effect::Lease => Act::Lease,
            Effect::Look(id) => Act::Look(id),
            Effect::Prepare(order) => Act::Prepare(order),
            Effect::Run(order) => Act::Run(order),
            Effect::Commit { order, base, purpose, .. } => Act::Commit { order, base, purpose },
            Effect::Check { order, .. } => Act::Check(order),
            Effect::Deliver(envelope) => Act::Deliver(envelope),
            Effect::Ack(order) => Act::Ack(order),
        };
        let after =
            if self.rng.chance(self.odds.late) { self.rng.between(1, 3 * SECOND) } else { self.rng.between(1, 200) };
        self.soon(after, Happening::RunnerDoes { pid, act: Box::new(act) });
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only these steps run programs")]
    fn write_beat(&mut self, pid: u32, mut beat: miyabi::model::beat::Beat) {
        let now = self.t;
        let Some(pane) = self.panes.get(&pid) else { return };
        if pane.mute || pane.slow_until > now {
            return;
        }
        let program = pane.program.and_then(|program| self.programs.get(&program));
        let serial = pane.program;
        let silences = program.and_then(|program| program.silences);
        if let Some(lasts) = silences
            && beat.activity.is_legitimately_silent()
            && let Some(pane) = self.panes.get_mut(&pid)
        {
            pane.slow_until = now + lasts;
            pane.mute |= lasts == HANGS;
            pane.sick |= lasts == HANGS;
            if let Some(program) = serial.and_then(|serial| self.programs.get_mut(&serial)) {
                program.silences = None;
            }
        }
        beat.progress = match &beat.activity {
            Activity::Busy { step: Step::Running | Step::Checking, .. } => {
                let serial = self.panes.get(&pid).and_then(|pane| pane.program);
                serial.and_then(|serial| self.programs.get(&serial)).map(|program| program.progress(now))
            }
            _ => None,
        };
        let agent = beat.agent.clone();
        self.beats.insert(agent.clone(), beat);
        if !self.rng.chance(self.odds.hint_lost) {
            let (after, life) = (self.delay(), self.life);
            self.soon(after, Happening::BeatHint { life, agent });
        }
    }

    /// Called at every turn of the supervisor: a runner that hangs while its program waits for somebody is not suspected for ever.
    pub(super) fn check_none_hangs_for_ever(&mut self) {
        let since = (self.t, self.life, self.leaps);
        let hangs = |pane: &&Pane| {
            let program = pane.program.and_then(|program| self.programs.get(&program));
            let waits = program.is_some_and(|program| program.waits.is_some());
            pane.alive && pane.mute && waits && !pane.told_to_stop && self.mark.is_none()
        };
        let hanging: BTreeMap<u32, AgentId> =
            self.panes.values().filter(hangs).map(|pane| (pane.pid, pane.agent.clone())).collect();
        self.checks
            .hanging
            .retain(|pid, (_, life, leaps)| hanging.contains_key(pid) && (*life, *leaps) == (since.1, since.2));
        for (pid, agent) in hanging {
            let (began, ..) = *self.checks.hanging.entry(pid).or_insert(since);
            let timeout = i64::try_from(self.settings_of(&agent).heartbeat_timeout.as_millis()).unwrap();
            if began + HANGS_TIMEOUTS_MAX * timeout + MINUTE < self.t {
                self.checks.fail(format!("{agent}: its runner hangs for {} ms, and nobody ends it", self.t - began));
            }
        }
    }

    fn trouble(&mut self) -> Option<Trouble> {
        (self.disk_full || self.rng.chance(self.odds.step_failed)).then(|| Trouble("no space left".to_owned()))
    }

    pub(super) fn answer(&mut self, pid: u32, event: Event) {
        let after = self.rng.between(1, 50);
        self.soon(after, Happening::RunnerHears { pid, event: Box::new(event) });
    }

    pub(super) fn runner_does(&mut self, pid: u32, act: Act) {
        let Some(pane) = self.panes.get_mut(&pid).filter(|pane| pane.alive) else { return };
        if pane.stopped {
            pane.held.push(Happening::RunnerDoes { pid, act: Box::new(act) });
            return;
        }
        let (agent, incarnation) = (pane.agent.clone(), pane.incarnation);
        // A lease is asked for every few seconds, every other step once in an attempt.
        let step_killed = match act {
            Act::Lease | Act::Look(_) => false,
            Act::Prepare(_) | Act::Run(_) | Act::Commit { .. } | Act::Check(_) | Act::Deliver(_) | Act::Ack(_) => {
                self.rng.chance(self.odds.step_killed)
            }
        };
        self.do_act(pid, &agent, incarnation, act);
        if step_killed {
            self.kill_pane(pid);
        }
    }

    fn do_act(&mut self, pid: u32, agent: &AgentId, incarnation: Incarnation, act: Act) {
        match act {
            Act::Lease => {
                let failed = self.rng.chance(self.odds.step_failed);
                if failed && self.rng.chance(500_000) {
                    return self.answer(pid, Event::Leased(Err(Trouble("cannot list".to_owned()))));
                }
                let order = self.spool.lease(agent, incarnation).map(Arc::new);
                if let Some(order) = &order {
                    self.tell(|| {
                        format!("    runner {pid} leases {} of {} attempt {}", order.id, order.task, order.attempt)
                    });
                }
                let lost = failed && order.is_some();
                let answer = if lost { Err(Trouble("cannot read".to_owned())) } else { Ok(order) };
                self.answer(pid, Event::Leased(answer));
            }
            Act::Look(id) => {
                let held = miyabi::core::event::OrderPlace::Leased(incarnation);
                if self.spool.place(id) != held {
                    self.answer(pid, Event::OrderGone(id));
                }
            }
            Act::Prepare(order) => {
                let answer = match self.trouble() {
                    Some(trouble) => Err(trouble),
                    None => Ok(self.prepare(&order)),
                };
                self.answer(pid, Event::Prepared(answer));
            }
            Act::Run(order) => {
                self.begin_program(pid, &order);
            }
            Act::Check(order) => self.begin_check(pid, &order),
            Act::Commit { order, base, purpose } => {
                let answer = self.commit(&order, &base, purpose);
                self.answer(pid, Event::Committed(answer));
            }
            Act::Deliver(envelope) => {
                let trouble = self.trouble();
                // A failure may come after the envelope is there.
                if trouble.is_none() || self.rng.chance(300_000) {
                    let report: Report = serde_json::from_value(envelope.body.clone()).expect("it is a report");
                    self.spool.report(envelope.id, report);
                    if !self.rng.chance(self.odds.hint_lost) {
                        let (after, life) = (self.delay(), self.life);
                        self.soon(after, Happening::ReportHint { life });
                    }
                }
                self.answer(pid, Event::Delivered(trouble.map_or(Ok(()), Err)));
            }
            Act::Ack(order) => {
                let trouble = self.trouble();
                if trouble.is_none() {
                    self.spool.ack(order.id, incarnation);
                }
                self.answer(pid, Event::Acked(trouble.map_or(Ok(()), Err)));
            }
        }
    }

    fn prepare(&mut self, order: &WorkOrder) -> Prepared {
        let Some(place) = &order.workplace else { return Prepared::default() };
        if let (Expects::Proof, Some(start)) = (order.expects, &place.start) {
            let commit = Commit {
                id: start.commit.clone(),
                base: start.base.clone(),
                branch: place.branch.clone(),
                diff: "+a line".to_owned(),
                protected: Vec::new(),
            };
            return Prepared { base: Some(start.base.clone()), recovered: Some(commit) };
        }
        let unreported = order.previous.iter().flat_map(|previous| &previous.unreported);
        let branches = &self.git.repository(&place.repository).branches;
        let recovered = unreported
            .filter_map(|branch| {
                branches.get(branch).filter(|found| found.trailer.is_some()).map(|found| (branch, found))
            })
            .next()
            .map(|(branch, found)| Commit {
                id: found.id.clone(),
                base: found.base.clone(),
                branch: branch.clone(),
                diff: String::new(),
                protected: Vec::new(),
            });
        let base = place.start.as_ref().map_or_else(|| self.git.head(&place.repository), |start| start.base.clone());
        Prepared { base: Some(base), recovered }
    }

    fn commit(&mut self, order: &WorkOrder, base: &str, purpose: Purpose) -> Result<Option<Commit>, Trouble> {
        if let Some(trouble) = self.trouble() {
            return Err(trouble);
        }
        let Some(place) = &order.workplace else { return Ok(None) };
        let nothing = self.rng.chance(if self.calm { 0 } else { 50_000 });
        if nothing || (order.no_change == miyabi::model::task::NoChange::Ok && self.rng.chance(300_000)) {
            return Ok(None);
        }
        let trailer = (purpose == Purpose::Proof).then(|| attempt_key(order.run, &order.stage, order.attempt));
        let made = Committed {
            id: String::new(),
            base: base.to_owned(),
            trailer,
            part: self.rng.next() % 3,
            fragile: !self.calm && self.rng.chance(300_000),
        };
        let made = self.git.commit(&place.repository, &place.branch, made);
        let (branch, diff) = (place.branch.clone(), "+a line".to_owned());
        Ok(Some(Commit { id: made.id, base: made.base, branch, diff, protected: Vec::new() }))
    }

    pub(super) fn continue_runner(&mut self, pid: u32) {
        let Some(pane) = self.panes.get_mut(&pid).filter(|pane| pane.alive) else { return };
        pane.stopped = false;
        for (index, happening) in std::mem::take(&mut pane.held).into_iter().enumerate() {
            self.soon(i64::try_from(index).unwrap(), happening);
        }
    }

    pub(super) fn kill_pane(&mut self, pid: u32) {
        self.tell(|| format!("    runner {pid} is killed"));
        self.end_pane(pid);
    }

    fn end_pane(&mut self, pid: u32) {
        let Some(pane) = self.panes.get_mut(&pid).filter(|pane| pane.alive) else { return };
        pane.alive = false;
        let (agent, incarnation, watched) = (pane.agent.clone(), pane.incarnation, pane.watched);
        if watched != 0 && watched == self.life {
            self.news(watched, News::PaneDied { agent, incarnation });
        }
    }

    /// Ends every process that carries an incarnation's marks.
    pub(super) fn kill_remains(&mut self, agent: &AgentId, incarnation: Incarnation) {
        let pids: Vec<u32> = self
            .panes
            .values()
            .filter(|pane| pane.alive && pane.agent == *agent && pane.incarnation == incarnation)
            .map(|pane| pane.pid)
            .collect();
        if !pids.is_empty() {
            self.checks.cleared_alive.insert((agent.clone(), incarnation));
        }
        for pid in pids {
            self.kill_pane(pid);
        }
        self.programs.retain(|_, program| program.agent != *agent || program.incarnation != incarnation);
    }
}

/// Names the repository that a task is worked on in.
pub(super) fn repository_of(choice: &RepositoryChoice) -> Option<&miyabi::model::id::RepositoryName> {
    match choice {
        RepositoryChoice::None => None,
        RepositoryChoice::Named(name) => Some(name),
    }
}
