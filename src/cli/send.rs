//! `miyabi send`: straight into the spool, also while the supervisor is down.

use std::path::PathBuf;
use std::time::Duration;

use super::attached;
use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::inbox::body_text;
use super::mail;
use super::output::{Form, printable};
use super::submit::read_up_to;
use super::when;
use crate::io::clock;
use crate::io::spool::Spool;
use crate::io::spool::deliver::Delivered;
use crate::io::spool::history::{Happening, Note};
use crate::io::spool::holder::Holder;
use crate::io::spool::pace::Pace;
use crate::io::spool::replies::{Answer, Question};
use crate::model::envelope::{Envelope, EnvelopeKind};
use crate::model::id::{EnvelopeId, Incarnation, Mailbox};
use crate::model::span;
use crate::model::task::Priority;
use crate::model::time::Timestamp;

/// The longest name that a sender may give itself, in bytes.
const SENDER_BYTES_MAX: usize = 100;

/// The most files that one message may name.
const ATTACHMENTS_MAX: usize = 100;

/// For how long an answer is leased: only until it is printed.
const ANSWER_LEASE: Duration = Duration::from_mins(1);

/// The arguments of `send`.
#[derive(Debug, clap::Args)]
#[command(after_help = "TO is an agent, `role.ROLE` for whichever agent of the role comes first, or `operator`.\n\
    TEXT may be `-` for standard input.\n\nExamples:\n  miyabi send kaede \"the API of the parser has changed\"\n  \
    miyabi send role.review --priority 1 \"look at example/hello first\"\n  git diff | miyabi send sakura -\n  \
    miyabi send kaede --ttl 10m --attach trace.log \"does this still happen?\"\n  \
    answer=$(miyabi send sakura --wait-reply --timeout 5m \"may I merge?\")")]
pub struct Args {
    /// The mailbox
    #[arg(value_name = "TO")]
    pub to: String,
    /// What is said
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// 1 (highest) to 5
    #[arg(long, value_name = "N", default_value_t = Priority::DEFAULT.get())]
    pub priority: u8,
    /// Delivers it only after this time, e.g. 10m
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub delay: Option<Duration>,
    /// Gives it up when nobody has taken it after this time, e.g. 10m
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub ttl: Option<Duration>,
    /// A key under which the same message is accepted only once
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The message that this one answers
    #[arg(long, value_name = "ID")]
    pub reply_to: Option<String>,
    /// The conversation that it belongs to [default: the run that the agent of this pane works on]
    #[arg(long, value_name = "NAME")]
    pub thread: Option<String>,
    /// The order group: the next of a group is given out when those before it have ended [default: the sender]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Keeps to no order: it waits for no other message, and none waits for it
    #[arg(long, conflicts_with = "group")]
    pub unordered: bool,
    /// A file that belongs to it: path, size and SHA-256 are sent, not the bytes; may be repeated
    #[arg(long, value_name = "FILE")]
    pub attach: Vec<PathBuf>,
    /// Waits for the answer, prints and acknowledges it
    #[arg(long)]
    pub wait_reply: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", value_parser = span::parse, default_value = "10m", requires = "wait_reply")]
    pub timeout: Duration,
    /// Who sends it [default: the agent of this pane, or operator]
    #[arg(long, value_name = "NAME", conflicts_with = "wait_reply")]
    pub from: Option<String>,
}

/// Delivers a message and prints its id; it is on the disk by then.
///
/// # Errors
/// Exit code 4 for an unknown mailbox, 5 for a reserved one, 6 when there is no room, 7 when no answer came in time.
pub fn run(context: &Context, args: &Args) -> Result {
    let spool = mail::spool(context)?;
    let to = mail::open_mailbox(context, &spool, &args.to)?;
    let (from, from_incarnation) = sender(context, args.from.as_deref())?;
    let text = read_up_to(spool.limits().envelope_bytes_max, args.text.clone())?;
    if args.attach.len() > ATTACHMENTS_MAX {
        let message = format!("{} files are attached, and at most {ATTACHMENTS_MAX} may be", args.attach.len());
        return Err(Failure::say(Kind::Invalid, message).hint("pack them into one archive"));
    }
    let attachments = attached::describe(context, &args.attach)?;
    let now = clock::now();
    let mut envelope = Envelope {
        priority: Priority::try_from(args.priority)?,
        idempotency_key: args.key.clone(),
        reply_to: args.reply_to.as_deref().map(envelope_id).transpose()?,
        thread: args.thread.clone().or_else(|| context.environment.run.clone()),
        expires_at: args.ttl.map(|ttl| now + ttl),
        attachments,
        ..message(from, from_incarnation, to, text.into(), now)
    };
    // Alone in its group, it is its only one.
    envelope.group = if args.unordered { Some(envelope.id.to_string()) } else { args.group.clone() };
    let sent = post(context, &spool, &mut envelope, args.delay.map(|delay| now + delay))?;
    if args.wait_reply {
        return wait_for_answer(context, &spool, &sent, now + args.timeout);
    }
    match context.out.form {
        Form::Json => context.out.json(&serde_json::json!({
            "id": sent.id, "new": sent.is_new, "seq": envelope.seq, "thread": envelope.thread,
            "slowed_ms": u64::try_from(sent.slowed.as_millis()).unwrap_or(u64::MAX),
        }))?,
        Form::Text => {
            if !sent.is_new {
                context.out.note("it was accepted before; nothing was sent again");
            }
            context.out.line(&sent.id.to_string())?;
        }
    }
    Ok(Ended::Well)
}

