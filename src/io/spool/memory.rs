//! What a process remembers of its last look at each mailbox, so that not every lease lists thousands of names.
//!
//! It is only ever a hint. A name that is gone is skipped, an answer "nothing waits" is given only after a fresh look,
//! and an old look is forgotten (see [`super::limits::Limits::listing_age_max`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::model::id::Mailbox;
use crate::model::time::Timestamp;

use super::fault::SpoolError;
use super::gate::{Gate, lock};
use super::lease::{Ask, Leased};
use super::line::Line;
use super::name::Stem;

/// How long a count of a mailbox is good enough to accept envelopes by.
const COUNT_AGE_MAX: Duration = Duration::from_secs(1);

/// For every so many envelopes a look is good for its time once more, so that looking stays a small part of leasing.
const LOOK_ENVELOPES: u32 = 2_000;

/// What is remembered of all mailboxes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    mailboxes: Mutex<BTreeMap<Mailbox, Arc<Known>>>,
}

impl Memory {
    /// Returns what is remembered of a mailbox.
    pub(super) fn of(&self, mailbox: &Mailbox) -> Arc<Known> {
        let mut mailboxes = lock(&self.mailboxes);
        match mailboxes.get(mailbox) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(mailboxes.entry(mailbox.clone()).or_default()),
        }
    }
}

/// What is remembered of one mailbox.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Where the threads of this process meet that want to lease something.
    pub(super) asks: Gate<Ask, Result<Vec<Leased>, SpoolError>>,
    seen: Mutex<Seen>,
    news: Mutex<News>,
    counted: Mutex<Counted>,
}

/// How many envelopes wait or are leased, about.
#[derive(Debug, Default)]
struct Counted {
    last: Option<(Timestamp, usize)>,
    /// What came through this process since it told the others.
    pending: usize,
}

/// What this process did since its last look.
#[derive(Debug, Default)]
struct News {
    /// The first, in their order, of those that it put where they wait.
    came: Option<Stem>,
    /// When the first of those that it leased, extended or put off is due.
    due: Option<Timestamp>,
}

impl Known {
    /// Returns what was seen at the last look. Only who leases needs it, one after another.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        let mut seen = lock(&self.seen);
        let News { came, due } = std::mem::take(&mut *lock(&self.news));
        seen.came = seen.came.into_iter().chain(came).min();
        if let Some(look) = &mut seen.look {
            look.due = earliest(look.due, due);
        }
        seen
    }

    /// Enters that this process has put an envelope where it waits.
    pub(super) fn waits(&self, stem: Stem) {
        let mut news = lock(&self.news);
        news.came = Some(news.came.map_or(stem, |came| came.min(stem)));
    }

    /// Enters that something happens to an envelope at a time.
    pub(super) fn is_due(&self, at: Timestamp) {
        let mut news = lock(&self.news);
        news.due = earliest(news.due, Some(at));
    }

    /// Returns how many envelopes a young count gave, with those that came since through this process.
    pub(super) fn count(&self, now: Timestamp) -> Option<usize> {
        lock(&self.counted).last.filter(|(at, _)| *at <= now && now < *at + COUNT_AGE_MAX).map(|(_, count)| count)
    }

    /// Enters a new count.
    pub(super) fn counts(&self, at: Timestamp, count: usize) {
        lock(&self.counted).last = Some((at, count));
    }

    /// Enters that envelopes have come, which the others do not know of yet.
    pub(super) fn came(&self, more: usize) {
        let mut counted = lock(&self.counted);
        counted.pending += more;
        if let Some((_, count)) = &mut counted.last {
            *count += more;
        }
    }

    /// Returns what the others have not been told yet of what came through this process.
    pub(super) fn take_pending(&self) -> u64 {
        std::mem::take(&mut lock(&self.counted).pending) as u64
    }
}

/// What was seen of one mailbox.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) line: Line,
    look: Option<Look>,
    /// The first, in their order, of those that this process put where they wait since the last look. It joins the line
    /// with a look and not at once, because an older one of its lane that another process has sent may not be known yet.
    came: Option<Stem>,
    /// The mailbox's lock could not be had in time: somebody sits on it.
    pub(super) lock_is_stuck: bool,
    /// Something may have been given back that was never seen in `leased/`.
    pub(super) must_see_later: bool,
    /// The last look was followed by a feed.
    pub(super) was_followed: bool,
}

/// The last look at a mailbox.
#[derive(Debug)]
struct Look {
    at: Timestamp,
    /// How many there were: the larger the mailbox, the longer its look must last to be worth its price.
    size: u32,
    /// When the next lease ends or the next delayed envelope is due.
    due: Option<Timestamp>,
    /// What the mailbox's lock file said: it says something else when envelopes were taken back since.
    mark: Vec<u8>,
}

/// How far what was seen can be gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It still holds.
    Fresh,
    /// It still holds, but something in flight is due.
    Due,
    /// A look is needed.
    Stale,
}

impl Seen {
    /// Forgets the last look.
    pub(super) fn forget(&mut self) {
        self.look = None;
    }

    /// Forgets the last look, because changes since were not told.
    pub(super) fn lose(&mut self) {
        self.look = None;
        self.was_followed = false;
    }

    /// Enters that an envelope no longer waits, and was not claimed by us: it is in flight, or has been.
    pub(super) fn went(&mut self, stem: Stem) {
        if self.line.left(stem) || !self.line.flights().contains_key(&stem.id) {
            self.must_see_later = true;
        }
    }

    /// Says when the next lease ends or the next delayed envelope is due.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.look.as_ref()?.due
    }

    /// Enters, after what was due was taken back, when the next is.
    pub(super) fn due_next(&mut self, due: Option<Timestamp>) {
        if let Some(look) = &mut self.look {
            look.due = due;
        }
    }

    /// Says how far a look can be gone by that is kept up to date.
    pub(super) fn freshness_of_feed(&self, now: Timestamp) -> Freshness {
        match &self.look {
            None => Freshness::Stale,
            Some(look) if look.due.is_some_and(|due| due <= now) => Freshness::Due,
            Some(_) => Freshness::Fresh,
        }
    }

    /// Says whether the last look is young enough to go by.
    pub(super) fn is_fresh(&self, mark: &[u8], now: Timestamp, age_max: Duration) -> bool {
        self.look.as_ref().is_some_and(|look| {
            look.at <= now
                && now < look.at + age_max * (1 + look.size / LOOK_ENVELOPES)
                && look.due.is_none_or(|due| now < due)
                && look.mark == mark
        })
    }

    /// Enters a new look.
    pub(super) fn look(&mut self, at: Timestamp, mark: Vec<u8>, due: Option<Timestamp>) {
        let size = u32::try_from(self.line.len()).unwrap_or(u32::MAX);
        self.look = Some(Look { at, size, due, mark });
        self.came = None;
    }

    /// Says whether something came since the last look that goes before a candidate.
    pub(super) fn is_overtaken(&self, candidate: Stem) -> bool {
        self.came.is_some_and(|came| came < candidate)
    }

    /// Enters that something happens to an envelope at a time.
    pub(super) fn is_due(&mut self, at: Option<Timestamp>) {
        if let Some(look) = &mut self.look {
            look.due = earliest(look.due, at);
        }
    }
}

/// Returns the earlier of two times that may not be.
pub(super) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
