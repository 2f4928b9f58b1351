//! Control groups: each agent in one of its own, below the tmux server's unit that systemd has delegated to us.
//!
//! ```text
//! miyabi-orchestra-tmux.service/     delegated; nothing runs in it directly
//!     server/                        the tmux server
//!     agent-kaede/                   cpu.weight
//!         runner/                    the runner, which no limit reaches: it tells what became of the rest
//!         work/                      memory.max, memory.high, pids.max; all that the agent starts
//! ```
//!
//! Everything here works on cgroup v2 alone. Elsewhere an agent is a set of process groups, and its limits do not hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::agent::Limits;
use crate::model::id::AgentId;

/// Where cgroup v2 is mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// How often the processes of a group are moved out of it before that is given up: a fork may be faster than a move.
const MOVES_MAX: u32 = 10;

/// How long killed processes may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The wait between two looks at a group that is not empty yet.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What can go wrong with control groups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// This process is in no group of a service.
    #[error("{found} is no group of a service")]
    NoUnit {
        /// Where it is.
        found: String,
    },
    /// The kernel refuses.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Processes are still there.
    #[error("{path} is not empty after SIGKILL")]
    NotEmpty {
        /// The group.
        path: PathBuf,
    },
}

/// The group of one agent, entered by its runner.
#[derive(Debug)]
pub struct AgentGroup {
    runner: PathBuf,
    work: PathBuf,
}

/// What the kernel has counted since the group was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strikes {
    /// Processes that were killed for want of memory.
    pub oom_kills: u64,
    /// Forks that were refused.
    pub forks_refused: u64,
}

impl Strikes {
    /// Returns what came on top of an earlier count.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            oom_kills: self.oom_kills.saturating_sub(before.oom_kills),
            forks_refused: self.forks_refused.saturating_sub(before.forks_refused),
        }
    }
}

impl AgentGroup {
    /// Makes an agent's group, sets its limits, and moves this process, its runner, into it.
    ///
    /// # Errors
    /// When the kernel refuses; the process may then be anywhere.
    pub fn enter(agent: &AgentId, limits: &Limits) -> Result<Self, CgroupError> {
        let unit = unit_of("self")?;
        clear_unit(&unit)?;
        enable(&unit, &["cpu", "memory", "pids"])?;
        let home = unit.join(folder_name(agent));
        make(&home)?;
        enable(&home, &["memory", "pids"])?;
        let group = Self { runner: home.join("runner"), work: home.join("work") };
        make(&group.runner)?;
        make(&group.work)?;
        let or_max = |limit: Option<u64>| limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
        let settings = [
            (home.join("cpu.weight"), limits.cpu_weight.map_or_else(|| "100".to_owned(), |weight| weight.to_string())),
            (group.work.join("memory.max"), or_max(limits.memory_max.map(|size| size.0))),
            (group.work.join("memory.high"), or_max(limits.memory_high.map(|size| size.0))),
            (group.work.join("pids.max"), or_max(limits.tasks_max.map(u64::from))),
        ];
        for (path, value) in settings {
            write(&path, &value)?;
        }
        write(&group.runner.join("cgroup.procs"), "0")?;
        Ok(group)
    }

    /// Does something, such as a fork, inside the group that the limits hold for.
    ///
    /// A child is born where its parent is, so it never runs outside of its limits, and needs no program in between.
    ///
    /// # Errors
    /// When this process cannot be moved.
    pub fn inside<T>(&self, act: impl FnOnce() -> T) -> Result<T, CgroupError> {
        write(&self.work.join("cgroup.procs"), "0")?;
        let done = act();
        write(&self.runner.join("cgroup.procs"), "0")?;
        Ok(done)
    }

    /// Counts what the limits have struck so far.
    #[must_use]
    pub fn strikes(&self) -> Strikes {
        Strikes {
            oom_kills: counter(&self.work.join("memory.events"), "oom_kill"),
            forks_refused: counter(&self.work.join("pids.events"), "max"),
        }
    }

    /// Kills all that the agent has started, however fast it forks. Those who are dead are still to be collected.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill_work(&self) -> Result<(), CgroupError> {
        write(&self.work.join("cgroup.kill"), "1")
    }
}

