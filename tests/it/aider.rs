//! The real aider against a scripted model server on loopback.
//!
//! Both programs are installed into `.tools/` by `scripts/install-test-tools`. Where one is missing the tests say so and
//! pass, except in CI, where nothing may be missing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use miyabi::model::agent::DriverKind;
use miyabi::model::report::{FailureKind, Outcome};
use miyabi::model::task::Work;

use crate::runner_support::Root;

/// The model's answers: a whole file for the task, and something short for whatever else aider asks.
const ANSWERS: &str = r#"{"fixtures": [
    {"match": {"userMessage": "FizzBuzz"}, "response": {"content": "fizzbuzz.py\n```\nfor n in range(1, 16):\n    print('FizzBuzz' if n % 15 == 0 else 'Fizz' if n % 3 == 0 else 'Buzz' if n % 5 == 0 else n)\n```\n"}},
    {"match": {}, "response": {"content": "feat: add a program"}}
]}"#;

/// A model that talks and changes nothing.
const TALK: &str = r#"{"fixtures": [{"match": {}, "response": {"content": "I would rather not."}}]}"#;

const CHECK: &str = "python3 fizzbuzz.py | tail -n 3 | tr '\\n' ' ' | grep -x '13 14 FizzBuzz '";

/// Finds a tool, by the variable that names it or where the script installs it.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn tool(variable: &str, installed: &str) -> Option<PathBuf> {
    let named = std::env::vars().find(|(name, _)| name == variable).map(|(_, path)| PathBuf::from(path));
    let path = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(installed));
    if path.exists() {
        return Some(path);
    }
    let in_ci = std::env::vars().any(|(name, value)| name == "CI" && value == "true");
    assert!(!in_ci, "{} is missing; scripts/install-test-tools installs it", path.display());
    eprintln!("SKIPPED: {} is missing; scripts/install-test-tools installs it", path.display());
    None
}

/// A scripted model server.
pub(crate) struct Model {
    child: Child,
    pub(crate) address: String,
}

impl Model {
    pub(crate) fn start(program: &Path, folder: &Path, script: &str) -> Self {
        let answers = folder.join("answers.json");
        fs::write(&answers, script).unwrap();
        let mut child = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", "0", "--fixtures", answers.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().split_once("listening on ").map(|(_, address)| address.trim().to_owned()))
            .expect("the server says where it listens");
        // Whatever it prints later must find a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn root(aider: &Path, address: &str) -> Root {
    let command = ["--model", "ollama_chat/scripted", "--edit-format", "whole", "--map-tokens", "0"];
    let command: Vec<&str> = std::iter::once(aider.to_str().unwrap()).chain(command).collect();
    let mut root = Root::new(DriverKind::Aider, &command);
    root.agent.env.insert("OLLAMA_API_BASE".to_owned());
    let home = root.path("home");
    fs::create_dir(&home).unwrap();
    root.env = vec![("OLLAMA_API_BASE", address.to_owned()), ("HOME", home.display().to_string())];
    root
}

#[test]
fn aider_writes_fizzbuzz_and_the_check_proves_it() {
    let Some(aider) = tool("MIYABI_TEST_AIDER", ".tools/aider/bin/aider") else { return };
    let Some(server) = tool("MIYABI_TEST_LLMOCK", ".tools/node_modules/.bin/llmock") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = Model::start(&server, folder.path(), ANSWERS);
    let root = root(&aider, &model.address);
    let order = root.order(Work::Prompt("Write FizzBuzz up to 15 into fizzbuzz.py".to_owned()), CHECK);
    root.send(&order);
    let runner = root.start(1);
    let report = root.report(&order);
    assert_eq!(report.outcome, Outcome::Done, "{report:#?}\n{}", String::from_utf8_lossy(&runner.pane()));
    let spent = report.spent.expect("aider says how many tokens it has used");
    assert!(spent.tokens_in.is_some() && spent.tokens_out.is_some(), "{spent:?}");
    assert_eq!(spent.micro_usd, None, "it knows no price of this model");
    let commit = report.commit.unwrap();
    assert_eq!(root.repository.git(["rev-parse", report.branch.as_deref().unwrap()]), commit);
    assert_eq!(root.repository.git(["rev-parse", &format!("{commit}^")]), report.base.unwrap(), "one commit");
    assert_eq!(root.repository.git(["show", "--format=", "--name-only", &commit]), "fizzbuzz.py", "and no litter");
    assert_eq!(root.repository.git(["log", "-1", "--format=%an", &commit]), "カエデ");
    root.wait_for_state(1, "idle");
    assert_eq!(root.worktrees(), Vec::<String>::new());
}

#[test]
fn aider_that_changes_nothing_has_failed_although_it_claims_success() {
    let Some(aider) = tool("MIYABI_TEST_AIDER", ".tools/aider/bin/aider") else { return };
    let Some(server) = tool("MIYABI_TEST_LLMOCK", ".tools/node_modules/.bin/llmock") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = Model::start(&server, folder.path(), TALK);
    let root = root(&aider, &model.address);
    let order = root.order(Work::Prompt("Write FizzBuzz up to 15 into fizzbuzz.py".to_owned()), CHECK);
    root.send(&order);
    let _runner = root.start(1);
    let report = root.report(&order);
    assert_eq!((report.failure, report.exit_code), (Some(FailureKind::NoCommit), Some(0)), "{report:#?}");
    assert!(report.output.contains("I would rather not."), "{}", report.output);
}
