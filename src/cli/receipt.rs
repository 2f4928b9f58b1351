//! `miyabi ack | nack | extend`: what one can do with a leased message.

use std::time::Duration;

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::mail;
use super::output::Form;
use super::when;
use crate::io::clock;
use crate::io::spool::receipt::Receipt;
use crate::io::spool::settle::{Acked, Nacked};
use crate::model::span;

/// The arguments of `ack`.
#[derive(Debug, clap::Args)]
#[command(after_help = "A repeated ack is harmless; an old holder's receipt is refused.\n\n\
    Example:\n  miyabi ack \"$(miyabi lease kaede --json | jq -r .receipt)\"")]
pub struct AckArgs {
    /// What `lease` printed
    #[arg(value_name = "RECEIPT")]
    pub receipt: String,
}

/// The arguments of `nack`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The message waits again, a little longer each time, and is dead after its last attempt.\n\n\
    Example:\n  miyabi nack \"$receipt\" --reason \"the build is broken\"")]
pub struct NackArgs {
    /// What `lease` printed
    #[arg(value_name = "RECEIPT")]
    pub receipt: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// The arguments of `extend`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The new receipt takes the place of the old one.\n\nExample:\n  receipt=$(miyabi extend \"$receipt\" --for 10m)"
)]
pub struct ExtendArgs {
    /// What `lease` printed
    #[arg(value_name = "RECEIPT")]
    pub receipt: String,
    /// For how long from now
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse, default_value = "5m")]
    pub time: Duration,
}

/// Acknowledges a message.
///
/// # Errors
/// Exit code 5 for a receipt that is somebody else's, or whose lease is over.
pub fn ack(context: &Context, args: &AckArgs) -> Result {
    let receipt = own(context, &args.receipt)?;
    let acked = mail::spool(context)?.ack(&receipt, Some(&mail::actor(context)?), clock::now())?;
    let again = match acked {
        Acked::Now => false,
        Acked::Already => true,
    };
    match context.out.form {
        Form::Json => context.out.json(&serde_json::json!({ "acked": true, "again": again }))?,
        Form::Text => context.out.line(if again { "acknowledged before" } else { "acknowledged" })?,
    }
    Ok(Ended::Well)
}

/// Gives a message back.
///
/// # Errors
/// Exit code 5 for a receipt that is somebody else's, or whose lease is over.
pub fn nack(context: &Context, args: &NackArgs) -> Result {
    let receipt = own(context, &args.receipt)?;
    let nacked = mail::spool(context)?.nack(&receipt, &args.reason, clock::now())?;
    let (state, until) = match nacked {
        Nacked::Later(until) => ("later", Some(until)),
        Nacked::Dead => ("dead", None),
    };
    match (context.out.form, until) {
        (Form::Json, _) => context.out.json(&serde_json::json!({ "state": state, "until": until }))?,
        (Form::Text, Some(until)) => {
            context.out.line(&format!("it waits again in {}", when::precise(until.since(clock::now()))))?;
        }
        (Form::Text, None) => context.out.line("it was the last attempt; see `miyabi dead list`")?,
    }
    Ok(Ended::Well)
}

/// Keeps a message for longer.
///
/// # Errors
/// Exit code 5 for a receipt that is somebody else's, or whose lease is over.
pub fn extend(context: &Context, args: &ExtendArgs) -> Result {
    let receipt = own(context, &args.receipt)?;
    let renewed = mail::spool(context)?.extend(&receipt, args.time, clock::now())?;
    match context.out.form {
        Form::Json => {
            let until = renewed.name.until;
            context.out.json(&serde_json::json!({ "receipt": renewed.to_string(), "until": until }))?;
        }
        Form::Text => context.out.line(&renewed.to_string())?,
    }
    Ok(Ended::Well)
}

/// Reads a receipt, and refuses one that names another holder: a copied receipt gives no right, and a work order's is
/// the runner's own.
///
/// # Errors
/// Exit code 5 for a receipt that is not this caller's, 4 for what is none.
pub fn own(context: &Context, text: &str) -> Result<Receipt> {
    let receipt: Receipt = text.trim().parse()?;
    let actor = mail::actor(context)?;
    if mail::is_reserved(&receipt.mailbox) {
        return Err(Failure::say(Kind::Refused, format!("mailbox `{}` is the supervisor's own", receipt.mailbox))
            .hint("steer work with `miyabi task retry ID` and `miyabi task cancel ID`"));
    }
    if receipt.name.holder != actor {
        let holder = &receipt.name.holder;
        return Err(Failure::say(Kind::Refused, format!("the receipt is {holder}'s, and this is {actor}"))
            .hint("lease the message yourself with `miyabi lease MAILBOX`, once its lease is over"));
    }
    Ok(receipt)
}
