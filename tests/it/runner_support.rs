//! A root folder with one agent, whose runner is a real process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::name::Folder;
use miyabi::model::agent::{AgentSpec, DriverKind, Limits, RestartKind, RestartPolicy, StallAnswer};
use miyabi::model::beat::Beat;
use miyabi::model::envelope::{Envelope, EnvelopeKind};
use miyabi::model::id::{AgentId, EnvelopeId, Incarnation, Mailbox, Role, RunId, StageName, TaskId};
use miyabi::model::launch::{LAUNCH_SCHEMA, Launch};
use miyabi::model::layout::Layout;
use miyabi::model::order::{Expects, Previous, WORK_ORDER_SCHEMA, WorkOrder, Workplace};
use miyabi::model::plan::SpoolLimits;
use miyabi::model::report::Report;
use miyabi::model::task::{NoChange, Priority, Work};
use miyabi::runner::attempt::report_id;
use tempfile::TempDir;

use crate::repository::Repository;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

const ROOT: &str = "MIYABI_TEST_RUNNER_ROOT";
const START: &str = "MIYABI_TEST_RUNNER_START";

/// Not a test: the body of a runner's process, which the tests start from their own executable.
#[test]
fn this_process_is_a_runner_if_it_is_told_so() {
    let environment: std::collections::BTreeMap<String, String> = std::env::vars().collect();
    let (Some(root), Some(start)) = (environment.get(ROOT), environment.get(START)) else { return };
    let (root, start) = (PathBuf::from(root), start.parse().unwrap());
    miyabi::runner::start::run(&root, &kaede(), Incarnation(start), environment).unwrap();
}

pub(crate) fn kaede() -> AgentId {
    AgentId::new("kaede").unwrap()
}

/// Waits until something is there.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = clock::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::now().since(begun) < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says whether a process runs; a zombie does not.
pub(crate) fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// A root folder with one agent and one repository.
pub(crate) struct Root {
    folder: TempDir,
    pub(crate) repository: Repository,
    pub(crate) layout: Layout,
    pub(crate) spool: Spool,
    pub(crate) agent: AgentSpec,
    run: RunId,
    /// Variables of the runner's process.
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Root {
    /// A root whose agent has a driver and a command.
    pub(crate) fn new(driver: DriverKind, command: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let layout = Layout::new(folder.path().canonicalize().unwrap());
        let spool = Spool::new(layout.spool());
        spool.ensure(&Mailbox::supervisor()).unwrap();
        let agent = AgentSpec {
            id: kaede(),
            name: "カエデ".to_owned(),
            role: Role::new("codegen").unwrap(),
            labels: BTreeSet::new(),
            driver,
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            env: BTreeSet::from(["MIYABI_TEST_ALLOWED".to_owned()]),
            heartbeat: Duration::from_millis(200),
            heartbeat_timeout: Duration::from_secs(5),
            start_timeout: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(60),
            stall: Duration::from_secs(600),
            on_stall: StallAnswer::Escalate,
            limits: Limits::default(),
            restart: RestartPolicy {
                policy: RestartKind::Permanent,
                intensity: 5,
                period: Duration::from_secs(60),
                backoff: Duration::from_secs(1),
                backoff_max: Duration::from_secs(60),
                reset_after: Duration::from_secs(60),
            },
        };
        Self {
            folder,
            repository: Repository::new(),
            layout,
            spool,
            agent,
            run: clock::fresh_run_id(),
            env: Vec::new(),
        }
    }

    /// A root whose agent does what a shell script says.
    pub(crate) fn shell(script: &str) -> Self {
        Self::new(DriverKind::Command, &["sh", "-c", script])
    }

    /// A path under the root that is none of miyabi's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An order for the agent: the first attempt at a task in the repository, checked by a command.
    pub(crate) fn order(&self, work: Work, check: &str) -> WorkOrder {
        WorkOrder {
            schema: WORK_ORDER_SCHEMA.to_owned(),
            id: clock::fresh_envelope_id(),
            task: TaskId::new("example/hello").unwrap(),
            run: self.run,
            stage: StageName::new("code").unwrap(),
            attempt: 1,
            agent: self.agent.id.clone(),
            work,
            checks: if check.is_empty() { Vec::new() } else { vec![check.to_owned()] },
            no_change: NoChange::Refused,
            timeout_ms: 60_000,
            priority: Priority::DEFAULT,
            workplace: Some(Workplace {
                repository: "main".parse().unwrap(),
                path: self.repository.path(),
                target: "main".to_owned(),
                branch: "miyabi/example/hello-1".to_owned(),
                start: None,
                detect_check: false,
                protected: Vec::new(),
            }),
            previous: None,
            expects: Expects::Commit,
            rounds: 0,
            inputs: Vec::new(),
            queued_at: clock::now(),
        }
    }

    /// An order with a prompt.
    pub(crate) fn prompt(&self, check: &str) -> WorkOrder {
        self.order(Work::Prompt("write it\nwell".to_owned()), check)
    }

    /// An order with a shell command.
    pub(crate) fn command(&self, command: &str, check: &str) -> WorkOrder {
        self.order(Work::Run(command.to_owned()), check)
    }

    /// The order that follows one whose runner died without a report.
    pub(crate) fn after(&self, order: &WorkOrder) -> WorkOrder {
        let branch = order.workplace.as_ref().unwrap().branch.clone();
        let mut next = WorkOrder { id: clock::fresh_envelope_id(), attempt: order.attempt + 1, ..order.clone() };
        next.workplace.as_mut().unwrap().branch = format!("miyabi/example/hello-{}", next.attempt);
        next.previous = Some(Previous {
            attempt: order.attempt,
            reason: "its runner died".to_owned(),
            output: String::new(),
            checks: Vec::new(),
            diff: String::new(),
            unreported: vec![branch],
        });
        next
    }

    /// Puts an order into the agent's mailbox.
    pub(crate) fn send(&self, order: &WorkOrder) {
        let body = serde_json::to_value(order).unwrap();
        self.deliver(order.id, EnvelopeKind::WorkOrder, Mailbox::work(&self.agent.id), body);
    }

    /// Puts a message into a mailbox.
    pub(crate) fn say(&self, to: Mailbox, text: &str) -> EnvelopeId {
        let id = clock::fresh_envelope_id();
        self.deliver(id, EnvelopeKind::Message, to, text.into());
        id
    }

    fn deliver(&self, id: EnvelopeId, kind: EnvelopeKind, to: Mailbox, body: serde_json::Value) {
        let envelope = Envelope::new(id, kind, "supervisor", to, clock::now(), body);
        self.spool.deliver(&envelope, None, clock::now()).unwrap();
    }

    /// Starts the agent's runner.
    pub(crate) fn start(&self, incarnation: u64) -> Runner {
        let launch = Launch {
            schema: LAUNCH_SCHEMA.to_owned(),
            root: self.layout.root().to_owned(),
            agent: self.agent.clone(),
            incarnation: Incarnation(incarnation),
            session: "test".to_owned(),
            spool: SpoolLimits::default(),
            log_days: 7,
            worktree_days: 14,
            program: PathBuf::from("/bin/false"),
        };
        let path = self.layout.launch(&self.agent.id);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, serde_json::to_vec(&launch).unwrap()).unwrap();
        let pane = self.path(&format!("pane-{incarnation}"));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["runner_support::this_process_is_a_runner_if_it_is_told_so", "--exact", "--nocapture"])
            .env(ROOT, self.layout.root())
            .env(START, incarnation.to_string())
            .env("MIYABI_TEST_ALLOWED", "allowed")
            .env("MIYABI_TEST_SECRET", "secret")
            .env("TMUX", "not for agents")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(File::create(&pane).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Runner { child, pane }
    }

