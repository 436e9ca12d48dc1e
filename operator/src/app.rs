//! Wires the operator.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use gateway_core::{Kind, Range};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin};
use crate::context::{Context, Failures, Settings};
use crate::control::Control;
use crate::entries::Entries;
use crate::gateways::stream::Followers;
use crate::gateways::{Bells, Gateways};
use crate::keyring::{self, Keyring, KeyringError};
use crate::lease::{Candidate, Leadership};
use crate::objects::FIELD_MANAGER;
use crate::ranges::Ranges;
use crate::server::catalogs::Catalogs;
use crate::sweep::{self, Departed};
use crate::telemetry::Telemetry;
use crate::world::{Listeners, Watches, Where, World};
use crate::{key, policy, server, term};

/// How long a connection to the apiserver may take, and how long one may be silent: longer than a
/// watch.
const CONNECT: Duration = Duration::from_secs(5);
const READ: Duration = Duration::from_secs(40);
/// Between two attempts to read the keyring.
const RETRY: Duration = Duration::from_secs(1);

/// How to run an operator.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of the operator and the gateways.
    pub namespace: String,
    /// Holds the entries and nothing else.
    pub entries_namespace: String,
    /// Objects of the operator's own begin with it.
    pub release: String,
    /// Where resources are looked for; everywhere if there is none.
    pub watch_namespaces: BTreeSet<String>,
    /// Of the gateways' pods.
    pub gateway_labels: Vec<(String, String)>,
    /// Where clients reach the gateway.
    pub public_url: String,
    /// Where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// Besides those of the cluster.
    pub forbidden_ranges: Vec<Range>,
    /// In spite of those of the cluster.
    pub allowed_ranges: Vec<Range>,
    /// Who this operator is among its replicas.
    pub identity: String,
}

/// Why an operator does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// There is neither a service account nor a kubeconfig.
    #[error("cannot find out how to reach the apiserver")]
    Config(#[source] kube::config::InferConfigError),
    /// See [`kube::Error`].
    #[error("cannot speak with the apiserver")]
    Client(#[source] Box<kube::Error>),
    /// See [`KeyringError`].
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// A running operator. One that is dropped stops too, but is not waited for.
#[derive(Debug)]
pub struct Operator {
    stop: CancellationToken,
    tasks: TaskTracker,
    _stopped_when_dropped: DropGuard,
}

impl Operator {
    /// Starts an operator. It writes as soon as it has listed everything and leads.
    ///
    /// # Errors
    /// See [`StartError`]. An apiserver that does not answer is waited for.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let listener = TcpListener::bind(options.admin_listen)
            .await
            .map_err(|error| StartError::Listen(options.admin_listen, error))?;
        Self::start_with(client().await?, listener, options).await
    }

    /// Starts an operator with a client and a port that exist already.
    pub(crate) async fn start_with(
        client: Client,
        listener: TcpListener,
        options: Options,
    ) -> Result<Self, StartError> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let guard = stop.clone().drop_guard();
        let telemetry = Telemetry::new();
        let bells = Arc::new(Bells::default());
        let gateways = Arc::new(Gateways::new(bells.clone()));
        let (ready, is_ready) = watch::channel(false);
        let known = Arc::new(OnceLock::new());
        let admin = Admin {
            telemetry: telemetry.clone(),
            gateways: gateways.clone(),
            ready: is_ready.clone(),
            keyring: known.clone(),
        };
        tasks.spawn(admin::serve(listener, admin, stop.child_token()));

        let keyring = Arc::new(ArcSwap::from_pointee(keyring(&client, &options).await?));
        // Nobody else sets it.
        let _ = known.set(keyring.clone());
        let leadership = Arc::new(Leadership::default());
        let place = options.entries_namespace.clone();
        let stored = || (client.clone(), &*place, leadership.clone());
        let (at, within, by) = stored();
        let entries = Arc::new(Entries::new(at, within, by, telemetry.clone()));
        let (at, within, by) = stored();
        let catalogs = Arc::new(Catalogs::new(at, within, by));
        let departed = Arc::new(Departed::default());
        let failures = Arc::new(Failures::default());
        let listeners = Listeners {
            bells: bells.clone(),
            departed: departed.clone(),
            entries: entries.clone(),
            catalogs: catalogs.clone(),
            gateways: gateways.clone(),
            failures: failures.clone(),
        };
        let followers = Followers::new(gateways.clone(), keyring.clone(), stop.child_token());
        let settings = settings(&options);
        let places = Where {
            own: &settings.namespace,
            entries: &place,
            resources: settings.watch_namespaces.as_ref(),
            gateway_labels: &settings.gateway_labels,
        };
        let (world, watches) = World::watch(&client, &places, &listeners, followers, &telemetry);
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: Some(options.identity.clone()),
        };
        let (at, within, by) = stored();
        let ranges = Ranges::new(at, within, by, options.forbidden_ranges, options.allowed_ranges);
        let (namespace, lease) = (settings.namespace.clone(), settings.lease.clone());
        let ctx = Arc::new(Context {
            settings,
            recorder: Recorder::new(client.clone(), reporter),
            client: client.clone(),
            world,
            entries: entries.clone(),
            catalogs,
            gateways,
            bells,
            leadership: leadership.clone(),
            keyring,
            telemetry,
            failures,
        });
        let highest = move || entries.highest_term();
        let candidate =
            Candidate::new(client, &namespace, lease, options.identity, leadership, highest);
        let following = {
            let ctx = ctx.clone();
            async move {
                let (own, keys) = (&ctx.settings.namespace, &ctx.world.resources);
                let changed = || ctx.bells.keys.ring_all(keys.all(Kind::Key));
                keyring::follow(&ctx.client, own, &options.release, &ctx.keyring, changed).await;
            }
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(following));
        run(&ctx, &tasks, &stop, Parts { watches, ready, is_ready, candidate, departed, ranges });
        tasks.close();
        Ok(Self { stop, tasks, _stopped_when_dropped: guard })
    }

    /// Stops: the Lease is released, so that a standby need not wait.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// What is set in motion.
