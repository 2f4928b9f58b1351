//! What a user of the spool relies on.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::fault::{Refusal, SpoolError};
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::look::Counts;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::receipt::Receipt;
use miyabi::io::spool::retire::{Retire, Retired};
use miyabi::io::spool::settle::{Acked, Nacked};
use serde_json::json;

use super::{MINUTE, World, ids, kaede, mailbox, names};

fn refusal(error: SpoolError) -> Refusal {
    let SpoolError::NotYours { reason, .. } = error else { panic!("not a refusal: {error}") };
    reason
}

#[test]
fn an_envelope_is_delivered_leased_and_acknowledged() {
    let world = World::new();
    let sent = world.sent("kaede");
    assert_eq!(world.folder_of(&sent), Some(Folder::New));

    let leased = world.lease("kaede", &kaede(7)).unwrap();
    assert_eq!((&leased.envelope, leased.attempt), (&sent, 1));
    assert_eq!(world.folder_of(&sent), Some(Folder::Leased));
    assert!(world.lease("kaede", &kaede(7)).is_none(), "one envelope was leased twice");

    assert_eq!(world.spool.ack(&leased.receipt, Some(&kaede(7)), world.now).unwrap(), Acked::Now);
    assert_eq!(world.folder_of(&sent), Some(Folder::Done));
    assert_eq!(world.spool.read(&sent.to, sent.id).unwrap(), Some(sent));
}

#[test]
fn a_person_understands_a_mailbox_by_its_names() {
    let world = World::new();
    let sent = world.sent("kaede");
    let receipt = world.lease("kaede", &kaede(7)).unwrap().receipt;
    let until = (world.now + MINUTE).as_millis();
    assert_eq!(receipt.to_string(), format!("kaede/3-{}-a1~kaede.7~{until}", sent.id));
    assert_eq!(receipt.to_string().parse::<Receipt>().unwrap(), receipt);
    let file = world.path().join("kaede/leased").join(receipt.name.to_string());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(world.path().join("kaede/new").metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_most_urgent_goes_first_and_among_equals_the_oldest() {
    let world = World::new();
    let mut sent = Vec::new();
    for priority in [3, 5, 1, 3, 1] {
        let mut envelope = world.message("kaede");
        envelope.priority = priority.try_into().unwrap();
        world.spool.deliver(&envelope, None, world.now).unwrap();
        sent.push(envelope);
    }
    let order: Vec<_> =
        std::iter::from_fn(|| world.lease("kaede", &kaede(1))).map(|leased| leased.envelope.id).collect();
    assert_eq!(order, [2, 4, 0, 3, 1].map(|at: usize| sent[at].id));
}

#[test]
fn what_this_process_delivers_is_not_overtaken_by_what_it_saw_before() {
    let world = World::new();
    world.sent("kaede");
    world.sent("kaede");
    world.lease("kaede", &kaede(1)).unwrap();
    let mut urgent = world.message("kaede");
    urgent.priority = 1.try_into().unwrap();
    world.spool.deliver(&urgent, None, world.now).unwrap();
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, urgent);
}

#[test]
fn what_another_process_delivers_is_seen_after_a_moment() {
    let mut world = World::new();
    world.sent("kaede");
    world.sent("kaede");
    world.lease("kaede", &kaede(1)).unwrap();
    let mut urgent = world.message("kaede");
    urgent.priority = 1.try_into().unwrap();
    world.stranger().deliver(&urgent, None, world.now).unwrap();
    world.wait(world.spool.limits().listing_age_max);
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, urgent);
}

#[test]
fn an_envelope_that_another_process_delivers_is_never_missed_by_a_lessee_that_found_nothing() {
    let world = World::new();
    world.spool.ensure(&mailbox("kaede")).unwrap();
    assert!(world.lease("kaede", &kaede(1)).is_none());
    let envelope = world.message("kaede");
    world.stranger().deliver(&envelope, None, world.now).unwrap();
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, envelope);
}

#[test]
fn a_lease_that_ends_is_given_to_the_next_and_the_old_receipt_is_void() {
    let mut world = World::new();
    let sent = world.sent("kaede");
    let old = world.lease("kaede", &kaede(1)).unwrap();
    world.wait(MINUTE);
    let new = world.lease("kaede", &kaede(2)).unwrap();
    assert_eq!((new.envelope.id, new.attempt), (sent.id, 2));

    let held = Refusal::HeldAgain { holder: kaede(2), attempt: 2 };
    assert_eq!(refusal(world.spool.ack(&old.receipt, None, world.now).unwrap_err()), held);
    assert_eq!(refusal(world.spool.nack(&old.receipt, "too late", world.now).unwrap_err()), held);
    assert_eq!(refusal(world.spool.extend(&old.receipt, MINUTE, world.now).unwrap_err()), held);

    world.spool.ack(&new.receipt, None, world.now).unwrap();
    let ended = Refusal::Ended { holder: Some(kaede(2)), attempt: 2 };
    assert_eq!(refusal(world.spool.ack(&old.receipt, None, world.now).unwrap_err()), ended);
}

