//! Results that are taken again: `cache: true`. The same order, on the same commit, by the same kind of agent gives what was proven
//! before.
//!
//! A result is kept when its report is accepted, under what it depends on: what the order says, the commit on which the work
//! began, and who did it. Before the first attempt of a run the newest commit is looked up, and with it a result. Whatever
//! is not found, or whose commit is gone, is done as ever.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::agent::AgentSpec;
use crate::model::id::{AgentId, RunId, TaskId};
use crate::model::report::{Outcome, Report};
use crate::model::stage::StageKind;
use crate::model::task::{Assignee, Cache, RepositoryChoice};
use crate::model::time::Timestamp;

use super::Core;
use super::digest::hex;
use super::effect::{Effect, FindResult};
use super::fact::{Fact, Then};
use super::scheduler::admission::Demand;
use super::stages::stages_of;
use super::state::{Durable, IllegalFact, Phase, TaskRecord, illegal};

/// How many results are kept; the oldest make room.
pub const RESULTS_MAX: usize = 1_000;

/// How long a look for a result may take before the work is done instead.
const SEEK_TIMEOUT: Duration = Duration::from_secs(60);

/// How many hexadecimal digits a hash has.
const DIGITS: usize = 32;

/// What a result depends on, beside the commit on which the work began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// A hash of what was ordered.
    pub content: String,
    /// Who did it.
    pub agent: AgentId,
    /// A hash of what makes the agent what it is.
    pub agent_print: String,
}

/// A proven result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its place in the order in which results were kept.
    pub seq: u64,
    /// What it depends on.
    pub origin: Origin,
    /// The report, without what was printed; its `base` is the commit on which the work began.
    pub report: Box<Report>,
}

/// Whose result a run has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reused {
    /// The task.
    pub task: TaskId,
    /// Its run.
    pub run: RunId,
}

/// A look for a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seeking {
    run: RunId,
    /// Until when an answer is waited for; `None`: there is no result.
    pub(super) until: Option<Timestamp>,
}

impl TaskRecord {
    /// Says whether the next attempt can be spared by an earlier result.
    #[must_use]
    pub fn may_reuse(&self) -> bool {
        self.spec.cache == Cache::On
            && !self.no_cache
            && self.attempt == 0
            && self.stage() == StageKind::Code
            && self.merged.is_none()
            && !self.holds_change()
    }

    /// Takes an earlier result, and no other in this run: what does not fit or is objected to is done anew.
    pub(super) fn reuse(&mut self, report: &Report, then: &Then, at: Timestamp) {
        self.reused = Some(Reused { task: report.task.clone(), run: report.run });
        self.no_cache = true;
        if matches!(then, Then::Stage { .. } | Then::Merge) {
            self.reports.insert(StageKind::Code, Box::new(report.clone()));
        }
        self.follow(then, at, &report.summary, report.commit.clone());
    }
}

impl Durable {
    /// Keeps what a task's newest report proves.
    pub(super) fn keep_result(&mut self, task: &TaskId, origin: &Origin) -> Result<(), IllegalFact> {
        let record = self.tasks.get(task).ok_or_else(|| illegal("result-kept", task, "unknown".to_owned()))?;
        match record.current().and_then(|current| current.report.as_deref()) {
            Some(report) => {
                keep(&mut self.results, origin, report);
                Ok(())
            }
            None => Err(illegal("result-kept", task, format!("{} without a report", record.phase.name()))),
        }
    }

    /// Takes an earlier result in the place of an attempt.
    pub(super) fn reuse_result(
        &mut self,
        task: &TaskId,
        run: RunId,
        (report, then): (&Report, &Then),
        at: Timestamp,
    ) -> Result<(), IllegalFact> {
        let record = self.tasks.get_mut(task).ok_or_else(|| illegal("result-reused", task, "unknown".to_owned()))?;
        match record.phase {
            Phase::Waiting { .. } if run == record.run && record.may_reuse() => {
                record.reuse(report, then, at);
                self.note_turn(task);
                Ok(())
            }
            Phase::Waiting { .. }
            | Phase::Queued
            | Phase::Merging { .. }
            | Phase::Done { .. }
            | Phase::Failed { .. }
            | Phase::Cancelled { .. } => {
                let state = format!("{} at attempt {} of run {}", record.phase.name(), record.attempt, record.run);
                Err(illegal("result-reused", task, state))
            }
        }
    }
}

