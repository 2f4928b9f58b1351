//! What answers from GitHub mean, told to the core by hand.

use std::collections::BTreeMap;
use std::path::Path;

use miyabi::core::Core;
use miyabi::core::effect::Effect;
use miyabi::core::event::{Event, FileRead};
use miyabi::core::github::{GithubEffect, GithubEvent};
use miyabi::core::state::{Durable, Phase};
use miyabi::model::beat::{Activity, Beat};
use miyabi::model::github::{Association, Delivery, Discover, Found, Issue, IssueRef, Reach, Trouble, Watch};
use miyabi::model::id::{AgentId, Incarnation, RepositoryName, RepositorySlug, TaskId};
use miyabi::model::order::WorkOrder;
use miyabi::model::report::REPORT_SCHEMA;
use miyabi::model::request::{Request, RequestId};
use miyabi::model::time::Timestamp;
use miyabi::model::watching::WatchFaults;

const TEAM: &str = r#"
[[agent]]
id = "kaede"
role = "codegen"
driver = "echo"

[[repository]]
path = "app"
github = "octo/app"
merge = "pull-request"

[github]
poll = "1m"
reconcile = "5m"
claim = "none"
"#;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + seconds * 1_000)
}

fn app() -> RepositoryName {
    RepositoryName::new("app").unwrap()
}

fn issue(number: u64) -> Issue {
    Issue {
        number,
        title: "Say hello".to_owned(),
        body: String::new(),
        open: true,
        labels: vec!["auto-code".to_owned()],
        author: "alice".to_owned(),
        association: Association::Owner,
        labelled_by: None,
        blocked_by: Vec::new(),
        sub_issues: Vec::new(),
        merged: false,
        updated_at: "2026-01-01T00:00:00Z".to_owned(),
    }
}

/// Lets time pass and returns what GitHub is asked.
fn asked(core: &mut Core, now: Timestamp) -> Vec<Discover> {
    core.handle_timeout(now);
    let mut asked = Vec::new();
    while let Some(effect) = core.poll_effect() {
        if let Effect::Github(effect) = effect
            && let GithubEffect::Discover { what, .. } = *effect
        {
            asked.push(what);
        }
    }
    asked
}

fn answer(core: &mut Core, question: &Discover, issues: Vec<Issue>, now: Timestamp) {
    let found = Found {
        issues,
        comments: Vec::new(),
        pulls: Vec::new(),
        reviews: Vec::new(),
        since: "2026-01-01T00:00:00Z".to_owned(),
    };
    let event =
        GithubEvent::Discovered { repository: app(), asked: question.asked, found: Ok(Box::new(found)), quota: None };
    core.handle_event(Event::Github(Box::new(event)), now);
}

fn is_cancelled(core: &Core, number: u64) -> bool {
    let task = TaskId::new(format!("app/issue-{number}")).unwrap();
    matches!(core.durable().tasks[&task].phase, Phase::Cancelled { .. })
}

fn started() -> Core {
    let plan = miyabi::config::agents::parse("agents.toml", TEAM, Path::new("/root")).unwrap();
    let mut core = Core::restore(plan, Durable::default(), at(0));
    core.handle_event(Event::Started { panes: Vec::new(), orders: BTreeMap::new() }, at(0));
    core
}

#[test]
fn only_what_was_asked_for_everything_says_that_an_issue_is_gone() {
    let mut core = started();
    let first = asked(&mut core, at(1)).remove(0);
    assert_eq!(first.reach, Reach::All);
    answer(&mut core, &first, vec![issue(1), issue(2)], at(2));

    // Asked before everything is due, answered after: what it does not name has only not changed.
    let part = asked(&mut core, at(290)).remove(0);
    assert_eq!(part.reach, Reach::Since("2026-01-01T00:00:00Z".to_owned()));
    answer(&mut core, &part, vec![issue(3)], at(310));
    assert!((1..=3).all(|number| !is_cancelled(&core, number)));

    let all = asked(&mut core, at(311)).remove(0);
    assert_eq!(all.reach, Reach::All, "what became due meanwhile is not put off");
    answer(&mut core, &all, vec![issue(2), issue(3)], at(312));
    assert!(is_cancelled(&core, 1) && !is_cancelled(&core, 2) && !is_cancelled(&core, 3));
}

