//! The `dashboard` driver: shows the state of everything in its pane, and is never given work.

use std::path::Path;

use super::Program;

/// Starts `miyabi status --watch` for a root folder.
#[must_use]
pub fn start(miyabi: &Path, root: &Path) -> Program {
    let argv = [miyabi.into(), "-C".into(), root.into(), "status".into(), "--watch".into()].to_vec();
    Program::plain(argv)
}
