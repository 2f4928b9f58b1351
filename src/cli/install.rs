//! `miyabi install`: the systemd units, for one user and one root.

mod units;
mod write;

use std::path::PathBuf;
use std::process::Command;

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::output::{Form, Tone};
use units::{Facts, Unit, render};
use write::{Written, write_if_new};

/// Where systemd looks for units of the machine's own.
const UNIT_FOLDER: &str = "/etc/systemd/system";

/// Exists where systemd is the first process.
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// The arguments of `install`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys for the agents go into /etc/miyabi-orchestra/environment (mode 0600), one NAME=VALUE a line.\n\n\
    Examples:\n  sudo miyabi install --user \"$USER\" --root ~/project\n  \
    miyabi install --user \"$USER\" --root ~/project --dry-run\n  sudo miyabi install --uninstall"
)]
pub struct Args {
    /// The account in which the supervisor and the agents run
    #[arg(long, value_name = "NAME", required_unless_present = "uninstall")]
    pub user: Option<String>,
    /// The folder with agents.toml
    #[arg(long = "root", id = "install_root", value_name = "DIR", required_unless_present = "uninstall")]
    pub root: Option<PathBuf>,
    /// Shows what would be written and changes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where the program is installed: PREFIX/bin/miyabi
    #[arg(long, value_name = "PREFIX", default_value = "/usr/local")]
    pub prefix: PathBuf,
    /// Stops the services and removes the units; the root and the program stay
    #[arg(long, conflicts_with_all = ["user", "install_root"])]
    pub uninstall: bool,
    /// Another folder for the units
    #[arg(long, value_name = "DIR", default_value = UNIT_FOLDER, hide = true)]
    pub unit_folder: PathBuf,
}

/// Installs or removes the units.
///
/// # Errors
/// Exit code 5 without root's rights, 4 for an unknown user or a wrong configuration.
pub fn run(context: &Context, args: &Args) -> Result {
    if !args.dry_run && !rustix::process::geteuid().is_root() {
        return Err(Failure::say(Kind::Refused, "only root may install services")
            .hint("put `sudo` in front, or see what would be done with `--dry-run`"));
    }
    match (&args.user, &args.root) {
        (Some(user), Some(root)) => install(context, args, &units::facts(context, user, root, &args.prefix)?),
        (None, _) | (_, None) => uninstall(context, args),
    }
}

fn install(context: &Context, args: &Args, facts: &Facts) -> Result {
    let mut changed = Vec::new();
    let program = write::program_is_new(&context.environment.program, &facts.program)?;
    if program {
        changed.push(facts.program.clone());
    }
    let units = Unit::ALL.map(|unit| (args.unit_folder.join(unit.file_name()), render(unit, facts)));
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
    systemctl(context, &["daemon-reload"])?;
    report(context, &changed, "installed")?;
    if context.out.form == Form::Text {
        let next = if changed.is_empty() { "restart" } else { "enable --now" };
        let command = format!("systemctl {next} miyabi-orchestra");
        context.out.line(&format!("now run {}", context.out.color.paint(Tone::Active, &command)))?;
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

fn uninstall(context: &Context, args: &Args) -> Result {
    let present: Vec<PathBuf> = Unit::ALL
        .map(|unit| args.unit_folder.join(unit.file_name()))
        .into_iter()
        .filter(|path| path.exists())
        .collect();
    if args.dry_run {
        for path in &present {
            context.out.line(&format!("# would stop and remove {}", path.display()))?;
        }
        return Ok(Ended::Well);
    }
    if !present.is_empty() {
        // The supervisor first: it drains, and must not see the tmux server go while it is at work.
        for unit in Unit::ALL {
            systemctl(context, &["disable", "--now", unit.file_name()])?;
        }
    }
    for path in &present {
        std::fs::remove_file(path)?;
    }
    systemctl(context, &["daemon-reload"])?;
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
fn systemctl(context: &Context, arguments: &[&str]) -> Result<()> {
    if !std::path::Path::new(SYSTEMD_RUNS).exists() {
        context.out.note(&format!("systemd does not run here; `systemctl {}` was left out", arguments.join(" ")));
        return Ok(());
    }
    let output = Command::new("systemctl")
        .args(arguments)
        .output()
        .map_err(|error| Failure::new(Kind::Failed, anyhow::Error::new(error).context("cannot run systemctl")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::say(Kind::Failed, format!("`systemctl {}` failed: {said}", arguments.join(" "))))
}
