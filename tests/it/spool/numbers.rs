//! Sequence numbers: growing, never twice, in the order of delivery.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};

use miyabi::io::spool::Spool;
use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::fault::SpoolError;
use miyabi::io::spool::limits::Limits;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::Incarnation;
use miyabi::model::time::Timestamp;

use super::{World, kaede, mailbox, names};

fn send(spool: &Spool, mut envelope: Envelope, now: Timestamp) -> Envelope {
    assert_eq!(spool.deliver_numbered(&mut envelope, None, now).unwrap(), Delivered::New);
    envelope
}

fn counters(world: &World) -> Vec<String> {
    names(&world.path().join("kaede/new")).into_iter().filter(|name| name.starts_with(".seq~")).collect()
}

#[test]
fn every_start_of_a_sender_counts_from_one_in_every_mailbox() {
    let world = World::new();
    let number = |to: &str, incarnation, from: &str| {
        let envelope =
            Envelope { from: from.to_owned(), from_incarnation: Incarnation(incarnation), ..world.message(to) };
        // Another process each time.
        send(&world.stranger(), envelope, world.now).seq.unwrap()
    };
    assert_eq!([number("kaede", 3, "sakura"), number("kaede", 3, "sakura")], [1, 2]);
    assert_eq!([number("kaede", 4, "sakura"), number("botan", 3, "sakura"), number("kaede", 3, "momo")], [1, 1, 1]);
    assert_eq!(number("kaede", 3, "sakura"), 3);
    assert_eq!(world.spool.counts(&mailbox("kaede")).unwrap().new, 5, "counters are no envelopes");
}

#[test]
fn the_receiver_reads_the_numbers_in_their_order() {
    let world = World::new();
    for _ in 0..20 {
        send(&world.spool, world.message("kaede"), world.now);
    }
    let mut read = Vec::new();
    while let Some(leased) = world.lease("kaede", &kaede(1)) {
        read.push(leased.envelope.seq.unwrap());
        world.spool.ack(&leased.receipt, None, world.now).unwrap();
    }
    assert_eq!(read, (1..=20).collect::<Vec<u64>>());
}

#[test]
fn processes_of_one_sender_that_send_at_once_share_one_row_of_numbers_in_the_order_of_the_names() {
    const SENDERS: usize = 8;
    const EACH: usize = 12;
    let world = World::new();
    let barrier = Arc::new(Barrier::new(SENDERS));
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            let (spool, barrier, world) = (world.stranger(), Arc::clone(&barrier), &world);
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..EACH {
                    send(&spool, world.message("kaede"), world.now);
                }
            });
        }
    });
    let listed = world.spool.list(&mailbox("kaede")).unwrap();
    let numbers: Vec<u64> = listed
        .iter()
        .map(|listed| world.spool.read(&mailbox("kaede"), listed.id).unwrap().unwrap().seq.unwrap())
        .collect();
    assert_eq!(numbers, (1..=(SENDERS * EACH) as u64).collect::<Vec<_>>(), "names sort as numbers do");
    assert_eq!(counters(&world).len(), 1);
}

#[test]
fn a_number_that_was_not_used_goes_to_the_next_one() {
    let world = World::with_limits(Limits { mailbox_envelopes_max: 1, ..Limits::default() });
    let mut refused = Envelope { to: mailbox("botan"), body: "x".repeat(2 << 20).into(), ..world.message("botan") };
    let fault = world.spool.deliver_numbered(&mut refused, None, world.now);
    assert!(matches!(fault, Err(SpoolError::TooLarge { .. })));
    assert_eq!(send(&world.spool, world.message("botan"), world.now).seq, Some(1));

    let keyed = || Envelope { idempotency_key: Some("once".to_owned()), ..world.message("kaede") };
    let first = send(&world.spool, keyed(), world.now);
    let fault = world.spool.deliver_numbered(&mut world.message("kaede"), None, world.now);
    assert!(matches!(fault, Err(SpoolError::MailboxFull { .. })));
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    world.spool.ack(&leased.receipt, None, world.now).unwrap();
    let again = world.stranger().deliver_numbered(&mut keyed(), None, world.now).unwrap();
    assert_eq!(again, Delivered::Already { first: first.id });
    assert_eq!(send(&world.stranger(), world.message("kaede"), world.now).seq, Some(2));
}

