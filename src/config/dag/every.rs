//! `every`: when a task comes again.

use std::str::FromStr;

use chrono::DateTime;
use chrono_tz::Tz;
use croner::Cron;

use super::super::keys;
use super::super::read;
use super::super::report::{Note, Report};
use super::super::section::{Field, Section};
use super::super::suggest;
use super::super::tree::Node;
use crate::model::fault_code::Mistake;
use crate::model::task::{Every, Missed};

/// How many fields a time has: with more, seconds and years would be meant.
const FIELDS: usize = 5;

/// The zone of those who name none.
const ZONE: &str = "UTC";

/// Reads `every` of a task; whatever is wrong has been told.
pub(super) fn read(task: &Section<'_>, report: &mut Report<'_>) -> Option<Every> {
    let entry = task.entry("every")?;
    let section = Section::open(&entry.key, &entry.node, entry.key_span, keys::dag::EVERY.keys, report);
    if section.is_broken() {
        return None;
    }
    let cron = section.field("cron", report, read_cron);
    if cron == Field::Absent {
        section.missing("`every`", "cron", "write `cron: 0 3 * * *` for every day at three", report);
    }
    let zone = section.field("zone", report, read_zone);
    let missed = section.field("missed", report, |key, node, report| read::choice(key, &Missed::ALL, node, report));
    Some(Every {
        cron: cron.value()?,
        zone: zone.value().unwrap_or_else(|| ZONE.to_owned()),
        missed: missed.value().unwrap_or_default(),
    })
}

fn read_cron(key: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = read::text(key, node, report)?;
    let fields = text.split_ascii_whitespace().count();
    let wrong = if fields == FIELDS {
        match Cron::from_str(&text) {
            Err(fault) => Some(fault.to_string()),
            // Such as the 31st of February.
            Ok(cron) => cron
                .find_next_occurrence(&DateTime::UNIX_EPOCH, false)
                .is_err()
                .then(|| "there is no such time".to_owned()),
        }
    } else {
        Some(format!("it has {fields} fields instead of {FIELDS}"))
    };
    if let Some(wrong) = wrong {
        let note = Note::new(Mistake::BadText, node.span, format!("`{key}` cannot be `{text}`: {wrong}"));
        report.add(note.help("write minute, hour, day of the month, month and day of the week: `30 3 * * MON-FRI`"));
        return None;
    }
    Some(text)
}

fn read_zone(key: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let text = read::text(key, node, report)?;
    if Tz::from_str(&text).is_ok() {
        return Some(text);
    }
    let help = suggest::did_you_mean(&text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
    let note = Note::new(Mistake::UnknownWord, node.span, format!("`{key}` cannot be `{text}`: no such time zone"));
    report.add(note.help("write a name of the IANA list, such as `Asia/Tokyo`").maybe_help(help));
    None
}
