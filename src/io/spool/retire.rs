//! The supervisor's way to end an envelope, wherever it is and whoever holds it.

use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::durable::Moved;
use super::fault::SpoolError;
use super::name::{EndedName, Folder};
use super::{RACES_MAX, Spool};

/// How an envelope is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retire {
    /// It is settled.
    Done,
    /// It is given up.
    Dead {
        /// Why, in one line.
        reason: String,
    },
}

/// What [`Spool::retire`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// It was ended, and is on the disk as such.
    Moved {
        /// The folder in which it was.
        from: Folder,
    },
    /// It had ended before.
    Already {
        /// The folder in which it is.
        folder: Folder,
    },
    /// The mailbox has no such envelope.
    Missing,
}

impl Spool {
    /// Takes an envelope out of `new/`, `later/` or `leased/`. A holder's receipt is void from then on.
    ///
    /// # Errors
    /// Fails if the disk does.
    pub fn retire(
        &self,
        mailbox: &Mailbox,
        id: EnvelopeId,
        how: &Retire,
        now: Timestamp,
    ) -> Result<Retired, SpoolError> {
        let room = self.room(mailbox);
        for _ in 0..RACES_MAX {
            let Some(found) = self.locate(mailbox, id)? else { return Ok(Retired::Missing) };
            match found.folder {
                Folder::Done | Folder::Dead => {
                    // Who put it there may have died before its own sync.
                    let folder = room.folder(found.folder);
                    self.sync_folder(&folder)?;
                    return Ok(Retired::Already { folder: found.folder });
                }
                Folder::New | Folder::Later | Folder::Leased => {}
            }
            let ended = EndedName { stem: found.stem(), holder: found.holder.clone(), ended_at: now };
            let moved = match how {
                Retire::Dead { reason } => self.bury(&room, (found.folder, &found.name), ended, reason)?,
                Retire::Done => {
                    let from = room.file(found.folder, &found.name);
                    let to = room.file(Folder::Done, &ended);
                    let moved = room.disk.move_file(&from, &to).map_err(SpoolError::io("end", &from))?;
                    let folder = room.folder(Folder::Done);
                    self.sync_folder(&folder)?;
                    moved
                }
            };
            match moved {
                Moved::Yes => return Ok(Retired::Moved { from: found.folder }),
                Moved::Gone | Moved::Taken => {}
            }
        }
        Err(SpoolError::Restless { mailbox: mailbox.clone(), id })
    }
}
