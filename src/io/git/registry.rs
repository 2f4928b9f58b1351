//! The repository's list of worktrees, which git itself does not guard.
//!
//! git reads the entries of all worktrees whenever it makes, lists or removes one, and fails when another git is in the
//! middle of writing an entry. So miyabi's processes take turns, and a collision with somebody else's git is tried again.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
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

async fn lock(git: &Git) -> Result<File, GitError> {
    let common = git.call(["rev-parse", "--git-common-dir"]).text().await?;
    let path: PathBuf = git.dir().join(common).join(LOCK);
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
