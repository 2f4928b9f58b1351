//! Dependency files: what a new reading of the folder changes. A faulty file leaves its last good version in force.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::fault::{Fault, Place};
use crate::model::id::{PoolName, TaskId};
use crate::model::task::{IssueNode, PoolSpec, Reference, RepositoryChoice, TaskFile, TaskNode, TaskSpec};

use super::Core;
use super::dag;
use super::effect::Retire;
use super::event::{Branches, FileRead};
use super::fact::{Fact, Origin};
use super::state::{Phase, TaskRecord};

impl Core {
    pub(super) fn on_dag_read(&mut self, files: Vec<FileRead>, branches: &Branches) {
        let mut faults = Vec::new();
        let mut candidates: Vec<TaskFile> = Vec::new();
        let mut refused: BTreeSet<String> = BTreeSet::new();
        for file in files {
            match file {
                FileRead::Good(file) => candidates.push(file),
                FileRead::Bad { stem, faults: found } => {
                    faults.extend(found);
                    refused.insert(stem);
                }
            }
        }
        let accepted = self.settle_files(candidates, refused, &mut faults);
        self.adopt(&accepted, branches);
        self.look_for_branches(branches);
        self.needs_places = needs_places(&accepted);
        self.files = accepted.into_iter().map(|file| (file.stem.clone(), file)).collect();
        faults.sort();
        faults.dedup();
        self.faults = faults;
    }

    /// Finds the versions that can be in force together: a file with a fault falls back to its last good version.
    fn settle_files(
        &self,
        mut candidates: Vec<TaskFile>,
        mut refused: BTreeSet<String>,
        faults: &mut Vec<Fault>,
    ) -> Vec<TaskFile> {
        let known: BTreeSet<TaskId> = self.durable.tasks.keys().cloned().collect();
        let rounds = candidates.len() + 2;
        for _ in 0..rounds {
            let standing: Vec<Cow<'_, TaskFile>> = refused.iter().filter_map(|stem| self.last_good(stem)).collect();
            let fresh = candidates.iter().filter(|file| !refused.contains(&file.stem));
            let found = dag::check(fresh.chain(standing.iter().map(|file| &**file)), &known);
            if found.is_empty() {
                candidates.retain(|file| !refused.contains(&file.stem));
                candidates.extend(standing.into_iter().map(Cow::into_owned));
                candidates.sort_by(|a, b| a.stem.cmp(&b.stem).then_with(|| a.path.cmp(&b.path)));
                return candidates;
            }
            let before = refused.len();
            for fault in &found {
                let places = std::iter::once(&fault.place).chain(fault.related.iter().map(|(place, _)| place));
                for place in places {
                    refused
                        .extend(candidates.iter().filter(|file| place.file == file.path).map(|file| file.stem.clone()));
                }
            }
            faults.extend(found);
            if refused.len() == before {
                // Only versions that were in force before are left, so the fault lies in what they need; nothing new is taken.
                break;
            }
        }
        refused.iter().filter_map(|stem| self.last_good(stem)).map(Cow::into_owned).collect()
    }

