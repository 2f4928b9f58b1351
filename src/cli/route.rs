//! `miyabi route`.

use super::context::Context;
use super::failure::{Ended, Result};
use crate::control::protocol::Call;
use crate::model::github_view::RouteView;

/// The arguments of `route`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  miyabi route octo-org/app#12\n  miyabi route app/issue-12 --json")]
pub struct Args {
    /// The issue: owner/name#12, REPOSITORY#12, or its task
    #[arg(value_name = "ISSUE")]
    pub issue: String,
}

/// Explains where an issue goes, and why.
///
/// # Errors
/// Exit code 3 without a supervisor, 4 for an issue that was not read.
pub fn run(context: &Context, args: &Args) -> Result {
    let route: RouteView = context.client()?.ask(Call::Route { issue: args.issue.clone() })?;
    context.out.show(&route, || {
        let taken = if route.taken { "taken" } else { "not taken" };
        let mut text = format!("{} is {taken}: {}, priority {}\n", route.issue, route.assignee, route.priority);
        for reason in &route.because {
            text.push_str(&format!("  - {reason}\n"));
        }
        text
    })?;
    Ok(Ended::Well)
}
