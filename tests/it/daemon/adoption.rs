//! A supervisor that comes back where pane, lease and journal disagree: it repairs, and tells what it found.

use std::fs;
use std::process::Command;

use super::deaths::{begin, finish, kill};
use super::root::Root;

pub(super) fn tmux(root: &Root, arguments: &[&str]) -> String {
    let output = Command::new("tmux")
        .args(["-L", "test"])
        .args(arguments)
        .env("TMUX_TMPDIR", root.path("tmux"))
        .env_remove("TMUX")
        .output()
        .unwrap();
    assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What the supervisor says that it found, in `status`; the same stands among the events.
fn found(root: &Root) -> String {
    let found = root.json(&["status"])["supervisor"]["found"].as_str().unwrap_or_default().to_owned();
    assert!(root.ok(&["events"]).contains(&found), "{found} is no event");
    assert!(root.ok(&["status"]).contains("at its start "), "people see nothing of it");
    found
}

#[test]
fn a_team_at_work_is_adopted_and_everything_agrees() {
    let mut root = begin();
    root.kill_supervisor();
    root.up();
    assert_eq!(found(&root), "1 agents were found at work: kaede; everything agrees");
    finish(&root, 1);
}

#[test]
fn a_lease_without_a_pane_is_repeated() {
    let mut root = begin();
    let pid = root.agent("kaede")["pid"].to_string();
    root.kill_supervisor();
    kill(&pid);
    root.up();
    assert_eq!(found(&root), "no agent was found at work; repaired: kaede has a lease and no pane");
    root.wait_nth_event("attempt-started", "chain/two", 2);
    finish(&root, 2);
}

#[test]
fn a_pane_without_its_lease_is_ended_and_the_work_is_repeated() {
    let mut root = begin();
    root.kill_supervisor();
    let leased = root.path("data/spool/kaede.work/leased");
    for entry in fs::read_dir(&leased).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), root.path("data").join(entry.file_name())).unwrap();
    }
    root.up();
    assert_eq!(found(&root), "no agent was found at work; repaired: kaede has a pane, and its lease is gone");
    root.wait_nth_event("attempt-started", "chain/two", 2);
    finish(&root, 2);
}

#[test]
fn a_pane_of_another_start_is_cleared_away() {
    let mut root = begin();
    root.kill_supervisor();
    let pane = tmux(&root, &["list-panes", "-a", "-F", "#{pane_id} #{@miyabi_agent}"]);
    let pane = pane.lines().find_map(|line| line.strip_suffix(" kaede")).unwrap().to_owned();
    tmux(&root, &["set-option", "-p", "-t", &pane, "@miyabi_incarnation", "9"]);
    root.up();
    let told = found(&root);
    assert!(told.contains("kaede's start 9, and 1 is the newest"), "{told}");
    root.wait_nth_event("attempt-started", "chain/two", 2);
    finish(&root, 2);
}

#[test]
fn a_pane_of_somebody_unknown_is_cleared_away() {
    let mut root = begin();
    root.kill_supervisor();
    let tag = tmux(&root, &["list-panes", "-a", "-F", "#{@miyabi_root}"]);
    let tag = tag.lines().find(|line| !line.is_empty()).unwrap().to_owned();
    let session = tmux(&root, &["list-sessions", "-F", "#{session_id}"]);
    let folder = root.path("").display().to_string();
    let marks = [format!("MIYABI_ROOT={}", folder.trim_end_matches('/')), "MIYABI_AGENT=ghost".to_owned()];
    let pane = tmux(
        &root,
        &["new-window", "-d", "-P", "-F", "#{pane_id}", "-t", &session, "-e", &marks[0], "-e", &marks[1], "sleep 1000"],
    );
    for (option, value) in [("@miyabi_agent", "ghost"), ("@miyabi_incarnation", "3"), ("@miyabi_root", &tag)] {
        tmux(&root, &["set-option", "-p", "-t", &pane, option, value]);
    }
    root.up();
    let told = found(&root);
    assert!(told.contains("is of ghost, whom nobody knows"), "{told}");
    root.until("the pane is gone", || !tmux(&root, &["list-panes", "-a", "-F", "#{pane_id}"]).contains(&pane));
    finish(&root, 1);
}

#[test]
fn a_pane_of_an_agent_that_was_removed_meanwhile_ends_its_work_first() {
    let mut root = begin();
    root.kill_supervisor();
    let path = root.path("agents.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("id = \"kaede\"", "id = \"momo\"")).unwrap();
    root.up();
    assert_eq!(found(&root), "1 agents were found at work: kaede; everything agrees");
    finish(&root, 1);
    root.wait_event("agent-down", "kaede");
    assert!(root.ok(&["events"]).contains("was taken out of the team"));
}
