//! Clearing away: ended envelopes by age and number, keys and ids whose window is over, drafts of writers that died.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::envelope::EnvelopeKind;
use crate::model::id::EnvelopeId;
use crate::model::time::Timestamp;

use super::dead::{is_reason, letter_of, reason_path};
use super::durable::{self, Removed};
use super::fault::SpoolError;
use super::history;
use super::load::{Loaded, load};
use super::name::{BadName, EndedName, Folder};
use super::{Room, Spool};

/// What one sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Acknowledged envelopes.
    pub done: usize,
    /// Dead letters.
    pub dead: usize,
    /// Idempotency keys, remembered ids, histories and reasons that nothing belongs to any more.
    pub records: usize,
    /// Drafts of writers that died.
    pub drafts: usize,
}

impl Swept {
    const fn total(self) -> usize {
        self.done + self.dead + self.records + self.drafts
    }
}

/// Something that has ended.
struct Ended {
    ended_at: Timestamp,
    name: String,
    id: Option<EnvelopeId>,
}

impl Spool {
    /// Clears away what the limits no longer keep, in all mailboxes, a bounded number of files.
    ///
    /// Waiting and leased envelopes are never touched, and the ids and keys of what is cleared away stay known for
    /// their window. A file that cannot be removed is left with a warning.
    ///
    /// # Errors
    /// Fails if a folder cannot be read.
    pub fn sweep_retention(&self, now: Timestamp) -> Result<Swept, SpoolError> {
        let mut swept = Swept::default();
        for mailbox in self.mailboxes()? {
            let room = self.room(&mailbox);
            swept.done += self.sweep_ended(&room, Folder::Done, self.left(swept), now)?;
            swept.dead += self.sweep_ended(&room, Folder::Dead, self.left(swept), now)?;
            swept.records += self.sweep_records(&room, self.left(swept), now)?;
            swept.drafts += self.sweep_drafts(&room, self.left(swept), now)?;
        }
        Ok(swept)
    }

    fn left(&self, swept: Swept) -> usize {
        self.shared.limits.sweep_removals_max.saturating_sub(swept.total())
    }

    fn sweep_ended(&self, room: &Room, folder: Folder, left: usize, now: Timestamp) -> Result<usize, SpoolError> {
        let limits = self.limits();
        let (age_max, count_max) = match folder {
            Folder::Dead => (limits.dead_age_max, limits.dead_envelopes_max),
            Folder::Done | Folder::New | Folder::Later | Folder::Leased => {
                (limits.done_age_max, limits.done_envelopes_max)
            }
        };
        let mut ended = list_ended(room, folder)?;
        ended.sort_by(|a, b| (b.ended_at, &b.name).cmp(&(a.ended_at, &a.name)));
        let mut removed = 0;
        // From the oldest on, so that a sweep that reaches its bound has removed the right ones.
        for (newer, candidate) in ended.iter().enumerate().rev() {
            if removed == left {
                break;
            }
            let is_old = candidate.ended_at + age_max <= now;
            if !is_old && newer < count_max {
                break;
            }
            if !is_old && self.is_record_to_keep(room, folder, candidate, now) {
                continue;
            }
            match self.remove_ended(room, folder, &candidate.name, candidate.id, now) {
                Ok(()) => removed += 1,
                Err(fault) => self.complain(&room.file(folder, &candidate.name), &fault),
            }
        }
        Ok(removed)
    }

    /// Says whether something is too young to go for its number alone: work orders and reports are looked up again.
    fn is_record_to_keep(&self, room: &Room, folder: Folder, candidate: &Ended, now: Timestamp) -> bool {
        if candidate.ended_at + self.limits().record_age_min <= now {
            return false;
        }
        let path = room.file(folder, &candidate.name);
        match load(&path, &room.mailbox, self.limits().envelope_bytes_max) {
            Ok(Loaded::Good(envelope)) => match envelope.kind {
                EnvelopeKind::WorkOrder | EnvelopeKind::Report => true,
                EnvelopeKind::Message => false,
            },
            Ok(Loaded::Bad(_) | Loaded::Gone) => false,
            Err(_) => true,
        }
    }

