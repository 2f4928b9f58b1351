//! What people see in the pane: the agent's output as it comes, and short lines of the runner's own.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many pieces of output may wait for the pane.
const WAITING_MAX: usize = 64;

/// How long a program is held up by a pane that does not take its output; after that the pane misses some.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the last pieces may take at the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Whether escape codes are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Colours are for terminals, and for people who did not refuse them.
    pub(super) fn of_stdout(no_color: Option<&str>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        if !refused && std::io::stdout().is_terminal() { Self::Coloured } else { Self::Plain }
    }
}

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Step,
    Good,
    Bad,
}

/// The way to the pane. Clones lead to the same one.
#[derive(Debug, Clone)]
pub(super) struct Pane {
    pieces: mpsc::Sender<Vec<u8>>,
    style: Style,
}

impl Pane {
    /// Returns the way, and what is to be written at its end by [`write`].
    pub(super) fn new(style: Style) -> (Self, mpsc::Receiver<Vec<u8>>) {
        // Full when the terminal does not keep up: the programs then wait a little.
        let (pieces, receiver) = mpsc::channel(WAITING_MAX);
        (Self { pieces, style }, receiver)
    }

    /// Shows a line of the runner's own; dropped if the pane is stuck.
    pub(super) fn say(&self, tone: Tone, text: &str) {
        // Texts come from tasks and programs: they must not steer the terminal.
        let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let line = match (self.style, tone) {
            (Style::Plain, _) => format!("miyabi | {text}\n"),
            (Style::Coloured, Tone::Step) => format!("\x1b[2mmiyabi |\x1b[0m {text}\n"),
            (Style::Coloured, Tone::Good) => format!("\x1b[2mmiyabi |\x1b[0m \x1b[32m{text}\x1b[0m\n"),
            (Style::Coloured, Tone::Bad) => format!("\x1b[2mmiyabi |\x1b[0m \x1b[31m{text}\x1b[0m\n"),
        };
        self.pieces.try_send(line.into_bytes()).ok();
    }

    /// Shows output as it is.
    pub(super) async fn show(&self, bytes: &[u8]) {
        // A pane that is gone or stuck must not stop the work; the log has everything.
        self.pieces.send_timeout(bytes.to_owned(), PATIENCE).await.ok();
    }
}

/// Writes what comes until everybody has hung up or `stop` is given, then the rest.
pub(super) async fn write(mut pieces: mpsc::Receiver<Vec<u8>>, stop: CancellationToken) {
    let Ok(mut stdout) = stdout() else { return };
    loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            () = stop.cancelled() => break,
        };
        let Some(piece) = piece else { return };
        put(&mut stdout, &piece).await;
    }
    let rest = async {
        while let Ok(piece) = pieces.try_recv() {
            put(&mut stdout, &piece).await;
        }
    };
    tokio::time::timeout(FAREWELL, rest).await.ok();
}

fn stdout() -> io::Result<File> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(File::from_std(std::fs::File::from(stdout)))
}

/// Writes a piece; when the pane was closed there is nobody left to tell.
async fn put(stdout: &mut File, piece: &[u8]) {
    if stdout.write_all(piece).await.is_ok() {
        stdout.flush().await.ok();
    }
}
