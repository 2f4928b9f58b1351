//! What a program leaves running when it ends, in whatever session or group it hides.
//!
//! The runner is the subreaper of all that it starts: whoever loses its parent becomes the runner's child, so after a
//! program's end every child that is left is a leftover of it. Looking for them costs one small read when there are none,
//! while a search through all processes of the machine would cost more than many a task.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::io::process;

/// How long leftovers may take to vanish after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one leftover is waited for before all are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Makes this process the one that inherits orphans. Once, at the start.
///
/// # Errors
/// Those of the kernel.
pub(super) fn adopt() -> std::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(Into::into)
}

/// Kills and collects every child that is left, after `leader`, the program itself, was collected.
pub(super) async fn end(leader: Pid) {
    if children().is_empty() {
        return;
    }
    let all = async {
        loop {
            // Killing a parent brings its children to us, so this goes on until there are none.
            let left = children();
            if left.is_empty() {
                return;
            }
            tracing::debug!(leader = leader.as_raw_nonzero(), left = left.len(), "ending what a program left behind");
            for pid in left {
                kill_process(pid, Signal::KILL).ok();
                if let Some(leftover) = process::identify(pid.as_raw_nonzero().get().unsigned_abs()) {
                    tokio::time::timeout(LOOK_AGAIN, process::wait_for_exit(leftover)).await.ok();
                }
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
            }
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        tracing::warn!(leader = leader.as_raw_nonzero(), "some of what a program left behind cannot be ended");
    }
}

/// Returns our children, whichever thread started them.
fn children() -> Vec<Pid> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .filter_map(Pid::from_raw)
        .collect()
}
