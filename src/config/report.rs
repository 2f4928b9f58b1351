//! Collects the faults of one file.

use super::FILE_BYTES_MAX;
use super::source::{Source, Span};
use crate::model::fault::Fault;
use crate::model::fault_code::{Code, Family, Mistake};

/// How many faults of one file are told; what is beyond is counted.
pub(super) const FAULTS_MAX: usize = 100;

/// A fault before its places are worked out.
#[derive(Debug)]
pub(super) struct Note {
    mistake: Mistake,
    span: Span,
    message: String,
    help: Option<String>,
    related: Vec<(Span, String)>,
}

impl Note {
    /// Says what is wrong, and where.
    pub(super) fn new(mistake: Mistake, span: Span, message: impl Into<String>) -> Self {
        Self { mistake, span, message: message.into(), help: None, related: Vec::new() }
    }

    /// Adds what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what to do, if we know.
    pub(super) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Adds another place that belongs to it.
    pub(super) fn related(mut self, span: Span, what: impl Into<String>) -> Self {
        self.related.push((span, what.into()));
        self
    }
}

/// A file and the faults found in it so far.
#[derive(Debug)]
pub(super) struct Report<'a> {
    source: Source<'a>,
    faults: Vec<Fault>,
    untold: usize,
}

impl<'a> Report<'a> {
    /// Begins with a file. A file that is too large is a fault, and its text is taken as empty.
    pub(super) fn new(file: &str, text: &'a str) -> Self {
        if text.len() <= FILE_BYTES_MAX {
            return Self { source: Source::new(file, text), faults: Vec::new(), untold: 0 };
        }
        let mut report = Self { source: Source::new(file, ""), faults: Vec::new(), untold: 0 };
        let message = format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", text.len());
        report.add(Note::new(Mistake::TooMuch, Span::FILE, message));
        report
    }

    /// Returns the file with its places.
    pub(super) const fn source(&self) -> &Source<'a> {
        &self.source
    }

    /// Returns the text; spans refer to it.
    pub(super) const fn text(&self) -> &'a str {
        self.source.text()
    }

    /// Adds a fault.
    pub(super) fn add(&mut self, note: Note) {
        if self.faults.len() == FAULTS_MAX {
            self.untold += 1;
            return;
        }
        let related = note.related.into_iter().map(|(span, what)| (self.source.place(span), what)).collect();
        let place = self.source.place(note.span);
        let family = if place.file.ends_with(".toml") { Family::Config } else { Family::Dag };
        let code = Code { family, mistake: note.mistake };
        self.faults.push(Fault { place, code, message: note.message, help: note.help, related });
    }

    /// Forgets everything but this fault: what follows from it would only mislead.
    pub(super) fn only(&mut self, note: Note) {
        self.faults.clear();
        self.untold = 0;
        self.add(note);
    }

    /// Says whether nothing is wrong so far.
    pub(super) const fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Returns the faults in the order of the file.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults;
        if let Some(last) = faults.last_mut()
            && self.untold > 0
        {
            last.message = format!("{} (and {} more faults)", last.message, self.untold);
        }
        faults.sort_by_key(|fault| fault.place.start);
        faults
    }
}
