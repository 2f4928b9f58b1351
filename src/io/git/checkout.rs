//! Checkouts that show a branch: looked at with care, moved together with it, never at the cost of somebody's work.

use std::path::{Path, PathBuf};

use super::GitError;
use super::call::{Git, path_of, records};
use super::heal::{self, Begun, Changes, Found};
use super::{locks, registry};

/// How many paths a reason names.
const NAMED_MAX: usize = 5;

/// What git leaves in its folder while somebody is in the middle of something.
const OPERATIONS: [(&str, &str); 7] = [
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase or `git am`"),
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("sequencer", "a cherry-pick or revert"),
    ("BISECT_LOG", "a bisect"),
];

/// The file in a worktree's git folder that names the attempt whose commit is being moved to.
const INTENT: &str = "miyabi-move";

/// What came of [`move_all`].
pub(super) enum Moved {
    /// Every checkout shows the new commit. The intents are to be removed when the branch has followed.
    Yes(Vec<PathBuf>),
    /// Somebody is at work; nothing was moved.
    Parked(String),
}

/// Moves every checkout that shows the branch from one commit to another.
pub(super) async fn move_all(git: &Git, branch: &str, old: &str, new: &str, attempt: &str) -> Result<Moved, GitError> {
    let bare = git.call(["rev-parse", "--is-bare-repository"]).text().await? == "true";
    if !bare && let Some(reason) = not_on(git, branch).await? {
        return Ok(Moved::Parked(reason));
    }
    let worktrees = worktrees(git).await?;
    let reference = format!("refs/heads/{branch}");
    let mut moves = Vec::new();
    let changes = heal::changes(git, old, new).await?;
    for worktree in &worktrees {
        if worktree.branch.as_deref() == Some(&reference) {
            let git = Git::at(&worktree.path);
            let intent = PathBuf::from(git.call(["rev-parse", "--absolute-git-dir"]).text().await?).join(INTENT);
            let begun = match std::fs::read_to_string(&intent) {
                Ok(begun) if begun == attempt => Begun::Yes,
                Ok(_) | Err(_) => Begun::No,
            };
            match look(&git, &changes, begun).await? {
                Look::Parked(reason) => return Ok(Moved::Parked(reason)),
                Look::Clean => moves.push((git, intent, Found::Old)),
                Look::Begun => moves.push((git, intent, Found::Between)),
            }
        } else if rebases(&worktree.path, &reference).await {
            let path = worktree.path.display();
            return Ok(Moved::Parked(format!("branch `{branch}` is being rebased in {path}")));
        }
    }
    let mut intents = Vec::new();
    for (git, intent, found) in moves {
        std::fs::write(&intent, attempt).map_err(|source| GitError::File {
            act: "write",
            path: intent.clone(),
            source,
        })?;
        let refused = match found {
            Found::Old => {
                let outcome = git.call(["read-tree", "-m", "-u", old, new]).slow().outcome().await?;
                let refused = format!("{} cannot be moved: {}", git.dir().display(), outcome.stderr);
                (!outcome.status.success()).then_some(refused)
            }
            Found::Between => heal::complete(&git, new, &changes).await?,
        };
        if let Some(reason) = refused {
            return Ok(Moved::Parked(reason));
        }
        intents.push(intent);
    }
    Ok(Moved::Yes(intents))
}

/// Says why a checkout that is not bare does not show the branch, if so.
async fn not_on(git: &Git, branch: &str) -> Result<Option<String>, GitError> {
    let path = git.dir().display();
    let head = git.call(["symbolic-ref", "--quiet", "--short", "HEAD"]).answer().await?;
    Ok(match head {
        Some(head) if head == branch => None,
        Some(head) => Some(format!("{path} has branch `{head}` checked out, not `{branch}`")),
        None => match operation(git).await? {
            Some(operation) => Some(format!("{operation} is in progress in {path}")),
            None => Some(format!("{path} has no branch checked out (detached HEAD), not `{branch}`")),
        },
    })
}

struct Worktree {
    path: PathBuf,
    branch: Option<String>,
}

async fn worktrees(git: &Git) -> Result<Vec<Worktree>, GitError> {
    let list = registry::call(git, &["list", "--porcelain", "-z"]).await?;
    let mut worktrees: Vec<Worktree> = Vec::new();
    for record in records(&list) {
        if let Some(path) = record.strip_prefix(b"worktree ") {
            worktrees.push(Worktree { path: path_of(path), branch: None });
        } else if let (Some(branch), Some(worktree)) = (record.strip_prefix(b"branch "), worktrees.last_mut()) {
            worktree.branch = Some(String::from_utf8_lossy(branch).into_owned());
        }
    }
    // A worktree whose folder was removed by hand stays listed until git prunes it.
    worktrees.retain(|worktree| worktree.path.is_dir());
    Ok(worktrees)
}

async fn rebases(worktree: &Path, reference: &str) -> bool {
    let Ok(folder) = Git::at(worktree).call(["rev-parse", "--absolute-git-dir"]).text().await else { return false };
    ["rebase-merge/head-name", "rebase-apply/head-name"]
        .iter()
        .any(|file| std::fs::read_to_string(Path::new(&folder).join(file)).is_ok_and(|name| name.trim() == reference))
}

async fn operation(git: &Git) -> Result<Option<&'static str>, GitError> {
    let folder = PathBuf::from(git.call(["rev-parse", "--absolute-git-dir"]).text().await?);
    Ok(OPERATIONS.iter().find(|(file, _)| folder.join(file).exists()).map(|(_, name)| *name))
}

/// How a checkout is found.
enum Look {
    /// As its commit has it.
    Clean,
    /// Every difference is one that an interrupted move leaves.
    Begun,
    /// Somebody is at work.
    Parked(String),
}

async fn look(git: &Git, changes: &Changes, begun: Begun) -> Result<Look, GitError> {
    let path = git.dir().display();
    if let Some(operation) = operation(git).await? {
        return Ok(Look::Parked(format!("{operation} is in progress in {path}")));
    }
    if let Some(lock) = locks::held(git, "index").await? {
        let lock = lock.display();
        return Ok(Look::Parked(format!("somebody is using git: {lock} is there; if nobody is, remove it")));
    }
    let state = heal::compare(git, changes, begun).await?;
    if !state.foreign.is_empty() {
        return Ok(Look::Parked(format!("tracked files are changed in {path}: {}", named(&state.foreign))));
    }
    if !state.blocked.is_empty() {
        return Ok(Look::Parked(format!("untracked files in {path} would be overwritten: {}", named(&state.blocked))));
    }
    Ok(if state.begun { Look::Begun } else { Look::Clean })
}

fn named(paths: &[PathBuf]) -> String {
    let mut text = paths.iter().take(NAMED_MAX).map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(", ");
    if let Some(more) = paths.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
