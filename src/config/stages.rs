//! `stages`, of the workflow and of a task.

use super::read;
use super::report::{Note, Report};
use super::source::Span;
use super::tree::Node;
use crate::model::fault_code::Mistake;
use crate::model::id::Role;
use crate::model::stage::StageKind;

/// Tells the stages that nobody could do, and says whether there are none. Whoever does the work itself may also be named by
/// every task.
pub(super) fn all_have_somebody(
    listed: &[(StageKind, Span)],
    has_somebody: impl Fn(&Role) -> bool,
    report: &mut Report<'_>,
) -> bool {
    let mut is_good = true;
    for (kind, span) in listed.iter().filter(|(kind, _)| *kind != StageKind::Code) {
        let role = kind.role();
        if !has_somebody(&role) {
            let message = format!("the stage `{}` is done by the role `{role}`, and no agent has it", kind.as_str());
            report.add(
                Note::new(Mistake::UnknownAgent, *span, message).help("give one agent this role, or leave it out"),
            );
            is_good = false;
        }
    }
    is_good
}

/// Reads a list of stages: each once, in their order, and the work itself first.
pub(super) fn read(key: &str, node: &Node, report: &mut Report<'_>) -> Option<Vec<(StageKind, Span)>> {
    let items = read::words(key, node, report, |text| {
        text.parse::<StageKind>().map(|_| ()).map_err(|fault| fault.to_string())
    })?;
    let stages: Vec<(StageKind, Span)> =
        items.into_iter().filter_map(|item| Some((item.text.parse().ok()?, item.span))).collect();
    let usual = || {
        let known: Vec<String> = StageKind::ALL.iter().map(|kind| format!("`{}`", kind.as_str())).collect();
        format!("the order is {}; all but `code` can be left out", known.join(", "))
    };
    let Some((first, span)) = stages.first() else {
        let note = Note::new(Mistake::Empty, node.span, format!("`{key}` must name at least one stage"));
        report.add(note.help("write `[\"code\"]`"));
        return None;
    };
    if *first != StageKind::Code {
        report.add(Note::new(Mistake::Contradiction, *span, format!("`{key}` must begin with `code`")).help(usual()));
        return None;
    }
    let misplaced = stages.windows(2).find_map(|pair| match pair {
        [(before, _), (after, span)] if after < before => Some((after, *span)),
        _ => None,
    });
    if let Some((kind, span)) = misplaced {
        let message = format!("`{}` stands too late in `{key}`", kind.as_str());
        report.add(Note::new(Mistake::Contradiction, span, message).help(usual()));
        return None;
    }
    Some(stages)
}
