//! Real power cuts: senders and holders at work on a file system whose power goes at a moment that nobody chose, and
//! what is there when it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::settle::Nacked;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::{EnvelopeId, Incarnation};

use super::own_disk::{Kind, LoopDisk, enter, soak};
use super::{MINUTE, mailbox, names};

/// How many cuts each file system sees, unless somebody asks for more.
const CUTS: usize = 6;
/// How many MiB the file systems have: XFS wants 300 at least.
const MEBIBYTES: u64 = 320;
const SENDERS: usize = 4;
const HOLDERS: usize = 3;
/// How many envelopes are accepted before the earliest cut, and how much later the latest may be.
const ACCEPTED_MIN: usize = 40;
const ACCEPTED_SPREAD: usize = 300;

/// What the actors were told before the power went.
#[derive(Debug, Default)]
struct Told {
    /// All that anybody tried to send, also what was never accepted.
    tried: Mutex<BTreeMap<EnvelopeId, Envelope>>,
    accepted: Mutex<BTreeSet<EnvelopeId>>,
    acked: Mutex<BTreeSet<EnvelopeId>>,
    buried: Mutex<BTreeSet<EnvelopeId>>,
    accepted_count: AtomicUsize,
    /// Answers count no more: the power is about to go, and the file system may say yes to what it will forget.
    is_closed: AtomicBool,
    is_dark: AtomicBool,
}

impl Told {
    fn tries(&self, envelope: &Envelope) {
        self.tried.lock().unwrap().insert(envelope.id, envelope.clone());
    }

    fn accepts(&self, id: EnvelopeId) {
        self.notes(&self.accepted, id);
        self.accepted_count.fetch_add(1, Ordering::Relaxed);
    }

    fn notes(&self, answers: &Mutex<BTreeSet<EnvelopeId>>, id: EnvelopeId) {
        let mut answers = answers.lock().unwrap();
        if !self.is_closed.load(Ordering::SeqCst) {
            answers.insert(id);
        }
    }
}

/// Sends until the power is gone: plain ones, ones with a key, delayed ones, and batches.
fn send(spool: &Spool, told: &Told, number: usize) {
    for turn in 0.. {
        let now = clock::now();
        let mut envelope = super::envelope("kaede", now);
        envelope.attempts_max = 1 + u32::from(turn % 3 != 0) * 4;
        match (number + turn) % 8 {
            0 => envelope.idempotency_key = Some(format!("{number} {turn}")),
            1 => {
                let batch: Vec<_> = (0..20).map(|_| super::envelope("kaede", now)).collect();
                batch.iter().for_each(|envelope| told.tries(envelope));
                let Ok(delivered) = spool.deliver_batch(&batch, now) else { return };
                assert_eq!(delivered, vec![Delivered::New; batch.len()]);
                batch.iter().for_each(|envelope| told.accepts(envelope.id));
                continue;
            }
            _ => {}
        }
        told.tries(&envelope);
        let not_before = (turn % 5 == 0).then(|| now + Duration::from_millis(20));
        match spool.deliver(&envelope, not_before, now) {
            Ok(delivered) => {
                assert_eq!(delivered, Delivered::New);
                told.accepts(envelope.id);
            }
            Err(_) => return,
        }
    }
}

/// Leases until the power is gone, and acknowledges, extends, gives back or forgets what it gets.
fn hold(spool: &Spool, told: &Told, number: usize) {
    let holder = Holder::new(format!("agent{number}"), Incarnation(1)).unwrap();
    for turn in number.. {
        let leased = match spool.lease(&mailbox("kaede"), &holder, Duration::from_millis(200), clock::now()) {
            Ok(Some(leased)) => leased,
            // "Nothing waits" is all that a file system says once it is dark and its folders seem empty.
            Ok(None) if told.is_dark.load(Ordering::Relaxed) => return,
            Ok(None) => continue,
            Err(_) => return,
        };
        let id = leased.envelope.id;
        assert_eq!(Some(&leased.envelope), told.tried.lock().unwrap().get(&id), "nobody sent what was leased");
        match turn % 8 {
            0 => {
                if let Ok(Nacked::Dead) = spool.nack(&leased.receipt, "no", clock::now()) {
                    told.notes(&told.buried, id);
                }
            }
            1 => drop(spool.extend(&leased.receipt, MINUTE, clock::now())),
            2 => {}
            _ => {
                if spool.ack(&leased.receipt, Some(&holder), clock::now()).is_ok() {
                    told.notes(&told.acked, id);
                }
            }
        }
    }
}

