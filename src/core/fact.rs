//! Facts: what must survive a crash. The journal holds them in order; replaying them gives the durable state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::github::state::GithubFact;
use super::issues::FileIssue;
use super::memo;
use crate::model::agent::StallAnswer;
use crate::model::alert::Alert;
use crate::model::github::IssueRef;
use crate::model::id::{AgentId, EnvelopeId, Incarnation, PoolName, RunId, StageName, SubmissionKey, TaskId};
use crate::model::report::{FailureKind, Report};
use crate::model::span;
use crate::model::stage::StageKind;
use crate::model::task::{FailureClass, TaskSpec};
use crate::model::time::Timestamp;

mod told;

/// The version of [`Fact`]'s JSON form; older versions are still read.
pub const FACT_VERSION: i64 = 7;

/// Something that has happened and must never be forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    /// The journal was begun; the seed makes identifiers and jitter of this root its own.
    Begun {
        /// Any number.
        seed: u64,
    },
    /// An agent is about to be started; the number can never be used again.
    SpawnRequested {
        /// Who.
        agent: AgentId,
        /// The number of the start.
        incarnation: Incarnation,
        /// Whether the start counts against the restart budget.
        budget: Budget,
    },
    /// An agent is ready for the first time in this incarnation.
    AgentUp {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
    },
    /// An agent's incarnation has come to its end.
    AgentDown {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
        /// Why.
        cause: DownCause,
        /// How many faulty ends have now followed one another without a stable time.
        streak: u32,
    },
    /// An agent stays down until it is released.
    AgentHeld {
        /// Who.
        agent: AgentId,
        /// Why.
        hold: Hold,
    },
    /// An agent may be started again; its restart budget begins anew.
    AgentReleased {
        /// Who.
        agent: AgentId,
    },
    /// agents.toml was read again and is in force.
    TeamChanged {
        /// What changed, for people.
        text: String,
    },
    /// The supervisor came back and found what an earlier one had left.
    TeamFound {
        /// The agents that were adopted at work.
        adopted: Vec<AgentId>,
        /// What differed from what the journal says, a line each, for people.
        repaired: Vec<String>,
    },
    /// A task is known from now on.
    TaskAccepted {
        /// Its id.
        task: TaskId,
        /// Where it comes from.
        origin: Origin,
        /// What is to be done.
        spec: Box<TaskSpec>,
        /// The hash of what is executed.
        fingerprint: String,
        /// The branch that its work will be merged into; absent without a repository, or when that has no usable branch yet.
        target: Option<String>,
        /// Its first run.
        run: RunId,
        /// By which it is found when it is submitted again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Keyed>,
    },
    /// A task's text was changed while it waited, or after it had failed: the new text is in force.
    TaskReplaced {
        /// Which.
        task: TaskId,
        /// What is to be done now.
        spec: Box<TaskSpec>,
        /// The hash of what is executed.
        fingerprint: String,
        /// The branch that its work will be merged into.
        target: Option<String>,
    },
    /// A task's text was changed while it ran or after it was done: the new text counts from the next attempt on.
    TaskDeferred {
        /// Which.
        task: TaskId,
        /// What is to be done next time.
        spec: Box<TaskSpec>,
        /// The hash of what is executed.
        fingerprint: String,
    },
    /// A task has left its file, but runs on or keeps its result.
    TaskDetached {
        /// Which.
        task: TaskId,
    },
    /// A task has come back into its file.
    TaskReattached {
        /// Which.
        task: TaskId,
    },
    /// A new run of a task begins.
    TaskRetried {
        /// Which.
        task: TaskId,
        /// The new run.
        run: RunId,
        /// The branch that its work will be merged into.
        target: Option<String>,
        /// Whether the work is done again although an earlier result is known.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_cache: bool,
    },
    /// A task was given up.
    TaskCancelled {
        /// Which.
        task: TaskId,
        /// By what.
        reason: String,
    },
    /// The run of a task that comes again begins at a time.
    RunScheduled {
        /// Which task.
        task: TaskId,
        /// When.
        at: Timestamp,
    },
    /// A run has not ended within its `sla`. It goes on.
    SlaMissed {
        /// Which task.
        task: TaskId,
        /// Until when it should have ended.
        due: Timestamp,
    },
    /// A dependency file that is in force declares these pools, and no others.
    PoolsDeclared {
        /// The file's stem.
        stem: String,
        /// The slots of each pool.
        pools: BTreeMap<PoolName, u32>,
    },
    /// A dependency file that is in force lists an issue, or none does any more.
    IssueListed {
        /// The task that the issue is, or would be.
        task: TaskId,
        /// What the file says of it; absent: no file lists it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listed: Option<Box<FileIssue>>,
    },
    /// An envelope with a work order is intended; from now on it is delivered whatever happens.
    AttemptQueued {
        /// The task.
        task: TaskId,
        /// The run.
        run: RunId,
        /// The stage.
        stage: StageName,
        /// The number of the attempt.
        attempt: u32,
        /// Who is asked.
        agent: AgentId,
        /// The envelope.
        envelope: EnvelopeId,
    },
    /// An agent has begun an attempt.
    AttemptStarted {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: u32,
        /// Which start of the agent.
        incarnation: Incarnation,
    },
    /// An attempt was taken back; it does not count as a failure.
    AttemptWithdrawn {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: u32,
        /// Why.
        reason: String,
        /// When it may be tried again; absent: at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Timestamp>,
    },
    /// An attempt has shown no progress for its stall time.
    AttemptStalled {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: u32,
        /// Whose.
        agent: AgentId,
        /// Since how many milliseconds.
        still_ms: u64,
        /// What follows.
        answer: StallAnswer,
    },
    /// All dispatch has stopped and the agents are suspended, because the operator froze the root.
    Frozen {
        /// When the operator said so.
        since: Timestamp,
    },
    /// The operator let everything go on.
    Thawed,
    /// Something needs an operator's eye.
    AlertRaised {
        /// What.
        alert: Alert,
    },
    /// An alert is over.
    AlertCleared {
        /// Which, e.g. `crash-loop/kaede`.
        key: String,
    },
    /// An attempt ended without a report, or its commit could not be merged.
    AttemptFailed {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: u32,
        /// Why.
        cause: AttemptCause,
        /// One line for people.
        reason: String,
        /// What follows.
        then: Then,
    },
    /// An attempt's report was applied.
    ReportAccepted {
        /// The report.
        report: Box<Report>,
        /// What follows.
        then: Then,
    },
    /// What a task's newest report proves is kept, for the same order later.
    ResultKept {
        /// The task.
        task: TaskId,
        /// What the result depends on.
        origin: memo::Origin,
    },
    /// The earlier result of the same order was taken instead of an attempt.
    ResultReused {
        /// The task.
        task: TaskId,
        /// Its run.
        run: RunId,
        /// The report of the attempt that has proven it.
        report: Box<Report>,
        /// What follows.
        then: Then,
    },
    /// A report was not applied: its attempt is not the current one.
    ReportStale {
        /// The task.
        task: TaskId,
        /// The attempt that is reported.
        attempt: u32,
        /// Why it was not applied.
        reason: String,
    },
    /// A proven commit cannot be merged for now.
    MergeParked {
        /// The task.
        task: TaskId,
        /// Why.
        reason: String,
    },
    /// A proven commit was put onto the newest commit of its target branch, and is checked there.
    Rebased {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: u32,
        /// The commit that it has become.
        commit: String,
        /// The newest commit of the target branch.
        onto: String,
    },
    /// A proven commit is on the target branch.
    Merged {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: u32,
        /// The commit on the target branch.
        commit: String,
        /// The stage that follows; absent: the task is done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<StageKind>,
    },
    /// A proven task goes back to its author: people ask for changes of its pull request.
    ReworkAsked {
        /// The task.
        task: TaskId,
        /// The run.
        run: RunId,
    },
    /// Something between us and GitHub.
    Github(GithubFact),
}

