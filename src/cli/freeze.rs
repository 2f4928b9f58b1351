//! `miyabi freeze` and `miyabi thaw`.

use std::time::Duration;

use super::context::{Context, read_plan};
use super::failure::{Ended, Failure, Kind, Result, accepted};
use super::output::{Form, count};
use crate::control::client::ClientError;
use crate::control::protocol::Call;
use crate::io::clock;
use crate::io::freeze::{self, Obeyed};
use crate::model::layout::Layout;
use crate::model::request::{Answer, Request};

/// How long the supervisor may take to take notice. One that hangs is no reason not to freeze.
const PATIENCE: Duration = Duration::from_secs(5);

/// The arguments of `freeze`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is begun, judged or timed until `miyabi thaw`; every program of the agents stands still where\n\
    it is. Works without a supervisor too, which obeys when it comes back.\n\nExample:\n  miyabi freeze"
)]
pub struct FreezeArgs {}

/// The arguments of `thaw`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  miyabi thaw")]
pub struct ThawArgs {}

/// Stops all dispatch and suspends the agents.
///
/// # Errors
/// When the root cannot be written, or the processes cannot be looked at.
pub fn freeze(context: &Context) -> Result {
    let layout = context.layout()?;
    let since = freeze::write(&layout, clock::now()).map_err(|error| Failure::new(Kind::Failed, error))?;
    tell_supervisor(context)?;
    let processes = obey(&layout)?;
    match context.out.form {
        Form::Json => {
            context.out.json(&serde_json::json!({ "frozen": true, "since": since, "processes": processes }))?;
        }
        Form::Text => {
            let stand = count(processes, "process stands still", "processes stand still");
            context.out.line(&format!("frozen since {since}; {stand}; `miyabi thaw` goes on"))?;
        }
    }
    Ok(Ended::Well)
}

/// Lets everything go on.
///
/// # Errors
/// When the root cannot be written, or the processes cannot be looked at.
pub fn thaw(context: &Context) -> Result {
    let layout = context.layout()?;
    let since = freeze::remove(&layout, clock::now()).map_err(|error| Failure::new(Kind::Failed, error))?;
    let processes = obey(&layout)?;
    tell_supervisor(context)?;
    match context.out.form {
        Form::Json => {
            context.out.json(&serde_json::json!({ "frozen": false, "since": since, "processes": processes }))?;
        }
        Form::Text if since.is_none() => context.out.line("nothing was frozen")?,
        Form::Text => {
            let go_on = count(processes, "process goes on", "processes go on");
            context.out.line(&format!("thawed; {go_on}"))?;
        }
    }
    Ok(Ended::Well)
}

/// Tells the supervisor to look at the mark now. Without one, or with one that hangs, the mark waits for it.
fn tell_supervisor(context: &Context) -> Result<()> {
    let client = context.client()?.with_patience(PATIENCE);
    match client.ask::<Answer>(Call::Request(Request::FreezeChanged)) {
        Ok(answer) => accepted(answer).map(drop),
        Err(ClientError::NotRunning { .. }) => {
            context.out.note("no supervisor is running; it will obey when it comes back");
            Ok(())
        }
        Err(error) => {
            context.out.note(&format!("the supervisor does not take notice now, and will later: {error}"));
            Ok(())
        }
    }
}

/// Makes the processes fit the mark, whatever the supervisor does, and says how many that were.
fn obey(layout: &Layout) -> Result<usize> {
    // A configuration with faults must not keep anybody from freezing; then the dashboards stand still too.
    let spared = read_plan(layout).ok().and_then(|(_, plan)| plan.ok()).map(|plan| freeze::spared(&plan));
    match freeze::obey(layout, &spared.unwrap_or_default()) {
        Ok(Obeyed::Frozen { processes } | Obeyed::Thawed { processes }) => Ok(processes),
        Err(error) => Err(Failure::new(Kind::Failed, error)),
    }
}
