//! The operator's mark for a freeze, and what is done to processes because of it.
//!
//! The mark is the truth: whoever comes by makes the processes fit it, with or without a supervisor. Everything that an agent's
//! runner has started is stopped by SIGSTOP. The runners themselves are not: tmux continues a pane's process as soon as
//! it is stopped. They look at the mark, begin nothing while it is there, and go on beating.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::process::{self, ProcessError};
use crate::model::agent::DriverKind;
use crate::model::freeze::PastFreeze;
use crate::model::id::AgentId;
use crate::model::layout::Layout;
use crate::model::plan::Plan;
use crate::model::time::Timestamp;

/// How often the mark may change under us before we leave it to whoever changes it.
const CHANGES_MAX: usize = 5;

/// The content of the mark.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mark {
    since: Timestamp,
}

/// The mark could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}")]
pub struct MarkError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What was done to the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obeyed {
    /// The mark is there; so many processes stand still.
    Frozen {
        /// How many.
        processes: usize,
    },
    /// The mark is not there; so many processes were continued.
    Thawed {
        /// How many.
        processes: usize,
    },
}

/// Returns since when everything is to be frozen. A mark that cannot be understood is a mark.
#[must_use]
pub fn read(layout: &Layout) -> Option<Timestamp> {
    let path = layout.frozen();
    let meta = fs::symlink_metadata(&path).ok()?;
    let changed = Timestamp::from_millis(meta.mtime().saturating_mul(1_000));
    let mark = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Mark>(&text).ok());
    Some(mark.map_or(changed, |mark| mark.since))
}

/// Puts the mark down, durably; one that is there stays as it is. Returns since when it holds.
///
/// # Errors
/// When the root cannot be written.
pub fn write(layout: &Layout, now: Timestamp) -> Result<Timestamp, MarkError> {
    if let Some(since) = read(layout) {
        return Ok(since);
    }
    let path = layout.frozen();
    let failed = |source| MarkError { doing: "write", path: path.clone(), source };
    let text = serde_json::to_vec(&Mark { since: now }).map_err(|error| failed(error.into()))?;
    fs::create_dir_all(layout.freeze()).map_err(failed)?;
    let draft = layout.freeze().join(format!(".{}.tmp", std::process::id()));
    fs::write(&draft, text).map_err(failed)?;
    fs::File::open(&draft).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, &path).map_err(failed)?;
    sync(&layout.freeze()).map_err(failed)?;
    Ok(now)
}

/// Returns the freeze that was ended last; nothing when there was none, or its record cannot be read.
#[must_use]
pub fn past(layout: &Layout) -> Option<PastFreeze> {
    fs::read(layout.thawed()).ok().and_then(|text| serde_json::from_slice(&text).ok())
}

/// Takes the mark away, durably, and notes how long it held. Returns since when; nothing when there was none.
///
/// # Errors
/// When the root cannot be written.
pub fn remove(layout: &Layout, now: Timestamp) -> Result<Option<Timestamp>, MarkError> {
    let path = layout.frozen();
    let failed = |source| MarkError { doing: "remove", path: path.clone(), source };
    let since = read(layout);
    // First, so that nobody sees the mark gone without it. On a full disk the thaw counts for more than the note.
    if let Some(since) = since
        && let Err(error) = note(layout, PastFreeze { since, until: now })
    {
        tracing::warn!(%error, "how long the freeze has lasted cannot be noted; who missed it counts its time");
    }
    match fs::remove_file(&path) {
        Ok(()) => sync(&layout.freeze()).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(since)
}

fn note(layout: &Layout, past: PastFreeze) -> io::Result<()> {
    let draft = layout.freeze().join(format!(".{}.tmp", std::process::id()));
    fs::write(&draft, serde_json::to_vec(&past)?)?;
    fs::rename(&draft, layout.thawed())
}

fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Names the agents that are not suspended: dashboards, which show the freeze.
#[must_use]
pub fn spared(plan: &Plan) -> Vec<AgentId> {
    let shows = |driver| match driver {
        DriverKind::Dashboard => true,
        DriverKind::Command
        | DriverKind::Echo
        | DriverKind::Aider
        | DriverKind::Claude
        | DriverKind::Codex
        | DriverKind::Gemini
        | DriverKind::Opencode => false,
    };
    plan.agents.iter().filter(|agent| shows(agent.driver)).map(|agent| agent.id.clone()).collect()
}

/// Makes the processes of the root's agents fit the mark. Blocks while it looks at all processes; doing it twice is harmless.
///
/// # Errors
/// When /proc cannot be listed.
pub fn obey(layout: &Layout, spared: &[AgentId]) -> Result<Obeyed, ProcessError> {
    let mut obeyed = Obeyed::Thawed { processes: 0 };
    for _ in 0..CHANGES_MAX {
        let marked = read(layout).is_some();
        obeyed = if marked {
            Obeyed::Frozen { processes: process::suspend(layout.root(), spared)? }
        } else {
            Obeyed::Thawed { processes: process::resume(layout.root())? }
        };
        // Whoever changed the mark meanwhile may have looked before we acted.
        if read(layout).is_some() == marked {
            break;
        }
    }
    Ok(obeyed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thaw_tells_those_who_missed_the_freeze_how_long_it_was() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().to_owned());
        let at = Timestamp::from_millis;
        assert_eq!((read(&layout), past(&layout)), (None, None));
        assert_eq!(write(&layout, at(5)).unwrap(), at(5));
        assert_eq!(write(&layout, at(7)).unwrap(), at(5), "the first freeze counts");
        assert_eq!((read(&layout), past(&layout)), (Some(at(5)), None));
        assert_eq!(remove(&layout, at(9)).unwrap(), Some(at(5)));
        let over = Some(PastFreeze { since: at(5), until: at(9) });
        assert_eq!((read(&layout), past(&layout)), (None, over));
        assert_eq!(remove(&layout, at(11)).unwrap(), None, "nothing was frozen");
        assert_eq!(past(&layout), over);
    }
}
