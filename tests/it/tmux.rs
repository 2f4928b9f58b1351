//! The real tmux: each test has a server of its own under a folder of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use miyabi::io::process::{self, ProcessId};
use miyabi::io::tmux::{Connected, PaneSeen, SpawnPane, Tmux, TmuxError, TmuxEvent, TmuxSpec};
use miyabi::model::id::{AgentId, Incarnation};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};

/// What a machine under load may take; nothing here waits that long unless something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A folder for one server, which is killed however the test ends.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn spec(&self) -> TmuxSpec {
        let path = std::env::vars().find(|(name, _)| name == "PATH").expect("PATH is set").1;
        TmuxSpec {
            program: "tmux".into(),
            socket: "orchestra".to_owned(),
            tmpdir: Some(self.path().to_owned()),
            session: "miyabi".to_owned(),
            root: self.path().join("根 #{pid} root"),
            env: BTreeMap::from([("PATH".to_owned(), path), ("HOME".to_owned(), self.path().display().to_string())]),
            server_is_kept: false,
        }
    }

    /// Runs tmux as a person would, beside our client.
    pub(crate) fn tmux(&self, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.run(arguments).stdout).trim_end().to_owned()
    }

    /// Says whether tmux, run as a person would, was content.
    pub(crate) fn tmux_succeeds(&self, arguments: &[&str]) -> bool {
        self.run(arguments).status.success()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("tmux")
            .args(["-u", "-L", "orchestra"])
            .args(arguments)
            .env("TMUX_TMPDIR", self.path())
            .env_remove("TMUX")
            .output()
            .expect("tmux runs")
    }

    pub(crate) fn server(&self) -> ProcessId {
        process::identify(self.tmux(&["display-message", "-p", "#{pid}"]).parse().expect("a pid")).expect("it runs")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

fn id(name: &str) -> AgentId {
    AgentId::new(name).expect("a good name")
}

pub(crate) fn pane(place: &Place, agent: &str, incarnation: u64) -> SpawnPane {
    SpawnPane {
        agent: id(agent),
        incarnation: Incarnation(incarnation),
        title: agent.to_owned(),
        argv: vec!["sleep".to_owned(), "600".to_owned()],
        env: BTreeMap::new(),
        cwd: place.path().to_owned(),
    }
}

pub(crate) async fn connected(place: &Place) -> Tmux {
    let tmux = Tmux::new(place.spec());
    tmux.connect().await.expect("tmux is there");
    tmux
}

pub(crate) async fn alive(tmux: &Tmux) -> Vec<String> {
    let panes = tmux.list_panes().await.expect("the server answers");
    let mut names: Vec<String> =
        panes.iter().filter(|pane| !pane.dead).map(|pane| format!("{}.{}", pane.agent, pane.incarnation)).collect();
    names.sort();
    names
}

/// Waits until something holds, looking again and again.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "{what} did not come true in time");
}

pub(crate) async fn file(path: &Path) -> String {
    until("a file", || async { path.exists() }).await;
    std::fs::read_to_string(path).expect("readable")
}

#[tokio::test]
async fn the_first_connection_starts_a_server_and_the_next_joins_it() {
    let place = Place::new();
    let tmux = Tmux::new(place.spec());
    assert_eq!(tmux.connect().await.unwrap(), Connected::StartedServer);
    assert_eq!(tmux.list_panes().await.unwrap(), []);
    let first = tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    assert!(tmux.is_connected().await);

    let second = Tmux::new(place.spec());
    assert_eq!(second.connect().await.unwrap(), Connected::Joined);
    assert!(second.is_connected().await);
    assert_eq!(second.list_panes().await.unwrap(), [first]);
}

#[tokio::test]
async fn nothing_but_the_agents_programs_runs_in_the_session() {
    let place = Place::new();
    let tmux = connected(&place).await;
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    tmux.spawn_pane(&pane(&place, "sakura", 1)).await.unwrap();
    let windows = place.tmux(&["list-windows", "-a", "-F", "#{window_index} #{window_name} #{window_panes}"]);
    assert_eq!(windows, "0 miyabi 1\n1 kaede 1\n2 sakura 1");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", place.server().pid)).unwrap();
    assert_eq!(children.split_ascii_whitespace().count(), 2, "the window that keeps the session has no process");
}

