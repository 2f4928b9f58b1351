//! Tasks: the nodes of the dependency graph.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agent::StallAnswer;
use super::fault::Place;
use super::github::IssueRef;
use super::id::{AgentId, NameFault, PoolName, RepositoryName, Role, TaskId};
use super::span;
use super::stage::StageKind;
use super::touch::Touch;

/// What a dependency file or a submitted order says of one task, defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Tasks that must be done first, and issues that must be resolved.
    pub needs: Vec<TaskId>,
    /// Which of them GitHub says, and how; the others come from dependency files or from whoever submitted it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub said: BTreeMap<TaskId, BTreeSet<EdgeSource>>,
    /// Who may take it.
    pub assignee: Assignee,
    /// What is to be done.
    pub work: Work,
    /// Commands that must succeed at the task's commit, besides the repository's own.
    pub checks: Vec<String>,
    /// Whether a commit is expected.
    pub no_change: NoChange,
    /// The time limit of one attempt; `None`: the agent's.
    #[serde(default, with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long an attempt may stand still before it counts as stalled; `None`: the agent's.
    #[serde(default, with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub stall: Option<Duration>,
    /// What follows then; `None`: what the agent's table says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_stall: Option<StallAnswer>,
    /// How often and how soon a failed attempt is repeated.
    pub retry: RetryPolicy,
    /// 1 (highest) to 5.
    pub priority: Priority,
    /// How long a run may take from its beginning to its end before somebody is told; `None`: for ever.
    #[serde(default, with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub sla: Option<Duration>,
    /// The pools of which it takes a slot while an agent works on it; each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolName>,
    /// The files that it changes: tasks whose touches overlap are kept apart until their work is merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touches: Vec<Touch>,
    /// What its failure means for others.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// When it comes again; `None`: it is done once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Every>,
    /// The stages that its runs go through; `None`: those of the workflow, if it is work of the usual kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<StageKind>>,
    /// Whether an earlier result of the same order is taken.
    #[serde(default, skip_serializing_if = "Cache::is_off")]
    pub cache: Cache,
    /// Where the work happens.
    pub repository: RepositoryChoice,
}

/// Whether an earlier result of the same order is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// The work is always done.
    #[default]
    Off,
    /// What was proven before is taken, and what is proven is kept for later.
    On,
}

impl Cache {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

impl TaskSpec {
    /// A task of which nothing more is said than who does what where; everything else is as usual.
    #[must_use]
    pub fn plain(assignee: Assignee, work: Work, repository: RepositoryChoice) -> Self {
        Self {
            needs: Vec::new(),
            said: BTreeMap::new(),
            assignee,
            work,
            checks: Vec::new(),
            no_change: NoChange::Refused,
            timeout: None,
            stall: None,
            on_stall: None,
            retry: RetryPolicy::default(),
            priority: Priority::DEFAULT,
            sla: None,
            pools: Vec::new(),
            touches: Vec::new(),
            on_failure: OnFailure::default(),
            every: None,
            stages: None,
            cache: Cache::Off,
            repository,
        }
    }
}

/// How GitHub says that an issue needs another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeSource {
    /// It is blocked by it.
    BlockedBy,
    /// It is its parent.
    SubIssue,
    /// Its text says so.
    Body,
}

impl EdgeSource {
    /// Tells it to people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::BlockedBy => "blocked by, on GitHub",
            Self::SubIssue => "sub-issue, on GitHub",
            Self::Body => "the text of the issue",
        }
    }
}

/// When an issue no longer holds up those who need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ResolvedWhen {
    /// When it is closed.
    Closed,
    /// When its work is merged.
    Merged,
    /// When it has a label.
    Label(String),
}

impl FromStr for ResolvedWhen {
    type Err = ResolvedWhenFault;

    fn from_str(text: &str) -> Result<Self, ResolvedWhenFault> {
        match text.split_once(':') {
            None if text == "closed" => Ok(Self::Closed),
            None if text == "merged" => Ok(Self::Merged),
            Some(("label", label)) if is_label(label.trim()) => Ok(Self::Label(label.trim().to_owned())),
            None | Some(_) => Err(ResolvedWhenFault(text.to_owned())),
        }
    }
}

/// The longest label, in characters, as GitHub has it.
pub const LABEL_CHARS_MAX: usize = 50;

/// Says whether a text can be a label. A comma divides labels where GitHub is asked for issues.
#[must_use]
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= LABEL_CHARS_MAX && !text.chars().any(|c| c.is_control() || c == ',')
}

impl TryFrom<String> for ResolvedWhen {
    type Error = ResolvedWhenFault;

    fn try_from(text: String) -> Result<Self, ResolvedWhenFault> {
        text.parse()
    }
}

