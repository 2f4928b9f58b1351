//! The keys of dependency files.

use super::{Absent, Key, Part, Shape, key};
use crate::model::task::{POOL_SLOTS_MAX, RETRY_LIMIT_MAX};

const REPO: Key = key(
    "repo",
    Shape::Text,
    Absent::Otherwise("the only `[[repository]]`"),
    "Where the tasks work: the name of a `[[repository]]`, or `none` for an empty folder without git.",
    "repo: app",
);
const PRIORITY: Key = key("priority", Shape::Count(1, 5), Absent::Value("3"), "1 (most urgent) to 5.", "priority: 1");
const SLA: Key = key(
    "sla",
    Shape::Duration,
    Absent::Otherwise("no limit"),
    "How long a run may take from its beginning to its end: of equally urgent tasks the one due first is begun first, and one that is late raises an alert. It does not fail.",
    "sla: 4h",
);
const POOLS: Key = key(
    "pools",
    Shape::Texts,
    Absent::Value("[]"),
    "The pools of which the task takes a slot while an agent works on it.",
    "pools: anthropic",
);
const ON_FAILURE: Key = key(
    "on_failure",
    Shape::Choice(&["skip_downstream", "continue", "pause"]),
    Absent::Value("skip_downstream"),
    "What follows when the last attempt has failed: those who need the task are not begun, are begun all the same, or nothing else of the file is begun until it is retried or cancelled.",
    "on_failure: continue",
);
const TASK_TIMEOUT: Key = key(
    "timeout",
    Shape::Duration,
    Absent::Otherwise("the agent's `timeout`"),
    "The time limit of one attempt.",
    "timeout: 10m",
);
const TASK_STALL: Key = key(
    "stall",
    Shape::Duration,
    Absent::Otherwise("the agent's `stall`"),
    "How long an attempt may show neither output nor commits nor processor time before it counts as stalled.",
    "stall: 1h",
);
const TASK_ON_STALL: Key = key(
    "on_stall",
    Shape::Choice(&["escalate", "nudge", "restart"]),
    Absent::Otherwise("the agent's `on_stall`"),
    "What follows a stall: `escalate` raises an alert, `nudge` sends the agent a message first, `restart` tries the task again.",
    "on_stall: restart",
);
const RETRY_KEY: Key = key(
    "retry",
    Shape::Table(&RETRY),
    Absent::Otherwise("all its defaults"),
    "How often and how soon a failed attempt is repeated; each of its keys can be set alone.",
    "retry: {limit: 5}",
);
const ASSIGNED_AGENT: Key = key(
    "agent",
    Shape::Slug,
    Absent::Otherwise("any agent of the role"),
    "The agent that must do it; at most one of `agent` and `role`.",
    "agent: sakura",
);
const ASSIGNED_ROLE: Key =
    key("role", Shape::Slug, Absent::Otherwise("`codegen`"), "Any agent of this role may do it.", "role: review");
const CHECK: Key = key(
    "check",
    Shape::Texts,
    Absent::Value("[]"),
    "Shell commands that must succeed at the task's commit, besides those of the repository.",
    "check: test -s README.md",
);
const NO_CHANGE: Key = key(
    "no_change",
    Shape::Choice(&["ok", "refused"]),
    Absent::Otherwise("`refused`; `ok` with `repo: none`"),
    "Whether the task may end without a commit.",
    "no_change: ok",
);

const CACHE: Key = key(
    "cache",
    Shape::Flag,
    Absent::Value("false"),
    "Whether the proven result of an earlier run is taken instead of doing the work: of the same order, begun on the same commit, by an agent that is still defined as it was.",
    "cache: true",
);

const STAGES: Key = key(
    "stages",
    Shape::Choices(&["code", "review", "pull-request", "deploy"]),
    Absent::Otherwise("those of the workflow for a prompt for the role of the first stage, else `code`"),
    "The stages that the task goes through, instead of those of `[workflow]`.",
    "stages: [code, review]",
);

const NEEDS: Key = Key {
    name: "needs",
    aliases: &["depends_on", "depends", "blocked_by"],
    shape: Shape::Texts,
    absent: Absent::Value("[]"),
    about: "What must be done first: `NAME` of the same file, `FILE/NAME` of another, an issue as `12`, `owner/name#7` or `NAME#7`; one or a list.",
    example: "needs: [other]",
};
const TOUCHES: Key = key(
    "touches",
    Shape::Texts,
    Absent::Value("[]"),
    "Patterns of the files that the task changes: tasks that could touch the same file are kept apart until the work of the first is merged.",
    "touches: [\"src/api/**\", README.md]",
);

const fn from_file(key: Key) -> Key {
    Key { absent: Absent::Otherwise("that of `defaults`"), ..key }
}

const fn from_labels(key: Key) -> Key {
    Key { absent: Absent::Otherwise("that of `defaults`, else what its labels say"), ..key }
}

/// All of a dependency file.
pub static DAG: Part = Part {
    heading: "The file",
    keys: &[
        key("version", Shape::Count(1, 1), Absent::Value("1"), "The version of the format.", "version: 1"),
        REPO,
        key(
            "defaults",
            Shape::Table(&DAG_DEFAULTS),
            Absent::Otherwise("all its defaults"),
            "What holds for every task of the file that does not say otherwise.",
            "defaults: {timeout: 10m}",
        ),
        key(
            "pools",
            Shape::Counts(1, POOL_SLOTS_MAX),
            Absent::Otherwise("those of other files"),
            "How many tasks, of all files, may have a slot of a pool at once; a pool with one slot is a lock.",
            "pools: {anthropic: 3, staging: 1}",
        ),
        key(
            "tasks",
            Shape::Named(&TASK),
            Absent::Otherwise("none; a file has `tasks` or `issues`"),
            "The tasks by name, at most 20000; letters of any script, digits, `_`, `-` and `.`.",
            "tasks: {hello: {run: echo hello > hello.txt}}",
        ),
        key(
            "issues",
            Shape::ByIssue(&ISSUE),
            Absent::Otherwise("none; a file has `tasks` or `issues`"),
            "The issues by number (`12`, of the file's `repo`), as `owner/name#7` or as `NAME#7`, at most 5000; see [Issues](#issues).",
            "issues: {12: {agent: kaede}}",
        ),
    ],
};

