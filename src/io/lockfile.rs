//! One supervisor per root: a lock that ends with its holder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::process;

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

/// How often a lock is tried again whose holder is gone, and the wait between two tries: a child of a killed holder that
/// has not come to its `exec` yet keeps the lock for moments.
const TRIES_MAX: u32 = 200;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Takes the lock, and writes the process id into the file for those who come too late.
///
/// # Errors
/// Says who holds it, or what the system said.
pub fn acquire(path: &Path) -> Result<Lock, LockError> {
    let io = |source| LockError::Io { path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
    let mut tries = 0;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(io(error.into())),
        }
        let mut pid = String::new();
        file.rewind().map_err(io)?;
        file.read_to_string(&mut pid).map_err(io)?;
        tries += 1;
        let is_alive = pid.trim().parse().is_ok_and(|pid| process::identify(pid).is_some());
        if is_alive || tries >= TRIES_MAX {
            return Err(LockError::Held { path: path.to_owned(), pid: pid.trim().to_owned() });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    file.rewind().map_err(io)?;
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

    #[test]
    fn a_lock_whose_holder_is_gone_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        // A child that was not yet at its `exec` when its parent was killed: the lock is held, and by nobody who is named.
        let left = acquire(&path).unwrap();
        std::fs::write(&path, format!("{}\n", gone.id())).unwrap();
        std::thread::scope(|scope| {
            let (told, waits) = std::sync::mpsc::channel();
            let path = &path;
            scope.spawn(move || {
                told.send(()).unwrap();
                acquire(path).unwrap();
            });
            waits.recv().unwrap();
            drop(left);
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), std::process::id().to_string());
    }
}
