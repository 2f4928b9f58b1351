//! The merge queue with real repositories: what is merged was checked where it is merged.

use std::fs;
use std::process::Command;

use super::root::Root;

/// One number is allowed, so two changes that are good alone are bad together.
const CHECK: &str = "set -- *.number; test $# -le 1 || { echo too many numbers: $*; false; }";

/// Adds a number, and takes it back where that turns out to be one too many.
const AUTHOR: &str = r#"
name=$(basename "$MIYABI_TASK")
echo "$MIYABI_AGENT" >> "$MIYABI_ROOT/$name.agents"
if grep -q 'too many numbers: a.number b.number' "$MIYABI_PROMPT"; then
    grep -q '^+b' "$MIYABI_PROMPT" && test -e a.number && mv b.number b.letter
else
    echo "$name" > "$name.number"
    until test -e "$MIYABI_ROOT/$name.gate"; do sleep 0.05; done
fi
"#;

fn author() -> String {
    "command = [\"sh\", \"-c\", \"sh $MIYABI_ROOT/author.sh\"]".to_owned()
}

fn root(repository: &str) -> Root {
    let author = author();
    let root = Root::new(&[("kaede", "codegen", author.as_str()), ("momiji", "codegen", &author)]);
    fs::write(root.path("author.sh"), AUTHOR).unwrap();
    root.configure(repository);
    // Both must work at once, however busy the machine is.
    root.configure("[scheduler]\nload_high = 0\n");
    root
}

#[test]
fn what_only_fails_together_goes_back_to_its_author_and_is_not_merged() {
    let mut root = root(&format!("merge = \"queue\"\ncheck = \"{CHECK}\"\n"));
    root.up();
    root.drop_file("q.yaml", "tasks:\n  a: {prompt: Add a.}\n  b: {prompt: Add b.}\n");
    root.wait_event("attempt-started", "q/a");
    root.wait_event("attempt-started", "q/b");
    fs::write(root.path("a.gate"), "").unwrap();
    root.wait_event("merged", "q/a");
    assert_eq!(root.count_events("rebased", "q/a"), 0, "what was checked on the newest commit is not checked twice");
    fs::write(root.path("b.gate"), "").unwrap();
    root.wait_event("merged", "q/b");

    let shown = root.json(&["task", "show", "q/b"]);
    let attempts: Vec<(&str, &str)> = shown["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (attempt["stage"].as_str().unwrap(), attempt["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(attempts, [("code", "done"), ("recheck", "failed"), ("code", "done")], "{shown}");
    let recheck = &shown["attempts"][1]["reason"];
    assert!(recheck.as_str().unwrap().contains("ended with exit code 1"), "{shown}");
    assert_eq!(root.count_events("rebased", "q/b"), 1, "its second commit was made on the newest one");
    let agents = fs::read_to_string(root.path("b.agents")).unwrap();
    let agents: Vec<&str> = agents.lines().collect();
    assert_eq!(agents.len(), 2, "{agents:?}");
    assert_eq!(agents.first(), agents.last(), "it goes back to whoever did it");
    assert_eq!(root.git(&["log", "--format=%h", "main", "--", "b.number"]), "", "it never was on the branch");
    assert_eq!(root.commits().len(), 2);
    assert_eq!(fs::read_to_string(root.path("repo/b.letter")).unwrap(), "b\n");
    assert_eq!(root.git(&["for-each-ref", "refs/miyabi/queue"]), "", "nothing is kept of what is merged");
}

fn git(root: &Root, folder: &str, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=Somebody", "-c", "user.email=else@example.invalid", "-C"]);
    let output = git.arg(root.path(folder)).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Somebody else pushes a file.
fn push(root: &Root, name: &str) {
    git(root, "other", &["pull", "-q", "--ff-only"]);
    fs::write(root.path("other").join(name), name).unwrap();
    git(root, "other", &["add", "."]);
    git(root, "other", &["commit", "-qm", name]);
    git(root, "other", &["push", "-q"]);
}

#[test]
fn what_somebody_else_pushes_meanwhile_is_checked_with_it_and_the_remote_has_one_commit_after_kills() {
    // The check can be held up where a file of somebody else is.
    let mut root = root(
        "merge = \"queue\"\nremote = \"remote.git\"\ncheck = \"test ! -e theirs || until test -e $MIYABI_ROOT/go; do sleep 0.05; done\"\n",
    );
    git(&root, ".", &["clone", "-q", "--bare", "repo", "remote.git"]);
    git(&root, ".", &["clone", "-q", "remote.git", "other"]);
    // A relative address would be looked for from wherever git is.
    let remote = root.path("remote.git").display().to_string();
    let config = fs::read_to_string(root.path("agents.toml")).unwrap();
    fs::write(root.path("agents.toml"), config.replace("\"remote.git\"", &format!("\"{remote}\""))).unwrap();
    root.up();
    root.drop_file("q.yaml", "tasks:\n  a: {prompt: Add a.}\n  b: {prompt: Add b., needs: a}\n");
    root.wait_event("attempt-started", "q/a");
    push(&root, "theirs");
    fs::write(root.path("a.gate"), "").unwrap();
    root.wait_event("rebased", "q/a");
    root.until("it is being checked again", || root.task("q/a")["state"] == "verifying");
    assert_eq!(root.task("q/a")["merge_place"], 1);
    assert!(root.ok(&["status"]).contains("MERGES 1 of repo: q/a"), "{}", root.ok(&["status"]));
    let why = root.ok(&["task", "why", "q/a"]);
    assert!(
        why.contains("checks it again where it would be merged")
            && why.contains("the first in the merge queue of repo"),
        "{why}"
    );

    push(&root, "more");
    root.kill_supervisor();
    root.up();
    fs::write(root.path("go"), "").unwrap();
    root.wait_event("merged", "q/a");
    assert_eq!(root.count_events("rebased", "q/a"), 2, "the branch had moved again");
    let subjects = git(&root, "remote.git", &["log", "--reverse", "--format=%s", "main"]);
    let merged = root.git(&["rev-parse", "main"]);
    assert_eq!(subjects.lines().collect::<Vec<_>>(), ["first", "theirs", "more", "Add a."]);
    assert_eq!(git(&root, "remote.git", &["rev-parse", "main"]), merged, "the local branch has followed");
    assert_eq!(root.json(&["task", "show", "q/a"])["commit"], merged.trim());

    fs::write(root.path("b.gate"), "").unwrap();
    root.wait_event("merged", "q/b");
    assert_eq!(git(&root, "remote.git", &["log", "--format=%s", "main"]).lines().count(), 5);
}
