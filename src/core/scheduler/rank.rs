//! The order of ready tasks.

use std::cmp::Reverse;
use std::time::Duration;

use crate::core::state::{Durable, Phase, TaskRecord};
use crate::model::id::TaskId;
use crate::model::time::Timestamp;

/// The due time of a task that has none: after all others.
const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// The level of the most urgent priority. What has waited until it is beyond gets what it waits for kept for it.
const URGENT: i64 = 1;

/// When a ready task's turn is: the smallest comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) struct Turn {
    /// Its priority, less one for each `ageing` that it has been ready: so whatever waits is the most urgent one day.
    level: i64,
    /// When its run must have ended.
    due: Timestamp,
    /// How many tasks wait behind it, one after the other: the critical path first.
    behind: Reverse<u32>,
    /// The order of acceptance.
    seq: u64,
    pub(in crate::core) task: TaskId,
}

impl Turn {
    /// Works out a ready task's turn, and when it will be another one.
    pub(in crate::core) fn of(
        durable: &Durable,
        (task, record): (&TaskId, &TaskRecord),
        behind: u32,
        ageing: Duration,
        now: Timestamp,
    ) -> (Self, Timestamp) {
        let since = ready_since(durable, record);
        let ageing_ms = ageing.as_millis().max(1);
        let steps = now.since(since).as_millis() / ageing_ms;
        let level = i64::from(record.spec.priority.get()) - i64::try_from(steps).unwrap_or(i64::MAX / 2);
        // All finished work of the repository waits behind whoever is checked again for its merge.
        let level = if record.waits_for_merge() { level.min(URGENT - 1) } else { level };
        let next_ms = u64::try_from(ageing_ms.saturating_mul(steps + 1)).unwrap_or(u64::MAX);
        let turn = Self {
            level,
            due: record.due().unwrap_or(NEVER),
            behind: Reverse(behind),
            seq: record.seq,
            task: task.clone(),
        };
        (turn, since + Duration::from_millis(next_ms))
    }

    /// Says whether it has waited so long that nothing may overtake it by taking what it waits for.
    pub(in crate::core) const fn is_aged(&self) -> bool {
        self.level < URGENT
    }
}

/// Since when a task could have been begun, as far as it is its own business.
pub(in crate::core) fn ready_since(durable: &Durable, record: &TaskRecord) -> Timestamp {
    let ends = record.spec.needs.iter().filter_map(|need| match durable.tasks.get(need)?.phase {
        Phase::Done { at, .. } | Phase::Failed { at, .. } | Phase::Cancelled { at, .. } => Some(at),
        Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } => None,
    });
    let not_before = match record.phase {
        Phase::Waiting { not_before } => not_before,
        Phase::Queued | Phase::Merging { .. } | Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => {
            None
        }
    };
    ends.chain(not_before).fold(record.began(), Timestamp::max)
}
