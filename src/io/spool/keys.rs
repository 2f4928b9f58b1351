//! Idempotency keys: who sent what under which key, in `keys/`.
//!
//! A key's file is locked from the look at it until the envelope is delivered. So a record whose envelope never came
//! belongs to a sender that died in between, and the next sender of the key takes it over.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::model::envelope::Envelope;
use crate::model::id::EnvelopeId;
use crate::model::time::Timestamp;

use super::durable::{self, Removed};
use super::fault::SpoolError;
use super::file::hex_digest;
use super::{RACES_MAX, Room, Spool};

/// How long a record may be, in bytes; a longer file is not one.
const RECORD_BYTES_MAX: u64 = 100;

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
        let mut file = open_locked(&path).map_err(SpoolError::io("lock", &path))?;
        let record = read(&mut file).map_err(SpoolError::io("read", &path))?;
        if let Some(record) = record.filter(|record| now < record.at + self.limits().key_window) {
            if record.id == envelope.id {
                // Its writer may have died before the record was on the disk.
                file.sync_all().map_err(SpoolError::io("write", &path))?;
                durable::sync_folder(&room.keys()).map_err(SpoolError::io("sync folder", &room.keys()))?;
                return Ok(KeyClaim::Ours(KeyLock(file)));
            }
            // We have the lock, so a draft that is still there was left by a sender that died.
            self.discard_remnant(room, record.id)?;
            if room.id(record.id).symlink_metadata().is_ok() {
                return Ok(KeyClaim::UsedBy(record.id));
            }
        }
        write(&mut file, &Record { id: envelope.id, at: now }).map_err(SpoolError::io("write", &path))?;
        durable::sync_folder(&room.keys()).map_err(SpoolError::io("sync folder", &room.keys()))?;
        Ok(KeyClaim::Ours(KeyLock(file)))
    }

    /// Removes a key's file if the key's window is over. Says whether it did.
    pub(super) fn prune_key(&self, path: &PathBuf, now: Timestamp) -> io::Result<Removed> {
        let mut file = match OpenOptions::new().read(true).open(path) {
            Ok(file) => file,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Removed::WasGone),
            Err(fault) => return Err(fault),
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || !is_at(&file, path)? {
            return Ok(Removed::WasGone);
        }
        match read(&mut file)? {
            Some(record) if now < record.at + self.limits().key_window => Ok(Removed::WasGone),
            Some(_) | None => durable::remove(path),
        }
    }
}

/// Opens a key's file and waits for its lock; makes sure that the file was not removed meanwhile.
fn open_locked(path: &Path) -> io::Result<File> {
    for _ in 0..RACES_MAX {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the key's file was removed at every try"))
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match path.symlink_metadata() {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Reads a record; one that was cut off by a crash is none, for its envelope was not delivered yet.
fn read(file: &mut File) -> io::Result<Option<Record>> {
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(std::str::from_utf8(&bytes).ok().and_then(Record::parse))
}

fn write(file: &mut File, record: &Record) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{} {}\n", record.id, record.at.as_millis()).as_bytes())?;
    file.sync_all()
}