#[tokio::test]
async fn agents_whose_names_begin_alike_are_told_apart() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let ten = tmux.spawn_pane(&pane(&place, "agent10", 1)).await.unwrap();
    let one = tmux.spawn_pane(&pane(&place, "agent1", 1)).await.unwrap();
    tmux.kill_pane(&one.pane, &one.agent, one.incarnation).await.unwrap();
    assert_eq!(alive(&tmux).await, ["agent10.1"]);
    let refused = tmux.kill_pane(&ten.pane, &one.agent, one.incarnation).await.unwrap_err();
    assert!(matches!(&refused, TmuxError::WrongPane { found, .. } if found == "agent10.1"), "{refused:?}");
    assert_eq!(alive(&tmux).await, ["agent10.1"]);
}

#[tokio::test]
async fn sessions_whose_names_begin_alike_are_told_apart() {
    let place = Place::new();
    let longer = TmuxSpec { session: "miyabi-2".to_owned(), root: "/other".into(), ..place.spec() };
    let longer = Tmux::new(longer);
    longer.connect().await.unwrap();
    longer.spawn_pane(&pane(&place, "kaede", 9)).await.unwrap();

    let tmux = connected(&place).await;
    assert_eq!(tmux.list_panes().await.unwrap(), []);
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    assert_eq!(alive(&tmux).await, ["kaede.1"]);
    assert_eq!(alive(&longer).await, ["kaede.9"]);
}

#[tokio::test]
async fn a_pane_is_made_once_however_often_it_is_asked_for() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let wanted = pane(&place, "kaede", 1);
    let (one, two) = tokio::join!(tmux.spawn_pane(&wanted), tmux.spawn_pane(&wanted));
    assert_eq!(one.unwrap(), two.unwrap());
    let refused = tmux.spawn_pane(&pane(&place, "kaede", 2)).await.unwrap_err();
    assert!(matches!(refused, TmuxError::StillThere { incarnation: Incarnation(1), .. }), "{refused:?}");
    assert_eq!(alive(&tmux).await, ["kaede.1"]);
}

#[tokio::test]
async fn many_agents_start_at_once_each_in_its_window() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let wanted: Vec<SpawnPane> = (0..8).map(|number| pane(&place, &format!("agent{number}"), 1)).collect();
    let (a, b, c, d) = tokio::join!(
        tmux.spawn_pane(&wanted[0]),
        tmux.spawn_pane(&wanted[1]),
        tmux.spawn_pane(&wanted[2]),
        tmux.spawn_pane(&wanted[3])
    );
    for pane in [a, b, c, d] {
        assert!(!pane.unwrap().dead);
    }
    assert_eq!(alive(&tmux).await.len(), 4);
    assert_eq!(place.tmux(&["list-windows", "-a", "-F", "#{window_index}"]), "0\n1\n2\n3\n4");
}

#[tokio::test]
async fn japanese_titles_are_shown_and_formats_in_them_are_not_followed() {
    let place = Place::new();
    let tmux = connected(&place).await;
    for (agent, title) in [("kaede", "カエデ 楓"), ("sakura", "桜; #{pid} %H 'x' \"y\" $HOME"), ("botan", "")] {
        tmux.spawn_pane(&SpawnPane { title: title.to_owned(), ..pane(&place, agent, 1) }).await.unwrap();
    }
    let names = place.tmux(&["list-windows", "-a", "-F", "#{window_name}"]);
    assert_eq!(names, "miyabi\nカエデ 楓\n桜; #{pid} %H 'x' \"y\" $HOME\nbotan");
}

const HOSTILE: [&str; 14] = [
    "; kill-server",
    "a;",
    ";",
    "\\;",
    "#{pid} #(touch /tmp/never) ##",
    "line one\nkill-server\nline three\n",
    "it's \"quoted\" \\ back\\slash\\",
    "$HOME ${HOME} ~ `id`",
    "{ } %if 1 # no comment",
    "",
    " -leading and trailing ",
    "-x",
    "タブ\tと\r\u{1b}[31m\u{7f}",
    "%begin 1 1 1",
];