#[test]
fn a_lease_taken_under_a_clock_that_ran_ahead_does_not_last_for_ever() {
    let mut world = World::new();
    world.sent("kaede");
    let ahead = world.now + Duration::from_hours(24 * 365);
    world.spool.lease(&mailbox("kaede"), &kaede(1), MINUTE, ahead).unwrap().unwrap();
    world.wait(MINUTE);
    assert_eq!(world.lease("kaede", &kaede(2)).unwrap().attempt, 2);
}

#[test]
fn a_repeated_ack_is_harmless_and_anothers_receipt_is_refused() {
    let world = World::new();
    world.sent("kaede");
    let receipt = world.lease("kaede", &kaede(1)).unwrap().receipt;
    let operator = Holder::operator();
    assert_eq!(
        refusal(world.spool.ack(&receipt, Some(&operator), world.now).unwrap_err()),
        Refusal::AnotherCaller { caller: operator }
    );
    assert_eq!(world.spool.ack(&receipt, None, world.now).unwrap(), Acked::Now);
    assert_eq!(world.spool.ack(&receipt, None, world.now).unwrap(), Acked::Already);
    assert_eq!(world.stranger().ack(&receipt, Some(&kaede(1)), world.now + MINUTE).unwrap(), Acked::Already);
}

#[test]
fn an_extended_lease_outlives_its_first_end_and_either_receipt_of_its_holder_ends_it() {
    let mut world = World::new();
    let sent = world.sent("kaede");
    let first = world.lease("kaede", &kaede(1)).unwrap().receipt;
    world.wait(MINUTE / 2);
    let second = world.spool.extend(&first, MINUTE, world.now).unwrap();
    assert_ne!(first, second);
    world.wait(MINUTE / 2);
    assert!(world.lease("kaede", &kaede(2)).is_none(), "the lease was taken back although it was extended");
    assert_eq!(world.spool.ack(&first, Some(&kaede(1)), world.now).unwrap(), Acked::Now);
    assert_eq!(world.spool.ack(&second, Some(&kaede(1)), world.now).unwrap(), Acked::Already);
    world.assert_once(&sent);
}

#[test]
fn what_is_given_back_waits_longer_each_time_and_dies_with_its_history() {
    let mut world = World::new();
    let mut envelope = world.message("kaede");
    envelope.attempts_max = 3;
    world.spool.deliver(&envelope, None, world.now).unwrap();
    for (attempt, seconds) in [(1, 1), (2, 2)] {
        let leased = world.lease("kaede", &kaede(attempt)).unwrap();
        assert_eq!(leased.attempt, u32::try_from(attempt).unwrap());
        let again = world.now + Duration::from_secs(seconds);
        assert_eq!(world.spool.nack(&leased.receipt, "not now", world.now).unwrap(), Nacked::Later(again));
        world.wait(Duration::from_secs(seconds) - Duration::from_millis(1));
        assert!(world.lease("kaede", &kaede(9)).is_none(), "it came back too early");
        world.wait(Duration::from_millis(1));
    }
    let leased = world.lease("kaede", &kaede(3)).unwrap();
    assert_eq!(world.spool.nack(&leased.receipt, "never", world.now).unwrap(), Nacked::Dead);
    world.assert_once(&envelope);

    let letters = world.spool.dead(None).unwrap();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    let reason = letter.reason.as_ref().unwrap();
    assert_eq!((letter.id, letter.attempt, reason.reason.as_str()), (Some(envelope.id), Some(3), "never"));
    let history: Vec<_> = reason.history.iter().map(|note| (note.attempt, note.holder.clone().unwrap())).collect();
    assert_eq!(history, [(1, kaede(1)), (2, kaede(2))]);
    assert!(letter.answers_to(&envelope.id.to_string()));
}

