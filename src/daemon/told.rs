//! What the log tells of the facts of a turn.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::Core;
use crate::core::fact::{Recorded, Told};
use crate::model::id::TaskId;

/// How many facts of one kind are told one by one in one turn. A file of thousands of tasks is one line; `miyabi events` tells
/// of all.
const LINES_MAX: usize = 100;

/// Tells of the facts, and returns the tasks that they are about.
pub(super) fn log(core: &Core, facts: &[Recorded]) -> BTreeSet<TaskId> {
    let mut by_kind: BTreeMap<&'static str, usize> = BTreeMap::new();
    let told: Vec<Told> = facts.iter().map(|recorded| recorded.fact.tell()).collect();
    for told in &told {
        *by_kind.entry(told.kind).or_default() += 1;
    }
    for told in &told {
        match by_kind.get(told.kind).copied().unwrap_or(0) {
            0 => {}
            1..=LINES_MAX => line(core, told),
            count => {
                tracing::info!(kind = told.kind, count, "{count} facts of this kind at once; the first: {}", told.text);
                by_kind.insert(told.kind, 0);
            }
        }
    }
    told.into_iter().filter_map(|told| told.task).collect()
}

fn line(core: &Core, told: &Told) {
    let attempt = told.task.as_ref().and_then(|task| core.task_record(task)?.current());
    let agent = told.agent.as_ref().or(attempt.map(|attempt| &attempt.agent));
    let incarnation = told.incarnation.or(attempt.and_then(|attempt| attempt.started).map(|(_, start)| start));
    tracing::info!(
        kind = told.kind,
        agent = agent.map(tracing::field::display),
        incarnation = incarnation.map(tracing::field::display),
        task = told.task.as_ref().map(tracing::field::display),
        order = attempt.map(|attempt| tracing::field::display(attempt.envelope)),
        "{}",
        told.text
    );
}
