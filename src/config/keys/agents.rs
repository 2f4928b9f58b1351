//! The keys of agents.toml.

use super::github::GITHUB;
use super::{Absent, Key, Part, Shape, key};
use crate::model::agent::DriverKind;
use crate::model::plan::{ATTEMPTS_AT_ONCE_MAX, OUTCOMES};

const fn from_defaults(key: Key) -> Key {
    Key { absent: Absent::Otherwise("that of `[defaults]`"), ..key }
}

/// The longest time that log files can be kept, in days.
pub(in crate::config) const LOG_DAYS_MAX: u32 = 3_650;

/// With fewer processes and threads no coding agent could start.
pub(in crate::config) const TASKS_MIN: u32 = 16;

/// The most processes and threads that Linux can have.
pub(in crate::config) const TASKS_MAX: u32 = 4_194_304;

/// The largest weight that the kernel knows.
pub(in crate::config) const CPU_WEIGHT_MAX: u32 = 10_000;

/// The most restarts that a budget may allow.
pub(in crate::config) const INTENSITY_MAX: u32 = 1_000_000;

/// All of agents.toml.
pub static AGENTS: Part = Part {
    heading: "agents.toml",
    keys: &[
        key(
            "session",
            Shape::Table(&SESSION),
            Absent::Otherwise("all its defaults"),
            "The tmux session that holds the panes.",
            "session = { name = \"team\" }",
        ),
        key(
            "defaults",
            Shape::Table(&DEFAULTS),
            Absent::Otherwise("all its defaults"),
            "What holds for every agent that does not say otherwise.",
            "defaults = { timeout = \"2h\" }",
        ),
        key(
            "agent",
            Shape::Tables(&AGENT),
            Absent::Required,
            "One agent; write `[[agent]]` once for each, at most 200 times.",
            "agent = [{ id = \"kaede\", role = \"codegen\", driver = \"echo\" }]",
        ),
        key(
            "repository",
            Shape::Tables(&REPOSITORY),
            Absent::Otherwise("none: tasks need `repo: none`"),
            "One git repository that tasks work on; write `[[repository]]` once for each, at most 100 times.",
            "repository = [{ path = \".\" }]",
        ),
        key(
            "workflow",
            Shape::Table(&super::workflow::WORKFLOW),
            Absent::Otherwise("all its defaults"),
            "What a run goes through between its first attempt and its end.",
            "workflow = { stages = [\"code\"] }",
        ),
        key(
            "resources",
            Shape::Table(&RESOURCES),
            Absent::Otherwise("all its defaults"),
            "When nothing new is begun because disk or memory run low.",
            "resources = { disk_low = \"2GiB\", disk_resume = \"4GiB\" }",
        ),
        key(
            "scheduler",
            Shape::Table(&SCHEDULER),
            Absent::Otherwise("all its defaults"),
            "In which order work is begun, and how much of it at once.",
            "scheduler = { ageing = \"20m\" }",
        ),
        key(
            "alert",
            Shape::Table(&ALERT),
            Absent::Otherwise("alerts are shown only"),
            "Who is told of alerts.",
            "alert = { command = [\"notify-send\"] }",
        ),
        key(
            "spool",
            Shape::Table(&SPOOL),
            Absent::Otherwise("all its defaults"),
            "How much the mailboxes may hold, and how long what has ended is kept.",
            "spool = { bytes_max = \"16GiB\" }",
        ),
        key(
            "github",
            Shape::Table(&GITHUB),
            Absent::Otherwise("all its defaults"),
            "How GitHub is asked; used when a `[[repository]]` has a `github`.",
            "github = { poll = \"30s\" }",
        ),
        key(
            "log",
            Shape::Table(&LOG),
            Absent::Otherwise("all its defaults"),
            "How long log files are kept.",
            "log = { keep_days = 30 }",
        ),
        key(
            "service",
            Shape::Table(&SERVICE),
            Absent::Otherwise("all its defaults"),
            "How the supervisor goes down.",
            "service = { drain = \"2m\" }",
        ),
    ],
};

/// `[session]`.
pub static SESSION: Part = Part {
    heading: "[session]",
    keys: &[
        key(
            "name",
            Shape::Text,
            Absent::Value("miyabi"),
            "The name of the tmux session; without characters that mean something to tmux, such as `.`, `:`, `/`, `*` and `#`.",
            "name = \"team\"",
        ),
        key(
            "socket",
            Shape::Text,
            Absent::Value("miyabi"),
            "The name of the tmux server's socket, as in `tmux -L NAME`; the same rules as for `name`.",
            "socket = \"team\"",
        ),
    ],
};

