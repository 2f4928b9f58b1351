//! What a queue of envelopes must do, whatever it is made of: files now, a message broker later.
//!
//! Nothing here knows of paths and file names. `tests/it/spool/conformance.rs` says what each call means; whatever
//! passes it can stand in. The rest of the program uses the spool itself until there is a second backend to choose.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::model::envelope::Envelope;
use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::spool::holder::Holder;

/// The right to end or extend one lease, in the words of the backend. It is void when the lease is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub String);

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An envelope in the caller's hands.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// What ack, nack and extend ask for.
    pub ticket: Ticket,
    /// The envelope.
    pub envelope: Envelope,
    /// How often it has been given out, this time included.
    pub attempt: u32,
}

/// What became of a delivery. Either way the envelope is accepted for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Now.
    New,
    /// Before, as this envelope: the same id, or the same sender's same idempotency key within the window.
    Before(EnvelopeId),
}

/// What became of an envelope that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBack {
    /// It waits again, not before this time.
    Later(Timestamp),
    /// It was the last attempt.
    Dead,
}

/// Where an envelope is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// It waits.
    Waiting,
    /// It waits for a time.
    Later,
    /// Somebody has it.
    Leased,
    /// It was acknowledged.
    Done,
    /// It was given up.
    Dead,
}

/// An envelope that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadEntry {
    /// Which.
    pub id: EnvelopeId,
    /// The last attempt.
    pub attempt: u32,
    /// Why.
    pub reason: String,
}

/// Why a queue did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueFault {
    /// The lease is over, or is another's.
    #[error("ticket {ticket} is refused: {reason}")]
    Refused {
        /// The ticket.
        ticket: Ticket,
        /// Why, in one line.
        reason: String,
    },
    /// There is no room now; the sender may try again later.
    #[error("{0}")]
    Full(String),
    /// The envelope, or the call, can never be accepted.
    #[error("{0}")]
    Invalid(String),
    /// The backend failed; nothing may be assumed of the call.
    #[error("the queue failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A queue of envelopes in mailboxes. Time is an argument; all calls may block.
pub trait Queue: Send + Sync {
    /// Accepts an envelope for the mailbox that it is addressed to, not to be given out before a time.
    ///
    /// # Errors
    /// See [`QueueFault`]; after [`QueueFault::Failed`] the same envelope may be delivered again.
    fn deliver(
        &self,
        envelope: &Envelope,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Accepted, QueueFault>;

    /// Accepts many envelopes. After an error some of them may have been accepted; all may be delivered again.
    ///
    /// # Errors
    /// That of the first envelope that is refused.
    fn deliver_batch(&self, envelopes: &[Envelope], now: Timestamp) -> Result<Vec<Accepted>, QueueFault>;

    /// Gives out up to a number of envelopes whose turn it is.
    ///
    /// # Errors
    /// [`QueueFault::Failed`].
    fn lease(
        &self,
        mailbox: &Mailbox,
        holder: &Holder,
        count: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Given>, QueueFault>;

    /// Ends leases: their envelopes are done. A repeated ack is none that fails. Says for each what came of it.
    fn ack(&self, tickets: &[Ticket], now: Timestamp) -> Vec<Result<(), QueueFault>>;

    /// Gives an envelope back.
    ///
    /// # Errors
    /// [`QueueFault::Refused`] if the lease is over.
    fn nack(&self, ticket: &Ticket, reason: &str, now: Timestamp) -> Result<GivenBack, QueueFault>;

    /// Makes a lease end at another time, counted from now. Older tickets of the same lease stay good.
    ///
    /// # Errors
    /// [`QueueFault::Refused`] if the lease is over.
    fn extend(&self, ticket: &Ticket, lease: Duration, now: Timestamp) -> Result<Ticket, QueueFault>;

    /// Lets a dead envelope wait again, with as many attempts as a new one. Says whether it was dead.
    ///
    /// # Errors
    /// [`QueueFault::Invalid`] for work orders.
    fn requeue(&self, mailbox: &Mailbox, id: EnvelopeId, now: Timestamp) -> Result<bool, QueueFault>;
}

/// What can be seen of a queue without changing it.
pub trait QueueView: Send + Sync {
    /// Lists the mailboxes in the order of their names.
    ///
    /// # Errors
    /// [`QueueFault::Failed`].
    fn mailboxes(&self) -> Result<Vec<Mailbox>, QueueFault>;

    /// Lists what a mailbox holds, in the order of the ids.
    ///
    /// # Errors
    /// [`QueueFault::Failed`].
    fn places(&self, mailbox: &Mailbox) -> Result<Vec<(EnvelopeId, Place)>, QueueFault>;

    /// Reads an envelope wherever it is.
    ///
    /// # Errors
    /// [`QueueFault::Failed`].
    fn read(&self, mailbox: &Mailbox, id: EnvelopeId) -> Result<Option<Envelope>, QueueFault>;

    /// Lists what was given up in a mailbox, the oldest first.
    ///
    /// # Errors
    /// [`QueueFault::Failed`].
    fn dead(&self, mailbox: &Mailbox) -> Result<Vec<DeadEntry>, QueueFault>;
}
