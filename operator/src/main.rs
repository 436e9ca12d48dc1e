//! `fairway-operator`: reads flags, runs the operator until it is told to stop.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use gateway_core::Range;
use operator::{Operator, Options};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs MCP servers, mints keys and tells the gateways of it.
#[derive(Debug, Parser)]
#[command(name = "fairway-operator", version)]
struct Flags {
    /// Namespace of the operator and the gateways.
    #[arg(long, env = "FAIRWAY_NAMESPACE")]
    namespace: String,

    /// Namespace that holds the entries for the gateways, and nothing else.
    #[arg(long, env = "FAIRWAY_ENTRIES_NAMESPACE")]
    entries_namespace: String,

    /// Name of the release: objects of the operator's own begin with it.
    #[arg(long, env = "FAIRWAY_RELEASE", default_value = "fairway")]
    release: String,

    /// Namespaces whose resources are looked at, with commas between [default: all].
    #[arg(long, env = "FAIRWAY_WATCH_NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,

    /// Labels of the gateways' pods, as `name=value,name=value`.
    #[arg(long, env = "FAIRWAY_GATEWAY_SELECTOR")]
    gateway_selector: String,

    /// URL at which clients reach the gateway, such as `https://mcp.example.com`; it goes into the
    /// Secrets of keys [default: the gateway's Service].
    #[arg(long, env = "FAIRWAY_PUBLIC_URL")]
    public_url: Option<String>,

    /// Where health and metrics are served.
    #[arg(long, env = "FAIRWAY_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    admin_listen: SocketAddr,

    /// Further ranges in which no server given by a URL may be, such as `192.168.0.0/16`.
    #[arg(long, env = "FAIRWAY_FORBIDDEN_RANGES", value_delimiter = ',')]
    forbidden_ranges: Vec<Range>,

    /// Ranges in which servers given by a URL may be all the same.
    #[arg(long, env = "FAIRWAY_ALLOWED_RANGES", value_delimiter = ',')]
    allowed_ranges: Vec<Range>,

    /// Who this operator is among its replicas.
    #[arg(long, env = "FAIRWAY_POD_NAME")]
    pod_name: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Before anything makes a TLS configuration: with two providers rustls would not choose.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("another provider of cryptography is installed");
    }
    tracing_subscriber::fmt()
        .json()
        // Each line says itself whom it is about.
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(log_filter())
        .init();
    let flags = Flags::parse();
    let gateway_labels = labels(&flags.gateway_selector)
        .context("--gateway-selector: write name=value, more than one with a comma between")?;
    let public_url = flags
        .public_url
        .filter(|url| !url.is_empty())
        .unwrap_or_else(|| format!("http://{}-gateway.{}.svc", flags.release, flags.namespace));
    let options = Options {
        namespace: flags.namespace,
        entries_namespace: flags.entries_namespace,
        release: flags.release,
        watch_namespaces: flags
            .watch_namespaces
            .into_iter()
            .filter(|one| !one.is_empty())
            .collect(),
        gateway_labels,
        public_url: public_url.trim_end_matches('/').to_owned(),
        admin_listen: flags.admin_listen,
        forbidden_ranges: flags.forbidden_ranges,
        allowed_ranges: flags.allowed_ranges,
        identity: flags.pod_name,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let told = async {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    };
    let mut told = std::pin::pin!(told);
    let operator = tokio::select! {
        started = Operator::start(options) => started?,
        told = &mut told => return Ok(told?),
    };
    told.await?;
    tracing::info!("operator is stopping");
    operator.stop().await;
    Ok(())
}

/// What `RUST_LOG` asks for, or information. Failures of watches and calls are told where they are
/// dealt with; kube would tell of each attempt again.
fn log_filter() -> EnvFilter {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let asked = if asked.is_empty() { "info".to_owned() } else { asked };
    let mut filter = EnvFilter::try_new(&asked).unwrap_or_else(|_| EnvFilter::new("info"));
    for (target, quiet) in [
        ("kube_runtime", "kube_runtime::watcher=error"),
        ("kube_client", "kube_client::client=off"),
    ] {
        if let Ok(quiet) = quiet.parse()
            && !asked.contains(target)
        {
            filter = filter.add_directive(quiet);
        }
    }
    filter
}

/// `name=value,name=value`
fn labels(selector: &str) -> Option<Vec<(String, String)>> {
    let pair = |label: &str| {
        let (name, value) = label.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    selector.split(',').map(pair).collect()
}
