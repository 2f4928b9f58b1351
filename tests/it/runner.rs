//! Runners as real processes, on a real spool and real repositories, with shell scripts as agents.

use std::fs;
use std::time::Duration;

use miyabi::io::clock;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::track::Stage;
use miyabi::model::agent::DriverKind;
use miyabi::model::beat::{Activity, Step};
use miyabi::model::id::{Incarnation, Mailbox};
use miyabi::model::report::{FailureKind, Outcome};
use miyabi::model::task::{NoChange, Work};
use miyabi::runner::start::{self, RunnerError};

use crate::runner_support::{Root, eventually, is_running, kaede};

/// A script's way to say where a file beside the repository is.
fn at(root: &Root, name: &str) -> String {
    root.path(name).display().to_string()
}

#[test]
fn a_shell_command_becomes_a_proven_commit_and_the_runner_is_free_again() {
    let root = Root::shell("false");
    let order =
        root.command("echo こんにちは > greeting; echo 'done \u{1b}[32mwell\u{1b}[0m'", "grep こんにちは greeting");
    root.send(&order);
    let runner = root.start(1);
    let report = root.report(&order);
    assert_eq!((report.outcome, report.failure, report.exit_code), (Outcome::Done, None, Some(0)));
    assert_eq!(report.base.as_deref(), Some(root.repository.head().as_str()));
    let commit = report.commit.unwrap();
    assert_eq!(root.repository.git(["rev-parse", report.branch.as_deref().unwrap()]), commit);
    assert_eq!(root.repository.git(["show", &format!("{commit}:greeting")]), "こんにちは");
    let key = format!("{}/code/1", order.run);
    assert_eq!(
        root.repository.git(["log", "-1", "--format=%an|%ae|%s|%(trailers:valueonly)", &commit]).trim(),
        format!("カエデ|kaede@miyabi.invalid|example/hello|{key}")
    );
    assert!(report.checks[0].passed() && report.checks[0].output.contains("こんにちは"));

    root.wait_for_state(1, "idle");
    assert_eq!(root.worktrees(), Vec::<String>::new(), "nothing is left behind");
    assert!(!root.layout.attempt(order.run, &order.stage, 1).exists());
    let log = fs::read_to_string(root.layout.root().join(report.log.unwrap())).unwrap();
    assert!(log.contains("done \u{1b}[32mwell\u{1b}[0m"), "{log}");
    let pane = String::from_utf8(runner.pane()).unwrap();
    assert!(pane.contains("done \u{1b}[32mwell\u{1b}[0m"), "the pane gets the bytes as they are: {pane}");
    assert!(pane.contains("miyabi | example/hello: attempt 1 done after"), "{pane}");
}

