//! Answers to those who ask.

use std::collections::BTreeMap;

use crate::control::answer::{Answerer, Asked};
use crate::control::protocol::{
    AttemptState, AttemptView, Call, EdgeView, ErrorKind, Pong, ReplyError, Status, SupervisorState, SupervisorView,
    TaskDetail, Why,
};
use crate::core::Core;
use crate::core::snapshot::{AgentState, TaskState};
use crate::core::stages::stages_of;
use crate::core::state::{AttemptRecord, TaskRecord};
use crate::core::work::branch_of;
use crate::io::{clock, systemd};
use crate::model::github_view::GithubView;
use crate::model::id::TaskId;
use crate::model::request::RequestId;
use crate::model::watching::WatchFaults;

use super::streams;
use super::turn::Supervisor;

/// Those whose requests are with the core.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    next: u64,
    answers: BTreeMap<RequestId, Answerer>,
}

impl Waiting {
    /// Makes the id of a request that nobody waits for.
    pub(super) const fn nobody(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    fn add(&mut self, answer: Answerer) -> RequestId {
        let id = self.nobody();
        self.answers.insert(id, answer);
        id
    }

    pub(super) fn take(&mut self, id: RequestId) -> Option<Answerer> {
        self.answers.remove(&id)
    }
}

impl Supervisor {
    /// Answers a question, now or through a task.
    pub(super) fn answer(&mut self, asked: Asked) {
        let Asked { call, answer } = asked;
        match call {
            Call::Ping => answer.value(&Pong { pid: std::process::id(), version: version() }),
            Call::Status => {
                let status = self.status();
                self.hands.answer_status(&mut self.tasks, status, answer);
            }
            Call::Tasks => answer.value(&self.core.snapshot(clock::now()).tasks),
            Call::TaskPage { state, before, limit } => {
                match before.as_ref().filter(|task| self.core.task_record(task).is_none()) {
                    Some(unknown) => answer.error(no_task(unknown)),
                    None => answer.value(&self.core.task_page(state, before.as_ref(), limit)),
                }
            }
            Call::Agents => answer.value(&self.core.overview(clock::now()).agents),
            Call::Task { id } => match detail(&self.core, &id) {
                Some(detail) => answer.value(&detail),
                None => answer.error(no_task(&id)),
            },
            Call::Why { id } => match self.core.task(&id) {
                Some(task) => {
                    answer.value(&Why { id: id.clone(), state: task.state, reasons: self.core.why(&id) });
                }
                None => answer.error(no_task(&id)),
            },
            Call::Report { id } => self.report(&id, answer),
            Call::WaitTask { ids } => match ids.iter().find(|id| self.core.task(id).is_none()) {
                Some(unknown) => answer.error(no_task(unknown)),
                None => self.waiters.add(&self.core, &ids, answer),
            },
            Call::Events { since, follow } => {
                let (path, last) = (self.hands.journal_path(), self.last_fact.subscribe());
                self.tasks.start("events", move |stop| async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = streams::events(&path, since, follow, last, answer) => {}
                    }
                });
            }
            Call::Reload => {
                let id = self.waiting.add(answer);
                systemd::reloading();
                self.reloads.insert(id);
                self.hands.read_team(&mut self.tasks, id);
            }
            Call::Github => {
                let view = self.core.github_view(clock::now());
                answer.value(&GithubView { webhook: self.hands.webhook_view(), ..view });
            }
            Call::Route { issue } => match self.core.explain_route(&issue) {
                Some(route) => answer.value(&route),
                None => answer.error(
                    ReplyError::new(ErrorKind::Invalid, format!("no open issue `{issue}` with the label was read"))
                        .with_hint("write owner/name#12; `miyabi github sync` reads all issues anew"),
                ),
            },
            Call::Top => self.hands.answer_top(&mut self.tasks, &self.core, answer),
            Call::Request(request) => {
                let id = self.waiting.add(answer);
                self.hands.prepare(&mut self.tasks, self.core.plan(), id, request);
            }
        }
    }

    fn status(&self) -> Status {
        let snapshot = self.core.overview(clock::now());
        Status {
            supervisor: SupervisorView {
                pid: std::process::id(),
                version: version(),
                since: self.since,
                state: if snapshot.draining { SupervisorState::Draining } else { SupervisorState::Running },
                tmux_socket: Some(self.hands.tmux_socket().to_owned()),
                found: snapshot.found.clone(),
            },
            tasks: self.core.task_counts(),
            agents: snapshot.agents,
            queues: Vec::new(),
            merge_queues: snapshot.merge_queues,
            faults: snapshot.faults,
            alerts: snapshot.alerts,
            frozen: snapshot.frozen,
            holding: snapshot.holding,
            watching: self.watching(),
        }
    }

    fn watching(&self) -> BTreeMap<String, WatchFaults> {
        let own = ("supervisor".to_owned(), self.hint_faults.and(self.eyes.faults()));
        let of_runners = self.eyes.faults_of_runners().iter().map(|(agent, faults)| (agent.to_string(), *faults));
        std::iter::once(own).chain(of_runners).collect()
    }

    fn report(&self, id: &TaskId, answer: Answerer) {
        let record = self.core.task_record(id).or_else(|| {
            let envelope = id.as_str().parse().ok()?;
            let holds = |record: &&TaskRecord| record.attempts.iter().any(|attempt| attempt.envelope == envelope);
            self.core.durable().tasks.values().find(holds)
        });
        let Some(record) = record else { return answer.error(no_task(id)) };
        match record.attempts.iter().rev().find_map(|attempt| attempt.report.as_ref()) {
            Some(report) => answer.value(report),
            None => answer.error(
                ReplyError::new(ErrorKind::Refused, format!("{id} has no report yet"))
                    .with_hint(format!("see `miyabi task why {id}`")),
            ),
        }
    }
}

