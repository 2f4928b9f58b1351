//! Sequence numbers: what the same start of a sender sends to a mailbox is numbered 1, 2, 3, …, and no number comes twice.
//!
//! The counter is the name of an empty hidden file in `new/`: `.seq~WHO~NUMBER~ID`, the number and id sent last. It is
//! renamed just before the envelope is, in the same folder, so the one sync of that folder that the delivery needs anyway
//! puts both on the disk: numbering costs no flush. A file system that keeps the order of renames can lose both, or
//! the envelope alone, but never the counter alone; so a power cut may leave a gap and never a repeated number.
//!
//! `seq/WHO` is the lock that the processes of one sender share, and remembers the counter's name so that nobody has to
//! list `new/` for it; what it remembers is believed only if a file of that name is there. The lock is held until the
//! envelope is delivered, and the id is made greater than the one before: numbers, ids and deliveries have one order.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::envelope::Envelope;
use crate::model::id::{EnvelopeId, Incarnation};
use crate::model::time::Timestamp;

use super::deliver::Delivered;
use super::disk::{Content, Wait};
use super::durable::Removed;
use super::fault::SpoolError;
use super::file::hex_digest;
use super::name::Folder;
use super::{Room, Spool};

/// Begins the name of a counter.
const MARK: &str = ".seq~";

/// How many senders, each start counted, one mailbox numbers for; who comes later sends without numbers.
const SENDERS_MAX: usize = 10_000;

/// How long a file in `seq/` may be, in bytes; a longer one is not ours.
const MEMO_BYTES_MAX: usize = 1_024;

/// How far the last id may lie in the future and still be kept to: a clock that ran ahead must not rule for ever.
const LEAD_MAX: Duration = Duration::from_hours(1);

/// In which pieces of time messages are counted, to tell a flood.
const WINDOW: Duration = Duration::from_secs(10);

/// After this an older start of a sender, which is followed by a newer one, is forgotten.
pub(super) const COUNTER_AGE_MAX: Duration = Duration::from_hours(30 * 24);

/// The last number that was given, and the id that it went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Count {
    number: u64,
    id: EnvelopeId,
}

/// One start of a sender as one mailbox knows it.
struct Counter<'r> {
    room: &'r Room,
    who: String,
    /// Kept open for its lock.
    memo: File,
    last: Option<Count>,
    window: Window,
}

impl Spool {
    /// Says how many messages the same start of a sender has sent to the envelope's mailbox in the last moments, as far
    /// as it numbers them.
    pub(super) fn sent_lately(&self, envelope: &Envelope, now: Timestamp) -> u64 {
        let room = self.room(&envelope.to);
        let path = room.seq().join(who(&envelope.from, envelope.from_incarnation));
        Memo::read(&room, &path).map_or(0, |memo| memo.window.lately(now))
    }

