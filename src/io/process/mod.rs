//! Processes by an identity that survives the reuse of their numbers: seen through /proc, waited for and signalled
//! through pidfds.

mod marks;
mod suspend;
mod table;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use self::marks::{end_marked, marked};
pub use self::suspend::{agent_of, resume, suspend};
pub use self::table::{Evidence, ProcessTable, evidence};

/// What can go wrong with processes.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The kernel does not give us a handle of the process.
    #[error("cannot get hold of process {pid}")]
    Open {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The end of the process cannot be waited for.
    #[error("cannot wait for the end of process {pid}")]
    Wait {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The signal was refused.
    #[error("cannot send a signal to process {pid}")]
    Signal {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The list of processes cannot be read.
    #[error("cannot read the processes in /proc")]
    Scan {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Without marks every process would match.
    #[error("no marks were given, so every process would match")]
    NoMarks,
    /// Some processes are still there after SIGKILL, e.g. in an uninterruptible wait, or reappear faster than they end.
    #[error("processes {pids:?} are still there after SIGKILL")]
    Survivors {
        /// Who is left.
        pids: Vec<u32>,
    },
}

/// A process: its number, and when it was started, which tells it from a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId {
    /// The number.
    pub pid: u32,
    /// The time of its start, in clock ticks since the machine's boot.
    pub start: u64,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The process got it.
    Delivered,
    /// The process had ended before; its number may belong to another one by now.
    Gone,
}

/// Returns the identity of a running process; nothing when there is none, or only its zombie.
#[must_use]
pub fn identify(pid: u32) -> Option<ProcessId> {
    read_stat(pid).filter(Stat::is_running).map(|stat| stat.id)
}

/// Returns our own identity.
///
/// # Panics
/// When /proc is not mounted.
#[must_use]
pub fn ourselves() -> ProcessId {
    identify(std::process::id()).expect("a process that asks is running, and miyabi needs /proc")
}

/// Says whether the process still runs; a zombie does not.
#[must_use]
pub fn is_alive(process: &ProcessId) -> bool {
    identify(process.pid) == Some(*process)
}

/// Returns the running processes whose program's name and arguments are as wanted.
///
/// # Errors
/// When /proc cannot be listed.
pub fn running_as(is_wanted: impl Fn(&str, &[&str]) -> bool) -> Result<Vec<ProcessId>, ProcessError> {
    let fits = |pid: &u32| {
        // One that ends meanwhile, or that we may not see, has no name.
        let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) else { return false };
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments);
        is_wanted(name.trim_end(), &arguments.split_terminator('\0').collect::<Vec<&str>>())
    };
    Ok(all_pids()?.into_iter().filter(fits).filter_map(identify).collect())
}

/// Waits until the process has ended; returns at once if it has, whoever carries its number now.
///
/// # Errors
/// When the kernel does not give us a handle of the process.
pub async fn wait_for_exit(process: ProcessId) -> Result<(), ProcessError> {
    let Some(handle) = open(&process)? else { return Ok(()) };
    let failed = |source| ProcessError::Wait { pid: process.pid, source };
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that could give up their descriptor; `OwnedFd` cannot"
    )]
    let handle = AsyncFd::with_interest(handle, Interest::READABLE).map_err(failed)?;
    // A pidfd becomes readable when the process has ended, also while nobody has collected its status.
    handle.readable().await.map_err(failed)?.retain_ready();
    Ok(())
}

/// Sends a signal to exactly this process.
///
/// # Errors
/// When the kernel refuses.
pub fn signal(process: &ProcessId, signal: Signal) -> Result<Sent, ProcessError> {
    let Some(handle) = open(process)? else { return Ok(Sent::Gone) };
    match pidfd_send_signal(handle, signal) {
        Ok(()) => Ok(Sent::Delivered),
        Err(Errno::SRCH) => Ok(Sent::Gone),
        Err(errno) => Err(ProcessError::Signal { pid: process.pid, source: errno.into() }),
    }
}

