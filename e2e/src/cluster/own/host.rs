//! What the own cluster changes on the host, and how it is undone: an address, a route, forwarding, packet filter
//! tables.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::super::{
    command::{self, SHORT},
    daemon::Daemon,
    layout::{Layout, NODE_IP, Node, PODS, SERVICES},
    packages,
};

/// Settings of the host as they were.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    ip_forward: String,
}

/// Makes the host a node.
pub(crate) async fn change(layout: &Layout) -> Result<()> {
    let ip_forward = fs::read_to_string(FORWARD).context(FORWARD)?;
    if !layout.host_before().exists() {
        let before = serde_json::to_string(&Before { ip_forward: ip_forward.clone() })?;
        fs::write(layout.host_before(), before)?;
    }
    if ip_forward.trim() != "1" {
        fs::write(FORWARD, "1").with_context(|| format!("cannot write {FORWARD}"))?;
    }
    if !has_address().await? {
        ip(&["address", "add", &format!("{NODE_IP}/32"), "dev", "lo"]).await?;
    }
    if !has_route().await? {
        ip(&with(&["route", "add"])).await?;
    }
    refuse_closed_firewall().await?;
    nft(&masquerade()).await
}

/// What [`change`] does, so that a cluster of other settings is known.
pub(crate) fn settings() -> String {
    format!("{ROUTE:?}\n{}", masquerade())
}

/// What another table drops no table of ours can let pass.
async fn refuse_closed_firewall() -> Result<()> {
    let mut list = host_program("nft")?;
    list.args(["list", "chain", "ip", "filter", "FORWARD"]);
    // Without such a chain nothing is dropped.
    let chain = command::run(list, SHORT).await.unwrap_or_default();
    ensure!(
        !chain.contains("policy drop"),
        "this host's firewall drops what it forwards, as Docker sets it, and pods could not reach each other: \
         install kind, which uses Docker, or let them pass (`iptables --policy FORWARD ACCEPT`)"
    );
    Ok(())
}

/// Makes the network of a node that is a namespace of the host. Both reach the pods of each other.
pub(crate) async fn connect(layout: &Layout, network: &str) -> Result<()> {
    let (ours, its) = (NODE_IP.to_string(), layout.node().ip().to_string());
    let pods = layout.node().pods();
    ip(&["netns", "add", network]).await?;
    ip(&["link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", network]).await?;
    ip(&["link", "set", LINK, "up"]).await?;
    ip(&["route", "add", &its, "dev", LINK, "src", &ours]).await?;
    ip(&["route", "add", pods, "via", &its, "src", &ours]).await?;

    let there = async |arguments: &[&str]| {
        let arguments: Vec<_> = ["-netns", network].iter().chain(arguments).copied().collect();
        ip(&arguments).await
    };
    there(&["link", "set", "lo", "up"]).await?;
    there(&["address", "add", &its, "dev", "eth0"]).await?;
    there(&["link", "set", "eth0", "up"]).await?;
    there(&["route", "add", &ours, "dev", "eth0"]).await?;
    there(&["route", "add", "default", "via", &ours]).await?;
    // As on the host: what is sent to a pod that is gone goes nowhere.
    there(&["route", "add", "unreachable", pods]).await.map(drop)
}

/// Everything that is sent to such a node or from it vanishes, as when it has lost its power.
pub(crate) async fn cut(network: &str) -> Result<()> {
    let mut command = host_program("nsenter")?;
    command.arg(format!("--net=/run/netns/{network}"));
    command.arg(packages::find("nft").context("nft is not installed")?);
    command.args(["--file", "-"]);
    command::feed(command, CUT, SHORT).await.map(drop)
}

/// Removes what [`connect`] made, if anything.
pub(crate) async fn disconnect(network: &str) -> Result<()> {
    // With its routes, and at once: the namespace itself waits until its last connection is forgotten.
    if Path::new("/sys/class/net").join(LINK).exists() {
        ip(&["link", "delete", LINK]).await?;
    }
    if Path::new("/run/netns").join(network).exists() {
        ip(&["netns", "delete", network]).await?;
    }
    Ok(())
}

/// Makes the host what it was before [`change`].
pub(crate) async fn restore(layout: &Layout) -> Result<()> {
    if let Some(network) = layout.on(Node::Second).network() {
        disconnect(network).await?;
    }
    for (family, table) in TABLES {
        // To make it first spares asking whether it is there.
        nft(&format!("add table {family} {table}\ndelete table {family} {table}\n")).await?;
    }
    // They go with their pods, but a connection that nobody closed keeps a pod's network for minutes.
    for link in links(&ip(&["-oneline", "-4", "address", "show", "to", PODS]).await?) {
        ip(&["link", "delete", link]).await?;
    }
    if has_address().await? {
        ip(&["address", "delete", &format!("{NODE_IP}/32"), "dev", "lo"]).await?;
    }
    if has_route().await? {
        ip(&with(&["route", "delete"])).await?;
    }
    if let Ok(before) = fs::read_to_string(layout.host_before()) {
        let before: Before = serde_json::from_str(&before)?;
        fs::write(FORWARD, before.ip_forward)?;
        fs::remove_file(layout.host_before())?;
    }
    Ok(())
}

