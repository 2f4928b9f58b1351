//! The limit: the system calls that give the same guarantee, and nothing else. Nobody looks for what waits, checks a
//! content, keeps an order or recognises what came twice.
//!
//! A send writes a file, waits for its content, renames it, and waits for the folder. A cycle then renames it twice more,
//! reads it, and waits for the last folder. Threads share waits as the spool's do: whoever comes first waits for all.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::actors::{self, Actor};
use super::{BATCH, MESSAGE_BYTES, Work};

const FOLDERS: [&str; 4] = ["tmp", "new", "leased", "done"];

/// Waits that threads share.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The round that the next caller belongs to, and the last one that is over.
    next: u64,
    done: u64,
    is_running: bool,
}

impl Gate {
    /// Waits for a round that began after this call; leads it if nobody does.
    fn pass(&self, sync: impl FnOnce()) {
        let mut state = self.state.lock().unwrap();
        let mine = state.next + 1;
        loop {
            if state.done >= mine {
                return;
            }
            if !state.is_running {
                state.is_running = true;
                state.next += 1;
                let led = state.next;
                drop(state);
                sync();
                let mut state = self.state.lock().unwrap();
                state.done = led;
                state.is_running = false;
                self.ended.notify_all();
                return;
            }
            state = self.ended.wait(state).unwrap();
        }
    }
}

/// How waits for the disk are shared; alone, nobody shares any.
#[derive(Debug, Clone)]
pub(super) struct Commits {
    shared: Option<Arc<[Gate; 3]>>,
}

impl Commits {
    pub(super) fn alone() -> Self {
        Self { shared: None }
    }

    fn shared() -> Self {
        Self { shared: Some(Arc::default()) }
    }

    fn content(&self, file: &File) {
        match &self.shared {
            None => file.sync_all().unwrap(),
            Some(gates) => gates[0].pass(|| rustix::fs::syncfs(file).unwrap()),
        }
    }

    fn folder(&self, gate: usize, folder: &File) {
        match &self.shared {
            None => folder.sync_all().unwrap(),
            Some(gates) => gates[gate].pass(|| folder.sync_all().unwrap()),
        }
    }
}

struct Caller {
    folder: PathBuf,
    new: File,
    done: File,
    number: usize,
    sent: usize,
    commits: Commits,
    content: Vec<u8>,
}

impl Caller {
    fn path(&self, folder: &str, message: usize) -> PathBuf {
        // As long as the names of the spool.
        self.folder.join(format!("{folder}/3-01JD2V5XQK6M8W0R1{:03}{message:07}-a1", self.number))
    }

    fn create(&mut self) -> (usize, File) {
        self.sent += 1;
        let mut file = OpenOptions::new().write(true).create_new(true).open(self.path("tmp", self.sent)).unwrap();
        file.write_all(&self.content).unwrap();
        (self.sent, file)
    }

    fn rename(&self, from: &str, to: &str, message: usize) {
        let (from, to) = (self.path(from, message), self.path(to, message));
        renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).unwrap();
    }

    fn send(&mut self) -> usize {
        let (message, file) = self.create();
        self.commits.content(&file);
        self.rename("tmp", "new", message);
        self.commits.folder(1, &self.new);
        message
    }

    fn cycle(&mut self) {
        let message = self.send();
        self.rename("new", "leased", message);
        let mut content = Vec::with_capacity(MESSAGE_BYTES + 1);
        File::open(self.path("leased", message)).unwrap().read_to_end(&mut content).unwrap();
        self.rename("leased", "done", message);
        self.commits.folder(2, &self.done);
    }

    fn batch(&mut self) {
        let drafts: Vec<_> = (0..BATCH).map(|_| self.create()).collect();
        rustix::fs::syncfs(&drafts[0].1).unwrap();
        for (message, _) in &drafts {
            self.rename("tmp", "new", *message);
        }
        self.new.sync_all().unwrap();
    }
}

pub(super) fn actor(folder: &Path, work: Work, number: usize, commits: &Commits) -> Actor {
    for name in FOLDERS {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let open = |name: &str| File::open(folder.join(name)).unwrap();
    let mut caller = Caller {
        folder: folder.to_owned(),
        new: open("new"),
        done: open("done"),
        number,
        sent: 0,
        commits: commits.clone(),
        content: vec![b'x'; MESSAGE_BYTES],
    };
    Box::new(move || match work {
        // There is no system call for a key: what one adds is seen beside a send without.
        Work::Send | Work::Keyed => {
            caller.send();
            1
        }
        Work::Batch => {
            caller.batch();
            BATCH
        }
        Work::Cycle => {
            caller.cycle();
            1
        }
    })
}

pub(super) fn threads(count: usize, work: Work, folder: &Path, time: Duration) -> f64 {
    let commits = if count == 1 { Commits::alone() } else { Commits::shared() };
    actors::threads((0..count).map(|number| actor(folder, work, number, &commits)).collect(), time)
}
