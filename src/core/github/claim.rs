//! Claims: an issue is worked on by one orchestra, and GitHub says which. Nothing is begun, published or said of an issue without a claim
//! that holds; one that was lost stops the work.
//!
//! A claim is looked for, then made, then looked at: it holds only when it was seen to count. It is believed in no longer than its lease
//! from before its last edit was sent, so it has always ended here before anybody else takes it for ended.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::Core;
use crate::core::restart;
use crate::core::state::{Phase, TaskRecord};
use crate::model::alert::{Alert, AlertKind};
use crate::model::claim::{ClaimLine, Claimant, Claims, Hold, Holder};
use crate::model::github::{ClaimKind, Trouble, WriteKind};
use crate::model::github_view::ClaimView;
use crate::model::id::{OrchestraId, TaskId};
use crate::model::span::DAY;
use crate::model::time::Timestamp;

use super::intake::is_of_issue;
use super::state::{Claim, GithubFact};
use super::{Call, GithubEffect, ROUND_MAX, Writing, fence, outbox, report};

/// How many issues are looked at at once to see who works on them.
const LOOKS_MAX: usize = 10;

/// How long it is believed that nobody works on an issue.
const FREE_MAX: Duration = Duration::from_secs(60);

/// How long a claim lives whose pull request waits for people: it is renewed rarely, and nothing is lost if it takes long until
/// somebody else looks after it.
const RESTING_LEASE: Duration = DAY;

/// What is known of a claim that is wanted, for as long as this process lives.
#[derive(Debug, Clone)]
pub(super) enum Claiming {
    /// The issue is to be looked at.
    Wanted {
        at: Timestamp,
        times: u32,
        /// Why the last look failed.
        reason: String,
    },
    /// It is being looked at.
    Looking { asked: Timestamp, times: u32 },
    /// Nobody works on it.
    Free { since: Timestamp, over: BTreeSet<u64> },
    /// Another orchestra works on it.
    Elsewhere {
        by: OrchestraId,
        /// When its claim ends unless it is renewed; absent: it has done the work.
        until: Option<Timestamp>,
        again_at: Timestamp,
    },
}

/// Whether work on a task may go on, as far as other orchestras are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::core) enum Standing {
    /// It needs no claim.
    Needless,
    /// Its claim holds.
    Held,
    /// It is not known to be claimed by anybody.
    Open,
    /// Another orchestra works on it.
    Elsewhere,
}

impl Core {
    /// Returns the name of this orchestra: every root has its own, for as long as it keeps its journal.
    #[must_use]
    pub fn orchestra(&self) -> OrchestraId {
        let text = format!("o{:016x}", restart::hash(self.durable.seed, "orchestra", 0));
        OrchestraId::new(text).expect("a letter and hexadecimal digits are a name")
    }

    pub(super) fn claimant(&self, task: &TaskId) -> Option<Claimant> {
        Some(Claimant { orchestra: self.orchestra(), run: self.durable.tasks.get(task)?.run })
    }

    pub(super) fn needs_claim(&self, task: &TaskId) -> bool {
        self.plan.github.claim != ClaimKind::None
            && self.durable.github.tasks.get(task).is_some_and(|on| on.issue.is_some())
            && self.durable.tasks.get(task).is_some_and(is_of_issue)
            && self.repository_of(task).is_some_and(|repository| repository.github.is_some())
    }

    /// Returns the claim of a task's run, as long as it holds.
    pub(super) fn held(&self, task: &TaskId) -> Option<&Claim> {
        let run = self.durable.tasks.get(task)?.run;
        let claim = self.durable.github.tasks.get(task)?.claim.as_ref()?;
        (claim.run == run && claim.until > self.now).then_some(claim)
    }

