//! The operator's program for alerts: run once for each, outside of the loop, and never for long.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::model::alert::Alert;
use crate::model::plan::Plan;
use crate::tasks::Tasks;

/// How long the program may take before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many of the programs run at once; the others wait for their turn.
static TURNS: Semaphore = Semaphore::const_new(4);

/// Runs the program of `[alert]`, with the alert's text as its last argument.
pub(super) fn tell(tasks: &mut Tasks, plan: &Plan, environment: &BTreeMap<String, String>, alert: &Alert) {
    let Some((program, arguments)) = plan.alert_command.split_first() else { return };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(&alert.text)
        .env_clear()
        .envs(environment)
        .env("MIYABI_ALERT", alert.key())
        .env("MIYABI_ALERT_KIND", alert.kind.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let program = program.clone();
    tasks.start("alert", move |stop| async move {
        let run = async {
            let _turn = TURNS.acquire().await;
            tokio::time::timeout(PATIENCE, command.status()).await
        };
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = run => ended,
        };
        match ended {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => tracing::warn!(program, %status, "the program for alerts failed"),
            Ok(Err(error)) => tracing::warn!(program, %error, "the program for alerts cannot be started"),
            Err(_) => tracing::warn!(program, "the program for alerts took too long and was killed"),
        }
    });
}