#[test]
fn what_a_power_cut_forgets_never_brings_a_number_back() {
    let world = World::new();
    for _ in 0..3 {
        send(&world.spool, world.message("kaede"), world.now);
    }
    // The lock files are not synced: they may be empty, old, or gone. The counter in `new/` is.
    let memo = world.path().join("kaede/seq").join(&names(&world.path().join("kaede/seq"))[0]);
    let old = std::fs::read(&memo).unwrap();
    send(&world.spool, world.message("kaede"), world.now);
    std::fs::write(&memo, "").unwrap();
    assert_eq!(send(&world.spool, world.message("kaede"), world.now).seq, Some(5));
    std::fs::write(&memo, old).unwrap();
    assert_eq!(send(&world.spool, world.message("kaede"), world.now).seq, Some(6));
    std::fs::remove_file(&memo).unwrap();
    assert_eq!(send(&world.spool, world.message("kaede"), world.now).seq, Some(7));
    // A crash between the counter and the envelope leaves a gap.
    let [counter] = counters(&world).try_into().unwrap();
    let stepped = counter.replace("~7~", "~8~");
    let new = world.path().join("kaede/new");
    std::fs::rename(new.join(&counter), new.join(&stepped)).unwrap();
    assert_eq!(send(&world.spool, world.message("kaede"), world.now).seq, Some(9));
}

#[test]
fn ids_follow_the_numbers_also_when_the_senders_clocks_differ_a_little() {
    let mut world = World::new();
    let ahead = world.message("kaede");
    let first = Envelope {
        id: miyabi::model::id::EnvelopeId(ulid::Ulid::from_parts(ahead.id.0.timestamp_ms() + 60_000, 7)),
        ..ahead
    };
    let first = send(&world.spool, first, world.now);
    let second = send(&world.stranger(), world.message("kaede"), world.now);
    assert!(second.id > first.id && second.seq > first.seq);
    // A clock that was a year ahead for a moment does not rule for a year.
    let year = 365 * 24 * 3_600_000;
    let mad = Envelope {
        id: miyabi::model::id::EnvelopeId(ulid::Ulid::from_parts(first.id.0.timestamp_ms() + year, 7)),
        ..world.message("kaede")
    };
    let mad = send(&world.spool, mad, world.now);
    world.wait(super::MINUTE);
    let sane = send(&world.stranger(), world.message("kaede"), world.now);
    assert!(sane.id < mad.id && sane.seq > mad.seq);
}

#[test]
fn a_delayed_message_is_numbered_when_it_is_sent() {
    let world = World::new();
    let mut delayed = world.message("kaede");
    world.spool.deliver_numbered(&mut delayed, Some(world.now + super::MINUTE), world.now).unwrap();
    let next = send(&world.spool, world.message("kaede"), world.now);
    assert_eq!((delayed.seq, next.seq), (Some(1), Some(2)));
}

#[test]
fn the_counters_of_starts_long_over_are_cleared_away_and_the_newest_stays() {
    let mut world = World::new();
    for incarnation in [1, 2, 3] {
        let envelope = Envelope { from_incarnation: Incarnation(incarnation), ..world.message("kaede") };
        send(&world.spool, envelope, world.now);
    }
    world.spool.sweep_retention(world.now).unwrap();
    assert_eq!(counters(&world).len(), 3);
    world.wait(31 * 24 * 60 * super::MINUTE);
    world.spool.sweep_retention(world.now).unwrap();
    assert_eq!(counters(&world).len(), 1);
    let newest = Envelope { from_incarnation: Incarnation(3), ..world.message("kaede") };
    assert_eq!(send(&world.stranger(), newest, world.now).seq, Some(2));
    let all: BTreeSet<_> = names(&world.path().join("kaede/seq")).into_iter().collect();
    assert_eq!(all.len(), 1);
}
