//! The few ways in which the spool touches the disk.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

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

/// Moves a file to a name that must not exist yet, in one step that other processes see as a whole.
pub(super) fn move_file(from: &Path, to: &Path) -> io::Result<Moved> {
    match rename(from, to) {
        // The folder itself may have been removed: without this, its envelopes would look taken for ever.
        Ok(Moved::Gone) if to.parent().is_some_and(|folder| !folder.exists()) => {
            if let Some(folder) = to.parent() {
                make_folder(folder)?;
            }
            rename(from, to)
        }
        other => other,
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<Moved> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Moved::Yes),
        Err(rustix::io::Errno::NOENT) => Ok(Moved::Gone),
        Err(rustix::io::Errno::EXIST) => Ok(Moved::Taken),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes a file that must not exist yet, without waiting for the disk.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    match file.write_all(bytes) {
        Ok(()) => Ok(file),
        Err(fault) => {
            remove(path)?;
            Err(fault)
        }
    }
}

/// Waits until all names of a folder are on the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Waits until everything written to a folder's file system is on the disk; one wait for many files.
pub(super) fn sync_file_system(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

/// Makes a private folder, and those above it, where it is missing.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Removes a file; it is fine if it is gone already. Says whether it was there.
pub(super) fn remove(path: &Path) -> io::Result<Removed> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(Removed::Yes),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(Removed::WasGone),
        Err(fault) => Err(fault),
    }
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// It is gone now.
    Yes,
    /// It was gone before.
    WasGone,
}

/// Lists the names in a folder, without hidden ones, in no order. A folder that is missing is empty.
pub(super) fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        // Editors, network file systems and synchronisers leave such names; a shell's `*` does not see them either.
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    Ok(names)
}
