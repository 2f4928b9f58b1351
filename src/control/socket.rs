//! Where supervisor and client meet: a Unix socket that only its user can reach.
//!
//! The kernel takes socket paths of at most 107 bytes. Longer ones are reached through the opened folder, as
//! `/proc/self/fd/N/NAME`, so a root may lie at any depth.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest path that fits into a socket address, in bytes.
const PATH_BYTES_MAX: usize = 107;

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path has no folder or no name.
    #[error("{path} is no path for a socket")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// The folder cannot be made or opened.
    #[error("cannot open the folder of {path}")]
    Folder {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be made, made private, or put in its place.
    #[error("cannot make the socket {path}")]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A bound socket; the file goes when this value goes.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Bound {
    /// Returns the listening socket.
    #[must_use]
    pub const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Returns the path at which it can be reached.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Another supervisor may have put its own socket here; that one is not ours to remove.
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the control socket could not be removed");
        }
    }
}

/// Makes the socket, private to its user, in the place of whatever a dead supervisor left there.
///
/// The caller must hold the supervisor's lock: a live supervisor's socket would be replaced as well.
///
/// # Errors
/// Names the path and what the system said.
pub fn bind(path: &Path) -> Result<Bound, BindError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(BindError::Path { path: path.to_owned() });
    };
    let folder_error = |source| BindError::Folder { path: path.to_owned(), source };
    let socket_error = |source| BindError::Socket { path: path.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(folder_error)?;
    // Bound under another name and renamed, it is never seen with the wrong permissions and replaces a stale one at once.
    let fresh = folder.join(format!(".{name}.{}", std::process::id()));
    match std::fs::remove_file(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(socket_error(error)),
    }
    let listener = at(&fresh, |path| UnixListener::bind(path)).map_err(socket_error)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(socket_error)?;
    let inode = std::fs::symlink_metadata(&fresh).map_err(socket_error)?.ino();
    std::fs::rename(&fresh, path).map_err(socket_error)?;
    listener.set_nonblocking(true).map_err(socket_error)?;
    Ok(Bound { listener, path: path.to_owned(), inode })
}

/// Connects to a socket at a path of any length.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when nobody listens there.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    at(path, |path| UnixStream::connect(path))
}

/// Calls with the path itself when it fits, else with a short name for the same file.
fn at<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return act(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    act(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_and_its_file_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control.sock");
        let bound = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(connect(bound.path()).is_ok());
        drop(bound);
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_root_at_any_depth_has_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("深いフォルダ".repeat(6)).join("x".repeat(120));
        let path = deep.join("control.sock");
        let bound = bind(&path).unwrap();
        assert!(path.as_os_str().len() > PATH_BYTES_MAX);
        assert!(connect(&path).is_ok());
        drop(bound);
    }

    #[test]
    fn a_dead_supervisors_socket_is_replaced_and_a_successors_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let first = bind(&path).unwrap();
        let second = bind(&path).unwrap();
        drop(first);
        assert!(connect(&path).is_ok(), "the successor's socket was removed");
        drop(second);
        assert!(!path.exists());
    }
}
