//! What happened to an envelope besides being delivered and ended: `history/ID.jsonl`, one line per event.
//!
//! It is for people. It is written by whoever does the step, after it, not synced, and never decides anything.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::disk::Content;
use super::holder::Holder;
use super::{Room, Spool};

/// How much of a history is read, in bytes.
const HISTORY_BYTES_MAX: usize = 256 * 1024;

/// One event in the life of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it happened.
    pub at: Timestamp,
    /// In which attempt.
    pub attempt: u32,
    /// Who held the envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// What happened.
    pub what: Happening,
    /// Why, in the words of who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The envelope that answers this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<EnvelopeId>,
}

impl Note {
    /// Builds a note that names nobody.
    #[must_use]
    pub const fn new(at: Timestamp, attempt: u32, what: Happening) -> Self {
        Self { at, attempt, holder: None, what, reason: None, reply: None }
    }

    /// Names the holder.
    #[must_use]
    pub fn by(self, holder: &Holder) -> Self {
        Self { holder: Some(holder.clone()), ..self }
    }
}

/// What can happen to an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// The lease ended without an answer.
    Expired,
    /// The holder gave it back.
    Nacked,
    /// Somebody took it out of `dead/`.
    Requeued,
    /// The holder handed it to the agent's program.
    Submitted,
    /// Somebody sent an answer to it.
    Answered,
    /// The holder acknowledged it with work whose checks had passed.
    Verified,
}

impl Spool {
    /// Adds a line to the history of an envelope, for its sender and for people.
    pub fn record(&self, mailbox: &Mailbox, id: EnvelopeId, note: &Note) {
        self.note(&self.room(mailbox), id, note);
    }

    /// Adds a line to an envelope's history; a failure is logged and changes nothing.
    pub(super) fn note(&self, room: &Room, id: EnvelopeId, note: &Note) {
        let path = path(room, id);
        let append = || -> io::Result<()> {
            let mut line = serde_json::to_vec(note)?;
            line.push(b'\n');
            room.disk.append(&path, &line)
        };
        if let Err(fault) = append() {
            self.complain(&path, &fault);
        }
    }
}

/// Reads an envelope's history as far as it can be read.
pub(super) fn read(room: &Room, id: EnvelopeId) -> Vec<Note> {
    match room.disk.read(&path(room, id), HISTORY_BYTES_MAX) {
        Ok(Content::Whole(text) | Content::Cut(text)) => {
            text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
        }
        Ok(Content::NotAFile) | Err(_) => Vec::new(),
    }
}

/// Returns the file of an envelope's history.
pub(super) fn path(room: &Room, id: EnvelopeId) -> PathBuf {
    room.history().join(format!("{id}.jsonl"))
}
