//! What an accepted report means for its task.

use crate::core::fact::Then;
use crate::model::id::TaskId;
use crate::model::plan::OUTCOMES;
use crate::model::report::{FailureKind, Outcome, Report};
use crate::model::time::Timestamp;

use super::{Durable, IllegalFact, Phase, illegal};

/// How much of a successful attempt's output is kept in memory, in bytes.
const OUTPUT_KEPT_BYTES: usize = 2_048;

impl Durable {
    pub(super) fn accept_report(&mut self, report: &Report, then: &Then, at: Timestamp) -> Result<(), IllegalFact> {
        let task = &report.task;
        let record = self.tasks.get_mut(task).ok_or_else(|| illegal("report-accepted", task, "unknown".to_owned()))?;
        let fits = record.phase == Phase::Queued && record.run == report.run && record.attempt == report.attempt;
        if !fits {
            let state = format!("{} at attempt {}", record.phase.name(), record.attempt);
            return Err(illegal("report-accepted", &format!("{task} attempt {}", report.attempt), state));
        }
        record.settle(at, report.outcome.as_str(), Some(report.summary.clone()));
        record.unreported.clear();
        if let Some(more) = report.spent {
            record.spent = Some(record.spent.map_or(more, |spent| spent.plus(more)));
        }
        let mut kept = report.clone();
        match report.outcome {
            Outcome::Done | Outcome::NoChange => trim(&mut kept),
            // Nothing is known to be wrong with the task: the machine had no room for it.
            Outcome::Failed if report.failure == Some(FailureKind::NoSpace) => {}
            Outcome::ChangesRequested if *then == Then::Rework => {}
            Outcome::ChangesRequested | Outcome::Failed => {
                record.fail(record.class_of(report.failure.unwrap_or(FailureKind::AgentFailed)));
            }
        }
        if let Some(current) = record.attempts.last_mut() {
            if current.started.is_none() {
                current.started = Some((report.started_at, report.incarnation));
            }
            current.report = Some(Box::new(kept.clone()));
        }
        record.note_report(kept, then);
        let commit = record.merged.clone().or_else(|| record.change().and_then(|change| change.commit.clone()));
        record.follow(then, at, &report.summary, commit);
        self.note_turn(task);
        match report.outcome {
            Outcome::Failed if matches!(report.failure, Some(FailureKind::NoSpace | FailureKind::Limited)) => {}
            Outcome::Failed => self.note_outcome(task, false),
            Outcome::Done | Outcome::NoChange | Outcome::ChangesRequested => self.note_outcome(task, true),
        }
        Ok(())
    }

    /// Remembers how the newest attempt of a task has ended; one task counts once, however often it is tried.
    pub(super) fn note_outcome(&mut self, task: &TaskId, is_good: bool) {
        self.outcomes.retain(|(other, _)| other != task);
        self.outcomes.push((task.clone(), is_good));
        let surplus = self.outcomes.len().saturating_sub(usize::try_from(OUTCOMES).unwrap_or(usize::MAX));
        self.outcomes.drain(..surplus);
    }
}

/// Cuts a successful report down to what people look at, so that many finished tasks stay cheap.
fn trim(report: &mut Report) {
    report.diff.clear();
    cut_front(&mut report.output, OUTPUT_KEPT_BYTES);
    for check in &mut report.checks {
        cut_front(&mut check.output, OUTPUT_KEPT_BYTES);
    }
}

fn cut_front(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let mut from = text.len() - bytes;
        while !text.is_char_boundary(from) {
            from += 1;
        }
        *text = text.split_off(from);
    }
}
