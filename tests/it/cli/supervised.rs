//! The verbs that ask a supervisor; it answers as it is told.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test's supervisor knows the calls of its test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use miyabi::control::answer::Answerer;
use miyabi::control::protocol::{
    Call, EdgeView, ErrorKind, EventView, ReplyError, Status, SupervisorState, SupervisorView, TaskDetail, Why,
};
use miyabi::core::snapshot::{AgentState, AgentView, QueueView, TaskState, TaskView};
use miyabi::io::clock;
use miyabi::model::id::{AgentId, Incarnation, Mailbox, Role, StageName, TaskId};
use miyabi::model::request::{Answer, RefusalKind, Request};
use miyabi::model::watching::WatchFaults;

use super::support::{Root, Supervisor, code, program, text};

fn task(id: &str, state: TaskState) -> TaskView {
    TaskView {
        id: TaskId::new(id).unwrap(),
        state,
        agent: Some(AgentId::new("kaede").unwrap()),
        role: Some(Role::new("codegen").unwrap()),
        attempt: 1,
        needs: Vec::new(),
        said: BTreeMap::new(),
        priority: 3,
        run: "01JD8Y0Q6V4W3N5X7Z9B2C4D6F".parse().unwrap(),
        stage: StageName::new("code").unwrap(),
        rounds: 0,
        spent: None,
        due: None,
        queued_at: Some(clock::now() - Duration::from_secs(150)),
        started_at: None,
        ended_at: None,
        branch: None,
        commit: None,
        merge_place: None,
        reused: None,
        stuck: false,
        reason: None,
        issue: None,
        file: Some("example".to_owned()),
    }
}

fn agent(id: &str, name: &str, state: AgentState) -> AgentView {
    AgentView {
        id: AgentId::new(id).unwrap(),
        name: name.to_owned(),
        role: Role::new("codegen").unwrap(),
        labels: Vec::new(),
        state,
        since: clock::now() - Duration::from_secs(150),
        incarnation: Incarnation(2),
        restarts: 1,
        pane: Some("%3".to_owned()),
        pid: Some(4711),
        task: (state == AgentState::Busy).then(|| TaskId::new("example/挨拶").unwrap()),
        reason: None,
    }
}

fn status(pid: u32) -> Status {
    let mut tasks: BTreeMap<TaskState, usize> = TaskState::ALL.into_iter().map(|state| (state, 0)).collect();
    tasks.insert(TaskState::Leased, 1);
    tasks.insert(TaskState::Done, 12);
    Status {
        merge_queues: Vec::new(),
        supervisor: SupervisorView {
            pid,
            version: "0.1.0".to_owned(),
            since: clock::now() - Duration::from_secs(3 * 3600 + 60),
            state: SupervisorState::Running,
            tmux_socket: None,
            found: None,
        },
        agents: vec![agent("kaede", "カエデ", AgentState::Busy), agent("botan", "ボタン", AgentState::Idle)],
        tasks,
        queues: vec![
            QueueView { mailbox: Mailbox::new("kaede").unwrap(), new: 2, leased: 0, later: 0, dead: 1, slowed: 3 },
            QueueView { mailbox: Mailbox::new("botan").unwrap(), new: 0, leased: 0, later: 0, dead: 0, slowed: 0 },
        ],
        faults: Vec::new(),
        alerts: Vec::new(),
        frozen: None,
        holding: None,
        watching: BTreeMap::from([("supervisor".to_owned(), WatchFaults { lost: 1, blind: 0, missed: 0 })]),
    }
}

