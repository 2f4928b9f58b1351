//! The runner's side of the spool: its orders, its messages, its reports.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::context::Assignment;
use crate::io::spool::Spool;
use crate::io::spool::fault::SpoolError;
use crate::io::spool::history::{Happening, Note};
use crate::io::spool::holder::Holder;
use crate::io::spool::lease::Leased;
use crate::io::spool::name::Folder;
use crate::io::spool::receipt::Receipt;
use crate::model::agent::AgentSpec;
use crate::model::envelope::{Envelope, EnvelopeKind};
use crate::model::fault::with_causes;
use crate::model::id::{AgentId, EnvelopeId, Incarnation, Mailbox};
use crate::model::order::{WORK_ORDER_SCHEMA, WorkOrder};
use crate::model::time::Timestamp;

/// How long an order is leased for. Death is known sooner, by the heartbeat: this only bounds what a lost runner holds.
const ORDER_LEASE: Duration = Duration::from_hours(12);

/// How much longer than the order's time limit its messages are leased for: checks and report come after it.
const MESSAGE_SLACK: Duration = Duration::from_mins(10);

/// The most messages that are handed out with one order.
const MESSAGES_MAX: usize = 100;

/// What can go wrong between a runner and the spool.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// The spool could not do it.
    #[error("the spool could not do it")]
    Spool(#[from] SpoolError),
    /// The envelope in the mailbox of work orders is none.
    #[error("envelope {id} in mailbox `{mailbox}` is not a work order of schema {WORK_ORDER_SCHEMA}: {reason}")]
    NotAnOrder {
        /// The envelope.
        id: EnvelopeId,
        /// Where it lies.
        mailbox: Mailbox,
        /// What is wrong with it.
        reason: String,
    },
}

/// Whether an order is still the runner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Ours,
    Gone,
}

/// The runner's mailboxes.
#[derive(Debug)]
pub(super) struct Post {
    spool: Spool,
    holder: Holder,
    work: Mailbox,
    talk: [Mailbox; 2],
}

impl Post {
    pub(super) fn new(spool: Spool, agent: &AgentSpec, incarnation: Incarnation) -> Self {
        Self {
            spool,
            holder: Holder::of(&agent.id, incarnation),
            work: Mailbox::work(&agent.id),
            talk: [Mailbox::agent(&agent.id), Mailbox::role(&agent.role)],
        }
    }

    /// Makes the folders, so that they can be watched.
    pub(super) fn open(&self) -> Result<(), PostError> {
        for mailbox in [&self.work, &self.talk[0], &self.talk[1]] {
            self.spool.ensure(mailbox)?;
        }
        Ok(())
    }

    /// Returns the folder in which an order arrives, or lies while it is in the runner's hands.
    pub(super) fn folder(&self, folder: Folder) -> PathBuf {
        self.spool.root().join(self.work.as_str()).join(folder.as_str())
    }

    /// Says whether somebody has an order, or may still take it.
    pub(super) fn is_open(&self, agent: &AgentId, id: EnvelopeId) -> Result<bool, PostError> {
        let found = self.spool.locate(&Mailbox::work(agent), id)?;
        Ok(found.is_some_and(|listed| match listed.folder {
            Folder::New | Folder::Later | Folder::Leased => true,
            Folder::Done | Folder::Dead => false,
        }))
    }

    /// Leases the next order, if there is one.
    pub(super) fn lease_order(&self, now: Timestamp) -> Result<Option<Assignment>, PostError> {
        let Some(leased) = self.spool.lease(&self.work, &self.holder, ORDER_LEASE, now)? else { return Ok(None) };
        let order = read_order(&self.work, &leased.envelope)?;
        Ok(Some(Assignment::new(Arc::new(order), leased.receipt)))
    }

    /// Sees whether an order is still ours, and extends its lease when half of it is over.
    pub(super) fn hold(&self, assignment: &Assignment, now: Timestamp) -> Result<Hold, PostError> {
        let receipt = assignment.receipt();
        if receipt.name.until.since(now) < ORDER_LEASE / 2 {
            return match self.spool.extend(&receipt, ORDER_LEASE, now) {
                Ok(renewed) => {
                    assignment.renew(renewed);
                    Ok(Hold::Ours)
                }
                Err(SpoolError::NotYours { .. }) => Ok(Hold::Gone),
                Err(error) => Err(error.into()),
            };
        }
        let name = self.folder(Folder::Leased).join(receipt.name.to_string());
        Ok(if name.symlink_metadata().is_ok() { Hold::Ours } else { Hold::Gone })
    }

    /// Leases what was said to the agent and to its role.
    pub(super) fn lease_messages(&self, limit: Duration, now: Timestamp) -> Result<Vec<Leased>, PostError> {
        let mut messages = Vec::new();
        for mailbox in &self.talk {
            let count = MESSAGES_MAX - messages.len();
            match self.spool.lease_batch(mailbox, &self.holder, count, limit * 2 + MESSAGE_SLACK, now) {
                Ok(leased) => messages.extend(leased),
                Err(error) if messages.is_empty() => return Err(error.into()),
                // What was leased before must reach the agent; what was not waits for its next order.
                Err(error) => tracing::warn!(%mailbox, error = %with_causes(&error), "messages are left for later"),
            }
        }
        Ok(messages)
    }

    /// Notes for their senders that messages are in the hands of the agent's program.
    pub(super) fn note_submitted(&self, messages: &[Leased], now: Timestamp) {
        for Leased { receipt, envelope, attempt } in messages {
            let note = Note::new(now, *attempt, Happening::Submitted).by(&self.holder);
            self.spool.record(&receipt.mailbox, envelope.id, &note);
        }
    }

    /// Notes for a message's sender that the work with which it is acknowledged was proven.
    pub(super) fn note_verified(&self, receipt: &Receipt, now: Timestamp) {
        let stem = receipt.name.stem;
        let note = Note::new(now, stem.attempt, Happening::Verified).by(&self.holder);
        self.spool.record(&receipt.mailbox, stem.id, &note);
    }

    /// Delivers a report; one that was delivered before is no error.
    pub(super) fn deliver(&self, envelope: &Envelope, now: Timestamp) -> Result<(), PostError> {
        self.spool.deliver(envelope, None, now)?;
        Ok(())
    }

    /// Acknowledges an order whose report was delivered; one that was taken away meanwhile is no error.
    pub(super) fn ack(&self, receipt: &Receipt, now: Timestamp) -> Result<(), PostError> {
        match self.spool.ack(receipt, Some(&self.holder), now) {
            Ok(_) | Err(SpoolError::NotYours { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn read_order(mailbox: &Mailbox, envelope: &Envelope) -> Result<WorkOrder, PostError> {
    let not_an_order = |reason: String| PostError::NotAnOrder { id: envelope.id, mailbox: mailbox.clone(), reason };
    if envelope.kind != EnvelopeKind::WorkOrder {
        return Err(not_an_order(format!("it is a {:?}", envelope.kind)));
    }
    let order: WorkOrder =
        serde_json::from_value(envelope.body.clone()).map_err(|error| not_an_order(error.to_string()))?;
    if order.schema != WORK_ORDER_SCHEMA {
        return Err(not_an_order(format!("its schema is `{}`", order.schema)));
    }
    if order.id != envelope.id {
        return Err(not_an_order(format!("its order says that it is {}", order.id)));
    }
    Ok(order)
}