#[tokio::test]
async fn hostile_arguments_and_variables_arrive_unchanged_and_do_nothing_else() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let names: Vec<String> = (0..HOSTILE.len()).map(|number| format!("HOSTILE_{number}")).collect();
    let script = "import os, sys, json; \
        json.dump([sys.argv[2:], [os.environ[f'HOSTILE_{n}'] for n in range(14)], os.getcwd()], open(sys.argv[1] + '.part', 'w')); \
        os.rename(sys.argv[1] + '.part', sys.argv[1]); import time; time.sleep(600)";
    // The first pane makes the session over a process, the second goes through the connection: two ways to quote.
    for agent in ["first", "second"] {
        let cwd = place.path().join(format!("{agent} #{{pid}}; 'dir' %H"));
        std::fs::create_dir(&cwd).unwrap();
        let out = place.path().join(format!("{agent}.json"));
        let mut argv: Vec<String> = ["python3", "-c", script].map(str::to_owned).to_vec();
        argv.push(out.display().to_string());
        argv.extend(HOSTILE.map(str::to_owned));
        let env = names.iter().cloned().zip(HOSTILE.map(str::to_owned)).collect();
        tmux.spawn_pane(&SpawnPane { argv, env, cwd: cwd.clone(), ..pane(&place, agent, 1) }).await.unwrap();
        let seen: (Vec<String>, Vec<String>, String) = serde_json::from_str(&file(&out).await).unwrap();
        assert_eq!(seen.0, HOSTILE, "{agent}: arguments");
        assert_eq!(seen.1, HOSTILE, "{agent}: variables");
        assert_eq!(seen.2, cwd.display().to_string());
    }
    assert_eq!(alive(&tmux).await, ["first.1", "second.1"]);
}

#[tokio::test]
async fn arguments_longer_than_a_process_may_have_arrive_whole() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let out = place.path().join("length");
    let long = "長".repeat(30_000);
    let script = format!("printf %s \"$1\" | wc -c > '{0}.part'; mv '{0}.part' '{0}'; sleep 600", out.display());
    let argv = ["sh", "-c", &script, "sh", &long].map(str::to_owned).to_vec();
    tmux.spawn_pane(&SpawnPane { argv, ..pane(&place, "kaede", 1) }).await.unwrap();
    assert_eq!(file(&out).await.trim(), "90000");
}

#[tokio::test]
async fn a_program_without_arguments_is_started_without_a_shell_reading_its_name() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let program = place.path().join("prog $(touch oops); x");
    std::fs::write(&program, "#!/bin/sh\ntouch started\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let argv = vec![program.display().to_string()];
    let seen = tmux.spawn_pane(&SpawnPane { argv, ..pane(&place, "kaede", 1) }).await.unwrap();
    file(&place.path().join("started")).await;
    assert!(!place.path().join("oops").exists());
    until("exec", || async { std::fs::read_to_string(format!("/proc/{}/comm", seen.pid)).unwrap() == "sleep\n" }).await;
}

