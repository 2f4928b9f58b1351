//! git as far as it matters: commits on branches, a linear target branch, merges found again by trailer.

use std::collections::BTreeMap;

use miyabi::core::effect::{FindResult, Merge, Terms};
use miyabi::core::event::MergeResult;
use miyabi::core::state::Rebased;
use miyabi::model::id::{RepositoryName, TaskId};

/// A commit on an attempt's branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) id: String,
    pub(super) base: String,
    /// The value of its trailer; absent where it only saves work.
    pub(super) trailer: Option<String>,
    /// Which part of the repository it changes; two changes of one part may conflict.
    pub(super) part: u64,
    pub(super) fragile: bool,
}

/// A commit on the target branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Landed {
    pub(super) id: String,
    pub(super) trailer: String,
    pub(super) task: TaskId,
    pub(super) part: u64,
}

#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) branches: BTreeMap<String, Committed>,
    /// Commits that were put onto a newer one of the target branch, by their ids.
    pub(super) replayed: BTreeMap<String, Committed>,
    pub(super) target: Vec<Landed>,
    /// While set, the repository must not be touched.
    pub(super) busy: Option<String>,
    /// Whether a branch is checked out that work can be merged into.
    pub(super) detached: bool,
}

#[derive(Debug, Default)]
pub(super) struct Git {
    pub(super) repositories: BTreeMap<RepositoryName, Repository>,
    commits: u64,
}

impl Repository {
    pub(super) fn commit(&self, id: &str) -> Option<&Committed> {
        self.branches.values().find(|commit| commit.id == id).or_else(|| self.replayed.get(id))
    }

    fn land(&mut self, merge: &Merge, id: String, part: u64) -> MergeResult {
        let (trailer, task) = (merge.trailer.clone(), merge.task.clone());
        self.target.push(Landed { id: id.clone(), trailer, task, part });
        MergeResult::Merged { commit: id }
    }
}

impl Git {
    pub(super) fn repository(&mut self, name: &RepositoryName) -> &mut Repository {
        self.repositories.entry(name.clone()).or_default()
    }

    /// Names the newest commit of the target branch: the number of commits on it says which.
    pub(super) fn head(&mut self, name: &RepositoryName) -> String {
        format!("base-{}", self.repository(name).target.len())
    }

    pub(super) fn commit(&mut self, name: &RepositoryName, branch: &str, mut made: Committed) -> Committed {
        self.commits += 1;
        made.id = format!("commit-{}", self.commits);
        self.repository(name).branches.insert(branch.to_owned(), made.clone());
        made
    }

    /// Puts a commit onto the target branch, unless its trailer is there.
    pub(super) fn merge(&mut self, merge: &Merge) -> MergeResult {
        self.commits += 1;
        let id = format!("landed-{}", self.commits);
        let repository = self.repository(&merge.repository);
        if let Some(found) = repository.target.iter().find(|landed| landed.trailer == merge.trailer) {
            return MergeResult::Merged { commit: found.id.clone() };
        }
        if let Some(reason) = &repository.busy {
            return MergeResult::NotNow { reason: reason.clone() };
        }
        let Some(commit) = repository.commit(&merge.commit).cloned() else {
            return MergeResult::Gone { detail: merge.commit.clone() };
        };
        let head = format!("base-{}", repository.target.len());
        let proven = match &merge.terms {
            Terms::Fits => None,
            Terms::Proven { rebased: Some(Rebased { commit, onto }) } if *onto == head => Some(commit.clone()),
            Terms::Proven { .. } if commit.base == head => Some(commit.id.clone()),
            Terms::Proven { .. } => Some(String::new()),
        };
        if let Some(id) = proven.filter(|id| !id.is_empty()) {
            return repository.land(merge, id, commit.part);
        }
        let base: usize = merge.base.trim_start_matches("base-").parse().unwrap();
        if commit.fragile && repository.target[base..].iter().any(|landed| landed.part == commit.part) {
            return MergeResult::Conflict { detail: format!("both change part {}", commit.part) };
        }
        if merge.terms != Terms::Fits {
            let commit = Committed { id: id.replace("landed", "replayed"), base: head.clone(), ..commit };
            let rebased = Rebased { commit: commit.id.clone(), onto: head };
            repository.replayed.insert(commit.id.clone(), commit);
            return MergeResult::Rebased(rebased);
        }
        repository.land(merge, id, commit.part)
    }

    /// Finds which of some results begins on the newest commit.
    pub(super) fn find_result(&mut self, find: &FindResult) -> Option<String> {
        let head = self.head(&find.repository);
        let repository = self.repository(&find.repository);
        let is_there = |commit: &Option<String>| commit.as_ref().is_none_or(|id| repository.commit(id).is_some());
        find.known.iter().find(|(base, commit)| *base == head && is_there(commit)).map(|(base, _)| base.clone())
    }

    /// Somebody else lets the target branch go on.
    pub(super) fn push_foreign(&mut self, name: &RepositoryName, part: u64) {
        self.commits += 1;
        let id = format!("foreign-{}", self.commits);
        let task = TaskId::new("somebody/else").unwrap();
        self.repository(name).target.push(Landed { trailer: id.clone(), id, task, part });
    }
}
