//! Bad days: breaks the own cluster on purpose, a component, a node or a pod at a time, and mends it.
//!
//! For those who hold the cluster alone. What a test leaves broken when it fails, the next one makes anew.

use std::{cell::Cell, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tokio::{net::TcpStream, time::Instant};

use super::{
    super::{
        client::Access,
        command,
        daemon::Daemon,
        layout::{LOOPBACK, Layout, NODE_IP, Node},
    },
    START,
    component::Component,
    cut::{Cut, Others},
    death, memory, node_is_ready, ready, said, second, sweep,
};
use crate::Span;

/// What can be done to the own cluster.
#[derive(Debug)]
pub struct Fault<'a> {
    layout: &'a Layout,
    access: &'a Access,
}

/// Processes that stand still until this is dropped.
#[derive(Debug)]
#[must_use = "they go on when this is dropped"]
pub struct Frozen {
    processes: Vec<Daemon>,
}

impl<'a> Fault<'a> {
    pub(crate) fn new(layout: &'a Layout, access: &'a Access) -> Self {
        Self { layout, access }
    }

    /// Ends a component as a crash would.
    pub async fn stop(&self, component: Component) -> Result<()> {
        self.process(component)?.kill().await
    }

    /// Starts a component that was stopped, and waits until it does its work.
    pub async fn start(&self, component: Component) -> Result<()> {
        component.start(self.layout).recorded_in(&self.layout.record(component))?;
        let started = [component];
        let works = tokio::select! {
            works = self.works(component) => works,
            death = death(self.layout, &started) => death,
        };
        works.with_context(|| {
            format!(
                "{} was started again; it said\n{}",
                component.name(),
                said(self.layout, component)
            )
        })
    }

    /// Ends a component and starts it again.
    pub async fn restart(&self, component: Component) -> Result<()> {
        self.stop(component).await?;
        self.start(component).await
    }

    /// Ends a component and starts it again after this time.
    pub async fn outage(&self, component: Component, time: Duration) -> Result<()> {
        self.stop(component).await?;
        tokio::time::sleep(time).await;
        self.start(component).await
    }

    /// Halts a component where it stands: it neither answers nor closes its connections.
    pub fn freeze(&self, component: Component) -> Result<Frozen> {
        Frozen::of(vec![self.process(component)?])
    }

    /// The node loses power and comes back: its pods end, and start again on the same node.
    pub async fn restart_node(&self) -> Result<()> {
        for component in [Component::Kubelet, Component::Containerd] {
            self.stop(component).await?;
        }
        sweep::end_containers(self.layout).await?;
        self.start(Component::Containerd).await?;
        self.start(Component::Kubelet).await
    }

    /// Adds a node, `fairway-node-2`, which has the images of the first. It goes before the next test begins.
    pub async fn add_node(&self) -> Result<()> {
        second::add(self.layout, self.access).await
    }

    /// The added node loses its power: it ends, and answers nobody.
    pub async fn lose_node(&self) -> Result<()> {
        second::lose(self.layout).await
    }

    /// Removes the added node, as who looks after a cluster does with one that does not come back. Its pods start
    /// elsewhere.
    pub async fn remove_node(&self) -> Result<()> {
        second::remove(self.layout, self.access).await
    }

    /// Everything ends in the same moment, as when the host loses power. Nothing is started again.
    pub async fn kill_everything(&self) -> Result<()> {
        sweep::end(self.layout).await
    }

    /// Halts the processes of a pod where they stand.
    pub async fn freeze_pod(&self, namespace: &str, pod: &str) -> Result<Frozen> {
        Frozen::of(self.pod(namespace, pod).await?)
    }

    /// Ends the processes of a pod as the kernel does when memory runs out, and tells when that was.
    pub async fn kill_pod(&self, namespace: &str, pod: &str) -> Result<Span> {
        let processes = self.pod(namespace, pod).await?;
        let began = Instant::now();
        for process in processes {
            process.kill().await?;
        }
        Ok(Span::since(began))
    }

