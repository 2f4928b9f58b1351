//! What must always hold, looked at after every step, and what must hold at the end.

use std::collections::{BTreeMap, BTreeSet};

use miyabi::core::effect::Merge;
use miyabi::core::event::{Event, Evidence, MergeResult};
use miyabi::core::fact::{Budget, DownCause, Fact, Keyed, Recorded, Then};
use miyabi::core::merging::REBASES_MAX;
use miyabi::core::snapshot::TaskState;
use miyabi::core::state::{Phase, TaskRecord};
use miyabi::model::agent::AgentSpec;
use miyabi::model::alert::Alert;
use miyabi::model::id::{AgentId, EnvelopeId, Incarnation, RepositoryName, RunId, TaskId};
use miyabi::model::plan::MergeMode;
use miyabi::model::report::{CheckResult, FailureKind, Outcome, Report};
use miyabi::model::request::RequestId;
use miyabi::model::stage::StageKind;
use miyabi::model::task::{Cache, FailureClass, OnFailure, TaskSpec};
use miyabi::model::time::Timestamp;

use super::agent::repository_of;
use super::program::Program;
use super::world::{HOUR, World};

/// How many turns the supervisor may have in an hour in which nothing happens, beside one per beat.
const REST_TIMEOUTS_PER_HOUR_MAX: u64 = 60;

/// What the checkers remember.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) violation: Option<String>,
    pub(super) turns: u64,
    pub(super) timeouts: u64,
    pub(super) facts: u64,
    pub(super) spawns: u64,
    pub(super) programs: u64,
    pub(super) nudges: u64,
    /// How often an earlier result was taken.
    pub(super) reused: u64,
    /// By order, of which work and by whom, as they were then, a report is.
    reported: BTreeMap<EnvelopeId, (TaskSpec, Option<AgentSpec>)>,
    /// On which commit git has found a result for a run.
    pub(super) found: BTreeMap<(TaskId, RunId), String>,
    /// Orders that could not be taken out of their mailboxes yet.
    pub(super) retire_failed: BTreeSet<EnvelopeId>,
    /// Alerts that the operator's program was told of, since they were raised.
    told: BTreeSet<String>,
    rest: Option<Rest>,
    /// Why the newest attempt of an agent failed of which this supervisor has taken the report.
    pub(super) struck: BTreeMap<AgentId, Option<FailureKind>>,
    /// When restarts were counted, since the budget began anew.
    restarts: BTreeMap<AgentId, Vec<Timestamp>>,
    /// Whose settings were changed, or who was not in the team for a while.
    pub(super) touched: BTreeSet<AgentId>,
    failures: BTreeMap<RunId, BTreeMap<Option<FailureClass>, u32>>,
    /// How many reviews of a run have asked for changes, by what was asked for: another text begins anew.
    pub(super) rounds: BTreeMap<(RunId, String), u32>,
    /// Whose work is finished and not merged, in the order in which it was finished.
    pub(super) lines: BTreeMap<RepositoryName, Vec<(TaskId, RunId)>>,
    /// Commits whose checks have passed, and the commits below them.
    pub(super) proven: BTreeSet<(String, String)>,
    /// Commits that a review let pass.
    pub(super) reviewed: BTreeSet<(RunId, String)>,
    /// What was seen of an agent since its newest beat.
    looks: BTreeMap<(AgentId, Incarnation), Vec<Evidence>>,
    beaten: BTreeMap<(AgentId, Incarnation), u64>,
    /// Since when runners hang while their programs wait: true time, the life of the supervisor, and the leaps of the clock.
    pub(super) hanging: BTreeMap<u32, (i64, u64, u64)>,
    /// Whose pane was alive when what it had left was cleared.
    pub(super) cleared_alive: BTreeSet<(AgentId, Incarnation)>,
    /// What had been seen when an agent was first killed.
    signs: BTreeMap<(AgentId, Incarnation), Vec<Evidence>>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    timeouts: u64,
    facts: u64,
    spawns: u64,
}

