//! `limits`, of `[defaults]` and of an agent.

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use crate::model::agent::Limits;
use crate::model::fault_code::Mistake;
use crate::model::size::{self, Size};

/// With less memory no coding agent could start.
const MEMORY_MIN: Size = Size(16 << 20);

/// Reads limits on top of what held before; whatever is wrong has been told.
pub(super) fn read(outer: &Section<'_>, base: &Limits, report: &mut Report<'_>) -> Limits {
    let Some(entry) = outer.entry("limits") else { return *base };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::LIMITS.keys, report);
    let memory_max = section.field("memory_max", report, read::size);
    let memory_high = section.field("memory_high", report, read::size);
    for (name, field) in [("memory_max", &memory_max), ("memory_high", &memory_high)] {
        if let Field::Given(size, span) = field
            && *size < MEMORY_MIN
        {
            let message = format!("`{name}` must be at least {}", size::format(MEMORY_MIN));
            report.add(Note::new(Mistake::OutOfRange, *span, message).help("with less no agent could start"));
        }
    }
    let written = [&memory_high, &memory_max].into_iter().filter_map(Field::span).max();
    let (high, max) = (set(&memory_high, base.memory_high), set(&memory_max, base.memory_max));
    if let (Some(span), Some(high), Some(max)) = (written, high, max)
        && high >= max
    {
        let (high, max) = (size::format(high), size::format(max));
        let message = format!("`memory_high` ({high}) must be below `memory_max` ({max})");
        report.add(
            Note::new(Mistake::Contradiction, span, message)
                .help("at `memory_max` the kernel kills, whatever `memory_high` says"),
        );
    }
    let tasks_max = section.field("tasks_max", report, |key, node, report| {
        read::count(key, keys::agents::TASKS_MIN..=keys::agents::TASKS_MAX, node, report)
    });
    let cpu_weight = section.field("cpu_weight", report, |key, node, report| {
        read::count(key, 1..=keys::agents::CPU_WEIGHT_MAX, node, report)
    });
    Limits {
        memory_max: memory_max.value().or(base.memory_max),
        memory_high: memory_high.value().or(base.memory_high),
        tasks_max: tasks_max.value().or(base.tasks_max),
        cpu_weight: cpu_weight.value().or(base.cpu_weight),
    }
}

/// Returns what holds, or nothing while that is not known.
fn set(field: &Field<Size>, base: Option<Size>) -> Option<Size> {
    match field {
        Field::Given(size, _) => Some(*size),
        Field::Absent => base,
        Field::Broken => None,
    }
}
