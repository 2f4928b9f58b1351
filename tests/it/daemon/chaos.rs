//! Chaos against the real thing: random kills and stops, a full disk and freezes under load. Afterwards every task is done
//! once, every envelope is in one place, and nothing is left behind.
//!
//! A minute in CI; `MIYABI_CHAOS_SECONDS=600 cargo nextest run --profile nightly daemon::chaos` is the nightly run, and
//! `MIYABI_CHAOS_SEED=N` draws the same faults again (when they fall is up to the machine). `MIYABI_CHAOS_CLOCK=1` sets the
//! clock forward and back as well: only where it is nobody else's, as on the machine of `scripts/with-vm`.

#![expect(clippy::print_stderr, reason = "the seed and the faults are read by people when it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::Duration;

use miyabi::io::process::{self, identify, signal};
use rustix::process::Signal;
use serde_json::Value;

use super::root::Root;

const SECONDS: u64 = 60;

/// How long no task may end after the last fault, and then how long whatever waits for a time limit of the supervisor may
/// take: an answer that never came is asked for again after half a minute, and so is one to that.
const AFTERWARDS: Duration = Duration::from_secs(180);

/// How many tasks one file brings.
const TASKS_A_FILE: usize = 6;

/// How many tasks the whole run has at most, if `MIYABI_CHAOS_TASKS` does not say: a slow machine does fewer in the time.
const TASKS_MAX: u64 = 1_500;

/// How far the clock is set forward or back, in seconds.
const CLOCK_STEP_MAX: u64 = 2 * 3_600;

/// How many lines of what a verb prints are shown when the test fails.
const LINES_TOLD: usize = 100;

const AGENT: &str = "driver = \"echo\"\nstop_timeout = \"2s\"\nrestart = { intensity = 100000, period = \"1h\", backoff = \"20ms\", backoff_max = \"200ms\" }";

struct Chaos {
    root: Root,
    seed: u64,
    tasks_max: usize,
    /// Whether the clock of this machine may be set.
    sets_clock: bool,
    faults: BTreeMap<&'static str, u32>,
    files: usize,
}

