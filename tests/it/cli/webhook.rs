//! The doctor and the webhook: the address, the secret, and what GitHub has of it.

use std::net::TcpListener;

use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::support::{Root, Supervisor, text};
use miyabi::control::protocol::Call;
use miyabi::model::github_view::{GithubView, WebhookView, WritesView};

/// A secret that is long enough.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What is wanted of a webhook.
const EVENTS: [&str; 4] = ["issues", "issue_comment", "pull_request", "pull_request_review"];

fn root(listen: &str) -> Root {
    let root = Root::new();
    root.git(&["init", "--quiet", "app"]);
    root.write(
        "agents.toml",
        &format!(
            "[[agent]]\nid = \"a\"\nrole = \"codegen\"\ndriver = \"echo\"\n[github.webhook]\nlisten = \"{listen}\"\n\
             [[repository]]\npath = \"app\"\ngithub = \"octo-org/app\"\nmerge = \"pull-request\"\n"
        ),
    );
    root
}

/// An address that nobody has: it was had a moment ago.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// What the doctor says of the webhook: each verdict and message.
fn told(root: &Root, secret: Option<&str>, api: &str) -> Vec<(String, String)> {
    let mut command = root.command(&["--json", "doctor"]);
    command.env("GITHUB_TOKEN", "secret").env("MIYABI_GITHUB_API", api);
    if let Some(secret) = secret {
        command.env("MIYABI_WEBHOOK_SECRET", secret);
    }
    let output = command.output().unwrap();
    assert!(secret.is_none_or(|secret| !text(&output.stdout).contains(secret)));
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let of_webhook = findings.iter().filter(|finding| finding["check"] == "webhook");
    of_webhook.map(|finding| (word(finding, "verdict"), word(finding, "message"))).collect()
}

fn verdicts(told: &[(String, String)]) -> Vec<&str> {
    told.iter().map(|(verdict, _)| verdict.as_str()).collect()
}

