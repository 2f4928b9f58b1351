//! A queue in memory: what every backend must do, said as simply as it can be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use miyabi::io::queue::{Accepted, DeadEntry, Given, GivenBack, Place, Queue, QueueFault, QueueView, Ticket};
use miyabi::io::spool::holder::Holder;
use miyabi::io::spool::limits::Limits;
use miyabi::model::envelope::Envelope;
use miyabi::model::id::{EnvelopeId, Mailbox};
use miyabi::model::time::Timestamp;

#[derive(Debug, Clone, PartialEq)]
enum State {
    Waiting,
    Later(Timestamp),
    Leased { holder: Holder, until: Timestamp },
    Done { holder: Holder },
    Dead { reason: String },
}

#[derive(Debug, Clone)]
struct Letter {
    envelope: Envelope,
    attempt: u32,
    state: State,
}

impl Letter {
    fn is_last_attempt(&self) -> bool {
        self.attempt.is_multiple_of(self.envelope.attempts_max.max(1))
    }

    fn is_requeued(&self) -> bool {
        self.attempt > self.envelope.attempts_max.max(1)
    }

    /// Says whether it waits and is of no use any more.
    fn is_expired(&self, now: Timestamp) -> bool {
        self.state == State::Waiting && !self.is_requeued() && self.envelope.expires_at.is_some_and(|end| end <= now)
    }

    fn is_in_flight(&self) -> bool {
        match self.state {
            State::Leased { .. } => true,
            State::Later(_) => self.attempt > 1,
            State::Waiting | State::Done { .. } | State::Dead { .. } => false,
        }
    }

    fn holds_up(&self, other: &Self) -> bool {
        self.is_in_flight()
            && !self.is_requeued()
            && !other.is_requeued()
            && self.envelope.id < other.envelope.id
            && self.envelope.priority == other.envelope.priority
            && self.envelope.order_group() == other.envelope.order_group()
    }
}

type Rooms = BTreeMap<Mailbox, BTreeMap<EnvelopeId, Letter>>;

#[derive(Debug, Clone, Default)]
struct Content {
    rooms: Rooms,
    keys: BTreeMap<(Mailbox, String, String), (EnvelopeId, Timestamp)>,
}

#[derive(Debug)]
pub(super) struct MemoryQueue {
    limits: Limits,
    content: Mutex<Content>,
}

impl MemoryQueue {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, content: Mutex::default() }
    }

    /// Returns another queue that holds the same.
    pub(super) fn copy(&self) -> Self {
        Self { limits: self.limits.clone(), content: Mutex::new(self.content().clone()) }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    /// Finds the letter of a ticket, `MAILBOX/ID/ATTEMPT/HOLDER`, if its lease is the present one or was acknowledged.
    fn held<'a>(&self, rooms: &'a mut Rooms, ticket: &Ticket) -> Result<&'a mut Letter, QueueFault> {
        let refused = |reason: &str| QueueFault::Refused { ticket: ticket.clone(), reason: reason.to_owned() };
        let parts: Vec<&str> = ticket.0.split('/').collect();
        let [mailbox, id, attempt, holder] = parts.as_slice() else { return Err(refused("it is no ticket")) };
        let letter = rooms
            .get_mut(&mailbox.parse::<Mailbox>().map_err(|_| refused("it is no ticket"))?)
            .and_then(|room| room.get_mut(&id.parse().ok()?))
            .ok_or_else(|| refused("there is no such envelope"))?;
        let is_same = letter.attempt.to_string() == *attempt
            && match &letter.state {
                State::Leased { holder: now, .. } | State::Done { holder: now } => now.to_string() == *holder,
                State::Waiting | State::Later(_) | State::Dead { .. } => false,
            };
        if is_same { Ok(letter) } else { Err(refused("the lease is over")) }
    }
}

