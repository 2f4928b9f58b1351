//! Looking at mailboxes without changing anything.

use serde::Serialize;

use crate::model::envelope::Envelope;
use crate::model::id::{EnvelopeId, Mailbox};
use crate::model::task::Priority;
use crate::model::time::Timestamp;

use super::fault::SpoolError;
use super::holder::Holder;
use super::load::{Loaded, load_as};
use super::name::{EndedName, Folder, LaterName, LeasedName, Stem};
use super::receipt::Receipt;
use super::{RACES_MAX, Room, Spool};

/// How often a mailbox is searched for an envelope that was not found: one may slip back past a running search.
const SEARCHES_MAX: usize = 3;

/// An envelope as its folder and name describe it; its content was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The envelope.
    pub id: EnvelopeId,
    /// Its state.
    pub folder: Folder,
    /// Its name in that folder.
    pub name: String,
    /// How urgent it is.
    pub priority: Priority,
    /// The number of the attempt: the next one in `new/` and `later/`, this one in `leased/`, the last one elsewhere.
    pub attempt: u32,
    /// Who holds it, or held it when it ended.
    pub holder: Option<Holder>,
    /// When the lease ends, or when it may be leased.
    pub until: Option<Timestamp>,
    /// When it was acknowledged or given up.
    pub ended_at: Option<Timestamp>,
}

impl Listed {
    /// Reads a name as it is written in a folder; `None` if it is foreign.
    pub(super) fn parse(folder: Folder, name: &str) -> Option<Self> {
        let (stem, holder, until, ended_at) = match folder {
            Folder::New => (Stem::parse(name)?, None, None, None),
            Folder::Later => {
                let LaterName { not_before, stem } = LaterName::parse(name)?;
                (stem, None, Some(not_before), None)
            }
            Folder::Leased => {
                let LeasedName { stem, holder, until } = LeasedName::parse(name)?;
                (stem, Some(holder), Some(until), None)
            }
            Folder::Done | Folder::Dead => {
                let EndedName { stem, holder, ended_at } = EndedName::parse(name)?;
                (stem, holder, None, Some(ended_at))
            }
        };
        let Stem { priority, id, attempt } = stem;
        Some(Self { id, folder, name: name.to_owned(), priority, attempt, holder, until, ended_at })
    }

    /// Returns the name that all folders have in common.
    #[must_use]
    pub const fn stem(&self) -> Stem {
        Stem { priority: self.priority, id: self.id, attempt: self.attempt }
    }

    /// Returns the receipt of the lease, if the envelope is leased.
    #[must_use]
    pub fn receipt(&self, mailbox: &Mailbox) -> Option<Receipt> {
        match self.folder {
            Folder::Leased => Some(Receipt { mailbox: mailbox.clone(), name: LeasedName::parse(&self.name)? }),
            Folder::New | Folder::Later | Folder::Done | Folder::Dead => None,
        }
    }
}

/// How many files lie in each folder of a mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Waiting.
    pub new: usize,
    /// In somebody's hands.
    pub leased: usize,
    /// Waiting for a time.
    pub later: usize,
    /// Acknowledged, and not cleared away yet.
    pub done: usize,
    /// Given up, and not cleared away yet.
    pub dead: usize,
    /// How many messages of senders that flood were slowed, ever, as far as it was noted.
    pub slowed: u64,
}

impl Spool {
    /// Lists the mailboxes, in the order of their names.
    ///
    /// # Errors
    /// Fails if the spool's folder, or one in it, cannot be looked at.
    pub fn mailboxes(&self) -> Result<Vec<Mailbox>, SpoolError> {
        let names = self.shared.disk.visible_names(self.root()).map_err(SpoolError::io("list", self.root()))?;
        let mut mailboxes: Vec<Mailbox> = Vec::new();
        for mailbox in names.iter().filter_map(|name| name.to_str()?.parse().ok()) {
            let base = self.room(&mailbox).base;
            if self.shared.disk.is_folder(&base).map_err(SpoolError::io("look at", &base))? {
                mailboxes.push(mailbox);
            }
        }
        mailboxes.sort();
        Ok(mailboxes)
    }

