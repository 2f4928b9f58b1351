//! How full the spool and its mailboxes are, without looking at every file for every message.
//!
//! `.usage` in the spool's folder and in every mailbox holds what was measured, when, and what was added since, by every
//! process. What is taken away is seen by the next measurement only, so the sum errs on the side of too much. Below half of
//! the bound nobody measures; beyond it, a mailbox is counted at most once in [`MEASURE_AGE_MAX`] and the spool added up
//! at most once in [`GROWTH_AGE_MAX`]; before a sender is refused a mailbox is always counted, the spool once in
//! [`REFUSAL_AGE_MAX`]; and the supervisor's sweep measures each time. These files are hints: lost, torn or old ones cost a measurement.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::envelope::{Envelope, EnvelopeKind};
use crate::model::id::EnvelopeId;
use crate::model::time::Timestamp;

use super::disk::{Content, Wait};
use super::fault::SpoolError;
use super::name::Folder;
use super::{Room, Spool};

/// How old a measurement may be while the sum is beyond half of its bound.
const MEASURE_AGE_MAX: Duration = Duration::from_secs(1);

/// How often at most the whole spool is measured because senders are refused.
const REFUSAL_AGE_MAX: Duration = Duration::from_secs(5);

/// How old a measurement of the whole spool may be while it is more than half full.
const GROWTH_AGE_MAX: Duration = Duration::from_mins(1);

/// How long a process may go by what it remembers; what it adds meanwhile is told to the others afterwards.
const MEMORY_AGE_MAX: Duration = Duration::from_secs(1);

/// In what steps file systems give room, in bytes.
const BLOCK_BYTES: u64 = 4_096;

/// The share of a small disk that is kept free: the reserve is never more than this part of it.
const RESERVE_SHARE: u64 = 20;

/// How long `.usage` may be, in bytes; a longer file is not ours.
const RECORD_BYTES_MAX: usize = 100;

/// What was measured, and what came since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    measured: u64,
    at: Timestamp,
    added: u64,
}

impl Record {
    const fn sum(self) -> u64 {
        self.measured.saturating_add(self.added)
    }

