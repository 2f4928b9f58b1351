//! What polls cost, on a clock that the test moves.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use miyabi::core::Core;
use miyabi::core::effect::Effect;
use miyabi::core::event::Event;
use miyabi::core::github::{GithubEffect, GithubEvent};
use miyabi::core::state::Durable;
use miyabi::io::github::client::Client;
use miyabi::model::github::{Discover, Found, Quota, Trouble};
use miyabi::model::id::RepositoryName;
use miyabi::model::secret::Secret;
use miyabi::model::time::Timestamp;

/// When the clock begins.
const BEGINNING: Timestamp = Timestamp::from_millis(1_900_000_000_000);

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// GitHub's quota of an hour.
const QUOTA: u32 = 5_000;

/// A team of one with some repositories.
fn core(github: &str, slugs: &[String]) -> Core {
    let mut team = format!("[[agent]]\nid = \"a\"\nrole = \"codegen\"\ndriver = \"echo\"\n[github]\n{github}");
    for (index, slug) in slugs.iter().enumerate() {
        team.push_str(&format!(
            "[[repository]]\nname = \"r{index}\"\npath = \"r{index}\"\ngithub = \"{slug}\"\nmerge = \"pull-request\"\n"
        ));
    }
    let plan = miyabi::config::agents::parse("agents.toml", &team, Path::new("/root")).unwrap();
    let mut core = Core::restore(plan, Durable::default(), BEGINNING);
    core.handle_event(Event::Started { panes: Vec::new(), orders: BTreeMap::new() }, BEGINNING);
    core.handle_event(Event::DagRead { files: Vec::new(), branches: BTreeMap::new() }, BEGINNING);
    core
}

/// Lives through a time. What is asked of GitHub goes to `ask`; everything else has no answer.
async fn live(
    core: &mut Core,
    (from, until): (Timestamp, Timestamp),
    mut ask: impl AsyncFnMut(&RepositoryName, &Discover) -> (Result<Box<Found>, Trouble>, Option<Quota>),
) {
    let (mut now, mut events) = (from, VecDeque::new());
    loop {
        if let Some(effect) = core.poll_effect() {
            if let Effect::Github(effect) = effect
                && let GithubEffect::Discover { repository, what } = *effect
            {
                let (found, quota) = ask(&repository, &what).await;
                let asked = what.asked;
                events.push_back(Event::Github(Box::new(GithubEvent::Discovered { repository, asked, found, quota })));
            }
        } else if let Some(event) = events.pop_front() {
            core.handle_event(event, now);
        } else {
            let (due, _) = core.poll_timeout().expect("a repository is always asked again");
            if due > until {
                return;
            }
            now = now.max(due);
            core.handle_timeout(now);
        }
        assert_eq!(core.broken(), None);
    }
}

/// A GitHub on which nothing happens: whoever knows an answer is told that it has not changed, which is free.
#[derive(Debug, Default)]
struct Quiet {
    used: u32,
    free: u32,
}

struct Answering(Arc<Mutex<Quiet>>);

impl Respond for Answering {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut quiet = self.0.lock().unwrap();
        let status = if request.headers.contains_key("if-none-match") {
            quiet.free += 1;
            304
        } else {
            quiet.used += 1;
            200
        };
        let reset = (BEGINNING + 3 * HOUR).as_millis() / 1_000;
        ResponseTemplate::new(status)
            .insert_header("etag", "\"same\"")
            .insert_header("x-ratelimit-limit", QUOTA.to_string())
            .insert_header("x-ratelimit-remaining", (QUOTA - quiet.used).to_string())
            .insert_header("x-ratelimit-reset", reset.to_string())
            .set_body_json(json!([]))
    }
}

#[tokio::test]
async fn fifty_repositories_that_are_asked_each_minute_for_an_hour_use_nothing_of_the_quota_when_nothing_changes() {
    let (server, quiet) = (MockServer::start().await, Arc::new(Mutex::new(Quiet::default())));
    Mock::given(any()).respond_with(Answering(Arc::clone(&quiet))).mount(&server).await;
    let client = Client::new(Secret::new("token".to_owned()), &server.uri()).unwrap();
    let slugs: Vec<String> = (0..50).map(|index| format!("octo/r{index}")).collect();
    let mut core = core("poll = \"1m\"\n", &slugs);
    let ask = async |_: &RepositoryName, what: &Discover| {
        let found = client.discover(what).await.map(Box::new);
        (found, client.quota())
    };
    // Everything is read once, and then the newest changes.
    let begun = BEGINNING + 10 * MINUTE;
    live(&mut core, (BEGINNING, begun), ask).await;
    let before = std::mem::take(&mut *quiet.lock().unwrap());
    assert!(before.used <= 3 * 50, "the beginning costs {} calls", before.used);

    live(&mut core, (begun, begun + HOUR), ask).await;
    let spent = quiet.lock().unwrap();
    assert_eq!(spent.used, 0, "only what has not changed is asked");
    assert!(spent.free >= 50 * 60, "{} questions in the hour", spent.free);
}

#[tokio::test]
async fn an_app_whose_quota_for_one_owner_is_short_goes_on_asking_for_another() {
    let slugs = ["poor/app".to_owned(), "rich/app".to_owned()];
    let app = "app_id = 1\nprivate_key_file = \"k\"\n";
    for (github, expected) in [(app, (1, 60)), ("", (1, 1))] {
        let mut core = core(&format!("poll = \"1m\"\n{github}"), &slugs);
        let mut asked: BTreeMap<String, usize> = BTreeMap::new();
        let reset = BEGINNING + 2 * HOUR;
        live(&mut core, (BEGINNING, BEGINNING + HOUR - MINUTE), async |name: &RepositoryName, _: &Discover| {
            *asked.entry(name.to_string()).or_default() += 1;
            // One token has one quota, whatever is asked with it.
            let is_short = github.is_empty() || name.as_str() == "r0";
            let remaining = if is_short { 100 } else { 4_900 };
            let found = Found {
                issues: Vec::new(),
                comments: Vec::new(),
                pulls: Vec::new(),
                reviews: Vec::new(),
                since: "2026-01-01T00:00:00Z".to_owned(),
            };
            (Ok(Box::new(found)), Some(Quota { limit: QUOTA, remaining, reset }))
        })
        .await;
        assert_eq!((asked["r0"], asked["r1"]), expected, "{github}");
        let quota = core.github_view(BEGINNING + HOUR).quota.unwrap();
        assert_eq!(quota.remaining, 100, "what is shown is what is short");
    }
}
