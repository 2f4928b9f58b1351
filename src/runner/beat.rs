//! The heartbeat file: replaced by rename, so that nobody ever reads half of it.

use std::fs;
use std::io;
use std::path::Path;

use crate::model::beat::Beat;

/// Replaces the file. Nothing is synced: after a power cut no old beat is of use.
///
/// # Errors
/// Those of the file system.
pub(super) fn write(path: &Path, beat: &Beat) -> io::Result<()> {
    let text = serde_json::to_vec(beat).map_err(io::Error::other)?;
    let draft = path.with_extension(format!("{}.tmp", beat.incarnation));
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}
