//! The supervisor is killed before and after every step of the way from an issue to its merged pull request.

use std::collections::BTreeSet;

use super::octo::Side;
use super::world::{TEAM, World};

/// The steps of the way, each of which is a place to die: before it, and after it with nobody to hear of it.
const STEPS: [&str; 29] = [
    "DELETE /issues/N/labels/in-progress",
    "GET /issues",
    "GET /issues/N/comments",
    "GET /issues/comments",
    "GET /pulls",
    "GET /pulls/N",
    "GET /pulls/N/reviews",
    "GET /user",
    "PATCH /issues/comments/N",
    "POST /issues/N/comments",
    "POST /issues/N/labels",
    "POST /pulls",
    "POST /statuses/N",
    "acknowledge the report",
    "deliver the order",
    "follow the merge",
    "push the branch",
    "record attempt-queued",
    "record claim-ended",
    "record claimed",
    "record commented",
    "record issue-seen",
    "record labelled",
    "record merged",
    "record published",
    "record report-accepted",
    "record status-set",
    "record task-accepted",
    "record write-begun",
];

/// What happens on the way beside it: what an agent's start records, what people are told meanwhile, what only a second try
/// does, and what is asked anew before work that is late begins.
const BESIDE: [&str; 10] = [
    "GET /issues/N",
    "PATCH /pulls/N",
    "record agent-down",
    "record agent-up",
    "record comments-read",
    "record merge-parked",
    "record pull-changed",
    "record spawn-requested",
    "record team-found",
    "take the order out",
];

/// Goes the whole way, and dies at one step of it; returns the names of all steps.
async fn go(kill: Option<(usize, Side)>) -> Vec<String> {
    let team = format!("{TEAM}claim_label = \"in-progress\"\n");
    let mut world = World::new(&team).await;
    world.octo.issue(7);
    world.octo.state().points.kill = kill;
    world
        .until("the comment says that it waits", |world| {
            let state = world.octo.state();
            state.comments.iter().any(|comment| comment["body"].as_str().unwrap().contains("waits to be merged"))
        })
        .await;
    world.settle().await;
    // Somebody looks at it before it is merged, and the supervisor asks whether anybody has.
    world.pass(std::time::Duration::from_secs(15)).await;
    assert_eq!(world.octo.labels(7), ["auto-code", "in-progress"], "it waits with its label");
    let pull = *world.octo.state().pulls.keys().next().expect("there is a pull request");
    world.octo.merge(pull, 7);
    world.until("it is done", |world| world.is_done(7)).await;
    world.settle().await;
    let what = kill.map(|(index, side)| format!("{side:?} {}", world.octo.state().points.names[index]));
    let what = what.unwrap_or_else(|| "without a kill".to_owned());
    assert_eq!(world.kills, usize::from(kill.is_some()), "{what}");

    assert_eq!(world.octo.labels(7), ["auto-code"], "{what}: nobody works on it any more");
    let state = world.octo.state();
    let comments: Vec<&str> = state.comments.iter().map(|comment| comment["body"].as_str().unwrap()).collect();
    assert_eq!(comments.len(), 1, "{what}: {comments:#?}");
    assert!(comments[0].contains("Done, merged as"), "{what}: {comments:#?}");
    assert_eq!(state.pulls.len(), 1, "{what}");
    let branches: Vec<&String> = state.branches.keys().collect();
    assert_eq!(branches, ["auto-code/issue-7"], "{what}");
    let head = &state.branches["auto-code/issue-7"];
    let statuses: BTreeSet<&(String, String)> = state.statuses.iter().collect();
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [&(head.clone(), "miyabi".to_owned())], "{what}");
    assert_eq!(world.delivered.len(), 1, "{what}: the work is done once");
    state.points.names.clone()
}

async fn killed_everywhere(side: Side) {
    let names = go(None).await;
    let taken: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let known: BTreeSet<&str> = STEPS.into_iter().chain(BESIDE).collect();
    assert!(STEPS.iter().all(|step| taken.contains(step)), "not on the way: {:?}", known.difference(&taken));
    let mut survived = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let met = go(Some((index, side))).await;
        assert_eq!(met[index], *name, "the way up to the kill is the same");
        survived.extend(met);
    }
    let unknown: Vec<&String> = survived.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "steps that nobody has listed: {unknown:?}");
}

#[tokio::test]
async fn a_kill_before_every_step_leaves_one_branch_one_pull_request_and_one_comment() {
    killed_everywhere(Side::Before).await;
}

#[tokio::test]
async fn a_kill_after_every_step_leaves_one_branch_one_pull_request_and_one_comment() {
    killed_everywhere(Side::After).await;
}