/// A host that is another cluster's node keeps its rules in the tables that ours uses and removes.
pub(crate) fn refuse_foreign_node(layout: &Layout) -> Result<()> {
    let ours = fs::read_link("/proc/self/ns/net")?;
    for daemon in Daemon::all()? {
        let Some(executable) = daemon.executable() else { continue };
        // A node in a container has a network of its own.
        let network = fs::read_link(format!("/proc/{}/ns/net", daemon.pid())).ok();
        if network.as_ref() != Some(&ours) {
            continue;
        }
        let name = executable.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let foreign = ["kube-proxy", "kubelet"].contains(&name)
            && executable.parent() != Some(&layout.programs());
        ensure!(
            !foreign,
            "this host is a Kubernetes node already ({} is process {}): two share no host. \
             Stop that one, or name a cluster to use with KUBECONFIG",
            executable.display(),
            daemon.pid()
        );
    }
    Ok(())
}

/// Host programs with which this host says that it is a node; in a container they are missing or not allowed.
pub(crate) fn require_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "only root can make this host a node: run this as root, \
         or have KUBECONFIG name a cluster, or install Docker and kind"
    );
    Ok(())
}

async fn has_address() -> Result<bool> {
    let shown = ip(&["-oneline", "-4", "address", "show", "dev", "lo"]).await?;
    Ok(shown.contains(&format!(" {NODE_IP}/32 ")))
}

async fn has_route() -> Result<bool> {
    Ok(ip(&["route", "show", "exact", PODS]).await?.contains("unreachable"))
}

fn with(verb: &[&'static str]) -> Vec<&'static str> {
    [verb, &ROUTE].concat()
}

/// The names in `NUMBER: NAME    inet ADDRESS …`.
fn links(shown: &str) -> Vec<&str> {
    shown.lines().filter_map(|line| line.split_whitespace().nth(1)).collect()
}

async fn ip(arguments: &[&str]) -> Result<String> {
    let mut command = host_program("ip")?;
    command.args(arguments);
    command::run(command, SHORT).await
}

async fn nft(script: &str) -> Result<()> {
    let mut command = host_program("nft")?;
    command.args(["--file", "-"]);
    command::feed(command, script, SHORT).await.map(drop)
}

pub(super) fn host_program(name: &str) -> Result<Command> {
    Ok(Command::new(packages::find(name).with_context(|| format!("{name} is not installed"))?))
}

/// Pods reach what is outside under the host's address. In the cluster everybody keeps its own.
fn masquerade() -> String {
    format!(
        "\
add table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {PODS} ip daddr != {{ {PODS}, {SERVICES}, {nodes} }} masquerade
  }}
}}
",
        nodes = Node::ALL.map(|node| node.ip().to_string()).join(", "),
    )
}

/// Mount points that are below one of these directories, the deepest first.
pub(crate) fn mounts_below(directories: &[&Path]) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mount_points(&table, directories))
}

fn mount_points(table: &str, directories: &[&Path]) -> Vec<String> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<_> = points
        .filter(|point| directories.iter().any(|directory| Path::new(point).starts_with(directory)))
        .collect();
    // What was mounted later, perhaps over another, comes later in the table.
    below.reverse();
    below
}

/// Blanks and the like are octal in the table of mounts.
fn unescape(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |point, (code, character)| point.replace(code, character))
}

/// Each pod that runs has a route of its own. Without this one, what is sent to one that is gone would take the host's
/// way to the world, where anybody may answer it.
const ROUTE: [&str; 2] = ["unreachable", PODS];

/// This host's end of the way to the second node.
const LINK: &str = "fairway-node-2";

/// For the node's own packet filter.
const CUT: &str = "\
table ip fairway-e2e {
  chain received { type filter hook prerouting priority raw; policy drop; }
  chain sent { type filter hook postrouting priority filter; policy drop; }
}
";

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

const TABLE: &str = "fairway-e2e";

/// Our own, and those that kube-proxy leaves behind.
const TABLES: [(&str, &str); 3] = [("ip", TABLE), ("ip", "kube-proxy"), ("ip6", "kube-proxy")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_from_their_addresses() {
        let shown = "32: veth8fc2898c    inet 10.244.0.1/32 scope global veth8fc2898c\\ valid_lft forever\n";

        assert_eq!(links(shown), ["veth8fc2898c"]);
    }

    #[test]
    fn mounts_of_the_cluster_come_deepest_first() {
        let table = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:25 / /run/fairway rw - tmpfs tmpfs rw
31 30 0:26 / /run/fairway/root\\040fs rw - overlay overlay rw
32 22 0:27 / /run/fairway-not rw - tmpfs tmpfs rw
";

        let below = mount_points(table, &[Path::new("/run/fairway")]);

        assert_eq!(below, ["/run/fairway/root fs", "/run/fairway"]);
    }
}
