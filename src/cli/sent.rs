//! `miyabi sent`: how far messages got, from the files alone.

use std::time::Duration;

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::inbox::body_text;
use super::mail;
use super::output::{Tone, one_line};
use super::send::envelope_id;
use super::table::{Cell, Table};
use super::when;
use crate::io::clock;
use crate::io::spool::Spool;
use crate::io::spool::track::{Progress, Stage};
use crate::model::envelope::{Envelope, EnvelopeKind};
use crate::model::id::EnvelopeId;
use crate::model::span;
use crate::model::time::Timestamp;

/// How many of the newest envelopes of the spool are read to find those of one sender.
const READ_MAX: usize = 10_000;

/// The arguments of `sent`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "How far a message got: written, leased (somebody has it), submitted (the agent's program was given \
    it),\nanswered, acknowledged, verified (acknowledged with proven work), dead, expired, or unknown: cleared away, or\n\
    never sent.\n\nExamples:\n  miyabi sent\n  miyabi sent 01JD8Y0Q6V4W3N5X7Z9B2C4D6F\n  \
    miyabi sent 01JD8Y0Q6V4W3N5X7Z9B2C4D6F --wait acknowledged --timeout 1h"
)]
pub struct Args {
    /// One message [default: the newest ones of this sender]
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Waits until the message got there
    #[arg(long, value_name = "STATE", requires = "id", value_parser = stage)]
    pub wait: Option<Stage>,
    /// How long to wait [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = span::parse, requires = "wait")]
    pub timeout: Option<Duration>,
    /// Whose messages [default: the agent of this pane, or operator]
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub from: Option<String>,
    /// Only this conversation
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    pub thread: Option<String>,
    /// How many, the newest ones
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "id")]
    pub lines: usize,
}

fn stage(text: &str) -> std::result::Result<Stage, String> {
    let names = Stage::AWAITED.map(Stage::as_str);
    Stage::AWAITED
        .into_iter()
        .find(|stage| stage.as_str() == text)
        .ok_or_else(|| format!("known states: {}", names.join(", ")))
}

/// Shows how far messages got.
///
/// # Errors
/// Exit code 7 when a message did not get there in time; 1 when it cannot get there any more.
pub fn run(context: &Context, args: &Args) -> Result {
    let spool = mail::spool(context)?;
    let Some(id) = &args.id else { return list(context, &spool, args) };
    let id = envelope_id(id)?;
    let (progress, ended) = match args.wait {
        None => (look(&spool, id)?, Ended::Well),
        Some(stage) => wait(&spool, id, stage, args.timeout.map(|timeout| clock::now() + timeout))?,
    };
    context.out.show(&progress, || draw(context, &progress))?;
    Ok(ended)
}

/// Looks at one message; one that has expired is taken out of its mailbox first.
fn look(spool: &Spool, id: EnvelopeId) -> Result<Progress> {
    if let Some(mailbox) = spool.mailbox_of(id)? {
        spool.expire(&mailbox, clock::now())?;
    }
    Ok(spool.track(id)?)
}

fn wait(spool: &Spool, id: EnvelopeId, stage: Stage, deadline: Option<Timestamp>) -> Result<(Progress, Ended)> {
    let mut changes = None;
    loop {
        let progress = look(spool, id)?;
        if progress.reached.contains(&stage) {
            return Ok((progress, Ended::Well));
        }
        let Some(mailbox) = progress.mailbox.as_ref().filter(|_| !progress.has_ended() || stage == Stage::Answered)
        else {
            return Ok((progress, Ended::NotWell));
        };
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.since(clock::now()));
        if left.is_zero() {
            let message =
                format!("message {id} is {} and did not get to be {}", progress.state.as_str(), stage.as_str());
            return Err(Failure::say(Kind::TimedOut, message).hint("wait longer with `--timeout TIME`"));
        }
        match &mut changes {
            // What came before the watch gave no hint, so the first thing after it is another look.
            None => changes = Some(spool.changes(mailbox)?),
            Some(changes) => {
                // The end of its use gives no hint by itself.
                let envelope = spool.read(mailbox, id)?;
                let end = envelope.and_then(|envelope| envelope.expires_at).map(|end| end.since(clock::now()));
                let end = end.filter(|end| !end.is_zero()).unwrap_or(Duration::MAX);
                changes.wait(left.min(end));
            }
        }
    }
}