#[tokio::test]
async fn variables_of_one_agent_and_of_whoever_started_us_stay_out_of_other_panes() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let secret = BTreeMap::from([("SECRET_TOKEN".to_owned(), "kaede's".to_owned())]);
    let first = tmux.spawn_pane(&SpawnPane { env: secret, ..pane(&place, "kaede", 1) }).await.unwrap();
    let second = tmux.spawn_pane(&pane(&place, "sakura", 1)).await.unwrap();
    let environment = |pid: u32| {
        let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        String::from_utf8(bytes).unwrap().split('\0').map(str::to_owned).collect::<Vec<_>>()
    };
    for pid in [first.pid, second.pid] {
        until("exec", || async { std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n" }).await;
    }
    assert!(environment(first.pid).contains(&"SECRET_TOKEN=kaede's".to_owned()));
    let others = environment(second.pid);
    assert!(!others.iter().any(|entry| entry.starts_with("SECRET_TOKEN=")), "{others:?}");
    assert!(!others.iter().any(|entry| entry.starts_with("CARGO")), "{others:?}");
    assert!(others.contains(&"LANG=C.UTF-8".to_owned()), "{others:?}");
}

#[tokio::test]
async fn the_death_of_a_panes_process_is_known_and_its_place_is_used_again() {
    let place = Place::new();
    let tmux = connected(&place).await;
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    for incarnation in 1..20 {
        let seen = tmux.spawn_pane(&pane(&place, "sakura", incarnation)).await.unwrap();
        let process = process::identify(seen.pid).expect("it runs");
        process::signal(&process, Signal::KILL).unwrap();
        tokio::time::timeout(DEADLINE, process::wait_for_exit(process)).await.unwrap().unwrap();
        assert_eq!(alive(&tmux).await, ["kaede.1"]);
        until("the window closes", || async { tmux.list_panes().await.unwrap().len() == 1 }).await;
    }
    tmux.spawn_pane(&pane(&place, "sakura", 20)).await.unwrap();
    assert_eq!(
        place.tmux(&["list-windows", "-a", "-F", "#{window_index} #{window_name}"]),
        "0 miyabi\n1 kaede\n2 sakura"
    );
    let zombies = Command::new("ps").args(["--ppid", &place.server().pid.to_string(), "-o", "stat="]).output().unwrap();
    assert!(!String::from_utf8_lossy(&zombies.stdout).contains('Z'), "the server kept a zombie");
}

#[tokio::test]
async fn a_descendant_that_holds_the_terminal_does_not_keep_a_dead_agent_in_its_place() {
    let place = Place::new();
    let tmux = connected(&place).await;
    tmux.spawn_pane(&pane(&place, "sakura", 1)).await.unwrap();
    let argv = ["sh", "-c", "trap '' HUP; sleep 30 & touch ready; wait"].map(str::to_owned).to_vec();
    let seen = tmux.spawn_pane(&SpawnPane { argv, ..pane(&place, "kaede", 1) }).await.unwrap();
    file(&place.path().join("ready")).await;
    let process = process::identify(seen.pid).unwrap();
    process::signal(&process, Signal::KILL).unwrap();
    tokio::time::timeout(DEADLINE, process::wait_for_exit(process)).await.unwrap().unwrap();
    let next = tmux.spawn_pane(&pane(&place, "kaede", 2)).await.unwrap();
    assert_ne!(next.pane, seen.pane);
    assert_eq!(alive(&tmux).await, ["kaede.2", "sakura.1"]);
}

#[tokio::test]
async fn a_pane_is_killed_only_with_the_right_incarnation_and_twice_is_fine() {
    let place = Place::new();
    let tmux = connected(&place).await;
    tmux.spawn_pane(&pane(&place, "sakura", 1)).await.unwrap();
    let seen = tmux.spawn_pane(&pane(&place, "kaede", 2)).await.unwrap();
    let stale = tmux.kill_pane(&seen.pane, &seen.agent, Incarnation(1)).await.unwrap_err();
    assert!(matches!(stale, TmuxError::WrongPane { .. }), "{stale:?}");
    assert_eq!(alive(&tmux).await, ["kaede.2", "sakura.1"]);
    let process = process::identify(seen.pid).unwrap();
    tmux.kill_pane(&seen.pane, &seen.agent, Incarnation(2)).await.unwrap();
    tokio::time::timeout(DEADLINE, process::wait_for_exit(process)).await.unwrap().unwrap();
    tmux.kill_pane(&seen.pane, &seen.agent, Incarnation(2)).await.unwrap();
    assert!(tmux.kill_pane("%1; kill-server", &seen.agent, Incarnation(2)).await.is_err());
    assert_eq!(alive(&tmux).await, ["sakura.1"]);
}

#[tokio::test]
async fn a_killed_server_is_an_event_and_connecting_again_recovers() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let mut events = tmux.events();
    let before = tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    process::signal(&place.server(), Signal::KILL).unwrap();
    let event = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
    assert_eq!(event, TmuxEvent::ServerLost);
    assert!(place.spec().socket_path().exists(), "the stale socket is what this is about");
    assert_eq!(tmux.list_panes().await.unwrap(), []);

    assert_eq!(tmux.connect().await.unwrap(), Connected::StartedServer);
    let after = tmux.spawn_pane(&pane(&place, "kaede", 2)).await.unwrap();
    assert_ne!(before.pid, after.pid);
    assert!(tmux.is_connected().await);
    assert_eq!(alive(&tmux).await, ["kaede.2"]);
}

#[tokio::test]
async fn when_all_panes_die_at_once_the_server_and_the_session_stay() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let mut server = None;
    // 3.3a crashed here about every third time while the session could lose its last window.
    for incarnation in 1..=15 {
        let mut processes = Vec::new();
        for agent in ["kaede", "sakura", "botan"] {
            let seen = tmux.spawn_pane(&pane(&place, agent, incarnation)).await.unwrap();
            processes.push(process::identify(seen.pid).unwrap());
        }
        let server = *server.get_or_insert_with(|| place.server());
        for process in &processes {
            process::signal(process, Signal::KILL).unwrap();
        }
        until("all are gone", || async { tmux.list_panes().await.unwrap().is_empty() }).await;
        assert!(process::is_alive(&server), "the server crashed in round {incarnation}");
    }
    assert!(tmux.is_connected().await);
}

