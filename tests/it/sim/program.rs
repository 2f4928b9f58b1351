//! The programs of agents, and checks: how long they take, how they end, and whether they listen.

use miyabi::model::id::{AgentId, EnvelopeId, Incarnation, RunId, StageName};
use miyabi::model::order::WorkOrder;
use miyabi::model::report::{AgentReport, CheckResult, FailureKind, Outcome};
use miyabi::runner::attempt::{Failure, Ran};
use miyabi::runner::event::{Event, Pull};

use super::world::{Happening, MINUTE, SECOND, World};

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
    /// Its runner waits with it, and beats no more once it has said so.
    pub(super) silences: bool,
    deaf: bool,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Human,
    Limit,
}

#[derive(Debug, Clone)]
enum Ending {
    Ran(Ran),
    Checked(Vec<CheckResult>),
}

impl Program {
    /// Returns the processor time that it has used, in ticks.
    pub(super) const fn burnt(&self, now: i64) -> i64 {
        match self.waits {
            Some(_) => 0,
            None => (now - self.began) / 10,
        }
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
        if bad {
            match self.rng.below(7) {
                0 => ran.failure = Some(failure(FailureKind::AgentFailed)),
                1 => ran.failure = Some(failure(FailureKind::AgentCrashed)),
                2 => lasts = i64::MAX / 4,
                3 => (lasts, deaf) = (i64::MAX / 4, true),
                4 => waits = Some(if self.rng.chance(500_000) { Wait::Human } else { Wait::Limit }),
                5 => ran.claim = AgentReport { outcome: Some(Outcome::ChangesRequested), summary: None },
                _ => lasts = limit - self.rng.between(0, 2 * SECOND),
            }
        }
        self.begin(pid, order, waits, deaf, Ending::Ran(ran), lasts, true);
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
        self.begin(pid, order, None, hangs, ending, lasts, false);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one program")]
    fn begin(
        &mut self,
        pid: u32,
        order: &WorkOrder,
        waits: Option<Wait>,
        deaf: bool,
        ending: Ending,
        lasts: i64,
        is_agent: bool,
    ) {
        let silences = waits.is_some() && self.rng.chance(500_000);
        let Some(pane) = self.panes.get_mut(&pid) else { return };
        let serial = self.checks.programs;
        self.checks.programs += 1;
        pane.program = Some(serial);
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
            ending,
        };
        self.check_program(&program);
        self.programs.insert(serial, program);
        self.soon(lasts, Happening::ProgramEnds { program: serial });
    }

    pub(super) fn signal(&mut self, pid: u32, pull: Pull) {
        let Some(serial) = self.panes.get(&pid).and_then(|pane| pane.program) else { return };
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
        let Some(program) = self.programs.remove(&serial) else { return };
        let burnt = u64::try_from(program.burnt(self.t)).unwrap();
        let Some(pane) = self.panes.get_mut(&program.owner).filter(|pane| pane.alive) else { return };
        pane.burnt += burnt;
        pane.program = None;
        pane.slow_until = 0;
        let pid = pane.pid;
        let event = match program.ending {
            Ending::Ran(ran) => Event::Ran(Box::new(ran)),
            Ending::Checked(results) => Event::Checked(Ok(results)),
        };
        self.answer(pid, event);
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, reason: "it did not do".to_owned() }
}
