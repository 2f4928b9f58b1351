//! The durable state: what the facts add up to. Live running and recovery both go through [`Durable::apply`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::alert::Alert;
use crate::model::id::{AgentId, EnvelopeId, Incarnation, PoolName, RunId, StageName, SubmissionKey, TaskId};
use crate::model::report::Report;
use crate::model::spent::Spent;
use crate::model::stage::StageKind;
use crate::model::task::{FailureClass, RepositoryChoice, TaskSpec};
use crate::model::time::Timestamp;

use super::fact::{AttemptCause, Fact, Hold, Keyed, Origin, Recorded, Then};
use super::github::state::{Ask, OnGithub};
use super::healing;
use super::issues::FileIssue;
use super::memo::{Kept, Reused};

mod agents;
mod reports;

/// The version of [`Durable`]'s JSON form, as it is kept in the journal's snapshots.
pub const STATE_VERSION: i64 = 1;

/// How many attempts of one run are remembered in full; older ones are in the journal's facts only.
pub const ATTEMPTS_KEPT_MAX: usize = 20;

/// How many restarts of one agent are remembered.
const RESTARTS_KEPT_MAX: usize = 1_000;

/// How many branches of attempts without a report the next order names.
const UNREPORTED_MAX: usize = 5;

/// The outcome of an attempt that was taken back and counts for nothing.
pub(super) const WITHDRAWN: &str = "withdrawn";

/// Everything that survives a crash.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Durable {
    /// Makes identifiers and jitter of this root its own.
    pub seed: u64,
    /// How many identifiers have been made.
    pub ids: u64,
    /// How many tasks have been accepted.
    pub accepted: u64,
    /// How often finished work has begun to wait for its merge.
    #[serde(default)]
    pub turns: u64,
    /// The agents that were ever started.
    pub agents: BTreeMap<AgentId, AgentRecord>,
    /// The tasks.
    pub tasks: BTreeMap<TaskId, TaskRecord>,
    /// The tasks that were submitted with a key, and the hash of what was. They are as many as such tasks, for as long.
    #[serde(default)]
    pub keys: BTreeMap<SubmissionKey, (TaskId, String)>,
    /// Proven results that may be taken again.
    #[serde(default)]
    pub results: BTreeMap<String, Kept>,
    /// Since when everything is frozen.
    #[serde(default)]
    pub frozen: Option<Timestamp>,
    /// The alerts that are not over, by their key.
    #[serde(default)]
    pub alerts: BTreeMap<String, Alert>,
    /// The pools that each dependency file in force declares, by its stem, with their slots.
    #[serde(default)]
    pub pools: BTreeMap<String, BTreeMap<PoolName, u32>>,
    /// How the newest attempts of the tasks that were tried last have ended, oldest first; `true`: well.
    #[serde(default)]
    pub outcomes: Vec<(TaskId, bool)>,
    /// What is known of GitHub.
    #[serde(default)]
    pub github: OnGithub,
    /// The issues that files in force list, by the ids of their tasks.
    #[serde(default)]
    pub issues: BTreeMap<TaskId, FileIssue>,
}

/// What survives of an agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// The newest incarnation.
    pub incarnation: Incarnation,
    /// Since when that incarnation has been up.
    pub up_since: Option<Timestamp>,
    /// Whether that incarnation has ended.
    pub down: bool,
    /// Why it stays down.
    pub hold: Option<Hold>,
    /// When it was restarted, oldest first, for the budget.
    pub restarts: Vec<Timestamp>,
    /// How many faulty ends have followed one another without a stable time.
    pub streak: u32,
    /// When the newest incarnation ended and why, for people.
    pub last_end: Option<(Timestamp, String)>,
    /// The newest order that was intended for it. Only this one can still lie in its mailbox: no other is intended before it
    /// is known to be out.
    #[serde(default)]
    pub last_order: Option<(TaskId, EnvelopeId)>,
}

