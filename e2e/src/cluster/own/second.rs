//! The second node: a network namespace with a containerd, a kubelet and a kube-proxy of its own, for tests of its loss.
//!
//! Off by default: a test adds it, and who comes next removes what is left of it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{
    super::{
        client::Access,
        command,
        layout::{Layout, Node},
    },
    START,
    component::Component,
    config, ctr, host, node_is_ready, sweep,
};

/// Adds the node, with the images of the first, and waits until it is ready.
pub(crate) async fn add(layout: &Layout, access: &Access) -> Result<()> {
    remove(layout, access).await?;
    let second = layout.on(Node::Second);
    host::connect(&second, network(&second)?).await?;
    for directory in [second.node_state(), second.node_run()] {
        fs::create_dir_all(directory)?;
    }
    let [runtime, rest @ ..] = Component::OF_A_NODE;
    runtime.start(&second).recorded_in(&second.record(runtime))?;
    let answers = || async { ctr(&second, &["version"]).await.map(|_| true) };
    command::until("the second containerd", START, answers).await?;
    copy_images(layout, &second).await?;
    for component in rest {
        component.start(&second).recorded_in(&second.record(component))?;
    }
    let ready = || async { node_is_ready(access, Node::Second).await };
    let waited = command::until("the second node to be ready", START, ready).await;
    waited.with_context(|| format!("its logs are {}/second-*", second.logs().display()))
}

/// The node ends as when its power goes. Its connections are cut first: nobody hears them end.
pub(crate) async fn lose(layout: &Layout) -> Result<()> {
    let second = layout.on(Node::Second);
    host::cut(network(&second)?).await?;
    sweep::end_node(&second).await
}

/// Makes it as if the node had never been, if there is one.
pub(crate) async fn remove(layout: &Layout, access: &Access) -> Result<()> {
    let second = layout.on(Node::Second);
    let network = network(&second)?;
    if !second.node_state().exists() && !Path::new("/run/netns").join(network).exists() {
        return Ok(());
    }
    sweep::sweep_node(&second, network).await?;
    let name = Node::Second.name();
    access.kubectl(&["delete", "node", name, "--ignore-not-found"]).await?;
    // The kubelet that would say they ended is gone, and without the node nobody asks for 20 s.
    let of_node = format!("--field-selector=spec.nodeName={name}");
    let pods = ["delete", "pods", "--all-namespaces", &of_node, "--force", "--grace-period=0"];
    access.kubectl(&pods).await.map(drop)
}

/// Those that can be named: containerd keeps each a second time under the digest of its configuration.
async fn copy_images(first: &Layout, second: &Layout) -> Result<()> {
    let listed = ctr(first, &["images", "list", "--quiet"]).await?;
    let names: Vec<_> = listed.lines().filter(|name| !name.starts_with("sha256:")).collect();
    let path = second.node_state().join("images.tar");
    let archive = path.display().to_string();
    ctr(first, &[&["images", "export", "--local", &archive], names.as_slice()].concat()).await?;
    let snapshotter = config::snapshotter(second.root())?;
    ctr(second, &["images", "import", "--local", "--snapshotter", snapshotter, &archive]).await?;
    Ok(fs::remove_file(path)?)
}

fn network(second: &Layout) -> Result<&str> {
    second.network().context("the second node is a network namespace")
}
