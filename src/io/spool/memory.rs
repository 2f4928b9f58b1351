//! What a process remembers of its last look at each mailbox, so that not every lease lists thousands of names.
//!
//! It is only ever a hint. A name that is gone is skipped, an answer "nothing waits" is given only after a fresh look,
//! and an old look is forgotten (see [`super::limits::Limits::listing_age_max`]). What this process does itself is
//! entered at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::id::Mailbox;
use crate::model::time::Timestamp;

use super::name::Stem;

/// How long a count of a mailbox is good enough to accept envelopes by.
const COUNT_AGE_MAX: Duration = Duration::from_secs(1);

/// How many waiting envelopes of one mailbox are remembered; beyond, the look is forgotten.
const WAITING_MAX: usize = 200_000;

/// For every so many envelopes a look is good for its time once more, so that looking stays a small part of leasing.
const LOOK_ENVELOPES: u32 = 2_000;

/// What is remembered of all mailboxes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    mailboxes: Mutex<BTreeMap<Mailbox, Arc<Mutex<Known>>>>,
}

impl Memory {
    /// Returns what is remembered of a mailbox.
    pub(super) fn of(&self, mailbox: &Mailbox) -> Arc<Mutex<Known>> {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        match mailboxes.get(mailbox) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(mailboxes.entry(mailbox.clone()).or_default()),
        }
    }
}

/// Locks what is remembered of a mailbox.
pub(super) fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is remembered of one mailbox.
#[derive(Debug, Default)]
pub(super) struct Known {
    look: Option<Look>,
    counted: Option<(Timestamp, usize)>,
}

/// The last look at a mailbox.
#[derive(Debug)]
struct Look {
    at: Timestamp,
    waiting: BTreeSet<Stem>,
    /// How many there were: the larger the mailbox, the longer its look must last to be worth its price.
    size: u32,
    /// When the next lease ends or the next delayed envelope is due.
    due: Option<Timestamp>,
}

impl Known {
    /// Says whether the last look is young enough to go by.
    pub(super) fn is_fresh(&self, now: Timestamp, age_max: Duration) -> bool {
        self.look.as_ref().is_some_and(|look| {
            look.at <= now
                && now < look.at + age_max * (1 + look.size / LOOK_ENVELOPES)
                && look.due.is_none_or(|due| now < due)
        })
    }

    /// Enters a new look.
    pub(super) fn see(&mut self, at: Timestamp, waiting: BTreeSet<Stem>, due: Option<Timestamp>) {
        let size = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        self.look = Some(Look { at, waiting, size, due });
    }

    /// Takes the first envelope that should be waiting.
    pub(super) fn pop(&mut self) -> Option<Stem> {
        self.look.as_mut()?.waiting.pop_first()
    }

    /// Enters that an envelope has come to wait.
    pub(super) fn waits(&mut self, stem: Stem) {
        match &mut self.look {
            Some(look) if look.waiting.len() < WAITING_MAX => {
                look.waiting.insert(stem);
            }
            Some(_) => self.look = None,
            None => {}
        }
    }

    /// Enters that something happens to an envelope at a time.
    pub(super) fn is_due(&mut self, at: Timestamp) {
        if let Some(look) = &mut self.look {
            look.due = Some(look.due.map_or(at, |due| due.min(at)));
        }
    }

    /// Returns how many envelopes a young count gave, with those that came since through this process.
    pub(super) fn count(&self, now: Timestamp) -> Option<usize> {
        self.counted.filter(|(at, _)| *at <= now && now < *at + COUNT_AGE_MAX).map(|(_, count)| count)
    }

    /// Enters a new count.
    pub(super) const fn counts(&mut self, at: Timestamp, count: usize) {
        self.counted = Some((at, count));
    }

    /// Enters that envelopes have come.
    pub(super) fn came(&mut self, more: usize) {
        if let Some((_, count)) = &mut self.counted {
            *count += more;
        }
    }
}