    /// Says how a task stands among orchestras.
    pub(in crate::core) fn standing(&self, task: &TaskId) -> Standing {
        if !self.needs_claim(task) {
            return Standing::Needless;
        }
        if self.held(task).is_some() {
            return Standing::Held;
        }
        match self.github.claims.get(task) {
            Some(Claiming::Elsewhere { again_at, .. }) if *again_at > self.now => Standing::Elsewhere,
            Some(
                Claiming::Elsewhere { .. } | Claiming::Wanted { .. } | Claiming::Looking { .. } | Claiming::Free { .. },
            )
            | None => Standing::Open,
        }
    }

    /// Says whether work on a task may be begun or published now.
    pub(in crate::core) fn may_go_on(&self, task: &TaskId) -> bool {
        matches!(self.standing(task), Standing::Needless | Standing::Held)
    }

    /// Says whether a claim is on its way without trouble, so that it is worth to wait for it.
    pub(in crate::core) fn is_claimed_soon(&self, task: &TaskId) -> bool {
        let matters = |kind: WriteKind| kind != WriteKind::Label;
        let is_troubled = self.github.again.keys().any(|(of, kind)| of == task && matters(*kind));
        let is_troubled = is_troubled || self.github.paused.is_some();
        let is_late = matches!(self.github.claims.get(task), Some(Claiming::Wanted { times: 1.., .. }));
        !is_troubled && !is_late
    }

    /// Has issues claimed.
    pub(in crate::core) fn want_claims(&mut self, tasks: Vec<TaskId>) {
        let now = self.now;
        for task in tasks {
            if self.standing(&task) != Standing::Open {
                continue;
            }
            let known = self.github.claims.get(&task);
            if matches!(known, None | Some(Claiming::Elsewhere { .. })) {
                self.github.claims.insert(task, Claiming::Wanted { at: now, times: 0, reason: String::new() });
            }
        }
    }

    /// Has an issue looked at although its claim seems to hold.
    pub(super) fn doubt_claim(&mut self, task: &TaskId) {
        if self.needs_claim(task) {
            let wanted = Claiming::Wanted { at: self.now, times: 0, reason: String::new() };
            self.github.claims.insert(task.clone(), wanted);
        }
    }

    /// Notes which tasks have a claim, so that these are renewed.
    pub(super) fn note_claimed(&mut self, task: &TaskId) {
        let is_claimed = self.durable.github.tasks.get(task).is_some_and(|on| on.claim.is_some());
        if is_claimed {
            self.github.claimed.insert(task.clone());
        } else {
            self.github.claimed.remove(task);
        }
    }

    /// Says whether something is to be said or done for a task that needs a claim for it.
    pub(super) fn must_claim_first(&self, task: &TaskId) -> bool {
        let (Some(record), Some(on)) = (self.durable.tasks.get(task), self.durable.github.tasks.get(task)) else {
            return false;
        };
        if record.is_settled() || self.standing(task) != Standing::Open {
            return false;
        }
        let is_under_way = match record.phase {
            Phase::Queued | Phase::Merging { .. } => true,
            Phase::Waiting { .. } | Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => false,
        };
        let differs = |text: String| {
            let print = fence::print_of_text(&text);
            on.comment.as_ref().is_none_or(|(run, _, said)| *run != record.run || *said != print)
        };
        is_under_way || report::comment(self, task, record, on).is_some_and(differs)
    }

