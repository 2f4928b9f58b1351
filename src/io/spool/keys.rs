//! Idempotency keys: who sent what under which key, in `keys/`.
//!
//! A key's file is locked from the look at it until the envelope is delivered. So a record whose envelope never came
//! belongs to a sender that died in between, and the next sender of the key takes it over.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::model::envelope::Envelope;
use crate::model::id::EnvelopeId;
use crate::model::time::Timestamp;

use super::disk::{Content, Wait};
use super::durable::Removed;
use super::fault::SpoolError;
use super::file::hex_digest;
use super::{Room, Spool};

/// How long a record may be, in bytes; a longer file is not one.
const RECORD_BYTES_MAX: usize = 100;

/// What a look at a key gave.
#[derive(Debug)]
pub(super) enum KeyClaim {
    /// The key is free, and is kept for the caller as long as it holds this.
    Ours(KeyLock),
    /// The key was used for this envelope.
    UsedBy(EnvelopeId),
}

/// Keeps other senders of the same key waiting.
#[derive(Debug)]
pub(super) struct KeyLock(#[expect(dead_code, reason = "closing the file is what unlocks it")] File);

/// Which envelope a key was used for: `01JD… 1795162841123`.
struct Record {
    id: EnvelopeId,
    at: Timestamp,
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        let (id, at) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self { id: id.parse().ok()?, at: Timestamp::from_millis(at.parse().ok()?) })
    }
}

impl Spool {
    /// Locks an envelope's key and notes the envelope under it, unless the key was used within the window.
    pub(super) fn claim_key(
        &self,
        room: &Room,
        envelope: &Envelope,
        key: &str,
        now: Timestamp,
    ) -> Result<KeyClaim, SpoolError> {
        // Two senders may well think of the same key; only the same sender means the same by it.
        let sender_and_key = serde_json::json!([envelope.from, key]).to_string();
        let path = room.keys().join(hex_digest(sender_and_key.as_bytes()));
        let locked = room.disk.lock(&path, Wait::Forever).map_err(SpoolError::io("lock", &path))?;
        let busy = || SpoolError::io("lock", &path)(io::ErrorKind::ResourceBusy.into());
        let file = locked.ok_or_else(busy)?;
        let record = read(room, &path).map_err(SpoolError::io("read", &path))?;
        if let Some(record) = record.filter(|record| now < record.at + self.limits().key_window) {
            if record.id == envelope.id {
                // Its writer may have died before the record was on the disk.
                room.disk.sync_file(&path, &file).map_err(SpoolError::io("write", &path))?;
                self.sync_folder(&room.keys())?;
                return Ok(KeyClaim::Ours(KeyLock(file)));
            }
            // We have the lock, so a draft that is still there was left by a sender that died.
            self.discard_remnant(room, record.id)?;
            let entry = room.id(record.id);
            if room.disk.find(&entry).map_err(SpoolError::io("look at", &entry))?.is_some() {
                return Ok(KeyClaim::UsedBy(record.id));
            }
        }
        write(room, &path, &file, &Record { id: envelope.id, at: now }).map_err(SpoolError::io("write", &path))?;
        self.sync_folder(&room.keys())?;
        Ok(KeyClaim::Ours(KeyLock(file)))
    }

    /// Removes a key's file if the key's window is over. Says whether it did.
    pub(super) fn prune_key(&self, room: &Room, path: &Path, now: Timestamp) -> io::Result<Removed> {
        let _locked = match room.disk.lock(path, Wait::Never) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Removed::WasGone),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Removed::WasGone),
            Err(fault) => return Err(fault),
        };
        match read(room, path)? {
            Some(record) if now < record.at + self.limits().key_window => Ok(Removed::WasGone),
            Some(_) | None => room.disk.remove(path),
        }
    }
}

/// Reads a record; one that was cut off by a crash is none, for its envelope was not delivered yet.
fn read(room: &Room, path: &Path) -> io::Result<Option<Record>> {
    match room.disk.read(path, RECORD_BYTES_MAX)? {
        Content::Whole(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(Record::parse)),
        Content::Cut(_) | Content::NotAFile => Ok(None),
    }
}

fn write(room: &Room, path: &Path, file: &File, record: &Record) -> io::Result<()> {
    room.disk.overwrite(path, file, format!("{} {}\n", record.id, record.at.as_millis()).as_bytes())?;
    room.disk.sync_file(path, file)
}
