//! `miyabi agent list | restart | pause | resume`.

use super::board;
use super::context::Context;
use super::failure::{Ended, Result};
use super::task::change;
use crate::control::protocol::Call;
use crate::core::snapshot::AgentView;
use crate::io::clock;
use crate::model::id::AgentId;
use crate::model::request::Request;

/// What to do with agents.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Lists all agents
    #[command(after_help = "Example:\n  miyabi agent list")]
    List,
    /// Stops an agent and starts it again; the task it has is tried once more
    #[command(after_help = "Example:\n  miyabi agent restart kaede")]
    Restart(One),
    /// Stops an agent once it is free, and keeps it down
    #[command(after_help = "Example:\n  miyabi agent pause kaede")]
    Pause(One),
    /// Starts an agent again that is paused or in a crash loop
    #[command(after_help = "Example:\n  miyabi agent resume kaede")]
    Resume(One),
}

/// One agent.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The agent's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Performs a verb on agents.
///
/// # Errors
/// Exit code 3 without a supervisor, 4 for an unknown agent, 5 when it cannot be done now.
pub fn run(context: &Context, verb: Verb) -> Result {
    match verb {
        Verb::List => {
            let agents: Vec<AgentView> = context.client()?.ask(Call::Agents)?;
            let out = &context.out;
            out.show(&agents, || board::agents(&agents, clock::now()).render(out.color, out.width))?;
        }
        Verb::Restart(one) => change(context, Request::AgentRestart { agent: AgentId::new(one.id)? })?,
        Verb::Pause(one) => change(context, Request::AgentPause { agent: AgentId::new(one.id)? })?,
        Verb::Resume(one) => change(context, Request::AgentResume { agent: AgentId::new(one.id)? })?,
    }
    Ok(Ended::Well)
}
