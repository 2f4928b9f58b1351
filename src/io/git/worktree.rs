//! Worktrees of attempts: made fresh, removed only when nothing in them is nowhere else.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::GitError;
use super::branch;
use super::call::{Git, records};
use super::locks;
use super::registry;

/// Makes the worktree of an attempt on its own branch, at the newest commit of the target branch, and returns that commit.
///
/// A branch of that name that holds commits of its own is kept under another name.
///
/// # Errors
/// Those of git; [`GitError::InTheWay`] when the folder holds work that is nowhere else.
pub async fn prepare(repository: &Path, target: &str, branch: &str, path: &Path) -> Result<String, GitError> {
    let git = Git::at(repository);
    let base = branch::tip(&git, target)
        .await?
        .ok_or_else(|| GitError::NoBranch { path: repository.to_owned(), branch: target.to_owned() })?;
    prepare_at(repository, &base, branch, path).await?;
    Ok(base)
}

/// Makes the worktree of an attempt on its own branch, at a commit.
///
/// A branch of that name that holds commits of its own is kept under another name.
///
/// # Errors
/// Those of git; [`GitError::InTheWay`] when the folder holds work that is nowhere else.
pub async fn prepare_at(repository: &Path, commit: &str, branch: &str, path: &Path) -> Result<(), GitError> {
    let git = Git::at(repository);
    if exists(path).await?
        && let Removal::Kept { reason } = remove(repository, path, &[]).await?
    {
        return Err(GitError::InTheWay { path: path.to_owned(), reason });
    }
    if let Some(stale) = branch::tip(&git, branch).await?
        && git.call(["merge-base", "--is-ancestor", &stale, commit]).answer().await?.is_none()
    {
        let kept = format!("refs/heads/{branch}-kept-{}", stale.get(..10).unwrap_or(&stale));
        git.call(["update-ref", "-m", "miyabi: kept", &kept, &stale]).text().await?;
    }
    make_parent(path).await?;
    add(&git, &["--no-guess-remote", "-B", branch], path, commit).await?;
    Ok(())
}

/// Makes a clean worktree at exactly a commit, on no branch.
///
/// # Errors
/// Those of git.
pub async fn prepare_detached(repository: &Path, commit: &str, path: &Path) -> Result<(), GitError> {
    remove_scratch(repository, path).await?;
    make_parent(path).await?;
    add(&Git::at(repository), &["--detach"], path, commit).await?;
    Ok(())
}

/// Makes a worktree. Its files are written after the list of worktrees is free again: that may take long.
async fn add(git: &Git, options: &[&str], path: &Path, commit: &str) -> Result<(), GitError> {
    locks::free_packed_refs(git).await?;
    let options = ["add", "--quiet", "--no-checkout"].iter().chain(options).map(OsStr::new);
    let args: Vec<&OsStr> = options.chain([path.as_os_str(), OsStr::new(commit)]).collect();
    registry::call(git, &args).await?;
    Git::at(path).call(["reset", "--hard", "--quiet"]).slow().text().await?;
    Ok(())
}

/// What became of a worktree that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, or was not there.
    Removed,
    /// It holds work that is nowhere else.
    Kept {
        /// What it holds.
        reason: String,
    },
}

/// Removes a worktree unless it holds uncommitted changes or commits that are on no branch.
///
/// Ignored files and `litter` (names of untracked files that match in every folder, `*` at the end allowed) do not count.
///
/// # Errors
/// Those of git; the worktree then stands.
pub async fn remove(repository: &Path, path: &Path, litter: &[&str]) -> Result<Removal, GitError> {
    if !exists(path).await? {
        return registry::forget(&Git::at(repository), path).await.map(|()| Removal::Removed);
    }
    if holds_nothing(path).await {
        // git was ended before it could fill it, or its disk was full.
        return remove_scratch(repository, path).await.map(|()| Removal::Removed);
    }
    let git = match owned(repository, path).await {
        Ok(git) => git,
        Err(GitError::Foreign { .. }) => {
            return Ok(Removal::Kept { reason: "it is not a worktree of the repository any more".to_owned() });
        }
        Err(error) => return Err(error),
    };
    let begun = begin_index(&git).await?;
    let status =
        git.call(["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all"]).slow().bytes().await?;
    let changed: Vec<&[u8]> = records(&status)
        .filter(|record| !is_litter(record, litter))
        // What git had not written yet when it was ended is not missed.
        .filter(|record| begun == Index::Whole || !record.starts_with(b" D"))
        .collect();
    if let Some(first) = changed.first() {
        let name = String::from_utf8_lossy(first.get(3..).unwrap_or_default()).into_owned();
        return Ok(Removal::Kept { reason: format!("{} uncommitted changes, {name} among them", changed.len()) });
    }
    let on_branch = git.call(["symbolic-ref", "--quiet", "HEAD"]).answer().await?.is_some();
    if !on_branch {
        let args = ["for-each-ref", "--count=1", "--contains=HEAD", "refs/heads", "refs/remotes", "refs/tags"];
        if git.call(args).slow().text().await?.is_empty() {
            return Ok(Removal::Kept { reason: "its commits are on no branch".to_owned() });
        }
    }
    remove_scratch(repository, path).await?;
    Ok(Removal::Removed)
}

