//! Reading facts, by the writer and by those who look on.

use std::path::{Path, PathBuf};

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Mutex;

use super::{JournalError, StoredFact, failed, open};
use crate::model::time::Timestamp;

/// A read-only view of a journal; it never holds up the writer.
#[derive(Debug)]
pub struct JournalReader {
    path: PathBuf,
    connection: Mutex<SqliteConnection>,
}

impl JournalReader {
    /// Opens an existing journal for reading; the supervisor may be writing it, or be away.
    ///
    /// # Errors
    /// When the file does not exist or is no database.
    pub async fn open(path: &Path) -> Result<Self, JournalError> {
        let connection = open::options(path)
            .read_only(true)
            .connect()
            .await
            .map_err(|source| failed(path, "open the database", source))?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    /// Returns at most `limit` facts that follow fact `seq`, in order.
    ///
    /// # Errors
    /// When the database does not answer or a row is unreadable.
    pub async fn facts_after(&self, seq: i64, limit: u32) -> Result<Vec<StoredFact>, JournalError> {
        facts_after(&mut *self.connection.lock().await, &self.path, seq, limit).await
    }

    /// Returns at most `limit` facts that were recorded at or after `since` and follow fact `seq`, in order.
    ///
    /// # Errors
    /// When the database does not answer or a row is unreadable.
    pub async fn facts_since(&self, since: Timestamp, seq: i64, limit: u32) -> Result<Vec<StoredFact>, JournalError> {
        // RFC 3339 in UTC with a fixed number of digits sorts as text in the order of time.
        let rows = sqlx::query_as(
            "SELECT seq, at, version, kind, body FROM facts WHERE at >= $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(since.to_string())
        .bind(seq)
        .bind(i64::from(limit))
        .fetch_all(&mut *self.connection.lock().await)
        .await
        .map_err(|source| failed(&self.path, "read facts", source))?;
        parse(&self.path, rows)
    }
}

pub(super) async fn facts_after(
    connection: &mut SqliteConnection,
    path: &Path,
    seq: i64,
    limit: u32,
) -> Result<Vec<StoredFact>, JournalError> {
    let rows = sqlx::query_as("SELECT seq, at, version, kind, body FROM facts WHERE seq > $1 ORDER BY seq LIMIT $2")
        .bind(seq)
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await
        .map_err(|source| failed(path, "read facts", source))?;
    parse(path, rows)
}

type Row = (i64, String, i64, String, String);

fn parse(path: &Path, rows: Vec<Row>) -> Result<Vec<StoredFact>, JournalError> {
    rows.into_iter()
        .map(|(seq, at, version, kind, body)| match at.parse() {
            Ok(at) => Ok(StoredFact { seq, at, version, kind, body }),
            Err(_) => Err(JournalError::Row { path: path.to_owned(), seq, at }),
        })
        .collect()
}
