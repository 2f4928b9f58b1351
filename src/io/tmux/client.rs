//! Our persistent control-mode client: one process, always read, that carries command lines and brings back replies.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tmux_interface::{AttachSession, ClientFlags, DisplayMessage};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::framing::{Block, Framer, Said};
use super::oneshot as direct;
use super::script::Script;
use super::{EVENTS_MAX, TmuxError, TmuxEvent, TmuxSpec};
use crate::tasks::Tasks;

/// How many command lines may wait to be written: far more than callers there are, so nobody waits in practice.
const REQUESTS_MAX: usize = 64;

/// A connected client; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Client {
    requests: mpsc::Sender<Request>,
    _tasks: Tasks,
}

/// A command line on its way, and where its replies go.
struct Request {
    line: String,
    answer: oneshot::Sender<Vec<Block>>,
}

/// Who waits for replies, in the order of the command lines.
type Waiting = Arc<Mutex<VecDeque<(u64, oneshot::Sender<Vec<Block>>)>>>;

/// Where the end of the connection is told.
pub(super) type Events = Arc<Mutex<Option<mpsc::Sender<TmuxEvent>>>>;

impl Client {
    /// Attaches to a session, given by its id.
    pub(super) fn attach(spec: &Arc<TmuxSpec>, session: &str, events: &Events) -> Result<Self, TmuxError> {
        // Without no-output an unread pane can crash the server or make it grow; the size of our client means nothing.
        let flags = ClientFlags { no_output: Some(true), ignore_size: Some(true), ..ClientFlags::default() };
        let attach = AttachSession::new().flags(flags).target_session(session).build();
        let mut child = direct::program(spec)
            .arg("-C")
            .args(attach.to_vec().iter().map(AsRef::as_ref))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| TmuxError::Run { program: spec.program.clone(), source })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err(TmuxError::Lost { verb: "attach-session".to_owned() });
        };

        let (requests, arriving) = mpsc::channel(REQUESTS_MAX);
        let waiting = Waiting::default();
        let mut tasks = Tasks::new();
        tasks.start("tmux writer", {
            let waiting = Arc::clone(&waiting);
            |stop| write(input, arriving, waiting, stop)
        });
        tasks.start("tmux reader", {
            let (spec, events, stop_writer) = (Arc::clone(spec), Arc::clone(events), tasks.token());
            |_| async move {
                let reason = read(output, &waiting).await;
                // From here on requests fail at once instead of waiting for a reply that cannot come.
                stop_writer.cancel();
                forget(&waiting);
                report_end(child, &spec, reason, &events).await;
            }
        });
        Ok(Self { requests, _tasks: tasks })
    }

    /// Says whether the connection has not ended.
    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Returns the way to ask, which can be kept while the client is replaced.
    pub(super) fn line(&self) -> Line {
        Line(self.requests.clone())
    }
}

/// A way to ask the server through a client.
pub(super) struct Line(mpsc::Sender<Request>);

/// What became of a question.
pub(super) enum Asked {
    /// The replies of all commands that ran.
    Answered(Vec<Block>),
    /// The connection had ended before: the commands were certainly not run.
    NotSent,
    /// The connection ended in between: it is unknown whether they were run.
    Lost,
}

impl Line {
    /// Sends a sequence and waits for its replies.
    pub(super) async fn ask(&self, script: &Script) -> Asked {
        let (answer, replies) = oneshot::channel();
        if self.0.send(Request { line: script.line().to_owned(), answer }).await.is_err() {
            return Asked::NotSent;
        }
        replies.await.map_or(Asked::Lost, Asked::Answered)
    }
}

/// Writes command lines, each followed by a line that prints a number: its reply marks the end of the replies before,
/// however many there are.
async fn write(
    mut input: ChildStdin,
    mut arriving: mpsc::Receiver<Request>,
    waiting: Waiting,
    stop: CancellationToken,
) {
    let mut number: u64 = 0;
    while let Some(Some(request)) = stop.run_until_cancelled(arriving.recv()).await {
        number += 1;
        let end = Script::new(&DisplayMessage::new().print().message(end_mark(number)).build());
        let lines = format!("{}\n{}\n", request.line, end.line());
        lock(&waiting).push_back((number, request.answer));
        match stop.run_until_cancelled(input.write_all(lines.as_bytes())).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => break,
        }
    }
}

fn end_mark(number: u64) -> String {
    format!("miyabi-end-{number}")
}

/// Reads all that the server says until the connection ends, and returns the reason that it gave.
async fn read(output: ChildStdout, waiting: &Waiting) -> String {
    let mut output = BufReader::new(output);
    let mut framer = Framer::default();
    let mut blocks = Vec::new();
    let mut reason = String::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return reason,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
        match framer.feed(&text) {
            Some(Said::Block(block)) => {
                let mut waiting = lock(waiting);
                let ends = waiting.front().is_some_and(|(number, _)| block.lines == [end_mark(*number)]);
                if !ends {
                    blocks.push(block);
                } else if let Some((_, answer)) = waiting.pop_front() {
                    // Whoever asked may have lost patience; then nobody takes the replies.
                    answer.send(std::mem::take(&mut blocks)).ok();
                }
            }
            Some(Said::Exit(why)) => reason = why,
            None => {}
        }
    }
}

/// Finds out what exactly was lost, and tells it.
async fn report_end(mut child: Child, spec: &TmuxSpec, reason: String, events: &Events) {
    child.wait().await.ok();
    let event = if !direct::server_listens(spec).await {
        TmuxEvent::ServerLost
    } else if direct::find_session(spec).await.is_ok_and(|session| session.is_none()) {
        TmuxEvent::SessionLost
    } else {
        TmuxEvent::ClientLost { reason }
    };
    tracing::warn!(?event, "the connection to tmux ended");
    let sender = events.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(sender) = sender
        && sender.try_send(event).is_err()
    {
        tracing::warn!(EVENTS_MAX, "nobody takes the news of tmux");
    }
}

/// Drops those who wait, which tells them that the connection is lost.
fn forget(waiting: &Waiting) {
    lock(waiting).clear();
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, VecDeque<(u64, oneshot::Sender<Vec<Block>>)>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
