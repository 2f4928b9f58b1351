//! Leasing: taking back what has expired, then claiming the first envelope that waits.
//!
//! No step is synced: a claim or redelivery that a power cut undoes has only to be made again.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::envelope::Envelope;
use crate::model::fault::with_causes;
use crate::model::id::Mailbox;
use crate::model::time::Timestamp;

use super::durable::Moved;
use super::fault::SpoolError;
use super::history::{Happening, Note};
use super::holder::Holder;
use super::load::{LoadFault, Loaded, load_as};
use super::memory;
use super::name::{EndedName, Folder, LaterName, LeasedName, Stem};
use super::receipt::Receipt;
use super::{Room, Spool};

/// How many envelopes one call tries to claim at most while others are quicker.
const CLAIMS_MAX: usize = 100_000;

/// An envelope in the caller's hands.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// What ack, nack and extend ask for.
    pub receipt: Receipt,
    /// The envelope.
    pub envelope: Envelope,
    /// How often it has been leased, this time included.
    pub attempt: u32,
}

/// What became of an attempt to claim one envelope.
enum Claim {
    Ours(Box<Leased>),
    /// Somebody was quicker, or it was no envelope.
    NotOurs,
}

impl Spool {
    /// Leases the envelope of the highest priority, and of those the oldest, that waits in a mailbox.
    ///
    /// First every lease that has ended is taken back: its envelope waits again, or is dead after its last attempt. In
    /// mailboxes of work orders this is left to the supervisor. What cannot be an envelope is moved to `dead/`.
    ///
    /// # Errors
    /// Fails if the mailbox cannot be read or changed.
    pub fn lease(
        &self,
        mailbox: &Mailbox,
        holder: &Holder,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Option<Leased>, SpoolError> {
        let room = self.room(mailbox);
        let until = now + lease.min(self.limits().lease_max);
        let known = self.shared.memory.of(mailbox);
        let mut looked = false;
        for _ in 0..CLAIMS_MAX {
            let is_fresh = memory::lock(&known).is_fresh(now, self.limits().listing_age_max);
            if !looked && !is_fresh {
                self.look_anew(&room, now)?;
                looked = true;
            }
            let candidate = memory::lock(&known).pop();
            match candidate {
                Some(stem) => {
                    let name = LeasedName { stem, holder: holder.clone(), until };
                    if let Claim::Ours(leased) = self.claim(&room, name, now)? {
                        return Ok(Some(*leased));
                    }
                }
                // "Nothing waits" is said only after a look of this very call.
                None if looked => return Ok(None),
                None => {
                    self.look_anew(&room, now)?;
                    looked = true;
                }
            }
        }
        Ok(None)
    }

    /// Takes back what is due and lists what waits.
    fn look_anew(&self, room: &Room, now: Timestamp) -> Result<(), SpoolError> {
        let due = earliest(self.take_back_expired(room, now)?, self.take_back_due(room, now)?);
        let folder = room.folder(Folder::New);
        let mut waiting = BTreeSet::new();
        for name in room.disk.visible_names(&folder).map_err(SpoolError::io("list", &folder))? {
            match name.to_str().and_then(Stem::parse) {
                Some(stem) => {
                    waiting.insert(stem);
                }
                None => self.quarantine(room, Folder::New, &name, now),
            }
        }
        memory::lock(&self.shared.memory.of(&room.mailbox)).see(now, waiting, due);
        Ok(())
    }

    fn claim(&self, room: &Room, name: LeasedName, now: Timestamp) -> Result<Claim, SpoolError> {
        let from = room.file(Folder::New, &name.stem);
        let to = room.file(Folder::Leased, &name);
        match room.disk.move_file(&from, &to).map_err(SpoolError::io("lease", &from))? {
            Moved::Yes => {}
            Moved::Gone | Moved::Taken => return Ok(Claim::NotOurs),
        }
        memory::lock(&self.shared.memory.of(&room.mailbox)).is_due(name.until);
        match load_as(room, &to, name.stem.id, self.limits().envelope_bytes_max)? {
            Loaded::Good(envelope) => {
                let attempt = name.stem.attempt;
                let receipt = Receipt { mailbox: room.mailbox.clone(), name };
                Ok(Claim::Ours(Box::new(Leased { receipt, envelope: *envelope, attempt })))
            }
            Loaded::Bad(fault) => {
                self.bury_bad(room, &name, &fault, now);
                Ok(Claim::NotOurs)
            }
            Loaded::Gone => Ok(Claim::NotOurs),
        }
    }

    /// Ends leases that are over. Returns when the next one is.
    fn take_back_expired(&self, room: &Room, now: Timestamp) -> Result<Option<Timestamp>, SpoolError> {
        let folder = room.folder(Folder::Leased);
        let is_work = room.mailbox.worked_by().is_some();
        let mut next = None;
        for name in room.disk.visible_names(&folder).map_err(SpoolError::io("list", &folder))? {
            match name.to_str().and_then(LeasedName::parse) {
                None => self.quarantine(room, Folder::Leased, &name, now),
                Some(_) if is_work => {}
                // No lease is longer than `lease_max`: one that seems so was written under a clock that ran ahead.
                Some(leased) if leased.until <= now || leased.until > now + self.limits().lease_max => {
                    if let Err(fault) = self.redeliver(room, &leased, now) {
                        self.complain(&room.file(Folder::Leased, &leased), &fault);
                    }
                }
                Some(leased) => next = earliest(next, Some(leased.until)),
            }
        }
        Ok(next)
    }

    /// Lets delayed envelopes wait whose time has come. Returns when the next one's comes.
    fn take_back_due(&self, room: &Room, now: Timestamp) -> Result<Option<Timestamp>, SpoolError> {
        let folder = room.folder(Folder::Later);
        let mut next = None;
        for name in room.disk.visible_names(&folder).map_err(SpoolError::io("list", &folder))? {
            match name.to_str().and_then(LaterName::parse) {
                None => self.quarantine(room, Folder::Later, &name, now),
                Some(later) if later.not_before <= now => {
                    let from = room.file(Folder::Later, &later);
                    if let Err(fault) = room.disk.move_file(&from, &room.file(Folder::New, &later.stem)) {
                        self.complain(&from, &fault);
                    }
                }
                Some(later) => next = earliest(next, Some(later.not_before)),
            }
        }
        Ok(next)
    }

    fn redeliver(&self, room: &Room, name: &LeasedName, now: Timestamp) -> Result<(), SpoolError> {
        let path = room.file(Folder::Leased, name);
        let envelope = match load_as(room, &path, name.stem.id, self.limits().envelope_bytes_max)? {
            Loaded::Good(envelope) => envelope,
            Loaded::Bad(fault) => {
                self.bury_bad(room, name, &fault, now);
                return Ok(());
            }
            Loaded::Gone => return Ok(()),
        };
        let LeasedName { stem, holder, until } = name;
        if is_last_attempt(*stem, &envelope) {
            let buried = EndedName { stem: *stem, holder: Some(holder.clone()), ended_at: now };
            let reason =
                format!("not answered in attempt {}, the last one; {holder} had it until {until}", stem.attempt);
            self.bury(room, (Folder::Leased, &name.to_string()), buried, &reason)?;
            return Ok(());
        }
        let target = room.file(Folder::New, &stem.next());
        if room.disk.move_file(&path, &target).map_err(SpoolError::io("take back", &path))? == Moved::Yes {
            let holder = Some(holder.clone());
            let note = Note { at: now, attempt: stem.attempt, holder, what: Happening::Expired, reason: None };
            self.note(room, stem.id, &note);
        }
        Ok(())
    }

    /// Moves what a name promised to be an envelope, and is none, out of the way.
    fn bury_bad(&self, room: &Room, name: &LeasedName, fault: &LoadFault, now: Timestamp) {
        let buried = EndedName { stem: name.stem, holder: Some(name.holder.clone()), ended_at: now };
        let path = room.file(Folder::Leased, name);
        match self.bury(room, (Folder::Leased, &name.to_string()), buried, &with_causes(fault)) {
            Ok(Moved::Yes) => {
                tracing::warn!(path = %path.display(), fault = %with_causes(fault), "moved a bad envelope to dead/");
            }
            Ok(Moved::Gone | Moved::Taken) => {}
            Err(fault) => self.complain(&path, &fault),
        }
    }
}

/// Says whether an envelope may not be leased again after this attempt. Every requeue allows as many attempts anew.
pub(super) fn is_last_attempt(stem: Stem, envelope: &Envelope) -> bool {
    stem.attempt.is_multiple_of(envelope.attempts_max.max(1))
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
