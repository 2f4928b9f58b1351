//! One program of an attempt: started in a session of its own, watched, and ended with everything that it started.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use process_wrap::tokio::{CommandWrap, ProcessSession};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::sync::watch;

use super::context::Context;
use super::event::Pull;
use super::leftovers;
use super::output::Output;
use crate::io::cgroup::AgentGroup;
use crate::io::{freeze, process};
use crate::model::fault::with_causes;

/// How much output is read at once.
const PIECE_BYTES: usize = 16 * 1024;

/// How long output is waited for after everything that could write it has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// A program with everything that it is given.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// The program and its arguments.
    pub(super) argv: Vec<OsString>,
    /// Where it runs.
    pub(super) dir: PathBuf,
    /// All of its environment.
    pub(super) env: Vec<(OsString, OsString)>,
    /// The file that it reads as its input; nothing if there is none.
    pub(super) input: Option<PathBuf>,
}

impl Program {
    /// A shell that runs a command.
    pub(super) fn shell(command: &str, dir: PathBuf, env: Vec<(OsString, OsString)>) -> Self {
        Self { argv: vec!["sh".into(), "-c".into(), command.into()], dir, env, input: None }
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It could not be started.
    NotStarted(String),
    /// It ended by itself.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
}

/// The runner's hold on a running program: the last pull counts.
pub(super) type Leash = watch::Receiver<Option<Pull>>;

/// Runs a program to its end, and to the end of everything that it started.
pub(super) async fn run(program: &Program, context: &Context, mut leash: Leash, output: &mut Output) -> Ended {
    match begin(program, context.group.as_ref()) {
        Ok((mut child, pid, reader)) => {
            // Whoever put down the mark may have looked for processes before this one was there.
            if freeze::read(&context.layout).is_some() {
                signal(pid, Signal::STOP);
            }
            let mut pump = pin!(pump(reader, output));
            let mut end = pin!(until_end(pid, &mut leash));
            let pumped = tokio::select! {
                () = &mut end => false,
                () = &mut pump => {
                    end.await;
                    true
                }
            };
            // The leader is not reaped yet, so its number still names this group and no other.
            signal(pid, Signal::KILL);
            // Reaches what has left the group, and what forks faster than it can be counted.
            if let Some(Err(error)) = context.group.as_ref().map(AgentGroup::kill_work) {
                tracing::warn!(error = %with_causes(&error), "what a program left cannot be killed at one stroke");
            }
            let status = child.wait().await;
            leftovers::end(pid).await;
            if !pumped {
                // Whoever still holds the pipe is out of our reach, and is not waited for.
                tokio::time::timeout(DRAIN, pump).await.ok();
            }
            ended(status)
        }
        Err(error) => {
            let name = program.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Ended::NotStarted(format!("cannot start `{name}`: {error}"))
        }
    }
}

fn begin(program: &Program, group: Option<&AgentGroup>) -> io::Result<(Child, Pid, pipe::Receiver)> {
    match group {
        None => start(program),
        Some(group) => group.inside(|| start(program)).map_err(io::Error::other)?,
    }
}

type Child = Box<dyn process_wrap::tokio::ChildWrapper>;

fn start(program: &Program) -> io::Result<(Child, Pid, pipe::Receiver)> {
    let (name, arguments) = program.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    // One pipe for both, so that what was written first is shown first.
    let (reader, writer) = io::pipe()?;
    let input = match &program.input {
        Some(path) => std::fs::File::open(path)?.into(),
        None => Stdio::null(),
    };
    let mut command = Command::new(name);
    command
        .args(arguments)
        .current_dir(&program.dir)
        .env_clear()
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .stdin(input)
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut wrapped = CommandWrap::from(command);
    wrapped.wrap(ProcessSession);
    // The wrapper's own waiting needs a thread; the plain child's does not.
    let child = wrapped.spawn()?.into_inner();
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("it has no process id"))?;
    Ok((child, pid, pipe::Receiver::from_owned_fd(reader.into())?))
}

/// Waits for the end of the leader and passes on the pulls that come meanwhile.
async fn until_end(pid: Pid, leash: &mut Leash) {
    let number = pid.as_raw_nonzero().get().unsigned_abs();
    // Nothing to identify: it has ended already, and stays a zombie until we collect it.
    let Some(leader) = process::identify(number) else { return };
    let mut end = pin!(process::wait_for_exit(leader));
    let mut slack = true;
    loop {
        tokio::select! {
            result = &mut end => {
                if let Err(error) = result {
                    tracing::warn!(%error, "cannot wait for the program as usual");
                }
                return;
            }
            pulled = leash.changed(), if slack => match (pulled, *leash.borrow_and_update()) {
                (Ok(()), Some(Pull::Term)) => {
                    signal(pid, Signal::TERM);
                    // A stopped process could not act on it.
                    signal(pid, Signal::CONT);
                }
                (Ok(()), Some(Pull::Kill)) => signal(pid, Signal::KILL),
                (Ok(()), None) => {}
                // The shell is gone, so nobody will pull any more: end it now.
                (Err(_), _) => {
                    signal(pid, Signal::KILL);
                    slack = false;
                }
            },
        }
    }
}

fn signal(group: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(group, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(group = group.as_raw_nonzero(), %error, "cannot signal a program's group");
    }
}

async fn pump(mut reader: pipe::Receiver, output: &mut Output) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match reader.read(&mut piece).await {
            Ok(0) => return,
            Ok(bytes) => output.take(&piece[..bytes]).await,
            Err(error) => {
                tracing::warn!(%error, "cannot read a program's output any more");
                return;
            }
        }
    }
}

fn ended(status: io::Result<std::process::ExitStatus>) -> Ended {
    use std::os::unix::process::ExitStatusExt;

    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Exited(code),
            (None, signal) => Ended::Killed(signal.unwrap_or_default()),
        },
        Err(error) => Ended::NotStarted(format!("cannot learn how the program ended: {error}")),
    }
}
