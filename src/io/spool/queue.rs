//! The spool as a [`Queue`].

use std::time::Duration;

use crate::io::queue::{Accepted, DeadEntry, Given, GivenBack, Place, Queue, QueueFault, QueueView, Ticket};
use crate::model::envelope::Envelope;
use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::Spool;
use super::deliver::Delivered;
use super::fault::SpoolError;
use super::holder::Holder;
use super::name::Folder;
use super::receipt::Receipt;
use super::settle::Nacked;

impl From<SpoolError> for QueueFault {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::NotYours { receipt, reason } => {
                Self::Refused { ticket: Ticket(receipt.to_string()), reason: reason.to_string() }
            }
            SpoolError::MailboxFull { .. } | SpoolError::SpoolFull { .. } | SpoolError::DiskReserve { .. } => {
                Self::Full(error.to_string())
            }
            SpoolError::TooLarge { .. } | SpoolError::Invalid { .. } | SpoolError::WorkOrders { .. } => {
                Self::Invalid(error.to_string())
            }
            SpoolError::Io { .. }
            | SpoolError::DiskFull { .. }
            | SpoolError::Unreadable { .. }
            | SpoolError::Gone { .. }
            | SpoolError::Restless { .. } => Self::Failed(Box::new(error)),
        }
    }
}

impl From<Delivered> for Accepted {
    fn from(delivered: Delivered) -> Self {
        match delivered {
            Delivered::New => Self::New,
            Delivered::Already { first } => Self::Before(first),
        }
    }
}

impl From<Folder> for Place {
    fn from(folder: Folder) -> Self {
        match folder {
            Folder::New => Self::Waiting,
            Folder::Later => Self::Later,
            Folder::Leased => Self::Leased,
            Folder::Done => Self::Done,
            Folder::Dead => Self::Dead,
        }
    }
}

fn receipt(ticket: &Ticket) -> Result<Receipt, QueueFault> {
    let refused = |reason: String| QueueFault::Refused { ticket: ticket.clone(), reason };
    ticket.0.parse().map_err(|fault: super::receipt::ReceiptFault| refused(fault.to_string()))
}

impl Queue for Spool {
    fn deliver(
        &self,
        envelope: &Envelope,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Accepted, QueueFault> {
        Ok(Self::deliver(self, envelope, not_before, now)?.into())
    }

    fn deliver_batch(&self, envelopes: &[Envelope], now: Timestamp) -> Result<Vec<Accepted>, QueueFault> {
        Ok(Self::deliver_batch(self, envelopes, now)?.into_iter().map(Into::into).collect())
    }

    fn lease(
        &self,
        mailbox: &Mailbox,
        holder: &Holder,
        count: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Given>, QueueFault> {
        let leased = self.lease_batch(mailbox, holder, count, lease, now)?.into_iter();
        Ok(leased
            .map(|leased| Given {
                ticket: Ticket(leased.receipt.to_string()),
                envelope: leased.envelope,
                attempt: leased.attempt,
            })
            .collect())
    }

    fn ack(&self, tickets: &[Ticket], now: Timestamp) -> Vec<Result<(), QueueFault>> {
        let receipts: Vec<_> = tickets.iter().map(receipt).collect();
        let good: Vec<Receipt> = receipts.iter().filter_map(|receipt| receipt.as_ref().ok().cloned()).collect();
        let mut acked = self.ack_batch(&good, None, now).into_iter();
        let one = |receipt: Result<Receipt, QueueFault>| {
            receipt?;
            acked.next().map_or(Ok(()), |acked| acked.map(drop).map_err(Into::into))
        };
        receipts.into_iter().map(one).collect()
    }

    fn nack(&self, ticket: &Ticket, reason: &str, now: Timestamp) -> Result<GivenBack, QueueFault> {
        match Self::nack(self, &receipt(ticket)?, reason, now)? {
            Nacked::Later(at) => Ok(GivenBack::Later(at)),
            Nacked::Dead => Ok(GivenBack::Dead),
        }
    }

    fn extend(&self, ticket: &Ticket, lease: Duration, now: Timestamp) -> Result<Ticket, QueueFault> {
        Ok(Ticket(Self::extend(self, &receipt(ticket)?, lease, now)?.to_string()))
    }

    fn requeue(&self, mailbox: &Mailbox, id: EnvelopeId, now: Timestamp) -> Result<bool, QueueFault> {
        match Self::dead(self, Some(mailbox))?.iter().find(|letter| letter.id == Some(id)) {
            Some(letter) => Ok(Self::requeue(self, letter, now).map(|_| true)?),
            None => Ok(false),
        }
    }
}

impl QueueView for Spool {
    fn mailboxes(&self) -> Result<Vec<Mailbox>, QueueFault> {
        Ok(Self::mailboxes(self)?)
    }

    fn places(&self, mailbox: &Mailbox) -> Result<Vec<(EnvelopeId, Place)>, QueueFault> {
        let mut places: Vec<_> =
            self.list(mailbox)?.into_iter().map(|listed| (listed.id, listed.folder.into())).collect();
        places.sort_unstable();
        Ok(places)
    }

    fn read(&self, mailbox: &Mailbox, id: EnvelopeId) -> Result<Option<Envelope>, QueueFault> {
        Ok(Self::read(self, mailbox, id)?)
    }

    fn dead(&self, mailbox: &Mailbox) -> Result<Vec<DeadEntry>, QueueFault> {
        let letters = Self::dead(self, Some(mailbox))?.into_iter();
        Ok(letters
            .filter_map(|letter| {
                let reason = letter.reason.map(|reason| reason.reason).unwrap_or_default();
                Some(DeadEntry { id: letter.id?, attempt: letter.attempt?, reason })
            })
            .collect())
    }
}
