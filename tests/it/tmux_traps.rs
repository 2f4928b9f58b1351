//! The traps of tmux, each provoked against the tmux of this machine as a careless program would, and then met through
//! our own code. A trap that newer versions have filled in is provoked only below the version that did; one that needs
//! luck as well is tried for a moment.
//!
//! `src/io/tmux/version.rs` lists which version needs which care.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use miyabi::io::process;
use miyabi::io::tmux::{SpawnPane, Tmux, TmuxEvent, Version};
use rustix::process::Signal;

use crate::tmux::{DEADLINE, Place, alive, connected, file, pane, until};

/// What a server takes at most that holds a few panes and does not hoard anything, in KiB.
const MODEST_KIB: u64 = 24 * 1024;

/// When a server certainly hoards; the test ends it before it goes on.
const HOARD_KIB: u64 = 40 * 1024;

/// Prints as fast as it can for ever.
const FLOOD: &str = "exec yes abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";

async fn version(place: &Place) -> Version {
    Tmux::new(place.spec()).version().await.expect("tmux runs")
}

fn is_below(version: Version, major: u32, minor: u32) -> bool {
    version < Version { major, minor }
}

/// Starts a careless server: one session `a` whose first window runs a shell command.
fn careless(place: &Place, command: &str) {
    place.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "a", "-x", "200", "-y", "50", command]);
}

/// How much memory a process has in use, in KiB; 0 if it is gone.
fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
}

fn zombies_of(pid: u32) -> usize {
    let listed = Command::new("ps").args(["--ppid", &pid.to_string(), "-o", "stat="]).output().expect("ps runs");
    String::from_utf8_lossy(&listed.stdout).lines().filter(|state| state.trim().starts_with('Z')).count()
}

/// A control client as a careless program attaches it: with the panes' output, which nobody reads.
struct UnreadClient(Child);

impl UnreadClient {
    async fn attach(place: &Place) -> Self {
        let client = Command::new("tmux")
            .args(["-u", "-L", "orchestra", "-C", "attach-session", "-t", "=a"])
            .env("TMUX_TMPDIR", place.path())
            .env_remove("TMUX")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tmux runs");
        let client = Self(client);
        until("the client is attached", || async { !place.tmux(&["list-clients"]).is_empty() }).await;
        client
    }
}

