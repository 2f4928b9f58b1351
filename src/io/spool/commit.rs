//! Waiting for the disk together: threads of one process share waits.
//!
//! Whoever comes first leads: it takes what is queued, waits for the disk once for all of it, and tells each of the
//! others what came of theirs. What comes meanwhile queues for the next round, which the first of the queue leads. So
//! nobody waits for more than the round under way and its own, unless a queue is longer than a round may be.
//!
//! A wait that fails fails for everybody in its round, and so does a leader that panics: nobody is told that something
//! is on the disk that is not.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

use super::disk::Disk;

/// How many callers share one wait at most, so that nobody's wait grows with the queue.
const ROUND_MAX: usize = 256;

/// From how many files on one wait for the whole file system is cheaper than one for each of them.
const FILES_SHARED_MIN: usize = 4;

/// A new file whose content is to be on the disk.
#[derive(Debug)]
pub(super) struct Draft {
    /// Where it was opened.
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Grows from draft to draft: one with a smaller number was opened earlier.
    pub(super) number: u64,
}

/// The waits that the threads of a process share.
#[derive(Debug, Default)]
pub(super) struct Commits {
    contents: Gate<Vec<Arc<Draft>>>,
    /// One for each folder that was ever synced: a few for each mailbox.
    folders: Mutex<BTreeMap<PathBuf, Arc<Gate<()>>>>,
}

impl Commits {
    /// Waits until the contents of files are on the disk.
    pub(super) fn sync_files(&self, disk: &dyn Disk, files: Vec<Arc<Draft>>) -> io::Result<()> {
        self.contents.pass(files, |round| {
            let count: usize = round.iter().map(Vec::len).sum();
            // What went wrong since a file was opened is told to it, so the one that was opened first asks for all.
            let first = round.iter().flatten().min_by_key(|draft| draft.number);
            if count >= FILES_SHARED_MIN
                && first.is_some_and(|first| disk.sync_file_system(&first.path, &first.file).is_ok())
            {
                return round.iter().map(|_| Ok(())).collect();
            }
            // One by one, so that each learns of its own file.
            let sync = |draft: &Arc<Draft>| disk.sync_file(&draft.path, &draft.file);
            round.iter().map(|drafts| drafts.iter().try_for_each(sync)).collect()
        })
    }

    /// Waits until the names in a folder are on the disk.
    pub(super) fn sync_folder(&self, disk: &dyn Disk, folder: &Path) -> io::Result<()> {
        let gate = Arc::clone(lock(&self.folders).entry(folder.to_owned()).or_default());
        gate.pass((), |round| {
            let synced = disk.sync_folder(folder);
            round.iter().map(|()| synced.as_ref().copied().map_err(copied)).collect()
        })
    }
}

/// Where callers meet.
#[derive(Debug)]
struct Gate<T> {
    queue: Mutex<Queue<T>>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { queue: Mutex::new(Queue { waiting: VecDeque::new(), is_led: false }) }
    }
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<(T, Arc<Waiter>)>,
    /// Somebody leads a round, or was told to lead the next. Otherwise nobody waits.
    is_led: bool,
}

/// A caller that waits.
#[derive(Debug)]
struct Waiter {
    thread: Thread,
    fate: Mutex<Fate>,
}

#[derive(Debug)]
enum Fate {
    Waits,
    Leads,
    Done(io::Result<()>),
}

impl Waiter {
    fn tell(&self, fate: Fate) {
        *lock(&self.fate) = fate;
        self.thread.unpark();
    }

    /// Waits until it must lead (`None`) or is done.
    fn wait(&self) -> Option<io::Result<()>> {
        loop {
            match std::mem::replace(&mut *lock(&self.fate), Fate::Waits) {
                Fate::Waits => {}
                Fate::Leads => return None,
                Fate::Done(result) => return Some(result),
            }
            std::thread::park();
        }
    }
}

impl<T> Gate<T> {
    /// Commits something in a round with others. `commit` gives one result for each of a round.
    fn pass(&self, item: T, commit: impl FnOnce(Vec<T>) -> Vec<io::Result<()>>) -> io::Result<()> {
        let waiter = Arc::new(Waiter { thread: std::thread::current(), fate: Mutex::new(Fate::Waits) });
        let leads = {
            let mut queue = lock(&self.queue);
            queue.waiting.push_back((item, Arc::clone(&waiter)));
            !std::mem::replace(&mut queue.is_led, true)
        };
        if !leads && let Some(result) = waiter.wait() {
            return result;
        }
        // Who leads is the first of the queue, so its own is in this round.
        let (items, waiters) = {
            let mut queue = lock(&self.queue);
            let count = queue.waiting.len().min(ROUND_MAX);
            queue.waiting.drain(..count).unzip()
        };
        let mut round = Round { gate: self, waiters };
        let results = commit(items);
        round.end(results);
        drop(round);
        waiter.wait().unwrap_or_else(|| Err(io::Error::other("a wait for the disk was led twice")))
    }