impl From<ResolvedWhen> for String {
    fn from(when: ResolvedWhen) -> Self {
        match when {
            ResolvedWhen::Closed => "closed".to_owned(),
            ResolvedWhen::Merged => "merged".to_owned(),
            ResolvedWhen::Label(label) => format!("label:{label}"),
        }
    }
}

/// A text that does not say when an issue is resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not say when an issue is resolved; known: closed, merged, label:NAME")]
pub struct ResolvedWhenFault(String);

/// What a dependency file says of one issue. What is absent is left to the issue's labels and to the usual.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IssueSpec {
    /// What must be done first, besides what GitHub says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<TaskId>,
    /// Whether it is only watched, and never worked on.
    #[serde(default)]
    pub external: bool,
    /// When it no longer holds up those who need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_when: Option<ResolvedWhen>,
    /// Who may take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee: Option<Assignee>,
    /// Commands that must succeed at its commit, besides the repository's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// Whether a commit is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_change: Option<NoChange>,
    /// The time limit of one attempt.
    #[serde(default, with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long an attempt may stand still.
    #[serde(default, with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub stall: Option<Duration>,
    /// What follows then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_stall: Option<StallAnswer>,
    /// How often and how soon a failed attempt is repeated.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// 1 (highest) to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// How long a run may take.
    #[serde(default, with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub sla: Option<Duration>,
    /// The pools of which it takes a slot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolName>,
    /// The files that it changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touches: Vec<Touch>,
    /// What its failure means for others.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether an earlier result of the same work may be taken.
    #[serde(default)]
    pub cache: Cache,
    /// The stages that its runs go through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<StageKind>>,
}

/// When a task comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Every {
    /// Minute, hour, day of the month, month and day of the week.
    pub cron: String,
    /// The time zone, e.g. `Asia/Tokyo`.
    pub zone: String,
    /// What becomes of runs that could not begin in time.
    pub missed: Missed,
}

/// What becomes of runs that could not begin in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// One run stands for all that were missed.
    #[default]
    Once,
    /// They are left out.
    Skip,
    /// Each is made up for, one after the other.
    All,
}

impl Missed {
    /// The words, as they are written.
    pub const ALL: [(&'static str, Self); 3] = [("once", Self::Once), ("skip", Self::Skip), ("all", Self::All)];
}

/// What the failure of a task, after its last attempt, means for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Those who need it are not begun.
    #[default]
    SkipDownstream,
    /// Those who need it are begun as if it were done.
    Continue,
    /// Nothing else of its file is begun until it is retried or cancelled.
    Pause,
}

impl OnFailure {
    /// The words, as they are written.
    pub const ALL: [(&'static str, Self); 3] =
        [("skip_downstream", Self::SkipDownstream), ("continue", Self::Continue), ("pause", Self::Pause)];
}

/// Who may take a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assignee {
    /// This agent only.
    Agent(AgentId),
    /// Any agent of the role.
    Role(Role),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Handed to the agent's CLI.
    Prompt(String),
    /// A shell command that the runner executes itself.
    Run(String),
}

/// Whether a task may end without a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoChange {
    /// An attempt without a commit has failed.
    Refused,
    /// No commit is expected.
    Ok,
}

/// A kind of failure, as policies tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The agent did not do, or left no commit.
    Agent,
    /// A check did not succeed.
    Check,
    /// A time limit was reached, or nothing moved any more.
    Timeout,
    /// The program or its runner died.
    Crash,
    /// A usage limit of the agent's service.
    Limited,
    /// The agent says that it will not do this.
    Refused,
    /// git, the file system or the start of the program failed.
    Infrastructure,
    /// The commit did not fit onto the target branch.
    Conflict,
}

impl FailureClass {
    /// The words, as they are written.
    pub const ALL: [(&'static str, Self); 8] = [
        ("agent", Self::Agent),
        ("check", Self::Check),
        ("timeout", Self::Timeout),
        ("crash", Self::Crash),
        ("limited", Self::Limited),
        ("refused", Self::Refused),
        ("infrastructure", Self::Infrastructure),
        ("conflict", Self::Conflict),
    ];
}

impl FromStr for FailureClass {
    type Err = NameFault;

    fn from_str(text: &str) -> Result<Self, NameFault> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, class)| class);
        found.ok_or_else(|| NameFault::Shape {
            kind: "kind of failure",
            text: text.to_owned(),
            rule: "known: agent, check, timeout, crash, limited, refused, infrastructure, conflict",
        })
    }
}