/// What survives of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Its place in the order of acceptance.
    pub seq: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it has left its file.
    pub detached: bool,
    /// What is to be done.
    pub spec: TaskSpec,
    /// The hash of what is executed.
    pub fingerprint: String,
    /// A newer text that counts from the next attempt on.
    pub pending: Option<(TaskSpec, String)>,
    /// The branch that its work will be merged into.
    pub target: Option<String>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When the current run began; absent in old journals.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Whether the current run has been found to be later than its `sla`.
    #[serde(default)]
    pub sla_missed: bool,
    /// The current run.
    pub run: RunId,
    /// The current stage, by its place among [`StageKind::PLACES`].
    pub stage: usize,
    /// How many reviews of this run have asked for changes.
    #[serde(default)]
    pub rounds: u32,
    /// How many of them were people's, of its pull request.
    #[serde(default)]
    pub people_rounds: u32,
    /// What people asked for in the newest of these.
    #[serde(default)]
    pub asks: Vec<Ask>,
    /// The newest good reports of the stages that this run has behind it, as far as others follow.
    #[serde(default)]
    pub reports: BTreeMap<StageKind, Box<Report>>,
    /// The run's commit on the target branch, once it is there and a stage follows.
    #[serde(default)]
    pub merged: Option<String>,
    /// Its place in the order in which work was finished, while it waits to be merged or is checked again for that.
    #[serde(default)]
    pub turn: Option<u64>,
    /// The run's commit as it was last put onto the target branch's newest one, with `merge = "queue"`.
    #[serde(default)]
    pub rebased: Option<Rebased>,
    /// How often that was done in this run.
    #[serde(default)]
    pub rebases: u32,
    /// Whether the work of this run is done although an earlier result is known.
    #[serde(default)]
    pub no_cache: bool,
    /// Whose result this run has taken.
    #[serde(default)]
    pub reused: Option<Reused>,
    /// How many attempts this run has had.
    pub attempt: u32,
    /// How many of them count as failures.
    pub failures: u32,
    /// How many of these were of which kind; those of old journals are not among them.
    #[serde(default)]
    pub failed: BTreeMap<FailureClass, u32>,
    /// When the run of a task that comes again was last due to begin.
    #[serde(default)]
    pub occurrence: Option<Timestamp>,
    /// The task that is to find out why this one has failed.
    #[serde(default)]
    pub diagnosis: Option<TaskId>,
    /// Whether the current run of such a task knows when it begins.
    #[serde(default)]
    pub is_scheduled: bool,
    /// How it is.
    pub phase: Phase,
    /// The newest attempts of this run, oldest first; the last is the current one.
    pub attempts: Vec<AttemptRecord>,
    /// Attempts of this run that ended without a report, newest first.
    pub unreported: Vec<u32>,
    /// What the attempts of this run have used, as far as their programs said so.
    #[serde(default)]
    pub spent: Option<Spent>,
}

/// A commit that was put onto the newest commit of its target branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebased {
    /// The commit that it has become.
    pub commit: String,
    /// The commit below it, which the target branch ended with.
    pub onto: String,
}