    /// Looks at issues that are to be claimed, and sees which claims must be renewed.
    pub(super) fn begin_claims(&mut self) {
        let now = self.now;
        let names: Vec<TaskId> = self.github.claims.keys().cloned().collect();
        for task in names {
            self.age_claim(&task);
        }
        let lapsed: Vec<TaskId> = self.github.claimed.iter().filter(|task| self.is_lapsed(task)).cloned().collect();
        self.want_claims(lapsed);
        let renewed: Vec<TaskId> = self.github.claimed.iter().filter(|task| self.is_worn(task)).cloned().collect();
        self.github.dirty.extend(renewed);
        if self.github.paused.is_some() {
            return;
        }
        let room = LOOKS_MAX.saturating_sub(self.looks());
        let due = self.github.claims.iter().filter_map(|(task, claiming)| match claiming {
            Claiming::Wanted { at, times, .. } if *at <= now => Some((task.clone(), *times)),
            Claiming::Wanted { .. } | Claiming::Looking { .. } | Claiming::Free { .. } | Claiming::Elsewhere { .. } => {
                None
            }
        });
        let due: Vec<(TaskId, u32)> = due.take(room).collect();
        for (task, times) in due {
            let Some(issue) = self.durable.github.tasks.get(&task).and_then(|on| on.issue.clone()) else { continue };
            self.github.claims.insert(task.clone(), Claiming::Looking { asked: now, times });
            self.push_github(GithubEffect::LookAtClaims { task, issue, asked: now });
        }
    }

    fn looks(&self) -> usize {
        self.github.claims.values().filter(|claiming| matches!(claiming, Claiming::Looking { .. })).count()
    }

    /// Gives up what is known of a claim when nobody wants it any more, or when it is known for too long.
    fn age_claim(&mut self, task: &TaskId) {
        let now = self.now;
        let is_wanted =
            self.durable.tasks.get(task).is_some_and(|record| !record.is_settled()) && self.needs_claim(task);
        let is_held = self.held(task).is_some();
        let is_written = self.github.writing.as_ref().is_some_and(|writing| writing.task == *task);
        let Some(claiming) = self.github.claims.get_mut(task) else { return };
        let is_over = match claiming {
            Claiming::Looking { asked, times } if *asked + ROUND_MAX <= now => {
                let reason = "GitHub did not answer in time".to_owned();
                *claiming = Claiming::Wanted { at: now, times: times.saturating_add(1), reason };
                false
            }
            Claiming::Free { since, .. } if *since + FREE_MAX <= now && !is_written && !is_held => {
                *claiming = Claiming::Wanted { at: now, times: 0, reason: String::new() };
                false
            }
            Claiming::Free { .. } => is_held,
            Claiming::Elsewhere { again_at, .. } => *again_at <= now || is_held,
            Claiming::Wanted { .. } | Claiming::Looking { .. } => false,
        };
        let is_elsewhere = matches!(claiming, Claiming::Elsewhere { .. });
        if is_over || !is_wanted && !is_elsewhere {
            self.github.claims.remove(task);
        }
    }

    fn claim_of_open(&self, task: &TaskId) -> Option<&Claim> {
        let record = self.durable.tasks.get(task).filter(|record| !record.is_settled())?;
        let claim = self.durable.github.tasks.get(task)?.claim.as_ref()?;
        (claim.run == record.run && self.needs_claim(task)).then_some(claim)
    }

    /// Says whether a claim is not believed in any more that should be. One that rests is looked at only when that matters.
    fn is_lapsed(&self, task: &TaskId) -> bool {
        self.claim_of_open(task).is_some_and(|claim| {
            let is_resting = claim.lease > self.plan.github.claim_lease && self.now < claim.renew_at();
            claim.until <= self.now && !is_resting
        })
    }

    /// Says whether half of a claim's lease is over.
    pub(super) fn is_worn(&self, task: &TaskId) -> bool {
        self.claim_of_open(task).is_some_and(|claim| claim.renew_at() <= self.now && self.now < claim.ends)
    }

    /// Says whether only a quarter of a claim's lease is left.
    pub(super) fn is_pressing(&self, task: &TaskId) -> bool {
        self.held(task).is_some_and(|claim| claim.ends.since(self.now) <= claim.lease / 4)
    }

    /// Says whether a claim is not worth to be renewed: nobody has begun, so others may.
    pub(super) fn lets_go(&self, task: &TaskId) -> bool {
        let record = self.durable.tasks.get(task);
        let is_idle =
            record.is_some_and(|record| matches!(record.phase, Phase::Waiting { .. }) && record.current().is_none());
        is_idle && self.is_worn(task)
    }

