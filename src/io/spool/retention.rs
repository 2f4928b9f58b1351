//! Clearing away: ended envelopes by age and number, keys and ids whose window is over, drafts of writers that died.

use std::io;
use std::path::Path;

use crate::model::envelope::EnvelopeKind;
use crate::model::id::EnvelopeId;
use crate::model::time::Timestamp;

use super::dead::{is_reason, letter_of, reason_path};
use super::disk::{Kind, Stat};
use super::durable::Removed;
use super::fault::SpoolError;
use super::history;
use super::load::{Loaded, load};
use super::name::{BadName, EndedName, Folder};
use super::usage::room_for;
use super::{Room, Spool};

/// What one sweep did. Nothing but expired messages is moved; everything else is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Messages that nobody took in time; they are dead letters now.
    pub expired: usize,
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
        let limits = self.limits();
        for mailbox in self.mailboxes()? {
            let room = self.room(&mailbox);
            swept.expired += self.expire(&mailbox, now)?;
            swept.done += self.sweep_ended(&room, Folder::Done, limits.done_bytes_max, self.left(swept), now)?;
            swept.dead += self.sweep_ended(&room, Folder::Dead, limits.dead_bytes_max, self.left(swept), now)?;
            swept.records += self.sweep_records(&room, self.left(swept), now)?;
            swept.drafts += self.sweep_drafts(&room, self.left(swept), now)?;
            swept.records += self.sweep_counters(&room, self.left(swept), now)?;
        }
        self.measure(now)?;
        Ok(swept)
    }

    /// Removes acknowledged messages, the oldest of each mailbox first, whatever their age: whoever has something to say
    /// now matters more. Returns how many were removed.
    pub(super) fn sweep_for_room(&self, now: Timestamp) -> Result<usize, SpoolError> {
        let mut swept = Swept::default();
        for mailbox in self.mailboxes()? {
            swept.done += self.sweep_ended(&self.room(&mailbox), Folder::Done, 0, self.left(swept), now)?;
        }
        Ok(swept.done)
    }

    fn left(&self, swept: Swept) -> usize {
        self.shared.limits.sweep_removals_max.saturating_sub(swept.total())
    }

    fn sweep_ended(
        &self,
        room: &Room,
        folder: Folder,
        bytes_max: u64,
        left: usize,
        now: Timestamp,
    ) -> Result<usize, SpoolError> {
        let limits = self.limits();
        let (age_max, count_max) = match folder {
            Folder::Dead => (limits.dead_age_max, limits.dead_envelopes_max),
            Folder::Done | Folder::New | Folder::Later | Folder::Leased => {
                (limits.done_age_max, limits.done_envelopes_max)
            }
        };
        let mut ended = list_ended(room, folder)?;
        ended.sort_by(|a, b| (b.ended_at, &b.name).cmp(&(a.ended_at, &a.name)));
        let mut newest_bytes = 0_u64;
        let is_over: Vec<bool> = ended
            .iter()
            .enumerate()
            .map(|(newer, candidate)| {
                let facts = room.disk.stat(&room.file(folder, &candidate.name));
                newest_bytes = newest_bytes.saturating_add(facts.map_or(0, |facts| room_for(facts.bytes)));
                newer >= count_max || newest_bytes > bytes_max
            })
            .collect();
        let mut removed = 0;
        // From the oldest on, so that a sweep that reaches its bound has removed the right ones.
        for (candidate, is_over) in ended.iter().zip(is_over).rev() {
            if removed == left {
                break;
            }
            let is_old = candidate.ended_at + age_max <= now;
            if !is_old && !is_over {
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

    /// Says whether something is too young to go for its number or size alone: work orders and reports are looked up again.
    fn is_record_to_keep(&self, room: &Room, folder: Folder, candidate: &Ended, now: Timestamp) -> bool {
        if candidate.ended_at + self.limits().record_age_min <= now {
            return false;
        }
        let path = room.file(folder, &candidate.name);
        match load(room, &path, self.limits().envelope_bytes_max) {
            Ok(Loaded::Good(envelope)) => match envelope.kind {
                EnvelopeKind::WorkOrder | EnvelopeKind::Report => true,
                EnvelopeKind::Message => false,
            },
            Ok(Loaded::Bad(_) | Loaded::Gone) => false,
            Ok(Loaded::Unread(_)) | Err(_) => true,
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
        let is_folder = room.disk.stat(&path).is_ok_and(|facts| facts.kind == Kind::Folder);
        let gone = if is_folder { room.disk.remove_tree(&path) } else { room.disk.remove(&path).map(drop) };
        gone.map_err(SpoolError::io("remove", &path))?;
        let reason = reason_path(&path);
        room.disk.remove(&reason).map_err(SpoolError::io("remove", &reason))?;
        if let Some(id) = id {
            let history = history::path(room, id);
            room.disk.remove(&history).map_err(SpoolError::io("remove", &history))?;
            self.forget(room, id, now).map_err(SpoolError::io("forget", &room.id(id)))?;
        }
        Ok(())
    }

    /// Forgets an id whose envelope is gone; within the window an empty file goes on remembering it.
    fn forget(&self, room: &Room, id: EnvelopeId, now: Timestamp) -> io::Result<()> {
        let path = room.id(id);
        match room.disk.stat(&path) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(fault) => Err(fault),
            Ok(facts) if facts.written_at + self.limits().key_window <= now => room.disk.remove(&path).map(drop),
            Ok(_) => room.replace(&id, &path, b""),
        }
    }

    fn sweep_records(&self, room: &Room, left: usize, now: Timestamp) -> Result<usize, SpoolError> {
        let limits = self.limits();
        let mut removed = self.sweep_folder(room, &room.keys(), left, |path, _| self.prune_key(room, path, now))?;
        removed += self.sweep_folder(room, &room.ids(), left - removed, |path, facts| {
            // The second link is the envelope itself, so an id with one link has none any more.
            remove_if(room, facts.links == 1 && facts.written_at + limits.key_window <= now, path)
        })?;
        removed += self.sweep_folder(room, &room.history(), left - removed, |path, facts| {
            remove_if(room, facts.written_at + limits.dead_age_max <= now, path)
        })?;
        removed += self.sweep_folder(room, &room.folder(Folder::Dead), left - removed, |path, facts| {
            let is_orphan = match letter_of(path).filter(|_| path.file_name().is_some_and(is_reason)) {
                Some(letter) => room.disk.find(&letter)?.is_none(),
                None => false,
            };
            remove_if(room, is_orphan && facts.written_at + limits.draft_age_max <= now, path)
        })?;
        Ok(removed)
    }

    fn sweep_drafts(&self, room: &Room, left: usize, now: Timestamp) -> Result<usize, SpoolError> {
        self.sweep_folder(room, &room.tmp(), left, |path, facts| {
            if facts.written_at + self.limits().draft_age_max > now {
                return Ok(Removed::WasGone);
            }
            // The id first: while it is taken, a missing draft would mean that the envelope was delivered.
            let id = path.file_name().and_then(|name| name.to_str()?.split('.').next()?.parse().ok());
            if let Some(entry) = id.map(|id| room.id(id))
                && room.disk.find(&entry)?.is_some_and(|entry| entry.identity == facts.identity)
            {
                room.disk.remove(&entry)?;
            }
            room.disk.remove(path)
        })
    }

    /// Offers every file of a folder for removal, up to a number of removals.
    fn sweep_folder(
        &self,
        room: &Room,
        folder: &Path,
        left: usize,
        sweep: impl Fn(&Path, &Stat) -> io::Result<Removed>,
    ) -> Result<usize, SpoolError> {
        let mut removed = 0;
        for name in room.disk.visible_names(folder).map_err(SpoolError::io("list", folder))? {
            if removed == left {
                break;
            }
            let path = folder.join(name);
            let Ok(facts) = room.disk.stat(&path) else { continue };
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
    let names = room.disk.visible_names(&path).map_err(SpoolError::io("list", &path))?;
    let ended = |name: &str| {
        let (ended_at, id) = match EndedName::parse(name) {
            Some(name) => (name.ended_at, Some(name.stem.id)),
            None => (BadName::parse(name)?.ended_at, None),
        };
        Some(Ended { ended_at, name: name.to_owned(), id })
    };
    Ok(names.iter().filter_map(|name| ended(name.to_str()?)).collect())
}

fn remove_if(room: &Room, condition: bool, path: &Path) -> io::Result<Removed> {
    if condition { room.disk.remove(path) } else { Ok(Removed::WasGone) }
}
