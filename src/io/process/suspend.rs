//! Stopping and continuing what a root's agents run, found by the marks in their environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::table::ProcessTable;
use super::{ProcessError, ProcessId, is_alive, read_stat, signal};
use crate::model::id::AgentId;

/// How often all processes are looked at before those that do not stop, e.g. in an uninterruptible wait, are left alone.
const LOOKS_MAX: usize = 200;

/// The wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process that an agent's runner has started, or the runner itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    process: ProcessId,
    is_runner: bool,
}

/// Stops everything below the runners of a root's agents, and returns how many processes stand still.
///
/// Looks again until two looks in a row find nothing that runs: a process that forks while we look can hide its child from one
/// look. We ourselves and those above us are spared.
///
/// # Errors
/// When /proc cannot be listed.
pub fn suspend(root: &Path, spared: &[AgentId]) -> Result<usize, ProcessError> {
    let mut clean_looks = 0;
    let mut still = 0;
    let mut told: BTreeSet<ProcessId> = BTreeSet::new();
    for _ in 0..LOOKS_MAX {
        let members = members(root, spared)?;
        let is_still = |member: &&Member| stands_still(member, &told);
        let running: Vec<ProcessId> = members
            .iter()
            .filter(|member| !member.is_runner && !is_still(member))
            .map(|member| member.process)
            .collect();
        still = members.iter().filter(|member| !member.is_runner).count() - running.len();
        clean_looks = if running.is_empty() { clean_looks + 1 } else { 0 };
        if clean_looks == 2 {
            return Ok(still);
        }
        for process in &running {
            send(process, Signal::STOP);
        }
        told.extend(running);
        std::thread::sleep(LOOK_AGAIN);
    }
    tracing::warn!("some processes of the agents do not stand still");
    Ok(still)
}

/// Continues everything that was stopped below the runners, and returns how many processes that were.
///
/// # Errors
/// When /proc cannot be listed.
pub fn resume(root: &Path) -> Result<usize, ProcessError> {
    let members: Vec<Member> = members(root, &[])?.into_iter().filter(|member| !member.is_runner).collect();
    let stopped = members.iter().filter(|member| matches!(state_of(member), Some('T' | 't'))).count();
    // Also those that do not look stopped: a signal may be waiting for the end of an uninterruptible wait.
    for member in &members {
        send(&member.process, Signal::CONT);
    }
    Ok(stopped)
}

/// Says whether a process does nothing any more. One that was told to stop and is in an uninterruptible wait stops when that
/// ends: a shell waits so for a child that was stopped between its birth and its program.
fn stands_still(member: &Member, told: &BTreeSet<ProcessId>) -> bool {
    match state_of(member) {
        Some('T' | 't') | None => true,
        Some('D') => told.contains(&member.process),
        Some(_) => false,
    }
}

/// Returns the kernel's letter for a process; nothing when it has ended.
fn state_of(member: &Member) -> Option<char> {
    read_stat(member.process.pid).filter(|stat| stat.id == member.process && stat.is_running()).map(|stat| stat.state)
}

fn send(process: &ProcessId, what: Signal) {
    if let Err(error) = signal(process, what) {
        tracing::warn!(pid = process.pid, %error, "a process of an agent does not take our signal");
    }
}

fn members(root: &Path, spared: &[AgentId]) -> Result<Vec<Member>, ProcessError> {
    let table = ProcessTable::read()?;
    let us = std::process::id();
    let mut found: BTreeMap<u32, Member> = BTreeMap::new();
    let mut above: Vec<u32> = vec![us];
    for process in table.running() {
        let Some(agent) = agent_of(&process, root) else { continue };
        let below = table.descendants(process.pid);
        if below.contains(&us) {
            above.push(process.pid);
        }
        if spared.iter().any(|spared| spared.as_str() == agent) {
            continue;
        }
        found.insert(process.pid, Member { process, is_runner: is_runner(&process) });
        for child in table.running().filter(|child| below.contains(&child.pid)) {
            found.entry(child.pid).or_insert_with(|| Member { process: child, is_runner: is_runner(&child) });
        }
    }
    Ok(found.into_values().filter(|member| !above.contains(&member.process.pid)).collect())
}

/// Returns whose process it is, by the marks that every process in a pane of the root inherits.
#[must_use]
pub fn agent_of(process: &ProcessId, root: &Path) -> Option<String> {
    let folder = format!("/proc/{}", process.pid);
    if fs::metadata(&folder).ok()?.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let environment = fs::read(format!("{folder}/environ")).ok()?;
    let mark = format!("MIYABI_ROOT={}", root.display()).into_bytes();
    let mut entries = environment.split(|byte| *byte == 0);
    let in_root = entries.clone().any(|entry| entry == mark);
    let agent = entries.find_map(|entry| entry.strip_prefix(b"MIYABI_AGENT="))?;
    // The last look proves that the environment belongs to this process and not to a later one of its number.
    (in_root && is_alive(process)).then(|| String::from_utf8_lossy(agent).into_owned())
}

/// Says whether a process is a runner: tmux would continue it at once, and it obeys the mark itself.
fn is_runner(process: &ProcessId) -> bool {
    let Ok(line) = fs::read(format!("/proc/{}/cmdline", process.pid)) else { return false };
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    words.contains(&b"runner".as_slice()) && words.contains(&b"--incarnation".as_slice())
}