/// Whether a worktree was ever finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    Whole,
    /// git was ended before it had written all files: it writes the index last.
    Missing,
}

/// Gives a worktree that was never finished the index that it lacks, so that its files can be compared.
async fn begin_index(git: &Git) -> Result<Index, GitError> {
    let index = git.file("index").await?;
    if exists(&index).await? {
        return Ok(Index::Whole);
    }
    git.call(["read-tree", "HEAD"]).slow().text().await?;
    Ok(Index::Missing)
}

/// Removes a worktree that never holds work, such as the one in which a commit is checked.
///
/// # Errors
/// Those of git and of the file system.
pub async fn remove_scratch(repository: &Path, path: &Path) -> Result<(), GitError> {
    let git = Git::at(repository);
    if !exists(path).await? {
        return registry::forget(&git, path).await;
    }
    let args = [OsStr::new("remove"), OsStr::new("--force"), OsStr::new("--force"), path.as_os_str()];
    // What is not, or not any more, a worktree is removed like any folder; its entry, if it left one, is pruned.
    if registry::call(&git, &args).await.is_err() {
        match tokio::fs::remove_dir_all(path).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(GitError::File { act: "remove", path: path.to_owned(), source }),
        }
        registry::forget(&git, path).await?;
    }
    Ok(())
}

/// Returns git in a worktree, after making sure that the worktree still belongs to the repository: the agent had it in its hands.
pub(super) async fn owned(repository: &Path, worktree: &Path) -> Result<Git, GitError> {
    let git = Git::at(worktree);
    let foreign = || GitError::Foreign { path: worktree.to_owned(), repository: repository.to_owned() };
    let theirs = git.call(["rev-parse", "--show-toplevel", "--git-common-dir"]).text().await.map_err(|_| foreign())?;
    let (top, theirs) = theirs.split_once('\n').ok_or_else(foreign)?;
    let ours = Git::at(repository).call(["rev-parse", "--git-common-dir"]).text().await?;
    let same = |left: PathBuf, right: PathBuf| match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    };
    if same(worktree.join(theirs), repository.join(ours)) && same(top.into(), worktree.to_owned()) {
        Ok(git)
    } else {
        Err(foreign())
    }
}

fn is_litter(record: &[u8], litter: &[&str]) -> bool {
    let (Some(b"??"), Some(path)) = (record.get(..2), record.get(3..)) else { return false };
    path.split(|byte| *byte == b'/').any(|segment| {
        litter.iter().any(|name| match name.strip_suffix('*') {
            Some(start) => segment.starts_with(start.as_bytes()),
            None => segment == name.as_bytes(),
        })
    })
}

async fn exists(path: &Path) -> Result<bool, GitError> {
    match tokio::fs::symlink_metadata(path).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(GitError::File { act: "look at", path: path.to_owned(), source }),
    }
}

/// Says whether a folder is empty, but for the file by which git finds the repository.
async fn holds_nothing(path: &Path) -> bool {
    let Ok(mut entries) = tokio::fs::read_dir(path).await else { return false };
    loop {
        match entries.next_entry().await {
            Ok(None) => return true,
            Ok(Some(entry)) if entry.file_name() == ".git" => {
                if !entry.file_type().await.is_ok_and(|kind| kind.is_file()) {
                    return false;
                }
            }
            Ok(Some(_)) | Err(_) => return false,
        }
    }
}

async fn make_parent(path: &Path) -> Result<(), GitError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    tokio::fs::create_dir_all(parent).await.map_err(|source| GitError::File {
        act: "create",
        path: parent.to_owned(),
        source,
    })
}

/// Finds the repository that a worktree belongs to, by what the worktree says; nothing if it is none.
///
/// # Errors
/// Those of git and of the file system.
pub async fn repository_of(path: &Path) -> Result<Option<PathBuf>, GitError> {
    // A folder would be a repository of its own, and is nobody's worktree.
    if !tokio::fs::symlink_metadata(path.join(".git")).await.is_ok_and(|meta| meta.is_file()) {
        return Ok(None);
    }
    let looked = Git::at(path).call(["rev-parse", "--git-common-dir"]).outcome().await?;
    if !looked.status.success() {
        return Ok(None);
    }
    let common = path.join(String::from_utf8_lossy(&looked.stdout).trim_end_matches('\n'));
    let is_inside = common.file_name().is_some_and(|name| name == ".git");
    Ok(Some(if is_inside { common.parent().map_or_else(|| common.clone(), Path::to_owned) } else { common }))
}
