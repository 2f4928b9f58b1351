//! Who waits for whom: how much each task still waits for, and how long a chain waits behind it.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::state::{Durable, Phase, TaskRecord};
use crate::model::id::TaskId;
use crate::model::task::OnFailure;

/// More new tasks at once than this, and all chains are measured anew instead of walking up from each.
const FRESH_MAX: usize = 64;

/// How many steps such a walk may take before all chains are measured anew.
const STEPS_MAX: usize = 2_000;

/// The needs of all tasks, both ways.
#[derive(Debug, Clone, Default)]
pub(in crate::core) struct NeedGraph {
    needs: BTreeMap<TaskId, Vec<TaskId>>,
    dependents: BTreeMap<TaskId, BTreeSet<TaskId>>,
    /// The tasks that those who need them need not wait for any more.
    met: BTreeSet<TaskId>,
    /// How many needs of a task are not met; absent: none.
    unmet: BTreeMap<TaskId, usize>,
    /// How many tasks wait behind one, one after the other; absent: none.
    behind: BTreeMap<TaskId, u32>,
    /// Whether what tasks need, or whether they must wait for it, has changed since somebody asked.
    has_changed: bool,
    /// Tasks whose chains are not measured yet.
    fresh: Vec<TaskId>,
    is_stale: bool,
}

/// Says whether those who need a task need not wait for it any more.
pub(in crate::core) fn is_met(record: &TaskRecord) -> bool {
    match record.phase {
        Phase::Done { .. } => true,
        Phase::Failed { .. } => record.spec.on_failure == OnFailure::Continue,
        Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } | Phase::Cancelled { .. } => false,
    }
}

fn is_settled(durable: &Durable, task: &TaskId) -> bool {
    durable.tasks.get(task).is_none_or(|record| match record.phase {
        Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => true,
        Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } => false,
    })
}

impl NeedGraph {
    /// Notes what a task needs.
    pub(in crate::core) fn register(&mut self, task: &TaskId, needs: &[TaskId]) {
        match self.needs.get(task) {
            Some(before) if before == needs => return,
            Some(before) => {
                self.is_stale = true;
                for need in before {
                    if let Some(dependents) = self.dependents.get_mut(need) {
                        dependents.remove(task);
                    }
                }
            }
            None if needs.is_empty() && !self.dependents.contains_key(task) => {}
            None => self.fresh.push(task.clone()),
        }
        self.has_changed |= !needs.is_empty() || self.needs.contains_key(task);
        for need in needs {
            self.dependents.entry(need.clone()).or_default().insert(task.clone());
        }
        self.needs.insert(task.clone(), needs.to_vec());
        self.set_unmet(task, needs.iter().filter(|need| !self.met.contains(*need)).count());
    }

    fn set_unmet(&mut self, task: &TaskId, count: usize) {
        if count == 0 {
            self.unmet.remove(task);
        } else {
            self.unmet.insert(task.clone(), count);
        }
    }

    /// Notes whether a task is waited for, and returns those who can be begun now and could not, or the other way round.
    pub(in crate::core) fn set_met(&mut self, task: &TaskId, is_met: bool) -> Vec<TaskId> {
        let changed = if is_met { self.met.insert(task.clone()) } else { self.met.remove(task) };
        if !changed {
            return Vec::new();
        }
        self.has_changed |= !is_met;
        let mut turned = Vec::new();
        for dependent in self.dependents.get(task).into_iter().flatten() {
            let before = self.unmet.get(dependent).copied().unwrap_or(0);
            let after = if is_met { before.saturating_sub(1) } else { before + 1 };
            if after == 0 {
                self.unmet.remove(dependent);
            } else {
                self.unmet.insert(dependent.clone(), after);
            }
            if (before == 0) != (after == 0) {
                turned.push(dependent.clone());
            }
        }
        turned
    }

    /// Says whether new circles are possible since this was asked last.
    pub(in crate::core) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Says whether anything needs a task.
    pub(in crate::core) fn is_needed(&self, task: &TaskId) -> bool {
        self.dependents.get(task).is_some_and(|dependents| !dependents.is_empty())
    }

    /// Says whether everything that a task needs is met.
    pub(in crate::core) fn is_ready(&self, task: &TaskId) -> bool {
        !self.unmet.contains_key(task)
    }

    /// Returns how many tasks wait behind one, one after the other.
    pub(in crate::core) fn behind(&self, task: &TaskId) -> u32 {
        self.behind.get(task).copied().unwrap_or(0)
    }

    /// Measures the chains that are not measured yet, and returns the tasks behind which another number waits now.
    pub(in crate::core) fn measure(&mut self, durable: &Durable) -> Vec<TaskId> {
        let fresh = std::mem::take(&mut self.fresh);
        if !self.is_stale
            && fresh.len() <= FRESH_MAX
            && let Some(changed) = self.measure_from(&fresh)
        {
            return changed;
        }
        self.is_stale = false;
        self.measure_all(durable)
    }

    /// Walks from new tasks towards what they need; nothing if that takes too long.
    fn measure_from(&mut self, fresh: &[TaskId]) -> Option<Vec<TaskId>> {
        let mut changed = Vec::new();
        let mut steps = 0;
        let mut next: Vec<TaskId> = fresh.to_vec();
        for task in fresh {
            let longest = self.dependents.get(task).into_iter().flatten().map(|other| self.behind(other) + 1).max();
            if let Some(longest) = longest {
                self.behind.insert(task.clone(), longest);
                changed.push(task.clone());
            }
        }
        while let Some(task) = next.pop() {
            let length = self.behind(&task) + 1;
            for need in self.needs.get(&task).cloned().unwrap_or_default() {
                steps += 1;
                if steps > STEPS_MAX {
                    return None;
                }
                if self.behind(&need) < length {
                    self.behind.insert(need.clone(), length);
                    changed.push(need.clone());
                    next.push(need);
                }
            }
        }
        Some(changed)
    }

    fn measure_all(&mut self, durable: &Durable) -> Vec<TaskId> {
        let before = std::mem::take(&mut self.behind);
        let mut waiting: BTreeMap<&TaskId, usize> = BTreeMap::new();
        let mut ends: Vec<&TaskId> = Vec::new();
        for task in self.needs.keys().filter(|task| !is_settled(durable, task)) {
            let dependents = self.dependents.get(task).into_iter().flatten();
            match dependents.filter(|dependent| !is_settled(durable, dependent)).count() {
                0 => ends.push(task),
                count => {
                    waiting.insert(task, count);
                }
            }
        }
        let mut behind: BTreeMap<TaskId, u32> = BTreeMap::new();
        // Each task is taken when all behind it have been; in a cycle, of which there is none, none would be.
        while let Some(task) = ends.pop() {
            let length = behind.get(task).copied().unwrap_or(0) + 1;
            for need in self.needs.get(task).into_iter().flatten() {
                let Some(count) = waiting.get_mut(need) else { continue };
                let longest = behind.entry(need.clone()).or_default();
                *longest = length.max(*longest);
                *count -= 1;
                if *count == 0 {
                    waiting.remove(need);
                    if let Some((need, _)) = self.needs.get_key_value(need) {
                        ends.push(need);
                    }
                }
            }
        }
        self.behind = behind;
        let mut changed: Vec<TaskId> = before
            .iter()
            .filter(|(task, length)| self.behind.get(*task) != Some(length))
            .map(|(task, _)| task.clone())
            .collect();
        changed.extend(self.behind.keys().filter(|task| !before.contains_key(*task)).cloned());
        changed
    }
}
