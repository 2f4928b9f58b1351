//! Who waits for whom: how much each task still waits for, and how long a chain waits behind it.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::state::{Durable, Phase, TaskRecord};
use crate::model::id::TaskId;
use crate::model::task::OnFailure;

/// More new tasks at once than this, and all chains are measured anew instead of walking up from each.
const FRESH_MAX: usize = 64;

/// How many steps such a walk may take before all chains are measured anew.
const STEPS_MAX: usize = 2_000;

/// A task's place in [`NeedGraph::knots`].
type Seat = usize;

/// A task, or something that a task needs and nobody knows.
#[derive(Debug, Clone)]
struct Knot {
    task: TaskId,
    /// What it needs; absent: nobody has said so yet.
    needs: Option<Vec<Seat>>,
    dependents: BTreeSet<Seat>,
    /// Whether those who need it need not wait for it any more.
    is_met: bool,
    /// How many of its needs are not met.
    unmet: usize,
    /// How many tasks wait behind it, one after the other.
    behind: u32,
}

/// The needs of all tasks, both ways.
#[derive(Debug, Clone, Default)]
pub(in crate::core) struct NeedGraph {
    seats: BTreeMap<TaskId, Seat>,
    /// Everything that was ever named: a seat is never given to another task.
    knots: Vec<Knot>,
    /// Whether what tasks need, or whether they must wait for it, has changed since somebody asked.
    has_changed: bool,
    /// Tasks whose chains are not measured yet.
    fresh: Vec<Seat>,
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
    fn knot(&self, task: &TaskId) -> Option<&Knot> {
        self.seats.get(task).map(|seat| &self.knots[*seat])
    }

    fn seat(&mut self, task: &TaskId) -> Seat {
        if let Some(seat) = self.seats.get(task) {
            return *seat;
        }
        let seat = self.knots.len();
        let dependents = BTreeSet::new();
        self.knots.push(Knot { task: task.clone(), needs: None, dependents, is_met: false, unmet: 0, behind: 0 });
        self.seats.insert(task.clone(), seat);
        seat
    }

    /// Says whether a task is known to need just this.
    fn needs_just(&self, seat: Seat, needs: &[TaskId]) -> bool {
        self.knots[seat].needs.as_ref().is_some_and(|known| {
            known.len() == needs.len() && known.iter().zip(needs).all(|(known, need)| self.knots[*known].task == *need)
        })
    }

    /// Notes what a task needs.
    pub(in crate::core) fn register(&mut self, task: &TaskId, needs: &[TaskId]) {
        let seat = self.seat(task);
        if self.needs_just(seat, needs) {
            return;
        }
        let is_known = self.knots[seat].needs.is_some();
        if let Some(before) = self.knots[seat].needs.take() {
            self.is_stale = true;
            for need in before {
                self.knots[need].dependents.remove(&seat);
            }
        } else if !needs.is_empty() || !self.knots[seat].dependents.is_empty() {
            self.fresh.push(seat);
        }
        self.has_changed |= !needs.is_empty() || is_known;
        let needs: Vec<Seat> = needs.iter().map(|need| self.seat(need)).collect();
        for need in &needs {
            self.knots[*need].dependents.insert(seat);
        }
        self.knots[seat].unmet = needs.iter().filter(|need| !self.knots[**need].is_met).count();
        self.knots[seat].needs = Some(needs);
    }

    /// Notes whether a task is waited for, and returns those who can be begun now and could not, or the other way round.
    pub(in crate::core) fn set_met(&mut self, task: &TaskId, is_met: bool) -> Vec<TaskId> {
        let was_met = self.knot(task).is_some_and(|knot| knot.is_met);
        if was_met == is_met {
            return Vec::new();
        }
        let seat = self.seat(task);
        self.knots[seat].is_met = is_met;
        self.has_changed |= !is_met;
        let mut turned = Vec::new();
        let dependents = std::mem::take(&mut self.knots[seat].dependents);
        for dependent in &dependents {
            let dependent = &mut self.knots[*dependent];
            let before = dependent.unmet;
            dependent.unmet = if is_met { before.saturating_sub(1) } else { before + 1 };
            if (before == 0) != (dependent.unmet == 0) {
                turned.push(dependent.task.clone());
            }
        }
        self.knots[seat].dependents = dependents;
        turned
    }

    /// Says whether new circles are possible since this was asked last.
    pub(in crate::core) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Says whether anything needs a task.
    pub(in crate::core) fn is_needed(&self, task: &TaskId) -> bool {
        self.knot(task).is_some_and(|knot| !knot.dependents.is_empty())
    }

    /// Says whether everything that a task needs is met.
    pub(in crate::core) fn is_ready(&self, task: &TaskId) -> bool {
        self.knot(task).is_none_or(|knot| knot.unmet == 0)
    }

    /// Returns how many tasks wait behind one, one after the other.
    pub(in crate::core) fn behind(&self, task: &TaskId) -> u32 {
        self.knot(task).map_or(0, |knot| knot.behind)
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
    fn measure_from(&mut self, fresh: &[Seat]) -> Option<Vec<TaskId>> {
        let mut changed = Vec::new();
        let mut steps = 0;
        let mut next: Vec<Seat> = fresh.to_vec();
        for seat in fresh {
            let longest = self.knots[*seat].dependents.iter().map(|other| self.knots[*other].behind + 1).max();
            if let Some(longest) = longest {
                self.knots[*seat].behind = longest;
                changed.push(self.knots[*seat].task.clone());
            }
        }
        while let Some(seat) = next.pop() {
            let length = self.knots[seat].behind + 1;
            for need in self.knots[seat].needs.clone().unwrap_or_default() {
                steps += 1;
                if steps > STEPS_MAX {
                    return None;
                }
                let need_knot = &mut self.knots[need];
                if need_knot.behind < length {
                    need_knot.behind = length;
                    changed.push(need_knot.task.clone());
                    next.push(need);
                }
            }
        }
        Some(changed)
    }

    fn measure_all(&mut self, durable: &Durable) -> Vec<TaskId> {
        let is_open: Vec<bool> =
            self.knots.iter().map(|knot| knot.needs.is_some() && !is_settled(durable, &knot.task)).collect();
        let mut waiting = vec![0_usize; self.knots.len()];
        let mut ends: Vec<Seat> = Vec::new();
        for (seat, knot) in self.knots.iter().enumerate().filter(|(seat, _)| is_open[*seat]) {
            waiting[seat] = knot.dependents.iter().filter(|dependent| is_open[**dependent]).count();
            if waiting[seat] == 0 {
                ends.push(seat);
            }
        }
        let mut behind = vec![0_u32; self.knots.len()];
        // Each task is taken when all behind it have been; in a cycle, of which there is none, none would be.
        while let Some(seat) = ends.pop() {
            for need in self.knots[seat].needs.iter().flatten().copied().filter(|need| is_open[*need]) {
                let Some(left) = waiting[need].checked_sub(1) else { continue };
                behind[need] = behind[need].max(behind[seat] + 1);
                waiting[need] = left;
                if left == 0 {
                    ends.push(need);
                }
            }
        }
        let mut changed = Vec::new();
        for (knot, length) in self.knots.iter_mut().zip(behind) {
            if std::mem::replace(&mut knot.behind, length) != length {
                changed.push(knot.task.clone());
            }
        }
        changed
    }
}