/// The key of a submitted order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyed {
    /// The key.
    pub key: SubmissionKey,
    /// A hash of what was submitted with it.
    pub print: String,
}

/// A fact with the time at which it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When.
    pub at: Timestamp,
    /// What.
    pub fact: Fact,
}

/// Whether a start counts against the restart budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// The first start, or one that the operator asked for.
    Free,
    /// A restart after an end that nobody asked for.
    Counted,
}

/// Why an incarnation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum DownCause {
    /// The runner ended and said so in its last beat.
    Clean,
    /// The pane died.
    PaneDied,
    /// No ready beat within the start timeout.
    StartTimeout,
    /// Two independent signs said that it hung.
    Silent,
    /// Its attempt ran far beyond every limit.
    Overdue,
    /// Its attempt stood still for longer than its stall time.
    Stalled,
    /// The pane could not be made.
    SpawnFailed {
        /// What tmux said.
        reason: String,
    },
    /// The operator asked for it.
    Operator,
    /// The supervisor is going down.
    Drain,
    /// Its pane was not found at the supervisor's start.
    Lost,
    /// It was taken out of agents.toml.
    Removed,
    /// Its settings in agents.toml were changed.
    Reconfigured,
}

impl DownCause {
    /// Says whether the end was nobody's wish.
    #[must_use]
    pub const fn is_fault(&self) -> bool {
        match self {
            Self::PaneDied
            | Self::StartTimeout
            | Self::Silent
            | Self::Overdue
            | Self::Stalled
            | Self::SpawnFailed { .. }
            | Self::Clean => true,
            Self::Operator | Self::Drain | Self::Lost | Self::Removed | Self::Reconfigured => false,
        }
    }

