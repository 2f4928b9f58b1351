//! Dependency files: `dag/*.yaml`.
//!
//! One file is read here; what concerns several files (names of other files' tasks, cycles) is checked in
//! `core::dag`.

mod defaults;
mod every;
mod policy;
mod task;

use std::collections::BTreeMap;

use self::defaults::Defaults;
use super::keys;
use super::read;
use super::report::{Note, Report};
use super::section::{Field, Section};
use super::source::Span;
use super::tree::{Node, Value};
use super::yaml_tree;
use crate::model::fault::Fault;
use crate::model::fault_code::Mistake;
use crate::model::id::{PoolName, is_task_segment};
use crate::model::plan::Plan;
use crate::model::task::{POOL_SLOTS_MAX, PoolSpec, TaskFile};

/// How many tasks one file may have.
pub const TASKS_MAX: usize = 20_000;

/// The only version of the format.
const VERSION: u32 = 1;

/// Reads a dependency file. `path` is what faults show, e.g. `dag/example.yaml`; its file name gives the first segment
/// of the tasks' ids.
///
/// # Errors
/// Returns every fault of the file with its place, in the order of the file.
pub fn parse(path: &str, text: &str, plan: &Plan) -> Result<TaskFile, Vec<Fault>> {
    match outline(path, text, plan) {
        Outline { file: Some(file), faults, .. } if faults.is_empty() => Ok(file),
        Outline { faults, .. } => Err(faults),
    }
}

/// As much of a dependency file as could be read, to look for what is wrong between tasks although something is wrong
/// within them.
#[derive(Debug)]
pub struct Outline {
    /// The tasks with their needs. What a faulty task does is made up: such a file must never be in force.
    pub file: Option<TaskFile>,
    /// Whether tasks may be missing, so that a need that leads nowhere proves nothing.
    pub has_gaps: bool,
    /// Every fault of the file, in its order.
    pub faults: Vec<Fault>,
}

/// Reads as much of a dependency file as can be read.
#[must_use]
pub fn outline(path: &str, text: &str, plan: &Plan) -> Outline {
    let mut report = Report::new(path, text);
    let read = if report.is_clean() { read_file(path, plan, &mut report) } else { None };
    let (file, has_gaps) = read.map_or((None, true), |(file, has_gaps)| (Some(file), has_gaps));
    Outline { file, has_gaps, faults: report.into_faults() }
}

/// Says whether a file in `dag/` is a dependency file: editors leave others beside it while they save.
#[must_use]
pub fn is_dependency_file(name: &str) -> bool {
    let is_hidden = name.starts_with(['.', '#', '~']);
    !is_hidden && stem(name).is_some_and(|stem| !stem.is_empty())
}

/// Returns a file name without its extension, if it is YAML's.
fn stem(name: &str) -> Option<&str> {
    name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml"))
}

fn read_file(path: &str, plan: &Plan, report: &mut Report<'_>) -> Option<(TaskFile, bool)> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = stem(name).unwrap_or(name);
    let is_good_stem = is_task_segment(stem);
    if !is_good_stem {
        let note =
            Note::new(Mistake::BadName, Span::FILE, format!("the file name `{stem}` cannot begin the ids of tasks"));
        report.add(note.help("rename the file: use letters, digits, `_`, `-` and `.`"));
    }
    let tree = yaml_tree::read(report);
    let Some(tree) = tree else {
        if report.is_clean() {
            report.add(
                Note::new(Mistake::Empty, Span::FILE, "the file is empty")
                    .help("write `tasks:` and at least a name below"),
            );
        }
        return None;
    };
    let file = Section::open(path, &tree, tree.span, keys::dag::DAG.keys, report);
    if file.is_broken() {
        return None;
    }
    // A wrong version is told by its own reader; the rest is read as if it were this one.
    file.field("version", report, |key, node, report| read::count(key, VERSION..=VERSION, node, report));
    let defaults = Defaults::read(&file, plan, report);
    let declared = file
        .field("pools", report, |key, node, report| read::counts::<PoolName>(key, &(1..=POOL_SLOTS_MAX), node, report));
    let pools_are_known = declared != Field::Broken;
    let pools = declared
        .value()
        .unwrap_or_default()
        .into_iter()
        .map(|(pool, (slots, span))| (pool, PoolSpec { slots, place: report.source().place(span) }))
        .collect();
    let Some(entry) = file.entry("tasks") else {
        if !file.is_told("tasks") {
            let note = Note::new(Mistake::MissingKey, Span::FILE, "the file has no `tasks`");
            report.add(note.help("write `tasks:` and the tasks by name below"));
        }
        return None;
    };
    let stem_for_ids = if is_good_stem { stem } else { "file" };
    let nodes = match &*entry.node.value {
        Value::Map(tasks) if tasks.len() > TASKS_MAX => {
            let message = format!("the file has {} tasks; at most {TASKS_MAX} are possible", tasks.len());
            report.add(Note::new(Mistake::TooMuch, entry.key_span, message).help("divide it into several files"));
            return None;
        }
        Value::Map(tasks) => Some(task::read_all(tasks, stem_for_ids, &defaults, plan, report)),
        Value::Null => Some(Vec::new()),
        Value::Broken => None,
        Value::List(list) => {
            refuse_list(list, entry.key_span, report);
            None
        }
        other @ (Value::Text(_) | Value::Plain(_) | Value::Integer(_) | Value::Float(_) | Value::Other(_)) => {
            let message = format!("`tasks` must be tasks by name, found {}", other.kind());
            report.add(
                Note::new(Mistake::WrongType, entry.node.span, message)
                    .help("write `tasks:` and `NAME: {run: ...}` below"),
            );
            None
        }
    };
    let nodes = nodes?;
    let has_gaps = !is_good_stem || !pools_are_known || nodes.iter().any(Option::is_none);
    let nodes = nodes.into_iter().flatten().collect();
    Some((TaskFile { stem: stem.to_owned(), path: path.to_owned(), pools, nodes }, has_gaps))
}

/// Tells those who write tasks as a list, as other tools want them, how they are written here.
fn refuse_list(list: &[Node], span: Span, report: &mut Report<'_>) {
    let names: BTreeMap<&str, ()> = list
        .iter()
        .filter_map(|node| match &*node.value {
            Value::Map(entries) => entries.iter().find(|entry| matches!(entry.key.as_str(), "name" | "id")),
            Value::Text(_)
            | Value::Plain(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Other(_)
            | Value::Null
            | Value::List(_)
            | Value::Broken => None,
        })
        .filter_map(|entry| match &*entry.node.value {
            Value::Text(name) | Value::Plain(name) => Some((name.as_str(), ())),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Other(_)
            | Value::Null
            | Value::List(_)
            | Value::Map(_)
            | Value::Broken => None,
        })
        .collect();
    let name = names.keys().next().copied().unwrap_or("NAME");
    let note = Note::new(Mistake::WrongType, span, "`tasks` must be tasks by name, found a list");
    report.add(note.help(format!("write `{name}:` instead of `- name: {name}`, and its keys below, indented")));
}
