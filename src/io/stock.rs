//! What attempts have on the disk: how much their worktrees take, and their logs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::clock;
use super::resources;
use crate::model::layout::Layout;
use crate::model::size::Size;
use crate::model::stock::{AttemptLog, Stock, run_of_log};
use crate::model::time::Timestamp;

/// How many logs one look hands over, the oldest first.
const LOGS_MAX: usize = 20_000;

/// How many files are looked at for that.
const FILES_MAX: usize = 500_000;

/// After how many looks every worktree is measured again, also those in which nobody works: an hour's.
const LOOKS_TO_ALL: u32 = 30;

/// What each worktree took when it was measured last. Their files are many, and change only while somebody works there.
#[derive(Debug, Default)]
pub struct Measured {
    /// By the name of the folder: its size, and whether somebody worked there then.
    sizes: BTreeMap<OsString, (Size, bool)>,
    looks: u32,
}

impl Measured {
    /// Measures the worktrees in which somebody works, or did at the last look, and those that are new.
    fn look(&mut self, layout: &Layout, in_use: &BTreeSet<PathBuf>) -> Size {
        let is_of_all = self.looks.is_multiple_of(LOOKS_TO_ALL);
        self.looks = self.looks.wrapping_add(1);
        let mut sizes = BTreeMap::new();
        for entry in fs::read_dir(layout.worktrees()).into_iter().flatten().flatten() {
            let is_in_use = in_use.contains(&entry.path());
            let size = match self.sizes.get(&entry.file_name()) {
                Some((known, false)) if !is_in_use && !is_of_all => *known,
                Some(_) | None => resources::disk_used_by(&entry.path()),
            };
            sizes.insert(entry.file_name(), (size, is_in_use));
        }
        self.sizes = sizes;
        Size(self.sizes.values().map(|(size, _)| size.0).sum())
    }
}

/// Looks around, and measures the worktrees in use. What cannot be read is not there.
#[must_use]
pub fn look(layout: &Layout, measured: &mut Measured, in_use: &BTreeSet<PathBuf>) -> Stock {
    let worktrees = measured.look(layout, in_use);
    let mut logs: Vec<AttemptLog> = Vec::new();
    let mut looked_at = 0;
    for folder in fs::read_dir(layout.logs()).into_iter().flatten().flatten() {
        let Ok(agent) = folder.file_name().into_string() else { continue };
        for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > FILES_MAX {
                tracing::warn!(FILES_MAX, "there are more logs of attempts than are looked at");
                break;
            }
            logs.extend(entry.file_name().into_string().ok().and_then(|file| attempt_log(&entry, &agent, file)));
        }
    }
    logs.sort_unstable();
    logs.truncate(LOGS_MAX);
    Stock { worktrees, logs }
}

/// Returns what worktrees take of the disk. Looks at every file in them.
#[must_use]
pub fn worktrees(layout: &Layout) -> Size {
    resources::disk_used(&[layout.worktrees()], &BTreeMap::new()).1
}

fn attempt_log(entry: &fs::DirEntry, agent: &str, file: String) -> Option<AttemptLog> {
    let run = run_of_log(&file)?;
    let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
    Some(AttemptLog { written: clock::timestamp(meta.modified().ok()?), run, agent: agent.to_owned(), file })
}

/// Throws logs away, unless somebody has written to them since they were looked at. Returns how many are gone.
#[must_use]
pub fn forget(layout: &Layout, logs: &[AttemptLog]) -> usize {
    let mut gone = 0;
    for log in logs {
        let path = layout.logs().join(&log.agent).join(&log.file);
        match forget_one(&path, log.written) {
            Ok(true) => gone += 1,
            Ok(false) => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "an old log cannot be thrown away"),
        }
    }
    gone
}

fn forget_one(path: &Path, written: Timestamp) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() && clock::timestamp(meta.modified()?) == written => {
            fs::remove_file(path).map(|()| true)
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_oldest_logs_come_first_and_one_that_was_written_to_meanwhile_stays() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().to_owned());
        let folder = layout.logs().join("kaede");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(layout.worktrees().join("x")).unwrap();
        fs::write(layout.worktrees().join("x/file"), vec![1_u8; 100_000]).unwrap();
        let name = |attempt: u32| format!("plan_a-01KAPZ3XZ00000000000000001-code-{attempt}.log");
        for (attempt, age) in [(1, 10), (2, 30), (3, 20)] {
            let file = fs::File::create(folder.join(name(attempt))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age)).unwrap();
        }
        fs::write(folder.join("notes.log"), "mine").unwrap();
        fs::write(layout.logs().join("supervisor.log"), "a file a day").unwrap();

        let stock = look(&layout, &mut Measured::default(), &BTreeSet::new());
        assert!(stock.worktrees.0 >= 100_000, "{stock:?}");
        let files: Vec<&str> = stock.logs.iter().map(|log| log.file.as_str()).collect();
        assert_eq!(files, [name(2), name(3), name(1)]);
        fs::write(folder.join(name(3)), "still at work").unwrap();
        assert_eq!(forget(&layout, &stock.logs), 2);
        assert!(!folder.join(name(2)).exists() && !folder.join(name(1)).exists());
        assert!(folder.join(name(3)).exists() && folder.join("notes.log").exists());
        assert_eq!(forget(&layout, &stock.logs), 0, "what is gone is gone");
    }

    #[test]
    fn a_worktree_is_measured_while_somebody_works_there_once_more_after_that_and_now_and_then() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().to_owned());
        let (busy, quiet) = (layout.worktrees().join("busy"), layout.worktrees().join("quiet"));
        let grow = |folder: &Path, name: &str| fs::write(folder.join(name), vec![1_u8; 1_000_000]).unwrap();
        for folder in [&busy, &quiet] {
            fs::create_dir_all(folder).unwrap();
            grow(folder, "first");
        }
        let mut measured = Measured::default();
        let (some, none) = (BTreeSet::from([busy.clone()]), BTreeSet::new());
        let mut megabytes = |in_use: &BTreeSet<PathBuf>| look(&layout, &mut measured, in_use).worktrees.0 / 1_000_000;
        assert_eq!(megabytes(&some), 2);
        grow(&busy, "second");
        grow(&quiet, "second");
        assert_eq!(megabytes(&some), 3, "nobody works in the other one");
        grow(&busy, "last");
        assert_eq!(megabytes(&none), 4, "what was written before the end counts");
        fs::remove_dir_all(&busy).unwrap();
        assert_eq!(megabytes(&none), 1, "what is gone takes nothing");
        for _ in 4..LOOKS_TO_ALL {
            assert_eq!(megabytes(&none), 1);
        }
        assert_eq!(megabytes(&none), 2, "whatever happened there is seen within an hour");
        assert_eq!(worktrees(&layout).0 / 1_000_000, 2);
    }
}
