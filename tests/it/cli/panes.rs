//! What needs a real terminal, in panes of a real tmux.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use super::support::{PATIENCE, Root, code, program, text};

/// A tmux server of the test's own, which ends with it.
struct Tmux {
    folder: PathBuf,
    socket: &'static str,
}

impl Tmux {
    fn new(root: &Root, socket: &'static str) -> Self {
        Self { folder: root.path(), socket }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("tmux")
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("TERM", "screen-256color")
            .env("TMUX_TMPDIR", &self.folder)
            .args(["-u", "-f", "/dev/null", "-L", self.socket])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "tmux {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Waits until a pane shows a text, and returns all that it shows.
    fn wait_for(&self, target: &str, wanted: &str) -> String {
        let deadline = miyabi::io::clock::now() + PATIENCE;
        loop {
            let shown = self.ok(&["capture-pane", "-p", "-t", target]);
            if shown.contains(wanted) {
                return shown;
            }
            assert!(miyabi::io::clock::now() < deadline, "`{wanted}` never came: {shown}");
            // tmux has no event for what a pane shows; between two looks there is nothing to wait for.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        drop(self.run(&["kill-server"]));
    }
}

#[test]
fn attach_shows_the_window_of_the_agent_that_is_asked_for() {
    let root = Root::new();
    let team = Tmux::new(&root, "miyabi");
    for (index, agent) in ["kaede", "sakura-two", "sakura"].iter().enumerate() {
        let script = format!("printf 'this is {agent}\\n'; exec sleep 600");
        let place = if index == 0 {
            &["new-session", "-d", "-s", "miyabi"][..]
        } else {
            &["new-window", "-d", "-t", "=miyabi:"]
        };
        let pane = team.ok(&[place, &["-P", "-F", "#{pane_id}", &script]].concat());
        team.ok(&["set-option", "-p", "-t", pane.trim(), "@miyabi_agent", agent]);
    }

    let terminal = Tmux::new(&root, "terminal");
    let attach = format!("env -u TMUX {} attach sakura", program().display());
    let root_path = root.path().display().to_string();
    terminal.ok(&["new-session", "-d", "-s", "t", "-x", "100", "-y", "20", "-c", &root_path, &attach]);
    terminal.wait_for("=t:", "this is sakura");
    let clients = team.ok(&["list-clients", "-F", "#{session_name}"]);
    assert_eq!(clients.trim(), "miyabi");
}

#[test]
fn attach_begins_with_the_dashboard_and_then_leaves_the_choice_to_the_user() {
    let root = Root::new();
    let team = Tmux::new(&root, "miyabi");
    for (index, agent) in ["conductor", "kaede"].iter().enumerate() {
        let script = format!("printf 'this is {agent}\\n'; exec sleep 600");
        let place =
            if index == 0 { &["new-session", "-d", "-s", "miyabi"][..] } else { &["new-window", "-t", "=miyabi:"] };
        let pane = team.ok(&[place, &["-P", "-F", "#{pane_id}", &script]].concat());
        team.ok(&["set-option", "-p", "-t", pane.trim(), "@miyabi_agent", agent]);
    }
    let root_path = root.path().display().to_string();
    let attach = format!("env -u TMUX {} attach", program().display());
    let terminal = Tmux::new(&root, "terminal");
    terminal.ok(&["new-session", "-d", "-s", "t", "-x", "100", "-y", "20", "-c", &root_path, &attach]);
    terminal.wait_for("=t:", "this is conductor");

    team.ok(&["detach-client", "-s", "=miyabi"]);
    team.ok(&["select-window", "-t", "=miyabi:1"]);
    let again = Tmux::new(&root, "again");
    again.ok(&["new-session", "-d", "-s", "t", "-x", "100", "-y", "20", "-c", &root_path, &attach]);
    again.wait_for("=t:", "this is kaede");
}

#[test]
fn attach_says_why_it_cannot() {
    let root = Root::new();
    let attach = |names: &[(&str, &str)], agent: &str| {
        let mut command = root.command(&["attach", agent]);
        command.env("TMUX_TMPDIR", root.path()).envs(names.iter().copied());
        command.output().unwrap()
    };
    assert_eq!(code(&attach(&[], "kaede")), 3, "there is no session");
    assert_eq!(code(&attach(&[], "kaeda")), 4, "there is no such agent");

    let team = Tmux::new(&root, "miyabi");
    team.ok(&["new-session", "-d", "-s", "miyabi", "exec sleep 600"]);
    let no_terminal = attach(&[], "kaede");
    assert_eq!(code(&no_terminal), 5);
    assert!(text(&no_terminal.stderr).contains("needs a terminal"));
    let socket = team.ok(&["display-message", "-p", "#{socket_path}"]);
    let inside = attach(&[("TMUX", &format!("{},1,0", socket.trim()))], "kaede");
    assert_eq!(code(&inside), 5);
    assert!(text(&inside.stderr).contains("switch-client"), "{}", text(&inside.stderr));
}

#[test]
fn the_dashboard_is_drawn_in_place_and_fits_the_terminal() {
    let root = Root::new();
    let terminal = Tmux::new(&root, "terminal");
    let watch = format!("{} status --watch", program().display());
    let root_path = root.path().display().to_string();
    terminal.ok(&["new-session", "-d", "-s", "t", "-x", "30", "-y", "5", "-c", &root_path, &watch]);
    let shown = terminal.wait_for("=t:", "no supervisor is running");
    assert!(shown.lines().next().unwrap().starts_with("no supervisor is running; wai"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 30), "{shown}");
}
