//! Processes that carry marks in their environment, found and ended whatever became of their parents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::table::ProcessTable;
use super::{ProcessError, ProcessId, identify, is_alive, signal, wait_for_exit};
use crate::tasks;

/// How long processes may take to vanish after SIGKILL, reappearing ones included.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How often, and after what pauses, an environment is read again that seems to be empty.
const BEGINNINGS_MAX: u32 = 25;
const BEGINNING: Duration = Duration::from_micros(200);

/// How many bytes of an environment are asked for at first, and at most; Linux allows some 6 MiB.
const ENVIRONMENT_BYTES: usize = 32 * 1024;
const ENVIRONMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The wait between two looks at a process that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Returns all running processes of our user whose environment, as it was at their start, holds every `NAME=value`.
///
/// A process that overwrote its environment, or that does not let us read it, is not found.
///
/// # Errors
/// When /proc cannot be listed or no marks are given.
pub fn marked(marks: &[(&str, &str)]) -> Result<Vec<ProcessId>, ProcessError> {
    let marks = Marks::new(marks.iter().copied())?;
    Ok(super::all_pids()?.into_iter().filter_map(identify).filter(|process| marks.carried_by(process)).collect())
}

/// Ends all processes that carry the marks, together with their descendants, and returns how many there were.
///
/// SIGTERM first (and SIGCONT, so that a stopped process can act on it), SIGKILL after `grace`; then again until none is
/// found. We ourselves are never touched, even if we carry the marks.
///
/// # Errors
/// When /proc cannot be listed, no marks are given, or some processes are still there in the end.
pub async fn end_marked(marks: &[(String, String)], grace: Duration) -> Result<usize, ProcessError> {
    let marks = Arc::new(Marks::new(marks.iter().map(|(name, value)| (name.as_str(), value.as_str())))?);
    let first = look(&marks).await?;
    let seen_clean = u32::from(first.is_empty());
    for process in &first {
        send(process, Signal::TERM);
        send(process, Signal::CONT);
    }
    wait_for_all(&first, grace).await;

    let mut ended: BTreeSet<ProcessId> = first.into_iter().collect();
    match tokio::time::timeout(KILL_PATIENCE, kill_all(&marks, &mut ended, seen_clean)).await {
        Ok(done) => done.map(|()| ended.len()),
        Err(_) => {
            let left = look(&marks).await?;
            Err(ProcessError::Survivors { pids: left.iter().map(|process| process.pid).collect() })
        }
    }
}

/// Finds what carries the marks, on a thread on which nobody waits: all of /proc is looked through for it.
async fn look(marks: &Arc<Marks>) -> Result<Vec<ProcessId>, ProcessError> {
    let marks = Arc::clone(marks);
    tasks::blocking(move || Ok(marks.family()?.map(|(_, family)| family).unwrap_or_default())).await
}

/// Kills until nothing that carries the marks is found any more, after some looks in a row that found nothing.
async fn kill_all(
    marks: &Arc<Marks>,
    ended: &mut BTreeSet<ProcessId>,
    mut clean_looks: u32,
) -> Result<(), ProcessError> {
    // A process that forks and ends while we look can hide its child from one look, but hardly from two.
    while clean_looks < 2 {
        let killing = Arc::clone(marks);
        // The whole of /proc is read between the look and the signals: no work for a thread that others wait for.
        let left = tasks::blocking(move || {
            let Some((table, left)) = killing.family()? else { return Ok(Vec::new()) };
            // A signal to a group reaches all its members in one step, so that those who fork as quickly as they can do not
            // outrun us. What left the group is found one by one.
            for group in table.groups_within(&left) {
                kill_group(group);
            }
            for process in &left {
                send(process, Signal::KILL);
            }
            Ok::<_, ProcessError>(left)
        })
        .await?;
        clean_looks = if left.is_empty() { clean_looks + 1 } else { 0 };
        wait_for_all(&left, KILL_PATIENCE).await;
        ended.extend(left);
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn kill_group(group: u32) {
    let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) else { return };
    if let Err(errno) = kill_process_group(group, Signal::KILL) {
        tracing::debug!(group = group.as_raw_nonzero(), %errno, "a process group did not take SIGKILL");
    }
}

/// Sends a signal; one process that we may not signal (it changed its user) must not save the others.
fn send(process: &ProcessId, what: Signal) {
    if let Err(error) = signal(process, what) {
        tracing::warn!(pid = process.pid, %error, "a process to be ended does not take our signal");
    }
}

/// Reads with what environment a process was started. While it begins a new program that cannot be seen for a moment: what
/// looks empty is read again, unless it is a thread of the kernel, which has no program.
fn environment_of(pid: u32) -> Option<Vec<u8>> {
    let folder = format!("/proc/{pid}");
    for _ in 0..BEGINNINGS_MAX {
        let environment = read_at_once(&format!("{folder}/environ")).ok()?;
        if !environment.is_empty() || fs::read_link(format!("{folder}/exe")).is_err() {
            return Some(environment);
        }
        std::thread::sleep(BEGINNING);
    }
    None
}

/// Reads a file with one call. With several, a process that begins a new program between them would end its environment there.
fn read_at_once(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; ENVIRONMENT_BYTES];
    loop {
        let length = File::open(path)?.read(&mut bytes)?;
        if length < bytes.len() || length >= ENVIRONMENT_BYTES_MAX {
            bytes.truncate(length);
            return Ok(bytes);
        }
        bytes.resize(2 * length, 0);
    }
}

