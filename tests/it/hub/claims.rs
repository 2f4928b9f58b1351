//! Claims over the real client: whose comments count, what is waited for, and what a lost claim stops.

use std::time::Duration;

use miyabi::core::state::Phase;
use miyabi::io::github::client::Client;
use miyabi::model::claim::{Claimant, Holder};
use miyabi::model::github::Trouble;
use miyabi::model::id::RunId;

use super::octo::{Fault, Octo, Side, US, slug};
use super::world::{TEAM, World, task};

const MINUTE: Duration = Duration::from_secs(60);
const RUN: &str = "01J0000000000000000000000A";

/// The comment of another orchestra that claims an issue for ten minutes.
fn foreign(over: &str) -> String {
    format!("<!-- miyabi:run={RUN} kind=report --><!-- miyabi:claim=theirs lease=600{over} at=0 -->\nworks on it")
}

fn us() -> Claimant {
    Claimant { orchestra: "ours".parse().unwrap(), run: "01J0000000000000000000000B".parse::<RunId>().unwrap() }
}

fn ours() -> String {
    foreign("").replace("theirs", "ours").replace(RUN, "01J0000000000000000000000B")
}

fn pass(octo: &Octo, minutes: u32) {
    let mut state = octo.state();
    state.now = state.now + minutes * MINUTE;
}

async fn holder(client: &Client) -> Holder {
    client.claims(&slug(), 7).await.unwrap().holder(&us(), None)
}

#[tokio::test]
async fn claims_of_collaborators_apps_and_our_own_account_count_and_nobody_elses() {
    let octo = Octo::start().await;
    octo.issue(7);
    let client = octo.client();
    octo.comment("mallory", "NONE", 7, &foreign(""));
    octo.comment("carol", "CONTRIBUTOR", 7, &foreign(""));
    octo.comment("alice", "OWNER", 7, &format!("> {}", foreign("")));
    assert_eq!(holder(&client).await, Holder::Nobody { over: [].into() });
    for (who, association, kind) in [("alice", "OWNER", "User"), (US, "NONE", "User"), ("app[bot]", "NONE", "Bot")] {
        octo.comment(who, association, 7, &foreign(""));
        octo.state().comments.last_mut().unwrap()["user"]["type"] = kind.into();
        assert!(matches!(holder(&client).await, Holder::Other { .. }), "{who}");
        octo.state().comments.pop();
    }
}