struct Parts {
    watches: Watches,
    ready: watch::Sender<bool>,
    is_ready: watch::Receiver<bool>,
    candidate: Candidate,
    departed: Arc<Departed>,
    ranges: Ranges,
}

fn run(ctx: &Arc<Context>, tasks: &TaskTracker, stop: &CancellationToken, parts: Parts) {
    let Parts { watches, ready, is_ready, candidate, departed, ranges } = parts;
    let Watches { servers, keys, policies, others, listed } = watches;
    let spawn = |task: BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tasks.spawn(async move {
            let _ = stop.run_until_cancelled(task).await;
        });
    };
    others.into_iter().for_each(&spawn);
    // Held as long as the operator runs: its receivers would take it for gone.
    spawn(Box::pin(async move {
        listed.await;
        tracing::info!("everything is listed");
        ready.send_replace(true);
        std::future::pending::<()>().await;
        drop(ready);
    }));
    spawn(Box::pin(ctx.bells.clone().ring_later()));
    spawn(Box::pin(term::run(ctx.clone(), departed.clone(), ranges)));
    spawn(Box::pin(sweep::run(ctx.clone(), departed)));
    // Lets go of the Lease when it stops, and so is not cut short.
    tasks.spawn(lead(candidate, is_ready.clone(), stop.clone()));

    let (bells, world) = (&ctx.bells, &ctx.world.resources);
    let controls = |kind| Control { kind, ready: is_ready.clone(), stop: stop.clone() };
    tasks.spawn(controls(Kind::Server).run(
        ctx.clone(),
        (servers, world.servers.clone()),
        bells.servers.clone(),
        |server, ctx| async move { server::reconcile(&server, &ctx).await },
    ));
    tasks.spawn(controls(Kind::Key).run(
        ctx.clone(),
        (keys, world.keys.clone()),
        bells.keys.clone(),
        |key, ctx| async move { key::reconcile(&key, &ctx).await },
    ));
    tasks.spawn(controls(Kind::Policy).run(
        ctx.clone(),
        (policies, world.policies.clone()),
        bells.policies.clone(),
        |policy, ctx| async move { policy::reconcile(&policy, &ctx).await },
    ));
}

/// Leads whenever it can, once everything is known.
async fn lead(candidate: Candidate, mut ready: watch::Receiver<bool>, stop: CancellationToken) {
    let known = async { ready.wait_for(|ready| *ready).await.is_ok() };
    if stop.run_until_cancelled(known).await == Some(true) {
        candidate.run(stop).await;
    }
}

fn settings(options: &Options) -> Settings {
    let watched = &options.watch_namespaces;
    Settings {
        namespace: options.namespace.clone(),
        watch_namespaces: (!watched.is_empty()).then(|| watched.clone()),
        gateway_labels: options.gateway_labels.clone(),
        lease: format!("{}-operator", options.release),
        public_url: options.public_url.clone(),
    }
}

/// Reads the keyring, however long the apiserver takes.
async fn keyring(client: &Client, options: &Options) -> Result<Keyring, KeyringError> {
    let mut failing = false;
    loop {
        match keyring::open(client, &options.namespace, &options.release).await {
            Err(KeyringError::Api(name, error)) => {
                if !std::mem::replace(&mut failing, true) {
                    let source = error.source().map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(name, %error, source, "the keyring cannot be read or made; trying again");
                }
                sleep(RETRY).await;
            }
            other => return other,
        }
    }
}

async fn client() -> Result<Client, StartError> {
    let mut config = kube::Config::infer().await.map_err(StartError::Config)?;
    // Each call has a bound of ours; retries within it would use it up.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| StartError::Client(Box::new(error)))
}

#[cfg(test)]
mod tests;
