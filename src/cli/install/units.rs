//! The text of the units: templates with words between `@` signs, filled in so that systemd reads back what was meant.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::super::context::{CONFIG_NAME, Context, read_plan};
use super::super::failure::{Failure, Kind, Result};
use crate::model::layout::Layout;

/// One of the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// The supervisor's.
    Supervisor,
    /// The tmux server's.
    Tmux,
}

impl Unit {
    /// All units, in the order in which they are stopped.
    pub(super) const ALL: [Self; 2] = [Self::Supervisor, Self::Tmux];

    /// Returns the unit's file name.
    #[must_use]
    pub(super) const fn file_name(self) -> &'static str {
        match self {
            Self::Supervisor => "miyabi-orchestra.service",
            Self::Tmux => "miyabi-orchestra-tmux.service",
        }
    }

    const fn template(self) -> &'static str {
        match self {
            Self::Supervisor => include_str!("../../../systemd/miyabi-orchestra.service"),
            Self::Tmux => include_str!("../../../systemd/miyabi-orchestra-tmux.service"),
        }
    }
}

/// Whose systemd runs the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The machine's: it starts with the machine, and each part can be held tight.
    System,
    /// A person's own: needs no root.
    Person,
}

/// What is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whose systemd runs the units.
    pub(super) scope: Scope,
    /// The account.
    pub(super) user: String,
    /// The account's home.
    pub(super) home: PathBuf,
    /// The root folder.
    pub(super) root: PathBuf,
    /// Where the program is installed.
    pub(super) program: PathBuf,
    /// The tmux program.
    pub(super) tmux: PathBuf,
    /// The name of the tmux server's socket.
    pub(super) socket: String,
    /// How long a drain takes at most: running attempts end, then agents are ended.
    pub(super) down: Duration,
}

/// What may come on top of a drain's time, and how much longer systemd waits for the verb that waits for it.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// Finds out what is to be filled in, and that the root is one that can be started.
///
/// # Errors
/// Exit code 4 for an unknown user or a root that is none.
pub(super) fn facts(context: &Context, scope: Scope, user: &str, root: &Path, prefix: &Path) -> Result<Facts> {
    let root = context.environment.folder.join(root);
    let root = root.canonicalize().map_err(|error| {
        Failure::new(Kind::Invalid, anyhow::Error::new(error).context(format!("no folder {}", root.display())))
    })?;
    let layout = Layout::new(root.clone());
    if !layout.config().is_file() {
        return Err(Failure::say(Kind::Invalid, format!("there is no agents.toml in {}", root.display()))
            .hint(format!("run `miyabi -C {} init` as that user", root.display())));
    }
    let (text, parsed) = read_plan(&layout)?;
    let plan = parsed.map_err(|faults| context.faulty(&faults, &[(CONFIG_NAME.to_owned(), text)].into()))?;
    let tmux = context.environment.find_program("tmux").ok_or_else(|| {
        Failure::say(Kind::Failed, "there is no tmux on PATH").hint("install it with your system's package manager")
    })?;
    let facts = Facts {
        scope,
        home: home_of(user)?,
        user: user.to_owned(),
        root,
        program: context.environment.folder.join(prefix).join("bin/miyabi"),
        tmux,
        down: plan.drain + plan.agents.iter().map(|agent| agent.stop_timeout).max().unwrap_or_default(),
        socket: plan.session.socket,
    };
    for path in [&facts.home, &facts.root, &facts.program, &facts.tmux] {
        writable_in_a_unit(path)?;
    }
    Ok(facts)
}

/// Asks the system's user database, wherever it lies.
fn home_of(user: &str) -> Result<PathBuf> {
    let unknown = || Failure::say(Kind::Invalid, format!("there is no user `{user}`")).hint("see `getent passwd`");
    if user.is_empty() || user.starts_with('-') {
        return Err(unknown());
    }
    let output = Command::new("getent")
        .args(["passwd", "--", user])
        .output()
        .map_err(|error| Failure::new(Kind::Failed, anyhow::Error::new(error).context("cannot run getent")))?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let fields: Vec<&str> = line.split(':').collect();
    match fields.as_slice() {
        [name, _, _, _, _, home, ..] if *name == user && !home.is_empty() => Ok(PathBuf::from(home)),
        _ => Err(unknown()),
    }
}

fn writable_in_a_unit(path: &Path) -> Result<()> {
    let text = path.to_str().filter(|text| !text.chars().any(|c| c.is_control() || c == '\''));
    match text {
        Some(_) => Ok(()),
        None => Err(Failure::say(Kind::Invalid, format!("{} cannot be written in a unit file", path.display()))
            .hint("choose a path without quotes and control characters")),
    }
}