    /// Tells it to people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Clean => "ended by itself".to_owned(),
            Self::PaneDied => "died with its pane".to_owned(),
            Self::StartTimeout => "was not ready within its start timeout".to_owned(),
            Self::Silent => "was silent and its processes stood still".to_owned(),
            Self::Overdue => "was far beyond its time limit".to_owned(),
            Self::Stalled => "showed no progress any more".to_owned(),
            Self::SpawnFailed { reason } => format!("could not be started: {reason}"),
            Self::Operator => "was stopped by the operator".to_owned(),
            Self::Drain => "was stopped with the supervisor".to_owned(),
            Self::Lost => "was gone when the supervisor came back".to_owned(),
            Self::Removed => "was taken out of the team".to_owned(),
            Self::Reconfigured => "was stopped because its settings have changed".to_owned(),
        }
    }
}

/// Why an agent stays down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// The operator paused it.
    Paused,
    /// Its restart budget is used up.
    CrashLoop,
    /// It ended, and its restart policy leaves it so.
    Ended,
}

/// Where a task comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Origin {
    /// A dependency file.
    File {
        /// The file's stem.
        stem: String,
        /// The file's path as shown to people.
        path: String,
    },
    /// A person or program that submitted it.
    Submitted,
    /// We ask the healer about a task that has failed for good.
    Healer {
        /// The task.
        of: TaskId,
        /// Its run.
        run: RunId,
    },
    /// An issue on GitHub.
    Issue {
        /// The issue.
        issue: IssueRef,
    },
}

/// Why an attempt failed, as the supervisor sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum AttemptCause {
    /// Its runner died.
    Crashed,
    /// Its runner was ended because it was far beyond every limit.
    Overdue,
    /// Its runner was ended because it stood still.
    Stalled,
    /// Its order ended in the spool without a report.
    Lost,
    /// Its commit does not fit onto the target branch.
    Conflict,
    /// The report says why.
    Reported {
        /// Which kind of failure.
        kind: FailureKind,
    },
}