impl Checks {
    /// Notes what must not have happened; the first such thing counts.
    pub(super) fn fail(&mut self, text: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(text.into());
        }
    }

    pub(super) fn begin_rest(&mut self) {
        self.rest = Some(Rest { timeouts: self.timeouts, facts: self.facts, spawns: self.spawns });
    }

    /// Called when an agent is killed.
    pub(super) fn on_kill(&mut self, agent: &AgentId, incarnation: Incarnation) {
        let key = (agent.clone(), incarnation);
        let looks = self.looks.get(&key).cloned().unwrap_or_default();
        self.signs.entry(key).or_insert(looks);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only these two kinds are signs of life")]
    pub(super) fn on_event(&mut self, event: &Event) {
        match event {
            Event::BeatsSeen(beats) => {
                for beat in beats {
                    let key = (beat.agent.clone(), beat.incarnation);
                    if self.beaten.get(&key).is_none_or(|newest| *newest < beat.sequence) {
                        self.beaten.insert(key.clone(), beat.sequence);
                        self.looks.remove(&key);
                    }
                }
            }
            Event::Probed { agent, incarnation, evidence: Some(evidence) } => {
                self.looks.entry((agent.clone(), *incarnation)).or_default().push(*evidence);
            }
            _ => {}
        }
    }
}

impl World {
    /// At most one live pane of an agent, and one live program of an attempt's stage.
    pub(super) fn check_world(&mut self) {
        let mut living: BTreeSet<&AgentId> = BTreeSet::new();
        for pane in self.panes.values().filter(|pane| pane.alive) {
            if !living.insert(&pane.agent) {
                let text = format!("{} has two live panes", pane.agent);
                return self.checks.fail(text);
            }
        }
    }

    /// Called when a program is about to begin.
    pub(super) fn check_program(&mut self, program: &Program) {
        if !program.is_agent {
            return;
        }
        let other = self
            .programs
            .values()
            .find(|other| other.run == program.run && other.stage == program.stage && other.order != program.order);
        if let Some(other) = other {
            let text = format!(
                "two live attempts of run {}: {} at {} and {} at {}",
                program.run, other.order, other.agent, program.order, program.agent
            );
            self.checks.fail(text);
        }
    }

    /// Called when a pane is about to be made: its number must be durable.
    pub(super) fn check_spawn(&mut self, agent: &AgentId, incarnation: Incarnation) {
        let known = self.shadow.agents.get(agent).map_or(Incarnation(0), |record| record.incarnation);
        if known < incarnation {
            self.checks.fail(format!("{agent}#{incarnation} is started, but its number is not recorded"));
        }
    }

    /// Called when an order is about to be written: its intent must be durable.
    pub(super) fn check_delivery(&mut self, envelope: EnvelopeId) {
        if self.shadow.open_order(envelope).is_none() {
            self.checks.fail(format!("order {envelope} is written, but not intended"));
        }
    }

    /// Called after a turn whose effects are done: nobody can lease an order whose attempt has ended.
    pub(super) fn check_mailboxes(&mut self) {
        for agent in self.full.agents.iter().map(|agent| agent.id.clone()).collect::<Vec<_>>() {
            let stray =
                self.spool.open(&agent).into_iter().find(|order| {
                    self.shadow.open_order(*order).is_none() && !self.checks.retire_failed.contains(order)
                });
            if let Some(order) = stray {
                self.checks.fail(format!("{agent} still has order {order}, whose attempt has ended"));
            }
        }
    }