    /// Lists a mailbox from its names alone: state by state, each by priority and age.
    ///
    /// Envelopes that move during the look are listed once, where they were seen last, or not at all.
    ///
    /// # Errors
    /// Fails if a folder cannot be read.
    pub fn list(&self, mailbox: &Mailbox) -> Result<Vec<Listed>, SpoolError> {
        let room = self.room(mailbox);
        let mut seen = std::collections::BTreeMap::new();
        for folder in Folder::ALL {
            for listed in list_folder(&room, folder)? {
                seen.insert(listed.id, listed);
            }
        }
        let mut all: Vec<Listed> = seen.into_values().collect();
        all.sort_by(|a, b| (a.folder, &a.name).cmp(&(b.folder, &b.name)));
        Ok(all)
    }

    /// Lists what has not ended in a mailbox whose only reader needs no leases, oldest first within a priority.
    ///
    /// # Errors
    /// Fails if a folder cannot be read.
    pub fn waiting(&self, mailbox: &Mailbox) -> Result<Vec<Listed>, SpoolError> {
        let room = self.room(mailbox);
        let mut all = list_folder(&room, Folder::New)?;
        all.extend(list_folder(&room, Folder::Leased)?);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Counts what lies in the folders of a mailbox.
    ///
    /// # Errors
    /// Fails if a folder cannot be read.
    pub fn counts(&self, mailbox: &Mailbox) -> Result<Counts, SpoolError> {
        let room = self.room(mailbox);
        let count = |folder| {
            let path = room.folder(folder);
            let names = room.disk.visible_names(&path).map_err(SpoolError::io("list", &path))?;
            Ok(names.iter().filter(|name| !super::dead::is_reason(name)).count())
        };
        Ok(Counts {
            later: count(Folder::Later)?,
            new: count(Folder::New)?,
            leased: count(Folder::Leased)?,
            done: count(Folder::Done)?,
            dead: count(Folder::Dead)?,
            slowed: super::pace::slowed(&room),
        })
    }

    /// Finds out where an envelope lies.
    ///
    /// # Errors
    /// Fails if a folder cannot be read.
    pub fn locate(&self, mailbox: &Mailbox, id: EnvelopeId) -> Result<Option<Listed>, SpoolError> {
        let room = self.room(mailbox);
        for _ in 0..SEARCHES_MAX {
            // In the order in which envelopes go: one that moves on during the search is met again further on.
            for folder in Folder::ALL {
                if let Some(listed) = find(&room, folder, id)? {
                    return Ok(Some(listed));
                }
            }
        }
        Ok(None)
    }

    /// Reads an envelope wherever it lies.
    ///
    /// # Errors
    /// Fails if it is there and cannot be read or believed.
    pub fn read(&self, mailbox: &Mailbox, id: EnvelopeId) -> Result<Option<Envelope>, SpoolError> {
        let room = self.room(mailbox);
        for _ in 0..RACES_MAX {
            let Some(listed) = self.locate(mailbox, id)? else { return Ok(None) };
            let path = room.file(listed.folder, &listed.name);
            match load_as(&room, &path, id, self.limits().envelope_bytes_max)? {
                Loaded::Good(envelope) => return Ok(Some(*envelope)),
                Loaded::Bad(source) => return Err(SpoolError::Unreadable { path, source }),
                Loaded::Unread(fault) => return Err(fault),
                Loaded::Gone => {}
            }
        }
        Err(SpoolError::Restless { mailbox: mailbox.clone(), id })
    }
}

/// Lists the envelopes of one folder, in no order, without what is foreign.
pub(super) fn list_folder(room: &Room, folder: Folder) -> Result<Vec<Listed>, SpoolError> {
    let path = room.folder(folder);
    let names = room.disk.visible_names(&path).map_err(SpoolError::io("list", &path))?;
    Ok(names.iter().filter_map(|name| Listed::parse(folder, name.to_str()?)).collect())
}

fn find(room: &Room, folder: Folder, id: EnvelopeId) -> Result<Option<Listed>, SpoolError> {
    let path = room.folder(folder);
    let names = room.disk.visible_names(&path).map_err(SpoolError::io("list", &path))?;
    let text = id.to_string();
    Ok(names
        .iter()
        .filter_map(|name| name.to_str())
        .filter(|name| name.contains(&text))
        .find_map(|name| Listed::parse(folder, name)))
}
