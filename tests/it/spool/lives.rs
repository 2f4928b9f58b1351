//! Crashes after every step of an envelope's life, with everything that was not synced kept or lost in every combination,
//! and calls that fail at every step. `journaled` says what a file system may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use miyabi::io::spool::Spool;
use miyabi::io::spool::deliver::Delivered;
use miyabi::io::spool::fault::SpoolError;
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::lease::Leased;
use miyabi::io::spool::limits::Limits;
use miyabi::io::spool::name::Folder;
use miyabi::io::spool::receipt::Receipt;
use miyabi::io::spool::replies::{Answer, Question};
use miyabi::io::spool::retire::{Retire, Retired};
use miyabi::io::spool::settle::Nacked;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::EnvelopeId;
use miyabi::model::time::Timestamp;
use serde_json::json;

use super::journaled::{Fault, Journaled, Looks, Order, State};
use super::{MINUTE, kaede, mailbox};

/// When every history begins.
pub(super) const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
/// Longer than any lease, back-off and draft.
const AGES: Duration = Duration::from_hours(3);

/// More than any crash in the life of one envelope, or of a few, can leave: all states are looked at.
const STATES_MAX: usize = 4_096;
/// The combinations of many envelopes are too many, and much alike.
const ENVELOPES_FEW: usize = 3;
const STATES_OF_MANY: usize = 20;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EMFILE: i32 = 24;

pub(super) fn root() -> PathBuf {
    PathBuf::from("/home/data/spool")
}

/// What senders and holders were told; it must be true after any crash.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// All that anybody tried to send.
    pub(super) tried: BTreeMap<EnvelopeId, Envelope>,
    pub(super) accepted: BTreeSet<EnvelopeId>,
    /// Where an envelope must lie, because somebody was told that it ended so.
    pub(super) ended: BTreeMap<EnvelopeId, Folder>,
    /// What retention or a person may have removed.
    pub(super) cleared: BTreeSet<EnvelopeId>,
    /// What a person may have taken out of `dead/`.
    pub(super) requeued: BTreeSet<EnvelopeId>,
}

/// Somebody who uses a spool and remembers what was answered.
pub(super) struct Actor {
    pub(super) spool: Spool,
    pub(super) now: Timestamp,
    pub(super) told: Arc<Mutex<Told>>,
    disk: Journaled,
    /// Says how many answers had been given when each snapshot was taken.
    marks: Vec<(usize, Told)>,
    /// A call that fails once is made again.
    faults: usize,
}

impl Actor {
    fn new(disk: Journaled) -> Self {
        let limits = Limits { done_envelopes_max: 1, record_age_min: Duration::ZERO, ..Limits::default() };
        let view = Arc::new(disk.through_nothing());
        let spool = Spool::with_disk(root(), limits, view);
        Self { spool, now: START, told: Arc::default(), disk, marks: Vec::new(), faults: 0 }
    }

    /// Another process, that remembers nothing.
    fn restart(&mut self) {
        let view = Arc::new(self.disk.through_nothing());
        self.spool = Spool::with_disk(root(), self.spool.limits().clone(), view);
    }

    fn told(&mut self, change: impl FnOnce(&mut Told)) {
        let mut told = self.told.lock().unwrap();
        change(&mut told);
        let snapshots = self.disk.inner().snapshots.as_ref().map_or(0, Vec::len);
        self.marks.push((snapshots, told.clone()));
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.disk.inner().now = self.now;
    }

