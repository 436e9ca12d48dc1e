//! Where everything of a cluster is. Performs no I/O but to make directories.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};

use super::{own::component::Component, programs::hex};

/// The first node's address, which we add to the loopback interface: pods reach it, the network outside does not.
pub(crate) const NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);

/// Where what only the control plane may reach listens: pods cannot route to it.
pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 97);

/// The apiserver's Service, the first address of the range.
pub(crate) const APISERVER_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The Service of the cluster's DNS.
pub(crate) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

pub(crate) const SERVICES: &str = "10.96.0.0/16";

/// The pods of all nodes.
pub(crate) const PODS: &str = "10.244.0.0/23";

/// `https://` clients of the apiserver.
pub(crate) const APISERVER: SocketAddrV4 = SocketAddrV4::new(NODE_IP, 6443);

/// The image of the container that holds a pod's namespaces.
pub(crate) const PAUSE_IMAGE: &str = "docker.io/fairway/pause:e2e";

/// What runs pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// The host, with the control plane.
    First,
    /// A network namespace of the host, which passes for another machine.
    Second,
}

impl Node {
    pub(crate) const ALL: [Self; 2] = [Self::First, Self::Second];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "fairway-node",
            Self::Second => "fairway-node-2",
        }
    }

    pub(crate) fn ip(self) -> Ipv4Addr {
        match self {
            Self::First => NODE_IP,
            Self::Second => Ipv4Addr::new(10, 97, 0, 2),
        }
    }

    /// Its part of [`PODS`]: a node has at most 250 pods here.
    pub(crate) fn pods(self) -> &'static str {
        match self {
            Self::First => "10.244.0.0/24",
            Self::Second => "10.244.1.0/24",
        }
    }
}

/// The directories of the clusters of one checkout, as one of the own cluster's nodes has them.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    /// Tells what this checkout leaves elsewhere on the host from what others do.
    mark: String,
    node: Node,
}

impl Layout {
    /// Makes the directory if it is not there.
    pub(crate) fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        // The cluster's programs run in other directories than we do.
        let root = fs::canonicalize(root)?;
        let digest = digest(&SHA256, root.as_os_str().as_encoded_bytes());
        let mark = hex(digest.as_ref().get(..4).unwrap_or_default());
        Ok(Self { root, mark: format!("fairway-{mark}"), node: Node::First })
    }

    /// The same for another node: where it has files of its own, those.
    pub(crate) fn on(&self, node: Node) -> Self {
        Self { node, ..self.clone() }
    }

    pub(crate) fn node(&self) -> Node {
        self.node
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The programs, which outlive every cluster.
    pub(crate) fn programs(&self) -> PathBuf {
        self.root.join("bin")
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// Assembled images, by their content.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Everything of the own cluster that goes with it.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// What the loss of power clears: sockets, whose paths have to be short, and containerd's mounts.
    pub(crate) fn run(&self) -> PathBuf {
        Path::new("/run").join(&self.mark)
    }

    /// What the components of the last cluster wrote, for those who ask why it went.
    pub(crate) fn logs_before(&self) -> PathBuf {
        self.root.join("logs-before")
    }

    /// Everything that goes with the node, except its logs and what it is told.
    pub(crate) fn node_state(&self) -> PathBuf {
        match self.node {
            Node::First => self.state(),
            Node::Second => self.state().join("second"),
        }
    }

    /// The node's part of [`Self::run`].
    pub(crate) fn node_run(&self) -> PathBuf {
        match self.node {
            Node::First => self.run(),
            Node::Second => self.run().join("second"),
        }
    }

    /// A file of this name among those of the other node.
    pub(crate) fn of_node(&self, file: &str) -> String {
        match self.node {
            Node::First => file.to_owned(),
            Node::Second => format!("second-{file}"),
        }
    }

    /// The name of the node's network namespace, where it has one of its own.
    pub(crate) fn network(&self) -> Option<&str> {
        match self.node {
            Node::First => None,
            Node::Second => Some(&self.mark),
        }
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.state().join("logs")
    }

    pub(crate) fn log(&self, component: Component) -> PathBuf {
        self.logs().join(self.of_node(&format!("{}.log", component.name())))
    }

    /// What was asked of the apiserver, one event a line.
    pub(crate) fn audit(&self) -> PathBuf {
        self.logs().join("audit.log")
    }

    /// Of the processes that go with the cluster.
    pub(crate) fn records(&self) -> PathBuf {
        self.state().join("pids")
    }

    pub(crate) fn record(&self, component: Component) -> PathBuf {
        self.records().join(self.of_node(component.name()))
    }

    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.state().join("pki").join(file)
    }

    pub(crate) fn config(&self, file: &str) -> PathBuf {
        self.state().join("config").join(file)
    }

    /// The administrator's, which users and tests take.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.node_run().join("containerd.sock")
    }

    /// The same of the kind cluster.
    pub(crate) fn kind_kubeconfig(&self) -> PathBuf {
        self.root.join("kind-kubeconfig")
    }

    /// Held while a cluster is brought up or taken down.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Held while images are assembled.
    pub(crate) fn images_lock(&self) -> PathBuf {
        self.root.join("images.lock")
    }

    /// Held by those who use the cluster, alone by those who break it.
    pub(crate) fn use_lock(&self) -> PathBuf {
        self.root.join("use.lock")
    }

    /// Held while Fairway is installed in a cluster.
    pub(crate) fn release_lock(&self) -> PathBuf {
        self.root.join("release.lock")
    }

    /// What the host was like before the cluster changed it.
    pub(crate) fn host_before(&self) -> PathBuf {
        self.root.join("host-before.json")
    }
}