/// `defaults` of a dependency file.
pub static DAG_DEFAULTS: Part = Part {
    heading: "defaults",
    keys: &[
        ASSIGNED_AGENT,
        ASSIGNED_ROLE,
        CHECK,
        NO_CHANGE,
        CACHE,
        TASK_TIMEOUT,
        TASK_STALL,
        TASK_ON_STALL,
        RETRY_KEY,
        PRIORITY,
        SLA,
        POOLS,
        ON_FAILURE,
        STAGES,
        REPO,
    ],
};

/// One task of a dependency file.
pub static TASK: Part = Part {
    heading: "A task",
    keys: &[
        NEEDS,
        from_file(ASSIGNED_AGENT),
        from_file(ASSIGNED_ROLE),
        key(
            "prompt",
            Shape::Text,
            Absent::Otherwise("exactly one of `prompt` and `run`"),
            "What the agent's program is asked to do.",
            "prompt: Say hello in hello.txt.",
        ),
        key(
            "run",
            Shape::Text,
            Absent::Otherwise("exactly one of `prompt` and `run`"),
            "A shell command that the agent's runner executes itself; no agent program is asked.",
            "run: make release-notes",
        ),
        from_file(CHECK),
        from_file(NO_CHANGE),
        from_file(CACHE),
        from_file(TASK_TIMEOUT),
        from_file(TASK_STALL),
        from_file(TASK_ON_STALL),
        from_file(RETRY_KEY),
        from_file(PRIORITY),
        from_file(SLA),
        from_file(POOLS),
        TOUCHES,
        from_file(ON_FAILURE),
        from_file(STAGES),
        key(
            "every",
            Shape::Table(&EVERY),
            Absent::Otherwise("it is done once"),
            "When the task comes again; see [Tasks that come again](#tasks-that-come-again).",
            "every: {cron: 0 3 * * *, zone: Asia/Tokyo}",
        ),
        Key { absent: Absent::Otherwise("that of the file"), ..REPO },
    ],
};

/// One issue of a dependency file.
pub static ISSUE: Part = Part {
    heading: "An issue",
    keys: &[
        NEEDS,
        key(
            "external",
            Shape::Flag,
            Absent::Value("false"),
            "Whether it is only watched and never worked on; the one way to name an issue of a repository that is not in agents.toml.",
            "external: true",
        ),
        key(
            "resolved_when",
            Shape::Text,
            Absent::Otherwise("its work is merged; where nobody works on it: `closed`"),
            "When it no longer holds up those who need it: when it is `closed`, when a pull request for it is `merged`, or when it has a label, `label:NAME`.",
            "resolved_when: closed",
        ),
        from_labels(ASSIGNED_AGENT),
        from_labels(ASSIGNED_ROLE),
        from_file(CHECK),
        from_file(NO_CHANGE),
        from_file(TASK_TIMEOUT),
        from_file(TASK_STALL),
        from_file(TASK_ON_STALL),
        from_file(RETRY_KEY),
        from_labels(PRIORITY),
        from_labels(SLA),
        from_file(POOLS),
        TOUCHES,
        from_file(ON_FAILURE),
        from_file(CACHE),
        from_file(STAGES),
    ],
};

/// `retry`, of `defaults` and of a task.
pub static RETRY: Part = Part {
    heading: "retry",
    keys: &[
        key(
            "limit",
            Shape::Count(0, RETRY_LIMIT_MAX),
            Absent::Value("2"),
            "How many attempts may follow the first one.",
            "limit: 5",
        ),
        key(
            "interval",
            Shape::Duration,
            Absent::Value("1s"),
            "The wait before the second attempt; `0s` is allowed.",
            "interval: 30s",
        ),
        key(
            "backoff",
            Shape::Factor(1.0, 100.0),
            Absent::Value("2.0"),
            "The factor by which the wait grows from attempt to attempt.",
            "backoff: 1.5",
        ),
        key(
            "max_interval",
            Shape::Duration,
            Absent::Value("10m"),
            "The longest wait; not shorter than `interval`.",
            "max_interval: 1h",
        ),
        key(
            "limits",
            Shape::Counts(0, RETRY_LIMIT_MAX),
            Absent::Value("{limited: 20, refused: 1, infrastructure: 5}"),
            "How many failures of a kind may be followed by another attempt: `agent`, `check`, `timeout`, `crash`, `limited`, `refused`, `infrastructure` or `conflict`. Kinds named here do not count for `limit`.",
            "limits: {check: 5, timeout: 0}",
        ),
    ],
};

/// `every` of a task.
pub static EVERY: Part = Part {
    heading: "every",
    keys: &[
        key(
            "cron",
            Shape::Text,
            Absent::Required,
            "Minute, hour, day of the month, month and day of the week, as in crontab.",
            "cron: 30 3 * * MON-FRI",
        ),
        key("zone", Shape::Text, Absent::Value("UTC"), "The time zone, as in the IANA list.", "zone: Asia/Tokyo"),
        key(
            "missed",
            Shape::Choice(&["once", "skip", "all"]),
            Absent::Value("once"),
            "What becomes of runs that could not begin in time, because the one before was not done or nobody was there: one run for all of them, none, or each of them one after the other.",
            "missed: skip",
        ),
    ],
};
