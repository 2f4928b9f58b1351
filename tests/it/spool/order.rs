//! The order within a group: the next is given out only when those before it have ended.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use miyabi::io::clock;
use miyabi::io::spool::Spool;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::lease::Leased;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::settle::Nacked;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::{EnvelopeId, Incarnation};
use serde_json::json;

use super::{MINUTE, World, ids, kaede, mailbox};

/// Sends a message in the order of its sender.
pub(super) fn sent_by(world: &World, from: &str) -> Envelope {
    let envelope = Envelope { from: from.to_owned(), group: None, ..world.message("kaede") };
    world.spool.deliver(&envelope, None, world.now).unwrap();
    envelope
}

fn ack(world: &World, leased: &Leased) {
    world.spool.ack(&leased.receipt, None, world.now).unwrap();
}

#[test]
fn ids_made_in_the_same_millisecond_sort_as_they_were_made() {
    let made: Vec<EnvelopeId> = (0..5_000).map(|_| clock::fresh_envelope_id()).collect();
    assert!(made.is_sorted_by(|a, b| a < b));
}

#[test]
fn the_next_of_a_sender_waits_until_the_one_before_has_ended_and_holds_nobody_else_up() {
    let world = World::new();
    let [first, second] = [sent_by(&world, "sakura"), sent_by(&world, "sakura")];
    let other = sent_by(&world, "botan");
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!(leased.envelope, first);
    let others = Spool::new(world.path().to_owned()).lease(&mailbox("kaede"), &kaede(2), MINUTE, world.now).unwrap();
    assert_eq!(others.unwrap().envelope, other);
    assert!(world.lease("kaede", &kaede(3)).is_none(), "the second overtook the first");
    ack(&world, &leased);
    assert_eq!(world.lease("kaede", &kaede(3)).unwrap().envelope, second);
}

#[test]
fn what_was_given_back_or_has_expired_comes_before_what_was_sent_after_it() {
    let mut world = World::new();
    let [first, second] = [sent_by(&world, "sakura"), sent_by(&world, "sakura")];
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    let Nacked::Later(again) = world.spool.nack(&leased.receipt, "no", world.now).unwrap() else { panic!() };
    assert!(world.lease("kaede", &kaede(1)).is_none(), "the second did not wait for the first to be tried again");
    world.now = again;
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!((leased.envelope.id, leased.attempt), (first.id, 2));
    world.wait(MINUTE);
    let leased = world.stranger().lease(&mailbox("kaede"), &kaede(2), MINUTE, world.now).unwrap().unwrap();
    assert_eq!((leased.envelope.id, leased.attempt), (first.id, 3));
    assert!(world.lease("kaede", &kaede(1)).is_none());
    ack(&world, &leased);
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, second);
}

#[test]
fn what_another_lessee_took_back_is_noticed_by_one_that_goes_by_an_old_list() {
    let mut world = World::with_limits(Limits { listing_age_max: MINUTE, ..Limits::default() });
    let [first, _] = [sent_by(&world, "sakura"), sent_by(&world, "sakura")];
    let other = world.stranger();
    let leased = other.lease(&mailbox("kaede"), &kaede(1), MINUTE, world.now).unwrap().unwrap();
    assert!(world.lease("kaede", &kaede(2)).is_none());
    let Nacked::Later(again) = other.nack(&leased.receipt, "no", world.now).unwrap() else { panic!() };
    world.now = again;
    let urgent = Envelope { priority: 1.try_into().unwrap(), ..world.message("kaede") };
    other.deliver(&urgent, None, world.now).unwrap();
    assert_eq!(other.lease(&mailbox("kaede"), &kaede(1), MINUTE, world.now).unwrap().unwrap().envelope, urgent);
    assert_eq!(world.lease("kaede", &kaede(2)).unwrap().envelope.id, first.id);
}

#[test]
fn a_group_goes_on_after_the_last_attempt_and_a_requeued_one_is_out_of_the_order() {
    let world = World::new();
    let first = Envelope { attempts_max: 1, group: None, ..world.message("kaede") };
    world.spool.deliver(&first, None, world.now).unwrap();
    let [second, third] = [sent_by(&world, "sakura"), sent_by(&world, "sakura")];
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!(world.spool.nack(&leased.receipt, "never", world.now).unwrap(), Nacked::Dead);
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!(leased.envelope, second);
    world.spool.requeue(&world.spool.dead(None).unwrap()[0], world.now).unwrap();
    assert_eq!(world.lease("kaede", &kaede(2)).unwrap().envelope, first);
    ack(&world, &leased);
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, third, "a requeued envelope held up its group");
}

#[test]
fn a_delay_that_its_sender_wished_holds_nobody_up() {
    let world = World::new();
    let delayed = Envelope { group: None, ..world.message("kaede") };
    world.spool.deliver(&delayed, Some(world.now + MINUTE), world.now).unwrap();
    let second = sent_by(&world, "sakura");
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, second);
}

#[test]
fn order_is_kept_per_priority_and_groups_may_span_senders() {
    let world = World::new();
    let shared = |from: &str| {
        let envelope = Envelope { from: from.to_owned(), group: Some("release".to_owned()), ..world.message("kaede") };
        world.spool.deliver(&envelope, None, world.now).unwrap();
        envelope
    };
    let [first, _] = [shared("sakura"), shared("botan")];
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, first);
    assert!(world.lease("kaede", &kaede(1)).is_none());
    let mut urgent = Envelope { group: Some("release".to_owned()), ..world.message("kaede") };
    urgent.priority = 1.try_into().unwrap();
    world.spool.deliver(&urgent, None, world.now).unwrap();
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, urgent);
}

