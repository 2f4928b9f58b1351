//! The machine against a shell that answers as it is told.

use super::*;
use crate::model::beat::{Activity, Step};
use crate::model::id::{EnvelopeId, RunId, StageName, TaskId};
use crate::model::order::{Expects, WORK_ORDER_SCHEMA, Workplace};
use crate::model::report::{CheckResult, Outcome, Report};
use crate::model::task::{NoChange, Priority, Work};
use crate::runner::attempt::{Commit, Failure, Prepared, Ran};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + millis)
}

fn order() -> Arc<WorkOrder> {
    Arc::new(WorkOrder {
        schema: WORK_ORDER_SCHEMA.to_owned(),
        id: "01KAPZ3XZ00000000000000000".parse().unwrap(),
        task: TaskId::new("example/hello").unwrap(),
        run: "01KAPZ3XZ00000000000000001".parse::<RunId>().unwrap(),
        stage: StageName::new("code").unwrap(),
        attempt: 1,
        agent: AgentId::new("kaede").unwrap(),
        work: Work::Prompt("write it".to_owned()),
        checks: vec!["make check".to_owned()],
        no_change: NoChange::Refused,
        timeout_ms: 60_000,
        priority: Priority::DEFAULT,
        workplace: Some(Workplace {
            repository: "main".parse().unwrap(),
            path: "/repository".into(),
            target: "main".to_owned(),
            branch: "miyabi/example-hello-1".to_owned(),
            start: None,
            detect_check: false,
            protected: Vec::new(),
        }),
        previous: None,
        expects: Expects::Commit,
        rounds: 0,
        inputs: Vec::new(),
        queued_at: at(0),
    })
}

fn settings() -> Settings {
    Settings {
        agent: AgentId::new("kaede").unwrap(),
        incarnation: Incarnation(3),
        pid: 42,
        heartbeat: Duration::from_secs(5),
        stop_timeout: Duration::from_secs(10),
        duty: Duty::Work,
    }
}

fn commit() -> Commit {
    Commit {
        id: "c1".to_owned(),
        base: "b0".to_owned(),
        branch: "miyabi/example-hello-1".to_owned(),
        diff: "+x".to_owned(),
        protected: Vec::new(),
    }
}

fn passed() -> CheckResult {
    CheckResult { command: "make check".to_owned(), exit_code: Some(0), output: String::new(), duration_ms: 1 }
}

/// Names an effect in a word or two; beats show the activity.
fn word(effect: &Effect) -> String {
    match effect {
        Effect::Beat(beat) => match &beat.activity {
            Activity::Busy { step, .. } => format!("beat {step:?}"),
            activity @ (Activity::Starting
            | Activity::Idle
            | Activity::WaitingForHuman { .. }
            | Activity::Limited { .. }
            | Activity::Stopped) => format!("beat {activity:?}"),
        },
        Effect::Lease => "lease".to_owned(),
        Effect::Look(_) => "look".to_owned(),
        Effect::Prepare(_) => "prepare".to_owned(),
        Effect::Run(_) => "run".to_owned(),
        Effect::Commit { purpose, .. } => format!("commit {purpose:?}"),
        Effect::Check { commit, .. } => format!("check {}", commit.as_deref().unwrap_or("scratch")),
        Effect::Signal(pull) => format!("signal {pull:?}"),
        Effect::Deliver(_) => "deliver".to_owned(),
        Effect::Ack(_) => "ack".to_owned(),
        Effect::Clear(_) => "clear".to_owned(),
        Effect::Exit => "exit".to_owned(),
    }
}

struct World {
    machine: Machine,
    now: i64,
    reports: Vec<Report>,
}

impl World {
    fn new() -> Self {
        let mut world = Self { machine: Machine::new(settings(), at(0)), now: 0, reports: Vec::new() };
        world.effects();
        world
    }

    /// A world whose runner has leased an order.
    fn with(order: Arc<WorkOrder>) -> Self {
        let mut world = Self::new();
        assert_eq!(world.tell(Event::Ready), ["beat Idle", "lease"]);
        assert_eq!(world.tell(Event::Leased(Ok(Some(order)))), ["beat Preparing", "prepare"]);
        world
    }

