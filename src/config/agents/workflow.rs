//! `[workflow]`.

use std::collections::BTreeMap;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::stages;
use super::super::tree::Node;
use crate::model::agent::AgentSpec;
use crate::model::fault_code::Mistake;
use crate::model::id::Role;
use crate::model::plan::{ROUNDS_MOST, Workflow};
use crate::model::stage::{Stage, StageKind};

/// Reads `[workflow]`; nothing if a part of it is wrong.
pub(super) fn read(file: &Section<'_>, agents: Option<&[AgentSpec]>, report: &mut Report<'_>) -> Option<Workflow> {
    let built_in = Workflow { stages: usual(agents), ..Workflow::default() };
    let Some(entry) = file.entry("workflow") else { return Some(built_in) };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::workflow::WORKFLOW.keys, report);
    let stages = section.field("stages", report, |key, node, report| {
        let listed = stages::read(key, node, report)?;
        // Of a team that cannot be read nobody knows who is in it.
        let has_taker = |role: &Role| agents.is_none_or(|agents| has_somebody(role, agents));
        let is_good = stages::all_have_somebody(&listed, has_taker, report);
        is_good.then(|| listed.iter().map(|(kind, _)| kind.stage()).collect())
    });
    let rounds =
        section.field("rounds_max", report, |key, node, report| read::count(key, 1..=ROUNDS_MOST, node, report));
    let mut words = BTreeMap::new();
    let mut is_broken = matches!(stages, Field::Broken) || rounds == Field::Broken;
    for (name, kind) in [
        ("code", StageKind::Code),
        ("review", StageKind::Review),
        ("pull_request", StageKind::PullRequest),
        ("deploy", StageKind::Deploy),
    ] {
        match section.field(name, report, read::text) {
            Field::Given(text, _) => {
                words.insert(kind, text);
            }
            Field::Absent => {}
            Field::Broken => is_broken = true,
        }
    }
    let deploy_run = section.field("deploy_run", report, read::text);
    is_broken |= deploy_run == Field::Broken;
    if let (Some(words), Some(command)) = (section.entry("deploy"), section.entry("deploy_run")) {
        let note = Note::new(Mistake::Exclusive, command.key_span, "give `deploy` or `deploy_run`, not both");
        report.add(note.related(words.key_span, "`deploy` is given here"));
        is_broken = true;
    }
    let healer = section.field("healer", report, |key, node, report| read_healer(key, node, agents, report)).value();
    (!is_broken).then(|| Workflow {
        stages: stages.value().unwrap_or(built_in.stages),
        rounds_max: rounds.value().unwrap_or(built_in.rounds_max),
        words,
        deploy_run: deploy_run.value(),
        healer,
    })
}

/// Returns the stages of a team that names none: the work itself, and those for which somebody is there.
fn usual(agents: Option<&[AgentSpec]>) -> Vec<Stage> {
    let is_there =
        |kind: &StageKind| *kind == StageKind::Code || has_somebody(&kind.role(), agents.unwrap_or_default());
    StageKind::ALL.into_iter().filter(is_there).map(StageKind::stage).collect()
}

fn has_somebody(role: &Role, agents: &[AgentSpec]) -> bool {
    agents.iter().any(|agent| agent.role == *role && agent.takes_work())
}

fn read_healer(key: &str, node: &Node, agents: Option<&[AgentSpec]>, report: &mut Report<'_>) -> Option<Role> {
    let role: Role = read::name(key, node, report)?;
    // What is wrong with the agents has been told; who is missing then proves nothing.
    let is_there = agents.is_none_or(|agents| has_somebody(&role, agents));
    if !is_there {
        let note =
            Note::new(Mistake::UnknownAgent, node.span, format!("no agent that takes work has the role `{role}`"));
        report.add(note.help("give one agent this role, or leave `healer` out"));
    }
    is_there.then_some(role)
}
