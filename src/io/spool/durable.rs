//! What the spool makes of the steps of a [`Disk`]: who was quicker, and what is not there.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::disk::{Disk, Kind, Stat};

/// What became of a rename that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// It is done.
    Yes,
    /// The source is gone: somebody was quicker.
    Gone,
    /// The target exists.
    Taken,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// It is gone now.
    Yes,
    /// It was gone before.
    WasGone,
}

impl dyn Disk {
    /// Moves a file to a name that must not exist yet, in one step that other processes see as a whole.
    pub(super) fn move_file(&self, from: &Path, to: &Path) -> io::Result<Moved> {
        match self.try_move(from, to) {
            // The folder itself may have been removed: without this, its envelopes would look taken for ever.
            Ok(Moved::Gone) => match to.parent() {
                Some(folder) if !self.is_there(folder) => {
                    self.make_folder(folder)?;
                    self.try_move(from, to)
                }
                Some(_) | None => Ok(Moved::Gone),
            },
            other => other,
        }
    }

    fn try_move(&self, from: &Path, to: &Path) -> io::Result<Moved> {
        match self.rename_new(from, to) {
            Ok(()) => Ok(Moved::Yes),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(Moved::Gone),
            Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => Ok(Moved::Taken),
            Err(fault) => Err(fault),
        }
    }

    /// Removes a file; it is fine if it is gone already. Says whether it was there.
    pub(super) fn remove(&self, path: &Path) -> io::Result<Removed> {
        match self.unlink(path) {
            Ok(()) => Ok(Removed::Yes),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(Removed::WasGone),
            Err(fault) => Err(fault),
        }
    }

    /// Says whether something is surely there; what cannot be looked at counts as not there.
    pub(super) fn is_there(&self, path: &Path) -> bool {
        self.stat(path).is_ok()
    }

    /// Says what lies at a path, if anything does.
    pub(super) fn find(&self, path: &Path) -> io::Result<Option<Stat>> {
        match self.stat(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Says whether something is a folder, or a link to one.
    pub(super) fn is_folder(&self, path: &Path) -> io::Result<bool> {
        match self.find(&path.join(".")) {
            Ok(found) => Ok(found.is_some_and(|stat| stat.kind == Kind::Folder)),
            Err(fault) if fault.kind() == io::ErrorKind::NotADirectory => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Lists the names in a folder, without hidden ones, in no order. A folder that is missing is empty.
    pub(super) fn visible_names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let mut names = match self.names(folder) {
            Ok(names) => names,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(fault) => return Err(fault),
        };
        // Editors, network file systems and synchronisers leave such names; a shell's `*` does not see them either.
        names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
        Ok(names)
    }
}
