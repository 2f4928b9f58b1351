//! Reading what lies in folders: heartbeats and dependency files. Hints say when; signatures say whether.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config;
use crate::core::event::FileRead;
use crate::io::inotify::{Awaited, Change as Beaten, Folders};
use crate::io::watch::Change;
use crate::model::beat::Beat;
use crate::model::fault::{Fault, Place};
use crate::model::fault_code::{Code, Family, Mistake};
use crate::model::id::{AgentId, Incarnation, Mailbox};
use crate::model::layout::Layout;
use crate::model::plan::Plan;
use crate::model::time::Timestamp;
use crate::model::watching::WatchFaults;

/// The largest heartbeat file that is read, in bytes.
const BEAT_BYTES_MAX: u64 = 64 * 1024;

/// The most heartbeat files that are read one by one; when more have changed, the folder is read as a whole.
const BEATS_NAMED_MAX: usize = 4_096;

/// The most dependency files that are read.
const DAG_FILES_MAX: usize = 2_000;

/// The largest dependency file that is read, in bytes.
const DAG_BYTES_MAX: u64 = 1024 * 1024;

/// How often the branches of the repositories are looked at again although no file has changed.
const BRANCHES_LOOK: Duration = Duration::from_secs(30);

/// What a hint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Freeze,
    Reports,
    /// Somebody may be in the middle of changing dependency files.
    Dag,
    /// A dependency file has come whole.
    DagWhole,
}

/// Judges what is told of a folder. Whatever lies beside dependency files, such as what editors make while they save, is not read.
pub(super) fn judge(topic: Topic, change: &Change<'_>) -> Option<Topic> {
    match (topic, change.name.and_then(OsStr::to_str)) {
        (Topic::Dag, Some(name)) if !config::dag::is_dependency_file(name) => None,
        (Topic::Dag, Some(_)) if change.is_whole => Some(Topic::DagWhole),
        (Topic::Freeze | Topic::Reports | Topic::Dag | Topic::DagWhole, _) => Some(topic),
    }
}

/// What identifies one version of a file without reading it.
type Signature = (PathBuf, u64, u64, i64, i64);

/// Which versions of the dependency files a reading has seen; `None`: they changed while they were read.
pub(super) type Seen = Option<Vec<Signature>>;

/// What was seen last.
#[derive(Debug)]
pub(super) struct Eyes {
    beats: BTreeMap<AgentId, (Incarnation, u64)>,
    /// Which versions of the heartbeat files were read: of two hundred files one has changed.
    beat_files: BTreeMap<PathBuf, (u64, i64, i64)>,
    /// Tells which heartbeat files are replaced; absent while that cannot be told.
    following: Option<Awaited>,
    /// How often following them went wrong.
    faults: WatchFaults,
    /// What the runners say of their own watching, of those in which something went wrong.
    of_runners: BTreeMap<AgentId, WatchFaults>,
    dag: Seen,
    branches_at: Timestamp,
}

impl Eyes {
    pub(super) const fn new() -> Self {
        Self {
            beats: BTreeMap::new(),
            beat_files: BTreeMap::new(),
            following: None,
            faults: WatchFaults { lost: 0, blind: 0, missed: 0 },
            of_runners: BTreeMap::new(),
            dag: None,
            branches_at: Timestamp::EPOCH,
        }
    }

    /// Names the folders that are watched.
    pub(super) fn folders(&self, layout: &Layout) -> Vec<(Topic, PathBuf)> {
        let reports = layout.spool().join(Mailbox::supervisor().as_str()).join("new");
        vec![(Topic::Freeze, layout.freeze()), (Topic::Reports, reports), (Topic::Dag, layout.dag())]
    }

    /// Begins to follow the heartbeat files, or goes on to where it was lost.
    pub(super) fn follow_beats(&mut self, layout: &Layout) {
        let followed = match self.following.take() {
            Some(following) => Ok(following),
            None => Folders::of_renames(vec![layout.beats()]).and_then(Awaited::new),
        };
        match followed.and_then(|mut following| following.arm().map(|_| following)) {
            Ok(following) => self.following = Some(following),
            Err(error) => {
                self.faults.blind += 1;
                tracing::warn!(%error, "heartbeats cannot be followed; their folder is read every second");
            }
        }
    }

    /// Says whether changes of the heartbeat files are told.
    pub(super) const fn follows_beats(&self) -> bool {
        self.following.is_some()
    }

    /// Says how often following the heartbeat files went wrong.
    pub(super) const fn faults(&self) -> WatchFaults {
        self.faults
    }

    /// Says how often something went wrong with the watching of each runner, as its last heartbeat has it.
    pub(super) const fn faults_of_runners(&self) -> &BTreeMap<AgentId, WatchFaults> {
        &self.of_runners
    }

