//! Those who wait: for tasks to settle, and for what happens next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokio::sync::watch;

use crate::control::answer::Answerer;
use crate::control::protocol::EventView;
use crate::core::Core;
use crate::core::fact::Recorded;
use crate::core::snapshot::{TaskState, TaskView};
use crate::io::journal::{JournalReader, StoredFact};
use crate::model::id::TaskId;
use crate::model::time::Timestamp;

use super::hands::failed;

/// How many facts are read for a stream at once.
const PAGE: u32 = 1_000;

/// Those who wait for tasks.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    all: bool,
    seen: BTreeMap<TaskId, TaskState>,
    answer: Answerer,
}

impl Waiters {
    /// Shows the tasks as they are now; keeps waiting unless all are settled.
    pub(super) fn add(&mut self, core: &Core, ids: &[TaskId], answer: Answerer) {
        let mut waiter = Waiter { all: ids.is_empty(), seen: BTreeMap::new(), answer };
        let tasks: Vec<TaskView> = if waiter.all {
            core.snapshot(Timestamp::EPOCH).tasks
        } else {
            ids.iter().filter_map(|id| core.task(id)).collect()
        };
        for task in tasks {
            waiter.show(&task);
        }
        if waiter.is_over(core) {
            waiter.answer.end();
        } else {
            self.waiting.push(waiter);
        }
    }

    /// Tells those who wait of tasks that may have changed.
    pub(super) fn tell(&mut self, core: &Core, changed: &BTreeSet<TaskId>) {
        if changed.is_empty() || self.waiting.is_empty() {
            return;
        }
        let views: Vec<TaskView> = changed.iter().filter_map(|task| core.task(task)).collect();
        for mut waiter in std::mem::take(&mut self.waiting) {
            if waiter.answer.is_gone() {
                continue;
            }
            for view in &views {
                if waiter.all || waiter.seen.contains_key(&view.id) {
                    waiter.show(view);
                }
            }
            if waiter.is_over(core) {
                waiter.answer.end();
            } else {
                self.waiting.push(waiter);
            }
        }
    }
}

impl Waiter {
    fn show(&mut self, task: &TaskView) {
        if self.seen.insert(task.id.clone(), task.state) != Some(task.state) {
            self.answer.value(task);
        }
    }

    /// Nothing is left to wait for: every task is settled, or nothing happens to it until an operator acts.
    fn is_over(&mut self, core: &Core) -> bool {
        let open: Vec<TaskId> =
            self.seen.iter().filter(|(_, state)| !state.is_settled()).map(|(task, _)| task.clone()).collect();
        if open.is_empty() {
            return true;
        }
        // Looking through the whole graph is worth it only when nothing moves any more.
        if !core.is_quiet() {
            return false;
        }
        let stuck = open.iter().all(|task| core.task(task).is_none_or(|task| task.stuck || task.state.is_settled()));
        if stuck {
            for task in open.iter().filter_map(|task| core.task(task)) {
                self.seen.remove(&task.id);
                self.show(&task);
            }
        }
        stuck
    }
}

/// Streams the journal's facts, and goes on with what is appended.
pub(super) async fn events(
    path: &Path,
    since: Option<Timestamp>,
    follow: bool,
    mut last_fact: watch::Receiver<i64>,
    answer: Answerer,
) {
    let reader = match JournalReader::open(path).await {
        Ok(reader) => reader,
        Err(error) => return answer.error(failed(format!("the journal cannot be read: {error}"))),
    };
    let mut seq = 0;
    loop {
        last_fact.borrow_and_update();
        loop {
            let page = match reader.facts_after(seq, PAGE).await {
                Ok(page) => page,
                Err(error) => return answer.error(failed(format!("the journal cannot be read: {error}"))),
            };
            let Some(newest) = page.last().map(|fact| fact.seq) else { break };
            for fact in page.iter().filter(|fact| since.is_none_or(|since| fact.at >= since)) {
                answer.value_when_room(&event_view(fact)).await;
            }
            seq = newest;
            if answer.is_gone() {
                return;
            }
        }
        if !follow {
            return answer.end();
        }
        tokio::select! {
            changed = last_fact.changed() => if changed.is_err() {
                return answer.end();
            },
            () = answer.gone() => return,
        }
    }
}

fn event_view(stored: &StoredFact) -> EventView {
    let seq = u64::try_from(stored.seq).unwrap_or(0);
    match serde_json::from_str::<Recorded>(&stored.body) {
        Ok(recorded) => {
            let told = recorded.fact.tell();
            EventView {
                seq,
                at: recorded.at,
                kind: told.kind.to_owned(),
                agent: told.agent,
                incarnation: told.incarnation,
                task: told.task,
                attempt: told.attempt,
                text: told.text,
                details: serde_json::Map::new(),
            }
        }
        Err(error) => EventView {
            seq,
            at: stored.at,
            kind: stored.kind.clone(),
            agent: None,
            incarnation: None,
            task: None,
            attempt: None,
            text: format!("this program does not understand it: {error}"),
            details: serde_json::Map::new(),
        },
    }
}
