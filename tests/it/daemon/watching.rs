//! Progress, alerts and room: what is watched apart from life.

use std::fs;

use serde_json::Value;

use super::root::Root;

fn alerts(root: &Root) -> Vec<Value> {
    root.json(&["status"])["alerts"].as_array().unwrap().clone()
}

#[test]
fn an_attempt_that_stands_still_is_ended_and_tried_again_when_that_is_the_answer() {
    let lines = "driver = \"echo\"\nstall = \"1500ms\"\non_stall = \"restart\"";
    let mut root = Root::new(&[("kaede", "codegen", lines)]);
    root.up();
    let first = root.path("first").display().to_string();
    root.drop_file(
        "s.yaml",
        &format!(
            "tasks:\n  a: {{run: 'if mkdir {first}; then sleep 1000; fi; echo x > x', retry: {{interval: 10ms}}}}\n"
        ),
    );
    let stalled = root.wait_event("attempt-stalled", "s/a");
    assert_eq!((&stalled["agent"], &stalled["attempt"]), (&"kaede".into(), &1.into()));
    let failed = root.wait_event("attempt-failed", "s/a");
    assert!(failed["text"].as_str().unwrap().contains("no progress"), "{failed}");
    root.wait_event("merged", "s/a");
    assert_eq!(root.task("s/a")["attempt"], 2);
}

#[test]
fn a_stall_is_an_alert_that_is_told_once_and_over_when_the_work_goes_on() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"\nstall = \"1500ms\"")]);
    let told = root.path("told").display().to_string();
    root.configure(&format!("[alert]\ncommand = [\"sh\", \"-c\", 'echo \"$1\" >> {told}', \"tell\"]\n"));
    root.up();
    let gate = root.path("gate").display().to_string();
    root.drop_file(
        "s.yaml",
        &format!("tasks:\n  a: {{run: 'until test -e {gate}; do sleep 0.05; done; echo go; sleep 1000'}}\n"),
    );
    root.wait_event("alert-raised", "s/a");
    let shown = alerts(&root);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!((&shown[0]["kind"], &shown[0]["task"]), (&"stalled".into(), &"s/a".into()));
    assert!(root.ok(&["status"]).contains("ALERT stalled: s/a"));
    assert!(root.task("s/a")["reason"].as_str().unwrap().contains("no progress for"));
    root.until("the program is told", || fs::read_to_string(&told).is_ok_and(|text| text.contains("s/a")));

    root.kill_supervisor();
    root.up();
    assert_eq!(alerts(&root).len(), 1, "an alert outlives the supervisor");
    fs::write(root.path("gate"), "").unwrap();
    root.until("the alert is over", || alerts(&root).is_empty());
    root.ok(&["task", "cancel", "s/a"]);
    assert_eq!(fs::read_to_string(&told).unwrap().lines().count(), 1, "it was told once");
}

#[test]
fn a_nudge_is_a_message_in_the_agents_inbox_and_their_number_is_bounded() {
    let lines = "driver = \"echo\"\nstall = \"700ms\"\non_stall = \"nudge\"";
    let mut root = Root::new(&[("kaede", "codegen", lines)]);
    root.up();
    root.drop_file("s.yaml", "tasks:\n  a: {run: 'sleep 1000'}\n");
    root.wait_event("alert-raised", "s/a");
    let messages = root.json(&["inbox", "kaede"]);
    let messages = messages.as_array().unwrap();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(messages[0]["from"], "supervisor");
    assert!(messages[0]["body"].as_str().unwrap().contains("s/a"), "{messages:?}");
    assert_eq!(root.count_events("attempt-stalled", "s/a"), 4);
    root.ok(&["task", "cancel", "s/a"]);
}