const HEARTBEAT: Key = key(
    "heartbeat",
    Shape::Duration,
    Absent::Value("5s"),
    "How often the agent's runner shows that it lives; at least 50ms.",
    "heartbeat = \"2s\"",
);
const HEARTBEAT_TIMEOUT: Key = key(
    "heartbeat_timeout",
    Shape::Duration,
    Absent::Value("30s"),
    "How old the newest heartbeat may be before the agent is suspected; longer than `heartbeat`.",
    "heartbeat_timeout = \"20s\"",
);
const START_TIMEOUT: Key = key(
    "start_timeout",
    Shape::Duration,
    Absent::Value("30s"),
    "How long a start may take until the agent is ready.",
    "start_timeout = \"1m\"",
);
const STOP_TIMEOUT: Key = key(
    "stop_timeout",
    Shape::Duration,
    Absent::Value("10s"),
    "How long a stop may take before the agent's processes are killed.",
    "stop_timeout = \"20s\"",
);
const TIMEOUT: Key = key(
    "timeout",
    Shape::Duration,
    Absent::Value("45m"),
    "The time limit of one attempt, for tasks that name none.",
    "timeout = \"2h\"",
);
const STALL: Key = key(
    "stall",
    Shape::Duration,
    Absent::Value("20m"),
    "How long an attempt may show neither output nor commits nor processor time before it counts as stalled; waiting for a human or a usage limit does not count.",
    "stall = \"1h\"",
);
const ON_STALL: Key = key(
    "on_stall",
    Shape::Choice(&["escalate", "nudge", "restart"]),
    Absent::Value("escalate"),
    "What follows a stall: `escalate` raises an alert, `nudge` sends the agent a message up to three times and then raises one, `restart` ends the agent and tries the task again.",
    "on_stall = \"restart\"",
);
const LIMITS_KEY: Key = key(
    "limits",
    Shape::Table(&LIMITS),
    Absent::Otherwise("none"),
    "What the agent, with all that it starts, may use of the machine; holds under systemd with cgroup v2. Each of its keys can be set alone.",
    "limits = { memory_max = \"8GiB\" }",
);
const RESTART_KEY: Key = key(
    "restart",
    Shape::Table(&RESTART),
    Absent::Otherwise("all its defaults"),
    "When and how often the agent is started again; each of its keys can be set alone.",
    "restart = { policy = \"transient\" }",
);

/// `[defaults]`.
pub static DEFAULTS: Part = Part {
    heading: "[defaults]",
    keys: &[
        HEARTBEAT,
        HEARTBEAT_TIMEOUT,
        START_TIMEOUT,
        STOP_TIMEOUT,
        TIMEOUT,
        STALL,
        ON_STALL,
        LIMITS_KEY,
        RESTART_KEY,
    ],
};

/// The words for `driver`, in the order of [`DriverKind::ALL`].
const DRIVERS: [&str; DriverKind::ALL.len()] = {
    let mut names = [""; DriverKind::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = DriverKind::ALL[index].as_str();
        index += 1;
    }
    names
};

/// `[[agent]]`.
pub static AGENT: Part = Part {
    heading: "[[agent]]",
    keys: &[
        key(
            "id",
            Shape::Slug,
            Absent::Required,
            "The agent's name for commands and files; begins with a letter. `supervisor`, `operator` and `role` are taken.",
            "id = \"kaede\"",
        ),
        key(
            "name",
            Shape::Text,
            Absent::Otherwise("the `id`"),
            "The name that people see, in any script; at most 64 characters.",
            "name = \"カエデ\"",
        ),
        key(
            "role",
            Shape::Slug,
            Absent::Otherwise("required; `conductor` for a dashboard"),
            "What the agent is good for; tasks can ask for a role instead of an agent.",
            "role = \"codegen\"",
        ),
        key(
            "labels",
            Shape::Texts,
            Absent::Value("[]"),
            "Free words that tell the agent apart from others of its role; without spaces.",
            "labels = [\"rust\"]",
        ),
        key(
            "driver",
            Shape::Choice(&DRIVERS),
            Absent::Value("command"),
            "How the agent's program is driven: `command` runs any program, `echo` answers with its order, `aider`, `claude`, `codex`, `gemini` and `opencode` drive the CLI of that name, `dashboard` shows the state and takes no work.",
            "driver = \"echo\"",
        ),
        key(
            "command",
            Shape::Texts,
            Absent::Otherwise("required by the driver `command`; those of a CLI have their own"),
            "The program and its arguments: a list, or one string that is split into words as a shell would, with quotes. No shell runs it.",
            "command = [\"my-agent\", \"--quiet\"]",
        ),
        key(
            "env",
            Shape::Texts,
            Absent::Value("[]"),
            "Names of the environment variables that the agent may see; the values come from the supervisor's environment.",
            "env = [\"ANTHROPIC_API_KEY\"]",
        ),
        from_defaults(HEARTBEAT),
        from_defaults(HEARTBEAT_TIMEOUT),
        from_defaults(START_TIMEOUT),
        from_defaults(STOP_TIMEOUT),
        from_defaults(TIMEOUT),
        from_defaults(STALL),
        from_defaults(ON_STALL),
        from_defaults(LIMITS_KEY),
        from_defaults(RESTART_KEY),
    ],
};

