//! Results that are taken again, with real repositories: the same order on the same commit by the same agent.

use std::fs;

use super::root::Root;

const ECHO: &str = "driver = \"echo\"";

fn ran(root: &Root) -> usize {
    fs::read_to_string(root.path("ran")).unwrap_or_default().lines().count()
}

#[test]
fn without_a_repository_the_same_order_is_done_once_also_after_a_restart() {
    let mut root = Root::new(&[("kaede", "codegen", ECHO)]);
    root.up();
    root.drop_file(
        "m.yaml",
        "defaults: {cache: true, repo: none}\ntasks:\n  a: {run: 'echo ran >> $MIYABI_ROOT/ran'}\n  b: {run: 'echo ran >> $MIYABI_ROOT/ran', needs: a}\n  c: {run: 'echo ran >> $MIYABI_ROOT/ran', needs: b, cache: false}\n",
    );
    root.wait_event("report-accepted", "m/c");
    assert_eq!(ran(&root), 2, "b takes the result of a, and c takes none");
    assert_eq!(root.count_events("result-reused", "m/b"), 1);
    assert_eq!(root.count_events("attempt-queued", "m/b"), 0);
    let task = root.task("m/b");
    assert_eq!((&task["state"], &task["reused"]), (&"done".into(), &"m/a".into()), "{task}");
    assert!(root.ok(&["task", "list"]).contains("the result of m/a in run"), "{}", root.ok(&["task", "list"]));
    assert!(root.ok(&["task", "show", "m/b"]).contains("the result of m/a in run"));

    root.kill_supervisor();
    root.up();
    root.ok(&["task", "retry", "m/b"]);
    root.until("it is taken again", || root.count_events("result-reused", "m/b") == 2);
    assert_eq!(ran(&root), 2);
    root.ok(&["task", "retry", "m/b", "--no-cache"]);
    root.wait_event("report-accepted", "m/b");
    assert_eq!(ran(&root), 3);
    root.drop_file(
        "n.yaml",
        "defaults: {cache: true, repo: none, retry: {limit: 0}}\ntasks:\n  other: {run: 'echo other >> $MIYABI_ROOT/ran'}\n  bad: {run: 'echo ran >> $MIYABI_ROOT/ran; false'}\n",
    );
    root.wait_event("report-accepted", "n/other");
    assert_eq!(root.count_events("result-reused", "n/other"), 0, "another order is other work");
    root.wait_event("report-accepted", "n/bad");
    root.until("it has failed", || root.task("n/bad")["state"] == "dead");
    root.ok(&["task", "retry", "n/bad"]);
    root.wait_nth_event("report-accepted", "n/bad", 2);
    assert_eq!((root.count_events("result-reused", "n/bad"), ran(&root)), (0, 6), "what has failed is no result");
    let id = root.ok(&["submit", "--repo", "none", "--run", "echo ran >> $MIYABI_ROOT/ran"]).trim().to_owned();
    root.wait_event("report-accepted", &id);
    assert_eq!(ran(&root), 7, "who does not ask for it gets no earlier result");
}

#[test]
fn a_result_counts_on_its_commit_only_and_while_its_own_commit_is_there() {
    let mut root = Root::new(&[("kaede", "codegen", ECHO)]);
    root.configure("merge = \"none\"\n");
    root.up();
    root.drop_file("m.yaml", "tasks:\n  a: {run: 'echo x > x; echo ran >> $MIYABI_ROOT/ran', cache: true}\n");
    root.wait_event("report-accepted", "m/a");
    let first = root.task("m/a");
    root.ok(&["task", "retry", "m/a"]);
    root.wait_event("result-reused", "m/a");
    assert_eq!(root.task("m/a")["commit"], first["commit"]);
    assert_eq!(ran(&root), 1);

    fs::write(root.path("repo/more"), "more\n").unwrap();
    root.git(&["add", "."]);
    root.git(&["-c", "user.name=Test", "-c", "user.email=test@example.invalid", "commit", "-qm", "more"]);
    root.ok(&["task", "retry", "m/a"]);
    root.until("it is done on the new commit", || root.count_events("report-accepted", "m/a") == 2);
    assert_eq!(ran(&root), 2);

    root.until("no worktree is left", || root.git(&["worktree", "list"]).lines().count() == 1);
    let branch = root.task("m/a")["branch"].as_str().unwrap().to_owned();
    root.git(&["branch", "-D", &branch]);
    root.git(&["reflog", "expire", "--expire=now", "--all"]);
    root.git(&["gc", "--quiet", "--prune=now"]);
    root.ok(&["task", "retry", "m/a"]);
    root.until("what is gone is done again", || root.count_events("report-accepted", "m/a") == 3);
    assert_eq!(ran(&root), 3);
    assert_eq!(root.count_events("result-reused", "m/a"), 1);

    let config = fs::read_to_string(root.path("agents.toml")).unwrap();
    fs::write(root.path("agents.toml"), config.replace("[[repository]]", "env = [\"LANG\"]\n\n[[repository]]"))
        .unwrap();
    root.ok(&["reload"]);
    root.ok(&["task", "retry", "m/a"]);
    root.until("another agent's result is none", || root.count_events("report-accepted", "m/a") == 4);
}

#[test]
fn a_commit_that_is_taken_goes_the_same_way_to_the_target_branch() {
    let mut root = Root::new(&[("kaede", "codegen", ECHO)]);
    root.up();
    fs::write(root.path("repo/README"), "somebody is at work\n").unwrap();
    root.drop_file(
        "m.yaml",
        "defaults: {cache: true}\ntasks:\n  a: {run: 'echo x > x; echo ran >> $MIYABI_ROOT/ran'}\n",
    );
    root.wait_event("merge-parked", "m/a");
    let id = root
        .ok(&["submit", "--cache", "--repo", "repo", "--run", "echo x > x; echo ran >> $MIYABI_ROOT/ran"])
        .trim()
        .to_owned();
    root.wait_event("merge-parked", &id);
    root.git(&["checkout", "-q", "README"]);
    root.ok(&["task", "retry", "m/a"]);
    root.ok(&["task", "retry", &id]);
    root.wait_event("merged", "m/a");
    root.wait_event("merged", &id);
    assert_eq!(ran(&root), 1);
    assert_eq!(root.commits(), ["m/a"], "one commit, which both have");
    assert_eq!(root.task(&id)["commit"], root.task("m/a")["commit"]);
}
