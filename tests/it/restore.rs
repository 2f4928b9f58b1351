//! Journals of earlier versions, of later ones, and damaged ones: what restores, what is refused, what is repaired.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use miyabi::core::fact::{Fact, Recorded};
use miyabi::daemon::repair::{self, Repaired, Sound};
use miyabi::daemon::start::StartError;
use miyabi::io::journal::{Journal, JournalError, NewFact};
use miyabi::model::fault::with_causes;
use miyabi::model::layout::Layout;
use miyabi::model::time::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

/// How large SQLite's pages are.
const PAGE_BYTES: u64 = 4_096;

struct Place {
    _folder: TempDir,
    layout: Layout,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        fs::create_dir_all(layout.run()).unwrap();
        Self { _folder: folder, layout }
    }

    /// A journal as version 1 of the facts left it.
    async fn of_version_1() -> Self {
        let place = Self::new();
        place.sql(include_str!("data/journal-1.sql")).await;
        place
    }

    /// A journal with so many facts that they fill many pages.
    async fn with_many() -> Self {
        let place = Self::new();
        let mut journal = Journal::open(&place.path()).await.unwrap();
        let facts: Vec<NewFact> = (0..2_000).map(fact).collect();
        journal.append(facts).await.unwrap();
        journal.close().await.unwrap();
        place
    }

    fn path(&self) -> PathBuf {
        self.layout.journal()
    }

    async fn sql(&self, text: &str) {
        let options = SqliteConnectOptions::new().filename(self.path()).create_if_missing(true);
        let mut connection: SqliteConnection = options.connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn check(&self) -> Result<Sound, StartError> {
        repair::check(&self.layout).await
    }

    async fn refusal(&self) -> String {
        with_causes(&self.check().await.expect_err("the journal is refused"))
    }

    async fn repair(&self) -> Repaired {
        let repaired = repair::repair(&self.layout).await.unwrap();
        let listed = fs::read_to_string(repaired.folder.join("dropped.txt")).unwrap();
        assert_eq!(listed.lines().count(), repaired.dropped.len());
        assert!(repaired.folder.join("miyabi.db").exists(), "the old journal is kept");
        self.check().await.expect("a repaired journal restores");
        repaired
    }
}

fn fact(number: i64) -> NewFact {
    let at = Timestamp::from_millis(1_795_162_841_000 + number);
    let fact = if number == 0 {
        Fact::Begun { seed: 7 }
    } else {
        let task = "01M7WDZY6YJFRKMGBT6598Q264".parse().unwrap();
        Fact::ReportStale { task, attempt: 1, reason: format!("number {number} {}", "x".repeat(200)) }
    };
    let recorded = Recorded { at, fact };
    NewFact { at, version: 1, kind: "test".to_owned(), body: serde_json::to_string(&recorded).unwrap() }
}

#[tokio::test]
async fn a_journal_of_version_1_restores() {
    let sound = Place::of_version_1().await.check().await.unwrap();
    assert_eq!((sound.tasks, sound.agents), (8, 2));
    assert!(sound.last > 30, "{sound:?}");
}

#[tokio::test]
async fn a_fact_of_a_later_version_is_refused_by_name() {
    let place = Place::of_version_1().await;
    place.sql("UPDATE facts SET version = 99 WHERE seq = 20").await;
    assert!(place.refusal().await.starts_with("fact 20 of the journal has version 99, and this program knows"));
    place.sql("UPDATE facts SET version = 1; INSERT INTO snapshots VALUES (20, 99, '{}')").await;
    assert!(matches!(place.check().await, Err(StartError::Newer { seq: 20, version: 99, .. })));
}

#[tokio::test]
async fn a_garbage_fact_stops_the_start_and_a_repair_keeps_all_others() {
    let place = Place::of_version_1().await;
    let last = place.check().await.unwrap().last;
    // The last fact, so that none depends on it.
    place.sql(&format!("UPDATE facts SET body = 'garbage' WHERE seq = {last}")).await;
    assert!(place.refusal().await.starts_with(&format!("fact {last} of the journal cannot be understood")));
    let repaired = place.repair().await;
    assert_eq!(repaired.kept, usize::try_from(last).unwrap() - 1);
    let [only] = repaired.dropped.as_slice() else { panic!("{repaired:?}") };
    assert!(only.contains(&format!("fact {last}")) && only.ends_with("garbage"), "{only}");
}

#[tokio::test]
async fn missing_facts_are_noticed_and_what_no_longer_fits_is_listed() {
    let place = Place::of_version_1().await;
    // The first spawn of an agent: its later facts do not fit without it.
    place.sql("DELETE FROM facts WHERE seq = 2").await;
    assert_eq!(place.refusal().await, "facts 2 to 2 of the journal are missing");
    let repaired = place.repair().await;
    assert_eq!(repaired.dropped[0], "facts 2 to 2 are missing");
    assert!(repaired.dropped[1..].iter().all(|line| line.contains("does not fit")), "{repaired:?}");
    assert!(repaired.kept > 10, "{repaired:?}");
}

#[tokio::test]
async fn a_torn_page_costs_its_own_facts_and_no_others() {
    let place = Place::with_many().await;
    let file = fs::File::options().write(true).open(place.path()).unwrap();
    let pages = file.metadata().unwrap().len() / PAGE_BYTES;
    file.write_all_at(&vec![0xa5; 4_096], pages / 2 * PAGE_BYTES).unwrap();
    assert!(matches!(place.check().await, Err(StartError::Journal(JournalError::Corrupt { .. }))));
    let repaired = place.repair().await;
    assert!(repaired.kept > 1_900 && repaired.kept <= 2_000, "{repaired:?}");
}

#[tokio::test]
async fn a_truncated_file_is_repaired_as_far_as_it_goes() {
    let place = Place::with_many().await;
    let file = fs::File::options().write(true).open(place.path()).unwrap();
    let pages = file.metadata().unwrap().len() / PAGE_BYTES;
    file.set_len(pages / 2 * PAGE_BYTES).unwrap();
    place.check().await.unwrap_err();
    let repaired = place.repair().await;
    assert!(repaired.kept > 500 && repaired.kept < 2_000, "{}", repaired.kept);
    assert!(!repaired.dropped.is_empty());
}

#[tokio::test]
async fn a_journal_that_was_not_closed_and_lost_its_log_is_refused() {
    let place = Place::of_version_1().await;
    let killed = Place::new();
    let journal = Journal::open(&place.path()).await.unwrap();
    // What a kill leaves: the files as they are while the journal is open. Here the log is lost on the way.
    fs::copy(place.path(), killed.path()).unwrap();
    fs::copy(place.layout.data().join("miyabi.db-open"), killed.layout.data().join("miyabi.db-open")).unwrap();
    let refusal = killed.refusal().await;
    assert!(refusal.contains("its -wal file is gone"), "{refusal}");
    killed.repair().await;
    journal.close().await.unwrap();
    assert!(!place.layout.data().join("miyabi.db-open").exists(), "a journal that is closed in order bears no mark");
    place.check().await.unwrap();
}

#[tokio::test]
async fn a_file_of_which_nothing_can_be_read_is_left_alone() {
    let place = Place::new();
    fs::write(place.path(), vec![0xa5; 20_000]).unwrap();
    place.check().await.unwrap_err();
    repair::repair(&place.layout).await.unwrap_err();
    assert_eq!(fs::read(place.path()).unwrap().len(), 20_000);
}
