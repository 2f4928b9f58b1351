//! Disks that are full, read-only or gone, and a system without inotify: each is refused or survived, and works again by
//! itself.

use std::fs;
use std::path::Path;
use std::time::Duration;

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::fault::SpoolError;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::settle::Acked;
use miyabi::io::watch;
use miyabi::model::envelope::Envelope;
use serde_json::json;
use tokio::sync::mpsc;

use super::own_disk::{Kind, LoopDisk, enter, enter_with_few_files, enter_with_own_limits};
use super::{MINUTE, kaede, mailbox, names};

/// More envelopes than any of the small disks here can take.
const ENVELOPES_MAX: usize = 20_000;

fn spool_on(disk: &LoopDisk) -> Spool {
    // What has ended is cleared away by the next sweep.
    let limits =
        Limits { done_age_max: Duration::ZERO, key_window: Duration::ZERO, disk_reserve: 0, ..Limits::default() };
    Spool::with_limits(disk.folder().join("data/spool"), limits)
}

fn message(bytes: usize) -> Envelope {
    Envelope { body: json!({"text": "x".repeat(bytes)}), ..super::envelope("kaede", clock::now()) }
}

/// Sends until the disk is full. Returns what was accepted, and what was refused.
fn fill(spool: &Spool, bytes: usize) -> (Vec<Envelope>, Envelope) {
    let mut accepted = Vec::new();
    loop {
        let mut envelope = message(bytes);
        // Every kind of send meets the full disk in some test.
        envelope.idempotency_key = accepted.len().is_multiple_of(3).then(|| accepted.len().to_string());
        match spool.deliver(&envelope, None, clock::now()) {
            Ok(delivered) => {
                assert_eq!(delivered, Delivered::New);
                accepted.push(envelope);
            }
            Err(SpoolError::DiskFull { .. }) => return (accepted, envelope),
            Err(other) => panic!("a full disk is not named: {other:?}"),
        }
        assert!(accepted.len() < ENVELOPES_MAX, "the disk does not get full");
    }
}

/// Works off a mailbox and clears it away. Returns what was in it.
fn work_off(spool: &Spool) -> Vec<Envelope> {
    let mut worked = Vec::new();
    // An hour later, so that what was given back and what was leased is there again.
    let now = clock::now() + Duration::from_hours(1);
    while let Some(leased) = spool.lease(&mailbox("kaede"), &kaede(1), MINUTE, now).unwrap() {
        spool.ack(&leased.receipt, None, now).unwrap();
        worked.push(leased.envelope);
    }
    worked.sort_by_key(|envelope| envelope.id);
    spool.sweep_retention(now + MINUTE).unwrap();
    worked
}

/// Fills a disk beside somebody else's file, and finds nothing lost, nothing half-written and nothing stuck once that
/// file is gone.
fn assert_full_is_survived(disk: &LoopDisk, bytes: usize) -> usize {
    let spool = spool_on(disk);
    let foreign = disk.folder().join("foreign");
    fs::create_dir(&foreign).unwrap();
    for number in 0..8 {
        fs::write(foreign.join(number.to_string()), vec![b'x'; 40_000]).unwrap();
    }
    let (accepted, refused) = fill(&spool, bytes);
    assert!(!accepted.is_empty());
    // Refused again and again, at no cost to what is there.
    for _ in 0..20 {
        let error = spool.deliver(&refused, None, clock::now()).unwrap_err();
        assert!(error.to_string().starts_with("no space left for "), "{error}");
        assert!(matches!(
            spool.deliver_batch(&vec![refused.clone(); 20], clock::now()),
            Err(SpoolError::DiskFull { .. })
        ));
    }
    assert_eq!(names(&spool.root().join("kaede/tmp")), [""; 0], "drafts were left on the full disk");
    assert_eq!(spool.locate(&refused.to, refused.id).unwrap(), None);
    assert!(!spool.root().join(format!("kaede/ids/{}", refused.id)).exists(), "a refused id counts as accepted");
    // A holder needs room too, if only for a name. It gets its envelope or hears why not.
    let stranger = spool_on(disk);
    let mut held = Vec::new();
    loop {
        match stranger.lease(&mailbox("kaede"), &kaede(1), MINUTE, clock::now()) {
            Ok(Some(leased)) => {
                let nacked = stranger.nack(&leased.receipt, "no room", clock::now());
                assert!(matches!(nacked, Ok(_) | Err(SpoolError::DiskFull { .. })), "{nacked:?}");
                held.push(leased.envelope);
            }
            Err(SpoolError::DiskFull { .. }) => break,
            Ok(None) if held == accepted => break,
            other => panic!("{other:?} after {} of {}", held.len(), accepted.len()),
        }
    }
    fs::remove_dir_all(&foreign).unwrap();
    let stranger = spool_on(disk);
    assert_eq!(work_off(&stranger), accepted, "the full disk has changed what was accepted");
    // There is room again, and the sender's next try is just taken.
    assert_eq!(spool.deliver(&refused, None, clock::now()).unwrap(), Delivered::New);
    assert_eq!(work_off(&spool), [refused]);
    accepted.len()
}

