//! Hints that a folder has changed. Hints may be lost; whoever needs the truth also sweeps.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::Sender;

use crate::model::watching::WatchFaults;

/// What is told of a folder.
#[derive(Debug, Clone, Copy)]
pub struct Change<'e> {
    /// The file in it; absent: it may be anything.
    pub name: Option<&'e OsStr>,
    /// Whether the file has come under this name by one rename, so that nobody is still writing it.
    pub is_whole: bool,
}

/// Says under which topic a change is told, if at all.
pub type Judge<T> = fn(T, &Change<'_>) -> Option<T>;

/// Watches folders, each under a topic, and sends the topic when something in the folder changes.
#[derive(Debug)]
pub struct Watch<T> {
    folders: Arc<Vec<(T, PathBuf)>>,
    watcher: Option<RecommendedWatcher>,
    hints: Sender<T>,
    judge: Judge<T>,
    /// Device and inode of each folder when its watch was set: a folder that is replaced makes inotify blind without a word.
    armed: Mutex<BTreeMap<PathBuf, (u64, u64)>>,
    /// How often hints were lost, as the watcher's thread and the sweeps see it.
    lost: Arc<AtomicU64>,
    /// How often a folder could not be watched when it was tried.
    blind: u64,
    /// The folders about which the log has been told that they are missing.
    told: BTreeSet<PathBuf>,
}

/// Begins to watch. A folder that cannot be watched now is a warning; [`Watch::rearm`] tries again.
///
/// The channel may be full: then a hint is pending anyway.
pub fn start<T: Clone + Send + Sync + 'static>(folders: Vec<(T, PathBuf)>, hints: Sender<T>) -> Watch<T> {
    start_judging(folders, hints, |topic, _| Some(topic))
}

/// Does the same, with another judge of what is told.
pub fn start_judging<T: Clone + Send + Sync + 'static>(
    folders: Vec<(T, PathBuf)>,
    hints: Sender<T>,
    judge: Judge<T>,
) -> Watch<T> {
    let mut watch = Watch {
        folders: Arc::new(folders),
        watcher: None,
        hints,
        judge,
        armed: Mutex::new(BTreeMap::new()),
        lost: Arc::default(),
        blind: 0,
        told: BTreeSet::new(),
    };
    watch.rearm();
    watch
}

impl<T: Clone + Send + Sync + 'static> Watch<T> {
    /// Sets the watches that are missing, and those whose folder was replaced. Call it from the slow sweep.
    ///
    /// A topic whose watch was set now is sent: what came before the watch gave no hint.
    pub fn rearm(&mut self) {
        if self.watcher.is_none() {
            self.watcher = watcher(&self.folders, &self.hints, self.judge, &self.lost);
        }
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watcher) = &mut self.watcher else {
            self.blind += 1;
            return;
        };
        for (topic, folder) in self.folders.iter() {
            let Some(identity) = identity(folder) else {
                armed.remove(folder);
                self.blind += 1;
                if self.told.insert(folder.clone()) {
                    tracing::warn!(folder = %folder.display(), "the folder to watch is not there; sweeps go on");
                }
                continue;
            };
            self.told.remove(folder);
            if armed.get(folder) == Some(&identity) {
                continue;
            }
            if armed.remove(folder).is_some() {
                // The old watch hangs on a folder that is no more; an error here only says so.
                drop(watcher.unwatch(folder));
                self.lost.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(folder = %folder.display(), "a watched folder was replaced; it is watched anew");
            }
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    armed.insert(folder.clone(), identity);
                    send(&self.hints, topic);
                }
                Err(error) => {
                    self.blind += 1;
                    tracing::warn!(folder = %folder.display(), %error, "the folder cannot be watched; sweeps go on");
                }
            }
        }
    }

    /// Says how often something went wrong with watching.
    #[must_use]
    pub fn faults(&self) -> WatchFaults {
        WatchFaults { lost: self.lost.load(Ordering::Relaxed), blind: self.blind, missed: 0 }
    }
}

