//! The journal on a real disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use miyabi::io::journal::{Journal, JournalError, NewFact};
use miyabi::model::time::Timestamp;
use tempfile::TempDir;

fn fact(number: i64) -> NewFact {
    NewFact {
        at: Timestamp::from_millis(1_795_162_841_000 + number),
        version: 1,
        kind: "agent_started".to_owned(),
        body: format!("{{\"number\":{number},\"text\":\"か'\\\"; DROP TABLE facts\"}}"),
    }
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("miyabi.db");
    (folder, path)
}

#[tokio::test]
async fn facts_come_back_in_order_after_the_journal_was_opened_again() {
    let (_folder, path) = place();
    let mut journal = Journal::open(&path).await.unwrap();
    assert_eq!(journal.append([fact(1)]).await.unwrap(), 1);
    assert_eq!(journal.append([fact(2), fact(3)]).await.unwrap(), 3);
    assert_eq!(journal.append([]).await.unwrap(), 3);
    drop(journal);

    let mut journal = Journal::open(&path).await.unwrap();
    assert_eq!(journal.last_seq(), 3);
    let facts = journal.facts_after(0, 100).await.unwrap();
    assert_eq!(facts.iter().map(|fact| fact.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(facts[1].body, fact(2).body);
    assert_eq!(facts[1].at, fact(2).at);
    assert_eq!(journal.facts_after(1, 1).await.unwrap(), facts[1..2]);
    assert_eq!(journal.append([fact(4)]).await.unwrap(), 4);
}

#[tokio::test]
async fn more_facts_than_fit_one_statement_go_in_together() {
    let (_folder, path) = place();
    let mut journal = Journal::open(&path).await.unwrap();
    let many: Vec<NewFact> = (0..1_234).map(fact).collect();
    assert_eq!(journal.append(many).await.unwrap(), 1_234);
    let facts = journal.facts_after(0, 2_000).await.unwrap();
    assert_eq!(facts.len(), 1_234);
    assert!(facts.iter().zip(1..).all(|(fact, seq)| fact.seq == seq));
}

#[tokio::test]
async fn the_file_and_its_companions_are_private() {
    let (folder, path) = place();
    let mut journal = Journal::open(&path).await.unwrap();
    journal.append([fact(1)]).await.unwrap();
    let modes: Vec<(String, u32)> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    assert!(modes.len() >= 2, "{modes:?}");
    assert!(modes.iter().all(|(_, mode)| *mode == 0o600), "{modes:?}");
}

#[tokio::test]
async fn the_newest_two_snapshots_stay() {
    let (_folder, path) = place();
    let mut journal = Journal::open(&path).await.unwrap();
    assert_eq!(journal.latest_snapshot().await.unwrap(), None);
    journal.append((0..10).map(fact).collect::<Vec<_>>()).await.unwrap();
    for seq in [3, 6, 9] {
        journal.write_snapshot(seq, 1, &format!("after {seq}")).await.unwrap();
    }
    journal.write_snapshot(9, 2, "after 9, again").await.unwrap();
    let newest = journal.latest_snapshot().await.unwrap().unwrap();
    assert_eq!((newest.seq, newest.version, newest.body.as_str()), (9, 2, "after 9, again"));
    assert!(matches!(journal.write_snapshot(11, 1, "").await, Err(JournalError::SnapshotAhead { last: 10, .. })));
}

#[tokio::test]
async fn compaction_deletes_only_what_the_older_snapshot_covers_and_the_history_can_spare() {
    let (_folder, path) = place();
    let mut journal = Journal::open(&path).await.unwrap();
    journal.append((0..100).map(fact).collect::<Vec<_>>()).await.unwrap();
    journal.write_snapshot(90, 1, "").await.unwrap();
    assert_eq!(journal.compact(0, 1_000).await.unwrap(), 0, "a single snapshot has nothing to fall back on");
    journal.write_snapshot(60, 1, "").await.unwrap();

    assert_eq!(journal.compact(50, 20).await.unwrap(), 20, "no more than asked for");
    assert_eq!(journal.compact(50, 1_000).await.unwrap(), 30, "the newest 50 stay");
    assert_eq!(journal.compact(0, 1_000).await.unwrap(), 10, "what follows the older snapshot stays");
    assert_eq!(journal.compact(0, 1_000).await.unwrap(), 0);
    assert_eq!(journal.facts_after(0, 1).await.unwrap()[0].seq, 61);
}

#[tokio::test]
async fn numbers_are_not_given_out_again_when_compaction_took_every_fact() {
    let (_folder, path) = place();
    let mut journal = Journal::open(&path).await.unwrap();
    journal.append([fact(1), fact(2)]).await.unwrap();
    journal.write_snapshot(1, 1, "").await.unwrap();
    journal.write_snapshot(2, 1, "").await.unwrap();
    journal.append([fact(3)]).await.unwrap();
    journal.write_snapshot(3, 1, "").await.unwrap();
    journal.compact(0, 10).await.unwrap();
    drop(journal);
    assert_eq!(Journal::open(&path).await.unwrap().append([fact(4)]).await.unwrap(), 4);
}

#[tokio::test]
async fn a_reader_sees_what_is_appended_after_it_was_opened() {
    let (_folder, path) = place();
    let mut journal = Journal::open(&path).await.unwrap();
    let reader = journal.reader().await.unwrap();
    journal.append((0..5).map(fact).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(reader.facts_after(3, 10).await.unwrap().len(), 2);
    let since = reader.facts_since(fact(2).at, 0, 10).await.unwrap();
    assert_eq!(since.iter().map(|fact| fact.seq).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(reader.facts_since(fact(2).at, 4, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_writer_is_refused_and_leaves_nothing_behind() {
    let (_folder, path) = place();
    let mut first = Journal::open(&path).await.unwrap();
    let mut second = Journal::open(&path).await.unwrap();
    first.append([fact(1), fact(2)]).await.unwrap();
    let refused = second.append([fact(9)]).await.unwrap_err();
    assert!(matches!(refused, JournalError::Database { act: "append", .. }), "{refused:?}");
    assert_eq!(first.facts_after(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_damaged_file_is_named_with_what_to_do() {
    let (_folder, path) = place();
    fs::write(&path, "this is not a database, however long it may be looked at".repeat(100)).unwrap();
    let error = Journal::open(&path).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error:?}");
    assert!(text.contains(path.to_str().unwrap()) && text.contains("journal repair"), "{text}");
}

#[tokio::test]
async fn a_page_that_rotted_is_noticed_when_the_journal_is_opened() {
    let (_folder, path) = place();
    let mut journal = Journal::open(&path).await.unwrap();
    journal.append((0..2_000).map(fact).collect::<Vec<_>>()).await.unwrap();
    journal.close().await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 8192 * 4096;
    bytes[middle..middle + 2048].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = Journal::open(&path).await.unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_journal_of_a_later_version_is_refused() {
    let (_folder, path) = place();
    drop(Journal::open(&path).await.unwrap());
    let url = format!("sqlite://{}", path.display());
    let mut raw = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query("UPDATE meta SET value = 99 WHERE name = 'schema'").execute(&mut raw).await.unwrap();
    assert!(matches!(Journal::open(&path).await, Err(JournalError::Newer { found: 99, .. })));
}

#[tokio::test]
async fn a_missing_folder_is_an_error_that_names_the_file() {
    let (folder, _) = place();
    let path = folder.path().join("missing/miyabi.db");
    let error = Journal::open(&path).await.unwrap_err();
    assert!(error.to_string().contains("missing/miyabi.db"), "{error}");
}
