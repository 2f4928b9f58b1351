//! Reading an envelope's file, whatever it may turn out to be.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::model::envelope::Envelope;
use crate::model::id::{EnvelopeId, Mailbox};

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
    /// The file is gone: somebody was quicker.
    Gone,
}

/// Reads a file of a mailbox and checks everything that can be checked without its name.
///
/// # Errors
/// Fails for reasons that are ours and not the file's, e.g. too many open files.
pub(super) fn load(path: &Path, mailbox: &Mailbox, bytes_max: usize) -> Result<Loaded, SpoolError> {
    match read(path, bytes_max) {
        Ok(bytes) => Ok(match file::decode(&bytes) {
            Ok(envelope) if envelope.to != *mailbox => Loaded::Bad(LoadFault::OtherMailbox(envelope.to)),
            Ok(envelope) => Loaded::Good(Box::new(envelope)),
            Err(fault) => Loaded::Bad(fault.into()),
        }),
        Err(ReadFault::Load(fault)) => Ok(Loaded::Bad(fault)),
        Err(ReadFault::Io(source)) => match Errno::from_io_error(&source) {
            Some(Errno::NOENT) => Ok(Loaded::Gone),
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR) => Err(SpoolError::io("read", path)(source)),
            Some(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => Ok(Loaded::Bad(LoadFault::NotAFile)),
            _ => Ok(Loaded::Bad(LoadFault::Unreadable(source))),
        },
    }
}

/// Reads a file and checks that it is the envelope of its name.
///
/// # Errors
/// As [`load`].
pub(super) fn load_as(path: &Path, mailbox: &Mailbox, id: EnvelopeId, bytes_max: usize) -> Result<Loaded, SpoolError> {
    match load(path, mailbox, bytes_max)? {
        Loaded::Good(envelope) if envelope.id != id => Ok(Loaded::Bad(LoadFault::OtherEnvelope(envelope.id))),
        other @ (Loaded::Good(_) | Loaded::Bad(_) | Loaded::Gone) => Ok(other),
    }
}

enum ReadFault {
    Io(io::Error),
    Load(LoadFault),
}

impl From<io::Error> for ReadFault {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, ReadFault> {
    // A link must not lead elsewhere, and a pipe must not make us wait for its other end.
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(ReadFault::Load(LoadFault::NotAFile));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(facts.len()).unwrap_or(0).min(bytes_max));
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(ReadFault::Load(LoadFault::TooLarge { max: bytes_max }));
    }
    Ok(bytes)
}