/// What `/proc/PID/environ` must hold.
struct Marks {
    entries: Vec<Vec<u8>>,
    user: u32,
}

impl Marks {
    fn new<'a>(marks: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ProcessError> {
        let entries: Vec<Vec<u8>> = marks.map(|(name, value)| format!("{name}={value}").into_bytes()).collect();
        if entries.is_empty() {
            return Err(ProcessError::NoMarks);
        }
        Ok(Self { entries, user: rustix::process::geteuid().as_raw() })
    }

    /// Says whether the process carries the marks.
    fn carried_by(&self, process: &ProcessId) -> bool {
        let folder = format!("/proc/{}", process.pid);
        if !fs::metadata(&folder).is_ok_and(|metadata| metadata.uid() == self.user) {
            return false;
        }
        // The last look proves that the environment belongs to this process and not to a later one of its number.
        self.are_in_environment_of(process.pid) && is_alive(process)
    }

    fn are_in_environment_of(&self, pid: u32) -> bool {
        let Some(environment) = environment_of(pid) else { return false };
        self.entries.iter().all(|entry| environment.split(|byte| *byte == 0).any(|other| other == entry.as_slice()))
    }

    /// Says whether any process but ours carries the marks, whoever it is: one small read for each that has an environment.
    fn are_carried(&self) -> Result<bool, ProcessError> {
        let us = std::process::id();
        Ok(super::all_pids()?.into_iter().any(|pid| pid != us && self.are_in_environment_of(pid)))
    }

    /// Reads the table of processes and finds in it what carries the marks. Mostly nothing does, and then who is whose child
    /// need not be known.
    fn family(&self) -> Result<Option<(ProcessTable, Vec<ProcessId>)>, ProcessError> {
        if !self.are_carried()? {
            return Ok(None);
        }
        let table = ProcessTable::read()?;
        let family = self.family_in(&table);
        Ok(Some((table, family)))
    }

    /// Returns the processes that carry the marks and all that run below them, except us and those above us.
    fn family_in(&self, table: &ProcessTable) -> Vec<ProcessId> {
        let us = std::process::id();
        let mut found: BTreeMap<u32, ProcessId> = BTreeMap::new();
        for process in table.running().filter(|process| process.pid != us && self.carried_by(process)) {
            let below = table.descendants(process.pid);
            if below.contains(&us) {
                tracing::warn!(pid = process.pid, "a process that carries the marks is above us and is spared");
                continue;
            }
            found.insert(process.pid, process);
            found.extend(
                table.running().filter(|process| below.contains(&process.pid)).map(|process| (process.pid, process)),
            );
        }
        found.into_values().collect()
    }
}

/// Waits until all have ended, at most `patience`.
async fn wait_for_all(processes: &[ProcessId], patience: Duration) {
    let all = async {
        for process in processes {
            if wait_for_exit(*process).await.is_err() {
                // Without a handle, e.g. when no file descriptor is left, looking has to do.
                while is_alive(process) {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::debug!("some processes did not end in time");
    }
}