impl AttemptCause {
    /// Returns the kind of failure as policies tell it apart; nothing if it is nobody's failure.
    #[must_use]
    pub const fn class(self) -> Option<FailureClass> {
        match self {
            Self::Crashed | Self::Lost => Some(FailureClass::Crash),
            Self::Overdue | Self::Stalled => Some(FailureClass::Timeout),
            Self::Conflict => Some(FailureClass::Conflict),
            Self::Reported { kind } => kind.class(),
        }
    }
}

/// What follows the end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "kebab-case")]
pub enum Then {
    /// The task is done.
    Done,
    /// The commit is merged.
    Merge,
    /// The run goes on to a later stage.
    Stage {
        /// Which.
        stage: StageKind,
    },
    /// A review asks for changes: whoever did the work gets it back.
    Rework,
    /// The commit does not hold where it would be merged: whoever did the work gets it back as it is there.
    Redo,
    /// Another attempt, not before a time.
    Retry {
        /// The time.
        not_before: Timestamp,
    },
    /// All attempts are used up.
    GiveUp,
}

/// A fact as it is told to people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The fact's name, e.g. `task-accepted`.
    pub kind: &'static str,
    /// The agent it is about.
    pub agent: Option<AgentId>,
    /// The incarnation it is about.
    pub incarnation: Option<Incarnation>,
    /// The task it is about.
    pub task: Option<TaskId>,
    /// The attempt it is about.
    pub attempt: Option<u32>,
    /// One line for people.
    pub text: String,
}

/// Tells what a supervisor found when it came back.
#[must_use]
pub fn found_text(adopted: &[AgentId], repaired: &[String]) -> String {
    let names: Vec<&str> = adopted.iter().map(AgentId::as_str).collect();
    let adopted = match names.as_slice() {
        [] => "no agent was found at work".to_owned(),
        [..] => format!("{} agents were found at work: {}", names.len(), names.join(", ")),
    };
    match repaired {
        [] => format!("{adopted}; everything agrees"),
        [..] => format!("{adopted}; repaired: {}", repaired.join("; ")),
    }
}

fn pools_text(stem: &str, pools: &BTreeMap<PoolName, u32>) -> String {
    if pools.is_empty() {
        return format!("the file {stem} declares no pools any more");
    }
    let list: Vec<String> = pools.iter().map(|(pool, slots)| format!("{pool}: {slots}")).collect();
    format!("the file {stem} declares the pools {}", list.join(", "))
}