    /// Called after a turn whose effects are done: whoever was struck by a limit has its alert, until its next attempt was not.
    pub(super) fn check_strikes(&mut self) {
        let Some(core) = &self.core else { return };
        // Whoever leaves the team takes its alerts along.
        self.checks.struck.retain(|agent, _| core.plan().agent(agent).is_some());
        let kinds = [("out-of-memory", FailureKind::OutOfMemory), ("tasks-limit", FailureKind::TasksLimit)];
        for (agent, failure) in self.checks.struck.clone() {
            for (name, kind) in kinds {
                let due = failure == Some(kind) && core.plan().agent(&agent).is_some();
                let key = format!("{name}/{agent}");
                if self.shadow.alerts.contains_key(&key) != due && core.plan().agent(&agent).is_some() {
                    return self.checks.fail(format!("the alert {key} does not say that {agent} had {failure:?}"));
                }
            }
        }
    }

    pub(super) fn check_mailbox(&mut self, agent: &AgentId) {
        let open = self.spool.open(agent);
        if open.len() > 1 {
            self.checks.fail(format!("{agent} has several open orders: {open:?}"));
        }
    }

    pub(super) fn check_answer(&mut self, id: RequestId) {
        if self.requests.insert(id, true) != Some(false) {
            self.checks.fail(format!("request {id:?} was answered twice"));
        }
    }

    pub(super) fn check_exit(&mut self) {
        if let Some(pane) = self.panes.values().find(|pane| pane.alive) {
            let text = format!("the supervisor ends while {} runs", pane.agent);
            self.checks.fail(text);
        }
    }

    /// Called when a fact is about to become durable; the shadow is the state before it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other facts have no rule of their own here")]
    pub(super) fn check_fact(&mut self, recorded: &Recorded) {
        match &recorded.fact {
            Fact::SpawnRequested { agent, incarnation, budget } => {
                if self.shadow.frozen.is_some() {
                    self.checks.fail(format!("{agent}#{incarnation} is started while everything is frozen"));
                }
                self.check_restart(agent, *incarnation, *budget, recorded.at);
            }
            Fact::AgentReleased { agent } => {
                self.checks.restarts.remove(agent);
            }
            Fact::AgentDown { agent, incarnation, cause, .. } => {
                self.check_down(agent, *incarnation, cause);
                self.check_change(agent, cause);
                if *cause == DownCause::Operator {
                    self.checks.restarts.remove(agent);
                }
            }
            Fact::AttemptQueued { task, agent, stage, envelope, .. } => {
                self.check_no_other_order(task, *envelope);
                if self.shadow.frozen.is_some() {
                    self.checks.fail(format!("{task} is begun while everything is frozen"));
                }
                if self.shadow.alerts.contains_key("low-disk") {
                    self.checks.fail(format!("{task} is begun while the disk has no room"));
                }
                self.check_queued(task, agent);
                self.check_admission(task, agent);
                self.check_stage(task, stage, agent);
            }
            Fact::ResultReused { task, report, .. } => self.check_reuse(task, report),
            Fact::TaskAccepted { task, key: Some(Keyed { key, .. }), .. } if self.shadow.keys.contains_key(key) => {
                self.checks.fail(format!("{task} is accepted with {key}, which was accepted before"));
            }
            Fact::SlaMissed { task, due } => self.check_late(task, *due, recorded.at),
            Fact::AttemptStalled { task, agent, still_ms, .. } => self.check_stalled(task, agent, *still_ms),
            Fact::AlertRaised { alert } if self.shadow.alerts.contains_key(&alert.key()) => {
                self.checks.fail(format!("the alert {} is raised twice", alert.key()));
            }
            Fact::AlertCleared { key } => {
                self.checks.told.remove(key);
            }
            Fact::AttemptFailed { task, then, cause, .. } => {
                if let Some(record) = self.shadow.tasks.get(task).cloned() {
                    self.count_failure(task, &record, cause.class(), then);
                }
            }
            Fact::RunScheduled { task, at } => self.check_scheduled(task, *at, recorded.at),
            Fact::ReportAccepted { report, then } => {
                self.checks.struck.insert(report.agent.clone(), report.failure);
                self.note_proof(report);
                self.note_result(report);
                self.check_report(report, then);
                self.check_step(report, then);
            }
            Fact::Rebased { task, .. } => {
                let run = self.shadow.tasks.get(task).map(|record| record.run);
                self.begin_counting_anew(run);
            }
            Fact::Merged { task, attempt, commit, .. } => {
                self.check_merged(task, *attempt, commit);
                let run = self.shadow.tasks.get(task).map(|record| record.run);
                self.begin_counting_anew(run);
            }
            _ => {}
        }
    }

