//! `miyabi reply`: answers a leased message and acknowledges it.

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::mail;
use super::output::Form;
use super::receipt::own;
use super::send::{message, post};
use super::submit::read_up_to;
use crate::io::clock;
use crate::io::spool::fault::SpoolError;
use crate::model::envelope::Envelope;

/// The arguments of `reply`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The answer goes to the mailbox of whoever sent the message, in the same conversation; then the\n\
    message is acknowledged. It may be repeated: the second time sends nothing.\nTEXT may be `-` for standard input.\n\n\
    Examples:\n  miyabi reply \"$receipt\" \"yes, merge it\"\n  ./review.sh | miyabi reply \"$receipt\" -"
)]
pub struct Args {
    /// What `lease` printed
    #[arg(value_name = "RECEIPT")]
    pub receipt: String,
    /// The answer
    #[arg(value_name = "TEXT")]
    pub text: String,
}

/// Sends the answer, then acknowledges; prints the answer's id.
///
/// # Errors
/// Exit code 5 for a receipt that is somebody else's or whose lease is over: then nothing is sent. 4 when the sender has no
/// mailbox, 6 when there is no room.
pub fn run(context: &Context, args: &Args) -> Result {
    let receipt = own(context, &args.receipt)?;
    let spool = mail::spool(context)?;
    spool.check(&receipt)?;
    let id = receipt.name.stem.id;
    let request = spool
        .read(&receipt.mailbox, id)?
        .ok_or_else(|| Failure::say(Kind::Refused, format!("message {id} is not in `{}` any more", receipt.mailbox)))?;
    let text = read_up_to(spool.limits().envelope_bytes_max, args.text.clone())?;
    let actor = mail::actor(context)?;
    let to = mail::mailbox_of_sender(context, &spool, &request.from)?;
    let mut envelope = Envelope {
        priority: request.priority,
        // One answer per agent and message, whichever attempt it comes from.
        idempotency_key: Some(format!("reply {}/{id}", receipt.mailbox)),
        reply_to: Some(id),
        thread: request.thread.clone(),
        ..message(actor.agent().to_owned(), actor.incarnation(), to, text.into(), clock::now())
    };
    let sent = post(context, &spool, &mut envelope, None)?;
    match spool.ack(&receipt, Some(&actor), clock::now()) {
        Ok(_) => {}
        Err(error @ SpoolError::NotYours { .. }) => {
            return Err(Failure::from(error).hint(format!("the answer {} was sent all the same", sent.id)));
        }
        Err(error) => return Err(error.into()),
    }
    match context.out.form {
        Form::Json => context.out.json(&serde_json::json!({
            "id": sent.id, "new": sent.is_new, "reply_to": id, "to": envelope.to, "thread": envelope.thread
        }))?,
        Form::Text => {
            if !sent.is_new {
                context.out.note("it was answered before; nothing was sent again");
            }
            context.out.line(&sent.id.to_string())?;
        }
    }
    Ok(Ended::Well)
}
