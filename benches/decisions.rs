//! How long decisions take: `cargo bench --bench decisions` prints the figures of docs/performance.md that need no tmux.
//!
//! Nothing is asserted here: a machine may be busy.

#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement, run by hand")]
#![expect(clippy::wildcard_enum_match_arm, reason = "of the effects only a few matter here")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use miyabi::config;
use miyabi::core::Core;
use miyabi::core::dag;
use miyabi::core::effect::Effect;
use miyabi::core::event::{Branches, Event, FileRead, PaneFound};
use miyabi::core::fact::Recorded;
use miyabi::core::state::Durable;
use miyabi::model::beat::{Activity, Beat};
use miyabi::model::id::{AgentId, Incarnation};
use miyabi::model::order::WorkOrder;
use miyabi::model::plan::Plan;
use miyabi::model::report::{Outcome, REPORT_SCHEMA, Report};
use miyabi::model::time::Timestamp;
use miyabi::model::watching::WatchFaults;

const AGENTS: usize = 8;
const FIRST: Incarnation = Incarnation(1);

fn plan() -> Plan {
    let agents: String = (1..=AGENTS)
        .map(|number| {
            format!("[[agent]]\nid = \"a{number}\"\nrole = \"codegen\"\ndriver = \"command\"\ncommand = [\"true\"]\nheartbeat_timeout = \"10d\"\n")
        })
        .collect();
    config::agents::parse("agents.toml", &agents, Path::new("/bench")).unwrap()
}

/// A supervisor without a world: time stands still, and whatever it asks for is done at once.
struct Bench {
    core: Core,
    now: Timestamp,
    open: BTreeMap<AgentId, WorkOrder>,
    facts: Vec<Recorded>,
    /// How long each event took.
    took: Vec<Duration>,
}

impl Bench {
    fn new(durable: Durable, now: Timestamp) -> Self {
        let begun = Instant::now();
        let core = Core::restore(plan(), durable, now);
        println!("  the core is built from its state in {}", ms(begun.elapsed()));
        Self { core, now, open: BTreeMap::new(), facts: Vec::new(), took: Vec::new() }
    }

    fn tell(&mut self, event: Event) -> Duration {
        self.now = self.now + Duration::from_millis(1);
        let begun = Instant::now();
        self.core.handle_event(event, self.now);
        let took = begun.elapsed();
        self.took.push(took);
        let mut retired = Vec::new();
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::DeliverOrder(order) => drop(self.open.insert(order.agent.clone(), *order)),
                Effect::RetireOrder { envelope, .. } => retired.push(envelope),
                Effect::Record(recorded) => self.facts.push(recorded),
                _ => {}
            }
        }
        for envelope in retired {
            self.tell(Event::OrderRetired { envelope });
        }
        took
    }

    fn bring_up(&mut self) {
        let agents: Vec<AgentId> = self.core.plan().agents.iter().map(|spec| spec.id.clone()).collect();
        let is_new = self.core.durable().agents.is_empty();
        let pane = |agent: &AgentId| PaneFound {
            agent: agent.clone(),
            incarnation: FIRST,
            pane: "%1".to_owned(),
            pid: 1,
            launched: None,
        };
        let panes = if is_new { Vec::new() } else { agents.iter().map(pane).collect() };
        self.tell(Event::Started { panes, orders: BTreeMap::new() });
        for agent in agents {
            if is_new {
                let pane = "%1".to_owned();
                self.tell(Event::PaneSpawned { agent: agent.clone(), incarnation: FIRST, pane, pid: 1 });
            }
            let (at, activity) = (self.now, Activity::Idle);
            self.tell(Event::BeatsSeen(vec![Beat {
                agent,
                incarnation: FIRST,
                pid: 1,
                sequence: 1,
                at,
                activity,
                progress: None,
                watching: WatchFaults::default(),
            }]));
        }
    }

    /// Ends one attempt well; nothing if none is open.
    fn end_one(&mut self) -> Option<()> {
        let (agent, order) = self.open.pop_first()?;
        let report = Report {
            schema: REPORT_SCHEMA.to_owned(),
            order: order.id,
            task: order.task.clone(),
            run: order.run,
            stage: order.stage.clone(),
            attempt: order.attempt,
            agent,
            incarnation: FIRST,
            outcome: Outcome::Done,
            failure: None,
            retry_at: None,
            summary: "done".to_owned(),
            commit: None,
            base: None,
            branch: None,
            checks: Vec::new(),
            output: String::new(),
            diff: String::new(),
            comments: Vec::new(),
            title: None,
            body: None,
            exit_code: Some(0),
            log: Some("logs/a1/one.log".to_owned()),
            spent: None,
            started_at: self.now,
            ended_at: self.now,
        };
        self.tell(Event::ReportArrived { report: Box::new(report), receipt: "r".to_owned() });
        Some(())
    }

    fn drop_file(&mut self, text: &str) {
        let begun = Instant::now();
        let file = config::dag::parse("dag/plan.yaml", text, self.core.plan()).unwrap();
        println!("  read with its places in {}", ms(begun.elapsed()));
        let begun = Instant::now();
        assert!(dag::check(std::slice::from_ref(&file), &BTreeSet::new()).is_empty(), "the file is good");
        println!("  the graph is checked in {}", ms(begun.elapsed()));
        let before = self.facts.len();
        let took = self.tell(Event::DagRead { files: vec![FileRead::Good(file)], branches: Branches::new() });
        println!("  decided in {} ({} facts)", ms(took), self.facts.len() - before);
        let begun = Instant::now();
        let bytes: usize = self.facts[before..].iter().map(|fact| serde_json::to_string(fact).unwrap().len()).sum();
        println!("  the facts are written as text in {} ({} KiB)", ms(begun.elapsed()), bytes / 1024);
    }

    /// Says how long events took since the last time.
    fn told(&mut self, what: &str) {
        let mut took = std::mem::take(&mut self.took);
        took.sort();
        let at = |share: usize| took[(took.len() - 1) * share / 100];
        let total: Duration = took.iter().sum();
        println!(
            "  {what}: {} events, {} each, median {}, 99 of 100 under {}, longest {}",
            took.len(),
            us(total / u32::try_from(took.len()).unwrap()),
            us(at(50)),
            us(at(99)),
            us(at(100))
        );
    }
}