#[test]
fn a_full_disk_refuses_senders_and_takes_from_them_again_once_there_is_room() {
    let Some(below) = enter("spool::trouble::a_full_disk_refuses_senders_and_takes_from_them_again_once_there_is_room")
    else {
        return;
    };
    let blocks = LoopDisk::with_options(&below, Kind::Ext4, 4, &["-m", "0"]);
    let inodes = LoopDisk::with_options(&below, Kind::Ext4, 5, &["-m", "0", "-N", "96"]);
    for round in 0..3 {
        let full = [assert_full_is_survived(&blocks, 8_000), assert_full_is_survived(&inodes, 10)];
        super::tell(&format!("round {round}: full after {full:?} envelopes"));
    }
}

#[test]
fn a_disk_that_becomes_read_only_refuses_all_and_works_again_by_itself() {
    let Some(below) = enter("spool::trouble::a_disk_that_becomes_read_only_refuses_all_and_works_again_by_itself")
    else {
        return;
    };
    let disk = LoopDisk::new(&below, Kind::Ext4, 16);
    let spool = spool_on(&disk);
    let sent: Vec<_> = (0..3).map(|_| message(10)).collect();
    spool.deliver_batch(&sent, clock::now()).unwrap();
    let leased = spool.lease(&mailbox("kaede"), &kaede(1), MINUTE, clock::now()).unwrap().unwrap();
    disk.remount("ro");
    let refused = message(10);
    for spool in [&spool, &spool_on(&disk)] {
        let now = clock::now();
        assert_refused(spool.deliver(&refused, None, now).unwrap_err());
        assert_refused(spool.lease(&mailbox("kaede"), &kaede(2), MINUTE, now).unwrap_err());
        assert_refused(spool.ack(&leased.receipt, None, now).unwrap_err());
        assert_refused(spool.nack(&leased.receipt, "no", now).unwrap_err());
        assert_refused(spool.extend(&leased.receipt, MINUTE * 2, now).unwrap_err());
        assert_eq!(spool.list(&mailbox("kaede")).unwrap().len(), 3, "what can be read is read");
    }
    disk.remount("rw");
    assert_eq!(spool.deliver(&refused, None, clock::now()).unwrap(), Delivered::New);
    spool.ack(&leased.receipt, None, clock::now()).unwrap();
    let mut left = sent[1..].to_vec();
    left.push(refused);
    // What it remembers of the mailbox is young; no envelope may be forgotten over the trouble for longer than that.
    std::thread::sleep(spool.limits().listing_age_max);
    assert_eq!(work_off(&spool), left);
}

fn assert_refused(error: SpoolError) {
    let SpoolError::Io { doing, path, source } = error else { panic!("not a refusal by the disk: {error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{doing} {}", path.display());
}

#[test]
fn a_disk_that_answers_nothing_any_more_is_never_an_empty_mailbox() {
    let Some(below) = enter("spool::trouble::a_disk_that_answers_nothing_any_more_is_never_an_empty_mailbox") else {
        return;
    };
    let disk = LoopDisk::new(&below, Kind::Ext4, 16);
    let spool = spool_on(&disk);
    let sent: Vec<_> = (0..3).map(|_| message(10)).collect();
    spool.deliver_batch(&sent, clock::now()).unwrap();
    let switch = disk.switch();
    switch.cut();
    let refused = message(10);
    for spool in [&spool, &spool_on(&disk)] {
        spool.deliver(&refused, None, clock::now()).unwrap_err();
        spool.deliver_batch(&vec![refused.clone(); 20], clock::now()).unwrap_err();
        spool.lease(&mailbox("kaede"), &Holder::operator(), MINUTE, clock::now()).unwrap_err();
    }
    disk.unmount();
    disk.mount("loop");
    // The same process goes on, as if nothing had been.
    assert_eq!(spool.deliver(&refused, None, clock::now()).unwrap(), Delivered::New);
    std::thread::sleep(spool.limits().listing_age_max);
    let mut all = sent;
    all.push(refused);
    assert_eq!(work_off(&spool), all);
}

#[test]
fn folders_that_are_taken_away_under_a_long_lived_process_come_back_with_the_next_envelope() {
    let world = super::World::new();
    world.sent("kaede");
    assert!(world.lease("kaede", &kaede(1)).is_some());
    for folder in ["new", "leased", "later", "done", "dead", ""] {
        fs::remove_dir_all(world.path().join("kaede").join(folder)).unwrap();
        let sent = world.sent("kaede");
        std::thread::sleep(world.spool.limits().listing_age_max);
        let now = clock::now();
        let leased = world.spool.lease(&sent.to, &kaede(1), MINUTE, now).unwrap();
        let leased = leased.unwrap_or_else(|| panic!("stuck after {folder}/ was taken away"));
        world.spool.ack(&leased.receipt, None, now).unwrap();
    }
    // The whole mailbox went last; now the whole spool does.
    fs::remove_dir_all(world.path()).unwrap();
    let sent = world.sent("kaede");
    assert_eq!(world.stranger().lease(&sent.to, &kaede(1), MINUTE, clock::now()).unwrap().unwrap().envelope, sent);
}

/// Opens files until there is no room for one more.
fn all_descriptors() -> Vec<fs::File> {
    let mut held = Vec::new();
    loop {
        match fs::File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(fault) => {
                assert_eq!(fault.raw_os_error(), Some(24), "{fault}");
                return held;
            }
        }
    }
}