    /// A task is not begun while somebody could still work on an earlier order of it, of whatever run; whoever has reported
    /// is done.
    fn check_no_other_order(&mut self, task: &TaskId, envelope: EnvelopeId) {
        let is_reported = |order: &EnvelopeId| self.spool.reports.values().any(|filed| filed.report.order == *order);
        let other = self.spool.open_of(task).into_iter().find(|order| *order != envelope && !is_reported(order));
        if let Some(other) = other {
            self.checks.fail(format!("{task} is begun while its earlier order {other} can still be worked on"));
        }
    }

    fn check_restart(&mut self, agent: &AgentId, incarnation: Incarnation, budget: Budget, at: Timestamp) {
        let held = self.shadow.agents.get(agent).is_some_and(|record| record.hold.is_some());
        if held {
            self.checks.fail(format!("{agent} is held and started"));
        }
        if budget == Budget::Free {
            return;
        }
        let policy = self.settings_of(agent).restart;
        let restarts = self.checks.restarts.entry(agent.clone()).or_default();
        restarts.push(at);
        let inside = restarts.iter().filter(|restart| at.since(**restart) < policy.period).count();
        if inside > usize::try_from(policy.intensity).unwrap() {
            let text = format!("{agent}#{incarnation} is restart number {inside} within its period");
            self.checks.fail(text);
        }
    }

    /// An incarnation is only said to be down when nothing of it runs, and only ended for a good reason.
    fn check_down(&mut self, agent: &AgentId, incarnation: Incarnation, cause: &DownCause) {
        let runs =
            self.panes.values().any(|pane| pane.alive && pane.agent == *agent && pane.incarnation == incarnation)
                || self.programs.values().any(|program| program.agent == *agent && program.incarnation == incarnation);
        if runs {
            self.checks.fail(format!("{agent}#{incarnation} is said to be down and still runs"));
        }
        let asked_for = matches!(
            cause,
            DownCause::Operator | DownCause::Drain | DownCause::Clean | DownCause::Removed | DownCause::Reconfigured
        );
        // The supervisor may have died before it had made the pane whose number it had recorded.
        let had_pane = self.panes.values().any(|pane| pane.agent == *agent && pane.incarnation == incarnation);
        let never_made = *cause == DownCause::Lost && !had_pane;
        // Or it had told the pane to end, and died before it had seen that.
        let was_told = *cause == DownCause::Lost
            && self
                .panes
                .values()
                .any(|pane| pane.agent == *agent && pane.incarnation == incarnation && pane.told_to_stop);
        if self.healthy && !asked_for && !never_made && !was_told {
            self.checks.fail(format!("{agent}#{incarnation} was healthy and only slow: it {}", cause.text()));
        }
        match cause {
            DownCause::Silent => {
                let mut looks = self.checks.signs.get(&(agent.clone(), incarnation)).cloned().unwrap_or_default();
                // A look that is told twice is one look.
                let mut told = BTreeSet::new();
                looks.retain(|look| told.insert(look.at));
                let still = looks.len() >= 2
                    && looks
                        .windows(2)
                        .any(|pair| matches!(pair, [a, b] if (a.cpu_ticks, a.told_ms) == (b.cpu_ticks, b.told_ms) || (a.stopped && b.stopped)));
                if !still {
                    self.checks.fail(format!("{agent}#{incarnation} was ended without a second sign: {looks:?}"));
                }
                self.check_was_sick(agent, incarnation, cause);
            }
            // Its attempt was found to stand still before; that was checked.
            DownCause::Stalled => {}
            DownCause::StartTimeout | DownCause::Overdue => self.check_was_sick(agent, incarnation, cause),
            DownCause::Clean | DownCause::PaneDied => {
                if self.checks.cleared_alive.contains(&(agent.clone(), incarnation)) {
                    self.checks.fail(format!("{agent}#{incarnation} was alive when it was said: it {}", cause.text()));
                }
            }
            DownCause::SpawnFailed { .. }
            | DownCause::Operator
            | DownCause::Drain
            | DownCause::Lost
            | DownCause::Removed
            | DownCause::Reconfigured => {}
        }
    }