fn ms(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

fn us(took: Duration) -> String {
    format!("{:.0} us", took.as_secs_f64() * 1e6)
}

fn at_dawn() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

/// Writes a file of tasks each of which needs two earlier ones.
fn tangle(count: usize, more: impl Fn(usize) -> String) -> String {
    let mut text = "repo: none\npools: {llm: 4, db: 1}\ntasks:\n".to_owned();
    for number in 0..count {
        let (near, far) = (number.saturating_sub(1 + number % 7), number / 2);
        let needs = match number {
            0..=14 if number == 0 => String::new(),
            0..=14 => format!(", needs: t{far}"),
            _ => format!(", needs: [t{far}, t{near}]"),
        };
        text.push_str(&format!("  t{number}: {{run: x{needs}{}}}\n", more(number)));
    }
    text
}

fn work_off(what: &str, text: &str, ends: usize) -> Bench {
    println!("{what}");
    let mut bench = Bench::new(Durable::default(), at_dawn());
    bench.bring_up();
    bench.drop_file(text);
    bench.took.clear();
    for _ in 0..ends {
        if bench.end_one().is_none() {
            break;
        }
    }
    bench.told("while it is worked off");
    bench
}

fn restart(bench: &Bench) {
    let facts: Vec<String> = bench.facts.iter().map(|fact| serde_json::to_string(fact).unwrap()).collect();
    let snapshot = serde_json::to_string(bench.core.durable()).unwrap();
    let begun = Instant::now();
    let mut durable = Durable::default();
    for fact in &facts {
        durable.apply(&serde_json::from_str(fact).unwrap()).unwrap();
    }
    println!("  restart: {} facts are read and added up in {}", facts.len(), ms(begun.elapsed()));
    let begun = Instant::now();
    let read: Durable = serde_json::from_str(&snapshot).unwrap();
    println!("  restart: a snapshot of {} KiB is read in {}", snapshot.len() / 1024, ms(begun.elapsed()));
    let mut again = Bench::new(read, bench.now);
    again.bring_up();
    again.told("the first events");
    let begun = Instant::now();
    let shown = again.core.snapshot(again.now);
    println!("  everything is shown ({} tasks) in {}", shown.tasks.len(), ms(begun.elapsed()));
}

fn main() {
    let bench = work_off("10,000 tasks with 20,000 needs", &tangle(10_000, |_| String::new()), 2_000);
    restart(&bench);

    work_off(
        "10,000 independent tasks with priorities and an sla",
        &tangle(10_000, |number| format!(", priority: {}, sla: {}m", number % 5 + 1, number % 97 + 1))
            .replace(", needs: ", ", check: "),
        2_000,
    );
    work_off(
        "10,000 independent tasks, nearly all behind a pool with one slot",
        &tangle(10_000, |number| if number % 100 == 0 { ", pools: llm".to_owned() } else { ", pools: db".to_owned() })
            .replace(", needs: ", ", check: "),
        2_000,
    );
    work_off(
        "one task that 10,000 wait for",
        &{
            let mut text = "repo: none\ntasks:\n  first: {run: x}\n".to_owned();
            text.extend((0..10_000).map(|number| format!("  t{number}: {{run: x, needs: first}}\n")));
            text
        },
        2_000,
    );

    let bench = work_off("100,000 finished tasks", &tangle(20_000, |_| String::new()), usize::MAX);
    let mut durable = bench.core.durable().clone();
    for (number, (_, record)) in durable.tasks.clone().into_iter().enumerate() {
        for copy in 1..5 {
            let id = format!("old{copy}/t{number}").parse().unwrap();
            let mut record = record.clone();
            record.spec.needs.clear();
            record.seq += 20_000 * copy;
            durable.tasks.insert(id, record);
        }
    }
    let text = serde_json::to_string(&durable).unwrap();
    let begun = Instant::now();
    let read: Durable = serde_json::from_str(&text).unwrap();
    println!("  start: a snapshot of {} MiB is read in {}", text.len() >> 20, ms(begun.elapsed()));
    let mut again = Bench::new(read, bench.now);
    again.bring_up();
    again.told("the first events");
    let begun = Instant::now();
    let shown = again.core.snapshot(again.now);
    println!("  all {} tasks are shown in {}", shown.tasks.len(), ms(begun.elapsed()));
}
