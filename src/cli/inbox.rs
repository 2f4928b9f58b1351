//! `miyabi inbox`: what lies in a mailbox, read without taking anything.

use serde::Serialize;

use super::attached;
use super::context::Context;
use super::failure::{Ended, Result};
use super::mail;
use super::output::Tone;
use super::table::{Cell, Table};
use super::when;
use crate::io::clock;
use crate::io::spool::Spool;
use crate::io::spool::fault::SpoolError;
use crate::io::spool::look::Listed;
use crate::io::spool::name::Folder;
use crate::io::spool::receipt::Receipt;
use crate::model::envelope::EnvelopeKind;
use crate::model::fault::with_causes;
use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

/// The arguments of `inbox`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Nothing is taken; `miyabi lease MAILBOX` does that.\n\n\
    Examples:\n  miyabi inbox kaede\n  miyabi inbox role.review --json\n  miyabi inbox kaede --all\n  \
    miyabi inbox operator --thread 01JD8Y0Q6V4W3N5X7Z9B2C4D6F")]
pub struct Args {
    /// The mailbox: an agent, `role.ROLE`, `operator`, or any other in data/spool
    #[arg(value_name = "MAILBOX")]
    pub mailbox: String,
    /// Also what is acknowledged or given up and not yet cleared away
    #[arg(long)]
    pub all: bool,
    /// Only this conversation
    #[arg(long, value_name = "NAME")]
    pub thread: Option<String>,
    /// Reads attached files and says whether they are what was sent
    #[arg(long)]
    pub verify: bool,
}

/// One message as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: EnvelopeId,
    state: Folder,
    kind: Option<EnvelopeKind>,
    from: Option<String>,
    priority: u8,
    attempt: u32,
    sent_at: Option<Timestamp>,
    /// When the lease ends, or when it may be leased.
    until: Option<Timestamp>,
    holder: Option<String>,
    receipt: Option<Receipt>,
    reply_to: Option<EnvelopeId>,
    thread: Option<String>,
    seq: Option<u64>,
    expires_at: Option<Timestamp>,
    attachments: Vec<attached::Shown>,
    body: Option<serde_json::Value>,
    /// Why the content cannot be believed; a lease call will set it aside.
    fault: Option<String>,
}

/// Lists a mailbox.
///
/// # Errors
/// Exit code 4 for an unknown mailbox.
pub fn run(context: &Context, args: &Args) -> Result {
    let spool = mail::spool(context)?;
    let mailbox = mail::readable_mailbox(context, &spool, &args.mailbox)?;
    spool.expire(&mailbox, clock::now())?;
    let look_at_files = attached::Look::new(args.verify);
    let shown: Vec<Shown> = spool
        .list(&mailbox)?
        .into_iter()
        .filter(|listed| args.all || is_open(listed.folder))
        .map(|listed| look(&spool, &mailbox, listed, look_at_files))
        .filter(|shown| {
            let Ok(shown) = shown else { return true };
            args.thread.is_none() || shown.thread == args.thread
        })
        .collect::<Result<_>>()?;
    context.out.show(&shown, || table(&shown, clock::now()).render(context.out.color, context.out.width))?;
    Ok(Ended::Well)
}

const fn is_open(folder: Folder) -> bool {
    match folder {
        Folder::New | Folder::Later | Folder::Leased => true,
        Folder::Done | Folder::Dead => false,
    }
}

/// Reads the content too; a message that moves on meanwhile is shown by its name alone.
fn look(spool: &Spool, mailbox: &Mailbox, listed: Listed, files: attached::Look) -> Result<Shown> {
    let (envelope, fault) = match spool.read(mailbox, listed.id) {
        Ok(envelope) => (envelope, None),
        Err(fault @ (SpoolError::Unreadable { .. } | SpoolError::Restless { .. })) => (None, Some(with_causes(&fault))),
        Err(fault) => return Err(fault.into()),
    };
    let receipt = listed.receipt(mailbox);
    let of = envelope.as_ref();
    Ok(Shown {
        id: listed.id,
        state: listed.folder,
        kind: of.map(|envelope| envelope.kind),
        from: of.map(|envelope| envelope.from.clone()),
        priority: listed.priority.get(),
        attempt: listed.attempt,
        sent_at: of.map(|envelope| envelope.sent_at),
        until: listed.until,
        holder: listed.holder.map(|holder| holder.to_string()),
        receipt,
        reply_to: of.and_then(|envelope| envelope.reply_to),
        thread: of.and_then(|envelope| envelope.thread.clone()),
        seq: of.and_then(|envelope| envelope.seq),
        expires_at: of.and_then(|envelope| envelope.expires_at),
        attachments: of.map(|envelope| attached::shown(&envelope.attachments, files)).unwrap_or_default(),
        body: envelope.map(|envelope| envelope.body),
        fault,
    })
}

fn table(shown: &[Shown], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "STATE", "FROM", "PRIORITY", "ATTEMPT", "SENT", "HOLDER", "MESSAGE"]);
    for message in shown {
        let tone = match message.state {
            Folder::New => Tone::Plain,
            Folder::Leased => Tone::Active,
            Folder::Later | Folder::Done => Tone::Faint,
            Folder::Dead => Tone::Bad,
        };
        table.row(vec![
            Cell::plain(&message.id.to_string()),
            Cell::new(tone, &message.state.to_string()),
            Cell::maybe(message.from.as_deref()),
            Cell::plain(&message.priority.to_string()),
            Cell::plain(&message.attempt.to_string()),
            Cell::maybe(message.sent_at.map(|time| when::ago(now, time)).as_deref()),
            Cell::maybe(message.holder.as_deref()),
            Cell::plain(&with_files(message)),
        ]);
    }
    table
}

fn with_files(message: &Shown) -> String {
    let mut text = message.fault.clone().unwrap_or_else(|| body_text(message.body.as_ref()));
    for file in &message.attachments {
        text.push_str(&format!(" [{}]", file.line()));
    }
    text
}

/// Shows a body as people write it: text as it is, anything else as JSON.
#[must_use]
pub fn body_text(body: Option<&serde_json::Value>) -> String {
    match body {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}
