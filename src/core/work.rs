//! Attempts: handing out orders, taking reports, merging what was proven.

use std::time::Duration;

use crate::model::beat::Activity;
use crate::model::id::{AgentId, EnvelopeId, TaskId};
use crate::model::order::{Previous, WORK_ORDER_SCHEMA, WorkOrder, Workplace};
use crate::model::report::{CheckResult, FailureKind, Outcome, Report};
use crate::model::stage::StageKind;
use crate::model::task::{NoChange, RepositoryChoice};
use crate::model::time::Timestamp;

use super::Core;
use super::effect::{Effect, Retire, Stop};
use super::event::OrderPlace;
use super::fact::{AttemptCause, DownCause, Fact, Then};
use super::liveness::Liveness;
use super::liveness::table::News;
use super::state::{Phase, TaskRecord};

/// How long an order may lie unleased before it is looked for.
pub(super) const INSPECT_AFTER: Duration = Duration::from_secs(30);

/// How long a task waits after an attempt for which the disk had no room.
const LATER: Duration = Duration::from_secs(10);

/// The longest that an agent's word on when to try again is taken for.
const RETRY_AT_MAX: Duration = Duration::from_hours(24 * 8);

/// How many looks in a row may find an order finished without a report before the attempt counts as lost.
const STRIKES_MAX: u8 = 2;

/// The time that everything around an agent's program may take on top of its limit.
const OVERHEAD: Duration = Duration::from_secs(120);

/// What is watched about an order that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OrderWatch {
    pub(super) envelope: EnvelopeId,
    pub(super) inspect_at: Timestamp,
    pub(super) strikes: u8,
    pub(super) struck_at: Timestamp,
    /// How long its attempt has been seen to run; unlike the clock, this does not leap when the machine was suspended.
    pub(super) ran: Duration,
}

/// Returns the branch of one attempt.
#[must_use]
pub fn branch_of(task: &TaskId, record: &TaskRecord, stage: &str, attempt: u32) -> String {
    format!("miyabi/{task}/{}/{stage}-{attempt}", record.run)
}

impl Core {
    /// Says whether an agent may be given an order.
    pub(super) fn is_free(&self, agent: &AgentId) -> bool {
        let Some(spec) = self.plan.agent(agent) else { return false };
        if !spec.takes_work()
            || self.hold_of(agent).is_some()
            || self.index.open_order(agent).is_some()
            || self.has_stray_order(agent)
        {
            return false;
        }
        let Some(live) = self.agents.get(agent) else { return false };
        if live.outdated {
            return false;
        }
        match &live.state {
            Liveness::Up { activity: Activity::Idle, .. } => true,
            Liveness::Up { activity: Activity::Busy { order, .. }, .. } => live.finished == Some(*order),
            Liveness::Up { .. }
            | Liveness::Absent
            | Liveness::Spawning { .. }
            | Liveness::Starting { .. }
            | Liveness::Suspect { .. }
            | Liveness::Stopping { .. }
            | Liveness::Clearing { .. }
            | Liveness::BackingOff { .. }
            | Liveness::Held(_) => false,
        }
    }