    /// Silent thinking is legitimate: only what has stood still for its stall time is called stalled.
    fn check_stalled(&mut self, task: &TaskId, agent: &AgentId, still_ms: u64) {
        let Some(order) =
            self.shadow.tasks.get(task).and_then(|record| record.current()).map(|current| current.envelope)
        else {
            return;
        };
        // The plan may be newer than what the supervisor has read so far.
        let heartbeat = i64::try_from(self.settings_of(agent).heartbeat.as_millis()).unwrap();
        let found = self.programs.values().find(|program| program.order() == order);
        let Some((lived, visible)) = found.map(|program| (program.lived(self.t), program.is_visible())) else { return };
        // Each leap of the clock counts for two heartbeats at most.
        let leaps = i64::try_from(self.leaps).unwrap() + 1;
        let error = 2 * heartbeat * leaps;
        let still = i64::try_from(still_ms).unwrap();
        if visible || lived + error < still {
            let text = format!("{task} is called stalled after {still} ms, and its program has lived {lived} ms");
            self.checks.fail(text);
        }
    }

    /// Called when the operator's program is to be told of an alert.
    pub(super) fn check_told(&mut self, alert: &Alert) {
        let key = alert.key();
        if !self.shadow.alerts.contains_key(&key) {
            self.checks.fail(format!("the alert {key} is told, but not recorded"));
        }
        if !self.checks.told.insert(key.clone()) {
            self.checks.fail(format!("the alert {key} is told twice"));
        }
    }

    fn check_was_sick(&mut self, agent: &AgentId, incarnation: Incarnation, cause: &DownCause) {
        let newest = self.panes.values().rfind(|pane| pane.agent == *agent && pane.incarnation == incarnation);
        let healthy = newest.is_some_and(|pane| !pane.sick);
        if healthy {
            self.checks.fail(format!("{agent}#{incarnation} was healthy and ended: it {}", cause.text()));
        }
    }

    fn check_queued(&mut self, task: &TaskId, agent: &AgentId) {
        let Some(record) = self.shadow.tasks.get(task) else { return };
        // What is checked again for its merge was begun before.
        let needs = if record.waits_for_merge() { Vec::new() } else { record.spec.needs.clone() };
        if self.shadow.agents.get(agent).is_none_or(|record| record.down || record.hold.is_some()) {
            self.checks.fail(format!("{task} is given to {agent}, which is held or down"));
        }
        for need in needs {
            let Some(needed) = self.shadow.tasks.get(&need).cloned() else {
                return self.checks.fail(format!("{task} starts, and needs {need}, which is not known"));
            };
            if matches!(needed.phase, Phase::Failed { .. }) && needed.spec.on_failure == OnFailure::Continue {
                continue;
            }
            let Phase::Done { commit, .. } = needed.phase else {
                let text = format!("{task} starts, and needs {need}, which is {}", needed.phase.name());
                return self.checks.fail(text);
            };
            if let (Some(commit), Some(repository)) = (commit, repository_of(&needed.spec.repository).cloned())
                && self.merges(&repository)
                && !self.git.repository(&repository).target.iter().any(|landed| landed.id == commit)
            {
                self.checks.fail(format!("{task} starts, and {commit} of {need} is not on the target branch"));
            }
        }
    }

    fn merges(&self, repository: &miyabi::model::id::RepositoryName) -> bool {
        self.plan.repository(repository).is_some_and(|found| found.merge != MergeMode::None)
    }

