//! Files that belong to messages: measured when they are sent, and again by whoever asks.

use std::path::PathBuf;

use serde::Serialize;

use super::context::Context;
use super::failure::{Failure, Kind, Result};
use super::output::printable;
use crate::io::attachment::{self, AttachmentFault, Verdict};
use crate::model::envelope::Attachment;

/// An attached file as it is shown.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// What was sent.
    #[serde(flatten)]
    pub sent: Attachment,
    /// What has become of it; absent unless somebody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

impl Shown {
    /// Writes one line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let verdict = match self.verdict {
            None => "",
            Some(Verdict::Same) => " · as it was sent",
            Some(Verdict::Changed) => " · CHANGED since it was sent",
            Some(Verdict::Missing) => " · MISSING",
        };
        format!("{} · {} bytes{verdict}", printable(&self.sent.path), self.sent.bytes)
    }
}

/// Whether attached files are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// They are only named.
    Name,
    /// They are compared with what was sent.
    Verify,
}

impl Look {
    /// Takes the flag `--verify`.
    #[must_use]
    pub const fn new(verify: bool) -> Self {
        if verify { Self::Verify } else { Self::Name }
    }
}

/// Measures the files that are sent with a message.
///
/// # Errors
/// Exit code 4 for what cannot be attached.
pub fn describe(context: &Context, files: &[PathBuf]) -> Result<Vec<Attachment>> {
    files
        .iter()
        .map(|file| {
            attachment::describe(&context.environment.folder.join(file)).map_err(|fault| {
                let hint = match &fault {
                    AttachmentFault::Io { .. } => "is it there, and yours to read?",
                    AttachmentFault::NotAFile { .. } => "pack a folder into an archive first",
                    AttachmentFault::NotText { .. } => "rename it, or send a copy",
                    AttachmentFault::TooLarge { .. } => "send its path in the text",
                };
                Failure::new(Kind::Invalid, fault).hint(hint)
            })
        })
        .collect()
}

/// Prepares attached files to be shown.
#[must_use]
pub fn shown(attachments: &[Attachment], look: Look) -> Vec<Shown> {
    attachments
        .iter()
        .map(|sent| Shown {
            sent: sent.clone(),
            verdict: match look {
                Look::Name => None,
                Look::Verify => Some(attachment::verify(sent)),
            },
        })
        .collect()
}
