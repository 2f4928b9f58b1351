//! How a journal is created, checked and brought to the current schema.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::{JournalError, SCHEMA, failed};

/// How long a statement waits for a checkpoint or a reader that is in the way.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The ending of the file that is there while the journal is open. Its facts then lie in the log as well, and a log that is
/// missing would pass for one that was never needed.
pub(super) const MARK: &str = "-open";

/// Returns the path of a file that lies beside the database.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// The mark of an open journal; gone when this is dropped, but not when the process is killed.
#[derive(Debug)]
pub(super) struct Mark(PathBuf);

impl Mark {
    fn set(path: &Path) -> io::Result<Self> {
        let mark = beside(path, MARK);
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&mark)?;
        Ok(Self(mark))
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the mark of an open journal cannot be removed");
        }
    }
}

/// Refuses a journal that was not closed and has lost its log.
fn refuse_without_log(path: &Path) -> Result<(), JournalError> {
    if beside(path, MARK).exists() && !beside(path, "-wal").exists() {
        return Err(JournalError::LogMissing { path: path.to_owned() });
    }
    Ok(())
}

/// Returns the options that writer and readers share.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
}

/// Opens the database and returns it with the number of its last fact and the mark that it is open.
pub(super) async fn open(path: &Path) -> Result<(SqliteConnection, i64, Mark), JournalError> {
    create_private(path).map_err(|source| JournalError::Open { path: path.to_owned(), source })?;
    refuse_without_log(path)?;
    let options = options(path).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let mut connection = options.connect().await.map_err(|source| failed(path, "open the database", source))?;
    check(&mut connection, path).await?;
    prepare_tables(&mut connection, path).await?;
    // Only now the log exists for sure.
    let mark = Mark::set(path).map_err(|source| JournalError::Open { path: path.to_owned(), source })?;
    // Compaction may have deleted every fact that the snapshots cover; their numbers must not be given out again.
    let (last,): (i64,) = sqlx::query_as(
        "SELECT COALESCE(MAX(seq), 0) FROM \
         (SELECT MAX(seq) AS seq FROM facts UNION ALL SELECT MAX(seq) AS seq FROM snapshots) AS numbers",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(|source| failed(path, "find the last fact", source))?;
    Ok((connection, last, mark))
}

/// Creates the file before SQLite does, which would make it readable for others; -wal and -shm take over its mode.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            file.sync_all()?;
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        }
        Err(error) => Err(error),
    }
}

async fn check(connection: &mut SqliteConnection, path: &Path) -> Result<(), JournalError> {
    let (verdict,): (String,) = sqlx::query_as("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await
        .map_err(|source| failed(path, "check the database", source))?;
    if verdict == "ok" { Ok(()) } else { Err(JournalError::Corrupt { path: path.to_owned(), detail: verdict }) }
}

async fn prepare_tables(connection: &mut SqliteConnection, path: &Path) -> Result<(), JournalError> {
    let failed = |source| failed(path, "prepare the tables", source);
    let mut transaction = connection.begin().await.map_err(failed)?;
    sqlx::query("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL)")
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    let found: Option<(i64,)> = sqlx::query_as("SELECT value FROM meta WHERE name = 'schema'")
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
    match found {
        Some((SCHEMA,)) => {}
        Some((found,)) => return Err(JournalError::Newer { path: path.to_owned(), found }),
        None => {
            for statement in [
                "CREATE TABLE facts (seq BIGINT PRIMARY KEY, at TEXT NOT NULL, version BIGINT NOT NULL, \
                 kind TEXT NOT NULL, body TEXT NOT NULL)",
                "CREATE TABLE snapshots (seq BIGINT PRIMARY KEY, version BIGINT NOT NULL, body TEXT NOT NULL)",
            ] {
                sqlx::query(statement).execute(&mut *transaction).await.map_err(failed)?;
            }
            sqlx::query("INSERT INTO meta (name, value) VALUES ('schema', $1)")
                .bind(SCHEMA)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
    }
    transaction.commit().await.map_err(failed)
}