    /// Returns the version of a file that is in force, from memory or, after a restart, from the journal.
    fn last_good(&self, stem: &str) -> Option<Cow<'_, TaskFile>> {
        if let Some(file) = self.files.get(stem) {
            return Some(Cow::Borrowed(file));
        }
        let mut path_in_force = None;
        let mut nodes: Vec<(u64, TaskNode)> = Vec::new();
        for (task, record) in &self.durable.tasks {
            let Origin::File { stem: owner, path } = &record.origin else { continue };
            if owner != stem || record.detached {
                continue;
            }
            let place = Place { file: path.as_str().into(), line: 1, column: 1, start: 0, end: 0 };
            let spec = record.pending.as_ref().map_or(&record.spec, |(spec, _)| spec).clone();
            let needs_places = vec![place.clone(); spec.needs.len()];
            let pools_places = vec![place.clone(); spec.pools.len()];
            path_in_force = Some(path.clone());
            nodes.push((record.seq, TaskNode { id: task.clone(), place, spec, needs_places, pools_places }));
        }
        nodes.sort_by_key(|(seq, _)| *seq);
        let nodes: Vec<TaskNode> = nodes.into_iter().map(|(_, node)| node).collect();
        let mut issues = Vec::new();
        for (task, listed) in self.durable.issues.iter().filter(|(_, listed)| listed.stem == stem) {
            let place = Place { file: listed.path.as_str().into(), line: 1, column: 1, start: 0, end: 0 };
            path_in_force = path_in_force.or_else(|| Some(listed.path.clone()));
            let needs_places = vec![place.clone(); listed.spec.needs.len()];
            let pools_places = vec![place.clone(); listed.spec.pools.len()];
            let (id, issue, spec) = (task.clone(), listed.issue.clone(), listed.spec.clone());
            issues.push(IssueNode { id, issue, place, spec, needs_places, pools_places });
        }
        let needs = nodes.iter().flat_map(|node| &node.spec.needs);
        let needs = needs.chain(issues.iter().flat_map(|node| &node.spec.needs));
        let unknown = needs.filter(|need| !self.durable.tasks.contains_key(*need));
        let refs = unknown
            .filter_map(|need| Some((need.clone(), Reference { issue: self.issue_of(need)?, ours: true })))
            .collect();
        let path = path_in_force?;
        let place = Place { file: path.as_str().into(), line: 1, column: 1, start: 0, end: 0 };
        let declared = self.durable.pools.get(stem).into_iter().flatten();
        let pools =
            declared.map(|(pool, slots)| (pool.clone(), PoolSpec { slots: *slots, place: place.clone() })).collect();
        Some(Cow::Owned(TaskFile { stem: stem.to_owned(), path, pools, nodes, issues, refs }))
    }

    /// Makes the tasks agree with the files that are in force.
    fn adopt(&mut self, files: &[TaskFile], branches: &Branches) {
        self.adopt_pools(files);
        self.adopt_issues(files);
        let mut present: BTreeSet<TaskId> = BTreeSet::new();
        for file in files {
            for node in &file.nodes {
                present.insert(node.id.clone());
                self.adopt_node(file, node, branches);
            }
        }
        let gone: Vec<TaskId> = self
            .durable
            .tasks
            .iter()
            .filter(|(task, record)| {
                matches!(record.origin, Origin::File { .. }) && !record.detached && !present.contains(*task)
            })
            .map(|(task, _)| task.clone())
            .collect();
        for task in gone {
            self.record(Fact::TaskDetached { task: task.clone() });
            // Between two stages a run is under way, and ends.
            let waiting = matches!(
                self.durable.tasks.get(&task),
                Some(record @ TaskRecord { phase: Phase::Waiting { .. }, merged: None, .. }) if !record.holds_change()
            );
            if waiting {
                self.record(Fact::TaskCancelled { task, reason: REMOVED.to_owned() });
            }
        }
    }

    /// Puts the pools of the files in force. They are recorded before the tasks that take slots of them.
    fn adopt_pools(&mut self, files: &[TaskFile]) {
        let mut declared: BTreeMap<&str, BTreeMap<PoolName, u32>> =
            self.durable.pools.keys().map(|stem| (stem.as_str(), BTreeMap::new())).collect();
        for file in files.iter().filter(|file| !file.pools.is_empty()) {
            let pools = file.pools.iter().map(|(pool, spec)| (pool.clone(), spec.slots)).collect();
            declared.insert(&file.stem, pools);
        }
        let facts: Vec<Fact> = declared
            .into_iter()
            .filter(|(stem, pools)| self.durable.pools.get(*stem) != Some(pools))
            .map(|(stem, pools)| Fact::PoolsDeclared { stem: stem.to_owned(), pools })
            .collect();
        for fact in facts {
            self.record(fact);
        }
        self.index.read_pools(&self.durable);
    }

    fn adopt_node(&mut self, file: &TaskFile, node: &TaskNode, branches: &Branches) {
        if matches!(self.durable.tasks.get(&node.id), Some(TaskRecord { origin: Origin::Issue { .. }, .. })) {
            // The issue was there first; `github status` tells of it when the issue is read again.
            return;
        }
        let origin = Origin::File { stem: file.stem.clone(), path: file.path.clone() };
        self.adopt_spec(&node.id, origin, &node.spec, branches);
    }

    /// Makes a task agree with what its origin says of it.
    pub(super) fn adopt_spec(&mut self, task: &TaskId, origin: Origin, said: &TaskSpec, branches: &Branches) {
        let task = task.clone();
        let fingerprint = dag::fingerprint(said);
        let spec = Box::new(said.clone());
        let target = target_of(said, branches);
        let Some(record) = self.durable.tasks.get(&task) else {
            let run = self.fresh_run();
            self.record(Fact::TaskAccepted { task, origin, spec, fingerprint, target, run, key: None });
            return;
        };
        let newest = record.pending.as_ref().map_or((&record.spec, &record.fingerprint), |(spec, print)| (spec, print));
        let same_text = *newest.0 == *said;
        let same_work = *newest.1 == fingerprint;
        let was_detached = record.detached;
        match &record.phase {
            Phase::Waiting { .. } if same_text => self.reattach(&task, was_detached),
            Phase::Waiting { .. } => {
                let target = record.target.clone().filter(|_| record.spec.repository == spec.repository).or(target);
                self.record(Fact::TaskReplaced { task, spec, fingerprint, target });
            }
            Phase::Queued | Phase::Merging { .. } | Phase::Done { .. } if same_text => {
                self.reattach(&task, was_detached);
            }
            Phase::Queued | Phase::Merging { .. } | Phase::Done { .. } => {
                self.record(Fact::TaskDeferred { task, spec, fingerprint });
            }
            // Whoever changes a task that failed, or puts back one that its removal cancelled, wants it to run.
            Phase::Failed { .. } if same_work && same_text => self.reattach(&task, was_detached),
            Phase::Cancelled { reason, .. } if same_text && reason != REMOVED => self.reattach(&task, was_detached),
            Phase::Failed { .. } | Phase::Cancelled { .. } => {
                self.record(Fact::TaskDeferred { task: task.clone(), spec, fingerprint });
                let run = self.fresh_run();
                self.record(Fact::TaskRetried { task, run, target, no_cache: false });
            }
        }
    }

    fn reattach(&mut self, task: &TaskId, was_detached: bool) {
        if was_detached {
            self.record(Fact::TaskReattached { task: task.clone() });
        }
    }

    /// Gives a target branch to waiting tasks whose repository had none when they were accepted.
    fn look_for_branches(&mut self, branches: &Branches) {
        self.branches.clone_from(branches);
        let found: Vec<(TaskId, TaskRecord, String)> = self
            .durable
            .tasks
            .iter()
            .filter(|(_, record)| {
                record.target.is_none() && record.needs_repository() && matches!(record.phase, Phase::Waiting { .. })
            })
            .filter_map(|(task, record)| {
                target_of(&record.spec, branches).map(|target| (task.clone(), record.clone(), target))
            })
            .collect();
        for (task, record, target) in found {
            let spec = Box::new(record.spec);
            self.record(Fact::TaskReplaced { task, spec, fingerprint: record.fingerprint, target: Some(target) });
        }
    }

    pub(super) fn cancel(&mut self, task: &TaskId, reason: &str) {
        let order = self
            .durable
            .tasks
            .get(task)
            .filter(|record| record.phase == Phase::Queued)
            .and_then(|record| record.current())
            .map(|current| (current.agent.clone(), current.envelope));
        self.record(Fact::TaskCancelled { task: task.clone(), reason: reason.to_owned() });
        self.orders.remove(task);
        self.merge_retries.remove(task);
        if let Some((agent, envelope)) = order {
            let how = Retire::Dead { reason: format!("cancelled: {reason}") };
            self.retire(&agent, envelope, task, how);
        }
    }
}

