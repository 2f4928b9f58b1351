//! Moves of a checkout that were interrupted: told apart from somebody's work, and ended.
//!
//! A path that a move changes is safe to write when its index entry and its file are each what the old or the new
//! commit has there: both are in the object store, so nothing can be lost.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::GitError;
use super::call::{Git, path_of, records};

/// The mode that git prints for "not there".
const ABSENT: &str = "000000";

/// The mode of a submodule: its content is none of ours.
const SUBMODULE: &str = "160000";

/// The mode of a symbolic link.
const LINK: &str = "120000";

/// What stands at a path in a commit: mode and object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    mode: String,
    object: String,
}

impl Entry {
    fn is_absent(&self) -> bool {
        self.mode == ABSENT
    }
}

/// The paths that differ between two commits, with what each has there.
#[derive(Debug)]
pub(super) struct Changes(BTreeMap<PathBuf, (Entry, Entry)>);

/// Whether a move of this very attempt was begun before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    No,
    /// Then a file may also be the beginning of the new one: git was ended while it wrote it.
    Yes,
}

/// How a checkout that may be moved is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Exactly at the old commit.
    Old,
    /// Somewhere between the old and the new one.
    Between,
}

/// What a checkout holds that its commit does not.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Tracked files that somebody changed.
    pub(super) foreign: Vec<PathBuf>,
    /// Untracked files where the new commit has a file.
    pub(super) blocked: Vec<PathBuf>,
    /// Whether there are traces of an interrupted move.
    pub(super) begun: bool,
}

/// Lists what changes between two commits.
pub(super) async fn changes(git: &Git, old: &str, new: &str) -> Result<Changes, GitError> {
    let bytes = git.call(["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", old, new]).bytes().await?;
    let mut changes = BTreeMap::new();
    let mut fields = records(&bytes);
    while let (Some(meta), Some(path)) = (fields.next(), fields.next()) {
        let meta = String::from_utf8_lossy(meta).into_owned();
        let parts: Vec<&str> = meta.trim_start_matches(':').split(' ').collect();
        let [old_mode, new_mode, old_object, new_object, _] = parts.as_slice() else {
            return Err(unexpected(git, "diff-tree", &meta));
        };
        let entry = |mode: &str, object: &str| Entry { mode: mode.to_owned(), object: object.to_owned() };
        changes.insert(path_of(path), (entry(old_mode, old_object), entry(new_mode, new_object)));
    }
    Ok(Changes(changes))
}

/// Compares a checkout with the commit that it should show.
pub(super) async fn compare(git: &Git, changes: &Changes, begun: Begun) -> Result<State, GitError> {
    let args = ["status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=dirty"];
    let status = git.call(args).slow().bytes().await?;
    let mut state = State::default();
    let mut seen = Vec::new();
    for record in records(&status) {
        let text = String::from_utf8_lossy(record);
        // `1 XY sub mode-HEAD mode-index mode-worktree object-HEAD object-index path`; other kinds are conflicts.
        let fields: Vec<&[u8]> = record.splitn(9, |byte| *byte == b' ').collect();
        let Some(path) = fields.last().filter(|_| text.starts_with("1 ") && fields.len() == 9) else {
            let path = record.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            state.foreign.push(path_of(path));
            continue;
        };
        let (path, words) = (path_of(path), text.split(' ').collect::<Vec<_>>());
        let (index_mode, worktree_mode, index_object) = (words[4], words[5], words[7]);
        let ours = match changes.0.get(&path) {
            None => false,
            Some((old, new)) => {
                let index =
                    |entry: &Entry| entry.mode == index_mode && (entry.is_absent() || entry.object == index_object);
                (index(old) || index(new))
                    && (matches(git, &path, worktree_mode, old).await?
                        || matches(git, &path, worktree_mode, new).await?
                        // git removes a file before it writes the new one; and that one may be begun.
                        || (begun == Begun::Yes
                            && (worktree_mode == ABSENT || is_beginning(git, &path, new).await?)))
            }
        };
        if ours {
            state.begun = true;
        } else {
            state.foreign.push(path.clone());
        }
        seen.push(path);
    }
    for (path, (old, new)) in &changes.0 {
        if old.is_absent() && new.mode != SUBMODULE && !seen.contains(path) {
            match in_the_way(git, path, new, changes, begun).await? {
                InTheWay::Nothing => {}
                InTheWay::TheNewFile => state.begun = true,
                InTheWay::Something(path) => state.blocked.push(path),
            }
        }
    }
    Ok(state)
}

/// What stands where a move wants to put a new file.
enum InTheWay {
    Nothing,
    TheNewFile,
    Something(PathBuf),
}

