//! Ending or extending a lease. Each needs the receipt, and fails for a holder whose lease is over.
//!
//! An ack is synced: undone by a power cut, it would bring back what was acknowledged. A nack and an extension are not:
//! without them the lease simply ends at its time.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::fault::with_causes;
use crate::model::id::Mailbox;
use crate::model::time::Timestamp;

use super::commit::copied;
use super::durable::Moved;
use super::fault::{Refusal, SpoolError};
use super::history::{Happening, Note};
use super::holder::Holder;
use super::lease::is_last_attempt;
use super::load::{Loaded, load_as};
use super::look::Listed;
use super::name::{EndedName, Folder, LaterName, LeasedName};
use super::receipt::Receipt;
use super::{RACES_MAX, Room, Spool};

/// What an ack did. Either way the envelope is done, and on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acked {
    /// It is acknowledged now.
    Now,
    /// The same lease was acknowledged before: harmless.
    Already,
}

/// What a nack did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nacked {
    /// It waits again, not before this time.
    Later(Timestamp),
    /// It was the last attempt.
    Dead,
}

/// Where the lease of a receipt stands.
enum Standing {
    /// It goes on, under this name.
    Held(LeasedName),
    /// It was acknowledged.
    Acked,
}

impl Spool {
    /// Acknowledges an envelope: it is done. If a holder is given, the receipt must be its own.
    ///
    /// # Errors
    /// Refuses the receipt of a lease that is over; fails if the disk does.
    pub fn ack(&self, receipt: &Receipt, holder: Option<&Holder>, now: Timestamp) -> Result<Acked, SpoolError> {
        let acked = self.move_to_done(receipt, holder, now)?;
        self.sync_folder(&self.room(&receipt.mailbox).folder(Folder::Done))?;
        Ok(acked)
    }

    /// Acknowledges many envelopes with one wait for the disk for each mailbox. Says for each what came of it.
    pub fn ack_batch(
        &self,
        receipts: &[Receipt],
        holder: Option<&Holder>,
        now: Timestamp,
    ) -> Vec<Result<Acked, SpoolError>> {
        let mut all: Vec<_> = receipts.iter().map(|receipt| self.move_to_done(receipt, holder, now)).collect();
        let mailboxes: BTreeSet<&Mailbox> = receipts.iter().map(|receipt| &receipt.mailbox).collect();
        for mailbox in mailboxes {
            let moved = |at: &usize| receipts[*at].mailbox == *mailbox && all[*at].is_ok();
            let moved: Vec<usize> = (0..all.len()).filter(moved).collect();
            if moved.is_empty() {
                continue;
            }
            let folder = self.room(mailbox).folder(Folder::Done);
            if let Err(fault) = self.commit_folder(&folder) {
                for at in moved {
                    all[at] = Err(SpoolError::io("sync folder", &folder)(copied(&fault)));
                }
            }
        }
        all
    }

    /// Moves an envelope to `done/`, without waiting for the disk.
    fn move_to_done(&self, receipt: &Receipt, holder: Option<&Holder>, now: Timestamp) -> Result<Acked, SpoolError> {
        if let Some(caller) = holder.filter(|caller| **caller != receipt.name.holder) {
            return Err(SpoolError::refused(receipt, Refusal::AnotherCaller { caller: caller.clone() }));
        }
        let room = self.room(&receipt.mailbox);
        let mut name = receipt.name.clone();
        for _ in 0..RACES_MAX {
            let from = room.file(Folder::Leased, &name);
            let done = EndedName { stem: name.stem, holder: Some(name.holder.clone()), ended_at: now };
            let to = room.file(Folder::Done, &done);
            return match room.disk.move_file(&from, &to).map_err(SpoolError::io("acknowledge", &from))? {
                Moved::Yes => Ok(Acked::Now),
                Moved::Gone | Moved::Taken => match self.standing(receipt)? {
                    Standing::Acked => Ok(Acked::Already),
                    Standing::Held(current) => {
                        name = current;
                        continue;
                    }
                },
            };
        }
        Err(restless(receipt))
    }

    /// Gives an envelope back with a reason. It waits again after a while, or is dead after its last attempt.
    ///
    /// # Errors
    /// Refuses work orders, and the receipt of a lease that is over; fails if the disk does.
    pub fn nack(&self, receipt: &Receipt, reason: &str, now: Timestamp) -> Result<Nacked, SpoolError> {
        if receipt.mailbox.worked_by().is_some() {
            return Err(SpoolError::WorkOrders { mailbox: receipt.mailbox.clone() });
        }
        let room = self.room(&receipt.mailbox);
        for _ in 0..RACES_MAX {
            let name = match self.standing(receipt)? {
                Standing::Held(name) => name,
                Standing::Acked => return Err(SpoolError::refused(receipt, ended(&receipt.name))),
            };
            if let Some(nacked) = self.give_back(&room, &name, reason, now)? {
                return Ok(nacked);
            }
        }
        Err(restless(receipt))
    }