    fn running(order: Arc<WorkOrder>) -> Self {
        let base = order.workplace.as_ref().map(|_| "b0".to_owned());
        let mut world = Self::with(order);
        assert_eq!(world.tell(Event::Prepared(Ok(Prepared { base, recovered: None }))), ["beat Running", "run"]);
        world
    }

    fn tell(&mut self, event: Event) -> Vec<String> {
        self.machine.handle_event(event, at(self.now)).unwrap();
        self.effects()
    }

    fn freeze(&mut self) -> Vec<String> {
        self.tell(Event::Frozen(at(self.now)))
    }

    fn wait(&mut self, millis: i64) -> Vec<String> {
        let until = self.now + millis;
        let mut words = Vec::new();
        while let Some((due, _)) = self.machine.poll_timeout()
            && due <= at(until)
        {
            self.now = due.as_millis() - at(0).as_millis();
            self.machine.handle_timeout(due);
            assert!(self.machine.poll_timeout().is_none_or(|(next, _)| next > due), "a hot loop");
            words.extend(self.effects());
        }
        self.now = until;
        words.retain(|word| !word.starts_with("beat") && word != "look");
        words
    }

    fn effects(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(effect) = self.machine.poll_effect() {
            if let Effect::Deliver(envelope) = &effect {
                self.reports.push(serde_json::from_value(envelope.body.clone()).unwrap());
            }
            words.push(word(&effect));
        }
        words
    }

    fn report(&self) -> &Report {
        self.reports.last().unwrap()
    }
}

#[test]
fn an_order_goes_through_every_step_and_is_acknowledged_after_its_report() {
    let mut world = World::running(order());
    assert_eq!(world.tell(Event::Ran(Box::default())), ["beat Committing", "commit Proof"]);
    assert_eq!(world.tell(Event::Committed(Ok(Some(commit())))), ["beat Checking", "check c1"]);
    assert_eq!(world.tell(Event::Checked(Ok(vec![passed()]))), ["beat Reporting", "deliver"]);
    assert_eq!(world.tell(Event::Delivered(Ok(()))), ["ack"]);
    assert_eq!(world.tell(Event::Acked(Ok(()))), ["beat Reporting", "clear"]);
    assert_eq!(world.tell(Event::Cleared), ["beat Idle", "lease"]);
    let report = world.report();
    assert_eq!((report.outcome, report.commit.as_deref(), report.failure), (Outcome::Done, Some("c1"), None));
    assert_eq!(report.diff, "", "only a failed attempt's diff is of use");
}

#[test]
fn the_commit_of_an_earlier_attempt_is_checked_and_not_made_again() {
    let mut world = World::with(order());
    let recovered = Commit { branch: "miyabi/example-hello-0".to_owned(), ..commit() };
    let prepared = Prepared { base: Some("b0".to_owned()), recovered: Some(recovered) };
    assert_eq!(world.tell(Event::Prepared(Ok(prepared))), ["beat Checking", "check c1"]);
    world.tell(Event::Checked(Ok(vec![passed()])));
    assert_eq!(world.report().branch.as_deref(), Some("miyabi/example-hello-0"));
    assert_eq!(world.report().outcome, Outcome::Done);
}

#[test]
fn a_commit_that_changes_what_is_protected_fails_unchecked_also_when_it_was_made_before() {
    let touched = Commit { protected: vec![".github/ci.yml".to_owned(), "Cargo.lock".to_owned()], ..commit() };
    let mut world = World::running(order());
    world.tell(Event::Ran(Box::default()));
    assert_eq!(world.tell(Event::Committed(Ok(Some(touched.clone())))), ["beat Reporting", "deliver"]);
    let made = world.report();
    let mut world = World::with(order());
    let prepared = Prepared { base: Some("b0".to_owned()), recovered: Some(touched) };
    assert_eq!(world.tell(Event::Prepared(Ok(prepared))), ["beat Reporting", "deliver"]);
    for report in [made, world.report()] {
        assert_eq!((report.outcome, report.failure), (Outcome::Failed, Some(FailureKind::ProtectedPath)));
        assert_eq!(report.summary, "it changes what the repository protects: `.github/ci.yml`, `Cargo.lock`");
        assert_eq!(report.diff, "+x", "the next attempt sees what it was");
    }
}