    fn is_young(self, now: Timestamp, age_max: Duration) -> bool {
        self.at <= now && now < self.at + age_max
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split(' ');
        let record = Self {
            measured: parts.next()?.parse().ok()?,
            at: Timestamp::from_millis(parts.next()?.parse().ok()?),
            added: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(record)
    }

    fn text(self) -> String {
        format!("{} {} {}\n", self.measured, self.at.as_millis(), self.added)
    }
}

/// What this process knows of the bytes of the spool.
#[derive(Debug, Default)]
pub(super) struct Bytes(Mutex<Option<Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    at: Timestamp,
    sum: u64,
    pending: u64,
}

/// How many bytes a file takes, about.
pub(super) const fn room_for(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

impl Spool {
    /// Refuses messages for which the spool or the disk has no room. Work orders and reports are few, and the work of
    /// everybody hangs on them: for them only a full disk is full.
    /// Those accepted before are never refused.
    pub(super) fn check_bytes(&self, envelopes: &[(&Envelope, usize)], now: Timestamp) -> Result<(), SpoolError> {
        let was_accepted = |(envelope, _): &(&Envelope, usize)| {
            let room = self.room(&envelope.to);
            room.disk.is_there(&room.id(envelope.id))
        };
        match self.has_room(envelopes, now) {
            Err(SpoolError::SpoolFull { .. } | SpoolError::DiskReserve { .. })
                if envelopes.iter().all(was_accepted) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn has_room(&self, envelopes: &[(&Envelope, usize)], now: Timestamp) -> Result<(), SpoolError> {
        let more: u64 = envelopes
            .iter()
            .filter(|(envelope, _)| envelope.kind == EnvelopeKind::Message)
            .map(|(_, bytes)| room_for(*bytes as u64))
            .sum();
        if more == 0 {
            return Ok(());
        }
        self.check_reserve(more)?;
        let max = self.limits().bytes_max;
        let mut known = self.shared.bytes.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = match &mut *known {
            Some(known) if known.at <= now && now < known.at + MEMORY_AGE_MAX && known.sum + more <= max / 2 => {
                known.sum += more;
                known.pending += more;
                return Ok(());
            }
            Some(known) => known.pending,
            None => 0,
        };
        let path = self.root().join(".usage");
        let record = self.shared_record(&path, now, pending, more, max, |again| self.measure_bytes(again, now))?;
        let sum = record.sum();
        *known = Some(Known { at: now, sum, pending: 0 });
        if sum.saturating_add(more) > max {
            let root = self.root().to_owned();
            return Err(SpoolError::SpoolFull { root, bytes: sum, max, measured_at: record.at });
        }
        *known = Some(Known { at: now, sum: sum + more, pending: 0 });
        Ok(())
    }

    fn check_reserve(&self, more: u64) -> Result<(), SpoolError> {
        let reserve = self.limits().disk_reserve;
        if reserve == 0 {
            return Ok(());
        }
        let space = self.shared.disk.space(self.root()).map_err(SpoolError::io("look at the disk of", self.root()))?;
        let reserve = reserve.min(space.total / RESERVE_SHARE);
        if space.free < reserve.saturating_add(more) {
            return Err(SpoolError::DiskReserve { root: self.root().to_owned(), free: space.free, reserve });
        }
        Ok(())
    }

    /// Refuses envelopes that would make a mailbox too full. Those accepted before are never refused.
    pub(super) fn check_count(&self, room: &Room, ids: &[EnvelopeId], now: Timestamp) -> Result<(), SpoolError> {
        let max = self.limits().mailbox_envelopes_max;
        let known = self.shared.memory.of(&room.mailbox);
        if known.count(now).is_some_and(|count| count + ids.len() <= max / 2) {
            known.came(ids.len());
            return Ok(());
        }
        let record = self.count_record(room, now, known.take_pending(), ids.len() as u64)?;
        let waiting = usize::try_from(record.sum()).unwrap_or(usize::MAX);
        known.counts(now, waiting);
        if waiting + ids.len() > max {
            let more = ids.iter().filter(|id| !room.disk.is_there(&room.id(**id))).count();
            if more > 0 && waiting + more > max {
                return Err(SpoolError::MailboxFull { mailbox: room.mailbox.clone(), waiting, max });
            }
        }
        known.counts(now, waiting + ids.len());
        Ok(())
    }

    /// Says how many envelopes wait or are leased in a mailbox, about.
    pub(super) fn waiting_about(&self, room: &Room, now: Timestamp) -> Result<usize, SpoolError> {
        let known = self.shared.memory.of(&room.mailbox);
        if let Some(count) = known.count(now) {
            return Ok(count);
        }
        let record = self.count_record(room, now, known.take_pending(), 0)?;
        let count = usize::try_from(record.sum()).unwrap_or(usize::MAX);
        known.counts(now, count);
        Ok(count)
    }

    fn count_record(&self, room: &Room, now: Timestamp, pending: u64, more: u64) -> Result<Record, SpoolError> {
        let max = self.limits().mailbox_envelopes_max as u64;
        // A listing of names is cheap enough to make sure before anybody is refused.
        self.shared_record(&room.base.join(".usage"), now, pending, more, max, |_| count_waiting(room).map(Some))
    }

    /// Adds what this process has added to what all know, and measures where that is called for.
    fn shared_record(
        &self,
        path: &Path,
        now: Timestamp,
        pending: u64,
        more: u64,
        max: u64,
        measure: impl Fn(Again) -> Result<Option<u64>, SpoolError>,
    ) -> Result<Record, SpoolError> {
        let disk = &self.shared.disk;
        let locked = disk.lock(path, Wait::Forever).map_err(SpoolError::io("lock", path))?;
        let file = locked.ok_or_else(|| SpoolError::io("lock", path)(io::ErrorKind::ResourceBusy.into()))?;
        let found = match disk.read(path, RECORD_BYTES_MAX) {
            Ok(Content::Whole(bytes)) => Record::parse(&bytes),
            Ok(Content::Cut(_) | Content::NotAFile) | Err(_) => None,
        };
        let after = |record: Record| record.sum().saturating_add(more);
        let last = found.map(|found| Record { added: found.added.saturating_add(pending), ..found });
        let again = match last {
            None => Some(Again::First),
            Some(last) if after(last) > max => Some(Again::Refused { last }),
            Some(last) if after(last) > max / 2 && !last.is_young(now, MEASURE_AGE_MAX) => {
                Some(Again::Growing { last })
            }
            Some(_) => None,
        };
        let measured =
            again.map(&measure).transpose()?.flatten().map(|measured| Record { measured, at: now, added: 0 });
        let told = measured.or(last).unwrap_or(Record { measured: 0, at: now, added: pending });
        let mut record = told;
        if after(record) <= max {
            record.added = record.added.saturating_add(more);
        }
        if let Err(fault) = disk.overwrite(path, &file, record.text().as_bytes()) {
            tracing::debug!(path = %path.display(), %fault, "what was added is not remembered");
        }
        Ok(told)
    }

    /// Adds up the files of the spool; where senders would be refused, clears away what nobody needs first.
    fn measure_bytes(&self, again: Again, now: Timestamp) -> Result<Option<u64>, SpoolError> {
        match again {
            Again::First => self.add_up().map(Some),
            // Looking at every file takes a while; half full is not yet full.
            Again::Growing { last } if last.is_young(now, GROWTH_AGE_MAX) => Ok(None),
            Again::Growing { .. } => self.add_up().map(Some),
            Again::Refused { last } if last.is_young(now, REFUSAL_AGE_MAX) => Ok(None),
            Again::Refused { .. } => {
                let removed = self.sweep_for_room(now)?;
                if removed > 0 {
                    tracing::warn!(
                        removed,
                        "the spool is full; acknowledged messages were cleared away before their time"
                    );
                }
                self.add_up().map(Some)
            }
        }
    }

    /// Measures the spool for everybody.
    pub(super) fn measure(&self, now: Timestamp) -> Result<(), SpoolError> {
        let path = self.root().join(".usage");
        let disk = &self.shared.disk;
        let file = match disk.lock(&path, Wait::Forever) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(()),
            // Nothing was ever sent.
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(fault) => return Err(SpoolError::io("lock", &path)(fault)),
        };
        let record = Record { measured: self.add_up()?, at: now, added: 0 };
        disk.overwrite(&path, &file, record.text().as_bytes()).map_err(SpoolError::io("write", &path))
    }

    fn add_up(&self) -> Result<u64, SpoolError> {
        let mut bytes = 0_u64;
        for mailbox in self.mailboxes()? {
            let room = self.room(&mailbox);
            let folders = Folder::ALL.map(|folder| room.folder(folder));
            for folder in folders.iter().chain([&room.tmp(), &room.history()]) {
                for name in room.disk.visible_names(folder).map_err(SpoolError::io("list", folder))? {
                    // What is gone by now takes no room.
                    bytes += room.disk.stat(&folder.join(name)).map_or(0, |facts| room_for(facts.bytes));
                }
            }
        }
        Ok(bytes)
    }
}

/// Why something is measured.
#[derive(Debug, Clone, Copy)]
enum Again {
    /// Nobody knows anything.
    First,
    /// It is more than half full.
    Growing { last: Record },
    /// Somebody would be refused.
    Refused { last: Record },
}

/// Counts what waits or is leased, by names only.
fn count_waiting(room: &Room) -> Result<u64, SpoolError> {
    let mut count = 0;
    for folder in [Folder::New, Folder::Later, Folder::Leased] {
        let path = room.folder(folder);
        count += room.disk.visible_names(&path).map_err(SpoolError::io("list", &path))?.len() as u64;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_nothing_else_is_taken_for_one() {
        let record = Record { measured: 7, at: Timestamp::from_millis(1_795_000_000_000), added: 3 };
        assert_eq!(Record::parse(record.text().as_bytes()), Some(record));
        for text in ["", "7 1795000000000 3", "7 1795000000000\n", "7 1795000000000 3 4\n", "-7 1 3\n", "\u{3042}\n"] {
            assert_eq!(Record::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
