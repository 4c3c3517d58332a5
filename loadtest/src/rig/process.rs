//! What processes use of the machine, from `/proc`.

use std::collections::{HashMap, HashSet};

use procfs::process::{Process, Stat, all_processes};

use crate::report::model::ProcessUse;

/// A process alone: its time, and the most memory it ever had. `None` if it has ended.
pub(crate) fn of_process(pid: u32) -> Option<ProcessUse> {
    let process = Process::new(pid.cast_signed()).ok()?;
    let stat = process.stat().ok()?;
    let peak = process.status().ok()?.vmhwm.unwrap_or_default();
    Some(ProcessUse { cpu_seconds: seconds(stat.utime + stat.stime), max_rss_bytes: peak * 1024, restarts: 0 })
}

pub(crate) fn of_myself() -> ProcessUse {
    of_process(std::process::id()).unwrap_or_default()
}

/// Memory of a process now, in bytes; 0 if it has ended.
pub(crate) fn memory_now(pid: u32) -> u64 {
    let status = Process::new(pid.cast_signed()).and_then(|process| process.status());
    status.ok().and_then(|status| status.vmrss).unwrap_or_default() * 1024
}

/// All processes of the machine, with their parents: a moment of it.
#[derive(Debug)]
pub(crate) struct Family(Vec<Stat>);

impl Family {
    /// As it is now. What ends meanwhile is left out.
    pub(crate) fn now() -> Self {
        let processes = all_processes().into_iter().flatten().flatten();
        Self(processes.filter_map(|process| process.stat().ok()).collect())
    }

    /// A process with all of its descendants, as they are now. The time of those that have ended counts: their
    /// parents have it. Memory that they share counts once, as far as that can be told: what
    /// each has for itself, and the largest shared part of one of them.
    pub(crate) fn of_tree(&self, root: u32) -> ProcessUse {
        let tree = self.tree(root.cast_signed());
        let mut all = ProcessUse::default();
        let (mut own, mut shared) = (0, 0);
        for stat in self.0.iter().filter(|stat| tree.contains(&stat.pid)) {
            let of_children = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
            all.cpu_seconds += seconds(stat.utime + stat.stime + of_children);
            let status = Process::new(stat.pid).and_then(|process| process.status());
            if let Ok(status) = status {
                own += status.rssanon.unwrap_or_default();
                shared = shared.max(status.rssfile.unwrap_or_default() + status.rssshmem.unwrap_or_default());
            }
        }
        all.max_rss_bytes = (own + shared) * 1024;
        all
    }

    fn tree(&self, root: i32) -> HashSet<i32> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for stat in &self.0 {
            children.entry(stat.ppid).or_default().push(stat.pid);
        }
        let (mut tree, mut open) = (HashSet::new(), vec![root]);
        while let Some(pid) = open.pop() {
            if tree.insert(pid) {
                open.extend(children.get(&pid).into_iter().flatten());
            }
        }
        tree
    }
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_has_used_memory_and_one_that_is_gone_nothing() {
        let mut child = Command::new("true").spawn().expect("started");
        let gone = child.id();
        child.wait().expect("ended");
        assert!(of_myself().max_rss_bytes > 1_000_000);
        assert!(memory_now(std::process::id()) > 1_000_000);
        assert_eq!((of_process(gone), memory_now(gone)), (None, 0));
    }

    #[test]
    fn children_belong_to_their_parents() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("started");
        let family = Family::now();
        let tree = family.tree(std::process::id().cast_signed());
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert!(tree.contains(&child.id().cast_signed()));
        assert!(!tree.contains(&1));
        assert!(family.of_tree(std::process::id()).max_rss_bytes > 1_000_000);
    }
}