/// How a task is, as far as that survives a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Blocked or ready.
    Waiting {
        /// Back-off: not before this time.
        not_before: Option<Timestamp>,
    },
    /// An order is intended, delivered or leased.
    Queued,
    /// Proven; the commit is on its way to the target branch.
    Merging {
        /// Why it cannot be merged for now.
        parked: Option<String>,
    },
    /// Proven and merged.
    Done {
        /// When.
        at: Timestamp,
        /// The commit.
        commit: Option<String>,
    },
    /// All attempts used up; shown as `dead`.
    Failed {
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// Given up.
    Cancelled {
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

impl Phase {
    /// Returns the phase's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Queued => "queued",
            Self::Merging { .. } => "merging",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "dead",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Its number.
    pub attempt: u32,
    /// Its stage.
    pub stage: StageName,
    /// Who was asked.
    pub agent: AgentId,
    /// The envelope of its order.
    pub envelope: EnvelopeId,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// When it was begun, and by which start of the agent.
    pub started: Option<(Timestamp, Incarnation)>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended, in one word.
    pub outcome: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
    /// Its report.
    pub report: Option<Box<Report>>,
}

/// A fact that does not fit the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fact {fact} does not fit {subject}, which is {state}")]
pub struct IllegalFact {
    /// The fact's name.
    pub fact: &'static str,
    /// What it is about.
    pub subject: String,
    /// The state of that.
    pub state: String,
}

impl TaskRecord {
    /// Returns the newest attempt.
    #[must_use]
    pub fn current(&self) -> Option<&AttemptRecord> {
        self.attempts.last()
    }

    /// Says whether the work happens in a repository.
    #[must_use]
    pub const fn needs_repository(&self) -> bool {
        match self.spec.repository {
            RepositoryChoice::None => false,
            RepositoryChoice::Named(_) => true,
        }
    }

    /// Says when the current run began.
    #[must_use]
    pub fn began(&self) -> Timestamp {
        self.since.unwrap_or(self.accepted_at)
    }

    /// Says whether its work is finished and on its way to the target branch.
    #[must_use]
    pub fn waits_for_merge(&self) -> bool {
        match self.phase {
            Phase::Merging { .. } => true,
            Phase::Waiting { .. } | Phase::Queued => self.stage() == StageKind::Recheck,
            Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => false,
        }
    }

    /// Says until when the current run must have ended, if that was asked for.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.spec.sla.map(|sla| self.began() + sla)
    }

    /// Says whether the current run has ended.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        match self.phase {
            Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => true,
            Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } => false,
        }
    }

    /// Says when the run of a task that comes again was last due to begin.
    #[must_use]
    pub fn occurrence(&self) -> Timestamp {
        self.occurrence.unwrap_or(self.accepted_at)
    }

    fn fail(&mut self, class: Option<FailureClass>) {
        self.failures += 1;
        if let Some(class) = class {
            *self.failed.entry(class).or_default() += 1;
        }
    }

    fn settle(&mut self, at: Timestamp, outcome: &str, reason: Option<String>) {
        if let Some(current) = self.attempts.last_mut()
            && current.ended_at.is_none()
        {
            current.ended_at = Some(at);
            current.outcome = Some(outcome.to_owned());
            current.reason = reason;
        }
    }

    pub(super) fn follow(&mut self, then: &Then, at: Timestamp, reason: &str, commit: Option<String>) {
        match then {
            Then::Stage { stage } => self.enter_stage(*stage),
            Then::Rework => {
                self.rounds += 1;
                self.enter_stage(StageKind::Code);
            }
            Then::Redo => self.enter_stage(StageKind::Code),
            Then::Done | Then::Merge | Then::Retry { .. } | Then::GiveUp => {}
        }
        self.phase = match then {
            Then::Done => Phase::Done { at, commit },
            Then::Merge => Phase::Merging { parked: None },
            Then::Stage { .. } | Then::Rework | Then::Redo => Phase::Waiting { not_before: None },
            Then::Retry { not_before } => Phase::Waiting { not_before: Some(*not_before) },
            Then::GiveUp => Phase::Failed { at, reason: reason.to_owned() },
        };
        if let Phase::Waiting { .. } = self.phase {
            self.take_pending();
        }
    }

    /// Puts a newer text in force, unless what is left of this run is only to deploy what is merged.
    pub(super) fn take_pending(&mut self) {
        if self.merged.is_some() {
            return;
        }
        if let Some((spec, fingerprint)) = self.pending.take() {
            self.replace(spec, fingerprint);
        }
    }

    /// Puts a text in force; what was made for another one is not looked at any more.
    fn replace(&mut self, spec: TaskSpec, fingerprint: String) {
        if self.fingerprint != fingerprint {
            self.begin_anew();
        }
        self.spec = spec;
        self.fingerprint = fingerprint;
    }
}

