//! What the core does with what webhooks name: it looks at once, and a hint that cannot be followed costs no more than a poll.

use std::time::Duration;

use miyabi::model::github::Delivery;

use super::octo::{Fault, Side};
use super::world::{TEAM, World};

fn delivery(id: &str, slug: &str, numbers: &[u64]) -> Delivery {
    Delivery { id: id.to_owned(), slug: slug.parse().unwrap(), numbers: numbers.to_vec() }
}

/// A world that was asked everything once and will not ask again for an hour.
async fn at_rest() -> World {
    let team = TEAM.replace("poll = \"10s\"", "poll = \"1h\"").replace("reconcile = \"1m\"", "reconcile = \"1h\"");
    let mut world = World::new(&team).await;
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.octo.lists(), 1, "everything was asked for once");
    world
}

#[tokio::test]
async fn what_a_webhook_names_is_looked_at_at_once_and_settled_when_it_is_recorded() {
    let mut world = at_rest().await;
    world.octo.issue(7);
    let before = world.now;
    world.hint(delivery("a", "Octo/App", &[7]));
    world.until("the work has begun", |world| world.delivered.len() == 1).await;
    assert_eq!(world.now, before, "nobody waits for a poll");
    let looks = |world: &World| {
        let state = world.octo.state();
        state.log.iter().filter(|(_, path, _)| path == "/repos/octo/app/issues/7").count()
    };
    assert_eq!(looks(&world), 1);
    assert_eq!(world.settled, ["a"]);
    // Told once more, it is looked at once more, and nothing is done twice.
    world.hint(delivery("a", "octo/app", &[7]));
    world.until("it is looked at again", |world| world.settled.len() == 2).await;
    world.settle().await;
    assert_eq!((world.delivered.len(), world.octo.state().pulls.len()), (1, 1));
}

#[tokio::test]
async fn a_closed_issue_a_comment_and_a_review_come_the_same_way() {
    let mut world = at_rest().await;
    world.octo.issue(7);
    world.hint(delivery("opened", "octo/app", &[7]));
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    world.octo.review("alice", "OWNER", "CHANGES_REQUESTED", "louder", &[]);
    let before = world.now;
    world.hint(delivery("reviewed", "octo/app", &[500]));
    world.until("the round has begun", |world| world.delivered.len() == 2).await;
    assert!(world.now.since(before) < Duration::from_secs(5), "nobody waits for a poll");
    world.settle().await;
    world.octo.merge(500, 7);
    world.hint(delivery("merged", "octo/app", &[500]));
    world.until("it is done", |world| world.is_done(7)).await;
    assert_eq!(world.octo.lists(), 1, "no poll was needed");
}

#[tokio::test]
async fn what_is_of_no_use_is_settled_and_what_cannot_be_followed_is_left_to_a_poll_that_is_due_at_once() {
    let mut world = at_rest().await;
    world.hint(delivery("other", "somebody/else", &[1]));
    world.hint(delivery("gone", "octo/app", &[999]));
    world.until("both are settled", |world| world.settled.len() == 2).await;
    assert_eq!(world.delivered.len(), 0);

    world.octo.issue(7);
    world.octo.break_next("GET", "/issues/7", Fault::Instead(502, Vec::new(), serde_json::json!({"message": "x"})));
    let before = world.now;
    world.hint(delivery("broken", "octo/app", &[7]));
    world.until("the work has begun", |world| world.delivered.len() == 1).await;
    assert!(world.now.since(before) < Duration::from_secs(1), "the poll is due at once");
    assert_eq!(world.settled.last().map(String::as_str), Some("broken"));
}

#[tokio::test]
async fn a_flood_of_hints_costs_a_bounded_number_of_questions() {
    let mut world = at_rest().await;
    for number in 1..=2_000 {
        world.hint(delivery(&format!("d{number}"), "octo/app", &[number % 700]));
    }
    let before = world.octo.state().log.len();
    world.until("all are settled", |world| world.settled.len() == 2_000).await;
    world.pass(Duration::from_secs(60)).await;
    let asked = world.octo.state().log.len() - before;
    assert!(asked < 300, "{asked} questions");
}

#[tokio::test]
async fn a_kill_between_keeping_and_handling_has_it_looked_at_again_and_nothing_done_twice() {
    for (step, side) in [
        ("GET /issues/N", Side::Before),
        ("GET /issues/N", Side::After),
        ("record task-accepted", Side::Before),
        ("record task-accepted", Side::After),
    ] {
        let mut world = at_rest().await;
        world.octo.issue(7);
        let name = step.to_owned();
        world.octo.state().points.kill_named = Some((name, side));
        world.hint(delivery("a", "octo/app", &[7]));
        world.until("it was killed", |world| world.kills == 1).await;
        assert!(world.settled.is_empty(), "{side:?} {step}");
        // What was kept is told again to the one that comes back.
        world.hint(delivery("a", "octo/app", &[7]));
        world.until("it is settled", |world| world.settled == ["a"]).await;
        world.settle().await;
        world.until("it is published", |world| world.octo.state().pulls.len() == 1).await;
        assert_eq!(world.delivered.len(), 1, "{side:?} {step}");
    }
}
