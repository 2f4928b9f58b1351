//! Delivering envelopes.
//!
//! The steps of one delivery, and what a crash or power cut after each leaves:
//! 1. write the file in `tmp/` and sync it: a stray draft, which a later sweep removes;
//! 2. link it as `ids/ID`, which fails if the id was accepted before: a draft that a retry with the same id finishes. An id
//!    that nobody can have used before needs no link;
//! 3. rename it into `new/` or `later/`: delivered for everybody, but a power cut may still undo steps 2 and 3;
//! 4. sync that folder: delivered for good. Only now the call returns.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::envelope::{ENVELOPE_SCHEMA, Envelope};
use crate::model::fault::with_causes;
use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::commit::Draft;
use super::durable::Moved;
use super::expiry;
use super::fault::SpoolError;
use super::file;
use super::keys::KeyClaim;
use super::limits::{DELAY_MAX, GROUP_BYTES_MAX, KEY_BYTES_MAX};
use super::name::{Folder, LaterName, Stem};
use super::{Room, Spool};

/// What became of a delivery. Either way the envelope is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It was accepted.
    New,
    /// It was accepted before: the same id, or the same sender's same idempotency key within the window.
    Already {
        /// The envelope that was accepted then.
        first: EnvelopeId,
    },
}

/// Whether an envelope may have been sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    /// Its sender may have tried before, here or in an earlier process.
    MayBeKnown,
    /// Its id was made for this one delivery.
    IsFresh,
}

/// Where an envelope arrives.
#[derive(Debug, Clone, Copy)]
enum Arrival {
    New(Stem),
    Later(LaterName),
}

impl Arrival {
    fn of(envelope: &Envelope, not_before: Option<Timestamp>, now: Timestamp) -> Self {
        let stem = Stem::first(envelope.priority, envelope.id);
        match not_before {
            Some(not_before) if not_before > now => Self::Later(LaterName { not_before, stem }),
            Some(_) | None => Self::New(stem),
        }
    }

    const fn folder(self) -> Folder {
        match self {
            Self::New(_) => Folder::New,
            Self::Later(_) => Folder::Later,
        }
    }

    fn path(self, room: &Room) -> PathBuf {
        match self {
            Self::New(stem) => room.file(Folder::New, &stem),
            Self::Later(name) => room.file(Folder::Later, &name),
        }
    }
}

