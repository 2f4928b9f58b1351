//! What a dependency file says for all its tasks: `repo` and `defaults`.

use std::time::Duration;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::source::Span;
use super::super::stages;
use super::super::suggest;
use super::super::tree::Node;
use super::policy;
use crate::model::agent::{AgentSpec, StallAnswer};
use crate::model::fault_code::Mistake;
use crate::model::id::{AgentId, PoolName, RepositoryName, Role};
use crate::model::plan::Plan;
use crate::model::stage::StageKind;
use crate::model::task::{Assignee, Cache, NoChange, OnFailure, Priority, RepositoryChoice, RetryPolicy};

/// The shortest time limit of an attempt.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// What tasks write when they need no repository.
const NO_REPOSITORY: &str = "none";

/// A value that is known, missing, or so wrong that it has been told already.
#[derive(Debug, Clone)]
pub(super) enum Known<T> {
    /// The value.
    Good(T),
    /// Nobody has said it.
    Missing,
    /// What was said is wrong and has been told.
    Broken,
}

/// What holds for a task that does not say otherwise.
#[derive(Debug)]
pub(super) struct Defaults {
    pub(super) assignee: Known<Assignee>,
    pub(super) checks: Vec<String>,
    pub(super) no_change: Option<NoChange>,
    pub(super) cache: Cache,
    pub(super) timeout: Option<Duration>,
    pub(super) stall: Option<Duration>,
    pub(super) on_stall: Option<StallAnswer>,
    pub(super) retry: RetryPolicy,
    pub(super) priority: Option<Priority>,
    pub(super) sla: Option<Duration>,
    pub(super) pools: Pools,
    pub(super) on_failure: OnFailure,
    pub(super) stages: Option<Stages>,
    pub(super) repository: Known<RepositoryChoice>,
}

impl Defaults {
    /// Reads `repo` and `defaults` of a file.
    pub(super) fn read(file: &Section<'_>, plan: &Plan, report: &mut Report<'_>) -> Self {
        let only = match plan.repositories.as_slice() {
            [only] => Known::Good(RepositoryChoice::Named(only.name.clone())),
            [] | [_, _, ..] => Known::Missing,
        };
        let top = repository(file, plan, report);
        let base = Self {
            assignee: Known::Missing,
            checks: Vec::new(),
            no_change: None,
            cache: Cache::Off,
            timeout: None,
            stall: None,
            on_stall: None,
            retry: RetryPolicy::default(),
            priority: None,
            sla: None,
            pools: Pools::new(),
            on_failure: OnFailure::default(),
            stages: None,
            repository: or(&top, only),
        };
        let Some(entry) = file.entry("defaults") else { return base };
        let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::dag::DAG_DEFAULTS.keys, report);
        let repository = repository(&section, plan, report);
        if let (Some(first), Some(second)) = (file.entry("repo"), section.entry("repo")) {
            let note =
                Note::new(Mistake::Exclusive, second.key_span, "`repo` is given for the file and in its `defaults`");
            report.add(note.help("give only one of them").related(first.key_span, "given here for the file"));
        }
        base.overlay(&section, &repository, plan, report)
    }

    /// Returns these values with those of a table on top: of `defaults`, or of one task.
    pub(super) fn overlay(
        &self,
        section: &Section<'_>,
        repository: &Field<RepositoryChoice>,
        plan: &Plan,
        report: &mut Report<'_>,
    ) -> Self {
        let assignee = assignee(section, plan, report);
        let checks = section.field("check", report, read::texts).value();
        let no_change = section.field("no_change", report, |key, node, report| {
            read::choice(key, &[("ok", NoChange::Ok), ("refused", NoChange::Refused)], node, report)
        });
        let cache = section.field("cache", report, read::flag).value();
        let cache = cache.map(|is_on| if is_on { Cache::On } else { Cache::Off });
        let timeout =
            section.field("timeout", report, |key, node, report| read::duration(key, TIMEOUT_MIN, node, report));
        let stall = section.field("stall", report, |key, node, report| read::duration(key, TIMEOUT_MIN, node, report));
        let on_stall = section.field("on_stall", report, |key, node, report| {
            read::choice(key, &StallAnswer::ALL.map(|answer| (answer.as_str(), answer)), node, report)
        });
        let priority = section.field("priority", report, |key, node, report| read::count(key, 1..=5, node, report));
        let priority = priority.value().and_then(|number| Priority::try_from(u8::try_from(number).ok()?).ok());
        let sla = section.field("sla", report, |key, node, report| read::duration(key, TIMEOUT_MIN, node, report));
        let pools = section.field("pools", report, read_pools);
        let on_failure =
            section.field("on_failure", report, |key, node, report| read::choice(key, &OnFailure::ALL, node, report));
        let stages = section.field("stages", report, |key, node, report| read_stages(key, node, plan, report));
        Self {
            assignee: or(&assignee, self.assignee.clone()),
            checks: checks
                .map_or_else(|| self.checks.clone(), |checks| checks.into_iter().map(|item| item.text).collect()),
            no_change: no_change.value().or(self.no_change),
            cache: cache.unwrap_or(self.cache),
            timeout: timeout.value().or(self.timeout),
            stall: stall.value().or(self.stall),
            on_stall: on_stall.value().or(self.on_stall),
            retry: policy::read(section, self.retry.clone(), report),
            priority: priority.or(self.priority),
            sla: sla.value().or(self.sla),
            pools: pools.value().unwrap_or_else(|| self.pools.clone()),
            on_failure: on_failure.value().unwrap_or(self.on_failure),
            stages: stages.value().or_else(|| self.stages.clone()),
            repository: or(repository, self.repository.clone()),
        }
    }
}

