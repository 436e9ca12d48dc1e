//! Facts about the machine that a reader needs to judge the figures.

use std::{fs, thread};

use anyhow::Result;

/// One line: cores, CPU model, kernel, and how busy the machine was before the run.
pub(super) fn describe() -> Result<String> {
    let cores = thread::available_parallelism()?;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu_model(&cpuinfo).unwrap_or("unknown CPU");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!("{cores} cores ({model}), Linux {}, load average before {load}", kernel.trim()))
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim())
}