impl Drop for UnreadClient {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn shell(place: &Place, agent: &str, script: &str) -> SpawnPane {
    SpawnPane { argv: ["sh", "-c", script].map(str::to_owned).to_vec(), ..pane(place, agent, 1) }
}

#[tokio::test]
async fn news_of_a_childs_death_that_the_server_lost_is_made_up_for() {
    let place = Place::new();
    careless(&place, "sleep 600");
    place.tmux(&["set-option", "-g", "remain-on-exit", "on"]);
    let mut children = Vec::new();
    for _ in 0..20 {
        let pid = place.tmux(&["new-window", "-d", "-t", "a:", "-P", "-F", "#{pane_pid}", "sleep 600"]);
        children.push(process::identify(pid.parse().expect("a pid")).expect("it runs"));
    }
    for child in children {
        process::signal(&child, Signal::KILL).expect("it can be killed");
        tokio::time::timeout(DEADLINE, process::wait_for_exit(child)).await.expect("it dies").expect("seen");
    }
    // The server has noticed that the terminals are closed, and still does not collect all whose they were.
    let dead = || place.tmux(&["list-panes", "-a", "-f", "#{pane_dead}", "-F", "#{pane_id}"]).lines().count();
    until("the panes are dead", || async { dead() == 20 }).await;
    // Whether it loses any depends on the build and the moment; none may be left after the signal in any case.
    let server = place.server();
    process::signal(&server, Signal::CHILD).expect("it can be signalled");
    until("the server collects them", || async { zombies_of(server.pid) == 0 }).await;

    let place = Place::new();
    let tmux = connected(&place).await;
    for round in 1..=20 {
        let seen = tmux.spawn_pane(&pane(&place, "kaede", round)).await.expect("a pane");
        let child = process::identify(seen.pid).expect("it runs");
        process::signal(&child, Signal::KILL).expect("it can be killed");
        tokio::time::timeout(DEADLINE, process::wait_for_exit(child)).await.expect("it dies").expect("seen");
        tmux.reap().await.expect("the server is there");
        until("the window closes", || async { tmux.list_panes().await.is_ok_and(|panes| panes.is_empty()) }).await;
    }
    let server = place.server();
    until("nothing is left of them", || async { tmux.reap().await.is_ok() && zombies_of(server.pid) == 0 }).await;
}

#[tokio::test]
async fn a_paste_into_a_dead_pane_finds_no_dead_pane_of_ours() {
    let place = Place::new();
    careless(&place, "sleep 600");
    let server = place.server();
    place.tmux(&["set-option", "-g", "remain-on-exit", "on"]);
    place.tmux(&["new-window", "-d", "-t", "a:7", "true"]);
    process::signal(&server, Signal::CHILD).expect("it can be signalled");
    until("the pane is dead", || async {
        process::signal(&server, Signal::CHILD).is_ok()
            && place.tmux(&["list-panes", "-t", "a:7", "-F", "#{pane_dead}"]) == "1"
    })
    .await;
    assert!(place.tmux_succeeds(&["send-keys", "-t", "a:7", "lost"]), "what is typed is dropped without a word");
    place.tmux(&["set-buffer", "hallo"]);
    place.tmux(&["paste-buffer", "-t", "a:7"]);
    if is_below(version(&place).await, 3, 4) {
        until("the server dies of it", || async { !process::is_alive(&server) }).await;
    }

    // Ours do not remain, so that nobody, a person neither, can paste into a dead one.
    let place = Place::new();
    let tmux = connected(&place).await;
    let seen = tmux.spawn_pane(&shell(&place, "kaede", "exit 0")).await.expect("a pane");
    until("the pane is gone", || async {
        tmux.reap().await.is_ok()
            && place.tmux(&["list-panes", "-a", "-F", "#{pane_id}"]).lines().all(|id| id != seen.pane)
    })
    .await;
    place.tmux(&["set-buffer", "hallo"]);
    place.tmux(&["paste-buffer", "-t", &seen.pane]);
    assert_eq!(alive(&tmux).await, Vec::<String>::new());
    assert!(tmux.is_connected().await);
}

#[tokio::test]
async fn a_respawn_beside_our_client_does_not_crash_the_server() {
    let place = Place::new();
    careless(&place, FLOOD);
    if is_below(version(&place).await, 3, 6) {
        let server = place.server();
        let _client = UnreadClient::attach(&place).await;
        let crashes = async {
            while process::is_alive(&server) {
                place.tmux(&["respawn-pane", "-k", "-t", "a:0", FLOOD]);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // It does as soon as output is piled up for that client, which depends on the moment.
        drop(tokio::time::timeout(Duration::from_secs(3), crashes).await);
    }

    let place = Place::new();
    let tmux = connected(&place).await;
    let seen = tmux.spawn_pane(&shell(&place, "kaede", FLOOD)).await.expect("a pane");
    let server = place.server();
    for _ in 0..30 {
        place.tmux(&["respawn-pane", "-k", "-t", &seen.pane, FLOOD]);
    }
    assert!(process::is_alive(&server));
    // Pane and tags stay over a respawn; only the process says that this is not what was started.
    let panes = tmux.list_panes().await.expect("the server answers");
    assert_eq!(panes.len(), 1);
    assert_eq!((&panes[0].pane, panes[0].incarnation), (&seen.pane, seen.incarnation));
    assert_ne!(panes[0].pid, seen.pid);
}

#[tokio::test]
async fn our_client_can_stand_still_without_making_the_server_hoard() {
    let place = Place::new();
    careless(&place, FLOOD);
    let server = place.server();
    let unread = UnreadClient::attach(&place).await;
    // Whether it hoards (3.3a, 3.8) or stops the program in the pane depends on version and moment: no promise of ours.
    let hoards = async {
        while memory_kib(server.pid) < HOARD_KIB {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(3), hoards).await);
    drop(unread);
    drop(place);

    // The same with a pipe whose reader stands still.
    let place = Place::new();
    careless(&place, FLOOD);
    let server = place.server();
    place.tmux(&["pipe-pane", "-t", "a:0", "exec sleep 600"]);
    let hoards = async {
        while memory_kib(server.pid) < HOARD_KIB {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(3), hoards).await);
    drop(place);

    let place = Place::new();
    let tmux = connected(&place).await;
    let client = place.tmux(&["list-clients", "-F", "#{client_pid}"]);
    let client = process::identify(client.parse().expect("one client")).expect("it runs");
    let script = format!("until [ -e go ]; do sleep 0.01; done; seq 1 300000; touch flooded; {FLOOD}");
    tmux.spawn_pane(&shell(&place, "kaede", &script)).await.expect("a pane");
    process::signal(&client, Signal::STOP).expect("it can be stopped");
    std::fs::write(place.path().join("go"), "").expect("writable");
    file(&place.path().join("flooded")).await;
    assert!(memory_kib(place.server().pid) < MODEST_KIB, "{} KiB", memory_kib(place.server().pid));
    process::signal(&client, Signal::CONT).expect("it can go on");
    assert_eq!(alive(&tmux).await, ["kaede.1"]);
}

#[tokio::test]
async fn a_command_too_long_for_an_argument_arrives_over_both_our_ways() {
    let place = Place::new();
    careless(&place, "sleep 600");
    let long = "x".repeat(17_000);
    assert!(!place.tmux_succeeds(&["set-buffer", &long]), "the trap is gone: say so in version.rs");
    drop(place);

    let place = Place::new();
    let tmux = connected(&place).await;
    for (agent, with_client) in [("kaede", true), ("sakura", false)] {
        if !with_client {
            let mut events = tmux.events();
            let client = place.tmux(&["list-clients", "-F", "#{client_pid}"]);
            let client = process::identify(client.parse().expect("one client")).expect("it runs");
            process::signal(&client, Signal::KILL).expect("it can be killed");
            let event = tokio::time::timeout(DEADLINE, events.recv()).await.expect("told in time");
            assert!(matches!(event, Some(TmuxEvent::ClientLost { .. })), "{event:?}");
        }
        let write = format!("printf %s \"$1\" > {agent}.part; mv {agent}.part {agent}.txt; exec sleep 600");
        let argv = ["sh", "-c", &write, "sh", &long].map(str::to_owned).to_vec();
        tmux.spawn_pane(&SpawnPane { argv, ..pane(&place, agent, 1) }).await.expect("a pane");
        assert_eq!(file(&place.path().join(format!("{agent}.txt"))).await, long);
    }
}

/// What a careless program would type is changed on its way, or lost. That is why prompts travel as files, and nothing
/// of ours types into a pane.
#[tokio::test]
async fn typing_is_a_trap_and_nothing_of_ours_types() {
    let place = Place::new();
    let got = place.path().join("got");
    let reads = format!("stty raw -echo; touch '{0}.ready'; exec cat > '{0}'", got.display());
    careless(&place, &reads);
    file(&place.path().join("got.ready")).await;
    let arrives = async |bytes: &'static [u8]| {
        until("the bytes arrive", || async { std::fs::read(&got).is_ok_and(|got| got.ends_with(bytes)) }).await;
    };
    place.tmux(&["set-buffer", "a\nb"]);
    place.tmux(&["paste-buffer", "-t", "a:0"]);
    arrives(b"a\rb").await;
    let takes_brackets_as_they_are = is_below(version(&place).await, 3, 7);
    if takes_brackets_as_they_are {
        // The program has not asked for brackets, so -p gives it none: every newline would be an Enter.
        place.tmux(&["set-buffer", "x\u{1b}[201~y"]);
        place.tmux(&["paste-buffer", "-p", "-t", "a:0"]);
        arrives(b"x\x1b[201~y").await;
    }
    place.tmux(&["copy-mode", "-t", "a:0"]);
    place.tmux(&["set-buffer", "P"]);
    place.tmux(&["paste-buffer", "-t", "a:0"]);
    place.tmux(&["send-keys", "-t", "a:0", "Enter"]);
    arrives(if takes_brackets_as_they_are { b"yP" } else { b"bP" }).await;
    place.tmux(&["send-keys", "-t", "a:0", "-X", "cancel"]);
    place.tmux(&["send-keys", "-t", "a:0", "z"]);
    arrives(b"Pz").await;

    let typing = ["SendKeys", "PasteBuffer", "LoadBuffer", "SetBuffer", "RespawnPane", "RespawnWindow", "PipePane"];
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![sources];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("readable").path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(&entry).expect("readable");
            let found = typing.iter().find(|word| text.contains(**word));
            assert_eq!(found, None, "{} types into panes: read the traps first", entry.display());
            read += 1;
        }
    }
    assert!(read > 100, "only {read} files were read");
}