#[test]
fn a_check_that_is_yet_to_be_found_is_asked_for() {
    let mut order = (*order()).clone();
    order.checks.clear();
    let mut world = World::running(Arc::new(order.clone()));
    world.tell(Event::Ran(Box::default()));
    assert_eq!(world.tell(Event::Committed(Ok(Some(commit())))), ["beat Reporting", "deliver"], "there is none");
    order.workplace.as_mut().unwrap().detect_check = true;
    let mut world = World::running(Arc::new(order));
    world.tell(Event::Ran(Box::default()));
    assert_eq!(world.tell(Event::Committed(Ok(Some(commit())))), ["beat Checking", "check c1"]);
}

#[test]
fn a_report_that_cannot_be_delivered_is_tried_again_and_nothing_is_acknowledged_before() {
    let mut world = World::running(order());
    world.tell(Event::Ran(Box::default()));
    world.tell(Event::Committed(Ok(Some(commit()))));
    world.tell(Event::Checked(Ok(vec![passed()])));
    for _ in 0..20 {
        assert_eq!(world.tell(Event::Delivered(Err(Trouble("disk full".to_owned())))), Vec::<String>::new());
        assert_eq!(world.wait(30_000), ["deliver"]);
    }
    assert_eq!(world.tell(Event::Delivered(Ok(()))), ["ack"]);
    assert!(world.reports.windows(2).all(|pair| pair[0] == pair[1]), "a repeated report says the same");
}

#[test]
fn without_a_commit_an_attempt_has_failed_unless_none_was_expected() {
    let mut world = World::running(order());
    world.tell(Event::Ran(Box::new(Ran { complaint: Some("no credit".to_owned()), ..Ran::default() })));
    world.tell(Event::Committed(Ok(None)));
    assert_eq!(world.report().failure, Some(FailureKind::NoCommit));
    assert!(world.report().summary.contains("no credit"), "{}", world.report().summary);

    let mut allowed = (*order()).clone();
    allowed.no_change = NoChange::Ok;
    let mut world = World::running(Arc::new(allowed));
    world.tell(Event::Ran(Box::default()));
    assert_eq!(world.tell(Event::Committed(Ok(None))), ["beat Checking", "check b0"]);
    world.tell(Event::Checked(Ok(vec![passed()])));
    assert_eq!(world.report().outcome, Outcome::NoChange);
}

#[test]
fn a_failed_program_is_not_checked_but_what_it_left_is_saved_and_shown() {
    let mut world = World::running(order());
    let failure = Some(Failure { kind: FailureKind::AgentFailed, reason: "exit code 3".to_owned() });
    assert_eq!(
        world.tell(Event::Ran(Box::new(Ran { failure, exit_code: Some(3), ..Ran::default() }))),
        ["beat Committing", "commit Salvage"]
    );
    assert_eq!(world.tell(Event::Committed(Ok(Some(commit())))), ["beat Reporting", "deliver"]);
    assert_eq!(world.report().failure, Some(FailureKind::AgentFailed));
    assert_eq!(world.report().diff, "+x");
}

#[test]
fn a_failed_check_fails_the_attempt() {
    let mut world = World::running(order());
    world.tell(Event::Ran(Box::default()));
    world.tell(Event::Committed(Ok(Some(commit()))));
    world.tell(Event::Checked(Ok(vec![CheckResult { exit_code: Some(1), ..passed() }])));
    assert_eq!(world.report().failure, Some(FailureKind::CheckFailed));
}

#[test]
fn the_time_limit_asks_first_and_kills_later() {
    let mut world = World::running(order());
    assert_eq!(world.wait(60_000), ["signal Term"]);
    assert_eq!(world.wait(9_999), Vec::<String>::new());
    assert_eq!(world.wait(1), ["signal Kill"]);
    world.tell(Event::Ran(Box::default()));
    world.tell(Event::Committed(Ok(None)));
    assert_eq!(world.report().failure, Some(FailureKind::TimedOut));
}

