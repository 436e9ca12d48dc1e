//! Which cores the pieces may run on.
//!
//! With one client at most one process has work at any time. Left alone, the scheduler keeps such a
//! chain on one core in one run and spreads it over several in the next, and waking an idle core
//! takes longer than any proxy measured here (direct calls: 24 µs or 95 µs). The chain on one core
//! is what can be compared.

use std::{fs, io};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::bench::procfs;

/// Confines processes to one core until dropped.
pub(super) struct OneCore {
    processes: Vec<u32>,
    before: CpuSet,
}

impl OneCore {
    /// Confines `processes` with their descendants, and this process with those it will start.
    pub(super) fn confine(processes: Vec<u32>) -> Result<Self> {
        let before = sched_getaffinity(None)?;
        let last = (0..CpuSet::MAX_CPU).rfind(|&core| before.is_set(core));
        let mut one = CpuSet::new();
        one.set(last.context("no core to run on")?);

        let confined = Self { processes, before };
        confined.run_on(&one)?;
        Ok(confined)
    }

    fn run_on(&self, cores: &CpuSet) -> Result<()> {
        for &root in &self.processes {
            for process in procfs::family(root)? {
                for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                    let name = thread?.file_name();
                    let id = name.to_str().and_then(|name| name.parse().ok());
                    // A thread may end between the listing and this line.
                    match sched_setaffinity(id.and_then(rustix::thread::Pid::from_raw), cores) {
                        Err(rustix::io::Errno::SRCH) => {}
                        outcome => outcome.map_err(io::Error::from)?,
                    }
                }
            }
        }
        Ok(sched_setaffinity(None, cores)?)
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        if let Err(error) = self.run_on(&self.before) {
            eprintln!("warning: some process stays on one core: {error}");
        }
    }
}
