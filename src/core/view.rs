//! How the core shows itself: snapshots, and why a task is not done yet.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::alert::Alert;
use crate::model::beat::{Activity, Step};
use crate::model::id::{AgentId, TaskId};
use crate::model::stage::StageKind;
use crate::model::task::{Assignee, RepositoryChoice};
use crate::model::time::Timestamp;

use super::Core;
use super::fact::{Hold, Origin};
use super::issues::FileIssue;
use super::liveness::Liveness;
use super::restart::restarts_within;
use super::snapshot::{AgentState, AgentView, Snapshot, TaskState, TaskView};
use super::state::{Phase, TaskRecord};
use super::work::branch_of;

impl Core {
    /// Shows everything at one moment.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let mut tasks: Vec<(&TaskId, &TaskRecord)> = self.durable.tasks.iter().collect();
        tasks.sort_by_key(|(_, record)| record.seq);
        Snapshot { tasks: self.task_views(&tasks), ..self.overview(now) }
    }

    /// Counts the tasks by state; every state is present.
    #[must_use]
    pub fn task_counts(&self) -> BTreeMap<TaskState, usize> {
        let mut counts: BTreeMap<TaskState, usize> = TaskState::ALL.into_iter().map(|state| (state, 0)).collect();
        for (task, record) in &self.durable.tasks {
            *counts.entry(self.task_state(task, record)).or_default() += 1;
        }
        counts
    }

    /// Shows everything but the tasks, of which there may be a hundred thousand.
    #[must_use]
    pub fn overview(&self, now: Timestamp) -> Snapshot {
        Snapshot {
            at: now,
            draining: self.drain.is_some(),
            frozen: self.frozen,
            holding: self.holding().or_else(|| self.slowed()),
            alerts: self.alerts(),
            agents: self.shown_agents().map(|agent| self.agent_view(agent, now)).collect(),
            tasks: Vec::new(),
            faults: self.faults.clone(),
            merge_queues: self.merge_queues(),
            found: self.found.clone(),
        }
    }

    /// Returns the team in the order of agents.toml, then those who are on their way out.
    fn shown_agents(&self) -> impl Iterator<Item = &AgentId> {
        let leaving = self.agents.keys().filter(|agent| self.plan.agent(agent).is_none());
        self.plan.agents.iter().map(|spec| &spec.id).chain(leaving)
    }

    fn alerts(&self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = self.durable.alerts.values().cloned().collect();
        alerts.sort_by_key(|alert| (alert.since, alert.key()));
        alerts
    }

    /// Says whether nothing moves: no order is open, no task could start or waits for a time, no merge can go on.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let merging = self.index.merging().flat_map(|(_, tasks)| tasks);
        // What is checked again for its merge is ready, or has an order, like any other.
        let parked = |task: &TaskId| {
            !matches!(self.durable.tasks.get(task), Some(TaskRecord { phase: Phase::Merging { parked: None }, .. }))
        };
        self.index.open_orders().next().is_none()
            && !self.index.has_ready()
            && self.index.next_later().is_none()
            && merging.into_iter().all(parked)
    }

    /// Shows one task.
    #[must_use]
    pub fn task(&self, task: &TaskId) -> Option<TaskView> {
        let (task, record) = self.durable.tasks.get_key_value(task)?;
        Some(self.task_view(task, record, &mut Judged::new()))
    }

    /// Shows the newest tasks, in the order of their acceptance: of a state, accepted before another one, and only so many.
    #[must_use]
    pub fn task_page(&self, state: Option<TaskState>, before: Option<&TaskId>, limit: Option<u32>) -> Vec<TaskView> {
        let before = before.and_then(|task| self.durable.tasks.get(task)).map_or(u64::MAX, |record| record.seq);
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let mut tasks: Vec<(&TaskId, &TaskRecord)> = self
            .durable
            .tasks
            .iter()
            .filter(|(_, record)| record.seq < before)
            .filter(|(task, record)| state.is_none_or(|state| self.task_state(task, record) == state))
            .collect();
        tasks.sort_unstable_by_key(|(_, record)| record.seq);
        let page = tasks.get(tasks.len().saturating_sub(limit)..).unwrap_or_default();
        self.task_views(page)
    }

    /// Returns what survives of one task.
    #[must_use]
    pub fn task_record(&self, task: &TaskId) -> Option<&TaskRecord> {
        self.durable.tasks.get(task)
    }

    /// Returns what a task still waits for of all that it needs.
    #[must_use]
    pub fn unmet_needs(&self, task: &TaskId) -> Vec<TaskId> {
        let needs = self.durable.tasks.get(task).map(|record| record.spec.needs.as_slice()).unwrap_or_default();
        needs.iter().filter(|need| !self.durable.is_met(need)).cloned().collect()
    }

    fn agent_view(&self, agent: &AgentId, now: Timestamp) -> AgentView {
        let spec = self.plan.agent(agent);
        let record = self.durable.agents.get(agent);
        let live = self.agents.get(agent);
        let state = live.map_or(AgentState::Absent, |live| self.agent_state(agent, &live.state));
        let last_end = record.and_then(|record| record.last_end.as_ref());
        let reason = match state {
            AgentState::BackingOff | AgentState::CrashLoop | AgentState::Paused => {
                last_end.map(|(_, text)| text.clone())
            }
            AgentState::Waiting | AgentState::Limited => live.and_then(|live| waiting_reason(&live.state)),
            AgentState::Absent
            | AgentState::Starting
            | AgentState::Idle
            | AgentState::Busy
            | AgentState::Suspect
            | AgentState::Stopping => None,
        };
        let reason = reason.or_else(|| match spec {
            None => Some("is leaving the team".to_owned()),
            Some(_) if live.is_some_and(|live| live.outdated) => {
                Some("is started again with its new settings as soon as it is idle".to_owned())
            }
            Some(_) => None,
        });
        AgentView {
            id: agent.clone(),
            name: spec.map_or_else(|| agent.to_string(), |spec| spec.name.clone()),
            role: spec.map_or_else(|| self.first_role(), |spec| spec.role.clone()),
            labels: spec.map(|spec| spec.labels.iter().cloned().collect()).unwrap_or_default(),
            state,
            since: live.map_or(Timestamp::EPOCH, |live| live.since),
            incarnation: self.incarnation(agent),
            restarts: match (spec, record) {
                (Some(spec), Some(record)) => restarts_within(record, &spec.restart, now),
                (None, _) | (_, None) => 0,
            },
            pane: live.and_then(|live| live.state.pane()).map(|pane| pane.id.clone()),
            pid: live.and_then(|live| live.state.pane()).map(|pane| pane.pid),
            task: self.index.open_order(agent).map(|(task, _)| task.clone()),
            reason,
        }
    }

    fn agent_state(&self, agent: &AgentId, state: &Liveness) -> AgentState {
        match state {
            Liveness::Absent => AgentState::Absent,
            Liveness::Spawning { .. } | Liveness::Starting { .. } => AgentState::Starting,
            Liveness::Up { activity, .. } => match activity {
                Activity::Starting => AgentState::Starting,
                Activity::Idle if self.index.open_order(agent).is_some() => AgentState::Busy,
                Activity::Idle => AgentState::Idle,
                Activity::Busy { .. } => AgentState::Busy,
                Activity::WaitingForHuman { .. } => AgentState::Waiting,
                Activity::Limited { .. } => AgentState::Limited,
                Activity::Stopped => AgentState::Stopping,
            },
            Liveness::Suspect { .. } => AgentState::Suspect,
            Liveness::Stopping { .. } | Liveness::Clearing { .. } => AgentState::Stopping,
            Liveness::BackingOff { .. } => AgentState::BackingOff,
            Liveness::Held(Hold::Paused | Hold::Ended) => AgentState::Paused,
            Liveness::Held(Hold::CrashLoop) => AgentState::CrashLoop,
        }
    }

    fn task_views(&self, tasks: &[(&TaskId, &TaskRecord)]) -> Vec<TaskView> {
        let mut judged = Judged::new();
        tasks.iter().map(|(task, record)| self.task_view(task, record, &mut judged)).collect()
    }

    fn task_view<'a>(&'a self, task: &'a TaskId, record: &'a TaskRecord, judged: &mut Judged<'a>) -> TaskView {
        let current = record.current();
        let at_stage = current.filter(|current| current.stage == self.stage_name(record));
        let (agent, role) = match self.assignee_of(record) {
            Assignee::Agent(agent) => (Some(agent), None),
            Assignee::Role(role) => (at_stage.map(|current| current.agent.clone()), Some(role)),
        };
        let report = current.and_then(|current| current.report.as_deref());
        let (ended_at, commit) = match &record.phase {
            Phase::Done { at, commit } => (Some(*at), commit.clone()),
            Phase::Failed { at, .. } | Phase::Cancelled { at, .. } => (Some(*at), None),
            Phase::Merging { .. } => (None, record.change().and_then(|change| change.commit.clone())),
            Phase::Waiting { .. } | Phase::Queued => (None, record.merged.clone()),
        };
        let report = record.change().or(report);
        let branch = match &record.spec.repository {
            RepositoryChoice::None => None,
            RepositoryChoice::Named(_) => report
                .and_then(|report| report.branch.clone())
                .or_else(|| current.map(|current| branch_of(task, record, current.stage.as_str(), current.attempt))),
        };
        let state = self.task_state(task, record);
        TaskView {
            id: task.clone(),
            state,
            agent,
            role,
            attempt: record.attempt,
            needs: record.spec.needs.clone(),
            said: record.spec.said.clone(),
            priority: record.spec.priority.get(),
            run: record.run,
            stage: self.stage_name(record),
            rounds: record.rounds,
            spent: record.spent,
            due: record.due(),
            queued_at: current.map(|current| current.queued_at),
            started_at: current.and_then(|current| current.started).map(|(at, _)| at),
            ended_at,
            branch,
            commit,
            reused: record.reused.as_ref().map(|reused| reused.task.clone()),
            merge_place: self.merge_place(task).map(|place| place.place),
            reason: self.reason(task, record, state),
            stuck: state == TaskState::Parked
                || (state == TaskState::Blocked && self.is_hopeless(task, record, judged)),
            file: match &record.origin {
                Origin::File { stem, .. } => Some(stem.clone()),
                Origin::Issue { .. } => self.durable.issues.get(task).map(|listed| listed.stem.clone()),
                Origin::Submitted | Origin::Healer { .. } => None,
            },
            issue: match &record.origin {
                Origin::Issue { issue } => Some(issue.to_string()),
                Origin::File { .. } | Origin::Submitted | Origin::Healer { .. } => None,
            },
        }
    }

    fn task_state(&self, task: &TaskId, record: &TaskRecord) -> TaskState {
        match &record.phase {
            Phase::Waiting { .. } if self.missing_workplace(record).is_some() => TaskState::Parked,
            Phase::Waiting { .. } if self.index.paused_by(&self.durable, task).is_some() => TaskState::Blocked,
            Phase::Waiting { .. } if self.index.is_unblocked(task, record) => TaskState::Ready,
            Phase::Waiting { .. } => TaskState::Blocked,
            Phase::Queued => match (record.current(), self.step_of(record)) {
                (_, Some(Step::Checking | Step::Reporting)) => TaskState::Verifying,
                (Some(current), _) if current.started.is_some() => TaskState::Leased,
                (Some(_) | None, _) => TaskState::Queued,
            },
            Phase::Merging { parked: None } => TaskState::Verifying,
            Phase::Merging { parked: Some(_) } => TaskState::Parked,
            Phase::Done { .. } => TaskState::Done,
            Phase::Failed { .. } => TaskState::Dead,
            Phase::Cancelled { .. } => TaskState::Cancelled,
        }
    }

    fn step_of(&self, record: &TaskRecord) -> Option<Step> {
        let current = record.current()?;
        match self.agents.get(&current.agent)?.state.activity()? {
            Activity::Busy { order, step, .. } if *order == current.envelope => Some(*step),
            Activity::Busy { .. }
            | Activity::Starting
            | Activity::Idle
            | Activity::WaitingForHuman { .. }
            | Activity::Limited { .. }
            | Activity::Stopped => None,
        }
    }

    fn missing_workplace(&self, record: &TaskRecord) -> Option<String> {
        let RepositoryChoice::Named(name) = &record.spec.repository else { return None };
        if self.plan.repository(name).is_none() {
            return Some(format!("repository {name} is not in agents.toml"));
        }
        if record.target.is_some() {
            return None;
        }
        let why = match self.branches.get(name) {
            Some(Err(reason)) => reason.as_str(),
            Some(Ok(_)) | None => "its branch is not known yet",
        };
        Some(format!("repository {name} cannot be worked in: {why}"))
    }

    fn reason(&self, task: &TaskId, record: &TaskRecord, state: TaskState) -> Option<String> {
        match &record.phase {
            Phase::Failed { reason, .. } | Phase::Cancelled { reason, .. } => Some(reason.clone()),
            Phase::Merging { parked } => parked.clone().or_else(|| self.why_queued_to_merge(task)),
            Phase::Waiting { .. } => match state {
                TaskState::Parked => self.missing_workplace(record),
                TaskState::Blocked => self.why(task).into_iter().next(),
                TaskState::Ready if record.current().is_some_and(|last| last.stage != self.stage_name(record)) => {
                    Some(self.on_the_way(record))
                }
                TaskState::Ready => record.current().and_then(|last| last.reason.clone()),
                TaskState::Queued
                | TaskState::Leased
                | TaskState::Verifying
                | TaskState::Done
                | TaskState::Dead
                | TaskState::Cancelled => None,
            },
            Phase::Queued => self.stands_still(record).map(|still| {
                format!("no progress for {}", crate::model::span::format(Duration::from_secs(still.as_secs())))
            }),
            Phase::Done { .. } => record
                .reused
                .as_ref()
                .map(|reused| format!("the result of {} in run {} was taken", reused.task, reused.run)),
        }
    }

    /// Says why a task is not done, most important first; empty when it is done.
    #[must_use]
    pub fn why(&self, task: &TaskId) -> Vec<String> {
        let Some(record) = self.durable.tasks.get(task) else { return Vec::new() };
        match &record.phase {
            Phase::Done { .. } => Vec::new(),
            Phase::Failed { reason, .. } => {
                let failed = format!("dead after {} attempts: {reason}", record.attempt);
                std::iter::once(failed).chain(self.diagnosis_of(record)).collect()
            }
            Phase::Cancelled { reason, .. } => vec![format!("cancelled: {reason}")],
            Phase::Merging { parked: Some(reason) } => {
                let parked = format!("proven, but not merged: {reason}");
                std::iter::once(parked).chain(self.why_queued_to_merge(task)).collect()
            }
            Phase::Merging { parked: None } => match self.why_queued_to_merge(task) {
                Some(place) if self.merge_place(task).is_some_and(|place| place.place > 1) => vec![place],
                place => std::iter::once("its commit is being merged".to_owned()).chain(place).collect(),
            },
            Phase::Queued => std::iter::once(self.why_queued(record)).chain(self.why_queued_to_merge(task)).collect(),
            Phase::Waiting { not_before } => {
                let until = not_before.map(|until| self.index.end_of_back_off(task, until));
                let mut reasons = self.why_waiting(task, record, until);
                reasons.extend(self.why_queued_to_merge(task));
                reasons
            }
        }
    }

    /// Says where between two stages a run is.
    fn on_the_way(&self, record: &TaskRecord) -> String {
        let of = self.plan.workflow.rounds_max;
        match record.stage() {
            StageKind::Code if record.rounds > 0 => {
                let reviewer = record.reports.get(&StageKind::Review).map(|report| report.agent.as_str());
                let who = reviewer.or_else(|| record.asks_last().map(|ask| ask.by.as_str())).unwrap_or("the review");
                format!("{who} asks for changes: round {} follows", record.rounds + 1)
            }
            StageKind::Review if record.rounds > record.people_rounds => {
                let own = record.rounds.saturating_sub(record.people_rounds);
                format!("waits for review number {} of {of} at most", own + 1)
            }
            StageKind::Code => "its work begins anew".to_owned(),
            StageKind::Deploy => "is merged, and waits to be deployed".to_owned(),
            StageKind::Recheck => {
                let target = record.target.as_deref().unwrap_or("its branch");
                format!("waits to be checked again on the newest commit of {target}")
            }
            kind @ (StageKind::Review | StageKind::PullRequest) => format!("waits for the stage {}", kind.as_str()),
        }
    }

    fn why_queued(&self, record: &TaskRecord) -> String {
        match record.current() {
            Some(current) if current.started.is_some() && record.stage() == StageKind::Recheck => {
                format!("{} checks it again where it would be merged", current.agent)
            }
            Some(current) if current.started.is_some() => {
                format!("{} is working on attempt {}", current.agent, current.attempt)
            }
            Some(current) => format!("its order lies in the mailbox of {}", current.agent),
            None => "its order is being written".to_owned(),
        }
    }

    fn why_waiting(&self, task: &TaskId, record: &TaskRecord, not_before: Option<Timestamp>) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(circle) = self.circle_of(task) {
            reasons.push(self.circle_text(circle));
        }
        let unmet = record.spec.needs.iter().filter(|need| !self.durable.is_met(need));
        reasons.extend(unmet.map(|need| self.why_needed(task, need)));
        if let Some(failed) = self.index.paused_by(&self.durable, task) {
            reasons.push(format!(
                "its file is paused because {failed} failed; `miyabi task retry {failed}` or `miyabi task cancel {failed}` goes on"
            ));
        }
        reasons.extend(self.missing_workplace(record));
        if let Some(until) = not_before.filter(|until| *until > self.now && record.attempt == 0) {
            reasons.push(format!("comes again: its next run begins at {until}"));
        } else if let Some(until) = not_before.filter(|until| *until > self.now) {
            let last = record.current().and_then(|last| last.reason.clone()).unwrap_or_default();
            reasons.push(format!("waits until {until} after attempt {} failed: {last}", record.attempt));
        }
        if reasons.is_empty() {
            reasons = self.why_not_dispatched(task, record);
        }
        reasons
    }

    /// Says what a task waits for, how that stands, and where it is written.
    fn why_needed(&self, task: &TaskId, need: &TaskId) -> String {
        let by_itself = self.durable.issues.get(need).is_some_and(FileIssue::is_resolved_by_itself);
        let record = self.durable.tasks.get(need).filter(|_| !by_itself);
        let origins = self.origins_of(task, need).join("; ");
        match record {
            Some(needed) => {
                let state = self.task_state(need, needed).as_str();
                let skipped = if needed.is_settled() { "is skipped: it " } else { "" };
                format!("{skipped}needs {need}, which is {state} ({origins})")
            }
            None => {
                let state = self.issue_text(need).unwrap_or_else(|| "is not known".to_owned());
                format!("needs {need}, which {state} ({origins})")
            }
        }
    }

    fn why_not_dispatched(&self, task: &TaskId, record: &TaskRecord) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.drain.is_some() {
            reasons.push("the supervisor is going down and starts nothing new".to_owned());
        }
        if let Some(since) = self.frozen {
            reasons.push(format!("everything is frozen since {since}; `miyabi thaw` goes on"));
        }
        reasons.extend(self.holding());
        reasons.extend(self.why_not_begun(record, task));
        reasons.extend(self.why_nobody(record));
        if reasons.is_empty() {
            reasons.push("what it takes is kept for tasks that have waited longer".to_owned());
        }
        reasons
    }

    /// Says who could take a task and why they do not; nothing if somebody is free.
    fn why_nobody(&self, record: &TaskRecord) -> Option<String> {
        let assignee = self.assignee_of(record);
        let (whom, candidates): (String, Vec<&AgentId>) = match &assignee {
            Assignee::Agent(agent) => (format!("agent {agent}"), vec![agent]),
            Assignee::Role(role) => (
                format!("an agent of role {role}"),
                self.plan
                    .agents
                    .iter()
                    .filter(|spec| spec.role == *role && spec.takes_work())
                    .map(|spec| &spec.id)
                    .collect(),
            ),
        };
        if candidates.iter().all(|agent| self.plan.agent(agent).is_none()) {
            return Some(format!("waits for {whom}, and agents.toml has none"));
        }
        if candidates.iter().any(|agent| self.is_free(agent)) {
            return None;
        }
        let busy: Vec<String> = candidates
            .iter()
            .map(|agent| {
                let state =
                    self.agents.get(*agent).map_or(AgentState::Absent, |live| self.agent_state(agent, &live.state));
                format!("{agent} is {}", state.as_str())
            })
            .collect();
        Some(format!("waits for {whom}: {}", busy.join(", ")))
    }

    /// Says whether a task can never start unless an operator acts. Each task is judged once, however many need it: in a web of
    /// needs there are more ways than anybody could go.
    fn is_hopeless<'a>(&'a self, task: &'a TaskId, record: &'a TaskRecord, judged: &mut Judged<'a>) -> bool {
        let mut path: Vec<(&TaskId, &TaskRecord, usize)> = Vec::new();
        self.begin_judging(task, record, judged, &mut path);
        while let Some((task, record, place)) = path.pop() {
            let Some(need) = record.spec.needs.get(place) else { continue };
            let is_lost = match self.durable.tasks.get(need) {
                _ if self.durable.is_met(need) => false,
                None => true,
                Some(needed) => match self.task_state(need, needed) {
                    TaskState::Dead | TaskState::Cancelled | TaskState::Parked => true,
                    TaskState::Blocked => match judged.get(need) {
                        Some(is_lost) => *is_lost,
                        None => {
                            // Looked at once more when it has been judged.
                            path.push((task, record, place));
                            self.begin_judging(need, needed, judged, &mut path);
                            continue;
                        }
                    },
                    TaskState::Ready
                    | TaskState::Queued
                    | TaskState::Leased
                    | TaskState::Verifying
                    | TaskState::Done => false,
                },
            };
            if is_lost {
                judged.insert(task, true);
            } else {
                path.push((task, record, place + 1));
            }
        }
        judged.get(task).copied().unwrap_or(false)
    }

    /// Judges a task by itself; what it needs is looked at if that is not enough. A task that comes up again on its own way is no
    /// reason: circles are known, and are one.
    fn begin_judging<'a>(
        &'a self,
        task: &'a TaskId,
        record: &'a TaskRecord,
        judged: &mut Judged<'a>,
        path: &mut Vec<(&'a TaskId, &'a TaskRecord, usize)>,
    ) {
        if judged.contains_key(task) {
            return;
        }
        let is_unblocked = self.index.is_unblocked(task, record);
        let is_lost =
            self.index.paused_by(&self.durable, task).is_some() || (!is_unblocked && self.circle_of(task).is_some());
        judged.insert(task, is_lost);
        if !is_unblocked && !is_lost {
            path.push((task, record, 0));
        }
    }
}

/// Whether tasks that wait can never start unless an operator acts, as far as it was found out.
type Judged<'a> = BTreeMap<&'a TaskId, bool>;

fn waiting_reason(state: &Liveness) -> Option<String> {
    match state.activity()? {
        Activity::WaitingForHuman { reason, .. } | Activity::Limited { reason, .. } => Some(reason.clone()),
        Activity::Starting | Activity::Idle | Activity::Busy { .. } | Activity::Stopped => None,
    }
}
