//! `[scheduler]`.

use std::time::Duration;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use crate::model::agent::AgentSpec;
use crate::model::fault_code::Mistake;
use crate::model::id::Role;
use crate::model::plan::{ATTEMPTS_AT_ONCE_MAX, OUTCOMES, SchedulerSpec};

/// The shortest time after which a task may count as more urgent.
const AGEING_MIN: Duration = Duration::from_secs(1);

/// Reads `[scheduler]`; nothing if a part of it is wrong.
pub(super) fn read(file: &Section<'_>, agents: Option<&[AgentSpec]>, report: &mut Report<'_>) -> Option<SchedulerSpec> {
    let built_in = SchedulerSpec::default();
    let Some(entry) = file.entry("scheduler") else { return Some(built_in) };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::SCHEDULER.keys, report);
    let ageing = section.field("ageing", report, |key, node, report| read::duration(key, AGEING_MIN, node, report));
    let roles = section.field("roles", report, |key, node, report| {
        read::counts::<Role>(key, &(1..=ATTEMPTS_AT_ONCE_MAX), node, report)
    });
    let load = section.field("load_high", report, |key, node, report| read::factor(key, 0.0..=1_000.0, node, report));
    let failures =
        section.field("failures_max", report, |key, node, report| read::count(key, 0..=OUTCOMES, node, report));
    if let (Field::Given(roles, _), Some(agents)) = (&roles, agents) {
        for (role, (_, span)) in roles {
            if agents.iter().all(|agent| agent.role != *role) {
                report.add(Note::new(Mistake::UnknownAgent, *span, format!("no agent has the role `{role}`")));
            }
        }
    }
    let is_broken = ageing == Field::Broken
        || matches!(roles, Field::Broken)
        || matches!(load, Field::Broken)
        || failures == Field::Broken;
    (!is_broken).then(|| SchedulerSpec {
        ageing: ageing.value().unwrap_or(built_in.ageing),
        roles: roles.value().unwrap_or_default().into_iter().map(|(role, (count, _))| (role, count)).collect(),
        load_high: load.value().map_or(built_in.load_high, hundredths),
        failures_max: failures.value().unwrap_or(built_in.failures_max),
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range of the key is 0 to 1000")]
fn hundredths(load: f64) -> u32 {
    (load * 100.0).round() as u32
}
