//! The repository's list of worktrees, which git itself does not guard.
//!
//! git reads the entries of all worktrees whenever it makes, lists or removes one, and fails when another git is in the
//! middle of writing an entry. So miyabi's processes take turns, and a collision with somebody else's git is tried again.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::GitError;
use super::call::Git;

/// The lock file in the repository's common folder; the kernel frees it when its holder dies.
const LOCK: &str = "miyabi-worktrees.lock";

/// How long another process may keep the list: a large worktree takes its time.
const PATIENCE: Duration = Duration::from_secs(900);

/// The wait between two looks at the lock.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How often a collision with a git that does not know of the lock is tried again.
const COLLISIONS_MAX: u32 = 5;

/// The wait after such a collision.
const COLLISION_PAUSE: Duration = Duration::from_millis(50);

/// Runs `git worktree` with the list to ourselves and returns what it printed.
pub(super) async fn call<A: AsRef<OsStr>>(git: &Git, args: &[A]) -> Result<Vec<u8>, GitError> {
    let _lock = lock(git).await?;
    let mut collisions = 0;
    loop {
        let args = std::iter::once(OsStr::new("worktree")).chain(args.iter().map(AsRef::as_ref));
        match git.call(args).slow().bytes().await {
            Err(GitError::Failed { detail, .. }) if collisions < COLLISIONS_MAX && is_collision(&detail) => {
                collisions += 1;
                tokio::time::sleep(COLLISION_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Says whether git stumbled over an entry that somebody is just writing.
fn is_collision(detail: &str) -> bool {
    ["/commondir", "/gitdir", "/HEAD", "invalid worktree"].iter().any(|part| detail.contains(part))
        && detail.contains("worktree")
        && !detail.contains("already")
}

/// Drops the entry of a worktree whose folder is gone. git marks an entry as locked while it makes it; one that it was ended
/// over stays so, and then no `git worktree prune` takes it.
pub(super) async fn forget(git: &Git, path: &Path) -> Result<(), GitError> {
    let common = common(git).await?;
    let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { return Ok(()) };
    let entries = || entries_of(&common.join("worktrees"), &name, path);
    if entries().is_empty() {
        return Ok(());
    }
    let _lock = lock(git).await?;
    for entry in entries() {
        let mark = entry.join("locked");
        match std::fs::remove_file(&mark) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "git was ended while it made this worktree; its entry is dropped");
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(GitError::File { act: "remove", path: mark, source }),
        }
    }
    git.call(["worktree", "prune"]).slow().text().await.map(drop)
}

/// Finds the entries that a worktree may have: git names them after its folder, and adds a number when the name is taken.
fn entries_of(folder: &Path, name: &str, path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(name))
        .map(|entry| entry.path())
        .filter(|entry| {
            // Without a way to its folder it was never finished.
            let way = std::fs::read_to_string(entry.join("gitdir")).unwrap_or_default();
            way.trim().is_empty() || Path::new(way.trim()).parent() == Some(path)
        })
        .collect()
}

/// Returns the folder that all worktrees of a repository share. It is asked for around every attempt, so git is only started where
/// the folder is not in its usual place.
pub(super) async fn common(git: &Git) -> Result<PathBuf, GitError> {
    let usual = git.dir().join(".git");
    if usual.is_dir() {
        return Ok(usual);
    }
    Ok(git.dir().join(git.call(["rev-parse", "--git-common-dir"]).text().await?))
}

/// Takes the list of worktrees, and what goes with it, for ourselves.
pub(super) async fn lock(git: &Git) -> Result<File, GitError> {
    let path = common(git).await?.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| GitError::File { act: "open", path: path.clone(), source })?;
    let attempt = async {
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK | Errno::INTR) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(errno) => {
                    return Err(GitError::File { act: "lock", path: path.clone(), source: errno.into() });
                }
            }
        }
    };
    match tokio::time::timeout(PATIENCE, attempt).await {
        Ok(locked) => locked.map(|()| file),
        Err(_) => Err(GitError::Busy { path, limit: PATIENCE }),
    }
}
