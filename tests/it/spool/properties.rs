//! Random histories, played on the spool and on a model of it in memory, through two handles that know nothing of
//! each other, as two processes would.

use std::time::Duration;

use miyabi::io::spool::Spool;
use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::fault::SpoolError;
use miyabi::io::spool::lease::Leased;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::receipt::Receipt;
use miyabi::io::spool::retire::{Retire, Retired};
use miyabi::io::spool::settle::{Acked, Nacked};
use miyabi::model::envelope::Envelope;
use miyabi::model::time::Timestamp;
use proptest::prelude::*;

use super::{World, kaede, mailbox};

const LEASE: Duration = Duration::from_millis(1_000);

#[derive(Debug, Clone)]
enum Step {
    Deliver { priority: u8, group: u8, delay_ms: u64 },
    DeliverAgain(prop::sample::Index),
    Lease { holder: u64, lease_ms: u64, count: usize },
    Ack(prop::sample::Index),
    Nack(prop::sample::Index),
    Extend(prop::sample::Index),
    Retire(prop::sample::Index),
    Requeue(prop::sample::Index),
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (prop_oneof![3 => Just(3u8), 1 => 1..=5u8], 0..3u8, prop_oneof![3 => Just(0u64), 1 => 1..2_000u64])
            .prop_map(|(priority, group, delay_ms)| Step::Deliver { priority, group, delay_ms }),
        1 => index().prop_map(Step::DeliverAgain),
        6 => (1..=2u64, 100..3_000u64, prop_oneof![4 => Just(1usize), 1 => 2..4usize])
            .prop_map(|(holder, lease_ms, count)| Step::Lease { holder, lease_ms, count }),
        3 => index().prop_map(Step::Ack),
        3 => index().prop_map(Step::Nack),
        2 => index().prop_map(Step::Extend),
        1 => index().prop_map(Step::Retire),
        1 => index().prop_map(Step::Requeue),
        4 => (0..1_500u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// Where the model thinks an envelope is.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    New,
    Later(Timestamp),
    Leased { holder: u64, until: Timestamp },
    Done { holder: Option<u64> },
    Dead,
}

#[derive(Debug)]
struct Letter {
    envelope: Envelope,
    attempt: u32,
    place: Place,
}

impl Letter {
    fn is_last_attempt(&self) -> bool {
        self.attempt.is_multiple_of(self.envelope.attempts_max)
    }

    /// Says whether a receipt is the one of the letter's present lease, extended or not.
    fn is_held_by(&self, receipt: &Receipt) -> bool {
        matches!(self.place, Place::Leased { holder, .. }
            if kaede(holder) == receipt.name.holder && self.attempt == receipt.name.stem.attempt)
    }
}

/// The spool, its model, and all receipts that were ever given.
struct Game {
    world: World,
    handles: [Spool; 2],
    turn: usize,
    letters: Vec<Letter>,
    receipts: Vec<(usize, Receipt)>,
}

impl Game {
    fn new() -> Self {
        // Every look is a fresh one: how late an urgent envelope may be is not what is tested here.
        let world = World::with_limits(Limits { listing_age_max: Duration::ZERO, ..Limits::default() });
        let handles = [world.stranger(), world.stranger()];
        Self::with(world, handles)
    }

    /// One process, which goes by what it remembers.
    fn of_one_process() -> Self {
        let world = World::with_limits(Limits { listing_age_max: 10 * LEASE, ..Limits::default() });
        let handles = [world.spool.clone(), world.spool.clone()];
        Self::with(world, handles)
    }

    fn with(world: World, handles: [Spool; 2]) -> Self {
        Self { world, handles, turn: 0, letters: Vec::new(), receipts: Vec::new() }
    }

    fn play(&mut self, step: &Step) {
        self.turn += 1;
        let now = self.world.now;
        let spool = self.handles[self.turn % 2].clone();
        match step {
            Step::Deliver { priority, group, delay_ms } => {
                self.deliver(&spool, *priority, *group, Duration::from_millis(*delay_ms));
            }
            Step::DeliverAgain(index) => {
                if let Some(at) = self.pick(index) {
                    let envelope = &self.letters[at].envelope;
                    let already = Delivered::Already { first: envelope.id };
                    assert_eq!(spool.deliver(envelope, None, now).unwrap(), already);
                }
            }
            Step::Lease { holder, lease_ms, count } => {
                self.lease(&spool, *holder, *count, Duration::from_millis(*lease_ms));
            }
            Step::Ack(index) => self.ack(&spool, index),
            Step::Nack(index) => self.nack(&spool, index),
            Step::Extend(index) => self.extend(&spool, index),
            Step::Retire(index) => self.retire(&spool, index),
            Step::Requeue(index) => self.requeue(&spool, index),
            Step::Wait { ms } => self.world.wait(Duration::from_millis(*ms)),
        }
        self.compare();
    }