    /// Returns when something here is due next.
    pub(super) fn claim_wake(&self, paused: Timestamp) -> Option<Timestamp> {
        let room = self.looks() < LOOKS_MAX;
        let looks = self.github.claims.iter().filter_map(|(task, claiming)| match claiming {
            Claiming::Wanted { at, .. } => room.then(|| (*at).max(paused)),
            Claiming::Looking { asked, .. } => Some(*asked + ROUND_MAX),
            Claiming::Free { since, .. } => {
                let is_written = self.github.writing.as_ref().is_some_and(|writing| writing.task == *task);
                (!is_written).then(|| *since + FREE_MAX)
            }
            Claiming::Elsewhere { again_at, .. } => Some(*again_at),
        });
        let now = self.now;
        let claimed = self.github.claimed.iter().filter_map(|task| self.claim_of_open(task));
        let claimed = claimed.flat_map(|claim| [claim.renew_at(), claim.until, claim.ends]).filter(|at| *at > now);
        looks.chain(claimed).min()
    }

    /// Takes in who works on an issue.
    pub(super) fn on_claims_seen(&mut self, task: &TaskId, asked: Timestamp, seen: Result<Claims, Trouble>) {
        let times = match self.github.claims.get(task) {
            Some(Claiming::Looking { asked: under_way, times }) if *under_way == asked => *times,
            Some(
                Claiming::Looking { .. } | Claiming::Wanted { .. } | Claiming::Free { .. } | Claiming::Elsewhere { .. },
            )
            | None => return,
        };
        match seen {
            Ok(claims) => {
                self.github.limited.remove(&Call::Question);
                self.judge_claims(task, &claims, asked, None);
            }
            Err(trouble) => {
                let times = times.saturating_add(1);
                let wait = match &trouble {
                    Trouble::Limited { until, reason } => {
                        self.pause(Call::Question, *until, reason);
                        self.paused_until().since(self.now)
                    }
                    Trouble::Unsure { .. } => outbox::unsure_wait(times),
                    Trouble::Refused { .. } | Trouble::Stopped { .. } => outbox::refused_wait(times),
                };
                let wanted = Claiming::Wanted { at: self.now + wait, times, reason: trouble.to_string() };
                self.github.claims.insert(task.clone(), wanted);
            }
        }
    }

