//! The graph of tasks: what several dependency files say together.

mod cycle;
mod draw;
mod fingerprint;
mod pool;

use std::collections::{BTreeMap, BTreeSet};

use petgraph::graph::{DiGraph, NodeIndex};

pub use self::draw::{DrawNode, Format, draw};
pub use self::fingerprint::{fingerprint, submission_print};
use crate::model::fault::{Fault, Place};
use crate::model::fault_code::{Code, Family, Mistake};
use crate::model::id::TaskId;
use crate::model::task::{TaskFile, TaskNode};

/// How many faults of one kind are told.
const FAULTS_MAX: usize = 100;

/// How many unknown names get a "did you mean": each costs a comparison with every known name.
const SUGGESTIONS_MAX: usize = 20;

/// A need of one task: which entry of its `needs` it is.
#[derive(Debug, Clone, Copy)]
struct Edge {
    need: usize,
}

/// The tasks with their resolved needs; an edge goes from a task to what it needs.
type Graph<'f> = DiGraph<&'f TaskNode, Edge>;

/// Finds what is wrong with files that are each good on their own: two with one stem, unknown needs, cycles.
///
/// `known` are tasks that exist although no file has them, e.g. finished ones of removed files.
#[must_use]
pub fn check(files: &[TaskFile], known: &BTreeSet<TaskId>) -> Vec<Fault> {
    check_beside(files, known, &BTreeSet::new())
}

/// Does the same as [`check`] when some files could not be read: needs that lead to their stems are not told, since
/// they would only follow from faults that have been told already.
#[must_use]
pub fn check_beside(files: &[TaskFile], known: &BTreeSet<TaskId>, unread_stems: &BTreeSet<String>) -> Vec<Fault> {
    let mut files: Vec<&TaskFile> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let (files, mut faults) = without_doubles(&files);
    let (graph, unresolved) = resolve(&files);
    faults.extend(unknown_needs(&graph, &unresolved, known, unread_stems));
    faults.extend(pool::find(&files, unread_stems));
    faults.extend(cycle::find(&graph).into_iter().take(FAULTS_MAX));
    faults.sort();
    faults
}

/// Leaves out files whose stem another one has: their tasks would have the same ids.
fn without_doubles<'f>(files: &[&'f TaskFile]) -> (Vec<&'f TaskFile>, Vec<Fault>) {
    let mut first_of: BTreeMap<&str, &TaskFile> = BTreeMap::new();
    let mut kept = Vec::with_capacity(files.len());
    let mut faults = Vec::new();
    for file in files {
        match first_of.get(file.stem.as_str()) {
            None => {
                first_of.insert(&file.stem, file);
                kept.push(*file);
            }
            Some(first) => faults.push(Fault {
                place: beginning(file),
                code: Code { family: Family::Dag, mistake: Mistake::NameTaken },
                message: format!("two files have the name `{}`, so their tasks would have the same ids", file.stem),
                help: Some("rename one of them, or put their tasks into one file".to_owned()),
                related: vec![(beginning(first), "the other file".to_owned())],
            }),
        }
    }
    (kept, faults)
}

fn beginning(file: &TaskFile) -> Place {
    Place { file: file.path.clone(), line: 1, column: 1, start: 0, end: 0 }
}

/// A need that leads to no task of the files.
struct Unresolved {
    task: NodeIndex,
    need: usize,
}

/// Builds the graph of the needs that lead somewhere, in the order of the files.
fn resolve<'f>(files: &[&'f TaskFile]) -> (Graph<'f>, Vec<Unresolved>) {
    let mut graph = Graph::new();
    let mut index: BTreeMap<&TaskId, NodeIndex> = BTreeMap::new();
    for node in files.iter().flat_map(|file| &file.nodes) {
        index.insert(&node.id, graph.add_node(node));
    }
    let mut unresolved = Vec::new();
    for task in graph.node_indices() {
        // petgraph lists a task's newest edge first; added backwards, they come in the order of the file.
        for (need, id) in graph[task].spec.needs.iter().enumerate().rev() {
            match index.get(id) {
                Some(needed) => {
                    graph.add_edge(task, *needed, Edge { need });
                }
                None => unresolved.push(Unresolved { task, need }),
            }
        }
    }
    (graph, unresolved)
}

fn unknown_needs(
    graph: &Graph<'_>,
    unresolved: &[Unresolved],
    known: &BTreeSet<TaskId>,
    unread_stems: &BTreeSet<String>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for Unresolved { task, need } in unresolved {
        let task = graph[*task];
        let id = &task.spec.needs[*need];
        if known.contains(id) || unread_stems.contains(stem(id)) {
            continue;
        }
        if faults.len() == FAULTS_MAX {
            break;
        }
        let from = stem(&task.id);
        let help = (faults.len() < SUGGESTIONS_MAX).then(|| suggestion(id, from, graph, known)).flatten();
        faults.push(Fault {
            place: need_place(task, *need),
            code: Code { family: Family::Dag, mistake: Mistake::UnknownTask },
            message: format!("unknown task `{}`", shown_from(id, from)),
            help,
            related: Vec::new(),
        });
    }
    faults
}

/// Returns where an entry of `needs` stands.
fn need_place(task: &TaskNode, need: usize) -> Place {
    task.needs_places.get(need).unwrap_or(&task.place).clone()
}

fn stem(id: &TaskId) -> &str {
    id.as_str().split_once('/').map_or("", |(stem, _)| stem)
}

fn name(id: &TaskId) -> &str {
    id.as_str().split_once('/').map_or(id.as_str(), |(_, name)| name)
}

/// Returns an id as one writes it in the file with this stem.
fn shown_from<'i>(id: &'i TaskId, from: &str) -> &'i str {
    if stem(id) == from { name(id) } else { id.as_str() }
}

/// Looks for the task that was meant: the same name in another file, or a similar id.
fn suggestion(id: &TaskId, from: &str, graph: &Graph<'_>, known: &BTreeSet<TaskId>) -> Option<String> {
    let all = || graph.node_weights().map(|node| &node.id).chain(known);
    let same_name = all().find(|other| name(other) == name(id));
    let written = shown_from(id, from).to_lowercase();
    let similar = || {
        all()
            .map(|other| shown_from(other, from))
            .map(|other| (strsim::osa_distance(&written, &other.to_lowercase()), other))
            .filter(|(distance, other)| *distance <= (written.chars().count().max(other.chars().count()) / 3).max(1))
            .min()
            .map(|(_, other)| other)
    };
    let meant = same_name.map(|other| shown_from(other, from)).or_else(similar)?;
    Some(format!("did you mean `{meant}`?"))
}
