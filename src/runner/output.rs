//! Where a program's output goes: the pane, the attempt's log file, and a bounded end of it for the report.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::ears::Ears;
use super::pane::Pane;
use super::progress::Counters;
use crate::drivers::events::Turn;
use crate::drivers::meter::Meter;
use crate::model::report::OUTPUT_BYTES_MAX;
use crate::model::spent::Spent;

/// The largest log file of an attempt; what comes later is only shown.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Takes the output of one program after another.
#[derive(Debug)]
pub(super) struct Output {
    pane: Pane,
    log: Option<Log>,
    tail: Tail,
    progress: Counters,
    ears: Option<Ears>,
    meter: Option<Meter>,
}

impl Output {
    /// Opens the log file, at its end if it exists. Without one, output is shown all the same.
    pub(super) fn open(pane: Pane, log: &Path, progress: Counters) -> Self {
        let log = Log::open(log)
            .inspect_err(|error| tracing::warn!(path = %log.display(), %error, "cannot write the attempt's log"))
            .ok();
        Self { pane, log, tail: Tail::default(), progress, ears: None, meter: None }
    }

    /// Shows nothing but keeps the log: for lines that the pane gets in another form.
    pub(super) fn note(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            log.write(format!("miyabi | {line}\n").as_bytes());
        }
    }

    /// Lets what comes be heard as events; what is no event is shown as it is.
    pub(super) fn listen(&mut self, ears: Option<Ears>) {
        self.ears = ears;
    }

    /// Lets what comes be read for what the program says that it has used.
    pub(super) fn measure(&mut self, meter: Option<Meter>) {
        self.meter = meter;
    }

    /// Ends that, and returns what the program has said.
    pub(super) fn take_spent(&mut self) -> Option<Spent> {
        self.meter.take().and_then(Meter::finish)
    }

    /// Takes a piece of output.
    pub(super) async fn take(&mut self, bytes: &[u8]) {
        self.progress.printed(bytes.len());
        if let Some(meter) = &mut self.meter {
            meter.take(bytes);
        }
        match &mut self.ears {
            None => self.show(bytes).await,
            Some(ears) => {
                let shown = ears.take(bytes).await;
                self.show(&shown).await;
            }
        }
    }

    /// Ends the listening, and returns how the program's turn ended, if it said so.
    pub(super) async fn end_listening(&mut self) -> Option<Turn> {
        let mut ears = self.ears.take()?;
        let shown = ears.finish().await;
        self.show(&shown).await;
        ears.turn()
    }

    async fn show(&mut self, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(bytes);
        }
        self.tail.push(bytes);
        self.pane.show(bytes).await;
    }

    /// Hands over the end of what came since the last call.
    pub(super) fn take_tail(&mut self) -> String {
        std::mem::take(&mut self.tail).into_text()
    }
}

#[derive(Debug)]
struct Log {
    file: File,
    room: u64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let room = LOG_BYTES_MAX.saturating_sub(file.metadata()?.len());
        Ok(Self { file, room })
    }

    /// Writes as far as there is room, and says so once when there is none left.
    fn write(&mut self, bytes: &[u8]) {
        if self.room == 0 {
            return;
        }
        let fits = bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        let mut written = self.file.write_all(&bytes[..fits]);
        self.room -= fits as u64;
        if self.room == 0 {
            let note = format!("\nmiyabi | the log ends here: it has reached {LOG_BYTES_MAX} bytes\n");
            written = written.and_then(|()| self.file.write_all(note.as_bytes()));
        }
        if let Err(error) = written {
            tracing::warn!(%error, "the attempt's log ends early");
            self.room = 0;
        }
    }
}

/// The last bytes of an output.
#[derive(Debug, Default)]
struct Tail {
    bytes: VecDeque<u8>,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(&bytes[bytes.len().saturating_sub(OUTPUT_BYTES_MAX)..]);
        let excess = self.bytes.len().saturating_sub(OUTPUT_BYTES_MAX);
        self.bytes.drain(..excess);
    }

    fn into_text(self) -> String {
        let bytes: Vec<u8> = self.bytes.into();
        // The cut may have left a piece of a character at the beginning.
        let begin = if bytes.len() == OUTPUT_BYTES_MAX {
            bytes.iter().take(4).take_while(|byte| (**byte & 0xC0) == 0x80).count()
        } else {
            0
        };
        let mut text = String::from_utf8_lossy(&bytes[begin..]).into_owned();
        // What replaces broken bytes is longer than they were.
        super::attempt::tail(&mut text, OUTPUT_BYTES_MAX);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::pane::Style;

    #[tokio::test]
    async fn the_log_has_every_byte_and_the_report_only_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kaede/log");
        let (pane, mut pieces) = Pane::new(Style::Plain);
        let mut output = Output::open(pane, &path, Counters::default());
        let long = "語".repeat(OUTPUT_BYTES_MAX);
        output.take(b"\x1b[31mred\xff\n").await;
        output.take(long.as_bytes()).await;
        let tail = output.take_tail();
        assert!(tail.len() <= OUTPUT_BYTES_MAX && tail.chars().all(|letter| letter == '語'), "{tail:?}");
        assert_eq!(fs::read(&path).unwrap(), [b"\x1b[31mred\xff\n", long.as_bytes()].concat());
        assert_eq!(pieces.recv().await.unwrap(), b"\x1b[31mred\xff\n", "the pane gets the bytes as they are");
    }

    #[test]
    fn a_full_log_says_so_once_and_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log { room: 4, ..Log::open(&path).unwrap() };
        log.write(b"123456");
        log.write(b"789");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("1234\nmiyabi | the log ends here"), "{text}");
        assert_eq!(text.matches("miyabi").count(), 1);
    }
}
