//! Actors that act at the same moment: whatever they are told must be what some order of their acts would have given, in
//! the queue in memory, which is the model of what a queue does.

use std::sync::Barrier;
use std::time::Duration;

use miyabi::io::queue::{Accepted, GivenBack, Queue, QueueFault, QueueView, Ticket};
use miyabi::io::spool::Spool;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::limits::Limits;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::EnvelopeId;
use miyabi::model::time::Timestamp;
use proptest::prelude::*;

use super::memory_queue::MemoryQueue;
use super::{World, kaede, mailbox};

/// How many act at once.
const ACTORS: usize = 3;

#[derive(Debug, Clone)]
enum Act {
    Deliver { priority: u8, group: u8, key: Option<u8>, delay_ms: u64 },
    DeliverAgain(prop::sample::Index),
    Lease { holder: u64, lease_ms: u64 },
    Ack(prop::sample::Index),
    Nack(prop::sample::Index),
    Extend(prop::sample::Index),
}

fn act() -> impl Strategy<Value = Act> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        5 => (
            prop_oneof![3 => Just(3u8), 1 => 1..=5u8],
            0..2u8,
            prop_oneof![2 => Just(None), 1 => (0..3u8).prop_map(Some)],
            prop_oneof![4 => Just(0u64), 1 => 1..800u64],
        )
            .prop_map(|(priority, group, key, delay_ms)| Act::Deliver { priority, group, key, delay_ms }),
        1 => index().prop_map(Act::DeliverAgain),
        6 => (1..=3u64, 200..2_000u64).prop_map(|(holder, lease_ms)| Act::Lease { holder, lease_ms }),
        3 => index().prop_map(Act::Ack),
        2 => index().prop_map(Act::Nack),
        2 => index().prop_map(Act::Extend),
    ]
}

/// A lease that somebody was given once, with the spool's ticket for it.
#[derive(Debug, Clone)]
struct Lease {
    id: EnvelopeId,
    attempt: u32,
    holder: Holder,
    ticket: Ticket,
}

/// An act with everything in it that was drawn or made before the moment.
#[derive(Debug, Clone)]
enum Call {
    Deliver { envelope: Box<Envelope>, not_before: Option<Timestamp> },
    Lease { holder: Holder, time: Duration },
    Ack(Lease),
    Nack(Lease),
    Extend(Lease),
}

/// What somebody was told.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Accepted(Accepted),
    Given(Option<(EnvelopeId, u32)>),
    Done,
    GivenBack(GivenBack),
    Refused,
}

/// Makes a call of a queue, with its own kind of tickets. Returns what was told, and the ticket of what was leased.
fn make(
    queue: &impl Queue,
    call: &Call,
    now: Timestamp,
    ticket_of: impl Fn(&Lease) -> Ticket,
) -> (Told, Option<Lease>) {
    let or_refused = |told: Result<Told, QueueFault>| match told {
        Ok(told) => told,
        Err(QueueFault::Refused { .. }) => Told::Refused,
        Err(other) => panic!("{call:?}: {other:?}"),
    };
    let told = match call {
        Call::Deliver { envelope, not_before } => {
            or_refused(queue.deliver(envelope, *not_before, now).map(Told::Accepted))
        }
        Call::Lease { holder, time } => {
            let given = queue.lease(&mailbox("kaede"), holder, 1, *time, now).unwrap().pop();
            let told = Told::Given(given.as_ref().map(|given| (given.envelope.id, given.attempt)));
            let lease = given.map(|given| Lease {
                id: given.envelope.id,
                attempt: given.attempt,
                holder: holder.clone(),
                ticket: given.ticket,
            });
            return (told, lease);
        }
        Call::Ack(lease) => or_refused(queue.ack(&[ticket_of(lease)], now).remove(0).map(|()| Told::Done)),
        Call::Nack(lease) => or_refused(queue.nack(&ticket_of(lease), "no", now).map(Told::GivenBack)),
        Call::Extend(lease) => {
            or_refused(queue.extend(&ticket_of(lease), Duration::from_secs(1), now).map(|_| Told::Done))
        }
    };
    (told, None)
}

fn in_memory(lease: &Lease) -> Ticket {
    Ticket(format!("kaede/{}/{}/{}", lease.id, lease.attempt, lease.holder))
}

/// Lists every order of so many acts.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let insert = |order: Vec<usize>| {
        (0..count).map(move |at| {
            let mut longer = order.clone();
            longer.insert(at, count - 1);
            longer
        })
    };
    orders(count - 1).into_iter().flat_map(insert).collect()
}

/// What the actors are to one another.
#[derive(Debug, Clone, Copy)]
enum Kinship {
    /// Each is a process of its own.
    Processes,
    /// All are threads of one process, and share what it remembers, its turns and its waits.
    Threads,
}