#[test]
fn an_envelope_that_kills_its_holders_dies_after_its_last_attempt() {
    let mut world = World::new();
    let mut envelope = world.message("kaede");
    envelope.attempts_max = 2;
    world.spool.deliver(&envelope, None, world.now).unwrap();
    for attempt in 1..=2 {
        assert_eq!(world.lease("kaede", &kaede(1)).unwrap().attempt, attempt);
        world.wait(MINUTE);
    }
    assert!(world.lease("kaede", &kaede(1)).is_none());
    let letters = world.spool.dead(Some(&envelope.to)).unwrap();
    assert!(letters[0].reason.as_ref().unwrap().reason.starts_with("not answered in attempt 2"), "{letters:?}");
}

#[test]
fn a_dead_letter_can_wait_again_or_be_removed_for_good() {
    let mut world = World::new();
    let mut envelope = world.message("kaede");
    envelope.attempts_max = 1;
    world.spool.deliver(&envelope, None, world.now).unwrap();
    let old = world.lease("kaede", &Holder::operator()).unwrap();
    world.spool.nack(&old.receipt, "broken", world.now).unwrap();

    let letter = world.spool.dead(None).unwrap().remove(0);
    world.spool.requeue(&letter, world.now).unwrap();
    assert!(world.spool.dead(None).unwrap().is_empty());
    let again = world.lease("kaede", &Holder::operator()).unwrap();
    assert_eq!(again.attempt, 2);
    assert!(world.spool.ack(&old.receipt, None, world.now).is_err(), "a receipt from before the requeue was taken");
    world.spool.nack(&again.receipt, "still broken", world.now).unwrap();

    world.wait(MINUTE);
    let letter = world.spool.dead(None).unwrap().remove(0);
    assert_eq!(letter.reason.as_ref().unwrap().history.len(), 1, "the requeue is not in the history");
    world.spool.purge(&letter, world.now).unwrap();
    assert_eq!(names(&world.path().join("kaede/dead")), [""; 0]);
    assert_eq!(names(&world.path().join("kaede/history")), [""; 0]);
}

#[test]
fn a_delayed_envelope_waits_for_its_time() {
    let mut world = World::new();
    let envelope = world.message("kaede");
    world.spool.deliver(&envelope, Some(world.now + MINUTE), world.now).unwrap();
    assert_eq!(world.folder_of(&envelope), Some(Folder::Later));
    assert!(world.lease("kaede", &kaede(1)).is_none());
    world.wait(MINUTE);
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().attempt, 1);
}

#[test]
fn a_work_order_is_never_given_out_again_by_the_spool() {
    let mut world = World::new();
    let sent = world.sent("kaede.work");
    let leased = world.lease("kaede.work", &kaede(1)).unwrap();
    world.wait(Duration::from_hours(1_000));
    assert!(world.lease("kaede.work", &kaede(2)).is_none(), "an expired work order was leased again");
    assert!(matches!(world.spool.nack(&leased.receipt, "no", world.now), Err(SpoolError::WorkOrders { .. })));
    assert_eq!(world.folder_of(&sent), Some(Folder::Leased));

    let how = Retire::Dead { reason: "kaede.1 is dead".to_owned() };
    let retire = || world.spool.retire(&sent.to, sent.id, &how, world.now).unwrap();
    assert_eq!(retire(), Retired::Moved { from: Folder::Leased });
    assert_eq!(retire(), Retired::Already { folder: Folder::Dead });
    assert_eq!(refusal(world.spool.ack(&leased.receipt, None, world.now).unwrap_err()), Refusal::Dead);
    let letter = world.spool.dead(None).unwrap().remove(0);
    assert!(matches!(world.spool.requeue(&letter, world.now), Err(SpoolError::WorkOrders { .. })));
}

#[test]
fn the_supervisor_ends_an_envelope_wherever_it_is() {
    let world = World::new();
    let waiting = world.sent("kaede");
    let later = world.message("kaede");
    world.spool.deliver(&later, Some(world.now + MINUTE), world.now).unwrap();
    let retire = |id| world.spool.retire(&mailbox("kaede"), id, &Retire::Done, world.now).unwrap();
    assert_eq!(retire(waiting.id), Retired::Moved { from: Folder::New });
    assert_eq!(retire(later.id), Retired::Moved { from: Folder::Later });
    assert_eq!(retire(later.id), Retired::Already { folder: Folder::Done });
    assert_eq!(retire(world.message("kaede").id), Retired::Missing);
    assert!(world.lease("kaede", &kaede(1)).is_none());
}

