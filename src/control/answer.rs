//! How the supervisor answers: without ever waiting for a client.

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::protocol::{Call, Reply, ReplyError};

/// How many lines wait for a slow client before it is given up; a burst of events fits.
pub const LINES_MAX: usize = 1024;

/// A question with the means to answer it.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub call: Call,
    /// Where the answer goes.
    pub answer: Answerer,
}

/// Takes the answer to one question. Dropped without one, the client sees an interrupted connection.
#[derive(Debug)]
pub struct Answerer {
    lines: mpsc::Sender<Vec<u8>>,
    gone: CancellationToken,
}

impl Answerer {
    /// Connects an answerer to the writer of a connection.
    pub(super) const fn new(lines: mpsc::Sender<Vec<u8>>, gone: CancellationToken) -> Self {
        Self { lines, gone }
    }

    /// Sends a value without waiting. A client that does not keep up is given up.
    pub fn value(&self, value: &impl Serialize) {
        let Some(line) = line_of_value(value) else { return };
        if self.lines.try_send(line).is_err() {
            self.gone.cancel();
        }
    }

    /// Sends a value, and waits while the client does not keep up; for streams that have a task of their own.
    pub async fn value_when_room(&self, value: &impl Serialize) {
        let Some(line) = line_of_value(value) else { return };
        tokio::select! {
            sent = self.lines.send(line) => if sent.is_err() { self.gone.cancel() },
            () = self.gone.cancelled() => {}
        }
    }

    /// Says why there is no answer, and ends the connection.
    pub fn error(self, error: ReplyError) {
        self.last(&Reply::Error(error));
    }

    /// Ends a stream.
    pub fn end(self) {
        self.last(&Reply::End(true));
    }

    /// Says whether the client is known to have gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.is_cancelled() || self.lines.is_closed()
    }

    /// Waits until the client has gone.
    pub async fn gone(&self) {
        tokio::select! {
            () = self.gone.cancelled() => {}
            () = self.lines.closed() => {}
        }
    }

    fn last(self, reply: &Reply) {
        match line_of(reply) {
            Ok(line) => {
                if self.lines.try_send(line).is_err() {
                    self.gone.cancel();
                }
            }
            Err(error) => tracing::error!(%error, "a reply is not JSON"),
        }
    }
}

fn line_of_value(value: &impl Serialize) -> Option<Vec<u8>> {
    // Written by hand around the value, so that a large one is not built twice.
    let mut line = b"{\"value\":".to_vec();
    match serde_json::to_writer(&mut line, value) {
        Ok(()) => {
            line.extend_from_slice(b"}\n");
            Some(line)
        }
        Err(error) => {
            tracing::error!(%error, "an answer is not JSON");
            None
        }
    }
}

pub(super) fn line_of(reply: &Reply) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    Ok(line)
}