impl Fact {
    /// Tells the fact to people and programs.
    #[must_use]
    pub fn tell(&self) -> Told {
        match self {
            Self::Begun { .. } => Told::new("begun", "the journal was begun".to_owned()),
            Self::TeamChanged { text } => Told::new("team-changed", format!("agents.toml was read again: {text}")),
            Self::TeamFound { adopted, repaired } => Told::new("team-found", found_text(adopted, repaired)),
            Self::Frozen { since } => {
                Told::new("frozen", format!("everything is frozen since {since}; `miyabi thaw` goes on"))
            }
            Self::Thawed => Told::new("thawed", "everything goes on".to_owned()),
            Self::AlertRaised { alert } => Told {
                agent: alert.agent.clone(),
                task: alert.task.clone(),
                ..Told::new("alert-raised", alert.text.clone())
            },
            Self::PoolsDeclared { stem, pools } => Told::new("pools-declared", pools_text(stem, pools)),
            Self::AlertCleared { key } => Told::new("alert-cleared", format!("{key} is over")),
            Self::SpawnRequested { .. }
            | Self::AgentUp { .. }
            | Self::AgentDown { .. }
            | Self::AgentHeld { .. }
            | Self::AgentReleased { .. } => self.tell_of_agent(),
            Self::TaskAccepted { .. }
            | Self::TaskReplaced { .. }
            | Self::TaskDeferred { .. }
            | Self::TaskDetached { .. }
            | Self::TaskReattached { .. }
            | Self::TaskRetried { .. }
            | Self::TaskCancelled { .. }
            | Self::SlaMissed { .. }
            | Self::RunScheduled { .. }
            | Self::ResultKept { .. }
            | Self::ResultReused { .. }
            | Self::IssueListed { .. }
            | Self::MergeParked { .. } => self.tell_of_task(),
            Self::AttemptQueued { .. }
            | Self::AttemptStarted { .. }
            | Self::AttemptWithdrawn { .. }
            | Self::AttemptStalled { .. }
            | Self::AttemptFailed { .. }
            | Self::ReportAccepted { .. }
            | Self::ReportStale { .. }
            | Self::Rebased { .. }
            | Self::Merged { .. } => self.tell_of_attempt(),
            Self::ReworkAsked { task, .. } => {
                Told::new("rework-asked", format!("{task} goes back to its author")).of_task(task)
            }
            Self::Github(fact) => fact.tell(),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "tell names every variant; this is its part on agents")]
    fn tell_of_agent(&self) -> Told {
        match self {
            Self::SpawnRequested { agent, incarnation, budget } => {
                let text = match budget {
                    Budget::Free => format!("{agent} is started"),
                    Budget::Counted => format!("{agent} is started again"),
                };
                Told::new("spawn-requested", text).of_agent(agent, *incarnation)
            }
            Self::AgentUp { agent, incarnation } => {
                Told::new("agent-up", format!("{agent} is ready")).of_agent(agent, *incarnation)
            }
            Self::AgentDown { agent, incarnation, cause, .. } => {
                Told::new("agent-down", format!("{agent} {}", cause.text())).of_agent(agent, *incarnation)
            }
            Self::AgentHeld { agent, hold } => {
                let text = match hold {
                    Hold::Paused => format!("{agent} is paused"),
                    Hold::CrashLoop => {
                        format!("{agent} used up its restarts and stays down; `miyabi agent resume {agent}` clears it")
                    }
                    Hold::Ended => format!("{agent} has ended and its restart policy leaves it so"),
                };
                Told { agent: Some(agent.clone()), ..Told::new("agent-held", text) }
            }
            Self::AgentReleased { agent } => {
                Told { agent: Some(agent.clone()), ..Told::new("agent-released", format!("{agent} may run again")) }
            }
            _ => Told::new("other", String::new()),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "tell names every variant; this is its part on tasks")]
    fn tell_of_task(&self) -> Told {
        match self {
            Self::TaskAccepted { task, origin, .. } => {
                let text = match origin {
                    Origin::File { path, .. } => format!("{task} is accepted from {path}"),
                    Origin::Submitted => format!("{task} is accepted"),
                    Origin::Healer { of, .. } => format!("{task} is to find out why {of} failed"),
                    Origin::Issue { issue } => format!("{task} is accepted from {issue}"),
                };
                Told::new("task-accepted", text).of_task(task)
            }
            Self::TaskReplaced { task, .. } => {
                Told::new("task-replaced", format!("{task} has a new text")).of_task(task)
            }
            Self::TaskDeferred { task, .. } => {
                Told::new("task-deferred", format!("{task} has a new text for its next attempt")).of_task(task)
            }
            Self::TaskDetached { task } => {
                Told::new("task-detached", format!("{task} has left its file")).of_task(task)
            }
            Self::TaskReattached { task } => {
                Told::new("task-reattached", format!("{task} is in its file again")).of_task(task)
            }
            Self::TaskRetried { task, run, .. } => {
                Told::new("task-retried", format!("{task} begins run {run}")).of_task(task)
            }
            Self::TaskCancelled { task, reason } => {
                Told::new("task-cancelled", format!("{task} is cancelled: {reason}")).of_task(task)
            }
            Self::RunScheduled { task, at } => {
                Told::new("run-scheduled", format!("{task} begins its run at {at}")).of_task(task)
            }
            Self::SlaMissed { task, due } => {
                Told::new("sla-missed", format!("{task} should have been done by {due}")).of_task(task)
            }
            Self::ResultKept { task, origin } => {
                Told::new("result-kept", format!("the result of {task} by {} is kept", origin.agent)).of_task(task)
            }
            Self::ResultReused { task, report, then, .. } => {
                let text = format!(
                    "{task} takes the result of {} in run {}: {}{}",
                    report.task,
                    report.run,
                    report.summary.lines().next().unwrap_or_default(),
                    then.text()
                );
                Told::new("result-reused", text).of_task(task)
            }
            Self::IssueListed { task, listed } => {
                let text = match listed {
                    Some(listed) => format!("{} lists the issue {}", listed.path, listed.issue),
                    None => format!("no file lists the issue of {task} any more"),
                };
                Told::new("issue-listed", text).of_task(task)
            }
            Self::MergeParked { task, reason } => {
                Told::new("merge-parked", format!("{task} waits to be merged: {reason}")).of_task(task)
            }
            _ => Told::new("other", String::new()),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "tell names every variant; this is its part on attempts")]
    fn tell_of_attempt(&self) -> Told {
        match self {
            Self::AttemptQueued { task, attempt, agent, .. } => {
                let told = Told::new("attempt-queued", format!("{task} attempt {attempt} is ordered from {agent}"));
                Told { agent: Some(agent.clone()), ..told.of_attempt(task, *attempt) }
            }
            Self::AttemptStarted { task, attempt, incarnation } => {
                let told = Told::new("attempt-started", format!("{task} attempt {attempt} has begun"));
                Told { incarnation: Some(*incarnation), ..told.of_attempt(task, *attempt) }
            }
            Self::AttemptStalled { task, attempt, agent, still_ms, answer } => {
                let still = span::format(std::time::Duration::from_secs(still_ms / 1_000));
                let follows = match answer {
                    StallAnswer::Escalate => "the operator is told",
                    StallAnswer::Nudge => "the agent is sent a message",
                    StallAnswer::Restart => "the agent is ended",
                };
                let text = format!("{task} attempt {attempt} shows no progress for {still}: {follows}");
                let told = Told::new("attempt-stalled", text).of_attempt(task, *attempt);
                Told { agent: Some(agent.clone()), ..told }
            }
            Self::AttemptWithdrawn { task, attempt, reason, .. } => {
                Told::new("attempt-withdrawn", format!("{task} attempt {attempt} is taken back: {reason}"))
                    .of_attempt(task, *attempt)
            }
            Self::AttemptFailed { task, attempt, reason, then, .. } => {
                Told::new("attempt-failed", format!("{task} attempt {attempt} failed: {reason}{}", then.text()))
                    .of_attempt(task, *attempt)
            }
            Self::ReportAccepted { report, then } => {
                let text = format!(
                    "{} attempt {} reports {}: {}{}",
                    report.task,
                    report.attempt,
                    report.outcome.as_str(),
                    report.summary.lines().next().unwrap_or_default(),
                    then.text()
                );
                let told = Told::new("report-accepted", text).of_attempt(&report.task, report.attempt);
                Told { agent: Some(report.agent.clone()), incarnation: Some(report.incarnation), ..told }
            }
            Self::ReportStale { task, attempt, reason } => {
                Told::new("report-stale", format!("{task} attempt {attempt} reported in vain: {reason}"))
                    .of_attempt(task, *attempt)
            }
            Self::Rebased { task, attempt, commit, onto } => {
                let short = |commit: &str| commit.get(..10).unwrap_or(commit).to_owned();
                let text = format!("{task} is put onto {} as {}, and checked again", short(onto), short(commit));
                Told::new("rebased", text).of_attempt(task, *attempt)
            }
            Self::Merged { task, attempt, commit, next } => {
                let short = commit.get(..10).unwrap_or(commit);
                let next = next.map_or_else(String::new, |stage| Then::Stage { stage }.text());
                Told::new("merged", format!("{task} is merged as {short}{next}")).of_attempt(task, *attempt)
            }
            _ => Told::new("other", String::new()),
        }
    }
}
