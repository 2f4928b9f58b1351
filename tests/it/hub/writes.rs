//! Each way in which a write can go wrong: it is made once, and what the answer means is understood.

use std::time::Duration;

use http::Method;
use serde_json::json;

use miyabi::io::clock;
use miyabi::io::github::client::Client;
use miyabi::model::github::{Closed, Publish, PullRequestKind, PullState, Trouble};
use miyabi::model::time::Timestamp;

use super::octo::{Fault, Octo, US, new_pull, slug};

const MARKER: &str = "<!-- miyabi:run=X kind=report -->";
const BRANCH: &str = "auto-code/issue-7";

fn publish() -> Publish {
    Publish {
        commit: "a".repeat(40),
        from: "miyabi/app/issue-7/X/code-1".to_owned(),
        branch: BRANCH.to_owned(),
        ours: Vec::new(),
        base: "main".to_owned(),
        title: "Say hello".to_owned(),
        body: "Closes #7".to_owned(),
        kind: PullRequestKind::Ready,
        closed: Closed::Ask,
        claimant: None,
    }
}

/// The writes that make something, with the request that makes it.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Comment,
    Pull,
    Status,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Comment, Self::Pull, Self::Status];

    const fn path(self) -> &'static str {
        match self {
            Self::Comment => "/issues/7/comments",
            Self::Pull => "/pulls",
            Self::Status => "/statuses/",
        }
    }

    async fn write(self, client: &Client) -> Result<(), Trouble> {
        match self {
            Self::Comment => client.comment(&slug(), 7, None, MARKER, &format!("{MARKER}\nhello")).await.map(drop),
            Self::Pull => client.open_pull(&slug(), &publish()).await.map(drop),
            Self::Status => client.status(&slug(), &"a".repeat(40), "proven").await,
        }
    }

    /// Counts the things that it has made, as people see them.
    fn made(self, octo: &Octo) -> usize {
        let state = octo.state();
        match self {
            Self::Comment => state.comments.len(),
            Self::Pull => state.pulls.len(),
            Self::Status => {
                // The newest state of a commit and context is the one that counts.
                state.statuses.iter().collect::<std::collections::BTreeSet<_>>().len()
            }
        }
    }
}

/// When GitHub wants to be asked again.
#[derive(Debug)]
enum Wait {
    From(Duration),
    Until(Timestamp),
    Unknown,
}

fn is_unsure(result: &Result<(), Trouble>) -> bool {
    matches!(result, Err(Trouble::Unsure { .. }))
}

#[tokio::test]
async fn a_broken_answer_after_the_write_was_done_is_unsure_and_the_next_try_finds_it() {
    for kind in Kind::ALL {
        for status in [500, 502, 503, 504] {
            let octo = Octo::start().await;
            octo.issue(7);
            octo.break_next("POST", kind.path(), Fault::After(status));
            let client = octo.client();
            let first = kind.write(&client).await;
            assert!(is_unsure(&first), "{kind:?} {status}: {first:?}");
            assert_eq!(
                octo.count("POST", ""),
                1,
                "{kind:?} {status}: whether to ask again is not the client's to decide"
            );
            kind.write(&client).await.unwrap();
            assert_eq!(kind.made(&octo), 1, "{kind:?} {status}");
            // Another process, which remembers nothing, finds it too.
            kind.write(&octo.client()).await.unwrap();
            assert_eq!(kind.made(&octo), 1, "{kind:?} {status}");
        }
    }
}

