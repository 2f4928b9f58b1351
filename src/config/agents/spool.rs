//! `[spool]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use crate::model::fault_code::Mistake;
use crate::model::plan::{ENVELOPE_BYTES_MOST, SpoolLimits};
use crate::model::size::{self, Size};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// How large the bound of one envelope may be: a work order must fit, and every reader holds one in memory.
const ENVELOPE_BYTES: RangeInclusive<u64> = 64 * KIB..=ENVELOPE_BYTES_MOST.0;

/// How large the bounds of many envelopes may be; the upper one is that of signed numbers.
const MANY_BYTES: RangeInclusive<u64> = MIB..=i64::MAX as u64;

/// How much may be kept free; nothing is fine, then only a full disk refuses.
const RESERVE_BYTES: RangeInclusive<u64> = 0..=i64::MAX as u64;

/// What ended less than a day ago may still be asked for by its idempotency key.
const AGE_MIN: Duration = Duration::from_hours(24);

/// Reads `[spool]`; nothing if something in it is wrong.
pub(super) fn read(file: &Section<'_>, report: &mut Report<'_>) -> Option<SpoolLimits> {
    let built_in = SpoolLimits::default();
    let Some(entry) = file.entry("spool") else { return Some(built_in) };
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::agents::SPOOL.keys, report);
    let envelope_bytes_max = bytes(&section, "envelope_bytes_max", ENVELOPE_BYTES, built_in.envelope_bytes_max, report);
    let mailbox_envelopes_max = count(&section, "mailbox_envelopes_max", built_in.mailbox_envelopes_max, report);
    let bytes_max = bytes(&section, "bytes_max", MANY_BYTES, built_in.bytes_max, report);
    let disk_reserve = bytes(&section, "disk_reserve", RESERVE_BYTES, built_in.disk_reserve, report);
    let done_age_max = age(&section, "done_age_max", built_in.done_age_max, report);
    let done_envelopes_max = count(&section, "done_envelopes_max", built_in.done_envelopes_max, report);
    let done_bytes_max = bytes(&section, "done_bytes_max", MANY_BYTES, built_in.done_bytes_max, report);
    let dead_age_max = age(&section, "dead_age_max", built_in.dead_age_max, report);
    let dead_envelopes_max = count(&section, "dead_envelopes_max", built_in.dead_envelopes_max, report);
    let dead_bytes_max = bytes(&section, "dead_bytes_max", MANY_BYTES, built_in.dead_bytes_max, report);
    Some(SpoolLimits {
        envelope_bytes_max: envelope_bytes_max?,
        mailbox_envelopes_max: mailbox_envelopes_max?,
        bytes_max: bytes_max?,
        disk_reserve: disk_reserve?,
        done_age_max: done_age_max?,
        done_envelopes_max: done_envelopes_max?,
        done_bytes_max: done_bytes_max?,
        dead_age_max: dead_age_max?,
        dead_envelopes_max: dead_envelopes_max?,
        dead_bytes_max: dead_bytes_max?,
    })
}

fn bytes(
    section: &Section<'_>,
    name: &'static str,
    range: RangeInclusive<u64>,
    built_in: Size,
    report: &mut Report<'_>,
) -> Option<Size> {
    match section.field(name, report, read::size) {
        Field::Absent => Some(built_in),
        Field::Broken => None,
        Field::Given(size, _) if range.contains(&size.0) => Some(size),
        Field::Given(_, span) => {
            let (least, most) = (size::format(Size(*range.start())), size::format(Size(*range.end())));
            let most = if *range.end() == *MANY_BYTES.end() { String::new() } else { format!(" and at most {most}") };
            report.add(Note::new(Mistake::OutOfRange, span, format!("`{name}` must be at least {least}{most}")));
            None
        }
    }
}

fn count(section: &Section<'_>, name: &'static str, built_in: u32, report: &mut Report<'_>) -> Option<u32> {
    let range = 1..=keys::agents::SPOOL_ENVELOPES_MAX;
    or(section.field(name, report, |key, node, report| read::count(key, range, node, report)), built_in)
}

fn age(section: &Section<'_>, name: &'static str, built_in: Duration, report: &mut Report<'_>) -> Option<Duration> {
    or(section.field(name, report, |key, node, report| read::duration(key, AGE_MIN, node, report)), built_in)
}

fn or<T>(field: Field<T>, built_in: T) -> Option<T> {
    match field {
        Field::Given(value, _) => Some(value),
        Field::Absent => Some(built_in),
        Field::Broken => None,
    }
}
