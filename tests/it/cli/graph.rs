//! Dependency files, without a supervisor.

use super::support::{Root, code, text};

const CYCLE: &str =
    "tasks:\n  build: {run: make, needs: test, repo: none}\n  test: {run: make test, needs: build, repo: none}\n";

#[test]
fn a_cycle_is_shown_as_a_whole_with_its_places() {
    let root = Root::new();
    root.write("dag/release.yaml", CYCLE);
    let output = root.run(&["dag", "check"]);
    assert_eq!(code(&output), 4);
    insta::assert_snapshot!(root.anonymous(&output.stderr));
}

#[test]
fn only_the_faults_of_the_files_that_are_asked_for_are_told() {
    let root = Root::new();
    root.write("dag/release.yaml", CYCLE);
    assert_eq!(code(&root.run(&["dag", "check", "dag/hello.yaml"])), 0);
    assert_eq!(code(&root.run(&["dag", "check", "dag/release.yaml"])), 4);
    assert_eq!(code(&root.run(&["dag", "check", "dag/nowhere.yaml"])), 4);
}

#[test]
fn a_broken_file_is_not_blamed_on_those_who_need_it() {
    let root = Root::new();
    root.write("dag/a.yaml", "tasks: {x: {run: make, repo: none, nonsense: 1}}\n");
    root.write("dag/b.yaml", "tasks: {y: {run: make, repo: none, needs: a/x}}\n");
    let output = root.run(&["dag", "check", "--json"]);
    assert_eq!(code(&output), 4);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let faults = report["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{report}");
    assert_eq!(faults[0]["place"]["file"], "dag/a.yaml");
}

#[test]
fn the_code_beside_a_fault_is_explained() {
    let root = Root::new();
    root.write("dag/release.yaml", CYCLE);
    let report: serde_json::Value = serde_json::from_slice(&root.run(&["dag", "check", "--json"]).stdout).unwrap();
    let code = report["faults"][0]["code"].as_str().unwrap().to_owned();
    let explained = root.run(&["dag", "explain", &code.to_lowercase()]);
    assert!(text(&explained.stdout).starts_with("DAG031: Tasks that wait for one another\n"));
    let all = text(&root.run(&["config", "explain"]).stdout);
    assert!(all.lines().count() > 30 && all.lines().all(|line| line.starts_with("CFG0")), "{all}");
    assert_eq!(root.json(&["config", "explain", "CFG011"])[0]["title"], "an unknown key");
    assert_eq!(super::support::code(&root.run(&["dag", "explain", "DAG999"])), 2);
}

#[test]
fn the_graph_is_drawn_without_a_supervisor() {
    let root = Root::new();
    let drawn = root.run(&["dag", "show"]);
    assert_eq!(code(&drawn), 0);
    assert!(text(&drawn.stdout).contains("hello/encore"));
    assert!(text(&root.run(&["dag", "show", "--format", "dot"]).stdout).starts_with("digraph"));
    assert!(text(&root.run(&["dag", "show", "--format", "mermaid"]).stdout).contains("-->"));
    assert_eq!(code(&root.run(&["dag", "show", "--format", "png"])), 2);
    let nodes = root.json(&["dag", "show"]);
    assert_eq!(nodes[1]["needs"], serde_json::json!(["hello/hello"]));
}
