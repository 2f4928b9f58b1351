//! Whatever is killed in the middle of a task: every task ends done exactly once, in order, with one commit each.

use std::fs;
use std::process::Command;

use super::adoption::tmux;
use super::root::Root;

pub(super) const ECHO: &str = "driver = \"echo\"";

/// A chain whose middle task waits for a file, so that a test can kill something while it runs.
pub(super) fn chain(root: &Root) -> String {
    let gate = root.path("gate").display().to_string();
    format!(
        "tasks:\n  one: {{run: 'echo one > chain.txt'}}\n  two: {{run: 'echo two >> chain.txt; echo $$ > {gate}.pid; until test -e {gate}; do sleep 0.05; done', needs: one}}\n  three: {{run: 'echo three >> chain.txt', needs: two}}\n"
    )
}

pub(super) fn kill(pid: &str) {
    let killed = Command::new("kill").args(["-KILL", pid]).status().unwrap();
    assert!(killed.success(), "nothing to kill at {pid}");
}

pub(super) fn begin() -> Root {
    let mut root = Root::new(&[("kaede", "codegen", ECHO)]);
    root.up();
    root.drop_file("chain.yaml", &chain(&root));
    root.wait_event("attempt-started", "chain/two");
    let pid = root.path("gate.pid");
    root.until("the program runs", || fs::read_to_string(&pid).is_ok_and(|pid| !pid.trim().is_empty()));
    root
}

