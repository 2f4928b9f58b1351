//! Commits of attempts: one for everything since the base, found again by its trailer.

use std::path::Path;

use super::branch;
use super::call::{Git, records};
use super::worktree::owned;
use super::{Author, GitError, locks};

/// Where the branches of attempts lie.
const OURS: &str = "refs/heads/miyabi/";

/// What is to become a commit.
#[derive(Debug, Clone)]
pub struct CommitRequest<'a> {
    /// The repository.
    pub repository: &'a Path,
    /// The worktree with the changes.
    pub worktree: &'a Path,
    /// The branch that is to hold the commit.
    pub branch: &'a str,
    /// The only parent.
    pub base: &'a str,
    /// The whole message, trailers included.
    pub message: &'a str,
    /// Who made it.
    pub author: &'a Author,
    /// Names of untracked files that stay out, as patterns that match in every folder.
    pub litter: &'a [&'a str],
}

/// Puts everything that differs from the base, committed or not, into one commit on the branch. `None`: nothing differs.
///
/// What `.gitignore` names stays out. The worktree then has the branch checked out.
///
/// # Errors
/// Those of git; [`GitError::Foreign`] when the agent has cut the worktree loose.
pub async fn commit_all(request: &CommitRequest<'_>) -> Result<Option<String>, GitError> {
    let git = owned(request.repository, request.worktree).await?;
    stage_all(&git, request.litter).await?;
    let tree = git.call(["write-tree"]).text().await?;
    let base_tree = git.call(["rev-parse", "--verify", &format!("{}^{{tree}}", request.base)]).text().await?;
    let commit = if tree == base_tree {
        None
    } else {
        Some(write_commit(&git, &tree, request.base, request.message, request.author).await?)
    };
    let reference = format!("refs/heads/{}", request.branch);
    let tip = commit.as_deref().unwrap_or(request.base);
    git.call(["update-ref", "-m", "miyabi: attempt", &reference, tip]).text().await?;
    git.call(["symbolic-ref", "HEAD", &reference]).text().await?;
    Ok(commit)
}

/// Saves what a worktree holds beyond its own newest commit, on the branch that it has checked out, or on `fallback`.
///
/// # Errors
/// Those of git.
pub async fn save(
    repository: &Path,
    worktree: &Path,
    fallback: &str,
    message: &str,
    author: &Author,
    litter: &[&str],
) -> Result<(), GitError> {
    let git = owned(repository, worktree).await?;
    stage_all(&git, litter).await?;
    let tree = git.call(["write-tree"]).text().await?;
    let head = git.call(["rev-parse", "--verify", "HEAD^{commit}"]).text().await?;
    let branch = git.call(["symbolic-ref", "--quiet", "HEAD"]).answer().await?;
    let unchanged = git.call(["rev-parse", "--verify", "HEAD^{tree}"]).text().await? == tree;
    if unchanged && branch.is_some() {
        return Ok(());
    }
    let commit = if unchanged { head } else { write_commit(&git, &tree, &head, message, author).await? };
    let reference = branch.unwrap_or_else(|| format!("refs/heads/{fallback}"));
    // Only on a branch of ours: on any other that the agent has gone to, somebody else may be at work.
    if reference.starts_with(OURS) {
        locks::remove(&git, &reference).await?;
    }
    git.call(["update-ref", "-m", "miyabi: saved", &reference, &commit]).text().await?;
    git.call(["symbolic-ref", "HEAD", &reference]).text().await?;
    Ok(())
}

/// Brings the index to what the working tree holds, whatever the agent left it at.
async fn stage_all(git: &Git, litter: &[&str]) -> Result<(), GitError> {
    locks::remove(git, "index").await?;
    let outside = litter
        .iter()
        .flat_map(|name| [format!(":(exclude,top,glob)**/{name}"), format!(":(exclude,top,glob)**/{name}/**")]);
    let add = ["add", "--all", "--", ":/"].into_iter().map(str::to_owned).chain(outside);
    git.call(add).slow().text().await?;
    if !litter.is_empty() {
        // A file of such a name that the repository tracks is no litter.
        git.call(["add", "--update", "--", ":/"]).slow().text().await?;
    }
    Ok(())
}

/// Says whether two commits hold the same files.
///
/// # Errors
/// Those of git.
pub async fn same_files(repository: &Path, one: &str, other: &str) -> Result<bool, GitError> {
    let git = Git::at(repository);
    let one = git.call(["rev-parse", "--verify", &format!("{one}^{{tree}}")]).text().await?;
    let other = git.call(["rev-parse", "--verify", &format!("{other}^{{tree}}")]).text().await?;
    Ok(one == other)
}

pub(super) async fn write_commit(
    git: &Git,
    tree: &str,
    parent: &str,
    message: &str,
    author: &Author,
) -> Result<String, GitError> {
    let call = git.call(["-c", "commit.gpgSign=false", "commit-tree", tree, "-p", parent, "-F", "-"]);
    call.author(author).stdin(message).text().await
}

/// The commit of an attempt on its branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The commit.
    pub id: String,
    /// Its parent, the commit on which the work began.
    pub base: String,
    /// The attempt that its trailer names.
    pub attempt: String,
}

