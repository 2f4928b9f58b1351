//! Hints that a folder has changed. Hints may be lost; whoever needs the truth also sweeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::Sender;

/// Watches folders, each under a topic, and sends the topic when something in the folder changes.
#[derive(Debug)]
pub struct Watch<T> {
    folders: Arc<Vec<(T, PathBuf)>>,
    watcher: Option<RecommendedWatcher>,
    hints: Sender<T>,
    /// Device and inode of each folder when its watch was set: a folder that is replaced makes inotify blind without a word.
    armed: Mutex<BTreeMap<PathBuf, (u64, u64)>>,
}

/// Begins to watch. A folder that cannot be watched now is a warning; [`Watch::rearm`] tries again.
///
/// The channel may be full: then a hint is pending anyway.
pub fn start<T: Clone + Send + Sync + 'static>(folders: Vec<(T, PathBuf)>, hints: Sender<T>) -> Watch<T> {
    let mut watch = Watch { folders: Arc::new(folders), watcher: None, hints, armed: Mutex::new(BTreeMap::new()) };
    watch.rearm();
    watch
}

impl<T: Clone + Send + Sync + 'static> Watch<T> {
    /// Sets the watches that are missing, and those whose folder was replaced. Call it from the slow sweep.
    ///
    /// A topic whose watch was set now is sent: what came before the watch gave no hint.
    pub fn rearm(&mut self) {
        if self.watcher.is_none() {
            self.watcher = watcher(&self.folders, &self.hints);
        }
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watcher) = &mut self.watcher else { return };
        for (topic, folder) in self.folders.iter() {
            let Some(identity) = identity(folder) else {
                armed.remove(folder);
                tracing::debug!(folder = %folder.display(), "the folder to watch is not there");
                continue;
            };
            if armed.get(folder) == Some(&identity) {
                continue;
            }
            if armed.remove(folder).is_some() {
                // The old watch hangs on a folder that is no more; an error here only says so.
                drop(watcher.unwatch(folder));
            }
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    armed.insert(folder.clone(), identity);
                    send(&self.hints, topic);
                }
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "the folder cannot be watched; sweeps go on");
                }
            }
        }
    }
}

/// Asks the system for a watcher; it may have no more to give, for now.
fn watcher<T: Clone + Send + Sync + 'static>(
    folders: &Arc<Vec<(T, PathBuf)>>,
    hints: &Sender<T>,
) -> Option<RecommendedWatcher> {
    let (folders, hints) = (Arc::clone(folders), hints.clone());
    let made = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) => hint(&folders, &hints, &event),
        Err(error) => {
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

fn hint<T: Clone>(folders: &[(T, PathBuf)], hints: &Sender<T>, event: &Event) {
    if event.need_rescan() || event.paths.is_empty() {
        all(folders, hints);
        return;
    }
    // Reading a file changes nothing; reacting to it would make every look cause the next one.
    if matches!(event.kind, EventKind::Access(_)) {
        return;
    }
    for (topic, folder) in folders {
        if event.paths.iter().any(|path| path.parent() == Some(folder) || path == folder) {
            send(hints, topic);
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
        watch.rearm();
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
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("early"), "x").unwrap();
        watch.rearm();
        assert_eq!(next(&mut hints).await, Some(1), "what came before the watch is told");
        std::fs::write(folder.join("file"), "x").unwrap();
        assert_eq!(next(&mut hints).await, Some(1));
    }
}
