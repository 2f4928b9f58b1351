//! The programs of agents, and checks: how long they take, how they end, and whether they listen.

use miyabi::model::beat::Progress;
use miyabi::model::id::{AgentId, EnvelopeId, Incarnation, RunId, StageName};
use miyabi::model::order::WorkOrder;
use miyabi::model::report::{AgentReport, CheckResult, FailureKind, Outcome};
use miyabi::model::signal::Signal;
use miyabi::runner::attempt::{Failure, Ran};
use miyabi::runner::event::{Event, Pull};

use crate::rng::Rng;

use super::world::{Happening, MINUTE, SECOND, World};

/// For how many timeouts a runner may be slow while its program waits for somebody; nobody may take it for one that hangs.
const SLOW_TIMEOUTS: i64 = 3;

/// It does not beat again.
pub(super) const HANGS: i64 = i64::MAX / 4;

/// How far the events of a program that tells are apart.
const EVENT_MS: u64 = 1_000;

/// A program of an agent, or a check; it outlives its runner unless somebody ends it.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) owner: u32,
    pub(super) agent: AgentId,
    pub(super) incarnation: Incarnation,
    pub(super) run: RunId,
    pub(super) stage: StageName,
    pub(super) order: EnvelopeId,
    /// Whether it is the agent's program, not a check.
    pub(super) is_agent: bool,
    began: i64,
    /// Waits for a human, or for a usage limit, and burns nothing.
    pub(super) waits: Option<Wait>,
    /// How long its runner does not beat once it has said so: it is slow, or hangs, and nothing else moves that could speak for it.
    pub(super) silences: Option<i64>,
    deaf: bool,
    /// Whether it prints and computes; one that hangs, or thinks in silence, does neither.
    visible: bool,
    /// Whether all that is seen of it are its events: it burns nothing and prints nothing that counts.
    tells: bool,
    /// Whether it was suspended, and how long that has lasted before.
    still: bool,
    frozen_for: i64,
    /// The clock's error and the number of its leaps when it began.
    leaps: u64,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Human,
    Limit,
}

#[derive(Debug, Clone)]
enum Ending {
    Ran(Box<Ran>),
    Checked(Vec<CheckResult>),
}

impl Program {
    pub(super) fn stand_still(&mut self) {
        self.still = true;
    }

    pub(super) fn go_on(&mut self, now: i64, since: i64) {
        if std::mem::replace(&mut self.still, false) {
            self.frozen_for += now - since.max(self.began);
        }
    }

    /// Returns what a heartbeat says of its progress.
    pub(super) fn progress(&self, now: i64) -> Progress {
        let lived = u64::try_from(self.lived(now)).unwrap();
        let still = Progress { output_bytes: 1_000, cpu_ms: lived / 100_000, ..Progress::default() };
        match (self.visible, self.waits) {
            (true, None) if self.tells => Progress { events: lived / EVENT_MS, ..still },
            (true, None) => Progress { output_bytes: 1_000 + lived / 100, cpu_ms: lived / 10, ..still },
            (false, _) | (_, Some(_)) => still,
        }
    }

    /// Returns how long it has run without standing still.
    pub(super) fn lived(&self, now: i64) -> i64 {
        now - self.began - self.frozen_for
    }

    pub(super) const fn is_visible(&self) -> bool {
        self.visible
    }

    /// Returns the processor time that it has used, in ticks.
    pub(super) const fn burnt(&self, now: i64) -> i64 {
        match self.waits {
            Some(_) => 0,
            None if self.tells => 0,
            None => (now - self.began) / 10,
        }
    }

    /// Returns when it last told of something; 0: it never does.
    pub(super) fn told_ms(&self, now: i64) -> u64 {
        if self.tells && !self.still && self.waits.is_none() {
            u64::try_from(now).unwrap() / EVENT_MS * EVENT_MS
        } else {
            0
        }
    }

    pub(super) fn order(&self) -> EnvelopeId {
        self.order
    }
}

impl World {
    pub(super) fn begin_program(&mut self, pid: u32, order: &WorkOrder) {
        let bad = self.rng.chance(self.odds.program_bad);
        let limit = i64::try_from(order.timeout_ms).unwrap();
        let mut ran = Ran { exit_code: Some(0), ..Ran::default() };
        let mut lasts =
            if self.calm { self.rng.between(SECOND, 30 * SECOND) } else { self.rng.between(SECOND, 6 * MINUTE) };
        let mut waits = None;
        let mut deaf = false;
        let mut visible = true;
        if self.healthy && self.rng.chance(300_000) {
            // Silent thinking is legitimate, as long as it is shorter than the stall time.
            visible = false;
            lasts = self.rng.between(SECOND, 140 * SECOND);
        }
        if bad {
            visible = !self.rng.chance(500_000);
            match self.rng.below(9) {
                0 => ran.failure = Some(failure(self.rng.pick(&FAILURES).unwrap())),
                1 => ran.failure = Some(failure(FailureKind::AgentCrashed)),
                2 => lasts = i64::MAX / 4,
                3 => (lasts, deaf) = (i64::MAX / 4, true),
                4 => waits = Some(if self.rng.chance(500_000) { Wait::Human } else { Wait::Limit }),
                5 => ran.failure = Some(failure(FailureKind::OutOfMemory)),
                6 => ran.failure = Some(failure(FailureKind::TasksLimit)),
                7 => ran.claim = AgentReport { outcome: Some(Outcome::ChangesRequested), ..AgentReport::default() },
                _ => lasts = limit - self.rng.between(0, 2 * SECOND),
            }
        }
        ran.claim = self.verdict(order, ran.claim);
        self.begin(pid, order, waits, (deaf, visible), Ending::Ran(Box::new(ran)), lasts, true);
    }

