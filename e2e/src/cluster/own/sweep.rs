//! Takes the own cluster down, or what a killed run has left of one: processes, mounts, files, in this order.
//!
//! Ends what was recorded, what runs one of our own programs, and what has one of our containers for its root. Removes
//! no directory that something is still mounted in.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::{mount::UnmountFlags, process::Signal};

use super::{
    super::{
        command,
        daemon::Daemon,
        layout::{Layout, Node},
    },
    component::Component,
    host,
};

/// Whether there is anything to take down.
pub(crate) fn needed(layout: &Layout) -> Result<bool> {
    let runs = Daemon::running(&layout.programs(), &Component::ALL.map(Component::name))?;
    Ok(layout.state().exists()
        || layout.run().exists()
        || layout.host_before().exists()
        || !runs.is_empty())
}

/// Takes everything down. The host is as it was before.
pub(crate) async fn sweep(layout: &Layout) -> Result<()> {
    end(layout).await?;
    let containers: Vec<_> =
        Node::ALL.iter().flat_map(|&node| containers(&layout.on(node))).collect();
    keep_logs(layout)?;
    remove_files(&containers, &[layout.state(), layout.run()])?;
    let _ = fs::remove_file(layout.kubeconfig());
    host::restore(layout).await
}

/// Takes a node down that is not the host.
pub(crate) async fn sweep_node(layout: &Layout, network: &str) -> Result<()> {
    end_node(layout).await?;
    remove_files(&containers(layout), &[layout.node_state(), layout.node_run()])?;
    host::disconnect(network).await
}

/// What is left on the host of containers that ended, and the directories they were in.
fn remove_files(containers: &[String], [state, run]: &[PathBuf; 2]) -> Result<()> {
    remove_groups(containers);
    remove_results(containers)?;
    for point in host::mounts_below(&[state, run])? {
        rustix::mount::unmount(point.as_str(), UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {point}"))?;
    }
    remove_links(state)?;
    remove(state)?;
    remove(run)
}

/// First those who would start others, then all the rest.
pub(crate) async fn end(layout: &Layout) -> Result<()> {
    let mut programs: Vec<_> = Component::ALL.map(Component::name).to_vec();
    programs.push(SHIM);
    let all = || -> Result<Vec<Daemon>> {
        let mut found = Daemon::running(&layout.programs(), &programs)?;
        found.extend(recorded(layout)?);
        Ok(found)
    };
    kill_all("the cluster's processes", all).await?;
    for node in Node::ALL {
        end_containers(&layout.on(node)).await?;
    }
    Ok(())
}

/// The same for one node, whose control plane is elsewhere.
pub(crate) async fn end_node(layout: &Layout) -> Result<()> {
    let components = || -> Result<Vec<Daemon>> {
        let records = Component::OF_A_NODE.map(|component| layout.record(component));
        Ok(records.iter().filter_map(|record| Daemon::recorded(record)).collect())
    };
    kill_all("the node's processes", components).await?;
    end_containers(layout).await
}

/// The node's containers with what holds them, while nobody is there to start them again.
pub(crate) async fn end_containers(layout: &Layout) -> Result<()> {
    let all = || -> Result<Vec<Daemon>> {
        let mut found = shims(layout)?;
        found.extend(contained(layout)?);
        Ok(found)
    };
    kill_all("containers", all).await
}

/// Until there are none: one that dies may have started another in the meantime.
async fn kill_all(what: &str, all: impl Fn() -> Result<Vec<Daemon>>) -> Result<()> {
    let none = || async {
        let left = all()?;
        for daemon in &left {
            daemon.signal(Signal::KILL)?;
        }
        Ok(left.is_empty())
    };
    command::until(&format!("the end of {what}"), DEATH, none).await
}

/// Components and databases, whatever program they are.
fn recorded(layout: &Layout) -> Result<Vec<Daemon>> {
    let Ok(records) = fs::read_dir(layout.records()) else { return Ok(Vec::new()) };
    let records = records.collect::<Result<Vec<_>, _>>()?;
    Ok(records.iter().filter_map(|record| Daemon::recorded(&record.path())).collect())
}

/// Each holds a container of the containerd whose address it was given.
fn shims(layout: &Layout) -> Result<Vec<Daemon>> {
    let socket = layout.containerd_socket();
    let of_node = |shim: &Daemon| {
        let arguments = fs::read(format!("/proc/{}/cmdline", shim.pid())).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|word| word == socket.as_os_str().as_encoded_bytes())
    };
    let all = Daemon::running(&layout.programs(), &[SHIM])?;
    Ok(all.into_iter().filter(of_node).collect())
}

/// Processes whose root is one of our containers', which the kernel knows by where its files are.
fn contained(layout: &Layout) -> Result<Vec<Daemon>> {
    let ours = format!("{}/", layout.node_state().join("containerd").display());
    let inside = |daemon: &Daemon| {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", daemon.pid()));
        mounts.is_ok_and(|mounts| {
            mounts.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.contains(&ours))
        })
    };
    let all = Daemon::all()?.into_iter().filter(|daemon| daemon.alive());
    Ok(all.filter(inside).collect())
}

/// The containers that containerd had not put away when it was killed.
fn containers(layout: &Layout) -> Vec<String> {
    let tasks = layout.node_run().join("containerd/io.containerd.runtime.v2.task/k8s.io");
    let Ok(tasks) = fs::read_dir(tasks) else { return Vec::new() };
    tasks.filter_map(|task| task.ok()?.file_name().into_string().ok()).collect()
}

/// Their control groups: one each, or with version 1 one in each hierarchy.
fn remove_groups(containers: &[String]) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten();
    let hierarchies = hierarchies.filter_map(|hierarchy| Some(hierarchy.ok()?.path()));
    for group in hierarchies.chain([root.to_owned()]).map(|place| place.join("k8s.io")) {
        // None has a process any more; one that another container is in stays because it is not empty.
        for container in containers {
            let _ = fs::remove_dir(group.join(container));
        }
        let _ = fs::remove_dir(group);
    }
}

/// The kubelet links every log of a pod here, wherever the logs are.
fn remove_links(state: &Path) -> Result<()> {
    let Ok(links) = fs::read_dir("/var/log/containers") else { return Ok(()) };
    for link in links {
        let link = link?.path();
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(state)) {
            fs::remove_file(link)?;
        }
    }
    Ok(())
}

/// What the network's plugins have said of them.
fn remove_results(containers: &[String]) -> Result<()> {
    let Ok(results) = fs::read_dir("/var/lib/cni/results") else { return Ok(()) };
    for result in results {
        let result = result?;
        let name = result.file_name();
        if containers.iter().any(|container| name.to_string_lossy().contains(container)) {
            fs::remove_file(result.path())?;
        }
    }
    Ok(())
}

fn keep_logs(layout: &Layout) -> Result<()> {
    if layout.logs().is_dir() {
        remove(&layout.logs_before())?;
        fs::rename(layout.logs(), layout.logs_before())?;
    }
    Ok(())
}

fn remove(directory: &Path) -> Result<()> {
    let mounts = host::mounts_below(&[directory])?;
    ensure!(mounts.is_empty(), "{} is still mounted", mounts.join(", "));
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

const SHIM: &str = "containerd-shim-runc-v2";

/// Killed processes go when they leave the kernel: at once, but for those that write.
const DEATH: Duration = Duration::from_secs(30);