#[test]
fn a_process_that_may_open_no_more_files_is_told_so_and_loses_nothing() {
    let test = "spool::trouble::a_process_that_may_open_no_more_files_is_told_so_and_loses_nothing";
    let Some(below) = enter_with_few_files(test) else { return };
    let spool = Spool::with_limits(below.join("spool"), Limits { done_age_max: Duration::ZERO, ..Limits::default() });
    let sent: Vec<_> = (0..3).map(|_| message(10)).collect();
    spool.deliver_batch(&sent, clock::now()).unwrap();
    let leased = spool.lease(&mailbox("kaede"), &kaede(1), MINUTE, clock::now()).unwrap().unwrap();
    let refused = message(10);
    let stranger = Spool::with_limits(spool.root().to_owned(), spool.limits().clone());
    let mut held = all_descriptors();
    for spool in [&spool, &stranger] {
        assert_no_files(spool.deliver(&refused, None, clock::now()).unwrap_err());
        assert_no_files(spool.deliver_batch(&vec![refused.clone(); 20], clock::now()).unwrap_err());
        assert_no_files(spool.lease(&mailbox("kaede"), &kaede(2), MINUTE, clock::now()).unwrap_err());
    }
    // Who has leased from the folder has it open still, and would need none. The lock that stayed open was closed by an error.
    held.extend(all_descriptors());
    assert_no_files(stranger.ack(&leased.receipt, None, clock::now()).unwrap_err());
    drop(held);
    assert_eq!(spool.deliver(&refused, None, clock::now()).unwrap(), Delivered::New);
    // It was moved before the wait for the disk failed, and is known to be on the disk from now on.
    assert_eq!(spool.ack(&leased.receipt, None, clock::now()).unwrap(), Acked::Already);
    let mut left = sent[1..].to_vec();
    left.push(refused);
    std::thread::sleep(spool.limits().listing_age_max);
    assert_eq!(work_off(&spool), left);
}

fn assert_no_files(error: SpoolError) {
    let SpoolError::Io { source, .. } = error else { panic!("not a refusal by the system: {error:?}") };
    assert_eq!(source.raw_os_error(), Some(24), "{source}");
}

/// Sets a limit of this user namespace.
fn allow(what: &str, count: u32) {
    fs::write(Path::new("/proc/sys/user").join(what), count.to_string()).unwrap();
}

#[test]
fn without_inotify_hints_are_missing_and_nothing_else_and_they_come_again_with_it() {
    let test = "spool::trouble::without_inotify_hints_are_missing_and_nothing_else_and_they_come_again_with_it";
    let Some(below) = enter_with_own_limits(test) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for limit in ["max_inotify_watches", "max_inotify_instances"] {
        let folder = below.join(limit);
        fs::create_dir(&folder).unwrap();
        allow(limit, 0);
        let (sender, mut hints) = mpsc::channel(8);
        let mut watch = watch::start(vec![((), folder.clone())], sender);
        let next = |hints: &mut mpsc::Receiver<()>| {
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), hints.recv()).await })
        };
        watch.rearm();
        fs::write(folder.join("before"), "x").unwrap();
        assert!(hints.try_recv().is_err(), "there is inotify, although {limit} is 0");
        let blind = watch.faults().blind;
        assert_eq!(blind, 2, "at the start and at the sweep");
        allow(limit, 16);
        watch.rearm();
        assert_eq!(next(&mut hints), Ok(Some(())), "what came before the watch is looked for");
        while hints.try_recv().is_ok() {}
        fs::write(folder.join("file"), "x").unwrap();
        assert_eq!(next(&mut hints), Ok(Some(())), "no hint, although {limit} is no longer 0");
    }
}