    fn pick(&self, index: &prop::sample::Index) -> Option<usize> {
        (!self.letters.is_empty()).then(|| index.index(self.letters.len()))
    }

    fn pick_receipt(&self, index: &prop::sample::Index) -> Option<(usize, Receipt)> {
        (!self.receipts.is_empty()).then(|| self.receipts[index.index(self.receipts.len())].clone())
    }

    fn deliver(&mut self, spool: &Spool, priority: u8, group: u8, delay: Duration) {
        let now = self.world.now;
        let envelope = Envelope {
            priority: priority.try_into().unwrap(),
            group: Some(group.to_string()),
            attempts_max: 3,
            ..self.world.message("kaede")
        };
        assert_eq!(spool.deliver(&envelope, Some(now + delay), now).unwrap(), Delivered::New);
        let place = if delay.is_zero() { Place::New } else { Place::Later(now + delay) };
        self.letters.push(Letter { envelope, attempt: 1, place });
    }

    /// What every lease call does first.
    fn take_back(&mut self) {
        let now = self.world.now;
        for letter in &mut self.letters {
            match letter.place {
                Place::Leased { until, .. } if until <= now && letter.is_last_attempt() => letter.place = Place::Dead,
                Place::Leased { until, .. } if until <= now => {
                    letter.attempt += 1;
                    letter.place = Place::New;
                }
                Place::Later(not_before) if not_before <= now => letter.place = Place::New,
                Place::New | Place::Later(_) | Place::Leased { .. } | Place::Done { .. } | Place::Dead => {}
            }
        }
    }

    /// Says whether a letter's turn is held up by an older one of its group. What was requeued is out of the order.
    fn is_held_up(&self, at: usize, taken: &[usize]) -> bool {
        let letter = &self.letters[at];
        let is_requeued = |letter: &Letter| letter.attempt > letter.envelope.attempts_max;
        let is_in_flight = |other: &Letter| match other.place {
            Place::Leased { .. } => true,
            Place::Later(_) => other.attempt > 1,
            Place::New | Place::Done { .. } | Place::Dead => false,
        };
        !is_requeued(letter)
            && (0..at).filter(|at| !taken.contains(at)).map(|at| &self.letters[at]).any(|other| {
                is_in_flight(other)
                    && !is_requeued(other)
                    && other.envelope.group == letter.envelope.group
                    && other.envelope.priority == letter.envelope.priority
            })
    }

    fn lease(&mut self, spool: &Spool, holder: u64, count: usize, lease: Duration) {
        let now = self.world.now;
        self.take_back();
        let mut taken = Vec::new();
        for leased in spool.lease_batch(&mailbox("kaede"), &kaede(holder), count, lease, now).unwrap() {
            let Leased { receipt, envelope, attempt } = leased;
            let at = self.next(&taken).unwrap_or_else(|| panic!("leased {envelope:?}, expected none"));
            assert_eq!((&envelope, attempt), (&self.letters[at].envelope, self.letters[at].attempt));
            self.letters[at].place = Place::Leased { holder, until: now + lease };
            self.receipts.push((at, receipt));
            taken.push(at);
        }
        assert!(taken.len() <= count);
        assert!(taken.len() == count || self.next(&taken).is_none(), "leased {taken:?}, and more could be had");
    }

    /// The letter whose turn it is, after some were taken in the same call.
    fn next(&self, taken: &[usize]) -> Option<usize> {
        (0..self.letters.len())
            .filter(|at| self.letters[*at].place == Place::New && !self.is_held_up(*at, taken))
            .min_by_key(|at| (self.letters[*at].envelope.priority, self.letters[*at].envelope.id))
    }

    fn ack(&mut self, spool: &Spool, index: &prop::sample::Index) {
        let Some((at, receipt)) = self.pick_receipt(index) else { return };
        let letter = &mut self.letters[at];
        let is_same = letter.attempt == receipt.name.stem.attempt;
        let acked = spool.ack(&receipt, Some(&receipt.name.holder), self.world.now);
        match letter.place {
            Place::Leased { holder, .. } if letter.is_held_by(&receipt) => {
                assert_eq!(acked.unwrap(), Acked::Now);
                letter.place = Place::Done { holder: Some(holder) };
            }
            Place::Done { holder: Some(holder) } if is_same && kaede(holder) == receipt.name.holder => {
                assert_eq!(acked.unwrap(), Acked::Already);
            }
            Place::New | Place::Later(_) | Place::Leased { .. } | Place::Done { .. } | Place::Dead => {
                assert!(matches!(acked, Err(SpoolError::NotYours { .. })), "{acked:?}");
            }
        }
    }

