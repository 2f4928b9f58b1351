//! Another world for the same decisions: the core and the runners' machines between a made-up tmux, spool, git and
//! operator, with faults by seed.
//!
//! One seed is one history. `MIYABI_SIM_SEED=7 cargo nextest run sim::` (or `make sim SEED=7`) repeats a history and prints
//! it; `MIYABI_SIM_SEEDS=1000..2000` looks for bad ones. A seed that found a mistake stays in `seeds.txt` for good.

#![expect(clippy::print_stderr, reason = "what a history shows is read by people when it fails")]
#![expect(clippy::unwrap_used, reason = "all of this is a test: it may stop at once")]

use std::panic::{AssertUnwindSafe, catch_unwind};

mod agent;
mod checks;
mod claims;
mod git;
mod issues;
mod news;
mod operator;
mod program;
mod queue;
mod scenario;
mod scheduling;
mod spool;
mod stages;
mod supervisor;
mod team;
mod world;

use world::{Summary, World};

/// How much of a bad history is printed.
const TRACE_LINES_MAX: usize = 600;

/// How often an earlier result is taken in the histories with a merge queue, at least: what is never taken proves nothing.
const REUSED_MIN: u64 = 50;

/// Seeds that once found a mistake, one per line, with what it was.
const SAVED: &str = include_str!("seeds.txt");

fn run(seed: u64) -> Result<Summary, String> {
    attempt(World::new(seed)).1
}

fn attempt(mut world: World) -> (World, Result<Summary, String>) {
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = result.unwrap_or_else(|_| Err("it panicked".to_owned()));
    (world, result)
}

/// Runs a bad history once more and writes down what happens in it.
fn explain(seed: u64, violation: &str, make: fn(u64) -> World) -> String {
    let mut world = make(seed);
    world.trace = Some(Vec::new());
    let (world, _) = attempt(world);
    let trace = world.trace.unwrap_or_default();
    let skipped = trace.len().saturating_sub(TRACE_LINES_MAX);
    let tail = trace.get(skipped..).unwrap_or_default().join("\n");
    format!("{tail}\n({skipped} earlier lines)\n\nseed {seed}: {violation}\nrepeat it: make sim SEED={seed}\n")
}

fn run_all(seeds: impl Iterator<Item = u64>) {
    run_worlds(seeds, World::new);
}

fn run_worlds(seeds: impl Iterator<Item = u64>, make: fn(u64) -> World) -> Summary {
    let mut total = Summary::default();
    let mut count = 0_u64;
    let mut bad: Vec<(u64, String)> = Vec::new();
    for seed in seeds {
        match attempt(make(seed)).1 {
            Ok(summary) => {
                count += 1;
                total.turns += summary.turns;
                total.facts += summary.facts;
                total.deaths += summary.deaths;
                total.done += summary.done;
                total.tasks += summary.tasks;
                total.spawns += summary.spawns;
                total.reused += summary.reused;
            }
            Err(violation) => bad.push((seed, violation)),
        }
    }
    if let Some((seed, violation)) = bad.first() {
        eprintln!("{}", explain(*seed, violation, make));
        for (seed, violation) in &bad {
            eprintln!("seed {seed}: {violation}");
        }
        panic!("{} of {} histories are bad", bad.len(), count + u64::try_from(bad.len()).unwrap());
    }
    eprintln!("{count} histories: {total:?}");
    total
}

/// Returns the seeds that whoever runs the test asks for; none, if nobody does.
#[expect(clippy::disallowed_methods, reason = "the seeds of a simulation are chosen by whoever runs the test")]
fn asked_for() -> std::ops::Range<u64> {
    if let Ok(seed) = std::env::var("MIYABI_SIM_SEED") {
        let seed: u64 = seed.parse().unwrap_or_else(|_| panic!("`{seed}` in MIYABI_SIM_SEED is no number"));
        return seed..seed + 1;
    }
    let seeds = std::env::var("MIYABI_SIM_SEEDS").unwrap_or_else(|_| "0..0".to_owned());
    range(&seeds, "MIYABI_SIM_SEEDS")
}

fn range(text: &str, variable: &str) -> std::ops::Range<u64> {
    let (from, to) = text.split_once("..").unwrap_or_else(|| panic!("{variable} is FROM..TO"));
    from.parse().expect("FROM is a number")..to.parse().expect("TO is a number")
}

#[test]
fn saved_bad_seeds_stay_good() {
    let saved = SAVED.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| !word.starts_with('#'));
    run_all(saved.map(|word| word.parse().expect("a seed is a number")));
}

#[test]
fn nothing_that_must_hold_is_broken_in_the_first_150_histories() {
    run_all(1..=150);
}

#[test]
fn nothing_that_must_hold_is_broken_in_the_next_150_histories() {
    run_all(151..=300);
}

#[test]
fn a_merge_queue_holds_what_must_hold_in_100_histories() {
    let total = run_worlds(1..=100, World::queued);
    assert!(total.reused >= REUSED_MIN, "earlier results are hardly ever taken: {total:?}");
}

/// Days that once found a mistake: work between two stages whose task came to need another one again kept the files that the other one
/// needed, the same with a file that is paused, and a pane that was told to end while its supervisor died.
#[test]
fn days_that_were_bad_once_stay_good() {
    run_worlds([231, 337, 373].into_iter(), World::healthy);
}

/// A sample in CI; `MIYABI_SIM_DAYS=0..10000 cargo nextest run sim::healthy` watches ten thousand days.
#[test]
fn healthy_but_slow_agents_are_never_restarted() {
    #[expect(clippy::disallowed_methods, reason = "the days of a simulation are chosen by whoever runs the test")]
    let days = std::env::var("MIYABI_SIM_DAYS").unwrap_or_else(|_| "0..6".to_owned());
    run_worlds(range(&days, "MIYABI_SIM_DAYS"), World::healthy);
}

#[test]
fn the_histories_that_are_asked_for_are_good() {
    let seeds = asked_for();
    if seeds.end - seeds.start == 1 {
        eprintln!("{}", explain(seeds.start, "this is what happened", World::new));
    }
    run_all(seeds.clone());
    run_worlds(seeds, World::queued);
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in [3, 77, 4_711] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
