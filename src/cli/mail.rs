//! What the verbs on messages share: who acts, which mailboxes there are, and what a refusal means.

use std::collections::BTreeSet;

use super::context::{Context, read_plan};
use super::failure::{Failure, Kind, Result};
use crate::io::spool::Spool;
use crate::io::spool::fault::SpoolError;
use crate::io::spool::holder::Holder;
use crate::io::spool::limits::Limits;
use crate::io::spool::receipt::ReceiptFault;
use crate::model::id::{AgentId, Incarnation, Mailbox};
use crate::model::plan::{ENVELOPE_BYTES_MOST, Plan, SpoolLimits};

/// The mailbox of the human.
pub const OPERATOR: &str = "operator";

/// The longest edit distance that is still taken for a slip of the pen.
const SLIP_MAX: usize = 3;

/// Names the spool of the root, with the limits of agents.toml. While that file is broken, the built-in ones must do:
/// agents go on talking while somebody edits it.
///
/// # Errors
/// When the folder is no root.
pub fn spool(context: &Context) -> Result<Spool> {
    let layout = context.layout()?;
    let limits = match read_plan(&layout) {
        Ok((_, Ok(plan))) => plan.spool,
        // What somebody was allowed to send must not be set aside as too large meanwhile.
        Ok((_, Err(_))) | Err(_) => SpoolLimits { envelope_bytes_max: ENVELOPE_BYTES_MOST, ..SpoolLimits::default() },
    };
    Ok(Spool::with_limits(layout.spool(), Limits::from(&limits)))
}

/// Says who acts: the agent of the pane that this runs in, else the human.
///
/// # Errors
/// When the environment names an agent that cannot be one.
pub fn actor(context: &Context) -> Result<Holder> {
    let environment = &context.environment;
    match (&environment.agent, &environment.incarnation) {
        (None, _) => Ok(Holder::operator()),
        (Some(agent), incarnation) => {
            let agent = AgentId::new(agent)?;
            let number = incarnation.as_deref().unwrap_or("0").parse().map_err(|error| {
                Failure::new(Kind::Invalid, anyhow::Error::new(error).context("MIYABI_INCARNATION is no number"))
            })?;
            Ok(Holder::of(&agent, Incarnation(number)))
        }
    }
}

/// Checks that people and agents may put messages into a mailbox or take them out, and that it is one.
///
/// # Errors
/// Exit code 5 for a reserved mailbox, 4 for an unknown one, with what may have been meant.
pub fn open_mailbox(context: &Context, spool: &Spool, text: &str) -> Result<Mailbox> {
    let mailbox = Mailbox::new(text)?;
    refuse_reserved(&mailbox)?;
    let known = known_mailboxes(context, spool)?;
    if known.contains(text) { Ok(mailbox) } else { Err(unknown("mailbox", text, &known)) }
}

/// Says what to do instead of talking to the supervisor by hand.
fn refuse_reserved(mailbox: &Mailbox) -> Result<()> {
    if is_reserved(mailbox) {
        return Err(Failure::say(Kind::Refused, format!("mailbox `{mailbox}` is the supervisor's own"))
            .hint("to hand work to an agent use `miyabi submit --agent ID TEXT`"));
    }
    Ok(())
}

/// Names the mailbox in which a sender reads: that of its name, if there is or may be one.
///
/// # Errors
/// Exit code 4 when nobody would read an answer.
pub fn mailbox_of_sender(context: &Context, spool: &Spool, from: &str) -> Result<Mailbox> {
    let known = known_mailboxes(context, spool)?;
    match Mailbox::new(from) {
        Ok(mailbox) if !is_reserved(&mailbox) && (known.contains(from) || spool.mailboxes()?.contains(&mailbox)) => {
            Ok(mailbox)
        }
        Ok(_) | Err(_) => Err(Failure::say(Kind::Invalid, format!("the sender `{from}` has no mailbox for an answer"))
            .hint("acknowledge the message with `miyabi ack RECEIPT`, and tell the sender in another way")),
    }
}

/// Checks that a mailbox is one that may be looked into: any that messages can be sent to, and any that exists.
///
/// # Errors
/// Exit code 4 for an unknown one, with what may have been meant.
pub fn readable_mailbox(context: &Context, spool: &Spool, text: &str) -> Result<Mailbox> {
    let mailbox = Mailbox::new(text)?;
    let existing = spool.mailboxes()?;
    let mut known = known_mailboxes(context, spool)?;
    known.extend(existing.iter().map(ToString::to_string));
    if known.contains(text) || is_reserved(&mailbox) { Ok(mailbox) } else { Err(unknown("mailbox", text, &known)) }
}

/// Work orders and reports are between supervisor and runner; everything else is talk.
#[must_use]
pub fn is_reserved(mailbox: &Mailbox) -> bool {
    *mailbox == Mailbox::supervisor() || mailbox.worked_by().is_some()
}