impl Queue for MemoryQueue {
    fn deliver(
        &self,
        envelope: &Envelope,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Accepted, QueueFault> {
        if envelope.expires_at.is_some_and(|end| end <= not_before.unwrap_or(now).max(now)) {
            return Err(QueueFault::Invalid("it expires before it could be leased".to_owned()));
        }
        let bytes = serde_json::to_vec(envelope).map_err(|fault| QueueFault::Failed(Box::new(fault)))?;
        if bytes.len() > self.limits.envelope_bytes_max {
            return Err(QueueFault::Invalid("it is too large".to_owned()));
        }
        let content = &mut *self.content();
        let room = content.rooms.entry(envelope.to.clone()).or_default();
        if room.contains_key(&envelope.id) {
            return Ok(Accepted::Before(envelope.id));
        }
        if let Some(key) = &envelope.idempotency_key {
            let key = (envelope.to.clone(), envelope.from.clone(), key.clone());
            if let Some((first, at)) = content.keys.get(&key)
                && now < *at + self.limits.key_window
            {
                return Ok(Accepted::Before(*first));
            }
            content.keys.insert(key, (envelope.id, now));
        }
        let is_open = |letter: &&Letter| !matches!(letter.state, State::Done { .. } | State::Dead { .. });
        if room.values().filter(is_open).count() >= self.limits.mailbox_envelopes_max {
            return Err(QueueFault::Full(format!("mailbox `{}` is full", envelope.to)));
        }
        let state = not_before.filter(|at| *at > now).map_or(State::Waiting, State::Later);
        room.insert(envelope.id, Letter { envelope: envelope.clone(), attempt: 1, state });
        Ok(Accepted::New)
    }

    fn deliver_batch(&self, envelopes: &[Envelope], now: Timestamp) -> Result<Vec<Accepted>, QueueFault> {
        envelopes.iter().map(|envelope| self.deliver(envelope, None, now)).collect()
    }

    fn lease(
        &self,
        mailbox: &Mailbox,
        holder: &Holder,
        count: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Given>, QueueFault> {
        let content = &mut *self.content();
        let Some(room) = content.rooms.get_mut(mailbox) else { return Ok(Vec::new()) };
        let is_work = mailbox.worked_by().is_some();
        for letter in room.values_mut() {
            match &letter.state {
                State::Leased { until, .. } if *until <= now && !is_work => {
                    if letter.is_last_attempt() {
                        letter.state = State::Dead { reason: "not answered".to_owned() };
                    } else {
                        letter.attempt += 1;
                        letter.state = State::Waiting;
                    }
                }
                State::Later(at) if *at <= now => letter.state = State::Waiting,
                State::Leased { .. } | State::Later(_) | State::Waiting | State::Done { .. } | State::Dead { .. } => {}
            }
        }
        for letter in room.values_mut().filter(|letter| letter.is_expired(now)) {
            letter.state = State::Dead { reason: "expired".to_owned() };
        }
        let mut taken = BTreeSet::new();
        let mut given = Vec::new();
        while given.len() < count {
            let is_next = |letter: &&Letter| {
                let is_held_up = || {
                    let mut others = room.values().filter(|other| !taken.contains(&other.envelope.id));
                    others.any(|other| other.holds_up(letter))
                };
                letter.state == State::Waiting && (is_work || !is_held_up())
            };
            let next = room.values().filter(is_next).min_by_key(|next| (next.envelope.priority, next.envelope.id));
            let Some(id) = next.map(|letter| letter.envelope.id) else { break };
            let Some(letter) = room.get_mut(&id) else { break };
            letter.state = State::Leased { holder: holder.clone(), until: now + lease };
            taken.insert(id);
            let ticket = Ticket(format!("{mailbox}/{id}/{}/{holder}", letter.attempt));
            given.push(Given { ticket, envelope: letter.envelope.clone(), attempt: letter.attempt });
        }
        Ok(given)
    }

    fn ack(&self, tickets: &[Ticket], _now: Timestamp) -> Vec<Result<(), QueueFault>> {
        let content = &mut *self.content();
        let ack = |ticket| {
            let letter = self.held(&mut content.rooms, ticket)?;
            if let State::Leased { holder, .. } = &letter.state {
                letter.state = State::Done { holder: holder.clone() };
            }
            Ok(())
        };
        tickets.iter().map(ack).collect()
    }

    fn nack(&self, ticket: &Ticket, reason: &str, now: Timestamp) -> Result<GivenBack, QueueFault> {
        let content = &mut *self.content();
        let letter = self.held(&mut content.rooms, ticket)?;
        if matches!(letter.state, State::Done { .. }) {
            return Err(QueueFault::Refused { ticket: ticket.clone(), reason: "it is done".to_owned() });
        }
        if letter.envelope.to.worked_by().is_some() {
            return Err(QueueFault::Invalid("work orders are given out once".to_owned()));
        }
        if letter.is_last_attempt() {
            letter.state = State::Dead { reason: reason.to_owned() };
            return Ok(GivenBack::Dead);
        }
        let again = now + self.limits.backoff(letter.attempt);
        letter.attempt += 1;
        letter.state = State::Later(again);
        Ok(GivenBack::Later(again))
    }

    fn extend(&self, ticket: &Ticket, lease: Duration, now: Timestamp) -> Result<Ticket, QueueFault> {
        let content = &mut *self.content();
        match &mut self.held(&mut content.rooms, ticket)?.state {
            State::Leased { until, .. } => *until = now + lease,
            State::Waiting | State::Later(_) | State::Done { .. } | State::Dead { .. } => {
                return Err(QueueFault::Refused { ticket: ticket.clone(), reason: "it is done".to_owned() });
            }
        }
        Ok(ticket.clone())
    }

    fn requeue(&self, mailbox: &Mailbox, id: EnvelopeId, _now: Timestamp) -> Result<bool, QueueFault> {
        if mailbox.worked_by().is_some() {
            return Err(QueueFault::Invalid("work orders are given out once".to_owned()));
        }
        let content = &mut *self.content();
        let letter = content.rooms.get_mut(mailbox).and_then(|room| room.get_mut(&id));
        match letter.filter(|letter| matches!(letter.state, State::Dead { .. })) {
            None => Ok(false),
            Some(letter) => {
                // A new round of attempts, so that no old ticket fits.
                let max = letter.envelope.attempts_max.max(1);
                letter.attempt = letter.attempt.div_ceil(max) * max + 1;
                letter.state = State::Waiting;
                Ok(true)
            }
        }
    }
}

impl QueueView for MemoryQueue {
    fn mailboxes(&self) -> Result<Vec<Mailbox>, QueueFault> {
        Ok(self.content().rooms.keys().cloned().collect())
    }

    fn places(&self, mailbox: &Mailbox) -> Result<Vec<(EnvelopeId, Place)>, QueueFault> {
        let content = self.content();
        let place = |letter: &Letter| match letter.state {
            State::Waiting => Place::Waiting,
            State::Later(_) => Place::Later,
            State::Leased { .. } => Place::Leased,
            State::Done { .. } => Place::Done,
            State::Dead { .. } => Place::Dead,
        };
        let letters = content.rooms.get(mailbox).into_iter().flat_map(BTreeMap::values);
        Ok(letters.map(|letter| (letter.envelope.id, place(letter))).collect())
    }

    fn read(&self, mailbox: &Mailbox, id: EnvelopeId) -> Result<Option<Envelope>, QueueFault> {
        let content = self.content();
        Ok(content.rooms.get(mailbox).and_then(|room| Some(room.get(&id)?.envelope.clone())))
    }

    fn dead(&self, mailbox: &Mailbox) -> Result<Vec<DeadEntry>, QueueFault> {
        let content = self.content();
        let letters = content.rooms.get(mailbox).into_iter().flat_map(BTreeMap::values);
        Ok(letters
            .filter_map(|letter| match &letter.state {
                State::Dead { reason } => {
                    Some(DeadEntry { id: letter.envelope.id, attempt: letter.attempt, reason: reason.clone() })
                }
                State::Waiting | State::Later(_) | State::Leased { .. } | State::Done { .. } => None,
            })
            .collect())
    }
}