#[tokio::test]
async fn a_claim_is_made_anew_edited_and_looked_at_by_githubs_clock() {
    let octo = Octo::start().await;
    octo.issue(7);
    let client = octo.client();
    let (first, claims) = client.claim(&slug(), 7, None, &ours()).await.unwrap();
    assert_eq!(claims.holder(&us(), Some(&[].into())), Holder::Us { comment: first, left: 10 * MINUTE });
    client.check_claim(&slug(), 7, &us()).await.unwrap();
    // An edit renews it; without one it ends.
    pass(&octo, 9);
    let (edited, _) = client.claim(&slug(), 7, Some(first), &ours()).await.unwrap();
    assert_eq!(edited, first);
    pass(&octo, 9);
    client.check_claim(&slug(), 7, &us()).await.unwrap();
    pass(&octo, 2);
    let refusal = client.check_claim(&slug(), 7, &us()).await.unwrap_err();
    assert!(refusal.to_string().contains("has ended"), "{refusal}");
    octo.comment("alice", "OWNER", 7, &foreign(&format!(" over={first}")));
    let refusal = client.check_claim(&slug(), 7, &us()).await.unwrap_err();
    assert!(refusal.to_string().contains("the orchestra theirs works on its issue"), "{refusal}");
    client.withdraw(&slug(), first).await.unwrap();
    client.withdraw(&slug(), first).await.unwrap();
    assert_eq!(octo.state().comments.len(), 1);
    let deleted = client.claim(&slug(), 7, Some(first), &ours()).await.unwrap_err();
    assert!(matches!(deleted, Trouble::Refused { status: 404, .. }), "{deleted:?}");
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_found_and_made_once() {
    let mut world = World::new(TEAM).await;
    world.octo.issue(7);
    world.octo.break_next("POST", "/issues/7/comments", Fault::After(502));
    world.until("the work has begun", |world| world.delivered.len() == 1).await;
    world.settle().await;
    assert_eq!(world.octo.count("POST", "/issues/7/comments"), 1, "the look finds what the write has made");
    assert_eq!(world.octo.state().comments.len(), 1);
}

#[tokio::test]
async fn an_issue_of_another_orchestra_waits_says_so_and_is_taken_over_only_when_its_lease_is_over() {
    let mut world = World::new(TEAM).await;
    world.octo.issue(7);
    world.octo.comment("other-bot", "MEMBER", 7, &foreign(""));
    let began = world.now;
    world.pass(8 * MINUTE).await;
    assert_eq!((world.delivered.len(), world.octo.count("POST", "/comments")), (0, 0));
    let why = world.core().why(&task(7)).join("\n");
    assert!(why.contains("the orchestra theirs works on its issue; unless it says so again"), "{why}");
    let view = world.core().github_view(world.now);
    assert_eq!(view.claims.len(), 1);
    assert!(!view.claims[0].ours && view.claims[0].orchestra == "theirs" && view.claims[0].until.is_some());
    let route = world.core().explain_route("octo/app#7").unwrap();
    assert!(route.because.iter().any(|line| line.contains("theirs works on its issue")), "{:?}", route.because);

    world.until("it is taken over", |world| world.delivered.len() == 1).await;
    let after = world.now.since(began);
    assert!(after >= 11 * MINUTE && after < 17 * MINUTE, "{after:?}");
    let view = world.core().github_view(world.now);
    assert!(view.claims[0].ours && view.claims[0].orchestra == view.orchestra);
}

#[tokio::test]
async fn a_claim_is_renewed_while_the_pull_request_waits_and_given_up_with_the_last_word() {
    let team = TEAM.replace("poll = \"10s\"", "poll = \"10m\"").replace("reconcile = \"1m\"", "reconcile = \"20m\"");
    let mut world = World::new(&team).await;
    world.octo.issue(7);
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    let ours = |world: &World| world.octo.state().comments[0]["body"].as_str().unwrap().to_owned();
    assert!(ours(&world).contains(" lease=86400 "), "{}", ours(&world));
    let writes = world.writes.len();
    world.pass(Duration::from_hours(30)).await;
    let renewals = world.writes.len() - writes;
    assert!((2..=3).contains(&renewals), "what rests is renewed twice a day: {renewals}");
    world.octo.merge(500, 7);
    world.until("it is done", |world| world.is_done(7)).await;
    world.settle().await;
    assert!(ours(&world).contains(" done "), "done work is left alone by others: {}", ours(&world));
    assert!(world.core().github_view(world.now).claims.is_empty());
}

#[tokio::test]
async fn whoever_has_lost_a_claim_begins_and_publishes_nothing_and_says_so() {
    let mut world = World::new(TEAM).await;
    world.octo.issue(7);
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    let mine = world.octo.state().comments[0]["id"].clone();
    // Another orchestra took the issue over while this one was away.
    world.octo.comment(
        "other-bot",
        "MEMBER",
        7,
        &foreign(&format!(" over={mine}")).replace("lease=600", "lease=86400"),
    );
    world.pass(31 * MINUTE).await;
    let (orders, pushed) = (world.delivered.len(), world.octo.state().branches.clone());
    world.octo.review("alice", "OWNER", "CHANGES_REQUESTED", "louder", &[]);
    world.until("it has stopped", |world| !world.core().durable().alerts.is_empty()).await;
    world.settle().await;
    world.pass(31 * MINUTE).await;
    assert_eq!((world.delivered.len(), world.octo.state().branches.clone()), (orders, pushed));
    let alert = world.core().durable().alerts.values().next().unwrap().text.clone();
    assert!(alert.contains("the orchestra theirs works on its issue: this one has stopped"), "{alert}");
    let why = world.core().why(&task(7)).join("\n");
    assert!(why.contains("the orchestra theirs works on its issue"), "{why}");
    let state = world.octo.state();
    let left: Vec<_> = state.comments.iter().map(|comment| comment["user"]["login"].as_str().unwrap()).collect();
    assert_eq!(left, ["other-bot"], "its own comment is gone, nobody else's is touched");
}

#[tokio::test]
async fn a_comment_that_somebody_deletes_takes_the_claim_with_it_and_it_is_made_again() {
    let mut world = World::new(TEAM).await;
    world.octo.issue(7);
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    world.octo.state().comments.clear();
    world.octo.merge(500, 7);
    world.until("it is done", |world| world.is_done(7)).await;
    world.settle().await;
    let state = world.octo.state();
    assert_eq!(state.comments.len(), 1);
    assert!(state.comments[0]["body"].as_str().unwrap().contains("Done, merged"));
}

#[tokio::test]
async fn a_mistaken_command_is_answered_by_whoever_works_on_the_issue_and_not_once_more_by_whoever_does_next() {
    for (answered, expected) in [(0, true), (9_999_999, false)] {
        let mut world = World::new(TEAM).await;
        world.octo.issue(7);
        let answers = format!(" at=0 --><!-- miyabi:answers={answered} -->");
        world.octo.comment("other-bot", "MEMBER", 7, &foreign("").replace(" at=0 -->", &answers));
        world.pass(MINUTE).await;
        world.octo.comment("alice", "OWNER", 7, "/miyabi retri");
        world.pass(5 * MINUTE).await;
        assert_eq!(world.octo.count("POST", "/comments"), 0, "whoever works on it answers");
        world.until("it is taken over", |world| world.octo.state().pulls.len() == 1).await;
        world.settle().await;
        let state = world.octo.state();
        let ours: Vec<&str> = state
            .comments
            .iter()
            .filter(|it| it["user"]["login"] == US)
            .map(|it| it["body"].as_str().unwrap())
            .collect();
        assert_eq!(ours.len(), 1, "{ours:#?}");
        assert_eq!(ours[0].contains("known are: `/miyabi retry`"), expected, "{ours:#?}");
        assert_eq!(ours[0].lines().next().unwrap().contains("<!-- miyabi:answers="), expected, "{ours:#?}");
    }
}

/// A team that shows by a label which issues are worked on.
fn labelling() -> String {
    format!("{TEAM}claim_label = \"In Progress/now\"\n")
}

fn label_writes(octo: &Octo) -> (usize, usize) {
    (octo.count("POST", "/issues/7/labels"), octo.count("DELETE", "/issues/7/labels"))
}

#[tokio::test]
async fn the_label_of_what_is_worked_on_is_added_once_replans_nothing_and_goes_with_the_run() {
    let mut world = World::new(&labelling()).await;
    world.octo.issue(7);
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    let run = world.record(7).unwrap().run;
    assert_eq!(world.octo.labels(7), ["auto-code", "In Progress/now"]);
    world.pass(20 * MINUTE).await;
    assert_eq!((label_writes(&world.octo), world.delivered.len()), ((1, 0), 1), "what it sets itself changes nothing");
    assert_eq!(world.record(7).unwrap().run, run);
    world.octo.merge(500, 7);
    world.until("it is done", |world| world.is_done(7)).await;
    world.settle().await;
    assert_eq!(world.octo.labels(7), ["auto-code"]);
    world.kill();
    world.pass(20 * MINUTE).await;
    assert_eq!(label_writes(&world.octo), (1, 1));
}

#[tokio::test]
async fn a_label_that_is_there_already_is_not_added_and_one_that_people_take_away_stays_away() {
    let mut world = World::new(&labelling()).await;
    world.octo.issue(7);
    world.octo.state().issues.get_mut(&7).unwrap()["labels"] =
        serde_json::json!([{"name": "auto-code"}, {"name": "in progress/NOW"}]);
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    assert_eq!(label_writes(&world.octo), (0, 0));
    world.octo.state().issues.get_mut(&7).unwrap()["labels"] = serde_json::json!([{"name": "auto-code"}]);
    world.pass(20 * MINUTE).await;
    world.octo.merge(500, 7);
    world.until("it is done", |world| world.is_done(7)).await;
    world.settle().await;
    assert_eq!(label_writes(&world.octo), (0, 1), "it is ours to take away, and gone is gone");
}

#[tokio::test]
async fn a_label_that_cannot_be_set_is_told_and_holds_nothing_up() {
    for status in [403, 404, 422] {
        let mut world = World::new(&labelling()).await;
        world.octo.issue(7);
        let refusal = serde_json::json!({"message": "Validation Failed"});
        world.octo.break_next("POST", "/issues/7/labels", Fault::Instead(status, Vec::new(), refusal));
        let is_told = |world: &World| !world.core().github_view(world.now).writes.troubles.is_empty();
        world.until("it is told", is_told).await;
        world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
        let view = world.core().github_view(world.now);
        assert_eq!(view.writes.troubles.len(), 1, "{:?}", view.writes.troubles);
        let trouble = &view.writes.troubles[0];
        assert!(trouble.starts_with(&format!("label of app/issue-7: GitHub refuses with {status}: ")), "{trouble}");
        assert!(
            trouble.contains("the label `In Progress/now` cannot be set: ") && !trouble.contains('\n'),
            "{trouble}"
        );
        world.pass(10 * MINUTE).await;
        assert_eq!(world.octo.labels(7), ["auto-code", "In Progress/now"], "it is tried again");
        assert!(world.core().github_view(world.now).writes.troubles.is_empty());
    }
}

#[tokio::test]
async fn whoever_has_lost_a_claim_leaves_the_label_to_the_other_one_until_that_has_done_the_work() {
    let mut world = World::new(&labelling()).await;
    world.octo.issue(7);
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    let mine = world.octo.state().comments[0]["id"].clone();
    let theirs = foreign(&format!(" over={mine}")).replace("lease=600", "lease=86400");
    world.octo.comment("other-bot", "MEMBER", 7, &theirs);
    world.pass(31 * MINUTE).await;
    world.octo.review("alice", "OWNER", "CHANGES_REQUESTED", "louder", &[]);
    world.until("it has stopped", |world| !world.core().durable().alerts.is_empty()).await;
    world.pass(60 * MINUTE).await;
    assert_eq!(world.octo.labels(7), ["auto-code", "In Progress/now"], "the other one works on it");
    let last = world.octo.state().comments.len() - 1;
    world.octo.state().comments[last]["body"] = theirs.replace("lease=86400", "done").into();
    world.pass(60 * MINUTE).await;
    assert_eq!(world.octo.labels(7), ["auto-code"]);
    assert_eq!(label_writes(&world.octo), (1, 1));
}

#[tokio::test]
async fn a_label_whose_answer_was_never_heard_goes_although_the_run_has_ended_meanwhile() {
    let mut world = World::new(&labelling()).await;
    world.octo.issue(7);
    world.octo.state().points.kill_named = Some(("POST /issues/N/labels".to_owned(), Side::After));
    world.until("the supervisor is killed", |world| world.kills == 1).await;
    assert_eq!(world.octo.labels(7), ["auto-code", "In Progress/now"]);
    // Nobody works on it any more when the next supervisor looks.
    world.octo.state().issues.get_mut(&7).unwrap()["state"] = "closed".into();
    let pull = world.octo.state().pulls.keys().next().copied();
    if let Some(pull) = pull {
        world.octo.merge(pull, 7);
    }
    world.pass(10 * MINUTE).await;
    assert_eq!((world.octo.labels(7), label_writes(&world.octo)), (vec!["auto-code".to_owned()], (1, 1)));
}

#[tokio::test]
async fn a_label_of_an_earlier_configuration_is_taken_away() {
    let mut world = World::new(&labelling()).await;
    world.octo.issue(7);
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    world.reconfigure(&format!("{TEAM}claim_label = \"busy\"\n"));
    world.pass(2 * MINUTE).await;
    assert_eq!(world.octo.labels(7), ["auto-code", "busy"]);
    world.reconfigure(TEAM);
    world.pass(2 * MINUTE).await;
    assert_eq!(world.octo.labels(7), ["auto-code"]);
}

#[tokio::test]
async fn without_claims_nothing_is_looked_at_and_nothing_is_written_for_them() {
    let mut world = World::new(&format!("{TEAM}claim = \"none\"\n")).await;
    world.octo.issue(7);
    world.octo.comment("other-bot", "MEMBER", 7, &foreign(""));
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    let state = world.octo.state();
    assert!(
        state
            .comments
            .iter()
            .filter(|it| it["user"]["login"] == US)
            .all(|it| !it["body"].as_str().unwrap().contains("miyabi:claim"))
    );
    drop(state);
    assert!(matches!(world.record(7).unwrap().phase, Phase::Merging { .. }));
}

#[tokio::test]
async fn a_claim_that_has_ended_is_made_in_a_new_comment_that_names_the_old_one() {
    let mut world = World::new(TEAM).await;
    world.octo.issue(7);
    world.until("it waits to be merged", |world| world.octo.state().pulls.len() == 1).await;
    world.settle().await;
    let old = world.octo.state().comments[0]["id"].clone();
    // As if nobody had been there for days, and nobody else had taken it.
    world.octo.state().comments[0]["updated_at"] = "2026-12-01T00:00:00Z".into();
    world.pass(31 * MINUTE).await;
    world.octo.review("alice", "OWNER", "CHANGES_REQUESTED", "louder", &[]);
    world.until("the round has begun", |world| world.delivered.len() == 2).await;
    world.settle().await;
    let state = world.octo.state();
    assert_eq!(state.comments.len(), 1, "the old comment is taken away");
    assert_ne!(state.comments[0]["id"], old, "an edit cannot say that it came before somebody else's claim");
    assert!(state.comments[0]["body"].as_str().unwrap().contains(&format!(" over={old} ")));
}