/// Returns the newest commit of a branch if its trailer names an attempt.
///
/// # Errors
/// Those of git; a branch that does not exist is no error.
pub async fn find_commit(repository: &Path, branch: &str) -> Result<Option<Found>, GitError> {
    let git = Git::at(repository);
    let Some(id) = branch::tip(&git, branch).await? else { return Ok(None) };
    let format = format!("--format=%P%x00{}", branch::trailer_format());
    let text = git.call(["log", "-1", &format, &id, "--"]).text().await?;
    Ok(match text.split_once('\0') {
        Some((base, attempt)) if !base.is_empty() && !base.contains(' ') && !attempt.is_empty() => {
            Some(Found { id, base: base.to_owned(), attempt: attempt.to_owned() })
        }
        Some(_) | None => None,
    })
}

/// Returns the changes between two commits as a unified diff of at most `bytes_max` bytes.
///
/// # Errors
/// Those of git.
pub async fn diff(repository: &Path, from: &str, to: &str, bytes_max: usize) -> Result<String, GitError> {
    let git = Git::at(repository);
    let args = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", from, to, "--"];
    let outcome = git.call(args).slow().first_bytes(bytes_max as u64).outcome().await?;
    let mut text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    if outcome.cut {
        const NOTE: &str = "\n[the rest of the diff is left out]\n";
        let room = text.floor_char_boundary(bytes_max.saturating_sub(NOTE.len()));
        text.truncate(room);
        text.push_str(NOTE);
    }
    Ok(text)
}

/// Returns the paths, at most `paths_max`, that differ between two commits and match one of git's glob patterns from the top.
/// A file that was moved away or here differs.
///
/// # Errors
/// Those of git.
pub async fn changed(
    repository: &Path,
    (from, to): (&str, &str),
    patterns: &[String],
    paths_max: usize,
) -> Result<Vec<String>, GitError> {
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--ignore-submodules=none", from, to, "--"];
    let patterns = patterns.iter().map(|pattern| format!(":(top,glob){pattern}"));
    let bytes = Git::at(repository).call(args.into_iter().map(str::to_owned).chain(patterns)).slow().bytes().await?;
    Ok(records(&bytes).take(paths_max).map(|path| String::from_utf8_lossy(path).into_owned()).collect())
}

/// Returns the names of the plain files in a commit's top folder.
///
/// # Errors
/// Those of git.
pub async fn root_files(repository: &Path, commit: &str) -> Result<Vec<String>, GitError> {
    let format = "--format=%(objecttype) %(objectmode) %(path)";
    let bytes = Git::at(repository).call(["ls-tree", "-z", format, commit]).bytes().await?;
    let name = |record: &[u8]| {
        let record = String::from_utf8_lossy(record);
        let name = record.strip_prefix("blob 100644 ").or_else(|| record.strip_prefix("blob 100755 "))?;
        Some(name.to_owned())
    };
    Ok(records(&bytes).filter_map(name).collect())
}

/// Returns the text of a file in a commit, cut to `bytes_max`.
///
/// # Errors
/// Those of git; a file that is not there is one.
pub async fn text_of(repository: &Path, commit: &str, path: &str, bytes_max: u64) -> Result<String, GitError> {
    let object = format!("{commit}:{path}");
    let outcome = Git::at(repository).call(["cat-file", "blob", &object]).first_bytes(bytes_max).outcome().await?;
    if outcome.cut || outcome.status.success() {
        Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
    } else {
        let path = repository.to_owned();
        Err(GitError::Failed { path, command: "cat-file".to_owned(), detail: outcome.stderr })
    }
}

/// Writes a commit's message: a first line, the rest of the text, and one trailer as a paragraph of its own.
#[must_use]
pub fn message(text: &str, fallback: &str, trailer: (&str, &str)) -> String {
    const LINE_CHARS_MAX: usize = 100;
    let text = text.replace('\0', " ");
    let mut lines = text.trim().lines();
    let first = lines.next().map(str::trim).filter(|line| !line.is_empty()).unwrap_or(fallback);
    let rest: Vec<&str> = lines.collect();
    let (subject, overflow) = match first.char_indices().nth(LINE_CHARS_MAX) {
        Some(_) => (first.chars().take(LINE_CHARS_MAX - 1).chain(['…']).collect(), Some(first)),
        None => (first.to_owned(), None),
    };
    let body = overflow.into_iter().chain(rest).collect::<Vec<_>>().join("\n");
    let body = body.trim();
    let (key, value) = trailer;
    let between = if body.is_empty() { String::new() } else { format!("{body}\n\n") };
    format!("{subject}\n\n{between}{key}: {value}\n")
}

/// The trailer of a commit that only saves what a failed attempt left. It is not [`crate::model::order::ATTEMPT_TRAILER`], so that nobody takes it for proven work.
pub const SALVAGE_TRAILER: &str = "Miyabi-Salvage";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::order::ATTEMPT_TRAILER;

    #[test]
    fn a_message_has_a_short_first_line_and_the_trailer_alone_at_its_end() {
        let text = message("fix: 挨拶\nCo-authored-by: x\n", "example/hello", (ATTEMPT_TRAILER, "R/code/1"));
        assert_eq!(text, "fix: 挨拶\n\nCo-authored-by: x\n\nMiyabi-Attempt: R/code/1\n");
        let text = message(" \n", "example/hello", (ATTEMPT_TRAILER, "R/code/1"));
        assert_eq!(text, "example/hello\n\nMiyabi-Attempt: R/code/1\n");
        let long = message(&"x".repeat(300), "t", (ATTEMPT_TRAILER, "R/code/1"));
        assert!(long.lines().next().unwrap().chars().count() <= 100);
        assert!(long.contains(&"x".repeat(300)), "nothing is lost");
    }
}
