//! Cloning a repository that is configured and not there yet.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::GitError;
use super::call::Git;

/// Clones a repository to a path that does not exist yet. It appears there whole, or not at all; of several that clone at
/// once the first wins.
///
/// # Errors
/// Those of git and of the file system.
pub async fn clone(remote: &str, path: &Path) -> Result<(), GitError> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let file = |act: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| GitError::File { act, path, source }
    };
    std::fs::create_dir_all(parent).map_err(file("make folder", parent))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = parent.join(format!(".{name}.{}-{number}.clone", std::process::id()));
    Git::at(parent).call(["clone", "--quiet", "--", remote, &draft.to_string_lossy()]).text().await?;
    match std::fs::rename(&draft, path) {
        Ok(()) => Ok(()),
        Err(_) if path.join(".git").exists() => std::fs::remove_dir_all(&draft).map_err(file("remove", &draft)),
        Err(source) => Err(file("move", &draft)(source)),
    }
}
