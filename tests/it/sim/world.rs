//! The world: its clock, what is going to happen in it, and the order in which it does.

use std::collections::BTreeMap;

use miyabi::core::Core;
use miyabi::core::effect::Effect;
use miyabi::core::event::Event;
use miyabi::core::fact::Recorded;
use miyabi::core::state::Durable;
use miyabi::model::beat::Beat;
use miyabi::model::freeze::PastFreeze;
use miyabi::model::id::AgentId;
use miyabi::model::plan::Plan;
use miyabi::model::request::{RequestId, Submission};
use miyabi::model::time::Timestamp;
use miyabi::runner;

use super::agent::{Act, Pane};
use super::checks::Checks;
use super::git::Git;
use super::operator::Dag;
use super::program::Program;
use super::scenario::{self, Odds, Order};
use super::scheduling;
use super::spool::Spool;
use super::stages;
use crate::rng::Rng;

pub(super) const SECOND: i64 = 1_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;

/// How long faults go on.
const TROUBLED: i64 = 2 * HOUR + 30 * MINUTE;

/// How long a healthy world is watched.
pub(super) const DAY: i64 = 24 * HOUR;

/// How long the world has to come to rest when they stop.
const CALM: i64 = HOUR + 15 * MINUTE;

/// How long it then rests.
const REST: i64 = 15 * MINUTE;

/// The room on a disk that has some.
pub(super) const ROOMY: u64 = 50 << 30;

/// The beginning of every history.
const DAWN: i64 = 1_800_000_000_000;

/// A clock as one process sees it: it never stands still and never goes backwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    read: i64,
    at: i64,
}

impl Clock {
    pub(super) const fn new(true_time: i64, skew: i64) -> Self {
        Self { read: true_time + skew, at: true_time }
    }

    pub(super) fn now(&mut self, true_time: i64, skew: i64) -> Timestamp {
        self.read = (true_time + skew).max(self.read + true_time - self.at);
        self.at = true_time;
        Timestamp::from_millis(self.read)
    }
}

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// The supervisor's process starts.
    Start,
    /// It has looked around.
    LookedAround { life: u64 },
    /// An event reaches the supervisor.
    News { life: u64, event: Box<Event> },
    /// The supervisor hears that a heartbeat file has changed.
    BeatHint { life: u64, agent: AgentId },
    /// The supervisor hears that a report has come.
    ReportHint { life: u64 },
    /// The supervisor hears that a dependency file has changed.
    DagHint { life: u64 },
    /// The supervisor looks for everything of which it has not heard.
    Sweep { life: u64, turn: u64 },
    /// A slow effect of the supervisor is carried out.
    Slow { life: u64, effect: Box<Effect> },
    /// The shell of a runner does a part of a step.
    RunnerDoes { pid: u32, act: Box<Act> },
    /// An event reaches a runner.
    RunnerHears { pid: u32, event: Box<runner::event::Event> },
    /// A runner's timer goes off.
    RunnerWakes { pid: u32, turn: u64 },
    /// A program ends by itself.
    ProgramEnds { program: u64 },
    /// A stopped runner goes on.
    Continued { pid: u32 },
    /// The operator does something.
    Operator,
    /// agents.toml is changed.
    TeamEdited,
    /// Something breaks.
    Breaks,
    /// The clock leaps.
    Leap,
    /// The operator lets everything go on.
    Thaw,
    /// The repositories may be touched again, and the disk has room.
    Mended,
    /// Faults stop.
    Calm,
}