/// Lets actors work on a new spool until the power goes.
fn work_until_dark(disk: &LoopDisk, kind: Kind, root: &Path, accepted: usize) -> Told {
    let told = Told::default();
    let shared = Spool::new(root.to_owned());
    shared.ensure(&mailbox("kaede")).unwrap();
    let switch = disk.switch();
    std::thread::scope(|scope| {
        for number in 0..SENDERS {
            // Most of them share commits, as the threads of one process do; one is a process of its own.
            let spool = if number == 0 { Spool::new(root.to_owned()) } else { shared.clone() };
            let told = &told;
            scope.spawn(move || send(&spool, told, number));
        }
        for number in 0..HOLDERS {
            let spool = if number == 0 { Spool::new(root.to_owned()) } else { shared.clone() };
            let told = &told;
            scope.spawn(move || hold(&spool, told, number));
        }
        while told.accepted_count.load(Ordering::Relaxed) < accepted {
            std::thread::yield_now();
        }
        // On ext4 every answer counts, up to the last. XFS goes on to say yes to the sync of a folder after its end, which
        // a computer without power does not, so there only the answers count that came before.
        told.is_closed.store(kind == Kind::Xfs, Ordering::SeqCst);
        switch.cut();
        told.is_dark.store(true, Ordering::Relaxed);
    });
    told
}

/// Asserts what must hold when the power is back, and works off what is left.
fn assert_nothing_lost(root: &Path, told: Told) -> usize {
    let now = clock::now() + Duration::from_hours(1);
    let spool = Spool::new(root.to_owned());
    let (tried, accepted) = (told.tried.into_inner().unwrap(), told.accepted.into_inner().unwrap());
    let (acked, buried) = (told.acked.into_inner().unwrap(), told.buried.into_inner().unwrap());
    let mut places: BTreeMap<EnvelopeId, Vec<(Folder, String)>> = BTreeMap::new();
    for folder in Folder::ALL {
        for name in names(&root.join("kaede").join(folder.as_str())) {
            if name.ends_with(".reason.json") {
                continue;
            }
            let id = tried.keys().find(|id| name.contains(&id.to_string()));
            places
                .entry(*id.unwrap_or_else(|| panic!("{folder}/{name} is no envelope")))
                .or_default()
                .push((folder, name));
        }
    }
    for id in &accepted {
        let found = places.get(id).unwrap_or_else(|| panic!("{id} was accepted and is lost"));
        assert_eq!(found.len(), 1, "{id}: {found:?}");
        assert_eq!(spool.read(&mailbox("kaede"), *id).unwrap().as_ref(), tried.get(id), "{id} is not what was sent");
    }
    let is_in = |id, folder| places.get(id).is_some_and(|found| found.iter().all(|(there, _)| *there == folder));
    for id in &acked {
        assert!(is_in(id, Folder::Done), "{id} was acknowledged and is {:?}", places.get(id));
    }
    for id in &buried {
        assert!(is_in(id, Folder::Dead), "{id} was given up and is {:?}", places.get(id));
    }
    // A sender that got no answer tries again: its envelope is there once, whatever became of the first try.
    for (id, envelope) in &tried {
        let delivered = spool.deliver(envelope, None, now).unwrap();
        let was_there = places.contains_key(id);
        assert_eq!(delivered == Delivered::New, !was_there, "{id}: {delivered:?}, {:?}", places.get(id));
        if let Some(key) = &envelope.idempotency_key {
            let again = Envelope { idempotency_key: Some(key.clone()), ..super::envelope("kaede", now) };
            assert_eq!(spool.deliver(&again, None, now).unwrap(), Delivered::Already { first: *id });
        }
    }
    while let Some(leased) = spool.lease(&mailbox("kaede"), &Holder::operator(), MINUTE, now).unwrap() {
        assert_eq!(tried.get(&leased.envelope.id), Some(&leased.envelope), "a torn envelope was believed");
        assert!(!acked.contains(&leased.envelope.id), "{} was acknowledged and came back", leased.envelope.id);
        spool.ack(&leased.receipt, None, now).unwrap();
    }
    let counts = spool.counts(&mailbox("kaede")).unwrap();
    assert_eq!((counts.done + counts.dead, counts.new, counts.later, counts.leased), (tried.len(), 0, 0, 0));
    // What lies there as dead has had its attempts; nothing of ours was ever taken for something foreign.
    for letter in spool.dead(None).unwrap() {
        let reason = letter.reason.expect("a dead letter has its reason").reason;
        assert!(reason == "no" || reason.starts_with("not answered in attempt"), "{reason}");
    }
    accepted.len()
}

#[test]
fn a_power_cut_loses_nothing_that_was_accepted_or_acknowledged() {
    let Some(below) = enter("spool::power::a_power_cut_loses_nothing_that_was_accepted_or_acknowledged") else {
        return;
    };
    for kind in Kind::all() {
        let disk = LoopDisk::new(&below, kind, MEBIBYTES);
        let mut accepted = 0;
        let cuts = CUTS * soak();
        for cut in 0..cuts {
            let root = disk.folder().join(format!("{cut}/data/spool"));
            // The moment is that of the machine; the number only spreads it over young and older mailboxes.
            let told = work_until_dark(&disk, kind, &root, ACCEPTED_MIN + cut * 97 % ACCEPTED_SPREAD);
            disk.unmount();
            disk.mount("loop");
            accepted += assert_nothing_lost(&root, told);
            std::fs::remove_dir_all(disk.folder().join(cut.to_string())).unwrap();
        }
        disk.unmount();
        super::tell(&format!("{kind:?}: {cuts} power cuts, {accepted} envelopes accepted, none lost, none torn"));
    }
}