    /// The report of an order, if there is one.
    pub(crate) fn report_now(&self, order: &WorkOrder) -> Option<Report> {
        let envelope = self.spool.read(&Mailbox::supervisor(), report_id(order.id)).unwrap()?;
        Some(serde_json::from_value(envelope.body).unwrap())
    }

    /// Waits for the report of an order, and for its acknowledgement.
    pub(crate) fn report(&self, order: &WorkOrder) -> Report {
        let report = eventually("a report", || self.report_now(order));
        eventually("an acknowledgement", || (self.folder(order) == Some(Folder::Done)).then_some(()));
        report
    }

    /// How many reports there are, whatever became of them.
    pub(crate) fn reports(&self) -> usize {
        self.spool.list(&Mailbox::supervisor()).unwrap().len()
    }

    /// Where an order lies.
    pub(crate) fn folder(&self, order: &WorkOrder) -> Option<Folder> {
        self.spool.locate(&Mailbox::work(&self.agent.id), order.id).unwrap().map(|listed| listed.folder)
    }

    /// Takes a leased order away, as a cancellation does.
    pub(crate) fn take_away(&self, order: &WorkOrder) -> SystemTime {
        let mailbox = Mailbox::work(&self.agent.id);
        let listed = self.spool.locate(&mailbox, order.id).unwrap().unwrap();
        assert_eq!(listed.folder, Folder::Leased);
        let folder = self.spool.root().join(mailbox.as_str());
        fs::rename(folder.join("leased").join(&listed.name), folder.join("dead").join(&listed.name)).unwrap();
        fs::metadata(folder.join("dead")).unwrap().modified().unwrap()
    }

    /// The newest heartbeat.
    pub(crate) fn beat(&self) -> Option<Beat> {
        serde_json::from_slice(&fs::read(self.layout.beat(&self.agent.id)).ok()?).ok()
    }

    /// Waits until a heartbeat of that start shows a state, e.g. `idle`.
    pub(crate) fn wait_for_state(&self, incarnation: u64, state: &str) -> Beat {
        eventually(state, || {
            let beat = self.beat()?;
            let value = serde_json::to_value(&beat.activity).unwrap();
            (beat.incarnation == Incarnation(incarnation) && value["state"] == state).then_some(beat)
        })
    }

    /// Waits for a file that a program writes, and returns its text without the last line's end.
    pub(crate) fn wait_for_file(&self, name: &str) -> String {
        wait_for_file(&self.path(name))
    }

    /// What lies in the folder of worktrees.
    pub(crate) fn worktrees(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.layout.data().join("worktrees")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn wait_for_file(path: &Path) -> String {
    eventually(&format!("{}", path.display()), || {
        let text = fs::read_to_string(path).ok()?;
        text.ends_with('\n').then(|| text.trim_end().to_owned())
    })
}

/// A runner's process; killed when the test is over.
pub(crate) struct Runner {
    child: Child,
    pane: PathBuf,
}

impl Runner {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the end of the runner", || self.child.try_wait().unwrap())
    }

    /// What it has shown.
    pub(crate) fn pane(&self) -> Vec<u8> {
        fs::read(&self.pane).unwrap()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
