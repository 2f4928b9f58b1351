//! `miyabi attach`.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::context::Context;
use super::env::Environment;
use super::failure::{Failure, Kind, Result};
use super::mail;
use crate::control::protocol::{Call, Status};
use crate::model::agent::DriverKind;
use crate::model::id::AgentId;
use crate::model::plan::Plan;

/// Where the installed tmux unit keeps its socket.
const UNIT_FOLDER: &str = "/run/miyabi-orchestra";

/// Where tmux keeps its sockets when nobody says otherwise.
const TMUX_FOLDER: &str = "/tmp";

/// The arguments of `attach`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Leave the session with Ctrl-b d; the agents go on.\n\nExamples:\n  miyabi attach\n  miyabi attach kaede"
)]
pub struct Args {
    /// The agent whose window is shown first
    #[arg(value_name = "AGENT")]
    pub agent: Option<String>,
}

/// Becomes the tmux client.
///
/// # Errors
/// Exit code 3 when there is no session, 5 without a terminal or inside tmux.
pub fn run(context: &Context, args: &Args) -> Result {
    let plan = context.plan()?;
    let agent = args.agent.as_deref().map(|agent| mail::known_agent(&plan, agent)).transpose()?;
    let environment = &context.environment;
    let tmux = environment.find_program("tmux").ok_or_else(|| {
        Failure::say(Kind::Failed, "there is no tmux on PATH").hint("install it with your system's package manager")
    })?;
    let socket = find_socket(context, &plan)?;
    if environment.tmux.is_some() {
        return Err(inside_tmux(environment, &socket, &plan));
    }
    if !environment.stdin_is_terminal || !environment.stdout_is_terminal {
        return Err(Failure::say(Kind::Refused, "attaching needs a terminal")
            .hint("programs read `miyabi status --json` and `miyabi logs AGENT --follow`"));
    }
    match agent {
        Some(agent) => select(&tmux, &socket, &plan, &agent)?,
        None => select_dashboard(&tmux, &socket, &plan)?,
    }
    let target = format!("={}", plan.session.name);
    // `-u`: without a UTF-8 locale tmux would show `_` in the place of every Japanese character.
    let error = Command::new(&tmux).args(["-u", "-S"]).arg(&socket).args(["attach-session", "-t", &target]).exec();
    Err(Failure::new(Kind::Failed, anyhow::Error::new(error).context(format!("cannot run {}", tmux.display()))))
}

/// Finds the server that holds the panes: the supervisor knows; when it is down, the usual places are tried.
fn find_socket(context: &Context, plan: &Plan) -> Result<PathBuf> {
    let known = context.client()?.ask::<Status>(Call::Status).ok().and_then(|status| status.supervisor.tmux_socket);
    if let Some(socket) = known.map(PathBuf::from)
        && answers(&socket)
    {
        return Ok(socket);
    }
    let user = rustix::process::geteuid().as_raw();
    let folder = context.environment.tmux_folder.clone().unwrap_or_else(|| PathBuf::from(TMUX_FOLDER));
    [folder.as_path(), Path::new(UNIT_FOLDER)]
        .into_iter()
        .map(|folder| folder.join(format!("tmux-{user}")).join(&plan.session.socket))
        .find(|socket| answers(socket))
        .ok_or_else(|| {
            Failure::say(Kind::NoSupervisor, format!("no tmux server has the session `{}`", plan.session.name))
                .hint("start the orchestra with `miyabi up`, or with `systemctl start miyabi-orchestra`")
        })
}

/// A killed server leaves its socket's file behind, so only connecting tells.
fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

fn inside_tmux(environment: &Environment, socket: &Path, plan: &Plan) -> Failure {
    let here = environment.tmux.as_deref().and_then(|tmux| tmux.split(',').next());
    let failure = Failure::say(Kind::Refused, "this terminal is inside tmux already");
    if here.is_some_and(|here| Path::new(here) == socket) {
        failure.hint(format!("it is the same server: `tmux switch-client -t ={}`", plan.session.name))
    } else {
        failure.hint(format!(
            "detach first (Ctrl-b d), or nest on purpose: `TMUX= tmux -u -S {} attach -t ={}`",
            socket.display(),
            plan.session.name
        ))
    }
}

/// Begins with the picture of everything when nobody has attached yet; later the user's own choice of window stays.
fn select_dashboard(tmux: &Path, socket: &Path, plan: &Plan) -> Result<()> {
    let target = format!("={}:", plan.session.name);
    let asked = Command::new(tmux)
        .arg("-S")
        .arg(socket)
        .args(["display-message", "-p", "-t", &target, "#{session_last_attached}"])
        .output()?;
    let attached = String::from_utf8_lossy(&asked.stdout).trim().parse::<u64>().is_ok_and(|time| time > 0);
    let dashboard = plan.agents.iter().find(|agent| agent.driver == DriverKind::Dashboard);
    match dashboard {
        Some(dashboard) if !attached => match select(tmux, socket, plan, &dashboard.id) {
            // Without its pane any other window is as good.
            Ok(()) | Err(_) => Ok(()),
        },
        Some(_) | None => Ok(()),
    }
}

/// Selects the agent's pane by the mark that it carries; names and titles can be changed by programs.
fn select(tmux: &Path, socket: &Path, plan: &Plan, agent: &AgentId) -> Result<()> {
    let target = format!("={}", plan.session.name);
    let panes = Command::new(tmux)
        .arg("-S")
        .arg(socket)
        .args(["list-panes", "-s", "-t", &target, "-F", "#{@miyabi_agent}|#{window_id}|#{pane_id}"])
        .output()?;
    let listed = String::from_utf8_lossy(&panes.stdout);
    let place = listed.lines().find_map(|line| {
        let mut parts = line.splitn(3, '|');
        (parts.next()? == agent.as_str()).then_some((parts.next()?, parts.next()?))
    });
    let Some((window, pane)) = place else {
        return Err(Failure::say(Kind::Failed, format!("{agent} has no pane at the moment"))
            .hint("see `miyabi agent list` for its state; `miyabi attach` shows the others"));
    };
    let selected = Command::new(tmux)
        .arg("-S")
        .arg(socket)
        .args(["select-window", "-t", window, ";", "select-pane", "-t", pane])
        .status()?;
    if selected.success() {
        Ok(())
    } else {
        Err(Failure::say(Kind::Failed, format!("tmux cannot show {agent}'s pane")))
    }
}