#[test]
fn an_answer_that_nobody_waits_for_any_more_changes_nothing() {
    let mut core = started();
    let slow = asked(&mut core, at(1)).remove(0);
    assert_eq!(asked(&mut core, at(100)), Vec::new(), "one question at a time");
    let again = asked(&mut core, at(700)).remove(0);
    answer(&mut core, &again, vec![issue(1)], at(701));
    answer(&mut core, &slow, vec![], at(702));
    assert!(!is_cancelled(&core, 1));
    answer(&mut core, &again, vec![], at(703));
    assert!(!is_cancelled(&core, 1), "an answer counts once");
}

#[test]
fn an_issue_waits_for_a_blocker_that_is_closed_until_its_work_is_on_our_branch() {
    let mut core = started();
    let blocked = |by: &[u64]| {
        let slug: RepositorySlug = "octo/app".parse().unwrap();
        let blocked_by = by.iter().map(|number| IssueRef { slug: slug.clone(), number: *number }).collect();
        Issue { blocked_by, ..issue(2) }
    };
    let needs = |core: &Core| core.durable().tasks[&TaskId::new("app/issue-2").unwrap()].spec.needs.len();
    let first = asked(&mut core, at(1)).remove(0);
    answer(&mut core, &first, vec![issue(1), blocked(&[1])], at(2));
    assert_eq!(needs(&core), 1);

    let mut durable = core.durable().clone();
    let blocker = TaskId::new("app/issue-1").unwrap();
    durable.tasks.get_mut(&blocker).unwrap().phase = Phase::Merging { parked: None };
    let mut core = Core::restore(core.plan().clone(), durable, at(3));
    core.handle_event(Event::Started { panes: Vec::new(), orders: BTreeMap::new() }, at(3));
    let next = asked(&mut core, at(4)).remove(0);
    answer(&mut core, &next, vec![blocked(&[])], at(5));
    assert_eq!(needs(&core), 1, "its pull request is merged, and our branch does not have it yet");

    let mut durable = core.durable().clone();
    durable.tasks.get_mut(&blocker).unwrap().phase = Phase::Done { at: at(6), commit: None };
    let mut core = Core::restore(core.plan().clone(), durable, at(6));
    core.handle_event(Event::Started { panes: Vec::new(), orders: BTreeMap::new() }, at(6));
    let last = asked(&mut core, at(7)).remove(0);
    answer(&mut core, &last, vec![blocked(&[])], at(8));
    assert_eq!(needs(&core), 0);
}

#[test]
fn while_a_question_is_under_way_no_other_is_asked_so_that_an_older_answer_undoes_no_newer_one() {
    let looks = |core: &mut Core| {
        let effects = std::iter::from_fn(|| core.poll_effect());
        let looks = effects.filter(
            |effect| matches!(effect, Effect::Github(effect) if matches!(**effect, GithubEffect::LookAt { .. })),
        );
        looks.count()
    };
    let hint = |id: &str| {
        let delivery = Delivery { id: id.to_owned(), slug: "octo/app".parse().unwrap(), numbers: vec![1] };
        Event::Github(Box::new(GithubEvent::Hinted(delivery)))
    };
    let mut core = started();
    let question = asked(&mut core, at(1)).remove(0);
    core.handle_event(hint("a"), at(2));
    assert_eq!(looks(&mut core), 0, "what it asks for may be older than the hint");
    answer(&mut core, &question, vec![issue(1)], at(3));
    assert_eq!(looks(&mut core), 1);
    assert_eq!(asked(&mut core, at(70)), Vec::new(), "a poll waits for the look that is under way");
}

/// What the core wants done: single issues that it asks for, and tasks that it begins. Rounds find at once that nothing has changed.
#[expect(clippy::wildcard_enum_match_arm, reason = "of the effects only these matter here")]
fn wanted(core: &mut Core) -> (Vec<Watch>, Vec<String>) {
    let (mut watches, mut begun) = (Vec::new(), Vec::new());
    while let Some(effect) = core.poll_effect() {
        match effect {
            Effect::Github(effect) => match *effect {
                GithubEffect::Watch { what } => watches.push(what),
                // A round says nothing of an issue that was not changed.
                GithubEffect::Discover { what, .. } => answer(core, &what, Vec::new(), what.asked),
                _ => {}
            },
            Effect::DeliverOrder(order) => begun.push(order.task.to_string()),
            _ => {}
        }
    }
    (watches, begun)
}

