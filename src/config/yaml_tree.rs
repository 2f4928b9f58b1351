//! YAML text to a [`Node`].
//!
//! The tree is built from the parser's events and not through serde: serde's data model has no places for the keys of
//! maps, stops at the first duplicate, and has lost the difference between `true` and `"true"`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_saphyr::granit_parser::{self, Event, Options, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::lookalike;
use super::report::{Note, Report};
use super::source::Span;
use super::tree::{Entry, Node, Value};
use crate::model::fault_code::Mistake;

/// How many values a file may have once its aliases are written out.
pub(super) const VALUES_MAX: usize = 500_000;

/// How deep lists and maps may be nested, in each of YAML's two notations.
const DEPTH_MAX: usize = 32;

/// Reads the text. A syntax error is told alone, since nobody can know what comes behind it.
pub(super) fn read(report: &mut Report<'_>) -> Option<Node> {
    let mut options = Options::default();
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(report.text(), options);
    let mut builder = Builder { parser, report, anchors: BTreeMap::new(), values: 0, multiline: Vec::new() };
    let outcome = builder.document();
    let multiline = builder.multiline;
    let end = report.text().len();
    match outcome {
        Ok(node) => {
            vanished_keys(report, &multiline);
            return node;
        }
        Err(Stop::Syntax(error)) => {
            let at = error.marker().byte_offset().unwrap_or(end);
            let message = format!("not valid YAML: {}", error.info());
            report.only(Note::new(Mistake::Syntax, Span { start: at, end: at + 1 }, message).maybe_help(syntax_help(
                report.text(),
                at,
                &error.info(),
            )));
        }
        Err(Stop::End) => {
            report.only(Note::new(
                Mistake::Syntax,
                Span { start: end, end },
                "not valid YAML: the text ends too early",
            ));
        }
        Err(Stop::TooMany(span)) => {
            let message = format!("the file has more than {VALUES_MAX} values once its aliases are written out");
            report.only(Note::new(Mistake::TooMuch, span, message));
        }
    }
    None
}

/// Why the reading cannot go on.
enum Stop {
    Syntax(ScanError),
    End,
    TooMany(Span),
}

/// A value that an alias may repeat, and how many values it holds.
struct Anchored {
    value: Rc<Value>,
    values: usize,
}

struct Builder<'a, 'r> {
    parser: Parser<'a, StrInput<'a>>,
    report: &'r mut Report<'a>,
    anchors: BTreeMap<usize, Anchored>,
    values: usize,
    multiline: Vec<Span>,
}

impl<'a> Builder<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        let (event, span) = self.parser.next_event().ok_or(Stop::End)?.map_err(Stop::Syntax)?;
        Ok((event, bytes(span)))
    }

    /// Reads the only document; none: nothing is in the file.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is the parser's: what is left are the values")]
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(..) if root.is_some() => {
                    let note = Note::new(
                        Mistake::SecondDocument,
                        span,
                        "a second document begins here; write one document per file",
                    );
                    self.report.add(note.help("remove the `---`, or make it a file of its own"));
                    return Ok(root);
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span)?),
            }
        }
    }

    /// Reads the value that begins with an event.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is the parser's: what is left begins no value")]
    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Stop> {
        self.count(1, span)?;
        let before = self.values;
        let (value, anchor, span) = match event {
            Event::Scalar(text, style, anchor, tag) => (self.scalar(text, style, tag.as_deref(), span), anchor, span),
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                let (list, end) = self.list()?;
                (Value::List(list), anchor, Span { start: span.start, end })
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                let (map, end) = self.map()?;
                (map.map_or(Value::Broken, Value::Map), anchor, Span { start: span.start, end })
            }
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::UnresolvedAlias(name) => {
                self.report.add(Note::new(
                    Mistake::Alias,
                    span,
                    format!("no anchor `&{name}` stands before this alias"),
                ));
                (Value::Broken, 0, span)
            }
            // The parser's grammar has no other event where a value stands.
            _ => return Err(Stop::End),
        };
        let value = Rc::new(value);
        if anchor != 0 {
            let values = self.values - before + 1;
            self.anchors.insert(anchor, Anchored { value: Rc::clone(&value), values });
        }
        Ok(Node { value, span })
    }

    fn count(&mut self, values: usize, span: Span) -> Result<(), Stop> {
        self.values = self.values.saturating_add(values);
        if self.values > VALUES_MAX { Err(Stop::TooMany(span)) } else { Ok(()) }
    }

    fn scalar(&mut self, text: Cow<'a, str>, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Value {
        if self.report.text().get(span.start..span.end).is_some_and(|raw| raw.contains('\n')) {
            self.multiline.push(span);
        }
        let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        if !is_text {
            self.refuse_tag(tag, span);
        }
        match style {
            ScalarStyle::Plain if is_text => Value::Text(text.into_owned()),
            ScalarStyle::Plain if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
            ScalarStyle::Plain => Value::Plain(text.into_owned()),
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted | ScalarStyle::Literal | ScalarStyle::Folded => {
                Value::Text(text.into_owned())
            }
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: Span) {
        if let Some(tag) = tag {
            let message = format!("the tag `{}` has no meaning here", tag.original());
            self.report
                .add(Note::new(Mistake::Tag, span, message).help("remove it; quote the value to make it a string"));
        }
    }

    fn list(&mut self) -> Result<(Vec<Node>, usize), Stop> {
        let mut list = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok((list, span.end));
            }
            list.push(self.node(event, span)?);
        }
    }

    /// Reads a table; nothing, if it wants to take over keys of another one: what it lacks cannot be known then.
    fn map(&mut self) -> Result<(Option<Vec<Entry>>, usize), Stop> {
        let mut is_whole = true;
        let mut map: Vec<Entry> = Vec::new();
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok((is_whole.then_some(map), span.end));
            }
            let key = self.node(event, span)?;
            let (event, span) = self.next()?;
            let node = self.node(event, span)?;
            let key_span = key.span;
            let Some(key) = self.key(&key) else {
                is_whole &= !is_merge_key(&key);
                continue;
            };
            match seen.get(&key) {
                Some(first) => {
                    let note = Note::new(Mistake::KeyTwice, key_span, format!("`{key}` is given twice"));
                    self.report.add(note.related(*first, "first given here"));
                }
                None => {
                    seen.insert(key.clone(), key_span);
                    map.push(Entry { key, key_span, node });
                }
            }
        }
    }

    /// Takes a scalar as a key; anything else, and the merge key, is told and left out.
    fn key(&mut self, key: &Node) -> Option<String> {
        match &*key.value {
            Value::Plain(_) if is_merge_key(key) => {
                let note = Note::new(Mistake::MergeKey, key.span, "the merge key `<<` is not supported");
                self.report.add(note.help("write what tasks have in common under `defaults:`"));
                None
            }
            Value::Plain(text) | Value::Text(text) => Some(text.clone()),
            Value::Null => {
                self.report.add(Note::new(Mistake::NoKey, key.span, "a key is missing before the `:`"));
                None
            }
            Value::List(_) | Value::Map(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Other(_) => {
                self.report.add(Note::new(Mistake::NoKey, key.span, format!("{} cannot be a key", key.value.kind())));
                None
            }
            Value::Broken => None,
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, Stop> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            self.report.add(Note::new(Mistake::Alias, span, "the alias stands inside of what it repeats"));
            return Ok(Node { value: Rc::new(Value::Broken), span });
        };
        let (value, values) = (Rc::clone(&anchored.value), anchored.values);
        self.count(values, span)?;
        Ok(Node { value, span })
    }
}

