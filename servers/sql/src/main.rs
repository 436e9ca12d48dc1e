//! Serves the sql server until it is told to stop.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, ValueEnum};
use server_sql::{Config, DatabaseUrl, router, seed};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Address to listen on.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8000")]
    listen: SocketAddr,

    /// How log lines look on stdout.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    log_format: LogFormat,

    /// Make the sample tables and their rows where they are missing.
    #[arg(long, env = "SEED")]
    seed: bool,

    #[command(flatten)]
    config: Config,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    log_to_stdout(args.log_format);
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(args.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");

    let seeding = args.seed.then(|| tokio::spawn(seed_in_time(args.config.database_url.clone())));

    let (stop, mut stopped) = watch::channel(());
    let serve = axum::serve(listener, router(&args.config)?).with_graceful_shutdown(async move {
        // A closed channel is as good as a message: either way it is time to go.
        let _ = stopped.changed().await;
    });
    let deadline = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        drop(stop);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serve.into_future() => served?,
        () = deadline => {}
    }
    if let Some(seeding) = seeding {
        seeding.abort();
    }
    Ok(())
}

/// The database may come up after us.
async fn seed_in_time(url: DatabaseUrl) {
    while let Err(error) = seed(&url).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "trying again");
        tokio::time::sleep(SEED_PAUSE).await;
    }
    tracing::info!("the sample database is there");
}

fn log_to_stdout(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_FILTER));
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Json => logs.json().init(),
        LogFormat::Text => logs.init(),
    }
}

/// rmcp starts a service for each request and tells of its whole life at level info.
const LOG_FILTER: &str = "info,rmcp=warn,rmcp::service=off";

/// Calls in flight get this long to end; the whole stop stays within one second.
const GRACE: Duration = Duration::from_millis(800);

/// A database takes seconds to start.
const SEED_PAUSE: Duration = Duration::from_secs(2);
