//! The journal: what must survive a crash, as an append-only list of serialised facts beside a few snapshots.
//!
//! SQLite in WAL mode with `synchronous = FULL`: an append is on the disk when it returns. The SQL keeps to what every
//! engine understands (`$1` placeholders, BIGINT and TEXT columns), so that another database can follow.

mod open;
mod read;
pub mod salvage;

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::Mutex;

pub use self::read::JournalReader;
use crate::model::time::Timestamp;

/// The version of the tables that this program writes.
pub const SCHEMA: i64 = 1;

/// How many snapshots are kept: the newest, and one to fall back on.
pub const SNAPSHOTS_KEPT: i64 = 2;

/// How many facts go into one statement. SQLite looks for each of a statement's variables among all of them, so that long
/// statements cost more than many.
const ROWS_PER_STATEMENT: usize = 40;

/// What can go wrong with the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened or created.
    #[error("cannot open the journal {path}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database answered with an error.
    #[error("cannot {act} in the journal {path}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// The file was written by a later version of this program.
    #[error(
        "the journal {path} has schema {found}, but this program knows {SCHEMA} at most: use the newer program again"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The schema that it names.
        found: i64,
    },
    /// The file is no sound database.
    #[error(
        "the journal {path} is damaged ({detail}): `miyabi journal repair` keeps it and makes a new one of all that can be read"
    )]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// The supervisor was killed, and the log with its newest facts is gone.
    #[error(
        "the newest facts of the journal {path} are missing: its -wal file is gone. Put it back beside it, or let \
         `miyabi journal repair` go on without them"
    )]
    LogMissing {
        /// The database file.
        path: PathBuf,
    },
    /// A row holds something that this program never wrote.
    #[error("fact {seq} of the journal {path} has an unreadable time `{at}`")]
    Row {
        /// The database file.
        path: PathBuf,
        /// The fact's number.
        seq: i64,
        /// The text found.
        at: String,
    },
    /// A snapshot claims to cover facts that do not exist.
    #[error("cannot write a snapshot of fact {seq} into the journal {path}: its last fact is {last}")]
    SnapshotAhead {
        /// The database file.
        path: PathBuf,
        /// The fact that the snapshot names.
        seq: i64,
        /// The last fact.
        last: i64,
    },
}

/// A fact as it lies in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFact {
    /// Its number; they grow by one without gaps.
    pub seq: i64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The version of its body's form.
    pub version: i64,
    /// What kind of fact it is.
    pub kind: String,
    /// Its serialised content.
    pub body: String,
}

/// A fact to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFact {
    /// When it happened.
    pub at: Timestamp,
    /// The version of its body's form.
    pub version: i64,
    /// What kind of fact it is.
    pub kind: String,
    /// Its serialised content.
    pub body: String,
}

/// A snapshot as it lies in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// The last fact that it covers.
    pub seq: i64,
    /// The version of its body's form.
    pub version: i64,
    /// Its serialised content.
    pub body: String,
}

/// The only writer of a journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    // Goes before the connection, whose end takes the log away.
    mark: open::Mark,
    connection: Mutex<SqliteConnection>,
    last: i64,
}

impl Journal {
    /// Opens the journal, creates it (private to the user) if it is missing, and checks that it is sound.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or was written by a later version of this program.
    pub async fn open(path: &Path) -> Result<Self, JournalError> {
        let (connection, last, mark) = open::open(path).await?;
        Ok(Self { path: path.to_owned(), mark, connection: Mutex::new(connection), last })
    }

    /// Returns the number of the last fact, zero before the first.
    #[must_use]
    pub const fn last_seq(&self) -> i64 {
        self.last
    }

