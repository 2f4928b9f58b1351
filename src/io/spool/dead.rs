//! Dead letters: envelopes that were given up and files that never were envelopes, each with its reason beside it.
//!
//! The reason is on the disk before the envelope moves, so that nothing lies in `dead/` without one; a crash in between
//! leaves a reason without an envelope, which a sweep removes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::envelope::Envelope;
use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::time::Timestamp;

use super::disk::Content;
use super::durable::Moved;
use super::fault::SpoolError;
use super::file::hex_digest;
use super::history::{self, Happening, Note};
use super::holder::Holder;
use super::limits::REASON_BYTES_MAX;
use super::load::{LoadFault, Loaded, load};
use super::name::{BadName, EndedName, Folder, Stem};
use super::{RACES_MAX, Room, Spool};

const REASON_SUFFIX: &str = ".reason.json";

/// How large the file of a reason may be to be read, in bytes: a history may be in it.
const REASON_FILE_BYTES_MAX: usize = 1 << 20;

/// The version of [`DeadReason`]'s JSON form.
const DEAD_REASON_SCHEMA: &str = "dead@1";

/// Why something lies in `dead/`: the content of `NAME.reason.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadReason {
    /// Always `dead@1`.
    pub schema: String,
    /// Why, in one line.
    pub reason: String,
    /// When it was given up.
    pub died_at: Timestamp,
    /// In which folder it was before.
    pub was_in: Folder,
    /// Its name there.
    pub was_named: String,
    /// What happened to it before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Note>,
}

/// Something in `dead/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// In which mailbox.
    pub mailbox: Mailbox,
    /// Its file's name in `dead/`.
    pub name: String,
    /// The envelope; absent for what never was one.
    pub id: Option<EnvelopeId>,
    /// The last attempt, if it ever was an envelope.
    pub attempt: Option<u32>,
    /// Who held it last.
    pub holder: Option<Holder>,
    /// When it was given up; absent if a foreign program put it there.
    pub died_at: Option<Timestamp>,
    /// Why; absent if it cannot be read.
    pub reason: Option<DeadReason>,
}

impl DeadLetter {
    /// Says whether a person means this one: by its id or by its name.
    #[must_use]
    pub fn answers_to(&self, text: &str) -> bool {
        self.name == text || self.id.is_some_and(|id| id.to_string().eq_ignore_ascii_case(text))
    }
}

/// A name in `dead/` that can be had at another time if it is taken.
#[derive(Debug, Clone)]
enum Grave {
    Envelope(EndedName),
    Foreign(BadName),
}

impl Grave {
    fn name(&self) -> String {
        match self {
            Self::Envelope(name) => name.to_string(),
            Self::Foreign(name) => name.to_string(),
        }
    }

    fn one_later(self) -> Self {
        let step = std::time::Duration::from_millis(1);
        match self {
            Self::Envelope(name) => Self::Envelope(EndedName { ended_at: name.ended_at + step, ..name }),
            Self::Foreign(name) => Self::Foreign(BadName { ended_at: name.ended_at + step, ..name }),
        }
    }
}

impl Spool {
    /// Lists what lies in `dead/`, of one mailbox or of all, the oldest first.
    ///
    /// # Errors
    /// Fails if a folder cannot be read.
    pub fn dead(&self, mailbox: Option<&Mailbox>) -> Result<Vec<DeadLetter>, SpoolError> {
        let mailboxes = match mailbox {
            Some(mailbox) => vec![mailbox.clone()],
            None => self.mailboxes()?,
        };
        let mut letters = Vec::new();
        for mailbox in mailboxes {
            let room = self.room(&mailbox);
            let folder = room.folder(Folder::Dead);
            for name in room.disk.visible_names(&folder).map_err(SpoolError::io("list", &folder))? {
                if !is_reason(&name) {
                    letters.extend(name.to_str().map(|name| dead_letter(&room, name)));
                }
            }
        }
        letters.sort_by(|a, b| (a.died_at, &a.mailbox, &a.name).cmp(&(b.died_at, &b.mailbox, &b.name)));
        Ok(letters)
    }

