//! A small GitHub: what it is told it keeps, and it breaks where a test says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use miyabi::io::github::client::Client;
use miyabi::model::id::RepositorySlug;
use miyabi::model::secret::Secret;
use miyabi::model::time::Timestamp;

/// The one repository.
pub(super) const REPOSITORY: &str = "octo/app";

/// How many items a page has.
const PAGE: usize = 100;

/// Whose token the client has.
pub(super) const US: &str = "miyabi-bot";

/// The time of everything that is there from the beginning.
const BEGINNING: &str = "2026-01-01T00:00:00Z";

/// The time of the newest change: whoever asks for what has changed since any time of a real clock is told of it.
const NEWEST: &str = "2999-01-01T00:00:00Z";

/// What happens to a request instead of its usual way.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It is answered so, and nothing is done.
    Instead(u16, Vec<(&'static str, String)>, Value),
    /// It is done, and then answered so.
    After(u16),
}

/// On which side of a step the supervisor dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// The steps that were taken, and the one at which the supervisor dies.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// The names of all steps, in order, of all lives.
    pub(super) names: Vec<String>,
    /// At which step it dies, once.
    pub(super) kill: Option<(usize, Side)>,
    /// At which kind of step it dies, once.
    pub(super) kill_named: Option<(String, Side)>,
    pub(super) dead: bool,
}

impl Points {
    /// A step is about to be taken; says whether anybody is there to take it.
    pub(super) fn enter(&mut self, name: &str) -> Option<usize> {
        if self.dead {
            return None;
        }
        self.names.push(name.to_owned());
        let index = self.names.len() - 1;
        if let Some((_, side)) = self.kill_named.take_if(|(kind, _)| kind == name) {
            self.kill = Some((index, side));
        }
        self.dead = self.kill == Some((index, Side::Before));
        (!self.dead).then_some(index)
    }

    /// A step was taken; says whether anybody is there to hear of it.
    pub(super) fn leave(&mut self, index: usize) -> bool {
        self.dead |= self.kill == Some((index, Side::After));
        !self.dead
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) issues: BTreeMap<u64, Value>,
    pub(super) comments: Vec<Value>,
    pub(super) pulls: BTreeMap<u64, Value>,
    pub(super) statuses: Vec<(String, String)>,
    pub(super) reviews: BTreeMap<u64, Vec<Value>>,
    pub(super) review_comments: BTreeMap<u64, Vec<Value>>,
    /// The branches of the repository, for whoever pushes.
    pub(super) branches: BTreeMap<String, String>,
    faults: Vec<(&'static str, &'static str, Fault)>,
    /// Every request, and the status of its answer.
    pub(super) log: Vec<(String, String, u16)>,
    pub(super) points: Points,
    last_id: u64,
    /// What its clock shows.
    pub(super) now: Timestamp,
    /// Its own address, for the links between pages.
    address: String,
}

/// The server, and what it keeps.
pub(super) struct Octo {
    server: MockServer,
    state: Arc<Mutex<State>>,
}

struct Answering(Arc<Mutex<State>>);

