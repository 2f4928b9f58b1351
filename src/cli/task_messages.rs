//! `miyabi task messages`: what agents said to one another in a run, wherever it lies in the spool.

use serde::Serialize;

use super::context::Context;
use super::failure::Result;
use super::inbox::body_text;
use super::mail;
use super::output::Tone;
use super::table::{Cell, Table};
use super::when;
use crate::io::clock;
use crate::io::spool::name::Folder;
use crate::model::envelope::EnvelopeKind;
use crate::model::id::{EnvelopeId, Mailbox, RunId};
use crate::model::time::Timestamp;

/// One message of a run.
#[derive(Debug, Serialize)]
struct Said {
    id: EnvelopeId,
    from: String,
    to: Mailbox,
    state: Folder,
    sent_at: Timestamp,
    reply_to: Option<EnvelopeId>,
    body: serde_json::Value,
}

/// Shows the messages whose thread is a run, oldest first. Those that retention has cleared away are not among them.
///
/// # Errors
/// Those of the spool.
pub fn show(context: &Context, run: RunId) -> Result<()> {
    let spool = mail::spool(context)?;
    let thread = run.to_string();
    let mut said = Vec::new();
    for mailbox in spool.mailboxes()? {
        for listed in spool.list(&mailbox)? {
            // Ids begin with the time: what is older than the run is not of it.
            if listed.id.0.timestamp_ms() < run.0.timestamp_ms() {
                continue;
            }
            let Ok(Some(envelope)) = spool.read(&mailbox, listed.id) else { continue };
            if envelope.kind == EnvelopeKind::Message && envelope.thread.as_ref() == Some(&thread) {
                said.push(Said {
                    id: listed.id,
                    from: envelope.from,
                    to: mailbox.clone(),
                    state: listed.folder,
                    sent_at: envelope.sent_at,
                    reply_to: envelope.reply_to,
                    body: envelope.body,
                });
            }
        }
    }
    said.sort_by_key(|message| (message.sent_at, message.id));
    context.out.show(&said, || table(&said, clock::now()).render(context.out.color, context.out.width))
}

fn table(said: &[Said], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "FROM", "TO", "SENT", "STATE", "MESSAGE"]);
    for message in said {
        table.row(vec![
            Cell::plain(&message.id.to_string()),
            Cell::plain(&message.from),
            Cell::plain(&message.to.to_string()),
            Cell::plain(&when::ago(now, message.sent_at)),
            Cell::new(Tone::Faint, &message.state.to_string()),
            Cell::plain(&body_text(Some(&message.body))),
        ]);
    }
    table
}
