//! The graph of tasks: what several dependency files say together.

mod cycle;
mod draw;
mod fingerprint;
mod pool;

use std::collections::{BTreeMap, BTreeSet};

use petgraph::graph::{DiGraph, NodeIndex};

pub use self::cycle::shortest_cycles;
pub use self::draw::{DrawNode, Format, draw};
pub use self::fingerprint::{fingerprint, submission_print};
use crate::model::fault::{Fault, Place};
use crate::model::fault_code::{Code, Family, Mistake};
use crate::model::id::TaskId;
use crate::model::task::{IssueNode, Reference, TaskFile};

/// How many faults of one kind are told.
const FAULTS_MAX: usize = 100;

/// How many unknown names get a "did you mean": each costs a comparison with every known name.
const SUGGESTIONS_MAX: usize = 20;

/// A need of one task: which entry of its `needs` it is.
#[derive(Debug, Clone, Copy)]
struct Edge {
    need: usize,
}

/// A task or an issue of a file.
#[derive(Debug, Clone, Copy)]
struct Item<'f> {
    id: &'f TaskId,
    place: &'f Place,
    needs: &'f [TaskId],
    needs_places: &'f [Place],
    file: &'f TaskFile,
}

/// The tasks and issues with their resolved needs; an edge goes from a task to what it needs.
type Graph<'f> = DiGraph<Item<'f>, Edge>;

fn items(file: &TaskFile) -> impl Iterator<Item = Item<'_>> {
    let tasks = file.nodes.iter().map(move |node| Item {
        id: &node.id,
        place: &node.place,
        needs: &node.spec.needs,
        needs_places: &node.needs_places,
        file,
    });
    let issues = file.issues.iter().map(move |node| Item {
        id: &node.id,
        place: &node.place,
        needs: &node.spec.needs,
        needs_places: &node.needs_places,
        file,
    });
    tasks.chain(issues)
}

/// Finds what is wrong with files that are each good on their own: two with one stem, issues that are listed twice, unknown
/// needs, cycles.
///
/// `known` are tasks that exist although no file has them, e.g. finished ones of removed files.
#[must_use]
pub fn check<'f>(files: impl IntoIterator<Item = &'f TaskFile>, known: &BTreeSet<TaskId>) -> Vec<Fault> {
    check_beside(files, known, &BTreeSet::new())
}

/// Does the same as [`check`] when some files could not be read: needs that lead to their stems are not told, since
/// they would only follow from faults that have been told already.
#[must_use]
pub fn check_beside<'f>(
    files: impl IntoIterator<Item = &'f TaskFile>,
    known: &BTreeSet<TaskId>,
    unread_stems: &BTreeSet<String>,
) -> Vec<Fault> {
    let mut files: Vec<&TaskFile> = files.into_iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let (files, mut faults) = without_doubles(&files);
    faults.extend(doubles(&files).into_iter().take(FAULTS_MAX));
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
    Place { file: file.path.as_str().into(), line: 1, column: 1, start: 0, end: 0 }
}

/// Finds issues that two files list, and tasks whose ids are those of issues.
fn doubles(files: &[&TaskFile]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let issues = || files.iter().flat_map(|file| &file.issues);
    let mut first_of: BTreeMap<&TaskId, &IssueNode> = BTreeMap::new();
    for node in issues() {
        match first_of.get(&node.id) {
            None => {
                first_of.insert(&node.id, node);
            }
            Some(first) => faults.push(Fault {
                place: node.place.clone(),
                code: Code { family: Family::Dag, mistake: Mistake::IssueTwice },
                message: format!("the issue `{}` is listed in two files", node.issue),
                help: Some(
                    "write all that is said of it in one place; other files can need it all the same".to_owned(),
                ),
                related: vec![(first.place.clone(), "the other place".to_owned())],
            }),
        }
    }
    if first_of.is_empty() {
        return faults;
    }
    for node in files.iter().flat_map(|file| &file.nodes) {
        if let Some(issue) = first_of.get(&node.id) {
            faults.push(Fault {
                place: node.place.clone(),
                code: Code { family: Family::Dag, mistake: Mistake::NameTaken },
                message: format!("the task `{}` would have the same id as the issue `{}`", node.id, issue.issue),
                help: Some("rename the task or its file".to_owned()),
                related: vec![(issue.place.clone(), "the issue".to_owned())],
            });
        }
    }
    faults
}

/// A need that leads to nothing in the files.
struct Unresolved {
    item: NodeIndex,
    need: usize,
}

/// Builds the graph of the needs that lead somewhere, in the order of the files.
fn resolve<'f>(files: &[&'f TaskFile]) -> (Graph<'f>, Vec<Unresolved>) {
    let mut graph = Graph::new();
    let mut index: BTreeMap<&TaskId, NodeIndex> = BTreeMap::new();
    for item in files.iter().flat_map(|file| items(file)) {
        index.insert(item.id, graph.add_node(item));
    }
    let mut unresolved = Vec::new();
    for item in graph.node_indices() {
        // petgraph lists a task's newest edge first; added backwards, they come in the order of the file.
        for (need, id) in graph[item].needs.iter().enumerate().rev() {
            match index.get(id) {
                Some(needed) => {
                    graph.add_edge(item, *needed, Edge { need });
                }
                None => unresolved.push(Unresolved { item, need }),
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
    for Unresolved { item, need } in unresolved {
        let item = graph[*item];
        let id = &item.needs[*need];
        let reference = item.file.refs.get(id);
        // An issue of one of our repositories is waited for whether or not a file lists it.
        let is_ours = reference.is_some_and(|reference| reference.ours);
        // Which file lists another one cannot be known as long as one cannot be read.
        let may_be_listed = reference.is_some() && !unread_stems.is_empty();
        if is_ours || may_be_listed || known.contains(id) || unread_stems.contains(stem(id)) {
            continue;
        }
        if faults.len() == FAULTS_MAX {
            break;
        }
        if let Some(Reference { issue, .. }) = reference {
            faults.push(Fault {
                place: need_place(item, *need),
                code: Code { family: Family::Dag, mistake: Mistake::ForeignIssue },
                message: format!("`{issue}` is in no `[[repository]]` with this `github`, and no file lists it"),
                help: Some(format!("list it to watch it: `issues: {{\"{issue}\": {{external: true}}}}`")),
                related: Vec::new(),
            });
            continue;
        }
        let from = stem(item.id);
        let help = (faults.len() < SUGGESTIONS_MAX).then(|| suggestion(id, from, graph, known)).flatten();
        faults.push(Fault {
            place: need_place(item, *need),
            code: Code { family: Family::Dag, mistake: Mistake::UnknownTask },
            message: format!("unknown task `{}`", shown_from(id, from)),
            help,
            related: Vec::new(),
        });
    }
    faults
}

/// Returns where an entry of `needs` stands.
fn need_place(item: Item<'_>, need: usize) -> Place {
    item.needs_places.get(need).unwrap_or(item.place).clone()
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
    let all = || graph.node_weights().map(|item| item.id).chain(known);
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
