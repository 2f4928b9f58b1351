//! A table of keys in a file, read under the keys that the format knows.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::{self, Key};
use super::lookalike;
use super::report::{Note, Report};
use super::source::Span;
use super::suggest;
use super::tree::{Entry, Node, Value};
use crate::model::fault_code::Mistake;

/// What a file says under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<T> {
    /// Nothing.
    Absent,
    /// Something whose fault has been told; nothing that follows from it may be told as well.
    Broken,
    /// A value, and where it stands.
    Given(T, Span),
}

impl<T> Field<T> {
    /// Returns the value, if there is a good one.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Given(value, _) => Some(value),
            Self::Absent | Self::Broken => None,
        }
    }

    /// Returns the value, or what holds when nothing is written; nothing if its fault has been told.
    pub(super) fn or(self, absent: T) -> Option<T> {
        match self {
            Self::Given(value, _) => Some(value),
            Self::Absent => Some(absent),
            Self::Broken => None,
        }
    }

    /// Returns where the value stands, if there is a good one.
    pub(super) const fn span(&self) -> Option<Span> {
        match self {
            Self::Given(_, span) => Some(*span),
            Self::Absent | Self::Broken => None,
        }
    }
}

/// A table of a file.
#[derive(Debug)]
pub(super) struct Section<'n> {
    /// Where its name or header stands.
    pub(super) span: Span,
    known: &'static [Key],
    given: BTreeMap<&'static str, &'n Entry>,
    /// Keys that were most likely meant by unknown ones: what they lack has been told with the unknown key.
    meant: BTreeSet<&'static str>,
    is_broken: bool,
}

impl<'n> Section<'n> {
    /// Opens a table: tells unknown keys, keys given under two names and a value that is no table at all.
    pub(super) fn open(name: &str, node: &'n Node, span: Span, known: &'static [Key], report: &mut Report<'_>) -> Self {
        let mut section = Self { span, known, given: BTreeMap::new(), meant: BTreeSet::new(), is_broken: false };
        let entries = match &*node.value {
            Value::Map(entries) => entries,
            // `tasks:` with everything below it commented out is an empty table.
            Value::Null => return section,
            Value::Broken => {
                section.is_broken = true;
                return section;
            }
            other @ (Value::Text(_)
            | Value::Plain(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Other(_)
            | Value::List(_)) => {
                section.is_broken = true;
                let message = format!("`{name}` must be a table of keys and values, found {}", other.kind());
                let lost = other.text().and_then(lookalike::help_for_lost_key);
                report.add(
                    Note::new(Mistake::WrongType, node.span, message).maybe_help(lost.or_else(|| table_help(known))),
                );
                return section;
            }
        };
        for entry in entries {
            section.take(entry, report);
        }
        section
    }

    fn take(&mut self, entry: &'n Entry, report: &mut Report<'_>) {
        let Some(key) = keys::find(self.known, &entry.key) else {
            self.take_unknown(entry, report);
            return;
        };
        match self.given.get(key.name) {
            Some(first) => {
                let message = format!("`{}` means the same as `{}`; give only one", entry.key, first.key);
                report.add(
                    Note::new(Mistake::KeyTwice, entry.key_span, message).related(first.key_span, "already given here"),
                );
            }
            None => {
                self.given.insert(key.name, entry);
            }
        }
    }

    fn take_unknown(&mut self, entry: &Entry, report: &mut Report<'_>) {
        let Entry { key: written, key_span: span, .. } = entry;
        let names = self.known.iter().flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()));
        let lookalike = lookalike::help(written);
        let help = match suggest::nearest(written, names) {
            Some(meant) => {
                self.meant.extend(keys::find(self.known, meant).map(|key| key.name));
                format!("did you mean `{meant}`?")
            }
            None => {
                let all: Vec<&str> = self.known.iter().map(|key| key.name).collect();
                format!("known here: {}", all.join(", "))
            }
        };
        let note = Note::new(Mistake::UnknownKey, *span, format!("unknown key `{written}`"));
        report.add(note.help(help).maybe_help(lookalike));
    }

    /// Says whether the table was no table, so that nothing may be said of what it lacks.
    pub(super) const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Returns what is written under a key.
    pub(super) fn entry(&self, name: &'static str) -> Option<&'n Entry> {
        debug_assert!(
            self.known.iter().any(|key| key.name == name),
            "`{name}` is read but not in the table of known keys"
        );
        self.given.get(name).copied()
    }

    /// Reads what is written under a key.
    pub(super) fn field<T>(
        &self,
        name: &'static str,
        report: &mut Report<'_>,
        read: impl FnOnce(&str, &Node, &mut Report<'_>) -> Option<T>,
    ) -> Field<T> {
        match self.entry(name) {
            None if self.is_told(name) => Field::Broken,
            None => Field::Absent,
            Some(entry) => match read(&entry.key, &entry.node, report) {
                Some(value) => Field::Given(value, entry.node.span),
                None => Field::Broken,
            },
        }
    }

    /// Says whether it has been told already why there is nothing under a key.
    pub(super) fn is_told(&self, name: &str) -> bool {
        self.is_broken || self.meant.contains(name)
    }

    /// Tells that a key is missing, unless that follows from what has been told.
    pub(super) fn missing(&self, what: &str, name: &str, help: &str, report: &mut Report<'_>) {
        if !self.is_told(name) {
            report.add(Note::new(Mistake::MissingKey, self.span, format!("{what} has no `{name}`")).help(help));
        }
    }
}

fn table_help(known: &'static [Key]) -> Option<String> {
    let key = known.iter().find(|key| key.name == "run").or(known.first())?;
    Some(format!("write `{{ {} }}`", key.example))
}
