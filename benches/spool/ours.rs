//! The spool, as its callers use it: nothing is switched off.

use std::path::Path;
use std::time::Duration;

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::file::encode;
use miyabi::io::spool::holder::Holder;
use miyabi::model::envelope::{Envelope, EnvelopeKind};
use miyabi::model::id::{Incarnation, Mailbox};
use serde_json::json;

use super::actors::{self, Actor};
use super::{BATCH, MESSAGE_BYTES, Work};

const LEASE: Duration = Duration::from_secs(600);

pub(super) fn spool(folder: &Path) -> Spool {
    Spool::new(folder.join("data/spool"))
}

pub(super) fn mailbox() -> Mailbox {
    "kaede".parse().unwrap()
}

/// Builds messages whose files have [`MESSAGE_BYTES`] bytes. Every actor is a sender of its own, as its order group is.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    name: String,
    text: String,
}

impl Sender {
    pub(super) fn new(number: usize) -> Self {
        let mut sender = Self { name: format!("sender{number}"), text: String::new() };
        let bare = encode(&sender.message()).unwrap().len();
        sender.text = "x".repeat(MESSAGE_BYTES - bare);
        sender
    }

    pub(super) fn message(&self) -> Envelope {
        let (id, now) = (clock::fresh_envelope_id(), clock::now());
        Envelope {
            from_incarnation: Incarnation(1),
            ..Envelope::new(id, EnvelopeKind::Message, &self.name, mailbox(), now, json!({"text": self.text}))
        }
    }
}

pub(super) fn actor(spool: &Spool, work: Work, number: usize) -> Actor {
    let (spool, sender) = (spool.clone(), Sender::new(number));
    let holder = Holder::new(format!("agent{number}"), Incarnation(1)).unwrap();
    let mut sent = 0_u64;
    Box::new(move || {
        match work {
            Work::Send => drop(spool.deliver_fresh(&sender.message(), None, clock::now()).unwrap()),
            Work::Keyed => {
                sent += 1;
                let envelope = Envelope { idempotency_key: Some(sent.to_string()), ..sender.message() };
                spool.deliver(&envelope, None, clock::now()).unwrap();
            }
            Work::Batch => {
                let batch: Vec<_> = (0..BATCH).map(|_| sender.message()).collect();
                spool.deliver_fresh_batch(&batch, clock::now()).unwrap();
                return BATCH;
            }
            Work::Cycle => {
                spool.deliver_fresh(&sender.message(), None, clock::now()).unwrap();
                // Another actor may have taken ours and hold the next of that sender back for a moment.
                let leased = loop {
                    if let Some(leased) = spool.lease(&mailbox(), &holder, LEASE, clock::now()).unwrap() {
                        break leased;
                    }
                };
                spool.ack(&leased.receipt, Some(&holder), clock::now()).unwrap();
            }
        }
        1
    })
}

pub(super) fn threads(count: usize, work: Work, folder: &Path, time: Duration) -> f64 {
    let spool = spool(folder);
    actors::threads((0..count).map(|number| actor(&spool, work, number)).collect(), time)
}
