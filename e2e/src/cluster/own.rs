//! A Kubernetes of one node on this host, from the real programs: brought up, looked at, taken down. A test may add a
//! second node.
//!
//! A cluster that is not whole is never mended but made anew: what a killed run leaves is not worth guessing at.
//! [`fault`] breaks it on purpose.

mod addons;
pub(crate) mod component;
mod config;
pub(crate) mod cut;
pub(crate) mod fault;
mod host;
mod memory;
mod second;
mod sweep;

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use tokio::process::Command;

use super::{
    client::Access,
    command,
    daemon::Daemon,
    image::{self, Image},
    layout::{Layout, Node, PAUSE_IMAGE},
    packages, pki, programs,
    progress::Progress,
};
use component::Component;

/// Makes sure that the cluster runs, and returns the way to it.
pub(crate) async fn up(layout: &Layout, progress: &Progress) -> Result<Access> {
    host::require_root()?;
    host::refuse_foreign_node(layout)?;
    packages::install(&packages::NODE, progress).await?;
    let programs = programs::build(layout, &programs::all(), progress).await?;
    let pins = programs + &settings(layout)?;
    let access = access(layout);
    let Some(ill) = illness(layout, &access, &pins).await? else {
        second::remove(layout, &access).await?;
        return Ok(access);
    };

    if sweep::needed(layout)? {
        progress.say(&format!("removing the last cluster: {ill}"));
        sweep::sweep(layout).await?;
    }
    progress.say("starting etcd, kube-apiserver, containerd");
    host::change(layout).await?;
    fs::create_dir_all(layout.run())?;
    pki::write(layout)?;
    config::write(layout)?;
    let started = tokio::select! {
        started = start(layout, &access, progress) => started,
        death = death(layout, &Component::ALL) => death,
    };
    match started {
        Ok(()) => fs::write(layout.config("pins"), pins)?,
        Err(error) => return Err(error.context(last_words(layout))),
    }
    progress.say("the cluster is up");
    Ok(access)
}

/// Takes the cluster down, and says whether there was anything.
pub(crate) async fn down(layout: &Layout, progress: &Progress) -> Result<bool> {
    if !sweep::needed(layout)? {
        return Ok(false);
    }
    host::require_root()?;
    sweep::sweep(layout).await?;
    progress.say("the cluster is down");
    Ok(true)
}

/// What is wrong with the cluster, if it is there.
pub(crate) async fn status(layout: &Layout) -> Result<String> {
    let mut lines = Vec::new();
    let mut memory = 0;
    for component in Component::ALL {
        let daemon = Daemon::recorded(&layout.record(component));
        let text = match daemon {
            Some(daemon) => {
                let resident = daemon.resident_kib().unwrap_or_default() / 1024;
                memory += resident;
                let state = if daemon.stopped() { "stopped" } else { "runs" };
                format!("{state} as {}, {resident} MiB", daemon.pid())
            }
            None => "does not run".to_owned(),
        };
        lines.push(format!("{:<24} {text}", component.name()));
    }
    lines.push(format!("{:<24} {memory} MiB", "together"));
    let access = access(layout);
    if layout.kubeconfig().exists() {
        let nodes = access.kubectl(&["get", "nodes", "--output=wide"]).await;
        lines.push(nodes.unwrap_or_else(|error| format!("{error:#}")));
        lines.push(format!("export KUBECONFIG={}", layout.kubeconfig().display()));
    }
    Ok(lines.join("\n"))
}

/// Puts archives of images where the nodes find them.
pub(crate) async fn import(layout: &Layout, images: &[Image]) -> Result<()> {
    for node in Node::ALL.map(|node| layout.on(node)) {
        if Daemon::recorded(&node.record(Component::Containerd)).is_some() {
            import_on(&node, images).await?;
        }
    }
    Ok(())
}

async fn import_on(layout: &Layout, images: &[Image]) -> Result<()> {
    let snapshotter = config::snapshotter(layout.root())?;
    let present = ctr(layout, &["images", "list", "--quiet"]).await?;
    for image in images {
        if !present.lines().any(|line| line == image.reference()) {
            let archive = image.archive().display().to_string();
            let import = ["images", "import", "--local", "--snapshotter", snapshotter, &archive];
            ctr(layout, &import).await?;
        }
    }
    Ok(())
}

pub(crate) fn access(layout: &Layout) -> Access {
    Access::new(layout, layout.kubeconfig(), None)
}

