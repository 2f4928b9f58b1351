//! `miyabi logs`: files, read without a supervisor.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::context::Context;
use super::failure::{Ended, Failure, Kind, Result};
use super::mail;
use super::output::{Form, Output, printable};
use crate::model::layout::Layout;
use crate::telemetry;

/// How often a followed file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The longest piece of a line that is shown at once, in bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// The arguments of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  miyabi logs\n  miyabi logs kaede --follow\n  miyabi logs sakura --lines 1000")]
pub struct Args {
    /// The agent whose newest attempt is shown [default: the supervisor]
    #[arg(value_name = "AGENT")]
    pub agent: Option<String>,
    /// Goes on with what is written from now on, also into the next attempt's file
    #[arg(long, short)]
    pub follow: bool,
    /// How many of the last lines are shown
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200)]
    pub lines: usize,
}

/// Shows a log.
///
/// # Errors
/// Exit code 4 for an unknown agent, 1 when there is no log yet.
pub fn run(context: &Context, args: &Args) -> Result {
    let layout = context.layout()?;
    let source = match &args.agent {
        Some(agent) => Source::Agent(layout.agent_logs(&known(context, &layout, agent)?)),
        None => Source::Supervisor(layout.logs()),
    };
    let newest = source.newest();
    let Some(path) = newest.or_else(|| args.follow.then(PathBuf::new)) else {
        return Err(Failure::say(Kind::Failed, format!("there is no log in {}", source.folder().display())).hint(
            "logs begin with the first `miyabi up`, an agent's with its first attempt; `--follow` waits for it",
        ));
    };
    let tail = Tail::begin(&path, args.lines, context.out)?;
    if args.follow { follow(&source, tail, context.out) } else { Ok(Ended::Well) }
}

/// Copies what is added, until nobody reads it any more.
fn follow(source: &Source, mut tail: Tail, out: Output) -> Result {
    loop {
        // Looked for first: what was added to the old file before the new one was begun is still copied.
        let next = source.newest().filter(|next| *next != tail.path);
        tail.copy(out)?;
        match next {
            Some(next) => {
                out.note(&format!("==> {} <==", next.display()));
                tail = Tail::open(&next)?;
            }
            None => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}

/// Accepts an agent of agents.toml, and one that was removed but has left its log.
fn known(context: &Context, layout: &Layout, name: &str) -> Result<crate::model::id::AgentId> {
    let agent = crate::model::id::AgentId::new(name)?;
    if layout.agent_logs(&agent).is_dir() { Ok(agent) } else { mail::known_agent(&context.plan()?, name) }
}

/// Where log files lie, and which of them is meant.
#[derive(Debug)]
enum Source {
    /// The supervisor's: one file a day.
    Supervisor(PathBuf),
    /// An agent's: one file an attempt.
    Agent(PathBuf),
}

impl Source {
    fn folder(&self) -> &Path {
        match self {
            Self::Supervisor(folder) | Self::Agent(folder) => folder,
        }
    }

    /// Finds the file that was written last.
    fn newest(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.folder()).ok()?;
        let files = entries.flatten().filter(|entry| match self {
            Self::Supervisor(_) => entry.file_name().to_string_lossy().starts_with(telemetry::FILE_PREFIX),
            Self::Agent(_) => !entry.file_name().to_string_lossy().starts_with('.'),
        });
        let dated = files.filter_map(|entry| {
            let found = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((found.modified().unwrap_or(SystemTime::UNIX_EPOCH), entry.path()))
        });
        dated.max().map(|(_, path)| path)
    }
}

/// A file that is read as it grows.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    reader: Option<BufReader<File>>,
}

impl Tail {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| unreadable(path, error))?;
        Ok(Self { path: path.to_owned(), reader: Some(BufReader::new(file)) })
    }

    /// Shows the last lines; an empty path stands for a file that does not exist yet.
    fn begin(path: &Path, lines: usize, out: Output) -> Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(Self { path: path.to_owned(), reader: None });
        }
        let mut tail = Self::open(path)?;
        let mut last: VecDeque<Vec<u8>> = VecDeque::new();
        while let Some(line) = tail.next_piece()? {
            last.push_back(line);
            if last.len() > lines {
                last.pop_front();
            }
        }
        for line in last {
            show(out, &line)?;
        }
        Ok(tail)
    }

    /// Shows what has been added; begins anew when the file was cut.
    fn copy(&mut self, out: Output) -> Result<()> {
        if let Some(reader) = &mut self.reader {
            let at = reader.stream_position()?;
            if reader.get_ref().metadata()?.size() < at {
                reader.seek(SeekFrom::Start(0))?;
            }
        }
        while let Some(line) = self.next_piece()? {
            show(out, &line)?;
        }
        Ok(())
    }

    fn next_piece(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let mut line = Vec::new();
        let read = reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        read.map_err(|error| unreadable(&self.path, error))?;
        Ok((!line.is_empty()).then_some(line))
    }
}

/// Shows a line. An agent's own colours are kept for a terminal that wants them; nothing else may steer it.
fn show(out: Output, line: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(line);
    match out.form {
        Form::Json => out.json(&serde_json::json!({ "line": text.trim_end_matches('\n') })),
        Form::Text => out.text(&printable(&strip_escapes(&text))),
    }
}

/// Removes terminal escape sequences: colours, titles, cursor movements.
fn strip_escapes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\r', Some('\n')) => {}
            ('\x1b', Some('[')) => {
                chars.next();
                // A control sequence ends with its first letter or sign.
                while chars.next().is_some_and(|c| !('\x40'..='\x7e').contains(&c)) {}
            }
            ('\x1b', Some(']')) => {
                // A title ends with a bell, or with an escape and a backslash.
                while let Some(c) = chars.next() {
                    if c == '\x07' {
                        break;
                    }
                    if c == '\x1b' {
                        chars.next();
                        break;
                    }
                }
            }
            ('\x1b', _) => {
                chars.next();
            }
            (c, _) => kept.push(c),
        }
    }
    kept
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Kind::Failed, anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_agents_do_not_reach_the_terminal() {
        assert_eq!(strip_escapes("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\x1b]2;t\x1b\\y\r\n"), "red xy\n");
        assert_eq!(strip_escapes("cut off \x1b["), "cut off ");
    }

    #[test]
    fn the_newest_file_of_an_agent_is_the_one_written_last() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, age: u64| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 - age)).unwrap();
        };
        write("z-1.log", 50);
        write("a-2.log", 10);
        write(".hidden", 0);
        assert_eq!(Source::Agent(folder.path().to_owned()).newest(), Some(folder.path().join("a-2.log")));
        assert_eq!(Source::Supervisor(folder.path().to_owned()).newest(), None);
    }
}