    /// Makes a call, and once more if the disk failed in it.
    fn call<T>(&mut self, work: impl Fn(&Spool, Timestamp) -> Result<T, SpoolError>) -> T {
        match work(&self.spool, self.now) {
            Ok(value) => value,
            Err(SpoolError::Io { .. } | SpoolError::DiskFull { .. }) if self.disk.inner().failed.is_some() => {
                self.faults += 1;
                work(&self.spool, self.now).expect("the second try is not disturbed")
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn send_at(&mut self, envelope: &Envelope, not_before: Option<Timestamp>) -> Delivered {
        self.told(|told| told.tried.extend([(envelope.id, envelope.clone())]));
        let delivered = self.call(|spool, now| spool.deliver(envelope, not_before, now));
        self.told(|told| told.accepted.extend([envelope.id]));
        delivered
    }

    fn send(&mut self, envelope: &Envelope) {
        let faults = self.faults;
        let delivered = self.send_at(envelope, None);
        // A first try that failed in its last step has delivered already.
        assert!(delivered == Delivered::New || self.faults > faults, "{delivered:?}");
    }

    /// Sends a numbered message, whose id is made for this one delivery.
    fn send_numbered(&mut self, number: u64, seq: u64) {
        let predicted = Envelope { seq: Some(seq), ..envelope(number, 5) };
        self.told(|told| told.tried.extend([(predicted.id, predicted.clone())]));
        let sent = self.call(|spool, now| {
            let mut sent = Envelope { seq: None, ..predicted.clone() };
            assert_eq!(spool.deliver_numbered(&mut sent, None, now)?, Delivered::New);
            Ok(sent)
        });
        // A first try that failed may have come as far as the delivery; the second is another message.
        assert!(sent == predicted || self.disk.inner().failed.is_some(), "{sent:?}");
        self.told(|told| {
            told.accepted.extend([sent.id]);
            told.tried.insert(sent.id, sent);
        });
    }

    fn lease(&mut self, to: &str) -> Option<Leased> {
        self.call(|spool, now| spool.lease(&mailbox(to), &kaede(1), MINUTE, now))
    }

    fn leased(&mut self) -> Option<Leased> {
        let mut leased = self.lease("kaede");
        if leased.is_none() && self.disk.inner().failed.is_some() {
            // What could not be taken back is left, with a word in the log, to the next call.
            self.wait(Duration::from_millis(100));
            leased = self.lease("kaede");
        }
        let sent = &self.told.lock().unwrap().tried;
        leased.inspect(|leased| assert_eq!(Some(&leased.envelope), sent.get(&leased.envelope.id)))
    }

    /// Asks for the next of a group whose first is in flight.
    fn overtakes_nobody(&mut self) -> Option<()> {
        match (self.lease("kaede"), self.disk.inner().failed) {
            (None, _) => Some(()),
            // The first could not be read, so it is not known whose way it bars.
            (Some(_), Some("read")) => None,
            (Some(leased), failed) => panic!("{leased:?} has overtaken the first, after {failed:?}"),
        }
    }

    fn ack(&mut self, receipt: &Receipt) {
        self.call(|spool, now| spool.ack(receipt, None, now));
        self.ended(receipt.name.stem.id, Folder::Done);
    }

    fn nack(&mut self, receipt: &Receipt) -> Nacked {
        // A second try after a step that failed may find that the first one had done it.
        let nacked = match self.spool.nack(receipt, "no", self.now) {
            Ok(nacked) => nacked,
            Err(_) => match self.spool.nack(receipt, "no", self.now) {
                Ok(nacked) => nacked,
                Err(SpoolError::NotYours { .. }) => Nacked::Dead,
                Err(other) => panic!("{other:?}"),
            },
        };
        if nacked == Nacked::Dead && self.disk.inner().failed.is_none() {
            self.ended(receipt.name.stem.id, Folder::Dead);
        }
        nacked
    }

    fn extend(&mut self, receipt: &Receipt) -> Receipt {
        self.call(|spool, now| spool.extend(receipt, MINUTE * 2, now))
    }

    fn retire(&mut self, to: &str, id: EnvelopeId, how: &Retire, folder: Folder) {
        let retired = self.call(|spool, now| spool.retire(&mailbox(to), id, how, now));
        assert!(matches!(retired, Retired::Moved { .. } | Retired::Already { .. }), "{retired:?}");
        self.ended(id, folder);
    }

    fn requeue(&mut self) {
        let letters = self.call(|spool, _| spool.dead(None));
        for letter in letters {
            let Some(id) = letter.id else { continue };
            self.told(|told| {
                told.ended.remove(&id);
                told.requeued.insert(id);
            });
            match self.spool.requeue(&letter, self.now) {
                Ok(_) => {}
                Err(SpoolError::Gone { .. }) => panic!("{letter:?} is gone"),
                // The first try may have come as far as the move.
                Err(_) => match self.spool.requeue(&letter, self.now) {
                    Ok(_) | Err(SpoolError::Gone { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                },
            }
        }
    }

    fn purge(&mut self) {
        for letter in self.call(|spool, _| spool.dead(None)) {
            let id = letter.id;
            self.told(|told| told.cleared.extend(id));
            self.call(|spool, now| spool.purge(&letter, now));
        }
    }

    fn ended(&mut self, id: EnvelopeId, folder: Folder) {
        self.told(|told| told.ended.extend([(id, folder)]));
    }

    fn sweep(&mut self) {
        self.told(|told| told.cleared = told.ended.keys().copied().collect());
        self.call(|spool, now| spool.sweep_retention(now));
    }
}

fn envelope(number: u64, attempts_max: u32) -> Envelope {
    Envelope {
        id: EnvelopeId(ulid::Ulid::from_parts(1_795_000_000_000 + number, u128::from(number))),
        attempts_max,
        group: Some(format!("group {number}")),
        body: json!({"number": number}),
        ..super::envelope("kaede", START)
    }
}

/// A message that is of no use after a minute.
fn expiring(number: u64) -> Envelope {
    Envelope { expires_at: Some(START + MINUTE), ..envelope(number, 5) }
}

fn keyed(number: u64) -> Envelope {
    Envelope { idempotency_key: Some("the same".to_owned()), ..envelope(number, 5) }
}

/// A life, and what it is called. It ends early, as `None`, where something should wait and does not.
type Life = (&'static str, fn(&mut Actor) -> Option<()>);

/// Every way that an envelope can go.
const LIVES: [Life; 19] = [
    ("sent, leased, acknowledged", |actor| {
        actor.send(&envelope(1, 5));
        let leased = actor.leased()?;
        actor.ack(&leased.receipt);
        actor.ack(&leased.receipt);
        Some(())
    }),
    ("sent twice", |actor| {
        actor.send(&envelope(1, 5));
        assert_eq!(actor.send_at(&envelope(1, 5), None), Delivered::Already { first: envelope(1, 5).id });
        actor.restart();
        let leased = actor.leased()?;
        assert_eq!(actor.send_at(&envelope(1, 5), None), Delivered::Already { first: envelope(1, 5).id });
        actor.ack(&leased.receipt);
        assert_eq!(actor.send_at(&envelope(1, 5), None), Delivered::Already { first: envelope(1, 5).id });
        Some(())
    }),
    ("sent with a key, and another with the same key", |actor| {
        actor.send(&keyed(1));
        actor.restart();
        let delivered = actor.call(|spool, now| spool.deliver(&keyed(2), None, now));
        assert_eq!(delivered, Delivered::Already { first: keyed(1).id });
        let leased = actor.leased()?;
        actor.ack(&leased.receipt);
        let delivered = actor.call(|spool, now| spool.deliver(&keyed(3), None, now));
        assert_eq!(delivered, Delivered::Already { first: keyed(1).id });
        Some(())
    }),
    ("sent for later", |actor| {
        let later = actor.now + MINUTE;
        actor.send_at(&envelope(1, 5), Some(later));
        actor.wait(MINUTE);
        let leased = actor.leased()?;
        actor.ack(&leased.receipt);
        Some(())
    }),
    ("extended", |actor| {
        actor.send(&envelope(1, 5));
        let leased = actor.leased()?;
        let receipt = actor.extend(&leased.receipt);
        actor.wait(MINUTE);
        let receipt = actor.extend(&receipt);
        actor.ack(&receipt);
        Some(())
    }),
    ("given back", |actor| {
        actor.send(&envelope(1, 5));
        for _ in 0..2 {
            let leased = actor.leased()?;
            actor.nack(&leased.receipt);
            actor.wait(MINUTE);
        }
        let leased = actor.leased()?;
        actor.ack(&leased.receipt);
        Some(())
    }),
    ("not answered", |actor| {
        actor.send(&envelope(1, 5));
        for _ in 0..2 {
            actor.leased()?;
            actor.wait(MINUTE);
            actor.restart();
        }
        let leased = actor.leased()?;
        actor.ack(&leased.receipt);
        Some(())
    }),
    ("given back for the last time, and requeued", |actor| {
        actor.send(&envelope(1, 1));
        let leased = actor.leased()?;
        actor.nack(&leased.receipt);
        actor.wait(MINUTE);
        actor.requeue();
        let leased = actor.leased()?;
        actor.ack(&leased.receipt);
        Some(())
    }),
    ("not answered for the last time, and purged", |actor| {
        actor.send(&envelope(1, 1));
        actor.leased()?;
        actor.wait(MINUTE);
        assert!(actor.lease("kaede").is_none());
        actor.purge();
        Some(())
    }),
    ("retired", |actor| {
        for (number, how) in [(1, Retire::Done), (2, Retire::Dead { reason: "no more".to_owned() })] {
            actor.send(&envelope(number, 5));
            let folder = if how == Retire::Done { Folder::Done } else { Folder::Dead };
            actor.retire("kaede", envelope(number, 5).id, &how, folder);
            actor.retire("kaede", envelope(number, 5).id, &how, folder);
        }
        Some(())
    }),
    ("a work order", |actor| {
        let order = Envelope { to: mailbox("kaede.work"), ..envelope(1, 5) };
        actor.send(&order);
        actor.lease("kaede.work")?;
        actor.wait(MINUTE * 60);
        assert!(actor.lease("kaede.work").is_none());
        let how = Retire::Dead { reason: "its runner is dead".to_owned() };
        actor.retire("kaede.work", order.id, &how, Folder::Dead);
        Some(())
    }),
    ("in a small batch", |actor| {
        let batch: Vec<_> = (1..=3).map(|number| envelope(number, 5)).collect();
        actor.told(|told| told.tried.extend(batch.iter().map(|envelope| (envelope.id, envelope.clone()))));
        actor.call(|spool, now| spool.deliver_batch(&batch, now));
        actor.told(|told| told.accepted.extend(batch.iter().map(|envelope| envelope.id)));
        let leased = actor.leased()?;
        actor.ack(&leased.receipt);
        Some(())
    }),
    ("in a batch with one sync", |actor| {
        let mut batch: Vec<_> = (1..=17).map(|number| envelope(number, 5)).collect();
        batch[7].idempotency_key = Some("in the middle".to_owned());
        actor.told(|told| told.tried.extend(batch.iter().map(|envelope| (envelope.id, envelope.clone()))));
        actor.call(|spool, now| spool.deliver_batch(&batch, now));
        actor.told(|told| told.accepted.extend(batch.iter().map(|envelope| envelope.id)));
        Some(())
    }),
    ("one behind the other", |actor| {
        let [first, second] = [1, 2].map(|number| Envelope { group: None, ..envelope(number, 5) });
        actor.send(&first);
        actor.send(&second);
        let leased = actor.leased()?;
        actor.overtakes_nobody()?;
        actor.nack(&leased.receipt);
        actor.overtakes_nobody()?;
        actor.wait(MINUTE);
        for _ in 0..2 {
            let leased = actor.leased()?;
            actor.ack(&leased.receipt);
        }
        Some(())
    }),
    ("numbered by one start of a sender in two processes", |actor| {
        actor.send_numbered(1, 1);
        actor.restart();
        actor.send_numbered(2, 2);
        let leased = actor.leased()?;
        actor.ack(&leased.receipt);
        Some(())
    }),
    ("of no use any more when somebody asks for it", |actor| {
        actor.send(&expiring(1));
        actor.wait(MINUTE);
        assert_eq!(actor.lease("kaede"), None);
        if actor.disk.inner().failed.is_none() {
            actor.ended(expiring(1).id, Folder::Dead);
        }
        Some(())
    }),
    ("of no use any more when the supervisor sweeps", |actor| {
        actor.send(&expiring(1));
        actor.wait(MINUTE);
        actor.sweep();
        Some(())
    }),
    ("asked and answered", |actor| {
        let question = envelope(1, 5);
        actor.send(&question);
        let leased = actor.leased()?;
        let reply = Envelope { to: mailbox("sakura"), reply_to: Some(question.id), ..keyed(2) };
        actor.send_at(&reply, None);
        actor.ack(&leased.receipt);
        actor.restart();
        let ask = |spool: &Spool, now| {
            spool.lease_answer(&mut Question::new(mailbox("sakura"), question.id), &kaede(1), MINUTE, now)
        };
        let mut answer = actor.call(ask);
        if answer.is_none() && actor.disk.inner().failed.is_some() {
            answer = actor.call(ask);
        }
        let Some(Answer::Leased(answer)) = answer else { panic!("{answer:?}") };
        assert_eq!(answer.envelope, reply);
        actor.ack(&answer.receipt);
        Some(())
    }),
    ("cleared away", |actor| {
        for number in 1..=2 {
            actor.send(&envelope(number, 5));
            let leased = actor.leased()?;
            actor.ack(&leased.receipt);
            actor.wait(MINUTE);
        }
        actor.sweep();
        let already = Delivered::Already { first: envelope(1, 5).id };
        assert_eq!(actor.call(|spool, now| spool.deliver(&envelope(1, 5), None, now)), already);
        actor.wait(Duration::from_hours(24 * 8));
        actor.sweep();
        Some(())
    }),
];

/// Looks where every envelope lies, with nothing but the names.
fn places(state: &State, told: &Told) -> BTreeMap<EnvelopeId, Vec<(Folder, String)>> {
    let mut places: BTreeMap<EnvelopeId, Vec<(Folder, String)>> = BTreeMap::new();
    for room in state.list(&root()) {
        for folder in Folder::ALL {
            for name in state.list(&root().join(&room).join(folder.as_str())) {
                // A hidden name is a sender's counter.
                if name.ends_with(".reason.json") || name.starts_with('.') {
                    continue;
                }
                let id = told.tried.keys().find(|id| name.contains(&id.to_string()));
                let id = id.unwrap_or_else(|| panic!("{folder}/{name} was never sent"));
                places.entry(*id).or_default().push((folder, name));
            }
        }
    }
    places
}

/// What somebody does first who finds the spool after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Retry,
    Sweep,
}

/// Recovers from a crash as fresh processes would, and asserts that all that was told is true.
pub(super) fn assert_recovers(state: State, told: &Told, now: Timestamp, order: Order, first: First) {
    let told = &mut told.clone();
    let before = places(&state, told);
    for id in told.accepted.difference(&told.cleared) {
        let found = before.get(id).map_or(0, Vec::len);
        assert_eq!(found, 1, "{id} was accepted and is in {found} places: {before:?}");
    }
    for (id, folder) in &told.ended {
        if let Some(found) = before.get(id) {
            assert_eq!(found[0].0, *folder, "{id} had ended: {found:?}");
        }
    }
    let now = now + AGES;
    let disk = Journaled::new(state, now);
    let spool = Spool::with_disk(root(), Limits::default(), Arc::new(disk.through_nothing()));
    if first == First::Sweep {
        spool.sweep_retention(now).unwrap();
    }
    // What is sent under a fresh id is not sent again, and nobody sends what is of no use any more.
    let is_retried = |envelope: &Envelope| envelope.seq.is_none() && envelope.expires_at.is_none_or(|end| now < end);
    let retried = told.tried.iter().filter(|(id, envelope)| !told.cleared.contains(id) && is_retried(envelope));
    for (id, envelope) in retried {
        // A sender that was told nothing tries again.
        let delivered = spool.deliver(envelope, None, now).unwrap();
        let was_there = before.contains_key(id);
        assert_eq!(delivered == Delivered::New, !was_there, "{id}: {delivered:?}; {before:?}");
        if envelope.idempotency_key.is_some() {
            let again = Envelope { id: self::envelope(900, 5).id, ..envelope.clone() };
            assert_eq!(spool.deliver(&again, None, now).unwrap(), Delivered::Already { first: *id });
        }
    }
    // A number and the message that bears it are two files: without one journal, who was told nothing may have used it.
    let counts = |id: &EnvelopeId| before.contains_key(id) && (order == Order::Journal || told.accepted.contains(id));
    let numbers = |told: &Told| {
        let there = told.tried.iter().filter(|(id, _)| counts(id));
        there.filter_map(|(_, envelope)| envelope.seq).max()
    };
    if let Some(last) = numbers(told) {
        let mut next = Envelope { to: mailbox("kaede"), body: json!("next"), ..self::envelope(901, 5) };
        spool.deliver_numbered(&mut next, None, now).unwrap();
        assert!(next.seq > Some(last), "number {:?} comes again after {last}", next.seq);
        told.tried.insert(next.id, next);
    }
    for room in ["kaede", "kaede.work", "sakura"] {
        while let Some(leased) = spool.lease(&mailbox(room), &Holder::operator(), MINUTE, now).unwrap() {
            let id = leased.envelope.id;
            assert_eq!(told.tried.get(&id), Some(&leased.envelope), "not what was sent");
            assert!(!told.ended.contains_key(&id), "{id} had ended and was leased again");
            spool.ack(&leased.receipt, None, now).unwrap();
        }
    }
    spool.sweep_retention(now).unwrap();
    let inner = disk.inner();
    for (id, found) in places(&inner.state, told) {
        assert_eq!(found.len(), 1, "{id} is in several places: {found:?}");
        let is_work = told.tried[&id].to.worked_by().is_some();
        assert!(matches!(found[0].0, Folder::Done | Folder::Dead) || is_work, "{id} is stuck: {found:?}");
        // The reason is written first, but it is a file of its own. Who was told of the death will find it.
        if found[0].0 == Folder::Dead && (order == Order::Journal || told.ended.contains_key(&id)) {
            assert_reason(&inner.state, told, id, &found[0].1);
        }
    }
    for room in inner.state.list(&root()) {
        let tmp = inner.state.list(&root().join(&room).join("tmp"));
        assert!(tmp.is_empty(), "left in tmp/: {tmp:?}");
    }
}

/// A dead letter has a whole reason, and not the one that it is no envelope.
fn assert_reason(state: &State, told: &Told, id: EnvelopeId, name: &str) {
    let room = told.tried[&id].to.as_str();
    let text = state.text(&root().join(room).join("dead").join(format!("{name}.reason.json")));
    let text = text.unwrap_or_else(|| panic!("{id} is dead without a reason"));
    let reason: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{fault}: {text:?}"));
    let reason = reason["reason"].as_str().unwrap();
    let is_ours =
        ["no", "no more", "its runner is dead", "expired"].contains(&reason) || reason.starts_with("not answered in");
    assert!(is_ours, "{id} is dead: {reason}");
}

/// Lives one life and returns every state in between with what had been told by then.
fn snapshots(life: fn(&mut Actor) -> Option<()>) -> Vec<(State, Told, Timestamp)> {
    let disk = Journaled::new(State::default(), START);
    disk.inner().snapshots = Some(Vec::new());
    let mut actor = Actor::new(disk);
    life(&mut actor).expect("a life goes well without faults");
    let states = actor.disk.inner().snapshots.take().unwrap();
    let mut marks = actor.marks.iter().peekable();
    let mut told = Told::default();
    let mut all = Vec::new();
    for (number, (state, now)) in states.into_iter().enumerate() {
        while let Some((_, newer)) = marks.next_if(|(from, _)| *from <= number) {
            told = newer.clone();
        }
        all.push((state, told.clone(), now));
    }
    // After the last answer too, when all is told.
    if let Some((state, _, _)) = all.last().cloned() {
        all.push((state, actor.told.lock().unwrap().clone(), actor.now));
    }
    all
}

#[test]
fn a_crash_after_any_step_of_any_life_breaks_no_promise() {
    crash_everywhere(LIVES.into_iter().step_by(2));
}

/// The other half, so that two cores share the work.
#[test]
fn a_crash_after_any_step_of_any_other_life_breaks_no_promise() {
    crash_everywhere(LIVES.into_iter().skip(1).step_by(2));
}

fn crash_everywhere(lives: impl Iterator<Item = Life>) {
    let (mut steps, mut states, mut count) = (0, 0, 0);
    for (name, life) in lives {
        count += 1;
        let mut seen = BTreeSet::new();
        for (step, (state, told, now)) in snapshots(life).into_iter().enumerate() {
            steps += 1;
            let told_digest = format!("{:?}{:?}{:?}{:?}", told.accepted, told.ended, told.cleared, told.tried.len());
            let most = if told.tried.len() > ENVELOPES_FEW { STATES_OF_MANY } else { STATES_MAX };
            for order in [Order::Journal, Order::PerFile] {
                for crashed in state.after_crash(order, Looks { most, seed: step as u64 }) {
                    if !seen.insert((crashed.digest(), told_digest.clone())) {
                        continue;
                    }
                    for first in [First::Retry, First::Sweep] {
                        states += 1;
                        let recover = || assert_recovers(crashed.clone(), &told, now, order, first);
                        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(recover)) {
                            let picture = crashed.picture();
                            super::tell(&format!(
                                "`{name}`, crashed after step {step}, {order:?}, {first:?} first:\n{picture}"
                            ));
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
            }
        }
    }
    super::tell(&format!("{count} lives, {steps} crashes, {states} states recovered from"));
    assert!(states > 1_000, "only {states} states were looked at");
}

#[test]
fn a_call_that_fails_at_any_step_costs_a_second_try_and_nothing_else() {
    let (mut failed, mut noticed) = (0, 0);
    for (name, life) in LIVES {
        for number in [ENOSPC, EIO, EMFILE] {
            for call in 0.. {
                let disk = Journaled::new(State::default(), START);
                disk.inner().fault = Some(Fault { call, errno: number });
                let mut actor = Actor::new(disk);
                let lived = life(&mut actor);
                let Some(failing) = actor.disk.inner().failed else {
                    lived.unwrap_or_else(|| panic!("`{name}` goes wrong without a fault"));
                    break;
                };
                failed += 1;
                noticed += actor.faults;
                // What cannot be read now is left where it is, whoever's fault it is.
                assert!(
                    lived.is_some() || failing == "read",
                    "`{name}`: call {call}, {failing}, failed with {number}\n{}",
                    actor.disk.inner().state.picture()
                );
                let (state, told) = (actor.disk.inner().state.clone(), actor.told.lock().unwrap().clone());
                assert_recovers(state, &told, actor.now, Order::Journal, First::Sweep);
            }
        }
    }
    super::tell(&format!("{failed} calls failed, {noticed} of them were noticed by the caller, who tried again"));
    assert!(failed > 1_000 && noticed > 500, "only {failed} calls failed, {noticed} were noticed");
}
