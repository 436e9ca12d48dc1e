//! What `/proc` says about a process and its descendants: CPU time and resident memory.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// CPU time and memory of a process and all its descendants (nginx works in the latter).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) resident_kib: u64,
}

/// Reads what `root` and its descendants have used so far.
pub(super) fn usage(root: u32) -> Result<Usage> {
    let mut total = Usage::default();
    for id in family(root)? {
        total.cpu += cpu(id).with_context(|| format!("cannot read the CPU time of {id}"))?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        total.resident_kib += resident_kib(&status).context("no VmRSS in the process status")?;
    }
    Ok(total)
}

/// Clock ticks used by a process and its descendants, including children that have ended.
pub(super) fn ticks(root: u32) -> Result<u64> {
    let stats = family(root)?.into_iter().map(stat).collect::<Result<Vec<_>>>()?;
    Ok(stats.iter().map(|stat| stat.ticks).sum())
}

/// A process and its descendants.
pub(super) fn family(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the listing and this line.
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        parents.extend(Stat::parse(&stat).map(|stat| (id, stat.parent)));
    }

    let mut family = vec![root];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(id, _)| *id));
        next += 1;
    }
    Ok(family)
}

/// Nanoseconds from the scheduler where the kernel keeps them, else clock ticks (10 ms).
fn cpu(id: u32) -> Result<Duration> {
    let mut on_cpu = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        // A thread may end between the listing and this line; kernels without it have no such file.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        on_cpu += time_on_cpu(&text).context("unknown schedstat format")?;
    }
    if !on_cpu.is_zero() {
        return Ok(on_cpu);
    }
    let ticks = stat(id)?.ticks;
    Ok(Duration::from_secs(ticks).div_f64(rustix::param::clock_ticks_per_second() as f64))
}

fn stat(id: u32) -> Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    Stat::parse(&text).context("unknown stat format")
}

#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    /// User and system time: its own and that of children which have ended.
    ticks: u64,
}

impl Stat {
    /// Fields are counted from the last parenthesis: a process may put any bytes into its name.
    fn parse(text: &str) -> Option<Self> {
        let fields = text.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
        let times = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: times.sum::<Result<_, _>>().ok()?,
        })
    }
}

fn time_on_cpu(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_process_with_a_hostile_name_is_read() {
        let text = "42 (a) R 1 (b) S 7 42 42 0 -1 4194560 100 0 0 0 250 50 9 1 20 0 1 0 5 0 0";

        assert_eq!(Stat::parse(text), Some(Stat { parent: 7, ticks: 310 }));
    }

    #[test]
    fn truncated_stat_is_refused() {
        assert_eq!(Stat::parse("42 (a) S 7 42"), None);
    }

    #[test]
    fn schedstat_begins_with_nanoseconds_on_cpu() {
        assert_eq!(time_on_cpu("1500000000 77 3\n"), Some(Duration::from_millis(1500)));
        assert_eq!(time_on_cpu(""), None);
    }

    #[test]
    fn resident_memory_is_found_among_the_status_lines() {
        let status = "Name:\tx\nVmHWM:\t    9999 kB\nVmRSS:\t    1234 kB\nThreads:\t3\n";

        assert_eq!(resident_kib(status), Some(1234));
        assert_eq!(resident_kib("Name:\tkthread\n"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = usage(std::process::id()).unwrap();

        assert!(usage.resident_kib > 0);
    }
}
