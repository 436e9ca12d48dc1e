//! Wires the gateway.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::report::Hello;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Access, Admin};
use crate::authn::Authenticator;
use crate::call::Commons;
use crate::config::{Config, ConfigError};
use crate::downstream::health::Status;
use crate::downstream::revival::{self, revive};
use crate::downstream::{Downstream, Streams};
use crate::home::Homes;
use crate::inflight::InFlight;
use crate::listener::{Ending, Listeners, Workers, serve, serve_admin};
use crate::parked::Parked;
use crate::peer::{Fleet, Inboxes, brief, carry, find};
use crate::publisher::Publisher;
use crate::report::Reporter;
use crate::room::Room;
use crate::source::cluster::{Cluster, ClusterError};
use crate::source::{Contact, watch_cluster, watch_directory};
use crate::state::{self, Keeper, Keyring, StateError};
use crate::table::{Table, changes};
use crate::telemetry::Telemetry;
use crate::upstream::{Egress, Newswire, Pool};

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
    /// File with the keys that seal sessions. Made where there is none, except in a cluster.
    pub state: PathBuf,
    /// File with the settings of the whole gateway, if there is one.
    pub config: Option<PathBuf>,
    /// How many bytes the bodies of requests under way may take together.
    pub body_memory: usize,
    /// Who reports to the operator.
    pub pod: Pod,
    /// Other gateways that serve the same sessions, if there are to be any.
    pub peers: Option<Peers>,
}

/// How gateways that serve the same sessions find each other. They share the file of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// Where others reach this one.
    pub listen: SocketAddr,
    /// Hosts with ports that lead to the others, and may lead to this one. A name is looked up again
    /// and again.
    pub names: Vec<String>,
}

impl Options {
    /// [`Self::body_memory`] where nobody says otherwise: 64 bodies of the largest size.
    pub const BODY_MEMORY: usize = 256 * 1024 * 1024;
}

/// Where servers, keys and policies come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Manifests in directories.
    Directories(Vec<PathBuf>),
    /// Entries that the operator writes.
    Cluster(Cluster),
}

/// The pod that this gateway is; empty outside a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
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
    /// See [`ConfigError`].
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See [`ClusterError`].
    #[error(transparent)]
    Cluster(#[from] ClusterError),
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
    peer_address: Option<SocketAddr>,
    fleet: Arc<Fleet>,
    ending: Ending,
    tasks: TaskTracker,
    workers: Option<Workers>,
}

impl Gateway {
    /// Starts a gateway. It serves as soon as the manifests or entries are read.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let (listener, address) = bind(options.listen).await?;
        let (admin_listener, admin_address) = bind(options.admin_listen).await?;
        let (peers, peer_address, names) = match options.peers {
            Some(Peers { listen, names }) => {
                let (listener, address) = bind(listen).await?;
                (Some(listener), Some(address), names)
            }
            None => (None, None, Vec::new()),
        };
        let in_cluster = matches!(options.source, Source::Cluster(_));
        let keeper = if in_cluster { Keeper::Operator } else { Keeper::Own };
        let (secrets, state) = state::open(&options.state, keeper)?;

