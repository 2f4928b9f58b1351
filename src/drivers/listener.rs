//! Listens to the output of a program that prints its events as lines of JSON, and turns it into what a person can read.

use super::events::{self, Told, Turn};
use crate::model::agent::DriverKind;
use crate::model::signal::Signal;

/// The longest line that is kept until its end; of a longer one only its coming counts.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Puts lines together and remembers what counts in the end.
#[derive(Debug)]
pub struct Listener {
    driver: DriverKind,
    line: Vec<u8>,
    /// Whether the beginning of the line was thrown away.
    is_cut: bool,
    said: Option<String>,
    /// What came of it in pieces, until something else comes.
    pieces: String,
    turn: Option<Turn>,
}

/// What a piece of output comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What a person is shown.
    pub shown: Vec<u8>,
    /// What it says of its state, in order; each is also a sign of life.
    pub signals: Vec<Signal>,
}

impl Listener {
    /// Begins to listen; nothing if the driver's program prints no events.
    #[must_use]
    pub fn new(driver: DriverKind) -> Option<Self> {
        events::are_printed(driver).then_some(Self {
            driver,
            line: Vec::new(),
            is_cut: false,
            said: None,
            pieces: String::new(),
            turn: None,
        })
    }

    /// Takes a piece of output, which may end anywhere.
    pub fn take(&mut self, bytes: &[u8]) -> Heard {
        let mut heard = Heard::default();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line(&mut heard);
            } else if self.line.len() > LINE_BYTES_MAX {
                self.line.clear();
                self.is_cut = true;
            }
        }
        heard
    }

    /// Takes what came after the last line's end.
    pub fn finish(&mut self) -> Heard {
        let mut heard = Heard::default();
        if !self.line.is_empty() {
            self.line.push(b'\n');
            self.end_line(&mut heard);
        }
        heard
    }

    /// Returns how the turn ended, if it said so. What it said last is its summary, unless it gave one.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        let mut turn = self.turn.clone()?;
        turn.summary = turn.summary.or_else(|| self.said.clone());
        Some(turn)
    }

    fn end_line(&mut self, heard: &mut Heard) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_cut) {
            heard.signals.push(Signal::Busy);
            return;
        }
        match events::of_line(self.driver, &line) {
            None => heard.shown.extend_from_slice(&line),
            Some(Told { signal, piece: Some(piece), .. }) => {
                heard.shown.extend_from_slice(piece.as_bytes());
                self.pieces.push_str(&piece);
                heard.signals.extend(signal);
            }
            Some(Told { signal, show, said, piece: None, turn }) => {
                if !self.pieces.is_empty() {
                    heard.shown.push(b'\n');
                    self.said = Some(std::mem::take(&mut self.pieces));
                }
                if let Some(show) = show {
                    heard.shown.extend_from_slice(show.trim_end().as_bytes());
                    heard.shown.push(b'\n');
                }
                self.said = said.or(self.said.take());
                self.turn = turn.or(self.turn.take());
                heard.signals.extend(signal);
            }
        }
    }
}