    /// Makes a lease end at another time, counted from now. The new receipt takes the place of the old one.
    ///
    /// # Errors
    /// Refuses the receipt of a lease that is over; fails if the disk does.
    pub fn extend(&self, receipt: &Receipt, lease: Duration, now: Timestamp) -> Result<Receipt, SpoolError> {
        let room = self.room(&receipt.mailbox);
        let until = now + lease.min(self.limits().lease_max);
        // A name that changes while a lessee lists the folder may be missed, and the envelope with it.
        let _turn = self.take_turn(&room, false)?;
        let mut name = receipt.name.clone();
        for _ in 0..RACES_MAX {
            let extended = LeasedName { until, ..name.clone() };
            let renewed = Receipt { mailbox: receipt.mailbox.clone(), name: extended.clone() };
            let from = room.file(Folder::Leased, &name);
            if extended == name {
                match self.standing(receipt)? {
                    Standing::Held(current) if current == name => return Ok(renewed),
                    Standing::Held(current) => name = current,
                    Standing::Acked => return Err(SpoolError::refused(receipt, ended(&receipt.name))),
                }
                continue;
            }
            let to = room.file(Folder::Leased, &extended);
            match room.disk.move_file(&from, &to).map_err(SpoolError::io("extend", &from))? {
                Moved::Yes => {
                    self.shared.memory.of(&receipt.mailbox).is_due(until);
                    return Ok(renewed);
                }
                Moved::Gone | Moved::Taken => match self.standing(receipt)? {
                    Standing::Held(current) => name = current,
                    Standing::Acked => return Err(SpoolError::refused(receipt, ended(&receipt.name))),
                },
            }
        }
        Err(restless(receipt))
    }

    /// Moves a leased envelope to `later/` or `dead/`; `None` if somebody was quicker.
    fn give_back(
        &self,
        room: &Room,
        name: &LeasedName,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<Nacked>, SpoolError> {
        let LeasedName { stem, holder, .. } = name;
        let from = room.file(Folder::Leased, name);
        let bury = |reason: &str| {
            let buried = EndedName { stem: *stem, holder: Some(holder.clone()), ended_at: now };
            let moved = self.bury(room, (Folder::Leased, &name.to_string()), buried, reason)?;
            Ok((moved == Moved::Yes).then_some(Nacked::Dead))
        };
        match load_as(room, &from, stem.id, self.limits().envelope_bytes_max)? {
            Loaded::Good(envelope) if is_last_attempt(*stem, &envelope) => return bury(reason),
            Loaded::Good(_) => {}
            Loaded::Bad(fault) => return bury(&with_causes(&fault)),
            Loaded::Unread(fault) => return Err(fault),
            Loaded::Gone => return Ok(None),
        }
        let not_before = now + self.limits().backoff(stem.attempt);
        let to = room.file(Folder::Later, &LaterName { not_before, stem: stem.next() });
        match room.disk.move_file(&from, &to).map_err(SpoolError::io("give back", &from))? {
            Moved::Yes => {}
            Moved::Gone | Moved::Taken => return Ok(None),
        }
        self.shared.memory.of(&room.mailbox).is_due(not_before);
        let reason = Some(super::dead::shortened(reason).to_owned());
        let note = Note::new(now, stem.attempt, Happening::Nacked).by(holder);
        self.note(room, stem.id, &Note { reason, ..note });
        Ok(Some(Nacked::Later(not_before)))
    }

    /// Makes sure that a receipt is still good: its lease goes on, or was acknowledged by its holder.
    ///
    /// # Errors
    /// Refuses the receipt of a lease that is over.
    pub fn check(&self, receipt: &Receipt) -> Result<(), SpoolError> {
        self.standing(receipt).map(drop)
    }

    /// Finds out what has become of a receipt's lease; an error if it is over.
    fn standing(&self, receipt: &Receipt) -> Result<Standing, SpoolError> {
        let LeasedName { stem, holder, .. } = &receipt.name;
        let Some(found) = self.locate(&receipt.mailbox, stem.id)? else {
            return Err(SpoolError::refused(receipt, Refusal::Missing));
        };
        let Listed { folder, attempt, .. } = found;
        // One holder leases one attempt once, so a name with another end is the same lease, extended.
        let is_same = attempt == stem.attempt && found.holder.as_ref() == Some(holder);
        if is_same && let Some(current) = found.receipt(&receipt.mailbox) {
            return Ok(Standing::Held(current.name));
        }
        let refusal = match (folder, found.holder) {
            (Folder::Done, _) if is_same => return Ok(Standing::Acked),
            (Folder::Leased, Some(holder)) => Refusal::HeldAgain { holder, attempt },
            (Folder::New | Folder::Later | Folder::Leased, _) => Refusal::WaitsAgain { attempt },
            (Folder::Done, holder) => Refusal::Ended { holder, attempt },
            (Folder::Dead, _) => Refusal::Dead,
        };
        Err(SpoolError::refused(receipt, refusal))
    }
}

fn ended(name: &LeasedName) -> Refusal {
    Refusal::Ended { holder: Some(name.holder.clone()), attempt: name.stem.attempt }
}

fn restless(receipt: &Receipt) -> SpoolError {
    SpoolError::Restless { mailbox: receipt.mailbox.clone(), id: receipt.name.stem.id }
}
