//! `miyabi completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args;
use super::context::Context;
use super::failure::{Ended, Result};

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  miyabi completions bash > ~/.local/share/bash-completion/completions/miyabi\n  \
    miyabi completions zsh > \"${fpath[1]}/_miyabi\"\n  miyabi completions fish > ~/.config/fish/completions/miyabi.fish")]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Prints a completion script.
///
/// # Errors
/// Only when nobody reads it.
pub fn run(context: &Context, args: &Args) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::Args::command(), "miyabi", &mut script);
    context.out.text(&String::from_utf8_lossy(&script))?;
    Ok(Ended::Well)
}
