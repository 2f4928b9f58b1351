//! Files that travel with a message by reference: what they were when it was sent, and whether they still are.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use crate::model::envelope::Attachment;

/// The largest file that can be attached, in bytes: both ends read all of it.
pub const BYTES_MAX: u64 = 1 << 30;

/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why a file cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentFault {
    /// The system refuses.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A folder, pipe, socket or device.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// The path cannot be written down as text.
    #[error("the path {path} is not UTF-8")]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// Larger than [`BYTES_MAX`].
    #[error("{path} has more than {BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// What became of an attached file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is what was sent.
    Same,
    /// It has another content.
    Changed,
    /// It is not there, or cannot be read.
    Missing,
}

/// Measures a file. Links are followed; the path is made absolute.
///
/// # Errors
/// Says why the file cannot be attached.
pub fn describe(path: &Path) -> Result<Attachment, AttachmentFault> {
    let io = |source| AttachmentFault::Io { path: path.to_owned(), source };
    let path = path.canonicalize().map_err(io)?;
    let file = open(&path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(AttachmentFault::NotAFile { path });
    }
    let (bytes, sha256) = digest(file).map_err(io)?.ok_or_else(|| AttachmentFault::TooLarge { path: path.clone() })?;
    let text = path.to_str().ok_or_else(|| AttachmentFault::NotText { path: path.clone() })?;
    Ok(Attachment { path: text.to_owned(), bytes, sha256 })
}

/// Compares a file with what it was when it was attached.
#[must_use]
pub fn verify(attachment: &Attachment) -> Verdict {
    let Ok(file) = open(Path::new(&attachment.path)) else { return Verdict::Missing };
    match file.metadata() {
        Err(_) => return Verdict::Missing,
        Ok(facts) if !facts.is_file() || facts.len() != attachment.bytes => return Verdict::Changed,
        Ok(_) => {}
    }
    match digest(file) {
        Ok(Some((bytes, sha256))) if bytes == attachment.bytes && sha256 == attachment.sha256 => Verdict::Same,
        Ok(_) => Verdict::Changed,
        Err(_) => Verdict::Missing,
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A pipe must not make us wait for its other end.
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

/// Returns size and checksum; `None` for what is too large.
fn digest(file: File) -> io::Result<Option<(u64, String)>> {
    let mut file = file.take(BYTES_MAX + 1);
    let (mut sum, mut total) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else { break };
        sum.update(part);
        total += part.len() as u64;
    }
    let text = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((total <= BYTES_MAX).then_some((total, text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_until_a_byte_of_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("図.txt");
        std::fs::write(&path, "abc\n").unwrap();
        let attached = describe(&path).unwrap();
        assert_eq!(attached.sha256, "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb");
        assert_eq!((attached.bytes, verify(&attached)), (4, Verdict::Same));
        std::fs::write(&path, "abd\n").unwrap();
        assert_eq!(verify(&attached), Verdict::Changed);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(verify(&attached), Verdict::Missing);
        assert!(matches!(describe(folder.path()), Err(AttachmentFault::NotAFile { .. })));
        assert!(matches!(describe(&path), Err(AttachmentFault::Io { .. })));
    }
}