    fn nack(&mut self, spool: &Spool, index: &prop::sample::Index) {
        let Some((at, receipt)) = self.pick_receipt(index) else { return };
        let now = self.world.now;
        let letter = &mut self.letters[at];
        let nacked = spool.nack(&receipt, "no", now);
        if !letter.is_held_by(&receipt) {
            assert!(matches!(nacked, Err(SpoolError::NotYours { .. })), "{nacked:?}");
        } else if letter.is_last_attempt() {
            assert_eq!(nacked.unwrap(), Nacked::Dead);
            letter.place = Place::Dead;
        } else {
            let again = now + spool.limits().backoff(letter.attempt);
            assert_eq!(nacked.unwrap(), Nacked::Later(again));
            letter.attempt += 1;
            letter.place = Place::Later(again);
        }
    }

    fn extend(&mut self, spool: &Spool, index: &prop::sample::Index) {
        let Some((at, receipt)) = self.pick_receipt(index) else { return };
        let now = self.world.now;
        let letter = &mut self.letters[at];
        let extended = spool.extend(&receipt, LEASE, now);
        match letter.place {
            Place::Leased { holder, .. } if letter.is_held_by(&receipt) => {
                letter.place = Place::Leased { holder, until: now + LEASE };
                self.receipts.push((at, extended.unwrap()));
            }
            Place::New | Place::Later(_) | Place::Leased { .. } | Place::Done { .. } | Place::Dead => {
                assert!(matches!(extended, Err(SpoolError::NotYours { .. })), "{extended:?}");
            }
        }
    }

    fn retire(&mut self, spool: &Spool, index: &prop::sample::Index) {
        let Some(at) = self.pick(index) else { return };
        let letter = &mut self.letters[at];
        let retired = spool.retire(&mailbox("kaede"), letter.envelope.id, &Retire::Done, self.world.now).unwrap();
        let (expected, place) = match letter.place.clone() {
            Place::New => (Retired::Moved { from: Folder::New }, Place::Done { holder: None }),
            Place::Later(_) => (Retired::Moved { from: Folder::Later }, Place::Done { holder: None }),
            Place::Leased { holder, .. } => {
                (Retired::Moved { from: Folder::Leased }, Place::Done { holder: Some(holder) })
            }
            place @ Place::Done { .. } => (Retired::Already { folder: Folder::Done }, place),
            Place::Dead => (Retired::Already { folder: Folder::Dead }, Place::Dead),
        };
        assert_eq!(retired, expected);
        letter.place = place;
    }

    fn requeue(&mut self, spool: &Spool, index: &prop::sample::Index) {
        let letters = spool.dead(Some(&mailbox("kaede"))).unwrap();
        assert!(letters.iter().all(|letter| letter.reason.is_some()), "{letters:?}");
        if letters.is_empty() {
            return;
        }
        let dead = &letters[index.index(letters.len())];
        spool.requeue(dead, self.world.now).unwrap();
        let letter = self.letters.iter_mut().find(|letter| Some(letter.envelope.id) == dead.id).unwrap();
        letter.attempt += 1;
        letter.place = Place::New;
    }

    /// Compares every folder, name by name, with the model.
    fn compare(&self) {
        let mut expected: Vec<_> = self
            .letters
            .iter()
            .map(|letter| {
                let (folder, holder, until) = match &letter.place {
                    Place::New => (Folder::New, None, None),
                    Place::Later(at) => (Folder::Later, None, Some(*at)),
                    Place::Leased { holder, until } => (Folder::Leased, Some(kaede(*holder)), Some(*until)),
                    Place::Done { holder } => (Folder::Done, holder.map(kaede), None),
                    // Who held a dead letter last is for its reader only.
                    Place::Dead => (Folder::Dead, None, None),
                };
                (letter.envelope.id, letter.attempt, folder, holder, until)
            })
            .collect();
        expected.sort();
        let listed = self.world.stranger().list(&mailbox("kaede")).unwrap();
        let mut seen: Vec<_> = listed
            .into_iter()
            .map(|listed| {
                let holder = listed.holder.filter(|_| listed.folder != Folder::Dead);
                (listed.id, listed.attempt, listed.folder, holder, listed.until)
            })
            .collect();
        seen.sort();
        assert_eq!(seen, expected);
        for letter in &self.letters {
            self.world.assert_once(&letter.envelope);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_spool_behaves_like_its_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut game = Game::new();
        for step in steps {
            game.play(&step);
        }
    }

    #[test]
    fn a_process_that_goes_by_what_it_remembers_behaves_like_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut game = Game::of_one_process();
        for step in steps {
            game.play(&step);
        }
    }
}
