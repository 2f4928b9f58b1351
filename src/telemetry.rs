//! Logs: a file a day under `logs/`, and the terminal or the system's journal when one of them is looking.

use std::path::{Path, PathBuf};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// The beginning of the names of the supervisor's log files; the day follows.
pub const FILE_PREFIX: &str = "miyabi.log";

/// The beginning of the names of the log files in which the runners of all agents write.
pub const RUNNERS_PREFIX: &str = "runners.log";

/// What is logged when nobody says otherwise.
const LEVEL_DEFAULT: &str = "info";

/// How logs are written.
#[derive(Debug, Clone)]
pub struct Logging {
    /// The folder of log files.
    pub folder: PathBuf,
    /// The beginning of their names: [`FILE_PREFIX`] or [`RUNNERS_PREFIX`].
    pub prefix: &'static str,
    /// A level or a filter such as `info,miyabi::daemon=debug`.
    pub filter: Option<String>,
    /// The form of the lines in the file.
    pub format: Format,
    /// How many days of files are kept; one file a day.
    pub days_kept: usize,
    /// Whether lines also go to standard error.
    pub standard_error: StandardError,
}

/// The form of the lines in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Compact,
    /// For programs: a JSON object a line.
    Json,
}

/// Whether lines also go to standard error, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardError {
    /// Nobody reads it.
    Silent,
    /// A terminal.
    Terminal,
    /// A terminal whose user likes colours.
    ColoredTerminal,
    /// The system's journal, which adds the time by itself.
    Journal,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The folder or file cannot be made.
    #[error("cannot write log files in {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What went wrong.
        #[source]
        source: InitError,
    },
    /// The filter is no filter.
    #[error("`{filter}` is no log level or filter")]
    Filter {
        /// The filter as given.
        filter: String,
        /// Where it breaks.
        #[source]
        source: ParseError,
    },
    /// Something else in this process logs already.
    #[error("logging has begun already")]
    Twice(#[source] TryInitError),
}

/// Begins to log. What is returned must live as long as the process has something to say: it writes out the rest.
///
/// # Errors
/// Names the folder or the filter.
pub fn start(logging: &Logging) -> Result<WorkerGuard, TelemetryError> {
    // Old files are looked for before the first one is made; a folder that is missing would be complained about.
    std::fs::create_dir_all(&logging.folder).ok();
    let file = rolling_file(&logging.folder, logging.prefix, logging.days_kept)?;
    // A full disk or a slow one must never hold up the supervisor's loop, so another thread writes.
    let (file, guard) = tracing_appender::non_blocking(file);
    let file = match logging.format {
        Format::Compact => fmt::layer().compact().with_ansi(false).with_writer(file).boxed(),
        Format::Json => fmt::layer().json().with_ansi(false).with_writer(file).boxed(),
    };
    let standard_error = match logging.standard_error {
        StandardError::Silent => None,
        StandardError::Terminal => Some(terminal_layer(false)),
        StandardError::ColoredTerminal => Some(terminal_layer(true)),
        StandardError::Journal => Some(journal_layer()),
    };
    tracing_subscriber::registry()
        .with(filter(logging.filter.as_deref())?)
        .with(file)
        .with(standard_error)
        .try_init()
        .map_err(TelemetryError::Twice)?;
    Ok(guard)
}

/// Talks to the system's journal in its own protocol, so that fields stay fields: `journalctl MIYABI_AGENT=kaede`.
fn journal_layer<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    match tracing_journald::layer() {
        Ok(layer) => {
            layer.with_field_prefix(Some("MIYABI".to_owned())).with_syslog_identifier("miyabi".to_owned()).boxed()
        }
        // Without its socket (a sandbox, another init) lines on standard error still reach whoever collects them.
        Err(_) => fmt::layer().compact().with_ansi(false).without_time().with_writer(std::io::stderr).boxed(),
    }
}

fn terminal_layer<S>(colors: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fmt::layer().compact().with_target(false).with_ansi(colors).with_writer(std::io::stderr).boxed()
}

fn rolling_file(folder: &Path, prefix: &str, days_kept: usize) -> Result<RollingFileAppender, TelemetryError> {
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(prefix)
        .max_log_files(days_kept)
        .build(folder)
        .map_err(|source| TelemetryError::Folder { folder: folder.to_owned(), source })
}

fn filter(text: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let text = text.unwrap_or(LEVEL_DEFAULT);
    EnvFilter::builder().parse(text).map_err(|source| TelemetryError::Filter { filter: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_days_file_is_made_in_the_folder_and_old_days_go() {
        let folder = tempfile::tempdir().unwrap();
        for day in 1..=9 {
            std::fs::write(folder.path().join(format!("{FILE_PREFIX}.2020-01-0{day}")), "old").unwrap();
        }
        let mut file = rolling_file(folder.path(), FILE_PREFIX, 3).unwrap();
        file.write_all(b"a line\n").unwrap();
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let today = names.iter().filter(|name| !name.to_string_lossy().contains("2020-01-0")).count();
        assert_eq!(today, 1, "{names:?}");
    }

    #[test]
    fn a_filter_that_is_none_is_named() {
        assert!(filter(Some("info,miyabi::daemon=debug")).is_ok());
        assert!(filter(Some("miyabi=loud")).unwrap_err().to_string().contains("miyabi=loud"));
    }
}
