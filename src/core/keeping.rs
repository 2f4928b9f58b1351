//! What attempts leave on the disk: which of their logs and branches are thrown away, and when their worktrees take so much that nothing new is
//! begun.
//!
//! Worktrees are cleared away when their attempt has ended, after what they hold was saved on a branch. What is left of them
//! either belongs to somebody who works, or holds work that is nowhere else: neither is ever thrown away to make room.

use std::collections::BTreeSet;

use crate::model::alert::{Alert, AlertKind};
use crate::model::id::{RepositoryName, RunId};
use crate::model::size::{self, Size};
use crate::model::span::DAY;
use crate::model::stock::{AttemptBranch, AttemptLog, Stock};

use super::Core;
use super::effect::Effect;
use super::state::Phase;

/// How many logs are thrown away after one look; the next one finds the others.
const FORGOTTEN_MAX: usize = 2_000;

/// How many branches are given to git after one look.
const BRANCHES_MAX: usize = 200;

impl Core {
    pub(super) fn on_stock_seen(&mut self, stock: Stock) {
        self.judge_worktrees(stock.worktrees);
        let keep = DAY.saturating_mul(self.plan.attempt_log_days);
        let spared = self.spared_runs();
        let is_over = |log: &AttemptLog| self.now.since(log.written) >= keep && !spared.contains(&log.run);
        let over: Vec<AttemptLog> = stock.logs.into_iter().filter(is_over).take(FORGOTTEN_MAX).collect();
        if !over.is_empty() {
            self.push(Effect::ForgetLogs(over));
        }
    }

    /// Has old branches of runs that are over deleted, where git finds their work elsewhere too. Those that stay must not keep the
    /// others from being looked at: each look goes on where the last one has ended.
    pub(super) fn on_branches_seen(&mut self, repository: RepositoryName, branches: Vec<AttemptBranch>) {
        let keep = DAY.saturating_mul(self.plan.resources.branch_days);
        if keep.is_zero() {
            return;
        }
        let spared = self.spared_runs();
        let is_over =
            |branch: &AttemptBranch| self.now.since(branch.committed) >= keep && !spared.contains(&branch.run);
        let mut over: Vec<AttemptBranch> = branches.into_iter().filter(is_over).collect();
        let reached = self.branches_judged.get(&repository).cloned().unwrap_or_default();
        over.sort_by(|one, other| (one.name <= reached, &one.name).cmp(&(other.name <= reached, &other.name)));
        over.truncate(BRANCHES_MAX);
        if let Some(last) = over.last() {
            self.branches_judged.insert(repository.clone(), last.name.clone());
            self.push(Effect::ForgetBranches { repository, branches: over });
        }
    }

    /// Returns the runs of which everything is kept: those that are not over, and those that somebody may still look into because
    /// they have failed, or have used up their attempts.
    fn spared_runs(&self) -> BTreeSet<RunId> {
        let is_spared = |phase: &Phase| match phase {
            Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } | Phase::Failed { .. } => true,
            Phase::Done { .. } | Phase::Cancelled { .. } => false,
        };
        let spared = self.durable.tasks.values().filter(|record| is_spared(&record.phase));
        // An attempt that was cancelled may still be ending.
        let retiring = self.retiring_tasks().into_iter().filter_map(|task| self.durable.tasks.get(task));
        spared.chain(retiring).map(|record| record.run).collect()
    }

    /// Raises or clears the alert. It goes on well below the bound, so that it does not flicker.
    fn judge_worktrees(&mut self, used: Size) {
        self.worktrees = Some(used);
        let max = self.plan.resources.worktrees_max;
        let kind = AlertKind::WorktreesFull;
        let is_full = self.durable.alerts.contains_key(kind.as_str());
        if !is_full && max > Size(0) && used > max {
            let text = too_much(used, max);
            self.raise(Alert { kind, agent: None, task: None, attempt: None, since: self.now, text });
        } else if is_full && (max == Size(0) || used <= resume(max)) {
            self.clear_alert(kind.as_str());
        }
    }

    /// Says whether new work is held because of what the worktrees took at the last look.
    #[must_use]
    pub fn are_worktrees_full(&self) -> bool {
        self.durable.alerts.contains_key(AlertKind::WorktreesFull.as_str())
    }

    /// Says that new work is held because of the worktrees, if so.
    pub(super) fn held_by_worktrees(&self) -> Option<String> {
        let alert = self.durable.alerts.get(AlertKind::WorktreesFull.as_str())?;
        let max = self.plan.resources.worktrees_max;
        Some(self.worktrees.map_or_else(|| alert.text.clone(), |used| too_much(used, max)))
    }
}

const fn resume(max: Size) -> Size {
    Size(max.0 / 10 * 9)
}

fn too_much(used: Size, max: Size) -> String {
    format!(
        "new work is held: the worktrees of attempts take {}, and may take {} (`worktrees_max`); it goes on at {}. What is left in \
         data/worktrees is being worked in or holds work that is nowhere else, so nothing of it is thrown away",
        size::round(used),
        size::round(max),
        size::round(resume(max))
    )
}
