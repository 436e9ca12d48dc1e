//! The configuration files of the own cluster's components, as text. Pure but for [`write`].

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::super::{
    layout::{DNS_SERVICE, LOOPBACK, Layout, NODE_IP, Node, PAUSE_IMAGE, PODS},
    release::HOME,
};

/// Writes them all.
pub(crate) fn write(layout: &Layout) -> Result<()> {
    for (path, text) in files(layout)? {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// Where each is to be, and its text.
pub(crate) fn files(layout: &Layout) -> Result<Vec<(PathBuf, String)>> {
    let mut files = vec![
        (layout.config("Corefile"), corefile(&layout.config("admin.kubeconfig"))),
        (layout.config("resolv.conf"), String::new()),
        (layout.config("audit.yaml"), audit()),
        (layout.config("ingress.yaml"), ingress().to_owned()),
    ];
    for node in Node::ALL {
        files.extend(files_of_node(&layout.on(node))?);
    }
    Ok(files)
}

fn files_of_node(layout: &Layout) -> Result<[(PathBuf, String); 4]> {
    let file = |name| layout.config(&layout.of_node(name));
    let networks = file("cni");
    let snapshotter = snapshotter(layout.root())?;
    Ok([
        (file("containerd.toml"), containerd(layout, &networks, snapshotter)),
        (file("kubelet.yaml"), kubelet(layout)),
        (file("proxy.yaml"), proxy(layout)),
        (networks.join("10-fairway.conflist"), network(layout)),
    ])
}

/// How containerd keeps the layers of images: where the file system is an overlay itself, as in a container, it copies.
pub(crate) fn snapshotter(place: &Path) -> Result<&'static str> {
    const OVERLAY: u64 = 0x794c_7630;

    let kind = rustix::fs::statfs(place)?.f_type;
    Ok(if u64::try_from(kind)? == OVERLAY { "native" } else { "overlayfs" })
}

/// `restrict_oom_score_adj`: where root may not lower the score, every sandbox would die without it.
fn containerd(layout: &Layout, networks: &Path, snapshotter: &str) -> String {
    format!(
        "\
version = 3
root = '{root}'
state = '{state}'

[grpc]
  address = '{socket}'

[plugins.'io.containerd.cri.v1.images']
  snapshotter = '{snapshotter}'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{PAUSE_IMAGE}'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['{programs}']
    conf_dir = '{networks}'
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        SystemdCgroup = false
",
        root = layout.node_state().join("containerd").display(),
        state = layout.node_run().join("containerd").display(),
        socket = layout.containerd_socket().display(),
        programs = layout.programs().display(),
        networks = networks.display(),
    )
}

/// What the service accounts of the release ask for, and nothing else.
fn audit() -> String {
    format!(
        "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {{level: Metadata, userGroups: ['system:serviceaccounts:{HOME}']}}
- {{level: None}}
"
    )
}

/// The middleware that `charts/fairway/README.md` has for a Traefik without CRDs; see `release::RETRIES`.
fn ingress() -> &'static str {
    "\
http:
  middlewares:
    retry:
      retry: {attempts: 20, initialInterval: 100ms}
"
}

/// `imageGCHighThresholdPercent`: images cannot be pulled again, so a full disk is no reason to delete them.
fn kubelet(layout: &Layout) -> String {
    format!(
        "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {ip}
healthzBindAddress: {LOOPBACK}
containerRuntimeEndpoint: unix://{socket}
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: '{authority}'}}
authorization: {{mode: Webhook}}
tlsCertFile: '{certificate}'
tlsPrivateKeyFile: '{key}'
clusterDomain: cluster.local
clusterDNS: ['{DNS_SERVICE}']
resolvConf: '{resolver}'
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
oomScoreAdj: 0
maxPods: 250
makeIPTablesUtilChains: false
podLogsDir: '{logs}'
volumePluginDir: '{plugins}'
imageGCHighThresholdPercent: 100
evictionHard:
  memory.available: 100Mi
  nodefs.available: 1%
  nodefs.inodesFree: 1%
  imagefs.available: 1%
  imagefs.inodesFree: 1%
",
        ip = layout.node().ip(),
        socket = layout.containerd_socket().display(),
        authority = layout.pki("ca.crt").display(),
        certificate = layout.pki(&layout.of_node("kubelet-server.crt")).display(),
        key = layout.pki(&layout.of_node("kubelet-server.key")).display(),
        resolver = layout.config("resolv.conf").display(),
        logs = layout.node_state().join("pods").display(),
        plugins = layout.node_state().join("volume-plugins").display(),
    )
}