    /// Removes an ended envelope with all that belongs to it.
    pub(super) fn remove_ended(
        &self,
        room: &Room,
        folder: Folder,
        name: &str,
        id: Option<EnvelopeId>,
        now: Timestamp,
    ) -> Result<(), SpoolError> {
        let path = room.file(folder, &name);
        let is_folder = path.symlink_metadata().is_ok_and(|facts| facts.is_dir());
        let gone = if is_folder { std::fs::remove_dir_all(&path) } else { durable::remove(&path).map(drop) };
        gone.map_err(SpoolError::io("remove", &path))?;
        let reason = reason_path(&path);
        durable::remove(&reason).map_err(SpoolError::io("remove", &reason))?;
        if let Some(id) = id {
            let history = history::path(room, id);
            durable::remove(&history).map_err(SpoolError::io("remove", &history))?;
            self.forget(room, id, now).map_err(SpoolError::io("forget", &room.id(id)))?;
        }
        Ok(())
    }

    /// Forgets an id whose envelope is gone; within the window an empty file goes on remembering it.
    fn forget(&self, room: &Room, id: EnvelopeId, now: Timestamp) -> io::Result<()> {
        let path = room.id(id);
        match path.symlink_metadata() {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(fault) => Err(fault),
            Ok(facts) if written_at(&facts) + self.limits().key_window <= now => durable::remove(&path).map(drop),
            Ok(_) => room.replace(&id, &path, b""),
        }
    }

    fn sweep_records(&self, room: &Room, left: usize, now: Timestamp) -> Result<usize, SpoolError> {
        let limits = self.limits();
        let mut removed = self.sweep_folder(&room.keys(), left, |path, _| self.prune_key(&path.to_owned(), now))?;
        removed += self.sweep_folder(&room.ids(), left - removed, |path, facts| {
            // The second link is the envelope itself, so an id with one link has none any more.
            remove_if(facts.nlink() == 1 && written_at(facts) + limits.key_window <= now, path)
        })?;
        removed += self.sweep_folder(&room.history(), left - removed, |path, facts| {
            remove_if(written_at(facts) + limits.dead_age_max <= now, path)
        })?;
        removed += self.sweep_folder(&room.folder(Folder::Dead), left - removed, |path, facts| {
            let is_orphan = path.file_name().is_some_and(is_reason)
                && letter_of(path).is_some_and(|letter| letter.symlink_metadata().is_err());
            remove_if(is_orphan && written_at(facts) + limits.draft_age_max <= now, path)
        })?;
        Ok(removed)
    }

    fn sweep_drafts(&self, room: &Room, left: usize, now: Timestamp) -> Result<usize, SpoolError> {
        self.sweep_folder(&room.tmp(), left, |path, facts| {
            if written_at(facts) + self.limits().draft_age_max > now {
                return Ok(Removed::WasGone);
            }
            // The id first: while it is taken, a missing draft would mean that the envelope was delivered.
            let id = path.file_name().and_then(|name| name.to_str()?.split('.').next()?.parse().ok());
            if let Some(entry) = id.map(|id| room.id(id))
                && entry.symlink_metadata().is_ok_and(|entry| (entry.dev(), entry.ino()) == (facts.dev(), facts.ino()))
            {
                durable::remove(&entry)?;
            }
            durable::remove(path)
        })
    }

    /// Offers every file of a folder for removal, up to a number of removals.
    fn sweep_folder(
        &self,
        folder: &Path,
        left: usize,
        sweep: impl Fn(&Path, &Metadata) -> io::Result<Removed>,
    ) -> Result<usize, SpoolError> {
        let mut removed = 0;
        for name in durable::names(folder).map_err(SpoolError::io("list", folder))? {
            if removed == left {
                break;
            }
            let path = folder.join(name);
            let Ok(facts) = path.symlink_metadata() else { continue };
            match sweep(&path, &facts) {
                Ok(Removed::Yes) => removed += 1,
                Ok(Removed::WasGone) => {}
                Err(fault) => self.complain(&path, &fault),
            }
        }
        Ok(removed)
    }
}

fn list_ended(room: &Room, folder: Folder) -> Result<Vec<Ended>, SpoolError> {
    let path = room.folder(folder);
    let names = durable::names(&path).map_err(SpoolError::io("list", &path))?;
    let ended = |name: &str| {
        let (ended_at, id) = match EndedName::parse(name) {
            Some(name) => (name.ended_at, Some(name.stem.id)),
            None => (BadName::parse(name)?.ended_at, None),
        };
        Some(Ended { ended_at, name: name.to_owned(), id })
    };
    Ok(names.iter().filter_map(|name| ended(name.to_str()?)).collect())
}

fn written_at(facts: &Metadata) -> Timestamp {
    Timestamp::from_millis(facts.mtime().saturating_mul(1_000))
}

fn remove_if(condition: bool, path: &Path) -> io::Result<Removed> {
    if condition { durable::remove(path) } else { Ok(Removed::WasGone) }
}
