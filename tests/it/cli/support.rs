//! What the tests of the command line share.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assert_cmd::Command;
use miyabi::control::answer::Answerer;
use miyabi::control::protocol::Call;
use miyabi::control::{server, socket};
use miyabi::tasks::Tasks;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// How long anything that is waited for may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A root in a folder of its own.
pub(super) struct Root {
    folder: tempfile::TempDir,
}

impl Root {
    /// Makes a root with `miyabi init`, outside of any git repository.
    pub(super) fn new() -> Self {
        let root = Self { folder: tempfile::tempdir().unwrap() };
        let output = root.run(&["init"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        root
    }

    /// Makes an empty folder that is no root yet.
    pub(super) fn bare() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Returns the folder, by its real name.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// Prepares the program to run in the root, with nothing of this process's environment but the path.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.current_dir(self.path()).args(arguments).timeout(PATIENCE);
        command
    }

    /// Runs the program in the root.
    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program in the root and returns the JSON that it prints.
    pub(super) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// Writes a file of the root.
    pub(super) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Takes the root's folder out of a text, so that the text is the same in every run.
    pub(super) fn anonymous(&self, shown: &[u8]) -> String {
        text(shown).replace(&self.path().display().to_string(), "ROOT")
    }

    /// Runs git in the root.
    pub(super) fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"])
            .args(arguments)
            .current_dir(self.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

/// The program under test.
pub(super) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_miyabi"))
}

/// Bytes as text.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code of a program that ended by itself.
pub(super) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// A supervisor that answers as it is told and remembers what it was asked.
pub(super) struct Supervisor {
    runtime: Option<Runtime>,
    tasks: Option<Tasks>,
    asked: Arc<Mutex<Vec<Call>>>,
}

impl Supervisor {
    /// Begins to answer at the root's socket.
    pub(super) fn at(root: &Root, answer: impl Fn(&Call, Answerer) + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bound = socket::bind(&root.path().join("data/run/control.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&asked);
        let (sender, mut asks) = mpsc::channel::<miyabi::control::answer::Asked>(8);
        let mut tasks = Tasks::new();
        {
            let _inside = runtime.enter();
            tasks.start("server", |stop| async move { server::serve(bound, sender, stop).await.unwrap() });
            tasks.start("supervisor", |_| async move {
                while let Some(asked) = asks.recv().await {
                    remembered.lock().unwrap().push(asked.call.clone());
                    answer(&asked.call, asked.answer);
                }
            });
        }
        Self { runtime: Some(runtime), tasks: Some(tasks), asked }
    }

    /// Returns what has been asked so far.
    pub(super) fn asked(&self) -> Vec<Call> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let (Some(runtime), Some(tasks)) = (self.runtime.take(), self.tasks.take()) {
            runtime.block_on(tasks.shut_down(Duration::from_secs(5)));
        }
    }
}
