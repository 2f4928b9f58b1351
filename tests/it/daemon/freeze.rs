//! Freeze and thaw: everything stands still where it is, and goes on as if nothing had been.

use std::fs;

use miyabi::io::process;
use serde_json::Value;

use super::root::Root;

const ECHO: &str = "driver = \"echo\"";

/// A task that prints into `ticks` until `gate` is there, with a time limit that is shorter than the freeze.
fn ticking(root: &Root) -> String {
    let (ticks, gate) = (root.path("ticks").display().to_string(), root.path("gate").display().to_string());
    format!(
        "tasks:\n  tick: {{run: 'until test -e {gate}; do echo x >> {ticks}; sleep 0.02; done; echo done > done.txt', timeout: 20s}}\n"
    )
}

fn begin() -> Root {
    let mut root = Root::new(&[("kaede", "codegen", ECHO)]);
    root.up();
    root.drop_file("f.yaml", &ticking(&root));
    root.wait_event("attempt-started", "f/tick");
    let ticks = root.path("ticks");
    root.until("the program runs", || fs::read_to_string(&ticks).is_ok_and(|text| text.lines().count() > 3));
    root
}

/// Returns the state letters of all processes of the agents, without the runners.
fn states(root: &Root) -> Vec<char> {
    let path = root.path("").display().to_string();
    let marks = [("MIYABI_ROOT", path.trim_end_matches('/')), ("MIYABI_AGENT", "kaede")];
    process::marked(&marks)
        .unwrap()
        .into_iter()
        .filter_map(|process| {
            let line = fs::read_to_string(format!("/proc/{}/cmdline", process.pid)).ok()?;
            let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok()?;
            let state = stat.rsplit_once(") ")?.1.chars().next()?;
            (!line.contains("--incarnation")).then_some(state)
        })
        .collect()
}

fn beats(root: &Root) -> u64 {
    let text = fs::read_to_string(root.path("data/run/beats/kaede.json")).unwrap_or_default();
    serde_json::from_str::<Value>(&text).ok().and_then(|beat| beat["sequence"].as_u64()).unwrap_or(0)
}

/// Lets time pass, as the runner's heart counts it.
fn wait_for_beats(root: &Root, count: u64) {
    let before = beats(root);
    root.until("the runner beats on", || beats(root) >= before + count);
}

fn finish(root: &Root, attempts: u64) {
    fs::write(root.path("gate"), "").unwrap();
    root.wait_event("merged", "f/tick");
    assert_eq!(root.task("f/tick")["attempt"], attempts);
    assert_eq!(root.commits(), ["f/tick"]);
}

#[test]
fn a_freeze_stops_every_program_where_it_is_and_a_thaw_lets_it_go_on() {
    let root = begin();
    let frozen = root.json(&["freeze"]);
    assert_eq!(frozen["frozen"], true);
    assert!(frozen["processes"].as_u64().unwrap() >= 1, "{frozen}");
    let before = fs::read_to_string(root.path("ticks")).unwrap();
    root.ok(&["submit", "--run", "true", "--repo", "none"]);
    // Longer than the heartbeat timeout of five seconds.
    wait_for_beats(&root, 14);
    assert_eq!(fs::read_to_string(root.path("ticks")).unwrap(), before, "nothing was printed meanwhile");
    assert!(states(&root).iter().all(|state| matches!(state, 'T' | 'D')), "{:?}", states(&root));
    let status = root.json(&["status"]);
    assert!(status["frozen"].is_string(), "{status}");
    assert!(root.ok(&["status"]).contains("FROZEN since"));
    assert_eq!(status["tasks"]["ready"], 1, "what was submitted waits");
    assert_eq!(root.json(&["freeze"])["since"], frozen["since"], "twice is harmless");

    let thawed = root.json(&["thaw"]);
    assert_eq!((&thawed["frozen"], &thawed["since"]), (&Value::Bool(false), &frozen["since"]));
    root.until("the program goes on", || fs::read_to_string(root.path("ticks")).unwrap().len() > before.len());
    assert_eq!(root.ok(&["thaw"]).trim(), "nothing was frozen");
    finish(&root, 1);
    root.ok(&["task", "wait"]);
    assert_eq!(root.agent("kaede")["incarnation"], 1);
    assert_eq!(root.count_events("agent-down", "kaede"), 0);
}

#[test]
fn a_freeze_works_without_a_supervisor_and_the_next_one_obeys_it() {
    let mut root = begin();
    root.kill_supervisor();
    let output = root.run(&["freeze"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no supervisor is running"));
    assert!(states(&root).iter().all(|state| matches!(state, 'T' | 'D')), "{:?}", states(&root));
    root.up();
    root.until("kaede is adopted", || root.agent("kaede")["state"] == "busy");
    assert!(root.json(&["status"])["frozen"].is_string());
    wait_for_beats(&root, 6);
    assert!(states(&root).iter().all(|state| matches!(state, 'T' | 'D')), "{:?}", states(&root));
    root.ok(&["thaw"]);
    finish(&root, 1);
}

#[test]
fn a_tmux_server_that_dies_while_frozen_is_made_good_after_the_thaw() {
    let root = begin();
    root.ok(&["freeze"]);
    assert!(root.tmux(&["kill-server"]).status.success());
    root.wait_event("agent-down", "kaede");
    root.until("nothing of it runs", || states(&root).is_empty());
    let state = root.agent("kaede")["state"].clone();
    assert!(state == "absent" || state == "backing-off", "nothing is started while frozen: {state}");
    assert_eq!(root.count_events("spawn-requested", "kaede"), 1);
    root.ok(&["thaw"]);
    root.wait_nth_event("attempt-started", "f/tick", 2);
    finish(&root, 2);
}

#[test]
fn a_frozen_root_comes_up_without_starting_anybody() {
    let mut root = Root::new(&[("kaede", "codegen", ECHO)]);
    root.run(&["freeze"]);
    root.up();
    assert_eq!(root.agent("kaede")["state"], "absent");
    assert_eq!(root.count_events("spawn-requested", "kaede"), 0);
    root.ok(&["thaw"]);
    root.wait_event("agent-up", "kaede");
}

#[test]
fn a_frozen_team_can_be_taken_down() {
    let mut root = begin();
    root.ok(&["freeze"]);
    root.ok(&["task", "cancel", "f/tick"]);
    assert!(root.run(&["down"]).status.success());
    assert!(root.supervisor().wait().unwrap().success());
    assert!(states(&root).is_empty());
}
