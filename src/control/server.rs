//! The supervisor's side of the control socket. It parses and bounds; the supervisor's loop answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::{Answerer, Asked, LINES_MAX, line_of};
use super::protocol::{Call, ErrorKind, QUESTION_BYTES_MAX, Question, Reply, ReplyError, VERSION};
use super::socket::Bound;
use crate::tasks::Tasks;

/// How many clients are served at once; each may be a stream that stays open for days.
pub const CONNECTIONS_MAX: usize = 128;

/// How long a client may take to send its question.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(5);

/// How long the supervisor's loop may take to accept a question.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a client may take to read one line.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an answer may take for a client that has closed its sending half.
const LINGER_TIME_MAX: Duration = Duration::from_secs(30);

/// How long the answers under way may take when the supervisor ends.
const END_TIME_MAX: Duration = Duration::from_millis(500);

/// The wait after a failed accept: without file descriptors it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers clients until it is told to stop; the socket's file goes with it.
///
/// # Errors
/// Only when the socket cannot be watched at all.
pub async fn serve(bound: Bound, asks: mpsc::Sender<Asked>, stop: CancellationToken) -> io::Result<()> {
    let listener = UnixListener::from_std(bound.listener().try_clone()?)?;
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut clients = Tasks::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a client could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !may_ask(&stream) {
            continue;
        }
        let asks = asks.clone();
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => clients.start("control client", |stop| converse(stream, asks, permit, stop)),
            Err(_) => refuse(&stream),
        }
    }
    clients.shut_down(END_TIME_MAX).await;
    drop(bound);
    Ok(())
}

/// Lets the supervisor's own user and root in. The socket's mode says the same; this also holds where modes do not.
fn may_ask(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if is_trusted(peer.uid(), rustix::process::geteuid().as_raw()) => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "a client of another user was turned away");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a client without a known user was turned away");
            false
        }
    }
}

const fn is_trusted(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == own_uid || peer_uid == 0
}

fn refuse(stream: &UnixStream) {
    let error = ReplyError::new(ErrorKind::Busy, format!("{CONNECTIONS_MAX} clients are being served already"))
        .with_hint("ask again later; `miyabi status --watch` and `--follow` hold a connection each");
    if let Ok(line) = line_of(&Reply::Error(error))
        && let Err(error) = stream.try_write(&line)
    {
        tracing::debug!(%error, "a client could not be told that it is too many");
    }
}

async fn converse(
    stream: UnixStream,
    asks: mpsc::Sender<Asked>,
    permit: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let (lines, queue) = mpsc::channel(LINES_MAX);
    let gone = CancellationToken::new();
    let answer = Answerer::new(lines, gone.clone());
    match timeout(QUESTION_TIME_MAX, read_question(&mut reader)).await {
        Ok(Ok(call)) => ask(&asks, Asked { call, answer }).await,
        Ok(Err(error)) => answer.error(error),
        Err(_) => answer.error(ReplyError::new(ErrorKind::Malformed, "no question came in time")),
    }
    // Without this sender of its own, the client learns at once that a supervisor on its way down has stopped listening.
    drop(asks);
    tokio::select! {
        () = write_all(writer, queue, &stop) => {}
        () = watch_for_end(reader, &gone) => {}
    }
    gone.cancel();
    drop(permit);
}

async fn ask(asks: &mpsc::Sender<Asked>, asked: Asked) {
    match asks.send_timeout(asked, ASK_TIME_MAX).await {
        Ok(()) => {}
        Err(mpsc::error::SendTimeoutError::Timeout(asked)) => {
            asked.answer.error(ReplyError::new(ErrorKind::Busy, "the supervisor is too busy to answer"));
        }
        Err(mpsc::error::SendTimeoutError::Closed(asked)) => {
            asked.answer.error(ReplyError::new(ErrorKind::Refused, "the supervisor is ending"));
        }
    }
}

async fn read_question(reader: &mut BufReader<OwnedReadHalf>) -> Result<Call, ReplyError> {
    let malformed = |message: String| ReplyError::new(ErrorKind::Malformed, message);
    let mut line = Vec::new();
    let read = reader.take(QUESTION_BYTES_MAX + 1).read_until(b'\n', &mut line).await;
    read.map_err(|error| malformed(format!("the question cannot be read: {error}")))?;
    if line.len() as u64 > QUESTION_BYTES_MAX {
        return Err(malformed(format!("a question may have {QUESTION_BYTES_MAX} bytes")));
    }
    // The version is looked at first: a question of another version may have any shape.
    let value: serde_json::Value =
        serde_json::from_slice(&line).map_err(|error| malformed(format!("the question is not JSON: {error}")))?;
    if value.get("v").and_then(serde_json::Value::as_u64) != Some(u64::from(VERSION)) {
        return Err(malformed(format!("this supervisor speaks version {VERSION} of the control protocol"))
            .with_hint("use the `miyabi` program that the supervisor was started with"));
    }
    let question: Question =
        serde_json::from_value(value).map_err(|error| malformed(format!("the question is not understood: {error}")))?;
    Ok(question.call)
}

/// Writes until the answerer is dropped and all it said is out, or until the client stops reading. When the supervisor
/// ends, what was said before still goes out.
async fn write_all(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>, stop: &CancellationToken) {
    loop {
        let line = tokio::select! {
            biased;
            line = queue.recv() => line,
            () = stop.cancelled() => None,
        };
        let Some(line) = line else { return };
        match timeout(WRITE_TIME_MAX, writer.write_all(&line)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client went away");
                return;
            }
            Err(_) => {
                tracing::debug!("a client did not read in time");
                return;
            }
        }
    }
}