/// How often and how soon a failed attempt is repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// How many attempts may follow the first one.
    pub limit: u32,
    /// The wait before the second attempt.
    #[serde(with = "span")]
    pub interval: Duration,
    /// The factor by which the wait grows.
    pub backoff: f64,
    /// The longest wait.
    #[serde(with = "span")]
    pub max_interval: Duration,
    /// How many failures of one kind may be followed by another attempt; kinds that are named here do not count for `limit`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<FailureClass, u32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            limit: 2,
            interval: Duration::from_secs(1),
            backoff: 2.0,
            max_interval: Duration::from_secs(600),
            limits: BTreeMap::from([
                (FailureClass::Limited, 20),
                (FailureClass::Refused, 1),
                (FailureClass::Infrastructure, 5),
            ]),
        }
    }
}

impl RetryPolicy {
    /// Says whether another attempt may follow one more failure, after so many earlier ones: in all, and of each kind as far
    /// as that is known.
    #[must_use]
    pub fn allows(&self, class: FailureClass, failures: u32, failed: &BTreeMap<FailureClass, u32>) -> bool {
        let of = |class: &FailureClass| failed.get(class).copied().unwrap_or(0);
        match self.limits.get(&class) {
            Some(limit) => of(&class) < *limit,
            None => failures.saturating_sub(self.limits.keys().map(of).sum()) < self.limit,
        }
    }

    /// Returns the wait before the attempt that follows so many earlier failures and one more.
    #[must_use]
    pub fn wait(&self, failures: u32) -> Duration {
        let factor = self.backoff.max(1.0).powi(i32::try_from(failures).unwrap_or(i32::MAX));
        let wait = (self.interval.as_secs_f64() * factor).min(self.max_interval.as_secs_f64());
        Duration::try_from_secs_f64(wait).unwrap_or(self.max_interval)
    }
}

/// The largest number that `retry.limit` may be.
pub const RETRY_LIMIT_MAX: u32 = 100;

/// The urgency of a task or message: 1 (highest) to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    /// The priority of things that name none.
    pub const DEFAULT: Self = Self(3);

    /// Returns the number, 1 to 5.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The number is not a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("priority {0} is not between 1 (highest) and 5")]
pub struct PriorityFault(u8);

impl TryFrom<u8> for Priority {
    type Error = PriorityFault;

    fn try_from(number: u8) -> Result<Self, PriorityFault> {
        if (1..=5).contains(&number) { Ok(Self(number)) } else { Err(PriorityFault(number)) }
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// Where a task's work happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepositoryChoice {
    /// A scratch folder, no git.
    None,
    /// A worktree of this repository.
    Named(RepositoryName),
}

/// One parsed dependency file.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFile {
    /// The file's name without folder and extension; the first segment of its tasks' ids.
    pub stem: String,
    /// The path as shown to people, e.g. `dag/example.yaml`.
    pub path: String,
    /// The pools that it declares.
    pub pools: BTreeMap<PoolName, PoolSpec>,
    /// The tasks, in the order of the file.
    pub nodes: Vec<TaskNode>,
    /// The issues, in the order of the file.
    pub issues: Vec<IssueNode>,
    /// The issues that anything of the file needs, by the ids that stand for them in `needs`.
    pub refs: BTreeMap<TaskId, Reference>,
}

/// An issue that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Which.
    pub issue: IssueRef,
    /// Whether it is of a repository of agents.toml.
    pub ours: bool,
}

/// One issue of a dependency file, with the places that messages point at.
#[derive(Debug, Clone, PartialEq)]
pub struct IssueNode {
    /// The id of its task: `REPOSITORY/issue-N`.
    pub id: TaskId,
    /// Which issue.
    pub issue: IssueRef,
    /// Where it is named.
    pub place: Place,
    /// What the file says of it.
    pub spec: IssueSpec,
    /// Where each entry of `spec.needs` stands, in the same order.
    pub needs_places: Vec<Place>,
    /// Where each entry of `spec.pools` stands, in the same order.
    pub pools_places: Vec<Place>,
}

/// A pool as a file declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolSpec {
    /// How many tasks may have a slot of it at once.
    pub slots: u32,
    /// Where it is declared.
    pub place: Place,
}

/// The largest number of slots of one pool.
pub const POOL_SLOTS_MAX: u32 = 10_000;

/// One task of a dependency file, with the places that messages point at.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskNode {
    /// `FILE-STEM/NAME`.
    pub id: TaskId,
    /// Where the task's name stands.
    pub place: Place,
    /// What the file says of it.
    pub spec: TaskSpec,
    /// Where each entry of `spec.needs` stands, in the same order.
    pub needs_places: Vec<Place>,
    /// Where each entry of `spec.pools` stands, in the same order.
    pub pools_places: Vec<Place>,
}

pub(super) mod optional_span {
    //! An optional duration in its text form.

    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::span;

    #[expect(clippy::ref_option, reason = "serde's `with` hands over a reference to the field")]
    pub(in crate::model) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => span::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            Some(text) => span::parse(&text).map(Some).map_err(serde::de::Error::custom),
            None => Ok(None),
        }
    }
}