    /// Takes in what a comment with a claim has come to.
    pub(super) fn on_claim_written(&mut self, task: &TaskId, comment: u64, claims: &Claims, writing: &Writing) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let (run, is_settled) = (record.run, record.is_settled());
        if writing.run != run {
            // Another run has begun meanwhile and claims for itself.
            let mut left = self.durable.github.tasks.get(task).map(|on| on.leftovers.clone()).unwrap_or_default();
            left.insert(comment);
            self.leave_behind(task, left);
            return;
        }
        let print = writing.print.clone();
        self.record_github(GithubFact::Commented { task: task.clone(), run, comment, print });
        let is_new = writing.known.is_none();
        if let (true, Some(us)) = (is_settled, self.claimant(task)) {
            self.give_claim_up(task, run);
            let mut ours = claims.ours(&us);
            ours.remove(&comment);
            return self.leave_behind(task, ours);
        }
        if claims.comments.iter().all(|seen| seen.id != comment) {
            // It must have been seen to count.
            let reason = "the claim is not seen yet".to_owned();
            let at = self.now + outbox::unsure_wait(1);
            self.github.claims.insert(task.clone(), Claiming::Wanted { at, times: 1, reason });
            return;
        }
        self.judge_claims(task, claims, writing.began, is_new.then_some(&writing.over));
    }

    /// Draws the conclusion from what was seen since `began`.
    fn judge_claims(&mut self, task: &TaskId, claims: &Claims, began: Timestamp, over: Option<&BTreeSet<u64>>) {
        let Some(us) = self.claimant(task) else { return };
        let asked = self.durable.github.tasks.get(task).and_then(|on| on.answers);
        if let Some(comment) = asked.filter(|comment| claims.is_answered_for(&us, *comment)) {
            self.record_github(GithubFact::AnsweredElsewhere { task: task.clone(), comment });
        }
        let mut ours = claims.ours(&us);
        match claims.holder(&us, over) {
            Holder::Us { comment, left } => {
                ours.remove(&comment);
                self.github.claims.remove(task);
                self.hold(task, claims, comment, (began, left));
            }
            Holder::Other { orchestra, left } => self.yield_to(task, orchestra, left),
            Holder::Nobody { over } => {
                // What the run has said stays until a new claim says it.
                let own = self.durable.github.tasks.get(task).and_then(|on| on.comment.as_ref());
                if let Some((_, own, _)) = own.filter(|(run, ..)| *run == us.run) {
                    ours.remove(own);
                }
                self.github.claims.insert(task.clone(), Claiming::Free { since: began, over });
            }
        }
        self.leave_behind(task, ours);
        self.github.dirty.insert(task.clone());
    }

    fn leave_behind(&mut self, task: &TaskId, comments: BTreeSet<u64>) {
        let task = task.clone();
        if self.durable.github.tasks.get(&task).is_some_and(|on| on.leftovers != comments) {
            self.record_github(GithubFact::LeftBehind { task, comments });
        }
    }

    fn hold(&mut self, task: &TaskId, claims: &Claims, comment: u64, (began, left): (Timestamp, Duration)) {
        let Some(run) = self.durable.tasks.get(task).map(|record| record.run) else { return };
        let line = claims.comments.iter().find(|seen| seen.id == comment).and_then(|seen| seen.claim.clone());
        let Some(ClaimLine { hold, over, .. }) = line else { return };
        let lease = match hold {
            Hold::For(lease) => lease,
            Hold::Done => RESTING_LEASE,
        };
        let known = self.durable.github.tasks.get(task).and_then(|on| on.comment.as_ref());
        if known.is_none_or(|(of, id, _)| (*of, *id) != (run, comment)) {
            let print = String::new();
            self.record_github(GithubFact::Commented { task: task.clone(), run, comment, print });
        }
        let (until, ends) = (began + left.min(self.plan.github.claim_lease), began + left);
        let claim = Claim { run, comment, until, ends, lease, over };
        self.record_github(GithubFact::Claimed { task: task.clone(), claim });
        self.clear_alert(&format!("{}/{task}", AlertKind::ClaimLost.as_str()));
    }

    /// Leaves an issue to another orchestra, and stops what is under way.
    fn yield_to(&mut self, task: &TaskId, by: OrchestraId, left: Option<Duration>) {
        let now = self.now;
        let (poll, reconcile) = (self.plan.github.poll, self.plan.github.reconcile);
        let again_at = now + left.map_or(reconcile, |left| left.min(reconcile)).max(poll);
        let until = left.map(|left| now + left);
        let reason = format!("the orchestra {by} works on its issue");
        self.github.claims.insert(task.clone(), Claiming::Elsewhere { by, until, again_at });
        let Some(record) = self.durable.tasks.get(task) else { return };
        let (run, phase) = (record.run, record.phase.clone());
        let had = self.durable.github.tasks.get(task).is_some_and(|on| on.claim.is_some());
        if had {
            self.record_github(GithubFact::ClaimEnded { task: task.clone(), run, reason: reason.clone() });
        }
        let is_under_way = match phase {
            Phase::Queued => {
                self.withdraw(task, &reason, None);
                true
            }
            Phase::Merging { .. } => {
                self.park(task, reason.clone());
                true
            }
            Phase::Waiting { .. } => had,
            Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => false,
        };
        if is_under_way {
            let text = format!(
                "{task} was claimed here, and {reason}: this one has stopped and publishes nothing; see `miyabi github status`"
            );
            let kind = AlertKind::ClaimLost;
            self.raise(Alert { kind, agent: None, task: Some(task.clone()), attempt: None, since: now, text });
        }
    }

    /// Says whether the alert of a lost claim is over.
    pub(in crate::core) fn is_claim_settled(&self, task: &TaskId) -> bool {
        self.durable.tasks.get(task).is_none_or(TaskRecord::is_settled) || self.may_go_on(task)
    }

    /// Returns the line that claims an issue in the comment of a run as it is now; nothing if it claims nothing.
    pub(super) fn claim_line(&self, task: &TaskId) -> Option<ClaimLine> {
        let record = self.durable.tasks.get(task).filter(|_| self.needs_claim(task))?;
        let over = match (self.held(task), self.github.claims.get(task)) {
            (Some(claim), _) => claim.over.clone(),
            (None, Some(Claiming::Free { over, .. })) => over.clone(),
            (None, _) => BTreeSet::new(),
        };
        let hold = match record.phase {
            // Others leave done work alone, also while its issue is open.
            Phase::Done { .. } => Hold::Done,
            Phase::Failed { .. } | Phase::Cancelled { .. } => return None,
            Phase::Waiting { .. } if self.lets_go(task) => return None,
            Phase::Merging { .. } if self.is_published_now(task) => Hold::For(RESTING_LEASE),
            Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } => Hold::For(self.plan.github.claim_lease),
        };
        Some(ClaimLine { orchestra: self.orchestra(), hold, over })
    }

    /// Returns a comment of ours that is to be taken away.
    pub(super) fn leftover(&self, task: &TaskId) -> Option<u64> {
        let record = self.durable.tasks.get(task)?;
        let on = self.durable.github.tasks.get(task)?;
        let own = on.comment.as_ref().filter(|(run, ..)| *run == record.run).map(|(_, id, _)| *id);
        if on.note.is_none() && self.lets_go(task) {
            return own;
        }
        on.leftovers.first().copied()
    }

    /// Says for people why an issue is not begun here for want of a claim.
    pub(in crate::core) fn why_unclaimed(&self, task: &TaskId) -> Option<String> {
        match self.standing(task) {
            Standing::Needless | Standing::Held => None,
            Standing::Open | Standing::Elsewhere => Some(match self.github.claims.get(task) {
                Some(Claiming::Elsewhere { by, until: Some(until), .. }) => {
                    format!(
                        "the orchestra {by} works on its issue; unless it says so again, this one takes over after {until}"
                    )
                }
                Some(Claiming::Elsewhere { by, until: None, .. }) => {
                    format!(
                        "the orchestra {by} has done its issue; to have it done again, delete the comment that says so"
                    )
                }
                Some(Claiming::Wanted { reason, .. }) if !reason.is_empty() => {
                    format!("waits until GitHub says whether another orchestra works on its issue: {reason}")
                }
                Some(Claiming::Wanted { .. } | Claiming::Looking { .. } | Claiming::Free { .. }) | None => {
                    "its issue is claimed on GitHub before it is begun".to_owned()
                }
            }),
        }
    }

    /// Shows the claims that are known.
    pub(super) fn claim_views(&self) -> Vec<ClaimView> {
        let us = self.orchestra().to_string();
        let own = self.github.claimed.iter().filter_map(|task| {
            let claim = self.claim_of_open(task).filter(|claim| claim.ends > self.now)?;
            let (orchestra, until) = (us.clone(), Some(claim.ends));
            Some(ClaimView { task: task.clone(), orchestra, ours: true, until })
        });
        let others = self.github.claims.iter().filter_map(|(task, claiming)| match claiming {
            Claiming::Elsewhere { by, until, .. } => {
                Some(ClaimView { task: task.clone(), orchestra: by.to_string(), ours: false, until: *until })
            }
            Claiming::Wanted { .. } | Claiming::Looking { .. } | Claiming::Free { .. } => None,
        });
        own.chain(others).collect()
    }
}
