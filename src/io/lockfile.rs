//! One supervisor per root: a lock that ends with its holder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock is held as long as this value, or its process, lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{path} is held by process {pid}")]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder, as it wrote itself into the file.
        pid: String,
    },
    /// The file could not be opened or locked.
    #[error("cannot lock {path}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Takes the lock, and writes the process id into the file for those who come too late.
///
/// # Errors
/// Says who holds it, or what the system said.
pub fn acquire(path: &Path) -> Result<Lock, LockError> {
    let io = |source| LockError::Io { path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io)?;
            return Err(LockError::Held { path: path.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(error) => return Err(io(error.into())),
    }
    file.set_len(0).map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(Lock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_refused_and_told_who_was_first() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let first = acquire(&path).unwrap();
        match acquire(&path) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            Err(LockError::Io { source, .. }) => panic!("{source}"),
            Ok(_) => panic!("two hold one lock"),
        }
        drop(first);
        acquire(&path).unwrap();
    }
}
