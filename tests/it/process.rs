//! Real processes: watched, signalled, found by their marks and ended.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use miyabi::io::process::{self, ProcessId, Sent};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};

/// What a machine under load may take; nothing here waits that long unless something is broken.
const DEADLINE: Duration = Duration::from_secs(20);

/// A child that is killed and collected however the test ends.
struct Guard(Child);

impl Guard {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the program starts"))
    }

    fn id(&self) -> ProcessId {
        process::identify(self.0.id()).expect("the child runs")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("600");
    command
}

/// Starts a shell script that carries a mark, and waits for the line `ready` that it prints.
async fn marked_script(mark: &str, script: &str) -> tokio::process::Child {
    let mut child = tokio::process::Command::new("sh")
        .args(["-c", script])
        .env("MIYABI_TEST_MARK", mark)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("sh starts");
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("its output is piped"));
    tokio::time::timeout(DEADLINE, output.read_line(&mut line)).await.expect("in time").expect("readable");
    assert_eq!(line, "ready\n");
    child
}

fn marks(mark: &str) -> Vec<(String, String)> {
    vec![("MIYABI_TEST_MARK".to_owned(), mark.to_owned())]
}

fn found(mark: &str) -> Vec<ProcessId> {
    process::marked(&[("MIYABI_TEST_MARK", mark)]).expect("/proc is readable")
}

/// A mark that no other test, and no other run of this one, uses.
fn fresh_mark() -> String {
    miyabi::io::clock::fresh_run_id().to_string()
}