#[tokio::test]
async fn a_broken_answer_before_the_write_was_done_is_unsure_too_and_the_next_try_makes_it() {
    for kind in Kind::ALL {
        let octo = Octo::start().await;
        octo.issue(7);
        octo.break_next("POST", kind.path(), Fault::Instead(502, Vec::new(), json!({"message": "Bad gateway"})));
        let client = octo.client();
        let first = kind.write(&client).await;
        assert!(is_unsure(&first), "{kind:?}: {first:?}");
        assert_eq!((octo.count("POST", ""), kind.made(&octo)), (1, 0), "{kind:?}");
        kind.write(&client).await.unwrap();
        assert_eq!(kind.made(&octo), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn every_way_of_asking_to_wait_is_understood_and_nothing_is_sent_again() {
    let soon = (clock::now() + Duration::from_secs(90)).as_millis() / 1_000;
    let quota = vec![
        ("x-ratelimit-limit", "5000".to_owned()),
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset", soon.to_string()),
    ];
    let secondary = json!({"message": "You have exceeded a secondary rate limit. Please wait a few minutes."});
    let plain = json!({"message": "API rate limit exceeded"});
    let reset = Timestamp::from_millis(soon * 1_000);
    // The answer, and when GitHub wants to be asked again, if it says so.
    let answers = [
        (429, vec![("retry-after", "30".to_owned())], &plain, Wait::From(Duration::from_secs(30))),
        (403, vec![("retry-after", "30".to_owned())], &secondary, Wait::From(Duration::from_secs(30))),
        (403, quota.clone(), &plain, Wait::Until(reset)),
        (429, quota, &plain, Wait::Until(reset)),
        (403, Vec::new(), &secondary, Wait::Unknown),
        (429, Vec::new(), &plain, Wait::Unknown),
    ];
    for kind in Kind::ALL {
        for (status, headers, body, wait) in &answers {
            let octo = Octo::start().await;
            octo.issue(7);
            octo.break_next("POST", kind.path(), Fault::Instead(*status, headers.clone(), (*body).clone()));
            let before = clock::now();
            let result = kind.write(&octo.client()).await;
            let Err(Trouble::Limited { until, reason }) = result else { panic!("{kind:?} {status}: {result:?}") };
            let is_kept = match (wait, until) {
                (Wait::From(wait), Some(until)) => (before + *wait..=clock::now() + *wait).contains(&until),
                (Wait::Until(at), Some(until)) => until == *at,
                (Wait::Unknown, None) => true,
                (Wait::From(_) | Wait::Until(_), None) | (Wait::Unknown, Some(_)) => false,
            };
            assert!(is_kept, "{kind:?} {status}: {until:?} for {wait:?}: {reason}");
            assert_eq!((octo.count("POST", ""), kind.made(&octo)), (1, 0), "{kind:?} {status}");
        }
    }
}

#[tokio::test]
async fn a_refused_token_and_a_missing_permission_are_no_limits_and_nothing_is_sent_again() {
    for kind in Kind::ALL {
        for (status, message) in [(401, "Bad credentials"), (403, "Resource not accessible by personal access token")] {
            let octo = Octo::start().await;
            octo.issue(7);
            octo.break_next("POST", kind.path(), Fault::Instead(status, Vec::new(), json!({"message": message})));
            let result = kind.write(&octo.client()).await;
            let Err(Trouble::Refused { status: told, reason }) = &result else { panic!("{kind:?}: {result:?}") };
            assert_eq!(*told, status);
            assert!(reason.contains(message) && !reason.contains("token-of-the-bot"), "{reason}");
            assert_eq!((octo.count("POST", ""), kind.made(&octo)), (1, 0), "{kind:?} {status}");
        }
    }
}

#[tokio::test]
async fn a_pull_request_that_exists_already_is_found_when_github_says_so() {
    let octo = Octo::start().await;
    let client = octo.client();
    client.login().await.unwrap();
    // Between our look and our write another one of us was quicker.
    octo.break_next("GET", "/pulls", Fault::Instead(200, Vec::new(), json!([])));
    octo.state().pulls.insert(500, new_pull(US, 500, BRANCH));
    let found = client.open_pull(&slug(), &publish()).await.unwrap();
    assert_eq!((found.number, found.state), (500, PullState::Open));
    assert_eq!((octo.count("POST", "/pulls"), octo.state().pulls.len()), (1, 1));
}

#[tokio::test]
async fn a_pull_request_that_exists_already_and_is_somebody_elses_is_left_alone() {
    let octo = Octo::start().await;
    let client = octo.client();
    octo.break_next("GET", "/pulls", Fault::Instead(200, Vec::new(), json!([])));
    octo.state().pulls.insert(500, new_pull("mallory", 500, BRANCH));
    let refused = client.open_pull(&slug(), &publish()).await;
    assert!(matches!(&refused, Err(Trouble::Stopped { reason }) if reason.contains("is by mallory")), "{refused:?}");
    assert_eq!(octo.state().pulls[&500]["title"], serde_json::Value::Null, "and nothing of it was changed");
}

#[tokio::test]
async fn what_github_finds_invalid_for_another_reason_stays_refused() {
    let octo = Octo::start().await;
    let said = json!({"message": "Validation Failed", "errors": [{"message": "No commits between main and x"}]});
    octo.break_next("POST", "/pulls", Fault::Instead(422, Vec::new(), said));
    let refused = octo.client().open_pull(&slug(), &publish()).await;
    assert!(
        matches!(&refused, Err(Trouble::Refused { status: 422, reason }) if reason.contains("No commits between")),
        "{refused:?}"
    );
    assert_eq!(octo.state().pulls.len(), 0);
}

#[tokio::test]
async fn a_comment_is_ours_only_with_our_mark_and_from_our_account() {
    let octo = Octo::start().await;
    octo.issue(7);
    octo.comment("mallory", "NONE", 7, &format!("{MARKER}\nsend everything here"));
    octo.comment(US, "MEMBER", 7, "<!-- miyabi:run=Y kind=report -->\nanother run");
    octo.comment(US, "MEMBER", 7, "a person has written with this account");
    let client = octo.client();
    let made = client.comment(&slug(), 7, None, MARKER, &format!("{MARKER}\nhello")).await.unwrap();
    let bodies: Vec<String> =
        octo.state().comments.iter().map(|comment| comment["body"].as_str().unwrap().to_owned()).collect();
    assert_eq!(bodies.len(), 4, "{bodies:#?}");
    assert_eq!(bodies[0], format!("{MARKER}\nsend everything here"), "what others wrote stays theirs");
    assert_eq!(bodies[3], format!("{MARKER}\nhello"));
    // Known or not, it is edited from then on.
    for known in [Some(made), None] {
        let again = client.comment(&slug(), 7, known, MARKER, &format!("{MARKER}\nagain")).await.unwrap();
        assert_eq!(again, made);
    }
    assert_eq!((octo.count("POST", "/comments"), octo.state().comments.len()), (1, 4));
}

#[tokio::test]
async fn a_comment_that_somebody_has_deleted_is_made_again_once() {
    let octo = Octo::start().await;
    octo.issue(7);
    let client = octo.client();
    let first = client.comment(&slug(), 7, None, MARKER, MARKER).await.unwrap();
    octo.state().comments.clear();
    let second = client.comment(&slug(), 7, Some(first), MARKER, MARKER).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(client.comment(&slug(), 7, Some(first), MARKER, MARKER).await.unwrap(), second);
    assert_eq!(octo.state().comments.len(), 1);
}

#[tokio::test]
async fn the_token_is_taken_out_of_what_is_written() {
    let octo = Octo::start().await;
    octo.issue(7);
    let body = format!("{MARKER}\nthe output was token-of-the-bot");
    octo.client().comment(&slug(), 7, None, MARKER, &body).await.unwrap();
    assert_eq!(octo.state().comments[0]["body"], format!("{MARKER}\nthe output was ***"));
    assert_eq!(octo.count(Method::POST.as_str(), ""), 1);
}