        let stop = CancellationToken::new();
        let drain = stop.child_token();
        // What is running already ends if anything fails.
        let running = stop.clone().drop_guard();
        let tasks = TaskTracker::new();
        let config = match &options.config {
            Some(path) => {
                let (config, follow) = Config::open(path, stop.clone())?;
                tasks.spawn(follow);
                config
            }
            None => Arc::default(),
        };
        let pepper = secrets.pepper.clone();
        let (keyring, follow) = Keyring::new(secrets, state, keeper, stop.clone());
        tasks.spawn(follow);
        let telemetry = Telemetry::new();
        let table = Arc::new(Table::new());
        let contact = Arc::new(Contact::default());
        let egress = if in_cluster { Egress::unknown() } else { Egress::anywhere() };
        let news = Newswire::default();
        let (changes, changed) = changes();
        let pool = Pool::new(
            changes.clone(),
            egress.clone(),
            news.clone(),
            stop.clone(),
            telemetry.clone(),
        );
        let (fleet, inboxes) = Fleet::new(keyring.peers.clone(), drain.clone(), telemetry.clone());
        let publisher = Publisher::new(table.clone(), pool, telemetry.clone(), changed);
        let access = if in_cluster {
            let hello = hello(options.pod);
            let (table, stop) = (table.clone(), stop.clone());
            Access::Tokens(keyring.clone(), Reporter { hello, table, news, stop })
        } else {
            Access::Open
        };
        let admin = Arc::new(Admin {
            table: table.clone(),
            telemetry: telemetry.clone(),
            contact: contact.clone(),
            config: config.clone(),
            fleet: fleet.clone(),
            access,
        });
        let homes = Homes::new();
        let (revivals, to_revive) = mpsc::channel(revival::QUEUE);
        let downstream = Arc::new(Downstream {
            authenticator: Authenticator { keyring: keyring.clone(), table: table.clone() },
            commons: Arc::new(Commons {
                table,
                homes: homes.clone(),
                sealer: keyring.sealer.clone(),
                room: Room::new(options.body_memory),
            }),
            tombstones: Arc::default(),
            calls: InFlight::new(),
            streams: Streams::new(),
            parked: Parked::at(fleet.own),
            fleet: fleet.clone(),
            revivals,
            telemetry,
            config,
            unkeyed: Arc::default(),
            allowed_hosts: options.allowed_hosts,
            show: if in_cluster { Status::Bare } else { Status::Detail },
            contact: contact.clone(),
            stop: drain.clone(),
        });

        match options.source {
            Source::Directories(directories) => {
                let source =
                    watch_directory(directories.clone(), pepper, changes, stop.clone()).await;
                tasks.spawn(source.map_err(|error| StartError::Source(directories, error))?);
            }
            Source::Cluster(cluster) => {
                let source = watch_cluster(cluster, changes, egress, contact, stop.clone());
                tasks.spawn(source.await?);
            }
        }
        tasks.spawn(publisher.run(stop.clone()));
        tasks.spawn(sweep(homes, stop.clone()));
        tasks.spawn(revive(downstream.clone(), to_revive, stop.clone()));
        tasks.spawn(serve_admin(admin_listener, admin, stop.clone()));
        let ending = Ending { drain, stop: stop.clone(), clients: TaskTracker::new() };
        let listeners = Listeners { clients: listener, peers };
        let workers = serve(listeners, &downstream, &ending).map_err(StartError::Workers)?;
        if let Some(address) = peer_address {
            fleet.listens_at(address.port());
            let Inboxes { parcels, announced } = inboxes;
            tasks.spawn(carry(fleet.clone(), parcels, stop.clone()));
            tasks.spawn(brief(downstream.clone(), stop.clone()));
            tasks.spawn(find(fleet.clone(), names, announced, stop));
        }
        tasks.close();
        running.disarm();
        let workers = Some(workers);
        Ok(Self { address, admin_address, peer_address, fleet, ending, tasks, workers })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics are served.
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Where other gateways connect, if they may.
    pub const fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address
    }

    /// Stops, for somebody who waits for it.
    pub async fn stop(self) {
        self.drain(AT_ONCE).await;
    }

    /// Stops: takes no more clients and ends each stream and connection when no call is open on it,
    /// within `grace`; what has not ended by then is cut.
    pub async fn drain(mut self, grace: Duration) {
        let Ending { drain, stop, clients } = &self.ending;
        drain.cancel();
        clients.close();
        let gone = async {
            self.fleet.parted().await;
            clients.wait().await;
        };
        // Those who stay longer are cut.
        let _ = timeout(grace, gone).await;
        stop.cancel();
        if let Some(workers) = self.workers.take() {
            // Joining threads blocks.
            let _ = tokio::task::spawn_blocking(move || workers.join()).await;
        }
        self.tasks.wait().await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.ending.stop.cancel();
    }
}

/// Gives up what nobody used for long.
async fn sweep(homes: Arc<Homes>, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(SWEEP)).await.is_some() {
        homes.sweep(Instant::now());
    }
}

/// What calls under way get when somebody waits for the end.
const AT_ONCE: Duration = Duration::from_millis(800);

/// How often idle sessions are looked for.
const SWEEP: Duration = Duration::from_secs(60);

fn hello(pod: Pod) -> Hello {
    let Pod { name, uid } = pod;
    Hello { pod: name, uid, version: env!("CARGO_PKG_VERSION").to_owned() }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