fn is_merge_key(key: &Node) -> bool {
    matches!(&*key.value, Value::Plain(text) if text == "<<")
}

fn bytes(span: granit_parser::Span) -> Span {
    span.byte_range().map_or(Span::FILE, |range| Span { start: range.start, end: range.end })
}

/// Finds lines such as `#12: {}`: for YAML a comment, for the one who wrote it a task that silently vanished.
fn vanished_keys(report: &mut Report<'_>, multiline: &[Span]) {
    let text = report.text();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        let Some(number) = vanished_key(line.trim()) else { continue };
        // The scalars come in the order of the text, and this search is only made for the few lines that look so.
        if multiline.iter().any(|scalar| scalar.start <= start && start < scalar.end) {
            continue;
        }
        let span = Span { start, end: start + 1 + number.len() };
        let note = Note::new(
            Mistake::VanishedKey,
            span,
            format!("`#{number}:` is a comment for YAML, so this task does not exist"),
        );
        report.add(note.help(format!("write `{number}:` without the `#`, or `# {number}:` if a comment is meant")));
    }
}

/// Returns the number of a line like `#12:` or `#12: {...}`; a sentence behind the colon makes it a real comment.
fn vanished_key(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('#')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let value = rest[digits..].strip_prefix(':')?.trim_start();
    let is_key = digits > 0 && (value.is_empty() || value.starts_with(['{', '&', '*', '#']));
    is_key.then(|| &rest[..digits])
}

/// Knows the mistakes behind most syntax errors.
fn syntax_help(text: &str, at: usize, problem: &str) -> Option<String> {
    let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at))?;
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let before = text[..start].trim_end().lines().next_back().unwrap_or_default();
    let after = text[start..].lines().nth(1).unwrap_or_default();
    let is_indented_by_tab = |line: &&str| line[..line.len() - line.trim_start().len()].contains('\t');
    if [line, after].iter().any(is_indented_by_tab) {
        return Some("YAML wants spaces, not tabs, at the beginning of a line".to_owned());
    }
    if let Some(help) = lookalike::help(line).or_else(|| lookalike::help(before)) {
        return Some(help);
    }
    let is = |part: &str| problem.contains(part);
    if is("recursion limit") {
        return Some(format!("lists and tables may be nested {DEPTH_MAX} deep at most"));
    }
    if is("unclosed quote") {
        return Some("the quote that begins here is never closed".to_owned());
    }
    if let Some(sign) = text[at..].chars().next().filter(|sign| "`@%*&!|>".contains(*sign)) {
        return Some(format!("text that begins with `{sign}` must be put into quotes"));
    }
    if line.trim_start().strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| !c.is_whitespace())) {
        return Some("write a space behind the `-`".to_owned());
    }
    if is("flow mapping") || is("flow sequence") {
        return Some("a `{` or `[` before this place is not closed".to_owned());
    }
    if line.matches(": ").count() > 1 {
        return Some("put text that contains `: ` into quotes".to_owned());
    }
    if let Some(help) =
        lookalike::help_for_lost_key(line.trim()).or_else(|| lookalike::help_for_lost_key(before.trim()))
    {
        return Some(help);
    }
    (is("did not find expected key") || is("block mapping"))
        .then(|| "lines that belong together begin in the same column".to_owned())
}
