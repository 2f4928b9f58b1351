//! Clearing away what is no longer needed, and nothing else.

use std::time::Duration;

use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::look::Counts;
use miyabi::io::spool::retention::Swept;
use miyabi::model::envelope::{Envelope, EnvelopeKind};

use super::{MINUTE, World, kaede, mailbox, names};

const DAY: Duration = Duration::from_hours(24);

fn done(world: &World, envelope: &Envelope) {
    world.spool.deliver(envelope, None, world.now).unwrap();
    let leased = world.lease(envelope.to.as_str(), &kaede(1)).unwrap();
    world.spool.ack(&leased.receipt, None, world.now).unwrap();
}

#[test]
fn what_ended_long_ago_is_cleared_away_with_everything_that_belongs_to_it() {
    let mut world = World::new();
    let mut envelope = world.message("kaede");
    envelope.idempotency_key = Some("once".to_owned());
    done(&world, &envelope);
    let mut broken = world.message("kaede");
    broken.attempts_max = 1;
    world.spool.deliver(&broken, None, world.now).unwrap();
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    world.spool.nack(&leased.receipt, "broken", world.now).unwrap();
    assert_eq!(world.spool.sweep_retention(world.now).unwrap(), Swept::default());

    world.wait(31 * DAY);
    let waiting = world.sent("kaede");
    let swept = world.spool.sweep_retention(world.now).unwrap();
    assert_eq!((swept.done, swept.dead, swept.records), (1, 1, 1));
    for folder in ["tmp", "done", "dead", "keys", "history"] {
        assert_eq!(names(&world.path().join("kaede").join(folder)), [""; 0], "{folder}");
    }
    assert_eq!(names(&world.path().join("kaede/ids")), [waiting.id.to_string()]);
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, waiting);
}

#[test]
fn too_many_are_cleared_away_from_the_oldest_on_but_orders_and_reports_stay() {
    let mut world = World::with_limits(Limits { done_envelopes_max: 2, ..Limits::default() });
    let mut sent = Vec::new();
    for kind in [EnvelopeKind::Message, EnvelopeKind::Report, EnvelopeKind::WorkOrder, EnvelopeKind::Message] {
        let envelope = Envelope { kind, ..world.message("kaede") };
        done(&world, &envelope);
        sent.push(envelope);
        world.wait(MINUTE);
    }
    let left = |world: &World| -> Vec<_> {
        sent.iter().map(|envelope| world.spool.read(&envelope.to, envelope.id).unwrap().is_some()).collect()
    };
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().done, 1);
    assert_eq!(left(&world), [false, true, true, true]);
    world.wait(7 * DAY);
    world.spool.sweep_retention(world.now).unwrap();
    assert_eq!(left(&world), [false; 4]);
}

#[test]
fn what_was_cleared_away_for_its_number_is_still_recognised() {
    let world = World::with_limits(Limits { done_envelopes_max: 0, ..Limits::default() });
    let keyed = || Envelope { idempotency_key: Some("once".to_owned()), ..world.message("kaede") };
    let first = keyed();
    done(&world, &first);
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().done, 1);
    assert_eq!(world.spool.counts(&mailbox("kaede")).unwrap(), Counts::default());
    let already = Delivered::Already { first: first.id };
    assert_eq!(world.spool.deliver(&first, None, world.now).unwrap(), already);
    assert_eq!(world.spool.deliver(&keyed(), None, world.now).unwrap(), already);
}

#[test]
fn one_sweep_removes_a_bounded_number_of_files() {
    let mut world = World::with_limits(Limits { sweep_removals_max: 3, ..Limits::default() });
    for _ in 0..5 {
        let envelope = world.message("kaede");
        done(&world, &envelope);
    }
    world.wait(31 * DAY);
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().done, 3);
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().done, 2);
}

#[test]
fn waiting_and_leased_envelopes_are_never_cleared_away() {
    let mut world = World::new();
    world.sent("kaede.work");
    world.lease("kaede.work", &kaede(1)).unwrap();
    world.sent("kaede");
    let delayed = world.message("kaede");
    world.spool.deliver(&delayed, Some(world.now + 1_000 * DAY), world.now).unwrap();
    world.wait(400 * DAY);
    assert_eq!(world.spool.sweep_retention(world.now).unwrap(), Swept::default());
    let counts = world.spool.counts(&mailbox("kaede")).unwrap();
    assert_eq!((counts.new, counts.later), (1, 1));
    assert_eq!(world.spool.counts(&mailbox("kaede.work")).unwrap().leased, 1);
}