    /// Lets a dead envelope wait again, with as many attempts as a new one.
    ///
    /// # Errors
    /// Refuses work orders, which only the supervisor gives out again, and files that are no envelopes.
    pub fn requeue(&self, letter: &DeadLetter, now: Timestamp) -> Result<Stem, SpoolError> {
        if letter.mailbox.worked_by().is_some() {
            return Err(SpoolError::WorkOrders { mailbox: letter.mailbox.clone() });
        }
        let room = self.room(&letter.mailbox);
        let path = room.file(Folder::Dead, &letter.name);
        let envelope = match load(&room, &path, self.limits().envelope_bytes_max)? {
            Loaded::Good(envelope) if letter.id.is_none_or(|id| id == envelope.id) => envelope,
            Loaded::Good(envelope) => {
                return Err(SpoolError::Unreadable { path, source: LoadFault::OtherEnvelope(envelope.id) });
            }
            Loaded::Bad(source) => return Err(SpoolError::Unreadable { path, source }),
            Loaded::Unread(fault) => return Err(fault),
            Loaded::Gone => return Err(SpoolError::Gone { path }),
        };
        if self.locate(&letter.mailbox, envelope.id)?.is_some_and(|found| found.name != letter.name) {
            let reason = "it is in the mailbox already".to_owned();
            return Err(SpoolError::Invalid { id: envelope.id, reason });
        }
        // Counting goes on, so that no receipt from before can ever fit again.
        let stem = match EndedName::parse(&letter.name) {
            Some(name) => next_round(name.stem, &envelope),
            None => Stem::first(envelope.priority, envelope.id),
        };
        match room.disk.move_file(&path, &room.file(Folder::New, &stem)).map_err(SpoolError::io("requeue", &path))? {
            Moved::Yes => {}
            Moved::Gone | Moved::Taken => return Err(SpoolError::Gone { path }),
        }
        let new = room.folder(Folder::New);
        self.sync_folder(&new)?;
        let reason = reason_path(&path);
        room.disk.remove(&reason).map_err(SpoolError::io("remove", &reason))?;
        let note = Note::new(now, stem.attempt - 1, Happening::Requeued);
        self.note(&room, stem.id, &note);
        self.shared.memory.of(&letter.mailbox).waits(stem);
        Ok(stem)
    }

    /// Removes something from `dead/` for good, with its reason and history.
    ///
    /// # Errors
    /// Fails if it cannot be removed.
    pub fn purge(&self, letter: &DeadLetter, now: Timestamp) -> Result<(), SpoolError> {
        let room = self.room(&letter.mailbox);
        self.remove_ended(&room, Folder::Dead, &letter.name, letter.id, now)
    }

    /// Moves an envelope into `dead/`. The caller names it as it is now.
    pub(super) fn bury(
        &self,
        room: &Room,
        (from, name): (Folder, &str),
        buried: EndedName,
        reason: &str,
    ) -> Result<Moved, SpoolError> {
        let history = history::read(room, buried.stem.id);
        self.lay(room, (from, OsStr::new(name)), Grave::Envelope(buried), (reason, history))
    }

    /// Moves a file that is no envelope of ours out of the way. If that fails it is left where it is, with a warning.
    pub(super) fn quarantine(&self, room: &Room, from: Folder, name: &OsStr, now: Timestamp) {
        let path = room.foreign(from, name);
        let mark = hex_digest(path.as_os_str().as_encoded_bytes()).split_off(56);
        let grave = Grave::Foreign(BadName { ended_at: now, mark });
        let reason = format!("the name is not one that belongs into {from}/");
        match self.lay(room, (from, name), grave, (&reason, Vec::new())) {
            Ok(Moved::Yes) => tracing::warn!(path = %path.display(), "moved a foreign file to dead/"),
            Ok(Moved::Gone | Moved::Taken) => {}
            Err(fault) => self.complain(&path, &fault),
        }
    }