/// Asks the system for a watcher; it may have no more to give, for now.
fn watcher<T: Clone + Send + Sync + 'static>(
    folders: &Arc<Vec<(T, PathBuf)>>,
    hints: &Sender<T>,
    judge: Judge<T>,
    lost: &Arc<AtomicU64>,
) -> Option<RecommendedWatcher> {
    let (folders, hints, lost) = (Arc::clone(folders), hints.clone(), Arc::clone(lost));
    let made = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) => {
            if event.need_rescan() {
                lost.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "hints of changed files were lost: the kernel's queue was full; all folders are looked at"
                );
            }
            hint(&folders, &hints, judge, &event);
        }
        Err(error) => {
            lost.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "a file watch reports an error; sweeps go on");
            all(&folders, &hints);
        }
    });
    match made {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "files cannot be watched; changes are seen by the slow sweep only");
            None
        }
    }
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(folder).ok()?;
    Some((meta.dev(), meta.ino()))
}

fn hint<T: Clone>(folders: &[(T, PathBuf)], hints: &Sender<T>, judge: Judge<T>, event: &Event) {
    if event.need_rescan() || event.paths.is_empty() {
        all(folders, hints);
        return;
    }
    // Reading a file changes nothing; reacting to it would make every look cause the next one.
    if matches!(event.kind, EventKind::Access(_)) {
        return;
    }
    let is_whole = event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::To));
    for (topic, folder) in folders {
        for path in event.paths.iter().filter(|path| path.parent() == Some(folder) || *path == folder) {
            let name = if path == folder { None } else { path.file_name() };
            if let Some(topic) = judge(topic.clone(), &Change { name, is_whole }) {
                send(hints, &topic);
            }
        }
    }
}

fn all<T: Clone>(folders: &[(T, PathBuf)], hints: &Sender<T>) {
    for (topic, _) in folders {
        send(hints, topic);
    }
}

fn send<T: Clone>(hints: &Sender<T>, topic: &T) {
    // Full: a hint is pending anyway. Closed: nobody wants hints any more.
    drop(hints.try_send(topic.clone()));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    async fn next(hints: &mut mpsc::Receiver<u8>) -> Option<u8> {
        tokio::time::timeout(Duration::from_secs(10), hints.recv()).await.expect("a hint comes in time")
    }

    #[tokio::test]
    async fn a_new_file_is_a_hint_under_its_folders_topic() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (root.path().join("one"), root.path().join("two"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        let (sender, mut hints) = mpsc::channel(8);
        let _watch = start(vec![(1, one), (2, two.clone())], sender);
        assert_eq!((next(&mut hints).await, next(&mut hints).await), (Some(1), Some(2)));
        std::fs::write(two.join("file"), "x").unwrap();
        assert_eq!(next(&mut hints).await, Some(2));
    }

    #[tokio::test]
    async fn a_folder_that_is_replaced_is_watched_again_after_the_sweep() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let (sender, mut hints) = mpsc::channel(64);
        let mut watch = start(vec![(1, folder.clone())], sender);
        std::fs::rename(&folder, root.path().join("old")).unwrap();
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(watch.faults(), WatchFaults::default());
        watch.rearm();
        assert_eq!(watch.faults(), WatchFaults { lost: 1, ..WatchFaults::default() });
        while hints.try_recv().is_ok() {}
        std::fs::write(folder.join("file"), "x").unwrap();
        assert_eq!(next(&mut hints).await, Some(1));
    }

    #[tokio::test]
    async fn a_folder_that_is_missing_is_watched_once_it_is_there() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("late");
        let (sender, mut hints) = mpsc::channel(8);
        let mut watch = start(vec![(1, folder.clone())], sender);
        assert_eq!(watch.faults(), WatchFaults { blind: 1, ..WatchFaults::default() });
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("early"), "x").unwrap();
        watch.rearm();
        assert_eq!(next(&mut hints).await, Some(1), "what came before the watch is told");
        std::fs::write(folder.join("file"), "x").unwrap();
        assert_eq!(next(&mut hints).await, Some(1));
    }
}