#[tokio::test]
async fn a_session_that_somebody_killed_is_an_event_and_comes_back_with_the_next_pane() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let mut events = tmux.events();
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    let server = place.server();
    place.tmux(&["kill-session", "-t", "=miyabi"]);
    let event = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
    assert_eq!(event, TmuxEvent::SessionLost);
    tmux.spawn_pane(&pane(&place, "kaede", 2)).await.unwrap();
    assert_eq!(alive(&tmux).await, ["kaede.2"]);
    assert_eq!(place.server(), server);
    assert!(tmux.is_connected().await);
}

#[tokio::test]
async fn leaving_takes_session_and_server_along_once_nobody_needs_them() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let seen = tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    let (agent, server) = (process::identify(seen.pid).unwrap(), place.server());
    tmux.end_when_empty().await.unwrap();
    assert_eq!(alive(&tmux).await, ["kaede.1"], "an agent keeps both");
    process::signal(&agent, Signal::TERM).unwrap();
    tokio::time::timeout(DEADLINE, process::wait_for_exit(server)).await.unwrap().unwrap();
    tmux.end_when_empty().await.unwrap();

    for without_session in [false, true] {
        assert_eq!(tmux.connect().await.unwrap(), Connected::StartedServer);
        let server = place.server();
        if without_session {
            place.tmux(&["kill-session", "-t", "=miyabi"]);
        }
        tmux.end_when_empty().await.unwrap();
        tokio::time::timeout(DEADLINE, process::wait_for_exit(server)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_closed_keeper_comes_back_with_the_next_connection() {
    let place = Place::new();
    let tmux = connected(&place).await;
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    place.tmux(&["kill-window", "-t", "=miyabi:0"]);
    tmux.connect().await.unwrap();
    tmux.connect().await.unwrap();
    assert_eq!(place.tmux(&["list-windows", "-a", "-F", "#{window_index} #{window_name}"]), "0 miyabi\n1 kaede");
}

#[tokio::test]
async fn a_killed_client_is_an_event_and_work_goes_on_meanwhile() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let mut events = tmux.events();
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    place.tmux(&["detach-client", "-s", "=miyabi"]);
    let event = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap();
    assert!(matches!(event, TmuxEvent::ClientLost { .. }), "{event:?}");
    assert!(!tmux.is_connected().await);
    assert_eq!(alive(&tmux).await, ["kaede.1"]);
    assert_eq!(tmux.connect().await.unwrap(), Connected::Joined);
    assert!(tmux.is_connected().await);
}

#[tokio::test]
async fn two_roots_do_not_share_a_session() {
    let place = Place::new();
    let tmux = connected(&place).await;
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    let other = Tmux::new(TmuxSpec { root: "/another/root".into(), ..place.spec() });
    let refused = other.connect().await.unwrap_err();
    assert!(refused.to_string().contains("根 #{pid} root"), "{refused}");
    assert!(other.spawn_pane(&pane(&place, "sakura", 1)).await.is_err());
    assert_eq!(other.list_panes().await.unwrap(), []);
    assert_eq!(alive(&tmux).await, ["kaede.1"]);
}

#[tokio::test]
async fn a_session_that_people_made_is_not_taken_over() {
    let place = Place::new();
    place.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "miyabi", "sleep 600"]);
    let refused = Tmux::new(place.spec()).connect().await.unwrap_err();
    assert!(matches!(refused, TmuxError::Foreign { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_session_that_was_renamed_is_still_ours() {
    let place = Place::new();
    let tmux = connected(&place).await;
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    place.tmux(&["rename-session", "-t", "=miyabi", "mine"]);
    tmux.spawn_pane(&pane(&place, "sakura", 1)).await.unwrap();
    assert_eq!(alive(&tmux).await, ["kaede.1", "sakura.1"]);
    assert_eq!(place.tmux(&["list-sessions", "-F", "#{session_name}"]), "mine");
}

#[tokio::test]
async fn windows_that_people_open_are_left_alone() {
    let place = Place::new();
    let tmux = connected(&place).await;
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    place.tmux(&["new-window", "-d", "-t", "=miyabi:2", "sleep 600"]);
    place.tmux(&["split-window", "-d", "-t", "=miyabi:1", "sleep 600"]);
    tmux.spawn_pane(&pane(&place, "sakura", 1)).await.unwrap();
    assert_eq!(alive(&tmux).await, ["kaede.1", "sakura.1"]);
    assert_eq!(place.tmux(&["list-windows", "-a", "-F", "#{window_index}"]), "0\n1\n2\n3");
}

#[tokio::test]
async fn what_a_pane_shows_is_captured_and_cannot_speak_for_the_server() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let script = "printf '%s\\n' '%exit' '%begin 1 1 1' 'miyabi-end-1' '%end 1 1 1' 'カエデ' ; touch shown; sleep 600";
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let seen = tmux.spawn_pane(&SpawnPane { argv, ..pane(&place, "kaede", 1) }).await.unwrap();
    file(&place.path().join("shown")).await;
    until("the text is shown", || async { tmux.capture_pane(&seen.pane).await.unwrap().contains("カエデ") }).await;
    let shown = tmux.capture_pane(&seen.pane).await.unwrap();
    assert!(shown.starts_with("%exit\n%begin 1 1 1\nmiyabi-end-1\n%end 1 1 1\nカエデ"), "{shown:?}");
    assert!(tmux.is_connected().await);
    assert_eq!(alive(&tmux).await, ["kaede.1"]);
}

#[tokio::test]
async fn a_pane_that_floods_its_screen_does_not_disturb_the_connection() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let argv = ["timeout", "60", "yes", "%exit"].map(str::to_owned).to_vec();
    tmux.spawn_pane(&SpawnPane { argv, ..pane(&place, "kaede", 1) }).await.unwrap();
    for _ in 0..200 {
        assert_eq!(alive(&tmux).await, ["kaede.1"]);
    }
    assert!(tmux.is_connected().await);
}

#[tokio::test]
async fn names_that_tmux_would_change_are_refused() {
    for name in ["a.b", "a:b", "=a", "", "a b", "-a", "$1"] {
        let place = Place::new();
        let error = Tmux::new(TmuxSpec { session: name.to_owned(), ..place.spec() }).connect().await.unwrap_err();
        assert!(matches!(error, TmuxError::SessionName { .. }), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_missing_program_and_a_nul_are_clear_errors() {
    let place = Place::new();
    let error = Tmux::new(TmuxSpec { program: "/missing/tmux".into(), ..place.spec() }).connect().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot run /missing/tmux");
    let tmux = connected(&place).await;
    let argv = vec!["sleep".to_owned(), "6\u{0}0".to_owned()];
    let error = tmux.spawn_pane(&SpawnPane { argv, ..pane(&place, "kaede", 1) }).await.unwrap_err();
    assert!(matches!(error, TmuxError::Nul { .. }), "{error:?}");
    let error = tmux.spawn_pane(&SpawnPane { argv: Vec::new(), ..pane(&place, "kaede", 1) }).await.unwrap_err();
    assert!(matches!(error, TmuxError::NoProgram { .. }), "{error:?}");
}

#[tokio::test]
async fn people_can_attach_with_the_command_that_is_offered_and_leave_nothing_of_theirs_to_agents() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let PaneSeen { pane: first, .. } = tmux.spawn_pane(&pane(&place, "kaede", 1)).await.unwrap();
    let mut argv = tmux.attach_argv(Some(&first));
    // A control client needs no terminal, so it can stand for a person here.
    argv.insert(1, "-C".to_owned());
    let mut client = tokio::process::Command::new(&argv[0])
        .args(&argv[1..])
        .env_remove("TMUX")
        .env("SSH_AUTH_SOCK", "/a/persons/keys")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let attached = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("%session-changed") {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(DEADLINE, attached).await.unwrap());
    let out = place.path().join("environment");
    let script = format!("env > '{0}.part'; mv '{0}.part' '{0}'; sleep 600", out.display());
    let argv = ["sh", "-c", &script].map(str::to_owned).to_vec();
    tmux.spawn_pane(&SpawnPane { argv, ..pane(&place, "sakura", 1) }).await.unwrap();
    let environment = file(&out).await;
    assert!(!environment.contains("/a/persons/keys"), "{environment}");
}

#[tokio::test]
async fn a_server_that_somebody_else_keeps_is_waited_for_and_never_started() {
    let place = Place::new();
    let kept = Tmux::new(TmuxSpec { server_is_kept: true, ..place.spec() });
    let (connected, ()) = tokio::join!(kept.connect(), async {
        place.tmux(&["start-server", ";", "set-option", "-s", "exit-empty", "off"]);
    });
    assert_eq!(connected.unwrap(), Connected::Joined);
}