/// `restart`, of `[defaults]` and of an agent.
pub static RESTART: Part = Part {
    heading: "restart",
    keys: &[
        key(
            "policy",
            Shape::Choice(&["permanent", "transient", "temporary"]),
            Absent::Value("permanent"),
            "Which exits are followed by a restart: `permanent` every one, `transient` every one but a clean one, `temporary` none.",
            "policy = \"transient\"",
        ),
        key(
            "intensity",
            Shape::Count(0, INTENSITY_MAX),
            Absent::Value("5"),
            "How many restarts are allowed within `period`; one more, and the agent stays down until `miyabi agent resume`.",
            "intensity = 10",
        ),
        key(
            "period",
            Shape::Duration,
            Absent::Value("10m"),
            "The window in which restarts are counted.",
            "period = \"1h\"",
        ),
        key(
            "backoff",
            Shape::Duration,
            Absent::Value("1s"),
            "The wait before the second restart; it doubles from there. The first restart after a stable time is immediate.",
            "backoff = \"5s\"",
        ),
        key(
            "backoff_max",
            Shape::Duration,
            Absent::Value("5m"),
            "The longest wait; not shorter than `backoff`.",
            "backoff_max = \"10m\"",
        ),
        key(
            "reset_after",
            Shape::Duration,
            Absent::Value("10m"),
            "How long the agent must be up before the waits begin anew.",
            "reset_after = \"30m\"",
        ),
    ],
};

/// `[[repository]]`.
pub static REPOSITORY: Part = Part {
    heading: "[[repository]]",
    keys: &[
        key(
            "name",
            Shape::Text,
            Absent::Otherwise("the folder name of `path`"),
            "The name that tasks use; letters, digits, `_`, `-` and `.`. `none` is taken.",
            "name = \"app\"",
        ),
        key(
            "path",
            Shape::Text,
            Absent::Required,
            "The checkout or bare repository; relative paths begin at the folder of agents.toml. `~` is not expanded.",
            "path = \"../app\"",
        ),
        key(
            "remote",
            Shape::Text,
            Absent::Otherwise("not cloned"),
            "Where `path` is cloned from when it does not exist yet, and whose branch a merge queue pushes to.",
            "remote = \"https://example.org/app.git\"",
        ),
        key(
            "check",
            Shape::Texts,
            Absent::Otherwise("the usual command of the project's type, for tasks that have no `check` either"),
            "Shell commands that must succeed at every commit, besides the task's own; `[]`: none.",
            "check = \"make test\"",
        ),
        key(
            "protected",
            Shape::Texts,
            Absent::Value("[]"),
            "Paths that no attempt may change, as git's `glob` path patterns from the repository's top: `*` stays inside a folder, `**` does not, a folder's name covers all in it.",
            "protected = [\".github/\", \"Cargo.lock\", \"tests/acceptance/**\"]",
        ),
        key(
            "merge",
            Shape::Choice(&["local", "queue", "pull-request", "none"]),
            Absent::Value("local"),
            "What becomes of a proven commit: `local` puts it on the target branch, `queue` does that one at a time and checks it again on the newest commit first, `pull-request` asks for that on GitHub and waits until somebody has merged it, `none` leaves it on the attempt's branch.",
            "merge = \"queue\"",
        ),
        key(
            "attempts_max",
            Shape::Count(1, ATTEMPTS_AT_ONCE_MAX),
            Absent::Otherwise("as many as there are agents"),
            "How many attempts may work in the repository at once.",
            "attempts_max = 2",
        ),
        key(
            "github",
            Shape::Text,
            Absent::Otherwise("not on GitHub"),
            "The repository on GitHub, as owner/name: its issues become tasks.",
            "github = \"octo-org/app\"",
        ),
        key(
            "labels",
            Shape::Texts,
            Absent::Otherwise("`trigger_label` of `[github]`"),
            "The labels any of which makes an issue work; needs `github`.",
            "github = \"octo-org/app\"\nlabels = [\"auto-code\", \"auto-docs\"]",
        ),
        key(
            "pull_request",
            Shape::Choice(&["ready", "draft"]),
            Absent::Value("ready"),
            "How pull requests are opened; needs `github`.",
            "github = \"octo-org/app\"\npull_request = \"draft\"",
        ),
    ],
};

