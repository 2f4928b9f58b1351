//! A pane that only shows something: its program has the whole terminal and is started again whenever it ends.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::environment;
use super::pane::Tone;
use crate::drivers::Program;
use crate::io::clock;

/// The wait before the first restart; it doubles up to [`PAUSE_MAX`], and begins anew after a long run.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest wait.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a program must have run for its end not to count as a failed start.
const STABLE: Duration = Duration::from_secs(30);

/// Keeps the program running until it is told to stop.
pub(super) async fn keep(context: &Context, program: &Program, stop: CancellationToken) {
    let mut pause = PAUSE;
    loop {
        let begun = clock::now();
        match once(context, program, &stop).await {
            Some(how) => context.pane.say(Tone::Bad, &format!("the dashboard ended ({how}) and is started again")),
            None => return,
        }
        pause = if clock::now().since(begun) >= STABLE { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Runs it once and says how it ended; `None`: we were told to stop, and it has ended too.
async fn once(context: &Context, program: &Program, stop: &CancellationToken) -> Option<String> {
    let (name, arguments) = program.argv.split_first()?;
    let child = Command::new(name)
        .args(arguments)
        .env_clear()
        .envs(environment::of_pane(&context.environment, &context.agent))
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Some(error.to_string()),
    };
    tokio::select! {
        status = child.wait() => Some(status.map_or_else(|error| error.to_string(), |status| status.to_string())),
        () = stop.cancelled() => {
            child.kill().await.ok();
            None
        }
    }
}