    /// Waits until a heartbeat file was replaced. May be dropped at any time.
    pub(super) async fn stirred(&self) {
        if let Some(following) = &self.following
            && following.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    /// Reads the heartbeats that are new, of the files that were told; of all when nobody could tell.
    pub(super) fn fresh_beats(&mut self, layout: &Layout) -> Vec<Beat> {
        let mut named: BTreeSet<OsString> = BTreeSet::new();
        let mut is_lost = false;
        let drained = self.following.as_mut().map(|following| {
            following.drain(|change| match change {
                Beaten::Came(_, name) if named.len() < BEATS_NAMED_MAX => {
                    named.insert(name);
                }
                Beaten::Came(..) | Beaten::Left(..) | Beaten::Lost => is_lost = true,
            })
        });
        if is_lost || !matches!(drained, Some(Ok(()))) {
            self.faults.lost += u64::from(drained.is_some());
            self.follow_beats(layout);
            return self.all_beats(layout);
        }
        let folder = layout.beats();
        named.into_iter().filter_map(|name| self.fresh_beat(folder.join(name))).collect()
    }

    /// Reads every heartbeat that is new.
    pub(super) fn all_beats(&mut self, layout: &Layout) -> Vec<Beat> {
        let Ok(entries) = fs::read_dir(layout.beats()) else { return Vec::new() };
        entries.flatten().filter_map(|entry| self.fresh_beat(entry.path())).collect()
    }

    /// Reads a heartbeat file, unless this version of it was read before.
    fn fresh_beat(&mut self, path: PathBuf) -> Option<Beat> {
        let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
        if hidden || path.extension().is_none_or(|extension| extension != "json") {
            return None;
        }
        let meta = fs::symlink_metadata(&path).ok()?;
        let version = (meta.ino(), meta.mtime(), meta.mtime_nsec());
        if self.beat_files.get(&path) == Some(&version) {
            return None;
        }
        let beat = read_beat(&path, &meta)?;
        self.beat_files.insert(path, version);
        let mark = (beat.incarnation, beat.sequence);
        if self.beats.get(&beat.agent) == Some(&mark) {
            return None;
        }
        self.beats.insert(beat.agent.clone(), mark);
        if beat.watching.is_none() {
            self.of_runners.remove(&beat.agent);
        } else {
            self.of_runners.insert(beat.agent.clone(), beat.watching);
        }
        Some(beat)
    }

    /// Says whether the dependency files are other ones than those that were read last, or the branches are due for a look.
    pub(super) fn dag_is_due(&self, layout: &Layout, now: Timestamp) -> bool {
        let seen = self.dag.as_ref().is_some_and(|seen| *seen == signature(&layout.dag()));
        !seen || now.since(self.branches_at) >= BRANCHES_LOOK
    }

    /// Notes which versions a reading has seen.
    pub(super) fn dag_was_read(&mut self, seen: Seen, now: Timestamp) {
        self.dag = seen;
        self.branches_at = now;
    }
}

fn read_beat(path: &Path, meta: &fs::Metadata) -> Option<Beat> {
    if !meta.is_file() || meta.len() > BEAT_BYTES_MAX {
        return None;
    }
    let text = fs::read(path).ok()?;
    match serde_json::from_slice(&text) {
        Ok(beat) => Some(beat),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a heartbeat cannot be understood");
            None
        }
    }
}

fn signature(folder: &Path) -> Vec<Signature> {
    let mut found: Vec<Signature> = dependency_files(folder)
        .into_iter()
        .filter_map(|path| {
            let meta = fs::metadata(&path).ok()?;
            Some((path, meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
        })
        .collect();
    found.sort();
    found
}

fn dependency_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(config::dag::is_dependency_file))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    if paths.len() > DAG_FILES_MAX {
        tracing::warn!(
            files = paths.len(),
            limit = DAG_FILES_MAX,
            "too many dependency files; the last ones are not read"
        );
        paths.truncate(DAG_FILES_MAX);
    }
    paths
}

/// Reads and parses every dependency file, and says which versions these were: only what was the same before and after
/// is known to be what was read.
pub(super) fn read_files(layout: &Layout, plan: &Plan) -> (Vec<FileRead>, Seen) {
    let before = signature(&layout.dag());
    let files = dependency_files(&layout.dag()).iter().map(|path| read_file(layout, plan, path)).collect();
    let seen = (before == signature(&layout.dag())).then_some(before);
    (files, seen)
}

fn read_file(layout: &Layout, plan: &Plan, path: &Path) -> FileRead {
    let shown = super::start::shown(layout.root(), path);
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let bytes = read_bytes(path).map_err(|message| vec![whole_file_fault(shown.clone(), message)]);
    let text = bytes.and_then(|bytes| config::dag::text_of(&shown, bytes).map_err(|fault| vec![fault]));
    match text.and_then(|text| config::dag::parse(&shown, &text, plan)) {
        Ok(file) => FileRead::Good(file),
        Err(faults) => FileRead::Bad { stem, faults },
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > DAG_BYTES_MAX {
        return Err(format!("the file has {length} bytes; at most {DAG_BYTES_MAX} are read"));
    }
    fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}

fn whole_file_fault(file: String, message: String) -> Fault {
    let place = Place { file: file.into(), line: 1, column: 1, start: 0, end: 0 };
    Fault {
        place,
        code: Code { family: Family::Dag, mistake: Mistake::Unreadable },
        message,
        help: None,
        related: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::io::watch;

    #[tokio::test]
    async fn a_file_that_a_rename_brings_is_whole_and_what_editors_leave_beside_it_is_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dag = root.path().join("dag");
        fs::create_dir(&dag).unwrap();
        let (sender, mut hints) = mpsc::channel(64);
        let _watch = watch::start_judging(vec![(Topic::Dag, dag.clone())], sender, judge);
        assert_eq!(hints.recv().await, Some(Topic::Dag), "what came before the watch");
        let draft = root.path().join("draft");
        fs::write(&draft, "tasks: {}").unwrap();
        fs::write(dag.join(".a.yaml.swp"), "x").unwrap();
        fs::write(dag.join("notes.txt"), "x").unwrap();
        fs::rename(&draft, dag.join("a.yaml")).unwrap();
        assert_eq!(hints.recv().await, Some(Topic::DagWhole));
        fs::rename(dag.join("a.yaml"), dag.join("a.yaml~")).unwrap();
        assert_eq!(hints.recv().await, Some(Topic::Dag), "it may come again in a moment, as when an editor saves");
        while hints.try_recv().is_ok() {}
        fs::write(dag.join("b.yaml"), "tasks: {}").unwrap();
        assert_eq!(hints.recv().await, Some(Topic::Dag), "its writer may not be finished");
    }
}
