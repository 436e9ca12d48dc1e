//! The programs that are the own cluster, and how each is started. Starts nothing itself.

use std::{env, ffi::OsString, path::Path};

use super::super::{
    daemon::Start,
    layout::{APISERVER, LOOPBACK, Layout, NODE_IP, SERVICES},
    packages,
};

/// A part of the own cluster that can be stopped and started by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Component {
    /// The store of the apiserver.
    Etcd,
    /// `kube-apiserver`.
    Apiserver,
    /// `kube-controller-manager`.
    ControllerManager,
    /// `kube-scheduler`.
    Scheduler,
    /// `containerd`, without the containers, which live on.
    Containerd,
    /// `kubelet`.
    Kubelet,
    /// `kube-proxy`.
    Proxy,
    /// CoreDNS.
    Dns,
    /// Traefik.
    Ingress,
}

impl Component {
    /// In the order in which they need each other.
    pub const ALL: [Self; 9] = [
        Self::Etcd,
        Self::Apiserver,
        Self::Containerd,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubelet,
        Self::Proxy,
        Self::Dns,
        Self::Ingress,
    ];

    /// Those that make a node, in the order in which they need each other.
    pub(crate) const OF_A_NODE: [Self; 3] = [Self::Containerd, Self::Kubelet, Self::Proxy];

    /// The name of its program, its log and its record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::Dns => "coredns",
            Self::Ingress => "traefik",
        }
    }

    pub(crate) fn start(self, layout: &Layout) -> Start {
        let mut environment = vec![("PATH", path(&layout.programs()))];
        if self == Self::Ingress {
            environment.push(("KUBECONFIG", layout.config("admin.kubeconfig").into()));
        }
        Start {
            program: layout.program(self.name()),
            arguments: self.arguments(layout).into_iter().map(OsString::from).collect(),
            environment,
            network: layout.network().map(str::to_owned),
            log: layout.log(self),
        }
    }

    fn arguments(self, layout: &Layout) -> Vec<String> {
        match self {
            Self::Etcd => etcd(layout),
            Self::Apiserver => apiserver(layout),
            Self::ControllerManager => controller_manager(layout),
            Self::Scheduler => vec![
                flag_path("kubeconfig", &layout.config("scheduler.kubeconfig")),
                flag("bind-address", LOOPBACK),
                flag("leader-elect", false),
            ],
            Self::Containerd => {
                vec![flag_path("config", &layout.config(&layout.of_node("containerd.toml")))]
            }
            Self::Kubelet => vec![
                flag_path("config", &layout.config(&layout.of_node("kubelet.yaml"))),
                flag_path("kubeconfig", &layout.config(&layout.of_node("kubelet.kubeconfig"))),
                flag_path("root-dir", &layout.node_state().join("kubelet")),
                flag_path("cert-dir", &layout.node_state().join("kubelet/pki")),
                flag("hostname-override", layout.node().name()),
                flag("node-ip", layout.node().ip()),
            ],
            Self::Proxy => {
                vec![flag_path("config", &layout.config(&layout.of_node("proxy.yaml")))]
            }
            // Of all the programs this one alone takes a single dash.
            Self::Dns => vec!["-conf".into(), layout.config("Corefile").display().to_string()],
            Self::Ingress => ingress(layout),
        }
    }
}

fn etcd(layout: &Layout) -> Vec<String> {
    let client = format!("http://{LOOPBACK}:2379");
    let peer = format!("http://{LOOPBACK}:2380");
    vec![
        flag("name", layout.node().name()),
        flag_path("data-dir", &layout.state().join("etcd")),
        flag("listen-client-urls", &client),
        flag("advertise-client-urls", client),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", format!("{}={peer}", layout.node().name())),
        // What is lost with the power of the host need not be kept.
        "--unsafe-no-fsync".into(),
        flag("log-level", "warn"),
    ]
}

