//! Cloning a repository that is configured and not there yet.

use std::path::Path;

use super::GitError;
use super::call::Git;

/// Clones a repository into a folder that does not exist yet.
///
/// # Errors
/// Those of git; whatever was written of the folder is removed by git itself.
pub async fn clone(remote: &str, path: &Path) -> Result<(), GitError> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    std::fs::create_dir_all(parent).map_err(|source| GitError::File {
        act: "make folder",
        path: parent.to_owned(),
        source,
    })?;
    let path = path.to_string_lossy();
    Git::at(parent).call(["clone", "--quiet", "--", remote, &path]).text().await?;
    Ok(())
}
