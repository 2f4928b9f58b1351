//! How fast is written: the buckets are the journal's, so a restart empties none.

use std::time::Duration;

use miyabi::model::github::WriteKind;

use super::octo::Fault;
use super::world::{TEAM, World};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn no_bucket_overflows_though_the_supervisor_is_killed_after_every_write() {
    let pace = "write_interval = \"1s\"\nwrites_per_minute = 3\nwrites_per_hour = 20\n";
    let team = TEAM.replace("poll = \"10s\"", "poll = \"5m\"").replace("reconcile = \"1m\"", "reconcile = \"10m\"");
    let mut world = World::new(&format!("{team}{pace}")).await;
    for number in 1..=6 {
        world.octo.issue(number);
    }
    while world.octo.state().pulls.len() < 6 || world.core().github_view(world.now).writes.waiting > 0 {
        let before = world.writes.len();
        world.pass(Duration::from_secs(20)).await;
        if world.writes.len() > before {
            world.kill();
        }
        assert!(world.writes.len() < 100, "the work goes on");
    }
    let begun: Vec<_> = world.writes.iter().map(|(at, _)| *at).collect();
    assert!(begun.len() >= 18, "{}", begun.len());
    assert!(begun.windows(2).all(|two| two[1].since(two[0]) >= Duration::from_secs(1)), "{begun:?}");
    for (window, most) in [(MINUTE, 3), (60 * MINUTE, 20)] {
        for (index, first) in begun.iter().enumerate() {
            let within = begun[index..].iter().take_while(|at| at.since(*first) <= window).count();
            assert!(within <= most, "{within} writes within {window:?}");
        }
    }
}

#[tokio::test]
async fn a_claim_that_an_agent_waits_for_is_not_held_up_by_what_is_said_of_others() {
    let second = TEAM.replacen(
        "\n[[repository]]",
        "\n[[agent]]\nid = \"sakura\"\nrole = \"codegen\"\ndriver = \"echo\"\n\n[[repository]]",
        1,
    );
    let mut world = World::new(&second).await;
    world.octo.issue(7);
    world.octo.issue(8);
    world.until("both are published", |world| world.octo.state().pulls.len() == 2).await;
    let kinds: Vec<WriteKind> = world.writes.iter().map(|(_, kind)| *kind).take(3).collect();
    assert_eq!(kinds, [WriteKind::Claim, WriteKind::Claim, WriteKind::Publish], "{:?}", world.writes);
    let wait = world.writes[1].0.since(world.writes[0].0);
    assert_eq!(wait, Duration::from_secs(1), "the second agent begins as soon as anything may be written");
}

#[tokio::test]
async fn pull_requests_that_are_merged_at_once_are_followed_together() {
    let mut world = World::new(TEAM).await;
    for number in 1..=5 {
        world.octo.issue(number);
    }
    world.until("all are published", |world| world.octo.state().pulls.len() == 5).await;
    world.settle().await;
    let merge = |world: &World, number: u64| {
        let branch = format!("auto-code/issue-{number}");
        let pull = world.octo.state().pulls.values().find(|pull| pull["head"]["ref"] == branch.as_str()).cloned();
        world.octo.merge(pull.unwrap()["number"].as_u64().unwrap(), number);
    };
    world.held = Some(Vec::new());
    for number in 1..=3 {
        merge(&world, number);
    }
    world.until("they are followed", |world| world.followed > 0).await;
    for number in 4..=5 {
        merge(&world, number);
    }
    world.pass(MINUTE).await;
    assert_eq!(world.followed, 1, "two on one branch would be in each other's way");
    world.let_go();
    world.until("all are done", |world| (1..=5).all(|number| world.is_done(number))).await;
    assert_eq!(world.followed, 2, "what was merged too late to be sure is asked for once more");
}

#[tokio::test]
async fn a_wait_that_github_asks_for_stops_questions_and_writes_and_grows_when_no_time_is_named() {
    let mut world = World::new(TEAM).await;
    world.octo.issue(7);
    let said = serde_json::json!({"message": "You have exceeded a secondary rate limit"});
    let mut waits = Vec::new();
    for _ in 0..3 {
        world.octo.break_next("POST", "/pulls", Fault::Instead(403, Vec::new(), said.clone()));
    }
    for times in 1..=3 {
        world
            .until("it is limited", |world| {
                let refused = world.octo.state().log.iter().filter(|(_, _, status)| *status == 403).count();
                refused == times
            })
            .await;
        world.until("it knows", |world| world.core().github_view(world.now).paused_until.is_some()).await;
        let view = world.core().github_view(world.now);
        let (asked, began) = (world.octo.state().log.len(), world.now);
        let until = view.paused_until.unwrap();
        world.pass(until.since(began) - Duration::from_millis(1)).await;
        if world.now < until {
            assert_eq!(world.octo.state().log.len(), asked, "nothing is asked meanwhile");
        }
        waits.push(until.since(began).as_secs());
    }
    assert_eq!(waits, [60, 120, 240], "answered questions in between say nothing of writes");
    world.until("it goes on", |world| world.octo.state().pulls.len() == 1).await;
}

#[tokio::test]
async fn five_thousand_open_issues_are_in_force_after_one_round_of_fifty_pages() {
    let mut world = World::new(TEAM).await;
    for number in 1..=5_000 {
        world.octo.issue(number);
    }
    world.until("all are in force", |world| world.core().durable().tasks.len() == 5_000).await;
    assert_eq!(world.octo.lists(), 50);
}