#[test]
fn what_computes_or_prints_is_not_stalled() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"\nstall = \"5s\"\non_stall = \"restart\"")]);
    root.up();
    // Seven seconds of computing in silence, then seven of printing. Half a second of processor time in five is progress, which
    // also a busy machine has to give.
    let run = "end=$(($(date +%s) + 7)); while test $(date +%s) -lt $end; do i=0; while test $i -lt 20000; do i=$((i+1)); done; done; for i in 1 2 3 4 5 6 7; do echo $i; sleep 1; done; echo x > x";
    root.drop_file("s.yaml", &format!("tasks:\n  a: {{run: '{run}'}}\n"));
    root.wait_event("merged", "s/a");
    assert_eq!(root.count_events("attempt-stalled", "s/a"), 0);
    assert_eq!(root.task("s/a")["attempt"], 1);
}

#[test]
fn a_program_that_only_tells_of_itself_is_not_stalled_and_one_that_waits_for_a_person_is_shown_so() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"\nstall = \"5s\"\non_stall = \"restart\"")]);
    root.up();
    let gate = root.path("gate").display().to_string();
    // Each event costs a millisecond or two of processor time: those of a stall time are far from what counts as computing.
    let run = format!(
        "i=0; while [ $i -lt 35 ]; do i=$((i+1)); echo \"{{}}\" >$MIYABI_EVENTS/$i; sleep 0.2; done; \
         echo \"{{\\\"state\\\": \\\"waiting\\\", \\\"reason\\\": \\\"may I?\\\"}}\" >$MIYABI_EVENTS/.w; mv $MIYABI_EVENTS/.w $MIYABI_EVENTS/w; \
         until test -e {gate}; do sleep 0.05; done; echo x > x"
    );
    root.drop_file("s.yaml", &format!("tasks:\n  a:\n    run: |\n      {run}\n"));
    root.until("kaede waits", || root.agent("kaede")["state"] == "waiting");
    assert_eq!(root.count_events("attempt-stalled", "s/a"), 0, "its events were signs of life");
    assert!(root.ok(&["status"]).contains("may I?"));
    root.kill_supervisor();
    root.up();
    root.until("the wait is known again", || root.agent("kaede")["state"] == "waiting");
    fs::write(&gate, "").unwrap();
    root.wait_event("merged", "s/a");
    assert_eq!(root.count_events("attempt-stalled", "s/a"), 0);
    assert_eq!(root.task("s/a")["attempt"], 1);
}

#[test]
fn a_crash_loop_is_an_alert_until_the_agent_is_resumed() {
    let lines = "driver = \"echo\"\nrestart = { intensity = 0 }";
    let mut root = Root::new(&[("kaede", "codegen", lines)]);
    root.up();
    root.wait_event("agent-up", "kaede");
    let pid = root.agent("kaede")["pid"].to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    root.wait_event("alert-raised", "kaede");
    assert_eq!(root.agent("kaede")["state"], "crash-loop");
    assert_eq!(alerts(&root)[0]["kind"], "crash-loop");
    assert!(alerts(&root)[0]["text"].as_str().unwrap().contains("miyabi agent resume kaede"));
    root.ok(&["agent", "resume", "kaede"]);
    root.until("the alert is over", || alerts(&root).is_empty());
    root.until("kaede is back", || root.agent("kaede")["state"] == "idle");
}

#[test]
fn work_is_held_while_the_disk_is_low_and_goes_on_by_itself() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"")]);
    root.configure("[resources]\ndisk_low = \"12MiB\"\ndisk_resume = \"16MiB\"\n");
    root.put_data_on_a_small_disk("24m");
    let filler = root.data_seen_from_here().join("filler");
    fs::write(&filler, vec![0_u8; 14 << 20]).unwrap();
    root.up();
    root.drop_file("r.yaml", "tasks:\n  a: {run: 'true', repo: none}\n");
    root.until("work is held", || root.json(&["status"])["holding"].is_string());
    let holding = root.json(&["status"])["holding"].as_str().unwrap().to_owned();
    assert!(holding.contains("MiB of disk space left, it goes on at 16 MiB"), "{holding}");
    root.wait_event("task-accepted", "r/a");
    assert_eq!(root.task("r/a")["state"], "ready");
    assert!(root.ok(&["task", "why", "r/a"]).contains("disk space"));
    assert_eq!(alerts(&root)[0]["kind"], "low-disk");
    fs::remove_file(&filler).unwrap();
    root.ok(&["task", "wait", "r/a"]);
    assert_eq!(root.task("r/a")["attempt"], 1);
    assert_eq!(alerts(&root), Vec::<Value>::new());
}