#[test]
fn the_same_envelope_is_accepted_once_wherever_it_is_by_now() {
    let mut world = World::new();
    let sent = world.sent("kaede");
    let again = |world: &World| world.stranger().deliver(&sent, None, world.now).unwrap();
    let already = Delivered::Already { first: sent.id };
    assert_eq!(again(&world), already);
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!(again(&world), already);
    world.spool.nack(&leased.receipt, "later", world.now).unwrap();
    assert_eq!(again(&world), already);
    world.wait(MINUTE);
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    world.spool.ack(&leased.receipt, None, world.now).unwrap();
    assert_eq!(again(&world), already);
    world.assert_once(&sent);
    assert_eq!(names(&world.path().join("kaede/tmp")), [""; 0]);
}

#[test]
fn an_idempotency_key_is_good_for_one_envelope_of_one_sender_within_its_window() {
    let mut world = World::new();
    let keyed = |from: &str, now| {
        let mut envelope = super::envelope("kaede", now);
        envelope.idempotency_key = Some("issue-7".to_owned());
        from.clone_into(&mut envelope.from);
        envelope
    };
    let first = keyed("sakura", world.now);
    assert_eq!(world.spool.deliver(&first, None, world.now).unwrap(), Delivered::New);
    let again = |world: &World, from| world.spool.deliver(&keyed(from, world.now), None, world.now).unwrap();
    assert_eq!(again(&world, "sakura"), Delivered::Already { first: first.id });
    assert_eq!(again(&world, "botan"), Delivered::New, "another sender's key was mistaken for this one's");
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    world.spool.ack(&leased.receipt, None, world.now).unwrap();
    assert_eq!(again(&world, "sakura"), Delivered::Already { first: first.id });
    world.wait(world.spool.limits().key_window);
    assert_eq!(again(&world, "sakura"), Delivered::New);
}

#[test]
fn a_batch_is_delivered_like_single_envelopes() {
    let world = World::new();
    let mut batch: Vec<_> = (0..40).map(|_| world.message("kaede")).collect();
    batch.push(world.message("role.review"));
    batch.push(batch[0].clone());
    batch[1].idempotency_key = Some("once".to_owned());
    let delivered = world.spool.deliver_batch(&batch, world.now).unwrap();
    assert_eq!(delivered.iter().filter(|delivered| **delivered == Delivered::New).count(), 41);
    assert_eq!(delivered[41], Delivered::Already { first: batch[0].id });
    let order: Vec<_> =
        std::iter::from_fn(|| world.lease("kaede", &kaede(1))).map(|leased| leased.envelope.id).collect();
    assert_eq!(order, ids(&batch[..40]));
    assert_eq!(world.spool.mailboxes().unwrap(), [mailbox("kaede"), mailbox("role.review")]);
    assert_eq!(names(&world.path().join("kaede/tmp")), [""; 0]);
}

#[test]
fn a_full_mailbox_refuses_the_sender_and_accepts_again_by_itself() {
    let mut world = World::with_limits(Limits { mailbox_envelopes_max: 2, ..Limits::default() });
    let first = world.sent("kaede");
    world.sent("kaede");
    let third = world.message("kaede");
    let refused = world.spool.deliver(&third, None, world.now).unwrap_err();
    assert_eq!(refused.to_string(), "mailbox `kaede` is full: 2 envelopes wait, at most 2 may");
    assert!(world.spool.deliver_batch(std::slice::from_ref(&third), world.now).is_err());
    assert_eq!(world.spool.deliver(&first, None, world.now).unwrap(), Delivered::Already { first: first.id });

    let leased = world.lease("kaede", &kaede(1)).unwrap();
    world.spool.ack(&leased.receipt, None, world.now).unwrap();
    world.wait(MINUTE);
    assert_eq!(world.spool.deliver(&third, None, world.now).unwrap(), Delivered::New);
}

#[test]
fn an_envelope_that_could_not_be_read_again_is_refused_at_once() {
    let world = World::with_limits(Limits { envelope_bytes_max: 1_000, ..Limits::default() });
    let mut large = world.message("kaede");
    large.body = json!("x".repeat(1_000));
    assert!(matches!(world.spool.deliver(&large, None, world.now), Err(SpoolError::TooLarge { .. })));
    let mut deep = world.message("kaede");
    deep.body = (0..200).fold(json!(null), |inner, _| json!([inner]));
    assert!(matches!(world.spool.deliver(&deep, None, world.now), Err(SpoolError::Invalid { .. })));
    let mut newer = world.message("kaede");
    "envelope@2".clone_into(&mut newer.schema);
    assert!(matches!(world.spool.deliver(&newer, None, world.now), Err(SpoolError::Invalid { .. })));
    assert_eq!(world.spool.counts(&mailbox("kaede")).unwrap(), Counts::default());
}