#[test]
fn without_a_supervisor_every_asking_verb_ends_with_3_and_says_how_to_start_one() {
    let root = Root::new();
    for verb in [
        &["status"][..],
        &["down"],
        &["submit", "x"],
        &["report", "a/b"],
        &["task", "list"],
        &["task", "wait"],
        &["agent", "list"],
        &["agent", "restart", "kaede"],
        &["events"],
    ] {
        let output = root.run(verb);
        assert_eq!(code(&output), 3, "{verb:?}");
        assert!(text(&output.stderr).contains("miyabi up"), "{verb:?}");
        assert_eq!(text(&output.stdout), "", "{verb:?}");
    }
    // A supervisor that was killed leaves its socket behind.
    drop(std::os::unix::net::UnixListener::bind(root.path().join("data/run/control.sock")).or_else(|_| {
        std::fs::create_dir_all(root.path().join("data/run")).unwrap();
        std::os::unix::net::UnixListener::bind(root.path().join("data/run/control.sock"))
    }));
    assert_eq!(code(&root.run(&["status"])), 3);
    let for_programs = root.run(&["status", "--json"]);
    let error: serde_json::Value = serde_json::from_slice(&for_programs.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "no-supervisor");
}

#[test]
fn status_shows_the_team_for_people_and_for_programs() {
    let root = Root::new();
    let _supervisor = Supervisor::at(&root, |_, answer| answer.value(&status(99)));
    insta::assert_snapshot!(text(&root.run(&["status"]).stdout));

    let shown = root.json(&["status"]);
    for field in ["id", "name", "role", "state", "since", "incarnation", "restarts", "pane", "pid", "task"] {
        assert!(shown["agents"][0].get(field).is_some(), "agents have no `{field}`");
    }
    assert_eq!(shown["agents"][0]["state"], "busy");
    assert_eq!(shown["tasks"]["ready"], 0);
    assert_eq!(shown["tasks"]["done"], 12);
    assert_eq!(
        shown["queues"][0],
        serde_json::json!({"mailbox": "kaede", "new": 2, "leased": 0, "later": 0, "dead": 1, "slowed": 3})
    );
    assert_eq!(shown["watching"], serde_json::json!({"supervisor": {"lost": 1, "blind": 0, "missed": 0}}));
}

