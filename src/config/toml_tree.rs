//! TOML text to a [`Node`].

use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::report::{Note, Report};
use super::source::Span;
use super::tree::{Entry, Node, Value};
use crate::model::fault_code::Mistake;

/// Reads the text. A syntax error is told alone; duplicate keys are told beside whatever else is wrong.
pub(super) fn read(report: &mut Report<'_>) -> Option<Node> {
    let (table, errors) = DeTable::parse_recoverable(report.text());
    let (duplicates, broken): (Vec<Error>, Vec<Error>) =
        errors.into_iter().partition(|error| error.message() == "duplicate key");
    // What comes behind the first broken place is a guess of the parser and would only mislead.
    if let Some(error) = broken.into_iter().min_by_key(|error| error.span().map_or(usize::MAX, |span| span.start)) {
        let end = report.text().len();
        let span = error.span().map_or(Span { start: end, end }, |span| Span { start: span.start, end: span.end });
        report.only(Note::new(Mistake::Syntax, span, format!("not valid TOML: {}", one_line(error.message()))));
        return None;
    }
    for duplicate in duplicates {
        let span = duplicate.span().map_or(Span::FILE, |span| Span { start: span.start, end: span.end });
        let key = report.text().get(span.start..span.end).unwrap_or_default();
        report.add(Note::new(Mistake::KeyTwice, span, format!("`{key}` is given twice")));
    }
    let span = Span { start: table.span().start, end: table.span().end };
    Some(Node { value: Rc::new(Value::Map(entries(table.into_inner()))), span })
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ")
}

fn entries(table: DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_span: Span { start: key.span().start, end: key.span().end },
            key: key.into_inner().into_owned(),
            node: node(value),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span);
    entries
}

fn node(value: Spanned<DeValue<'_>>) -> Node {
    let span = Span { start: value.span().start, end: value.span().end };
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("an integer beyond 64 bits"),
        },
        DeValue::Float(number) => number.as_str().parse().map_or(Value::Other("a number"), Value::Float),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(array) => Value::List(array.into_iter().map(node).collect()),
        DeValue::Table(table) => Value::Map(entries(table)),
    };
    Node { value: Rc::new(value), span }
}
