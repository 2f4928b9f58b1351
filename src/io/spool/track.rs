//! How far a message got, for whoever sent it. It is put together from where the message lies and from its history, so it
//! needs neither the supervisor nor the receiver.

use serde::Serialize;

use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::Spool;
use super::dead::DeadReason;
use super::expiry::EXPIRED;
use super::fault::SpoolError;
use super::history::{self, Happening, Note};
use super::holder::Holder;
use super::name::Folder;

/// How far a message can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It is in the mailbox, on the disk.
    Written,
    /// Somebody has, or had, it in hand.
    Leased,
    /// It was handed to the agent's program.
    Submitted,
    /// Somebody sent an answer.
    Answered,
    /// It was acknowledged.
    Acknowledged,
    /// It was acknowledged with work whose checks had passed.
    Verified,
    /// It was given up; the reason is known.
    Dead,
    /// Nobody took it before its end of use.
    Expired,
    /// It was cleared away, or never was.
    Unknown,
}

impl Stage {
    /// All that one can wait for.
    pub const AWAITED: [Self; 8] = [
        Self::Written,
        Self::Leased,
        Self::Submitted,
        Self::Answered,
        Self::Acknowledged,
        Self::Verified,
        Self::Dead,
        Self::Expired,
    ];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Leased => "leased",
            Self::Submitted => "submitted",
            Self::Answered => "answered",
            Self::Acknowledged => "acknowledged",
            Self::Verified => "verified",
            Self::Dead => "dead",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

/// How far one message got.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// The message.
    pub id: EnvelopeId,
    /// Where it lies; absent when it is not known any more.
    pub mailbox: Option<Mailbox>,
    /// The furthest that it got.
    pub state: Stage,
    /// All that it got to, in the order of [`Stage`].
    pub reached: Vec<Stage>,
    /// In which attempt it is.
    pub attempt: Option<u32>,
    /// Who has it in hand, or had it last.
    pub holder: Option<Holder>,
    /// When its folder or its lease changed last.
    pub since: Option<Timestamp>,
    /// When its lease ends, or when it may be leased.
    pub until: Option<Timestamp>,
    /// The message that answers it.
    pub reply: Option<EnvelopeId>,
    /// Why it is dead.
    pub reason: Option<String>,
    /// What happened to it on the way.
    pub history: Vec<Note>,
}

impl Progress {
    fn unknown(id: EnvelopeId) -> Self {
        Self {
            id,
            mailbox: None,
            state: Stage::Unknown,
            reached: Vec::new(),
            attempt: None,
            holder: None,
            since: None,
            until: None,
            reply: None,
            reason: None,
            history: Vec::new(),
        }
    }

    /// Says whether nothing but an answer can happen to it any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.reached.iter().any(|stage| matches!(stage, Stage::Acknowledged | Stage::Dead | Stage::Expired))
            || self.state == Stage::Unknown
    }
}

impl Spool {
    /// Finds the mailbox that has, or had, an envelope.
    ///
    /// # Errors
    /// Fails if the spool cannot be read.
    pub fn mailbox_of(&self, id: EnvelopeId) -> Result<Option<Mailbox>, SpoolError> {
        let mailboxes = self.mailboxes()?;
        let knows = |mailbox: &&Mailbox| {
            let room = self.room(mailbox);
            room.disk.is_there(&room.id(id))
        };
        if let Some(mailbox) = mailboxes.iter().find(knows) {
            return Ok(Some(mailbox.clone()));
        }
        // Programs that know nothing of `ids/` put envelopes straight into `new/`.
        for mailbox in mailboxes {
            if self.locate(&mailbox, id)?.is_some() {
                return Ok(Some(mailbox));
            }
        }
        Ok(None)
    }

    /// Says how far an envelope got.
    ///
    /// # Errors
    /// Fails if the spool cannot be read.
    pub fn track(&self, id: EnvelopeId) -> Result<Progress, SpoolError> {
        let Some(mailbox) = self.mailbox_of(id)? else { return Ok(Progress::unknown(id)) };
        let Some(listed) = self.locate(&mailbox, id)? else { return Ok(Progress::unknown(id)) };
        let room = self.room(&mailbox);
        let mut history = history::read(&room, id);
        let mut reason = None;
        if listed.folder == Folder::Dead {
            let found: Option<DeadReason> = super::dead::reason_of(&room, &listed.name);
            if let Some(found) = found {
                reason = Some(found.reason);
                if history.is_empty() {
                    history = found.history;
                }
            }
        }
        let has = |what: Happening| history.iter().any(|note| note.what == what);
        let mut reached = vec![Stage::Written];
        let mut reach = |stage: Stage, is_so: bool| reached.extend(is_so.then_some(stage));
        let is_expired = reason.as_deref() == Some(EXPIRED);
        let was_held = listed.holder.is_some() || history.iter().any(|note| note.holder.is_some());
        reach(Stage::Leased, was_held);
        reach(Stage::Submitted, has(Happening::Submitted));
        reach(Stage::Answered, has(Happening::Answered));
        reach(Stage::Acknowledged, listed.folder == Folder::Done);
        reach(Stage::Verified, has(Happening::Verified));
        reach(Stage::Dead, listed.folder == Folder::Dead && !is_expired);
        reach(Stage::Expired, listed.folder == Folder::Dead && is_expired);
        let state = match listed.folder {
            // It was in somebody's hands and came back: nobody has it.
            Folder::New | Folder::Later => {
                if has(Happening::Answered) {
                    Stage::Answered
                } else {
                    Stage::Written
                }
            }
            Folder::Leased | Folder::Done | Folder::Dead => reached.last().copied().unwrap_or(Stage::Written),
        };
        let since = listed.ended_at.or_else(|| {
            let path = room.file(listed.folder, &listed.name);
            room.disk.stat(&path).ok().map(|facts| facts.changed_at)
        });
        Ok(Progress {
            id,
            mailbox: Some(mailbox),
            state,
            reached,
            attempt: Some(listed.attempt),
            holder: listed.holder,
            since,
            until: listed.until,
            reply: history.iter().rev().find_map(|note| note.reply),
            reason,
            history,
        })
    }
}