#[test]
fn an_agent_gets_its_order_its_messages_and_a_short_list_of_variables() {
    let root = Root::shell(
        r#"env | sort > environment; cp "$MIYABI_WORK_ORDER" order.json; cp "$MIYABI_INBOX" inbox.jsonl
        cp "$MIYABI_PROMPT" prompt.txt; pwd > where; ps -o sid= -p $$ | tr -d ' ' > session; echo $$ > pid
        printf %s '{"outcome":"done","summary":"feat: a summary\n\nwith a body","extra":1}' > "$MIYABI_REPORT""#,
    );
    let mine = root.say(Mailbox::agent(&kaede()), "to you");
    let ours = root.say("role.codegen".parse().unwrap(), "to your role");
    let order = root.prompt("true");
    root.send(&order);
    let _runner = root.start(7);
    let report = root.report(&order);
    assert_eq!(report.outcome, Outcome::Done, "{report:?}");
    let commit = report.commit.unwrap();
    let show = |name: &str| root.repository.git(["show", &format!("{commit}:{name}")]);
    let environment = show("environment");
    for line in [
        "MIYABI_TEST_ALLOWED=allowed",
        "MIYABI_AGENT=kaede",
        "MIYABI_INCARNATION=7",
        "MIYABI_TASK=example/hello",
        "MIYABI_ATTEMPT=1",
        &format!("MIYABI_ROOT={}", root.layout.root().display()),
        &format!("MIYABI_ATTEMPT_ID={}", order.id),
    ] {
        assert!(environment.lines().any(|found| found == line), "{line} is missing in {environment}");
    }
    for name in ["SECRET", "TMUX", "CARGO"] {
        assert!(!environment.contains(name), "{name} is in {environment}");
    }
    let read: miyabi::model::order::WorkOrder = serde_json::from_str(&show("order.json")).unwrap();
    assert_eq!(read, order);
    assert_eq!(show("prompt.txt"), "write it\nwell");
    assert!(show("inbox.jsonl").lines().count() == 2 && show("inbox.jsonl").contains("to your role"));
    assert_eq!(show("where"), root.layout.worktree(order.run, &order.stage, 1).display().to_string());
    assert_eq!(show("session"), show("pid"), "it leads a session of its own");
    assert_eq!(root.repository.git(["log", "-1", "--format=%B", &commit]).lines().next().unwrap(), "feat: a summary");
    assert_eq!(report.summary, "feat: a summary\n\nwith a body");
    let folder =
        |mailbox: &str, id| root.spool.locate(&mailbox.parse().unwrap(), id).unwrap().map(|listed| listed.folder);
    assert_eq!(folder("kaede", mine), Some(Folder::Done));
    assert_eq!(folder("role.codegen", ours), Some(Folder::Done));
}

