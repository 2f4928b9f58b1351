//! What answers from GitHub mean, told to the core by hand.

use std::collections::BTreeMap;
use std::path::Path;

use miyabi::core::Core;
use miyabi::core::effect::Effect;
use miyabi::core::event::Event;
use miyabi::core::github::{GithubEffect, GithubEvent};
use miyabi::core::state::{Durable, Phase};
use miyabi::model::github::{Association, Delivery, Discover, Found, Issue, IssueRef, Reach};
use miyabi::model::id::{RepositoryName, RepositorySlug, TaskId};
use miyabi::model::time::Timestamp;

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
