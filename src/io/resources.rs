//! What agents use, and what the machine has left. Looked at only when somebody wants to know, but for the room of disk and
//! memory, which costs two small reads.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock;
use super::process::{ProcessError, ProcessId, ProcessTable};
use crate::model::id::AgentId;
use crate::model::size::Size;
use crate::model::usage::{AgentUsage, Usage};

/// How long lies between the two looks from which shares of the processor are counted.
const LOOK_APART: Duration = Duration::from_millis(500);

/// How many files are looked at when the disk is measured.
const FILES_MAX: usize = 500_000;

/// The unit in which the system counts what a file takes.
const BLOCK_BYTES: u64 = 512;

/// Returns the room on the disk of a path that we may use.
///
/// # Errors
/// When the file system does not tell.
pub fn disk_free(path: &Path) -> io::Result<Size> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Size(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// Returns the memory that the machine can give without swapping.
///
/// # Errors
/// When /proc/meminfo cannot be read.
pub fn memory_available() -> io::Result<Size> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib = number_behind(&text, "MemAvailable:").ok_or_else(|| io::Error::other("it has no MemAvailable"))?;
    Ok(Size(kib.saturating_mul(1_024)))
}

/// Returns the load average of one minute per processor, in hundredths.
///
/// # Errors
/// When /proc/loadavg cannot be read.
pub fn load() -> io::Result<u32> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let hundredths = text
        .split_ascii_whitespace()
        .next()
        .and_then(|number| number.replace('.', "").parse::<u32>().ok())
        .ok_or_else(|| io::Error::other("it has no number"))?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    Ok(hundredths / u32::try_from(processors).unwrap_or(u32::MAX))
}

/// What one look sees of an agent's processes.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    processes: usize,
    cpu_ticks: u64,
    memory: u64,
    read: u64,
    written: u64,
    files: usize,
}

/// Measures what the root's agents and the supervisor use. Blocks for half a second.
///
/// # Errors
/// When /proc cannot be listed.
pub fn usage(root: &Path, agents: &[AgentId]) -> Result<Usage, ProcessError> {
    let began = clock::now();
    let first = look(root, agents)?;
    std::thread::sleep(LOOK_APART);
    let second = look(root, agents)?;
    let span_ms = u64::try_from(clock::now().since(began).as_millis()).unwrap_or(u64::MAX).max(1);
    let ticks_a_second = rustix::param::clock_ticks_per_second();
    let share = |name: &str| {
        let ticks = |looks: &BTreeMap<String, Look>| looks.get(name).map_or(0, |look| look.cpu_ticks);
        let used = ticks(&second).saturating_sub(ticks(&first));
        // Tenths of a per cent of one core.
        u32::try_from(used.saturating_mul(1_000_000) / ticks_a_second / span_ms).unwrap_or(u32::MAX)
    };
    let of = |name: &str| {
        let look = second.get(name).copied().unwrap_or_default();
        AgentUsage {
            name: name.to_owned(),
            processes: look.processes,
            cpu_permille: share(name),
            cpu_ms: look.cpu_ticks.saturating_mul(1_000) / ticks_a_second,
            memory_bytes: look.memory,
            read_bytes: look.read,
            written_bytes: look.written,
            files: look.files,
            disk_bytes: 0,
        }
    };
    let agents: Vec<AgentUsage> = agents.iter().map(|agent| of(agent.as_str())).collect();
    Ok(Usage { agents, supervisor: of(SUPERVISOR) })
}

/// The name under which we count ourselves; no agent can have it.
const SUPERVISOR: &str = "supervisor";