fn one(text: &str) -> IssueRef {
    let (slug, number) = text.split_once('#').unwrap();
    IssueRef { slug: slug.parse().unwrap(), number: number.parse().unwrap() }
}

fn tell(core: &mut Core, watch: &Watch, found: Result<Issue, Trouble>, now: Timestamp) -> (Vec<Watch>, Vec<String>) {
    let found = vec![(watch.issues[0].issue.clone(), found.map(Box::new))];
    let event = GithubEvent::Watched { asked: watch.asked, found, quota: None };
    core.handle_event(Event::Github(Box::new(event)), now);
    wanted(core)
}

/// The agent says that it is there and idle.
fn beat(core: &mut Core, seconds: i64) {
    let (agent, incarnation, now) = (AgentId::new("kaede").unwrap(), Incarnation(1), at(seconds));
    let (sequence, activity, watching) = (seconds.unsigned_abs(), Activity::Idle, WatchFaults::default());
    let beat = Beat { agent, incarnation, pid: 1, sequence, at: now, activity, progress: None, watching };
    core.handle_event(Event::BeatsSeen(vec![beat]), now);
}

/// A core that has read an issue, and whose only agent comes up minutes later.
fn with_a_late_agent() -> (Core, Watch) {
    let mut core = started();
    let first = asked(&mut core, at(1)).remove(0);
    answer(&mut core, &first, vec![issue(1)], at(2));
    let branches = [(app(), Ok("main".to_owned()))].into();
    core.handle_event(Event::DagRead { files: Vec::new(), branches }, at(2));
    wanted(&mut core);
    let (agent, incarnation) = (AgentId::new("kaede").unwrap(), Incarnation(1));
    let pane = "%1".to_owned();
    core.handle_event(Event::PaneSpawned { agent: agent.clone(), incarnation, pane, pid: 1 }, at(2));
    beat(&mut core, 200);
    let (mut watches, begun) = wanted(&mut core);
    assert_eq!(begun, Vec::<String>::new(), "nobody knows how the issue stands by now");
    let watch = watches.pop().expect("the issue is asked for");
    assert!(watches.is_empty() && watch.issues.len() == 1, "{watch:?}");
    assert_eq!((watch.issues[0].issue.clone(), watch.issues[0].closely), (one("octo/app#1"), true));
    (core, watch)
}

#[test]
fn an_issue_is_asked_for_again_right_before_its_task_is_begun() {
    let (mut core, watch) = with_a_late_agent();
    assert_eq!(tell(&mut core, &watch, Ok(issue(1)), at(201)).1, ["app/issue-1"]);

    let (mut core, watch) = with_a_late_agent();
    let closed = Issue { open: false, ..issue(1) };
    assert_eq!(tell(&mut core, &watch, Ok(closed), at(201)).1, Vec::<String>::new());
    assert!(is_cancelled(&core, 1));
}

#[test]
fn a_blocker_in_another_repository_is_watched_until_it_is_closed() {
    let (mut core, watch) = with_a_late_agent();
    let blocked = Issue { blocked_by: vec![one("other/lib#9")], ..issue(1) };
    let (mut watches, begun) = tell(&mut core, &watch, Ok(blocked), at(201));
    assert_eq!(begun, Vec::<String>::new());
    let lib = watches.pop().expect("the blocker is asked for");
    assert_eq!((lib.issues[0].issue.clone(), lib.issues[0].closely), (one("other/lib#9"), false));
    let (_, begun) = tell(&mut core, &lib, Ok(Issue { labels: Vec::new(), ..issue(9) }), at(202));
    assert_eq!(begun, Vec::<String>::new(), "it is open");
    let task = TaskId::new("app/issue-1").unwrap();
    assert_eq!(core.why(&task), ["needs other.lib/issue-9, which is open (other/lib#9) (blocked by, on GitHub)"]);
    for seconds in (205..265).step_by(5) {
        beat(&mut core, seconds);
    }
    let stale = wanted(&mut core);
    assert_eq!((stale.0.len(), stale.1.len()), (0, 0), "nothing is begun, and nothing asked for before its time");
    core.handle_timeout(at(264));
    let (mut watches, _) = wanted(&mut core);
    let again = watches.pop().expect("it is asked for each minute");
    let (mut watches, begun) = tell(&mut core, &again, Ok(Issue { open: false, ..issue(9) }), at(264));
    assert_eq!(begun, Vec::<String>::new(), "what is known of the issue itself is a minute old");
    let own = watches.pop().expect("the issue is asked for once more");
    assert_eq!(tell(&mut core, &own, Ok(issue(1)), at(265)).1, ["app/issue-1"]);
}