    /// Failures are counted for each stage, conflicts for the whole run.
    fn begin_counting_anew(&mut self, run: Option<RunId>) {
        if let Some(counts) = run.and_then(|run| self.checks.failures.get_mut(&run)) {
            counts.retain(|class, _| *class == Some(FailureClass::Conflict));
        }
    }

    fn count_failure(&mut self, task: &TaskId, record: &TaskRecord, class: Option<FailureClass>, then: &Then) {
        match then {
            Then::Done | Then::Merge => {}
            Then::Stage { .. } | Then::Rework => self.begin_counting_anew(Some(record.run)),
            Then::Retry { .. } | Then::Redo | Then::GiveUp => {
                let counts = self.checks.failures.entry(record.run).or_default();
                *counts.entry(class).or_default() += 1;
                let limits = &record.spec.retry.limits;
                let (count, limit) = match class.and_then(|class| limits.get(&class)) {
                    Some(limit) => (counts.get(&class).copied().unwrap_or(0), *limit),
                    None => {
                        let others =
                            counts.iter().filter(|(class, _)| !class.is_some_and(|class| limits.contains_key(&class)));
                        (others.map(|(_, count)| count).sum(), record.spec.retry.limit)
                    }
                };
                if count > limit + 1 {
                    let text = format!("{task} has failed {count} times in one run, and may {}", limit + 1);
                    self.checks.fail(text);
                }
                if *then == Then::Redo {
                    self.begin_counting_anew(Some(record.run));
                }
                if *then == Then::GiveUp && count <= limit && record.rebases < REBASES_MAX {
                    self.checks.fail(format!("{task} is given up before its attempts are used up"));
                }
            }
        }
    }

    fn check_report(&mut self, report: &Report, then: &Then) {
        let Some(record) = self.shadow.tasks.get(&report.task).cloned() else { return };
        let current = record.current().map(|current| current.envelope);
        if current != Some(report.order) || record.run != report.run {
            self.checks.fail(format!("a report of another attempt of {} was applied", report.task));
        }
        if matches!(then, Then::Done | Then::Merge) && !report.checks.iter().all(CheckResult::passed) {
            self.checks.fail(format!("{} is taken for done although a check failed", report.task));
        }
        if report.failure == Some(FailureKind::NoSpace) && *then != Then::GiveUp {
            return;
        }
        if report.outcome == Outcome::ChangesRequested
            && report.stage == StageKind::Review.name()
            && *then == Then::GiveUp
        {
            // The rounds are used up, not the attempts.
            return;
        }
        let kind = report.failure.unwrap_or(FailureKind::AgentFailed);
        self.count_failure(&report.task, &record, record.class_of(kind), then);
    }

    fn check_merged(&mut self, task: &TaskId, attempt: u32, commit: &str) {
        let Some(record) = self.shadow.tasks.get(task) else { return };
        let run = made_in(record);
        let Some(repository) = repository_of(&record.spec.repository).cloned() else { return };
        let target = &self.git.repository(&repository).target;
        let found = target.iter().any(|landed| landed.id == commit && landed.trailer.starts_with(&run));
        if !found {
            self.checks.fail(format!("{task} attempt {attempt} is taken for merged, and is not"));
        }
    }

    /// Called after a merge: one commit of a run, behind the commits of what its task needs.
    pub(super) fn check_merge(&mut self, merge: &Merge, result: &MergeResult) {
        self.check_queue_step(merge, result);
        if !matches!(result, MergeResult::Merged { .. }) {
            return;
        }
        self.check_reviewed(merge);
        let own =
            self.git.repository(&merge.repository).commit(&merge.commit).and_then(|commit| commit.trailer.clone());
        if own.as_deref() != Some(merge.trailer.as_str()) {
            let text = format!("{} is merged as {}, and its commit says {own:?}", merge.task, merge.trailer);
            self.checks.fail(text);
        }
        let run = merge.trailer.split('/').next().unwrap_or_default().to_owned();
        let target = &self.git.repository(&merge.repository).target;
        let landed = target.iter().filter(|landed| landed.trailer.starts_with(&run)).count();
        if landed != 1 {
            self.checks.fail(format!("{} has {landed} commits of run {run} on its target branch", merge.task));
        }
    }