pub(super) fn finish(root: &Root, attempts: u64) {
    fs::write(root.path("gate"), "").unwrap();
    root.wait_event("merged", "chain/three");
    assert_eq!(fs::read_to_string(root.path("repo/chain.txt")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(root.commits(), ["chain/one", "chain/two", "chain/three"]);
    assert_eq!(root.task("chain/two")["attempt"], attempts);
    for task in ["chain/one", "chain/two", "chain/three"] {
        assert_eq!(root.count_events("merged", task), 1, "{task} is merged once");
        assert_eq!(root.task(task)["state"], "done");
    }
}

#[test]
fn a_killed_runner_comes_back_and_its_task_is_done_once() {
    let root = begin();
    let before = root.agent("kaede");
    kill(&before["pid"].to_string());
    root.wait_nth_event("agent-up", "kaede", 2);
    root.wait_event("attempt-failed", "chain/two");
    let program: u32 = fs::read_to_string(root.path("gate.pid")).unwrap().trim().parse().unwrap();
    finish(&root, 2);
    let after = root.agent("kaede");
    assert_eq!(after["incarnation"].as_u64(), before["incarnation"].as_u64().map(|number| number + 1));
    assert!(miyabi::io::process::identify(program).is_none(), "the killed runner's program was not left behind");
}

#[test]
fn a_killed_agent_program_is_a_failed_attempt_and_is_repeated() {
    let root = begin();
    kill(fs::read_to_string(root.path("gate.pid")).unwrap().trim());
    root.wait_nth_event("attempt-started", "chain/two", 2);
    finish(&root, 2);
    assert_eq!(root.agent("kaede")["incarnation"], 1, "the runner itself lives on");
}

#[test]
fn a_killed_supervisor_finds_its_agents_still_working() {
    let mut root = begin();
    let before = root.agent("kaede");
    root.kill_supervisor();
    root.up();
    root.until("kaede is adopted", || root.agent("kaede")["state"] == "busy");
    let after = root.agent("kaede");
    assert_eq!((&after["pid"], &after["incarnation"]), (&before["pid"], &before["incarnation"]));
    finish(&root, 1);
}

#[test]
fn work_that_ends_while_the_supervisor_is_away_is_taken_when_it_is_back() {
    let mut root = begin();
    root.kill_supervisor();
    fs::write(root.path("gate"), "").unwrap();
    let reports = root.path("data/spool/supervisor/new");
    root.until("the report lies in the spool", || fs::read_dir(&reports).is_ok_and(|mut files| files.next().is_some()));
    root.up();
    finish(&root, 1);
}

#[test]
fn a_killed_supervisor_and_runner_together_lose_nothing() {
    let mut root = begin();
    let pid = root.agent("kaede")["pid"].to_string();
    root.kill_supervisor();
    kill(&pid);
    root.up();
    root.wait_nth_event("attempt-started", "chain/two", 2);
    finish(&root, 2);
}

#[test]
fn a_killed_tmux_server_takes_only_the_panes_along() {
    let root = begin();
    let killed = Command::new("tmux")
        .args(["-L", "test", "kill-server"])
        .env("TMUX_TMPDIR", root.path("tmux"))
        .env_remove("TMUX")
        .status()
        .unwrap();
    assert!(killed.success());
    root.wait_nth_event("agent-up", "kaede", 2);
    finish(&root, 2);
}

/// Holds all threads of a process, as a debugger does, until it is dead. SIGSTOP alone would not do: tmux continues its panes.
const HOLD: &str = "import ctypes, os, sys
attach, all_threads = 16, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
for thread in os.listdir(f'/proc/{sys.argv[1]}/task'):
    assert libc.ptrace(attach, int(thread), None, None) == 0, os.strerror(ctypes.get_errno())
try:
    while True:
        os.waitpid(-1, all_threads)
except ChildProcessError:
    pass
";

#[test]
fn a_runner_that_hangs_is_found_by_its_silence_and_replaced() {
    let root = begin();
    let pid = root.agent("kaede")["pid"].to_string();
    let mut holder = Command::new("python3").args(["-c", HOLD, &pid]).spawn().unwrap();
    let down = root.wait_event("agent-down", "kaede");
    assert!(down["text"].as_str().unwrap().contains("was silent"), "{down}");
    assert!(holder.wait().unwrap().success());
    root.wait_nth_event("agent-up", "kaede", 2);
    finish(&root, 2);
}

#[test]
fn a_killed_session_takes_only_the_panes_along() {
    let root = begin();
    tmux(&root, &["kill-session", "-t", "=test"]);
    root.wait_nth_event("agent-up", "kaede", 2);
    finish(&root, 2);
}

#[test]
fn a_killed_client_of_tmux_is_replaced_and_nobody_feels_it() {
    let root = begin();
    let client = || tmux(&root, &["list-clients", "-F", "#{client_pid}"]);
    let first = client();
    kill(&first);
    root.until("another client is attached", || ![first.as_str(), ""].contains(&client().as_str()));
    finish(&root, 1);
}

/// The slow second sign: what is in no pane of ours any more can be neither attached nor stopped there.
#[test]
fn an_agent_whose_pane_lost_its_tags_is_started_again() {
    let root = begin();
    let panes = tmux(&root, &["list-panes", "-a", "-F", "#{pane_id} #{@miyabi_agent}"]);
    let pane = panes.lines().find_map(|line| line.strip_suffix(" kaede")).unwrap();
    tmux(&root, &["set-option", "-p", "-u", "-t", pane, "@miyabi_agent"]);
    root.wait_nth_event("agent-up", "kaede", 2);
    assert!(!tmux(&root, &["list-panes", "-a", "-F", "#{pane_id}"]).lines().any(|id| id == pane), "{pane} is left");
    finish(&root, 2);
}

#[test]
fn a_second_supervisor_refuses_and_names_the_first() {
    let mut root = Root::new(&[("kaede", "codegen", ECHO)]);
    root.up();
    let second = root.run(&["up"]);
    assert_eq!(second.status.code(), Some(5));
    let first = root.supervisor().id().to_string();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains(&first), "{text}");
}

#[test]
fn down_lets_running_work_end_and_leaves_nothing_behind() {
    let mut root = begin();
    let mut down = root.command(&["down"]).spawn().unwrap();
    root.until("the drain has begun", || root.json(&["status"])["supervisor"]["state"] == "draining");
    fs::write(root.path("gate"), "").unwrap();
    assert!(down.wait().unwrap().success());
    assert!(root.supervisor().wait().unwrap().success());
    assert_eq!(root.run(&["status"]).status.code(), Some(3));
    let marks = root.path("").display().to_string();
    let marks = marks.trim_end_matches('/');
    assert_eq!(miyabi::io::process::marked(&[("MIYABI_ROOT", marks)]).unwrap(), []);
    root.up();
    finish(&root, 1);
}