#[test]
fn colours_are_for_terminals_unless_the_user_says_otherwise() {
    let root = Root::new();
    let _supervisor = Supervisor::at(&root, |_, answer| answer.value(&status(99)));
    let colored = |names: &[(&str, &str)]| {
        let mut command = root.command(&["status"]);
        command.envs(names.iter().copied());
        text(&command.output().unwrap().stdout).contains('\x1b')
    };
    assert!(!colored(&[]));
    assert!(colored(&[("CLICOLOR_FORCE", "1")]));
    assert!(!colored(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn tasks_are_listed_with_the_documented_fields() {
    let root = Root::new();
    let _supervisor = Supervisor::at(&root, |call, answer| match call {
        Call::TaskPage { .. } => {
            answer.value(&[task("example/hello", TaskState::Done), task("example/挨拶", TaskState::Ready)]);
        }
        Call::Task { id } => answer.value(&TaskDetail {
            last_report: None,
            task: task(id.as_str(), TaskState::Ready),
            stages: vec![StageName::new("code").unwrap()],
            spec: serde_json::json!({"work": {"run": "make"}}),
            attempts: Vec::new(),
            blocked_by: vec![TaskId::new("example/hello").unwrap()],
            edges: vec![EdgeView {
                need: TaskId::new("example/hello").unwrap(),
                from: vec!["dag/example.yaml:3:12".to_owned(), "blocked by, on GitHub".to_owned()],
                met: false,
            }],
        }),
        Call::Why { id } => answer.value(&Why {
            id: id.clone(),
            state: TaskState::Ready,
            reasons: vec!["no agent of the role codegen is free".to_owned()],
        }),
        _ => answer.error(ReplyError::new(ErrorKind::Invalid, "no task `x`").with_hint("see `miyabi task list`")),
    });
    insta::assert_snapshot!(text(&root.run(&["task", "list"]).stdout));
    let listed = root.json(&["task", "list"]);
    let documented = [
        "id",
        "state",
        "agent",
        "attempt",
        "needs",
        "queued_at",
        "started_at",
        "ended_at",
        "branch",
        "commit",
        "reason",
        "stage",
        "rounds",
    ];
    for field in documented {
        assert!(listed[0].get(field).is_some(), "tasks have no `{field}`");
    }
    assert!(text(&root.run(&["task", "show", "example/hello"]).stdout).contains("run: make"));
    assert_eq!(root.json(&["task", "show", "example/hello"])["id"], "example/hello");
    assert!(text(&root.run(&["task", "why", "example/hello"]).stdout).contains("no agent of the role"));
    let unknown = root.run(&["report", "x"]);
    assert_eq!(code(&unknown), 4);
    insta::assert_snapshot!(text(&unknown.stderr));
}

/// Answers `submit`, and waits for the task until it ends in the given state.
fn accepting(end: TaskState) -> impl Fn(&Call, Answerer) + Send + 'static {
    move |call, answer| match call {
        Call::Request(Request::Submit(_)) => answer.value(&Answer::Submitted {
            task: TaskId::new("01JD8Y0Q6V4W3N5X7Z9B2C4D6F").unwrap(),
            run: "01JD8Y0Q6V4W3N5X7Z9B2C4D6F".parse().unwrap(),
            repeated: false,
        }),
        Call::WaitTask { ids } => {
            for state in [TaskState::Ready, TaskState::Leased, end] {
                answer.value(&task(ids[0].as_str(), state));
            }
            answer.end();
        }
        _ => answer.error(ReplyError::new(ErrorKind::Failed, "not expected")),
    }
}

#[test]
fn submit_prints_the_id_and_waits_for_the_end() {
    for (end, expected) in [(TaskState::Done, 0), (TaskState::Dead, 1), (TaskState::Cancelled, 1)] {
        let root = Root::new();
        let supervisor = Supervisor::at(&root, accepting(end));
        let output = root.run(&[
            "submit",
            "fix it",
            "--agent",
            "kaede",
            "--check",
            "make test",
            "--needs",
            "a/b",
            "--priority",
            "1",
            "--timeout",
            "10m",
            "--repo",
            "none",
            "--no-change",
            "--wait",
        ]);
        assert_eq!(code(&output), expected, "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "01JD8Y0Q6V4W3N5X7Z9B2C4D6F\n");
        assert!(text(&output.stderr).contains(end.as_str()));
        let asked = serde_json::to_value(&supervisor.asked()[0]).unwrap();
        assert_eq!(
            asked["request"],
            serde_json::json!({
                "verb": "submit", "agent": "kaede", "prompt": "fix it", "checks": ["make test"], "repo": "none",
                "no_change": "ok", "needs": ["a/b"], "timeout_ms": 600_000, "priority": 1
            })
        );
    }
}

#[test]
fn an_order_may_come_from_a_file() {
    let root = Root::new();
    let supervisor = Supervisor::at(&root, accepting(TaskState::Done));
    root.write("order.json", r#"{"run": "make", "role": "review"}"#);
    assert_eq!(code(&root.run(&["submit", "--file", "order.json"])), 0);
    let asked = serde_json::to_value(&supervisor.asked()[0]).unwrap();
    assert_eq!((&asked["request"]["run"], &asked["request"]["role"]), (&"make".into(), &"review".into()));

    root.write("order.json", r#"{"run": "make", "rôle": "review"}"#);
    let output = root.run(&["submit", "--file", "order.json"]);
    assert_eq!(code(&output), 4);
    assert!(text(&output.stderr).contains("rôle"), "{}", text(&output.stderr));
}

#[test]
fn orders_that_make_no_sense_are_refused_before_anybody_is_asked() {
    let root = Root::new();
    let supervisor = Supervisor::at(&root, accepting(TaskState::Done));
    for (arguments, expected) in [
        (&["submit"][..], 2),
        (&["submit", "x", "--run", "y"], 2),
        (&["submit", "x", "--agent", "a", "--role", "b"], 2),
        (&["submit", "x", "--timeout", "soon"], 2),
        (&["submit", " "], 4),
        (&["submit", "x", "--priority", "9"], 4),
        (&["submit", "x", "--agent", "No Such Name"], 4),
    ] {
        assert_eq!(code(&root.run(arguments)), expected, "{arguments:?}");
    }
    assert!(supervisor.asked().is_empty());
}

#[test]
fn waiting_for_all_tasks_ends_with_1_when_one_was_not_done() {
    let root = Root::new();
    let _supervisor = Supervisor::at(&root, |_, answer| {
        answer.value(&task("example/a", TaskState::Done));
        answer.value(&task("example/b", TaskState::Leased));
        answer.value(&task("example/b", TaskState::Dead));
        answer.end();
    });
    let output = root.run(&["task", "wait"]);
    assert_eq!(code(&output), 1);
    assert_eq!(text(&output.stderr), "example/b leased · kaede\nexample/b dead · kaede\n");
}

#[test]
fn refusals_become_the_documented_exit_codes() {
    for (kind, expected) in [(RefusalKind::Invalid, 4), (RefusalKind::NotNow, 5)] {
        let root = Root::new();
        let _supervisor = Supervisor::at(&root, move |_, answer| {
            answer.value(&Answer::Refused { reason: "no".to_owned(), hint: Some("wait".to_owned()), kind });
        });
        let output = root.run(&["task", "retry", "a/b"]);
        assert_eq!((code(&output), text(&output.stderr)), (expected, "error: no\nhint: wait\n".to_owned()));
    }
}

#[test]
fn events_are_told_as_they_happen_and_an_interrupted_supervisor_is_noticed() {
    let root = Root::new();
    let supervisor = Supervisor::at(&root, |_, answer| {
        for seq in 1..=2 {
            answer.value(&EventView {
                seq,
                at: clock::now(),
                kind: "attempt-queued".to_owned(),
                agent: Some(AgentId::new("kaede").unwrap()),
                incarnation: Some(Incarnation(2)),
                task: Some(TaskId::new("example/hello").unwrap()),
                attempt: Some(1),
                text: "queued for kaede".to_owned(),
                details: serde_json::Map::new(),
            });
        }
        // Dropped without an end: the supervisor was killed.
    });
    let output = root.run(&["events", "--follow", "--since", "10m", "--json"]);
    assert_eq!(code(&output), 3);
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["kind"], &lines[1]["seq"]), (2, &"attempt-queued".into(), &2.into()));
    assert!(matches!(supervisor.asked()[0], Call::Events { since: Some(_), follow: true }));
    let people = root.run(&["events"]);
    assert!(text(&people.stdout).contains("kaede#2 example/hello·1 queued for kaede"), "{}", text(&people.stdout));
}

#[test]
fn down_waits_for_the_supervisors_process_to_end() {
    let root = Root::new();
    let process = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = process.id();
    let process = Arc::new(Mutex::new(Some(process)));
    let drained = Arc::clone(&process);
    let _supervisor = Supervisor::at(&root, move |call, answer| match call {
        Call::Request(Request::Drain) => {
            answer.value(&Answer::Accepted { message: "draining".to_owned() });
            let mut process = drained.lock().unwrap().take().unwrap();
            process.kill().unwrap();
            process.wait().unwrap();
        }
        _ => answer.value(&status(pid)),
    });
    let output = root.run(&["down"]);
    assert_eq!((code(&output), text(&output.stdout)), (0, "stopped\n".to_owned()), "{}", text(&output.stderr));
}

#[test]
fn down_gives_up_in_time_and_says_what_is_still_at_work() {
    let root = Root::new();
    let own_pid = std::process::id();
    let _supervisor = Supervisor::at(&root, move |call, answer| match call {
        Call::Request(Request::Drain) => answer.value(&Answer::Accepted { message: "draining".to_owned() }),
        _ => answer.value(&status(own_pid)),
    });
    let output = root.run(&["down", "--timeout", "100ms"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("kaede (example/挨拶)"), "{}", text(&output.stderr));
}

#[test]
fn the_dashboard_survives_the_supervisor_and_shows_its_return() {
    let root = Root::new();
    let mut child = Command::new(program())
        .args(["status", "--watch"])
        .current_dir(root.path())
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "no supervisor is running; waiting for it");
    let supervisor = Supervisor::at(&root, |_, answer| answer.value(&status(99)));
    assert!(lines.any(|line| line.contains("カエデ")));
    drop(supervisor);
    assert!(lines.any(|line| line.contains("waiting for it")));
    child.kill().unwrap();
    child.wait().unwrap();
}
