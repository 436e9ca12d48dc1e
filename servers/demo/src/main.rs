//! `cargo demo`: three sample servers and a gateway in one process, from the manifests beside this
//! program.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use gateway::{Gateway, Options, Source};
use server_sql::DatabaseUrl;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

mod guide;
mod servers;

/// Three MCP servers and a gateway to try Fairway with.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Flags {
    /// Where clients connect.
    #[arg(long, env = "FAIRWAY_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Where metrics are served.
    #[arg(long, env = "FAIRWAY_ADMIN_LISTEN", default_value = "127.0.0.1:9090")]
    admin_listen: SocketAddr,

    /// The manifests: a directory with the folders `sqlite` and `postgres`, of which one is used.
    #[arg(long, env = "FAIRWAY_DEMO_MANIFESTS", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests"), hide_default_value = true)]
    manifests: PathBuf,

    /// Where sample files, the sample database and the gateway's state are kept
    /// [default: demo-data beside the program].
    #[arg(long, env = "FAIRWAY_DEMO_DATA")]
    data: Option<PathBuf>,

    /// A PostgreSQL to query instead of the sample database. It is only read.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<DatabaseUrl>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let flags = Flags::parse();
    let data = match flags.data {
        Some(data) => data,
        None => beside_the_program()?,
    };
    let mut terminate = signal(SignalKind::terminate())?;

    // The gateway starts last: what is wrong with its addresses is said first.
    drop(bind(flags.listen, "FAIRWAY_LISTEN").await?);
    drop(bind(flags.admin_listen, "FAIRWAY_ADMIN_LISTEN").await?);
    let database = servers::Database::choose(flags.database_url, &data);
    let directories = vec![flags.manifests.clone(), flags.manifests.join(database.folder())];
    let running = servers::start(&directories, &database, &data).await?;
    let gateway = Gateway::start(Options {
        source: Source::Directories(directories.clone()),
        listen: flags.listen,
        admin_listen: flags.admin_listen,
        allowed_hosts: Vec::new(),
        state: data.join("state.json"),
        config: None,
        body_memory: Options::BODY_MEMORY,
        pod: gateway::Pod::default(),
        peers: None,
    })
    .await?;
    guide::print(gateway.address(), gateway.admin_address(), database.name(), &flags.manifests);

    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    gateway.stop().await;
    drop(running);
    Ok(())
}

/// Listens there, or says how to choose another address.
async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another address with {variable}=127.0.0.1:PORT")
    })
}

fn beside_the_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let folder = program.parent().context("this program is in no folder")?;
    Ok(folder.join("demo-data"))
}
