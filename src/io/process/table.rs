//! What the tree of processes says about one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{ProcessError, ProcessId, Stat, all_pids, read_stat};

/// Signs of life of a process and of everything below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The kernel's letter for its state: `R` running, `S` sleeping, `D` waiting for a device, `T` stopped.
    pub state: char,
    /// CPU time of it and all its descendants, in clock ticks; it never shrinks while the same processes live, because
    /// a parent inherits the time of the children whose end it collects.
    pub cpu_ticks: u64,
    /// How many of its descendants run.
    pub children: usize,
}

/// All processes at one moment; read it once to judge many.
#[derive(Debug, Clone)]
pub struct ProcessTable {
    stats: BTreeMap<u32, Stat>,
    children: BTreeMap<u32, Vec<u32>>,
}

impl ProcessTable {
    /// Reads all processes.
    ///
    /// # Errors
    /// When /proc cannot be listed.
    pub fn read() -> Result<Self, ProcessError> {
        Ok(Self::new(all_pids()?.into_iter().filter_map(read_stat)))
    }

    fn new(stats: impl Iterator<Item = Stat>) -> Self {
        let stats: BTreeMap<u32, Stat> = stats.map(|stat| (stat.id.pid, stat)).collect();
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for stat in stats.values() {
            children.entry(stat.parent).or_default().push(stat.id.pid);
        }
        Self { stats, children }
    }

    /// Returns the signs of life of a process; nothing when it has ended.
    #[must_use]
    pub fn evidence(&self, process: &ProcessId) -> Option<Evidence> {
        let stat = self.stats.get(&process.pid).filter(|stat| stat.id == *process && stat.is_running())?;
        let below = self.descendants(process.pid);
        let ticks = |pid: &u32| self.stats.get(pid).map_or(0, |stat| stat.cpu_ticks);
        Some(Evidence {
            state: stat.state,
            cpu_ticks: stat.cpu_ticks + below.iter().map(ticks).sum::<u64>(),
            children: below.iter().filter(|pid| self.stats.get(pid).is_some_and(Stat::is_running)).count(),
        })
    }

    /// Returns the processes that run below one, zombies included.
    pub(super) fn descendants(&self, pid: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut open = vec![pid];
        while let Some(parent) = open.pop() {
            for child in self.children.get(&parent).into_iter().flatten() {
                if found.insert(*child) {
                    open.push(*child);
                }
            }
        }
        found
    }

    /// Returns the process groups of which every member is one of `processes`.
    pub(super) fn groups_within(&self, processes: &[ProcessId]) -> BTreeSet<u32> {
        let chosen: BTreeSet<u32> = processes.iter().map(|process| process.pid).collect();
        let (inside, outside): (Vec<&Stat>, Vec<&Stat>) =
            self.stats.values().filter(|stat| stat.is_running()).partition(|stat| chosen.contains(&stat.id.pid));
        let groups = |stats: Vec<&Stat>| stats.into_iter().map(|stat| stat.group).collect::<BTreeSet<u32>>();
        &groups(inside) - &groups(outside)
    }

    /// Returns the processor time of one process, without its descendants, in clock ticks.
    #[must_use]
    pub fn ticks(&self, process: &ProcessId) -> u64 {
        self.stats.get(&process.pid).map_or(0, |stat| stat.cpu_ticks)
    }

    /// Returns all running processes.
    pub fn running(&self) -> impl Iterator<Item = ProcessId> {
        self.stats.values().filter(|stat| stat.is_running()).map(|stat| stat.id)
    }
}

/// Returns the signs of life of one process; nothing when it has ended.
#[must_use]
pub fn evidence(process: &ProcessId) -> Option<Evidence> {
    ProcessTable::read().ok()?.evidence(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, parent: u32, cpu_ticks: u64) -> Stat {
        Stat {
            id: ProcessId { pid, start: u64::from(pid) },
            state: 'S',
            parent,
            group: pid,
            cpu_ticks,
            children_ticks: 0,
            threads: 1,
        }
    }

    #[test]
    fn the_work_of_grandchildren_counts() {
        let table =
            ProcessTable::new([stat(1, 0, 100), stat(10, 1, 1), stat(11, 10, 20), stat(12, 11, 300)].into_iter());
        let seen = table.evidence(&ProcessId { pid: 10, start: 10 }).unwrap();
        assert_eq!(seen, Evidence { state: 'S', cpu_ticks: 321, children: 2 });
    }

    #[test]
    fn a_group_with_a_stranger_in_it_is_left_alone() {
        let in_group = |pid, group| Stat { group, ..stat(pid, 1, 0) };
        let stats = [in_group(10, 10), in_group(11, 10), in_group(20, 20), in_group(21, 20), in_group(30, 30)];
        let table = ProcessTable::new(stats.into_iter());
        let chosen: Vec<ProcessId> =
            [10, 11, 20].into_iter().map(|pid| ProcessId { pid, start: u64::from(pid) }).collect();
        assert_eq!(table.groups_within(&chosen), BTreeSet::from([10]));
    }

    #[test]
    fn another_process_with_the_same_number_is_no_sign_of_life() {
        let table = ProcessTable::new([stat(10, 1, 1)].into_iter());
        assert_eq!(table.evidence(&ProcessId { pid: 10, start: 9 }), None);
    }
}