/// The pools that a task names, each with its place.
pub(super) type Pools = Vec<(PoolName, Span)>;

fn read_pools(key: &str, node: &Node, report: &mut Report<'_>) -> Option<Pools> {
    let items =
        read::words(key, node, report, |text| text.parse::<PoolName>().map(|_| ()).map_err(|fault| fault.to_string()))?;
    items.into_iter().map(|item| Some((item.text.parse().ok()?, item.span))).collect()
}

/// The stages that a task names, and the place of the first one after the work itself.
pub(super) type Stages = (Vec<StageKind>, Option<Span>);

fn read_stages(key: &str, node: &Node, plan: &Plan, report: &mut Report<'_>) -> Option<Stages> {
    let listed = stages::read(key, node, report)?;
    let is_good = stages::all_have_somebody(&listed, |role| has_takers(role, plan), report);
    is_good.then(|| (listed.iter().map(|(kind, _)| *kind).collect(), listed.get(1).map(|(_, span)| *span)))
}

fn or<T: Clone>(field: &Field<T>, base: Known<T>) -> Known<T> {
    match field {
        Field::Given(value, _) => Known::Good(value.clone()),
        Field::Absent => base,
        Field::Broken => Known::Broken,
    }
}

/// The role of the workflow's first stage, if somebody has it.
pub(super) fn default_role(plan: &Plan) -> Option<Assignee> {
    let role = plan.workflow.stages.first().map(|stage| stage.role.clone())?;
    has_takers(&role, plan).then_some(Assignee::Role(role))
}

fn takers(plan: &Plan) -> impl Iterator<Item = &AgentSpec> {
    plan.agents.iter().filter(|agent| agent.takes_work())
}

fn has_takers(role: &Role, plan: &Plan) -> bool {
    takers(plan).any(|agent| agent.role == *role)
}

/// Reads `agent` or `role`.
fn assignee(section: &Section<'_>, plan: &Plan, report: &mut Report<'_>) -> Field<Assignee> {
    if let (Some(agent), Some(role)) = (section.entry("agent"), section.entry("role")) {
        let (first, second) = if agent.key_span < role.key_span { (agent, role) } else { (role, agent) };
        let note = Note::new(Mistake::Exclusive, second.key_span, "give `agent` or `role`, not both");
        report.add(note.related(first.key_span, format!("`{}` is given here", first.key)));
        return Field::Broken;
    }
    let agent = section.field("agent", report, |key, node, report| read_agent(key, node, plan, report));
    match agent {
        Field::Absent => section.field("role", report, |key, node, report| read_role(key, node, plan, report)),
        Field::Given(..) | Field::Broken => agent,
    }
}

fn read_agent(key: &str, node: &Node, plan: &Plan, report: &mut Report<'_>) -> Option<Assignee> {
    let text = read::text(key, node, report)?;
    let found = AgentId::new(text.clone()).ok().and_then(|id| plan.agent(&id));
    match found {
        Some(agent) if agent.takes_work() => Some(Assignee::Agent(agent.id.clone())),
        Some(_) => {
            let note = Note::new(
                Mistake::TakesNoWork,
                node.span,
                format!("the agent `{text}` takes no work: it is a dashboard"),
            );
            let others = takers(plan).map(|agent| agent.id.as_str()).collect::<Vec<_>>().join(", ");
            report.add(note.help(format!("these do: {others}")));
            None
        }
        None => {
            // People see display names everywhere, so they also write them here.
            let by_name = plan.agents.iter().find(|agent| agent.name == text).map(|agent| agent.id.as_str());
            let help = match by_name {
                Some(id) => Some(format!("write its id: `{id}`")),
                None => suggest::did_you_mean(&text, takers(plan).map(|agent| agent.id.as_str())),
            };
            let known = takers(plan).map(|agent| agent.id.as_str()).collect::<Vec<_>>().join(", ");
            let note = Note::new(Mistake::UnknownAgent, node.span, format!("unknown agent `{text}`"))
                .help(format!("known: {known}"));
            report.add(note.maybe_help(help));
            None
        }
    }
}

