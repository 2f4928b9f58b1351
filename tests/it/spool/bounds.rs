//! A full mailbox, a full spool, and senders that flood: refused or slowed, and accepted again by themselves.

use std::time::Duration;

use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::fault::SpoolError;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::pace::{DELAY_MAX, SENDS_MAX};
use miyabi::model::envelope::{Envelope, EnvelopeKind};

use super::{World, kaede, mailbox, names};

const KIB: u64 = 1 << 10;

/// Sends from a process that has just begun, as a verb does.
fn try_send(world: &World, envelope: &Envelope) -> Result<Delivered, SpoolError> {
    world.stranger().deliver(envelope, None, world.now)
}

fn fill(world: &World) -> usize {
    for sent in 0..1_000 {
        match try_send(world, &world.message("kaede")) {
            Ok(_) => {}
            Err(SpoolError::SpoolFull { .. } | SpoolError::MailboxFull { .. }) => return sent,
            Err(fault) => panic!("{fault}"),
        }
    }
    panic!("it never gets full");
}

#[test]
fn a_full_spool_refuses_messages_and_takes_them_again_when_there_is_room() {
    let mut world = World::with_limits(Limits { bytes_max: 64 * KIB, ..Limits::default() });
    assert_eq!(fill(&world), 16, "each takes a block of 4 KiB");
    let late = world.message("kaede");
    let Err(SpoolError::SpoolFull { bytes, max, .. }) = try_send(&world, &late) else { panic!("it is full") };
    assert_eq!((bytes, max), (64 * KIB, 64 * KIB));
    assert!(names(&world.path().join("kaede/tmp")).is_empty() && world.folder_of(&late).is_none());
    // Who repeats what was accepted is told so.
    let first = world.spool.list(&mailbox("kaede")).unwrap().remove(0).id;
    let accepted = world.spool.read(&mailbox("kaede"), first).unwrap().unwrap();
    assert_eq!(try_send(&world, &accepted).unwrap(), Delivered::Already { first });
    // What the work of everybody hangs on still comes through.
    for kind in [EnvelopeKind::WorkOrder, EnvelopeKind::Report] {
        assert_eq!(try_send(&world, &Envelope { kind, ..world.message("kaede.work") }).unwrap(), Delivered::New);
    }
    // Acknowledged ones stay for a while, but not when somebody has something to say.
    for _ in 0..4 {
        let leased = world.lease("kaede", &kaede(1)).unwrap();
        world.spool.ack(&leased.receipt, None, world.now).unwrap();
    }
    world.wait(Duration::from_secs(6));
    assert_eq!(try_send(&world, &late).unwrap(), Delivered::New);
    assert_eq!(names(&world.path().join("kaede/done")).len(), 0);
    assert_eq!(world.spool.counts(&mailbox("kaede")).unwrap().new, 13);
}

#[test]
fn a_long_lived_sender_and_short_lived_ones_count_together() {
    let mut world = World::with_limits(Limits { bytes_max: 400 * KIB, ..Limits::default() });
    for _ in 0..20 {
        world.sent("kaede");
    }
    world.wait(Duration::from_secs(2));
    world.sent("kaede");
    assert_eq!(fill(&world), 79);
    // A process goes by what it remembers for a second at most.
    world.wait(Duration::from_secs(2));
    assert!(matches!(world.spool.deliver(&world.message("kaede"), None, world.now), Err(SpoolError::SpoolFull { .. })));
}

#[test]
fn what_is_remembered_of_fullness_may_be_lost_torn_or_nonsense() {
    let world = World::with_limits(Limits { bytes_max: 64 * KIB, mailbox_envelopes_max: 10, ..Limits::default() });
    for nonsense in ["", "0", "99999999999999999999999 1 1\n", "\0\0\0", "1 99999999999999 0\n"] {
        for at in [".usage", "kaede/.usage"] {
            std::fs::create_dir_all(world.path().join("kaede")).unwrap();
            std::fs::write(world.path().join(at), nonsense).unwrap();
        }
        try_send(&world, &world.message("kaede")).unwrap();
    }
    assert_eq!(fill(&world), 5);
}

