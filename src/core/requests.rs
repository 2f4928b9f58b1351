//! What people and programs ask for. Every request has exactly one answer, given when its facts are durable.

use std::time::Duration;

use crate::model::id::{AgentId, TaskId};
use crate::model::request::{Answer, RefusalKind, Request, RequestId, Submission};
use crate::model::task::{Assignee, Cache, NoChange, RepositoryChoice, TaskSpec, Work};

use super::Core;
use super::dag;
use super::effect::{Effect, Stop};
use super::event::Branches;
use super::fact::{DownCause, Fact, Hold, Keyed, Origin};
use super::liveness::Liveness;
use super::liveness::table::News;
use super::reload::target_of;
use super::state::Phase;

impl Core {
    pub(super) fn on_request(&mut self, id: RequestId, request: Request, branches: &Branches) {
        let answer = match request {
            Request::GithubSync => match self.github_sync(id) {
                Some(answer) => answer,
                // It is answered when every repository has answered.
                None => return,
            },
            Request::Submit(submission) => self.submit(*submission, branches),
            Request::TaskRetry { task, no_cache } => {
                let cache = if no_cache { Cache::Off } else { Cache::On };
                self.task_retry(&task, cache, branches)
            }
            Request::TaskCancel { task } => self.task_cancel(&task),
            Request::AgentRestart { agent } => self.agent_restart(&agent),
            Request::AgentPause { agent } => self.agent_pause(&agent),
            Request::AgentResume { agent } => self.agent_resume(&agent),
            Request::FreezeChanged => self.freeze_answer(),
            Request::Drain => self.begin_drain(),
        };
        self.push(Effect::Answer { id, answer });
    }

    fn submit(&mut self, submission: Submission, branches: &Branches) -> Answer {
        let key = submission.key.clone().map(|key| Keyed { key, print: dag::submission_print(&submission) });
        if let Some(answer) = key.as_ref().and_then(|key| self.submitted_before(key)) {
            return answer;
        }
        if self.drain.is_some() {
            return not_now("the supervisor is going down", "submit again when it is back");
        }
        let spec = match self.spec_of(submission) {
            Ok(spec) => spec,
            Err(answer) => return answer,
        };
        if let RepositoryChoice::Named(name) = &spec.repository
            && let Some(Err(reason)) = branches.get(name)
        {
            let hint = "check out the branch that the work shall be merged into";
            return not_now(&format!("repository {name} cannot be worked in: {reason}"), hint);
        }
        let run = self.fresh_run();
        let Ok(task) = TaskId::new(run.to_string()) else {
            return invalid("the order could not be named", None);
        };
        let target = target_of(&spec, branches);
        let fingerprint = dag::fingerprint(&spec);
        let spec = Box::new(spec);
        self.record(Fact::TaskAccepted {
            task: task.clone(),
            origin: Origin::Submitted,
            spec,
            fingerprint,
            target,
            run,
            key,
        });
        Answer::Submitted { task, run, repeated: false }
    }

    /// Answers an order whose key is known: with the task that it was accepted as, if it is the same order.
    fn submitted_before(&self, Keyed { key, print }: &Keyed) -> Option<Answer> {
        let (task, known) = self.durable.keys.get(key)?;
        let record = self.durable.tasks.get(task)?;
        Some(if known == print {
            Answer::Submitted { task: task.clone(), run: record.run, repeated: true }
        } else {
            let reason = format!("the key `{key}` belongs to {task}, which is another order");
            invalid(&reason, Some("use a new key for a new order, and the same one only to repeat it"))
        })
    }

