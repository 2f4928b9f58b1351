//! Waiting for the disk together: threads of one process share waits, in the rounds of a [`Gate`].
//!
//! A wait that fails fails for everybody in its round, and so does a leader that panics: nobody is told that something
//! is on the disk that is not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::disk::Disk;
use super::gate::{Gate, lock};

/// From how many files on one wait for the whole file system is cheaper than one for each of them.
const FILES_SHARED_MIN: usize = 4;

/// A new file whose content is to be on the disk.
#[derive(Debug)]
pub(super) struct Draft {
    /// Where it was opened.
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Grows from draft to draft: one with a smaller number was opened earlier.
    pub(super) number: u64,
}

/// Where those meet who wait for the names of one folder.
type FolderGate = Gate<(), io::Result<()>>;

/// The waits that the threads of a process share.
#[derive(Debug, Default)]
pub(super) struct Commits {
    contents: Gate<Vec<Arc<Draft>>, io::Result<()>>,
    /// One for each folder that was ever synced: a few for each mailbox.
    folders: Mutex<BTreeMap<PathBuf, Arc<FolderGate>>>,
}

impl Commits {
    /// Waits until the contents of files are on the disk.
    pub(super) fn sync_files(&self, disk: &dyn Disk, files: Vec<Arc<Draft>>) -> io::Result<()> {
        let passed = self.contents.pass(files, |round| {
            let count: usize = round.iter().map(Vec::len).sum();
            // What went wrong since a file was opened is told to it, so the one that was opened first asks for all.
            let first = round.iter().flatten().min_by_key(|draft| draft.number);
            if count >= FILES_SHARED_MIN
                && first.is_some_and(|first| disk.sync_file_system(&first.path, &first.file).is_ok())
            {
                return round.iter().map(|_| Ok(())).collect();
            }
            // One by one, so that each learns of its own file.
            let sync = |draft: &Arc<Draft>| disk.sync_file(&draft.path, &draft.file);
            round.iter().map(|drafts| drafts.iter().try_for_each(sync)).collect()
        });
        passed.flatten()
    }

    /// Waits until the names in a folder are on the disk.
    pub(super) fn sync_folder(&self, disk: &dyn Disk, folder: &Path) -> io::Result<()> {
        let gate = Arc::clone(lock(&self.folders).entry(folder.to_owned()).or_default());
        let passed = gate.pass((), |round| {
            let synced = disk.sync_folder(folder);
            round.iter().map(|()| synced.as_ref().copied().map_err(copied)).collect()
        });
        passed.flatten()
    }
}

/// Says to another what one was told: errors of the system cannot be cloned.
pub(super) fn copied(fault: &io::Error) -> io::Error {
    match fault.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(fault.kind(), fault.to_string()),
    }
}
