//! Work is done in order, once, proven, and merged; mistakes hurt nobody.

use std::fs;

use super::root::Root;

const ECHO: &str = "driver = \"echo\"";

fn team() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![("kaede", "codegen", ECHO), ("sakura", "review", ECHO)]
}

#[test]
fn a_chain_is_worked_off_in_order_with_one_commit_each() {
    let mut root = Root::new(&team());
    root.up();
    root.drop_file(
        "chain.yaml",
        "tasks:\n  one: {run: 'echo one > chain.txt'}\n  two: {run: 'echo two >> chain.txt', needs: one, role: review}\n  three: {run: 'echo three >> chain.txt', needs: two, check: 'test $(wc -l < chain.txt) = 3'}\n",
    );
    root.wait_event("merged", "chain/three");
    assert_eq!(fs::read_to_string(root.path("repo/chain.txt")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(root.commits(), ["chain/one", "chain/two", "chain/three"]);
    assert_eq!(root.git(&["status", "--porcelain"]), "");
    assert_eq!(root.task("chain/three")["state"], "done");
    let page = |args: &[&str]| {
        let all: Vec<&str> = ["task", "list"].iter().chain(args).copied().collect();
        let listed = root.json(&all);
        listed.as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(page(&["--limit", "2"]), ["chain/two", "chain/three"], "the newest ones, in their order");
    assert_eq!(page(&["--limit", "2", "--before", "chain/two"]), ["chain/one"]);
    assert_eq!(page(&["--state", "done"]).len(), 3);
    assert_eq!(page(&["--state", "dead"]), Vec::<String>::new());
    assert_eq!(root.run(&["task", "list", "--before", "chain/four"]).status.code(), Some(4));
    // The runner clears away behind itself, and the merge does not wait for that.
    root.until("no worktree is left", || root.git(&["worktree", "list"]).lines().count() == 1);
}

#[test]
fn a_check_that_fails_is_tried_again_with_what_went_wrong_and_then_given_up() {
    let mut root = Root::new(&team());
    root.up();
    root.drop_file(
        "f.yaml",
        "tasks:\n  a: {run: 'echo x > x', check: 'echo the-check-says-no; false', retry: {limit: 1, interval: 10ms}}\n  b: {run: 'echo y > y', needs: a}\n",
    );
    root.wait_event("task-accepted", "f/b");
    let wait = root.run(&["task", "wait"]);
    assert_eq!(wait.status.code(), Some(1), "waiting for a task that fails fails");
    let task = root.task("f/a");
    assert_eq!((&task["state"], &task["attempt"]), (&"dead".into(), &2.into()));
    assert_eq!(root.task("f/b")["state"], "blocked");
    let listed = root.json(&["task", "list", "--state", "dead"]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let alert = root.ok(&["status"]);
    assert!(alert.contains("ALERT dead: f/a has used up its attempts"), "{alert}");
    let shown = root.ok(&["task", "show", "f/a"]);
    assert_eq!(
        shown.matches("ended with exit code 1").count(),
        3,
        "the task's reason, and that of each attempt: {shown}"
    );
    assert!(shown.contains("the-check-says-no") && shown.contains("+x"), "{shown}");
    assert!(root.ok(&["report", "f/a"]).contains("the-check-says-no"));
    let order = fs::read_dir(root.path("data/spool/kaede.work/done")).unwrap().count();
    assert_eq!(order, 2, "both orders were acknowledged");
    assert_eq!(root.commits(), Vec::<String>::new());
    let branches = root.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads/miyabi"]);
    for attempt in root.json(&["task", "show", "f/a"])["attempts"].as_array().unwrap() {
        let (branch, log) = (attempt["branch"].as_str().unwrap(), attempt["log"].as_str().unwrap());
        assert!(branches.lines().any(|line| line == branch), "{branch} is kept: {branches}");
        assert!(fs::read_to_string(root.path(log)).unwrap().contains("the-check-says-no"), "{log} is kept");
    }
    root.ok(&["task", "cancel", "f/a"]);
    assert!(!root.ok(&["status"]).contains("ALERT dead"), "it is over when somebody has seen to it");
}

#[test]
fn the_same_key_never_makes_a_second_run_also_after_a_restart() {
    let mut root = Root::new(&team());
    root.up();
    let submit = |root: &Root, text: &str| {
        let output = root.run(&["submit", "--repo", "none", "--key", "nightly/28", "--run", text]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let (_, id) = submit(&root, "true");
    assert_eq!(submit(&root, "true"), (Some(0), id.clone()), "while it runs, or when it is done");
    root.wait_event("report-accepted", &id);
    root.kill_supervisor();
    root.up();
    assert_eq!(submit(&root, "true"), (Some(0), id.clone()));
    let said = root.json(&["submit", "--repo", "none", "--key", "nightly/28", "--run", "true"]);
    assert_eq!((&said["id"], &said["repeated"]), (&id.into(), &true.into()));
    assert_eq!(submit(&root, "false"), (Some(4), String::new()), "another order needs another key");
    fs::write(root.path("order.json"), r#"{"run": "true", "repo": "none", "key": "nightly/28"}"#).unwrap();
    let file = root.path("order.json").display().to_string();
    assert_eq!(root.json(&["submit", "--file", &file])["repeated"], true);
    assert_eq!(root.json(&["task", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_changed_checkout_is_never_touched_and_the_task_goes_on_when_it_is_clean() {
    let mut root = Root::new(&team());
    root.up();
    fs::write(root.path("repo/README"), "somebody is at work\n").unwrap();
    fs::write(root.path("repo/untracked"), "does not count\n").unwrap();
    root.drop_file("p.yaml", "tasks:\n  a: {run: 'echo x > x'}\n");
    let parked = root.wait_event("merge-parked", "p/a");
    assert!(parked["text"].as_str().unwrap().contains("README"), "{parked}");
    assert_eq!(root.task("p/a")["state"], "parked");
    assert_eq!(root.commits(), Vec::<String>::new());
    root.git(&["checkout", "-q", "README"]);
    root.ok(&["task", "retry", "p/a"]);
    root.wait_event("merged", "p/a");
    assert_eq!(root.commits(), ["p/a"]);
    assert!(root.path("repo/untracked").exists());
}

#[test]
fn a_faulty_file_leaves_the_last_good_version_in_force() {
    let mut root = Root::new(&team());
    root.up();
    root.drop_file("g.yaml", "tasks:\n  a: {run: 'true', repo: none}\n");
    root.wait_event("report-accepted", "g/a");
    root.drop_file(
        "g.yaml",
        "tasks:\n  a: {run: 'true', repo: none, needs: b}\n  b: {run: 'true', repo: none, needs: a}\n",
    );
    root.until("the cycle is told", || root.ok(&["status"]).contains("g.yaml:"));
    assert_eq!(root.task("g/a")["state"], "done");
    assert!(root.task("g/b").is_null(), "nothing of the faulty version is in force");
    root.drop_file("g.yaml", "tasks:\n  a: {run: 'true', repo: none}\n  b: {run: 'true', repo: none, needs: a}\n");
    root.wait_event("report-accepted", "g/b");
    assert!(!root.ok(&["status"]).contains("g.yaml:"));
}

#[test]
fn a_removed_file_cancels_what_waits_and_lets_finish_what_runs() {
    let mut root = Root::new(&team());
    root.up();
    let gate = root.path("gate");
    root.drop_file(
        "r.yaml",
        &format!(
            "tasks:\n  a: {{run: 'until test -e {}; do sleep 0.05; done', repo: none}}\n  b: {{run: 'true', repo: none, needs: a}}\n",
            gate.display()
        ),
    );
    root.wait_event("attempt-started", "r/a");
    fs::remove_file(root.path("dag/r.yaml")).unwrap();
    root.wait_event("task-cancelled", "r/b");
    fs::write(gate, "").unwrap();
    root.wait_event("report-accepted", "r/a");
    assert_eq!(root.task("r/a")["state"], "done");
    assert_eq!(root.task("r/b")["state"], "cancelled");
}

#[test]
fn cancelling_a_task_ends_its_program() {
    let mut root = Root::new(&team());
    root.up();
    let pid_file = root.path("pid");
    let run = format!("echo $$ > {}; exec sleep 600", pid_file.display());
    let id = root.ok(&["submit", "--repo", "none", "--run", &run]).trim().to_owned();
    root.wait_event("attempt-started", &id);
    root.until("the program runs", || fs::read_to_string(&pid_file).is_ok_and(|pid| !pid.trim().is_empty()));
    let pid: u32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    root.ok(&["task", "cancel", &id]);
    root.until("the program has ended", || miyabi::io::process::identify(pid).is_none());
    root.until("kaede is free again", || root.agent("kaede")["state"] == "idle");
    assert_eq!(root.task(&id)["state"], "cancelled");
}

#[test]
fn two_agents_may_work_on_the_same_files_and_a_conflict_is_a_new_attempt() {
    let mut root = Root::new(&[("kaede", "codegen", ECHO), ("momiji", "codegen", ECHO)]);
    // However busy the machine is.
    root.configure("[scheduler]\nload_high = 0\n");
    root.up();
    let gate = root.path("gate");
    let wait = format!("until test -e {}; do sleep 0.05; done", gate.display());
    root.drop_file(
        "c.yaml",
        &format!("tasks:\n  a: {{run: 'echo a >> README; {wait}'}}\n  b: {{run: 'echo b >> README; {wait}'}}\n"),
    );
    root.wait_event("attempt-started", "c/a");
    root.wait_event("attempt-started", "c/b");
    fs::write(gate, "").unwrap();
    root.wait_event("merged", "c/a");
    root.wait_event("merged", "c/b");
    assert_eq!(root.count_events("attempt-failed", "c/a") + root.count_events("attempt-failed", "c/b"), 1);
    let mut lines: Vec<String> =
        fs::read_to_string(root.path("repo/README")).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["a", "b", "hello"]);
    assert_eq!(root.commits().len(), 2);
}

#[test]
fn a_repository_that_is_missing_is_cloned_from_its_remote_and_labels_are_shown() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"\nlabels = [\"rust\", \"fast\"]")]);
    let remote = root.path("repo").display().to_string();
    let config = fs::read_to_string(root.path("agents.toml")).unwrap();
    let more = format!("\n[[repository]]\nname = \"copy\"\npath = \"copies/copy\"\nremote = \"{remote}\"\n");
    fs::write(root.path("agents.toml"), config + &more).unwrap();
    root.up();
    let id = root.ok(&["submit", "--repo", "copy", "--run", "echo x > x"]).trim().to_owned();
    root.wait_event("merged", &id);
    assert_eq!(fs::read_to_string(root.path("copies/copy/x")).unwrap(), "x\n");
    assert_eq!(root.commits(), Vec::<String>::new(), "the remote itself is not touched");
    assert_eq!(root.agent("kaede")["labels"], serde_json::json!(["fast", "rust"]));
}

#[test]
fn a_file_of_many_tasks_is_one_line_in_the_log_and_every_task_is_an_event() {
    let mut root = Root::new(&team());
    root.up();
    root.ok(&["agent", "pause", "kaede"]);
    let tasks: String = (1..=150).map(|number| format!("  t{number}: {{prompt: x, repo: none}}\n")).collect();
    root.drop_file("big.yaml", &format!("tasks:\n{tasks}"));
    root.wait_event("task-accepted", "big/t150");
    let log = || {
        let files = fs::read_dir(root.path("logs")).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| path.is_file() && path.to_string_lossy().contains("miyabi.log"));
        files.map(|path| fs::read_to_string(path).unwrap()).collect::<String>()
    };
    let line = "150 facts of this kind at once; the first: big/t1 is accepted from dag/big.yaml";
    root.until("the log tells of the file", || log().contains(line));
    assert!(!log().contains("big/t2 is accepted"), "one line is enough");
    assert_eq!(root.count_events("task-accepted", "big/t2"), 1);
    root.drop_file("small.yaml", "tasks:\n  a: {prompt: x, repo: none}\n");
    root.until("few facts are told one by one", || log().contains("small/a is accepted from dag/small.yaml"));
}