fn read_role(key: &str, node: &Node, plan: &Plan, report: &mut Report<'_>) -> Option<Assignee> {
    let text = read::text(key, node, report)?;
    let role = Role::new(text.clone()).ok();
    match role {
        Some(role) if has_takers(&role, plan) => Some(Assignee::Role(role)),
        Some(role) if plan.agents.iter().any(|agent| agent.role == role) => {
            report.add(Note::new(
                Mistake::TakesNoWork,
                node.span,
                format!("no agent of the role `{text}` takes work: dashboards only show"),
            ));
            None
        }
        Some(_) | None => {
            let mut roles: Vec<&str> = takers(plan).map(|agent| agent.role.as_str()).collect();
            roles.sort_unstable();
            roles.dedup();
            let note = Note::new(Mistake::UnknownAgent, node.span, format!("no agent has the role `{text}`"));
            let help = suggest::did_you_mean(&text, roles.iter().copied());
            report.add(note.help(format!("known: {}", roles.join(", "))).maybe_help(help));
            None
        }
    }
}

/// Reads `repo` of the file, of its defaults or of a task.
pub(super) fn repository(section: &Section<'_>, plan: &Plan, report: &mut Report<'_>) -> Field<RepositoryChoice> {
    section.field("repo", report, |key, node, report| {
        let text = read::text(key, node, report)?;
        if text == NO_REPOSITORY {
            return Some(RepositoryChoice::None);
        }
        let name = RepositoryName::new(text.clone()).ok().filter(|name| plan.repository(name).is_some());
        if name.is_none() {
            let names = plan.repositories.iter().map(|repository| repository.name.as_str());
            let help = suggest::did_you_mean(&text, names.chain(std::iter::once(NO_REPOSITORY)));
            let note = Note::new(Mistake::UnknownRepository, node.span, format!("unknown repository `{text}`"));
            report.add(note.help(known_repositories(plan)).maybe_help(help));
        }
        name.map(RepositoryChoice::Named)
    })
}

/// Lists the repositories for people.
fn known_repositories(plan: &Plan) -> String {
    if plan.repositories.is_empty() {
        return "agents.toml has no `[[repository]]`: add one, or write `repo: none`".to_owned();
    }
    let names: Vec<&str> = plan.repositories.iter().map(|repository| repository.name.as_str()).collect();
    format!("known: {}, none", names.join(", "))
}

/// Faults that concern a whole file and are told at its first task only.
#[derive(Debug, Default)]
pub(super) struct Once {
    assignee: bool,
    repository: bool,
}

impl Once {
    /// Tells that nobody is there for tasks that name nobody.
    pub(super) fn no_assignee(&mut self, task: &str, span: Span, plan: &Plan, report: &mut Report<'_>) {
        if std::mem::replace(&mut self.assignee, true) {
            return;
        }
        let role = plan.workflow.stages.first().map_or("codegen", |stage| stage.role.as_str());
        let note = Note::new(
            Mistake::Nobody,
            span,
            format!("the task `{task}` names nobody, and no agent has the role `{role}`"),
        );
        report.add(note.help("write `agent: ID` or `role: ROLE` here or under `defaults:`"));
    }

    /// Tells that nobody knows where the tasks work.
    pub(super) fn no_repository(&mut self, task: &str, span: Span, plan: &Plan, report: &mut Report<'_>) {
        if std::mem::replace(&mut self.repository, true) {
            return;
        }
        let message = match plan.repositories.len() {
            0 => format!("the task `{task}` needs a repository, and agents.toml has none"),
            count => format!("the task `{task}` does not say in which of {count} repositories it works"),
        };
        let help = match plan.repositories.len() {
            0 => "add a `[[repository]]` there, or write `repo: none`".to_owned(),
            _ => format!("write `repo:` here or at the top of the file; {}", known_repositories(plan)),
        };
        report.add(Note::new(Mistake::WhichRepository, span, message).help(help));
    }
}