    /// Begins an attempt.
    pub(super) fn order(&mut self, task: &TaskId, agent: &AgentId) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let (run, attempt, stage) = (record.run, record.attempt + 1, self.stage_name(record));
        let envelope = EnvelopeId(self.fresh_id());
        self.record(Fact::AttemptQueued { task: task.clone(), run, stage, attempt, agent: agent.clone(), envelope });
        self.watch_order(task, envelope);
        self.deliver(task);
    }

    pub(super) fn watch_order(&mut self, task: &TaskId, envelope: EnvelopeId) {
        let inspect_at = self.now + INSPECT_AFTER;
        let watch = OrderWatch { envelope, inspect_at, strikes: 0, struck_at: self.now, ran: Duration::ZERO };
        self.orders.insert(task.clone(), watch);
    }

    /// Asks for the envelope of a task's current attempt to be written; asking twice writes one.
    pub(super) fn deliver(&mut self, task: &TaskId) {
        if let Some(order) = self.work_order(task) {
            self.push(Effect::DeliverOrder(Box::new(order)));
        }
    }

    /// Builds the work order of a task's current attempt, always the same from the same state.
    fn work_order(&self, task: &TaskId) -> Option<WorkOrder> {
        let record = self.durable.tasks.get(task)?;
        let current = record.current()?;
        let timeout = record
            .spec
            .timeout
            .or_else(|| self.plan.agent(&current.agent).map(|spec| spec.timeout))
            .unwrap_or(Duration::from_secs(2_700));
        let (checks, detect_check) = match record.stage() {
            StageKind::Code | StageKind::Recheck => self.checks_of(record),
            StageKind::Review | StageKind::PullRequest | StageKind::Deploy => (Vec::new(), false),
        };
        let workplace = match &record.spec.repository {
            RepositoryChoice::None => None,
            RepositoryChoice::Named(name) => {
                let repository = self.plan.repository(name)?;
                Some(Workplace {
                    repository: name.clone(),
                    path: repository.path.clone(),
                    target: record.target.clone()?,
                    branch: branch_of(task, record, current.stage.as_str(), current.attempt),
                    start: Self::start_of(record),
                    detect_check,
                    protected: repository.protected.clone(),
                })
            }
        };
        Some(WorkOrder {
            schema: WORK_ORDER_SCHEMA.to_owned(),
            id: current.envelope,
            task: task.clone(),
            run: record.run,
            stage: current.stage.clone(),
            attempt: current.attempt,
            agent: current.agent.clone(),
            work: self.work_at(task, record),
            checks,
            no_change: expected_change(record),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            priority: record.spec.priority,
            workplace,
            previous: previous(task, record),
            expects: Self::expects(record),
            rounds: record.rounds,
            inputs: Self::inputs_of(record),
            queued_at: current.queued_at,
        })
    }

    /// Returns the commands that prove a task's commit, and whether the usual one of the project's type does.
    pub(super) fn checks_of(&self, record: &TaskRecord) -> (Vec<String>, bool) {
        let repository = match &record.spec.repository {
            RepositoryChoice::None => None,
            RepositoryChoice::Named(name) => self.plan.repository(name),
        };
        let of_repository = repository.into_iter().flat_map(|repository| repository.checks.iter().flatten());
        let commands: Vec<String> = of_repository.chain(&record.spec.checks).cloned().collect();
        let detects = repository.is_some_and(|repository| repository.checks.is_none()) && record.spec.checks.is_empty();
        (commands, detects)
    }

    /// Notes that an agent's beat speaks of an order for the first time.
    pub(super) fn note_started(&mut self, agent: &AgentId, activity: &Activity) {
        let Some(order) = activity.order() else { return };
        let Some((task, envelope)) = self.index.open_order(agent) else { return };
        let task = task.clone();
        if envelope != order {
            return;
        }
        let Some(current) = self.durable.tasks.get(&task).and_then(TaskRecord::current) else { return };
        if current.started.is_none() {
            let (attempt, incarnation) = (current.attempt, self.incarnation(agent));
            self.record(Fact::AttemptStarted { task, attempt, incarnation });
        }
    }

    pub(super) fn on_report(&mut self, report: &Report, receipt: String) {
        let known = self.durable.tasks.get(&report.task);
        let current = known.and_then(|record| record.current());
        let stale = match (known, current) {
            (None, _) => Some("no such task".to_owned()),
            (Some(_), None) => Some("the task has had no attempt in this run".to_owned()),
            (Some(record), Some(current)) => {
                if current.report.as_ref().is_some_and(|held| held.order == report.order) {
                    // The same report again: its acknowledgement was lost. Nothing to record.
                    self.push(Effect::AckReport { receipt });
                    return;
                }
                let fits = record.phase == Phase::Queued
                    && record.run == report.run
                    && current.attempt == report.attempt
                    && current.envelope == report.order
                    && current.agent == report.agent;
                (!fits).then(|| format!("the task is {} at attempt {}", record.phase.name(), record.attempt))
            }
        };
        if let Some(reason) = stale {
            self.record(Fact::ReportStale { task: report.task.clone(), attempt: report.attempt, reason });
            self.push(Effect::AckReport { receipt });
            return;
        }
        let then = self.judge(report);
        let (agent, order) = (report.agent.clone(), report.order);
        self.record(Fact::ReportAccepted { report: Box::new(report.clone()), then: then.clone() });
        self.keep_result(&report.task, report, &then);
        self.note_strike(report);
        self.orders.remove(&report.task);
        self.push(Effect::AckReport { receipt });
        self.retire(&agent, order, &report.task, Retire::Done);
        if let Some(live) = self.agents.get_mut(&agent) {
            live.finished = Some(order);
        }
        self.heal(&report.task);
    }

    /// Decides what follows a report that fits the current attempt. A claim is checked against its proof.
    fn judge(&self, report: &Report) -> Then {
        let Some(record) = self.durable.tasks.get(&report.task) else { return Then::GiveUp };
        let proven = report.checks.iter().all(CheckResult::passed);
        let in_repository = record.needs_repository();
        match (record.stage(), report.outcome) {
            (StageKind::Review, Outcome::Done) | (StageKind::PullRequest, Outcome::Done | Outcome::NoChange) => {
                return self.after_stage(record);
            }
            (StageKind::Deploy, Outcome::Done | Outcome::NoChange) => return Then::Done,
            (StageKind::Review, Outcome::ChangesRequested) => return self.after_objections(record),
            (StageKind::Review, Outcome::NoChange | Outcome::Failed)
            | (StageKind::PullRequest | StageKind::Deploy, Outcome::ChangesRequested | Outcome::Failed) => {
                return self.after_failure(record, report);
            }
            (StageKind::Recheck, _) => return self.after_recheck(record, report),
            (StageKind::Code, _) => {}
        }
        match report.outcome {
            Outcome::Done if proven && in_repository && report.commit.is_some() => self.after_stage(record),
            Outcome::Done if proven && !in_repository => Then::Done,
            Outcome::Done | Outcome::NoChange
                if proven && report.commit.is_none() && expected_change(record) == NoChange::Ok =>
            {
                Then::Done
            }
            Outcome::NoChange if proven && !in_repository => Then::Done,
            Outcome::Done | Outcome::NoChange | Outcome::ChangesRequested | Outcome::Failed => {
                self.after_failure(record, report)
            }
        }
    }

    /// Decides what follows a report that proves nothing.
    pub(super) fn after_failure(&self, record: &TaskRecord, report: &Report) -> Then {
        let kind = report.failure.unwrap_or(FailureKind::AgentFailed);
        match (self.retry(record, AttemptCause::Reported { kind }), report.retry_at) {
            // The agent knows better than we from when on it is worth a try, within reason.
            (Then::Retry { not_before }, Some(retry_at)) if retry_at > not_before => {
                Then::Retry { not_before: retry_at.min(self.now + RETRY_AT_MAX) }
            }
            (then, _) => then,
        }
    }

    /// Decides whether another attempt follows a failure, and when.
    pub(super) fn retry(&self, record: &TaskRecord, cause: AttemptCause) -> Then {
        let policy = &record.spec.retry;
        if cause.class().is_some_and(|class| !policy.allows(class, record.failures, &record.failed)) {
            return Then::GiveUp;
        }
        let wait = match cause {
            // Nothing about the task is known to be wrong, so nothing is gained by waiting.
            AttemptCause::Crashed | AttemptCause::Lost | AttemptCause::Conflict => Duration::ZERO,
            AttemptCause::Reported { kind: FailureKind::NoSpace } => LATER,
            AttemptCause::Overdue | AttemptCause::Stalled | AttemptCause::Reported { .. } => {
                policy.wait(record.failures)
            }
        };
        Then::Retry { not_before: self.now + wait }
    }

    /// Ends a task's current attempt without a report.
    pub(super) fn fail(&mut self, task: &TaskId, cause: AttemptCause, reason: String) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let (attempt, then) = (record.attempt, self.retry(record, cause));
        self.record(Fact::AttemptFailed { task: task.clone(), attempt, cause, reason, then });
        self.orders.remove(task);
        self.heal(task);
    }

    /// Takes an attempt back, which counts for nothing, and its order out of its mailbox.
    pub(super) fn withdraw(&mut self, task: &TaskId, reason: &str, not_before: Option<Timestamp>) {
        let Some(record) = self.durable.tasks.get(task) else { return };
        let attempt = record.attempt;
        let order = record.current().map(|current| (current.agent.clone(), current.envelope));
        self.record(Fact::AttemptWithdrawn { task: task.clone(), attempt, reason: reason.to_owned(), not_before });
        self.orders.remove(task);
        if let Some((agent, envelope)) = order {
            self.retire(&agent, envelope, task, Retire::Dead { reason: reason.to_owned() });
        }
    }

    /// Decides what becomes of the order of an agent of which nothing runs any more.
    pub(super) fn settle_order_of_dead_agent(
        &mut self,
        agent: &AgentId,
        cause: &DownCause,
        place: Option<OrderPlace>,
        restarts_now: bool,
    ) {
        let Some((task, envelope)) = self.index.open_order(agent) else { return };
        let task = task.clone();
        let begun = match place {
            Some(OrderPlace::New) => false,
            // Intended and not yet written, or taken away after it was begun: the same envelope is never written again.
            Some(OrderPlace::Missing) => self.has_begun_order(agent),
            Some(OrderPlace::Leased(_) | OrderPlace::Done | OrderPlace::Dead) | None => true,
        };
        match (begun, cause) {
            (false, _) if restarts_now => {
                if place == Some(OrderPlace::Missing) {
                    self.deliver(&task);
                }
            }
            (false, _) => {
                self.withdraw(&task, &format!("{agent} {}", cause.text()), None);
            }
            (true, DownCause::Operator | DownCause::Drain | DownCause::Removed | DownCause::Reconfigured) => {
                self.withdraw(&task, &format!("interrupted: {agent} {}", cause.text()), None);
            }
            (
                true,
                DownCause::Clean
                | DownCause::PaneDied
                | DownCause::StartTimeout
                | DownCause::Silent
                | DownCause::Overdue
                | DownCause::Stalled
                | DownCause::SpawnFailed { .. }
                | DownCause::Lost,
            ) => {
                let kind = match cause {
                    DownCause::Overdue => AttemptCause::Overdue,
                    DownCause::Stalled => AttemptCause::Stalled,
                    DownCause::Clean
                    | DownCause::PaneDied
                    | DownCause::StartTimeout
                    | DownCause::Silent
                    | DownCause::SpawnFailed { .. }
                    | DownCause::Operator
                    | DownCause::Drain
                    | DownCause::Removed
                    | DownCause::Reconfigured
                    | DownCause::Lost => AttemptCause::Crashed,
                };
                let reason = format!("{agent} {}", cause.text());
                self.fail(&task, kind, reason.clone());
                self.retire(agent, envelope, &task, Retire::Dead { reason });
            }
        }
    }

    /// Looks after the orders that are open: none may stay so beyond its bounds.
    pub(super) fn wake_orders(&mut self) {
        if self.frozen.is_some() {
            return;
        }
        let due: Vec<(TaskId, EnvelopeId)> = self
            .orders
            .iter()
            .filter(|(_, watch)| watch.inspect_at <= self.now)
            .map(|(task, watch)| (task.clone(), watch.envelope))
            .collect();
        for (task, envelope) in due {
            let now = self.now;
            let Some(record) = self.durable.tasks.get(&task) else { continue };
            let Some(current) = record.current() else { continue };
            let agent = current.agent.clone();
            let patience = self.patience(record);
            let Some(watch) = self.orders.get_mut(&task) else { continue };
            watch.inspect_at = now + INSPECT_AFTER;
            if let Some(patience) = patience {
                watch.ran += INSPECT_AFTER;
                if watch.ran >= patience {
                    self.stop(&agent, News::Hopeless, DownCause::Overdue, Stop::Kill);
                }
            }
            self.push(Effect::InspectOrder { agent, envelope });
        }
    }

    /// Returns how long an attempt that was begun may run before it is beyond everything that its limits allow.
    fn patience(&self, record: &TaskRecord) -> Option<Duration> {
        record.current()?.started?;
        let spec = self.plan.agent(&record.current()?.agent)?;
        let limit = record.spec.timeout.unwrap_or(spec.timeout);
        let checks = match &record.spec.repository {
            RepositoryChoice::None => 0,
            // A check that is detected is one.
            RepositoryChoice::Named(name) => {
                self.plan.repository(name).map_or(0, |found| found.checks.as_ref().map_or(1, Vec::len))
            }
        } + record.spec.checks.len();
        let turns = u32::try_from(checks).unwrap_or(u32::MAX).saturating_add(1);
        Some(limit.saturating_add(spec.stop_timeout).saturating_mul(turns).saturating_add(OVERHEAD))
    }

    pub(super) fn on_inspected(&mut self, agent: &AgentId, envelope: EnvelopeId, place: OrderPlace) {
        let Some((task, open)) = self.index.open_order(agent) else { return };
        let task = task.clone();
        if open != envelope {
            return;
        }
        match place {
            OrderPlace::Missing => self.deliver(&task),
            OrderPlace::New => {}
            // Its holder works on it, or has not found time to say so.
            OrderPlace::Leased(holder) if holder == self.incarnation(agent) && !self.has_rested(agent, &task) => {}
            // It is in hands that are no more or know nothing of it, or finished without a report. A report may be on
            // its way, so look twice.
            OrderPlace::Leased(_) | OrderPlace::Done | OrderPlace::Dead => self.strike(agent, &task, envelope),
        }
    }

    /// Says whether an agent has told, since its order was last found misplaced, that it does nothing.
    fn has_rested(&self, agent: &AgentId, task: &TaskId) -> bool {
        let Some(watch) = self.orders.get(task) else { return false };
        self.agents.get(agent).is_some_and(|live| live.state.is_idle_since(watch.struck_at))
    }

    /// Notes that an order was found where it does not belong; the second time its attempt is lost.
    fn strike(&mut self, agent: &AgentId, task: &TaskId, envelope: EnvelopeId) {
        let now = self.now;
        let Some(watch) = self.orders.get_mut(task) else { return };
        // What is told twice was seen once.
        if now.since(watch.struck_at) < INSPECT_AFTER / 2 {
            return;
        }
        watch.strikes += 1;
        watch.struck_at = now;
        if watch.strikes >= STRIKES_MAX {
            self.fail(task, AttemptCause::Lost, "its order ended without a report".to_owned());
            let how = Retire::Dead { reason: "ended without a report".to_owned() };
            self.retire(agent, envelope, task, how);
        }
    }
}

/// Says whether an attempt may end without a commit: one that comes back from a review may not, or its work would be lost.
fn expected_change(record: &TaskRecord) -> NoChange {
    let is_code = record.stage() == StageKind::Code;
    if !is_code {
        return NoChange::Ok;
    }
    if record.holds_change() { NoChange::Refused } else { record.spec.no_change }
}

fn previous(task: &TaskId, record: &TaskRecord) -> Option<Previous> {
    let earlier = record.repeated()?;
    let stage = earlier.stage.as_str();
    // What was proven and did not hold where it would be merged: there are the checks and the change.
    let report = record.failed_recheck(earlier).or(earlier.report.as_deref());
    Some(Previous {
        attempt: earlier.attempt,
        reason: earlier.reason.clone().unwrap_or_default(),
        output: earlier.report.as_deref().map(|report| report.output.clone()).unwrap_or_default(),
        checks: report.map(|report| report.checks.clone()).unwrap_or_default(),
        diff: report.map(|report| report.diff.clone()).unwrap_or_default(),
        unreported: record.unreported.iter().map(|attempt| branch_of(task, record, stage, *attempt)).collect(),
    })
}