    /// Takes from a pod what memory it does not have yet: the kernel ends it when it wants more. Tells when that was.
    pub async fn starve_pod(&self, namespace: &str, pod: &str) -> Result<Span> {
        let processes = self.pod(namespace, pod).await?;
        let lived = Cell::new(Instant::now());
        let ended = || async {
            if processes.iter().all(|process| process.alive()) {
                lived.set(Instant::now());
            }
            for process in processes.iter().filter(|process| process.alive()) {
                // What the kernel could take back makes room once; the next time there is none.
                memory::limit_to_use(*process)?;
            }
            Ok(processes.iter().all(|process| !process.alive()))
        };
        command::until("the kernel to end what wants memory", START, ended).await?;
        Ok(Span::since(lived.get()))
    }

    /// Cuts a pod from others.
    pub async fn cut_pod(&self, namespace: &str, pod: &str, others: Others) -> Result<Cut> {
        // All processes of a pod have one network.
        let process = self.pod(namespace, pod).await?.into_iter().next();
        Cut::of(process.context("a pod has a process")?, others).await
    }

    fn process(&self, component: Component) -> Result<Daemon> {
        Daemon::recorded(&self.layout.record(component))
            .with_context(|| format!("{} does not run", component.name()))
    }

    async fn works(&self, component: Component) -> Result<()> {
        let listens = |address, port| async move {
            let connects =
                || async { Ok(TcpStream::connect((address, port)).await.map(|_| true)?) };
            command::until(component.name(), START, connects).await
        };
        match component {
            Component::Etcd => listens(LOOPBACK, 2379).await,
            Component::Apiserver => ready(self.access).await,
            Component::ControllerManager => listens(LOOPBACK, 10257).await,
            Component::Scheduler => listens(LOOPBACK, 10259).await,
            Component::Containerd => {
                let answers =
                    || async { super::ctr(self.layout, &["version"]).await.map(|_| true) };
                command::until("containerd", START, answers).await
            }
            Component::Kubelet => {
                listens(NODE_IP, 10250).await?;
                let ready = || async { node_is_ready(self.access, Node::First).await };
                command::until("the node to be ready", START, ready).await
            }
            Component::Proxy => listens(LOOPBACK, 10256).await,
            Component::Dns => listens(LOOPBACK, 8181).await,
            Component::Ingress => listens(NODE_IP, 80).await,
        }
    }

    /// The processes of a pod.
    pub(crate) async fn pod(&self, namespace: &str, pod: &str) -> Result<Vec<Daemon>> {
        let path = "jsonpath={.status.containerStatuses[*].containerID}";
        let arguments = ["--namespace", namespace, "get", "pod", pod, "--output", path];
        let printed = self.access.kubectl(&arguments).await?;
        let mut processes = Vec::new();
        for container in printed.split_whitespace() {
            let id = container.rsplit('/').next().unwrap_or(container);
            processes.extend(contained(id)?);
        }
        ensure!(!processes.is_empty(), "pod {namespace}/{pod} has no process");
        Ok(processes)
    }
}

impl Frozen {
    fn of(processes: Vec<Daemon>) -> Result<Self> {
        let frozen = Self { processes };
        for process in &frozen.processes {
            process.signal(Signal::STOP)?;
        }
        Ok(frozen)
    }

    /// Lets them go on.
    pub fn thaw(self) {
        drop(self);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.processes {
            // One that was killed in the meantime needs no more.
            let _ = process.signal(Signal::CONT);
        }
    }
}

/// The processes of one container, wherever in the control group's tree it was put.
fn contained(container: &str) -> Result<Vec<Daemon>> {
    let inside = |daemon: &Daemon| {
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", daemon.pid()));
        groups.is_ok_and(|groups| groups.contains(container))
    };
    Ok(Daemon::all()?.into_iter().filter(inside).collect())
}