    /// Lets the first of the queue lead the next round.
    fn hand_over(&self) {
        let mut queue = lock(&self.queue);
        match queue.waiting.front() {
            Some((_, next)) => next.tell(Fate::Leads),
            None => queue.is_led = false,
        }
    }
}

/// A round under way. However it ends, nobody in it is left waiting, and the next one begins.
struct Round<'a, T> {
    gate: &'a Gate<T>,
    waiters: VecDeque<Arc<Waiter>>,
}

impl<T> Round<'_, T> {
    fn end(&mut self, results: Vec<io::Result<()>>) {
        for result in results {
            if let Some(waiter) = self.waiters.pop_front() {
                waiter.tell(Fate::Done(result));
            }
        }
    }
}

impl<T> Drop for Round<'_, T> {
    fn drop(&mut self) {
        for waiter in self.waiters.drain(..) {
            waiter.tell(Fate::Done(Err(io::Error::other("the thread that waited for the disk died"))));
        }
        self.gate.hand_over();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says to another what one was told: errors of the system cannot be cloned.
pub(super) fn copied(fault: &io::Error) -> io::Error {
    match fault.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(fault.kind(), fault.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};

    use super::*;

    /// Lets one round begin and stop, queues some callers behind it, lets go, and returns what each was told, with the
    /// sizes of the rounds.
    fn play(
        callers: usize,
        commit: impl Fn(&[usize]) -> Vec<io::Result<()>> + Sync,
    ) -> (Vec<io::Result<()>>, Vec<usize>) {
        let gate = Gate::default();
        let rounds = Mutex::new(Vec::new());
        let (is_begun, begun) = mpsc::channel();
        let let_go = Barrier::new(2);
        let results = std::thread::scope(|scope| {
            let (gate, rounds, let_go, commit) = (&gate, &rounds, &let_go, &commit);
            let first = scope.spawn(move || {
                gate.pass(0, |items: Vec<usize>| {
                    is_begun.send(()).unwrap();
                    let_go.wait();
                    lock(rounds).push(items.len());
                    commit(&items)
                })
            });
            begun.recv().unwrap();
            let others: Vec<_> = (1..=callers)
                .map(|number| {
                    scope.spawn(move || {
                        gate.pass(number, |items| {
                            lock(rounds).push(items.len());
                            commit(&items)
                        })
                    })
                })
                .collect();
            while lock(&gate.queue).waiting.len() < callers {
                std::thread::yield_now();
            }
            let_go.wait();
            let all = std::iter::once(first).chain(others);
            all.map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked")))).collect()
        });
        assert!(!lock(&gate.queue).is_led, "nobody may lead when all are gone");
        (results, rounds.into_inner().unwrap())
    }

    #[test]
    fn those_who_come_during_a_round_share_the_next_and_each_learns_of_its_own() {
        let odd_ones_fail = |items: &[usize]| {
            items
                .iter()
                .map(|item| if item % 2 == 0 { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) })
                .collect()
        };
        let (results, rounds) = play(9, odd_ones_fail);
        assert_eq!(rounds, [1, 9]);
        for (number, result) in results.iter().enumerate() {
            assert_eq!(result.is_ok(), number % 2 == 0, "{number}");
        }
    }

    #[test]
    fn a_round_is_bounded_and_the_next_goes_on() {
        let (results, rounds) = play(ROUND_MAX + 5, |items| items.iter().map(|_| Ok(())).collect());
        assert_eq!(rounds, [1, ROUND_MAX, 5]);
        assert!(results.iter().all(Result::is_ok));
    }

    #[test]
    fn a_leader_that_panics_leaves_nobody_waiting_and_nobody_believing() {
        let calls = AtomicUsize::new(0);
        let (results, _) = play(5, |items| {
            assert_ne!(calls.fetch_add(1, Ordering::Relaxed), 1, "planted");
            items.iter().map(|_| Ok(())).collect()
        });
        assert!(results[0].is_ok());
        assert!(results[1..].iter().all(Result::is_err), "{results:?}");
    }

    #[test]
    fn a_leader_with_too_few_results_fails_the_rest() {
        let (results, _) = play(3, |items| items.iter().take(1).map(|_| Ok(())).collect());
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    }
}
