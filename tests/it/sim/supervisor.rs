//! The supervisor's loop around the core, its death and its return.

use std::collections::BTreeMap;

use miyabi::core::Core;
use miyabi::core::effect::{Effect, Stop};
use miyabi::core::event::{Event, Evidence, PaneFound};
use miyabi::core::fact::{Fact, Recorded};
use miyabi::core::state::Durable;
use miyabi::model::alert::AlertKind;
use miyabi::model::id::{AgentId, Incarnation};
use miyabi::runner;

use super::scenario::Order;
use super::world::{Clock, Happening, SECOND, World};

/// How many effects one turn may have.
const EFFECTS_MAX: usize = 10_000;

pub(super) enum Input {
    Event(Event),
    Timeout,
}

impl World {
    pub(super) fn start_supervisor(&mut self) {
        if self.core.is_some() {
            return;
        }
        self.life += 1;
        self.started = false;
        self.repaired = false;
        self.load_seen = None;
        self.clock = Clock::new(self.t, self.skew);
        self.beats_read.clear();
        let now = self.clock.now(self.t, self.skew);
        if self.journal.snapshot.is_none() && self.journal.facts.is_empty() {
            self.append(&Recorded { at: now, fact: Fact::Begun { seed: self.seed } });
        }
        let durable = self.replay();
        if durable != self.shadow {
            self.checks.fail("what the journal holds does not add up to what was recorded");
        }
        self.tell(|| "the supervisor starts".to_owned());
        self.core = Some(Box::new(Core::restore(self.plan.clone(), durable, now)));
        let after = self.rng.between(1, 300);
        let life = self.life;
        self.soon(after, Happening::LookedAround { life });
    }

    fn replay(&self) -> Durable {
        let mut durable: Durable = self
            .journal
            .snapshot
            .as_ref()
            .map(|text| serde_json::from_str(text).expect("a snapshot can be read back"))
            .unwrap_or_default();
        for text in &self.journal.facts {
            durable.apply(&Self::parse(text)).expect("a recorded fact fits");
        }
        durable
    }

    /// The reports that were waiting come first, then what was found.
    pub(super) fn on_looked_around(&mut self, life: u64) {
        if life != self.life {
            return;
        }
        let Some(core) = &self.core else { return };
        let orders: BTreeMap<_, _> =
            core.open_orders().into_iter().map(|(_, order)| (order, self.spool.place(order))).collect();
        let panes: Vec<PaneFound> = self
            .panes
            .values()
            .filter(|pane| pane.alive)
            .map(|pane| PaneFound {
                agent: pane.agent.clone(),
                incarnation: pane.incarnation,
                pane: format!("%{}", pane.pid),
                pid: pane.pid,
                launched: Some(Box::new(pane.spec.clone())),
            })
            .collect();
        for (id, report) in self.spool.take_reports(life, self.t) {
            self.turn(Input::Event(Event::ReportArrived { report: Box::new(report), receipt: id.to_string() }));
        }
        if life == self.life && self.core.is_some() {
            self.started = true;
            self.look_at_room_and_mark(life);
            self.turn(Input::Event(Event::Started { panes, orders }));
            self.sweep(life, 0);
        }
    }

    pub(super) fn on_news(&mut self, life: u64, event: Event) {
        if life == self.life && self.started {
            self.turn(Input::Event(event));
        }
    }

    /// Says when the supervisor wakes by itself, in true time.
    pub(super) fn supervisor_wakes(&mut self) -> Option<i64> {
        let (at, _) = self.core.as_ref()?.poll_timeout()?;
        let now = self.clock.now(self.t, self.skew);
        Some(self.t + (at.as_millis() - now.as_millis()).max(0))
    }

    pub(super) fn supervisor_timeout(&mut self) {
        self.turn(Input::Timeout);
    }