/// Kills everything in the group of an agent whose runner is dead, and removes the group. Without one nothing happens.
///
/// `server` is the process of the tmux server that holds the agents.
///
/// # Errors
/// When something is still there afterwards.
pub async fn remove(server: u32, agent: &AgentId) -> Result<(), CgroupError> {
    let Ok(unit) = unit_of(&server.to_string()) else { return Ok(()) };
    let home = unit.join(folder_name(agent));
    if !home.is_dir() {
        return Ok(());
    }
    write(&home.join("cgroup.kill"), "1")?;
    let emptied = tokio::time::timeout(END_PATIENCE, async {
        while counter(&home.join("cgroup.events"), "populated") > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    });
    if emptied.await.is_err() {
        return Err(CgroupError::NotEmpty { path: home });
    }
    for folder in [home.join("work"), home.join("runner"), home] {
        match fs::remove_dir(&folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(CgroupError::Io { doing: "remove", path: folder, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Says whether limits can hold on this machine at all.
#[must_use]
pub fn is_unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").is_file()
}

fn folder_name(agent: &AgentId) -> String {
    format!("agent-{agent}")
}

/// Finds the group of the service that a process belongs to.
fn unit_of(pid: &str) -> Result<PathBuf, CgroupError> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&path).map_err(|source| CgroupError::Io { doing: "read", path, source })?;
    match unit_in(&text) {
        Some(unit) => Ok(Path::new(MOUNT).join(unit)),
        None => Err(CgroupError::NoUnit { found: text.trim().to_owned() }),
    }
}

/// Finds the innermost service in `/proc/PID/cgroup`; what lies below it is made by us.
fn unit_in(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folders = path.split('/').collect::<Vec<_>>();
    let last = folders.iter().rposition(|folder| folder.ends_with(".service"))?;
    let length = folders.iter().take(last + 1).map(|folder| folder.len() + 1).sum::<usize>();
    path.get(..length - 1)
}

/// Moves whatever runs directly in the unit's group into one below: only then can it hand out its controllers.
fn clear_unit(unit: &Path) -> Result<(), CgroupError> {
    let server = unit.join("server");
    make(&server)?;
    let list = unit.join("cgroup.procs");
    for _ in 0..MOVES_MAX {
        let pids = fs::read_to_string(&list).map_err(|source| CgroupError::Io {
            doing: "read",
            path: list.clone(),
            source,
        })?;
        if pids.trim().is_empty() {
            return Ok(());
        }
        for pid in pids.split_ascii_whitespace() {
            match write(&server.join("cgroup.procs"), pid) {
                // It has ended meanwhile.
                Err(CgroupError::Io { source, .. }) if source.raw_os_error() == Some(3) => {}
                moved => moved?,
            }
        }
    }
    Err(CgroupError::NotEmpty { path: unit.to_owned() })
}

fn enable(group: &Path, controllers: &[&str]) -> Result<(), CgroupError> {
    let words: Vec<String> = controllers.iter().map(|controller| format!("+{controller}")).collect();
    write(&group.join("cgroup.subtree_control"), &words.join(" "))
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::Io { doing: "make", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    // Not created: a file that is missing is a controller that we were not given.
    let open = fs::OpenOptions::new().write(true).open(path);
    open.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes())).map_err(|source| CgroupError::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

fn counter(path: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_found_from_everywhere_below_it() {
        let unit = "system.slice/miyabi-orchestra-tmux.service";
        for below in ["", "/server", "/agent-kaede/runner", "/agent-kaede/work"] {
            assert_eq!(unit_in(&format!("9:name=systemd:/x\n0::/{unit}{below}\n")), Some(unit));
        }
        let user = "user.slice/user-1000.slice/user@1000.service/app.slice/miyabi-orchestra-tmux.service";
        assert_eq!(unit_in(&format!("0::/{user}/server\n")), Some(user));
        assert_eq!(unit_in("0::/user.slice/session-1.scope\n"), None);
        assert_eq!(unit_in("1:cpu:/a.service\n"), None);
    }

    #[test]
    fn counters_are_read_by_their_whole_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.events");
        fs::write(&path, "low 0\nhigh 3\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n").unwrap();
        assert_eq!([counter(&path, "oom_kill"), counter(&path, "max"), counter(&path, "oom ")], [1, 12, 2]);
        assert_eq!(counter(&folder.path().join("none"), "max"), 0);
    }
}
