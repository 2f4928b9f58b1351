//! `miyabi lease`: takes the next message of a mailbox for a while.

use std::time::Duration;

use super::attached::{self, Look};
use super::context::Context;
use super::failure::{Ended, Result};
use super::inbox::body_text;
use super::mail;
use super::output::{Form, Tone, printable};
use super::when;
use crate::io::clock;
use crate::io::spool::lease::Leased;
use crate::io::spool::lessee::Lessee;
use crate::model::span;

/// The arguments of `lease`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The message stays yours for the time of the lease; then it waits again for whoever comes next.\n\
    With nothing to take, nothing is printed (`null` with --json) and the exit code is 0.\n\n\
    Examples:\n  miyabi lease kaede\n  miyabi lease role.review --wait 10m\n  receipt=$(miyabi lease kaede --json | jq -r .receipt)\n  miyabi ack \"$receipt\""
)]
pub struct Args {
    /// The mailbox: an agent, `role.ROLE`, or `operator`
    #[arg(value_name = "MAILBOX")]
    pub mailbox: String,
    /// For how long
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse, default_value = "5m")]
    pub time: Duration,
    /// Reads attached files and says whether they are what was sent
    #[arg(long)]
    pub verify: bool,
    /// Waits so long for a message if there is none
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub wait: Option<Duration>,
}

/// Leases a message.
///
/// # Errors
/// Exit code 4 for an unknown mailbox, 5 for a reserved one.
pub fn run(context: &Context, args: &Args) -> Result {
    let spool = mail::spool(context)?;
    let mailbox = mail::open_mailbox(context, &spool, &args.mailbox)?;
    spool.ensure(&mailbox)?;
    let actor = mail::actor(context)?;
    let leased = match args.wait {
        None => spool.lease(&mailbox, &actor, args.time, clock::now())?,
        Some(patience) => Lessee::new(spool, mailbox.clone())?.next(&actor, args.time, patience)?,
    };
    let files = Look::new(args.verify);
    match (leased, context.out.form) {
        (Some(leased), Form::Json) => context.out.json(&to_json(&leased, files))?,
        (Some(leased), Form::Text) => context.out.text(&draw(context, &leased, files))?,
        (None, Form::Json) => context.out.json(&serde_json::Value::Null)?,
        (None, Form::Text) => context.out.note(&format!("nothing waits in `{mailbox}`")),
    }
    Ok(Ended::Well)
}

fn to_json(leased: &Leased, files: Look) -> serde_json::Value {
    let envelope = &leased.envelope;
    serde_json::json!({
        "id": envelope.id,
        "receipt": leased.receipt.to_string(),
        "from": envelope.from,
        "attempt": leased.attempt,
        "body": envelope.body,
        "mailbox": envelope.to,
        "until": leased.receipt.name.until,
        "kind": envelope.kind,
        "priority": envelope.priority,
        "sent_at": envelope.sent_at,
        "reply_to": envelope.reply_to,
        "thread": envelope.thread,
        "seq": envelope.seq,
        "expires_at": envelope.expires_at,
        "attachments": attached::shown(&envelope.attachments, files),
    })
}

fn draw(context: &Context, leased: &Leased, files: Look) -> String {
    let envelope = &leased.envelope;
    let faint = |name: &str| context.out.color.paint(Tone::Faint, name);
    let attached: String = attached::shown(&envelope.attachments, files)
        .iter()
        .map(|file| format!("{} {}\n", faint("file   "), file.line()))
        .collect();
    format!(
        "{} {}\n{} {}\n{} {} · {} · attempt {}\n{attached}\n{}\n",
        faint("receipt"),
        leased.receipt,
        faint("id     "),
        envelope.id,
        faint("from   "),
        printable(&envelope.from),
        when::ago(clock::now(), envelope.sent_at),
        leased.attempt,
        printable(body_text(Some(&envelope.body)).trim_end())
    )
}