/// Lists the mailboxes that messages can be sent to. While agents.toml is broken, those that exist must do: agents go on
/// talking while somebody edits it.
fn known_mailboxes(context: &Context, spool: &Spool) -> Result<BTreeSet<String>> {
    let mut known = BTreeSet::from([OPERATOR.to_owned()]);
    match read_plan(&context.layout()?)?.1 {
        Ok(plan) => {
            for agent in &plan.agents {
                known.insert(Mailbox::agent(&agent.id).to_string());
                known.insert(Mailbox::role(&agent.role).to_string());
            }
        }
        Err(_) => {
            let found = spool.mailboxes()?;
            known.extend(found.iter().filter(|mailbox| !is_reserved(mailbox)).map(ToString::to_string));
        }
    }
    Ok(known)
}

/// Checks that agents.toml has an agent.
///
/// # Errors
/// Exit code 4, with what may have been meant.
pub fn known_agent(plan: &Plan, text: &str) -> Result<AgentId> {
    let known: BTreeSet<String> = plan.agents.iter().map(|agent| agent.id.to_string()).collect();
    if known.contains(text) { Ok(AgentId::new(text)?) } else { Err(unknown("agent", text, &known)) }
}

/// Builds the failure for a name that is not known.
fn unknown(what: &str, text: &str, known: &BTreeSet<String>) -> Failure {
    let failure = Failure::say(Kind::Invalid, format!("there is no {what} `{text}`"));
    let role = format!("role.{text}");
    if known.contains(&role) {
        return failure.hint(format!("all agents of a role share the mailbox `{role}`"));
    }
    let near = known.iter().map(|name| (strsim::osa_distance(text, name), name)).min();
    match near.filter(|(distance, name)| *distance <= SLIP_MAX && *distance < name.chars().count()) {
        Some((_, name)) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint(format!("there are {}", known.iter().map(String::as_str).collect::<Vec<_>>().join(", "))),
    }
}

impl From<SpoolError> for Failure {
    fn from(error: SpoolError) -> Self {
        match &error {
            SpoolError::NotYours { .. } => Self::new(Kind::Refused, error)
                .hint("whoever holds the newest receipt decides; see `miyabi inbox MAILBOX`"),
            SpoolError::WorkOrders { .. } => {
                Self::new(Kind::Refused, error).hint("repeat work with `miyabi task retry ID`")
            }
            SpoolError::MailboxFull { .. } => Self::new(Kind::NoRoom, error)
                .hint("whoever reads it is behind; see `miyabi status` and `miyabi inbox MAILBOX`, then send again"),
            SpoolError::SpoolFull { .. } => Self::new(Kind::NoRoom, error)
                .hint("remove dead letters with `miyabi dead purge`, or raise `bytes_max` of `[spool]` in agents.toml"),
            SpoolError::DiskReserve { .. } => Self::new(Kind::NoRoom, error)
                .hint("make room on the disk, or lower `disk_reserve` of `[spool]` in agents.toml"),
            SpoolError::TooLarge { .. } => {
                Self::new(Kind::Invalid, error).hint("write the text into a file and send it with `--attach FILE`")
            }
            SpoolError::Invalid { .. } => Self::new(Kind::Invalid, error),
            SpoolError::Gone { .. } => {
                Self::new(Kind::Refused, error).hint("somebody was quicker; see `miyabi dead list`")
            }
            SpoolError::DiskFull { .. } => Self::new(Kind::NoRoom, error).hint("make room on the disk and try again"),
            SpoolError::Io { .. } => Self::new(Kind::Failed, error)
                .hint("is the spool yours to write, and on one file system? rename cannot cross mounts"),
            SpoolError::Unreadable { .. } => Self::new(Kind::Failed, error).hint("see `miyabi dead list`"),
            SpoolError::Restless { .. } => Self::new(Kind::Failed, error).hint("try again"),
        }
    }
}

impl From<ReceiptFault> for Failure {
    fn from(fault: ReceiptFault) -> Self {
        Self::new(Kind::Invalid, fault).hint("receipts are printed by `miyabi lease MAILBOX`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_slip_of_the_pen_is_answered_with_what_was_meant() {
        let known = names(&["kaede", "sakura", "role.review"]);
        assert_eq!(unknown("mailbox", "kaeda", &known).hints, ["did you mean `kaede`?"]);
        assert!(unknown("mailbox", "review", &known).hints[0].contains("`role.review`"));
        assert!(unknown("mailbox", "zzzzzzzzzz", &known).hints[0].contains("there are kaede"));
    }

    #[test]
    fn work_and_reports_are_not_for_everybody() {
        for (name, reserved) in [("supervisor", true), ("kaede.work", true), ("kaede", false), ("role.review", false)] {
            assert_eq!(is_reserved(&Mailbox::new(name).unwrap()), reserved, "{name}");
        }
    }
}
