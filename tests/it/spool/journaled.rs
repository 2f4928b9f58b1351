//! A journaled file system in memory that is as unkind as one may be, and remembers what it looked like after every step.
//!
//! Each step on a name happens as a whole or not at all. Syncing a folder makes the steps in it last, with those that they
//! build on; syncing a file makes its content last, and not its name. What was written but not synced may be there after a
//! crash in part, as zeros, or not. What of the other steps is lost depends on the [`Order`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use miyabi::io::spool::disk::{Content, Disk, Kind, Space, Stat, Wait};
use miyabi::model::time::Timestamp;
use tempfile::TempDir;

/// How many states after one crash are looked at: all if there are no more than that, else so many by seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    pub(super) most: usize,
    pub(super) seed: u64,
}

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;

/// Which steps on names may be lost while later ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// None: there is one journal, as ext4 and XFS have it. Any number of the last steps is lost.
    Journal,
    /// All that have nothing to do with each other: only the steps of one file, on one name, and the making of the folder
    /// around it keep their order. This is less than any file system promises that we know of.
    PerFile,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    is_folder: bool,
    content: Vec<u8>,
    /// What a crash can at least not take.
    synced: Vec<u8>,
    is_dirty: bool,
    written_at: Timestamp,
}

/// One step on names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    node: u64,
    from: Option<PathBuf>,
    to: Option<PathBuf>,
    /// The node that the step takes the name from, if any.
    over: Option<u64>,
}

impl Step {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.from.iter().chain(&self.to).map(PathBuf::as_path)
    }

    fn is_in(&self, folder: &Path) -> bool {
        self.paths().any(|path| path.parent() == Some(folder) || path == folder)
    }

    /// Says whether this step cannot have happened if an earlier one has not.
    fn builds_on(&self, earlier: &Self) -> bool {
        self.node == earlier.node
            || self.over == Some(earlier.node)
            || self.paths().any(|path| earlier.paths().any(|other| path == other || path.parent() == Some(other)))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.node);
        }
    }
}

/// What is in the file system, and what of it would survive.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    names: BTreeMap<PathBuf, u64>,
    nodes: BTreeMap<u64, Node>,
    lasting: BTreeMap<PathBuf, u64>,
    pending: Vec<Step>,
    last_node: u64,
}

impl State {
    fn at(&self, path: &Path) -> io::Result<u64> {
        if let Some(parent) = path.parent()
            && !self.is_folder(parent)
        {
            return Err(errno(ENOENT));
        }
        self.names.get(path).copied().ok_or_else(|| errno(ENOENT))
    }

