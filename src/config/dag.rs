//! Dependency files: `dag/*.yaml`.
//!
//! One file is read here; what concerns several files (names of other files' tasks, cycles) is checked in
//! `core::dag`.

mod defaults;
mod every;
mod issue;
mod policy;
mod reference;
mod task;

use std::collections::{BTreeMap, BTreeSet};

use self::defaults::Defaults;
use self::reference::References;
use super::keys;
use super::lookalike;
use super::read;
use super::report::{Note, Report};
use super::section::{Field, Section};
use super::source::{Source, Span};
use super::tree::{Entry, Node, Value};
use super::yaml_tree;
use crate::model::fault::Fault;
use crate::model::fault_code::{Code, Family, Mistake};
use crate::model::id::{PoolName, is_task_segment};
use crate::model::plan::Plan;
use crate::model::task::{IssueNode, POOL_SLOTS_MAX, PoolSpec, TaskFile, TaskNode};

/// How many tasks one file may have.
pub const TASKS_MAX: usize = 20_000;

/// How many issues one file may have.
pub const ISSUES_MAX: usize = 5_000;

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

/// Takes the bytes of a dependency file as text.
///
/// # Errors
/// Returns the fault with the place of the first byte that is no UTF-8.
pub fn text_of(path: &str, bytes: Vec<u8>) -> Result<String, Fault> {
    let is_utf_16 = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let source = Source::new(path, &good);
        let end = source.text().len();
        let message = if is_utf_16 { "the file is UTF-16" } else { "what stands here is no UTF-8" };
        Fault {
            place: source.place(Span { start: end, end }),
            code: Code { family: Family::Dag, mistake: Mistake::Unreadable },
            message: message.to_owned(),
            help: Some("save the file as UTF-8".to_owned()),
            related: Vec::new(),
        }
    })
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
    if file.entry("tasks").is_none() && file.entry("issues").is_none() {
        if !file.is_told("tasks") && !file.is_told("issues") {
            let note = Note::new(Mistake::MissingKey, Span::FILE, "the file has neither `tasks` nor `issues`");
            report.add(note.help("write `tasks:` and the tasks by name below"));
        }
        return None;
    }
    let stem_for_ids = if is_good_stem { stem } else { "file" };
    let mut references = References::new(plan, stem_for_ids, defaults.repository.clone(), names(&file));
    let nodes = read_tasks(&file, stem_for_ids, &defaults, &mut references, report)?;
    let issues = read_issues(&file, &defaults, &mut references, report)?;
    let has_gaps = !is_good_stem
        || !pools_are_known
        || nodes.iter().any(Option::is_none)
        || issues.iter().any(Option::is_none)
        || (file.entry("tasks").is_none() && file.is_told("tasks"));
    let nodes = nodes.into_iter().flatten().collect();
    let issues = issues.into_iter().flatten().collect();
    let refs = references.into_needed();
    Some((TaskFile { stem: stem.to_owned(), path: path.to_owned(), pools, nodes, issues, refs }, has_gaps))
}

/// Returns the names of the tasks of a file.
fn names(file: &Section<'_>) -> BTreeSet<String> {
    match file.entry("tasks").map(|entry| &*entry.node.value) {
        Some(Value::Map(tasks)) => tasks.iter().map(|task| task.key.clone()).collect(),
        Some(
            Value::Text(_)
            | Value::Plain(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Other(_)
            | Value::Null
            | Value::List(_)
            | Value::Broken,
        )
        | None => BTreeSet::new(),
    }
}

fn read_tasks(
    file: &Section<'_>,
    stem: &str,
    defaults: &Defaults,
    references: &mut References<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Option<TaskNode>>> {
    let Some(entry) = file.entry("tasks") else { return Some(Vec::new()) };
    let tasks = entries(entry, TASKS_MAX, "NAME: {run: ...}", report)?;
    Some(task::read_all(tasks, stem, defaults, references, report))
}

fn read_issues(
    file: &Section<'_>,
    defaults: &Defaults,
    references: &mut References<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Option<IssueNode>>> {
    let Some(entry) = file.entry("issues") else { return Some(Vec::new()) };
    let issues = entries(entry, ISSUES_MAX, "12: {}", report)?;
    Some(issue::read_all(issues, defaults, references, report))
}

/// Returns the entries of `tasks` or `issues`, of which there may be so many.
fn entries<'e>(entry: &'e Entry, most: usize, example: &str, report: &mut Report<'_>) -> Option<&'e [Entry]> {
    let what = entry.key.as_str();
    match &*entry.node.value {
        Value::Map(entries) if entries.len() > most => {
            let message = format!("the file has {} {what}; at most {most} are possible", entries.len());
            report.add(Note::new(Mistake::TooMuch, entry.key_span, message).help("divide it into several files"));
            None
        }
        Value::Map(entries) => Some(entries),
        Value::Null => Some(&[]),
        Value::Broken => None,
        Value::List(list) => {
            refuse_list(what, list, entry.key_span, report);
            None
        }
        other @ (Value::Text(_)
        | Value::Plain(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Other(_)) => {
            let by = if what == "tasks" { "name" } else { "number" };
            let message = format!("`{what}` must be {what} by {by}, found {}", other.kind());
            let note = Note::new(Mistake::WrongType, entry.node.span, message);
            let lost = other.text().and_then(lookalike::help_for_lost_key);
            report.add(note.help(format!("write `{what}:` and `{example}` below")).maybe_help(lost));
            None
        }
    }
}

/// Tells those who write tasks as a list, as other tools want them, how they are written here.
fn refuse_list(what: &str, list: &[Node], span: Span, report: &mut Report<'_>) {
    if what == "issues" {
        let note = Note::new(Mistake::WrongType, span, "`issues` must be issues by number, found a list");
        report.add(note.help("write `12:` instead of `- 12`, and its keys below, indented"));
        return;
    }
    let names: BTreeMap<&str, ()> = list
        .iter()
        .filter_map(|node| match &*node.value {
            Value::Map(entries) => entries.iter().find(|entry| matches!(entry.key.as_str(), "name" | "id")),
            Value::Text(_)
            | Value::Plain(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Other(_)
            | Value::Null
            | Value::List(_)
            | Value::Broken => None,
        })
        .filter_map(|entry| match &*entry.node.value {
            Value::Text(name) | Value::Plain(name) => Some((name.as_str(), ())),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(_)
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