#[test]
fn a_clock_that_leaps_and_a_machine_that_slept_end_no_attempt() {
    let mut world = World::running(order());
    assert_eq!(world.wait(20_000), Vec::<String>::new());
    world.now += 7_200_000;
    world.machine.handle_timeout(at(world.now));
    assert_eq!(world.effects(), ["beat Running", "look"]);
    assert_eq!(world.wait(34_000), Vec::<String>::new());
    assert_eq!(world.wait(10_000), ["signal Term"], "the limit itself holds");
}

#[test]
fn endless_checks_reach_the_time_limit_too() {
    let mut world = World::running(order());
    world.tell(Event::Ran(Box::default()));
    world.tell(Event::Committed(Ok(Some(commit()))));
    assert_eq!(world.wait(60_000), ["signal Term"]);
    world.tell(Event::Checked(Ok(vec![CheckResult { exit_code: None, ..passed() }])));
    assert_eq!(world.report().failure, Some(FailureKind::TimedOut));
}

#[test]
fn a_cancelled_order_is_ended_within_a_second_and_never_reported() {
    let mut world = World::running(order());
    assert_eq!(world.tell(Event::OrderGone(order().id)), ["signal Term"]);
    assert_eq!(world.wait(1_000), ["signal Kill"]);
    assert_eq!(world.tell(Event::Ran(Box::default())), ["beat Committing", "commit Salvage"]);
    assert_eq!(world.tell(Event::Committed(Ok(Some(commit())))), ["beat Reporting", "clear"]);
    assert_eq!(world.tell(Event::Cleared), ["beat Idle", "lease"]);
    assert!(world.reports.is_empty());
}

#[test]
fn news_of_another_order_changes_nothing() {
    let mut world = World::running(order());
    let other: EnvelopeId = "01KAPZ3XZ00000000000000009".parse().unwrap();
    assert_eq!(world.tell(Event::OrderGone(other)), Vec::<String>::new());
}

#[test]
fn a_stop_ends_the_program_and_makes_no_report() {
    let mut world = World::running(order());
    assert_eq!(world.tell(Event::StopRequested), ["signal Term"]);
    assert_eq!(world.wait(5_000), ["signal Kill"]);
    assert_eq!(world.tell(Event::Ran(Box::default())), ["beat Stopped", "exit"]);
    assert_eq!(world.machine.poll_timeout(), None);
}

#[test]
fn a_stop_is_over_at_its_timeout_whatever_happens() {
    for prepare in [false, true] {
        let mut world = if prepare { World::with(order()) } else { World::running(order()) };
        world.tell(Event::StopRequested);
        assert_eq!(world.wait(10_000).last().map(String::as_str), Some("exit"));
    }
}

#[test]
fn a_stop_has_its_time_also_when_the_clock_leaps() {
    let mut world = World::running(order());
    assert_eq!(world.tell(Event::StopRequested), ["signal Term"]);
    world.now += 7_200_000;
    world.machine.handle_timeout(at(world.now));
    assert_eq!(world.effects(), ["beat Running", "look"]);
    assert_eq!(world.wait(5_000), ["signal Kill"], "the program has the rest of its time");
    assert_eq!(world.wait(5_000).last().map(String::as_str), Some("exit"));
}

#[test]
fn a_stop_lets_a_report_that_is_under_way_be_acknowledged() {
    let mut world = World::running(order());
    world.tell(Event::Ran(Box::default()));
    world.tell(Event::Committed(Ok(Some(commit()))));
    world.tell(Event::Checked(Ok(vec![passed()])));
    assert_eq!(world.tell(Event::StopRequested), Vec::<String>::new());
    assert_eq!(world.tell(Event::Delivered(Ok(()))), ["ack"]);
    assert_eq!(world.tell(Event::Acked(Ok(()))), ["beat Stopped", "exit"]);
}

#[test]
fn a_lost_announcement_is_found_by_the_sweep_and_an_early_one_is_not_lost() {
    let mut world = World::new();
    world.tell(Event::Ready);
    assert_eq!(world.tell(Event::MailboxChanged), Vec::<String>::new(), "one question at a time");
    assert_eq!(world.tell(Event::Leased(Ok(None))), ["lease"], "it came while we asked: ask again");
    assert_eq!(world.tell(Event::Leased(Ok(None))), Vec::<String>::new());
    assert_eq!(world.wait(5_000), ["lease"]);
}