fn list(context: &Context, spool: &Spool, args: &Args) -> Result {
    let from = match &args.from {
        Some(name) => name.clone(),
        None => mail::actor(context)?.agent().to_owned(),
    };
    let mut newest = Vec::new();
    for mailbox in spool.mailboxes()? {
        if mail::is_reserved(&mailbox) {
            continue;
        }
        spool.expire(&mailbox, clock::now())?;
        newest.extend(spool.list(&mailbox)?.into_iter().map(|listed| (listed.id, mailbox.clone())));
    }
    newest.sort_by(|a, b| b.cmp(a));
    newest.truncate(READ_MAX);
    let mut found = Vec::new();
    for (id, mailbox) in newest {
        if found.len() >= args.lines {
            break;
        }
        // What is bad or moves on meanwhile is somebody else's to tell.
        let Ok(Some(envelope)) = spool.read(&mailbox, id) else { continue };
        let is_meant = envelope.kind == EnvelopeKind::Message
            && envelope.from == from
            && args.thread.as_ref().is_none_or(|thread| envelope.thread.as_ref() == Some(thread));
        if is_meant {
            found.push((spool.track(id)?, envelope));
        }
    }
    let values: Vec<_> = found.iter().map(|(progress, envelope)| to_json(progress, envelope)).collect();
    context.out.show(&values, || table(&found, clock::now()).render(context.out.color, context.out.width))?;
    Ok(Ended::Well)
}

fn to_json(progress: &Progress, envelope: &Envelope) -> serde_json::Value {
    serde_json::json!({
        "id": progress.id,
        "mailbox": progress.mailbox,
        "state": progress.state,
        "seq": envelope.seq,
        "sent_at": envelope.sent_at,
        "expires_at": envelope.expires_at,
        "thread": envelope.thread,
        "reply": progress.reply,
        "holder": progress.holder,
        "reason": progress.reason,
        "body": envelope.body,
    })
}

const fn tone(stage: Stage) -> Tone {
    match stage {
        Stage::Written => Tone::Plain,
        Stage::Leased | Stage::Submitted => Tone::Active,
        Stage::Answered | Stage::Acknowledged | Stage::Verified => Tone::Good,
        Stage::Dead | Stage::Expired => Tone::Bad,
        Stage::Unknown => Tone::Faint,
    }
}

fn table(found: &[(Progress, Envelope)], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "TO", "STATE", "SENT", "HOLDER", "MESSAGE"]);
    for (progress, envelope) in found {
        table.row(vec![
            Cell::plain(&progress.id.to_string()),
            Cell::plain(envelope.to.as_str()),
            Cell::new(tone(progress.state), progress.state.as_str()),
            Cell::plain(&when::ago(now, envelope.sent_at)),
            Cell::maybe(progress.holder.as_ref().map(ToString::to_string).as_deref()),
            Cell::plain(&body_text(Some(&envelope.body))),
        ]);
    }
    table
}

fn draw(context: &Context, progress: &Progress) -> String {
    let color = context.out.color;
    let state = color.paint(tone(progress.state), progress.state.as_str());
    let mut text = format!("{} {state}\n", color.paint(Tone::Heading, &progress.id.to_string()));
    let mut fact = |name: &str, value: &str| {
        text.push_str(&format!("{} {}\n", color.paint(Tone::Faint, &format!("{name:<8}")), one_line(value)));
    };
    let Some(mailbox) = &progress.mailbox else {
        fact("so", "it is not known any more: cleared away after its end, or never sent");
        return text;
    };
    fact("mailbox", mailbox.as_str());
    let reached: Vec<&str> = progress.reached.iter().copied().map(Stage::as_str).collect();
    fact("got", &reached.join(", "));
    if let Some(attempt) = progress.attempt {
        fact("attempt", &attempt.to_string());
    }
    if let Some(holder) = &progress.holder {
        fact("holder", &holder.to_string());
    }
    for (name, time) in [("since", progress.since), ("until", progress.until)] {
        if let Some(time) = time {
            fact(name, &when::local(time));
        }
    }
    if let Some(reply) = progress.reply {
        fact("reply", &reply.to_string());
    }
    if let Some(reason) = &progress.reason {
        fact("why", reason);
    }
    for note in &progress.history {
        fact("before", &serde_json::to_string(note).unwrap_or_default());
    }
    text
}