/// What the journal holds.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The JSON form of the state that the compacted facts add up to.
    pub(super) snapshot: Option<String>,
    /// The JSON forms of the facts since.
    pub(super) facts: Vec<String>,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) odds: Odds,
    pub(super) order: Order,
    pub(super) t: i64,
    pub(super) skew: i64,
    pub(super) end: i64,
    pub(super) calm: bool,
    queue: BTreeMap<(i64, u64), Happening>,
    serial: u64,
    /// What agents.toml says.
    pub(super) plan: Plan,
    /// The team as it was drawn.
    pub(super) full: Plan,
    pub(super) team_rng: Rng,
    /// Decides what reviews say, so that histories without them stay the same.
    pub(super) stage_rng: Rng,
    /// Decides what there is besides where a queue is, so that histories without one stay the same.
    pub(super) queue_rng: Rng,
    /// Whether orders are submitted more than once.
    pub(super) keyed: bool,
    /// What was submitted.
    pub(super) submitted: Vec<Submission>,
    /// The supervisor's decisions, while its process lives.
    pub(super) core: Option<Box<Core>>,
    pub(super) life: u64,
    pub(super) clock: Clock,
    /// Whether the supervisor has looked around.
    pub(super) started: bool,
    /// Whether this life has compared what was recorded with what it found: what it finds until then is not its doing.
    pub(super) repaired: bool,
    pub(super) journal: Journal,
    /// What the journal's facts add up to.
    pub(super) shadow: Durable,
    pub(super) panes: BTreeMap<u32, Pane>,
    pub(super) programs: BTreeMap<u64, Program>,
    pub(super) beats: BTreeMap<AgentId, Beat>,
    /// The newest heartbeat file of each agent that this life has read.
    pub(super) beats_read: BTreeMap<AgentId, Beat>,
    pub(super) spool: Spool,
    pub(super) disk_full: bool,
    pub(super) disk_free: u64,
    /// The load average per processor, in hundredths.
    pub(super) load: u32,
    /// What this life of the supervisor has seen of it last.
    pub(super) load_seen: Option<u32>,
    /// The operator's mark for a freeze.
    pub(super) mark: Option<Timestamp>,
    /// The freeze that was ended last.
    pub(super) past_freeze: Option<PastFreeze>,
    /// Programs that would have ended while they stood still.
    pub(super) standing: Vec<u64>,
    pub(super) frozen_since: i64,
    /// Whether nothing ever breaks in this world: agents are only slow.
    pub(super) healthy: bool,
    pub(super) leaps: u64,
    pub(super) git: Git,
    pub(super) dag: Dag,
    pub(super) requests: BTreeMap<RequestId, bool>,
    pub(super) checks: Checks,
    pub(super) trace: Option<Vec<String>>,
    /// A hash of everything that was recorded.
    pub(super) print: u64,
}