/// `[resources]`.
pub static RESOURCES: Part = Part {
    heading: "[resources]",
    keys: &[
        key(
            "disk_low",
            Shape::Size,
            Absent::Value("512MiB"),
            "Nothing new is begun while the root's disk has less room than this; `0B`: never mind.",
            "disk_low = \"2GiB\"",
        ),
        key(
            "disk_resume",
            Shape::Size,
            Absent::Value("1GiB"),
            "Work goes on when the disk has this much room again; at least `disk_low`.",
            "disk_resume = \"4GiB\"",
        ),
        key(
            "memory_low",
            Shape::Size,
            Absent::Value("128MiB"),
            "Nothing new is begun while the machine has less memory to give than this; `0B`: never mind.",
            "memory_low = \"1GiB\"",
        ),
        key(
            "memory_resume",
            Shape::Size,
            Absent::Value("256MiB"),
            "Work goes on when the machine has this much memory to give again; at least `memory_low`.",
            "memory_resume = \"2GiB\"",
        ),
        key(
            "worktrees_max",
            Shape::Size,
            Absent::Value("100GiB"),
            "Nothing new is begun while the worktrees of attempts take more of the disk than this; `0B`: never mind. Work goes on at nine tenths of it.",
            "worktrees_max = \"20GiB\"",
        ),
        key(
            "worktree_days",
            Shape::Count(1, LOG_DAYS_MAX),
            Absent::Value("14"),
            "How many days a worktree is left alone that nobody works in and nobody has cleared away; then what it holds is saved on a branch and it is removed. Holds from each agent's next start on.",
            "worktree_days = 3",
        ),
        key(
            "branch_days",
            Shape::Count(0, LOG_DAYS_MAX),
            Absent::Value("90"),
            "How many days after its last commit the branch of an attempt is deleted whose run is done or cancelled, if its work is elsewhere too; `0`: never.",
            "branch_days = 30",
        ),
    ],
};

/// `[scheduler]`.
pub static SCHEDULER: Part = Part {
    heading: "[scheduler]",
    keys: &[
        key(
            "ageing",
            Shape::Duration,
            Absent::Value("1h"),
            "How long a ready task waits until it counts as one priority more urgent, again and again: so nothing waits for ever.",
            "ageing = \"20m\"",
        ),
        key(
            "roles",
            Shape::Counts(1, ATTEMPTS_AT_ONCE_MAX),
            Absent::Otherwise("all agents of a role"),
            "How many agents of a role may work at once, by role.",
            "roles = { review = 1 }",
        ),
        key(
            "load_high",
            Shape::Factor(0.0, 1_000.0),
            Absent::Value("4.0"),
            "The load average of one minute per processor above which attempts are begun one at a time; `0`: never.",
            "load_high = 2.5",
        ),
        key(
            "failures_max",
            Shape::Count(0, OUTCOMES),
            Absent::Value("8"),
            "When so many of the last ten tasks that were tried have failed, attempts are begun one at a time; `0`: never.",
            "failures_max = 5",
        ),
    ],
};

/// `[log]`.
pub static LOG: Part = Part {
    heading: "[log]",
    keys: &[
        key(
            "keep_days",
            Shape::Count(1, LOG_DAYS_MAX),
            Absent::Value("7"),
            "How many days of the supervisor's log are kept; a file a day. Holds from the next start on.",
            "keep_days = 30",
        ),
        key(
            "attempt_days",
            Shape::Count(1, LOG_DAYS_MAX),
            Absent::Value("30"),
            "How many days the log of an attempt is kept after its last line, once its run is done or cancelled.",
            "attempt_days = 90",
        ),
    ],
};

