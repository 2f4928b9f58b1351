//! The edge: every failure becomes a message, hints and one of the documented exit codes.

use std::io;
use std::process::ExitCode;

use crate::control::client::ClientError;
use crate::control::protocol::{ErrorKind, ReplyError};
use crate::model::request::{Answer, RefusalKind};

/// How a verb that did not fail has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All is well.
    Well,
    /// It did what it should, and what it looked at is not well: a task failed, a check did not pass.
    NotWell,
}

/// Which exit code a failure becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something went wrong.
    Failed,
    /// The arguments do not fit together.
    Usage,
    /// No supervisor answers.
    NoSupervisor,
    /// A file, name or value is not valid.
    Invalid,
    /// Not now, or not allowed.
    Refused,
    /// A mailbox, the spool or the disk has no room; the same is accepted later.
    NoRoom,
    /// What was waited for did not come in time.
    TimedOut,
    /// Whoever read our output has stopped reading; that is no failure and nobody is told.
    ReaderGone,
}

impl Kind {
    /// Returns the documented exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoSupervisor => 3,
            Self::Invalid => 4,
            Self::Refused => 5,
            Self::NoRoom => 6,
            Self::TimedOut => 7,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::ReaderGone => "reader-gone",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NoSupervisor => "no-supervisor",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::NoRoom => "no-room",
            Self::TimedOut => "timed-out",
        }
    }
}

/// Why a verb failed and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// Which exit code it becomes.
    pub kind: Kind,
    /// What happened, with its causes.
    pub source: anyhow::Error,
    /// What to do.
    pub hints: Vec<String>,
    /// Text with excerpts of files that is shown before the message.
    pub excerpts: Option<String>,
}

impl Failure {
    /// Builds a failure from what happened.
    #[must_use]
    pub fn new(kind: Kind, source: impl Into<anyhow::Error>) -> Self {
        Self { kind, source: source.into(), hints: Vec::new(), excerpts: None }
    }

    /// Builds a failure from words.
    #[must_use]
    pub fn say(kind: Kind, message: impl Into<String>) -> Self {
        Self::new(kind, anyhow::Error::msg(message.into()))
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Shows excerpts before the message.
    #[must_use]
    pub fn show(mut self, excerpts: String) -> Self {
        self.excerpts = Some(excerpts);
        self
    }

    /// Returns the message with its causes on one line.
    #[must_use]
    pub fn message(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for cause in self.source.chain() {
            let text = cause.to_string();
            // Some libraries repeat the cause in their own message.
            if !parts.iter().any(|part| part.ends_with(&text)) {
                parts.push(text);
            }
        }
        parts.join(": ")
    }

    /// Returns the form for programs.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": { "kind": self.kind.as_str(), "message": self.message(), "hints": self.hints }
        })
    }
}

/// The result of a verb.
pub type Result<T = Ended> = std::result::Result<T, Failure>;

/// Turns an end that is no failure into an exit code.
#[must_use]
pub fn exit_code(ended: Ended) -> ExitCode {
    match ended {
        Ended::Well => ExitCode::SUCCESS,
        Ended::NotWell => ExitCode::FAILURE,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let kind = if error.kind() == io::ErrorKind::BrokenPipe { Kind::ReaderGone } else { Kind::Failed };
        Self::new(kind, error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotRunning { .. } => Self::new(Kind::NoSupervisor, error)
                .hint("start it with `miyabi up`, or with `systemctl start miyabi-orchestra` where it is installed"),
            ClientError::NotAllowed { .. } => {
                Self::new(Kind::Refused, error).hint("run this as the user of the supervisor, or as root")
            }
            ClientError::Interrupted { .. } => Self::new(Kind::NoSupervisor, error).hint(
                "see `miyabi logs`; what was accepted before is not lost, so look with `miyabi status` and go on",
            ),
            ClientError::Foreign { .. } => Self::new(Kind::Failed, error)
                .hint("the supervisor may be of another version: `miyabi down`, then `miyabi up`"),
            ClientError::Broken { .. } => Self::new(Kind::Failed, error),
            ClientError::Answered(error) => error.into(),
        }
    }
}

impl From<ReplyError> for Failure {
    fn from(error: ReplyError) -> Self {
        let kind = match error.kind {
            ErrorKind::Invalid => Kind::Invalid,
            ErrorKind::Refused | ErrorKind::Busy => Kind::Refused,
            ErrorKind::Failed | ErrorKind::Malformed => Kind::Failed,
        };
        let hint = error.hint.clone();
        let failure = Self::new(kind, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Takes the answer to a request, or the refusal as a failure.
pub fn accepted(answer: Answer) -> Result<Answer> {
    match answer {
        Answer::Submitted { .. } | Answer::Accepted { .. } => Ok(answer),
        Answer::Refused { reason, hint, kind } => {
            let kind = match kind {
                RefusalKind::Invalid => Kind::Invalid,
                RefusalKind::NotNow => Kind::Refused,
            };
            let failure = Failure::say(kind, reason);
            Err(match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_told_once() {
        let inner = io::Error::other("disk on fire");
        let failure = Failure::new(Kind::Failed, anyhow::Error::new(inner).context("cannot write"));
        assert_eq!(failure.message(), "cannot write: disk on fire");
    }

    #[test]
    fn an_absent_supervisor_is_exit_code_3_with_a_way_out() {
        let error = ClientError::NotRunning { path: "/x".into(), source: io::ErrorKind::NotFound.into() };
        let failure = Failure::from(error);
        assert_eq!(failure.kind.code(), 3);
        assert!(failure.hints[0].contains("miyabi up"));
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).kind.code(), 0);
    }
}
