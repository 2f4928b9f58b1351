//! The local merge: one proven commit becomes the newest commit of its target branch.
//!
//! History stays linear: a fast-forward where the target has not moved, else the same change replayed on the newest
//! commit. No step runs code of the repository. Checkouts that show the target move first and the branch last, by
//! compare-and-swap: whatever is interrupted, the branch never points at something that its checkout does not show
//! yet, and repeating the request ends what was begun.

use std::ffi::OsString;
use std::path::PathBuf;

use super::branch::{find_attempt, tip};
use super::call::{Git, path_of};
use super::checkout::{self, Moved};
use super::commit::write_commit;
use super::{Author, GitError, locks};

/// How often the merge begins anew because somebody else moved the branch.
const TRIES_MAX: u32 = 8;

/// How long git waits for whoever holds a branch's lock at this moment; git's own 0.1 s is short on a busy machine.
const LOCK_PATIENCE: &str = "core.filesRefLockTimeout=2000";

/// The most bytes of a conflict's description.
const DETAIL_BYTES_MAX: usize = 16 * 1024;

/// A proven commit and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRequest {
    /// The repository: a checkout or a bare one.
    pub repository: PathBuf,
    /// The branch that is to hold the commit.
    pub target: String,
    /// The commit; it has exactly one parent.
    pub commit: String,
    /// The commit of the target branch on which the work began: the search for an earlier merge starts there.
    pub base: String,
    /// The value of the commit's attempt trailer, see [`crate::model::order::attempt_key`].
    pub trailer: String,
}

/// What became of a [`MergeRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeResult {
    /// The target branch now ends with this commit.
    Merged {
        /// The commit, which is another one than asked for when the target had moved.
        commit: String,
    },
    /// The target branch has it already; nothing was changed.
    Already {
        /// The commit that holds it.
        commit: String,
    },
    /// There is no such commit; nothing was changed.
    Gone {
        /// What was looked for.
        detail: String,
    },
    /// The same lines were changed by somebody else; nothing was changed.
    Conflict {
        /// The files.
        paths: Vec<String>,
        /// What git says of them and the lines with conflict markers, for the next attempt.
        detail: String,
    },
    /// Somebody is at work where the merge would have to write; nothing was changed.
    Parked {
        /// Why, for people.
        reason: String,
    },
}

/// Merges a proven commit. Safe to repeat at any time, also after a crash in its middle.
///
/// # Errors
/// Those of git and of the file system.
pub async fn merge(request: MergeRequest) -> Result<MergeResult, GitError> {
    let git = Git::at(&request.repository);
    let Some(commit) = full_id(&git, &request.commit).await? else {
        return Ok(MergeResult::Gone { detail: request.commit });
    };
    let parent = only_parent(&git, &commit).await?;
    for _ in 0..TRIES_MAX {
        let Some(old) = tip(&git, &request.target).await? else {
            return Ok(MergeResult::Parked { reason: format!("branch `{}` does not exist", request.target) });
        };
        if let Some(commit) = find_attempt(&git, &request.base, &old, &request.trailer).await? {
            return Ok(MergeResult::Already { commit });
        }
        let new = match replay(&git, &commit, &parent, &old).await? {
            Replay::Commit(new) => new,
            Replay::Nothing => return Ok(MergeResult::Already { commit: old }),
            Replay::Conflict { paths, detail } => return Ok(MergeResult::Conflict { paths, detail }),
        };
        match advance(&git, &request.target, (&old, &new), &request.trailer).await? {
            Advance::Done => return Ok(MergeResult::Merged { commit: new }),
            Advance::Parked(reason) => return Ok(MergeResult::Parked { reason }),
            // Somebody was quicker: look again.
            Advance::Overtaken => {}
        }
    }
    Ok(MergeResult::Parked { reason: format!("branch `{}` kept moving", request.target) })
}

/// What became of a branch that was to go on to its next commit.
pub(super) enum Advance {
    Done,
    Parked(String),
    /// It did not end with the commit that it was to go on from.
    Overtaken,
}

