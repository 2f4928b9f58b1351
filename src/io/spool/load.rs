//! Reading an envelope's file, whatever it may turn out to be.

use std::io;
use std::path::Path;

use crate::model::envelope::Envelope;
use crate::model::id::{EnvelopeId, Mailbox};

use super::Room;
use super::disk::{Content, Trouble};
use super::fault::SpoolError;
use super::file::{self, FileFault};

/// Why a file in the spool cannot be taken as the envelope that its name promises.
#[derive(Debug, thiserror::Error)]
pub enum LoadFault {
    /// A folder, link, socket or pipe.
    #[error("it is not a regular file")]
    NotAFile,
    /// The file system does not let us read it.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// More than an envelope may have.
    #[error("it has more than {max} bytes")]
    TooLarge {
        /// The bound.
        max: usize,
    },
    /// The content is no envelope.
    #[error(transparent)]
    Content(#[from] FileFault),
    /// The content is another envelope than the name says.
    #[error("its content is envelope {0}, not the one of its name")]
    OtherEnvelope(EnvelopeId),
    /// The content was sent to another mailbox.
    #[error("it was sent to mailbox `{0}`")]
    OtherMailbox(Mailbox),
}

/// What a look at a file gave.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The envelope, checked.
    Good(Box<Envelope>),
    /// Something else; trying again will not help.
    Bad(LoadFault),
    /// The disk does not give it now. It may be good, so it stays where it is.
    Unread(SpoolError),
    /// The file is gone: somebody was quicker.
    Gone,
}

/// Reads a file of a mailbox and checks everything that can be checked without its name.
///
/// # Errors
/// Fails for reasons that are ours and not the file's, e.g. too many open files.
pub(super) fn load(room: &Room, path: &Path, bytes_max: usize) -> Result<Loaded, SpoolError> {
    match room.disk.read(path, bytes_max) {
        Ok(Content::Whole(bytes)) => Ok(match file::decode(&bytes) {
            Ok(envelope) if envelope.to != room.mailbox => Loaded::Bad(LoadFault::OtherMailbox(envelope.to)),
            Ok(envelope) => Loaded::Good(Box::new(envelope)),
            Err(fault) => Loaded::Bad(fault.into()),
        }),
        Ok(Content::Cut(_)) => Ok(Loaded::Bad(LoadFault::TooLarge { max: bytes_max })),
        Ok(Content::NotAFile) => Ok(Loaded::Bad(LoadFault::NotAFile)),
        Err(source) => match Trouble::of(&source) {
            Trouble::Gone => Ok(Loaded::Gone),
            Trouble::Ours => Err(SpoolError::io("read", path)(source)),
            Trouble::NotAFile => Ok(Loaded::Bad(LoadFault::NotAFile)),
            Trouble::Its => Ok(Loaded::Bad(LoadFault::Unreadable(source))),
            Trouble::Disks => Ok(Loaded::Unread(SpoolError::io("read", path)(source))),
        },
    }
}

/// Reads a file and checks that it is the envelope of its name.
///
/// # Errors
/// As [`load`].
pub(super) fn load_as(room: &Room, path: &Path, id: EnvelopeId, bytes_max: usize) -> Result<Loaded, SpoolError> {
    match load(room, path, bytes_max)? {
        Loaded::Good(envelope) if envelope.id != id => Ok(Loaded::Bad(LoadFault::OtherEnvelope(envelope.id))),
        other @ (Loaded::Good(_) | Loaded::Bad(_) | Loaded::Unread(_) | Loaded::Gone) => Ok(other),
    }
}
