//! What can go wrong with a spool.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::holder::Holder;
use super::load::LoadFault;
use super::receipt::Receipt;

/// Why something could not be done with a spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system refused.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The disk, or the user's share of it, is full; nothing was accepted.
    #[error("no space left for {path}")]
    DiskFull {
        /// What was to be written.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// The mailbox holds as many envelopes as it may; nothing was accepted.
    #[error("mailbox `{mailbox}` is full: {waiting} envelopes wait, at most {max} may")]
    MailboxFull {
        /// Which mailbox.
        mailbox: Mailbox,
        /// How many envelopes wait in it or are leased.
        waiting: usize,
        /// How many there may be.
        max: usize,
    },
    /// The spool holds as many bytes as it may; nothing was accepted.
    #[error("the spool {root} is full: it held {bytes} bytes at {measured_at}, at most {max} are allowed")]
    SpoolFull {
        /// The spool's folder.
        root: PathBuf,
        /// How many bytes its files have.
        bytes: u64,
        /// How many there may be.
        max: u64,
        /// When that was measured.
        measured_at: Timestamp,
    },
    /// The disk has no more room than is kept for work orders, reports and the journal; nothing was accepted.
    #[error("the disk of {root} has only {free} bytes left, and {reserve} are kept free of messages")]
    DiskReserve {
        /// The spool's folder.
        root: PathBuf,
        /// How many bytes are left.
        free: u64,
        /// How many must be.
        reserve: u64,
    },
    /// The envelope is larger than allowed.
    #[error("envelope {id} has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Which envelope.
        id: EnvelopeId,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The envelope could be written but not read again.
    #[error("envelope {id} cannot be sent: {reason}")]
    Invalid {
        /// Which envelope.
        id: EnvelopeId,
        /// What is wrong with it.
        reason: String,
    },
    /// The receipt is void, or is another holder's.
    #[error("receipt {receipt} is refused: {reason}")]
    NotYours {
        /// The receipt.
        receipt: Box<Receipt>,
        /// Why.
        reason: Refusal,
    },
    /// Only the supervisor repeats work orders.
    #[error("mailbox `{mailbox}` holds work orders, which only the supervisor gives out again")]
    WorkOrders {
        /// Which mailbox.
        mailbox: Mailbox,
    },
    /// The envelope lies where it should but cannot be read.
    #[error("cannot read envelope {path}")]
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: LoadFault,
    },
    /// The envelope to be requeued is no longer in `dead/`.
    #[error("{path} is no longer there")]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// The mailbox changes so fast that no answer about the envelope holds.
    #[error("envelope {id} in mailbox `{mailbox}` moved on at every look")]
    Restless {
        /// Which mailbox.
        mailbox: Mailbox,
        /// Which envelope.
        id: EnvelopeId,
    },
}

/// Why a receipt is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is not the holder that the receipt names.
    AnotherCaller {
        /// Who called.
        caller: Holder,
    },
    /// The lease ended or was given up, and the envelope waits again.
    WaitsAgain {
        /// The number of its next attempt.
        attempt: u32,
    },
    /// The lease ended, and somebody holds the envelope now.
    HeldAgain {
        /// Who.
        holder: Holder,
        /// In which attempt.
        attempt: u32,
    },
    /// Another attempt, or the supervisor, ended the envelope.
    Ended {
        /// Who held it then.
        holder: Option<Holder>,
        /// The last attempt.
        attempt: u32,
    },
    /// The envelope was given up.
    Dead,
    /// There is no such envelope in the mailbox.
    Missing,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnotherCaller { caller } => write!(f, "it is not {caller}'s"),
            Self::WaitsAgain { attempt } => write!(f, "its lease is over, the envelope waits for attempt {attempt}"),
            Self::HeldAgain { holder, attempt } => {
                write!(f, "its lease is over, {holder} holds the envelope in attempt {attempt}")
            }
            Self::Ended { holder: Some(holder), attempt } => {
                write!(f, "the envelope was ended by {holder} in attempt {attempt}")
            }
            Self::Ended { holder: None, attempt } => write!(f, "the envelope was ended before attempt {attempt}"),
            Self::Dead => f.write_str("the envelope is dead"),
            Self::Missing => f.write_str("the mailbox has no such envelope"),
        }
    }
}

impl SpoolError {
    /// Wraps what the file system says about a path.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                Self::DiskFull { path, source }
            } else {
                Self::Io { doing, path, source }
            }
        }
    }

    /// Says whether an envelope was refused before anything of it was written.
    pub(super) const fn is_refusal_of_sender(&self) -> bool {
        match self {
            Self::MailboxFull { .. }
            | Self::SpoolFull { .. }
            | Self::DiskReserve { .. }
            | Self::TooLarge { .. }
            | Self::Invalid { .. } => true,
            Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::NotYours { .. }
            | Self::WorkOrders { .. }
            | Self::Unreadable { .. }
            | Self::Gone { .. }
            | Self::Restless { .. } => false,
        }
    }

    /// Wraps a refusal of a receipt.
    pub(super) fn refused(receipt: &Receipt, reason: Refusal) -> Self {
        Self::NotYours { receipt: Box::new(receipt.clone()), reason }
    }
}