    fn spec_of(&self, submission: Submission) -> Result<TaskSpec, Answer> {
        let work = match (submission.prompt, submission.run) {
            (Some(prompt), None) => Work::Prompt(prompt),
            (None, Some(run)) => Work::Run(run),
            (None, None) | (Some(_), Some(_)) => {
                return Err(invalid("an order has either a prompt or a command to run", None));
            }
        };
        let assignee = match (submission.agent, submission.role) {
            (Some(_), Some(_)) => return Err(invalid("an order names an agent or a role, not both", None)),
            (Some(agent), None) => match self.plan.agent(&agent) {
                Some(spec) if spec.takes_work() => Assignee::Agent(agent),
                Some(_) => return Err(invalid(&format!("{agent} shows the dashboard and takes no work"), None)),
                None => return Err(self.no_such_agent(&agent)),
            },
            (None, role) => {
                let role = role
                    .or_else(|| self.plan.workflow.stages.first().map(|stage| stage.role.clone()))
                    .ok_or_else(|| invalid("no role is asked for and the workflow has no stage", None))?;
                if !self.plan.agents.iter().any(|agent| agent.role == role && agent.takes_work()) {
                    return Err(invalid(&format!("no agent has the role {role}"), Some("see `miyabi agent list`")));
                }
                Assignee::Role(role)
            }
        };
        let repository = match submission.repo {
            Some(name) if name.as_str() == "none" => RepositoryChoice::None,
            Some(name) if self.plan.repository(&name).is_some() => RepositoryChoice::Named(name),
            Some(name) => return Err(invalid(&format!("there is no repository {name}"), Some("see agents.toml"))),
            None => match self.plan.repositories.as_slice() {
                [only] => RepositoryChoice::Named(only.name.clone()),
                [] => {
                    return Err(invalid("agents.toml has no [[repository]]", Some("add one, or say `--repo none`")));
                }
                [_, ..] => return Err(invalid("there are several repositories", Some("say which with `--repo`"))),
            },
        };
        if let Some(unknown) =
            submission.needs.iter().find(|need| !self.durable.tasks.contains_key(need) && !self.is_issue_of_ours(need))
        {
            return Err(invalid(&format!("it needs {unknown}, which is not known"), Some("see `miyabi task list`")));
        }
        Ok(TaskSpec {
            needs: submission.needs,
            checks: submission.checks,
            no_change: submission.no_change.unwrap_or(NoChange::Refused),
            timeout: submission.timeout_ms.map(Duration::from_millis),
            retry: submission.retry.unwrap_or_default(),
            priority: submission.priority,
            cache: if submission.cache == Some(true) { Cache::On } else { Cache::Off },
            ..TaskSpec::plain(assignee, work, repository)
        })
    }

    /// Begins a new run; `cache` says whether it may take an earlier result.
    pub(super) fn task_retry(&mut self, task: &TaskId, cache: Cache, branches: &Branches) -> Answer {
        let Some(record) = self.durable.tasks.get(task) else { return no_such_task(task) };
        match &record.phase {
            Phase::Queued => {
                return not_now(&format!("{task} is being worked on"), "cancel it first: `miyabi task cancel`");
            }
            Phase::Merging { .. } => {
                // The work is proven: what is tried again is the merge, at once.
                self.merge_retries.remove(task);
                self.write_again(task);
                return Answer::Accepted { message: format!("{task} is merged again now") };
            }
            Phase::Waiting { .. } | Phase::Done { .. } | Phase::Failed { .. } | Phase::Cancelled { .. } => {}
        }
        let spec = record.pending.as_ref().map_or(&record.spec, |(spec, _)| spec);
        let target = target_of(spec, branches).or_else(|| record.target.clone());
        let run = self.fresh_run();
        let no_cache = cache == Cache::Off;
        self.record(Fact::TaskRetried { task: task.clone(), run, target, no_cache });
        self.schedule_now(task);
        Answer::Accepted { message: format!("{task} begins run {run}") }
    }