#[tokio::test]
async fn the_end_of_a_process_is_noticed_although_nobody_collected_it() {
    let mut child = Guard::start(&mut sleeper());
    let id = child.id();
    assert!(process::is_alive(&id));
    let waiting = process::wait_for_exit(id);
    child.0.kill().unwrap();
    tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
    assert!(!process::is_alive(&id), "a zombie does not live");
    assert_eq!(process::identify(id.pid), None);
    tokio::time::timeout(DEADLINE, process::wait_for_exit(id)).await.unwrap().unwrap();
    child.0.wait().unwrap();
    tokio::time::timeout(DEADLINE, process::wait_for_exit(id)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_process_that_took_over_the_number_is_neither_waited_for_nor_signalled() {
    let child = Guard::start(&mut sleeper());
    let earlier = ProcessId { start: child.id().start - 1, ..child.id() };
    tokio::time::timeout(DEADLINE, process::wait_for_exit(earlier)).await.unwrap().unwrap();
    assert_eq!(process::signal(&earlier, Signal::KILL).unwrap(), Sent::Gone);
    assert!(process::is_alive(&child.id()));
}

#[tokio::test]
async fn a_signal_reaches_the_process_and_later_ones_say_that_it_is_gone() {
    let mut child = Guard::start(&mut sleeper());
    let id = child.id();
    assert_eq!(process::signal(&id, Signal::TERM).unwrap(), Sent::Delivered);
    child.0.wait().unwrap();
    assert_eq!(process::signal(&id, Signal::TERM).unwrap(), Sent::Gone);
}

#[tokio::test]
async fn marks_find_processes_that_left_their_parent_and_their_session() {
    let mark = fresh_mark();
    let mut child = marked_script(&mark, "setsid sleep 600 & echo ready; exit 0").await;
    child.wait().await.unwrap();
    assert_eq!(found(&mark).len(), 1);
    assert_eq!(found(&mark[1..]).len(), 0, "a part of a value is another value");
    assert_eq!(process::end_marked(&marks(&mark), DEADLINE).await.unwrap(), 1);
    assert_eq!(found(&mark), []);
}

#[tokio::test]
async fn a_process_that_begins_one_program_after_another_is_found_at_every_moment() {
    let mark = fresh_mark();
    let again = r#"exec sh -c "$0" "$0""#;
    let _child = marked_script(&mark, &format!("echo ready; exec sh -c '{again}' '{again}'")).await;
    for look in 0..500 {
        assert_eq!(found(&mark).len(), 1, "look {look}");
    }
    assert_eq!(process::end_marked(&marks(&mark), DEADLINE).await.unwrap(), 1);
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_and_its_children_are_killed() {
    let mark = fresh_mark();
    let script = "trap '' TERM; sleep 600 & sleep 600 & echo ready; while :; do sleep 1; done";
    let _child = marked_script(&mark, script).await;
    let ended = process::end_marked(&marks(&mark), Duration::from_millis(100)).await.unwrap();
    assert!(ended >= 3, "{ended}");
    assert_eq!(found(&mark), []);
}

#[tokio::test]
async fn a_stopped_process_still_gets_its_chance_to_end_well() {
    let mark = fresh_mark();
    let mut child = marked_script(&mark, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done").await;
    let id = process::identify(child.id().unwrap()).unwrap();
    process::signal(&id, Signal::STOP).unwrap();
    process::end_marked(&marks(&mark), DEADLINE).await.unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn a_stopped_process_that_ignores_sigterm_is_killed() {
    let mark = fresh_mark();
    let child = marked_script(&mark, "trap '' TERM; echo ready; while :; do sleep 1; done").await;
    let id = process::identify(child.id().unwrap()).unwrap();
    process::signal(&id, Signal::STOP).unwrap();
    process::end_marked(&marks(&mark), Duration::from_millis(50)).await.unwrap();
    assert!(!process::is_alive(&id));
}

#[tokio::test]
async fn children_that_shed_the_marks_end_with_their_parent() {
    let mark = fresh_mark();
    let child = marked_script(&mark, "env -i /bin/sleep 600 & echo ready; wait").await;
    let parent = process::identify(child.id().unwrap()).unwrap();
    let waited = tokio::time::timeout(DEADLINE, async {
        while found(&mark).len() > 1 || process::evidence(&parent).unwrap().children == 0 {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("env has dropped the mark");
    assert_eq!(process::end_marked(&marks(&mark), DEADLINE).await.unwrap(), 2);
}

#[tokio::test]
async fn no_marks_match_nothing_instead_of_everything() {
    assert!(process::end_marked(&[], Duration::ZERO).await.is_err());
    assert!(process::marked(&[]).is_err());
}

/// Runs in a process of its own, started by the test below; alone it has nothing to do.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test below hands its mark over in the environment")]
async fn ends_those_with_its_own_mark() {
    if let Ok(mark) = std::env::var("MIYABI_TEST_MARK") {
        let child = Guard::start(&mut sleeper());
        assert_eq!(process::end_marked(&marks(&mark), DEADLINE).await.unwrap(), 1);
        assert_eq!(process::identify(child.0.id()), None);
    }
}

#[test]
fn who_asks_is_spared_even_if_it_carries_the_marks() {
    let mut us = Command::new(std::env::current_exe().unwrap());
    us.args(["--exact", "process::ends_those_with_its_own_mark"]).env("MIYABI_TEST_MARK", fresh_mark());
    let ended = us.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

#[tokio::test]
async fn evidence_shows_work_below_the_process() {
    let mark = fresh_mark();
    let child = marked_script(&mark, "timeout 60 sh -c 'while :; do :; done' & echo ready; wait").await;
    let id = process::identify(child.id().unwrap()).unwrap();
    let before = process::evidence(&id).unwrap();
    let busier = tokio::time::timeout(DEADLINE, async {
        loop {
            let seen = process::evidence(&id).unwrap();
            if seen.cpu_ticks > before.cpu_ticks {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(busier.await.unwrap().children >= 1);
    process::end_marked(&marks(&mark), Duration::ZERO).await.unwrap();
    assert_eq!(process::evidence(&id), None);
}

#[test]
fn a_name_that_looks_like_the_end_of_the_name_is_read_well() {
    let mut command = sleeper();
    command.arg0(") S 1 1");
    let child = Guard::start(&mut command);
    assert_eq!(child.id().pid, child.0.id());
}
