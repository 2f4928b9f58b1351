//! The asking side of the control socket, blocking: one question per connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::protocol::{Call, Question, REPLY_BYTES_MAX, Reply, ReplyError};
use super::socket;

/// How long a plain question may take; streams may be silent for days.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no supervisor answers at {path}")]
    NotRunning {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The socket belongs to somebody else.
    #[error("the supervisor at {path} belongs to another user")]
    NotAllowed {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or the supervisor was silent for too long.
    #[error("the conversation with the supervisor at {path} failed")]
    Broken {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The supervisor ended before it had answered.
    #[error("the supervisor at {path} ended before it had answered")]
    Interrupted {
        /// The socket's path.
        path: PathBuf,
    },
    /// The supervisor said something that this program does not understand.
    #[error("the supervisor at {path} answered in a form that this program does not know")]
    Foreign {
        /// The socket's path.
        path: PathBuf,
        /// Where the form breaks.
        #[source]
        source: serde_json::Error,
    },
    /// The supervisor says that there is no answer.
    #[error(transparent)]
    Answered(#[from] ReplyError),
}

/// Asks the supervisor at one socket.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    patience: Duration,
}

impl Client {
    /// Names the socket; nothing is opened before the first question.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, patience: ANSWER_TIME_MAX }
    }

    /// Changes how long a plain question may take.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Returns the socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks a question that has one answer.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] when no supervisor is there, else what went wrong.
    pub fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let mut answers = self.open(call, Some(self.patience))?;
        match answers.next() {
            Some(answer) => answer,
            None => Err(ClientError::Interrupted { path: self.path.clone() }),
        }
    }

    /// Asks a question that has many answers.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] when no supervisor is there, else what went wrong.
    pub fn stream<T: DeserializeOwned>(&self, call: Call) -> Result<Answers<T>, ClientError> {
        self.open(call, None)
    }

    fn open<T: DeserializeOwned>(&self, call: Call, patience: Option<Duration>) -> Result<Answers<T>, ClientError> {
        let broken = |source| ClientError::Broken { path: self.path.clone(), source };
        let mut stream = socket::connect(&self.path).map_err(|source| self.not_connected(source))?;
        stream.set_read_timeout(patience).map_err(broken)?;
        stream.set_write_timeout(Some(ANSWER_TIME_MAX)).map_err(broken)?;
        let mut line = serde_json::to_vec(&Question::new(call)).map_err(|error| broken(error.into()))?;
        line.push(b'\n');
        // A supervisor that turns us away closes first; its reason, if it gave one, is still there to be read.
        match stream.write_all(&line) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(broken(error)),
            Ok(()) | Err(_) => {}
        }
        Ok(Answers { path: self.path.clone(), reader: BufReader::new(stream), ended: false, values: PhantomData })
    }

    fn not_connected(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        // Two kinds are told apart, all others are one; the list of kinds is not ours.
        if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            ClientError::NotRunning { path, source }
        } else if source.kind() == io::ErrorKind::PermissionDenied {
            ClientError::NotAllowed { path, source }
        } else {
            ClientError::Broken { path, source }
        }
    }
}

/// The answers to one question, as they come.
#[derive(Debug)]
pub struct Answers<T> {
    path: PathBuf,
    reader: BufReader<UnixStream>,
    ended: bool,
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Answers<T> {
    fn read(&mut self) -> Result<Option<T>, ClientError> {
        let broken = |source| ClientError::Broken { path: self.path.clone(), source };
        let foreign = |source| ClientError::Foreign { path: self.path.clone(), source };
        let mut line = Vec::new();
        match (&mut self.reader).take(REPLY_BYTES_MAX + 1).read_until(b'\n', &mut line) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => line.clear(),
            Err(error) => return Err(broken(error)),
        }
        if line.len() as u64 > REPLY_BYTES_MAX {
            return Err(broken(io::Error::other(format!("a reply is longer than {REPLY_BYTES_MAX} bytes"))));
        }
        if line.last() != Some(&b'\n') {
            return Err(ClientError::Interrupted { path: self.path.clone() });
        }
        match serde_json::from_slice(&line).map_err(foreign)? {
            Reply::Value(value) => serde_json::from_value(value).map(Some).map_err(foreign),
            Reply::Error(error) => Err(error.into()),
            Reply::End(_) => Ok(None),
        }
    }
}

impl<T: DeserializeOwned> Iterator for Answers<T> {
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let answer = self.read();
        self.ended = !matches!(answer, Ok(Some(_)));
        answer.transpose()
    }
}