/// Watches the client's side, and returns when nobody can be waiting any more. A client may close its sending half and
/// still read: it gets its answer, if that comes soon.
async fn watch_for_end(mut reader: BufReader<OwnedReadHalf>, gone: &CancellationToken) {
    let mut ignored = [0_u8; 256];
    loop {
        match reader.read(&mut ignored).await {
            Ok(0) => {
                gone.cancel();
                tokio::time::sleep(LINGER_TIME_MAX).await;
                return;
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::client::{Client, ClientError};
    use crate::control::protocol::Pong;
    use crate::control::socket;
    use std::io::{Read, Write};
    use std::path::Path;

    /// A server whose asks the test answers, and the path at which it listens.
    struct Served {
        asks: mpsc::Receiver<Asked>,
        path: std::path::PathBuf,
        tasks: Tasks,
        _folder: tempfile::TempDir,
    }

    fn served() -> Served {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let bound = socket::bind(&path).unwrap();
        let (sender, asks) = mpsc::channel(8);
        let mut tasks = Tasks::new();
        tasks.start("server", |stop| async move { serve(bound, sender, stop).await.unwrap() });
        Served { asks, path, tasks, _folder: folder }
    }

    /// Runs the blocking client beside the server.
    async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    fn raw(path: &Path, bytes: &[u8]) -> String {
        let mut stream = socket::connect(path).unwrap();
        // The server may turn a client away before it has read everything.
        drop(stream.write_all(bytes));
        let mut text = String::new();
        drop(stream.read_to_string(&mut text));
        text
    }

    #[tokio::test]
    async fn a_question_reaches_the_supervisor_and_its_answer_the_client() {
        let mut served = served();
        let path = served.path.clone();
        let client = beside(move || Client::new(path).ask::<Pong>(Call::Ping));
        let (pong, ()) = tokio::join!(client, async {
            let asked = served.asks.recv().await.unwrap();
            assert_eq!(asked.call, Call::Ping);
            asked.answer.value(&Pong { pid: 7, version: "1".to_owned() });
        });
        assert_eq!(pong.unwrap(), Pong { pid: 7, version: "1".to_owned() });
        served.tasks.shut_down(Duration::from_secs(5)).await;
        assert!(!served.path.exists(), "the socket outlived its server");
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_end_and_is_interrupted_without_one() {
        let mut served = served();
        for complete in [true, false] {
            let path = served.path.clone();
            let client = beside(move || {
                let answers = Client::new(path).stream::<u32>(Call::WaitTask { ids: Vec::new() }).unwrap();
                answers.collect::<Vec<_>>()
            });
            let (answers, ()) = tokio::join!(client, async {
                let asked = served.asks.recv().await.unwrap();
                asked.answer.value(&1);
                asked.answer.value_when_room(&2).await;
                if complete {
                    asked.answer.end();
                }
            });
            assert_eq!(answers.iter().flatten().copied().collect::<Vec<_>>(), [1, 2]);
            let interrupted = matches!(answers.last(), Some(Err(ClientError::Interrupted { .. })));
            assert_eq!(interrupted, !complete);
        }
    }

    #[tokio::test]
    async fn nonsense_other_versions_and_endless_lines_are_refused_without_the_supervisor() {
        let mut served = served();
        for (bytes, expected) in [
            (b"hello\n".to_vec(), "not JSON"),
            (b"{\"v\":2,\"call\":\"status\"}\n".to_vec(), "speaks version 1"),
            (b"{\"v\":1,\"call\":\"dance\"}\n".to_vec(), "not understood"),
            (vec![b'x'; 1024 * 1024 + 10], "may have"),
        ] {
            let path = served.path.clone();
            let text = beside(move || raw(&path, &bytes)).await;
            assert!(text.contains("\"malformed\"") && text.contains(expected), "{text}");
        }
        assert!(served.asks.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_supervisor_learns_that_a_client_has_gone() {
        let mut served = served();
        let mut stream = socket::connect(&served.path).unwrap();
        stream.write_all(b"{\"v\":1,\"call\":{\"events\":{\"follow\":true}}}\n").unwrap();
        let asked = served.asks.recv().await.unwrap();
        assert!(!asked.answer.is_gone());
        drop(stream);
        timeout(Duration::from_secs(5), asked.answer.gone()).await.unwrap();
        assert!(asked.answer.is_gone());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let mut served = served();
        let mut stream = socket::connect(&served.path).unwrap();
        stream.write_all(b"{\"v\":1,\"call\":\"tasks\"}\n").unwrap();
        let asked = served.asks.recv().await.unwrap();
        let line = "x".repeat(10_000);
        for _ in 0..=LINES_MAX {
            asked.answer.value(&line);
        }
        assert!(asked.answer.is_gone());
    }

    #[tokio::test]
    async fn one_client_too_many_is_told_so() {
        let mut served = served();
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = socket::connect(&served.path).unwrap();
            stream.write_all(b"{\"v\":1,\"call\":\"ping\"}\n").unwrap();
            held.push((stream, served.asks.recv().await.unwrap()));
        }
        let path = served.path.clone();
        let error = beside(move || Client::new(path).ask::<Pong>(Call::Ping)).await.unwrap_err();
        assert!(matches!(&error, ClientError::Answered(error) if error.kind == ErrorKind::Busy), "{error}");
    }

    #[test]
    fn only_the_user_and_root_are_trusted() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000));
        assert!(!is_trusted(1001, 1000));
    }

    #[test]
    fn an_absent_supervisor_is_told_apart_from_a_broken_one() {
        let error = Client::new("/nonexistent/control.sock".into()).ask::<Pong>(Call::Ping).unwrap_err();
        assert!(matches!(error, ClientError::NotRunning { .. }));
    }
}
