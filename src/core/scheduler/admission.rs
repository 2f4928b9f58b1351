//! What attempts take, and whether there is room for one more. Everything is counted from what is under way, never kept in
//! counters, so nothing can leak.

use std::collections::BTreeMap;
use std::fmt;

use crate::core::state::TaskRecord;
use crate::model::id::{PoolName, RepositoryName, TaskId};
use crate::model::plan::Plan;
use crate::model::task::RepositoryChoice;
use crate::model::touch::Touch;

/// The slots of a pool that no file in force declares any more: the safest number that lets work go on.
const SLOTS_UNKNOWN: u32 = 1;

/// What a task takes while it is worked on: all of it or none, so that nobody holds one thing and waits for another.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) struct Demand {
    repository: Option<RepositoryName>,
    pools: Vec<PoolName>,
    touches: Vec<Touch>,
}

impl Demand {
    pub(in crate::core) fn of(record: &TaskRecord) -> Self {
        let spec = &record.spec;
        let repository = match &spec.repository {
            RepositoryChoice::None => None,
            RepositoryChoice::Named(name) => Some(name.clone()),
        };
        let mut pools = spec.pools.clone();
        pools.sort();
        // Whoever waits between two stages has its files already, and keeps them until its work is merged.
        let asks = !record.holds_change() && record.merged.is_none();
        let mut touches = if asks { spec.touches.clone() } else { Vec::new() };
        touches.sort();
        Self { repository, pools, touches }
    }
}

/// A task whose files nobody else may touch.
#[derive(Debug)]
struct Toucher {
    task: TaskId,
    repository: RepositoryName,
    touches: Vec<Touch>,
    rest: Rest,
}

/// What keeps a task from giving its files free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::core) enum Rest {
    /// Nothing: it is worked on, or being merged.
    None,
    /// It waits for its next stage, and must be begun again like anybody else.
    BetweenStages,
    /// Its work is done, and waits for a person before it can be merged.
    Parked,
}

/// What is taken.
#[derive(Debug, Default)]
pub(in crate::core) struct Load {
    pools: BTreeMap<PoolName, u32>,
    repositories: BTreeMap<RepositoryName, u32>,
    touchers: Vec<Toucher>,
    /// How many attempts are under way.
    pub(in crate::core) attempts: usize,
}

impl Load {
    /// Counts an attempt that is under way.
    pub(in crate::core) fn attempt(&mut self, task: &TaskId, record: &TaskRecord) {
        self.attempts += 1;
        self.take(task, &Demand::of(record));
    }

    /// Counts what a task takes, or what is kept for it.
    pub(in crate::core) fn take(&mut self, task: &TaskId, demand: &Demand) {
        for pool in &demand.pools {
            *self.pools.entry(pool.clone()).or_default() += 1;
        }
        if let Some(repository) = &demand.repository {
            *self.repositories.entry(repository.clone()).or_default() += 1;
            self.touch(task, repository, &demand.touches, Rest::None);
        }
    }

    /// Counts the files of a task whose work is made and not merged yet.
    pub(in crate::core) fn unmerged(&mut self, task: &TaskId, record: &TaskRecord, rest: Rest) {
        if let RepositoryChoice::Named(repository) = &record.spec.repository {
            self.touch(task, repository, &record.spec.touches, rest);
        }
    }

    fn touch(&mut self, task: &TaskId, repository: &RepositoryName, touches: &[Touch], rest: Rest) {
        if !touches.is_empty() {
            let (task, repository, touches) = (task.clone(), repository.clone(), touches.to_vec());
            self.touchers.push(Toucher { task, repository, touches, rest });
        }
    }

    /// Finds what stands in the way of one more attempt.
    pub(in crate::core) fn blockers<'d>(
        &'d self,
        demand: &'d Demand,
        slots: &'d BTreeMap<PoolName, u32>,
        plan: &'d Plan,
    ) -> impl Iterator<Item = Blocker> + 'd {
        let pools = demand.pools.iter().filter_map(move |pool| {
            let slots = slots.get(pool).copied().unwrap_or(SLOTS_UNKNOWN);
            (self.pools.get(pool).copied().unwrap_or(0) >= slots).then(|| Blocker::Pool { pool: pool.clone(), slots })
        });
        let repository = demand.repository.iter().filter_map(move |name| {
            let most = plan.repository(name)?.attempts_max?;
            let taken = self.repositories.get(name).copied().unwrap_or(0);
            (taken >= most).then(|| Blocker::Repository { name: name.clone(), most })
        });
        let touches = self.touchers.iter().filter_map(move |toucher| {
            if Some(&toucher.repository) != demand.repository.as_ref() {
                return None;
            }
            let pairs = demand.touches.iter().flat_map(|mine| toucher.touches.iter().map(move |other| (mine, other)));
            let (mine, other) = pairs.into_iter().find(|(mine, other)| mine.overlaps(other))?;
            Some(Blocker::Touch {
                by: toucher.task.clone(),
                mine: mine.clone(),
                other: other.clone(),
                rest: toucher.rest,
            })
        });
        pools.chain(repository).chain(touches)
    }
}

/// What stands in the way of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::core) enum Blocker {
    /// All slots of a pool are taken.
    Pool { pool: PoolName, slots: u32 },
    /// As many attempts work in the repository as may.
    Repository { name: RepositoryName, most: u32 },
    /// Another task could change the same files.
    Touch { by: TaskId, mine: Touch, other: Touch, rest: Rest },
}

impl Blocker {
    /// Says whether it goes away only when a person acts, or when a task is begun that may need just what would be kept:
    /// keeping things for whoever waits for that would keep them for nobody, or for ever.
    pub(in crate::core) const fn is_lasting(&self) -> bool {
        match self {
            Self::Touch { rest, .. } => !matches!(rest, Rest::None),
            Self::Pool { .. } | Self::Repository { .. } => false,
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool { pool, slots: 1 } => write!(f, "waits for pool {pool}: its one slot is taken"),
            Self::Pool { pool, slots } => write!(f, "waits for pool {pool}: its {slots} slots are taken"),
            Self::Repository { name, most } => {
                write!(f, "waits for repository {name}: {most} attempts work in it, and no more may")
            }
            Self::Touch { by, mine, other, rest } => {
                let why = match rest {
                    Rest::None => "",
                    Rest::BetweenStages => ", whose work waits for its next stage",
                    Rest::Parked => ", whose work waits to be merged",
                };
                write!(f, "waits for {by}{why}: its `{other}` and this task's `{mine}` could be the same file")
            }
        }
    }
}
