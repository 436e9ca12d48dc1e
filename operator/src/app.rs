//! Wires the operator.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use gateway_core::{Kind, Range};
use kube::core::DeserializeGuard;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config as ControllerConfig};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::Store;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bell::Bell;
use crate::context::{Context, Failures, Settings, id, reference};
use crate::entries::Entries;
use crate::gateways::stream::Followers;
use crate::gateways::{Bells, Gateways};
use crate::keyring::{self, KeyringError};
use crate::lease::{Candidate, Leadership};
use crate::objects::{Error, FIELD_MANAGER};
use crate::ranges::Ranges;
use crate::server::catalogs::Catalogs;
use crate::sweep::{self, Departed};
use crate::telemetry::{self, Telemetry};
use crate::world::{Changes, Listeners, World};
use crate::{key, policy, server};

/// Reconciles of one kind that run at a time: enough to hide the apiserver's latency, few enough
/// not to be throttled by it.
const CONCURRENCY: u16 = 16;
/// Between two looks at the ranges of the cluster: nodes come and go.
const RANGES: Duration = Duration::from_secs(30);
/// After a takeover, before what did not change is looked at: what did comes first.
const CALM: Duration = Duration::from_secs(2);

/// How to run an operator.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of the operator and the gateways.
    pub namespace: String,
    /// Holds the entries and nothing else.
    pub entries_namespace: String,
    /// Objects of the operator's own begin with it.
    pub release: String,
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

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Operator {
    /// Starts an operator. It writes as soon as it has listed everything and leads.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let listener = TcpListener::bind(options.admin_listen)
            .await
            .map_err(|error| StartError::Listen(options.admin_listen, error))?;
        let client = client().await?;
        let keyring = keyring::open(&client, &options.namespace, &options.release).await?;

        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let telemetry = Telemetry::new();
        let leadership = Arc::new(Leadership::default());
        let bells = Arc::new(Bells::default());
        let gateways = Arc::new(Gateways::new(bells.clone()));
        let stored = (client.clone(), &*options.entries_namespace, leadership.clone());
        let entries = Arc::new(Entries::new(stored.0.clone(), stored.1, stored.2.clone()));
        let catalogs = Arc::new(Catalogs::new(stored.0, stored.1, stored.2));
        let departed = Arc::new(Departed::default());
        let followers =
            Followers::new(gateways.clone(), keyring.admin.as_str().into(), stop.child_token());
        let listeners = Listeners {
            bells: bells.clone(),
            departed: departed.clone(),
            entries: entries.clone(),
            catalogs: catalogs.clone(),
        };
        let namespaces = (&*options.namespace, &*options.entries_namespace);
        let (world, watches) =
            World::watch(&client, namespaces, &options.gateway_labels, &listeners, followers);

        let lease = format!("{}-operator", options.release);
        let ctx = Arc::new(Context {
            settings: Settings {
                namespace: options.namespace.clone(),
                gateway_labels: options.gateway_labels,
                lease: lease.clone(),
                public_url: options.public_url,
            },
            recorder: Recorder::new(
                client.clone(),
                Reporter {
                    controller: FIELD_MANAGER.to_owned(),
                    instance: Some(options.identity.clone()),
                },
            ),
            client: client.clone(),
            world: world.clone(),
            entries,
            catalogs,
            gateways,
            bells: bells.clone(),
            leadership: leadership.clone(),
            keyring,
            telemetry: telemetry.clone(),
            failures: Failures::default(),
        });

        let run = Run { ctx: ctx.clone(), stop: stop.clone() };
        for other in watches.others {
            tasks.spawn(run.until_stop(other));
        }
        // A controller waits until its own kind is listed, and then for everything else too: see
        // `Run::control`.
        let (ready, is_ready) = watch::channel(false);
        let listed = watches.listed;
        let ranges = Ranges::new(
            client.clone(),
            &options.entries_namespace,
            leadership.clone(),
            options.forbidden_ranges,
            options.allowed_ranges,
        );
        let candidate =
            Candidate::new(client, &options.namespace, lease, options.identity, leadership);
        let (term_stop, lead) = (stop.clone(), run.lead(departed.clone(), ranges));
        tasks.spawn(run.until_stop(async move {
            listed.await;
            tracing::info!("everything is listed");
            ready.send_replace(true);
            // Held, or its receivers would take the operator for gone.
            std::future::pending::<()>().await;
            drop(ready);
        }));
        let mut first = is_ready.clone();
        tasks.spawn(async move {
            // Who leads must know everything.
            let listed = async { first.wait_for(|ready| *ready).await.is_ok() };
            if term_stop.run_until_cancelled(listed).await == Some(true) {
                candidate.run(term_stop).await;
            }
        });
        tasks.spawn(run.until_stop(lead));
        tasks.spawn(run.until_stop(sweep::run(ctx.clone(), departed)));
        tasks.spawn(run.control(
            "McpServer",
            (watches.servers, world.servers),
            bells.servers.clone(),
            is_ready.clone(),
            |server, ctx| async move { server::reconcile(&server, &ctx).await },
        ));
        tasks.spawn(run.control(
            "McpApiKey",
            (watches.keys, world.keys),
            bells.keys.clone(),
            is_ready.clone(),
            |key, ctx| async move { key::reconcile(&key, &ctx).await },
        ));
        tasks.spawn(run.control(
            "McpPolicy",
            (watches.policies, world.policies),
            bells.policies.clone(),
            is_ready.clone(),
            |policy, ctx| async move { policy::reconcile(&policy, &ctx).await },
        ));
        tasks.spawn(telemetry::serve(listener, telemetry, is_ready, stop.child_token()));
        tasks.close();
        Ok(Self { stop, tasks })
    }

    /// Stops: the Lease is released, so that a standby need not wait.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

