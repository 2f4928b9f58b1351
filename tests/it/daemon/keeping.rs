//! What attempts leave on the disk, with real logs and real worktrees: what is thrown away, and what never is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::root::Root;

/// The logs of a task, oldest attempt first.
fn logs(root: &Root, task: &str) -> Vec<PathBuf> {
    let begins = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{task}-"));
    let folder = fs::read_dir(root.path("logs/kaede")).unwrap();
    let mut logs: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).filter(begins).collect();
    logs.sort();
    logs
}

/// Makes a file or folder look as if it was changed last some days ago.
fn age(path: &Path, days: u64) {
    let before = Duration::from_secs(days * 86_400);
    let changed = fs::metadata(path).unwrap().modified().unwrap();
    fs::File::open(path).unwrap().set_modified(changed - before).unwrap();
}

#[test]
fn old_logs_are_thrown_away_but_for_those_of_a_dead_task_until_somebody_retries_it() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"")]);
    root.configure("[log]\nattempt_days = 3\n");
    root.up();
    root.drop_file(
        "k.yaml",
        "defaults: {repo: none, retry: {limit: 0}}\n\
         tasks:\n  old: {run: echo a}\n  young: {run: echo b}\n  dead: {run: exit 1}\n",
    );
    root.wait_event("report-accepted", "k/old");
    root.wait_event("report-accepted", "k/young");
    root.wait_event("report-accepted", "k/dead");
    let (old, young, dead) =
        (logs(&root, "k_old").remove(0), logs(&root, "k_young").remove(0), logs(&root, "k_dead").remove(0));
    root.kill_supervisor();
    age(&old, 4);
    age(&young, 2);
    age(&dead, 400);
    root.up();
    root.until("the old log is gone", || !old.exists());
    assert!(young.exists(), "it is not old enough");
    assert!(dead.exists(), "somebody may still want to know why it is dead");

    root.ok(&["task", "retry", "k/dead"]);
    root.wait_nth_event("report-accepted", "k/dead", 2);
    root.kill_supervisor();
    root.up();
    root.until("the log of its earlier run is gone", || !dead.exists());
    assert_eq!(logs(&root, "k_dead").len(), 1, "that of the newest run stays");
}

#[test]
fn worktrees_that_take_too_much_hold_new_work_back_and_work_that_is_nowhere_else_is_never_thrown_away() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"")]);
    root.configure("[resources]\nworktrees_max = \"1MiB\"\n[log]\nattempt_days = 1\n");
    // Attempts whose work could not be saved: one never committed, one on no branch.
    let folder = root.path("data/worktrees");
    fs::create_dir_all(&folder).unwrap();
    let names = ["01KAPZ3XZ00000000000000001-code-1", "01KAPZ3XZ00000000000000002-code-1"];
    for name in names {
        let path = folder.join(name);
        root.git(&["worktree", "add", "-q", "--detach", path.to_str().unwrap()]);
        fs::write(path.join("work"), vec![b'x'; 1 << 20]).unwrap();
    }
    let lone = folder.join(names[1]);
    let at = ["-C", lone.to_str().unwrap()];
    root.git(&[&at[..], &["add", "."]].concat());
    let who = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"];
    root.git(&[&at[..], &who, &["commit", "-qm", "on no branch"]].concat());

    root.up();
    root.until("work is held", || root.json(&["status"])["holding"].is_string());
    root.drop_file("k.yaml", "tasks:\n  a: {run: 'true', repo: none}\n");
    root.wait_event("task-accepted", "k/a");
    let why = root.ok(&["task", "why", "k/a"]);
    assert!(why.contains("the worktrees of attempts take 2 MiB, and may take 1 MiB (`worktrees_max`)"), "{why}");
    assert_eq!(root.json(&["status"])["alerts"][0]["kind"], "worktrees-full");
    let top = root.json(&["top"]);
    assert!(top["worktrees_bytes"].as_u64().unwrap() > 2 << 20, "{top}");
    assert_eq!(top["worktrees_max_bytes"], 1 << 20);
    let top = root.ok(&["top"]);
    assert!(top.lines().last().unwrap().starts_with("worktrees: 2 MiB of 1 MiB"), "{top}");
    assert_eq!(root.task("k/a")["state"], "ready");
    for name in names {
        assert_eq!(fs::read(folder.join(name).join("work")).unwrap().len(), 1 << 20, "{name}");
    }

    // Somebody has looked into them.
    root.kill_supervisor();
    for name in names {
        root.git(&["worktree", "remove", "--force", folder.join(name).to_str().unwrap()]);
    }
    root.up();
    root.ok(&["task", "wait", "k/a"]);
    assert_eq!(root.json(&["status"])["alerts"].as_array().unwrap().len(), 0);
}

/// Makes the worktree of an attempt with one file in it that was never committed.
fn worktree(root: &Root, name: &str) -> PathBuf {
    let path = root.path("data/worktrees").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    root.git(&["worktree", "add", "-q", "--detach", path.to_str().unwrap()]);
    fs::write(path.join("work"), name).unwrap();
    path
}

/// Returns what a branch has in the file of [`worktree`].
fn saved(root: &Root, branch: &str) -> String {
    root.git(&["show", &format!("{branch}:work")])
}

/// Ages an attempt with all that its age is told by.
fn age_attempt(root: &Root, name: &str, days: u64) {
    let files = root.path("data/attempts").join(name);
    for path in [root.path("data/worktrees").join(name), files.join("order.json"), files] {
        if path.exists() {
            age(&path, days);
        }
    }
}