#[test]
fn a_task_waits_as_long_as_github_does_not_say_how_its_issue_stands() {
    let (mut core, watch) = with_a_late_agent();
    let trouble = Trouble::Unsure { reason: "no answer".to_owned() };
    let (watches, begun) = tell(&mut core, &watch, Err(trouble), at(201));
    assert_eq!((watches.len(), begun.len()), (0, 0), "it is not asked for without a pause");
    let why = core.why(&TaskId::new("app/issue-1").unwrap()).join("\n");
    assert!(
        why.contains("waits until GitHub says how it stands with app/issue-1") && why.contains("no answer"),
        "{why}"
    );
    for seconds in (205..265).step_by(5) {
        beat(&mut core, seconds);
    }
    let stale = wanted(&mut core);
    assert_eq!((stale.0.len(), stale.1.len()), (0, 0), "nothing is begun, and nothing asked for before its time");
    core.handle_timeout(at(264));
    let (mut watches, _) = wanted(&mut core);
    let again = watches.pop().expect("it is asked for again");
    assert_eq!(tell(&mut core, &again, Ok(issue(1)), at(265)).1, ["app/issue-1"]);
}

#[test]
fn of_a_repository_that_is_asked_for_single_issues_nothing_else_is_asked_meanwhile() {
    let (mut core, watch) = with_a_late_agent();
    let beats = |core: &mut Core, from: i64, to: i64| (from..=to).step_by(5).for_each(|seconds| beat(core, seconds));
    beats(&mut core, 205, 260);
    assert_eq!(asked(&mut core, at(261)), Vec::new(), "a round that is due waits for the answer");
    assert!(core.poll_timeout().unwrap().0 > at(261), "nothing is due at once, again and again");
    let trouble = Trouble::Unsure { reason: "no answer".to_owned() };
    assert_eq!(tell(&mut core, &watch, Err(trouble), at(262)).0, Vec::new());

    beats(&mut core, 265, 325);
    let round = asked(&mut core, at(326)).remove(0);
    core.handle_timeout(at(327));
    assert_eq!(wanted(&mut core), (Vec::new(), Vec::new()), "single issues wait for the round");
    assert!(core.poll_timeout().unwrap().0 > at(327));
    answer(&mut core, &round, vec![issue(1)], at(328));
    assert_eq!(wanted(&mut core).1, ["app/issue-1"], "it has told how the issue stands");
}

/// A core that follows a dependency file, and the first question about the issue that the file lists.
fn following(text: &str) -> (Core, Watch) {
    let mut core = started();
    let file = miyabi::config::dag::parse("dag/plan.yaml", text, core.plan()).unwrap();
    let branches = [(app(), Ok("main".to_owned()))].into();
    core.handle_event(Event::DagRead { files: vec![FileRead::Good(file)], branches }, at(1));
    let watch = wanted(&mut core).0.pop().expect("no round of what has the label tells of it");
    assert_eq!(watch.issues[0].issue, one("octo/app#7"));
    (core, watch)
}

#[test]
fn an_issue_that_a_file_lists_is_work_without_the_label_until_somebody_closes_it() {
    let plain = |open: bool| Issue { labels: Vec::new(), open, ..issue(7) };
    let (mut core, watch) = following("issues:\n  7: {}\ntasks:\n  after: {run: make, needs: 7}\n");
    assert!(watch.issues[0].closely);
    tell(&mut core, &watch, Ok(plain(true)), at(2));
    let after = TaskId::new("plan/after").unwrap();
    assert!(!is_cancelled(&core, 7));
    assert!(core.why(&after).join("\n").contains("app/issue-7"), "{:?}", core.why(&after));

    let all = asked(&mut core, at(302)).remove(0);
    assert_eq!((&all.reach, all.listed.contains(&7)), (&Reach::All, true));
    answer(&mut core, &all, Vec::new(), at(303));
    assert!(!is_cancelled(&core, 7), "that it has no label is nothing new");
    let again = wanted(&mut core).0.pop().expect("it is asked for by itself as often as everything is");
    tell(&mut core, &again, Ok(plain(true)), at(304));
    let part = asked(&mut core, at(370)).remove(0);
    answer(&mut core, &part, vec![plain(true)], at(371));
    assert!(!is_cancelled(&core, 7));
    let part = asked(&mut core, at(440)).remove(0);
    answer(&mut core, &part, vec![plain(false)], at(441));
    assert!(is_cancelled(&core, 7), "somebody has closed it");
    assert!(!core.why(&after).join("\n").contains("app/issue-7"), "{:?}", core.why(&after));
}

