//! Looking after a journal that does not restore: what is wrong with it, and a new one of all that can be kept.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::core::fact::{FACT_VERSION, Recorded};
use crate::core::state::{Durable, STATE_VERSION};
use crate::io::clock;
use crate::io::journal::{Journal, NewFact, salvage};
use crate::io::lockfile::{self, Lock, LockError};
use crate::model::layout::Layout;

use super::start::{self, StartError};

/// What a journal holds that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// The number of its last fact.
    pub last: i64,
    /// How many tasks it knows.
    pub tasks: usize,
    /// How many agents it knows.
    pub agents: usize,
}

/// What a repair has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// How many facts are in the new journal.
    pub kept: usize,
    /// What is not, a line each for people.
    pub dropped: Vec<String>,
    /// Where the old files and the list of what was dropped lie.
    pub folder: PathBuf,
}

/// Reads a whole journal as a start would, from a copy, and changes nothing.
///
/// # Errors
/// Says what a start would say; also when a supervisor runs.
pub async fn check(layout: &Layout) -> Result<Sound, StartError> {
    let _lock = lock(layout)?;
    let folder = layout.data().join(format!("journal-check-{}", std::process::id()));
    let result = async {
        let copy = copy_files(layout, &folder)?;
        let mut journal = Journal::open(&copy).await?;
        let last = journal.last_seq();
        let (durable, _) = start::restore(&mut journal).await?;
        Ok(Sound { last, tasks: durable.tasks.len(), agents: durable.agents.len() })
    };
    let result = result.await;
    fs::remove_dir_all(&folder).ok();
    result
}

/// Keeps the old files aside and writes a new journal of all facts that can be read and that fit.
///
/// # Errors
/// When a supervisor runs, nothing can be read, or the disk does not take it; the old journal is then still in its place.
pub async fn repair(layout: &Layout) -> Result<Repaired, StartError> {
    let _lock = lock(layout)?;
    let folder = layout.data().join("journal-kept").join(clock::now().as_millis().to_string());
    copy_files(layout, &folder)?;
    let scratch = folder.join("read");
    let found = salvage::salvage(&copy_files(layout, &scratch)?).await?;
    fs::remove_dir_all(&scratch).map_err(|source| told("remove", &scratch, source))?;

    let mut dropped = found.lost.clone();
    let (base, mut durable) = newest_snapshot(&found, &mut dropped);
    let mut kept: Vec<NewFact> = Vec::new();
    let mut expected = found.facts.first().map_or(1, |fact| fact.seq.min(base + 1));
    for fact in &found.facts {
        if fact.seq > expected {
            dropped.push(format!("facts {expected} to {} are missing", fact.seq - 1));
        }
        expected = fact.seq + 1;
        let line = format!("fact {} of {} ({})", fact.seq, fact.at, fact.kind);
        let recorded: Result<Recorded, _> = serde_json::from_str(&fact.body);
        match recorded {
            Err(error) => dropped.push(format!("{line} cannot be understood: {error}: {}", fact.body)),
            Ok(recorded) if fact.seq > base => match durable.apply(&recorded) {
                Ok(()) => kept.push(renew(fact)),
                Err(illegal) => dropped.push(format!("{line} does not fit: {illegal}: {}", fact.body)),
            },
            Ok(_) => kept.push(renew(fact)),
        }
    }
    if kept.is_empty() && base == 0 {
        return Err(StartError::NothingLeft { folder });
    }
    write_new(layout, &folder, &kept, &durable).await?;
    let list = folder.join("dropped.txt");
    let text: String = dropped.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&list, text).map_err(|source| told("write", &list, source))?;
    Ok(Repaired { kept: kept.len(), dropped, folder })
}

fn renew(fact: &crate::io::journal::StoredFact) -> NewFact {
    NewFact { at: fact.at, version: fact.version.min(FACT_VERSION), kind: fact.kind.clone(), body: fact.body.clone() }
}

fn newest_snapshot(found: &salvage::Salvage, dropped: &mut Vec<String>) -> (i64, Durable) {
    for snapshot in &found.snapshots {
        match serde_json::from_str(&snapshot.body) {
            Ok(durable) if snapshot.version <= STATE_VERSION => return (snapshot.seq, durable),
            Ok(_) => dropped.push(format!("the snapshot at fact {} is of a newer program", snapshot.seq)),
            Err(error) => dropped.push(format!("the snapshot at fact {} cannot be understood: {error}", snapshot.seq)),
        }
    }
    (0, Durable::default())
}

async fn write_new(layout: &Layout, folder: &Path, kept: &[NewFact], durable: &Durable) -> Result<(), StartError> {
    let draft = folder.join("new.db");
    let mut journal = Journal::open(&draft).await?;
    let last = journal.append(kept.iter().cloned()).await?;
    let body = serde_json::to_string(durable).expect("the state is a plain value with a JSON form");
    journal.write_snapshot(last, STATE_VERSION, &body).await?;
    journal.close().await?;
    // A log of the old file must never be applied to the new one, so it goes first.
    let path = layout.journal();
    for beside in Journal::companions(&path) {
        match fs::remove_file(&beside) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(told("remove", &beside, source));
            }
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(&draft, &path).map_err(|source| told("replace", &path, source))?;
    let data = fs::File::open(layout.data()).and_then(|data| data.sync_all());
    data.map_err(|source| told("write", &layout.data(), source))
}

fn lock(layout: &Layout) -> Result<Lock, StartError> {
    lockfile::acquire(&layout.lock()).map_err(|error| match error {
        LockError::Held { pid, .. } => StartError::AlreadyRunning { pid },
        other @ LockError::Io { .. } => StartError::Lock(other),
    })
}

/// Copies the database and its log, and waits until they are on the disk.
fn copy_files(layout: &Layout, folder: &Path) -> Result<PathBuf, StartError> {
    fs::create_dir_all(folder).map_err(|source| told("make", folder, source))?;
    let path = layout.journal();
    let mut copy = PathBuf::new();
    for from in Journal::companions(&path).into_iter().chain([path.clone()]) {
        let Some(name) = from.file_name() else { continue };
        let to = folder.join(name);
        let copied = fs::read(&from).and_then(|bytes| {
            let mut file = fs::File::create(&to)?;
            file.write_all(&bytes)?;
            file.sync_all()
        });
        match copied {
            Err(source) if from == path || source.kind() != std::io::ErrorKind::NotFound => {
                return Err(told("copy", &from, source));
            }
            Ok(()) | Err(_) => copy = to,
        }
    }
    Ok(copy)
}

fn told(what: &'static str, path: &Path, source: std::io::Error) -> StartError {
    StartError::Repair { what, path: path.to_owned(), source }
}
