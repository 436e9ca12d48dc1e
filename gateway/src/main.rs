//! `fairway-gateway`: reads flags, runs the gateway until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use gateway::{Gateway, Options, Source};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// One URL for all the MCP servers of a team.
#[derive(Debug, Parser)]
#[command(name = "fairway-gateway", version)]
struct Flags {
    /// Where servers, keys and policies come from: `dir:PATH`, a directory of manifests. May be
    /// given more than once.
    #[arg(long, env = "FAIRWAY_SOURCE", value_parser = parse_source, required = true, value_delimiter = ',')]
    source: Vec<PathBuf>,

    /// Where clients connect.
    #[arg(long, env = "FAIRWAY_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Where metrics and readiness in detail are served.
    #[arg(long, env = "FAIRWAY_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    admin_listen: SocketAddr,

    /// Names by which clients may call the gateway on a loopback address, as a proxy on the same
    /// machine does, besides localhost; `*` is any. Elsewhere any name will do.
    #[arg(long = "allowed-host", env = "FAIRWAY_ALLOWED_HOSTS", value_delimiter = ',')]
    allowed_hosts: Vec<String>,

    /// File with the keys that seal sessions. Gateways that share it serve each other's sessions.
    /// Made where there is none [default: fairway/state.json in the user's state directory].
    #[arg(long, env = "FAIRWAY_STATE")]
    state: Option<PathBuf>,
}

fn parse_source(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("dir:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err("write dir:PATH".to_owned()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .init();
    let flags = Flags::parse();
    let state = match flags.state {
        Some(state) => state,
        None => default_state().context("there is no home directory; set --state")?,
    };
    raise_file_limit();
    let mut terminate = signal(SignalKind::terminate())?;
    let gateway = Gateway::start(Options {
        source: Source::Directories(flags.source),
        listen: flags.listen,
        admin_listen: flags.admin_listen,
        allowed_hosts: flags.allowed_hosts,
        state,
    })
    .await?;
    tracing::info!(address = %gateway.address(), admin = %gateway.admin_address(), "gateway is listening");
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    tracing::info!("gateway is stopping");
    gateway.stop().await;
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
