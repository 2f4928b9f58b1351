//! Reads single values of a [`Node`]: every function tells what is wrong and returns nothing then.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::lookalike;
use super::report::{Note, Report};
use super::source::Span;
use super::suggest;
use super::tree::{Node, Value};
use crate::model::fault_code::Mistake;
use crate::model::id::NameFault;
use crate::model::size::{self, Size};
use crate::model::span;

/// A value that is one of several, with its own place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// The text.
    pub(super) text: String,
    /// Where it stands.
    pub(super) span: Span,
}

fn mismatch(key: &str, wanted: &str, node: &Node, report: &mut Report<'_>) {
    match &*node.value {
        Value::Broken => {}
        Value::Null => {
            report.add(Note::new(Mistake::Empty, node.span, format!("`{key}` has no value; it must be {wanted}")));
        }
        other @ (Value::Text(_)
        | Value::Plain(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Other(_)
        | Value::List(_)
        | Value::Map(_)) => {
            let message = format!("`{key}` must be {wanted}, found {}", other.kind());
            let help = other.text().and_then(lookalike::help);
            report.add(Note::new(Mistake::WrongType, node.span, message).maybe_help(help));
        }
    }
}

fn as_text(node: &Node) -> Option<&String> {
    match &*node.value {
        Value::Text(text) | Value::Plain(text) => Some(text),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Other(_)
        | Value::Null
        | Value::List(_)
        | Value::Map(_)
        | Value::Broken => None,
    }
}

/// Reads a text that says something.
pub(super) fn text(key: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let Some(text) = as_text(node) else {
        mismatch(key, "a string", node, report);
        return None;
    };
    if text.trim().is_empty() {
        report.add(Note::new(Mistake::Empty, node.span, format!("`{key}` must not be empty")));
        return None;
    }
    if text.contains('\0') {
        report.add(Note::new(Mistake::BadText, node.span, format!("`{key}` must not contain a NUL character")));
        return None;
    }
    Some(text.clone())
}

/// Reads one text, or a list of texts.
pub(super) fn texts(key: &str, node: &Node, report: &mut Report<'_>) -> Option<Vec<Item>> {
    let Value::List(list) = &*node.value else {
        if as_text(node).is_none() {
            mismatch(key, "a string or a list of strings", node, report);
            return None;
        }
        return text(key, node, report).map(|text| vec![Item { text, span: node.span }]);
    };
    let mut items = Vec::with_capacity(list.len());
    for node in list {
        items.push(text(key, node, report).map(|text| Item { text, span: node.span }));
    }
    items.into_iter().collect()
}

/// Reads one text or a list of texts in which each may stand only once.
pub(super) fn words(
    key: &str,
    node: &Node,
    report: &mut Report<'_>,
    rule: impl Fn(&str) -> Result<(), String>,
) -> Option<Vec<Item>> {
    let items = texts(key, node, report)?;
    let mut is_good = true;
    let mut seen = BTreeMap::new();
    for item in &items {
        if let Err(message) = rule(&item.text) {
            report.add(Note::new(Mistake::BadName, item.span, message));
            is_good = false;
        } else if let Some(first) = seen.insert(item.text.as_str(), item.span) {
            let note = Note::new(Mistake::StandsTwice, item.span, format!("`{}` stands twice in `{key}`", item.text));
            report.add(note.related(first, "first here"));
            is_good = false;
        }
    }
    is_good.then_some(items)
}

/// Reads a name of the model.
pub(super) fn name<T: FromStr<Err = NameFault>>(key: &str, node: &Node, report: &mut Report<'_>) -> Option<T> {
    let text = text(key, node, report)?;
    match text.parse() {
        Ok(name) => Some(name),
        Err(fault) => {
            report.add(Note::new(Mistake::BadName, node.span, fault.to_string()));
            None
        }
    }
}

/// Reads a duration that is at least `min`.
pub(super) fn duration(key: &str, min: Duration, node: &Node, report: &mut Report<'_>) -> Option<Duration> {
    let wanted = "a duration such as \"45s\" or \"1h30m\"";
    let bare = match &*node.value {
        Value::Integer(number) => Some(number.to_string()),
        Value::Plain(text) if text.bytes().all(|b| b.is_ascii_digit()) => Some(text.clone()),
        Value::Plain(_)
        | Value::Text(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Other(_)
        | Value::Null
        | Value::List(_)
        | Value::Map(_)
        | Value::Broken => None,
    };
    if let Some(number) = bare {
        let note = Note::new(
            Mistake::WrongType,
            node.span,
            format!("`{key}` must be {wanted}, found a number without a unit"),
        );
        report.add(note.help(format!("write \"{number}s\" for seconds")));
        return None;
    }
    let Some(text) = as_text(node) else {
        mismatch(key, wanted, node, report);
        return None;
    };
    match span::parse(text) {
        Err(fault) => {
            report.add(Note::new(Mistake::BadText, node.span, format!("`{key}`: {fault}")));
            None
        }
        Ok(duration) if duration < min => {
            let message = if duration.is_zero() {
                format!("`{key}` must not be zero")
            } else {
                format!("`{key}` must be at least {}", span::format(min))
            };
            report.add(Note::new(Mistake::OutOfRange, node.span, message));
            None
        }
        Ok(duration) => Some(duration),
    }
}

/// Reads an amount of memory or disk.
pub(super) fn size(key: &str, node: &Node, report: &mut Report<'_>) -> Option<Size> {
    let Some(text) = as_text(node) else {
        mismatch(key, "an amount such as \"512MiB\" or \"4GiB\"", node, report);
        return None;
    };
    match size::parse(text) {
        Ok(size) => Some(size),
        Err(fault) => {
            report.add(Note::new(Mistake::BadText, node.span, format!("`{key}`: {fault}")));
            None
        }
    }
}

/// Reads a whole number of a range.
pub(super) fn count(key: &str, range: RangeInclusive<u32>, node: &Node, report: &mut Report<'_>) -> Option<u32> {
    let wanted = if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("a whole number from {} to {}", range.start(), range.end())
    };
    let number = match &*node.value {
        Value::Integer(number) => Some(*number),
        Value::Plain(text) => text.parse().ok(),
        Value::Text(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Other(_)
        | Value::Null
        | Value::List(_)
        | Value::Map(_)
        | Value::Broken => None,
    };
    let Some(number) = number else {
        mismatch(key, &wanted, node, report);
        return None;
    };
    let good = u32::try_from(number).ok().filter(|number| range.contains(number));
    if good.is_none() {
        report.add(Note::new(Mistake::OutOfRange, node.span, format!("`{key}` must be {wanted}, found {number}")));
    }
    good
}

/// Reads whole numbers of a range under names, with the place of each name.
pub(super) fn counts<N: FromStr<Err = NameFault> + Ord>(
    key: &str,
    range: &RangeInclusive<u32>,
    node: &Node,
    report: &mut Report<'_>,
) -> Option<BTreeMap<N, (u32, Span)>> {
    let Value::Map(entries) = &*node.value else {
        mismatch(key, "whole numbers by name", node, report);
        return None;
    };
    let mut counts = BTreeMap::new();
    let mut is_good = true;
    for entry in entries {
        let name = entry.key.parse::<N>().map_err(|fault| {
            report.add(Note::new(Mistake::BadName, entry.key_span, fault.to_string()));
        });
        match (name, count(&entry.key, range.clone(), &entry.node, report)) {
            (Ok(name), Some(count)) => {
                counts.insert(name, (count, entry.key_span));
            }
            (Ok(_) | Err(()), _) => is_good = false,
        }
    }
    is_good.then_some(counts)
}

/// Reads a number of a range, with or without a fraction.
pub(super) fn factor(key: &str, range: RangeInclusive<f64>, node: &Node, report: &mut Report<'_>) -> Option<f64> {
    let wanted = format!("a number from {} to {}", range.start(), range.end());
    let number = match &*node.value {
        Value::Float(number) => Some(*number),
        Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
        Value::Plain(text) => text.parse().ok(),
        Value::Text(_)
        | Value::Bool(_)
        | Value::Other(_)
        | Value::Null
        | Value::List(_)
        | Value::Map(_)
        | Value::Broken => None,
    };
    let Some(number) = number else {
        mismatch(key, &wanted, node, report);
        return None;
    };
    if range.contains(&number) {
        return Some(number);
    }
    report.add(Note::new(Mistake::OutOfRange, node.span, format!("`{key}` must be {wanted}, found {number}")));
    None
}

/// Reads `true` or `false`.
pub(super) fn flag(key: &str, node: &Node, report: &mut Report<'_>) -> Option<bool> {
    match &*node.value {
        Value::Bool(flag) => return Some(*flag),
        Value::Plain(text) if text == "true" => return Some(true),
        Value::Plain(text) if text == "false" => return Some(false),
        Value::Plain(_)
        | Value::Text(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Other(_)
        | Value::Null
        | Value::List(_)
        | Value::Map(_)
        | Value::Broken => {}
    }
    mismatch(key, "`true` or `false`", node, report);
    None
}

/// Reads one word of several.
pub(super) fn choice<T: Copy>(
    key: &str,
    choices: &[(&'static str, T)],
    node: &Node,
    report: &mut Report<'_>,
) -> Option<T> {
    let text = text(key, node, report)?;
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    if found.is_none() {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let message = format!("`{key}` cannot be `{text}`; known: {}", names.join(", "));
        report.add(Note::new(Mistake::UnknownWord, node.span, message).maybe_help(suggest::did_you_mean(&text, names)));
    }
    found
}