    /// When faults have stopped long enough, nothing is under way any more.
    pub(super) fn check_all_ended(&mut self) {
        let Some(core) = &self.core else { return self.checks.fail("the supervisor is not there at the end") };
        let now = Timestamp::from_millis(self.t + self.skew);
        let snapshot = core.snapshot(now);
        let mut open = Vec::new();
        for task in &snapshot.tasks {
            let fine = match task.state {
                TaskState::Done | TaskState::Dead | TaskState::Cancelled => true,
                TaskState::Blocked if self.waits_for_its_time(&task.id, 0) => true,
                TaskState::Blocked => task.stuck && task.reason.is_some(),
                TaskState::Parked | TaskState::Ready | TaskState::Queued | TaskState::Leased | TaskState::Verifying => {
                    self.waits_for_its_time(&task.id, 0)
                }
            };
            if !fine {
                open.push(format!("{} is {} in the end: {:?}", task.id, task.state.as_str(), core.why(&task.id)));
            }
        }
        if !open.is_empty() {
            let agents: Vec<String> =
                snapshot.agents.iter().map(|agent| format!("{} {:?}", agent.id, agent.state)).collect();
            return self.checks.fail(format!("{}; {agents:?}", open.join("; ")));
        }
        let open = self.full.agents.iter().flat_map(|agent| self.spool.open(&agent.id));
        let has_come_again =
            |order: &EnvelopeId| self.shadow.open_order(*order).is_some_and(|task| self.has_come_again(task));
        let open: Vec<EnvelopeId> = open.filter(|order| !has_come_again(order)).collect();
        if !open.is_empty() {
            self.checks.fail(format!("orders lie open in the end: {open:?}"));
        }
        if let Some((id, _)) = self.spool.reports.iter().find(|(_, report)| !report.acknowledged) {
            let text = format!("report {id} lies open in the end");
            self.checks.fail(text);
        }
        self.check_commits();
        self.check_dead();
        self.check_team();
    }

    /// Remembers what a report is about, as it is now.
    fn note_result(&mut self, report: &Report) {
        let agent = self.core.as_ref().and_then(|core| core.plan().agent(&report.agent)).cloned();
        if let Some(record) = self.shadow.tasks.get(&report.task) {
            self.checks.reported.insert(report.order, (record.spec.clone(), agent));
        }
    }

    /// What is taken was made for the same work, by an agent who is still the same, on the commit that git says is the newest.
    fn check_same(&mut self, task: &TaskId, record: &TaskRecord, report: &Report) {
        let Some((spec, agent)) = self.checks.reported.get(&report.order) else {
            return self.checks.fail(format!("{task} takes a result that nobody has reported: {report:?}"));
        };
        let of_work = |spec: &TaskSpec| {
            let checks = (spec.checks.clone(), spec.no_change, spec.timeout);
            (spec.work.clone(), checks, spec.assignee.clone(), spec.repository.clone(), spec.stages.clone())
        };
        let of_agent = |agent: &AgentSpec| {
            (agent.id.clone(), agent.role.clone(), agent.driver, agent.command.clone(), agent.env.clone())
        };
        let now = self.core.as_ref().and_then(|core| core.plan().agent(&report.agent));
        let is_same_work = of_work(spec) == of_work(&record.spec);
        let is_same_agent = now.is_some() && agent.as_ref().map(of_agent) == now.map(of_agent);
        let found = self.checks.found.get(&(task.clone(), record.run));
        let is_same_base = repository_of(&record.spec.repository).is_none() || found == report.base.as_ref();
        if !(is_same_work && is_same_agent && is_same_base) {
            let same = (is_same_work, is_same_agent, is_same_base);
            self.checks
                .fail(format!("{task} takes the result of {}; same work, agent and commit: {same:?}", report.task));
        }
    }

