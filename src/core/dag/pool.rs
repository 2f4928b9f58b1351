//! Pools: what several files say of one, and tasks that name one of which nobody says anything.

use std::collections::{BTreeMap, BTreeSet};

use super::{FAULTS_MAX, SUGGESTIONS_MAX};
use crate::model::fault::Fault;
use crate::model::fault_code::{Code, Family, Mistake};
use crate::model::id::PoolName;
use crate::model::task::{PoolSpec, TaskFile};

/// Finds pools whose declarations contradict one another and pools that are not declared. A file that could not be read may
/// declare any pool.
pub(super) fn find(files: &[&TaskFile], unread_stems: &BTreeSet<String>) -> Vec<Fault> {
    let mut declared: BTreeMap<&PoolName, &PoolSpec> = BTreeMap::new();
    let mut faults = Vec::new();
    for (pool, spec) in files.iter().flat_map(|file| &file.pools) {
        let first = *declared.entry(pool).or_insert(spec);
        if first.slots != spec.slots {
            faults.push(Fault {
                place: spec.place.clone(),
                code: Code { family: Family::Dag, mistake: Mistake::Contradiction },
                message: format!("the pool `{pool}` has {} slots here and {} in another file", spec.slots, first.slots),
                help: Some(
                    "a pool is one for all files: write the same number, or declare it in one file only".to_owned(),
                ),
                related: vec![(first.place.clone(), "the other declaration".to_owned())],
            });
        }
    }
    if unread_stems.is_empty() {
        faults.extend(undeclared(files, &declared));
    }
    faults
}

fn undeclared<'f>(files: &[&'f TaskFile], declared: &BTreeMap<&PoolName, &PoolSpec>) -> Vec<Fault> {
    let mut faults = Vec::new();
    // A pool of `defaults` stands at one place, however many tasks have it from there.
    let mut told = BTreeSet::new();
    let of_tasks = |file: &&'f TaskFile| file.nodes.iter().map(|node| (&node.spec.pools, &node.pools_places));
    let of_issues = |file: &&'f TaskFile| file.issues.iter().map(|node| (&node.spec.pools, &node.pools_places));
    for (pools, places) in files.iter().flat_map(of_tasks).chain(files.iter().flat_map(of_issues)) {
        for (pool, place) in pools.iter().zip(places) {
            if declared.contains_key(pool) || !told.insert((place.file.clone(), place.start, pool)) {
                continue;
            }
            if faults.len() == FAULTS_MAX {
                return faults;
            }
            let meant = (faults.len() < SUGGESTIONS_MAX).then(|| similar(pool, declared)).flatten();
            faults.push(Fault {
                place: place.clone(),
                code: Code { family: Family::Dag, mistake: Mistake::UnknownPool },
                message: format!("unknown pool `{pool}`"),
                help: Some(meant.map_or_else(
                    || format!("declare it at the top of a file: `pools: {{{pool}: 1}}`"),
                    |meant| format!("did you mean `{meant}`?"),
                )),
                related: Vec::new(),
            });
        }
    }
    faults
}

fn similar<'p>(pool: &PoolName, declared: &BTreeMap<&'p PoolName, &PoolSpec>) -> Option<&'p PoolName> {
    declared
        .keys()
        .map(|other| (strsim::osa_distance(pool.as_str(), other.as_str()), *other))
        .filter(|(distance, other)| *distance <= (pool.as_str().len().max(other.as_str().len()) / 3).max(1))
        .min()
        .map(|(_, other)| other)
}