/// Fills in a template.
#[must_use]
pub(super) fn render(unit: Unit, facts: &Facts) -> String {
    let home = facts.home.display().to_string();
    let path = format!("{home}/.local/bin:{home}/.cargo/bin:{home}/bin:/usr/local/bin:/usr/bin:/bin");
    let words = [
        ("@USER@", facts.user.clone()),
        ("@ROOT@", specifiers(&facts.root.display().to_string())),
        ("@ROOT_QUOTED@", argument(&facts.root.display().to_string())),
        ("@PROGRAM@", argument(&facts.program.display().to_string())),
        ("@PATH@", inside_quotes(&path)),
        ("@PATH_VARIABLE@", argument(&format!("PATH={path}"))),
        ("@HOME_VARIABLE@", argument(&format!("HOME={home}"))),
        ("@TMUX@", argument(&facts.tmux.display().to_string())),
        ("@SOCKET@", argument(&facts.socket)),
        ("@DOWN_SECONDS@", seconds(facts.down + STOP_MARGIN)),
        ("@STOP_SECONDS@", seconds(facts.down + 2 * STOP_MARGIN)),
    ];
    let (kept, left_out) = match facts.scope {
        Scope::System => ("@SYSTEM@", "@PERSON@"),
        Scope::Person => ("@PERSON@", "@SYSTEM@"),
    };
    let lines: Vec<&str> = unit
        .template()
        .lines()
        .filter(|line| !line.starts_with(left_out))
        .map(|line| line.strip_prefix(kept).unwrap_or(line))
        .collect();
    words.iter().fold(lines.join("\n") + "\n", |text, (word, value)| text.replace(word, value))
}

fn seconds(time: Duration) -> String {
    time.as_secs_f64().ceil().to_string()
}

/// Doubles what systemd would take for a specifier.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

fn inside_quotes(text: &str) -> String {
    specifiers(text).replace('\\', "\\\\").replace('"', "\\\"")
}

/// Writes one argument of a command line; simple ones stay as they are.
fn argument(text: &str) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || "/._-=:+,".contains(c);
    if !text.is_empty() && text.chars().all(simple) {
        return text.to_owned();
    }
    format!("\"{}\"", inside_quotes(text).replace('$', "$$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts_in(root: &str) -> Facts {
        Facts {
            scope: Scope::System,
            user: "taro".to_owned(),
            home: "/home/taro".into(),
            root: root.into(),
            program: "/usr/local/bin/miyabi".into(),
            tmux: "/usr/bin/tmux".into(),
            socket: "miyabi".to_owned(),
            down: Duration::from_secs(40),
        }
    }

    #[test]
    fn systemd_waits_longer_than_a_drain_may_take() {
        let text = render(Unit::Supervisor, &Facts { down: Duration::from_millis(70_500), ..facts_in("/srv/project") });
        assert!(text.contains(" --timeout 81s\n") && text.contains("\nTimeoutStopSec=91\n"), "{text}");
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for (unit, scope) in Unit::ALL.into_iter().flat_map(|unit| [(unit, Scope::System), (unit, Scope::Person)]) {
            let text = render(unit, &Facts { scope, ..facts_in("/srv/project") });
            // The sign also begins the names of systemd's sets of system calls.
            let left: Vec<&str> = text
                .lines()
                .filter(|line| !line.starts_with('#') && !line.starts_with("SystemCallFilter=") && line.contains('@'))
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    #[test]
    fn paths_with_spaces_percent_and_dollar_signs_stay_what_they_are() {
        let text = render(Unit::Supervisor, &facts_in("/srv/my $5 project 100%"));
        assert!(text.contains("\nWorkingDirectory=/srv/my $5 project 100%%\n"), "{text}");
        assert!(text.contains("\nExecStart=/usr/local/bin/miyabi -C \"/srv/my $$5 project 100%%\" up\n"), "{text}");
    }

    #[test]
    fn the_supervisor_never_pulls_the_agents_down() {
        for unit in Unit::ALL {
            let text = render(unit, &facts_in("/srv/project"));
            for word in ["PartOf=", "BindsTo=", "Requires="] {
                assert!(!text.lines().any(|line| line.starts_with(word)), "{word} in {}", unit.file_name());
            }
        }
    }

    #[test]
    fn a_user_that_does_not_exist_is_refused() {
        assert_eq!(home_of("no-such-user-here").unwrap_err().kind, Kind::Invalid);
        assert_eq!(home_of("root").unwrap(), PathBuf::from("/root"));
    }
}
