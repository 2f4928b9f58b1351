//! Whose turn it is: what waits in a mailbox, and what in flight holds it back. Pure.
//!
//! Envelopes of one **order group** and one priority form a lane. The next of a lane is given out only when none that is
//! older is in flight: leased, or waiting in `later/` for another attempt. An envelope that was requeued after its last
//! attempt is exempt: its lane went on long ago.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::envelope::Envelope;
use crate::model::id::EnvelopeId;
use crate::model::task::Priority;

use super::name::Stem;

/// What of an envelope's content decides about its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    group: Arc<str>,
    attempts_max: u32,
}

impl Terms {
    pub(super) fn of(envelope: &Envelope) -> Self {
        Self { group: envelope.order_group().into(), attempts_max: envelope.attempts_max.max(1) }
    }

    /// Says whether the envelope was requeued after its last attempt.
    const fn is_exempt(&self, stem: Stem) -> bool {
        stem.attempt > self.attempts_max
    }
}

type Lane = (Priority, Arc<str>);

/// What became of a candidate once its content was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may be given out.
    Its,
    /// It waits for one that is in flight, and will not be offered before that has landed.
    Held,
    /// This one must be read first: it may be of the same lane, and is older.
    After(Stem),
}

/// What is known of a mailbox's waiting envelopes, and of those in flight.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Waiting; nobody has looked yet which lane they belong to.
    unread: BTreeSet<Stem>,
    /// Waiting, each in its lane: they were held back once.
    lanes: BTreeMap<Lane, BTreeSet<Stem>>,
    /// The terms of those in the lanes.
    read: BTreeMap<EnvelopeId, Terms>,
    /// Came while the mailbox was listed, so an older one of their lane may have been missed. They are not given out
    /// yet, but hold back what is younger.
    newcomers: BTreeMap<Stem, Option<Terms>>,
    /// Given out, or waiting for another attempt.
    flights: BTreeMap<EnvelopeId, Stem>,
    /// The terms of those that can be read.
    flying: BTreeMap<EnvelopeId, Terms>,
    /// The oldest flight of each lane.
    blocked: BTreeMap<Lane, EnvelopeId>,
}

impl Line {
    /// Takes a new listing of what waits. What was read of it before need not be read again.
    pub(super) fn list(&mut self, waiting: BTreeSet<Stem>, newcomers: BTreeSet<Stem>) {
        let read = std::mem::take(&mut self.read);
        self.lanes.clear();
        self.unread.clear();
        for stem in waiting {
            match read.get(&stem.id) {
                Some(terms) => self.hold(stem, terms.clone()),
                None => {
                    self.unread.insert(stem);
                }
            }
        }
        self.newcomers = newcomers.into_iter().map(|stem| (stem, None)).collect();
    }

    /// Enters that an envelope has come to wait, after all that came before it.
    pub(super) fn came(&mut self, stem: Stem) {
        self.newcomers.remove(&stem);
        if !self.read.contains_key(&stem.id) {
            self.unread.insert(stem);
        }
    }

    /// Enters that an envelope no longer waits. Says whether it was thought to.
    pub(super) fn left(&mut self, stem: Stem) -> bool {
        let mut was_known = self.unread.remove(&stem) | self.newcomers.remove(&stem).is_some();
        if let Some(terms) = self.read.get(&stem.id) {
            let lane = (stem.priority, Arc::clone(&terms.group));
            if let Some(waiting) = self.lanes.get_mut(&lane)
                && waiting.remove(&stem)
            {
                was_known = true;
                if waiting.is_empty() {
                    self.lanes.remove(&lane);
                }
                self.read.remove(&stem.id);
            }
        }
        was_known
    }

    /// Says whether nothing was known of an envelope that waits.
    pub(super) fn is_news(&self, stem: Stem) -> bool {
        !self.unread.contains(&stem) && !self.newcomers.contains_key(&stem) && !self.read.contains_key(&stem.id)
    }

    /// Says how many wait.
    pub(super) fn len(&self) -> usize {
        self.unread.len() + self.newcomers.len() + self.read.len()
    }

    /// Says which envelope stands first of those that nothing is known to hold back.
    pub(super) fn first(&self) -> Option<Stem> {
        let of_lanes = self.lanes.iter().filter_map(|(lane, waiting)| {
            let first = *waiting.first()?;
            (!self.is_blocked(lane, first)).then_some(first)
        });
        of_lanes.chain(self.unread.first().copied()).min()
    }

    /// Decides about a candidate whose content was read.
    pub(super) fn judge(&mut self, stem: Stem, terms: &Terms) -> Turn {
        if terms.is_exempt(stem) {
            return Turn::Its;
        }
        let older = self.newcomers.range(..stem).find(|(newcomer, theirs)| {
            let may_be_of_the_lane = theirs.as_ref().is_none_or(|theirs| theirs.group == terms.group);
            newcomer.priority == stem.priority && may_be_of_the_lane
        });
        if let Some((older, _)) = older {
            return Turn::After(*older);
        }
        if self.is_blocked(&(stem.priority, Arc::clone(&terms.group)), stem) {
            self.unread.remove(&stem);
            self.hold(stem, terms.clone());
            return Turn::Held;
        }
        Turn::Its
    }

    /// Enters the terms of a newcomer that is older than a candidate. If it is of the candidate's lane, it came before the
    /// listing that showed the candidate had ended, and so did all before it: it may be given out itself.
    pub(super) fn meet(&mut self, newcomer: Stem, theirs: Terms, candidate: &Terms) {
        if theirs.group == candidate.group {
            self.came(newcomer);
        } else {
            self.newcomers.insert(newcomer, Some(theirs));
        }
    }

    /// Enters what is in flight, with the terms of those that can be read.
    pub(super) fn fly(&mut self, flights: BTreeMap<EnvelopeId, Stem>, news: Vec<(EnvelopeId, Terms)>) {
        self.flights = flights;
        self.flying.extend(news);
        self.flying.retain(|id, _| self.flights.contains_key(id));
        self.blocked.clear();
        for (id, stem) in &self.flights {
            if let Some(terms) = self.flying.get(id).filter(|terms| !terms.is_exempt(*stem)) {
                // Ids ascend, so the first of a lane is its oldest.
                self.blocked.entry((stem.priority, Arc::clone(&terms.group))).or_insert(*id);
            }
        }
    }

    /// Enters an envelope that was just given out: it holds back what is younger of its lane.
    pub(super) fn departs(&mut self, stem: Stem, terms: Terms) {
        if !terms.is_exempt(stem) {
            let oldest = self.blocked.entry((stem.priority, Arc::clone(&terms.group))).or_insert(stem.id);
            *oldest = (*oldest).min(stem.id);
        }
        self.flights.insert(stem.id, stem);
        self.flying.insert(stem.id, terms);
    }

    /// Returns what is known to be in flight.
    pub(super) const fn flights(&self) -> &BTreeMap<EnvelopeId, Stem> {
        &self.flights
    }

    /// Says whether an envelope in flight must be read, because its terms are not known.
    pub(super) fn is_unknown(&self, id: EnvelopeId) -> bool {
        !self.flying.contains_key(&id)
    }

    fn is_blocked(&self, lane: &Lane, stem: Stem) -> bool {
        self.blocked.get(lane).is_some_and(|oldest| *oldest < stem.id)
    }

    fn hold(&mut self, stem: Stem, terms: Terms) {
        self.lanes.entry((stem.priority, Arc::clone(&terms.group))).or_default().insert(stem);
        self.read.insert(stem.id, terms);
    }
}
