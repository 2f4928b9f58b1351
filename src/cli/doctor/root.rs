//! The root folder: writable, room on the disk, configuration, dependency files, programs, repositories.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::super::context::{Context, read_plan};
use super::super::dag;
use super::super::output::count;
use super::super::when::short;
use super::Finding;
use crate::io::stock;
use crate::model::agent::{AgentSpec, DriverKind};
use crate::model::layout::Layout;
use crate::model::plan::{MergeMode, Plan, RepositorySpec};
use crate::model::size::{self, Size};

/// Below this, work will soon fail.
const DISK_BYTES_MIN: u64 = 200 * 1024 * 1024;

/// Below this, somebody should look.
const DISK_BYTES_GOOD: u64 = 2 * 1024 * 1024 * 1024;

/// A lock of git that is older was left over, or somebody has been at work for long.
const LOCK_AGE_GOOD: Duration = Duration::from_secs(60);

/// Looks at the root folder.
pub(super) fn look(context: &Context) -> Vec<Finding> {
    let layout = match context.layout() {
        Ok(layout) => layout,
        Err(failure) => return vec![Finding::fail("root", failure.message(), failure.hints.join("; "))],
    };
    let mut findings = vec![writable(layout.root()), disk(layout.root())];
    match read_plan(&layout) {
        Ok((_, Ok(plan))) => {
            findings.push(Finding::ok("config", count(plan.agents.len(), "agent", "agents")));
            findings.push(dependency_files(&layout, &plan));
            findings.push(worktrees(&layout, plan.resources.worktrees_max));
            findings.extend(programs(context, &plan));
            findings.extend(plan.repositories.iter().map(repository));
        }
        Ok((_, Err(faults))) => findings.push(Finding::fail(
            "config",
            format!(
                "agents.toml has {}, the first: {}",
                count(faults.len(), "fault", "faults"),
                faults.first().map(ToString::to_string).unwrap_or_default()
            ),
            "see all with `miyabi config check`",
        )),
        Err(failure) => findings.push(Finding::fail("config", failure.message(), "agents.toml must be readable")),
    }
    findings
}

fn writable(root: &Path) -> Finding {
    match rustix::fs::access(root, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => Finding::ok("root", root.display().to_string()),
        Err(error) => Finding::fail(
            "root",
            format!("{} cannot be written: {error}", root.display()),
            "use the account that the folder belongs to",
        ),
    }
}

fn disk(root: &Path) -> Finding {
    let free = match rustix::fs::statvfs(root) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            return Finding::warn("disk", format!("the room cannot be found out: {error}"), "look with `df -h`");
        }
    };
    let message = format!("{} MiB are free", free / (1024 * 1024));
    if free >= DISK_BYTES_GOOD {
        Finding::ok("disk", message)
    } else if free >= DISK_BYTES_MIN {
        Finding::warn("disk", message, "every attempt needs a worktree of its repository; make some room")
    } else {
        Finding::fail("disk", message, "make room: messages and work are not accepted when the disk is full")
    }
}

/// Says how many worktrees of attempts there are, what they take and what they may take.
fn worktrees(layout: &Layout, most: Size) -> Finding {
    let folders = std::fs::read_dir(layout.worktrees()).into_iter().flatten().flatten();
    let found = folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count();
    let used = stock::worktrees(layout);
    let of = if most == Size(0) { String::new() } else { format!(" of {}", size::round(most)) };
    let message = format!("{}, {}{of}", count(found, "worktree", "worktrees"), size::round(used));
    if most == Size(0) || used.0 <= most.0 / 10 * 9 {
        return Finding::ok("worktrees", message);
    }
    let hint = "what is in data/worktrees is being worked in or holds work that is nowhere else: look at what is left of ended \
                attempts, or raise `worktrees_max`";
    Finding::warn("worktrees", message, hint)
}

