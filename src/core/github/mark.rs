//! The label of an issue that is worked on (`claim_label`): what people see of a claim. It decides nothing; the comment does.
//!
//! It is added when a run holds its issue and taken away before that gives it up, so that it is never taken away from the next one. While
//! another orchestra works on the issue it is left alone: it is true, and that one takes it away.

use crate::core::Core;
use crate::core::state::Phase;
use crate::model::github::Labelling;
use crate::model::id::TaskId;

use super::claim::{Claiming, Standing};
use super::intake::is_of_issue;
use super::route;
use super::state::{GithubFact, Mark};

impl Core {
    /// Returns what is to be done to the label of a task's issue.
    pub(super) fn labelling(&self, task: &TaskId) -> Option<Labelling> {
        let mark = self.durable.github.tasks.get(task)?.mark.as_ref();
        let wanted = self.wanted_label(task);
        match (wanted, mark) {
            (Some(label), Some(mark)) if mark.label() != label => Some(Labelling::Remove(mark.label().to_owned())),
            (Some(_), Some(Mark::Set(_))) => None,
            (Some(label), Some(Mark::Unsure(_)) | None) => {
                (!self.is_seen_with(task, label)).then(|| Labelling::Add(label.to_owned()))
            }
            (None, Some(mark)) => self.is_label_over(task).then(|| Labelling::Remove(mark.label().to_owned())),
            (None, None) => None,
        }
    }

    /// Returns the label that an issue bears already and that is not known to be ours to take away.
    pub(super) fn found_label(&self, task: &TaskId) -> Option<String> {
        let mark = self.durable.github.tasks.get(task)?.mark.as_ref();
        let label = self.wanted_label(task).filter(|label| self.is_seen_with(task, label))?;
        match mark {
            Some(Mark::Unsure(known)) if known == label => Some(label.to_owned()),
            None => Some(label.to_owned()),
            Some(Mark::Unsure(_) | Mark::Set(_)) => None,
        }
    }

    /// Looks at all issues that bear a label or should, as another one is named now.
    pub(in crate::core) fn reconsider_labels(&mut self) {
        let all = &self.durable.github.tasks;
        let open = |task: &TaskId| self.durable.tasks.get(task).is_some_and(|record| !record.is_settled());
        let of_them = all.iter().filter(|(task, on)| on.mark.is_some() || open(task)).map(|(task, _)| task.clone());
        self.github.dirty.extend(of_them.collect::<Vec<_>>());
    }

    /// Notes what has become of a label.
    pub(super) fn on_labelled(&mut self, task: &TaskId, how: &Labelling) {
        // What was read before says nothing about it any more.
        if let Some(seen) = self.github.seen.get_mut(task) {
            let (Labelling::Add(label) | Labelling::Remove(label)) = how;
            seen.labels.retain(|known| known.to_lowercase() != label.to_lowercase());
            if let Labelling::Add(label) = how {
                seen.labels.push(label.clone());
            }
        }
        let label = match how {
            Labelling::Add(label) => Some(label.clone()),
            Labelling::Remove(_) => None,
        };
        self.record_github(GithubFact::Labelled { task: task.clone(), label });
    }

    /// Returns the label that an issue should bear now.
    fn wanted_label(&self, task: &TaskId) -> Option<&str> {
        let label = self.plan.github.claim_label.as_deref()?;
        let record = self.durable.tasks.get(task).filter(|record| is_of_issue(record) && !record.is_settled())?;
        // A claim is also made to answer a comment; that is no work.
        let is_begun = match record.phase {
            Phase::Queued | Phase::Merging { .. } => true,
            Phase::Waiting { .. } => record.current().is_some(),
            Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => false,
        };
        let is_ours = match self.standing(task) {
            Standing::Held | Standing::Needless => true,
            Standing::Open | Standing::Elsewhere => false,
        };
        (is_begun && is_ours).then_some(label)
    }

    fn is_seen_with(&self, task: &TaskId, label: &str) -> bool {
        self.github.seen.get(task).is_some_and(|issue| route::has(issue, label))
    }

    /// Says whether nobody works on an issue any more, as far as that is known.
    fn is_label_over(&self, task: &TaskId) -> bool {
        match self.github.claims.get(task) {
            Some(Claiming::Elsewhere { until, .. }) => until.is_none(),
            Some(Claiming::Wanted { .. } | Claiming::Looking { .. } | Claiming::Free { .. }) | None => {
                let is_settled = self.durable.tasks.get(task).is_none_or(|record| record.is_settled());
                is_settled || matches!(self.standing(task), Standing::Held | Standing::Needless)
            }
        }
    }
}