/// containerd's own client, in the namespace of Kubernetes.
async fn ctr(layout: &Layout, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(layout.program("ctr"));
    command.arg("--address").arg(layout.containerd_socket());
    command.args(["--namespace", "k8s.io"]).args(arguments);
    command::run(command, IMPORT).await
}

async fn start(layout: &Layout, access: &Access, progress: &Progress) -> Result<()> {
    for component in [Component::Etcd, Component::Apiserver, Component::Containerd] {
        component.start(layout).recorded_in(&layout.record(component))?;
    }
    let pause = image::of_program(layout, PAUSE_IMAGE, "pause")?;
    let pause = std::slice::from_ref(&pause);
    let imports = || async { import_on(layout, pause).await.map(|()| true) };
    command::until("containerd", START, imports).await?;
    ready(access).await?;

    progress.say("starting the rest");
    for component in Component::ALL {
        if Daemon::recorded(&layout.record(component)).is_none() {
            component.start(layout).recorded_in(&layout.record(component))?;
        }
    }
    addons::apply(access).await?;
    let node = || async { node_is_ready(access, Node::First).await };
    command::until("the node to be ready", START, node).await?;
    addons::answer().await
}

/// Waits until one of these that was started ends, which none does by itself.
async fn death(layout: &Layout, components: &[Component]) -> Result<()> {
    loop {
        for component in components {
            let record = layout.record(*component);
            let dead = record.exists() && Daemon::recorded(&record).is_none();
            ensure!(!dead, "{} ended", component.name());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the apiserver serves.
pub(crate) async fn ready(access: &Access) -> Result<()> {
    let serves = || async { access.kubectl(&["get", "--raw", "/readyz"]).await.map(|_| true) };
    command::until("the apiserver", START, serves).await
}

async fn node_is_ready(access: &Access, node: Node) -> Result<bool> {
    let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    Ok(access.kubectl(&["get", "node", node.name(), "--output", path]).await? == "True")
}

/// Why the cluster has to be made anew, if it has to.
async fn illness(layout: &Layout, access: &Access, pins: &str) -> Result<Option<String>> {
    if !layout.state().exists() {
        return Ok(Some("it was not there".to_owned()));
    }
    for component in Component::ALL {
        match Daemon::recorded(&layout.record(component)) {
            Some(daemon) if !daemon.stopped() => {}
            Some(_) => return Ok(Some(format!("{} is stopped", component.name()))),
            None => return Ok(Some(format!("{} does not run", component.name()))),
        }
    }
    if fs::read_to_string(layout.config("pins")).ok().as_deref() != Some(pins) {
        return Ok(Some("it is of other versions, or was not finished".to_owned()));
    }
    // A machine that is busy, with a build or with other tests, is not a broken cluster.
    let ready = || async { node_is_ready(access, Node::First).await };
    let waited = command::until("the node to be ready", PATIENCE, ready).await;
    Ok(waited.err().map(|error| format!("it does not answer ({error:#})")))
}

/// Changes when a cluster that runs is not the one that we would start.
fn settings(layout: &Layout) -> Result<String> {
    let mut text = addons::manifests() + &host::settings();
    for (_, file) in config::files(layout)? {
        text += &file;
    }
    for component in Component::ALL {
        text += &format!("{:?}", component.start(layout).arguments);
    }
    Ok(format!("settings {}\n", programs::hex(digest(&SHA256, text.as_bytes()).as_ref())))
}

/// The end of each log, for those who cannot see the others.
fn last_words(layout: &Layout) -> String {
    let mut text = String::from("the cluster did not start");
    for component in Component::ALL {
        let state = match Daemon::recorded(&layout.record(component)) {
            Some(_) => "runs",
            None => "does not run",
        };
        text += &format!("\n--- {} {state} ---\n{}", component.name(), said(layout, component));
    }
    text
}

/// The end of its log.
fn said(layout: &Layout, component: Component) -> String {
    let log = fs::read_to_string(layout.log(component)).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let last = lines.len().saturating_sub(8);
    lines.get(last..).unwrap_or_default().join("\n")
}

/// Each step of a start takes 4 s on two cores that have nothing else to do.
const START: Duration = Duration::from_secs(90);

/// The node is said to be lost after 40 s.
const PATIENCE: Duration = Duration::from_secs(45);

/// An archive of 50 MB from a slow disk.
const IMPORT: Duration = Duration::from_secs(120);
