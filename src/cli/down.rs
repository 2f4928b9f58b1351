//! `miyabi down`.

mod service;

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result, accepted};
use super::output::Form;
use crate::control::client::{Client, ClientError};
use crate::control::protocol::{Call, Status};
use crate::core::snapshot::{AgentState, AgentView};
use crate::io::clock;
use crate::model::request::{Answer, Request};
use crate::model::span;
use crate::model::time::Timestamp;
use service::Job;

/// How often progress is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The arguments of `down`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Running attempts are allowed to end; nothing new is begun. Waiting tasks wait for the next `miyabi up`.\n\n\
    Examples:\n  miyabi down\n  miyabi down --timeout 30s"
)]
pub struct Args {
    /// How long to wait for the end [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub timeout: Option<Duration>,
    /// Called by systemd for this unit: a restart leaves the agents at work
    #[arg(long, value_name = "UNIT", hide = true)]
    pub service: Option<String>,
}

/// Asks the supervisor to drain, and waits for its end.
///
/// # Errors
/// Exit code 3 without a supervisor, 1 when it has not ended in time.
pub fn run(context: &Context, args: &Args) -> Result {
    if let Some(unit) = &args.service {
        match service::job_of(context, unit) {
            // systemd sends SIGTERM next, which leaves the agents at work.
            Job::Restart => return detaching(context, "systemd restarts the supervisor: the agents go on working"),
            Job::None => return detaching(context, "systemd has no job for the supervisor: the agents go on working"),
            // Ended work cannot be taken back, and agents that go on can still be stopped: in doubt they go on.
            Job::Unknown(reason) => {
                let text = format!(
                    "systemd does not say whether this is a stop or a restart ({reason}): the agents go on working; \
                     `systemctl stop miyabi-orchestra-tmux` ends them"
                );
                return detaching(context, &text);
            }
            Job::Stop => {}
        }
    }
    let client = context.client()?;
    let status: Status = client.ask(Call::Status)?;
    let pid = status.supervisor.pid;
    // Opened before the request: afterwards the number could already belong to another process.
    let process = open_process(pid);
    accepted(client.ask::<Answer>(Call::Request(Request::Drain))?)?;
    let deadline = args.timeout.map(|timeout| clock::now() + timeout);
    let mut told = String::new();
    while !has_ended(process.as_ref(), &client, wait_for(deadline))? {
        let progress = progress(&client);
        if deadline.is_some_and(|deadline| deadline <= clock::now()) {
            return Err(too_late(args.timeout, progress.as_deref()));
        }
        if let Some(progress) = progress
            && progress != told
        {
            context.out.note(&progress);
            told = progress;
        }
    }
    match context.out.form {
        Form::Json => context.out.json(&serde_json::json!({ "pid": pid, "state": "stopped" }))?,
        Form::Text => context.out.line("stopped")?,
    }
    Ok(Ended::Well)
}

fn detaching(context: &Context, text: &str) -> Result {
    context.out.note(text);
    Ok(Ended::Well)
}

fn open_process(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn wait_for(deadline: Option<Timestamp>) -> Duration {
    deadline.map_or(LOOK_INTERVAL, |deadline| deadline.since(clock::now()).min(LOOK_INTERVAL))
}

/// Waits for the process, or, where it cannot be seen (another namespace), for its socket to go.
fn has_ended(process: Option<&OwnedFd>, client: &Client, patience: Duration) -> Result<bool> {
    let Some(process) = process else {
        std::thread::sleep(patience);
        return Ok(matches!(client.ask::<serde_json::Value>(Call::Ping), Err(ClientError::NotRunning { .. })));
    };
    let patience = Timespec::try_from(patience).map_err(|error| Failure::new(Kind::Failed, error))?;
    let mut watched = [PollFd::new(process, PollFlags::IN)];
    match poll(&mut watched, Some(&patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(std::io::Error::from(error).into()),
    }
}

/// Says what is waited for; nothing when the supervisor no longer answers.
fn progress(client: &Client) -> Option<String> {
    let status: Status = client.ask(Call::Status).ok()?;
    let busy: Vec<String> = status.agents.iter().filter_map(working).collect();
    Some(match busy.as_slice() {
        [] => "stopping the agents".to_owned(),
        busy => format!("waiting for {}", busy.join(", ")),
    })
}

fn working(agent: &AgentView) -> Option<String> {
    let task = agent.task.as_ref()?;
    (agent.state != AgentState::Idle).then(|| format!("{} ({task})", agent.id))
}

fn too_late(timeout: Option<Duration>, progress: Option<&str>) -> Failure {
    let after = timeout.map(span::format).unwrap_or_default();
    let doing = progress.unwrap_or("it no longer answers");
    Failure::say(Kind::Failed, format!("the supervisor has not ended within {after}: {doing}"))
        .hint("it goes on draining; see `miyabi status`, or give up a task with `miyabi task cancel ID`")
}
