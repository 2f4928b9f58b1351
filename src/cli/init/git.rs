//! What git says of the folder that becomes a root.

use std::path::Path;
use std::process::{Command, Stdio};

/// The repository around a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// The way from the folder to the top of the checkout: `.`, `..`, `../..`.
    pub(super) way_up: String,
    /// The name of the checkout's folder.
    pub(super) name: String,
    /// Whether there is a commit to begin on.
    pub(super) has_commit: bool,
}

/// Looks for the checkout around a folder; without git, or outside of one, there is none.
#[must_use]
pub(super) fn look(folder: &Path) -> Option<Surroundings> {
    let way_up = ask(folder, &["rev-parse", "--show-cdup"])?;
    let top = ask(folder, &["rev-parse", "--show-toplevel"])?;
    let way_up = way_up.trim_end_matches('/');
    Some(Surroundings {
        way_up: if way_up.is_empty() { ".".to_owned() } else { way_up.to_owned() },
        name: Path::new(&top).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        has_commit: ask(folder, &["rev-parse", "--verify", "--quiet", "HEAD"]).is_some(),
    })
}

/// Says whether git tracks a file.
#[must_use]
pub(super) fn is_tracked(folder: &Path, file: &str) -> bool {
    ask(folder, &["ls-files", "--error-unmatch", "--", file]).is_some()
}

/// Returns the addresses of a checkout's remotes, as they are written in its configuration.
#[must_use]
pub(super) fn remotes(folder: &Path) -> Vec<String> {
    let listed = ask(folder, &["config", "--get-regexp", r"^remote\..*\.url$"]).unwrap_or_default();
    listed.lines().filter_map(|line| line.split_once(' ')).map(|(_, url)| url.to_owned()).collect()
}

fn ask(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).stderr(Stdio::null()).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim_end_matches('\n').to_owned())
}
