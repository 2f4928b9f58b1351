//! What people and programs see: text and JSON on standard output, notes and errors on standard error.

use std::io::{self, Write};

use serde::Serialize;

use super::env::Environment;
use super::failure::{Failure, Kind, Result};

/// Where and how a verb shows its results.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// For whom.
    pub form: Form,
    /// Whether standard output is coloured.
    pub color: Color,
    /// Whether standard error is coloured.
    pub note_color: Color,
    /// How many columns a line may have; absent: as many as it needs.
    pub width: Option<usize>,
}

/// For whom results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// People.
    Text,
    /// Programs.
    Json,
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// No escape sequences.
    Plain,
    /// ANSI escape sequences.
    Ansi,
}

/// What a piece of text means; its colour follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// A heading.
    Heading,
    /// As it should be.
    Good,
    /// Under way.
    Active,
    /// Somebody should look.
    Warning,
    /// Wrong.
    Bad,
    /// Of lesser interest.
    Faint,
}

impl Color {
    /// Colours a text by its meaning.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Active => "36",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    /// Decides for one stream: only a terminal is coloured, unless the user says otherwise.
    #[must_use]
    pub fn decide(environment: &Environment, is_terminal: bool) -> Self {
        let dumb = environment.term.as_deref() == Some("dumb");
        if !environment.no_color && (environment.color_forced || (is_terminal && !dumb)) {
            Self::Ansi
        } else {
            Self::Plain
        }
    }
}

impl Output {
    /// Decides how to show things in this environment.
    #[must_use]
    pub fn new(form: Form, environment: &Environment) -> Self {
        Self {
            form,
            color: Color::decide(environment, environment.stdout_is_terminal),
            note_color: Color::decide(environment, environment.stderr_is_terminal),
            width: environment.stdout_is_terminal.then(terminal_size).flatten().map(|(columns, _)| columns),
        }
    }

    /// Writes text as it is.
    ///
    /// # Errors
    /// Tells when nobody reads any more.
    pub fn text(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Writes one line.
    ///
    /// # Errors
    /// Tells when nobody reads any more.
    pub fn line(&self, line: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        Ok(stdout.flush()?)
    }

    /// Writes a value as one line of JSON.
    ///
    /// # Errors
    /// Tells when nobody reads any more.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(value).map_err(|error| Failure::new(Kind::Failed, error))?;
        self.line(&line)
    }

    /// Writes a value for programs, or the text for people.
    ///
    /// # Errors
    /// Tells when nobody reads any more.
    pub fn show(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        match self.form {
            Form::Json => self.json(value),
            Form::Text => self.text(&text()),
        }
    }

    /// Writes a line for people to standard error: progress and remarks, never results.
    pub fn note(&self, line: &str) {
        // When even standard error is gone, there is nobody left to tell.
        drop(writeln!(io::stderr().lock(), "{line}"));
    }

    /// Writes a failure to standard error.
    pub fn failure(&self, failure: &Failure) {
        if failure.kind == Kind::ReaderGone {
            return;
        }
        match self.form {
            Form::Json => self.note(&failure.to_json().to_string()),
            Form::Text => {
                if let Some(excerpts) = &failure.excerpts {
                    self.note(excerpts.trim_end());
                }
                self.note(&format!("{} {}", self.note_color.paint(Tone::Bad, "error:"), failure.message()));
                for hint in &failure.hints {
                    self.note(&format!("{} {hint}", self.note_color.paint(Tone::Active, "hint:")));
                }
            }
        }
    }
}

/// Returns the columns and rows of the terminal behind standard output.
#[must_use]
pub fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// Counts things in words: `1 task`, `2 tasks`.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Makes a text from outside safe for a terminal: control characters become visible.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Makes a text from outside fit on one line.
#[must_use]
pub fn one_line(text: &str) -> String {
    printable(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\tc\n"), "a\u{fffd}[2Jb\tc\n");
        assert_eq!(one_line("a\n  b\r\tc"), "a b\u{fffd} c");
    }

    #[test]
    fn plain_text_has_no_escape_sequences() {
        assert_eq!(Color::Plain.paint(Tone::Bad, "x"), "x");
        assert_eq!(Color::Ansi.paint(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
