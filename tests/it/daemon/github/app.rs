//! The main road as a GitHub App: the real program proves with its key who it is, and works with what it is given for that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::Hub;
use super::server::{Door, Response, Server};
use crate::hub::app::{key_text, proves};

/// The app's number.
const APP: u32 = 4_711;

/// GitHub's side of an app that is installed for one owner.
#[derive(Default)]
struct Installed {
    /// The tokens that were given; the newest one counts.
    given: Mutex<Vec<String>>,
    /// How often somebody came with that.
    used: Mutex<usize>,
}

impl Door for Installed {
    fn open(&self, method: &str, path: &str, shown: &str) -> Option<Response> {
        let answer = |status, body| Some(Response::new(status, &[], &body));
        let as_app = path == "/app" || path.starts_with("/app/") || path.ends_with("/installation");
        if as_app && !proves(shown, APP, seconds()) {
            return answer(401, json!({"message": "A JSON web token could not be decoded"}));
        }
        let mut given = self.given.lock().unwrap();
        match (method, path) {
            ("GET", "/app") => answer(200, json!({"slug": "miyabi"})),
            ("GET", "/repos/alice/app/installation") => answer(200, json!({"id": 11})),
            ("POST", "/app/installations/11/access_tokens") => {
                let token = format!("ghs_secret-of-the-hour-{}.signed.part", given.len());
                given.push(token);
                answer(201, json!({"token": given.last(), "expires_at": "2999-01-01T00:00:00Z"}))
            }
            _ if given.last().is_some_and(|token| token == shown) => {
                *self.used.lock().unwrap() += 1;
                None
            }
            _ => answer(401, json!({"message": "Bad credentials"})),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is GitHub's own clock")]
fn seconds() -> i64 {
    i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Makes a root that is an app, with its key in a file of its own.
fn installed() -> Option<(Hub, Arc<Installed>)> {
    let server = Server::start()?;
    let door = Arc::new(Installed::default());
    server.set_door(Arc::<Installed>::clone(&door));
    let mut hub = Hub::around(server, 1);
    hub.root.unset_variable("GITHUB_TOKEN");
    let key = hub.root.path("app.pem");
    fs::write(&key, key_text()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let path = hub.root.path("agents.toml");
    let config = fs::read_to_string(&path).unwrap();
    let app = format!("\n[github]\napp_id = {APP}\nprivate_key_file = \"app.pem\"\n");
    fs::write(path, config.replace("\n[github]\n", &app)).unwrap();
    Some((hub, door))
}

#[test]
fn as_an_app_an_issue_becomes_a_pull_request_with_a_token_of_the_hour_and_the_key_reaches_nobody() {
    let Some((mut hub, door)) = installed() else { return };
    let issue = hub.server.issue("alice", "Say hello", "text");
    hub.root.up();
    hub.wait_published(issue);
    hub.assert_once(issue);
    hub.merge(issue);
    hub.root.wait_event("merged", &format!("repo/issue-{issue}"));
    hub.root.until("the comment says that it is done", || hub.server.comments(issue)[0].contains("Done, merged as"));
    hub.assert_once(issue);
    assert_eq!(door.given.lock().unwrap().len(), 1, "one token lasts for an hour");
    assert!(*door.used.lock().unwrap() > 10, "everything is asked with it");

    // Neither the token nor the key reached an agent, a log or the supervisor's environment.
    let key = String::from_utf8(key_text()).unwrap();
    let line = key.lines().nth(1).unwrap();
    let agent = fs::read_to_string(hub.root.path(&format!("data/env-of-{issue}"))).unwrap();
    let own = fs::read_to_string(format!("/proc/{}/environ", hub.root.supervisor().id())).unwrap();
    assert!(agent.contains("MIYABI_TASK="), "{agent}");
    for text in [agent, own, hub.root.log(), hub.server.comments(issue).join("\n")] {
        for secret in ["secret-of-the-hour", line, "PRIVATE KEY", "app.pem"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[test]
fn an_apps_token_that_is_refused_is_replaced_and_nothing_is_written_twice() {
    let Some((mut hub, door)) = installed() else { return };
    let issue = hub.server.issue("alice", "Say hello", "text");
    hub.root.up();
    hub.root.wait_event("claimed", &format!("repo/issue-{issue}"));
    // From now on the token of before is worth nothing, wherever it is in use.
    door.given.lock().unwrap().push("nobody has this one".to_owned());
    hub.wait_published(issue);
    hub.assert_once(issue);
    hub.root.until("another one was given", || {
        let given = door.given.lock().unwrap();
        given.iter().filter(|token| token.starts_with("ghs_")).count() == 2
    });
}

#[test]
fn an_app_whose_key_is_not_the_apps_is_told_and_writes_nothing() {
    let Some((mut hub, door)) = installed() else { return };
    let path = hub.root.path("agents.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(path, config.replace(&format!("app_id = {APP}"), "app_id = 4712")).unwrap();
    let issue = hub.server.issue("alice", "Say hello", "text");
    hub.root.up();
    hub.root.until_within(Duration::from_secs(30), "it is told", || {
        let status = hub.root.json(&["github", "status"]);
        status["repositories"][0]["trouble"].as_str().is_some_and(|trouble| trouble.contains("401"))
    });
    assert!(hub.server.comments(issue).is_empty() && *door.used.lock().unwrap() == 0);
}
