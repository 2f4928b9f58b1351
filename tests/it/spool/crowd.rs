//! Several actors at once on the unkind file system of `journaled`: whose step comes next, who is killed, when the power
//! goes and what it takes are drawn by seed. `MIYABI_SOAK` draws more.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use miyabi::io::spool::Spool;
use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::settle::Nacked;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::{EnvelopeId, Incarnation};
use miyabi::model::time::Timestamp;
use serde_json::json;

use super::journaled::{Gate, Journaled, Looks, Order, State};
use super::lives::{First, START, Told, assert_recovers, root};
use super::own_disk::soak;
use super::{MINUTE, mailbox, tell};
use crate::rng::Rng;

const SEEDS: u64 = 150;
const ACTORS: usize = 3;
const DEEDS: usize = 8;
/// How many steps are made before the power goes, at most.
const STEPS_MAX: usize = 260;
/// How many of the states after a cut are looked at.
const STATES: usize = 4;
const ENVELOPES: u64 = 5;
const EIO: i32 = 5;

/// Decides whose step is next.
#[derive(Debug)]
struct Conductor {
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Debug)]
struct Stage {
    lots: Rng,
    /// Whose step is next; nobody's when all have left.
    turn: Option<usize>,
    present: BTreeSet<usize>,
    steps_left: usize,
}

impl Conductor {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    fn draw(&mut self) {
        let at = if self.present.is_empty() { None } else { Some(self.lots.below(self.present.len())) };
        self.turn = at.and_then(|at| self.present.iter().nth(at).copied());
    }
}

/// One actor's way to the disk.
#[derive(Debug)]
struct Part {
    conductor: Arc<Conductor>,
    number: usize,
}

impl Gate for Part {
    fn pass(&self) -> std::io::Result<()> {
        let mut stage = self.conductor.stage();
        // The step before this one is done: somebody else may have the next.
        if stage.turn == Some(self.number) {
            stage.draw();
            self.conductor.changed.notify_all();
        }
        while stage.turn != Some(self.number) {
            stage = self.conductor.changed.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
        if stage.steps_left == 0 {
            return Err(std::io::Error::from_raw_os_error(EIO));
        }
        stage.steps_left -= 1;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut stage = self.conductor.stage();
        stage.present.remove(&self.number);
        if stage.turn == Some(self.number) {
            stage.draw();
        }
        self.conductor.changed.notify_all();
    }
}

fn envelope(number: u64) -> Envelope {
    Envelope {
        id: EnvelopeId(ulid::Ulid::from_parts(1_795_000_000_000 + number, u128::from(number))),
        attempts_max: if number == 1 { 1 } else { 3 },
        // Two of them follow one another.
        group: (number > 2).then(|| number.to_string()),
        body: json!({"number": number}),
        idempotency_key: (number == 3).then(|| "key".to_owned()),
        ..super::envelope("kaede", START)
    }
}

/// Sends, leases and settles, whatever the lots say, until the power goes or it has done enough.
fn act(spool: &Spool, told: &Mutex<Told>, number: usize, lots: &mut Rng, mut now: Timestamp) {
    let holder = Holder::new(format!("agent{number}"), Incarnation(1)).unwrap();
    let room = mailbox("kaede");
    for _ in 0..DEEDS {
        now = now + Duration::from_secs(lots.below(40) as u64);
        if lots.below(5) < 2 {
            let envelope = envelope(1 + lots.below(usize::try_from(ENVELOPES).unwrap()) as u64);
            told.lock().unwrap().tried.insert(envelope.id, envelope.clone());
            match spool.deliver(&envelope, None, now) {
                Ok(Delivered::New | Delivered::Already { .. }) => told.lock().unwrap().accepted.extend([envelope.id]),
                Err(_) => return,
            };
            continue;
        }
        let Ok(leased) = spool.lease(&room, &holder, MINUTE, now) else { return };
        let Some(leased) = leased else { continue };
        let id = leased.envelope.id;
        let ended = match lots.below(6) {
            0 => match spool.nack(&leased.receipt, "no", now) {
                Ok(Nacked::Dead) => Some(Folder::Dead),
                Ok(Nacked::Later(_)) | Err(_) => None,
            },
            1 => spool.extend(&leased.receipt, MINUTE * 2, now).ok().and(None),
            2 => None,
            _ => spool.ack(&leased.receipt, Some(&holder), now).ok().map(|_| Folder::Done),
        };
        told.lock().unwrap().ended.extend(ended.map(|folder| (id, folder)));
    }
}

/// Lets actors loose on a disk until the power goes; returns what is there then.
fn play(seed: u64, state: State, told: &Arc<Mutex<Told>>, now: Timestamp) -> State {
    let mut lots = Rng::new(seed);
    let steps_left = 1 + lots.below(STEPS_MAX);
    let mut stage = Stage { lots: Rng::new(seed ^ 0xabcd), turn: None, present: (0..ACTORS).collect(), steps_left };
    stage.draw();
    let conductor = Arc::new(Conductor { stage: Mutex::new(stage), changed: Condvar::new() });
    let disk = Journaled::new(state, now);
    std::thread::scope(|scope| {
        for number in 0..ACTORS {
            let part = Arc::new(Part { conductor: Arc::clone(&conductor), number });
            let spool = Spool::with_disk(root(), Limits::default(), Arc::new(disk.through(part)));
            let mut lots = Rng::new(lots.next());
            scope.spawn(move || act(&spool, told, number, &mut lots, now));
        }
    });
    disk.state()
}

#[test]
fn a_crowd_of_senders_and_holders_whose_power_goes_again_and_again_is_told_nothing_untrue() {
    let (mut cuts, mut states) = (0, 0);
    for seed in 0..SEEDS * soak() as u64 {
        let told: Arc<Mutex<Told>> = Arc::default();
        let mut state = State::default();
        for cut in 0..3 {
            // After each cut a holder's leases are long over.
            let now = START + Duration::from_hours(2 * cut);
            state = play(seed * 10 + cut, state, &told, now);
            cuts += 1;
            let told = told.lock().unwrap().clone();
            let order = if seed % 2 == 0 { Order::Journal } else { Order::PerFile };
            let crashed = state.after_crash(order, Looks { most: STATES, seed: seed + cut });
            for crashed in &crashed {
                states += 1;
                let first = if states % 2 == 0 { First::Retry } else { First::Sweep };
                let recover = || assert_recovers(crashed.clone(), &told, now, order, first);
                if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(recover)) {
                    tell(&format!("seed {seed}, cut {cut}, {order:?}, {first:?} first\n{}", crashed.picture()));
                    std::panic::resume_unwind(panic);
                }
            }
            // The next ones go on with one of them.
            let mut lots = Rng::new(seed + cut);
            state = crashed[lots.below(crashed.len())].clone();
        }
    }
    tell(&format!("{cuts} power cuts among {ACTORS} actors, {states} states recovered from"));
    assert!(states > 1_000, "only {states} states were looked at");
}
