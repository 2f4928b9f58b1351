//! What every step of a runner's work needs to know.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::attempt::log_name;
use super::clearing::Clearing;
use super::environment::{self, Files};
use super::output::Output;
use super::pane::Pane;
use super::post::Post;
use super::progress::Counters;
use crate::io::cgroup::{AgentGroup, Strikes};
use crate::io::git::Author;
use crate::io::spool::receipt::Receipt;
use crate::model::agent::AgentSpec;
use crate::model::id::Incarnation;
use crate::model::layout::Layout;
use crate::model::order::WorkOrder;
use crate::model::report::FailureKind;
use crate::model::size;

/// What stays the same for the life of a runner.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) layout: Layout,
    pub(super) agent: AgentSpec,
    pub(super) incarnation: Incarnation,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) pane: Pane,
    pub(super) post: Post,
    /// The control group that the agent's limits hold for; absent: process groups have to do.
    pub(super) group: Option<AgentGroup>,
    pub(super) progress: Counters,
    pub(super) clearing: Clearing,
}

impl Context {
    /// Who an agent's commits are by.
    pub(super) fn author(&self) -> Author {
        Author { name: self.agent.name.clone(), email: environment::email(&self.agent) }
    }

    /// Counts what the agent's limits have struck so far.
    pub(super) fn strikes(&self) -> Strikes {
        self.group.as_ref().map(AgentGroup::strikes).unwrap_or_default()
    }

    /// Tells why an attempt's program had no chance, if its limits struck since an earlier count.
    pub(super) fn struck(&self, before: Strikes) -> Option<(FailureKind, String)> {
        let strikes = self.strikes().since(before);
        let limits = &self.agent.limits;
        if strikes.oom_kills > 0 {
            let limit = limits.memory_max.map_or_else(|| "there was".to_owned(), size::format);
            let text = format!("out of memory: the kernel killed {} processes beyond {limit}", strikes.oom_kills);
            return Some((FailureKind::OutOfMemory, text));
        }
        if strikes.forks_refused > 0 {
            let limit = limits.tasks_max.map_or_else(|| "allowed".to_owned(), |limit| limit.to_string());
            let text = format!("tasks limit: no more than {limit} processes and threads could be started");
            return Some((FailureKind::TasksLimit, text));
        }
        None
    }

    /// Opens the places where the output of an attempt's programs goes.
    pub(super) fn output(&self, order: &WorkOrder) -> Output {
        let log = self.layout.root().join(log_name(&self.agent.id, order));
        Output::open(self.pane.clone(), &log, self.progress.clone())
    }

    /// Returns where an attempt works.
    pub(super) fn worktree(&self, order: &WorkOrder) -> PathBuf {
        self.layout.worktree(order.run, &order.stage, order.attempt)
    }

    /// Returns where an attempt's commit is checked.
    pub(super) fn check_worktree(&self, order: &WorkOrder) -> PathBuf {
        self.layout.check_worktree(order.run, &order.stage, order.attempt)
    }

    /// Returns the files of an attempt.
    pub(super) fn files(&self, order: &WorkOrder) -> AttemptFiles {
        let folder = self.layout.attempt(order.run, &order.stage, order.attempt);
        AttemptFiles {
            order: folder.join("order.json"),
            prompt: folder.join("prompt.md"),
            inbox: folder.join("inbox.jsonl"),
            report: folder.join("report.json"),
            folder,
        }
    }

    /// Returns the environment of an attempt's programs.
    pub(super) fn environment(&self, order: &WorkOrder, files: &AttemptFiles) -> Vec<(OsString, OsString)> {
        let told = Files {
            order: &files.order,
            prompt: &files.prompt,
            inbox: &files.inbox,
            report: &files.report,
            events: &self.layout.events(&self.agent.id),
        };
        let root = self.layout.root();
        environment::of_attempt(&self.environment, root, &self.agent, self.incarnation, order, told)
            .into_iter()
            .collect()
    }
}

/// The files of an attempt.
#[derive(Debug)]
pub(super) struct AttemptFiles {
    pub(super) folder: PathBuf,
    pub(super) order: PathBuf,
    pub(super) prompt: PathBuf,
    pub(super) inbox: PathBuf,
    pub(super) report: PathBuf,
}

/// The order in hand, with what must be given back to the spool at its end.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) order: Arc<WorkOrder>,
    receipt: Mutex<Receipt>,
    messages: Mutex<Vec<Receipt>>,
    proven: AtomicBool,
}

impl Assignment {
    pub(super) const fn new(order: Arc<WorkOrder>, receipt: Receipt) -> Self {
        Self { order, receipt: Mutex::new(receipt), messages: Mutex::new(Vec::new()), proven: AtomicBool::new(false) }
    }

    pub(super) fn receipt(&self) -> Receipt {
        self.receipt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the receipt of a lease that was extended.
    pub(super) fn renew(&self, receipt: Receipt) {
        *self.receipt.lock().unwrap_or_else(PoisonError::into_inner) = receipt;
    }

    /// Notes the messages that were handed out with the order.
    pub(super) fn hand_out(&self, messages: impl IntoIterator<Item = Receipt>) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).extend(messages);
    }

    /// Notes that the checks of the work have passed.
    pub(super) fn mark_proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub(super) fn messages(&self) -> Vec<Receipt> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
