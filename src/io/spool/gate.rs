//! Threads of one process that want the same do it together, in rounds.
//!
//! Whoever comes first leads: it takes what is queued, does it once for all, and tells each of the others what came of
//! theirs. What comes meanwhile queues for the next round, which the first of the queue leads. So nobody waits for more
//! than the round under way and its own, unless a queue is longer than a round may be.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// How many callers share one round at most, so that nobody's wait grows with the queue.
const ROUND_MAX: usize = 256;

/// Where callers meet.
#[derive(Debug)]
pub(super) struct Gate<T, R> {
    queue: Mutex<Queue<T, R>>,
}

impl<T, R> Default for Gate<T, R> {
    fn default() -> Self {
        Self { queue: Mutex::new(Queue { waiting: VecDeque::new(), is_led: false }) }
    }
}

#[derive(Debug)]
struct Queue<T, R> {
    waiting: VecDeque<(T, Arc<Waiter<R>>)>,
    /// Somebody leads a round, or was told to lead the next. Otherwise nobody waits.
    is_led: bool,
}

/// A caller that waits.
#[derive(Debug)]
struct Waiter<R> {
    thread: Thread,
    fate: Mutex<Fate<R>>,
}

#[derive(Debug)]
enum Fate<R> {
    Waits,
    Leads,
    Done(io::Result<R>),
}

impl<R> Waiter<R> {
    fn tell(&self, fate: Fate<R>) {
        *lock(&self.fate) = fate;
        self.thread.unpark();
    }

    /// Waits until it must lead (`None`) or is done.
    fn wait(&self) -> Option<io::Result<R>> {
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

impl<T, R> Gate<T, R> {
    /// Does something in a round with others. `round` is called by who leads, and gives one result for each of them.
    ///
    /// # Errors
    /// Fails if whoever led the round died in it: then nothing is known of what became of this.
    pub(super) fn pass(&self, item: T, round: impl FnOnce(Vec<T>) -> Vec<R>) -> io::Result<R> {
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
        let mut under_way = Round { gate: self, waiters };
        let results = round(items);
        under_way.end(results);
        drop(under_way);
        waiter.wait().unwrap_or_else(|| Err(io::Error::other("a round was led twice")))
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
struct Round<'a, T, R> {
    gate: &'a Gate<T, R>,
    waiters: VecDeque<Arc<Waiter<R>>>,
}

impl<T, R> Round<'_, T, R> {
    fn end(&mut self, results: Vec<R>) {
        for result in results {
            if let Some(waiter) = self.waiters.pop_front() {
                waiter.tell(Fate::Done(Ok(result)));
            }
        }
    }
}

impl<T, R> Drop for Round<'_, T, R> {
    fn drop(&mut self) {
        for waiter in self.waiters.drain(..) {
            waiter.tell(Fate::Done(Err(io::Error::other("the thread that led the round died"))));
        }
        self.gate.hand_over();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
                let passed = gate.pass(0, |items: Vec<usize>| {
                    is_begun.send(()).unwrap();
                    let_go.wait();
                    lock(rounds).push(items.len());
                    commit(&items)
                });
                passed.flatten()
            });
            begun.recv().unwrap();
            let others: Vec<_> = (1..=callers)
                .map(|number| {
                    scope.spawn(move || {
                        let passed = gate.pass(number, |items| {
                            lock(rounds).push(items.len());
                            commit(&items)
                        });
                        passed.flatten()
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
