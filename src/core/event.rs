//! Events: something happened outside.

use std::collections::BTreeMap;
use std::time::Duration;

use super::github::GithubEvent;
use super::state::Rebased;
use crate::model::agent::AgentSpec;
use crate::model::beat::Beat;
use crate::model::fault::Fault;
use crate::model::id::{AgentId, EnvelopeId, Incarnation, RepositoryName, RunId, TaskId};
use crate::model::plan::Plan;
use crate::model::report::Report;
use crate::model::request::{Request, RequestId};
use crate::model::size::Size;
use crate::model::stock::{AttemptBranch, Stock};
use crate::model::task::TaskFile;
use crate::model::time::Timestamp;

/// Something that happened outside of the core.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The supervisor has looked around; comes once, after the reports that were waiting, and before any other event.
    Started {
        /// The panes that carry an agent's tag.
        panes: Vec<PaneFound>,
        /// Where the work orders lie that the journal holds for open.
        orders: BTreeMap<EnvelopeId, OrderPlace>,
    },
    /// A pane was made.
    PaneSpawned {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
        /// The pane.
        pane: String,
        /// Its runner's process id.
        pid: u32,
    },
    /// A pane could not be made.
    PaneSpawnFailed {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
        /// What was said.
        reason: String,
    },
    /// The process of a pane is gone; confirmed.
    PaneDied {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
    },
    /// No process of the incarnation is left, and every report that it delivered has come as an event before this one.
    RemainsCleared {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
        /// Where the order lies that was asked for.
        order: Option<OrderPlace>,
    },
    /// Heartbeat files have changed, a few of them or those of the whole team.
    BeatsSeen(Vec<Beat>),
    /// The answer to [`super::effect::Effect::Probe`].
    Probed {
        /// Who.
        agent: AgentId,
        /// Which start.
        incarnation: Incarnation,
        /// What was seen; `None`: nothing could be seen, which means nothing.
        evidence: Option<Evidence>,
    },
    /// The answer to [`super::effect::Effect::InspectOrder`].
    OrderInspected {
        /// Whose mailbox.
        agent: AgentId,
        /// Which order.
        envelope: EnvelopeId,
        /// Where it lies.
        place: OrderPlace,
    },
    /// A work order could not be written to the spool.
    OrderNotDelivered {
        /// Whose mailbox.
        agent: AgentId,
        /// Which order.
        envelope: EnvelopeId,
        /// Why.
        reason: String,
    },
    /// An order is in nobody's hands any more.
    OrderRetired {
        /// Which order.
        envelope: EnvelopeId,
    },
    /// The operator's mark was looked at.
    FreezeSeen {
        /// Since when everything is to be frozen; `None`: it is not.
        since: Option<Timestamp>,
    },
    /// The room of disk and memory was looked at.
    RoomSeen(Room),
    /// What attempts have on the disk was looked at.
    StockSeen(Stock),
    /// The branches of attempts in a repository were looked at.
    BranchesSeen {
        /// The repository.
        repository: RepositoryName,
        /// Its branches of attempts.
        branches: Vec<AttemptBranch>,
    },
    /// A report has come.
    ReportArrived {
        /// The report.
        report: Box<Report>,
        /// What to acknowledge when the report is durable.
        receipt: String,
    },
    /// The answer to [`super::effect::Effect::Merge`].
    MergeEnded {
        /// The task.
        task: TaskId,
        /// Its run.
        run: RunId,
        /// The attempt.
        attempt: u32,
        /// What became of it.
        result: MergeResult,
    },
    /// The answer to [`super::effect::Effect::FindResult`].
    ResultFound {
        /// The task.
        task: TaskId,
        /// Its run.
        run: RunId,
        /// The commit on which the result begins; `None`: there is none.
        base: Option<String>,
    },
    /// The folder of dependency files was read.
    DagRead {
        /// Every file, in force or not.
        files: Vec<FileRead>,
        /// The branch that is checked out in each repository, or why there is none.
        branches: Branches,
    },
    /// Somebody asks for something.
    Asked {
        /// Ties the answer to it.
        id: RequestId,
        /// What is asked.
        request: Request,
        /// The branch that is checked out in each repository, or why there is none.
        branches: Branches,
    },
    /// Something happened on GitHub.
    Github(Box<GithubEvent>),
    /// Somebody asked for agents.toml and the dependency files to be read again, and agents.toml has no fault.
    PlanRead {
        /// Ties the answer to it.
        id: RequestId,
        /// What agents.toml says now.
        plan: Box<Plan>,
        /// Every dependency file, read with that plan.
        files: Vec<FileRead>,
        /// The branch that is checked out in each repository, or why there is none.
        branches: Branches,
    },
}

/// What the machine has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Room on the root's disk that we may use.
    pub disk: Size,
    /// Memory that the machine can give.
    pub memory: Size,
    /// The load average of one minute per processor, in hundredths; `None`: nobody knows.
    pub load: Option<u32>,
}

/// The branch that is checked out in each repository, or why there is none.
pub type Branches = BTreeMap<RepositoryName, Result<String, String>>;

/// A dependency file as it was read.
#[derive(Debug, Clone, PartialEq)]
pub enum FileRead {
    /// It could be parsed.
    Good(TaskFile),
    /// It could not.
    Bad {
        /// The file's stem.
        stem: String,
        /// Why.
        faults: Vec<Fault>,
    },
}

/// A pane that carries an agent's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaneFound {
    /// Who.
    pub agent: AgentId,
    /// Which start.
    pub incarnation: Incarnation,
    /// The pane, e.g. `%3`.
    pub pane: String,
    /// Its runner's process id.
    pub pid: u32,
    /// With which settings it was started, if that is known.
    pub launched: Option<Box<AgentSpec>>,
}

/// Where a work order lies in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderPlace {
    /// Delivered, not yet leased.
    New,
    /// In the hands of an incarnation of its agent.
    Leased(Incarnation),
    /// Acknowledged.
    Done,
    /// Taken out.
    Dead,
    /// In no folder.
    Missing,
}

/// What could be seen of an agent's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// When it was seen.
    pub at: Timestamp,
    /// The same on a clock that nobody sets and that stands still while the machine is suspended, as the runner's timers do.
    pub awake: Duration,
    /// Whether the runner is stopped by a signal or a tracer.
    pub stopped: bool,
    /// Processor time of the runner and all its descendants, in clock ticks.
    pub cpu_ticks: u64,
    /// When its program last put down an event, in milliseconds since 1970; 0: never.
    pub told_ms: u64,
}

impl Evidence {
    /// Says whether nothing was done between an earlier look and this one: no time was used, and no event was told.
    #[must_use]
    pub const fn is_still_since(&self, before: &Self) -> bool {
        self.cpu_ticks == before.cpu_ticks && self.told_ms == before.told_ms
    }
}

/// What became of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeResult {
    /// The commit is on the target branch, now or since an earlier try.
    Merged {
        /// The commit there.
        commit: String,
    },
    /// The target branch has moved; the change was put onto its newest commit, and is to be checked there.
    Rebased(Rebased),
    /// The commit is not there any more.
    Gone {
        /// What was looked for.
        detail: String,
    },
    /// It does not fit.
    Conflict {
        /// What does not, for the next attempt.
        detail: String,
    },
    /// The repository must not be touched for now, or git failed.
    NotNow {
        /// Why.
        reason: String,
    },
}
