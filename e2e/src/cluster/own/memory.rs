//! The limit of a container's memory, in its control group of either version.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::super::daemon::Daemon;

/// Allows the group of a process what it has now, and no more.
pub(super) fn limit_to_use(process: Daemon) -> Result<()> {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid()));
    // It ended between two looks.
    let Ok(groups) = groups else { return Ok(()) };
    let (group, used, limit) = group_of(&groups).context("the process is in no group")?;
    let Ok(used) = fs::read_to_string(group.join(used)) else { return Ok(()) };
    // Refused where what it has could not be counted in the meantime: the next look finds it again.
    let _ = fs::write(group.join(limit), used.trim());
    Ok(())
}

/// Its directory, and the files for what is used and for what may be.
fn group_of(groups: &str) -> Option<(PathBuf, &'static str, &'static str)> {
    let root = Path::new("/sys/fs/cgroup");
    let mut groups = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?.trim_start_matches('/')))
    });
    // In version 1 each hierarchy names what it controls, in version 2 the one names nothing.
    let memory =
        groups.clone().find(|(controls, _)| controls.split(',').any(|one| one == "memory"));
    if let Some((_, path)) = memory {
        let group = root.join("memory").join(path);
        return Some((group, "memory.usage_in_bytes", "memory.limit_in_bytes"));
    }
    let (_, path) = groups.find(|(controls, _)| controls.is_empty())?;
    Some((root.join(path), "memory.current", "memory.max"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_in_either_version() {
        let first = "9:cpu,cpuacct:/k8s.io/a\n5:memory:/k8s.io/b\n1:name=systemd:/c\n";
        let second = "0::/k8s.io/a\n";

        for (groups, directory, limit) in [
            (first, "/sys/fs/cgroup/memory/k8s.io/b", "memory.limit_in_bytes"),
            (second, "/sys/fs/cgroup/k8s.io/a", "memory.max"),
        ] {
            let (group, _, file) = group_of(groups).unwrap();
            assert_eq!((group.as_path(), file), (Path::new(directory), limit));
        }
    }
}