    /// Delivers a message as [`Spool::deliver`] does, with the next number of its sender, and an id that is greater than
    /// that of the number before. The number and the id are written into the envelope.
    ///
    /// Numbers may have gaps: after a crash, after an error, and where an envelope was accepted before.
    ///
    /// # Errors
    /// As [`Spool::deliver`].
    pub fn deliver_numbered(
        &self,
        envelope: &mut Envelope,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Delivered, SpoolError> {
        self.ensure(&envelope.to)?;
        let room = self.room(&envelope.to);
        let Some(mut counter) = Counter::open(&room, &envelope.from, envelope.from_incarnation)? else {
            envelope.seq = None;
            return self.deliver(envelope, not_before, now);
        };
        let before = counter.last;
        envelope.id = counter.id_after(envelope.id, now);
        envelope.seq = Some(counter.step(envelope.id)?);
        if not_before.is_some_and(|time| time > now) {
            // The delivery will sync another folder than the one in which the counter lies.
            let folder = room.folder(Folder::New);
            room.disk.sync_folder(&folder).map_err(SpoolError::io("sync folder", &folder))?;
        }
        let delivered = self.deliver_fresh(envelope, not_before, now);
        let is_unused = match &delivered {
            Ok(Delivered::New) => false,
            Ok(Delivered::Already { .. }) => true,
            Err(fault) => fault.is_refusal_of_sender(),
        };
        if is_unused {
            // Nobody has seen the number: it goes to the next one.
            counter.put_back(before);
        }
        if !is_unused {
            counter.window = counter.window.and_one_more(now);
        }
        counter.remember(&envelope.from, envelope.from_incarnation);
        delivered
    }

    /// Forgets the counters of starts that are long over and were followed by newer ones. Returns how many.
    pub(super) fn sweep_counters(&self, room: &Room, left: usize, now: Timestamp) -> Result<usize, SpoolError> {
        let mut newest = std::collections::BTreeMap::new();
        let mut memos = Vec::new();
        let folder = room.seq();
        for name in room.disk.visible_names(&folder).map_err(SpoolError::io("list", &folder))? {
            let Some(who) = name.to_str() else { continue };
            let path = folder.join(who);
            let Some(memo) = Memo::read(room, &path) else { continue };
            let best = newest.entry(memo.from.clone()).or_insert(memo.incarnation);
            *best = (*best).max(memo.incarnation);
            memos.push((path, memo));
        }
        let mut removed = 0;
        for (path, memo) in memos {
            let is_over = newest.get(&memo.from).is_some_and(|newest| memo.incarnation < *newest);
            let is_old = room.disk.stat(&path).is_ok_and(|facts| facts.written_at + COUNTER_AGE_MAX <= now);
            if removed == left || !is_over || !is_old {
                continue;
            }
            let Ok(Some(_lock)) = room.disk.lock(&path, Wait::Never) else { continue };
            let counter = room.folder(Folder::New).join(&memo.counter);
            let gone = room.disk.remove(&counter).and_then(|_| room.disk.remove(&path));
            match gone {
                Ok(Removed::Yes) => removed += 1,
                Ok(Removed::WasGone) => {}
                Err(fault) => self.complain(&path, &fault),
            }
        }
        Ok(removed)
    }
}

impl<'r> Counter<'r> {
    /// Locks a sender's counter and finds out where it stands; `None` if the mailbox knows too many senders.
    fn open(room: &'r Room, from: &str, incarnation: Incarnation) -> Result<Option<Self>, SpoolError> {
        let who = who(from, incarnation);
        let path = room.seq().join(&who);
        let is_known = room.disk.is_there(&path);
        if !is_known {
            room.disk.make_folder(&room.seq()).map_err(SpoolError::io("make folder", &room.seq()))?;
            let known = room.disk.names(&room.seq()).map_err(SpoolError::io("list", &room.seq()))?;
            if known.len() >= SENDERS_MAX {
                return Ok(None);
            }
        }
        let locked = room.disk.lock(&path, Wait::Forever).map_err(SpoolError::io("lock", &path))?;
        let memo = locked.ok_or_else(|| SpoolError::io("lock", &path)(io::ErrorKind::ResourceBusy.into()))?;
        let mut counter = Self { room, who, memo, last: None, window: Window::default() };
        let remembered = Memo::read(room, &path);
        counter.window = remembered.as_ref().map(|memo| memo.window).unwrap_or_default();
        counter.last = counter.find(remembered)?;
        Ok(Some(counter))
    }

    fn find(&self, memo: Option<Memo>) -> Result<Option<Count>, SpoolError> {
        let new = self.room.folder(Folder::New);
        let remembered = memo.and_then(|memo| self.parse(&memo.counter));
        if let Some(count) = remembered
            && self.room.disk.is_there(&self.path(count))
        {
            return Ok(Some(count));
        }
        // A new sender, or a power cut took back what was remembered. This is the only time that `new/` is listed.
        let names = self.room.disk.names(&new).map_err(SpoolError::io("list", &new))?;
        Ok(names.iter().filter_map(|name| self.parse(name.to_str()?)).max())
    }

    fn parse(&self, name: &str) -> Option<Count> {
        let (number, id) = name.strip_prefix(MARK)?.strip_prefix(&self.who)?.strip_prefix('~')?.split_once('~')?;
        Some(Count { number: number.parse().ok()?, id: id.parse().ok()? })
    }

    fn name(&self, Count { number, id }: Count) -> String {
        format!("{MARK}{}~{number}~{id}", self.who)
    }

    fn path(&self, count: Count) -> PathBuf {
        self.room.folder(Folder::New).join(self.name(count))
    }

