//! Facts about the machine that a reader needs to judge the figures.

use std::{fs, process, thread};

use anyhow::{Context, Result};

use crate::bench::procfs;

/// One line: cores, CPU model and kernel.
pub(super) fn describe() -> Result<String> {
    let cores = thread::available_parallelism()?;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu_model(&cpuinfo).unwrap_or("unknown CPU");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{cores} cores ({model}), Linux {}", kernel.trim()))
}

/// Who used the machine's CPU time up to now, in clock ticks of all cores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occupation {
    total: u64,
    busy: u64,
    /// This process and all that it started.
    own: u64,
}

impl Occupation {
    pub(super) fn read() -> Result<Self> {
        let own = procfs::ticks(process::id())?;
        let text = fs::read_to_string("/proc/stat")?;
        let (total, busy) = total_and_busy(&text).context("unknown format of /proc/stat")?;
        Ok(Self { total, busy, own })
    }

    /// Percent of all CPU time since then that others took: other processes, or other machines on
    /// the same host.
    pub(super) fn others_since(self, then: Self) -> f64 {
        let others = (self.busy - then.busy).saturating_sub(self.own - then.own);
        100.0 * others as f64 / (self.total - then.total).max(1) as f64
    }
}

/// Fields: user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user.
fn total_and_busy(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let fields = fields.map(|field| field.parse::<u64>().ok()).collect::<Option<Vec<_>>>()?;
    let total = fields.iter().sum::<u64>();
    Some((total, total - fields.get(3)? - fields.get(4)?))
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_cores_are_not_busy() {
        let stat = "cpu  10 2 30 400 50 1 6 7 99 99\ncpu0 1 1 1 1 1 1 1 1 0 0\n";

        assert_eq!(total_and_busy(stat), Some((506, 56)));
        assert_eq!(total_and_busy("intr 1 2 3"), None);
    }

    #[test]
    fn what_the_benchmark_did_not_use_others_took() {
        let then = Occupation { total: 1000, busy: 500, own: 100 };
        let now = Occupation { total: 2000, busy: 1300, own: 700 };

        assert_eq!(now.others_since(then), 20.0);
    }
}