    pub(super) fn task_cancel(&mut self, task: &TaskId) -> Answer {
        let Some(record) = self.durable.tasks.get(task) else { return no_such_task(task) };
        match &record.phase {
            Phase::Done { .. } => not_now(&format!("{task} is done"), "revert its commit instead"),
            Phase::Cancelled { .. } => Answer::Accepted { message: format!("{task} was cancelled before") },
            Phase::Merging { .. } if self.merges.values().any(|under_way| under_way.task == *task) => {
                not_now(&format!("{task} is being merged"), "look again in a moment")
            }
            Phase::Waiting { .. } | Phase::Queued | Phase::Merging { .. } | Phase::Failed { .. } => {
                self.cancel(task, "by the operator");
                Answer::Accepted { message: format!("{task} is cancelled") }
            }
        }
    }

    fn agent_restart(&mut self, agent: &AgentId) -> Answer {
        if self.plan.agent(agent).is_none() {
            return self.no_such_agent(agent);
        }
        if let Some(hold) = self.hold_of(agent) {
            return not_now(&held_text(agent, hold), &format!("use `miyabi agent resume {agent}`"));
        }
        let Some(live) = self.agents.get(agent) else { return self.no_such_agent(agent) };
        match &live.state {
            Liveness::Starting { .. } | Liveness::Up { .. } | Liveness::Suspect { .. } => {
                self.stop(agent, News::RestartAsked, DownCause::Operator, Stop::Term);
            }
            Liveness::BackingOff { .. } => self.enter(agent, News::RestartAsked, Liveness::Absent),
            Liveness::Absent | Liveness::Spawning { .. } | Liveness::Stopping { .. } | Liveness::Clearing { .. } => {}
            Liveness::Held(hold) => return not_now(&held_text(agent, *hold), "use `miyabi agent resume`"),
        }
        Answer::Accepted { message: format!("{agent} is started again") }
    }

    fn agent_pause(&mut self, agent: &AgentId) -> Answer {
        if self.plan.agent(agent).is_none() {
            return self.no_such_agent(agent);
        }
        if self.hold_of(agent) != Some(Hold::Paused) {
            self.record(Fact::AgentHeld { agent: agent.clone(), hold: Hold::Paused });
        }
        let down = self.agents.get(agent).is_none_or(|live| live.state.is_down());
        if down {
            self.enter(agent, News::Held, Liveness::Held(Hold::Paused));
        }
        let message =
            if down { format!("{agent} is paused") } else { format!("{agent} is paused as soon as it is free") };
        Answer::Accepted { message }
    }

    fn agent_resume(&mut self, agent: &AgentId) -> Answer {
        if self.plan.agent(agent).is_none() {
            return self.no_such_agent(agent);
        }
        if self.hold_of(agent).is_none() {
            return Answer::Accepted { message: format!("{agent} was not held") };
        }
        self.record(Fact::AgentReleased { agent: agent.clone() });
        if matches!(self.agents.get(agent).map(|live| &live.state), Some(Liveness::Held(_))) {
            self.enter(agent, News::Released, Liveness::Absent);
        }
        Answer::Accepted { message: format!("{agent} runs again") }
    }

    fn no_such_agent(&self, agent: &AgentId) -> Answer {
        let names: Vec<&str> = self.plan.agents.iter().map(|spec| spec.id.as_str()).collect();
        invalid(&format!("there is no agent {agent}"), Some(&format!("there are: {}", names.join(", "))))
    }
}

fn held_text(agent: &AgentId, hold: Hold) -> String {
    match hold {
        Hold::Paused => format!("{agent} is paused"),
        Hold::CrashLoop => format!("{agent} has used up its restarts"),
        Hold::Ended => format!("{agent} has ended for good"),
    }
}

fn no_such_task(task: &TaskId) -> Answer {
    invalid(&format!("there is no task {task}"), Some("see `miyabi task list`"))
}

pub(super) fn invalid(reason: &str, hint: Option<&str>) -> Answer {
    Answer::Refused { reason: reason.to_owned(), hint: hint.map(str::to_owned), kind: RefusalKind::Invalid }
}

pub(super) fn not_now(reason: &str, hint: &str) -> Answer {
    Answer::Refused { reason: reason.to_owned(), hint: Some(hint.to_owned()), kind: RefusalKind::NotNow }
}
