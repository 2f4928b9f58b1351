//! `miyabi install`: the systemd units, for one user and one root.

mod units;
mod write;

use std::path::PathBuf;
use std::process::Command;

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::output::{Form, Tone};
use units::{Facts, Scope, Unit, render};
use write::{Written, write_if_new};

/// Where systemd looks for units of the machine's own.
const UNIT_FOLDER: &str = "/etc/systemd/system";

/// Exists where systemd is the first process.
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// The arguments of `install`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With `--user NAME` the machine's systemd runs it in that account; with `--user` alone your own systemd does, \
    without root.\nKeys for the agents go into /etc/miyabi-orchestra/environment (your own: ~/.config/miyabi-orchestra/environment), \
    mode 0600, one\nNAME=VALUE a line; the supervisor's own GitHub token into github_token beside it,\nor the key of its GitHub App into github_app_key.\n\n\
    Examples:\n  sudo miyabi install --user \"$USER\" --root ~/project\n  \
    miyabi install --user --root ~/project\n  \
    miyabi install --user \"$USER\" --root ~/project --dry-run\n  sudo miyabi install --uninstall"
)]
pub struct Args {
    /// The account in which the supervisor and the agents run; without a name: yours, under your own systemd
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", required_unless_present = "uninstall")]
    pub user: Option<String>,
    /// The folder with agents.toml
    #[arg(long = "root", id = "install_root", value_name = "DIR", required_unless_present = "uninstall")]
    pub root: Option<PathBuf>,
    /// Shows what would be written and changes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where the program is installed: PREFIX/bin/miyabi [default: /usr/local, or ~/.local]
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<PathBuf>,
    /// Stops the services and removes the units; the root and the program stay
    #[arg(long, conflicts_with = "install_root")]
    pub uninstall: bool,
    /// Another folder for the units
    #[arg(long, value_name = "DIR", hide = true)]
    pub unit_folder: Option<PathBuf>,
}

/// Where everything goes.
struct Places {
    scope: Scope,
    units: PathBuf,
    prefix: PathBuf,
}

impl Places {
    fn new(context: &Context, args: &Args) -> Result<Self> {
        let scope = if args.user.as_deref() == Some("") { Scope::Person } else { Scope::System };
        let home = || {
            let home = context.environment.home.clone();
            home.ok_or_else(|| Failure::say(Kind::Failed, "HOME is not set").hint("your own systemd looks below it"))
        };
        let (units, prefix) = match scope {
            Scope::System => (PathBuf::from(UNIT_FOLDER), PathBuf::from("/usr/local")),
            Scope::Person => (home()?.join(".config/systemd/user"), home()?.join(".local")),
        };
        Ok(Self {
            scope,
            units: args.unit_folder.clone().unwrap_or(units),
            prefix: args.prefix.clone().unwrap_or(prefix),
        })
    }
}

/// Installs or removes the units.
///
/// # Errors
/// Exit code 5 without root's rights, 4 for an unknown user or a wrong configuration.
pub fn run(context: &Context, args: &Args) -> Result {
    let places = Places::new(context, args)?;
    if places.scope == Scope::System && !args.dry_run && !rustix::process::geteuid().is_root() {
        return Err(Failure::say(Kind::Refused, "only root may install services of the machine")
            .hint("put `sudo` in front, use your own systemd with `--user` alone, or look with `--dry-run`"));
    }
    match (&args.user, &args.root) {
        (Some(user), Some(root)) => {
            let user = match places.scope {
                Scope::System => user.clone(),
                Scope::Person => own_name()?,
            };
            let facts = units::facts(context, places.scope, &user, root, &places.prefix)?;
            install(context, args, &places, &facts)
        }
        (None, _) | (_, None) if args.uninstall => uninstall(context, args, &places),
        (None, _) | (_, None) => {
            Err(Failure::say(Kind::Usage, "which root is meant?").hint("add `--root DIR`, the folder with agents.toml"))
        }
    }
}