#[test]
fn the_sender_of_a_message_sees_it_submitted_while_the_program_runs_and_verified_after_its_checks() {
    let root = Root::shell(r#"cp "$MIYABI_ROOT"/data/spool/kaede/history/*.jsonl seen.jsonl"#);
    let message = root.say(Mailbox::agent(&kaede()), "to you");
    let order = root.prompt("true");
    root.send(&order);
    let _runner = root.start(7);
    let commit = root.report(&order).commit.unwrap();
    let seen = root.repository.git(["show", &format!("{commit}:seen.jsonl")]);
    assert!(seen.contains(r#""what":"submitted""#) && seen.contains(r#""holder":"kaede.7""#), "{seen}");
    root.wait_for_state(7, "idle");
    let reached = root.spool.track(message).unwrap().reached;
    assert_eq!(
        reached,
        [Stage::Written, Stage::Leased, Stage::Submitted, Stage::Acknowledged, Stage::Verified],
        "its checks passed"
    );

    let root = Root::shell("echo x > y");
    let message = root.say(Mailbox::agent(&kaede()), "to you");
    root.send(&root.prompt("false"));
    let _runner = root.start(7);
    let reached = eventually("the acknowledgement", || {
        let reached = root.spool.track(message).unwrap().reached;
        reached.contains(&Stage::Acknowledged).then_some(reached)
    });
    assert!(!reached.contains(&Stage::Verified), "its check failed");
}

#[test]
fn the_agent_in_the_documentation_works() {
    let page = include_str!("../../docs/agent-protocol.md");
    let script = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the page has one");
    let root = Root::shell(script);
    let order = root.prompt("grep -x 'WRITE IT' ANSWER.txt");
    root.send(&order);
    let _runner = root.start(1);
    let report = root.report(&order);
    assert_eq!((report.outcome, report.summary.as_str()), (Outcome::Done, "feat: answer in capital letters"));
}

#[test]
fn a_failed_agent_is_reported_with_its_words_and_its_changes() {
    let root = Root::shell("echo half > half; echo 'cannot go on' >&2; exit 3");
    let order = root.prompt("touch must-not-run");
    root.send(&order);
    let _runner = root.start(1);
    let report = root.report(&order);
    assert_eq!((report.outcome, report.failure), (Outcome::Failed, Some(FailureKind::AgentFailed)));
    assert_eq!(report.summary, "the program ended with exit code 3: cannot go on");
    assert!(report.output.contains("cannot go on") && report.diff.contains("+half"), "{report:?}");
    assert!(report.checks.is_empty());
    let message = root.repository.git(["log", "-1", "--format=%B", "miyabi/example/hello-1"]);
    assert!(message.contains("Miyabi-Salvage:") && !message.contains("Miyabi-Attempt:"), "{message}");
}

#[test]
fn every_way_to_fail_has_its_kind() {
    for (script, kind) in [
        ("kill -9 $$", FailureKind::AgentCrashed),
        ("echo '{\"outcome\":\"failed\",\"summary\":\"no idea\"}' > $MIYABI_REPORT", FailureKind::AgentFailed),
        ("echo 'nonsense' > $MIYABI_REPORT", FailureKind::AgentFailed),
        ("git commit --allow-empty -m nothing", FailureKind::NoCommit),
        ("true", FailureKind::NoCommit),
        ("rm .git; echo x > y", FailureKind::Infrastructure),
    ] {
        let root = Root::shell(script);
        let order = root.prompt("");
        root.send(&order);
        let _runner = root.start(1);
        let report = root.report(&order);
        assert_eq!(report.failure, Some(kind), "{script}: {report:?}");
    }
}

#[test]
fn an_agent_without_a_program_can_still_do_shell_commands() {
    for command in [&[][..], &["/no/such/program"][..]] {
        let root = Root::new(DriverKind::Command, command);
        let order = root.prompt("");
        root.send(&order);
        let _runner = root.start(1);
        assert_eq!(root.report(&order).failure, Some(FailureKind::NotStarted));
        let order = root.after(&root.command("echo x > y", ""));
        root.send(&order);
        assert_eq!(root.report(&order).outcome, Outcome::Done);
    }
}

#[test]
fn a_failed_check_is_told_with_its_output_and_happened_in_a_clean_place() {
    let root = Root::shell("echo x > new; echo y > ignored.o");
    let order = root.prompt("ls -a; test -e ignored.o");
    root.send(&order);
    let _runner = root.start(1);
    let report = root.report(&order);
    assert_eq!(report.failure, Some(FailureKind::CheckFailed));
    assert!(report.checks[0].output.contains("new") && !report.checks[0].output.contains("ignored.o"), "{report:?}");
    assert!(report.diff.contains("+x"));
    root.wait_for_state(1, "idle");
    assert_eq!(root.worktrees(), Vec::<String>::new());
}

#[test]
fn what_the_repository_protects_cannot_be_changed_moved_or_added_to() {
    let root = Root::shell("false");
    for (name, text) in
        [(".github/ci.yml", "on: push"), ("tests/accept/deep/a.txt", "a"), ("lock", "1"), ("Locks", "x")]
    {
        root.repository.write(name, text);
    }
    root.repository.commit("more");
    let protected = [".github/", "tests/*/**", "lock", "*.sum"].map(str::to_owned).to_vec();
    let _runner = root.start(1);
    let told = |command: &str| {
        let mut order = root.command(command, "");
        order.workplace.as_mut().unwrap().protected.clone_from(&protected);
        order.run = clock::fresh_run_id();
        order.workplace.as_mut().unwrap().branch = format!("miyabi/example/hello-{}", order.run);
        root.send(&order);
        let report = root.report(&order);
        (report.failure, report.summary)
    };
    let free = told("echo y > Locks; echo z > other; mkdir src; echo 1 > src/x.sum; echo 2 > tests/top.txt");
    assert_eq!(free.0, None, "{}", free.1);
    for (command, path) in [
        ("echo 'on: never' > .github/ci.yml", ".github/ci.yml"),
        ("echo x > .github/new", ".github/new"),
        ("git mv tests/accept/deep/a.txt moved.txt", "tests/accept/deep/a.txt"),
        ("rm lock", "lock"),
        ("echo x > 合計.sum", "合計.sum"),
        ("chmod +x lock", "lock"),
        // Neither its own commit nor a replaced one hides it.
        ("echo 2 > lock && git commit -qam mine", "lock"),
        ("git replace HEAD $(git commit-tree HEAD^{tree} -m x </dev/null) && echo 3 > lock", "lock"),
    ] {
        let (failure, summary) = told(command);
        assert_eq!(failure, Some(FailureKind::ProtectedPath), "{command}: {summary}");
        assert_eq!(summary, format!("it changes what the repository protects: `{path}`"), "{command}");
    }
}

#[test]
fn without_a_check_the_usual_one_of_the_project_is_made_as_it_was_when_the_work_began() {
    let root = Root::shell("false");
    let _runner = root.start(1);
    let proven = |command: &str, detect: bool| {
        let mut order = root.command(command, "");
        order.workplace.as_mut().unwrap().detect_check = detect;
        order.run = clock::fresh_run_id();
        order.workplace.as_mut().unwrap().branch = format!("miyabi/example/hello-{}", order.run);
        root.send(&order);
        let report = root.report(&order);
        let checks: Vec<String> = report.checks.iter().map(|check| check.command.clone()).collect();
        (report.failure, checks)
    };
    assert_eq!(proven("echo 1 > a", true), (None, vec![]), "nothing says what kind of project it is");
    // A project that the attempt begins is proven by what it brings.
    let (check, rule) = (vec!["make test".to_owned()], "printf 'test:\\n\\ttest -s a\\n' > Makefile");
    assert_eq!(proven(&format!("echo 1 > a; {rule}"), true), (None, check.clone()));
    root.repository.write("Makefile", "test:\n\ttest -s a\n");
    root.repository.commit("a makefile");
    assert_eq!(proven("echo 1 > a", true), (None, check.clone()));
    assert_eq!(proven("echo 1 > b", true), (Some(FailureKind::CheckFailed), check.clone()));
    assert_eq!(proven("echo 1 > b", false), (None, vec![]), "not where checks are named");
    assert_eq!(proven("rm Makefile", true), (Some(FailureKind::CheckFailed), check), "nobody gets rid of his judge");
}

#[test]
fn nothing_to_change_is_fine_where_the_task_says_so() {
    let root = Root::shell("true");
    let mut order = root.prompt("test -e README");
    order.no_change = NoChange::Ok;
    root.send(&order);
    let _runner = root.start(1);
    let report = root.report(&order);
    assert_eq!((report.outcome, report.commit), (Outcome::NoChange, None));
    assert!(report.checks[0].passed());
}

#[test]
fn without_a_repository_the_work_happens_in_a_folder_that_goes_away() {
    let root = Root::new(DriverKind::Echo, &[]);
    let mut order = root.order(Work::Prompt("こんにちは".to_owned()), "pwd");
    order.workplace = None;
    root.send(&order);
    let runner = root.start(1);
    let report = root.report(&order);
    assert_eq!((report.outcome, report.summary.as_str()), (Outcome::Done, "こんにちは"));
    assert!(String::from_utf8(runner.pane()).unwrap().contains("こんにちは"));
    root.wait_for_state(1, "idle");
    assert_eq!(root.worktrees(), Vec::<String>::new());
}

#[test]
fn the_time_limit_ends_the_whole_family_however_deaf_and_hidden_it_is() {
    let root = Root::shell("exit 9");
    let script = format!(
        "trap '' TERM; (trap '' TERM; echo $$ > {0}; sleep 1000) & setsid sh -c 'trap \"\" TERM; echo $$ > {1}; sleep 1000' &
         setsid env -i sh -c 'echo $$ > {2}; exec sleep 1000' & echo $$ > {3}; sleep 1000; sleep 1000",
        at(&root, "child"), at(&root, "session"), at(&root, "unmarked"), at(&root, "leader")
    );
    let mut order = root.command(&script, "");
    order.timeout_ms = 1_000;
    root.send(&order);
    let _runner = root.start(1);
    let pids = ["child", "session", "unmarked", "leader"].map(|name| root.wait_for_file(name).parse::<u32>().unwrap());
    let report = root.report(&order);
    assert_eq!(report.failure, Some(FailureKind::TimedOut), "{report:?}");
    assert_eq!(report.exit_code, None);
    for pid in pids {
        assert!(!is_running(pid), "process {pid} has survived");
    }
    let took = report.ended_at.since(report.started_at);
    assert!(took >= Duration::from_secs(3), "it was asked first, and killed after the stop timeout: {took:?}");
}

#[test]
fn an_endless_check_reaches_the_time_limit_too() {
    let root = Root::shell("echo x > new");
    let mut order = root.prompt(&format!("echo $$ > {}; exec sleep 1000", at(&root, "check")));
    order.timeout_ms = 1_000;
    root.send(&order);
    let _runner = root.start(1);
    let pid = root.wait_for_file("check").parse().unwrap();
    assert_eq!(root.report(&order).failure, Some(FailureKind::TimedOut));
    assert!(!is_running(pid));
}

#[test]
fn what_a_successful_agent_leaves_running_is_ended_before_its_work_is_looked_at() {
    let root = Root::shell("exit 9");
    let late = "sleep 0.2; while :; do date >> late; sleep 0.01; done";
    let order =
        root.command(&format!("echo x > new; setsid sh -c 'echo $$ > {}; {late}' & sleep 0.5", at(&root, "pid")), "");
    root.send(&order);
    let _runner = root.start(1);
    let report = root.report(&order);
    assert_eq!(report.outcome, Outcome::Done);
    assert!(!is_running(root.wait_for_file("pid").parse().unwrap()));
}

#[test]
fn a_cancelled_order_is_ended_within_a_second_and_never_reported() {
    let root = Root::shell("exit 9");
    let order = root
        .command(&format!("trap '' TERM; echo x > new; echo $$ > {}; sleep 1000; sleep 1000", at(&root, "pid")), "");
    root.send(&order);
    let _runner = root.start(1);
    let pid = root.wait_for_file("pid").parse().unwrap();
    let cancelled = miyabi::io::clock::now();
    root.take_away(&order);
    eventually("the end of the cancelled program", || (!is_running(pid)).then_some(()));
    let took = miyabi::io::clock::now().since(cancelled);
    assert!(took < Duration::from_secs(1), "{took:?}");
    root.wait_for_state(1, "idle");
    assert_eq!(root.reports(), 0);
    assert_eq!(root.worktrees(), Vec::<String>::new(), "its work is saved on its branch, and cleared away");
    assert_eq!(root.repository.git(["show", "miyabi/example/hello-1:new"]), "x");
}

#[test]
fn a_stop_ends_the_agent_and_says_goodbye_without_a_report() {
    for name in ["TERM", "HUP"] {
        let root = Root::shell("exit 9");
        let order = root.command(&format!("trap '' TERM; echo $$ > {}; sleep 1000; sleep 1000", at(&root, "pid")), "");
        root.send(&order);
        let mut runner = root.start(4);
        let pid = root.wait_for_file("pid").parse().unwrap();
        runner.signal(name);
        assert!(runner.wait().success());
        assert!(!is_running(pid));
        assert_eq!(root.beat().unwrap().activity, Activity::Stopped);
        assert_eq!((root.reports(), root.folder(&order)), (0, Some(Folder::Leased)));
    }
}

#[test]
fn an_idle_runner_stops_at_once() {
    let root = Root::shell("true");
    let mut runner = root.start(1);
    let beat = root.wait_for_state(1, "idle");
    assert_eq!((beat.pid, beat.incarnation), (runner.pid(), Incarnation(1)));
    runner.signal("TERM");
    assert!(runner.wait().success());
    assert_eq!(root.beat().unwrap().activity, Activity::Stopped);
}

#[test]
fn the_heart_beats_while_the_agent_works_and_says_how_far_it_is() {
    let root = Root::shell("exit 9");
    let order = root.command(&format!("while ! test -e {}; do sleep 0.01; done; echo x > new", at(&root, "go")), "");
    root.send(&order);
    let _runner = root.start(1);
    let first = eventually("a beat of the running step", || {
        root.beat().filter(|beat| matches!(beat.activity, Activity::Busy { step: Step::Running, .. }))
    });
    eventually("three more beats", || root.beat().filter(|beat| beat.sequence >= first.sequence + 3));
    fs::write(root.path("go"), "").unwrap();
    assert_eq!(root.report(&order).outcome, Outcome::Done);
}

#[test]
fn a_crash_between_commit_and_report_loses_nothing_and_does_nothing_twice() {
    let root = Root::shell("exit 9");
    // The check is a child of the runner, and kills it the first time: the commit is made, the report is not.
    let check = format!("test -e {0} || {{ echo x > {0}; kill -9 $PPID; }}", at(&root, "killed"));
    let order = root.command(&format!("echo x > new; echo run >> {}", at(&root, "runs")), &check);
    root.send(&order);
    let mut runner = root.start(1);
    assert!(!runner.wait().success());
    assert_eq!((root.reports(), root.folder(&order)), (0, Some(Folder::Leased)));
    let commit = root.repository.git(["rev-parse", "miyabi/example/hello-1"]);

    let next = root.after(&order);
    root.send(&next);
    let _runner = root.start(2);
    let report = root.report(&next);
    assert_eq!((report.outcome, report.attempt), (Outcome::Done, 2));
    assert_eq!(
        (report.commit.as_deref(), report.branch.as_deref()),
        (Some(commit.as_str()), Some("miyabi/example/hello-1"))
    );
    assert!(report.checks[0].passed(), "it was checked again");
    assert_eq!(fs::read_to_string(root.path("runs")).unwrap(), "run\n", "the work was not done again");
    // The first attempt's folders wait for whoever knows that nobody lives in them any more.
    assert!(!root.layout.worktree(next.run, &next.stage, 2).exists());
}

#[test]
fn a_crash_between_report_and_acknowledgement_does_not_double_the_report() {
    let root = Root::shell("exit 9");
    let order = root.command("echo x > new", "true");
    let done = root.spool.root().join("kaede.work/done");
    root.spool.ensure(&Mailbox::work(&kaede())).unwrap();
    fs::remove_dir(&done).unwrap();
    fs::write(&done, "in the way").unwrap();
    root.send(&order);
    let mut runner = root.start(1);
    let first = eventually("a report", || root.report_now(&order));
    runner.signal("KILL");
    runner.wait();
    fs::remove_file(&done).unwrap();
    fs::create_dir(&done).unwrap();
    assert_eq!(root.folder(&order), Some(Folder::Leased));

    // Somebody puts the order back although it was reported: it is done again up to the same report.
    let mailbox = root.spool.root().join("kaede.work");
    let listed = root.spool.locate(&Mailbox::work(&kaede()), order.id).unwrap().unwrap();
    fs::rename(mailbox.join("leased").join(&listed.name), mailbox.join("new").join(listed.stem().next().to_string()))
        .unwrap();
    let _runner = root.start(2);
    eventually("an acknowledgement", || (root.folder(&order) == Some(Folder::Done)).then_some(()));
    assert_eq!(root.reports(), 1);
    assert_eq!(root.report_now(&order).unwrap(), first);
}

#[test]
fn a_report_that_cannot_be_delivered_is_kept_until_it_can() {
    let root = Root::shell("exit 9");
    let order = root.command("echo x > new", "");
    let new = root.spool.root().join("supervisor/new");
    fs::remove_dir(&new).unwrap();
    fs::write(&new, "in the way").unwrap();
    root.send(&order);
    let runner = root.start(1);
    eventually("a complaint in the pane", || {
        String::from_utf8_lossy(&runner.pane()).contains("cannot deliver the report").then_some(())
    });
    assert_eq!(root.folder(&order), Some(Folder::Leased));
    fs::remove_file(&new).unwrap();
    fs::create_dir(&new).unwrap();
    assert_eq!(root.report(&order).outcome, Outcome::Done);
}

#[test]
fn what_a_killed_runner_left_half_done_is_saved_by_the_next_attempt() {
    let root = Root::shell("exit 9");
    let order = root.command(&format!("echo half > half; echo $$ > {}; exec sleep 1000", at(&root, "pid")), "");
    root.send(&order);
    let mut runner = root.start(1);
    let pid = root.wait_for_file("pid");
    runner.signal("KILL");
    runner.wait();
    // The supervisor ends the orphans before it issues the next attempt.
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());

    let mut next = root.after(&order);
    next.work = Work::Run("test ! -e half && echo whole > whole".to_owned());
    root.send(&next);
    let _runner = root.start(2);
    assert_eq!(root.report(&next).outcome, Outcome::Done);
    assert_eq!(root.repository.git(["show", "miyabi/example/hello-1:half"]), "half");
    root.wait_for_state(2, "idle");
    assert_eq!(root.worktrees(), Vec::<String>::new());
}

#[test]
fn what_went_wrong_before_is_told_to_the_next_attempt() {
    let root = Root::shell("cat $MIYABI_PROMPT > prompt");
    let mut order = root.after(&root.prompt(""));
    order.previous.as_mut().unwrap().diff = "+the old try".to_owned();
    root.send(&order);
    let _runner = root.start(1);
    let report = root.report(&order);
    let prompt = root.repository.git(["show", &format!("{}:prompt", report.commit.unwrap())]);
    for part in ["write it\nwell", "Attempt 1 did not succeed: its runner died", "+the old try"] {
        assert!(prompt.contains(part), "{prompt}");
    }
}

#[test]
fn many_orders_are_worked_off_one_after_another() {
    let root = Root::shell("exit 9");
    let _runner = root.start(1);
    root.wait_for_state(1, "idle");
    for attempt in 1..=5 {
        let mut order = root.command("echo x > new", "");
        order.attempt = attempt;
        order.workplace.as_mut().unwrap().branch = format!("miyabi/{attempt}");
        root.send(&order);
        assert_eq!(root.report(&order).attempt, attempt);
    }
    assert_eq!(root.reports(), 5);
}

#[test]
fn a_pane_that_only_shows_something_takes_no_orders_and_comes_back() {
    let root = Root::new(DriverKind::Dashboard, &[]);
    let order = root.command("echo x > new", "");
    root.send(&order);
    let mut runner = root.start(1);
    root.wait_for_state(1, "idle");
    // The program of this root is `/bin/false`: it ends at once, again and again.
    eventually("two starts of the dashboard", || {
        let pane = String::from_utf8_lossy(&runner.pane()).into_owned();
        (pane.matches("is started again").count() >= 2).then_some(())
    });
    assert_eq!(root.folder(&order), Some(Folder::New));
    runner.signal("TERM");
    assert!(runner.wait().success());
}

#[test]
fn a_launch_of_another_start_is_refused() {
    let root = Root::shell("true");
    let none = start::run(root.layout.root(), &kaede(), Incarnation(1), std::collections::BTreeMap::new());
    assert!(matches!(none.unwrap_err(), RunnerError::Launch { .. }));
    let mut runner = root.start(5);
    root.wait_for_state(5, "idle");
    runner.signal("TERM");
    runner.wait();
    let other = start::run(root.layout.root(), &kaede(), Incarnation(4), std::collections::BTreeMap::new());
    assert!(matches!(other.unwrap_err(), RunnerError::OtherStart { found: Incarnation(5), .. }));
}