    /// Writes the reason, then moves the file.
    fn lay(
        &self,
        room: &Room,
        (from, name): (Folder, &OsStr),
        mut grave: Grave,
        (reason, history): (&str, Vec<Note>),
    ) -> Result<Moved, SpoolError> {
        let source = room.foreign(from, name);
        let mut content = DeadReason {
            schema: DEAD_REASON_SCHEMA.to_owned(),
            reason: shortened(reason).to_owned(),
            died_at: Timestamp::EPOCH,
            was_in: from,
            was_named: name.to_string_lossy().into_owned(),
            history,
        };
        for _ in 0..RACES_MAX {
            let target = room.file(Folder::Dead, &grave.name());
            content.died_at = match &grave {
                Grave::Envelope(name) => name.ended_at,
                Grave::Foreign(name) => name.ended_at,
            };
            let find = |path: &Path| room.disk.find(path).map_err(SpoolError::io("look at", path));
            if find(&target)?.is_some() {
                grave = grave.one_later();
                continue;
            }
            if find(&source)?.is_none() {
                return Ok(Moved::Gone);
            }
            write_reason(room, &target, &content)?;
            match room.disk.move_file(&source, &target).map_err(SpoolError::io("move to", &target))? {
                Moved::Yes => {
                    let folder = room.folder(Folder::Dead);
                    self.sync_folder(&folder)?;
                    return Ok(Moved::Yes);
                }
                Moved::Gone => {
                    // Whoever was quicker may have buried it under the same name, with this very reason.
                    if find(&target)?.is_none() {
                        room.disk.remove(&reason_path(&target)).ok();
                    }
                    return Ok(Moved::Gone);
                }
                Moved::Taken => grave = grave.one_later(),
            }
        }
        Ok(Moved::Taken)
    }
}

fn write_reason(room: &Room, target: &Path, reason: &DeadReason) -> Result<(), SpoolError> {
    let path = reason_path(target);
    let written = serde_json::to_vec(reason).map_err(std::io::Error::from).and_then(|mut bytes| {
        bytes.push(b'\n');
        room.replace(&"reason", &path, &bytes)
    });
    written.map_err(SpoolError::io("write", &path))
}

/// Reads the reason beside a letter, if it can be read.
pub(super) fn reason_of(room: &Room, name: &str) -> Option<DeadReason> {
    match room.disk.read(&reason_path(&room.file(Folder::Dead, &name)), REASON_FILE_BYTES_MAX) {
        Ok(Content::Whole(bytes)) => serde_json::from_slice(&bytes).ok(),
        Ok(Content::Cut(_) | Content::NotAFile) | Err(_) => None,
    }
}

fn dead_letter(room: &Room, name: &str) -> DeadLetter {
    let reason = reason_of(room, name);
    let mut letter = DeadLetter {
        mailbox: room.mailbox.clone(),
        name: name.to_owned(),
        id: None,
        attempt: None,
        holder: None,
        died_at: None,
        reason,
    };
    if let Some(EndedName { stem, holder, ended_at }) = EndedName::parse(name) {
        letter.id = Some(stem.id);
        letter.attempt = Some(stem.attempt);
        letter.holder = holder;
        letter.died_at = Some(ended_at);
    } else if let Some(BadName { ended_at, .. }) = BadName::parse(name) {
        letter.died_at = Some(ended_at);
    }
    letter
}

/// Names the first attempt of the next round: every round has as many attempts as a new envelope. Who requeues an envelope
/// means it whatever its time, so [`super::expiry`] counts in the first round only.
fn next_round(stem: Stem, envelope: &Envelope) -> Stem {
    let round = envelope.attempts_max.max(1);
    let rounds = stem.attempt.div_ceil(round);
    Stem { attempt: rounds.saturating_mul(round).saturating_add(1), ..stem }
}

/// Says whether a file in `dead/` is a reason and not a letter.
pub(super) fn is_reason(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(REASON_SUFFIX.as_bytes())
}

/// Returns the letter that a reason belongs to.
pub(super) fn letter_of(reason: &Path) -> Option<PathBuf> {
    Some(reason.with_file_name(reason.file_name()?.to_str()?.strip_suffix(REASON_SUFFIX)?))
}

/// Returns where the reason of a letter lies.
pub(super) fn reason_path(letter: &Path) -> PathBuf {
    let mut path = letter.as_os_str().to_owned();
    path.push(REASON_SUFFIX);
    path.into()
}

/// Cuts a reason to its bound, between two characters.
pub(super) fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}