    /// Returns the id itself if it is greater than the last one, else the one after the last.
    fn id_after(&self, id: EnvelopeId, now: Timestamp) -> EnvelopeId {
        let Some(last) = self.last.map(|last| last.id).filter(|last| *last >= id) else { return id };
        let lead = i64::try_from(last.0.timestamp_ms()).unwrap_or(i64::MAX);
        if Timestamp::from_millis(lead) > now + LEAD_MAX {
            return id;
        }
        u128::from(last.0).checked_add(1).map_or(id, |next| EnvelopeId(next.into()))
    }

    /// Gives the next number to an id.
    fn step(&mut self, id: EnvelopeId) -> Result<u64, SpoolError> {
        let next = Count { number: self.last.map_or(1, |last| last.number + 1), id };
        let path = self.path(next);
        let stepped = match self.last {
            Some(last) => self.room.disk.rename_over(&self.path(last), &path),
            None => self.room.disk.create(&path, b"").map(drop),
        };
        stepped.map_err(SpoolError::io("count in", &path))?;
        self.last = Some(next);
        Ok(next.number)
    }

    fn put_back(&mut self, before: Option<Count>) {
        let Some(last) = self.last else { return };
        let put_back = match before {
            Some(before) => self.room.disk.rename_over(&self.path(last), &self.path(before)),
            None => self.room.disk.unlink(&self.path(last)),
        };
        if put_back.is_ok() {
            self.last = before;
        }
    }

    /// Remembers where the counter stands. Failing costs the next sender a look into `new/`.
    fn remember(&self, from: &str, incarnation: Incarnation) {
        let Some(last) = self.last else { return };
        let Window { since, count, before } = self.window;
        let window = format!("{} {count} {before}", since.as_millis());
        let text = format!("{}\n{incarnation}\n{window}\n{from}\n", self.name(last));
        let path = self.room.seq().join(&self.who);
        if let Err(fault) = self.room.disk.overwrite(&path, &self.memo, text.as_bytes()) {
            tracing::debug!(path = %path.display(), %fault, "where the counter stands is not remembered");
        }
    }
}

/// What a file in `seq/` remembers: the counter's name, and whose it is.
struct Memo {
    counter: String,
    incarnation: Incarnation,
    window: Window,
    from: String,
}

/// How many messages were sent in the present window of time, and in the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    since: Timestamp,
    count: u64,
    before: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { since: Timestamp::EPOCH, count: 0, before: 0 }
    }
}

impl Window {
    /// Moves on to the window in which a time lies.
    fn at(self, now: Timestamp) -> Self {
        if now < self.since {
            // The clock was set back.
            Self { since: now, count: 0, before: 0 }
        } else if now < self.since + WINDOW {
            self
        } else if now < self.since + 2 * WINDOW {
            Self { since: self.since + WINDOW, count: 0, before: self.count }
        } else {
            Self { since: now, count: 0, before: 0 }
        }
    }

    fn and_one_more(self, now: Timestamp) -> Self {
        let window = self.at(now);
        Self { count: window.count + 1, ..window }
    }

    fn lately(self, now: Timestamp) -> u64 {
        let window = self.at(now);
        window.count.max(window.before)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let since = Timestamp::from_millis(parts.next()?.parse().ok()?);
        Some(Self { since, count: parts.next()?.parse().ok()?, before: parts.next()?.parse().ok()? })
    }
}

/// Names one start of a sender, whatever characters it is written with.
fn who(from: &str, incarnation: Incarnation) -> String {
    let mut who = hex_digest(serde_json::json!([from, incarnation]).to_string().as_bytes());
    who.truncate(16);
    who
}

impl Memo {
    fn read(room: &Room, path: &std::path::Path) -> Option<Self> {
        let Ok(Content::Whole(bytes)) = room.disk.read(path, MEMO_BYTES_MAX) else { return None };
        let text = String::from_utf8(bytes).ok()?;
        let (counter, rest) = text.split_once('\n')?;
        let (incarnation, rest) = rest.split_once('\n')?;
        let (window, from) = rest.split_once('\n')?;
        Some(Self {
            counter: counter.to_owned(),
            incarnation: Incarnation(incarnation.parse().ok()?),
            window: Window::parse(window)?,
            from: from.strip_suffix('\n')?.to_owned(),
        })
    }
}