#[test]
fn a_round_says_also_of_a_listed_issue_whether_a_merged_pull_request_has_closed_it() {
    let text = "issues:\n  7: {external: true, resolved_when: merged}\ntasks:\n  after: {run: make, needs: 7}\n";
    let (mut core, watch) = following(text);
    let closed = Issue { open: false, labels: Vec::new(), merged: true, ..issue(7) };
    tell(&mut core, &watch, Ok(closed.clone()), at(2));
    let is_resolved = |core: &Core| core.durable().github.resolved.contains_key(&TaskId::new("app/issue-7").unwrap());
    assert!(is_resolved(&core));
    let part = asked(&mut core, at(62)).remove(0);
    assert_eq!((part.listed.contains(&7), part.by_merge.contains(&7)), (false, true), "nobody here works on it");
    answer(&mut core, &part, vec![closed], at(63));
    assert!(is_resolved(&core));
}

/// What the core wants done with the results and the orders of tasks.
#[expect(clippy::wildcard_enum_match_arm, reason = "of the effects only these matter here")]
fn looks_and_orders(core: &mut Core) -> (usize, Vec<WorkOrder>) {
    let (mut looks, mut orders) = (0, Vec::new());
    while let Some(effect) = core.poll_effect() {
        match effect {
            Effect::FindResult(_) => looks += 1,
            Effect::DeliverOrder(order) => orders.push(*order),
            _ => {}
        }
    }
    (looks, orders)
}

#[test]
fn an_earlier_result_is_taken_for_an_issue_only_when_github_has_said_how_that_stands() {
    let (mut core, watch) = following("issues:\n  7: {cache: true, no_change: ok}\n");
    let (agent, incarnation, pane) = (AgentId::new("kaede").unwrap(), Incarnation(1), "%1".to_owned());
    core.handle_event(Event::PaneSpawned { agent, incarnation, pane, pid: 1 }, at(1));
    beat(&mut core, 2);
    let found = vec![(one("octo/app#7"), Ok(Box::new(issue(7))))];
    let event = GithubEvent::Watched { asked: watch.asked, found, quota: None };
    core.handle_event(Event::Github(Box::new(event)), at(3));
    let order = looks_and_orders(&mut core).1.remove(0);
    let report = serde_json::from_value(serde_json::json!({
        "schema": REPORT_SCHEMA, "order": order.id, "task": order.task, "run": order.run, "stage": order.stage,
        "attempt": 1, "agent": order.agent, "incarnation": 1, "outcome": "no_change", "summary": "as it should be",
        "base": "b", "started_at": at(3), "ended_at": at(4),
    }));
    let receipt = "r".to_owned();
    core.handle_event(Event::ReportArrived { report: Box::new(report.unwrap()), receipt }, at(4));
    let task = TaskId::new("app/issue-7").unwrap();
    assert!(matches!(core.durable().tasks[&task].phase, Phase::Done { .. }), "{:?}", core.durable().tasks[&task].phase);
    assert_eq!(core.durable().results.len(), 1);
    for seconds in (5..200).step_by(5) {
        beat(&mut core, seconds);
        wanted(&mut core);
    }

    let id = RequestId(1);
    let request = Request::TaskRetry { task: task.clone(), no_cache: false };
    core.handle_event(Event::Asked { id, request, branches: [(app(), Ok("main".to_owned()))].into() }, at(200));
    let mut watches = Vec::new();
    while let Some(effect) = core.poll_effect() {
        assert!(!matches!(effect, Effect::FindResult(_)), "nobody knows how the issue stands by now");
        if let Effect::Github(effect) = effect
            && let GithubEffect::Watch { what } = *effect
        {
            watches.push(what);
        }
    }
    let watch = watches.pop().expect("the issue is asked for");
    let found = vec![(one("octo/app#7"), Ok(Box::new(issue(7))))];
    let event = GithubEvent::Watched { asked: watch.asked, found, quota: None };
    core.handle_event(Event::Github(Box::new(event)), at(201));
    assert_eq!(looks_and_orders(&mut core).0, 1, "it is still open, and its result is looked for");
}