/// Programs take what arrives with the text for a part of it: that is why a pasted text must be followed by a wait, and its Enter
/// confirmed. Nothing of ours types, as the test above sees to.
#[tokio::test]
async fn text_and_the_enter_behind_it_arrive_as_one() {
    let place = Place::new();
    let path = |name: &str| place.path().join(name);
    let reads = format!(
        "stty raw -echo; touch '{0}'; until [ -e '{1}' ]; do sleep 0.01; done; dd bs=4096 count=1 of='{2}.part' 2>/dev/null; mv '{2}.part' '{2}'; exec sleep 600",
        path("ready").display(),
        path("go").display(),
        path("got").display()
    );
    careless(&place, &reads);
    file(&path("ready")).await;
    place.tmux(&["send-keys", "-t", "a:0", "-l", "do it"]);
    place.tmux(&["send-keys", "-t", "a:0", "Enter"]);
    std::fs::write(path("go"), "").expect("writable");
    assert_eq!(file(&path("got")).await, "do it\r");
}

/// What separates the fields of an answer must arrive as it was asked for, whatever stands in the fields; other control characters
/// do so on some versions only.
#[tokio::test]
async fn tabs_arrive_between_fields() {
    let place = Place::new();
    careless(&place, "sleep 600");
    place.tmux(&["rename-window", "-t", "a:0", "カエデ|x"]);
    let listed = |separator: &str| {
        let format = format!("#{{window_index}}{separator}#{{window_name}}");
        place.tmux(&["list-windows", "-t", "=a", "-F", &format])
    };
    assert_eq!(listed("\t"), "0\tカエデ|x");
    assert_eq!(listed("|"), "0|カエデ|x", "it arrives, but names may contain it");
}