/// Adds a result to those that are kept; the oldest makes room.
fn keep(results: &mut BTreeMap<String, Kept>, origin: &Origin, report: &Report) {
    let seq = results.values().map(|kept| kept.seq).max().unwrap_or(0) + 1;
    let mut report = Box::new(report.clone());
    report.output.clear();
    report.diff.clear();
    for check in &mut report.checks {
        check.output.clear();
    }
    let base = report.base.clone().unwrap_or_default();
    let key = format!("{}/{base}/{}", origin.content, origin.agent_print);
    results.insert(key, Kept { seq, origin: origin.clone(), report });
    while results.len() > RESULTS_MAX {
        let Some(oldest) = results.iter().min_by_key(|(_, kept)| kept.seq).map(|(key, _)| key.clone()) else { break };
        results.remove(&oldest);
    }
}

impl Core {
    /// Keeps what a report proves, if its task asks for that.
    pub(super) fn keep_result(&mut self, task: &TaskId, report: &Report, then: &Then) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let is_result = report.stage == StageKind::Code.name()
            && matches!(report.outcome, Outcome::Done | Outcome::NoChange)
            && matches!(then, Then::Done | Then::Merge | Then::Stage { .. });
        if record.spec.cache == Cache::Off || !is_result {
            return;
        }
        let Some(agent) = self.plan.agent(&report.agent) else { return };
        let origin = Origin { content: self.content_of(record), agent: agent.id.clone(), agent_print: print_of(agent) };
        self.record(Fact::ResultKept { task: task.clone(), origin });
    }

    /// Looks for results of the tasks that could be begun now.
    pub(super) fn seek_results(&mut self) {
        let wanted: Vec<TaskId> = self.index.reusing().cloned().collect();
        self.seeking.retain(|task, _| wanted.binary_search(task).is_ok());
        for task in wanted {
            let Some(record) = self.durable.tasks.get(&task) else { continue };
            let is_new = self.seeking.get(&task).is_none_or(|seeking| seeking.run != record.run);
            // An issue that was closed meanwhile is no work any more, also where the work is done already.
            let stale = if is_new { self.stale_issues(&task) } else { Vec::new() };
            if !stale.is_empty() {
                self.ask_first(stale);
            } else if is_new && !self.may_go_on(&task) {
                // What is taken over is published like what is done.
                self.want_claims(vec![task]);
            } else if is_new && !self.is_held_up(record) {
                self.seek_result(&task);
            }
        }
    }

    fn seek_result(&mut self, task: &TaskId) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let run = record.run;
        let known: Vec<&Kept> = self.results_for(record);
        match (&record.spec.repository, &record.target) {
            (_, _) if known.is_empty() => {
                self.seeking.insert(task.clone(), Seeking { run, until: None });
            }
            (RepositoryChoice::None, _) => self.reuse(task, ""),
            (RepositoryChoice::Named(repository), Some(target)) => {
                let commits =
                    known.iter().map(|kept| (kept.report.base.clone().unwrap_or_default(), kept.report.commit.clone()));
                let find = FindResult {
                    task: task.clone(),
                    run,
                    repository: repository.clone(),
                    target: target.clone(),
                    known: commits.collect(),
                };
                self.seeking.insert(task.clone(), Seeking { run, until: Some(self.now + SEEK_TIMEOUT) });
                self.push(Effect::FindResult(find));
            }
            (RepositoryChoice::Named(_), None) => {}
        }
    }

    /// Takes in which of the known results begins on the newest commit and is still there.
    pub(super) fn on_result_found(&mut self, task: &TaskId, run: RunId, base: Option<&str>) {
        let waits = self.seeking.get(task).is_some_and(|seeking| seeking.run == run && seeking.until.is_some());
        let fits = self.durable.tasks.get(task).is_some_and(|record| {
            record.run == run && record.may_reuse() && matches!(record.phase, Phase::Waiting { .. })
        });
        if !waits || !fits {
            return;
        }
        let is_held_up = self.durable.tasks.get(task).is_some_and(|record| self.is_held_up(record));
        if is_held_up || !self.may_go_on(task) {
            // Meanwhile something else has begun on the same files, or its claim has ended: it is looked for again after that.
            self.seeking.remove(task);
            return;
        }
        self.seeking.insert(task.clone(), Seeking { run, until: None });
        if let Some(base) = base {
            self.reuse(task, base);
        }
    }

    /// Says whether something is in the way of the task: what is taken over waits for it like what is done.
    fn is_held_up(&self, record: &TaskRecord) -> bool {
        self.load().blockers(&Demand::of(record), self.index.slots(), &self.plan).next().is_some()
    }

    /// Does without a result whose look takes too long.
    pub(super) fn wake_seeking(&mut self) {
        let now = self.now;
        for seeking in self.seeking.values_mut().filter(|seeking| seeking.until.is_some_and(|until| until <= now)) {
            seeking.until = None;
        }
    }

    /// Says whether it is not known yet if a task has a result.
    pub(super) fn is_sought(&self, task: &TaskId) -> bool {
        self.seeking.get(task).is_some_and(|seeking| seeking.until.is_some())
    }

    fn reuse(&mut self, task: &TaskId, base: &str) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let fits = |kept: &&&Kept| kept.report.base.as_deref().unwrap_or_default() == base;
        let known = self.results_for(record);
        let Some(kept) = known.iter().filter(fits).max_by_key(|kept| kept.seq) else { return };
        let report = kept.report.clone();
        let then = if report.commit.is_some() { self.after_stage(record) } else { Then::Done };
        let run = record.run;
        self.seeking.remove(task);
        self.record(Fact::ResultReused { task: task.clone(), run, report, then });
    }

    /// Returns the results of the same order by agents who are still what they were and who could be asked now.
    fn results_for(&self, record: &TaskRecord) -> Vec<&Kept> {
        if self.durable.results.is_empty() {
            return Vec::new();
        }
        let content = self.content_of(record);
        let could_do = |agent: &AgentSpec| match &record.spec.assignee {
            Assignee::Agent(wanted) => agent.id == *wanted,
            Assignee::Role(role) => agent.role == *role,
        };
        let is_same = |origin: &Origin| {
            let agent = self.plan.agent(&origin.agent);
            agent.is_some_and(|agent| could_do(agent) && print_of(agent) == origin.agent_print)
        };
        let same = |kept: &&Kept| kept.origin.content == content && is_same(&kept.origin);
        self.durable.results.values().filter(same).collect()
    }

    /// Returns a hash of everything that an order says and that its result depends on.
    fn content_of(&self, record: &TaskRecord) -> String {
        let (checks, detects) = self.checks_of(record);
        let protected = match &record.spec.repository {
            RepositoryChoice::None => None,
            RepositoryChoice::Named(name) => self.plan.repository(name).map(|repository| &repository.protected),
        };
        let stages: Vec<&str> =
            stages_of(&self.plan, &record.spec).into_iter().map(|stage| stage.kind.as_str()).collect();
        let words = self.plan.workflow.words.get(&StageKind::Code);
        print(&(1, super::dag::fingerprint(&record.spec), checks, detects, protected, stages, words))
    }
}

