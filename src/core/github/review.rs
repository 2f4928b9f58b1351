//! What people say of a pull request of ours: whoever may steer the repository sends the work back to its author with it.

use crate::core::Core;
use crate::core::fact::Fact;
use crate::core::state::{Durable, IllegalFact, Phase};
use crate::model::github::{PullState, Review};
use crate::model::id::{RunId, TaskId};
use crate::model::plan::RepositorySpec;

use super::command::{self, Command};
use super::fence;
use super::state::{Change, GithubFact, TaskOnGithub};

impl Core {
    /// Takes in what a review asks for, once.
    pub(super) fn note_review(&mut self, repository: &RepositorySpec, review: &Review) {
        let Some(task) = self.task_of_pull(repository, review.pull) else { return };
        let Some(on) = self.durable.github.tasks.get(&task) else { return };
        let is_over = self.durable.tasks.get(&task).is_none_or(|record| record.is_settled());
        if is_over || !review.association.collaborates() || on.has_dealt_with(review.id) {
            return;
        }
        let text = match command::parse(&review.body) {
            Some(Ok(Command::Change(text))) => text,
            // Whatever it says, its kind says that something is to be changed.
            _ if review.requests_changes => review.body.clone(),
            _ => return,
        };
        let ask = fence::ask(&review.author, &text, &review.comments);
        self.record_github(GithubFact::ChangesAsked { task, review: review.id, ask });
    }

    /// Sees what becomes of a comment that asks for changes.
    pub(super) fn take_change(&self, task: &TaskId, by: &str, text: &str) -> (String, Change) {
        let note = |text: &str| (text.to_owned(), Change::Note(text.to_owned()));
        let has_pull = self.durable.github.tasks.get(task).is_some_and(|on| on.pull.is_some());
        match self.durable.tasks.get(task) {
            _ if text.is_empty() => note("say after `/miyabi change` what is to be changed"),
            Some(record) if has_pull && !record.is_settled() => {
                ("asks for changes".to_owned(), Change::Ask(fence::ask(by, text, &[])))
            }
            Some(record) if record.is_settled() => note("nobody works on it any more; `/miyabi retry` begins anew"),
            Some(_) | None => note("there is no pull request yet: write it into the issue"),
        }
    }

    /// Sends back what waits to be merged and people ask to be changed.
    pub(super) fn begin_rework(&mut self) {
        let asked: Vec<TaskId> = self.github.dirty.iter().filter(|task| self.waits_for_people(task)).cloned().collect();
        for task in asked {
            let Some(record) = self.durable.tasks.get(&task) else { continue };
            let most = self.plan.workflow.rounds_max;
            if record.people_rounds < most {
                self.record(Fact::ReworkAsked { run: record.run, task });
            } else {
                let reason = format!(
                    "changes were asked for {most} times, which is the limit (`rounds_max`); `/miyabi retry` begins anew"
                );
                self.record_github(GithubFact::ChangesDeclined { task, reason });
            }
        }
    }

    /// Says whether people ask for changes of what they can see: the newest commit is published and waits to be merged.
    fn waits_for_people(&self, task: &TaskId) -> bool {
        let Some(record) = self.durable.tasks.get(task) else { return false };
        let none = TaskOnGithub::default();
        let on = self.durable.github.tasks.get(task).unwrap_or(&none);
        let commit = record.change().and_then(|report| report.commit.as_ref());
        matches!(record.phase, Phase::Merging { .. })
            && !on.asked.is_empty()
            && on.pull.as_ref().is_some_and(|pull| pull.state == PullState::Open)
            && on.published.as_ref().map(|(run, commit)| (*run, commit)) == commit.map(|commit| (record.run, commit))
    }

    /// Finds the task of a pull request.
    pub(super) fn task_of_pull(&self, repository: &RepositorySpec, number: u64) -> Option<TaskId> {
        let of_pull = self.durable.github.tasks.iter().find(|(task, on)| {
            on.pull.as_ref().is_some_and(|pull| pull.number == number)
                && self.repository_of(task).is_some_and(|found| found.name == repository.name)
        });
        of_pull.map(|(task, _)| task.clone())
    }
}

impl Durable {
    /// Sends a proven task back to its author with what people ask for.
    pub(in crate::core) fn rework(&mut self, task: &TaskId, run: RunId) -> Result<(), IllegalFact> {
        let illegal =
            |state: &str| IllegalFact { fact: "rework-asked", subject: task.to_string(), state: state.to_owned() };
        let record = self.tasks.get_mut(task).ok_or_else(|| illegal("unknown"))?;
        let asked = self.github.tasks.get_mut(task).map(|on| &mut on.asked).filter(|asked| !asked.is_empty());
        match (&record.phase, asked) {
            (Phase::Merging { .. }, Some(asked)) if record.run == run => {
                record.send_back(std::mem::take(asked));
                Ok(())
            }
            (phase, _) => Err(illegal(phase.name())),
        }
    }
}