impl Octo {
    pub(super) async fn start() -> Self {
        let server = MockServer::start().await;
        let now = Timestamp::from_millis(1_800_000_000_000);
        let state = State { last_id: 1_000, now, address: server.uri(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        Mock::given(any()).respond_with(Answering(Arc::clone(&state))).mount(&server).await;
        Self { server, state }
    }

    pub(super) fn client(&self) -> Client {
        Client::new(Secret::new("token-of-the-bot".to_owned()), &self.server.uri()).unwrap()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Breaks the next request of this kind.
    pub(super) fn break_next(&self, method: &'static str, path: &'static str, fault: Fault) {
        self.state().faults.push((method, path, fault));
    }

    /// Opens an issue with the label.
    pub(super) fn issue(&self, number: u64) {
        let issue = json!({
            "number": number, "title": format!("Issue {number}"), "body": "Please say hello.", "state": "open",
            "labels": [{"name": "auto-code"}], "user": {"login": "alice"}, "author_association": "OWNER",
            "created_at": BEGINNING, "updated_at": NEWEST,
        });
        self.state().issues.insert(number, issue);
    }

    /// Counts the requests of a kind that came.
    pub(super) fn count(&self, method: &str, path: &str) -> usize {
        self.state().log.iter().filter(|(m, p, _)| m == method && p.contains(path)).count()
    }

    /// Counts how often the list of issues was asked for.
    pub(super) fn lists(&self) -> usize {
        self.state().log.iter().filter(|(_, path, _)| path == "/repos/octo/app/issues").count()
    }

    /// Puts a comment of anybody on an issue or pull request.
    pub(super) fn comment(&self, who: &str, association: &str, number: u64, body: &str) {
        let mut state = self.state();
        let comment = state.new_comment(who, association, number, body);
        state.comments.push(comment);
    }

    /// Puts a review of anybody on the pull request, with comments on lines.
    pub(super) fn review(
        &self,
        who: &str,
        association: &str,
        state_of_it: &str,
        body: &str,
        lines: &[(&str, u64, &str)],
    ) {
        let mut state = self.state();
        let pull = *state.pulls.keys().next().expect("there is a pull request");
        let id = state.id();
        let review = json!({
            "id": id, "user": {"login": who}, "author_association": association, "state": state_of_it,
            "body": body, "submitted_at": "2026-01-02T00:00:00Z",
        });
        state.reviews.entry(pull).or_default().push(review);
        for (path, line, body) in lines {
            let comment_id = state.id();
            let comment = json!({"id": comment_id, "path": path, "line": line, "body": body, "user": {"login": who}});
            state.review_comments.entry(id).or_default().push(comment);
        }
    }

    /// Returns the labels of an issue.
    pub(super) fn labels(&self, number: u64) -> Vec<String> {
        let state = self.state();
        let labels = state.issues[&number]["labels"].as_array().unwrap();
        labels.iter().map(|label| label["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Plays the human: merges a pull request and closes its issue.
    pub(super) fn merge(&self, pull: u64, issue: u64) {
        let mut state = self.state();
        let merged = state.pulls.get_mut(&pull).expect("the pull request is there");
        merged["state"] = json!("closed");
        merged["merged_at"] = json!("2026-01-03T00:00:00Z");
        merged["merge_commit_sha"] = json!("9".repeat(40));
        state.issues.get_mut(&issue).expect("the issue is there")["state"] = json!("closed");
    }
}

pub(super) fn slug() -> RepositorySlug {
    REPOSITORY.parse().unwrap()
}

impl State {
    fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn new_comment(&mut self, who: &str, association: &str, number: u64, body: &str) -> Value {
        let id = self.id();
        json!({
            "id": id, "body": body, "user": {"login": who}, "author_association": association,
            "issue_url": format!("https://api.github.com/repos/{REPOSITORY}/issues/{number}"),
            "created_at": self.now.to_string(), "updated_at": self.now.to_string(),
        })
    }

    fn on(&self, number: u64) -> Vec<Value> {
        let end = format!("/issues/{number}");
        self.comments.iter().filter(|it| it["issue_url"].as_str().unwrap().ends_with(&end)).cloned().collect()
    }

    /// Does what a request asks for.
    fn act(&mut self, method: &str, path: &str, query: &BTreeMap<String, String>, body: &Value) -> (u16, Value) {
        let below = path.strip_prefix("/repos/octo/app").unwrap_or(path).to_owned();
        let parts: Vec<&str> = below.trim_start_matches('/').split('/').collect();
        let number = |text: &str| text.parse::<u64>().unwrap();
        match (method, parts.as_slice()) {
            ("GET", ["user"]) => (200, json!({"login": US})),
            ("GET", ["issues"]) => {
                let open_only = query.get("state").is_some_and(|state| state == "open");
                let since = query.get("since").cloned().unwrap_or_default();
                let fits = |issue: &&Value| {
                    (!open_only || issue["state"] == "open") && issue["updated_at"].as_str().unwrap() >= since.as_str()
                };
                (200, Value::Array(self.issues.values().filter(fits).cloned().collect()))
            }
            ("GET", ["issues", issue]) if *issue != "comments" => match self.issues.get(&number(issue)) {
                Some(issue) => (200, issue.clone()),
                None if self.pulls.contains_key(&number(issue)) => {
                    let pull = json!({
                        "number": number(issue), "state": "open", "updated_at": BEGINNING, "pull_request": {},
                    });
                    (200, pull)
                }
                None => (404, json!({"message": "Not Found"})),
            },
            ("GET", ["issues", "comments"]) => (200, Value::Array(self.comments.clone())),
            ("GET", ["issues", issue]) => match self.issues.get(&number(issue)) {
                Some(issue) => (200, issue.clone()),
                None => (404, json!({"message": "Not Found"})),
            },
            ("GET", ["issues", issue, "comments"]) => (200, Value::Array(self.on(number(issue)))),
            ("POST", ["issues", issue, "comments"]) => {
                let comment = self.new_comment(US, "MEMBER", number(issue), body["body"].as_str().unwrap());
                self.comments.push(comment.clone());
                (201, comment)
            }
            ("POST", ["issues", issue, "labels"]) => self.add_labels(number(issue), body),
            ("DELETE", ["issues", issue, "labels", name]) => self.take_label(number(issue), name),
            ("DELETE" | "PATCH", ["issues", "comments", id]) => self.change_comment(number(id), method, body),
            ("GET", ["pulls"]) => {
                let head = query.get("head").and_then(|head| head.split_once(':')).map(|(_, branch)| branch.to_owned());
                let fits = |pull: &&Value| head.as_ref().is_none_or(|head| pull["head"]["ref"] == head.as_str());
                (200, Value::Array(self.pulls.values().filter(fits).cloned().collect()))
            }
            ("POST", ["pulls"]) => self.open_pull(body),
            ("GET", ["pulls", pull]) => (200, self.pull(number(pull))),
            ("PATCH", ["pulls", pull]) => {
                let changed = self.pulls.get_mut(&number(pull)).unwrap();
                for (name, value) in body.as_object().unwrap() {
                    changed[name] = value.clone();
                }
                (200, self.pull(number(pull)))
            }
            ("GET", ["pulls", pull, "reviews"]) => {
                (200, Value::Array(self.reviews.get(&number(pull)).cloned().unwrap_or_default()))
            }
            ("GET", ["pulls", _, "reviews", review, "comments"]) => {
                (200, Value::Array(self.review_comments.get(&number(review)).cloned().unwrap_or_default()))
            }
            ("POST", ["statuses", commit]) => {
                self.statuses.push(((*commit).to_owned(), body["context"].as_str().unwrap().to_owned()));
                (201, json!({"state": body["state"]}))
            }
            other => panic!("nobody has taught this GitHub {other:?}"),
        }
    }

    fn add_labels(&mut self, issue: u64, body: &Value) -> (u16, Value) {
        let labels = self.issues.get_mut(&issue).unwrap()["labels"].as_array_mut().unwrap();
        for name in body["labels"].as_array().unwrap() {
            if labels.iter().all(|label| label["name"] != *name) {
                labels.push(json!({"name": name}));
            }
        }
        (200, json!(labels))
    }

    fn take_label(&mut self, issue: u64, name: &str) -> (u16, Value) {
        let labels = self.issues.get_mut(&issue).unwrap()["labels"].as_array_mut().unwrap();
        let (before, name) = (labels.len(), name.replace("%20", " ").replace("%2F", "/").to_lowercase());
        labels.retain(|label| label["name"].as_str().unwrap().to_lowercase() != name);
        (if labels.len() < before { 200 } else { 404 }, json!(labels))
    }

    fn change_comment(&mut self, id: u64, method: &str, body: &Value) -> (u16, Value) {
        let Some(at) = self.comments.iter().position(|comment| comment["id"] == id) else {
            return (404, json!({"message": "Not Found"}));
        };
        if method == "DELETE" {
            self.comments.remove(at);
            return (204, Value::Null);
        }
        self.comments[at]["body"] = body["body"].clone();
        self.comments[at]["updated_at"] = json!(self.now.to_string());
        (200, self.comments[at].clone())
    }

    fn pull(&self, number: u64) -> Value {
        let mut pull = self.pulls[&number].clone();
        if let Some(head) = self.branches.get(pull["head"]["ref"].as_str().unwrap()) {
            pull["head"]["sha"] = json!(head);
        }
        pull
    }

    fn open_pull(&mut self, body: &Value) -> (u16, Value) {
        let head = body["head"].as_str().unwrap();
        if self.pulls.values().any(|pull| pull["state"] == "open" && pull["head"]["ref"] == head) {
            let said = json!({"message": "Validation Failed", "errors": [{"message": format!("A pull request already exists for octo:{head}.")}]});
            return (422, said);
        }
        let number = 500 + u64::try_from(self.pulls.len()).unwrap();
        self.pulls.insert(number, new_pull(US, number, head));
        let made = self.pulls.get_mut(&number).unwrap();
        for name in ["title", "body", "draft"] {
            made[name] = body[name].clone();
        }
        (201, self.pull(number))
    }
}

/// A pull request that is open.
pub(super) fn new_pull(who: &str, number: u64, head: &str) -> Value {
    json!({
        "number": number, "html_url": format!("https://github.com/{REPOSITORY}/pull/{number}"), "state": "open",
        "user": {"login": who}, "head": {"ref": head, "sha": "0".repeat(40)}, "merged_at": null,
    })
}

fn http_date(at: Timestamp) -> String {
    let at = chrono::DateTime::<chrono::Utc>::from_timestamp_millis(at.as_millis()).unwrap();
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Names a request, without its numbers.
fn name_of(method: &str, path: &str) -> String {
    let below = path.strip_prefix("/repos/octo/app").unwrap_or(path);
    let parts = below.split('/').map(|part| {
        let is_id = !part.is_empty() && (part.bytes().all(|b| b.is_ascii_digit()) || part.len() == 40);
        if is_id { "N" } else { part }
    });
    format!("{method} {}", parts.collect::<Vec<_>>().join("/"))
}

impl Respond for Answering {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().unwrap();
        let (method, path) = (request.method.to_string(), request.url.path().to_owned());
        let query: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let gone = ResponseTemplate::new(503);
        let Some(index) = state.points.enter(&name_of(&method, &path)) else { return gone };
        let at = state.faults.iter().position(|(m, p, _)| *m == method && path.contains(p));
        let fault = at.map(|at| state.faults.remove(at).2);
        let mut headers = vec![("date", http_date(state.now))];
        let (status, said) = match fault {
            Some(Fault::Instead(status, with, body)) => {
                headers.extend(with);
                (status, body)
            }
            Some(Fault::After(status)) => {
                state.act(&method, &path, &query, &body);
                (status, json!({"message": "Server Error"}))
            }
            None => state.act(&method, &path, &query, &body),
        };
        let said = match said {
            Value::Array(items) => {
                let page = query.get("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1);
                if items.len() > page * PAGE {
                    let address = format!("{}{path}?state=open&per_page={PAGE}&page={}", state.address, page + 1);
                    headers.push(("link", format!("<{address}>; rel=\"next\"")));
                }
                Value::Array(items.into_iter().skip((page - 1) * PAGE).take(PAGE).collect())
            }
            said @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => said,
        };
        state.log.push((method, path, status));
        if !state.points.leave(index) {
            return gone;
        }
        let mut response = ResponseTemplate::new(status);
        if status != 204 {
            response = response.set_body_json(said);
        }
        for (name, value) in headers {
            response = response.insert_header(name, value.as_str());
        }
        response
    }
}