    /// Returns the newest snapshot.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn latest_snapshot(&self) -> Result<Option<StoredSnapshot>, JournalError> {
        let row: Option<(i64, i64, String)> =
            sqlx::query_as("SELECT seq, version, body FROM snapshots ORDER BY seq DESC LIMIT 1")
                .fetch_optional(&mut *self.connection.lock().await)
                .await
                .map_err(|source| self.failed("read the newest snapshot", source))?;
        Ok(row.map(|(seq, version, body)| StoredSnapshot { seq, version, body }))
    }

    /// Returns at most `limit` facts that follow fact `seq`, in order.
    ///
    /// # Errors
    /// When the database does not answer or a row is unreadable.
    pub async fn facts_after(&self, seq: i64, limit: u32) -> Result<Vec<StoredFact>, JournalError> {
        read::facts_after(&mut *self.connection.lock().await, &self.path, seq, limit).await
    }

    /// Appends facts in one transaction and returns the number of the last; they are on the disk when it returns. Of many
    /// facts, some are made while others are written.
    ///
    /// After an error, and when the future is dropped before its end, it is unknown whether the facts were kept: open
    /// the journal again. A stale writer is refused because fact numbers are unique.
    ///
    /// # Errors
    /// When the database does not take them; then none was appended.
    pub async fn append<F>(&mut self, facts: F) -> Result<i64, JournalError>
    where
        F: IntoIterator<Item = NewFact, IntoIter: ExactSizeIterator>,
    {
        let mut facts = facts.into_iter();
        let count = count(facts.len());
        let mut next = move || facts.by_ref().take(ROWS_PER_STATEMENT).collect::<Vec<NewFact>>();
        let mut chunk = next();
        let failed = |source| failed(&self.path, "append", source);
        let connection = self.connection.get_mut();
        if chunk.len() < ROWS_PER_STATEMENT {
            // A single statement is a transaction of its own and saves the two round trips of BEGIN and COMMIT.
            insert(connection, self.last, &chunk).await.map_err(failed)?;
        } else {
            let mut transaction = connection.begin().await.map_err(failed)?;
            let mut last = self.last;
            while !chunk.is_empty() {
                let (inserted, following) =
                    tokio::join!(biased; insert(&mut transaction, last, &chunk), async { next() });
                last = inserted.map_err(failed)?;
                chunk = following;
            }
            transaction.commit().await.map_err(failed)?;
        }
        self.last += count;
        Ok(self.last)
    }

    /// Keeps a snapshot that covers everything up to fact `seq`; only the newest [`SNAPSHOTS_KEPT`] stay.
    ///
    /// # Errors
    /// When the fact does not exist yet, or the database does not take it.
    pub async fn write_snapshot(&mut self, seq: i64, version: i64, body: &str) -> Result<(), JournalError> {
        if seq > self.last {
            return Err(JournalError::SnapshotAhead { path: self.path.clone(), seq, last: self.last });
        }
        let failed = |source| failed(&self.path, "write a snapshot", source);
        let mut transaction = self.connection.get_mut().begin().await.map_err(failed)?;
        sqlx::query(
            "INSERT INTO snapshots (seq, version, body) VALUES ($1, $2, $3) \
             ON CONFLICT (seq) DO UPDATE SET version = excluded.version, body = excluded.body",
        )
        .bind(seq)
        .bind(version)
        .bind(body)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query("DELETE FROM snapshots WHERE seq NOT IN (SELECT seq FROM snapshots ORDER BY seq DESC LIMIT $1)")
            .bind(SNAPSHOTS_KEPT)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Deletes the oldest facts, at most `delete_max` of them, and returns how many went.
    ///
    /// Only facts that the older of the kept snapshots covers are deleted, so that either snapshot still restores; and
    /// the newest `keep_facts` stay, so that people can read what happened.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn compact(&mut self, keep_facts: u64, delete_max: u64) -> Result<u64, JournalError> {
        let failed = |source| failed(&self.path, "compact", source);
        let connection = self.connection.get_mut();
        let (snapshots, covered): (i64, Option<i64>) = sqlx::query_as("SELECT COUNT(*), MIN(seq) FROM snapshots")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        let (first,): (Option<i64>,) =
            sqlx::query_as("SELECT MIN(seq) FROM facts").fetch_one(&mut *connection).await.map_err(failed)?;
        let (Some(covered), Some(first)) = (covered, first) else { return Ok(0) };
        if snapshots < SNAPSHOTS_KEPT || delete_max == 0 {
            return Ok(0);
        }
        let kept_from = self.last.saturating_sub(i64::try_from(keep_facts).unwrap_or(i64::MAX));
        let bound = first.saturating_add(i64::try_from(delete_max).unwrap_or(i64::MAX)).saturating_sub(1);
        let deleted = sqlx::query("DELETE FROM facts WHERE seq <= $1")
            .bind(covered.min(kept_from).min(bound))
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        Ok(deleted.rows_affected())
    }

    /// Opens a second, read-only connection, for those who look at the history while the writer goes on.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn reader(&self) -> Result<JournalReader, JournalError> {
        JournalReader::open(&self.path).await
    }

    /// Returns the files that SQLite and we keep beside the database.
    #[must_use]
    pub fn companions(path: &Path) -> Vec<PathBuf> {
        ["-wal", "-shm", open::MARK].iter().map(|ending| open::beside(path, ending)).collect()
    }

    /// Closes the journal, so that all of it lies in the one file.
    ///
    /// # Errors
    /// When the database cannot be closed; nothing that was appended is lost.
    pub async fn close(self) -> Result<(), JournalError> {
        // From here on the log may go.
        drop(self.mark);
        self.connection.into_inner().close().await.map_err(|source| failed(&self.path, "close the database", source))
    }

    fn failed(&self, act: &'static str, source: sqlx::Error) -> JournalError {
        failed(&self.path, act, source)
    }
}

/// Primary and extended result codes of SQLite share their low byte.
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;

/// Tells a damaged file from other troubles.
fn failed(path: &Path, act: &'static str, source: sqlx::Error) -> JournalError {
    let code = source
        .as_database_error()
        .and_then(|error| error.code().and_then(|code| code.parse::<i32>().ok()))
        .map(|code| code & 0xff);
    if let Some(SQLITE_CORRUPT | SQLITE_NOTADB) = code {
        JournalError::Corrupt { path: path.to_owned(), detail: source.to_string() }
    } else {
        JournalError::Database { path: path.to_owned(), act, source }
    }
}

fn count(facts: usize) -> i64 {
    i64::try_from(facts).unwrap_or(i64::MAX)
}

async fn insert(connection: &mut SqliteConnection, last: i64, facts: &[NewFact]) -> Result<i64, sqlx::Error> {
    if facts.is_empty() {
        return Ok(last);
    }
    let rows: Vec<String> = (0..facts.len())
        .map(|row| {
            let first = row * 5 + 1;
            format!("(${}, ${}, ${}, ${}, ${})", first, first + 1, first + 2, first + 3, first + 4)
        })
        .collect();
    // Only numbers of placeholders are put into the text; the facts themselves are bound.
    let sql = format!("INSERT INTO facts (seq, at, version, kind, body) VALUES {}", rows.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(sql));
    let mut seq = last;
    for fact in facts {
        seq += 1;
        query = query.bind(seq).bind(fact.at.to_string()).bind(fact.version).bind(&fact.kind).bind(&fact.body);
    }
    query.execute(connection).await?;
    Ok(seq)
}
