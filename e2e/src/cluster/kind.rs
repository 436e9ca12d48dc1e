//! A cluster in containers, by kind, where a Docker engine answers.
//!
//! The Ingress controller is the same program as in the own cluster, in a pod with the node's network.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::process::Command;

use super::{
    client::Access,
    command::{self, SHORT},
    image::{self, Image},
    layout::Layout,
    packages, programs,
    progress::Progress,
};

/// Whether there is everything for it: `kind`, and an engine that answers.
pub(crate) async fn available() -> bool {
    if packages::find("kind").is_none() {
        return false;
    }
    let mut docker = Command::new("docker");
    docker.args(["info", "--format", "{{.ServerVersion}}"]);
    command::run(docker, SHORT).await.is_ok_and(|version| !version.trim().is_empty())
}

pub(crate) async fn up(layout: &Layout, progress: &Progress) -> Result<Access> {
    let mut wanted = programs::CLIENTS.to_vec();
    wanted.push("traefik");
    programs::build(layout, &wanted, progress).await?;
    let kubeconfig = layout.kind_kubeconfig();
    let access = Access::new(layout, kubeconfig.clone(), None);
    let clusters = kind(&["get", "clusters"], SHORT).await?;
    if clusters.lines().any(|line| line == NAME) {
        let path = kubeconfig.display().to_string();
        kind(&["export", "kubeconfig", "--name", NAME, "--kubeconfig", &path], SHORT).await?;
        return Ok(access);
    }

    progress.say("creating a kind cluster");
    let config = workspace().join("kind-config.yaml").display().to_string();
    let path = kubeconfig.display().to_string();
    let create = ["create", "cluster", "--name", NAME, "--config", &config, "--kubeconfig", &path];
    kind(&[&create[..], &["--wait", "180s"]].concat(), CREATION).await?;
    let controller = image::of_program(layout, "docker.io/fairway/traefik:e2e", "traefik")?;
    import(&[controller]).await?;
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/ingress/traefik.yaml");
    access.apply(&fs::read_to_string(&manifests)?).await?;
    let rollout = ["--namespace", "kube-system", "rollout", "status", "daemonset/traefik"];
    access.kubectl_for(&rollout, CREATION).await?;
    progress.say("the kind cluster is up");
    Ok(access)
}

/// Deletes the cluster, and says whether there was one.
pub(crate) async fn down(layout: &Layout) -> Result<bool> {
    let clusters = kind(&["get", "clusters"], SHORT).await?;
    if !clusters.lines().any(|line| line == NAME) {
        return Ok(false);
    }
    kind(&["delete", "cluster", "--name", NAME], CREATION).await?;
    let _ = fs::remove_file(layout.kind_kubeconfig());
    Ok(true)
}

/// Puts archives of images where the node finds them.
pub(crate) async fn import(images: &[Image]) -> Result<()> {
    for image in images {
        let archive = image.archive().display().to_string();
        kind(&["load", "image-archive", &archive, "--name", NAME], CREATION).await?;
    }
    Ok(())
}

/// This host, as pods reach it.
pub(crate) async fn host_ip() -> Result<IpAddr> {
    let mut docker = Command::new("docker");
    docker.args(["network", "inspect", "kind", "--format"]);
    docker.arg("{{range .IPAM.Config}}{{println .Gateway}}{{end}}");
    let printed = command::run(docker, SHORT).await?;
    let addresses = printed.lines().filter_map(|line| line.trim().parse::<IpAddr>().ok());
    let mut addresses = addresses.filter(IpAddr::is_ipv4);
    addresses.next().context("kind's network has no gateway of version 4")
}

async fn kind(arguments: &[&str], deadline: Duration) -> Result<String> {
    let mut command = Command::new("kind");
    command.args(arguments);
    command::run(command, deadline).await
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

const NAME: &str = "fairway";

/// The node's image has to be pulled: 400 MB.
const CREATION: Duration = Duration::from_secs(900);