struct Game {
    world: World,
    spools: [Spool; ACTORS],
    model: MemoryQueue,
    sent: Vec<Envelope>,
    leases: Vec<Lease>,
}

impl Game {
    fn new(kinship: Kinship) -> Self {
        let limits = match kinship {
            // How late an urgent envelope of another process may be is not what is tested here.
            Kinship::Processes => Limits { listing_age_max: Duration::ZERO, ..Limits::default() },
            Kinship::Threads => Limits::default(),
        };
        let world = World::with_limits(limits.clone());
        let spools = match kinship {
            Kinship::Processes => [(); ACTORS].map(|()| world.stranger()),
            Kinship::Threads => [(); ACTORS].map(|()| world.spool.clone()),
        };
        spools[0].ensure(&mailbox("kaede")).unwrap();
        Self { world, spools, model: MemoryQueue::new(limits), sent: Vec::new(), leases: Vec::new() }
    }

    fn call(&mut self, act: &Act) -> Call {
        let lease =
            |leases: &[Lease], index: &prop::sample::Index| leases.get(index.index(leases.len().max(1))).cloned();
        let nothing = Call::Lease { holder: kaede(1), time: Duration::from_secs(1) };
        match act {
            Act::Deliver { priority, group, key, delay_ms } => {
                let now = self.world.now;
                let envelope = Envelope {
                    priority: (*priority).try_into().unwrap(),
                    group: Some(group.to_string()),
                    idempotency_key: key.map(|key| key.to_string()),
                    attempts_max: 2,
                    ..self.world.message("kaede")
                };
                self.sent.push(envelope.clone());
                let not_before = (*delay_ms > 0).then(|| now + Duration::from_millis(*delay_ms));
                Call::Deliver { envelope: Box::new(envelope), not_before }
            }
            Act::DeliverAgain(index) => match self.sent.get(index.index(self.sent.len().max(1))) {
                // With a key it is another question whether it was accepted.
                Some(envelope) if envelope.idempotency_key.is_none() => {
                    Call::Deliver { envelope: Box::new(envelope.clone()), not_before: None }
                }
                Some(_) | None => nothing,
            },
            Act::Lease { holder, lease_ms } => {
                Call::Lease { holder: kaede(*holder), time: Duration::from_millis(*lease_ms) }
            }
            Act::Ack(index) => lease(&self.leases, index).map_or(nothing, Call::Ack),
            Act::Nack(index) => lease(&self.leases, index).map_or(nothing, Call::Nack),
            Act::Extend(index) => lease(&self.leases, index).map_or(nothing, Call::Extend),
        }
    }

    /// Lets all act at once, and looks for the order that explains what they were told and what is there now.
    fn play(&mut self, acts: &[Act; ACTORS], pause_ms: u64) {
        self.world.wait(Duration::from_millis(pause_ms));
        let now = self.world.now;
        let calls: Vec<Call> = acts.iter().map(|act| self.call(act)).collect();
        let start = Barrier::new(ACTORS);
        let told: Vec<(Told, Option<Lease>)> = std::thread::scope(|scope| {
            let actors: Vec<_> = std::iter::zip(&self.spools, &calls)
                .map(|(spool, call)| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        make(spool, call, now, |lease| lease.ticket.clone())
                    })
                })
                .collect();
            actors.into_iter().map(|actor| actor.join().unwrap()).collect()
        });
        let places = QueueView::places(&self.world.stranger(), &mailbox("kaede")).unwrap();
        let explained = orders(ACTORS).into_iter().find_map(|order| {
            let model = self.model.copy();
            let is_told = |at: &usize| make(&model, &calls[*at], now, in_memory).0 == told[*at].0;
            let fits = order.iter().all(is_told) && model.places(&mailbox("kaede")).unwrap() == places;
            fits.then_some(model)
        });
        let Some(model) = explained else {
            panic!("no order explains {:#?}\nafter {:#?}\nwith {places:#?}\nfrom {:#?}", told, calls, self.model);
        };
        self.model = model;
        self.leases.extend(told.into_iter().filter_map(|(_, lease)| lease));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_actors_are_told_who_act_at_once_some_order_of_their_acts_explains(
        kinship in prop_oneof![Just(Kinship::Processes), Just(Kinship::Threads)],
        rounds in prop::collection::vec(([act(), act(), act()], prop_oneof![2 => Just(0u64), 1 => 0..900u64]), 1..30)
    ) {
        let mut game = Game::new(kinship);
        for (acts, pause_ms) in rounds {
            game.play(&acts, pause_ms);
        }
    }
}
