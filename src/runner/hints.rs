//! Hints that something changed in the runner's mailbox; the machine's sweeps are the truth.

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::drive::News;
use super::post::Post;
use crate::io::spool::name::Folder;

/// Watches the mailbox for as long as the value lives.
#[derive(Debug)]
pub(super) struct Hints {
    _watcher: Option<RecommendedWatcher>,
}

impl Hints {
    /// Begins to watch. Without inotify the sweeps have to do, and a warning says so.
    pub(super) fn start(post: &Post, news: &mpsc::Sender<News>) -> Self {
        let leased = post.folder(Folder::Leased);
        let (news, ours) = (news.clone(), leased.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            // A full channel has hints in it already.
            if event.need_rescan() || event.paths.iter().any(|path| path.starts_with(&ours)) {
                news.try_send(News::LeaseChanged).ok();
            }
            if event.need_rescan() || event.paths.iter().any(|path| !path.starts_with(&ours)) {
                news.try_send(News::MailboxChanged).ok();
            }
        })
        .and_then(|mut watcher| {
            watcher.watch(&post.folder(Folder::New), RecursiveMode::NonRecursive)?;
            watcher.watch(&leased, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "cannot watch the mailbox; new orders are found a little later"),
            )
            .ok();
        Self { _watcher: watcher }
    }
}