async fn client() -> Result<Client, StartError> {
    let mut config = kube::Config::infer().await.map_err(StartError::Config)?;
    // Each call has a bound of ours; retries within it would use it up.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| StartError::Client(Box::new(error)))
}

/// What runs until the operator stops.
struct Run {
    ctx: Arc<Context>,
    stop: CancellationToken,
}

impl Run {
    fn until_stop<T>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let stop = self.stop.clone();
        async move {
            let _ = stop.run_until_cancelled(task).await;
        }
    }

    /// Reconciles the objects of a kind, whenever one of them changes or its bell rings.
    fn control<K, F, R>(
        &self,
        kind: &'static str,
        (changes, store): (Changes<DeserializeGuard<K>>, Store<DeserializeGuard<K>>),
        bell: Arc<Bell>,
        ready: watch::Receiver<bool>,
        reconcile: F,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        F: Fn(Arc<K>, Arc<Context>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Action, Error>> + Send + 'static,
    {
        let ctx = self.ctx.clone();
        let reconcile = move |object: Arc<DeserializeGuard<K>>, ctx: Arc<Context>| {
            let (reconcile, mut ready) = (reconcile.clone(), ready.clone());
            async move {
                // What it would be compared with has to be known.
                let known = ready.wait_for(|ready| *ready).await.is_ok();
                // A standby is woken by nothing: who begins to lead looks at everything.
                if !known || ctx.leadership.term().is_none() {
                    return Ok(Action::await_change());
                }
                let object = match &object.0 {
                    Ok(object) => Arc::new(object.clone()),
                    Err(invalid) => {
                        let name = invalid.metadata.name.as_deref().unwrap_or_default();
                        tracing::warn!(kind, name, error = %invalid.error, "a resource cannot be read");
                        return Ok(Action::await_change());
                    }
                };
                let (began, named) = (Instant::now(), id(object.meta()));
                let done = reconcile(object, ctx.clone()).await;
                ctx.telemetry.reconciled(kind, began.elapsed().as_secs_f64());
                if done.is_ok() {
                    ctx.failures.clear(kind, &named);
                }
                done
            }
        };
        let again = move |object: Arc<DeserializeGuard<K>>, error: &Error, ctx: Arc<Context>| {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            ctx.telemetry.failed(kind, error.reason());
            if matches!(error, Error::NotLeader) {
                return Action::await_change();
            }
            if error.is_conflict() {
                tracing::debug!(kind, namespace, name, "another write came first; trying again");
            } else {
                let source = std::error::Error::source(error).map(ToString::to_string);
                let source = source.unwrap_or_default();
                tracing::warn!(kind, namespace, name, %error, source, "a reconcile failed and is tried again");
            }
            ctx.failures.again(kind, (namespace, name), error)
        };
        let controller = Controller::for_stream(changes, store)
            .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
            .reconcile_on(bell.listen())
            .graceful_shutdown_on(self.stop.clone().cancelled_owned());
        controller.run(reconcile, again, ctx).for_each(|_| std::future::ready(()))
    }

    /// What a replica does when it begins to lead, and from time to time while it does.
    fn lead(
        &self,
        departed: Arc<Departed>,
        ranges: Ranges,
    ) -> impl Future<Output = ()> + Send + 'static {
        let ctx = self.ctx.clone();
        async move {
            let mut term = ctx.leadership.watch();
            loop {
                let leads = term.borrow_and_update().is_some();
                ctx.telemetry.leading.set(i64::from(leads));
                if leads {
                    // What is gone first: somebody may have revoked a key while nobody led.
                    departed.look();
                    ring_changed(&ctx);
                    let calm = async {
                        sleep(CALM).await;
                        ring_all(&ctx);
                        loop {
                            if let Err(error) = ranges.update().await {
                                tracing::warn!(%error, "cannot write the ranges of the cluster");
                            }
                            let ready = i64::try_from(ctx.gateways.ready()).unwrap_or(i64::MAX);
                            ctx.telemetry.gateways.set(ready);
                            sleep(RANGES).await;
                        }
                    };
                    tokio::select! {
                        changed = term.changed() => if changed.is_err() { return },
                        () = calm => {}
                    }
                } else if term.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Rings for every object whose entry is not of its present generation.
fn ring_changed(ctx: &Context) {
    fn changed<K>(ctx: &Context, kind: Kind, store: &Store<DeserializeGuard<K>>, bell: &Bell)
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        let changed = store.state().into_iter().filter_map(|object| {
            let meta = object.meta();
            let stored = ctx.entries.of(&reference(kind, meta)).and_then(|stored| stored.record);
            let same = stored.is_some_and(|record| {
                Some(&record.uid) == meta.uid.as_ref() && Some(record.generation) == meta.generation
            });
            (!same).then(|| id(meta))
        });
        bell.ring_all(changed.collect::<Vec<_>>());
    }
    let Context { world, bells, .. } = ctx;
    changed(ctx, Kind::Key, &world.keys, &bells.keys);
    changed(ctx, Kind::Policy, &world.policies, &bells.policies);
    changed(ctx, Kind::Server, &world.servers, &bells.servers);
}

/// Rings for every object.
fn ring_all(ctx: &Context) {
    fn all<K>(store: &Store<DeserializeGuard<K>>, bell: &Bell)
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        bell.ring_all(store.state().iter().map(|object| id(object.meta())).collect::<Vec<_>>());
    }
    let Context { world, bells, .. } = ctx;
    all(&world.keys, &bells.keys);
    all(&world.policies, &bells.policies);
    all(&world.servers, &bells.servers);
}
