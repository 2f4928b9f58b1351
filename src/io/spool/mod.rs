//! The spool: mailboxes of durable, acknowledged envelopes as plain files.
//!
//! Folder and file name are the state, every transition is one rename that fails when somebody was quicker, and the
//! content never changes. `docs/spool.md` explains it for people and for programs in other languages.
//!
//! Reading order: [`name`] and [`mod@file`] (the grammar, pure), [`holder`], [`receipt`], [`limits`], [`fault`],
//! [`disk`] (every step on the file system), then what one can do:
//! [`deliver`], [`lease`], [`lessee`], [`settle`] (ack, nack, extend), [`retire`], [`look`], [`dead`], [`retention`].
//!
//! All calls block on the file system, which is reached through [`disk::Disk`] only; time is always passed in.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::fault::with_causes;
use crate::model::id::{EnvelopeId, Mailbox};

use commit::{Commits, Draft};
use disk::{Disk, RealDisk};
use fault::SpoolError;
use limits::Limits;
use memory::Memory;
use name::Folder;
use usage::Bytes;

mod commit;
pub mod dead;
pub mod deliver;
pub mod disk;
mod durable;
pub mod expiry;
pub mod fault;
pub mod file;
mod gate;
pub mod history;
pub mod holder;
mod keys;
pub mod lease;
pub mod lessee;
pub mod limits;
mod line;
pub mod load;
pub mod look;
mod memory;
pub mod name;
mod numbers;
pub mod pace;
mod queue;
pub mod receipt;
pub mod replies;
pub mod retention;
pub mod retire;
pub mod settle;
#[cfg(test)]
mod testing;
pub mod track;
mod usage;
pub mod wait;

/// How often a look or a move is repeated when others are quicker, before it is given up.
const RACES_MAX: usize = 16;

/// How many files one process complains about at most, so that the memory of complaints is bounded.
const COMPLAINTS_MAX: usize = 1_000;

/// A spool: a folder of mailboxes. Clones share what they remember of it.
#[derive(Debug, Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    limits: Limits,
    disk: Arc<dyn Disk>,
    memory: Memory,
    bytes: Bytes,
    commits: Commits,
    complaints: Mutex<BTreeSet<PathBuf>>,
}

impl Spool {
    /// Names the spool in a folder, with the default limits. Touches nothing.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self::with_limits(root, Limits::default())
    }

    /// Names the spool in a folder. Touches nothing.
    #[must_use]
    pub fn with_limits(root: PathBuf, limits: Limits) -> Self {
        Self::with_disk(root, limits, Arc::new(RealDisk::default()))
    }

    /// Names the spool in a folder that is reached through a given disk. Touches nothing.
    #[must_use]
    pub fn with_disk(root: PathBuf, limits: Limits, disk: Arc<dyn Disk>) -> Self {
        let (memory, bytes, complaints) = (Memory::default(), Bytes::default(), Mutex::default());
        let commits = Commits::default();
        Self { shared: Arc::new(Shared { root, limits, disk, memory, bytes, commits, complaints }) }
    }

    /// Returns the spool's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Returns the spool's limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Makes the folders of a mailbox; they are on the disk when this returns.
    ///
    /// # Errors
    /// Fails if a folder cannot be made.
    pub fn ensure(&self, mailbox: &Mailbox) -> Result<(), SpoolError> {
        let room = self.room(mailbox);
        // The last folder made says that all are there.
        if room.disk.is_folder(&room.history()).map_err(SpoolError::io("look at", &room.base))? {
            return Ok(());
        }
        for folder in room.all_folders() {
            if folder == room.history() {
                // Else a crash might leave the last one without those before it.
                room.disk.sync_folder(&room.base).map_err(SpoolError::io("sync folder", &room.base))?;
            }
            room.disk.make_folder(&folder).map_err(SpoolError::io("make folder", &folder))?;
        }
        let above = self.shared.root.parent().filter(|path| !path.as_os_str().is_empty());
        for folder in [Some(room.base.as_path()), Some(self.root()), above].into_iter().flatten() {
            room.disk.sync_folder(folder).map_err(SpoolError::io("sync folder", folder))?;
        }
        Ok(())
    }

    fn room(&self, mailbox: &Mailbox) -> Room {
        Room {
            base: self.shared.root.join(mailbox.as_str()),
            mailbox: mailbox.clone(),
            disk: Arc::clone(&self.shared.disk),
        }
    }

    /// Waits until the names in a folder are on the disk, together with others who wait for it.
    fn sync_folder(&self, folder: &Path) -> Result<(), SpoolError> {
        self.commit_folder(folder).map_err(SpoolError::io("sync folder", folder))
    }

    fn commit_folder(&self, folder: &Path) -> io::Result<()> {
        self.shared.commits.sync_folder(&*self.shared.disk, folder)
    }

    /// Logs, once per file, that something in the spool is left where it is.
    fn complain(&self, path: &Path, fault: &dyn std::error::Error) {
        let mut complaints = self.shared.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < COMPLAINTS_MAX && complaints.insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), fault = %with_causes(fault), "left a file of the spool where it is");
        }
    }
}

/// The paths of one mailbox.
#[derive(Debug)]
struct Room {
    mailbox: Mailbox,
    base: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Room {
    fn folder(&self, folder: Folder) -> PathBuf {
        self.base.join(folder.as_str())
    }

    fn file(&self, folder: Folder, name: &dyn std::fmt::Display) -> PathBuf {
        self.base.join(format!("{folder}/{name}"))
    }

    fn foreign(&self, folder: Folder, name: &OsStr) -> PathBuf {
        self.folder(folder).join(name)
    }

    fn tmp(&self) -> PathBuf {
        self.base.join("tmp")
    }

    fn ids(&self) -> PathBuf {
        self.base.join("ids")
    }

    fn id(&self, id: EnvelopeId) -> PathBuf {
        self.base.join(format!("ids/{id}"))
    }

    /// Returns the file whose lock is the right to look and claim.
    fn lock(&self) -> PathBuf {
        self.base.join("lock")
    }

    /// Returns the file that counts the messages that were slowed.
    fn slowed(&self) -> PathBuf {
        self.base.join(".slowed")
    }

    fn keys(&self) -> PathBuf {
        self.base.join("keys")
    }

    fn history(&self) -> PathBuf {
        self.base.join("history")
    }

    fn ttl(&self) -> PathBuf {
        self.base.join("ttl")
    }

    fn seq(&self) -> PathBuf {
        self.base.join("seq")
    }

    /// Writes a new file in `tmp/` whose name begins with a label, without waiting for the disk.
    fn write_draft(&self, label: &dyn std::fmt::Display, bytes: &[u8]) -> io::Result<Draft> {
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
            let path = self.tmp().join(format!("{label}.{}.{number}", std::process::id()));
            match self.disk.create(&path, bytes) {
                Ok(file) => return Ok(Draft { path, file, number }),
                // Left by a process that died and had our number; each is met once.
                Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Writes a file and puts it at its final path, over what may be there. Its content is on the disk when this
    /// returns, its name is when its folder is synced.
    fn replace(&self, label: &dyn std::fmt::Display, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = self.write_draft(label, bytes)?;
        let replaced =
            self.disk.sync_file(&draft.path, &draft.file).and_then(|()| self.disk.rename_over(&draft.path, path));
        if replaced.is_err() {
            self.disk.remove(&draft.path).ok();
        }
        replaced
    }

    fn all_folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.tmp()];
        folders.extend(Folder::ALL.map(|folder| self.folder(folder)));
        folders.extend([self.ids(), self.keys(), self.history()]);
        folders
    }
}
