//! Branches: which one is current, where one points, and the end of those that are merged.

use std::path::Path;

use super::GitError;
use super::call::Git;
use super::{locks, registry};
use crate::model::order::ATTEMPT_TRAILER;
use crate::model::stock::{AttemptBranch, run_of_branch};
use crate::model::time::Timestamp;

/// Where the branches of attempts are.
const OURS: &str = "refs/heads/miyabi/";

/// Where merge queues keep what commits have become.
const QUEUE: &str = "refs/miyabi/queue/";

/// How many branches of attempts one look lists.
const LISTED_MAX: u32 = 20_000;

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

/// Lists the branches of attempts and what merge queues have kept, those with the oldest commits first.
///
/// # Errors
/// Those of git.
pub async fn of_attempts(repository: &Path) -> Result<Vec<AttemptBranch>, GitError> {
    let limit = format!("--count={LISTED_MAX}");
    let format = "--format=%(refname) %(objectname) %(committerdate:unix)";
    let args = ["for-each-ref", "--sort=committerdate", &limit, format, OURS, QUEUE];
    let listed = Git::at(repository).call(args).slow().text().await?;
    let read = |line: &str| {
        let mut words = line.split(' ');
        let (name, commit, seconds) = (words.next()?, words.next()?, words.next()?.parse::<i64>().ok()?);
        let run = run_of_branch(name)?;
        let committed = Timestamp::from_millis(seconds.saturating_mul(1_000));
        Some(AttemptBranch { name: name.to_owned(), run, commit: commit.to_owned(), committed })
    };
    Ok(listed.lines().filter_map(read).collect())
}

/// Deletes an attempt's branch, or what a merge queue has kept, when its work is elsewhere too: the commit itself on a branch that
/// is no attempt's, or the same change with the same attempt trailer on the target branch. What a queue has made of a commit may
/// also go while the attempt's own branch has the change.
///
/// # Errors
/// Those of git; the branch then stands.
pub async fn delete_if_elsewhere(
    repository: &Path,
    reference: &str,
    commit: &str,
    target: &str,
) -> Result<Deletion, GitError> {
    let git = Git::at(repository);
    if git.call(["rev-parse", "--verify", "--quiet", reference]).answer().await?.is_none() {
        return Ok(Deletion::Deleted);
    }
    let worktrees = registry::call(&git, &["list", "--porcelain", "-z"]).await?;
    let wanted = format!("branch {reference}");
    if worktrees.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes()) {
        return Ok(Deletion::Kept { reason: "a worktree has it checked out".to_owned() });
    }
    if let Some(reason) = only_here(&git, reference, commit, target).await? {
        return Ok(Deletion::Kept { reason });
    }
    locks::free_packed_refs(&git).await?;
    // The old value makes sure that nothing was added since we looked.
    git.call(["update-ref", "-d", reference, commit]).text().await?;
    Ok(Deletion::Deleted)
}

/// Says why a reference may be the only place of its work; nothing if it is not.
async fn only_here(git: &Git, reference: &str, commit: &str, target: &str) -> Result<Option<String>, GitError> {
    let contains = format!("--contains={commit}");
    let args = ["for-each-ref", &contains, "--format=%(refname)", "refs/heads", "refs/remotes", "refs/tags"];
    if git.call(args).slow().text().await?.lines().any(|name| !name.starts_with(OURS)) {
        return Ok(None);
    }
    let Some(theirs) = tip(git, target).await? else { return Ok(Some(format!("branch `{target}` does not exist"))) };
    let Some(fork) = git.call(["merge-base", commit, &theirs]).answer().await? else {
        return Ok(Some(format!("it has nothing in common with `{target}`")));
    };
    // Only the one commit of the attempt may be vouched for by its trailer.
    let own = git.call(["rev-list", "--count", &format!("{fork}..{commit}")]).text().await?;
    let trailer = attempt_of(git, commit).await?;
    if own != "1" || trailer.is_empty() {
        return Ok(Some(format!("it holds commits that `{target}` does not have")));
    }
    let mut others: Vec<String> = find_attempt(git, &fork, &theirs, &trailer).await?.into_iter().collect();
    if let Some(run) = reference.strip_prefix(QUEUE) {
        others.extend(of_run(git, run).await?);
    }
    for other in &others {
        if attempt_of(git, other).await? == trailer && is_same_change(git, commit, other).await? {
            return Ok(None);
        }
    }
    Ok(Some(if others.is_empty() {
        format!("its commit is not on `{target}`")
    } else {
        format!("its commit is not what `{target}` has of the attempt")
    }))
}

/// Returns the newest commits of the branches of a run's attempts.
async fn of_run(git: &Git, run: &str) -> Result<Vec<String>, GitError> {
    let listed = git.call(["for-each-ref", "--format=%(refname) %(objectname)", OURS]).slow().text().await?;
    let wanted = format!("/{run}/");
    let found = listed.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| name.contains(&wanted));
    Ok(found.map(|(_, commit)| commit.to_owned()).collect())
}

/// Says whether a commit, made on what lies below another one, comes to exactly that other one.
async fn is_same_change(git: &Git, ours: &str, theirs: &str) -> Result<bool, GitError> {
    let (base, onto) = (format!("--merge-base={ours}^"), format!("{theirs}^"));
    let merged = git.call(["merge-tree", "--write-tree", &base, &onto, ours]).slow().outcome().await?;
    if !merged.status.success() {
        return Ok(false);
    }
    let tree = git.call(["rev-parse", "--verify", &format!("{theirs}^{{tree}}")]).text().await?;
    Ok(String::from_utf8_lossy(&merged.stdout).trim() == tree)
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
