//! Answers: finding the one message that answers another, among all that lie in the asker's mailbox.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::envelope::Envelope;
use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::Spool;
use super::durable::Moved;
use super::expiry::is_expired;
use super::fault::SpoolError;
use super::holder::Holder;
use super::lease::Leased;
use super::load::{Loaded, load_as};
use super::look::list_folder;
use super::name::{Folder, LeasedName};
use super::receipt::Receipt;

/// How much older than the question the id of an answer may seem, where two clocks are at work.
const CLOCKS_APART: Duration = Duration::from_mins(1);

/// An answer that was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It waited, and is leased to the caller now.
    Leased(Box<Leased>),
    /// Somebody else who reads this mailbox had taken it.
    Taken(Box<Envelope>),
}

/// One question whose answer is waited for.
#[derive(Debug)]
pub struct Question {
    mailbox: Mailbox,
    id: EnvelopeId,
    /// What was read and is no answer to it; contents never change.
    others: BTreeSet<EnvelopeId>,
}

impl Question {
    /// Asks for the answer to a message, which will come to a mailbox.
    #[must_use]
    pub const fn new(mailbox: Mailbox, id: EnvelopeId) -> Self {
        Self { mailbox, id, others: BTreeSet::new() }
    }
}

impl Spool {
    /// Leases the answer to one question, if it has come. Answers to other questions are left alone, so that many may
    /// wait at one mailbox. Reads only envelopes that are younger than the question, and each of them once.
    ///
    /// # Errors
    /// Fails if the mailbox cannot be read or changed.
    pub fn lease_answer(
        &self,
        question: &mut Question,
        holder: &Holder,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Option<Answer>, SpoolError> {
        let room = self.room(&question.mailbox);
        let slack = u64::try_from(CLOCKS_APART.as_millis()).unwrap_or(u64::MAX);
        let earliest = question.id.0.timestamp_ms().saturating_sub(slack);
        for folder in [Folder::New, Folder::Leased, Folder::Done] {
            for listed in list_folder(&room, folder)? {
                if listed.id.0.timestamp_ms() < earliest || question.others.contains(&listed.id) {
                    continue;
                }
                let path = room.file(folder, &listed.name);
                let envelope = match load_as(&room, &path, listed.id, self.limits().envelope_bytes_max)? {
                    Loaded::Good(envelope) => envelope,
                    // A lessee sets it aside; or it has moved on, and the next look meets it there.
                    Loaded::Bad(_) | Loaded::Gone => continue,
                    Loaded::Unread(fault) => {
                        self.complain(&path, &fault);
                        continue;
                    }
                };
                if envelope.reply_to != Some(question.id) {
                    question.others.insert(listed.id);
                    continue;
                }
                if folder != Folder::New {
                    return Ok(Some(Answer::Taken(envelope)));
                }
                let until = now + lease.min(self.limits().lease_max);
                let name = LeasedName { stem: listed.stem(), holder: holder.clone(), until };
                if is_expired(&envelope, name.stem, now) {
                    continue;
                }
                // Whoever asks by name takes no turn: the answer is meant for this caller, whatever else waits.
                let to = room.file(Folder::Leased, &name);
                if room.disk.move_file(&path, &to).map_err(SpoolError::io("lease", &path))? == Moved::Yes {
                    self.shared.memory.of(&room.mailbox).is_due(until);
                    let (attempt, receipt) = (name.stem.attempt, Receipt { mailbox: room.mailbox, name });
                    return Ok(Some(Answer::Leased(Box::new(Leased { receipt, envelope: *envelope, attempt }))));
                }
            }
        }
        Ok(None)
    }
}
