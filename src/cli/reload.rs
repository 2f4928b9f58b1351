//! `miyabi reload`.

use super::context::Context;
use super::failure::{Ended, Result, accepted};
use super::output::Form;
use crate::control::protocol::Call;
use crate::model::request::{Answer, RefusalKind};

/// The arguments of `reload`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Added agents start. Removed ones end the work that they have and go. Changed ones are started again as soon \
    as they are\nidle; a change of `labels`, `restart` or a time limit holds at once. All others feel nothing. With a fault in \
    agents.toml or\ndag/ nothing changes at all.\n\nExamples:\n  miyabi reload\n  systemctl reload miyabi-orchestra"
)]
pub struct Args {}

/// Asks the supervisor to read agents.toml and the dependency files again.
///
/// # Errors
/// Exit code 3 without a supervisor, 4 for a file with faults, 5 when it cannot be done now.
pub fn run(context: &Context, _args: &Args) -> Result {
    let answer: Answer = context.client()?.ask(Call::Reload)?;
    if matches!(answer, Answer::Refused { kind: RefusalKind::Invalid, .. }) {
        // Where the supervisor names the first fault only, every one is shown with its line.
        context.plan()?;
    }
    let message = match accepted(answer)? {
        Answer::Accepted { message } => message,
        Answer::Submitted { .. } | Answer::Refused { .. } => String::new(),
    };
    match context.out.form {
        Form::Json => context.out.json(&serde_json::json!({ "changed": message }))?,
        Form::Text => context.out.line(&message)?,
    }
    Ok(Ended::Well)
}