/// Opens a pidfd; nothing when the process is gone.
fn open(process: &ProcessId) -> Result<Option<OwnedFd>, ProcessError> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(ProcessError::Open { pid: process.pid, source: errno.into() }),
    };
    // The number may have been given to another process before the handle was opened, but not since.
    Ok(is_alive(process).then_some(handle))
}

/// Returns the processor time of everything below us, in milliseconds: of what runs, and of our children that have ended. It
/// follows the lists of children, so it costs a few small reads however many processes the machine has.
#[must_use]
pub fn cpu_ms_below_us() -> u64 {
    /// The most processes that are looked at.
    const LOOKS_MAX: usize = 2_000;
    let mut open = children_of(std::process::id());
    let mut ticks = read_stat(std::process::id()).map_or(0, |stat| stat.children_ticks);
    let mut looks = 0;
    while let Some(pid) = open.pop()
        && looks < LOOKS_MAX
    {
        looks += 1;
        if let Some(stat) = read_stat(pid) {
            ticks += stat.cpu_ticks;
            open.extend(children_of(pid));
        }
    }
    ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second()
}

/// Returns the children of a process, whichever of its threads started them.
fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// The fields of /proc/PID/stat that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    id: ProcessId,
    state: char,
    parent: u32,
    group: u32,
    /// User and system time of the process and of the children whose end it has collected.
    cpu_ticks: u64,
    /// The part of it of the children whose end it has collected.
    children_ticks: u64,
    threads: u32,
}

impl Stat {
    /// The main thread of a process can end, and look like a zombie, while other threads go on.
    fn is_running(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x') || self.threads > 1
    }
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    // The program's name stands in parentheses and may hold spaces and parentheses itself. What follows begins with
    // field 3 of the manual page.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |index: usize| field(index)?.parse::<u64>().ok();
    let ticks = [14, 15, 16, 17].into_iter().map(number).sum::<Option<u64>>()?;
    Some(Stat {
        id: ProcessId { pid, start: number(22)? },
        state: field(3)?.chars().next()?,
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        cpu_ticks: ticks,
        children_ticks: number(16)? + number(17)?,
        threads: field(20)?.parse().ok()?,
    })
}

/// Returns the numbers of all processes.
fn all_pids() -> Result<Vec<u32>, ProcessError> {
    let failed = |source| ProcessError::Scan { source };
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        if let Some(pid) = entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_confuse_the_fields() {
        let text = "77 (a) b (c) S 12 77 77 0 -1 4194304 10 20 0 0 1 2 3 4 20 0 5 0 98765 1000 1 18446744073709551615";
        let stat = parse_stat(77, text).unwrap();
        assert_eq!(
            stat,
            Stat {
                id: ProcessId { pid: 77, start: 98_765 },
                state: 'S',
                parent: 12,
                group: 77,
                cpu_ticks: 10,
                children_ticks: 7,
                threads: 5
            }
        );
    }

    #[test]
    fn a_cut_off_line_is_no_process() {
        assert_eq!(parse_stat(77, "77 (a) S 12 77"), None);
        assert_eq!(parse_stat(77, ""), None);
    }

    #[test]
    fn a_process_whose_main_thread_ended_still_runs() {
        let zombie = |threads| Stat {
            id: ProcessId { pid: 7, start: 1 },
            state: 'Z',
            parent: 1,
            group: 7,
            cpu_ticks: 0,
            children_ticks: 0,
            threads,
        };
        assert!(zombie(3).is_running());
        assert!(!zombie(1).is_running());
    }

    #[test]
    fn a_number_that_no_process_can_have_is_gone() {
        for pid in [0, u32::MAX] {
            assert_eq!(signal(&ProcessId { pid, start: 1 }, Signal::KILL).unwrap(), Sent::Gone);
        }
    }
}
