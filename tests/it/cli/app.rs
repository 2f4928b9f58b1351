//! A GitHub App on the command line: what is wrong with its key, and what it may not do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::support::{Root, code, text};

/// A team with an app and two repositories.
const TEAM: &str = "[[agent]]\nid = \"a\"\nrole = \"codegen\"\ndriver = \"echo\"\n\
    [github]\napp_id = 4711\nprivate_key_file = \"app.pem\"\n\
    [[repository]]\npath = \"app\"\ngithub = \"octo-org/app\"\nmerge = \"pull-request\"\n\
    [[repository]]\npath = \"lib\"\ngithub = \"octo-org/lib\"\nmerge = \"pull-request\"\n";

fn root() -> Root {
    let root = Root::new();
    root.git(&["init", "--quiet", "app"]);
    root.git(&["init", "--quiet", "lib"]);
    root.write("agents.toml", TEAM);
    root
}

fn key(root: &Root, mode: u32) {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hub/keys/app.pem");
    let path = root.path().join("app.pem");
    std::fs::copy(made, &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What the doctor says of GitHub.
fn told(output: &std::process::Output) -> Vec<String> {
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of_github = findings.iter().filter(|finding| finding["check"] == "github");
    of_github.map(|finding| finding["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_key_that_is_missing_open_or_none_is_told_before_anything_starts() {
    let root = root();
    for (prepare, expected) in [
        (None, "cannot be read"),
        (Some(0o644), "can be read by others (mode 0644)"),
        (Some(0o600), "is no private RSA key"),
    ] {
        if let Some(mode) = prepare {
            key(&root, mode);
        }
        if prepare == Some(0o600) {
            root.write("app.pem", "ghp_something-else");
        }
        for verb in [&["config", "check"][..], &["up"]] {
            let output = root.run(verb);
            let said = text(&output.stderr);
            assert_eq!(code(&output), 4, "{verb:?}: {said}");
            assert!(said.contains(expected) && said.contains("app.pem"), "{verb:?}: {said}");
            assert!(!said.contains("ghp_something-else"), "{said}");
        }
        let output = root.run(&["--json", "doctor"]);
        assert_eq!(code(&output), 1);
        assert!(told(&output).iter().any(|message| message.contains(expected)), "{:?}", told(&output));
    }
    key(&root, 0o600);
    assert_eq!(code(&root.run(&["config", "check"])), 0);
}

#[test]
fn a_credential_of_the_service_manager_goes_before_the_file() {
    let root = root();
    let folder = tempfile::tempdir().unwrap();
    let check = || root.command(&["config", "check"]).env("CREDENTIALS_DIRECTORY", folder.path()).output().unwrap();
    std::fs::write(folder.path().join("github_app_key"), " ").unwrap();
    assert!(text(&check().stderr).contains("app.pem"), "an empty one is none");
    std::fs::write(folder.path().join("github_app_key"), "nonsense").unwrap();
    assert!(text(&check().stderr).contains("the credential github_app_key is no private RSA key"));
    key(&root, 0o600);
    std::fs::rename(root.path().join("app.pem"), folder.path().join("github_app_key")).unwrap();
    assert_eq!(code(&check()), 0);
}

fn server(runtime: &tokio::runtime::Runtime, answers: &[(&str, u16, Value)]) -> MockServer {
    runtime.block_on(async {
        let server = MockServer::start().await;
        for (at, status, body) in answers {
            let answer = ResponseTemplate::new(*status).set_body_json(body);
            Mock::given(method("GET")).and(path(*at)).respond_with(answer).mount(&server).await;
        }
        server
    })
}

#[test]
fn the_doctor_names_where_the_app_is_not_installed_and_which_permission_it_lacks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let permissions = json!({"issues": "write", "contents": "read", "pull_requests": "write", "metadata": "read"});
    let answers = [
        ("/app", 200, json!({"slug": "our-miyabi"})),
        ("/repos/octo-org/app/installation", 200, json!({"id": 1, "permissions": permissions})),
        ("/repos/octo-org/lib/installation", 404, json!({"message": "Not Found"})),
    ];
    let server = server(&runtime, &answers);
    let root = root();
    key(&root, 0o600);
    let output = root.command(&["--json", "doctor"]).env("MIYABI_GITHUB_API", server.uri()).output().unwrap();
    assert_eq!(code(&output), 1);
    assert_eq!(
        told(&output),
        [
            "the app is our-miyabi",
            "missing for octo-org/app: Contents: read and write",
            "missing for octo-org/app: Commit statuses: read and write",
            "missing for octo-org/lib: an installation of the app",
        ]
    );
}

#[test]
fn the_doctor_says_when_the_key_is_not_that_of_the_app() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let message = json!({"message": "A JSON web token could not be decoded"});
    let server = server(&runtime, &[("/app", 401, message)]);
    let root = root();
    key(&root, 0o600);
    let output = root.command(&["--json", "doctor"]).env("MIYABI_GITHUB_API", server.uri()).output().unwrap();
    assert_eq!(code(&output), 1);
    assert_eq!(told(&output), ["GitHub does not accept the key as that of app 4711"]);
    assert!(!text(&output.stdout).contains("eyJ"), "no proof is shown");
}

#[test]
fn the_doctor_looks_at_the_webhook_of_the_app() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config =
        json!({"url": "https://hooks.example.org/webhooks/github", "content_type": "json", "secret": "********"});
    let answers = [
        ("/app", 200, json!({"slug": "our-miyabi", "events": ["issues", "issue_comment", "pull_request"]})),
        ("/app/hook/config", 200, config),
        ("/app/hook/deliveries", 200, json!([{"status_code": 502, "status": "Bad Gateway", "event": "issues"}])),
    ];
    let server = server(&runtime, &answers);
    let root = root();
    root.write(
        "agents.toml",
        &TEAM.replace(
            "[[repository]]\npath = \"app\"",
            "[github.webhook]\nlisten = \"127.0.0.1:1\"\n[[repository]]\npath = \"app\"",
        ),
    );
    key(&root, 0o600);
    let mut command = root.command(&["--json", "doctor"]);
    command.env("MIYABI_GITHUB_API", server.uri()).env("MIYABI_WEBHOOK_SECRET", "0123456789abcdef0123456789abcdef");
    let findings: Vec<Value> = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let said: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["check"] == "webhook")
        .map(|finding| finding["message"].as_str().unwrap())
        .collect();
    assert!(said.contains(&"the webhook of the app does not tell of: pull_request_review"), "{said:?}");
    assert!(said.contains(&"the last delivery of the app was answered with 502 Bad Gateway"), "{said:?}");
}
