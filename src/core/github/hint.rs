//! Webhooks: hints that something was changed. What they name is looked at at once, the same way as at every poll; a hint that
//! cannot be followed is given up, because the next poll finds the change anyway.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::Core;
use crate::model::github::{Delivery, Found, Reach, Trouble};
use crate::model::id::RepositoryName;
use crate::model::time::Timestamp;

use super::{Asked, Call, GithubEffect, ROUND_MAX};

/// How many issues and pull requests are looked at together.
const TOGETHER_MAX: usize = 20;

/// How many of one repository may wait to be looked at; when there are more, everything that was changed is asked for.
const WAITING_MAX: usize = 200;

/// The hints of one repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Hints {
    /// What waits to be looked at, and the deliveries that have named it.
    waiting: BTreeMap<u64, BTreeSet<String>>,
    /// What is being looked at: the question, and the deliveries.
    under_way: Option<(Asked, BTreeSet<String>)>,
}

impl Hints {
    /// Says when something here is due, given that nothing may be asked before a time.
    pub(super) fn due(&self, paused_until: Timestamp) -> Option<Timestamp> {
        match &self.under_way {
            Some((asked, _)) => Some(asked.deadline),
            None => (!self.waiting.is_empty() && paused_until > Timestamp::EPOCH).then_some(paused_until),
        }
    }

    pub(super) const fn is_looking(&self) -> bool {
        self.under_way.is_some()
    }

    fn deliveries(&self) -> BTreeSet<String> {
        let under_way = self.under_way.iter().flat_map(|(_, ids)| ids);
        self.waiting.values().flatten().chain(under_way).cloned().collect()
    }
}

impl Core {
    /// Takes in that something was changed.
    pub(super) fn on_hinted(&mut self, delivery: Delivery) {
        let named = self.plan.repositories.iter().find(|repository| {
            repository.github.as_ref().is_some_and(|on| on.slug.as_str().eq_ignore_ascii_case(delivery.slug.as_str()))
        });
        let Some(name) = named.map(|repository| repository.name.clone()) else {
            // Nobody here works in it.
            return self.settle_hints(BTreeSet::from([delivery.id]));
        };
        let hints = self.github.hints.entry(name.clone()).or_default();
        if hints.deliveries().contains(&delivery.id) {
            return;
        }
        if hints.waiting.len() >= WAITING_MAX {
            return self.give_up_hints(&name, BTreeSet::from([delivery.id]));
        }
        for number in delivery.numbers {
            hints.waiting.entry(number).or_default().insert(delivery.id.clone());
        }
    }

    /// Looks at what was hinted at.
    pub(super) fn begin_hints(&mut self) {
        let now = self.now;
        if self.github.paused.is_some() {
            return;
        }
        let names: Vec<RepositoryName> = self.github.hints.keys().cloned().collect();
        for name in names {
            // An older answer must never come after a newer one, so only one of them is waited for.
            let is_asked = self.is_in_round(&name) || self.is_watching(&name);
            let Some(hints) = self.github.hints.get_mut(&name) else { continue };
            if let Some((_, ids)) = hints.under_way.take_if(|(asked, _)| asked.deadline <= now) {
                self.give_up_hints(&name, ids);
                continue;
            }
            if is_asked || hints.is_looking() || hints.waiting.is_empty() {
                continue;
            }
            let numbers: Vec<u64> = hints.waiting.keys().copied().take(TOGETHER_MAX).collect();
            let Some(mut what) = self.discovery(&name, Reach::These(numbers.clone())) else {
                self.github.hints.remove(&name);
                continue;
            };
            what.pulls.retain(|pull| numbers.contains(pull));
            if let Some(hints) = self.github.hints.get_mut(&name) {
                let ids = numbers.iter().filter_map(|number| hints.waiting.remove(number)).flatten().collect();
                let asked = Asked { at: now, deadline: now + ROUND_MAX, all: false };
                hints.under_way = Some((asked, ids));
            }
            self.push_github(GithubEffect::LookAt { repository: name, what });
        }
    }

    pub(super) fn on_looked_at(&mut self, name: &RepositoryName, asked: Timestamp, found: Result<Box<Found>, Trouble>) {
        let Some(repository) = self.plan.repository(name).cloned() else { return };
        let Some(hints) = self.github.hints.get_mut(name) else { return };
        let Some((_, ids)) = hints.under_way.take_if(|(under_way, _)| under_way.at == asked) else { return };
        match found {
            Ok(found) => {
                self.github.limited.remove(&Call::Question);
                self.take(&repository, &found, false);
                // What was found is recorded before this: a crash in between has it looked at once more.
                self.settle_hints(ids);
            }
            Err(trouble) => {
                if let Trouble::Limited { until, reason } = &trouble {
                    self.pause(Call::Question, *until, reason);
                }
                self.give_up_hints(name, ids);
            }
        }
    }

    /// Leaves it to the next poll, which is due at once, to find what has changed.
    fn give_up_hints(&mut self, name: &RepositoryName, ids: BTreeSet<String>) {
        if let Some(round) = self.github.rounds.get_mut(name) {
            round.next = round.next.min(self.now);
        }
        self.settle_hints(ids);
    }

    fn settle_hints(&mut self, ids: BTreeSet<String>) {
        // One delivery can name several issues; it is settled with the last of them.
        let waiting: BTreeSet<String> = self.github.hints.values().flat_map(Hints::deliveries).collect();
        let ids: Vec<String> = ids.into_iter().filter(|id| !waiting.contains(id)).collect();
        if !ids.is_empty() {
            self.push_github(GithubEffect::Settle { ids });
        }
    }
}
