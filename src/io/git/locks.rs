//! Locks of git that outlive whoever took them.
//!
//! git takes a lock by making a file and gives it back by removing or renaming that; one that is killed leaves it, and nobody ever
//! takes it away. Whether somebody holds a lock cannot be read from the file, nor by its age from a clock that leaps. But who holds
//! it lived when the lock was looked at: when everything that may be a git has ended since, and the lock is still the same, then
//! nobody holds it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::io::clock;
use crate::io::process::{self, ProcessId};

use super::GitError;
use super::call::Git;
use super::registry;

/// How old a lock has to be: programs that are no git, but write with a library, cannot be waited for. They hold one for a moment.
const AGE_MIN: Duration = Duration::from_secs(60);

/// How long it is watched beside that: the clock may have leapt since it was made.
const MOMENT: Duration = Duration::from_secs(1);

/// How long the end of the gits that lived is waited for; one that takes longer keeps its lock until the next look.
const PATIENCE: Duration = Duration::from_secs(3);

/// Commands that live long and take no lock that is looked at here.
const READERS: [&str; 3] = ["cat-file", "fsmonitor--daemon", "daemon"];

/// How a git is told to work in another repository than the one of its folder.
const TELLS: [&[u8]; 3] = [b"--git-dir", b"GIT_DIR=", b"GIT_COMMON_DIR="];

/// Which file it is, to tell a lock from a later one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    file: (u64, u64),
    changed: (i64, i64),
}

/// Returns the lock of a file of git that somebody may hold, if there is one. One that nobody can hold any more is removed.
///
/// # Errors
/// Those of git and of the file system.
pub(super) async fn held(git: &Git, name: &str) -> Result<Option<PathBuf>, GitError> {
    let lock = git.file(&format!("{name}.lock")).await?;
    Ok(is_held(git, &lock).await?.then_some(lock))
}

/// Removes the lock of a worktree's index, or of an attempt's branch: whoever held it was in the agent's process group, or a git of
/// ours that was killed, and has ended.
///
/// # Errors
/// Those of git and of the file system.
pub(super) async fn remove(git: &Git, name: &str) -> Result<(), GitError> {
    take_away(&git.file(&format!("{name}.lock")).await?)
}

/// Takes away the lock of the list of packed references if nobody can hold it any more: while it is there, every reset and every
/// removal of a reference waits for it in vain.
///
/// # Errors
/// Those of git and of the file system.
pub(super) async fn free_packed_refs(git: &Git) -> Result<(), GitError> {
    let lock = registry::common(git).await?.join("packed-refs.lock");
    is_held(git, &lock).await.map(drop)
}

async fn is_held(git: &Git, lock: &Path) -> Result<bool, GitError> {
    let Some((seen, age)) = look(lock)? else { return Ok(false) };
    if age < AGE_MIN || !have_ended(git).await {
        return look(lock).map(|still| still.is_some());
    }
    tokio::time::sleep(MOMENT).await;
    // Nobody else may find the same one to be left over, and then remove its successor.
    let _registry = registry::lock(git).await?;
    if look(lock)?.is_some_and(|(now, _)| now == seen) {
        take_away(lock)?;
    }
    look(lock).map(|still| still.is_some())
}

fn take_away(lock: &Path) -> Result<(), GitError> {
    match fs::remove_file(lock) {
        Ok(()) => tracing::warn!(path = %lock.display(), "removed the lock of an ended program"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed("remove", lock)(source)),
    }
    Ok(())
}

/// Returns which file a lock is, and how long it has not changed.
fn look(lock: &Path) -> Result<Option<(Identity, Duration)>, GitError> {
    let meta = match fs::symlink_metadata(lock) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("look at", lock)(source)),
    };
    let changed = meta.modified().map_err(failed("look at", lock))?;
    let age = clock::now().since(clock::timestamp(changed));
    let identity = Identity { file: (meta.dev(), meta.ino()), changed: (meta.mtime(), meta.mtime_nsec()) };
    Ok(Some((identity, age)))
}

/// Waits until every git of this moment that may hold a lock of the repository has ended; says whether all have.
async fn have_ended(git: &Git) -> bool {
    let Ok(running) = process::running_as(is_git) else { return false };
    let ended = async {
        let ours = common(git).await?;
        for other in running {
            if works_in(&ours, &other).await? {
                process::wait_for_exit(other).await.map_err(io::Error::other)?;
            }
        }
        Ok::<(), io::Error>(())
    };
    matches!(tokio::time::timeout(PATIENCE, ended).await, Ok(Ok(())))
}

/// Returns the folder that all worktrees of a repository share, by the one path that it has.
async fn common(git: &Git) -> io::Result<PathBuf> {
    registry::common(git).await.map_err(io::Error::other)?.canonicalize()
}

/// Says whether a git may work in the repository of a common folder: not if it is in a folder of another one, and was told of none.
async fn works_in(ours: &Path, other: &ProcessId) -> io::Result<bool> {
    let told =
        |text: &[u8]| text.split(|byte| *byte == 0).any(|part| TELLS.iter().any(|tells| part.starts_with(tells)));
    let proc = PathBuf::from(format!("/proc/{}", other.pid));
    let (Ok(arguments), Ok(environment), Ok(folder)) =
        (fs::read(proc.join("cmdline")), fs::read(proc.join("environ")), fs::read_link(proc.join("cwd")))
    else {
        // It has ended, or is somebody else's.
        return Ok(process::is_alive(other));
    };
    if told(&arguments) || told(&environment) || !folder.is_dir() {
        return Ok(true);
    }
    // In a folder of no repository it makes one, or looks for it.
    Ok(common(&Git::at(&folder)).await.is_ok_and(|theirs| theirs == ours))
}

/// Says whether a program may hold a lock of git, by its name and its arguments.
fn is_git(name: &str, arguments: &[&str]) -> bool {
    let is_git = name == "git" || name.starts_with("git-");
    is_git && !arguments.iter().any(|argument| READERS.contains(argument))
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::File { act, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_holds_no_lock() {
        assert!(is_git("git", &["git", "commit", "-a"]));
        assert!(is_git("git-remote-http", &["/usr/lib/git-core/git-remote-http"]));
        assert!(!is_git("git", &["git", "--no-pager", "cat-file", "--batch"]));
        assert!(!is_git("gitui", &["gitui"]));
        assert!(!is_git("bash", &["bash", "git", "commit"]));
    }
}
