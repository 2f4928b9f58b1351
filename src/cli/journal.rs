//! `miyabi journal check | repair`.

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::output::{Form, Tone, count};
use crate::daemon::repair;
use crate::daemon::start::StartError;

/// How many lines of what was dropped are shown; all of them are in the file.
const SHOWN_MAX: usize = 20;

/// What to do with the journal.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Reads the whole journal as a start would, and changes nothing
    #[command(after_help = "The supervisor must be down.\n\nExample:\n  miyabi journal check")]
    Check,
    /// Writes a new journal of all that can be read; the old one is kept, and what was dropped is listed
    #[command(after_help = "The supervisor must be down. The old files and the list lie in data/journal-kept/.\n\n\
        Example:\n  miyabi journal repair")]
    Repair,
}

/// Looks after the journal.
///
/// # Errors
/// Exit code 5 while a supervisor runs, 1 for a journal that does not restore.
pub fn run(context: &Context, verb: &Verb) -> Result {
    let layout = context.layout()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match verb {
        Verb::Check => {
            let sound = runtime.block_on(repair::check(&layout)).map_err(failed)?;
            match context.out.form {
                Form::Json => context.out.json(&serde_json::json!({
                    "sound": true, "last": sound.last, "tasks": sound.tasks, "agents": sound.agents
                }))?,
                Form::Text => context.out.line(&format!(
                    "{}: {} facts, {}, {}",
                    context.out.color.paint(Tone::Good, "sound"),
                    sound.last,
                    count(sound.tasks, "task", "tasks"),
                    count(sound.agents, "agent", "agents")
                ))?,
            }
        }
        Verb::Repair => {
            let repaired = runtime.block_on(repair::repair(&layout)).map_err(failed)?;
            match context.out.form {
                Form::Json => context.out.json(&serde_json::json!({
                    "kept": repaired.kept, "dropped": repaired.dropped, "folder": repaired.folder
                }))?,
                Form::Text => {
                    for line in repaired.dropped.iter().take(SHOWN_MAX) {
                        context.out.line(&format!("dropped: {}", line.chars().take(160).collect::<String>()))?;
                    }
                    context.out.line(&format!(
                        "{} kept, {} dropped; the old journal and the whole list are in {}",
                        count(repaired.kept, "fact", "facts"),
                        repaired.dropped.len(),
                        repaired.folder.display()
                    ))?;
                }
            }
        }
    }
    Ok(Ended::Well)
}

fn failed(error: StartError) -> Failure {
    match &error {
        StartError::AlreadyRunning { .. } => {
            Failure::new(Kind::Refused, error).hint("`miyabi down` first: the journal must not change meanwhile")
        }
        StartError::NothingLeft { .. } => Failure::new(Kind::Failed, error)
            .hint("restore data/ from a backup; or move data/miyabi.db away: every task then begins anew"),
        StartError::Newer { .. } => Failure::new(Kind::Failed, error).hint("use the newer program again"),
        StartError::NoConfig { .. }
        | StartError::Config { .. }
        | StartError::Folder { .. }
        | StartError::Lock(_)
        | StartError::Journal(_)
        | StartError::Fact { .. }
        | StartError::Missing { .. }
        | StartError::Illegal { .. }
        | StartError::Broken(_)
        | StartError::Tmux(_)
        | StartError::Socket(_)
        | StartError::Repair { .. }
        | StartError::System { .. } => Failure::new(Kind::Failed, error)
            .hint("`miyabi journal repair` keeps the old journal and makes a new one of all that can be read"),
    }
}