    pub(super) fn turn(&mut self, input: Input) {
        let Some(mut core) = self.core.take() else { return };
        let now = self.clock.now(self.t, self.skew);
        self.checks.turns += 1;
        self.check_none_hangs_for_ever();
        match input {
            Input::Event(event) => {
                self.checks.on_event(&event);
                self.tell(|| format!("> {}", brief(&event)));
                self.repaired |= matches!(event, Event::Started { .. });
                core.handle_event(event, now);
            }
            Input::Timeout => {
                self.checks.timeouts += 1;
                let why = core.poll_timeout();
                self.tell(|| format!("> timeout {why:?}"));
                core.handle_timeout(now);
                if why.is_some() {
                    self.check_not_overlooked(&core, now);
                }
                if let Some((at, why)) = core.poll_timeout().filter(|(at, _)| *at <= now) {
                    self.checks.fail(format!("a hot loop: after {now} the supervisor wakes at {at}: {why}"));
                }
            }
        }
        if let Some(illegal) = core.broken() {
            self.checks.fail(format!("the core broke its own rules: {illegal}"));
        }
        let mut effects: Vec<Effect> = std::iter::from_fn(|| core.poll_effect()).take(EFFECTS_MAX).collect();
        if effects.len() == EFFECTS_MAX {
            self.checks.fail("a turn without end");
        }
        if self.order == Order::RecordsFirst {
            effects.sort_by_key(|effect| !matches!(effect, Effect::Record(_)));
        }
        let recorded = effects.iter().any(|effect| matches!(effect, Effect::Record(_)));
        let durable = recorded.then(|| core.durable().clone());
        self.core = Some(core);
        for effect in effects {
            // What lies between a record and its act is the place to die.
            if self.rng.chance(if recorded { self.odds.death * 3 } else { self.odds.death }) {
                self.die();
                return;
            }
            self.run_effect(effect);
            if self.core.is_none() {
                return;
            }
        }
        if durable.is_some_and(|durable| durable != self.shadow) {
            self.checks.fail("the recorded facts do not add up to the live state");
        }
        if recorded && self.repaired {
            self.check_mailboxes();
            self.check_strikes();
        }
        if recorded && self.rng.chance(2_000) {
            self.compact();
        }
        if self.rng.chance(self.odds.early_wake) && self.started {
            self.turn(Input::Timeout);
        }
    }