/// Returns the name of the attempt that the folder of attempts has in it.
fn only_attempt(root: &Root) -> String {
    let mut names = fs::read_dir(root.path("data/attempts")).unwrap();
    names.next().unwrap().unwrap().file_name().into_string().unwrap()
}

#[test]
fn old_worktrees_that_nobody_clears_away_are_removed_after_their_work_was_saved_but_not_while_somebody_works_in_them() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\""), ("momo", "codegen", "driver = \"echo\"")]);
    root.configure("[resources]\nworktree_days = 3\n");
    root.up();
    let go = root.path("go");
    let wait = format!("echo x > work; until [ -e {} ]; do sleep 0.1; done", go.display());
    root.drop_file("k.yaml", &format!("tasks:\n  long: {{run: '{wait}', agent: kaede}}\n"));
    root.wait_event("attempt-started", "k/long");
    let attempts = || fs::read_dir(root.path("data/attempts")).is_ok_and(|mut names| names.next().is_some());
    root.until("its folder is there", attempts);
    let busy = only_attempt(&root);
    root.until("it has written something", || root.path("data/worktrees").join(&busy).join("work").exists());

    // Names that come after that of the one at work. One whose agent nobody knows, one whose order is lost with a check's, one that is young, and one that is none any more.
    let [ghost, lost, young, cut] = [2, 3, 4, 5].map(|number| format!("7ZZZZZZZZZ000000000000000{number}-code-1"));
    let mut order: Value =
        serde_json::from_slice(&fs::read(root.path("data/attempts").join(&busy).join("order.json")).unwrap()).unwrap();
    order["agent"] = "ghost".into();
    order["run"] = ghost[..26].into();
    order["id"] = "01KAPZ3XZ00000000000000009".into();
    order["workplace"]["branch"] = "miyabi/k/gone".into();
    for name in [&ghost, &lost, &young, &cut] {
        worktree(&root, name);
        fs::create_dir_all(root.path("data/attempts").join(name)).unwrap();
    }
    worktree(&root, &format!("{lost}-check"));
    fs::write(root.path("data/attempts").join(&ghost).join("order.json"), order.to_string()).unwrap();
    fs::remove_file(root.path("data/worktrees").join(&cut).join(".git")).unwrap();
    for name in [&busy, &ghost, &lost, &format!("{lost}-check"), &cut] {
        age_attempt(&root, name, 4);
    }
    age_attempt(&root, &young, 2);

    // Another runner's start is a look at all of them.
    root.ok(&["agent", "restart", "momo"]);
    let there = |name: &str| root.path("data/worktrees").join(name).exists();
    root.until("they are gone", || !there(&ghost) && !there(&lost) && !root.path("data/attempts").join(&lost).exists());
    assert_eq!(saved(&root, "miyabi/k/gone-saved-1"), ghost, "the work of the order is on a branch named after it");
    assert_eq!(saved(&root, &format!("miyabi/left/{lost}")), lost);
    assert!(!there(&format!("{lost}-check")) && !root.path("data/attempts").join(&ghost).exists());
    assert!(there(&busy), "somebody works in it, however old it is");
    assert!(there(&young), "it is not old enough");
    assert_eq!(
        fs::read_to_string(root.path("data/worktrees").join(&cut).join("work")).unwrap(),
        cut,
        "it is nowhere else"
    );

    fs::write(&go, "").unwrap();
    root.ok(&["task", "wait", "k/long"]);
    assert_eq!(saved(&root, "main"), "x\n");
}

#[test]
fn old_branches_are_deleted_when_their_work_is_merged_and_kept_where_it_is_nowhere_else() {
    let mut root = Root::new(&[("kaede", "codegen", "driver = \"echo\"")]);
    root.configure("[resources]\nbranch_days = 30\n");
    // Three runs that nobody knows any more, the last commit of each from a day.
    let commit = |run: &str, day: &str| {
        let branch = format!("miyabi/k/x/{run}/code-1");
        let when = format!("{day}T00:00:00Z");
        let message = format!("work of {run}\n\nMiyabi-Attempt: {run}/code/1");
        let git = |args: &[&str]| root.git(args).trim().to_owned();
        let tree = git(&["write-tree"]);
        let blob = git(&["hash-object", "-w", "README"]);
        root.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{run}")]);
        let tree_with = git(&["write-tree"]);
        root.git(&["read-tree", &tree]);
        let who = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"];
        let dated = Command::new("git")
            .args(["-C", root.path("repo").to_str().unwrap()])
            .args(who)
            .args(["commit-tree", &tree_with, "-p", "main", "-m", &message])
            .env("GIT_COMMITTER_DATE", &when)
            .output()
            .unwrap();
        let id = String::from_utf8(dated.stdout).unwrap().trim().to_owned();
        root.git(&["branch", &branch, &id]);
        (branch, id)
    };
    let merged = commit("01KAPZ3XZ00000000000000003", "2020-01-01");
    let alone = commit("01KAPZ3XZ00000000000000002", "2020-01-01");
    let young = commit("01KAPZ3XZ00000000000000004", "2090-01-01");
    root.git(&["merge", "-q", "--ff-only", &merged.1]);
    root.up();
    let there = |branch: &str| root.git(&["branch", "--list", branch]).contains(branch);
    root.until("the merged one is gone", || !there(&merged.0));
    // The looks go from name to name, so the other one was judged before.
    root.drop_file("k.yaml", "tasks:\n  a: {run: 'echo a > a'}\n");
    root.wait_event("merged", "k/a");
    assert!(there(&alone.0), "its commit is nowhere else");
    assert!(there(&young.0), "it is not old enough");
    let mine = root.git(&["branch", "--list", "miyabi/k/a/*"]);
    assert!(mine.contains("code-1"), "a branch of today stays: {mine}");
}
