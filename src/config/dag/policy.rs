//! `retry`: how often and how soon a failed attempt is repeated.

use std::time::Duration;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use crate::model::fault_code::Mistake;
use crate::model::span;
use crate::model::task::{FailureClass, RETRY_LIMIT_MAX, RetryPolicy};

/// The largest factor by which a wait may grow.
const BACKOFF_MAX: f64 = 100.0;

/// Reads `retry` of a table, on top of what held before.
pub(super) fn read(outer: &Section<'_>, base: RetryPolicy, report: &mut Report<'_>) -> RetryPolicy {
    let Some(entry) = outer.entry("retry") else { return base };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::dag::RETRY.keys, report);
    let limit = section.field("limit", report, |key, node, report| read::count(key, 0..=RETRY_LIMIT_MAX, node, report));
    let interval = wait("interval", &section, report);
    let backoff =
        section.field("backoff", report, |key, node, report| read::factor(key, 1.0..=BACKOFF_MAX, node, report));
    let max_interval = wait("max_interval", &section, report);
    let is_broken = interval == Field::Broken || max_interval == Field::Broken;
    let at = max_interval.span().or(interval.span());
    let mut limits = base.limits;
    let own = section.field("limits", report, |key, node, report| {
        read::counts::<FailureClass>(key, &(0..=RETRY_LIMIT_MAX), node, report)
    });
    limits.extend(own.value().unwrap_or_default().into_iter().map(|(class, (limit, _))| (class, limit)));
    let policy = RetryPolicy {
        limit: limit.value().unwrap_or(base.limit),
        interval: interval.value().unwrap_or(base.interval),
        backoff: backoff.value().unwrap_or(base.backoff),
        max_interval: max_interval.value().unwrap_or(base.max_interval),
        limits,
    };
    if let Some(at) = at
        && !is_broken
        && policy.max_interval < policy.interval
    {
        let (max, min) = (span::format(policy.max_interval), span::format(policy.interval));
        let message = format!("`max_interval` ({max}) must not be shorter than `interval` ({min})");
        report.add(Note::new(Mistake::Contradiction, at, message).help("the waits grow from the one to the other"));
    }
    policy
}

fn wait(name: &'static str, section: &Section<'_>, report: &mut Report<'_>) -> Field<Duration> {
    section.field(name, report, |key, node, report| read::duration(key, Duration::ZERO, node, report))
}