async fn in_the_way(
    git: &Git,
    path: &Path,
    new: &Entry,
    changes: &Changes,
    begun: Begun,
) -> Result<InTheWay, GitError> {
    let file = git.dir().join(path);
    match tokio::fs::symlink_metadata(&file).await {
        // git itself refuses when the folder holds something untracked, and clears it away when not.
        Ok(found) if found.is_dir() => Ok(InTheWay::Nothing),
        Ok(found) => {
            let mode = if found.is_symlink() { LINK } else { new.mode.as_str() };
            let same = mode == new.mode
                && (object_of(git, path, mode).await?.as_ref() == Some(&new.object)
                    || (begun == Begun::Yes && is_beginning(git, path, new).await?));
            Ok(if same { InTheWay::TheNewFile } else { InTheWay::Something(path.to_owned()) })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(InTheWay::Nothing),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            // A file stands where a folder is to be. If it is tracked and goes away in the same move, all is well.
            let goes = |above: &&Path| changes.0.get(*above).is_some_and(|(_, new)| new.is_absent());
            let blocking = path.ancestors().skip(1).find(|above| {
                !above.as_os_str().is_empty()
                    && git.dir().join(above).symlink_metadata().is_ok_and(|found| !found.is_dir())
            });
            Ok(match blocking.filter(|above| !goes(above)) {
                Some(above) => InTheWay::Something(above.to_owned()),
                None => InTheWay::Nothing,
            })
        }
        Err(source) => Err(GitError::File { act: "look at", path: file, source }),
    }
}

/// Says whether the file at a path is what a commit has there.
async fn matches(git: &Git, path: &Path, worktree_mode: &str, entry: &Entry) -> Result<bool, GitError> {
    if entry.is_absent() || worktree_mode == ABSENT {
        return Ok(entry.mode == worktree_mode);
    }
    if entry.mode == SUBMODULE || entry.mode != worktree_mode {
        return Ok(false);
    }
    Ok(object_of(git, path, worktree_mode).await?.as_ref() == Some(&entry.object))
}

/// Says whether the file at a path is the beginning of what a commit has there.
async fn is_beginning(git: &Git, path: &Path, entry: &Entry) -> Result<bool, GitError> {
    let file = git.dir().join(path);
    if entry.is_absent() || matches!(entry.mode.as_str(), SUBMODULE | LINK) || !file.is_file() {
        return Ok(false);
    }
    let mut option = OsString::from("--path=");
    option.push(path);
    let args = [OsStr::new("cat-file"), OsStr::new("--filters"), &option, OsStr::new(&entry.object)];
    let whole = git.call(args).slow().bytes().await?;
    let part = tokio::fs::read(&file).await.map_err(|source| GitError::File { act: "read", path: file, source })?;
    Ok(whole.starts_with(&part))
}

/// Returns the object that a file would become.
async fn object_of(git: &Git, path: &Path, mode: &str) -> Result<Option<String>, GitError> {
    if mode == LINK {
        let file = git.dir().join(path);
        let Ok(target) = tokio::fs::read_link(&file).await else { return Ok(None) };
        let call = git.call(["hash-object", "--stdin"]).stdin(target.as_os_str().as_bytes());
        return call.text().await.map(Some);
    }
    let outcome = git.call([Path::new("hash-object"), Path::new("--"), path]).slow().outcome().await?;
    let object = String::from_utf8_lossy(&outcome.stdout).trim().to_owned();
    Ok(outcome.status.success().then_some(object))
}

/// Brings a checkout that [`compare`] found between two commits to the new one. `Some` says why it was left as it is.
pub(super) async fn complete(git: &Git, new: &str, changes: &Changes) -> Result<Option<String>, GitError> {
    // Writing over a folder would remove everything in it.
    let folder = changes.0.iter().find(|(path, (_, new))| {
        !new.is_absent()
            && new.mode != SUBMODULE
            && git.dir().join(path).symlink_metadata().is_ok_and(|found| found.is_dir())
    });
    if let Some((path, _)) = folder {
        return Ok(Some(format!("a folder is in the way of {}", git.dir().join(path).display())));
    }
    let outcome = git.call(["read-tree", new]).slow().outcome().await?;
    if !outcome.status.success() {
        return Ok(Some(format!("{} cannot be moved: {}", git.dir().display(), outcome.stderr)));
    }
    for (path, (_, entry)) in &changes.0 {
        if entry.is_absent() {
            let file = git.dir().join(path);
            match tokio::fs::remove_file(&file).await {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(GitError::File { act: "remove", path: file, source }),
            }
        }
    }
    let mut written = Vec::new();
    for (path, (_, entry)) in &changes.0 {
        if !entry.is_absent() && entry.mode != SUBMODULE {
            written.extend_from_slice(path.as_os_str().as_bytes());
            written.push(0);
        }
    }
    git.call(["checkout-index", "--force", "--index", "-z", "--stdin"]).stdin(written).slow().text().await?;
    // Its exit code only says that submodules differ.
    git.call(["update-index", "-q", "--refresh"]).slow().outcome().await?;
    Ok(None)
}

fn unexpected(git: &Git, command: &str, detail: &str) -> GitError {
    GitError::Unexpected { path: git.dir().to_owned(), command: command.to_owned(), detail: detail.to_owned() }
}
