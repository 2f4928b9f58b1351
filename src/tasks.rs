//! The only spawner: every task has a name, an owner and an end.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A set of running tasks that end together with their owner.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self { set: JoinSet::new(), stop: CancellationToken::new() }
    }

    /// Starts a task; it is told to stop through the token that it is given.
    pub fn start<F>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.reap();
        let task = task(self.stop.child_token());
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// Starts blocking work on the thread pool; it cannot be told to stop, so it must be short.
    pub fn start_blocking(&mut self, name: &'static str, work: impl FnOnce() + Send + 'static) {
        self.reap();
        self.set.spawn_blocking(move || {
            work();
            name
        });
    }

    /// Forgets the tasks that have ended, so that a long-lived set stays small.
    fn reap(&mut self) {
        while let Some(ended) = self.set.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a task panicked");
            }
        }
    }

    /// Returns the token that tells all tasks to stop.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns how many tasks have not been reaped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Says whether no task is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Tells every task to stop, waits up to `patience`, then aborts what is left.
    pub async fn shut_down(mut self, patience: Duration) {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.set.join_next().await {
                match ended {
                    Ok(name) => tracing::trace!(task = name, "task ended"),
                    Err(error) => tracing::warn!(%error, "a task did not end well"),
                }
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!(left = self.set.len(), "tasks did not stop in time");
            self.set.shutdown().await;
        }
    }
}

/// Runs a process's main work as a task like all others: what wakes it is then seen by the thread that runs it, and none has to
/// wake another one.
///
/// # Panics
/// When the work panics.
#[expect(clippy::disallowed_methods, reason = "this is the spawner, and the task is waited for")]
pub async fn as_task<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::task::spawn(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending: nobody goes on from here.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Does blocking work on the thread pool and waits for it; whoever gives up waiting lets it end by itself.
///
/// # Panics
/// When the work panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending: nobody goes on from here.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_end_when_their_owner_says_so() {
        let mut tasks = Tasks::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.start("waits", |stop| async move {
            stop.cancelled().await;
            sender.send(()).expect("the test waits for it");
        });
        tasks.shut_down(Duration::from_secs(5)).await;
        receiver.await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_does_not_listen_is_aborted() {
        let mut tasks = Tasks::new();
        tasks.start("deaf", |_| std::future::pending());
        tasks.shut_down(Duration::from_millis(10)).await;
    }
}
