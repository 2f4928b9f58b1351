//! A lessee that stays: it knows what waits in a mailbox without listing it each time, and sleeps until something does.
//!
//! It lists the mailbox once and then follows the changes that the kernel tells. The list is made again every
//! [`SWEEP`], and at once when changes were lost. While changes cannot be followed (no inotify left, a folder that is
//! missing, a file system that tells nothing) it goes by a new list every [`BLIND_SWEEP`]: slower, never stuck.

use std::sync::Arc;
use std::time::Duration;

use crate::io::clock;
use crate::io::inotify::{Change, Folders};
use crate::model::fault::with_causes;
use crate::model::id::Mailbox;
use crate::model::time::Timestamp;
use crate::model::watching::WatchFaults;

use super::Spool;
use super::fault::SpoolError;
use super::holder::Holder;
use super::lease::{Ask, Leased};
use super::memory::{Known, Seen};
use super::name::{Folder, LaterName, LeasedName, Stem};

/// How often the mailbox is listed although nothing seems to have changed.
pub const SWEEP: Duration = Duration::from_secs(30);

/// How often it is listed while changes cannot be followed.
pub const BLIND_SWEEP: Duration = Duration::from_secs(2);

/// The folders that are followed, in the order of their numbers.
const FOLLOWED: [Folder; 3] = [Folder::New, Folder::Leased, Folder::Later];

/// Whether the folders of a mailbox are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Armed {
    /// They were.
    Already,
    /// They are from now on; what came before was not told.
    Now,
    /// They are not.
    Not,
}

/// Tells what changes in a mailbox, as far as that can be had.
#[derive(Debug)]
pub(super) struct Feed {
    folders: Vec<std::path::PathBuf>,
    /// Absent while changes cannot be followed.
    changes: Option<Folders>,
    /// The file system was seen to keep changes to itself.
    is_deaf: bool,
    was_logged: bool,
    swept_at: Option<Timestamp>,
    faults: WatchFaults,
}

impl Feed {
    /// Says whether what is known is kept up to date.
    pub(super) const fn is_live(&self) -> bool {
        self.changes.is_some() && !self.is_deaf
    }

    /// Begins to follow, or goes on to after something was lost.
    fn arm(&mut self) -> Armed {
        let armed = match self.changes.take() {
            Some(changes) => Ok(changes),
            None => Folders::new(self.folders.clone()),
        };
        match armed.and_then(|mut changes| changes.arm().map(|count| (changes, count))) {
            Ok((changes, count)) => {
                self.changes = Some(changes);
                if count == 0 { Armed::Already } else { Armed::Now }
            }
            Err(error) => {
                self.faults.blind += 1;
                self.warn(&format!("a mailbox cannot be followed ({error})"));
                Armed::Not
            }
        }
    }

    fn warn(&mut self, what: &str) {
        if !std::mem::replace(&mut self.was_logged, true) {
            let folder = self.folders.first().map(|folder| folder.display().to_string());
            tracing::warn!(folder, "{what}; it is listed every {} s instead", BLIND_SWEEP.as_secs());
        }
    }

    /// Enters what has changed.
    pub(super) fn tell(&mut self, seen: &mut Seen) {
        let Some(changes) = &mut self.changes else { return };
        let mut is_lost = false;
        let drained = changes.drain(|change| match change {
            Change::Came(folder, name) => enter(seen, FOLLOWED[folder], &name),
            Change::Left(0, name) => {
                if let Some(stem) = name.to_str().and_then(Stem::parse) {
                    seen.went(stem);
                }
            }
            Change::Left(..) => {}
            Change::Lost => is_lost = true,
        });
        if is_lost || drained.is_err() {
            self.faults.lost += 1;
            tracing::warn!(folder = ?self.folders.first(), "changes of a mailbox were lost; it is listed again");
            self.arm();
            seen.lose();
        }
    }

    /// Notes that a list had names that no change had told of.
    pub(super) fn missed(&mut self, count: usize) {
        self.faults.missed += count as u64;
        self.is_deaf = true;
        self.warn("the file system does not tell what changes in a mailbox");
    }

