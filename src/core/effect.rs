//! Effects: something we want done.

use crate::model::alert::Alert;
use crate::model::id::{AgentId, EnvelopeId, Incarnation, RepositoryName, RunId, TaskId};
use crate::model::order::WorkOrder;
use crate::model::request::{Answer, RequestId};
use crate::model::stock::{AttemptBranch, AttemptLog};

use super::fact::Recorded;
use super::github::GithubEffect;
use super::state::Rebased;

/// Something that the core wants done. Whoever runs them keeps their order, and begins none before the records in front of it are durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make a fact durable. If that fails, the supervisor ends.
    Record(Recorded),
    /// Make a pane with the agent's runner. Ends as `PaneSpawned` or `PaneSpawnFailed`; asking twice makes one pane.
    SpawnPane {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
    },
    /// Watch a pane that was found. Ends as `PaneDied`.
    AdoptPane {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
        /// The pane.
        pane: String,
        /// Its runner's process id.
        pid: u32,
    },
    /// End a pane's runner. Ends as `PaneDied`.
    StopPane {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
        /// How.
        how: Stop,
    },
    /// End every process that an incarnation left, deliver its reports, look for its order. Ends as `RemainsCleared`.
    ClearRemains {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
        /// The order to look for.
        order: Option<EnvelopeId>,
    },
    /// Look at an agent's processes. Ends as `Probed`.
    Probe {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
        /// Its runner's process id.
        pid: u32,
    },
    /// Write a work order to the agent's mailbox; asking twice writes one. Only failure comes back, as `OrderNotDelivered`.
    DeliverOrder(Box<WorkOrder>),
    /// Look where a work order lies. Ends as `OrderInspected`.
    InspectOrder {
        /// Whose mailbox.
        agent: AgentId,
        /// Which order.
        envelope: EnvelopeId,
    },
    /// Take a work order out of the agent's mailbox wherever it lies. Only success comes back, as `OrderRetired`.
    RetireOrder {
        /// Whose mailbox.
        agent: AgentId,
        /// Which order.
        envelope: EnvelopeId,
        /// Where it goes.
        how: Retire,
    },
    /// Throw away logs of attempts, unless somebody has written to them meanwhile. No answer.
    ForgetLogs(Vec<AttemptLog>),
    /// Delete branches of attempts whose work is elsewhere too. No answer.
    ForgetBranches {
        /// The repository.
        repository: RepositoryName,
        /// The branches.
        branches: Vec<AttemptBranch>,
    },
    /// Send a message to an agent whose attempt stands still. No answer.
    Nudge {
        /// Who.
        agent: AgentId,
        /// What is said.
        text: String,
    },
    /// Suspend everything below the runners, or let it go on, as the operator's mark says. No answer: it is asked for again.
    ObeyFreeze,
    /// Tell the operator's program of an alert. No answer, and never asked for twice.
    Alert(Alert),
    /// Acknowledge a report that was applied or recorded.
    AckReport {
        /// Its receipt.
        receipt: String,
    },
    /// Put a proven commit onto its target branch, or in a queue onto its newest commit first. Ends as `MergeEnded`; asking
    /// twice merges once.
    Merge(Merge),
    /// Look which of some known results begins on the newest commit of a branch and is still there. Ends as `ResultFound`.
    FindResult(FindResult),
    /// Ask or write something on GitHub.
    Github(Box<GithubEffect>),
    /// Answer a request.
    Answer {
        /// Which.
        id: RequestId,
        /// With what.
        answer: Answer,
    },
    /// Every agent is down: end the supervisor.
    Exit,
}

/// How a pane's runner is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is asked to end.
    Term,
    /// It is killed.
    Kill,
}

/// Where a work order goes that nobody shall lease any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retire {
    /// Its report is in.
    Done,
    /// It was given up.
    Dead {
        /// Why.
        reason: String,
    },
}

/// A proven commit on its way to its target branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The task.
    pub task: TaskId,
    /// Its run: each begins to count its attempts anew.
    pub run: RunId,
    /// The attempt.
    pub attempt: u32,
    /// The repository.
    pub repository: RepositoryName,
    /// The branch that shall hold the commit.
    pub target: String,
    /// The commit.
    pub commit: String,
    /// The commit on which the work began.
    pub base: String,
    /// What identifies the commit on the target branch, e.g. `01J.../code/2`.
    pub trailer: String,
    /// What must hold of what is merged.
    pub terms: Terms,
}

/// What must hold of a commit that becomes the newest one of its target branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terms {
    /// Its change fits; where the branch has moved since, it is replayed and merged.
    Fits,
    /// It was checked as it is, on just the commit that the branch ends with. The change of a branch that has moved is replayed
    /// and not merged: it ends as `Rebased`.
    Proven {
        /// The replayed commit that was checked meanwhile.
        rebased: Option<Rebased>,
    },
}

/// A look for an earlier result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindResult {
    /// The task.
    pub task: TaskId,
    /// Its run.
    pub run: RunId,
    /// The repository.
    pub repository: RepositoryName,
    /// The branch on whose newest commit the work would begin.
    pub target: String,
    /// The commits on which the known results begin, and their own, where they have one.
    pub known: Vec<(String, Option<String>)>,
}
