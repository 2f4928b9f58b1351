//! One call of the git program.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{Author, GitError};

/// How long a call may take that only looks at or changes the object store.
const QUICK: Duration = Duration::from_secs(60);

/// How long a call may take that writes or reads a whole working tree.
const SLOW: Duration = Duration::from_secs(900);

/// The most bytes of output that a call may print.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The most bytes of an error message that are kept.
const ERROR_BYTES_MAX: u64 = 4_096;

/// Settings of every call, stronger than the repository's own: nothing of it may run by itself, and what was written is on the disk.
const SETTINGS: [&str; 9] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "core.filesRefLockTimeout=2000",
    "core.packedRefsTimeout=2000",
    "core.fsync=committed,loose-object",
    "core.fsyncMethod=batch",
    "gc.auto=0",
    "maintenance.auto=false",
];

/// Variables that would point git at something else than the folder it is called in.
const FOREIGN: [&str; 17] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_EXTERNAL_DIFF",
    "GIT_REPLACE_REF_BASE",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_DATE",
];

/// A folder in which git is called.
#[derive(Debug, Clone)]
pub(super) struct Git {
    dir: PathBuf,
}

impl Git {
    pub(super) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns where git keeps a file of this worktree, e.g. `index`, or `refs/heads/main.lock`. It need not be there.
    pub(super) async fn file(&self, name: &str) -> Result<PathBuf, GitError> {
        Ok(self.dir.join(self.call(["rev-parse", "--git-path", name]).text().await?))
    }

    /// Prepares a call; nothing happens before one of its ends is awaited.
    pub(super) fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let name = args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Call {
            dir: self.dir.clone(),
            name,
            args,
            env: Vec::new(),
            stdin: Vec::new(),
            limit: QUICK,
            bytes: OUTPUT_BYTES_MAX,
        }
    }
}

/// What a call came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
    /// Whether more was printed than was asked for.
    pub(super) cut: bool,
}

/// A prepared call.
#[derive(Debug)]
pub(super) struct Call {
    dir: PathBuf,
    name: String,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    stdin: Vec<u8>,
    limit: Duration,
    bytes: u64,
}

impl Call {
    pub(super) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub(super) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Names who writes a commit.
    pub(super) fn author(self, author: &Author) -> Self {
        self.env("GIT_AUTHOR_NAME", &author.name)
            .env("GIT_AUTHOR_EMAIL", &author.email)
            .env("GIT_COMMITTER_NAME", &author.name)
            .env("GIT_COMMITTER_EMAIL", &author.email)
    }

    /// Allows the time that a whole working tree may take.
    pub(super) const fn slow(mut self) -> Self {
        self.limit = SLOW;
        self
    }

    /// Takes no more than this much output and lets the rest go.
    pub(super) const fn first_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Runs the call and returns its output; anything but success is an error.
    pub(super) async fn bytes(self) -> Result<Vec<u8>, GitError> {
        let (dir, name, bytes) = (self.dir.clone(), self.name.clone(), self.bytes);
        let outcome = self.outcome().await?;
        if outcome.cut {
            return Err(GitError::TooMuch { path: dir, command: name, bytes });
        }
        if outcome.status.success() { Ok(outcome.stdout) } else { Err(failed(dir, name, &outcome)) }
    }

    /// Runs the call and returns its output as text without the last line's end.
    pub(super) async fn text(self) -> Result<String, GitError> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
    }

    /// Runs the call for which the exit code 1 means "no" or "nothing", as many of git's questions have it.
    pub(super) async fn answer(self) -> Result<Option<String>, GitError> {
        let (dir, name) = (self.dir.clone(), self.name.clone());
        let outcome = self.outcome().await?;
        match outcome.status.code() {
            Some(0) => Ok(Some(String::from_utf8_lossy(&outcome.stdout).trim_end_matches('\n').to_owned())),
            Some(1) => Ok(None),
            Some(_) | None => Err(failed(dir, name, &outcome)),
        }
    }

    /// Runs the call and returns whatever it came to.
    pub(super) async fn outcome(self) -> Result<Outcome, GitError> {
        let start = |source| GitError::Start { path: self.dir.clone(), source };
        let mut child = self.command().spawn().map_err(start)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let work = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A program that does not read its input says why by its exit code.
                    drop(stdin.write_all(&self.stdin).await);
                }
            };
            let (stdout, stderr, ()) = tokio::join!(read(stdout, self.bytes), read(stderr, ERROR_BYTES_MAX), feed);
            let ((stdout, cut), (stderr, _)) = (stdout?, stderr?);
            if cut && let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let status = child.wait().await?;
            let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
            Ok(Outcome { status, stdout, stderr, cut })
        };
        match tokio::time::timeout(self.limit, work).await {
            Ok(outcome) => outcome.map_err(start),
            Err(_) => {
                if let Some(group) = group {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                Err(GitError::TimedOut { path: self.dir.clone(), command: self.name.clone(), limit: self.limit })
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.dir);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        for name in FOREIGN {
            command.env_remove(name);
        }
        // A folder that is no repository must not be taken for a part of one that lies around it.
        if let Some(parent) = self.dir.parent() {
            command.env("GIT_CEILING_DIRECTORIES", parent);
        }
        command
            .args(&self.args)
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            // Whoever may write to the repository could otherwise show us another commit than the one we name.
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_PAGER", "cat")
            .env("GIT_EDITOR", "true")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

fn failed(path: PathBuf, command: String, outcome: &Outcome) -> GitError {
    let detail = if outcome.stderr.is_empty() { outcome.status.to_string() } else { outcome.stderr.clone() };
    GitError::Failed { path, command, detail }
}

/// Reads at most `limit` bytes and tells whether there were more.
async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let Some(mut pipe) = pipe else { return Ok((bytes, false)) };
    (&mut pipe).take(limit).read_to_end(&mut bytes).await?;
    // One more byte tells a full buffer from the end.
    let cut = bytes.len() as u64 == limit && pipe.read(&mut [0]).await? > 0;
    Ok((bytes, cut))
}

/// Splits NUL-terminated records.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(b"\0").unwrap_or(bytes).split(|byte| *byte == 0).filter(|record| !record.is_empty())
}

/// Takes the bytes that git prints for a path as that path.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