fn apiserver(layout: &Layout) -> Vec<String> {
    vec![
        flag("etcd-servers", format!("http://{LOOPBACK}:2379")),
        flag("bind-address", APISERVER.ip()),
        flag("secure-port", APISERVER.port()),
        flag("advertise-address", APISERVER.ip()),
        flag("service-cluster-ip-range", SERVICES),
        flag("authorization-mode", "Node,RBAC"),
        flag("allow-privileged", true),
        flag_path("client-ca-file", &layout.pki("ca.crt")),
        flag_path("tls-cert-file", &layout.pki("apiserver.crt")),
        flag_path("tls-private-key-file", &layout.pki("apiserver.key")),
        // The node's name does not resolve.
        flag("kubelet-preferred-address-types", "InternalIP"),
        flag_path("kubelet-certificate-authority", &layout.pki("ca.crt")),
        flag_path("kubelet-client-certificate", &layout.pki("apiserver-kubelet.crt")),
        flag_path("kubelet-client-key", &layout.pki("apiserver-kubelet.key")),
        flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
        flag_path("service-account-key-file", &layout.pki("service-account.pub")),
        flag_path("service-account-signing-key-file", &layout.pki("service-account.key")),
        flag_path("audit-policy-file", &layout.config("audit.yaml")),
        flag_path("audit-log-path", &layout.audit()),
        // Nobody waits for the disk.
        flag("audit-log-mode", "batch"),
        flag("audit-log-batch-max-wait", "1s"),
        flag("audit-log-maxsize", 100),
        flag("audit-log-maxbackup", 1),
    ]
}

fn controller_manager(layout: &Layout) -> Vec<String> {
    vec![
        flag_path("kubeconfig", &layout.config("controller-manager.kubeconfig")),
        flag("bind-address", LOOPBACK),
        flag("leader-elect", false),
        flag("use-service-account-credentials", true),
        flag_path("root-ca-file", &layout.pki("ca.crt")),
        flag_path("service-account-private-key-file", &layout.pki("service-account.key")),
        flag("service-cluster-ip-range", SERVICES),
    ]
}

fn ingress(layout: &Layout) -> Vec<String> {
    vec![
        flag("providers.kubernetesIngress", true),
        flag("providers.kubernetesIngress.ingressClass", "traefik"),
        // As its own Helm chart has it: without, a Service that has no pod for a moment is answered with 404, and a
        // client takes its session for gone.
        flag("providers.kubernetesIngress.allowEmptyServices", true),
        flag("providers.kubernetesIngress.ingressEndpoint.ip", NODE_IP),
        flag_path("providers.file.filename", &layout.config("ingress.yaml")),
        flag("providers.file.watch", false),
        // A node that is lost refuses nothing: what waits for a connection to it is tried again after this.
        flag("serversTransport.forwardingTimeouts.dialTimeout", "2s"),
        flag("entryPoints.web.address", format!("{NODE_IP}:80")),
        flag("entryPoints.websecure.address", format!("{NODE_IP}:443")),
        flag("entryPoints.ping.address", format!("{LOOPBACK}:8082")),
        flag("ping", true),
        flag("ping.entryPoint", "ping"),
        flag("global.checkNewVersion", false),
        flag("global.sendAnonymousUsage", false),
        flag("log.level", "INFO"),
    ]
}

/// The cluster's programs first; what they start in turn is theirs or the host's.
fn path(programs: &Path) -> OsString {
    let places = [programs.to_owned()].into_iter().chain(packages::search_path());
    // No directory that came out of a PATH can be refused in one, and ours has no colon or nothing would work.
    env::join_paths(places).unwrap_or_else(|_| OsString::from("/usr/sbin:/usr/bin:/sbin:/bin"))
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn flag_path(name: &str, value: &Path) -> String {
    flag(name, value.display())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn every_component_is_a_program_that_is_built() {
        let built = super::super::super::programs::all();

        for component in Component::ALL {
            assert!(built.contains(&component.name()), "{component:?}");
        }
    }

    #[test]
    fn nothing_listens_on_all_addresses() {
        let directory = TempDir::new().unwrap();
        let layout = Layout::at(directory.path()).unwrap();

        for component in Component::ALL {
            for argument in component.arguments(&layout) {
                assert!(!argument.contains("0.0.0.0") && !argument.contains("=:"), "{argument}");
            }
        }
    }
}
