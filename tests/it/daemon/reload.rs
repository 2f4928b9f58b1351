//! agents.toml is changed while everybody works: only who is meant feels it.

use std::fs;

use super::deaths::{ECHO, begin, finish};
use super::root::Root;

fn edit(root: &Root, change: impl FnOnce(String) -> String) {
    let path = root.path("agents.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(text)).unwrap();
}

/// A root whose agent kaede is in the middle of a task, with one more agent.
fn at_work() -> Root {
    let mut root = Root::new(&[("kaede", "codegen", ECHO), ("sakura", "review", ECHO)]);
    root.up();
    root.wait_event("agent-up", "kaede");
    root.wait_event("agent-up", "sakura");
    root
}

#[test]
fn added_agents_start_and_unchanged_ones_feel_nothing() {
    let root = at_work();
    let before = [root.agent("kaede"), root.agent("sakura")];
    edit(&root, |text| text + "\n[[agent]]\nid = \"momo\"\nrole = \"codegen\"\ndriver = \"echo\"\n");
    assert_eq!(root.ok(&["reload"]), "added: momo\n");
    root.wait_event("agent-up", "momo");
    for agent in &before {
        let after = root.agent(agent["id"].as_str().unwrap());
        assert_eq!((&after["pid"], &after["incarnation"]), (&agent["pid"], &agent["incarnation"]));
    }
    assert_eq!(root.ok(&["reload"]), "nothing has changed in agents.toml\n");
    assert!(root.ok(&["events"]).contains("agents.toml was read again: added: momo"));
}

#[test]
fn what_only_the_supervisor_looks_at_holds_at_once_and_costs_no_restart() {
    let root = at_work();
    let before = root.agent("sakura")["pid"].clone();
    edit(&root, |text| {
        text.replace(
            "id = \"sakura\"",
            "id = \"sakura\"\nlabels = [\"strict\"]\nrestart = { intensity = 9 }\ntimeout = \"2h\"",
        )
    });
    assert_eq!(root.ok(&["reload"]), "changed at once: sakura\n");
    let after = root.agent("sakura");
    assert_eq!((&after["pid"], &after["labels"][0]), (&before, &serde_json::json!("strict")));
}

#[test]
fn a_changed_agent_ends_its_work_before_it_is_started_again() {
    let root = begin();
    edit(&root, |text| text.replace("id = \"kaede\"", "id = \"kaede\"\nname = \"カエデ\""));
    assert_eq!(root.ok(&["reload"]), "started again as soon as idle: kaede\n");
    let busy = root.agent("kaede");
    assert_eq!((&busy["state"], &busy["incarnation"]), (&"busy".into(), &1.into()));
    assert!(busy["reason"].as_str().unwrap().contains("new settings"), "{busy}");
    finish(&root, 1);
    let after = root.wait_nth_event("agent-up", "kaede", 2);
    assert_eq!(after["incarnation"], 2);
    assert!(root.ok(&["events"]).contains("stopped because its settings have changed"));
    assert_eq!(root.count_events("attempt-failed", "chain/two"), 0);
}

#[test]
fn a_removed_agent_ends_its_work_and_goes() {
    let root = begin();
    edit(&root, |text| text.replace("id = \"kaede\"", "id = \"momo\""));
    let told = root.ok(&["reload"]);
    assert_eq!(told, "added: momo; leaving as soon as free: kaede\n");
    assert_eq!(root.agent("kaede")["reason"], "is leaving the team");
    root.wait_event("agent-up", "momo");
    finish(&root, 1);
    root.until("kaede is gone", || {
        let status = root.json(&["status"]);
        status["agents"].as_array().unwrap().iter().all(|agent| agent["id"] != "kaede")
    });
    assert!(root.ok(&["events"]).contains("was taken out of the team"));
    assert_eq!(root.task("chain/three")["agent"], "momo");
}

#[test]
fn a_faulty_file_changes_nothing_and_says_where() {
    let root = at_work();
    edit(&root, |text| text.replace("id = \"sakura\"", "id = \"sakura\"\nheartbeat = \"soon\""));
    let refused = root.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(4));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("agents.toml:") && text.contains("heartbeat"), "{text}");
    edit(&root, |text| text.replace("heartbeat = \"soon\"", "").replace("name = \"test\"", "name = \"other\""));
    let refused = root.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(5));
    edit(&root, |text| {
        text.replace("name = \"other\"", "name = \"test\"")
            + "\n[[agent]]\nid = \"momo\"\nrole = \"codegen\"\ndriver = \"echo\"\n"
    });
    root.drop_file("bad.yaml", "tasks:\n  a: {run: x, needs: nobody}\n");
    let refused = root.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(4));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("dag/bad.yaml:2:"), "{text}");
    assert_eq!(root.json(&["agent", "list"]).as_array().unwrap().len(), 2);
    assert_eq!(root.count_events("agent-down", "sakura"), 0);
}
