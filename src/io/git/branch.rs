//! Branches: which one is current, where one points, and the end of those that are merged.

use std::path::Path;

use super::GitError;
use super::call::Git;
use super::registry;
use crate::model::order::ATTEMPT_TRAILER;

/// How many commits of a target branch are searched for an attempt's trailer.
const SEARCH_COMMITS_MAX: u32 = 10_000;

/// Returns the branch that a repository has checked out, or that a bare one calls its own.
///
/// # Errors
/// [`GitError::NotARepository`], [`GitError::Detached`] and [`GitError::Unborn`] tell what is there instead.
pub async fn current_branch(repository: &Path) -> Result<String, GitError> {
    let git = Git::at(repository);
    let looked = git.call(["rev-parse", "--git-dir"]).outcome().await?;
    if !looked.status.success() {
        return Err(GitError::NotARepository { path: repository.to_owned(), detail: looked.stderr });
    }
    let branch = git.call(["symbolic-ref", "--quiet", "--short", "HEAD"]).answer().await?;
    let branch = branch.ok_or_else(|| GitError::Detached { path: repository.to_owned() })?;
    match tip(&git, &branch).await? {
        Some(_) => Ok(branch),
        None => Err(GitError::Unborn { path: repository.to_owned(), branch }),
    }
}

/// Returns the newest commit of a branch.
pub(super) async fn tip(git: &Git, branch: &str) -> Result<Option<String>, GitError> {
    git.call(["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}^{{commit}}")]).answer().await
}

/// Finds the first of some known commits that a branch ends with, and on which a commit was made that is still there.
///
/// # Errors
/// Those of git.
pub async fn find_base(
    repository: &Path,
    branch: &str,
    known: &[(String, Option<String>)],
) -> Result<Option<String>, GitError> {
    let git = Git::at(repository);
    let Some(newest) = tip(&git, branch).await? else { return Ok(None) };
    for (base, commit) in known.iter().filter(|(base, _)| *base == newest) {
        let is_there = match commit {
            None => true,
            Some(commit) => {
                let found = format!("{commit}^{{commit}}");
                git.call(["rev-parse", "--verify", "--quiet", &found]).answer().await?.is_some()
            }
        };
        if is_there {
            return Ok(Some(base.clone()));
        }
    }
    Ok(None)
}

/// What became of a branch that was to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone, or was not there.
    Deleted,
    /// It holds work that the target does not have, or somebody has it checked out.
    Kept {
        /// Why it was kept.
        reason: String,
    },
}

/// Deletes an attempt's branch when the target branch holds its work: the commit itself, or one with the same attempt trailer.
///
/// # Errors
/// Those of git; the branch then stands.
pub async fn delete_branch_if_merged(
    repository: &Path,
    branch: &str,
    target: &str,
    trailer: &str,
) -> Result<Deletion, GitError> {
    let git = Git::at(repository);
    let Some(ours) = tip(&git, branch).await? else { return Ok(Deletion::Deleted) };
    let Some(theirs) = tip(&git, target).await? else {
        return Ok(Deletion::Kept { reason: format!("branch `{target}` does not exist") });
    };
    let worktrees = registry::call(&git, &["list", "--porcelain", "-z"]).await?;
    let wanted = format!("branch refs/heads/{branch}");
    if worktrees.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes()) {
        return Ok(Deletion::Kept { reason: "a worktree has it checked out".to_owned() });
    }
    let reachable = git.call(["merge-base", "--is-ancestor", &ours, &theirs]).answer().await?.is_some();
    if !reachable {
        let fork = git.call(["merge-base", &ours, &theirs]).answer().await?;
        let Some(fork) = fork else {
            return Ok(Deletion::Kept { reason: format!("it has nothing in common with `{target}`") });
        };
        // Only the one commit of the attempt may be vouched for by its trailer.
        let own = git.call(["rev-list", "--count", &format!("{fork}..{ours}")]).text().await?;
        if own != "1" || attempt_of(&git, &ours).await? != trailer {
            return Ok(Deletion::Kept { reason: format!("it holds commits that `{target}` does not have") });
        }
        if find_attempt(&git, &fork, &theirs, trailer).await?.is_none() {
            return Ok(Deletion::Kept { reason: format!("its commit is not on `{target}`") });
        }
    }
    // The old value makes sure that nothing was added since we looked.
    git.call(["update-ref", "-d", &format!("refs/heads/{branch}"), &ours]).text().await?;
    Ok(Deletion::Deleted)
}

/// Returns the attempt that a commit's trailer names; empty without one.
async fn attempt_of(git: &Git, commit: &str) -> Result<String, GitError> {
    git.call(["log", "-1", &format!("--format={}", trailer_format()), commit, "--"]).text().await
}

/// Finds the commit of an attempt among those that `tip` has and `base` has not.
pub(super) async fn find_attempt(git: &Git, base: &str, tip: &str, trailer: &str) -> Result<Option<String>, GitError> {
    let format = format!("--format=%H {}", trailer_format());
    let limit = format!("--max-count={SEARCH_COMMITS_MAX}");
    let log = git.call(["log", &limit, &format, &format!("{base}..{tip}"), "--"]).text().await?;
    let found = log.lines().filter_map(|line| line.split_once(' ')).find(|(_, attempt)| *attempt == trailer);
    Ok(found.map(|(commit, _)| commit.to_owned()))
}

pub(super) fn trailer_format() -> String {
    format!("%(trailers:key={ATTEMPT_TRAILER},valueonly,separator=%x2C)")
}