    pub(super) fn begin_check(&mut self, pid: u32, order: &WorkOrder) {
        let code = if self.rng.chance(self.odds.check_bad) { 1 } else { 0 };
        let hangs = code == 1 && self.rng.chance(200_000);
        let lasts = if hangs { i64::MAX / 4 } else { self.rng.between(SECOND, 30 * SECOND) };
        let last = order.checks.len() - 1;
        let results = order.checks.iter().enumerate().map(|(index, command)| CheckResult {
            command: command.clone(),
            exit_code: Some(if index == last { code } else { 0 }),
            output: String::new(),
            duration_ms: 1,
        });
        let ending = Ending::Checked(results.collect());
        self.begin(pid, order, None, (hangs, !hangs), ending, lasts, false);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one program")]
    fn begin(
        &mut self,
        pid: u32,
        order: &WorkOrder,
        waits: Option<Wait>,
        (deaf, visible): (bool, bool),
        ending: Ending,
        lasts: i64,
        is_agent: bool,
    ) {
        let is_slow = waits.is_some() && self.rng.chance(500_000);
        let Some(pane) = self.panes.get(&pid) else { return };
        let timeout = i64::try_from(self.settings_of(&pane.agent).heartbeat_timeout.as_millis()).unwrap();
        // Drawn apart, so that it moves no other draw.
        let mut apart = Rng::new(self.seed ^ u64::from(pid));
        let hangs = is_slow && apart.chance(250_000);
        let lasts = if hangs { i64::MAX / 4 } else { lasts };
        let silences = is_slow.then(|| if hangs { HANGS } else { apart.between(0, SLOW_TIMEOUTS * timeout) });
        let Some(pane) = self.panes.get_mut(&pid) else { return };
        let serial = self.checks.programs;
        self.checks.programs += 1;
        pane.program = Some(serial);
        // Drawn apart, so that it moves no other draw.
        let tells = visible && is_agent && Rng::new(self.seed ^ serial ^ 0x7e11).chance(250_000);
        let program = Program {
            owner: pid,
            agent: pane.agent.clone(),
            incarnation: pane.incarnation,
            run: order.run,
            stage: order.stage.clone(),
            order: order.id,
            is_agent,
            began: self.t,
            waits,
            silences,
            deaf,
            visible,
            tells,
            still: self.mark.is_some(),
            frozen_for: 0,
            leaps: self.leaps,
            ending,
        };
        self.check_program(&program);
        self.programs.insert(serial, program);
        if let Some(wait) = waits {
            let signal = match wait {
                Wait::Human => Signal::Waiting { reason: "may I?".to_owned() },
                Wait::Limit => Signal::Limited { until: None, reason: "enough for today".to_owned() },
            };
            self.soon(10, Happening::RunnerHears { pid, event: Box::new(Event::Heard(signal)) });
        }
        self.soon(lasts, Happening::ProgramEnds { program: serial });
    }

    /// A time limit does not run while a program stands still.
    fn check_pull(&mut self, pid: u32, serial: u64, pull: Pull) {
        let Some(program) = self.programs.get(&serial) else { return };
        let Some(pane) = self.panes.get(&pid) else { return };
        let held = miyabi::core::event::OrderPlace::Leased(program.incarnation);
        let is_limit =
            pull == Pull::Term && program.is_agent && !pane.told_to_stop && self.spool.place(program.order) == held;
        // A clock that leaps ends a limit early, and a runner that was stopped begins late; that is known.
        if is_limit && program.leaps == self.leaps && !pane.sick {
            let limit = self.spool.orders.get(&program.order).map_or(0, |filed| filed.order.timeout_ms);
            // The limit runs from the decision to start it; the start itself may take some seconds.
            if u64::try_from(program.lived(self.t)).unwrap_or(0) + 5_000 < limit {
                let text = format!(
                    "the program of {} is ended after {} ms and {} ms of standing still, before its time limit of {limit} ms",
                    program.order,
                    program.lived(self.t),
                    program.frozen_for
                );
                self.checks.fail(text);
            }
        }
    }

    pub(super) fn signal(&mut self, pid: u32, pull: Pull) {
        let Some(serial) = self.panes.get(&pid).and_then(|pane| pane.program) else { return };
        self.check_pull(pid, serial, pull);
        let Some(program) = self.programs.get_mut(&serial) else { return };
        if program.deaf && pull == Pull::Term {
            return;
        }
        match &mut program.ending {
            Ending::Ran(ran) => {
                ran.exit_code = None;
                ran.failure = Some(failure(FailureKind::AgentCrashed));
            }
            Ending::Checked(results) => {
                if let Some(last) = results.last_mut() {
                    last.exit_code = None;
                }
            }
        }
        self.soon(20, Happening::ProgramEnds { program: serial });
    }

    pub(super) fn program_ends(&mut self, serial: u64) {
        if self.programs.get(&serial).is_some_and(|program| program.still) {
            return self.standing.push(serial);
        }
        let Some(program) = self.programs.remove(&serial) else { return };
        let burnt = u64::try_from(program.burnt(self.t)).unwrap();
        let Some(pane) = self.panes.get_mut(&program.owner).filter(|pane| pane.alive) else { return };
        pane.burnt += burnt;
        pane.program = None;
        pane.slow_until = 0;
        let pid = pane.pid;
        let event = match program.ending {
            Ending::Ran(ran) => Event::Ran(ran),
            Ending::Checked(results) => Event::Checked(Ok(results)),
        };
        self.answer(pid, event);
    }
}

/// How a program says that it failed.
const FAILURES: [FailureKind; 3] = [FailureKind::AgentFailed, FailureKind::Limited, FailureKind::Refused];

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, reason: "it did not do".to_owned() }
}