fn own_name() -> Result<String> {
    let output = Command::new("id")
        .arg("-un")
        .output()
        .map_err(|error| Failure::new(Kind::Failed, anyhow::Error::new(error).context("cannot run id")))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn install(context: &Context, args: &Args, places: &Places, facts: &Facts) -> Result {
    let mut changed = Vec::new();
    let program = write::program_is_new(&context.environment.program, &facts.program)?;
    if program {
        changed.push(facts.program.clone());
    }
    let units = Unit::ALL.map(|unit| (places.units.join(unit.file_name()), render(unit, facts)));
    if args.dry_run {
        return dry_run(context, &changed, &units);
    }
    if program {
        write::copy_program(&context.environment.program, &facts.program)?;
    }
    for (path, text) in &units {
        match write_if_new(path, text)? {
            Written::New => changed.push(path.clone()),
            Written::Same => {}
        }
    }
    systemctl(context, places, &["daemon-reload"])?;
    report(context, &changed, "installed")?;
    if context.out.form == Form::Text {
        let next = if changed.is_empty() { "restart" } else { "enable --now" };
        let paint = |command: &str| context.out.color.paint(Tone::Active, command);
        let command = match places.scope {
            Scope::System => format!("systemctl {next} miyabi-orchestra"),
            Scope::Person => format!("systemctl --user {next} miyabi-orchestra"),
        };
        context.out.line(&format!("now run {}", paint(&command)))?;
        if places.scope == Scope::Person && !changed.is_empty() {
            let linger = paint("sudo loginctl enable-linger \"$USER\"");
            context.out.line(&format!("and, for the time when you are not logged in, {linger}"))?;
        }
    }
    Ok(Ended::Well)
}

fn dry_run(context: &Context, changed: &[PathBuf], units: &[(PathBuf, String)]) -> Result {
    if context.out.form == Form::Json {
        let units: Vec<_> =
            units.iter().map(|(path, text)| serde_json::json!({ "path": path, "text": text })).collect();
        context.out.json(&serde_json::json!({ "programs": changed, "units": units }))?;
        return Ok(Ended::Well);
    }
    for path in changed {
        context.out.line(&format!("# would copy this program to {}", path.display()))?;
    }
    for (path, text) in units {
        context.out.line(&format!("# would write {}\n{text}", path.display()))?;
    }
    Ok(Ended::Well)
}

fn uninstall(context: &Context, args: &Args, places: &Places) -> Result {
    let present: Vec<PathBuf> =
        Unit::ALL.map(|unit| places.units.join(unit.file_name())).into_iter().filter(|path| path.exists()).collect();
    if args.dry_run {
        for path in &present {
            context.out.line(&format!("# would stop and remove {}", path.display()))?;
        }
        return Ok(Ended::Well);
    }
    if !present.is_empty() {
        // The supervisor first: it drains, and must not see the tmux server go while it is at work.
        for unit in Unit::ALL {
            systemctl(context, places, &["disable", "--now", unit.file_name()])?;
        }
    }
    for path in &present {
        std::fs::remove_file(path)?;
    }
    systemctl(context, places, &["daemon-reload"])?;
    report(context, &present, "removed")?;
    Ok(Ended::Well)
}

fn report(context: &Context, paths: &[PathBuf], word: &str) -> Result<()> {
    if context.out.form == Form::Json {
        return context.out.json(&serde_json::json!({ word: paths }));
    }
    for path in paths {
        context.out.line(&format!("{word} {}", path.display()))?;
    }
    if paths.is_empty() {
        context.out.line("nothing had to change")?;
    }
    Ok(())
}

/// Runs systemctl where systemd runs; elsewhere (a chroot, an image being built) the files are enough.
fn systemctl(context: &Context, places: &Places, arguments: &[&str]) -> Result<()> {
    if !std::path::Path::new(SYSTEMD_RUNS).exists() {
        context.out.note(&format!("systemd does not run here; `systemctl {}` was left out", arguments.join(" ")));
        return Ok(());
    }
    let mut command = Command::new("systemctl");
    if places.scope == Scope::Person {
        command.arg("--user");
    }
    let output = command
        .args(arguments)
        .output()
        .map_err(|error| Failure::new(Kind::Failed, anyhow::Error::new(error).context("cannot run systemctl")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::say(Kind::Failed, format!("`systemctl {}` failed: {said}", arguments.join(" "))))
}