    /// Begins a sweep if it is time.
    fn sweep(&mut self, seen: &mut Seen, now: Timestamp) {
        if self.sweeps_at().is_none_or(|at| at <= now) {
            self.swept_at = Some(now);
            match self.arm() {
                Armed::Already => seen.forget(),
                Armed::Now | Armed::Not => seen.lose(),
            }
        }
    }

    fn sweeps_at(&self) -> Option<Timestamp> {
        Some(self.swept_at? + if self.is_live() { SWEEP } else { BLIND_SWEEP })
    }
}

fn enter(seen: &mut Seen, folder: Folder, name: &std::ffi::OsStr) {
    let Some(name) = name.to_str() else {
        // A foreign name: the next look puts it aside.
        seen.forget();
        return;
    };
    match folder {
        Folder::New => match Stem::parse(name) {
            Some(stem) => seen.line.came(stem),
            None if name.starts_with('.') => {}
            None => seen.forget(),
        },
        Folder::Leased => seen.is_due(LeasedName::parse(name).map(|name| name.until)),
        Folder::Later => seen.is_due(LaterName::parse(name).map(|name| name.not_before)),
        Folder::Done | Folder::Dead => {}
    }
}

/// A long-lived lessee of one mailbox.
#[derive(Debug)]
pub struct Lessee {
    spool: Spool,
    mailbox: Mailbox,
    known: Arc<Known>,
    feed: Feed,
}

impl Lessee {
    /// Begins to follow a mailbox, which is made if it is missing.
    ///
    /// # Errors
    /// Fails if the mailbox cannot be made. That it cannot be followed is no error.
    pub fn new(spool: Spool, mailbox: Mailbox) -> Result<Self, SpoolError> {
        spool.ensure(&mailbox)?;
        let room = spool.room(&mailbox);
        let feed = Feed {
            folders: FOLLOWED.iter().map(|folder| room.folder(*folder)).collect(),
            changes: None,
            is_deaf: false,
            was_logged: false,
            swept_at: None,
            faults: WatchFaults::default(),
        };
        Ok(Self { spool, mailbox, known: Arc::default(), feed })
    }

    /// Leases up to a number of envelopes, as [`Spool::lease_batch`] does, without waiting for any.
    ///
    /// # Errors
    /// As [`Spool::lease`].
    pub fn lease(
        &mut self,
        holder: &Holder,
        count: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Leased>, SpoolError> {
        self.feed.sweep(&mut self.known.seen(), now);
        let ask = Ask { holder: holder.clone(), count, lease, now };
        self.spool.lease_known(&self.known, &mut self.feed, &self.mailbox, &ask)
    }

    /// Leases the next envelope, and waits for it up to a time. Between changes and sweeps it does nothing.
    ///
    /// # Errors
    /// As [`Spool::lease`].
    pub fn next(&mut self, holder: &Holder, lease: Duration, patience: Duration) -> Result<Option<Leased>, SpoolError> {
        let deadline = clock::now() + patience;
        loop {
            let now = clock::now();
            if let Some(leased) = self.lease(holder, 1, lease, now)?.pop() {
                return Ok(Some(leased));
            }
            if deadline <= now {
                return Ok(None);
            }
            self.wait(deadline.since(now), now);
        }
    }

    /// Waits until there may be something to lease, or so long. A change that comes to nothing ends the wait too.
    pub fn wait(&mut self, time: Duration, now: Timestamp) {
        let (is_ready, due) = {
            let seen = self.known.seen();
            (seen.line.first().is_some(), seen.due())
        };
        if is_ready {
            return;
        }
        let sweep = self.feed.sweeps_at().unwrap_or(now);
        let until = (now + time).min(sweep).min(due.unwrap_or(sweep));
        let time = until.since(now);
        let waited = match &self.feed.changes {
            Some(changes) => changes.wait(time),
            None => {
                std::thread::sleep(time);
                Ok(())
            }
        };
        if let Err(fault) = waited {
            tracing::warn!(fault = %with_causes(&fault), mailbox = %self.mailbox, "cannot wait for changes");
            self.feed.changes = None;
            std::thread::sleep(time.min(BLIND_SWEEP));
        }
    }

    /// Says how often something went wrong with following the mailbox.
    #[must_use]
    pub const fn faults(&self) -> WatchFaults {
        self.feed.faults
    }
}
