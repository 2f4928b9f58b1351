//! How often the disk is made to wait for each message: the figure that is the same on every machine.
//!
//! What is counted are flushes of the device, in syncs: a loop device does two for each commit of the journal, because it
//! lacks "forced unit access", and other devices one. So one sync is measured first, and everything else in it.

use std::path::Path;
use std::sync::Barrier;

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::holder::Holder;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::Incarnation;
use serde_json::json;

use super::own_disk::{Kind, LoopDisk, enter};
use super::{MINUTE, mailbox};

const MEBIBYTES: u64 = 512;
const MESSAGES: usize = 200;
const THREADS: usize = 64;
const MESSAGES_PER_THREAD: usize = 20;
const BATCH: usize = 64;
/// The journal also commits by itself, every five seconds.
const TOLERANCE: f64 = 0.05;

struct Counter {
    disk: LoopDisk,
    per_sync: f64,
}

impl Counter {
    fn new(below: &Path) -> Self {
        const SYNCS: u32 = 64;
        // With a journal as large as on a usual disk, its own housekeeping is not what is measured.
        let disk = LoopDisk::with_options(below, Kind::Ext4, MEBIBYTES, &["-J", "size=128"]);
        let before = disk.flushes();
        for number in 0..SYNCS {
            let path = disk.folder().join(format!("file{number}"));
            std::fs::write(&path, [b'x'; 1024]).unwrap();
            std::fs::File::open(&path).unwrap().sync_all().unwrap();
        }
        let per_sync = spent(&disk, before) / f64::from(SYNCS);
        assert!((0.9..=2.1).contains(&per_sync), "one sync is {per_sync} flushes: they are not counted");
        super::tell(&format!("one sync is {per_sync} flushes"));
        Self { disk, per_sync }
    }

    /// Returns how many syncs each of so many messages costs.
    fn of(&self, messages: usize, work: impl FnOnce()) -> f64 {
        let before = self.disk.flushes();
        work();
        let messages = f64::from(u32::try_from(messages).unwrap());
        spent(&self.disk, before) / self.per_sync / messages
    }
}

fn spent(disk: &LoopDisk, before: u64) -> f64 {
    f64::from(u32::try_from(disk.flushes() - before).unwrap())
}

/// Builds a message of about 1 KiB.
fn message() -> Envelope {
    Envelope { body: json!({"text": "x".repeat(700)}), ..super::envelope("kaede", clock::now()) }
}

fn send(spool: &Spool) {
    spool.deliver(&message(), None, clock::now()).unwrap();
}

fn lease_and_ack(spool: &Spool, holder: &Holder) {
    let leased = loop {
        if let Some(leased) = spool.lease(&mailbox("kaede"), holder, MINUTE, clock::now()).unwrap() {
            break leased;
        }
    };
    spool.ack(&leased.receipt, Some(holder), clock::now()).unwrap();
}

#[test]
fn a_message_costs_no_more_flushes_than_it_must() {
    let Some(below) = enter("spool::flushes::a_message_costs_no_more_flushes_than_it_must") else { return };
    let counter = Counter::new(&below);
    let spool = Spool::new(counter.disk.folder().join("data/spool"));
    let holder = Holder::operator();
    send(&spool);
    lease_and_ack(&spool, &holder);

    let sent = counter.of(MESSAGES, || (0..MESSAGES).for_each(|_| send(&spool)));
    let settled = counter.of(MESSAGES, || (0..MESSAGES).for_each(|_| lease_and_ack(&spool, &holder)));
    let keyed = counter.of(MESSAGES, || {
        for number in 0..MESSAGES {
            let envelope = Envelope { idempotency_key: Some(number.to_string()), ..message() };
            spool.deliver(&envelope, None, clock::now()).unwrap();
        }
    });
    let batched = counter.of(BATCH * 8, || {
        for _ in 0..8 {
            let batch: Vec<_> = (0..BATCH).map(|_| message()).collect();
            spool.deliver_batch(&batch, clock::now()).unwrap();
        }
    });
    let shared = counter.of(THREADS * MESSAGES_PER_THREAD, || {
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for number in 0..THREADS {
                let (spool, start) = (spool.clone(), &start);
                scope.spawn(move || {
                    let holder = Holder::new("agent", Incarnation(number as u64)).unwrap();
                    start.wait();
                    for _ in 0..MESSAGES_PER_THREAD {
                        send(&spool);
                        lease_and_ack(&spool, &holder);
                    }
                });
            }
        });
    });
    super::tell(&format!(
        "syncs of the device for each message: send {sent:.2}, cycle {:.2}, send with a key {keyed:.2}, in a batch of {BATCH} \
         {batched:.3}, cycle of {THREADS} threads {shared:.2}",
        sent + settled
    ));
    assert!(sent < 2.0 + TOLERANCE, "a send costs {sent:.2}");
    assert!(sent > 2.0 - TOLERANCE, "a send costs only {sent:.2}: something is not synced");
    assert!(sent + settled < 3.0 + TOLERANCE, "a cycle costs {:.2}", sent + settled);
    assert!(keyed < 4.0 + TOLERANCE, "a send with a key costs {keyed:.2}");
    assert!(batched < 0.05, "a message in a batch of {BATCH} costs {batched:.3}");
    assert!(shared < 0.8, "a message of {THREADS} threads costs {shared:.2}");
}
