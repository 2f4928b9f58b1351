//! `[resources]`, `[alert]`, `[log]` and `[service]`.

use std::time::Duration;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::tree::Node;
use super::agent::words_of_command;
use crate::model::fault_code::Mistake;
use crate::model::plan::{ATTEMPT_LOG_DAYS, DRAIN, LOG_DAYS, ResourceLimits};
use crate::model::size::{self, Size};
use crate::model::span;

/// The shortest and the longest time that a drain may take.
const DRAIN_MIN: Duration = Duration::from_secs(1);
const DRAIN_MAX: Duration = Duration::from_hours(1);

/// Reads `[resources]`; nothing if it contradicts itself.
pub(super) fn read(file: &Section<'_>, report: &mut Report<'_>) -> Option<ResourceLimits> {
    let built_in = ResourceLimits::default();
    let Some(entry) = file.entry("resources") else { return Some(built_in) };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::RESOURCES.keys, report);
    let disk = (built_in.disk_low, built_in.disk_resume);
    let memory = (built_in.memory_low, built_in.memory_resume);
    let disk = pair(&section, ["disk_low", "disk_resume"], disk, report);
    let memory = pair(&section, ["memory_low", "memory_resume"], memory, report);
    let worktrees_max = section.field("worktrees_max", report, read::size).or(built_in.worktrees_max);
    let worktree_days = days(&section, ("worktree_days", 1), built_in.worktree_days, report);
    let branch_days = days(&section, ("branch_days", 0), built_in.branch_days, report);
    let ((disk_low, disk_resume), (memory_low, memory_resume)) = (disk?, memory?);
    let (worktrees_max, worktree_days, branch_days) = (worktrees_max?, worktree_days?, branch_days?);
    Some(ResourceLimits { disk_low, disk_resume, memory_low, memory_resume, worktrees_max, worktree_days, branch_days })
}

/// Reads the two marks of one thing that can run low. Whoever writes only the lower one moves the upper one along.
fn pair(
    section: &Section<'_>,
    [low_name, resume_name]: [&'static str; 2],
    built_in: (Size, Size),
    report: &mut Report<'_>,
) -> Option<(Size, Size)> {
    let low = section.field(low_name, report, read::size);
    let resume = section.field(resume_name, report, read::size);
    match (low, resume) {
        (Field::Absent, Field::Absent) => Some(built_in),
        (Field::Given(low, _), Field::Absent) => Some((low, Size(low.0.saturating_mul(2)))),
        (Field::Absent, Field::Given(resume, _)) => Some((built_in.0.min(resume), resume)),
        (Field::Given(low, _), Field::Given(resume, span)) if resume < low => {
            let (low, resume) = (size::format(low), size::format(resume));
            let message = format!("`{resume_name}` ({resume}) must be at least `{low_name}` ({low})");
            report.add(Note::new(Mistake::Contradiction, span, message).help("work would stop and go on at once"));
            None
        }
        (Field::Given(low, _), Field::Given(resume, _)) => Some((low, resume)),
        (Field::Broken, _) | (_, Field::Broken) => None,
    }
}

/// Reads `[log]`: how many days the supervisor's log and the logs of attempts are kept.
pub(super) fn read_log(file: &Section<'_>, report: &mut Report<'_>) -> Option<(u32, u32)> {
    let Some(entry) = file.entry("log") else { return Some((LOG_DAYS, ATTEMPT_LOG_DAYS)) };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::LOG.keys, report);
    let own = days(&section, ("keep_days", 1), LOG_DAYS, report);
    let attempts = days(&section, ("attempt_days", 1), ATTEMPT_LOG_DAYS, report);
    Some((own?, attempts?))
}

/// Reads for how many days something is kept, and at least for how many.
fn days(
    section: &Section<'_>,
    (name, least): (&'static str, u32),
    built_in: u32,
    report: &mut Report<'_>,
) -> Option<u32> {
    let count = |key: &str, node: &Node, report: &mut Report<'_>| {
        read::count(key, least..=keys::agents::LOG_DAYS_MAX, node, report)
    };
    section.field(name, report, count).or(built_in)
}

/// Reads `[service]`: how long running attempts may go on when the supervisor goes down.
pub(super) fn read_service(file: &Section<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let Some(entry) = file.entry("service") else { return Some(DRAIN) };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::SERVICE.keys, report);
    let drain = section.field("drain", report, |key, node, report| read::duration(key, DRAIN_MIN, node, report));
    match drain {
        Field::Given(drain, span) if drain > DRAIN_MAX => {
            let message = format!("`drain` must be at most {}", span::format(DRAIN_MAX));
            report.add(Note::new(Mistake::OutOfRange, span, message).help("a shutdown of the machine waits for it"));
            None
        }
        Field::Given(drain, _) => Some(drain),
        Field::Absent => Some(DRAIN),
        Field::Broken => None,
    }
}

/// Reads the program of `[alert]`; empty when none is named.
pub(super) fn read_alert(file: &Section<'_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let Some(entry) = file.entry("alert") else { return Some(Vec::new()) };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::ALERT.keys, report);
    match section.field("command", report, words_of_command) {
        Field::Given(command, _) => Some(command),
        Field::Absent => Some(Vec::new()),
        Field::Broken => None,
    }
}