/// `[service]`.
pub static SERVICE: Part = Part {
    heading: "[service]",
    keys: &[key(
        "drain",
        Shape::Duration,
        Absent::Value("30s"),
        "How long running attempts may go on when the supervisor goes down; what then still runs is interrupted and made again after the next start. From 1s to 1h; `miyabi install` writes it into the unit.",
        "drain = \"2m\"",
    )],
};

/// `limits`, of `[defaults]` and of an agent.
pub static LIMITS: Part = Part {
    heading: "limits",
    keys: &[
        key(
            "memory_max",
            Shape::Size,
            Absent::Otherwise("none"),
            "The most memory; beyond it the kernel kills a process of the agent, and the attempt fails with `out of memory`. At least 16MiB.",
            "memory_max = \"8GiB\"",
        ),
        key(
            "memory_high",
            Shape::Size,
            Absent::Otherwise("none"),
            "The memory from which on the agent is slowed down instead of killed; below `memory_max`.",
            "memory_high = \"6GiB\"",
        ),
        key(
            "tasks_max",
            Shape::Count(TASKS_MIN, TASKS_MAX),
            Absent::Otherwise("none"),
            "The most processes and threads at a time; beyond it none can be started.",
            "tasks_max = 4000",
        ),
        key(
            "cpu_weight",
            Shape::Count(1, CPU_WEIGHT_MAX),
            Absent::Value("100"),
            "The share of the processors while there are not enough for all.",
            "cpu_weight = 50",
        ),
    ],
};

/// `[alert]`.
pub static ALERT: Part = Part {
    heading: "[alert]",
    keys: &[key(
        "command",
        Shape::Texts,
        Absent::Otherwise("none"),
        "A program that is run once for each new alert, with the text as its last argument; it has 30 seconds. A list, or one string that is split into words.",
        "command = [\"notify-send\", \"miyabi\"]",
    )],
};

/// The most envelopes that a bound of `[spool]` may allow.
pub(in crate::config) const SPOOL_ENVELOPES_MAX: u32 = 10_000_000;

/// `[spool]`.
pub static SPOOL: Part = Part {
    heading: "[spool]",
    keys: &[
        key(
            "envelope_bytes_max",
            Shape::Size,
            Absent::Value("1MiB"),
            "The largest message; what is larger is attached as a file. From 64KiB to 64MiB.",
            "envelope_bytes_max = \"4MiB\"",
        ),
        key(
            "mailbox_envelopes_max",
            Shape::Count(1, SPOOL_ENVELOPES_MAX),
            Absent::Value("100000"),
            "How many envelopes may wait or be leased in one mailbox; the next sender is refused.",
            "mailbox_envelopes_max = 5000",
        ),
        key(
            "bytes_max",
            Shape::Size,
            Absent::Value("4GiB"),
            "How much all mailboxes together may hold; the next message is refused.",
            "bytes_max = \"16GiB\"",
        ),
        key(
            "disk_reserve",
            Shape::Size,
            Absent::Value("64MiB"),
            "Messages are refused while the disk has less room than this, or less than a twentieth of a small disk; `0B`: only a full disk refuses.",
            "disk_reserve = \"1GiB\"",
        ),
        key(
            "done_age_max",
            Shape::Duration,
            Absent::Value("7d"),
            "How long acknowledged envelopes are kept; at least a day.",
            "done_age_max = \"2d\"",
        ),
        key(
            "done_envelopes_max",
            Shape::Count(1, SPOOL_ENVELOPES_MAX),
            Absent::Value("10000"),
            "How many of them are kept in one mailbox, the newest ones.",
            "done_envelopes_max = 1000",
        ),
        key(
            "done_bytes_max",
            Shape::Size,
            Absent::Value("256MiB"),
            "How much of them is kept in one mailbox, the newest ones.",
            "done_bytes_max = \"64MiB\"",
        ),
        key(
            "dead_age_max",
            Shape::Duration,
            Absent::Value("30d"),
            "How long dead letters are kept; at least a day.",
            "dead_age_max = \"90d\"",
        ),
        key(
            "dead_envelopes_max",
            Shape::Count(1, SPOOL_ENVELOPES_MAX),
            Absent::Value("1000"),
            "How many of them are kept in one mailbox, the newest ones.",
            "dead_envelopes_max = 100",
        ),
        key(
            "dead_bytes_max",
            Shape::Size,
            Absent::Value("64MiB"),
            "How much of them is kept in one mailbox, the newest ones.",
            "dead_bytes_max = \"16MiB\"",
        ),
    ],
};
