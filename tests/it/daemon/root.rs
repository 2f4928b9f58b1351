//! A root folder with a running supervisor, for one test; everything it started ends with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// How long anything may take before a test fails; far beyond what it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A root folder around a git repository with one commit.
pub(crate) struct Root {
    folder: tempfile::TempDir,
    supervisor: Option<Child>,
    /// Holds the mount namespace in which `data/` is a small disk; it goes with this process.
    disk: Option<Child>,
    /// What the supervisor finds in its environment besides.
    variables: Vec<(String, String)>,
    /// Whether the supervisor and what it starts may follow files.
    has_inotify: bool,
}

impl Root {
    /// Makes the root with the given agents; each is `(id, role, more lines)`.
    pub(crate) fn new(agents: &[(&str, &str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let root = Self { folder, supervisor: None, disk: None, variables: Vec::new(), has_inotify: true };
        fs::create_dir_all(root.path("repo")).unwrap();
        fs::create_dir_all(root.path("tmux")).unwrap();
        fs::create_dir_all(root.path("dag")).unwrap();
        let repo = root.path("repo");
        root.git(&["init", "-q", "-b", "main"]);
        fs::write(repo.join("README"), "hello\n").unwrap();
        root.git(&["add", "."]);
        root.git(&["-c", "user.name=Test", "-c", "user.email=test@example.invalid", "commit", "-qm", "first"]);
        let mut config = "[session]\nname = \"test\"\nsocket = \"test\"\n\n[defaults]\nheartbeat = \"500ms\"\nheartbeat_timeout = \"5s\"\nrestart = { intensity = 50, period = \"1m\", backoff = \"100ms\", backoff_max = \"1s\", reset_after = \"10s\" }\n".to_owned();
        for (id, role, more) in agents {
            config.push_str(&format!("\n[[agent]]\nid = \"{id}\"\nrole = \"{role}\"\n{more}\n"));
        }
        config.push_str("\n[[repository]]\nname = \"repo\"\npath = \"repo\"\n");
        fs::write(root.path("agents.toml"), config).unwrap();
        root
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Sets a variable for every supervisor that is started from now on.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable out again.
    pub(super) fn unset_variable(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    /// Adds tables to agents.toml.
    pub(super) fn configure(&self, text: &str) {
        let path = self.path("agents.toml");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{before}\n{text}")).unwrap();
    }

    /// Lets the supervisors that are started from now on, with their tmux and runners, have no inotify.
    pub(super) fn take_inotify_away(&mut self) {
        self.has_inotify = false;
    }

    /// Makes `data/` a file system of its own, in a mount namespace of its own, for everything that is run from now on.
    pub(super) fn put_data_on_a_small_disk(&mut self, size: &str) {
        let data = self.path("data");
        fs::create_dir_all(&data).unwrap();
        let script =
            format!("mount -t tmpfs -o size={size},mode=700 none '{}' && echo mounted && exec cat", data.display());
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a mount namespace can be made");
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "a small disk can be mounted");
        self.disk = Some(holder);
    }

    /// Returns where this process finds `data/`.
    pub(super) fn data_seen_from_here(&self) -> PathBuf {
        match &self.disk {
            Some(holder) => PathBuf::from(format!("/proc/{}/root{}", holder.id(), self.path("data").display())),
            None => self.path("data"),
        }
    }

    /// Returns a command that sees the small disk, if there is one.
    fn program(&self, name: &str) -> Command {
        match &self.disk {
            Some(holder) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--mount=/proc/{}/ns/mnt", holder.id())).arg(name);
                command
            }
            None => Command::new(name),
        }
    }

    /// Starts the supervisor again if it has ended, as systemd would.
    pub(super) fn keep_up(&mut self) {
        let ended = match &mut self.supervisor {
            Some(child) => child.try_wait().unwrap().is_some(),
            None => true,
        };
        if ended {
            self.supervisor = Some(self.spawn_supervisor());
        }
    }

    fn spawn_supervisor(&self) -> Child {
        let mut command = self.command(&["up"]);
        if !self.has_inotify {
            // A user namespace has limits of its own, so nobody else on this machine is deprived of anything.
            let mut deprived = Command::new("unshare");
            deprived.args(["--user", "--map-root-user", "sh", "-c"]);
            deprived.arg("echo 0 > /proc/sys/user/max_inotify_instances; exec \"$@\"").arg("sh");
            deprived.arg(command.get_program()).args(command.get_args());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => deprived.env(name, value),
                    None => deprived.env_remove(name),
                };
            }
            command = deprived;
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let log = fs::File::options().create(true).append(true).open(self.path("up.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.spawn().expect("the supervisor can be started")
    }

    pub(super) fn tmux(&self, args: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", "test"]).args(args).env("TMUX_TMPDIR", self.path("tmux")).env_remove("TMUX");
        tmux.output().expect("tmux can be run")
    }

    /// Starts the supervisor and waits until it answers.
    pub(super) fn up(&mut self) {
        let mut child = self.spawn_supervisor();
        let deadline = Deadline::new();
        while !self.run(&["status"]).status.success() {
            if let Some(ended) = child.try_wait().unwrap() {
                panic!("the supervisor ended: {ended}\n{}", self.log());
            }
            deadline.check("the supervisor does not answer");
            std::thread::yield_now();
        }
        self.supervisor = Some(child);
    }

    /// Kills the supervisor as a crash would, and reaps it.
    pub(super) fn kill_supervisor(&mut self) {
        let mut child = self.supervisor.take().expect("a supervisor is running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(super) fn supervisor(&mut self) -> &mut Child {
        self.supervisor.as_mut().expect("a supervisor is running")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_miyabi"));
        command.arg("-C").arg(self.folder.path()).args(args);
        command.env("TMUX_TMPDIR", self.path("tmux")).env_remove("TMUX").env_remove("MIYABI_ROOT");
        command.env_remove("MIYABI_AGENT").env_remove("MIYABI_INCARNATION").env("NO_COLOR", "1");
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("miyabi can be run")
    }

    /// Runs a verb that must succeed, and returns what it printed.
    pub(super) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "miyabi {args:?} ended with {}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        serde_json::from_str(&self.ok(&all)).expect("the output is JSON")
    }

    pub(super) fn git(&self, args: &[&str]) -> String {
        let output = self.program("git").arg("-C").arg(self.path("repo")).args(args).output().expect("git can be run");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts a dependency file in place, whole, as a careful editor does.
    pub(super) fn drop_file(&self, name: &str, text: &str) {
        let draft = self.path(&format!("dag/.{name}"));
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.path(&format!("dag/{name}"))).unwrap();
    }

    pub(super) fn task(&self, id: &str) -> Value {
        self.json(&["task", "list"])
            .as_array()
            .unwrap()
            .iter()
            .find(|task| task["id"] == id)
            .cloned()
            .unwrap_or(Value::Null)
    }

    pub(super) fn agent(&self, id: &str) -> Value {
        let status = self.json(&["status"]);
        status["agents"].as_array().unwrap().iter().find(|agent| agent["id"] == id).cloned().unwrap()
    }

    /// Waits until an event of the kind is told of the task or agent, and returns it.
    pub(super) fn wait_event(&self, kind: &str, subject: &str) -> Value {
        self.wait_nth_event(kind, subject, 1)
    }

    /// Waits until an event of the kind has been told `times` times of the task or agent, and returns the last.
    pub(super) fn wait_nth_event(&self, kind: &str, subject: &str, times: usize) -> Value {
        let mut follow = self.command(&["--json", "events", "--follow"]);
        let mut child = follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let deadline = Deadline::new();
        let mut seen = 0;
        let found = loop {
            match lines.recv_timeout(deadline.left()) {
                Ok(line) => {
                    let event: Value = serde_json::from_str(&line).expect("each line is JSON");
                    if event["kind"] == kind && (event["task"] == subject || event["agent"] == subject) {
                        seen += 1;
                        if seen == times {
                            break Some(event);
                        }
                    }
                }
                Err(_) => break None,
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        drop(lines);
        reader.join().unwrap();
        found.unwrap_or_else(|| {
            panic!("no {kind} of {subject} came {times} times\n{}\n{}", self.ok(&["events"]), self.log())
        })
    }

    pub(super) fn count_events(&self, kind: &str, subject: &str) -> usize {
        self.ok(&["--json", "events"])
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|event| event["kind"] == kind && (event["task"] == subject || event["agent"] == subject))
            .count()
    }

    /// Waits until a condition holds; the condition itself asks the real program.
    pub(super) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        self.until_within(PATIENCE, what, holds);
    }

    /// Waits for a time of its own.
    pub(super) fn until_within(&self, patience: Duration, what: &str, holds: impl Fn() -> bool) {
        let deadline = Deadline::within(patience);
        while !holds() {
            if deadline.left().is_zero() {
                panic!("gave up: {what}\n{}", self.evidence());
            }
            std::thread::yield_now();
        }
    }

    /// What somebody would look at first who wonders why nothing happens.
    fn evidence(&self) -> String {
        let told = |args: &[&str]| String::from_utf8_lossy(&self.run(args).stdout).into_owned();
        let events = told(&["events"]);
        let events: Vec<&str> = events.lines().rev().take(60).collect();
        let events: Vec<&str> = events.into_iter().rev().collect();
        let files = fs::read_dir(self.path("logs")).into_iter().flatten().flatten();
        let logs = files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect::<String>();
        let warnings: Vec<&str> = logs.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
        let warnings = warnings.get(warnings.len().saturating_sub(60)..).unwrap_or_default().join("\n");
        format!("{}\n{}\n{}\n{warnings}", self.log(), told(&["status"]), events.join("\n"))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("up.log")).unwrap_or_default()
    }

    /// Returns the subjects of the commits on main, oldest first, without the first one.
    pub(super) fn commits(&self) -> Vec<String> {
        let log = self.git(&["log", "--reverse", "--format=%s", "main"]);
        log.lines().skip(1).map(str::to_owned).collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            drop(child.kill());
            drop(child.wait());
        }
        drop(self.tmux(&["kill-server"]));
        // A tmux server that was just being started when its supervisor was killed did not hear that yet.
        let folders = [("TMUX_TMPDIR", self.path("tmux")), ("MIYABI_ROOT", self.folder.path().to_owned())];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (name, folder) in folders {
            let marks = [(name.to_owned(), folder.display().to_string())];
            drop(runtime.block_on(miyabi::io::process::end_marked(&marks, Duration::ZERO)));
        }
        if let Some(mut holder) = self.disk.take() {
            drop(holder.kill());
            drop(holder.wait());
        }
    }
}

/// A point in time at which a test gives up.
pub(super) struct Deadline(std::time::Instant);

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "tests measure real time to give up")]
    pub(super) fn within(patience: Duration) -> Self {
        Self(std::time::Instant::now() + patience)
    }

    pub(crate) fn new() -> Self {
        Self::within(PATIENCE)
    }

    #[expect(clippy::disallowed_methods, reason = "tests measure real time to give up")]
    pub(super) fn left(&self) -> Duration {
        self.0.saturating_duration_since(std::time::Instant::now())
    }

    pub(super) fn check(&self, what: &str) {
        assert!(!self.left().is_zero(), "gave up: {what}");
    }
}
