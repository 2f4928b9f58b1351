//! Hints that something changed in the runner's mailbox; the machine's sweeps are the truth.

use std::path::PathBuf;

use tokio::sync::mpsc;

use super::post::Post;
use crate::io::spool::name::Folder;
use crate::io::watch::{self, Watch};
use crate::model::watching::WatchFaults;

/// How many hints may wait: one of each topic says everything.
const WAITING_MAX: usize = 8;

/// What may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// An order may have arrived.
    New,
    /// The order in hand may have been taken away.
    Leased,
    /// The operator's mark for a freeze may have come or gone.
    Freeze,
    /// The agent's program may have put down an event.
    Events,
}

/// Hears of changes for as long as it lives.
#[derive(Debug)]
pub(super) struct Hints {
    watch: Option<Watch<Topic>>,
    topics: mpsc::Receiver<Topic>,
    /// Keeps the channel of a deaf one open, so that waiting on it waits.
    _sender: mpsc::Sender<Topic>,
}

impl Hints {
    /// Hears nothing: for a runner that takes no orders.
    pub(super) fn none() -> Self {
        let (sender, topics) = mpsc::channel(WAITING_MAX);
        Self { watch: None, topics, _sender: sender }
    }

    /// Begins to watch the mailbox.
    pub(super) fn of(post: &Post, freeze: PathBuf, events: PathBuf) -> Self {
        // Full: a hint of some topic waits, and the next sweep finds what the dropped one meant.
        let (sender, topics) = mpsc::channel(WAITING_MAX);
        let folders = vec![
            (Topic::New, post.folder(Folder::New)),
            (Topic::Leased, post.folder(Folder::Leased)),
            (Topic::Freeze, freeze),
            (Topic::Events, events),
        ];
        Self { watch: Some(watch::start(folders, sender.clone())), topics, _sender: sender }
    }

    /// Waits for the next hint; several of the same topic may be told as one.
    pub(super) async fn next(&mut self) -> Topic {
        match self.topics.recv().await {
            Some(topic) => topic,
            None => std::future::pending().await,
        }
    }

    /// Watches folders that were missing or replaced.
    pub(super) fn rearm(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.rearm();
        }
    }

    /// Says how often something went wrong with watching.
    pub(super) fn faults(&self) -> WatchFaults {
        self.watch.as_ref().map(Watch::faults).unwrap_or_default()
    }
}