fn dependency_files(layout: &Layout, plan: &Plan) -> Finding {
    match dag::read(layout, plan, &[]) {
        Ok(read) if read.faults.is_empty() => {
            let tasks: usize = read.files.iter().map(|file| file.nodes.len()).sum();
            Finding::ok(
                "dag",
                format!("{}, {}", count(read.files.len(), "file", "files"), count(tasks, "task", "tasks")),
            )
        }
        Ok(read) => Finding::fail(
            "dag",
            format!("{}, the first: {}", count(read.faults.len(), "fault", "faults"), read.faults[0]),
            "see all with `miyabi dag check`",
        ),
        Err(failure) => Finding::fail("dag", failure.message(), "the files in dag/ must be readable"),
    }
}

/// Looks for each agent's program; agents that share one are named together.
fn programs(context: &Context, plan: &Plan) -> Vec<Finding> {
    let mut users: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for agent in &plan.agents {
        if let Some(program) = program(agent) {
            users.entry(program).or_default().push(agent.id.as_str());
        }
    }
    users
        .into_iter()
        .map(|(program, agents)| match context.environment.find_program(program) {
            Some(path) => Finding::ok("program", format!("{} ({})", path.display(), agents.join(", "))),
            None => Finding::fail(
                "program",
                format!("there is no `{program}` for {}", agents.join(", ")),
                "install it, put its folder on PATH, or change `command` or `driver` in agents.toml",
            ),
        })
        .collect()
}

fn program(agent: &AgentSpec) -> Option<&str> {
    let own = match agent.driver {
        DriverKind::Aider => Some("aider"),
        DriverKind::Claude => Some("claude"),
        DriverKind::Codex => Some("codex"),
        DriverKind::Gemini => Some("gemini"),
        DriverKind::Opencode => Some("opencode"),
        DriverKind::Command | DriverKind::Echo | DriverKind::Dashboard => None,
    };
    agent.command.first().map(String::as_str).or(own)
}

/// Returns a lock of git and its age, if it is older than git holds one on a quiet day.
fn old_lock(lock: PathBuf) -> Option<(PathBuf, Duration)> {
    let age = lock.metadata().ok()?.modified().ok()?.elapsed().ok()?;
    (age >= LOCK_AGE_GOOD).then_some((lock, age))
}

fn repository(repository: &RepositorySpec) -> Finding {
    let check = "repository";
    let name = &repository.name;
    let path = repository.path.display();
    let ask = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&repository.path).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if !repository.path.exists() {
        return match &repository.remote {
            Some(remote) => Finding::ok(check, format!("{name}: {path} will be cloned from {remote}")),
            None => Finding::fail(
                check,
                format!("{name}: there is no {path}"),
                "change `path`, or add `remote` to have it cloned",
            ),
        };
    }
    if ask(&["rev-parse", "--git-dir"]).is_none() {
        return Finding::fail(
            check,
            format!("{name}: {path} is no git repository"),
            "run `git init` there, or change `path`",
        );
    }
    if ask(&["rev-parse", "--verify", "--quiet", "HEAD"]).is_none() {
        return Finding::fail(
            check,
            format!("{name}: {path} has no commit yet"),
            "make a first commit: tasks begin on the newest one",
        );
    }
    let Some(branch) = ask(&["symbolic-ref", "--short", "--quiet", "HEAD"]) else {
        let hint = "check out a branch: finished work is merged into the current one";
        return Finding::warn(check, format!("{name}: {path} is on no branch"), hint);
    };
    let names = ["index", "HEAD", "packed-refs", &format!("refs/heads/{branch}")].map(|name| format!("{name}.lock"));
    let place = |name: &String| ask(&["rev-parse", "--path-format=absolute", "--git-path", name]).map(PathBuf::from);
    if let Some((lock, age)) = names.iter().filter_map(place).find_map(old_lock) {
        return Finding::warn(
            check,
            format!("{name}: {} is {} old", lock.display(), short(age)),
            "a git was killed there, or is still at work; it is removed by the next task once no git runs",
        );
    }
    let dirty = ask(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|said| !said.is_empty());
    match repository.merge {
        MergeMode::Local | MergeMode::Queue if dirty => Finding::warn(
            check,
            format!("{name}: {path} has changed files on {branch}"),
            "commit or stash them: until then finished work waits instead of being merged",
        ),
        MergeMode::Local | MergeMode::Queue | MergeMode::PullRequest | MergeMode::None => {
            Finding::ok(check, format!("{name}: {path} on {branch}"))
        }
    }
}
