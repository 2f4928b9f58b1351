//! What every backend of the queue must do, written once and run for each.

use std::time::Duration;

use miyabi::io::queue::{Accepted, Given, GivenBack, Place, Queue, QueueFault, QueueView, Ticket};
use miyabi::io::spool::Spool;
use miyabi::io::spool::limits::Limits;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::EnvelopeId;
use miyabi::model::time::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use super::memory_queue::MemoryQueue;
use super::{MINUTE, envelope, kaede, mailbox};

trait Backend: Queue + QueueView {}
impl<T: Queue + QueueView> Backend for T {}

/// A backend, with a clock that the test turns.
struct Bench {
    queue: Box<dyn Backend>,
    now: Timestamp,
    _folder: Option<TempDir>,
}

impl Bench {
    fn spool(limits: Limits) -> Self {
        let folder = TempDir::new().unwrap();
        let queue = Box::new(Spool::with_limits(folder.path().join("spool"), limits));
        Self { queue, now: miyabi::io::clock::now(), _folder: Some(folder) }
    }

    fn memory(limits: Limits) -> Self {
        Self { queue: Box::new(MemoryQueue::new(limits)), now: miyabi::io::clock::now(), _folder: None }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn deliver(&self, envelope: &Envelope) -> Accepted {
        self.queue.deliver(envelope, None, self.now).unwrap()
    }

    fn sent(&self) -> Envelope {
        let envelope = envelope("kaede", self.now);
        assert_eq!(self.deliver(&envelope), Accepted::New);
        envelope
    }

    /// Sends in the order of the sender.
    fn sent_in_order(&self, from: &str) -> Envelope {
        let envelope = Envelope { from: from.to_owned(), group: None, ..envelope("kaede", self.now) };
        assert_eq!(self.deliver(&envelope), Accepted::New);
        envelope
    }

    fn lease(&self, count: usize) -> Vec<Given> {
        self.lease_as(1, count)
    }

    fn lease_as(&self, holder: u64, count: usize) -> Vec<Given> {
        self.queue.lease(&mailbox("kaede"), &kaede(holder), count, MINUTE, self.now).unwrap()
    }

    fn next(&self) -> Option<Given> {
        self.lease(1).pop()
    }

    fn ack(&self, given: &Given) -> Result<(), QueueFault> {
        self.queue.ack(std::slice::from_ref(&given.ticket), self.now).remove(0)
    }

    fn place(&self, id: EnvelopeId) -> Option<Place> {
        let places = self.queue.places(&mailbox("kaede")).unwrap();
        let found: Vec<Place> = places.iter().filter(|(listed, _)| *listed == id).map(|(_, place)| *place).collect();
        assert!(found.len() <= 1, "{id} is in several places: {found:?}");
        found.first().copied()
    }

    fn nack(&self, ticket: &Ticket) -> Result<GivenBack, QueueFault> {
        self.queue.nack(ticket, "not now", self.now)
    }
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, QueueFault>) {
    match result {
        Err(QueueFault::Refused { .. }) => {}
        other => panic!("{other:?}"),
    }
}

fn ids(given: &[Given]) -> Vec<EnvelopeId> {
    given.iter().map(|given| given.envelope.id).collect()
}

fn what_is_leased_is_seen_by_nobody_else_until_the_lease_ends(bench: &mut Bench) {
    let sent = bench.sent();
    assert_eq!(bench.place(sent.id), Some(Place::Waiting));
    let given = bench.next().unwrap();
    assert_eq!((&given.envelope, given.attempt), (&sent, 1));
    assert_eq!(bench.place(sent.id), Some(Place::Leased));
    assert!(bench.lease_as(2, 1).is_empty());
    bench.wait(MINUTE);
    let again = bench.lease_as(2, 1).remove(0);
    assert_eq!((again.envelope.id, again.attempt), (sent.id, 2));
    assert_refused(bench.ack(&given));
    assert_refused(bench.nack(&given.ticket));
    assert_refused(bench.queue.extend(&given.ticket, MINUTE, bench.now));
    bench.ack(&again).unwrap();
    assert_eq!(bench.place(sent.id), Some(Place::Done));
    assert_eq!(bench.queue.read(&sent.to, sent.id).unwrap(), Some(sent));
}

fn a_repeated_ack_is_harmless_and_what_is_done_cannot_be_given_back(bench: &mut Bench) {
    bench.sent();
    let given = bench.next().unwrap();
    bench.ack(&given).unwrap();
    bench.ack(&given).unwrap();
    assert_refused(bench.nack(&given.ticket));
    assert_refused(bench.queue.extend(&given.ticket, MINUTE, bench.now));
    assert_refused(bench.queue.nack(&Ticket("kaede/nonsense".to_owned()), "x", bench.now));
    assert!(bench.next().is_none());
}

fn a_lease_can_be_extended_and_older_tickets_of_it_stay_good(bench: &mut Bench) {
    bench.sent();
    let given = bench.next().unwrap();
    bench.wait(MINUTE / 2);
    bench.queue.extend(&given.ticket, MINUTE, bench.now).unwrap();
    bench.wait(MINUTE / 2);
    assert!(bench.lease_as(2, 1).is_empty(), "the lease ended although it was extended");
    bench.ack(&given).unwrap();
}

fn the_most_urgent_comes_first_and_among_equals_the_oldest(bench: &mut Bench) {
    let mut sent = Vec::new();
    for priority in [3, 5, 1, 3, 1] {
        let mut envelope = envelope("kaede", bench.now);
        envelope.priority = priority.try_into().unwrap();
        bench.deliver(&envelope);
        sent.push(envelope.id);
    }
    assert_eq!(ids(&bench.lease(9)), [2, 4, 0, 3, 1].map(|at: usize| sent[at]));
}

fn one_group_is_given_out_in_its_order_and_holds_up_no_other(bench: &mut Bench) {
    let [first, second] = [bench.sent_in_order("sakura"), bench.sent_in_order("sakura")];
    let other = bench.sent_in_order("botan");
    let given = bench.next().unwrap();
    assert_eq!(given.envelope.id, first.id);
    assert_eq!(ids(&bench.lease_as(2, 9)), [other.id]);
    let GivenBack::Later(at) = bench.nack(&given.ticket).unwrap() else { panic!("it had more attempts") };
    assert!(bench.next().is_none(), "the second overtook one that is to be tried again");
    bench.now = at;
    let given = bench.next().unwrap();
    assert_eq!(given.envelope.id, first.id);
    bench.wait(MINUTE);
    let given = bench.next().unwrap();
    assert_eq!((given.envelope.id, given.attempt), (first.id, 3));
    bench.ack(&given).unwrap();
    // The other's lease has ended meanwhile too, and it is the younger.
    assert_eq!(ids(&bench.lease(1)), [second.id]);
}

fn one_call_takes_several_of_a_group_in_order(bench: &mut Bench) {
    let sent: Vec<_> = (0..4).map(|_| bench.sent_in_order("sakura").id).collect();
    let given = bench.lease(3);
    assert_eq!(ids(&given), sent[..3]);
    assert!(bench.lease(3).is_empty());
    let tickets: Vec<_> = given.iter().map(|given| given.ticket.clone()).collect();
    assert!(bench.queue.ack(&tickets, bench.now).iter().all(Result::is_ok));
    assert_eq!(ids(&bench.lease(3)), sent[3..]);
}

fn a_delayed_envelope_comes_at_its_time_and_holds_nobody_up(bench: &mut Bench) {
    let delayed = Envelope { group: None, ..envelope("kaede", bench.now) };
    bench.queue.deliver(&delayed, Some(bench.now + MINUTE), bench.now).unwrap();
    assert_eq!(bench.place(delayed.id), Some(Place::Later));
    let given = bench.sent_in_order("sakura");
    let leased = bench.next().unwrap();
    assert_eq!(leased.envelope.id, given.id);
    bench.ack(&leased).unwrap();
    assert!(bench.next().is_none());
    bench.wait(MINUTE);
    let leased = bench.next().unwrap();
    assert_eq!((leased.envelope.id, leased.attempt), (delayed.id, 1));
}

fn what_nobody_takes_in_time_expires_and_what_was_taken_may_be_finished(bench: &mut Bench) {
    let expiring =
        |bench: &Bench| Envelope { expires_at: Some(bench.now + MINUTE / 2), ..envelope("kaede", bench.now) };
    let [taken, given_back, left] = [expiring(bench), expiring(bench), expiring(bench)];
    for envelope in [&taken, &given_back, &left] {
        assert_eq!(bench.deliver(envelope), Accepted::New);
    }
    let late = bench.queue.deliver(&expiring(bench), Some(bench.now + MINUTE), bench.now);
    assert!(matches!(late, Err(QueueFault::Invalid(_))), "{late:?}");
    let given = bench.lease(2);
    assert_eq!(ids(&given), [taken.id, given_back.id]);
    bench.wait(MINUTE / 2);
    assert!(bench.next().is_none());
    assert_eq!(bench.place(left.id), Some(Place::Dead));
    bench.ack(&given[0]).unwrap();
    bench.nack(&given[1].ticket).unwrap();
    bench.wait(MINUTE);
    assert!(bench.next().is_none());
    assert_eq!(bench.place(taken.id), Some(Place::Done));
    assert_eq!(bench.place(given_back.id), Some(Place::Dead));
    assert!(bench.queue.requeue(&left.to, left.id, bench.now).unwrap());
    assert_eq!(bench.next().unwrap().envelope.id, left.id, "whoever revives it means it");
}

fn the_same_id_or_key_is_accepted_once(bench: &mut Bench) {
    let keyed = |from: &str, now| Envelope {
        from: from.to_owned(),
        idempotency_key: Some("issue-7".to_owned()),
        ..envelope("kaede", now)
    };
    let first = keyed("sakura", bench.now);
    assert_eq!(bench.deliver(&first), Accepted::New);
    assert_eq!(bench.deliver(&first), Accepted::Before(first.id));
    assert_eq!(bench.deliver(&keyed("sakura", bench.now)), Accepted::Before(first.id));
    assert_eq!(bench.deliver(&keyed("botan", bench.now)), Accepted::New);
    for given in bench.lease(9) {
        bench.ack(&given).unwrap();
    }
    assert_eq!(bench.deliver(&keyed("sakura", bench.now)), Accepted::Before(first.id));
    bench.wait(Limits::default().key_window);
    assert_eq!(bench.deliver(&keyed("sakura", bench.now)), Accepted::New);
}

fn attempts_are_counted_the_last_is_fatal_and_a_person_may_revive(bench: &mut Bench) {
    let mortal = Envelope { attempts_max: 2, group: None, ..envelope("kaede", bench.now) };
    bench.deliver(&mortal);
    let next = bench.sent_in_order("sakura");
    let given = bench.next().unwrap();
    let again = bench.now + Limits::default().backoff(1);
    assert_eq!(bench.nack(&given.ticket).unwrap(), GivenBack::Later(again));
    bench.now = again;
    let given = bench.next().unwrap();
    assert_eq!((given.envelope.id, given.attempt), (mortal.id, 2));
    assert_eq!(bench.nack(&given.ticket).unwrap(), GivenBack::Dead);
    let dead = bench.queue.dead(&mailbox("kaede")).unwrap();
    assert_eq!((dead.len(), dead[0].id, dead[0].attempt, dead[0].reason.as_str()), (1, mortal.id, 2, "not now"));
    let leased = bench.next().unwrap();
    assert_eq!(leased.envelope.id, next.id, "the group did not go on");
    assert!(bench.queue.requeue(&mortal.to, mortal.id, bench.now).unwrap());
    assert!(!bench.queue.requeue(&mortal.to, mortal.id, bench.now).unwrap());
    let revived = bench.lease_as(2, 1).remove(0);
    assert_eq!((revived.envelope.id, revived.attempt), (mortal.id, 3));
    assert_refused(bench.ack(&given));
    bench.wait(MINUTE);
    assert_eq!(bench.next().unwrap().attempt, 4);
}

fn who_never_answers_loses_the_envelope_to_the_dead(bench: &mut Bench) {
    let mortal = Envelope { attempts_max: 2, ..envelope("kaede", bench.now) };
    bench.deliver(&mortal);
    for attempt in 1..=2 {
        assert_eq!(bench.next().unwrap().attempt, attempt);
        bench.wait(MINUTE);
    }
    assert!(bench.next().is_none());
    assert_eq!(bench.place(mortal.id), Some(Place::Dead));
}

fn a_batch_is_accepted_like_single_envelopes(bench: &mut Bench) {
    let mut batch: Vec<_> = (0..40).map(|_| envelope("kaede", bench.now)).collect();
    batch.push(envelope("role.review", bench.now));
    batch.push(batch[0].clone());
    let accepted = bench.queue.deliver_batch(&batch, bench.now).unwrap();
    assert!(accepted[..41].iter().all(|accepted| *accepted == Accepted::New));
    assert_eq!(accepted[41], Accepted::Before(batch[0].id));
    let given = bench.lease(100);
    assert_eq!(ids(&given), super::ids(&batch[..40]));
    let mut tickets: Vec<_> = given.iter().map(|given| given.ticket.clone()).collect();
    tickets.push(Ticket("kaede/nonsense".to_owned()));
    let acked = bench.queue.ack(&tickets, bench.now);
    assert!(acked[..40].iter().all(Result::is_ok));
    assert!(matches!(acked[40], Err(QueueFault::Refused { .. })));
    assert_eq!(bench.queue.mailboxes().unwrap(), [mailbox("kaede"), mailbox("role.review")]);
}

fn work_orders_are_given_out_once_and_know_no_groups(bench: &mut Bench) {
    let order = |now| Envelope { group: None, ..envelope("kaede.work", now) };
    let [first, second] = [order(bench.now), order(bench.now)];
    bench.deliver(&first);
    bench.deliver(&second);
    let work = mailbox("kaede.work");
    let lease = |now| bench.queue.lease(&work, &kaede(1), 1, MINUTE, now).unwrap();
    let given = lease(bench.now).remove(0);
    assert_eq!(given.envelope.id, first.id);
    assert_eq!(lease(bench.now).remove(0).envelope.id, second.id);
    assert!(lease(bench.now + 1_000 * MINUTE).is_empty(), "an expired order was given out again");
    assert!(matches!(bench.nack(&given.ticket), Err(QueueFault::Invalid(_))));
    bench.wait(MINUTE);
    bench.ack(&given).unwrap();
}

fn a_full_mailbox_and_a_large_envelope_refuse_the_sender(with: fn(Limits) -> Bench) {
    let bench = with(Limits { mailbox_envelopes_max: 1, envelope_bytes_max: 2_000, ..Limits::default() });
    let first = bench.sent();
    let refused = bench.queue.deliver(&envelope("kaede", bench.now), None, bench.now);
    assert!(matches!(refused, Err(QueueFault::Full(_))), "{refused:?}");
    assert_eq!(bench.deliver(&first), Accepted::Before(first.id), "a retry of what was accepted was refused");
    let large = Envelope { body: json!("x".repeat(2_000)), ..envelope("sakura", bench.now) };
    let refused = bench.queue.deliver(&large, None, bench.now);
    assert!(matches!(refused, Err(QueueFault::Invalid(_))), "{refused:?}");
}

/// Runs each case for each backend.
macro_rules! conform {
    ($($case:ident),* $(,)?) => {
        mod spool {
            $(#[test] fn $case() { super::$case(&mut super::Bench::spool(super::Limits::default())); })*
            #[test] fn a_full_mailbox_and_a_large_envelope_refuse_the_sender() {
                super::a_full_mailbox_and_a_large_envelope_refuse_the_sender(super::Bench::spool);
            }
        }
        mod memory {
            $(#[test] fn $case() { super::$case(&mut super::Bench::memory(super::Limits::default())); })*
            #[test] fn a_full_mailbox_and_a_large_envelope_refuse_the_sender() {
                super::a_full_mailbox_and_a_large_envelope_refuse_the_sender(super::Bench::memory);
            }
        }
    };
}

conform!(
    what_is_leased_is_seen_by_nobody_else_until_the_lease_ends,
    a_repeated_ack_is_harmless_and_what_is_done_cannot_be_given_back,
    a_lease_can_be_extended_and_older_tickets_of_it_stay_good,
    the_most_urgent_comes_first_and_among_equals_the_oldest,
    one_group_is_given_out_in_its_order_and_holds_up_no_other,
    one_call_takes_several_of_a_group_in_order,
    a_delayed_envelope_comes_at_its_time_and_holds_nobody_up,
    what_nobody_takes_in_time_expires_and_what_was_taken_may_be_finished,
    the_same_id_or_key_is_accepted_once,
    attempts_are_counted_the_last_is_fatal_and_a_person_may_revive,
    who_never_answers_loses_the_envelope_to_the_dead,
    a_batch_is_accepted_like_single_envelopes,
    work_orders_are_given_out_once_and_know_no_groups,
);