#[test]
fn it_beats_at_every_interval_and_looks_after_its_order() {
    let mut world = World::running(order());
    world.now = 5_000;
    world.machine.handle_timeout(at(5_000));
    assert_eq!(world.effects(), ["beat Running", "look"]);
}

#[test]
fn without_a_repository_the_work_is_checked_where_it_was_done() {
    let mut scratch = (*order()).clone();
    scratch.workplace = None;
    let mut world = World::running(Arc::new(scratch));
    assert_eq!(world.tell(Event::Ran(Box::default())), ["beat Checking", "check scratch"]);
    world.tell(Event::Checked(Ok(vec![passed()])));
    assert_eq!(world.report().outcome, Outcome::Done);
}

#[test]
fn a_pane_that_only_shows_something_never_asks_for_work() {
    let mut machine = Machine::new(Settings { duty: Duty::Show, ..settings() }, at(0));
    machine.handle_event(Event::Ready, at(0)).unwrap();
    machine.handle_event(Event::MailboxChanged, at(0)).unwrap();
    machine.handle_timeout(at(60_000));
    let mut effects = std::iter::from_fn(|| machine.poll_effect());
    assert!(effects.all(|effect| matches!(effect, Effect::Beat(_))));
}

#[test]
fn an_answer_to_a_question_that_was_not_asked_is_refused_and_changes_nothing() {
    let mut world = World::running(order());
    let refused = world.machine.handle_event(Event::Delivered(Ok(())), at(0)).unwrap_err();
    assert_eq!(refused.to_string(), "event delivered cannot happen while running");
    assert!(matches!(&world.machine.state, State::Working { stage, .. } if stage.step() == Step::Running));
}

#[test]
fn frozen_it_beats_and_does_nothing_else_and_every_limit_stands_still() {
    let mut world = World::running(order());
    assert_eq!(world.wait(20_000), Vec::<String>::new());
    world.freeze();
    assert_eq!(world.wait(3_600_000), Vec::<String>::new(), "the limit of a minute does not run");
    assert_eq!(world.tell(Event::Thawed(None)), ["look"]);
    assert_eq!(world.wait(39_000), Vec::<String>::new());
    assert_eq!(world.wait(1_000), ["signal Term"], "twenty seconds before the freeze, forty after it");
}

#[test]
fn what_happens_while_it_is_frozen_waits_for_the_thaw() {
    let mut world = World::running(order());
    world.freeze();
    assert_eq!(world.tell(Event::Ran(Box::default())), Vec::<String>::new());
    assert_eq!(world.freeze(), Vec::<String>::new(), "twice is harmless");
    assert_eq!(world.tell(Event::Thawed(None)), ["beat Committing", "commit Proof", "look"]);
    assert_eq!(world.tell(Event::Thawed(None)), Vec::<String>::new(), "twice is harmless");
}

#[test]
fn a_frozen_idle_runner_takes_no_order_until_the_thaw() {
    let mut world = World::new();
    world.freeze();
    assert_eq!(world.tell(Event::Ready), Vec::<String>::new());
    assert_eq!(world.tell(Event::MailboxChanged), Vec::<String>::new());
    assert_eq!(world.tell(Event::Thawed(None)), ["beat Idle", "lease"]);
}

#[test]
fn a_frozen_runner_that_is_told_to_end_does_not_wait_for_the_thaw() {
    let mut world = World::running(order());
    world.freeze();
    let words = world.tell(Event::StopRequested);
    assert!(words.contains(&"signal Term".to_owned()), "{words:?}");
}

#[test]
fn what_fails_on_a_full_disk_is_reported_as_that() {
    let mut world = World::running(order());
    world.tell(Event::DiskFull);
    world.tell(Event::Ran(Box::new(Ran {
        failure: Some(Failure { kind: FailureKind::AgentFailed, reason: "exit 1".to_owned() }),
        ..Ran::default()
    })));
    world.tell(Event::Committed(Err(Trouble("no space left".to_owned()))));
    assert_eq!(world.report().failure, Some(FailureKind::NoSpace));
}