fn with_hooks(runtime: &tokio::runtime::Runtime, status: u16, hooks: &Value) -> MockServer {
    runtime.block_on(async {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(status).set_body_json(hooks);
        Mock::given(method("GET")).and(path("/repos/octo-org/app/hooks")).respond_with(answer).mount(&server).await;
        server
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// What is different about a webhook.
type Change = Box<dyn FnOnce(&mut Value)>;

fn hook(change: impl FnOnce(&mut Value)) -> Value {
    let mut hook = json!({
        "active": true, "events": EVENTS, "last_response": {"code": 202, "status": "active", "message": "OK"},
        "config": {"url": "https://hooks.example.org/webhooks/github", "content_type": "json", "secret": "********"},
    });
    change(&mut hook);
    json!([{"active": true, "events": ["push"], "config": {"url": "https://other.example.org/"}}, hook])
}

#[test]
fn the_address_and_the_secret_are_looked_at_before_the_supervisor_needs_them() {
    let runtime = runtime();
    let server = with_hooks(&runtime, 404, &json!({"message": "Not Found"}));
    let address = free_address();
    let root = root(&address);
    let good = told(&root, Some(SECRET), &server.uri());
    assert_eq!(verdicts(&good), ["ok", "ok", "ok"], "{good:?}");
    assert_eq!(good[0].1, format!("{address} is free"));
    assert!(good[2].1.contains("may not list the webhooks of octo-org/app"), "{good:?}");

    let taken = TcpListener::bind(&address).unwrap();
    let bad = told(&root, None, &server.uri());
    drop(taken);
    assert_eq!(verdicts(&bad), ["fail", "fail", "ok"], "{bad:?}");
    assert!(
        bad[0].1.contains("cannot be listened at") && bad[1].1.contains("no secret in MIYABI_WEBHOOK_SECRET"),
        "{bad:?}"
    );

    let short = told(&root, Some("short"), &server.uri());
    assert_eq!(verdicts(&short), ["ok", "warn", "ok"], "{short:?}");
}

#[test]
fn what_is_wrong_with_the_webhook_on_github_is_named() {
    let runtime = runtime();
    let root = root(&free_address());
    let judged = |hooks: Value| {
        let server = with_hooks(&runtime, 200, &hooks);
        told(&root, Some(SECRET), &server.uri()).split_off(2)
    };
    let good = judged(hook(|_| {}));
    assert_eq!(verdicts(&good), ["ok"], "{good:?}");
    assert!(good[0].1.ends_with("the last delivery arrived"), "{good:?}");
    let fresh = judged(hook(|hook| hook["last_response"] = json!({"code": null, "status": "unused", "message": null})));
    assert!(fresh[0].1.ends_with("nothing was delivered yet"), "{fresh:?}");
    let all = judged(hook(|hook| hook["events"] = json!(["*"])));
    assert_eq!(verdicts(&all), ["ok"], "{all:?}");

    let cases: [(&str, &str, Change); 5] = [
        ("warn", "is switched off", Box::new(|hook| hook["active"] = json!(false))),
        ("fail", "sends `form`", Box::new(|hook| hook["config"]["content_type"] = json!("form"))),
        ("fail", "has no secret", Box::new(|hook| hook["config"]["secret"] = Value::Null)),
        (
            "warn",
            "does not tell of: issue_comment, pull_request",
            Box::new(|hook| {
                hook["events"] = json!(["issues", "pull_request_review"]);
            }),
        ),
        (
            "warn",
            "was answered with 401 Unauthorized",
            Box::new(|hook| {
                hook["last_response"] = json!({"code": 401, "message": "Unauthorized"});
            }),
        ),
    ];
    for (verdict, expected, change) in cases {
        let said = judged(hook(change));
        assert!(said.len() == 1 && said[0].0 == verdict && said[0].1.contains(expected), "{expected}: {said:?}");
    }
    let none = judged(json!([]));
    assert!(none[0].0 == "warn" && none[0].1.contains("has no webhook whose address ends with"), "{none:?}");
}

/// A supervisor that says how its receiving side is.
fn supervisor(root: &Root, webhook: WebhookView) -> Supervisor {
    let writes = WritesView { waiting: 0, next_at: None, last_minute: 0, last_hour: 0, troubles: Vec::new() };
    let view = GithubView {
        api_url: String::new(),
        quota: None,
        paused_until: None,
        paused_reason: None,
        repositories: Vec::new(),
        writes,
        webhook: Some(webhook),
        not_trusted: Vec::new(),
        conflicts: Vec::new(),
        orchestra: String::new(),
        claims: Vec::new(),
        tasks: Vec::new(),
    };
    Supervisor::at(root, move |call, answer| {
        if matches!(call, Call::Github) {
            answer.value(&view);
        } else {
            answer.value(&Value::Null);
        }
    })
}

#[test]
fn an_address_that_the_supervisor_holds_is_not_taken_for_somebody_elses() {
    let runtime = runtime();
    let server = with_hooks(&runtime, 403, &json!({"message": "no"}));
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = held.local_addr().unwrap().to_string();
    let root = root(&listen);
    for (trouble, verdict) in [(None, "ok"), (Some("address in use".to_owned()), "fail")] {
        let _supervisor = supervisor(&root, WebhookView { listen: listen.clone(), trouble, ..WebhookView::default() });
        // It has its secret from where the doctor cannot look.
        let said = told(&root, None, &server.uri());
        assert_eq!(verdicts(&said), [verdict, "ok"], "{said:?}");
    }
    let _supervisor = supervisor(&root, WebhookView { listen: "127.0.0.1:1".to_owned(), ..WebhookView::default() });
    let said = told(&root, Some(SECRET), &server.uri());
    assert_eq!(said[0].0, "fail", "agents.toml names another address than the supervisor has: {said:?}");
}
