//! One issue of a dependency file.

use std::collections::BTreeMap;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::source::Span;
use super::super::tree::{Entry, Node};
use super::defaults::{Defaults, Known};
use super::reference::References;
use super::task::read_touches;
use crate::model::fault_code::Mistake;
use crate::model::id::TaskId;
use crate::model::task::{IssueNode, IssueSpec, ResolvedWhen};

/// The keys that also mean something for an issue that is only watched.
const WATCHED: [&str; 2] = ["external", "resolved_when"];

/// Reads all issues of a file: nothing for those that cannot be known, or whose needs cannot.
pub(super) fn read_all(
    issues: &[Entry],
    defaults: &Defaults,
    references: &mut References<'_>,
    report: &mut Report<'_>,
) -> Vec<Option<IssueNode>> {
    let mut seen: BTreeMap<TaskId, Span> = BTreeMap::new();
    let mut nodes = Vec::with_capacity(issues.len());
    for entry in issues {
        nodes.push(read_one(entry, defaults, references, &mut seen, report));
    }
    nodes
}

fn read_one(
    entry: &Entry,
    defaults: &Defaults,
    references: &mut References<'_>,
    seen: &mut BTreeMap<TaskId, Span>,
    report: &mut Report<'_>,
) -> Option<IssueNode> {
    let found = references.issue(&entry.key, entry.key_span, report);
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::dag::ISSUE.keys, report);
    let needs = references.needs(&section, found.as_ref().map(|(id, _)| id), report);
    let external = section.field("external", report, read::flag);
    let resolved_when = section.field("resolved_when", report, read_resolved_when);
    let touches = section.field("touches", report, read_touches);
    let own = defaults.overlay(&section, &Field::Absent, references.plan, report);
    let (id, reference) = found?;
    if let Some(first) = seen.insert(id.clone(), entry.key_span) {
        let note = Note::new(Mistake::IssueTwice, entry.key_span, format!("the issue `{}` is listed twice", entry.key));
        report.add(note.related(first, "first here").help("write all that is said of it in one place"));
        return None;
    }
    if section.is_broken() {
        return None;
    }
    let is_external = external == Field::Given(true, external.span().unwrap_or(Span::FILE));
    if !reference.ours && !is_external && external != Field::Broken {
        let message = format!("`{}` is in no `[[repository]]` with this `github`, so nobody can work on it", entry.key);
        let note = Note::new(Mistake::ForeignIssue, entry.key_span, message);
        report.add(note.help("write `external: true` to only watch it, or add the repository to agents.toml"));
    }
    if is_external {
        tell_useless_keys(entry, &section, report);
    }
    let (needs, needs_places) = needs?;
    let pools_places = own.pools.iter().map(|(_, span)| report.source().place(*span)).collect();
    let spec = IssueSpec {
        needs,
        external: is_external,
        resolved_when: resolved_when.value(),
        assignee: match own.assignee {
            Known::Good(assignee) => Some(assignee),
            Known::Missing | Known::Broken => None,
        },
        checks: own.checks,
        no_change: own.no_change,
        timeout: own.timeout,
        stall: own.stall,
        on_stall: own.on_stall,
        retry: own.retry,
        priority: own.priority,
        sla: own.sla,
        pools: own.pools.into_iter().map(|(pool, _)| pool).collect(),
        touches: touches.value().unwrap_or_default(),
        on_failure: own.on_failure,
        cache: own.cache,
        stages: own.stages.map(|(stages, _)| stages),
    };
    let place = report.source().place(entry.key_span);
    Some(IssueNode { id, issue: reference.issue, place, spec, needs_places, pools_places })
}

/// Tells what is said of the work on an issue that nobody works on.
fn tell_useless_keys(entry: &Entry, section: &Section<'_>, report: &mut Report<'_>) {
    for key in keys::dag::ISSUE.keys.iter().filter(|key| !WATCHED.contains(&key.name)) {
        if let Some(useless) = section.entry(key.name) {
            let message = format!(
                "`{}` is only watched (`external: true`), so `{}` means nothing for it",
                entry.key, useless.key
            );
            let note = Note::new(Mistake::Contradiction, useless.key_span, message);
            report.add(note.help("leave one of them out"));
        }
    }
}

fn read_resolved_when(key: &str, node: &Node, report: &mut Report<'_>) -> Option<ResolvedWhen> {
    let text = read::text(key, node, report)?;
    match text.parse() {
        Ok(when) => Some(when),
        Err(_) => {
            let message = format!("`{key}` cannot be `{text}`; known: closed, merged, label:NAME");
            report.add(Note::new(Mistake::UnknownWord, node.span, message));
            None
        }
    }
}