#[test]
fn what_the_program_says_of_its_state_is_what_the_heartbeat_says() {
    let mut world = World::running(order());
    let waiting = Event::Heard(Signal::Waiting { reason: "may I?".to_owned() });
    let words = world.tell(waiting.clone());
    assert!(words.len() == 1 && words[0].starts_with("beat WaitingForHuman"), "{words:?}");
    assert!(words[0].contains("may I?") && words[0].contains("example/hello"), "{words:?}");
    assert_eq!(world.tell(waiting), Vec::<String>::new(), "nothing has changed");
    let limited = Signal::Limited { until: Some(at(9_000)), reason: "enough".to_owned() };
    let words = world.tell(Event::Heard(limited));
    assert!(words.len() == 1 && words[0].starts_with("beat Limited"), "{words:?}");
    assert_eq!(world.tell(Event::Heard(Signal::Busy)), ["beat Running"]);
    assert_eq!(world.tell(Event::Heard(Signal::Busy)), Vec::<String>::new());
    world.tell(Event::Heard(Signal::Waiting { reason: "may I?".to_owned() }));
    assert_eq!(world.tell(Event::Ran(Box::default())), ["beat Committing", "commit Proof"], "it waits no longer");
    assert_eq!(world.tell(Event::Heard(Signal::Over)), Vec::<String>::new(), "late words change nothing");
}

#[test]
fn a_program_that_stays_after_its_turn_is_told_to_end_and_has_not_failed() {
    let mut world = World::running(order());
    assert_eq!(world.tell(Event::Heard(Signal::Over)), Vec::<String>::new());
    assert_eq!(world.wait(4_999), Vec::<String>::new());
    world.tell(Event::Heard(Signal::Over));
    assert_eq!(world.wait(1), ["signal Term"], "counted from the first word");
    world.tell(Event::Ran(Box::default()));
    world.tell(Event::Committed(Ok(Some(commit()))));
    world.tell(Event::Checked(Ok(vec![passed()])));
    assert_eq!(world.report().outcome, Outcome::Done);
}

#[test]
fn a_program_that_goes_on_after_its_turn_is_left_alone() {
    let mut world = World::running(order());
    world.tell(Event::Heard(Signal::Over));
    world.wait(4_000);
    world.tell(Event::Heard(Signal::Busy));
    assert_eq!(world.wait(55_000), Vec::<String>::new());
    assert_eq!(world.wait(1_000), ["signal Term"], "its time limit holds");
}

#[test]
fn a_freeze_that_came_and_went_between_two_looks_costs_nobody_its_time() {
    let mut world = World::running(order());
    world.wait(20_000);
    world.tell(Event::Thawed(None));
    world.now += 8_000;
    let past = Event::Thawed(Some(PastFreeze { since: at(21_000), until: at(27_000) }));
    assert_eq!(world.tell(past.clone()), Vec::<String>::new());
    assert_eq!(world.tell(past), Vec::<String>::new(), "what was made up for is not made up for again");
    assert_eq!(world.wait(37_999), Vec::<String>::new());
    assert_eq!(world.wait(1), ["signal Term"], "sixty seconds, of which six are not counted");
}

#[test]
fn a_freeze_of_a_time_to_which_the_clock_was_set_back_stops_no_limit() {
    // It was over when the runner began, on a clock that was set back since.
    let past = Event::Thawed(Some(PastFreeze { since: at(5_000), until: at(3_600_000) }));
    let mut world = World::running(order());
    world.tell(past.clone());
    for _ in 0..10 {
        assert_eq!(world.wait(2_000), Vec::<String>::new());
        assert_eq!(world.tell(past.clone()), Vec::<String>::new());
    }
    assert_eq!(world.wait(39_999), Vec::<String>::new());
    assert_eq!(world.wait(1), ["signal Term"], "its limit of sixty seconds has run all the while");
}

#[test]
fn a_mark_that_is_seen_late_costs_nobody_the_time_before() {
    let mut world = World::running(order());
    world.wait(20_000);
    world.tell(Event::Thawed(None));
    world.now += 5_000;
    assert_eq!(world.tell(Event::Frozen(at(20_001))), Vec::<String>::new());
    world.now += 1_000;
    world.tell(Event::Thawed(None));
    assert_eq!(world.wait(39_998), Vec::<String>::new());
    assert_eq!(world.wait(1), ["signal Term"]);
}
