//! How far an attempt's programs have come, for the heartbeat: what they printed, computed and committed.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use crate::io::process;
use crate::model::beat::Progress;
use crate::model::signal::Signal;

/// Counts what programs print. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    output_bytes: Arc<AtomicU64>,
    events: Arc<AtomicU64>,
    newest: Arc<Mutex<Option<Signal>>>,
}

impl Counters {
    pub(super) fn printed(&self, bytes: usize) {
        self.output_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts an event, and says whether it tells of another state than the one before.
    pub(super) fn heard(&self, signal: &Signal) -> bool {
        self.events.fetch_add(1, Ordering::Relaxed);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = newest.as_ref() != Some(signal);
        *newest = Some(signal.clone());
        is_news
    }

    /// Forgets the state of a program that has ended.
    pub(super) fn begin_anew(&self) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Says whether the program has said that its turn is over.
    pub(super) fn is_over(&self) -> bool {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) == Some(Signal::Over)
    }

    /// Looks at how far the programs in a worktree have come: some small reads, and nothing is started.
    pub(super) fn look(&self, worktree: &Path) -> Progress {
        Progress {
            output_bytes: self.output_bytes.load(Ordering::Relaxed),
            cpu_ms: process::cpu_ms_below_us(),
            git_ms: git_ms(worktree),
            events: self.events.load(Ordering::Relaxed),
        }
    }
}

/// Returns when the worktree's index, branch or commits last changed; 0 without git.
fn git_ms(worktree: &Path) -> u64 {
    let Ok(pointer) = fs::read_to_string(worktree.join(".git")) else { return 0 };
    let Some(folder) = pointer.trim().strip_prefix("gitdir: ") else { return 0 };
    let folder = worktree.join(folder);
    // A commit writes the index, and moves HEAD's log where there is one.
    let changed = |name: &str| {
        let time = fs::metadata(folder.join(name)).ok()?.modified().ok()?;
        u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    };
    ["HEAD", "index", "logs/HEAD"].into_iter().filter_map(changed).max().unwrap_or(0)
}