    /// Only what was asked for is taken instead of work, and only what was proven.
    fn check_reuse(&mut self, task: &TaskId, report: &Report) {
        self.checks.reused += 1;
        let Some(record) = self.shadow.tasks.get(task).cloned() else { return };
        let is_proven = matches!(report.outcome, Outcome::Done | Outcome::NoChange)
            && report.checks.iter().all(CheckResult::passed);
        if record.spec.cache == Cache::Off || record.no_cache || !is_proven {
            self.checks.fail(format!("{task} takes the result of {}: {report:?}", report.task));
        }
        self.check_same(task, &record, report);
        for need in &record.spec.needs {
            let is_met = self.shadow.tasks.get(need).is_some_and(|needed| match needed.phase {
                Phase::Done { .. } => true,
                Phase::Failed { .. } => needed.spec.on_failure == OnFailure::Continue,
                Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } | Phase::Cancelled { .. } => false,
            });
            if !is_met {
                self.checks.fail(format!("{task} takes a result, and {need} is not done"));
            }
        }
    }

    /// The operator knows of every dead task, unless there are very many.
    fn check_dead(&mut self) {
        const TOLD_MAX: usize = 20;
        let is_dead = |record: &&TaskRecord| matches!(record.phase, Phase::Failed { .. });
        let dead = self.shadow.tasks.values().filter(is_dead).count();
        let told = self.shadow.alerts.keys().filter(|key| key.starts_with("dead/")).count();
        if told != dead.min(TOLD_MAX) {
            self.checks.fail(format!("{dead} tasks are dead, and there are {told} alerts of such"));
        }
    }

    fn check_commits(&mut self) {
        for (task, record) in self.shadow.tasks.clone() {
            let Phase::Done { commit: Some(commit), .. } = &record.phase else { continue };
            let Some(repository) = repository_of(&record.spec.repository).cloned() else { continue };
            if !self.merges(&repository) {
                continue;
            }
            let run = made_in(&record);
            let target = &self.git.repository(&repository).target;
            let landed: Vec<&str> = target
                .iter()
                .filter(|landed| landed.trailer.starts_with(&run))
                .map(|landed| landed.id.as_str())
                .collect();
            // A run that only deploys has no commit of its own.
            let only_deploys = landed.is_empty()
                && record.merged.as_ref() == Some(commit)
                && target.iter().any(|landed| landed.id == *commit && landed.task == task);
            if landed != [commit.as_str()] && !only_deploys {
                self.checks.fail(format!("{task} is done with {commit}, and its target branch has {landed:?}"));
            }
        }
    }

    /// At rest the supervisor does no work.
    pub(super) fn check_rest(&mut self) {
        let Some(rest) = self.checks.rest else { return };
        let timeouts = self.checks.timeouts - rest.timeouts;
        if timeouts > REST_TIMEOUTS_PER_HOUR_MAX / 4 {
            self.checks.fail(format!("the supervisor woke {timeouts} times in a quarter of an hour of rest"));
        }
        // A clock that was set back lets the time of a task that comes again lie in the rest.
        let rested_since = self.t + self.skew - HOUR / 2;
        let came_again = self
            .shadow
            .tasks
            .values()
            .any(|record| record.spec.every.is_some() && record.occurrence().as_millis() > rested_since);
        if self.checks.facts != rest.facts && !came_again {
            self.checks.fail("something was recorded although nothing happened");
        }
        if self.checks.spawns != rest.spawns {
            self.checks.fail("something was started although nothing happened");
        }
    }
}

/// Names the run that has made a task's commit: its own, or the one whose result it has taken.
fn made_in(record: &TaskRecord) -> String {
    record.reused.as_ref().map_or(record.run, |reused| reused.run).to_string()
}