#[test]
fn whatever_is_killed_and_whenever_every_task_is_done_once_and_nothing_is_left() {
    let seconds = number("MIYABI_CHAOS_SECONDS").unwrap_or(SECONDS);
    let seed = number("MIYABI_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 7_919 + seconds);
    eprintln!("chaos for {seconds} s with seed {seed}");
    let agents = [("kaede", "codegen", AGENT), ("momo", "codegen", AGENT), ("sakura", "codegen", AGENT)];
    let mut root = Root::new(&agents);
    root.configure("[resources]\ndisk_low = \"4MiB\"\ndisk_resume = \"8MiB\"\nmemory_low = \"0B\"\n");
    root.put_data_on_a_small_disk("192m");
    root.up();
    let sets_clock = number("MIYABI_CHAOS_CLOCK").is_some_and(|number| number > 0);
    let tasks_max = usize::try_from(number("MIYABI_CHAOS_TASKS").unwrap_or(TASKS_MAX)).unwrap();
    let mut chaos = Chaos { root, seed, tasks_max, sets_clock, faults: BTreeMap::new(), files: 0 };
    let began = clock();
    while clock() - began < Duration::from_secs(seconds) {
        chaos.bring_work();
        chaos.fault();
        chaos.root.keep_up();
    }
    chaos.calm_down();
    eprintln!("{} tasks; faults: {:?}", chaos.tasks(), chaos.faults);
    chaos.check();
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test says how long and with which seed")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("`{text}` in {name} is no number")))
}

/// Real time; only differences mean something.
#[expect(clippy::disallowed_methods, reason = "the test lasts for a real minute")]
fn clock() -> Duration {
    static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(std::time::Instant::now).elapsed()
}

impl Chaos {
    fn below(&mut self, end: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % end
    }

    fn tasks(&self) -> usize {
        self.files * TASKS_A_FILE
    }

    /// Keeps work coming: a short chain and some tasks beside it in each file.
    fn bring_work(&mut self) {
        if self.tasks() + TASKS_A_FILE > self.tasks_max {
            return;
        }
        let file = self.files;
        self.files += 1;
        let mut text =
            "defaults: {retry: {limit: 100, interval: 10ms, max_interval: 100ms}, timeout: 30s}\ntasks:\n".to_owned();
        for task in 0..TASKS_A_FILE {
            let needs = if (1..3).contains(&task) { format!(", needs: t{}", task - 1) } else { String::new() };
            let nap = self.below(4);
            text.push_str(&format!(
                "  t{task}: {{run: 'sleep 0.{nap}; echo {file} {task} > f{file}-{task}.txt'{needs}}}\n"
            ));
        }
        self.root.drop_file(&format!("f{file}.yaml"), &text);
    }

    fn fault(&mut self) {
        let choice = self.below(if self.sets_clock { 17 } else { 14 });
        let name = match choice {
            0..=3 => self.kill_runner(),
            4..=6 => self.kill_program(),
            7 | 8 => {
                self.root.kill_supervisor();
                Some("supervisor killed")
            }
            9 => self.kill_tmux(),
            10 => self.stop_runner(),
            11 => self.stop_supervisor(),
            12 => self.fill_disk(),
            13 => self.freeze(),
            _ => self.set_clock(),
        };
        if let Some(name) = name {
            *self.faults.entry(name).or_default() += 1;
        }
        let pause = 100 + self.below(900);
        std::thread::sleep(Duration::from_millis(pause));
    }

    /// Returns the runners' process ids, as the heartbeats say.
    fn runners(&self) -> Vec<u32> {
        let beats = self.root.data_seen_from_here().join("run/beats");
        let Ok(files) = fs::read_dir(beats) else { return Vec::new() };
        files
            .flatten()
            .filter_map(|file| serde_json::from_slice::<Value>(&fs::read(file.path()).ok()?).ok())
            .filter_map(|beat| u32::try_from(beat["pid"].as_u64()?).ok())
            .filter(|pid| {
                fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("--incarnation"))
            })
            .collect()
    }

    fn runner(&mut self) -> Option<u32> {
        let runners = self.runners();
        let index = self.below(u64::try_from(runners.len().max(1)).unwrap());
        runners.get(usize::try_from(index).unwrap()).copied()
    }

    fn kill_runner(&mut self) -> Option<&'static str> {
        send(self.runner()?, Signal::KILL);
        Some("runner killed")
    }

    fn kill_program(&mut self) -> Option<&'static str> {
        let runner = self.runner()?;
        let text = fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).unwrap_or_default();
        let threads = fs::read_dir(format!("/proc/{runner}/task")).ok()?;
        let children: Vec<u32> = threads
            .flatten()
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
            .chain([text])
            .flat_map(|text| text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
            .collect();
        send(*children.first()?, Signal::KILL);
        Some("program killed")
    }

    fn kill_tmux(&mut self) -> Option<&'static str> {
        let output = self.root.tmux(&["display-message", "-p", "#{pid}"]);
        let pid: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
        send(pid, Signal::KILL);
        Some("tmux server killed")
    }

    /// tmux continues a stopped pane at once; what remains is a hiccup.
    fn stop_runner(&mut self) -> Option<&'static str> {
        send(self.runner()?, Signal::STOP);
        Some("runner stopped")
    }

    fn stop_supervisor(&mut self) -> Option<&'static str> {
        let pid = self.root.supervisor().id();
        send(pid, Signal::STOP);
        let pause = 200 + self.below(2_000);
        std::thread::sleep(Duration::from_millis(pause));
        send(pid, Signal::CONT);
        Some("supervisor stopped")
    }

    /// Nothing can be written for a while; the supervisor may end for it, and is started again like by systemd.
    fn fill_disk(&mut self) -> Option<&'static str> {
        let filler = self.root.data_seen_from_here().join("filler");
        let mut file = fs::File::create(&filler).ok()?;
        let piece = vec![0_u8; 1 << 20];
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
        drop(file);
        let pause = 200 + self.below(1_500);
        std::thread::sleep(Duration::from_millis(pause));
        fs::remove_file(&filler).unwrap();
        Some("disk filled")
    }

    fn freeze(&mut self) -> Option<&'static str> {
        self.root.run(&["freeze"]);
        let pause = 200 + self.below(2_000);
        std::thread::sleep(Duration::from_millis(pause));
        self.root.run(&["thaw"]);
        Some("frozen and thawed")
    }

    /// Far enough to end every lease, heartbeat and time limit there is, or to let them all begin in the future.
    fn set_clock(&mut self) -> Option<&'static str> {
        let (seconds, way) = (self.below(CLOCK_STEP_MAX), if self.below(2) == 0 { "ago" } else { "" });
        let set = Command::new("date").arg(format!("--set={seconds} seconds {way}")).output().ok()?;
        assert!(set.status.success(), "the clock can be set: {}", String::from_utf8_lossy(&set.stderr));
        Some("clock set")
    }

    fn calm_down(&mut self) {
        self.root.keep_up();
        self.root.run(&["thaw"]);
        let (mut moved, mut done_before) = (clock(), 0);
        loop {
            self.root.keep_up();
            let states = self.states();
            if states.len() == self.tasks() && states.values().all(|state| state == "done") {
                return;
            }
            let open: Vec<String> = states
                .iter()
                .filter(|(_, state)| *state != "done")
                .map(|(id, state)| format!("{id} {state}"))
                .collect();
            let done = states.len() - open.len();
            if done > done_before {
                (moved, done_before) = (clock(), done);
            }
            assert!(
                clock() - moved < AFTERWARDS,
                "{} of {} tasks are known; not done: {open:?}\n{}\n{}\n{}",
                states.len(),
                self.tasks(),
                self.told(&["status"]),
                self.told(&["events"]),
                self.root.log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Returns the end of what a verb prints.
    fn told(&self, verb: &[&str]) -> String {
        let output = self.root.run(verb);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_TOLD)..].join("\n")
    }

    fn states(&self) -> BTreeMap<String, String> {
        let output = self.root.run(&["--json", "task", "list"]);
        let Ok(Value::Array(tasks)) = serde_json::from_slice(&output.stdout) else { return BTreeMap::new() };
        tasks
            .iter()
            .filter_map(|task| Some((task["id"].as_str()?.to_owned(), task["state"].as_str()?.to_owned())))
            .collect()
    }

    fn check(&mut self) {
        // One commit for each task, each with a trailer of its own.
        let subjects = self.root.commits();
        let distinct: BTreeSet<&String> = subjects.iter().collect();
        assert_eq!((subjects.len(), distinct.len()), (self.tasks(), self.tasks()), "one commit for each task");
        let trailers = self.root.git(&["log", "--format=%(trailers:key=Miyabi-Attempt,valueonly)", "main"]);
        let runs: Vec<&str> = trailers.split_whitespace().filter_map(|trailer| trailer.split('/').next()).collect();
        let distinct: BTreeSet<&&str> = runs.iter().collect();
        assert_eq!((runs.len(), distinct.len()), (self.tasks(), self.tasks()), "one commit for each run");
        for file in 0..self.files {
            for task in 0..TASKS_A_FILE {
                let text = fs::read_to_string(self.root.path(&format!("repo/f{file}-{task}.txt"))).unwrap();
                assert_eq!(text, format!("{file} {task}\n"));
            }
        }
        // All agents are well again before they are taken down.
        self.root.until_within(AFTERWARDS, "the agents are idle", || {
            let status = self.root.json(&["status"]);
            status["agents"].as_array().unwrap().iter().all(|agent| agent["state"] == "idle")
        });
        self.root.until_within(AFTERWARDS, "every order is out of its mailbox", || self.open_orders().is_empty());
        self.check_envelopes();
        self.check_worktrees();
        assert!(self.root.run(&["down"]).status.success());
        let path = self.root.path("").display().to_string();
        let left = process::marked(&[("MIYABI_ROOT", path.trim_end_matches('/'))]).unwrap();
        assert_eq!(left, [], "orphans are left");
    }

    fn folders(&self) -> Vec<(String, String, Vec<String>)> {
        let spool = self.root.data_seen_from_here().join("spool");
        let mut found = Vec::new();
        for mailbox in fs::read_dir(spool).unwrap().flatten() {
            for folder in ["new", "later", "leased", "done", "dead"] {
                let Ok(files) = fs::read_dir(mailbox.path().join(folder)) else { continue };
                let names = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
                found.push((mailbox.file_name().to_string_lossy().into_owned(), folder.to_owned(), names));
            }
        }
        found
    }

    fn open_orders(&self) -> Vec<String> {
        self.folders()
            .into_iter()
            .filter(|(mailbox, folder, _)| {
                mailbox.ends_with(".work") && ["new", "leased", "later"].contains(&folder.as_str())
            })
            .flat_map(|(_, _, names)| names)
            .collect()
    }

    fn check_envelopes(&self) {
        let mut places: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for (mailbox, folder, names) in self.folders() {
            for name in names {
                // The id is the part of a name that looks like a ULID; a reason lies beside a dead envelope.
                let id = name.split(['.', '-', '_', '~', '@']).find(|part| part.len() == 26);
                let Some(id) = id.filter(|_| !name.contains("reason")) else { continue };
                places.entry((mailbox.clone(), id.to_owned())).or_default().push(format!("{folder}/{name}"));
            }
        }
        assert!(places.len() >= self.tasks(), "the folders are not read as they are written");
        for ((mailbox, id), found) in places {
            let folders: BTreeSet<&str> = found.iter().filter_map(|place| place.split('/').next()).collect();
            assert_eq!(folders.len(), 1, "envelope {id} of {mailbox} is in several places: {found:?}");
        }
    }

    /// What a runner leaves when it dies, its next start clears away.
    fn check_worktrees(&self) {
        for folder in ["worktrees", "attempts"] {
            let path = self.root.data_seen_from_here().join(folder);
            let listed =
                || fs::read_dir(&path).map(|files| files.flatten().map(|file| file.path()).collect::<Vec<_>>());
            eprintln!("data/{folder}: {:?}", listed());
            self.root.until(&format!("data/{folder} is empty"), || listed().is_ok_and(|files| files.is_empty()));
        }
        let listed = self.root.git(&["worktree", "list"]);
        assert_eq!(listed.lines().count(), 1, "{listed}");
    }
}

fn send(pid: u32, what: Signal) {
    if let Some(process) = identify(pid) {
        drop(signal(&process, what));
    }
}