#[test]
fn an_attempt_that_fills_the_disk_does_not_count_as_a_failure() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"")]);
    root.configure("[resources]\ndisk_low = \"0B\"\nmemory_low = \"0B\"\n");
    root.put_data_on_a_small_disk("24m");
    root.up();
    // The program fills the disk once and fails; it leaves a little, so that this can be written down.
    let data = root.path("data").display().to_string();
    let gate = root.path("gate").display().to_string();
    let fill =
        format!("free=$(df -k --output=avail {data} | tail -n1); head -c $(($free - 600))K /dev/zero > {data}/fat");
    let run = format!("until test -e {gate}; do sleep 0.02; done; if mkdir {data}/once; then {fill}; exit 1; fi");
    root.drop_file("r.yaml", &format!("tasks:\n  a: {{run: '{run}', repo: none, retry: {{limit: 0}}}}\n"));
    root.wait_event("attempt-started", "r/a");
    fs::write(&gate, "").unwrap();
    let reported = root.wait_event("report-accepted", "r/a");
    assert!(reported["text"].as_str().unwrap().contains("again from"), "{reported}");
    fs::remove_file(root.data_seen_from_here().join("fat")).unwrap();
    root.ok(&["task", "wait", "r/a"]);
    assert_eq!(root.task("r/a")["state"], "done");
    assert_eq!(root.task("r/a")["attempt"], 2, "a second attempt although no retry is allowed");
}

#[test]
fn top_shows_what_each_agent_uses() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"")]);
    root.up();
    root.wait_event("agent-up", "kaede");
    root.drop_file("t.yaml", "tasks:\n  a: {run: 'while :; do :; done', repo: none}\n");
    root.wait_event("attempt-started", "t/a");
    root.until("its work is seen", || root.json(&["top"])["agents"][0]["cpu_permille"].as_u64().unwrap() > 50);
    let top = root.json(&["top"]);
    let kaede = &top["agents"][0];
    assert_eq!(kaede["name"], "kaede");
    for field in ["processes", "cpu_ms", "memory_bytes", "files", "disk_bytes"] {
        assert!(kaede[field].as_u64().unwrap() > 0, "{field}: {kaede}");
    }
    assert!(top["disk_free_bytes"].as_u64().unwrap() > 0 && top["memory_available_bytes"].as_u64().unwrap() > 0);
    assert!(top["supervisor"]["disk_bytes"].as_u64().unwrap() > 0, "the journal lies somewhere");
    let shown = root.ok(&["top"]);
    assert!(
        ["kaede", "supervisor", "all"].iter().all(|name| shown.lines().any(|line| line.starts_with(name))),
        "{shown}"
    );
    root.ok(&["task", "cancel", "t/a"]);
}

#[test]
fn without_inotify_a_supervisor_and_its_runners_work_by_sweeps_and_figures_say_so() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"")]);
    root.take_inotify_away();
    root.up();
    root.wait_event("agent-up", "kaede");
    let id = root.json(&["submit", "--repo", "none", "--run", "true"])["id"].as_str().unwrap().to_owned();
    root.ok(&["task", "wait", &id]);
    let watching = root.json(&["status"])["watching"].clone();
    for who in ["supervisor", "kaede"] {
        assert!(watching[who]["blind"].as_u64().is_some_and(|blind| blind > 0), "{who}: {watching}");
    }
    let logged = |entry: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        text.contains("files cannot be watched")
    };
    assert!(fs::read_dir(root.path("logs")).unwrap().any(logged), "the log says nothing");
}