/// A message that was accepted, now or before.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Its id; that of the first one if it was accepted before.
    pub id: EnvelopeId,
    /// Whether it was accepted now.
    pub is_new: bool,
    /// How long it was held back because its sender floods a mailbox that fills up.
    pub slowed: Duration,
}

/// Writes a message with nothing but what every message has.
#[must_use]
pub fn message(
    from: String,
    from_incarnation: Incarnation,
    to: Mailbox,
    body: serde_json::Value,
    now: Timestamp,
) -> Envelope {
    let message = Envelope::new(clock::fresh_envelope_id(), EnvelopeKind::Message, from, to, now, body);
    Envelope { from_incarnation, ..message }
}

/// Delivers a message, and notes it at the message that it answers, for that one's sender.
///
/// # Errors
/// As [`Spool::deliver`].
pub fn post(context: &Context, spool: &Spool, envelope: &mut Envelope, not_before: Option<Timestamp>) -> Result<Sent> {
    let slowed = slow_down(context, spool, envelope)?;
    let now = clock::now();
    let sent = match spool.deliver_numbered(envelope, not_before, now)? {
        Delivered::New => Sent { id: envelope.id, is_new: true, slowed },
        Delivered::Already { first } => Sent { id: first, is_new: false, slowed },
    };
    if let Some(request) = envelope.reply_to {
        let asked = spool.track(request)?;
        // An answer that was sent before may not have been noted: its sender may have died in between.
        if let (Some(mailbox), Some(attempt)) = (&asked.mailbox, asked.attempt)
            && (sent.is_new || asked.reply.is_none())
        {
            let note = Note::new(now, attempt, Happening::Answered).by(&mail::actor(context)?);
            spool.record(mailbox, request, &Note { reply: Some(sent.id), ..note });
        }
    }
    Ok(sent)
}

/// Holds back a sender that floods a mailbox that fills up, and tells it.
fn slow_down(context: &Context, spool: &Spool, envelope: &Envelope) -> Result<Duration> {
    let Some(Pace { delay, sent, waiting, max }) = spool.pace(envelope, clock::now())? else {
        return Ok(Duration::ZERO);
    };
    let to = &envelope.to;
    tracing::warn!(mailbox = %to, from = %envelope.from, sent, waiting, max, "a sender that floods a mailbox is slowed");
    context.out.note(&format!(
        "slowed by {}: `{to}` holds {waiting} of {max} messages, and {sent} came from here in ten seconds",
        when::precise(delay)
    ));
    std::thread::sleep(delay);
    spool.note_slowed(to);
    Ok(delay)
}

/// Waits until the answer to a message is in the mailbox of this sender.
fn wait_for_answer(context: &Context, spool: &Spool, sent: &Sent, deadline: Timestamp) -> Result {
    let holder = mail::actor(context)?;
    let mailbox = Mailbox::new(holder.agent())?;
    spool.ensure(&mailbox)?;
    let mut question = Question::new(mailbox.clone(), sent.id);
    let mut changes = spool.changes(&mailbox)?;
    loop {
        if let Some(answer) = spool.lease_answer(&mut question, &holder, ANSWER_LEASE, clock::now())? {
            return show_answer(context, spool, sent, &holder, &answer);
        }
        let left = deadline.since(clock::now());
        if left.is_zero() {
            let progress = spool.track(sent.id)?;
            let got = progress.state.as_str();
            return Err(Failure::say(Kind::TimedOut, format!("no answer to {} came in time; it is {got}", sent.id))
                .hint(format!("an answer that comes later lies in `{mailbox}`: `miyabi inbox {mailbox}`"))
                .hint(format!("see how far the message got with `miyabi sent {}`", sent.id)));
        }
        changes.wait(left);
    }
}

fn show_answer(context: &Context, spool: &Spool, sent: &Sent, holder: &Holder, answer: &Answer) -> Result {
    let envelope = match answer {
        Answer::Leased(leased) => &leased.envelope,
        Answer::Taken(envelope) => {
            context.out.note("somebody else who reads this mailbox had taken the answer; it is theirs to acknowledge");
            envelope
        }
    };
    match context.out.form {
        Form::Json => context.out.json(&serde_json::json!({
            "id": sent.id,
            "reply": {
                "id": envelope.id, "from": envelope.from, "sent_at": envelope.sent_at, "seq": envelope.seq,
                "thread": envelope.thread, "attachments": envelope.attachments, "body": envelope.body,
            },
        }))?,
        Form::Text => context.out.line(printable(&body_text(Some(&envelope.body))).trim_end())?,
    }
    // Only now: if nobody reads our output, the answer comes again.
    if let Answer::Leased(leased) = answer {
        spool.ack(&leased.receipt, Some(holder), clock::now())?;
    }
    Ok(Ended::Well)
}

/// Decides who the sender is. A name that somebody gives itself has no incarnation, so it cannot pass for an agent's.
fn sender(context: &Context, named: Option<&str>) -> Result<(String, Incarnation)> {
    let Some(name) = named else {
        let actor = mail::actor(context)?;
        return Ok((actor.agent().to_owned(), actor.incarnation()));
    };
    if name.is_empty() || name.len() > SENDER_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Failure::say(Kind::Invalid, format!("a sender's name has 1 to {SENDER_BYTES_MAX} bytes of text")));
    }
    Ok((name.to_owned(), Incarnation::default()))
}

/// Reads the id of an envelope.
///
/// # Errors
/// Says what one looks like.
pub fn envelope_id(text: &str) -> Result<EnvelopeId> {
    text.parse().map_err(|_| {
        Failure::say(Kind::Invalid, format!("`{text}` is no id of a message"))
            .hint("ids have 26 letters and digits and are printed by `miyabi send` and `miyabi inbox`")
    })
}
