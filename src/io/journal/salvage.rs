//! What can still be read of a damaged journal, row by row: one rotten page hides its own rows and no others.

use std::path::Path;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::{JournalError, SNAPSHOTS_KEPT, StoredFact, StoredSnapshot, failed, open};

/// How many row numbers in a row may have no row before the end is taken for reached.
const MISSES_MAX: i64 = 100_000;

/// How many facts before the oldest snapshot may still be there when nobody can say where they begin.
const BEFORE_SNAPSHOT_MAX: i64 = 200_000;

/// What could be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Salvage {
    /// The facts, by number.
    pub facts: Vec<StoredFact>,
    /// The snapshots, newest first.
    pub snapshots: Vec<StoredSnapshot>,
    /// What could not be read, a line each for people.
    pub lost: Vec<String>,
}

/// Reads all rows that can be read. The file is changed by SQLite as it sees fit: give it a copy.
///
/// # Errors
/// When the file is no database at all.
pub async fn salvage(path: &Path) -> Result<Salvage, JournalError> {
    use sqlx::ConnectOptions;
    let mut connection =
        open::options(path).connect().await.map_err(|source| failed(path, "open the database", source))?;
    // Without this, a file that is shorter than it says is refused as a whole.
    sqlx::query("PRAGMA writable_schema = ON")
        .execute(&mut connection)
        .await
        .map_err(|source| failed(path, "open the database", source))?;
    let mut salvage = Salvage::default();
    read_snapshots(&mut connection, &mut salvage).await;
    read_facts(&mut connection, &mut salvage).await;
    salvage.facts.sort_by_key(|fact| fact.seq);
    // What could not be read cannot be closed in order either, and nobody needs the copy any more.
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "a damaged journal cannot be closed in order");
    }
    Ok(salvage)
}

async fn read_snapshots(connection: &mut SqliteConnection, salvage: &mut Salvage) {
    for row in 0..SNAPSHOTS_KEPT {
        let found: Result<Option<(i64, i64, String)>, _> =
            sqlx::query_as("SELECT seq, version, body FROM snapshots ORDER BY seq DESC LIMIT 1 OFFSET $1")
                .bind(row)
                .fetch_optional(&mut *connection)
                .await;
        match found {
            Ok(Some((seq, version, body))) => salvage.snapshots.push(StoredSnapshot { seq, version, body }),
            Ok(None) => {}
            Err(error) => salvage.lost.push(format!("snapshot {row} from the newest cannot be read: {error}")),
        }
    }
}

/// Number, time, version, kind and body.
type Row = (i64, String, i64, String, String);

async fn read_facts(connection: &mut SqliteConnection, salvage: &mut Salvage) {
    let first: Result<(Option<i64>,), _> =
        sqlx::query_as("SELECT MIN(rowid) FROM facts NOT INDEXED").fetch_one(&mut *connection).await;
    let oldest = salvage.snapshots.last().map_or(0, |snapshot| snapshot.seq);
    let mut row = match first {
        Ok((Some(first),)) => first,
        Ok((None,)) => return,
        Err(_) => (oldest - BEFORE_SNAPSHOT_MAX).max(1),
    };
    let newest: Result<(Option<i64>,), _> =
        sqlx::query_as("SELECT MAX(rowid) FROM facts NOT INDEXED").fetch_one(&mut *connection).await;
    let last = newest.ok().and_then(|(last,)| last).unwrap_or(i64::MAX);
    let mut misses = 0;
    while row <= last && misses < MISSES_MAX {
        let found: Result<Option<Row>, _> =
            sqlx::query_as("SELECT seq, at, version, kind, body FROM facts NOT INDEXED WHERE rowid = $1")
                .bind(row)
                .fetch_optional(&mut *connection)
                .await;
        match found {
            Ok(Some((seq, at, version, kind, body))) => {
                misses = 0;
                match at.parse() {
                    Ok(at) => salvage.facts.push(StoredFact { seq, at, version, kind, body }),
                    Err(_) => salvage.lost.push(format!("fact {seq} ({kind}) has an unreadable time `{at}`: {body}")),
                }
            }
            Ok(None) => misses += 1,
            Err(error) => {
                // Behind the last row a damaged page answers for every number: that is told once.
                if misses == 0 {
                    salvage.lost.push(format!("the facts from row {row} on cannot be read: {error}"));
                }
                misses += 1;
            }
        }
        row += 1;
    }
}