fn detail(core: &Core, id: &TaskId) -> Option<TaskDetail> {
    let record = core.task_record(id)?;
    let task = core.task(id)?;
    let blocked_by = core.unmet_needs(id);
    let spec = serde_json::to_value(&record.spec).unwrap_or_default();
    let attempts = record.attempts.iter().map(|attempt| attempt_view(id, record, attempt)).collect();
    let stages = stages_of(core.plan(), &record.spec).iter().map(|stage| stage.kind.name()).collect();
    let newest = record.attempts.iter().rev().find_map(|attempt| attempt.report.clone());
    let last_report = newest.filter(|_| task.state == TaskState::Dead);
    let edge = |need: &TaskId| EdgeView {
        need: need.clone(),
        from: core.origins_of(id, need),
        met: core.durable().is_met(need),
    };
    let edges = task.needs.iter().map(edge).collect();
    Some(TaskDetail { task, stages, spec, attempts, blocked_by, last_report, edges })
}

fn attempt_view(id: &TaskId, record: &TaskRecord, attempt: &AttemptRecord) -> AttemptView {
    let report = attempt.report.as_deref();
    AttemptView {
        attempt: attempt.attempt,
        stage: attempt.stage.clone(),
        agent: attempt.agent.clone(),
        state: match (&attempt.ended_at, &attempt.started) {
            (Some(_), _) => AttemptState::Ended,
            (None, Some(_)) => AttemptState::Leased,
            (None, None) => AttemptState::Queued,
        },
        outcome: report.map(|report| report.outcome),
        queued_at: attempt.queued_at,
        started_at: attempt.started.map(|(at, _)| at),
        ended_at: attempt.ended_at,
        reason: attempt.reason.clone(),
        branch: report.and_then(|report| report.branch.clone()).or_else(|| {
            record.needs_repository().then(|| branch_of(id, record, attempt.stage.as_str(), attempt.attempt))
        }),
        commit: report.and_then(|report| report.commit.clone()),
        log: report.and_then(|report| report.log.clone()),
    }
}

fn no_task(id: &TaskId) -> ReplyError {
    ReplyError::new(ErrorKind::Invalid, format!("there is no task `{id}`")).with_hint("see `miyabi task list`")
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// Says in one line how everything is; names the agents that are not well.
pub(super) fn status_line(core: &Core) -> String {
    let snapshot = core.overview(clock::now());
    let counts = core.task_counts();
    let unwell: Vec<String> = snapshot
        .agents
        .iter()
        .filter(|agent| match agent.state {
            AgentState::BackingOff | AgentState::CrashLoop | AgentState::Suspect => true,
            AgentState::Absent
            | AgentState::Starting
            | AgentState::Idle
            | AgentState::Busy
            | AgentState::Waiting
            | AgentState::Limited
            | AgentState::Stopping
            | AgentState::Paused => false,
        })
        .map(|agent| format!("{} {}", agent.id, agent.state.as_str()))
        .collect();
    let running = counts.get(&TaskState::Leased).copied().unwrap_or(0);
    let waiting: usize =
        [TaskState::Blocked, TaskState::Ready, TaskState::Queued].iter().filter_map(|state| counts.get(state)).sum();
    let ill = if unwell.is_empty() { String::new() } else { format!("; not well: {}", unwell.join(", ")) };
    let frozen = if snapshot.frozen.is_some() { "; frozen" } else { "" };
    let holding = snapshot.holding.map_or_else(String::new, |text| format!("; {text}"));
    format!("{} agents{ill}{frozen}{holding}; tasks: {running} running, {waiting} waiting", snapshot.agents.len())
}
