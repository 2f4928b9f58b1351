//! Making a root, and what the program says where there is none.

use std::os::unix::fs::PermissionsExt;

use super::support::{Root, code, text};

#[test]
fn init_makes_a_root_that_is_valid_at_once() {
    let root = Root::bare();
    root.git(&["init", "--quiet"]);
    root.write("README.md", "hello\n");
    root.git(&["add", "."]);
    root.git(&["commit", "--quiet", "--message", "first"]);
    let output = root.run(&["init"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));

    for check in [["config", "check"], ["dag", "check"]] {
        let output = root.run(&check);
        assert_eq!(code(&output), 0, "{check:?}: {}", text(&output.stderr));
    }
    let team = root.json(&["config", "check"]);
    assert_eq!(team["agents"], serde_json::json!(["conductor", "kaede", "sakura", "tsubaki", "botan"]));
    assert!(std::fs::read_to_string(root.path().join("agents.toml")).unwrap().contains("path = \".\""));
    // Run-time folders are private, and nothing in them is ever seen by git.
    for folder in ["data", "logs"] {
        let mode = std::fs::metadata(root.path().join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
    assert_eq!(root.git(&["status", "--porcelain", "--untracked-files=no"]), "");
    assert!(!root.git(&["status", "--porcelain", "--untracked-files=all"]).contains("data/"));
}

#[test]
fn a_second_init_changes_nothing() {
    let root = Root::new();
    root.write("agents.toml", "# mine\n");
    let output = root.run(&["init"]);
    assert_eq!(code(&output), 0);
    assert_eq!(std::fs::read_to_string(root.path().join("agents.toml")).unwrap(), "# mine\n");
    assert!(text(&output.stdout).contains("kept agents.toml"));
}

#[test]
fn init_with_dry_run_writes_nothing() {
    let root = Root::bare();
    let output = root.run(&["init", "--dry-run"]);
    assert_eq!(code(&output), 0);
    assert!(text(&output.stdout).contains("would be made agents.toml"));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn init_never_touches_a_gitignore_that_git_tracks() {
    let root = Root::bare();
    root.git(&["init", "--quiet"]);
    root.write(".gitignore", "/target");
    let extended = root.run(&["init"]);
    assert!(text(&extended.stdout).contains("extended .gitignore"), "an untracked one is extended");
    assert_eq!(std::fs::read_to_string(root.path().join(".gitignore")).unwrap(), "/target\n/data/\n/logs/\n");

    let root = Root::bare();
    root.git(&["init", "--quiet"]);
    root.write(".gitignore", "/target\n");
    root.git(&["add", "."]);
    root.git(&["commit", "--quiet", "--message", "first"]);
    assert_eq!(code(&root.run(&["init"])), 0);
    assert_eq!(root.git(&["status", "--porcelain", "--untracked-files=no"]), "");
    assert!(!root.git(&["status", "--porcelain", "--untracked-files=all"]).contains("data/"));
}

#[test]
fn init_below_the_top_of_a_checkout_names_the_top() {
    let root = Root::bare();
    root.git(&["init", "--quiet"]);
    std::fs::create_dir_all(root.path().join("ops/team")).unwrap();
    let output = root.command(&["-C", "ops/team", "init"]).output().unwrap();
    assert_eq!(code(&output), 0);
    assert!(std::fs::read_to_string(root.path().join("ops/team/agents.toml")).unwrap().contains("path = \"../..\""));
    assert!(text(&output.stdout).contains("no commit yet"));
}

#[test]
fn without_a_root_every_verb_says_how_to_make_one() {
    let root = Root::bare();
    let output = root.run(&["status"]);
    assert_eq!(code(&output), 4);
    insta::assert_snapshot!(root.anonymous(&output.stderr));
    assert_eq!(code(&root.run(&["-C", "nowhere", "status"])), 4);
}

#[test]
fn the_root_can_be_named_in_three_ways() {
    let root = Root::new();
    let elsewhere = Root::bare();
    let path = root.path().display().to_string();
    assert_eq!(code(&elsewhere.run(&["-C", &path, "config", "check"])), 0);
    assert_eq!(code(&elsewhere.command(&["config", "check"]).env("MIYABI_ROOT", &path).output().unwrap()), 0);
    assert_eq!(code(&root.run(&["config", "check"])), 0);
    // What is said on the command line wins.
    let elsewhere_named =
        elsewhere.command(&["-C", ".", "config", "check"]).env("MIYABI_ROOT", &path).output().unwrap();
    assert_eq!(code(&elsewhere_named), 4);
}

#[test]
fn the_help_shows_all_verbs_with_examples() {
    let output = Root::bare().run(&["--help"]);
    assert_eq!(code(&output), 0);
    insta::assert_snapshot!(text(&output.stdout));
    let usage = Root::bare().run(&["statsu"]);
    assert_eq!(code(&usage), 2);
    assert!(text(&usage.stderr).contains("status"));
}

#[test]
fn completions_know_the_verbs_and_a_closed_pipe_is_no_failure() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Root::bare().run(&["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(text(&output.stdout).contains("submit"));
    }
    let script = format!(
        "'{}' completions bash | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}",
        super::support::program().display()
    );
    let output = assert_cmd::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(text(&output.stdout).trim(), "0");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_doctor_names_what_is_missing_and_what_to_do() {
    let root = Root::new();
    let findings = root.json(&["doctor"]);
    let of = |check: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no check `{check}`"))["verdict"].clone()
    };
    for check in ["tmux", "git", "locale", "root", "config", "dag"] {
        assert_eq!(of(check), "ok", "{check}");
    }
    assert_eq!(of("supervisor"), "warn");

    root.write("data/worktrees/left/file", &"x".repeat(300_000));
    let told = |max: &str| {
        let agents = format!(
            "[resources]\nworktrees_max = \"{max}\"\n[[agent]]\nid = \"a\"\nrole = \"codegen\"\ndriver = \"echo\"\n"
        );
        root.write("agents.toml", &agents);
        let findings = root.json(&["doctor"]);
        let found =
            findings.as_array().unwrap().iter().find(|finding| finding["check"] == "worktrees").cloned().unwrap();
        (found["verdict"].clone(), found["message"].as_str().unwrap().to_owned())
    };
    let (verdict, message) = told("1GiB");
    assert!(verdict == "ok" && message.starts_with("1 worktree, ") && message.ends_with(" of 1 GiB"), "{message}");
    assert_eq!(told("200KiB").0, "warn");

    root.write("agents.toml", "[[agent]]\nid = \"a\"\nrole = \"codegen\"\ncommand = [\"no-such-program-here\"]\n");
    let output = root.run(&["doctor"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stdout).contains("there is no `no-such-program-here` for a"), "{}", text(&output.stdout));
}

#[test]
fn the_doctor_names_a_lock_that_a_killed_git_may_have_left() {
    let root = Root::new();
    root.git(&["init", "--quiet", "app"]);
    root.git(&["-C", "app", "commit", "--quiet", "--allow-empty", "--message", "first"]);
    root.write(
        "agents.toml",
        "[[agent]]\nid = \"a\"\nrole = \"codegen\"\ndriver = \"echo\"\n[[repository]]\npath = \"app\"\n",
    );
    let said = || {
        let findings = root.json(&["doctor"]);
        let found = findings.as_array().unwrap().iter().find(|finding| finding["check"] == "repository").cloned();
        found.unwrap()["message"].as_str().unwrap().to_owned()
    };
    let lock = std::fs::File::create(root.path().join("app/.git/packed-refs.lock")).unwrap();
    assert!(!said().contains("lock"), "somebody has just taken it");
    let made = lock.metadata().unwrap().modified().unwrap();
    lock.set_modified(made - std::time::Duration::from_secs(7_200)).unwrap();
    assert!(said().contains("app/.git/packed-refs.lock is 2h 0m old"), "{}", said());
}

#[test]
fn the_doctor_never_prints_the_token() {
    let root = Root::new();
    let secret = "ghp_a-very-secret-token";
    let output = root
        .command(&["doctor"])
        .env("GITHUB_TOKEN", secret)
        .env("MIYABI_GITHUB_API", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("github") && !said.contains(secret), "{said}");
}

#[test]
fn every_fault_of_agents_toml_is_shown_with_its_place() {
    let root = Root::new();
    root.write(
        "agents.toml",
        "[[agent]]\nid = \"kaede\"\nrole = \"codegen\"\ndrivr = \"echo\"\nheartbeat = \"soon\"\n",
    );
    let output = root.run(&["config", "check"]);
    assert_eq!(code(&output), 4);
    let said = text(&output.stderr);
    for part in ["agents.toml:4:1", "did you mean `driver`?", "agents.toml:5:13"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    let output = root.run(&["config", "check", "--json"]);
    assert_eq!(code(&output), 4);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["valid"], false);
    assert_eq!(report["faults"][0]["place"]["file"], "agents.toml");
}

#[test]
fn schemas_are_json() {
    for arguments in [&["config", "schema"][..], &["config", "schema", "--dag"]] {
        let output = Root::bare().run(arguments);
        let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(schema["$schema"].is_string());
    }
}

/// A bare repository in the place of one on GitHub, as git's own configuration allows it.
fn on_github(root: &Root, slug: &str) -> String {
    let bare = root.path().join("github").join(format!("{slug}.git"));
    std::fs::create_dir_all(&bare).unwrap();
    let bare = bare.display().to_string();
    root.git(&["init", "--quiet", "--bare", &bare]);
    root.git(&["clone", "--quiet", &bare, "draft"]);
    root.git(&["-C", "draft", "commit", "--quiet", "--allow-empty", "--message", "first"]);
    root.git(&["-C", "draft", "push", "--quiet", "origin", "HEAD"]);
    format!("{}/", root.path().join("github").display())
}

fn init_github(root: &Root, base: &str, args: &[&str]) -> std::process::Output {
    root.command(args)
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", format!("url.{base}.insteadOf"))
        .env("GIT_CONFIG_VALUE_0", "https://github.com/")
        .output()
        .unwrap()
}

#[test]
fn init_with_github_clones_and_names_the_repository() {
    let elsewhere = Root::bare();
    let base = on_github(&elsewhere, "octo-org/app");
    let root = Root::bare();
    let planned = init_github(&root, &base, &["--json", "init", "--github", "octo-org/app", "--dry-run"]);
    assert_eq!(code(&planned), 0, "{}", text(&planned.stderr));
    assert!(text(&planned.stdout).contains("\"cloned\""));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "a dry run writes nothing");

    let output = init_github(&root, &base, &["init", "--github", "octo-org/app"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("cloned app"), "{}", text(&output.stdout));
    let team = std::fs::read_to_string(root.path().join("agents.toml")).unwrap();
    for line in [
        "path = \"app\"",
        "github = \"octo-org/app\"",
        "remote = \"https://github.com/octo-org/app.git\"",
        "merge = \"pull-request\"",
    ] {
        assert!(team.contains(line), "{line} is not in\n{team}");
    }
    assert!(!team.contains("api_url"));
    for check in [["config", "check"], ["dag", "check"]] {
        let output = root.run(&check);
        assert_eq!(code(&output), 0, "{check:?}: {}", text(&output.stderr));
    }
    // Again, and inside of a checkout of it: nothing is cloned twice.
    let again = init_github(&root, &base, &["init", "--github", "octo-org/app"]);
    assert_eq!(code(&again), 0, "{}", text(&again.stderr));
    assert!(!text(&again.stdout).contains("cloned"));
    let inside = init_github(&root, &base, &["-C", "app", "init", "--github", "https://github.com/octo-org/app"]);
    assert_eq!(code(&inside), 0, "{}", text(&inside.stderr));
    assert!(std::fs::read_to_string(root.path().join("app/agents.toml")).unwrap().contains("path = \".\""));
}

#[test]
fn init_with_github_refuses_a_foreign_checkout_and_makes_nothing_when_git_fails() {
    let root = Root::bare();
    let missing = format!("{}/", root.path().join("nowhere").display());
    let output = init_github(&root, &missing, &["init", "--github", "octo-org/app"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("cannot clone https://github.com/octo-org/app.git"));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);

    assert_eq!(code(&root.run(&["init", "--github", "app"])), 2);
    root.git(&["init", "--quiet"]);
    let output = root.run(&["init", "--github", "octo-org/app"]);
    assert_eq!(code(&output), 5);
    assert!(text(&output.stderr).contains("no remote octo-org/app"), "{}", text(&output.stderr));
    assert!(!root.path().join("agents.toml").exists());
}

#[test]
fn the_doctor_names_each_permission_that_the_token_lacks_and_what_for() {
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(async {
        let server = MockServer::start().await;
        let nobody = format!("/repos/octo-org/app/statuses/{}", "0".repeat(40));
        for (verb, at, status) in [
            ("GET", "/user", 200),
            ("GET", "/repos/octo-org/app", 200),
            ("POST", "/repos/octo-org/app/issues", 422),
            ("POST", "/repos/octo-org/app/pulls", 403),
            ("POST", "/repos/octo-org/app/git/refs", 422),
            ("POST", nobody.as_str(), 422),
        ] {
            let body = serde_json::json!({"login": "octocat", "permissions": {"push": true}, "message": "no"});
            let answer = ResponseTemplate::new(status).set_body_json(body);
            Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(&server).await;
        }
        server
    });
    let root = Root::new();
    root.git(&["init", "--quiet", "app"]);
    root.write(
        "agents.toml",
        "[[agent]]\nid = \"a\"\nrole = \"codegen\"\ndriver = \"echo\"\n[[repository]]\npath = \"app\"\n\
         github = \"octo-org/app\"\nremote = \"https://github.com/octo-org/app.git\"\nmerge = \"pull-request\"\n",
    );
    let mut command = root.command(&["--json", "doctor"]);
    let output = command.env("GITHUB_TOKEN", "secret").env("MIYABI_GITHUB_API", server.uri()).output().unwrap();
    assert_eq!(code(&output), 1);
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let told: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["check"] == "github")
        .map(|finding| finding["message"].as_str().unwrap())
        .collect();
    assert_eq!(told, ["the token is that of octocat", "missing for octo-org/app: Pull requests: read and write"]);
}