/// Why a waiting task is cancelled when its file no longer names it.
const REMOVED: &str = "it was removed from its file";

/// Finds the branch that a task's work will be merged into.
pub(super) fn target_of(spec: &TaskSpec, branches: &Branches) -> Option<String> {
    match &spec.repository {
        RepositoryChoice::None => None,
        RepositoryChoice::Named(name) => branches.get(name).and_then(|branch| branch.as_ref().ok()).cloned(),
    }
}

/// Where the dependency files in force say what a task needs, by task and need.
pub(super) type NeedsPlaces = BTreeMap<TaskId, Vec<(TaskId, Place)>>;

fn needs_places(files: &[TaskFile]) -> NeedsPlaces {
    let mut all = NeedsPlaces::new();
    for file in files {
        let nodes = file.nodes.iter().map(|node| (&node.id, &node.spec.needs, &node.needs_places));
        let issues = file.issues.iter().map(|node| (&node.id, &node.spec.needs, &node.needs_places));
        for (task, needs, places) in nodes.chain(issues) {
            if !needs.is_empty() {
                let of_task = needs.iter().cloned().zip(places.iter().cloned());
                all.entry(task.clone()).or_default().extend(of_task);
            }
        }
    }
    all
}

/// The dependency files in force, by stem.
pub(super) type Files = BTreeMap<String, TaskFile>;