#[tokio::test]
async fn targets_that_begin_alike_are_a_trap() {
    let place = Place::new();
    place.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "agent10", "sleep 600"]);
    assert!(place.tmux_succeeds(&["has-session", "-t", "agent1"]), "the trap is gone: say so in version.rs");
    assert!(!place.tmux_succeeds(&["has-session", "-t", "=agent1"]));
    if is_below(version(&place).await, 3, 7) {
        place.tmux(&["new-session", "-d", "-s", "a.b:c", "sleep 600"]);
        assert!(place.tmux(&["list-sessions", "-F", "#{session_name}"]).contains("a_b_c"), "names change unasked");
    }
}

#[tokio::test]
async fn japanese_is_lost_without_utf8_and_arrives_with_it() {
    let place = Place::new();
    careless(&place, "sleep 600");
    place.tmux(&["rename-window", "-t", "a:0", "カエデ"]);
    let listed = |utf8: &[&str]| {
        let output = Command::new("tmux")
            .args(utf8)
            .args(["-L", "orchestra", "list-windows", "-t", "=a", "-F", "#{window_name}"])
            .env("TMUX_TMPDIR", place.path())
            .env("LC_ALL", "C")
            .env_remove("TMUX")
            .output()
            .expect("tmux runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert!(!listed(&[]).contains('カ'), "the trap is gone: say so in version.rs");
    assert_eq!(listed(&["-u"]), "カエデ");

    let tmux = connected(&place).await;
    let titled = SpawnPane { title: "カエデ|桜".to_owned(), ..pane(&place, "kaede", 1) };
    let seen = tmux.spawn_pane(&titled).await.expect("a pane");
    let shown = place.tmux(&["display-message", "-p", "-t", &seen.pane, "#{window_name}"]);
    assert!(shown.contains("カエデ"), "{shown}");
}

/// From 3.4 on a server that reaches the session bus moves its panes into units of their own, out of our limits.
#[tokio::test]
async fn the_server_never_learns_the_way_to_the_session_bus() {
    let place = Place::new();
    let tmux = connected(&place).await;
    tmux.spawn_pane(&pane(&place, "kaede", 1)).await.expect("a pane");
    let environment = std::fs::read(format!("/proc/{}/environ", place.server().pid)).expect("readable");
    let names: Vec<String> = environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| String::from_utf8_lossy(entry).split_once('=').map(|(name, _)| name.to_owned()))
        .collect();
    assert!(names.contains(&"PATH".to_owned()), "{names:?}");
    let bus = ["DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "LISTEN_FDS", "NOTIFY_SOCKET"];
    assert!(bus.iter().all(|name| !names.contains(&(*name).to_owned())), "{names:?}");
}

/// How long a question may hang when the server is there but does not answer; shorter than the watchdog's patience.
#[tokio::test]
async fn a_server_that_stands_still_is_an_error_and_not_a_hang() {
    let place = Place::new();
    let tmux = connected(&place).await;
    let server = place.server();
    process::signal(&server, Signal::STOP).expect("it can be stopped");
    let asked = tokio::time::timeout(Duration::from_secs(25), tmux.list_panes()).await;
    process::signal(&server, Signal::CONT).expect("it can go on");
    let answer = asked.expect("an answer comes before the watchdog loses patience");
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(alive(&tmux).await, Vec::<String>::new());
}