/// Lets a branch, and every checkout that shows it, go on from one commit to the next.
pub(super) async fn advance(
    git: &Git,
    target: &str,
    (old, new): (&str, &str),
    trailer: &str,
) -> Result<Advance, GitError> {
    let intents = match checkout::move_all(git, target, old, new, trailer).await? {
        Moved::Yes(intents) => intents,
        Moved::Parked(reason) => return Ok(Advance::Parked(reason)),
    };
    let message = format!("miyabi: merge {trailer}");
    let reference = format!("refs/heads/{target}");
    match git.call(["-c", LOCK_PATIENCE, "update-ref", "-m", &message, &reference, new, old]).text().await {
        Ok(_) => {
            for intent in intents {
                // One that stays names an attempt that is merged, and so never comes again.
                std::fs::remove_file(intent).ok();
            }
            Ok(Advance::Done)
        }
        Err(GitError::Failed { detail, .. }) => {
            if let Some(lock) = locked(git, &reference).await? {
                let reason = format!("somebody is using git: {} is there; if nobody is, remove it", lock.display());
                return Ok(Advance::Parked(reason));
            }
            tracing::debug!(detail, target, "the merge begins anew");
            Ok(Advance::Overtaken)
        }
        Err(error) => Err(error),
    }
}

/// Returns the full id of a commit; nothing if there is no such commit.
pub(super) async fn full_id(git: &Git, commit: &str) -> Result<Option<String>, GitError> {
    git.call(["rev-parse", "--verify", "--quiet", &format!("{commit}^{{commit}}")]).answer().await
}

/// Returns the lock file that keeps a branch from being moved, if there is one.
async fn locked(git: &Git, reference: &str) -> Result<Option<PathBuf>, GitError> {
    for name in [reference, "HEAD"] {
        if let Some(lock) = locks::held(git, name).await? {
            return Ok(Some(lock));
        }
    }
    Ok(None)
}

pub(super) async fn only_parent(git: &Git, commit: &str) -> Result<String, GitError> {
    let parents = git.call(["log", "-1", "--format=%P", commit, "--"]).text().await?;
    let parents: Vec<&str> = parents.split_whitespace().collect();
    match parents.as_slice() {
        [parent] => Ok((*parent).to_owned()),
        [] | [_, _, ..] => {
            Err(GitError::Parents { path: git.dir().to_owned(), commit: commit.to_owned(), parents: parents.len() })
        }
    }
}

/// What a commit comes to on another one.
pub(super) enum Replay {
    /// This commit.
    Commit(String),
    /// Everything in it is there already.
    Nothing,
    Conflict {
        paths: Vec<String>,
        detail: String,
    },
}

pub(super) async fn replay(git: &Git, commit: &str, parent: &str, onto: &str) -> Result<Replay, GitError> {
    if parent == onto {
        return Ok(Replay::Commit(commit.to_owned()));
    }
    let base = format!("--merge-base={parent}");
    let args = ["merge-tree", "--write-tree", "--name-only", "-z", &base, onto, commit];
    let outcome = git.call(args).slow().outcome().await?;
    let unexpected =
        |detail: String| GitError::Unexpected { path: git.dir().to_owned(), command: "merge-tree".to_owned(), detail };
    let mut fields = outcome.stdout.split(|byte| *byte == 0);
    let tree = fields.next().map(|tree| String::from_utf8_lossy(tree).trim().to_owned()).unwrap_or_default();
    match outcome.status.code() {
        Some(0) => {}
        Some(1) => {
            let paths = fields.take_while(|field| !field.is_empty()).map(path_of).collect::<Vec<_>>();
            return conflict(git, onto, &tree, &paths).await;
        }
        Some(_) | None => return Err(unexpected(outcome.stderr)),
    }
    if tree == git.call(["rev-parse", "--verify", &format!("{onto}^{{tree}}")]).text().await? {
        return Ok(Replay::Nothing);
    }
    let text = git.call(["log", "-1", "--format=%an%x00%ae%x00%aI%x00%B", commit, "--"]).text().await?;
    let mut fields = text.splitn(4, '\0');
    let (Some(name), Some(email), Some(_), Some(message)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(unexpected(text));
    };
    let author = Author { name: name.to_owned(), email: email.to_owned() };
    write_commit(git, &tree, onto, message, &author).await.map(Replay::Commit)
}

/// Describes a conflict so that whoever tries next can solve it: the files, and their lines with both sides.
async fn conflict(git: &Git, onto: &str, tree: &str, paths: &[PathBuf]) -> Result<Replay, GitError> {
    let args = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", onto, tree, "--"].map(OsString::from);
    let files = paths.iter().map(|path| {
        let mut file = OsString::from(":(top,literal)");
        file.push(path);
        file
    });
    let outcome = git.call(args.into_iter().chain(files)).first_bytes(DETAIL_BYTES_MAX as u64).outcome().await?;
    let paths: Vec<String> = paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let lines = String::from_utf8_lossy(&outcome.stdout);
    let detail = format!("both sides changed {}\n\n{lines}", paths.join(", "));
    Ok(Replay::Conflict { paths, detail })
}
