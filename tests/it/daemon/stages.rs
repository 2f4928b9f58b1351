//! The stages of a run, with real agents' programs: the work, its review, the merge, and the deployment after it.

use std::fs;

use super::root::Root;

/// An agent whose program is a script in the root.
fn script(name: &str) -> String {
    format!("command = [\"sh\", \"-c\", \"sh $MIYABI_ROOT/{name}.sh\"]")
}

const AUTHOR: &str = r#"
if grep -q 'asks for changes' "$MIYABI_PROMPT"; then
    grep -q 'say goodbye too' "$MIYABI_PROMPT" && grep -q 'hello.txt, line 1' "$MIYABI_PROMPT" && echo goodbye >> hello.txt
else
    echo hello > hello.txt
fi
"#;

const REVIEWER: &str = r#"
echo scratch > left-behind
"$MIYABI_TEST_PROGRAM" send kaede "I look at $MIYABI_TASK now" > /dev/null || exit 1
grep -q '^+hello' "$MIYABI_PROMPT" || exit 1
if grep -q goodbye hello.txt; then
    printf '{"outcome": "done", "summary": "good"}' > "$MIYABI_REPORT"
else
    printf '{"outcome": "changes_requested", "summary": "something is missing",
        "comments": [{"path": "hello.txt", "line": 1, "text": "say goodbye too"}]}' > "$MIYABI_REPORT"
fi
"#;

fn team(reviewer: &str) -> Root {
    let (author, reviews) = (script("author"), format!("{}\nenv = [\"MIYABI_TEST_PROGRAM\"]", script("reviewer")));
    let echo = "driver = \"echo\"";
    let root =
        Root::new(&[("kaede", "codegen", author.as_str()), ("sakura", "review", &reviews), ("botan", "deploy", echo)]);
    fs::write(root.path("author.sh"), AUTHOR).unwrap();
    fs::write(root.path("reviewer.sh"), reviewer).unwrap();
    root
}

#[test]
fn a_review_sends_the_work_back_with_its_comments_and_what_is_merged_is_deployed() {
    let mut root = team(REVIEWER);
    root.set_variable("MIYABI_TEST_PROGRAM", env!("CARGO_BIN_EXE_miyabi"));
    root.configure(
        "[workflow]\ndeploy_run = \"{ git rev-parse HEAD; cat hello.txt; } > $MIYABI_ROOT/draft && mv $MIYABI_ROOT/draft $MIYABI_ROOT/deployed\"\n",
    );
    root.up();
    root.drop_file("w.yaml", "tasks:\n  a: {prompt: Say hello in hello.txt., check: test -s hello.txt}\n  b: {run: 'test -s $MIYABI_ROOT/deployed', needs: a, no_change: ok}\n");
    root.wait_event("report-accepted", "w/b");
    let task = root.json(&["task", "show", "w/a"]);
    assert_eq!(
        (&task["state"], &task["stage"], &task["rounds"]),
        (&"done".into(), &"deploy".into(), &1.into()),
        "{task}"
    );
    assert_eq!(task["stages"], serde_json::json!(["code", "review", "deploy"]));
    let stages: Vec<&str> =
        task["attempts"].as_array().unwrap().iter().map(|attempt| attempt["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["code", "review", "code", "review", "deploy"]);
    let shown = root.ok(&["task", "show", "w/a"]);
    assert!(shown.contains("deploy of code, review, deploy · 1 review has asked for changes"), "{shown}");

    let said = root.json(&["task", "messages", "w/a"]);
    let said: Vec<(&str, &str)> = said
        .as_array()
        .unwrap()
        .iter()
        .map(|message| (message["from"].as_str().unwrap(), message["body"].as_str().unwrap()))
        .collect();
    assert_eq!(said, [("sakura", "I look at w/a now"); 2], "one for each review, in the thread of the run");

    assert_eq!(root.commits().len(), 1, "one commit of one run");
    assert_eq!(fs::read_to_string(root.path("repo/hello.txt")).unwrap(), "hello\ngoodbye\n");
    assert!(!root.path("repo/left-behind").exists(), "what a reviewer leaves behind is nobody's work");
    let head = root.git(&["rev-parse", "main"]);
    assert_eq!(fs::read_to_string(root.path("deployed")).unwrap(), format!("{head}hello\ngoodbye\n"));
    assert_eq!(root.task("w/b")["state"], "done", "whoever needs it waits until it is deployed");
}

#[test]
fn a_review_without_an_outcome_fails_and_one_that_never_agrees_ends() {
    let mut root = team("grep -q 'never enough' \"$MIYABI_PROMPT\" && echo 'miyabi-outcome: changes_requested'; true");
    fs::write(root.path("author.sh"), "date +%N >> hello.txt\n").unwrap();
    root.configure("[workflow]\nrounds_max = 2\n");
    root.up();
    root.drop_file(
        "w.yaml",
        "defaults: {retry: {limit: 0}}\ntasks:\n  mute: {prompt: Say hello.}\n  stern: {prompt: It is never enough.}\n",
    );
    root.until("both have failed", || ["w/mute", "w/stern"].iter().all(|task| root.task(task)["state"] == "dead"));
    let mute = root.task("w/mute");
    assert!(mute["reason"].as_str().unwrap().contains("the review names no outcome"), "{mute}");
    let stern = root.task("w/stern");
    assert_eq!((&stern["rounds"], &stern["attempt"]), (&1.into(), &4.into()), "{stern}");
    assert_eq!(root.commits(), Vec::<String>::new(), "nothing is merged before its review");
}
