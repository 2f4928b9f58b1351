//! Faults for people: message, place, excerpt, and what to do.

use std::collections::BTreeMap;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

use crate::model::fault::{Fault, Place};

/// Whether the text is for a terminal that knows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Text alone.
    Plain,
    /// Text with ANSI colours.
    Ansi,
}

/// Places of one file at most this many lines apart share one excerpt.
const EXCERPT_GAP_LINES: u32 = 20;

const CARRIAGE_RETURN: char = '\r';

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Renders faults. Text that would drive a terminal is made harmless: the files are not always the reader's own.
/// `sources` holds the texts by the paths that the faults name; without a text there is no excerpt.
#[must_use]
pub fn render(faults: &[Fault], sources: &BTreeMap<String, String>, color: Color) -> String {
    let renderer = match color {
        Color::Plain => Renderer::plain(),
        Color::Ansi => Renderer::styled(),
    };
    let mut out = String::new();
    for fault in faults {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&renderer.render(&[group(fault, sources)]));
        out.push('\n');
    }
    out
}

/// A place to show, and what to say there.
struct Mark<'f> {
    place: &'f Place,
    kind: AnnotationKind,
    label: Option<&'f str>,
}

fn group<'s>(fault: &'s Fault, sources: &'s BTreeMap<String, String>) -> Group<'s> {
    let mut group = Group::with_title(Level::ERROR.primary_title(fault.message.as_str()).id(fault.code.to_string()));
    for excerpt in excerpts(fault) {
        let place = excerpt[0].place;
        group = match sources.get(place.file.as_str()).and_then(|source| snippet(&excerpt, source)) {
            Some(snippet) => group.element(snippet),
            None => group.element(
                Origin::path(normalize_untrusted_str(&place.file))
                    .line(place.line as usize)
                    .char_column(place.column as usize),
            ),
        };
    }
    match &fault.help {
        Some(help) => group.element(Level::HELP.message(normalize_untrusted_str(help))),
        None => group,
    }
}

/// Sorts the places of a fault into excerpts: the fault's own first, then the others in their order.
fn excerpts(fault: &Fault) -> Vec<Vec<Mark<'_>>> {
    let own = Mark { place: &fault.place, kind: AnnotationKind::Primary, label: None };
    let related = fault.related.iter().map(|(place, what)| Mark {
        place,
        kind: AnnotationKind::Context,
        label: Some(what.as_str()),
    });
    let mut excerpts: Vec<Vec<Mark<'_>>> = vec![vec![own]];
    for mark in related {
        let is_near = |other: &Mark<'_>| {
            other.place.file == mark.place.file && other.place.line.abs_diff(mark.place.line) <= EXCERPT_GAP_LINES
        };
        match excerpts.iter_mut().find(|excerpt| excerpt.iter().any(is_near)) {
            Some(excerpt) => excerpt.push(mark),
            None => excerpts.push(vec![mark]),
        }
    }
    excerpts
}

/// Cuts the lines of an excerpt out of the text: rendering costs as much as the text it is given.
fn snippet<'s>(marks: &[Mark<'s>], source: &'s str) -> Option<Snippet<'s, Annotation<'s>>> {
    let first = marks.iter().min_by_key(|mark| mark.place.start)?;
    let last = marks.iter().max_by_key(|mark| mark.place.end)?;
    if marks.iter().any(|mark| source.get(span(mark.place)).is_none()) {
        return None;
    }
    let start = source[..first.place.start].rfind('\n').map_or(0, |newline| newline + 1);
    // The mark is no character of the first line.
    let start = if source[start..].starts_with(BYTE_ORDER_MARK) { start + BYTE_ORDER_MARK.len_utf8() } else { start };
    let end = source[last.place.end..].find('\n').map_or(source.len(), |newline| last.place.end + newline);
    let text = source.get(start..end)?;
    let within = |at: usize| {
        let before = text.get(..at.saturating_sub(start)).unwrap_or(text);
        before.len() - before.matches(CARRIAGE_RETURN).count()
    };
    let annotations = marks.iter().map(|mark| {
        let Range { start: from, end: to } = span(mark.place);
        mark.kind.span(within(from)..within(to)).label(mark.label.map(normalize_untrusted_str))
    });
    // The renderer would draw a carriage return as a sign of its own at the end of every line.
    let text = text.replace(CARRIAGE_RETURN, "");
    Some(
        Snippet::source(text)
            .line_start(first.place.line as usize)
            .path(normalize_untrusted_str(&first.place.file))
            .annotations(annotations),
    )
}

const fn span(place: &Place) -> Range<usize> {
    place.start..place.end
}