    fn is_folder(&self, path: &Path) -> bool {
        path == Path::new("/") || self.names.get(path).is_some_and(|node| self.nodes[node].is_folder)
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut Node> {
        let node = self.at(path)?;
        Ok(self.nodes.get_mut(&node).unwrap())
    }

    fn must_be_free(&self, path: &Path) -> io::Result<()> {
        match self.at(path) {
            Ok(_) => Err(errno(EEXIST)),
            Err(_) if path.parent().is_some_and(|parent| self.is_folder(parent)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    fn step(&mut self, node: u64, from: Option<&Path>, to: Option<&Path>) {
        let over = to.and_then(|to| self.names.get(to).copied());
        let step = Step { node, from: from.map(Path::to_owned), to: to.map(Path::to_owned), over };
        step.apply(&mut self.names);
        self.pending.push(step);
    }

    fn add(&mut self, path: &Path, is_folder: bool, content: &[u8], now: Timestamp) {
        self.last_node += 1;
        let node =
            Node { is_folder, content: content.to_vec(), synced: Vec::new(), is_dirty: !is_folder, written_at: now };
        self.nodes.insert(self.last_node, node);
        self.step(self.last_node, None, Some(path));
    }

    /// Makes some pending steps last, with all that they build on.
    fn make_last(&mut self, is_meant: impl Fn(&Step) -> bool) {
        let mut lasting: BTreeSet<usize> = (0..self.pending.len()).filter(|at| is_meant(&self.pending[*at])).collect();
        for at in (0..self.pending.len()).rev() {
            if (at + 1..self.pending.len())
                .any(|later| lasting.contains(&later) && self.pending[later].builds_on(&self.pending[at]))
            {
                lasting.insert(at);
            }
        }
        let mut left = Vec::new();
        for (at, step) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if lasting.contains(&at) {
                step.apply(&mut self.lasting);
            } else {
                left.push(step);
            }
        }
        self.pending = left;
    }

    /// Lists every set of pending steps that a crash may have kept; by seed if there are too many.
    fn kept_sets(&self, order: Order, looks: Looks) -> Vec<Vec<bool>> {
        let count = self.pending.len();
        if order == Order::Journal {
            return (0..=count).map(|kept| (0..count).map(|at| at < kept).collect()).collect();
        }
        let allowed = |kept: &[bool], at: usize| {
            (0..at).all(|earlier| kept[earlier] || !self.pending[at].builds_on(&self.pending[earlier]))
        };
        let mut sets: Vec<Vec<bool>> = vec![Vec::new()];
        for at in 0..count {
            let mut next = Vec::new();
            for kept in sets {
                if allowed(&kept, at) {
                    next.push([kept.as_slice(), &[true]].concat());
                }
                next.push([kept.as_slice(), &[false]].concat());
            }
            sets = thinned(next, looks);
        }
        sets
    }

    /// Lists the states in which the file system may be after a crash now.
    pub(super) fn after_crash(&self, order: Order, looks: Looks) -> Vec<Self> {
        let mut states = Vec::new();
        for kept in self.kept_sets(order, looks) {
            let mut names = self.lasting.clone();
            for (step, _) in self.pending.iter().zip(&kept).filter(|(_, kept)| **kept) {
                step.apply(&mut names);
            }
            let here: BTreeSet<u64> = names.values().copied().collect();
            let nodes: BTreeMap<u64, Node> = self
                .nodes
                .iter()
                .filter(|(node, _)| here.contains(node))
                .map(|(at, node)| (*at, node.clone()))
                .collect();
            let mut versions = vec![nodes];
            for at in here {
                let node = &self.nodes[&at];
                if !node.is_dirty {
                    continue;
                }
                let mut next = Vec::new();
                for nodes in versions {
                    for content in torn(node) {
                        let mut nodes = nodes.clone();
                        let node = nodes.get_mut(&at).unwrap();
                        (node.synced, node.content, node.is_dirty) = (content.clone(), content, false);
                        next.push(nodes);
                    }
                }
                versions = thinned(next, looks);
            }
            for nodes in versions {
                let lasting = names.clone();
                states.push(Self {
                    names: names.clone(),
                    nodes,
                    lasting,
                    pending: Vec::new(),
                    last_node: self.last_node,
                });
            }
        }
        thinned(states, looks)
    }

    /// Returns a number that tells states apart by what can be seen of them.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, node) in &self.names {
            (path, &self.nodes[node], node).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Lists the names in a folder.
    pub(super) fn list(&self, folder: &Path) -> Vec<String> {
        let inside = self.names.keys().filter(|path| path.parent() == Some(folder));
        inside.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }
}

/// Lists what may be left of a content that was not synced.
fn torn(node: &Node) -> BTreeSet<Vec<u8>> {
    let new = &node.content;
    [node.synced.clone(), Vec::new(), new[..new.len() / 2].to_vec(), vec![0; new.len()], new.clone()].into()
}

/// Keeps a list if it is short, else about so many of it, chosen by the seed, with the first and the last.
fn thinned<T>(list: Vec<T>, Looks { most, seed }: Looks) -> Vec<T> {
    if list.len() <= most {
        return list;
    }
    let last = list.len() - 1;
    let mut rng = crate::rng::Rng::new(seed);
    let mut chosen: Vec<T> = Vec::with_capacity(most);
    for (at, item) in list.into_iter().enumerate() {
        if at == 0 || at == last || rng.below(last + 1) + 2 < most {
            chosen.push(item);
        }
    }
    chosen
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// A call that is to fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// Which call, counted from 0.
    pub(super) call: usize,
    pub(super) errno: i32,
}

/// Who is told of every call, before it is made; an error is what the caller gets instead.
pub(super) trait Gate: std::fmt::Debug + Send + Sync {
    fn pass(&self) -> io::Result<()>;
}

/// The file system as a disk of the spool.
#[derive(Debug)]
pub(super) struct Journaled {
    inner: Arc<Mutex<Inner>>,
    gate: Option<Arc<dyn Gate>>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: State,
    pub(super) now: Timestamp,
    /// The state after each step that changed something, if asked for.
    pub(super) snapshots: Option<Vec<(State, Timestamp)>>,
    pub(super) calls: usize,
    pub(super) fault: Option<Fault>,
    /// Which call failed, by name.
    pub(super) failed: Option<&'static str>,
    /// Real files whose locks stand for those of files here; only several actors need them.
    locks: Option<TempDir>,
}

impl Journaled {
    pub(super) fn new(state: State, now: Timestamp) -> Self {
        let inner = Inner { state, now, snapshots: None, calls: 0, fault: None, failed: None, locks: None };
        Self { inner: Arc::new(Mutex::new(inner)), gate: None }
    }

    /// Returns another view of the same file system, whose calls pass a gate.
    pub(super) fn through(&self, gate: Arc<dyn Gate>) -> Self {
        Self { inner: Arc::clone(&self.inner), gate: Some(gate) }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn call<T>(&self, name: &'static str, work: impl FnOnce(&mut State, Timestamp) -> io::Result<T>) -> io::Result<T> {
        if let Some(gate) = &self.gate {
            gate.pass()?;
        }
        let mut inner = self.inner();
        let call = inner.calls;
        inner.calls += 1;
        if let Some(fault) = inner.fault.filter(|fault| fault.call == call) {
            inner.failed = Some(name);
            return Err(errno(fault.errno));
        }
        let now = Timestamp::from_millis(inner.now.as_millis() / 1_000 * 1_000);
        let result = work(&mut inner.state, now);
        let changes = !matches!(name, "names" | "read" | "stat");
        if changes && result.is_ok() && inner.snapshots.is_some() {
            let snapshot = (inner.state.clone(), inner.now);
            inner.snapshots.as_mut().unwrap().push(snapshot);
        }
        result
    }

    fn handle() -> File {
        File::options().read(true).write(true).open("/dev/null").unwrap()
    }
}

impl Disk for Journaled {
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        self.call("create", |state, now| {
            state.must_be_free(path)?;
            state.add(path, false, bytes, now);
            Ok(Self::handle())
        })
    }

    fn sync_file(&self, path: &Path, _file: &File) -> io::Result<()> {
        self.call("sync_file", |state, _| {
            let node = state.file(path)?;
            node.synced = node.content.clone();
            node.is_dirty = false;
            Ok(())
        })
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename_new", |state, _| {
            let node = state.at(from)?;
            state.must_be_free(to)?;
            state.step(node, Some(from), Some(to));
            Ok(())
        })
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename_over", |state, _| {
            let node = state.at(from)?;
            state.step(node, Some(from), Some(to));
            Ok(())
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link", |state, _| {
            let node = state.at(from)?;
            state.must_be_free(to)?;
            state.step(node, None, Some(to));
            Ok(())
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call("unlink", |state, _| {
            let node = state.at(path)?;
            state.step(node, Some(path), None);
            Ok(())
        })
    }

    fn remove_tree(&self, _folder: &Path) -> io::Result<()> {
        Err(errno(ENOTDIR))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.call("names", |state, _| {
            if !state.is_folder(folder) {
                return Err(errno(ENOENT));
            }
            Ok(state.list(folder).into_iter().map(OsString::from).collect())
        })
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Content> {
        self.call("read", |state, _| {
            let node = state.file(path)?;
            Ok(if node.is_folder {
                Content::NotAFile
            } else if node.content.len() > bytes_max {
                Content::Cut(node.content[..bytes_max].to_vec())
            } else {
                Content::Whole(node.content.clone())
            })
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.call("stat", |state, _| {
            let at = state.at(path)?;
            let node = &state.nodes[&at];
            Ok(Stat {
                kind: if node.is_folder { Kind::Folder } else { Kind::File },
                identity: (1, at),
                links: state.names.values().filter(|other| **other == at).count() as u64,
                bytes: node.content.len() as u64,
                written_at: node.written_at,
                changed_at: node.written_at,
            })
        })
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        self.call("make_folder", |state, now| {
            let mut missing: Vec<_> = folder.ancestors().take_while(|path| !state.is_folder(path)).collect();
            missing.reverse();
            for path in missing {
                state.add(path, true, b"", now);
            }
            Ok(())
        })
    }

    fn space(&self, _folder: &Path) -> io::Result<Space> {
        Ok(Space { free: 1 << 40, total: 1 << 41 })
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.call("sync_folder", |state, _| {
            if !state.is_folder(folder) {
                return Err(errno(ENOENT));
            }
            state.make_last(|step| step.is_in(folder));
            Ok(())
        })
    }

    fn sync_file_system(&self, _folder: &Path, _file: &File) -> io::Result<()> {
        self.call("sync_file_system", |state, _| {
            state.make_last(|_| true);
            for node in state.nodes.values_mut() {
                node.synced = node.content.clone();
                node.is_dirty = false;
            }
            Ok(())
        })
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call("append", |state, now| match state.file(path) {
            Ok(node) => {
                node.content.extend_from_slice(bytes);
                (node.is_dirty, node.written_at) = (true, now);
                Ok(())
            }
            Err(_) => {
                state.must_be_free(path)?;
                state.add(path, false, bytes, now);
                Ok(())
            }
        })
    }

    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<File>> {
        loop {
            let locked = self.call("lock", |state, now| {
                if state.at(path).is_err() {
                    if wait == Wait::Never {
                        return Err(errno(ENOENT));
                    }
                    state.must_be_free(path)?;
                    state.add(path, false, b"", now);
                }
                state.at(path)
            })?;
            if self.gate.is_none() {
                return Ok(Some(Self::handle()));
            }
            let locks =
                self.inner().locks.get_or_insert_with(|| TempDir::new().unwrap()).path().join(locked.to_string());
            let file = File::create(locks)?;
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                Err(_) if wait == Wait::Never => return Ok(None),
                // Another actor has it, and will get its turn.
                Err(_) => {}
            }
        }
    }

    fn overwrite(&self, path: &Path, _file: &File, bytes: &[u8]) -> io::Result<()> {
        self.call("overwrite", |state, now| {
            let node = state.file(path)?;
            node.content = bytes.to_vec();
            (node.is_dirty, node.written_at) = (true, now);
            Ok(())
        })
    }
}

impl Journaled {
    /// Returns what is there now, and what of it would survive.
    pub(super) fn state(&self) -> State {
        self.inner().state.clone()
    }

    /// Returns another view of the same file system.
    pub(super) fn through_nothing(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), gate: None }
    }
}

impl State {
    /// Returns a file's content as text.
    pub(super) fn text(&self, path: &Path) -> Option<String> {
        Some(String::from_utf8_lossy(&self.nodes[self.names.get(path)?].content).into_owned())
    }

    /// Draws all files with the beginnings of their contents.
    pub(super) fn picture(&self) -> String {
        let line = |(path, node): (&PathBuf, &u64)| {
            let content = &self.nodes[node].content;
            let text: String = String::from_utf8_lossy(content).chars().take(60).collect();
            (!self.nodes[node].is_folder)
                .then(|| format!("  {} #{node} {} bytes {text:?}\n", path.display(), content.len()))
        };
        self.names.iter().filter_map(line).collect()
    }
}
