//! `fairway-gateway`: reads flags, runs the gateway until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use gateway::{Cluster, Gateway, Options, Peers, Pod, Source};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A call makes some thirty small allocations: they cost half of what they do with glibc's allocator, and an idle stream
/// takes a fifth less.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One URL for all the MCP servers of a team.
#[derive(Debug, Parser)]
#[command(name = "fairway-gateway", version)]
struct Flags {
    /// Where servers, keys and policies come from: `dir:PATH`, a directory of manifests, which may
    /// be given more than once; or `cluster`, what the operator made of them.
    #[arg(long, env = "FAIRWAY_SOURCE", value_parser = parse_source, required = true, value_delimiter = ',')]
    source: Vec<SourceFlag>,

    /// With `--source cluster`: the namespace that holds the entries.
    #[arg(long, env = "FAIRWAY_ENTRIES_NAMESPACE")]
    entries_namespace: Option<String>,

    /// With `--source cluster`: how to reach the cluster from outside of it.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,

    /// File with the settings of the whole gateway: publicUrl, cors. Read again when it changes.
    #[arg(long, env = "FAIRWAY_CONFIG")]
    config: Option<PathBuf>,

    /// How many MiB the bodies of requests under way may take together; one key may take a quarter.
    #[arg(long, env = "FAIRWAY_BODY_MEMORY_MIB", default_value_t = Options::BODY_MEMORY >> 20, value_parser = parse_mib)]
    body_memory_mib: usize,

    /// Name of the pod that this is.
    #[arg(long, env = "FAIRWAY_POD_NAME", default_value = "")]
    pod_name: String,

    /// UID of the pod that this is.
    #[arg(long, env = "FAIRWAY_POD_UID", default_value = "")]
    pod_uid: String,

    /// Where clients connect.
    #[arg(long, env = "FAIRWAY_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Where metrics and readiness in detail are served.
    #[arg(long, env = "FAIRWAY_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    admin_listen: SocketAddr,

    /// Where other gateways connect that serve the same sessions. They need the same --state.
    #[arg(long, env = "FAIRWAY_PEER_LISTEN", requires = "peers")]
    peer_listen: Option<SocketAddr>,

    /// Hosts with ports that lead to the other gateways' --peer-listen: mostly the name of a headless
    /// Service.
    #[arg(long, env = "FAIRWAY_PEERS", value_delimiter = ',', requires = "peer_listen")]
    peers: Vec<String>,

    /// How many seconds calls under way have to end after SIGTERM. No new clients are taken then, so
    /// let nobody be sent here before.
    #[arg(long, env = "FAIRWAY_DRAIN", default_value_t = 30)]
    drain: u64,

    /// Names by which clients may call the gateway on a loopback address, as a proxy on the same
    /// machine does, besides localhost; `*` is any. Elsewhere any name will do.
    #[arg(long = "allowed-host", env = "FAIRWAY_ALLOWED_HOSTS", value_delimiter = ',')]
    allowed_hosts: Vec<String>,

    /// File with the keys that seal sessions. Gateways that share it serve each other's sessions.
    /// Made where there is none [default: fairway/state.json in the user's state directory].
    #[arg(long, env = "FAIRWAY_STATE")]
    state: Option<PathBuf>,
}

#[derive(Debug, Clone)]
enum SourceFlag {
    Directory(PathBuf),
    Cluster,
}

fn parse_source(text: &str) -> Result<SourceFlag, String> {
    match text.strip_prefix("dir:") {
        Some(path) if !path.is_empty() => Ok(SourceFlag::Directory(PathBuf::from(path))),
        None if text == "cluster" => Ok(SourceFlag::Cluster),
        _ => Err("write dir:PATH or cluster".to_owned()),
    }
}

/// From 16, so that a quarter holds the largest body.
fn parse_mib(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(mib @ 16..=1_048_576) => Ok(mib),
        _ => Err("write a number of MiB, at least 16".to_owned()),
    }
}

/// Directories, or a cluster, but not both.
fn source(flags: &Flags) -> anyhow::Result<Source> {
    if let [SourceFlag::Cluster] = flags.source.as_slice() {
        let namespace = flags.entries_namespace.clone();
        let namespace = namespace.context("--source cluster needs --entries-namespace")?;
        return Ok(Source::Cluster(Cluster { namespace, kubeconfig: flags.kubeconfig.clone() }));
    }
    let directories = flags.source.iter().map(|source| match source {
        SourceFlag::Directory(path) => Ok(path.clone()),
        SourceFlag::Cluster => bail!("--source cluster goes with no other source"),
    });
    Ok(Source::Directories(directories.collect::<anyhow::Result<_>>()?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // First of all: the client of the cluster's API takes whatever provider is the process's.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().map_err(|_| anyhow!("another provider of TLS is installed"))?;
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .init();
    let flags = Flags::parse();
    let source = source(&flags)?;
    let state = match flags.state {
        Some(state) => state,
        None => default_state().context("there is no home directory; set --state")?,
    };
    raise_file_limit();
    let mut terminate = signal(SignalKind::terminate())?;
    let gateway = Gateway::start(Options {
        source,
        listen: flags.listen,
        admin_listen: flags.admin_listen,
        allowed_hosts: flags.allowed_hosts,
        state,
        config: flags.config,
        body_memory: flags.body_memory_mib << 20,
        pod: Pod { name: flags.pod_name, uid: flags.pod_uid },
        peers: flags.peer_listen.map(|listen| Peers { listen, names: flags.peers }),
    })
    .await?;
    tracing::info!(address = %gateway.address(), admin = %gateway.admin_address(), "gateway is listening");
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            tracing::info!("gateway is stopping");
            gateway.stop().await;
        }
        _ = terminate.recv() => {
            tracing::info!(seconds = flags.drain, "gateway is draining");
            gateway.drain(Duration::from_secs(flags.drain)).await;
        }
    }
    Ok(())
}

/// Each client is an open file, and the usual soft limit is 1,024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// `$XDG_STATE_HOME/fairway/state.json`, usually in `~/.local/state`.
fn default_state() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let directory = variable("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/state")))?;
    Some(directory.join("fairway/state.json"))
}
