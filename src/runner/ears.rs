//! Hears what an agent's program tells of itself: in its output, and in the folder of events where hooks put theirs.
//!
//! Each event is a sign of life, which the heartbeat counts. Only a change of state is news for the machine.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::drive::News;
use super::event::Event;
use super::progress::Counters;
use crate::drivers::events::{self, Turn};
use crate::drivers::listener::{Heard, Listener};
use crate::model::agent::DriverKind;
use crate::model::signal::Signal;

/// The most bytes of one event that are read; of a larger one only its coming counts.
const EVENT_BYTES_MAX: u64 = 1024 * 1024;

/// How many events are taken at once; what is left is found at the next beat.
const EVENTS_MAX: usize = 1_000;

/// Listens to the output of one program.
#[derive(Debug)]
pub(super) struct Ears {
    listener: Listener,
    progress: Counters,
    news: mpsc::Sender<News>,
}

impl Ears {
    /// Begins to listen; nothing if the driver's program says nothing of itself in its output.
    pub(super) fn new(driver: DriverKind, progress: Counters, news: mpsc::Sender<News>) -> Option<Self> {
        Listener::new(driver).map(|listener| Self { listener, progress, news })
    }

    /// Takes a piece of output and returns what a person is shown of it.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let heard = self.listener.take(bytes);
        self.pass_on(heard).await
    }

    /// Takes what came after the last line's end.
    pub(super) async fn finish(&mut self) -> Vec<u8> {
        let heard = self.listener.finish();
        self.pass_on(heard).await
    }

    /// Returns how the turn ended, if the program said so.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.listener.turn()
    }

    async fn pass_on(&self, heard: Heard) -> Vec<u8> {
        for signal in heard.signals {
            if self.progress.heard(&signal) {
                // When the loop is gone, nobody waits for it.
                self.news.send(News::Event(Event::Heard(signal))).await.ok();
            }
        }
        heard.shown
    }
}

/// Takes the events that lie in the folder, oldest first. Blocks.
pub(super) fn take_events(folder: &Path) -> Vec<Signal> {
    let mut signals = Vec::new();
    for path in waiting(folder) {
        match read(&path) {
            Ok(text) => signals.push(events::of_file(&text).signal.unwrap_or(Signal::Busy)),
            Err(error) => tracing::debug!(path = %path.display(), %error, "an event cannot be read"),
        }
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an event cannot be taken away; it is read again");
        }
    }
    signals
}

/// Throws away what an earlier program has left. Blocks.
pub(super) fn forget_events(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// Lists the events that are whole: those that are still being written have hidden names.
fn waiting(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .take(EVENTS_MAX)
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(EVENT_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}