/// Returns a hash of what makes an agent what it is: not how it is watched.
fn print_of(agent: &AgentSpec) -> String {
    print(&(1, &agent.id, &agent.role, &agent.driver, &agent.command, &agent.env))
}

fn print(value: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(value).expect("strings, numbers and lists of them always become JSON");
    hex(&Sha256::digest(bytes)[..DIGITS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::REPORT_SCHEMA;

    fn report(base: &str) -> Report {
        let json = serde_json::json!({
            "schema": REPORT_SCHEMA, "order": "01KAPZ3XZ00000000000000000", "task": "f/a",
            "run": "01KAPZ3XZ00000000000000001", "stage": "code", "attempt": 1, "agent": "kaede", "incarnation": 1,
            "outcome": "done", "summary": "done", "base": base, "output": "printed", "diff": "+x",
            "started_at": "2026-11-20T00:00:00Z", "ended_at": "2026-11-20T00:00:00Z",
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_oldest_results_make_room_and_what_was_printed_is_not_kept() {
        let origin = |content: usize| Origin {
            content: content.to_string(),
            agent: AgentId::new("kaede").unwrap(),
            agent_print: "p".to_owned(),
        };
        let mut results = BTreeMap::new();
        for content in 0..RESULTS_MAX + 3 {
            keep(&mut results, &origin(content), &report("b"));
        }
        assert_eq!(results.len(), RESULTS_MAX);
        assert!(!results.contains_key("2/b/p") && results.contains_key("3/b/p"), "the oldest are gone");
        keep(&mut results, &origin(3), &report("b"));
        keep(&mut results, &origin(RESULTS_MAX + 3), &report("b"));
        assert!(results.contains_key("3/b/p") && !results.contains_key("4/b/p"), "what is proven anew is new");
        assert!(results.values().all(|kept| kept.report.output.is_empty() && kept.report.diff.is_empty()));
    }
}
