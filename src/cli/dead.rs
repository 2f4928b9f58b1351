//! `miyabi dead list | show | requeue | purge`: messages that nobody could deal with.

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::inbox::body_text;
use super::mail;
use super::output::{Form, Tone, one_line, printable};
use super::table::{Cell, Table};
use super::when;
use crate::io::clock;
use crate::io::spool::Spool;
use crate::io::spool::dead::DeadLetter;
use crate::model::envelope::Envelope;
use crate::model::id::Mailbox;
use crate::model::time::Timestamp;

/// What to do with dead messages.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Lists what was given up, of one mailbox or of all
    #[command(after_help = "Examples:\n  miyabi dead list\n  miyabi dead list kaede --json")]
    List(ListArgs),
    /// Shows one with its history
    #[command(after_help = "Example:\n  miyabi dead show 01JD8Y0Q6V4W3N5X7Z9B2C4D6F")]
    Show(One),
    /// Lets one wait again, with as many attempts as a new one, and also after its end of use
    #[command(after_help = "Example:\n  miyabi dead requeue 01JD8Y0Q6V4W3N5X7Z9B2C4D6F")]
    Requeue(One),
    /// Removes for good: one, those of a mailbox, or all
    #[command(after_help = "Examples:\n  miyabi dead purge 01JD8Y0Q6V4W3N5X7Z9B2C4D6F\n  \
        miyabi dead purge --mailbox kaede\n  miyabi dead purge --all")]
    Purge(PurgeArgs),
}

/// The arguments of `dead list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only this mailbox
    #[arg(value_name = "MAILBOX")]
    pub mailbox: Option<String>,
}

/// One dead message.
#[derive(Debug, clap::Args)]
pub struct One {
    /// The id, or the name that `list` shows
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Which dead messages.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct PurgeArgs {
    /// The id, or the name that `list` shows
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// All of this mailbox
    #[arg(long, value_name = "MAILBOX")]
    pub mailbox: Option<String>,
    /// All of all mailboxes
    #[arg(long)]
    pub all: bool,
}

/// Performs a verb on dead messages.
///
/// # Errors
/// Exit code 4 for an unknown one, 5 for what only the supervisor may revive.
pub fn run(context: &Context, verb: &Verb) -> Result {
    let spool = mail::spool(context)?;
    match verb {
        Verb::List(args) => {
            let mailbox = args.mailbox.as_deref().map(Mailbox::new).transpose()?;
            let letters = spool.dead(mailbox.as_ref())?;
            context
                .out
                .show(&letters, || table(&letters, clock::now()).render(context.out.color, context.out.width))?;
        }
        Verb::Show(one) => {
            let letter = find(&spool, &one.id)?;
            let envelope = letter.id.and_then(|id| spool.read(&letter.mailbox, id).transpose()).transpose()?;
            let value = serde_json::json!({ "letter": letter, "envelope": envelope });
            context.out.show(&value, || show(context, &letter, envelope.as_ref()))?;
        }
        Verb::Requeue(one) => {
            let letter = find(&spool, &one.id)?;
            let stem = spool.requeue(&letter, clock::now())?;
            match context.out.form {
                Form::Json => context.out.json(&serde_json::json!({ "id": stem.id, "mailbox": letter.mailbox }))?,
                Form::Text => context.out.line(&format!("it waits again in `{}`", letter.mailbox))?,
            }
        }
        Verb::Purge(args) => purge(context, &spool, args)?,
    }
    Ok(Ended::Well)
}

fn purge(context: &Context, spool: &Spool, args: &PurgeArgs) -> Result<()> {
    let letters = match (&args.id, &args.mailbox) {
        (Some(id), _) => vec![find(spool, id)?],
        (None, Some(mailbox)) => spool.dead(Some(&Mailbox::new(mailbox)?))?,
        (None, None) => spool.dead(None)?,
    };
    for letter in &letters {
        spool.purge(letter, clock::now())?;
    }
    match context.out.form {
        Form::Json => context.out.json(&serde_json::json!({ "purged": letters.len() })),
        Form::Text => context.out.line(&format!("{} removed", letters.len())),
    }
}

fn find(spool: &Spool, text: &str) -> Result<DeadLetter> {
    let mut found = spool.dead(None)?.into_iter().filter(|letter| letter.answers_to(text));
    found.next().ok_or_else(|| {
        Failure::say(Kind::Invalid, format!("no dead message is called `{text}`")).hint("see `miyabi dead list`")
    })
}

fn why(letter: &DeadLetter) -> &str {
    letter.reason.as_ref().map_or("unknown", |reason| &reason.reason)
}

fn table(letters: &[DeadLetter], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "MAILBOX", "ATTEMPT", "DIED", "HOLDER", "WHY"]);
    for letter in letters {
        let id = letter.id.map(|id| id.to_string());
        table.row(vec![
            Cell::plain(id.as_deref().unwrap_or(&letter.name)),
            Cell::plain(letter.mailbox.as_str()),
            Cell::maybe(letter.attempt.map(|attempt| attempt.to_string()).as_deref()),
            Cell::maybe(letter.died_at.map(|time| when::ago(now, time)).as_deref()),
            Cell::maybe(letter.holder.as_ref().map(ToString::to_string).as_deref()),
            Cell::plain(why(letter)),
        ]);
    }
    table
}

fn show(context: &Context, letter: &DeadLetter, envelope: Option<&Envelope>) -> String {
    let color = context.out.color;
    let mut text = format!("{} {}\n", color.paint(Tone::Heading, &letter.name), color.paint(Tone::Bad, "dead"));
    let mut fact = |name: &str, value: &str| {
        text.push_str(&format!("{} {}\n", color.paint(Tone::Faint, &format!("{name:<7}")), one_line(value)));
    };
    fact("mailbox", letter.mailbox.as_str());
    fact("why", why(letter));
    if let Some(time) = letter.died_at {
        fact("died", &when::local(time));
    }
    if let Some(envelope) = envelope {
        fact("from", &envelope.from);
        fact("sent", &when::local(envelope.sent_at));
    }
    for note in letter.reason.iter().flat_map(|reason| &reason.history) {
        let value = serde_json::to_string(note).unwrap_or_default();
        fact("before", &value);
    }
    if let Some(envelope) = envelope {
        text.push_str(&format!("\n{}\n", printable(body_text(Some(&envelope.body)).trim_end())));
    }
    text
}
