//! `miyabi status`.

use super::board;
use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::output::Form;
use super::watch;
use crate::control::protocol::{Call, Status};
use crate::io::clock;

/// The arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  miyabi status\n  miyabi status --watch\n  miyabi status --json | jq '.agents[].state'"
)]
pub struct Args {
    /// Keeps the picture up to date until Ctrl-C, also while the supervisor is away
    #[arg(long)]
    pub watch: bool,
}

/// Shows agents, queues and tasks.
///
/// # Errors
/// Exit code 3 without a supervisor.
pub fn run(context: &Context, args: &Args) -> Result {
    if args.watch {
        return match context.out.form {
            Form::Text => watch::run(context),
            Form::Json => Err(Failure::say(Kind::Usage, "`--watch` is for people and `--json` for programs")
                .hint("programs follow what happens with `miyabi events --follow --json`")),
        };
    }
    let status: Status = context.client()?.ask(Call::Status)?;
    let out = &context.out;
    out.show(&status, || board::draw(&status, clock::now(), out.color, out.width))?;
    Ok(Ended::Well)
}