#[test]
fn one_call_may_take_several_of_a_group_in_their_order() {
    let world = World::new();
    let sent: Vec<_> = (0..5).map(|_| sent_by(&world, "sakura")).collect();
    let take = |count| world.spool.lease_batch(&mailbox("kaede"), &kaede(1), count, MINUTE, world.now).unwrap();
    let three: Vec<_> = take(3).into_iter().map(|leased| leased.envelope).collect();
    assert_eq!(ids(&three), ids(&sent[..3]));
    assert_eq!(take(3), [], "a second call took more of a group in flight");
}

#[test]
fn thousands_that_wait_for_one_are_not_read_again_and_hold_up_no_other() {
    let world = World::with_limits(Limits { listing_age_max: MINUTE, ..Limits::default() });
    let batch: Vec<_> = (0..1_500).map(|_| Envelope { group: None, ..world.message("kaede") }).collect();
    world.spool.deliver_batch(&batch, world.now).unwrap();
    let other = sent_by(&world, "botan");
    let leased = world.lease("kaede", &kaede(1)).unwrap();
    assert_eq!(leased.envelope, batch[0]);
    assert_eq!(world.lease("kaede", &kaede(2)).unwrap().envelope, other);
    ack(&world, &leased);
    assert_eq!(world.lease("kaede", &kaede(1)).unwrap().envelope, batch[1]);
}

#[test]
fn a_lessee_that_stopped_in_its_turn_does_not_stop_the_others() {
    let world = World::new();
    sent_by(&world, "sakura");
    let lock = std::fs::File::create(world.path().join("kaede/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(world.lease("kaede", &kaede(1)).is_some());
}

/// Names the folder of the spool for a copy of this program that leases from it.
const CHILD: &str = "SPOOL_ORDER_TEST_CHILD";

/// Works on a mailbox until nothing has come for a while: acknowledges, gives back, and forgets, as chance has it.
/// Complains if an envelope comes whose predecessor has not ended.
fn work(spool: &Spool, number: u64) -> Vec<String> {
    let holder = Holder::new(format!("agent{number}"), Incarnation(number)).unwrap();
    let mut complaints = Vec::new();
    let mut chance = number;
    loop {
        let leased = spool.lease(&mailbox("kaede"), &holder, Duration::from_millis(40), clock::now()).unwrap();
        let Some(leased) = leased else {
            let counts = spool.counts(&mailbox("kaede")).unwrap();
            if counts.new + counts.leased + counts.later == 0 {
                return complaints;
            }
            std::thread::yield_now();
            continue;
        };
        if let Some(before) = leased.envelope.body["before"].as_str() {
            let found = spool.locate(&mailbox("kaede"), before.parse().unwrap()).unwrap().unwrap();
            if !matches!(found.folder, Folder::Done | Folder::Dead) {
                complaints.push(format!("{} came before {}", leased.envelope.id, found.name));
            }
        }
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match chance >> 61 {
            0 => {}
            1 | 2 => drop(spool.nack(&leased.receipt, "no", clock::now())),
            _ => drop(spool.ack(&leased.receipt, None, clock::now())),
        }
    }
}

#[test]
fn threads_and_processes_keep_the_order_of_every_sender() {
    #[expect(clippy::disallowed_methods, reason = "this program starts itself and tells itself so")]
    if let Ok(order) = std::env::var(CHILD) {
        let (number, root) = order.split_once(' ').unwrap();
        let complaints = work(&quick(Path::new(root)), number.parse().unwrap());
        assert_eq!(complaints, [""; 0]);
        return;
    }
    const SENDERS: u64 = 3;
    const MESSAGES: usize = 40;
    let world = World::new();
    world.spool.ensure(&mailbox("kaede")).unwrap();
    // Something to do for those that start before the first sender.
    world.sent("kaede");
    let children: Vec<_> = (10..12)
        .map(|number| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "spool::order::threads_and_processes_keep_the_order_of_every_sender", "--nocapture"])
                .env(CHILD, format!("{number} {}", world.path().display()))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let shared = quick(world.path());
    let mut complaints = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..SENDERS {
            let world = &world;
            scope.spawn(move || {
                let mut before = None;
                for _ in 0..MESSAGES {
                    let id = clock::fresh_envelope_id();
                    let from = format!("sender{number}");
                    let body = json!({"before": before});
                    let envelope = Envelope { id, from, group: None, body, ..world.message("kaede") };
                    world.spool.deliver(&envelope, None, clock::now()).unwrap();
                    before = Some(id);
                }
            });
        }
        let workers: Vec<_> = (0..4)
            .map(|number| {
                let spool = if number % 2 == 0 { shared.clone() } else { quick(world.path()) };
                scope.spawn(move || work(&spool, number))
            })
            .collect();
        for worker in workers {
            complaints.extend(worker.join().unwrap());
        }
    });
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // A worker that found nothing for a moment may have gone before the last was sent.
    complaints.extend(work(&shared, 9));
    assert_eq!(complaints, [""; 0]);
    let counts = world.spool.counts(&mailbox("kaede")).unwrap();
    assert_eq!(counts.done + counts.dead, 1 + MESSAGES * usize::try_from(SENDERS).unwrap());
}

/// A handle that tries again soon.
fn quick(root: &Path) -> Spool {
    let limits =
        Limits { backoff_min: Duration::from_millis(3), backoff_max: Duration::from_millis(20), ..Limits::default() };
    Spool::with_limits(root.to_owned(), limits)
}
