//! The spool on a real file system: its contract, its crash points, its rivals, and programs in other languages.

#![expect(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod bad_input;
mod bounds;
mod concurrent;
mod conformance;
mod contract;
mod crash;
mod crowd;
mod expiry;
mod faulty;
mod flushes;
mod journaled;
mod kept;
mod kills;
mod lessee;
mod listing;
mod lives;
mod memory_queue;
mod numbers;
mod odd;
mod order;
mod others;
pub(crate) mod own_disk;
mod power;
mod properties;
mod rivals;
mod trouble;
mod upkeep;

use std::path::Path;
use std::time::Duration;

use miyabi::io::spool::Spool;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::lease::Leased;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::name::Folder;
use miyabi::model::envelope::{Envelope, EnvelopeKind};
use miyabi::model::id::{EnvelopeId, Incarnation, Mailbox};
use miyabi::model::time::Timestamp;
use serde_json::json;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

/// A spool in a folder of its own, with a clock that the test turns.
struct World {
    folder: TempDir,
    spool: Spool,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let folder = TempDir::new().unwrap();
        let spool = Spool::with_limits(folder.path().join("data/spool"), limits);
        // The real time, because sweeps compare it with the times of files.
        Self { folder, spool, now: miyabi::io::clock::now() }
    }

    fn path(&self) -> &Path {
        self.spool.root()
    }

    /// Another process's view of the same spool: it remembers nothing.
    fn stranger(&self) -> Spool {
        Spool::with_limits(self.path().to_owned(), self.spool.limits().clone())
    }

    fn message(&self, to: &str) -> Envelope {
        envelope(to, self.now)
    }

    fn sent(&self, to: &str) -> Envelope {
        let envelope = self.message(to);
        self.spool.deliver(&envelope, None, self.now).unwrap();
        envelope
    }

    fn lease(&self, mailbox: &str, holder: &Holder) -> Option<Leased> {
        self.spool.lease(&mailbox.parse().unwrap(), holder, MINUTE, self.now).unwrap()
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn folder_of(&self, envelope: &Envelope) -> Option<Folder> {
        self.stranger().locate(&envelope.to, envelope.id).unwrap().map(|found| found.folder)
    }

    /// Asserts that an envelope lies in exactly one folder, whatever a crash left elsewhere.
    fn assert_once(&self, envelope: &Envelope) {
        let mut places = Vec::new();
        for folder in Folder::ALL {
            for name in names(&self.path().join(envelope.to.as_str()).join(folder.as_str())) {
                if name.contains(&envelope.id.to_string()) && !name.ends_with(".reason.json") {
                    places.push(format!("{folder}/{name}"));
                }
            }
        }
        assert_eq!(places.len(), 1, "{places:?}");
    }
}

/// A message that keeps to no order: it is the only one of its group.
fn envelope(to: &str, now: Timestamp) -> Envelope {
    let id = miyabi::io::clock::fresh_envelope_id();
    let body = json!({"text": "review, please"});
    Envelope {
        from_incarnation: Incarnation(3),
        group: Some(id.to_string()),
        ..Envelope::new(id, EnvelopeKind::Message, "sakura", to.parse().unwrap(), now, body)
    }
}

/// Says what a test has seen, for whoever runs it with `--no-capture`.
#[expect(clippy::print_stderr, reason = "figures are for people")]
pub(crate) fn tell(text: &str) {
    eprintln!("{text}");
}

fn kaede(incarnation: u64) -> Holder {
    Holder::new("kaede", Incarnation(incarnation)).unwrap()
}

fn mailbox(name: &str) -> Mailbox {
    name.parse().unwrap()
}

fn ids(envelopes: &[Envelope]) -> Vec<EnvelopeId> {
    envelopes.iter().map(|envelope| envelope.id).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
