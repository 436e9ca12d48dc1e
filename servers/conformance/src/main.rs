//! Serves the conformance server until it is told to stop.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, ValueEnum};
use server_conformance::{Config, router};
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
    Ok(())
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