impl Spool {
    /// Delivers an envelope to the mailbox that it is addressed to. It is on the disk when this returns.
    ///
    /// After an error the caller may try again with the same envelope: it is accepted at most once.
    ///
    /// # Errors
    /// Refuses an envelope that is too large or cannot be read back, and one for a full mailbox; fails if the disk does.
    pub fn deliver(
        &self,
        envelope: &Envelope,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Delivered, SpoolError> {
        self.deliver_known(envelope, History::MayBeKnown, not_before, now)
    }

    /// Delivers an envelope whose id was made for this call, so that nobody can have sent it before and the id need not be
    /// remembered: an entry in a folder less. Whoever wants to try again after an error uses [`Spool::deliver`], or a key.
    ///
    /// # Errors
    /// As [`Spool::deliver`].
    pub fn deliver_fresh(
        &self,
        envelope: &Envelope,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Delivered, SpoolError> {
        self.deliver_known(envelope, History::IsFresh, not_before, now)
    }

    fn deliver_known(
        &self,
        envelope: &Envelope,
        history: History,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Delivered, SpoolError> {
        let bytes = self.admit(envelope, not_before, now)?;
        let room = self.room(&envelope.to);
        self.ensure(&envelope.to)?;
        self.check_count(&room, &[envelope.id], now)?;
        self.check_bytes(&[(envelope, bytes.len())], now)?;
        expiry::enter(&room, envelope);
        let _key_lock = match &envelope.idempotency_key {
            None => None,
            Some(key) => match self.claim_key(&room, envelope, key, now)? {
                KeyClaim::UsedBy(first) => {
                    self.sync_folders(&room, &[Folder::New, Folder::Later])?;
                    return Ok(Delivered::Already { first });
                }
                KeyClaim::Ours(lock) => Some(lock),
            },
        };
        let draft = write_draft(&room, envelope.id, &bytes)?;
        self.sync_drafts(vec![Arc::clone(&draft)])?;
        let arrival = Arrival::of(envelope, not_before, now);
        let delivered = match (history, &envelope.idempotency_key) {
            (History::IsFresh, None) => self.arrive(&room, &draft.path, envelope.id, arrival).inspect_err(|_| {
                room.disk.remove(&draft.path).ok();
            })?,
            // A key is noted for an id, which is looked up where ids are remembered.
            (History::IsFresh, Some(_)) | (History::MayBeKnown, _) => {
                self.enter(&room, &draft.path, envelope.id, arrival)?
            }
        };
        // Also for one that came before: its sender may have died, or not have come to this step yet.
        self.sync_folders(&room, synced_after(delivered, arrival))?;
        Ok(delivered)
    }

    /// Delivers many envelopes with few waits for the disk. All are on the disk when this returns.
    ///
    /// The batch is not one step: after an error some of it may have been delivered, and the caller may try again with
    /// the same envelopes. Envelopes with an idempotency key are delivered one by one.
    ///
    /// # Errors
    /// As [`Spool::deliver`], for the first envelope that is refused.
    pub fn deliver_batch(&self, envelopes: &[Envelope], now: Timestamp) -> Result<Vec<Delivered>, SpoolError> {
        self.deliver_batch_known(envelopes, History::MayBeKnown, now)
    }

    /// As [`Spool::deliver_batch`], for envelopes whose ids were made for this call, as [`Spool::deliver_fresh`] says. After an
    /// error some of it may have been delivered, and a second try would deliver that again.
    ///
    /// # Errors
    /// As [`Spool::deliver`], for the first envelope that is refused.
    pub fn deliver_fresh_batch(&self, envelopes: &[Envelope], now: Timestamp) -> Result<Vec<Delivered>, SpoolError> {
        self.deliver_batch_known(envelopes, History::IsFresh, now)
    }

    fn deliver_batch_known(
        &self,
        envelopes: &[Envelope],
        history: History,
        now: Timestamp,
    ) -> Result<Vec<Delivered>, SpoolError> {
        let mut contents = Vec::with_capacity(envelopes.len());
        let mut addressees: BTreeMap<&Mailbox, Vec<EnvelopeId>> = BTreeMap::new();
        for envelope in envelopes {
            contents.push(self.admit(envelope, None, now)?);
            addressees.entry(&envelope.to).or_default().push(envelope.id);
        }
        for (mailbox, ids) in addressees {
            self.ensure(mailbox)?;
            self.check_count(&self.room(mailbox), ids.as_slice(), now)?;
        }
        let sizes: Vec<_> = envelopes.iter().zip(&contents).map(|(envelope, bytes)| (envelope, bytes.len())).collect();
        self.check_bytes(&sizes, now)?;
        let mut drafts = Vec::with_capacity(envelopes.len());
        for (envelope, bytes) in envelopes.iter().zip(&contents) {
            drafts.push(match envelope.idempotency_key {
                None => {
                    let room = self.room(&envelope.to);
                    expiry::enter(&room, envelope);
                    Some(write_draft(&room, envelope.id, bytes))
                }
                Some(_) => None,
            });
        }
        if drafts.iter().flatten().any(Result::is_err) {
            // What a full disk has taken so far must not lie about until the next sweep.
            for draft in drafts.iter().flatten().flatten() {
                self.shared.disk.remove(&draft.path).ok();
            }
        }
        let drafts = drafts.into_iter().map(Option::transpose).collect::<Result<Vec<_>, _>>()?;
        self.sync_drafts(drafts.iter().flatten().cloned().collect())?;
        self.enter_batch(envelopes, &drafts, history, now).inspect_err(|_| {
            // Best effort: what stays is a stray draft.
            for draft in drafts.iter().flatten() {
                self.shared.disk.remove(&draft.path).ok();
            }
        })
    }

    /// Waits until drafts are on the disk; removes them if that fails.
    fn sync_drafts(&self, drafts: Vec<Arc<Draft>>) -> Result<(), SpoolError> {
        let Some(first) = drafts.first().map(Arc::clone) else { return Ok(()) };
        let paths: Vec<PathBuf> = drafts.iter().map(|draft| draft.path.clone()).collect();
        self.shared.commits.sync_files(&*self.shared.disk, drafts).map_err(|fault| {
            for path in paths {
                self.shared.disk.remove(&path).ok();
            }
            SpoolError::io("write", &first.path)(fault)
        })
    }

    fn enter_batch(
        &self,
        envelopes: &[Envelope],
        drafts: &[Option<Arc<Draft>>],
        history: History,
        now: Timestamp,
    ) -> Result<Vec<Delivered>, SpoolError> {
        let mut touched = BTreeSet::new();
        let mut all = Vec::with_capacity(envelopes.len());
        for (envelope, draft) in envelopes.iter().zip(drafts) {
            all.push(match draft {
                None => self.deliver(envelope, None, now)?,
                Some(draft) => {
                    let room = self.room(&envelope.to);
                    let arrival = Arrival::of(envelope, None, now);
                    let delivered = match history {
                        History::IsFresh => self.arrive(&room, &draft.path, envelope.id, arrival)?,
                        History::MayBeKnown => self.enter(&room, &draft.path, envelope.id, arrival)?,
                    };
                    touched.extend(synced_after(delivered, arrival).iter().map(|folder| room.folder(*folder)));
                    delivered
                }
            });
        }
        for folder in touched {
            self.sync_folder(&folder)?;
        }
        Ok(all)
    }

    /// Checks an envelope and returns the bytes of its file.
    fn admit(&self, envelope: &Envelope, not_before: Option<Timestamp>, now: Timestamp) -> Result<Vec<u8>, SpoolError> {
        let invalid = |reason: String| SpoolError::Invalid { id: envelope.id, reason };
        if envelope.schema != ENVELOPE_SCHEMA {
            return Err(invalid(format!("its schema is `{}`, not `{ENVELOPE_SCHEMA}`", envelope.schema)));
        }
        if envelope.idempotency_key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
            return Err(invalid(format!("its idempotency key is longer than {KEY_BYTES_MAX} bytes")));
        }
        if envelope.group.as_ref().is_some_and(|group| group.len() > GROUP_BYTES_MAX) {
            return Err(invalid(format!("the name of its order group is longer than {GROUP_BYTES_MAX} bytes")));
        }
        if not_before.is_some_and(|time| time > now + DELAY_MAX) {
            return Err(invalid("it is delayed by more than ten years".to_owned()));
        }
        if let Some(reason) = expiry::contradiction(envelope, not_before, now) {
            return Err(invalid(reason));
        }
        // What is accepted must be readable: JSON that is nested too deeply can be written but not read.
        if let Some(reason) = file::unreadable(envelope) {
            return Err(invalid(reason));
        }
        let bytes = file::encode(envelope).map_err(|fault| invalid(with_causes(&fault)))?;
        let max = self.limits().envelope_bytes_max;
        if bytes.len() > max {
            return Err(SpoolError::TooLarge { id: envelope.id, bytes: bytes.len(), max });
        }
        Ok(bytes)
    }

    fn sync_folders(&self, room: &Room, folders: &[Folder]) -> Result<(), SpoolError> {
        folders.iter().try_for_each(|folder| self.sync_folder(&room.folder(*folder)))
    }

    /// Makes a draft an envelope, unless its id was accepted before.
    fn enter(&self, room: &Room, draft: &Path, id: EnvelopeId, arrival: Arrival) -> Result<Delivered, SpoolError> {
        let entry = room.id(id);
        match room.disk.link(draft, &entry) {
            Ok(()) => self.arrive(room, draft, id, arrival).inspect_err(|_| {
                // The id first: while it is taken, a missing draft would mean that the envelope was delivered.
                room.disk.remove(&entry).and_then(|_| room.disk.remove(draft)).ok();
            }),
            Err(fault) if fault.kind() == std::io::ErrorKind::AlreadyExists => {
                room.disk.remove(draft).map_err(SpoolError::io("remove", draft))?;
                match find_remnant(room, id)? {
                    // A sender died between the link and the rename, or is just there: either may finish it.
                    Some(remnant) => self.arrive(room, &remnant, id, arrival),
                    None => Ok(Delivered::Already { first: id }),
                }
            }
            Err(fault) => {
                room.disk.remove(draft).ok();
                Err(SpoolError::io("link", &entry)(fault))
            }
        }
    }

    fn arrive(&self, room: &Room, draft: &Path, id: EnvelopeId, arrival: Arrival) -> Result<Delivered, SpoolError> {
        let path = arrival.path(room);
        match room.disk.move_file(draft, &path).map_err(SpoolError::io("deliver to", &path))? {
            Moved::Yes => {}
            // Another sender of the same envelope has finished it, and was told so; but a draft that was swept away is lost.
            Moved::Gone if room.disk.is_there(&room.id(id)) => return Ok(Delivered::Already { first: id }),
            Moved::Gone => return Err(SpoolError::Gone { path: draft.to_owned() }),
            // A program that knows nothing of `ids/` has put the same envelope there.
            Moved::Taken => {
                room.disk.remove(draft).map_err(SpoolError::io("remove", draft))?;
                return Ok(Delivered::Already { first: id });
            }
        }
        let known = self.shared.memory.of(&room.mailbox);
        match arrival {
            Arrival::New(stem) => known.waits(stem),
            Arrival::Later(name) => known.is_due(name.not_before),
        }
        Ok(Delivered::New)
    }

    /// Removes what a sender left that died after it had linked an envelope's id and before it had delivered it.
    pub(super) fn discard_remnant(&self, room: &Room, id: EnvelopeId) -> Result<(), SpoolError> {
        let Some(remnant) = find_remnant(room, id)? else { return Ok(()) };
        for path in [room.id(id), remnant] {
            room.disk.remove(&path).map_err(SpoolError::io("remove", &path))?;
        }
        Ok(())
    }
}

/// Writes an envelope's bytes to a new file in `tmp/`, without waiting for the disk.
fn write_draft(room: &Room, id: EnvelopeId, bytes: &[u8]) -> Result<Arc<Draft>, SpoolError> {
    room.write_draft(&id, bytes).map(Arc::new).map_err(SpoolError::io("write to", &room.tmp()))
}

/// Says which folders must be synced before a delivery can be called durable.
const fn synced_after(delivered: Delivered, arrival: Arrival) -> &'static [Folder] {
    match (delivered, arrival.folder()) {
        (Delivered::New, Folder::Later) => &[Folder::Later],
        (Delivered::New, Folder::New | Folder::Leased | Folder::Done | Folder::Dead) => &[Folder::New],
        (Delivered::Already { .. }, _) => &[Folder::New, Folder::Later],
    }
}

/// Finds the draft that is the same file as an accepted id's entry.
fn find_remnant(room: &Room, id: EnvelopeId) -> Result<Option<PathBuf>, SpoolError> {
    let find = |path: &Path| room.disk.find(path).map_err(SpoolError::io("look at", path));
    let Some(entry) = find(&room.id(id))? else { return Ok(None) };
    let prefix = format!("{id}.");
    for name in room.disk.visible_names(&room.tmp()).map_err(SpoolError::io("list", &room.tmp()))? {
        let path = room.tmp().join(&name);
        if name.as_encoded_bytes().starts_with(prefix.as_bytes())
            && find(&path)?.is_some_and(|draft| draft.identity == entry.identity)
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
