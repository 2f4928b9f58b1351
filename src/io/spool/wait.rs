//! Waiting for something to happen in a mailbox, without polling: hints of the file system, and a slow sweep for those
//! that never come.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use crate::io::watch::{self, Watch};
use crate::model::id::Mailbox;

use super::Spool;
use super::name::Folder;

/// How long a hint that was lost can delay whoever waits.
pub const SWEEP: Duration = Duration::from_secs(5);

/// Hints are all alike, so one that waits is as good as many.
const HINTS_MAX: usize = 1;

/// Tells when a mailbox may have changed.
#[derive(Debug)]
pub struct Changes {
    // Before the runtime, whose tasks it does not need.
    watch: Watch<()>,
    hints: mpsc::Receiver<()>,
    runtime: Runtime,
}

impl Spool {
    /// Begins to watch what comes and goes in a mailbox. The first hint is there at once.
    ///
    /// # Errors
    /// Only when the process lacks memory or open files.
    pub fn changes(&self, mailbox: &Mailbox) -> io::Result<Changes> {
        let room = self.room(mailbox);
        let mut folders: Vec<PathBuf> = Folder::ALL.iter().map(|folder| room.folder(*folder)).collect();
        folders.push(room.history());
        let (sender, hints) = mpsc::channel(HINTS_MAX);
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let watch = watch::start(folders.into_iter().map(|folder| ((), folder)).collect(), sender);
        Ok(Changes { watch, hints, runtime })
    }
}

impl Changes {
    /// Returns when something may have changed, or when the time is over.
    pub fn wait(&mut self, at_most: Duration) {
        let hints = &mut self.hints;
        let patience = at_most.min(SWEEP);
        let hinted = self.runtime.block_on(async { tokio::time::timeout(patience, hints.recv()).await });
        if hinted.is_err() {
            self.watch.rearm();
        }
    }
}
