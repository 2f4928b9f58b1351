//! One task of a dependency file.

use std::collections::BTreeMap;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::tree::{Entry, Node};
use super::defaults::{Defaults, Known, Once, Stages, default_role, repository};
use super::every;
use super::reference::{Needs, References};
use crate::model::fault_code::Mistake;
use crate::model::id::{Role, TaskId, is_task_segment};
use crate::model::task::{Assignee, NoChange, RepositoryChoice, TaskNode, TaskSpec, Work};
use crate::model::touch::Touch;

/// Reads all tasks of a file: nothing for those whose name or needs cannot be known. What another faulty task does is
/// made up.
pub(super) fn read_all(
    tasks: &[Entry],
    stem: &str,
    defaults: &Defaults,
    references: &mut References<'_>,
    report: &mut Report<'_>,
) -> Vec<Option<TaskNode>> {
    let mut once = Once::default();
    tasks.iter().map(|entry| read_one(entry, stem, defaults, references, &mut once, report)).collect()
}

fn read_one(
    entry: &Entry,
    stem: &str,
    defaults: &Defaults,
    references: &mut References<'_>,
    once: &mut Once,
    report: &mut Report<'_>,
) -> Option<TaskNode> {
    let plan = references.plan;
    let id = read_id(entry, stem, report);
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::dag::TASK.keys, report);
    let needs: Option<Needs> = references.needs(&section, id.as_ref(), report);
    let work = read_work(&section, &entry.key, report);
    let touches = section.field("touches", report, read_touches);
    let repository = repository(&section, plan, report);
    let own = defaults.overlay(&section, &repository, plan, report);
    if section.is_broken() {
        return None;
    }
    let assignee = match own.assignee {
        Known::Good(assignee) => Some(assignee),
        Known::Missing => default_role(plan).or_else(|| {
            once.no_assignee(&entry.key, entry.key_span, plan, report);
            None
        }),
        Known::Broken => None,
    };
    let repository = match own.repository {
        Known::Good(repository) => Some(repository),
        Known::Missing => {
            once.no_repository(&entry.key, entry.key_span, plan, report);
            None
        }
        Known::Broken => None,
    };
    let every = every::read(&section, report);
    if let (Field::Given(_, span), Some(RepositoryChoice::None)) = (&touches, &repository) {
        let note = Note::new(
            Mistake::Contradiction,
            *span,
            "`touches` says which files of a repository, and `repo` is `none`",
        );
        report.add(note.help("leave `touches` out; every attempt has an empty folder of its own"));
    }
    tell_stages_without_commit(&section, own.stages.as_ref(), repository.as_ref(), report);
    let (needs, needs_places) = needs?;
    let pools_places = own.pools.iter().map(|(_, span)| report.source().place(*span)).collect();
    // Whatever is missing has been told, so that nothing of what stands in for it can come into force.
    let repository = repository.unwrap_or(RepositoryChoice::None);
    let spec = TaskSpec {
        needs,
        said: BTreeMap::new(),
        assignee: assignee.or_else(|| Role::new("nobody").ok().map(Assignee::Role))?,
        work: work.unwrap_or_else(|| Work::Run(String::new())),
        checks: own.checks,
        no_change: own.no_change.unwrap_or(match repository {
            // Without git there is nothing that a commit could be made in.
            RepositoryChoice::None => NoChange::Ok,
            RepositoryChoice::Named(_) => NoChange::Refused,
        }),
        cache: own.cache,
        timeout: own.timeout,
        stall: own.stall,
        on_stall: own.on_stall,
        retry: own.retry,
        priority: own.priority.unwrap_or_default(),
        sla: own.sla,
        pools: own.pools.into_iter().map(|(pool, _)| pool).collect(),
        touches: touches.value().unwrap_or_default(),
        on_failure: own.on_failure,
        stages: own.stages.map(|(stages, _)| stages),
        every,
        repository,
    };
    Some(TaskNode { id: id?, place: report.source().place(entry.key_span), spec, needs_places, pools_places })
}

/// Tells that stages after the work itself are asked for where there is no commit that they could be about.
fn tell_stages_without_commit(
    section: &Section<'_>,
    stages: Option<&Stages>,
    repository: Option<&RepositoryChoice>,
    report: &mut Report<'_>,
) {
    let own = section.entry("stages").and(stages);
    if let (Some((_, Some(span))), Some(RepositoryChoice::None)) = (own, repository) {
        let message = "later stages are about a commit, and there is none: `repo` is `none`";
        let note = Note::new(Mistake::Contradiction, *span, message);
        report.add(note.help("write `stages: [code]`, or leave it out"));
    }
}

fn read_id(entry: &Entry, stem: &str, report: &mut Report<'_>) -> Option<TaskId> {
    if is_task_segment(&entry.key) {
        return TaskId::new(format!("{stem}/{}", entry.key)).ok();
    }
    let message = format!("`{}` cannot be the name of a task", entry.key.escape_debug());
    report.add(
        Note::new(Mistake::BadName, entry.key_span, message)
            .help("use letters, digits, `_`, `-` and `.`; begin with a letter or digit"),
    );
    None
}

/// How many patterns one task may have.
const TOUCHES_MAX: usize = 100;

pub(super) fn read_touches(key: &str, node: &Node, report: &mut Report<'_>) -> Option<Vec<Touch>> {
    let items = read::texts(key, node, report)?;
    if items.len() > TOUCHES_MAX {
        let message = format!("`{key}` has {} patterns; at most {TOUCHES_MAX} are possible", items.len());
        report.add(Note::new(Mistake::TooMuch, node.span, message).help("a pattern of a folder means all below it"));
        return None;
    }
    let mut touches = Vec::with_capacity(items.len());
    for item in &items {
        match Touch::new(item.text.clone()) {
            Ok(touch) => touches.push(touch),
            Err(fault) => {
                report.add(
                    Note::new(Mistake::BadText, item.span, format!("`{key}`: {fault}"))
                        .help("write paths such as `src/api/**` or `docs/*.md`"),
                );
            }
        }
    }
    (touches.len() == items.len()).then_some(touches)
}

fn read_work(section: &Section<'_>, name: &str, report: &mut Report<'_>) -> Option<Work> {
    if let (Some(prompt), Some(run)) = (section.entry("prompt"), section.entry("run")) {
        let (first, second) = if prompt.key_span < run.key_span { (prompt, run) } else { (run, prompt) };
        let note =
            Note::new(Mistake::Exclusive, second.key_span, format!("the task `{name}` has both `prompt` and `run`"));
        report.add(note.help("make two tasks of it").related(first.key_span, "the other stands here"));
        return None;
    }
    let prompt = section.field("prompt", report, read::text);
    let run = section.field("run", report, read::text);
    match (prompt, run) {
        (Field::Given(prompt, _), _) => Some(Work::Prompt(prompt)),
        (_, Field::Given(run, _)) => Some(Work::Run(run)),
        (Field::Absent, Field::Absent) => {
            let note = Note::new(Mistake::NothingToDo, section.span, format!("the task `{name}` has nothing to do"));
            report.add(note.help("write `prompt:` for the agent's program, or `run:` for a shell command"));
            None
        }
        (Field::Broken, Field::Absent | Field::Broken) | (Field::Absent, Field::Broken) => None,
    }
}
