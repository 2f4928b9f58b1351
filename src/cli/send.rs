//! `miyabi send`: straight into the spool, also while the supervisor is down.

use std::time::Duration;

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::mail;
use super::output::Form;
use super::submit::read_if_dash;
use crate::io::clock;
use crate::io::spool::deliver::Delivered;
use crate::model::envelope::{ENVELOPE_SCHEMA, Envelope, EnvelopeKind};
use crate::model::id::{EnvelopeId, Incarnation};
use crate::model::span;
use crate::model::task::Priority;

/// How often a message may be leased before it is given up.
const ATTEMPTS_MAX: u32 = 5;

/// The longest name that a sender may give itself, in bytes.
const SENDER_BYTES_MAX: usize = 100;

/// The arguments of `send`.
#[derive(Debug, clap::Args)]
#[command(after_help = "TO is an agent, `role.ROLE` for whichever agent of the role comes first, or `operator`.\n\
    TEXT may be `-` for standard input.\n\nExamples:\n  miyabi send kaede \"the API of the parser has changed\"\n  \
    miyabi send role.review --priority 1 \"look at example/hello first\"\n  git diff | miyabi send sakura -")]
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
    /// A key under which the same message is accepted only once
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The message that this one answers
    #[arg(long, value_name = "ID")]
    pub reply_to: Option<String>,
    /// The conversation that it belongs to
    #[arg(long, value_name = "NAME")]
    pub thread: Option<String>,
    /// The order group: the next of a group is given out when those before it have ended [default: the sender]
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Keeps to no order: it waits for no other message, and none waits for it
    #[arg(long, conflicts_with = "group")]
    pub unordered: bool,
    /// Who sends it [default: the agent of this pane, or operator]
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
}

/// Delivers a message and prints its id; it is on the disk by then.
///
/// # Errors
/// Exit code 4 for an unknown mailbox, 5 for a reserved one.
pub fn run(context: &Context, args: &Args) -> Result {
    let spool = mail::spool(context)?;
    let to = mail::open_mailbox(context, &spool, &args.to)?;
    let (from, from_incarnation) = sender(context, args.from.as_deref())?;
    let text = read_if_dash(args.text.clone())?;
    let now = clock::now();
    let id = clock::fresh_envelope_id();
    // Alone in its group, it is its only one.
    let group = if args.unordered { Some(id.to_string()) } else { args.group.clone() };
    let envelope = Envelope {
        schema: ENVELOPE_SCHEMA.to_owned(),
        id,
        kind: EnvelopeKind::Message,
        from,
        from_incarnation,
        to,
        priority: Priority::try_from(args.priority)?,
        sent_at: now,
        idempotency_key: args.key.clone(),
        reply_to: args.reply_to.as_deref().map(envelope_id).transpose()?,
        thread: args.thread.clone(),
        group,
        seq: None,
        expires_at: None,
        attachments: Vec::new(),
        attempts_max: ATTEMPTS_MAX,
        body: serde_json::Value::String(text),
    };
    let delivered = spool.deliver(&envelope, args.delay.map(|delay| now + delay), now)?;
    let (id, was_new) = match delivered {
        Delivered::New => (envelope.id, true),
        Delivered::Already { first } => (first, false),
    };
    match context.out.form {
        Form::Json => context.out.json(&serde_json::json!({ "id": id, "new": was_new }))?,
        Form::Text => {
            if !was_new {
                context.out.note("it was accepted before; nothing was sent again");
            }
            context.out.line(&id.to_string())?;
        }
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