fn look(root: &Path, agents: &[AgentId]) -> Result<BTreeMap<String, Look>, ProcessError> {
    let table = ProcessTable::read()?;
    let mut looks: BTreeMap<String, Look> = BTreeMap::new();
    let ours = std::process::id();
    for process in table.running() {
        let name = if process.pid == ours {
            SUPERVISOR.to_owned()
        } else {
            match super::process::agent_of(&process, root) {
                Some(name) if agents.iter().any(|agent| agent.as_str() == name) => name,
                Some(_) | None => continue,
            }
        };
        let ticks = table.ticks(&process);
        add(looks.entry(name).or_default(), &process, ticks);
    }
    Ok(looks)
}

fn add(look: &mut Look, process: &ProcessId, ticks: u64) {
    let folder = format!("/proc/{}", process.pid);
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
    let io = read("io");
    let resident: u64 = read("statm").split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    look.processes += 1;
    look.cpu_ticks += ticks;
    look.memory += resident.saturating_mul(u64::try_from(rustix::param::page_size()).unwrap_or(4_096));
    look.read += number_behind(&io, "read_bytes:").unwrap_or(0);
    look.written += number_behind(&io, "write_bytes:").unwrap_or(0);
    look.files += fs::read_dir(format!("{folder}/fd")).map_or(0, Iterator::count);
}

/// Measures what lies on the disk in some folders: for each agent what lies in a folder of his, and the rest. What cannot be read
/// counts nothing; what comes and goes meanwhile may count or not.
#[must_use]
pub fn disk_used(folders: &[PathBuf], theirs: &BTreeMap<PathBuf, AgentId>) -> (BTreeMap<String, Size>, Size) {
    let (mut used, mut others) = (BTreeMap::<String, Size>::new(), Size(0));
    let mut waiting: Vec<(PathBuf, Option<&AgentId>)> = folders.iter().map(|folder| (folder.clone(), None)).collect();
    let mut looked_at = 0;
    while let Some((folder, owner)) = waiting.pop() {
        let owner = owner.or_else(|| theirs.get(&folder));
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > FILES_MAX {
                tracing::warn!(FILES_MAX, "there are more files than are measured");
                return (used, others);
            }
            let Ok(meta) = entry.metadata() else { continue };
            let size = meta.blocks().saturating_mul(BLOCK_BYTES);
            match owner {
                Some(agent) => used.entry(agent.to_string()).or_insert(Size(0)).0 += size,
                None => others.0 += size,
            }
            // Links are not followed: what they show lies elsewhere.
            if meta.is_dir() {
                waiting.push((entry.path(), owner));
            }
        }
    }
    (used, others)
}

/// Measures what one folder or file takes, with all below it.
#[must_use]
pub fn disk_used_by(path: &Path) -> Size {
    let own = fs::symlink_metadata(path).map_or(0, |meta| meta.blocks().saturating_mul(BLOCK_BYTES));
    Size(own + disk_used(&[path.to_owned()], &BTreeMap::new()).1.0)
}

fn number_behind(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_an_agents_folders_is_his_and_the_rest_is_not() {
        let root = tempfile::tempdir().unwrap();
        let kaede = AgentId::new("kaede").unwrap();
        let his = root.path().join("logs/kaede");
        fs::create_dir_all(his.join("deep")).unwrap();
        fs::write(his.join("deep/file"), vec![1_u8; 100_000]).unwrap();
        fs::write(root.path().join("other"), vec![1_u8; 50_000]).unwrap();
        std::os::unix::fs::symlink(&his, root.path().join("link")).unwrap();
        let theirs = BTreeMap::from([(his, kaede)]);
        let (used, others) = disk_used(&[root.path().to_owned()], &theirs);
        let used = used.get("kaede").unwrap().0;
        assert!((100_000..150_000).contains(&used), "{used}");
        assert!((50_000..90_000).contains(&others.0), "{others:?}");
    }

    #[test]
    fn the_room_of_this_machine_is_seen() {
        assert!(disk_free(Path::new("/")).unwrap() > Size(0));
        assert!(memory_available().unwrap() > Size(0));
        assert!(load().unwrap() < 1_000_000);
        assert!(disk_free(Path::new("/no/such/folder")).is_err());
    }
}
