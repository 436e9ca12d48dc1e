//! Wires the gateway.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::Authenticator;
use crate::downstream::{Downstream, Streams};
use crate::inflight::InFlight;
use crate::listener::{Workers, serve, serve_admin};
use crate::session::Tombstones;
use crate::source::watch_directory;
use crate::state::{self, StateError};
use crate::table::{Publisher, Table, changes};
use crate::telemetry::Telemetry;
use crate::upstream::Pool;

/// How to run a gateway.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where servers, keys and policies come from.
    pub source: Source,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where metrics and readiness in detail are served.
    pub admin_listen: SocketAddr,
    /// Names, besides loopback ones, by which clients on a loopback address may call the gateway;
    /// `*` is any.
    pub allowed_hosts: Vec<String>,
    /// File with the keys that seal sessions, made where there is none.
    pub state: PathBuf,
}

/// Where servers, keys and policies come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Manifests in directories.
    Directories(Vec<PathBuf>),
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The manifests cannot be read at all.
    #[error("cannot read the manifests in {0:?}")]
    Source(Vec<PathBuf>, #[source] io::Error),
    /// See [`StateError`].
    #[error(transparent)]
    State(#[from] StateError),
    /// No threads.
    #[error("cannot start worker threads")]
    Workers(#[source] io::Error),
}

/// A running gateway. Dropping it stops it.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    admin_address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
    workers: Option<Workers>,
}

impl Gateway {
    /// Starts a gateway. It serves as soon as the manifests are read.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let (listener, address) = bind(options.listen).await?;
        let (admin_listener, admin_address) = bind(options.admin_listen).await?;
        let secrets = state::open(&options.state)?;

        let stop = CancellationToken::new();
        let telemetry = Telemetry::new();
        let table = Arc::new(Table::new());
        let (changes, changed) = changes();
        let pool = Pool::new(changes.clone(), stop.clone(), telemetry.clone());
        let publisher = Publisher::new(table.clone(), pool, telemetry.clone(), changed);
        let downstream = Arc::new(Downstream {
            authenticator: Authenticator { pepper: secrets.pepper.clone(), table: table.clone() },
            table,
            sealer: secrets.sealer,
            tombstones: Tombstones::default(),
            calls: InFlight::new(),
            streams: Streams::new(),
            telemetry: telemetry.clone(),
            allowed_hosts: options.allowed_hosts,
            stop: stop.clone(),
        });

        let tasks = TaskTracker::new();
        let Source::Directories(directories) = options.source;
        let source =
            watch_directory(directories.clone(), secrets.pepper, changes, stop.clone()).await;
        tasks.spawn(source.map_err(|error| StartError::Source(directories, error))?);
        tasks.spawn(publisher.run(stop.clone()));
        tasks.spawn(serve_admin(admin_listener, downstream.clone()));
        let workers = serve(listener, &downstream).map_err(StartError::Workers)?;
        tasks.close();
        Ok(Self { address, admin_address, stop, tasks, workers: Some(workers) })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics are served.
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Stops: streams without an open call end, other connections have a second to.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(workers) = self.workers.take() {
            // Joining threads blocks.
            let _ = tokio::task::spawn_blocking(move || workers.join()).await;
        }
        self.tasks.wait().await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
