//! Messages whose use ends.

use std::time::Duration;

use miyabi::io::spool::fault::SpoolError;
use miyabi::io::spool::look::Counts;
use miyabi::io::spool::name::Folder;
use miyabi::model::envelope::{Envelope, EnvelopeKind};

use super::{MINUTE, World, kaede, mailbox, names};

const TTL: Duration = Duration::from_mins(10);

fn short_lived(world: &World) -> Envelope {
    let envelope = Envelope { expires_at: Some(world.now + TTL), ..world.message("kaede") };
    world.spool.deliver(&envelope, None, world.now).unwrap();
    envelope
}

fn reason(world: &World, envelope: &Envelope) -> String {
    let letters = world.spool.dead(Some(&envelope.to)).unwrap();
    let letter = letters.into_iter().find(|letter| letter.id == Some(envelope.id)).expect("it is not dead");
    letter.reason.expect("there is no reason beside it").reason
}

#[test]
fn a_message_that_nobody_took_in_time_is_dead_at_the_next_lease_call_and_the_next_good_one_is_leased() {
    let mut world = World::new();
    let late = short_lived(&world);
    let good = world.sent("kaede");
    world.wait(TTL - Duration::from_millis(1));
    assert_eq!(world.spool.expire(&mailbox("kaede"), world.now).unwrap(), 0);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, good);
    assert_eq!(reason(&world, &late), "expired");
    world.assert_once(&late);
}

#[test]
fn sweeps_and_listings_find_what_has_expired_without_a_lessee() {
    let mut world = World::new();
    let late = short_lived(&world);
    let delayed = Envelope { expires_at: Some(world.now + TTL), ..world.message("kaede") };
    world.spool.deliver(&delayed, Some(world.now + MINUTE), world.now).unwrap();
    let stays = world.sent("kaede");
    world.wait(TTL);
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().expired, 2);
    assert_eq!([reason(&world, &late), reason(&world, &delayed)], ["expired"; 2]);
    assert_eq!(world.folder_of(&stays), Some(Folder::New));
    assert_eq!(names(&world.path().join("kaede/ttl")), [""; 0]);
    assert_eq!(world.spool.expire(&mailbox("kaede"), world.now).unwrap(), 0);
}

#[test]
fn a_lease_in_time_may_be_finished_after_the_end() {
    let mut world = World::new();
    let sent = short_lived(&world);
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    let renewed = world.spool.extend(&leased.receipt, 2 * TTL, world.now).unwrap();
    world.wait(TTL + MINUTE);
    assert_eq!(world.spool.expire(&sent.to, world.now).unwrap(), 0);
    assert_eq!(world.folder_of(&sent), Some(Folder::Leased));
    world.spool.ack(&renewed, None, world.now).unwrap();
    assert_eq!(world.spool.counts(&sent.to).unwrap(), Counts { done: 1, ..Counts::default() });
}

#[test]
fn what_comes_back_after_the_end_is_not_given_out_again() {
    let mut world = World::new();
    let sent = short_lived(&world);
    world.lease("kaede", &kaede(1)).unwrap();
    world.wait(TTL);
    assert!(world.lease("kaede", &kaede(2)).is_none(), "the lease has ended, and so has the message");
    assert_eq!(reason(&world, &sent), "expired");
}

#[test]
fn whoever_requeues_an_expired_message_means_it() {
    let mut world = World::new();
    let sent = short_lived(&world);
    world.wait(TTL);
    world.spool.expire(&sent.to, world.now).unwrap();
    let letter = world.spool.dead(None).unwrap().remove(0);
    world.spool.requeue(&letter, world.now).unwrap();
    assert_eq!(world.spool.sweep_retention(world.now).unwrap().expired, 0);
    // It has a whole round of attempts again, whatever was left of the first one.
    for attempt in sent.attempts_max + 1..=2 * sent.attempts_max {
        let leased = world.lease("kaede", &kaede(1)).expect("a round has as many attempts as a new message");
        assert_eq!(leased.attempt, attempt);
        world.wait(2 * MINUTE);
    }
    assert!(world.lease("kaede", &kaede(1)).is_none());
    assert!(reason(&world, &sent).starts_with("not answered"));
}

#[test]
fn only_messages_expire_and_none_before_it_could_be_leased() {
    let world = World::new();
    let refused = |envelope: &Envelope, not_before| {
        let refused = world.spool.deliver(envelope, not_before, world.now);
        assert!(matches!(refused, Err(SpoolError::Invalid { .. })), "{refused:?}");
    };
    let message = Envelope { expires_at: Some(world.now + TTL), ..world.message("kaede") };
    refused(&message, Some(world.now + TTL));
    refused(&Envelope { expires_at: Some(world.now), ..message.clone() }, None);
    refused(&Envelope { kind: EnvelopeKind::WorkOrder, ..message }, None);
}

#[test]
fn an_envelope_from_before_there_were_ends_and_numbers_is_read() {
    let world = World::new();
    let old = world.message("kaede");
    let text = String::from_utf8(miyabi::io::spool::file::encode(&old).unwrap()).unwrap();
    for new_field in ["seq", "expires_at", "attachments"] {
        assert!(
            !text.contains(new_field),
            "an envelope that does not use `{new_field}` looks as it did before: {text}"
        );
    }
    world.spool.deliver(&old, None, world.now).unwrap();
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, old);
}
