//! `miyabi runner`: the process in an agent's pane. The supervisor starts it; people never do.

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use crate::model::id::{AgentId, Incarnation};
use crate::runner;

/// The arguments of `runner`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent
    #[arg(value_name = "AGENT")]
    pub agent: String,
    /// Which start of the agent this is [default: MIYABI_INCARNATION]
    #[arg(long, value_name = "N")]
    pub incarnation: Option<u64>,
}

/// Runs one agent's runner until it is told to stop.
///
/// # Errors
/// When the runner cannot do its duty; the supervisor sees it end and starts the next one.
pub fn run(context: &Context, args: &Args) -> Result {
    let layout = context.layout()?;
    let agent = AgentId::new(&args.agent)?;
    let given = context.environment.incarnation.as_deref().and_then(|text| text.parse().ok());
    let Some(incarnation) = args.incarnation.or(given) else {
        return Err(Failure::say(Kind::Usage, "a runner must know which start it is")
            .hint("runners are started by the supervisor: `miyabi up`"));
    };
    let environment = context.environment.all.clone();
    runner::start::run(layout.root(), &agent, Incarnation(incarnation), environment)
        .map_err(|error| Failure::new(Kind::Failed, error))?;
    Ok(Ended::Well)
}