impl Durable {
    /// Takes a fact into the state.
    ///
    /// # Errors
    /// Refuses a fact that does not fit the state, and names both; the state is then unchanged.
    pub fn apply(&mut self, recorded: &Recorded) -> Result<(), IllegalFact> {
        let at = recorded.at;
        match &recorded.fact {
            Fact::Begun { seed } => {
                self.seed = *seed;
                Ok(())
            }
            Fact::Frozen { since } => {
                self.frozen = Some(*since);
                Ok(())
            }
            Fact::Thawed => {
                self.frozen = None;
                Ok(())
            }
            Fact::AlertRaised { alert } => {
                self.alerts.insert(alert.key(), alert.clone());
                Ok(())
            }
            Fact::AlertCleared { key } => {
                self.alerts.remove(key);
                Ok(())
            }
            Fact::IssueListed { task, listed } => {
                self.list_issue(task, listed.as_deref());
                Ok(())
            }
            Fact::PoolsDeclared { stem, pools } => {
                self.pools.insert(stem.clone(), pools.clone());
                self.pools.retain(|_, pools| !pools.is_empty());
                Ok(())
            }
            Fact::SpawnRequested { .. }
            | Fact::AgentUp { .. }
            | Fact::AgentDown { .. }
            | Fact::AgentHeld { .. }
            | Fact::AgentReleased { .. } => self.apply_to_agent(&recorded.fact, at),
            Fact::TaskAccepted { task, origin, spec, fingerprint, target, run, key } => {
                self.accept(at, task, origin, spec, fingerprint, target.as_ref(), *run)?;
                if let Some(Keyed { key, print }) = key {
                    self.keys.insert(key.clone(), (task.clone(), print.clone()));
                }
                Ok(())
            }
            Fact::TaskReplaced { task, .. }
            | Fact::TaskDeferred { task, .. }
            | Fact::TaskDetached { task }
            | Fact::TaskReattached { task }
            | Fact::TaskRetried { task, .. }
            | Fact::SlaMissed { task, .. }
            | Fact::RunScheduled { task, .. }
            | Fact::TaskCancelled { task, .. } => self.apply_to_task(task, &recorded.fact, at),
            Fact::AttemptQueued { task, .. }
            | Fact::AttemptStarted { task, .. }
            | Fact::AttemptWithdrawn { task, .. }
            | Fact::AttemptStalled { task, .. }
            | Fact::AttemptFailed { task, .. }
            | Fact::MergeParked { task, .. }
            | Fact::Rebased { task, .. }
            | Fact::Merged { task, .. } => self.apply_to_attempt(task, &recorded.fact, at),
            Fact::ResultKept { task, origin } => self.keep_result(task, origin),
            Fact::ResultReused { task, run, report, then } => self.reuse_result(task, *run, (report, then), at),
            Fact::ReportAccepted { report, then } => self.accept_report(report, then, at),
            Fact::ReworkAsked { task, run } => {
                self.rework(task, *run)?;
                self.note_turn(task);
                Ok(())
            }
            Fact::Github(fact) => self.github.apply(fact, at),
            Fact::ReportStale { .. } | Fact::TeamChanged { .. } | Fact::TeamFound { .. } => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one fact")]
    fn accept(
        &mut self,
        at: Timestamp,
        task: &TaskId,
        origin: &Origin,
        spec: &TaskSpec,
        fingerprint: &str,
        target: Option<&String>,
        run: RunId,
    ) -> Result<(), IllegalFact> {
        if let Some(record) = self.tasks.get(task) {
            return Err(illegal("task-accepted", task, record.phase.name().to_owned()));
        }
        self.accepted += 1;
        self.ids += 1;
        let record = TaskRecord {
            seq: self.accepted,
            origin: origin.clone(),
            detached: false,
            spec: spec.clone(),
            fingerprint: fingerprint.to_owned(),
            pending: None,
            target: target.cloned(),
            accepted_at: at,
            since: Some(at),
            sla_missed: false,
            run,
            stage: 0,
            rounds: 0,
            people_rounds: 0,
            asks: Vec::new(),
            reports: BTreeMap::new(),
            merged: None,
            turn: None,
            rebased: None,
            rebases: 0,
            no_cache: false,
            reused: None,
            attempt: 0,
            failures: 0,
            failed: BTreeMap::new(),
            occurrence: None,
            diagnosis: None,
            is_scheduled: false,
            phase: Phase::Waiting { not_before: None },
            attempts: Vec::new(),
            spent: None,
            unreported: Vec::new(),
        };
        self.tasks.insert(task.clone(), record);
        if let Origin::Healer { of, run } = origin {
            healing::note(&mut self.tasks, of, *run, task);
        }
        Ok(())
    }

    fn apply_to_task(&mut self, task: &TaskId, fact: &Fact, at: Timestamp) -> Result<(), IllegalFact> {
        // Only a fact that is refused is told.
        let refused = |state: &str| illegal(fact.tell().kind, task, state.to_owned());
        let record = self.tasks.get_mut(task).ok_or_else(|| refused("unknown"))?;
        match (fact, &record.phase) {
            (Fact::TaskReplaced { spec, fingerprint, .. }, Phase::Waiting { .. }) if record.merged.is_some() => {
                record.spec.every.clone_from(&spec.every);
                record.pending = Some(((**spec).clone(), fingerprint.clone()));
                record.detached = false;
            }
            (Fact::TaskReplaced { spec, fingerprint, target, .. }, Phase::Waiting { .. }) => {
                record.is_scheduled &= record.spec.every == spec.every;
                record.replace((**spec).clone(), fingerprint.clone());
                record.target.clone_from(target);
                record.pending = None;
                record.detached = false;
            }
            (Fact::TaskDeferred { spec, fingerprint, .. }, Phase::Queued | Phase::Merging { .. })
            | (
                Fact::TaskDeferred { spec, fingerprint, .. },
                Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. },
            ) => {
                // When it comes again is not of this run but of the next one.
                record.spec.every.clone_from(&spec.every);
                record.pending = (record.fingerprint != *fingerprint || record.spec != **spec)
                    .then(|| ((**spec).clone(), fingerprint.clone()));
                record.detached = false;
            }
            (Fact::TaskDetached { .. }, _) => record.detached = true,
            (Fact::TaskReattached { .. }, _) => record.detached = false,
            (Fact::RunScheduled { at: begins, .. }, Phase::Waiting { .. }) => {
                record.begin_anew();
                record.occurrence = Some(*begins);
                record.is_scheduled = true;
                record.since = Some((*begins).max(at));
                record.phase = Phase::Waiting { not_before: Some(*begins) };
            }
            (Fact::SlaMissed { .. }, Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. }) => {
                record.sla_missed = true;
            }
            (
                Fact::TaskRetried { run, target, no_cache, .. },
                Phase::Waiting { .. }
                | Phase::Merging { .. }
                | Phase::Done { .. }
                | Phase::Failed { .. }
                | Phase::Cancelled { .. },
            ) => {
                record.begin_run();
                record.no_cache = *no_cache;
                if let Some(on) = self.github.tasks.get_mut(task) {
                    // It was said of what the run before has made.
                    on.asked.clear();
                }
                record.run = *run;
                record.target.clone_from(target);
                record.since = Some(at);
                self.ids += 1;
            }
            (
                Fact::TaskCancelled { reason, .. },
                Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } | Phase::Failed { .. },
            ) => {
                record.settle(at, "cancelled", Some(reason.clone()));
                record.phase = Phase::Cancelled { at, reason: reason.clone() };
            }
            (_, phase) => return Err(refused(phase.name())),
        }
        self.note_turn(task);
        Ok(())
    }

    /// Gives whoever begins to wait for its merge its turn, and takes it from whoever does not wait any more.
    pub(super) fn note_turn(&mut self, task: &TaskId) {
        let Some(record) = self.tasks.get_mut(task) else { return };
        match (record.waits_for_merge(), record.turn) {
            (true, None) => {
                self.turns += 1;
                record.turn = Some(self.turns);
            }
            (false, Some(_)) => record.turn = None,
            (true, Some(_)) | (false, None) => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "apply names every variant; this is its part on attempts")]
    fn apply_to_attempt(&mut self, task: &TaskId, fact: &Fact, at: Timestamp) -> Result<(), IllegalFact> {
        let told = fact.tell();
        let record = self.tasks.get_mut(task).ok_or_else(|| illegal(told.kind, task, "unknown".to_owned()))?;
        let state = format!("{} at attempt {}", record.phase.name(), record.attempt);
        let wrong = || illegal(told.kind, &format!("{task} attempt {:?}", told.attempt), state);
        let expected = match fact {
            Fact::AttemptQueued { .. } => record.attempt + 1,
            _ => record.attempt,
        };
        if told.attempt.is_some_and(|attempt| attempt != expected) {
            return Err(wrong());
        }
        match (fact, &record.phase) {
            (Fact::AttemptQueued { run, stage, attempt, agent, envelope, .. }, Phase::Waiting { .. })
                if *run == record.run =>
            {
                self.agents.entry(agent.clone()).or_default().last_order = Some((task.clone(), *envelope));
                record.attempt = *attempt;
                record.phase = Phase::Queued;
                record.attempts.push(AttemptRecord::queued(*attempt, stage.clone(), agent.clone(), *envelope, at));
                if record.attempts.len() > ATTEMPTS_KEPT_MAX {
                    record.attempts.remove(0);
                }
                self.ids += 1;
            }
            (Fact::AttemptStarted { incarnation, .. }, Phase::Queued) => {
                if let Some(current) = record.attempts.last_mut() {
                    current.started = Some((at, *incarnation));
                }
            }
            (Fact::AttemptStalled { .. }, Phase::Queued) => {}
            (Fact::AttemptWithdrawn { attempt, reason, not_before, .. }, Phase::Queued) => {
                record.settle(at, WITHDRAWN, Some(reason.clone()));
                record.note_unreported(*attempt);
                record.phase = Phase::Waiting { not_before: *not_before };
                record.take_pending();
            }
            (Fact::AttemptFailed { attempt, cause, reason, then, .. }, Phase::Queued | Phase::Merging { .. }) => {
                record.settle(at, "failed", Some(reason.clone()));
                if let AttemptCause::Conflict = cause {
                    record.note_conflict(reason);
                }
                match cause {
                    AttemptCause::Crashed | AttemptCause::Overdue | AttemptCause::Stalled | AttemptCause::Lost => {
                        record.note_unreported(*attempt);
                    }
                    AttemptCause::Conflict | AttemptCause::Reported { .. } => record.unreported.clear(),
                }
                record.fail(cause.class());
                record.follow(then, at, reason, None);
                if !matches!(cause, AttemptCause::Conflict) {
                    self.note_outcome(task, false);
                }
            }
            (Fact::MergeParked { reason, .. }, Phase::Merging { .. }) => {
                record.phase = Phase::Merging { parked: Some(reason.clone()) };
            }
            (Fact::Rebased { commit, onto, .. }, Phase::Merging { .. }) => record.rebase(commit, onto),
            (Fact::Merged { commit, next: None, .. }, Phase::Merging { .. }) => {
                record.phase = Phase::Done { at, commit: Some(commit.clone()) };
            }
            (Fact::Merged { commit, next: Some(stage), .. }, Phase::Merging { .. }) => {
                record.merged = Some(commit.clone());
                record.enter_stage(*stage);
                record.phase = Phase::Waiting { not_before: None };
            }
            _ => return Err(wrong()),
        }
        self.note_turn(task);
        Ok(())
    }

    /// Finds the task whose current attempt has this order.
    #[must_use]
    pub fn open_order(&self, envelope: EnvelopeId) -> Option<&TaskId> {
        self.tasks
            .iter()
            .find(|(_, record)| {
                record.phase == Phase::Queued && record.current().is_some_and(|current| current.envelope == envelope)
            })
            .map(|(task, _)| task)
    }
}

impl AttemptRecord {
    /// An attempt whose order is intended.
    const fn queued(
        attempt: u32,
        stage: StageName,
        agent: AgentId,
        envelope: EnvelopeId,
        queued_at: Timestamp,
    ) -> Self {
        Self {
            attempt,
            stage,
            agent,
            envelope,
            queued_at,
            started: None,
            ended_at: None,
            outcome: None,
            reason: None,
            report: None,
        }
    }
}

impl TaskRecord {
    fn note_unreported(&mut self, attempt: u32) {
        self.unreported.insert(0, attempt);
        self.unreported.truncate(UNREPORTED_MAX);
    }
}

pub(super) fn illegal(fact: &'static str, subject: &impl ToString, state: String) -> IllegalFact {
    IllegalFact { fact, subject: subject.to_string(), state }
}
