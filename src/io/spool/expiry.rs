//! The end of use: a message that nobody has leased by its `expires_at` goes to `dead/` with the reason `expired`.
//!
//! A lease call buries what it meets; what nobody meets is found by sweeps and listings through `ttl/`, which has an
//! empty file `1795162841123~ID` for every such message, so that nobody has to read a whole mailbox to find the few. The
//! entry is a hint: without one (a power cut, another program's envelope) the message expires when a lessee meets it.
//!
//! A lease in time may be finished. What comes back from one, by a nack or by the lease's end, is of use no longer either.
//! Who takes a message out of `dead/` means it whatever its time: then the attempt is beyond the first round.

use std::collections::BTreeMap;
use std::io;

use crate::model::envelope::{Envelope, EnvelopeKind};
use crate::model::fault::with_causes;
use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::durable::Moved;
use super::fault::SpoolError;
use super::load::{Loaded, load_as};
use super::look::list_folder;
use super::name::{EndedName, Folder, Stem};
use super::{Room, Spool};

/// The reason that stands beside an expired message.
pub const EXPIRED: &str = "expired";

/// How many messages one look takes out of a mailbox at most.
const EXPIRED_MAX: usize = 10_000;

/// Says whether a message is of no use any more to whoever would lease it now.
pub(super) fn is_expired(envelope: &Envelope, stem: Stem, now: Timestamp) -> bool {
    envelope.expires_at.is_some_and(|end| end <= now)
        && envelope.kind == EnvelopeKind::Message
        && stem.attempt <= envelope.attempts_max.max(1)
}

/// Says what speaks against sending an envelope with its end of use.
pub(super) fn contradiction(envelope: &Envelope, not_before: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let end = envelope.expires_at?;
    if envelope.kind != EnvelopeKind::Message {
        Some("only messages expire".to_owned())
    } else if not_before.unwrap_or(now).max(now) >= end {
        Some(format!("it expires at {end}, before it could be leased"))
    } else {
        None
    }
}

impl Spool {
    /// Gives up what has expired in a mailbox and returns how many that were. Costs one look at an empty folder where
    /// nothing can expire.
    ///
    /// # Errors
    /// Fails if the mailbox cannot be read.
    pub fn expire(&self, mailbox: &Mailbox, now: Timestamp) -> Result<usize, SpoolError> {
        let room = self.room(mailbox);
        let due = due(&room, now)?;
        if due.is_empty() {
            return Ok(0);
        }
        let mut known = BTreeMap::new();
        for folder in [Folder::Later, Folder::New, Folder::Leased] {
            known.extend(list_folder(&room, folder)?.into_iter().map(|listed| (listed.id, listed)));
        }
        let mut expired = 0;
        for (entry, id) in due.into_iter().take(EXPIRED_MAX) {
            let Some(listed) = known.get(&id) else {
                self.drop_entry(&room, &entry);
                continue;
            };
            match listed.folder {
                // Its holder may finish it; if it comes back, the entry finds it again.
                Folder::Leased => continue,
                Folder::New | Folder::Later | Folder::Done | Folder::Dead => {}
            }
            let path = room.file(listed.folder, &listed.name);
            let is_over = match load_as(&room, &path, id, self.limits().envelope_bytes_max)? {
                Loaded::Good(envelope) => is_expired(&envelope, listed.stem(), now),
                Loaded::Bad(_) | Loaded::Gone => continue,
                Loaded::Unread(fault) => {
                    self.complain(&path, &fault);
                    continue;
                }
            };
            if is_over {
                let buried = EndedName { stem: listed.stem(), holder: None, ended_at: now };
                match self.bury(&room, (listed.folder, &listed.name), buried, EXPIRED) {
                    Ok(Moved::Yes) => expired += 1,
                    Ok(Moved::Gone | Moved::Taken) => continue,
                    Err(fault) => {
                        self.complain(&path, &fault);
                        continue;
                    }
                }
            }
            self.drop_entry(&room, &entry);
        }
        Ok(expired)
    }

    fn drop_entry(&self, room: &Room, entry: &str) {
        let path = room.ttl().join(entry);
        if let Err(fault) = room.disk.remove(&path) {
            self.complain(&path, &fault);
        }
    }
}

/// Enters a message whose use ends. Failing costs only that it expires later, so nobody is told but the log.
pub(super) fn enter(room: &Room, envelope: &Envelope) {
    let Some(end) = envelope.expires_at else { return };
    let path = room.ttl().join(format!("{:013}~{}", end.as_millis(), envelope.id));
    let made = room.disk.create(&path, b"").or_else(|fault| {
        if fault.kind() != io::ErrorKind::NotFound {
            return Err(fault);
        }
        room.disk.make_folder(&room.ttl())?;
        room.disk.create(&path, b"")
    });
    match made {
        Ok(_) => {}
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => {}
        Err(fault) => {
            tracing::debug!(path = %path.display(), fault = %with_causes(&fault), "no entry for the end of use");
        }
    }
}

fn due(room: &Room, now: Timestamp) -> Result<Vec<(String, EnvelopeId)>, SpoolError> {
    let folder = room.ttl();
    let names = room.disk.visible_names(&folder).map_err(SpoolError::io("list", &folder))?;
    let mut due: Vec<_> = names
        .into_iter()
        .filter_map(|name| {
            let name = name.into_string().ok()?;
            let (end, id) = name.split_once('~')?;
            let (end, id) = (Timestamp::from_millis(end.parse().ok()?), id.parse().ok()?);
            (end <= now).then_some((name, id))
        })
        .collect();
    due.sort();
    Ok(due)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::envelope;
    use super::*;

    #[test]
    fn only_a_message_of_the_first_round_expires() {
        let sent = Timestamp::from_millis(1_795_000_000_000);
        let mut message = envelope("kaede", 1);
        message.expires_at = Some(sent + Duration::from_secs(10));
        let at = |attempt, seconds| {
            let stem = Stem { attempt, ..Stem::first(message.priority, message.id) };
            is_expired(&message, stem, sent + Duration::from_secs(seconds))
        };
        assert_eq!([at(1, 9), at(1, 10), at(5, 11), at(6, 11)], [false, true, true, false]);
        let order = Envelope { kind: EnvelopeKind::WorkOrder, ..message.clone() };
        assert!(!is_expired(&order, Stem::first(order.priority, order.id), sent + Duration::from_secs(11)));
    }
}