    fn compact(&mut self) {
        self.journal.snapshot = Some(serde_json::to_string(&self.shadow).expect("the state can be written"));
        self.journal.facts.clear();
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only two facts come from the mere going on of time")]
    fn append(&mut self, recorded: &Recorded) {
        let text = serde_json::to_string(recorded).expect("a fact can be written");
        self.imprint(&text);
        let read = Self::parse(&text);
        self.check_fact(&read);
        if let Err(illegal) = self.shadow.apply(&read) {
            self.checks.fail(format!("a recorded fact does not fit: {illegal}"));
        }
        self.follow_line(&read);
        self.journal.facts.push(text);
        // Time goes on also when nothing happens: what is blocked for good becomes late.
        let is_late = match &read.fact {
            Fact::SlaMissed { .. } => true,
            Fact::AlertRaised { alert } => alert.kind == AlertKind::SlaMissed,
            _ => false,
        };
        self.checks.facts += u64::from(!is_late);
    }

    /// The supervisor's process is gone from one moment to the next.
    pub(super) fn die(&mut self) {
        if self.core.take().is_none() {
            return;
        }
        self.tell(|| "the supervisor is killed".to_owned());
        // A real one records the facts of a turn at once, so that an alert and its reason are never apart.
        self.checks.struck.clear();
        self.started = false;
        // What it had begun outside may still happen, but nobody hears of it.
        for effect in self.take_slow(self.life) {
            if self.rng.chance(500_000) {
                self.carry_out(0, effect);
            }
        }
        let after = if self.rng.chance(100_000) { 600 * SECOND } else { self.rng.between(SECOND, 20 * SECOND) };
        self.soon(after, Happening::Start);
    }

    fn run_effect(&mut self, effect: Effect) {
        self.tell(|| format!("  < {}", brief(&effect)));
        let life = self.life;
        match effect {
            Effect::Record(recorded) => self.append(&recorded),
            Effect::SpawnPane { ref agent, incarnation } => {
                self.check_spawn(agent, incarnation);
                let slow = self.rng.chance(self.odds.late);
                let after = if slow { self.rng.between(SECOND, 40 * SECOND) } else { self.rng.between(50, SECOND) };
                self.soon(after, Happening::Slow { life, effect: Box::new(effect) });
            }
            Effect::FindResult(find) => {
                let base = self.git.find_result(&find);
                self.checks.found.extend(base.clone().map(|base| ((find.task.clone(), find.run), base)));
                self.news(life, Event::ResultFound { task: find.task, run: find.run, base });
            }
            Effect::ClearRemains { .. } | Effect::Probe { .. } => {
                let after = self.delay();
                self.soon(after, Happening::Slow { life, effect: Box::new(effect) });
            }
            Effect::Merge(_) => {
                let after = self.rng.between(50, 3 * SECOND);
                self.soon(after, Happening::Slow { life, effect: Box::new(effect) });
            }
            Effect::AdoptPane { agent, incarnation, pid, .. } => match self.panes.get_mut(&pid) {
                Some(pane) if pane.alive => pane.watched = life,
                Some(_) | None => self.news(life, Event::PaneDied { agent, incarnation }),
            },
            Effect::StopPane { agent, incarnation, how } => self.stop_pane(&agent, incarnation, how),
            Effect::DeliverOrder(order) => {
                let (agent, envelope) = (order.agent.clone(), order.id);
                self.check_delivery(envelope);
                if self.disk_full {
                    // Some failures come after the envelope is there.
                    if self.rng.chance(200_000) {
                        self.spool.deliver(&order);
                    }
                    let reason = "the disk is full".to_owned();
                    self.news(life, Event::OrderNotDelivered { agent, envelope, reason });
                } else {
                    self.spool.deliver(&order);
                    self.check_mailbox(&agent);
                    self.hint_runner(&agent, &runner::event::Event::MailboxChanged);
                }
            }
            Effect::InspectOrder { agent, envelope } => {
                let place = self.spool.place(envelope);
                self.news(life, Event::OrderInspected { agent, envelope, place });
            }
            Effect::RetireOrder { envelope, how, .. } => {
                let failed = self.rng.chance(self.odds.retire_failed) || (self.disk_full && self.rng.chance(500_000));
                if failed && self.rng.chance(500_000) {
                    self.checks.retire_failed.insert(envelope);
                    return;
                }
                self.checks.retire_failed.remove(&envelope);
                if let Some(agent) = self.spool.retire(envelope, &how) {
                    self.hint_runner(&agent, &runner::event::Event::OrderGone(envelope));
                }
                if !failed {
                    self.news(life, Event::OrderRetired { envelope });
                }
            }
            // Nobody looks at what attempts have on the disk here.
            Effect::ForgetLogs(_) | Effect::ForgetBranches { .. } => {}
            Effect::Nudge { .. } => self.checks.nudges += 1,
            Effect::Alert(alert) => self.check_told(&alert),
            Effect::ObeyFreeze => self.obey_freeze(),
            Effect::AckReport { receipt } => self.spool.ack_report(&receipt),
            Effect::Answer { id, .. } => self.check_answer(id),
            Effect::Github(effect) => panic!("nothing of this team is on GitHub: {effect:?}"),
            Effect::Exit => self.exit(),
        }
    }

    fn exit(&mut self) {
        self.check_exit();
        self.core = None;
        self.started = false;
        self.tell(|| "the supervisor ends".to_owned());
        let after = self.rng.between(SECOND, 30 * SECOND);
        self.soon(after, Happening::Start);
    }

    /// Carries out an effect that takes its time; `life` 0: its supervisor is dead.
    pub(super) fn carry_out(&mut self, life: u64, effect: Effect) {
        match effect {
            Effect::SpawnPane { agent, incarnation } => self.spawn_pane(life, &agent, incarnation),
            Effect::Probe { agent, incarnation, pid } => {
                let blind = self.rng.chance(self.odds.probe_blind);
                let evidence = self.evidence(pid).filter(|_| !blind);
                self.news(life, Event::Probed { agent, incarnation, evidence });
            }
            Effect::ClearRemains { agent, incarnation, order } => {
                self.forget_spawns(&agent);
                self.kill_remains(&agent, incarnation);
                if self.rng.chance(self.odds.clear_unanswered) {
                    return;
                }
                let after = self.delay();
                for (id, report) in self.spool.reports_of(&agent, incarnation) {
                    let event = Event::ReportArrived { report: Box::new(report), receipt: id.to_string() };
                    self.soon(after, Happening::News { life, event: Box::new(event) });
                }
                let order = order.map(|order| self.spool.place(order));
                let event = Event::RemainsCleared { agent, incarnation, order };
                self.soon(after, Happening::News { life, event: Box::new(event) });
            }
            Effect::Merge(merge) => {
                self.disturb(&merge);
                let result = self.git.merge(&merge);
                self.tell(|| format!("  git: {} {result:?}", merge.task));
                self.check_merge(&merge, &result);
                if !self.rng.chance(self.odds.merge_unanswered) {
                    let (run, attempt) = (merge.run, merge.attempt);
                    self.news(life, Event::MergeEnded { task: merge.task, run, attempt, result });
                }
            }
            Effect::Record(_)
            | Effect::AdoptPane { .. }
            | Effect::StopPane { .. }
            | Effect::DeliverOrder(_)
            | Effect::InspectOrder { .. }
            | Effect::RetireOrder { .. }
            | Effect::Nudge { .. }
            | Effect::ForgetLogs(_)
            | Effect::ForgetBranches { .. }
            | Effect::Alert(_)
            | Effect::Github(_)
            | Effect::FindResult(_)
            | Effect::ObeyFreeze
            | Effect::AckReport { .. }
            | Effect::Answer { .. }
            | Effect::Exit => unreachable!("these are carried out at once"),
        }
    }

    fn stop_pane(&mut self, agent: &AgentId, incarnation: Incarnation, how: Stop) {
        if how == Stop::Kill {
            self.checks.on_kill(agent, incarnation);
        }
        let found = self
            .panes
            .values()
            .find(|pane| pane.alive && pane.agent == *agent && pane.incarnation == incarnation)
            .map(|pane| pane.pid);
        let Some(pid) = found else {
            let event = Event::PaneDied { agent: agent.clone(), incarnation };
            self.news(self.life, event);
            return;
        };
        if self.rng.chance(self.odds.stop_ignored) {
            return;
        }
        match how {
            Stop::Term => {
                self.soon(5, Happening::RunnerHears { pid, event: Box::new(runner::event::Event::StopRequested) });
            }
            Stop::Kill => self.kill_pane(pid),
        }
    }

    fn evidence(&mut self, pid: u32) -> Option<Evidence> {
        let at = self.clock.now(self.t, self.skew);
        let pane = self.panes.get(&pid).filter(|pane| pane.alive)?;
        let burnt: i64 =
            self.programs.values().filter(|program| program.owner == pid).map(|program| program.burnt(self.t)).sum();
        let told = self.programs.values().filter(|program| program.owner == pid).map(|program| program.told_ms(self.t));
        let told_ms = told.max().unwrap_or(0);
        let cpu_ticks = pane.burnt + u64::try_from(burnt).unwrap_or(0);
        let awake = std::time::Duration::from_millis(u64::try_from(self.t).unwrap());
        Some(Evidence { at, awake, stopped: pane.stopped, cpu_ticks, told_ms })
    }
}

fn brief(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take(400).collect()
}