/// What a history without faults of ours amounted to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) print: u64,
    pub(super) turns: u64,
    pub(super) facts: u64,
    pub(super) deaths: u64,
    pub(super) done: usize,
    pub(super) tasks: usize,
    pub(super) spawns: u64,
    pub(super) reused: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut takes = Rng::new(seed ^ 0x5c4e_d01e);
        let mut plan = scenario::plan(&mut rng);
        scheduling::limits(&mut takes, &mut plan);
        stages::draw(&mut Rng::new(seed ^ 0x57a6e5), &mut plan);
        let odds = Odds::draw(&mut rng);
        let order = if rng.chance(500_000) { Order::AsAsked } else { Order::RecordsFirst };
        let mut world = Self {
            seed,
            odds,
            order,
            t: DAWN,
            skew: 0,
            end: DAWN + TROUBLED + CALM + REST,
            calm: false,
            queue: BTreeMap::new(),
            serial: 0,
            full: plan.clone(),
            team_rng: Rng::new(seed ^ 0x7ea3),
            stage_rng: Rng::new(seed ^ 0x57a6),
            queue_rng: Rng::new(seed ^ 0x9e0e),
            keyed: false,
            submitted: Vec::new(),
            plan,
            core: None,
            life: 0,
            clock: Clock::new(DAWN, 0),
            started: false,
            repaired: false,
            journal: Journal::default(),
            shadow: Durable::default(),
            panes: BTreeMap::new(),
            programs: BTreeMap::new(),
            beats: BTreeMap::new(),
            beats_read: BTreeMap::new(),
            spool: Spool::default(),
            disk_full: false,
            disk_free: ROOMY,
            load: 50,
            load_seen: None,
            mark: None,
            past_freeze: None,
            standing: Vec::new(),
            frozen_since: 0,
            healthy: false,
            leaps: 0,
            git: Git::default(),
            dag: Dag::default(),
            requests: BTreeMap::new(),
            checks: Checks::default(),
            trace: None,
            print: 0,
            rng,
        };
        world.dag = Dag::draw(&mut world.rng, takes);
        world.soon(0, Happening::Start);
        world.soon(10 * SECOND, Happening::Operator);
        world.soon(MINUTE, Happening::Breaks);
        world.soon(10 * MINUTE, Happening::TeamEdited);
        world.soon(TROUBLED, Happening::Calm);
        world
    }

    /// A day without faults, with agents that are only slow.
    pub(super) fn healthy(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.healthy = true;
        world.odds = Odds::HEALTHY;
        world.end = DAWN + DAY + CALM + REST;
        world.queue.retain(|_, happening| !matches!(happening, Happening::Calm));
        world.soon(DAY, Happening::Calm);
        world
    }

    /// Lets the history happen.
    ///
    /// # Errors
    /// Tells what must not have happened.
    pub(super) fn run(&mut self) -> Result<Summary, String> {
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wake = self.supervisor_wakes();
            let at = next.into_iter().chain(wake).min().unwrap_or(self.end);
            if at >= self.end {
                break;
            }
            if self.t < self.end - REST && at >= self.end - REST {
                self.t = self.end - REST;
                self.check_all_ended();
                self.checks.begin_rest();
            }
            self.t = self.t.max(at);
            if next.is_some_and(|next| wake.is_none_or(|wake| next <= wake)) {
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening);
                }
            } else {
                self.supervisor_timeout();
            }
            self.check_world();
            if let Some(violation) = self.checks.violation.take() {
                return Err(violation);
            }
        }
        self.check_rest();
        match self.checks.violation.take() {
            Some(violation) => Err(violation),
            None => Ok(self.summary()),
        }
    }

    fn summary(&self) -> Summary {
        let is_done = |record: &&miyabi::core::state::TaskRecord| record.phase.name() == "done";
        Summary {
            print: self.print,
            turns: self.checks.turns,
            facts: self.checks.facts,
            deaths: self.life - 1,
            done: self.shadow.tasks.values().filter(is_done).count(),
            tasks: self.shadow.tasks.len(),
            spawns: self.checks.spawns,
            reused: self.checks.reused,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start => self.start_supervisor(),
            Happening::LookedAround { life } => self.on_looked_around(life),
            Happening::News { life, event } => self.on_news(life, *event),
            Happening::BeatHint { life, agent } => self.read_beats(life, &[agent]),
            Happening::ReportHint { life } => self.read_reports(life),
            Happening::DagHint { life } => self.read_dag(life),
            Happening::Sweep { life, turn } => self.sweep(life, turn),
            Happening::Slow { life, effect } => self.carry_out(life, *effect),
            Happening::RunnerDoes { pid, act } => self.runner_does(pid, *act),
            Happening::RunnerHears { pid, event } => self.runner_hears(pid, *event),
            Happening::RunnerWakes { pid, turn } => self.runner_wakes(pid, turn),
            Happening::ProgramEnds { program } => self.program_ends(program),
            Happening::Continued { pid } => self.continue_runner(pid),
            Happening::Operator => self.operator_acts(),
            Happening::TeamEdited => self.team_is_edited(),
            Happening::Breaks => self.something_breaks(),
            Happening::Leap => self.step_clock(),
            Happening::Thaw => self.thaw(),
            Happening::Mended => self.mend(),
            Happening::Calm => self.calm_down(),
        }
    }

    /// Lets something happen after a while.
    pub(super) fn soon(&mut self, after: i64, happening: Happening) {
        self.serial += 1;
        self.queue.insert((self.t + after.max(0), self.serial), happening);
    }

    /// Lets something happen to the supervisor, sometimes twice, sometimes late.
    pub(super) fn news(&mut self, life: u64, event: Event) {
        if self.rng.chance(self.odds.doubled) {
            let after = self.rng.between(1, 20 * SECOND);
            self.soon(after, Happening::News { life, event: Box::new(event.clone()) });
        }
        let after = self.delay();
        self.soon(after, Happening::News { life, event: Box::new(event) });
    }

    /// Draws how long news takes.
    pub(super) fn delay(&mut self) -> i64 {
        if self.rng.chance(self.odds.late) { self.rng.between(100, 4 * SECOND) } else { self.rng.between(1, 60) }
    }

    /// Takes the effects that a dead supervisor had begun out of the future.
    pub(super) fn take_slow(&mut self, life: u64) -> Vec<Effect> {
        let begun: Vec<(i64, u64)> = self
            .queue
            .iter()
            .filter(|(_, happening)| matches!(happening, Happening::Slow { life: of, .. } if *of == life))
            .map(|(key, _)| *key)
            .collect();
        let mut effects = Vec::new();
        for key in begun {
            if let Some(Happening::Slow { effect, .. }) = self.queue.remove(&key) {
                effects.push(*effect);
            }
        }
        effects
    }

    /// Forgets spawns that have not been carried out: they are done one after the other with the clearing.
    pub(super) fn forget_spawns(&mut self, agent: &AgentId) {
        self.queue.retain(|_, happening| {
            !matches!(happening, Happening::Slow { effect, .. }
                if matches!(&**effect, Effect::SpawnPane { agent: of, .. } if of == agent))
        });
    }

    pub(super) fn tell(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let since = self.t - DAWN;
            let (hours, minutes) = (since / HOUR, since / MINUTE % 60);
            trace.push(format!("{hours}:{minutes:02}:{:02}.{:03} {}", since / SECOND % 60, since % SECOND, text()));
        }
    }

    /// Makes a fact part of the history's print.
    pub(super) fn imprint(&mut self, text: &str) {
        for byte in text.bytes() {
            self.print = (self.print ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(super) fn parse(text: &str) -> Recorded {
        serde_json::from_str(text).expect("a fact can be read back")
    }
}
