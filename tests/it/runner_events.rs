//! Runners whose program tells of itself: a shell script plays the CLI's part, with the hooks that the CLI would be given.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use miyabi::model::agent::DriverKind;
use miyabi::model::beat::Activity;
use miyabi::model::report::{FailureKind, Outcome};

use crate::drivers::sample;
use crate::runner_support::Root;

/// Finds the settings among the arguments, and calls a hook as the CLI does: by `sh`, with its event as input.
const CLAUDE: &str = r#"#!/bin/sh
set -eu
while [ $# -gt 0 ]; do case $1 in --settings) settings=$2 ;; esac; shift; done
hook() {
  command=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["hooks"][sys.argv[2]][0]["hooks"][0]["command"])' "$settings" "$1")
  printf '{"hook_event_name": "%s", "tool_name": "Bash"}' "$1" | sh -c "$command"
}
wait_for() { until [ -e "$1" ]; do sleep 0.02; done; }
"#;

/// A root whose agent's program is a script.
fn root(driver: DriverKind, script: &str) -> Root {
    let mut root = Root::new(driver, &[]);
    let path = root.path("cli");
    fs::write(&path, script.replace("ROOT", &root.path("").display().to_string())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    root.agent.command = vec![path.display().to_string()];
    root
}

#[test]
fn claude_code_waits_for_a_permission_goes_on_and_is_ended_when_it_stays_after_its_turn() {
    let script = format!(
        r#"{CLAUDE}
hook SessionStart
cat >ROOT/prompt-seen
hook PermissionRequest
wait_for ROOT/granted
hook PostToolUse
wait_for ROOT/go
echo hi >hi.txt
echo 'a warning that is no event'
echo '{{"type":"assistant","message":{{"content":[{{"type":"text","text":"I say hi."}}]}}}}'
echo '{{"type":"result","subtype":"success","is_error":false,"result":"feat: say hi"}}'
sleep 1000
"#
    );
    let root = root(DriverKind::Claude, &script);
    let order = root.prompt("test -e hi.txt");
    root.send(&order);
    let runner = root.start(1);
    let waiting = root.wait_for_state(1, "waiting-for-human");
    let Activity::WaitingForHuman { reason, order: of, .. } = &waiting.activity else { panic!("{waiting:?}") };
    assert_eq!((reason.as_str(), *of), ("may it use Bash?", Some(order.id)));
    assert_eq!(fs::read_to_string(root.path("prompt-seen")).unwrap().trim(), "write it\nwell", "it is the input");
    fs::write(root.path("granted"), "").unwrap();
    let busy = root.wait_for_state(1, "busy");
    assert!(busy.progress.is_some_and(|progress| progress.events >= 3), "each hook is a sign of life: {busy:?}");
    fs::write(root.path("go"), "").unwrap();
    let report = root.report(&order);
    assert_eq!((report.outcome, report.summary.as_str()), (Outcome::Done, "feat: say hi"), "{report:#?}");
    let pane = String::from_utf8_lossy(&runner.pane()).into_owned();
    assert!(pane.contains("I say hi.\n") && pane.contains("a warning that is no event\n"), "{pane}");
    assert!(!pane.contains("\"type\""), "a person reads text, not JSON: {pane}");
    let left = fs::read_dir(root.layout.events(&root.agent.id)).unwrap().count();
    assert_eq!(left, 0, "every event was taken");
}

#[test]
fn claude_code_that_meets_a_limit_is_limited_and_says_so() {
    let hooks = String::from_utf8(sample("claude-2.1.197-limited-hooks.jsonl")).unwrap();
    let failure = hooks.lines().find(|line| line.contains("StopFailure")).unwrap();
    let script = format!(
        r#"{CLAUDE}
command=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["hooks"]["StopFailure"][0]["hooks"][0]["command"])' "$settings")
sh -c "$command" <ROOT/failure.json
wait_for ROOT/go
cat ROOT/sample.jsonl
exit 1
"#
    );
    let root = root(DriverKind::Claude, &script);
    fs::write(root.path("failure.json"), failure).unwrap();
    fs::write(root.path("sample.jsonl"), sample("claude-2.1.197-limited.jsonl")).unwrap();
    let order = root.prompt("");
    root.send(&order);
    let _runner = root.start(1);
    let limited = root.wait_for_state(1, "limited");
    assert!(matches!(&limited.activity, Activity::Limited { reason, .. } if reason.contains("429")), "{limited:?}");
    fs::write(root.path("go"), "").unwrap();
    let report = root.report(&order);
    assert_eq!((report.failure, report.exit_code), (Some(FailureKind::Limited), Some(1)), "{report:#?}");
    assert!(report.summary.contains("Request rejected (429)"), "{report:#?}");
}

#[test]
fn the_other_clis_get_their_prompt_and_are_judged_by_what_they_say() {
    for (driver, name, first) in [
        (DriverKind::Codex, "codex-0.171.0.jsonl", "exec"),
        (DriverKind::Opencode, "opencode-1.18.33.jsonl", "run"),
        (DriverKind::Gemini, "gemini-0.61.0.jsonl", "--output-format"),
    ] {
        let root = root(driver, "#!/bin/sh\necho \"$1\" >ROOT/first\ncat >asked.txt\ncat ROOT/sample.jsonl\n");
        fs::write(root.path("sample.jsonl"), sample(name)).unwrap();
        let order = root.prompt("grep -q well asked.txt");
        root.send(&order);
        let _runner = root.start(1);
        let report = root.report(&order);
        assert_eq!((report.outcome, report.summary.as_str()), (Outcome::Done, "Done: all is written."), "{report:#?}");
        assert_eq!(fs::read_to_string(root.path("first")).unwrap().trim(), first);
        assert_eq!(report.output.lines().last(), Some("Done: all is written."), "{}", report.output);
    }
}

#[test]
fn any_program_can_say_that_it_waits_and_what_an_earlier_one_said_is_forgotten() {
    let script = r#"#!/bin/sh
if mkdir ROOT/first 2>/dev/null; then
  echo '{"state": "waiting", "reason": "may I push?"}' >"$MIYABI_EVENTS/.draft"
  mv "$MIYABI_EVENTS/.draft" "$MIYABI_EVENTS/1.json"
  until [ -e ROOT/go ]; do sleep 0.02; done
  echo garbage >"$MIYABI_EVENTS/2.json"
  echo left >"$MIYABI_EVENTS/.left"
  exit 3
fi
ls -A "$MIYABI_EVENTS" >ROOT/left
echo x >x
"#;
    let root = root(DriverKind::Command, script);
    let order = root.prompt("");
    root.send(&order);
    let _runner = root.start(1);
    let waiting = root.wait_for_state(1, "waiting-for-human");
    assert!(matches!(&waiting.activity, Activity::WaitingForHuman { reason, .. } if reason == "may I push?"));
    fs::write(root.path("go"), "").unwrap();
    assert_eq!(root.report(&order).failure, Some(FailureKind::AgentFailed));
    let next = root.after(&order);
    root.send(&next);
    assert_eq!(root.report(&next).outcome, Outcome::Done);
    assert_eq!(fs::read_to_string(root.path("left")).unwrap(), "", "an attempt begins with an empty folder");
}