#[test]
fn a_full_mailbox_takes_the_next_message_as_soon_as_one_is_dealt_with() {
    let world = World::with_limits(Limits { mailbox_envelopes_max: 7, ..Limits::default() });
    assert_eq!(fill(&world), 7);
    assert_eq!(fill(&world), 0);
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!(fill(&world), 0, "one that is leased may come back");
    world.spool.ack(&leased.receipt, None, world.now).unwrap();
    assert_eq!(fill(&world), 1);
    try_send(&world, &world.message("sakura")).unwrap();
}

#[test]
fn only_whoever_floods_a_mailbox_that_fills_up_is_slowed() {
    let mut world = World::with_limits(Limits { mailbox_envelopes_max: 200, ..Limits::default() });
    let from = |world: &World, from: &str| Envelope { from: from.to_owned(), ..world.message("kaede") };
    let pace = |world: &World, envelope: &Envelope| world.stranger().pace(envelope, world.now).unwrap();
    for _ in 0..=SENDS_MAX {
        assert_eq!(pace(&world, &from(&world, "flood")), None);
        world.stranger().deliver_numbered(&mut from(&world, "flood"), None, world.now).unwrap();
    }
    let first = pace(&world, &from(&world, "flood")).expect("half full, and more than a hundred in a moment");
    for _ in 0..60 {
        world.stranger().deliver_numbered(&mut from(&world, "flood"), None, world.now).unwrap();
    }
    let slowed = pace(&world, &from(&world, "flood")).unwrap();
    assert!(first.delay < slowed.delay && slowed.delay <= DELAY_MAX, "{first:?} {slowed:?}");
    assert_eq!(slowed.waiting, 161);
    assert_eq!(pace(&world, &from(&world, "sakura")), None, "others are not slowed");
    assert_eq!(pace(&world, &Envelope { kind: EnvelopeKind::WorkOrder, ..from(&world, "flood") }), None);
    assert_eq!(pace(&world, &Envelope { to: mailbox("sakura"), ..from(&world, "flood") }), None, "nor elsewhere");
    // Once the mailbox is worked off, or the flood has ebbed, nobody is.
    let full = world.now;
    world.wait(Duration::from_secs(21));
    assert_eq!(pace(&world, &from(&world, "flood")), None);
    world.now = full;
    while let Some(leased) = world.lease("kaede", &kaede(1)) {
        world.spool.ack(&leased.receipt, None, world.now).unwrap();
    }
    world.wait(Duration::from_secs(2));
    assert_eq!(pace(&world, &from(&world, "flood")), None);
}

#[test]
fn what_has_ended_is_cleared_away_by_its_size_too_from_the_oldest_on() {
    let mut world = World::with_limits(Limits { done_bytes_max: 12 * KIB, ..Limits::default() });
    let mut sent = Vec::new();
    for kind in [EnvelopeKind::Report, EnvelopeKind::Message, EnvelopeKind::Message, EnvelopeKind::Message] {
        let body = serde_json::Value::String("x".repeat(4_000));
        let envelope = Envelope { kind, body, ..world.message("kaede") };
        world.spool.deliver(&envelope, None, world.now).unwrap();
        let leased = world.lease("kaede", &kaede(1)).unwrap();
        world.spool.ack(&leased.receipt, None, world.now).unwrap();
        sent.push(envelope);
        world.wait(super::MINUTE);
    }
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().done, 2);
    let left: Vec<bool> =
        sent.iter().map(|envelope| world.spool.read(&envelope.to, envelope.id).unwrap().is_some()).collect();
    assert_eq!(left, [true, false, false, true], "8 KiB each: one fits, and a report stays whatever its size");
}