fn proxy(layout: &Layout) -> String {
    format!(
        "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: '{kubeconfig}'}}
hostnameOverride: {name}
mode: nftables
clusterCIDR: {PODS}
detectLocalMode: ClusterCIDR
nodePortAddresses: ['{ip}/32']
healthzBindAddress: {LOOPBACK}:10256
metricsBindAddress: {LOOPBACK}:10249
oomScoreAdj: 0
conntrack: {{maxPerCore: 0}}
",
        kubeconfig = layout.config("proxy.kubeconfig").display(),
        name = layout.node().name(),
        ip = layout.node().ip(),
    )
}

/// No forwarder: a name that is not of the cluster does not exist, at once. In a zone of its own, because CoreDNS
/// asks `template` before `kubernetes`.
fn corefile(kubeconfig: &Path) -> String {
    format!(
        "\
cluster.local in-addr.arpa {{
    bind {NODE_IP}
    errors
    ready {LOOPBACK}:8181
    kubernetes {{
        kubeconfig {kubeconfig}
        pods insecure
    }}
}}
. {{
    bind {NODE_IP}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
",
        kubeconfig = kubeconfig.display(),
    )
}

/// `ptp` rather than `bridge`: without br_netfilter an answer between two pods of a bridge passes the Service by.
/// What leaves the cluster is masqueraded by one rule of ours, not by the plugin, whose rules survive a kill.
fn network(layout: &Layout) -> String {
    let plugins = serde_json::json!([{
        "type": "ptp",
        "mtu": 1400,
        "ipam": {
            "type": "host-local",
            "dataDir": layout.node_state().join("networks"),
            "ranges": [[{"subnet": layout.node().pods()}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }]);
    serde_json::json!({"cniVersion": "1.0.0", "name": "fairway", "plugins": plugins}).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;

    fn layout() -> (TempDir, Layout) {
        let directory = TempDir::new().unwrap();
        let layout = Layout::at(directory.path()).unwrap();
        (directory, layout)
    }

    #[test]
    fn files_are_written_where_components_read_them() {
        let (_directory, layout) = layout();

        write(&layout).unwrap();

        for file in [
            "containerd.toml",
            "kubelet.yaml",
            "proxy.yaml",
            "Corefile",
            "resolv.conf",
            "ingress.yaml",
        ] {
            assert!(layout.config(file).is_file(), "{file}");
        }
        let network = fs::read_to_string(layout.config("cni/10-fairway.conflist")).unwrap();
        let network: Value = serde_json::from_str(&network).unwrap();
        assert_eq!(network["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.0.0/24");
    }

    #[test]
    fn the_ingress_tries_again_as_the_chart_says() {
        let readme =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/fairway/README.md"));

        assert!(readme.contains(ingress()));
    }

    #[test]
    fn nodes_share_only_what_neither_writes() {
        let (_directory, layout) = layout();
        let paths = |node| {
            let layout = layout.on(node);
            let files = files_of_node(&layout).unwrap();
            let texts = files.iter().flat_map(|(_, text)| text.split(['\'', '"']));
            let paths = texts.filter(|text| text.starts_with('/')).map(str::to_owned);
            paths.collect::<std::collections::BTreeSet<_>>()
        };

        let both = [
            layout.config("resolv.conf"),
            layout.config("proxy.kubeconfig"),
            layout.pki("ca.crt"),
            layout.programs(),
        ];
        let both = both.map(|path| path.display().to_string());
        for path in paths(Node::First).intersection(&paths(Node::Second)) {
            assert!(both.contains(path), "{path}");
        }
    }

    #[test]
    fn nothing_the_kubelet_keeps_is_outside_the_state() {
        let (_directory, layout) = layout();

        let text = kubelet(&layout);

        let state = layout.state().display().to_string();
        for line in text.lines().filter(|line| line.contains("'/")) {
            assert!(line.contains(&state), "{line}");
        }
    }

    #[test]
    fn braces_of_the_corefile_are_alone_or_at_the_end() {
        let text = corefile(Path::new("/k"));

        for line in text.lines().filter(|line| line.contains(['{', '}'])) {
            assert!(line.ends_with(" {") || line.trim() == "}", "{line}");
        }
    }
}
