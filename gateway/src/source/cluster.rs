//! Entries in Secrets of one namespace: the only place that knows the API of Kubernetes.
//!
//! The namespace is listed and watched. Whatever goes wrong with that takes nothing away: the last
//! good state stays in force, and the API is asked again for ever.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use gateway_core::Forbidden;
use k8s_openapi::api::core::v1::Secret;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;

use super::contact::Contact;
use crate::table::{Change, Changes};
use crate::upstream::Egress;
use objects::Objects;

mod objects;
mod read;

/// Where entries are in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The namespace that holds nothing but entries.
    pub namespace: String,
    /// How the API is reached; by default as every program in a pod does.
    pub kubeconfig: Option<PathBuf>,
}

/// Why the API of the cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No kubeconfig, and not in a pod.
    #[error("there is no way to the API of a cluster; run in a pod, or give a kubeconfig")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It names what cannot be used.
    #[error("cannot make a client for the API of the cluster")]
    Client(#[source] kube::Error),
}

/// How long one watch lasts. It is also how soon a connection that died without a word is noticed,
/// with five seconds of kube's own.
const WATCH: u32 = 30;
/// How long the API may take to answer: longer than a watch may be silent.
const READ: Duration = Duration::from_secs(40);
/// How long a connection to the API may take.
const CONNECT: Duration = Duration::from_secs(5);
/// After an error: what changes once the API is back is in force within a second, and many gateways
/// do not flood it.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_millis(500);

/// Watches the entries and sends what they say, until `stop`.
///
/// # Errors
/// No way to the API is configured. An API that does not answer is waited for.
pub(crate) async fn watch(
    cluster: Cluster,
    changes: Changes,
    egress: Arc<Egress>,
    contact: Arc<Contact>,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()>, ClusterError> {
    // Boxed: reading a kubeconfig takes much room, once.
    let client = Box::pin(client(&cluster, contact.clone())).await?;
    let secrets: Api<Secret> = Api::namespaced(client, &cluster.namespace);
    contact.lose("the entries were not read yet".to_owned());
    let mut source = Source { objects: Objects::default(), changes, egress, contact };
    Ok(async move {
        // Without a receiver of changes the gateway is stopping.
        let _ = stop.run_until_cancelled(Box::pin(source.run(secrets))).await;
    })
}

async fn client(cluster: &Cluster, contact: Arc<Contact>) -> Result<Client, ClusterError> {
    let mut config = config(cluster).await?;
    // Repeating is our own business, with other delays.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.reset_reader_on_write = true;
    let heard = MapResponseLayer::new(move |response: http::Response<_>| {
        if response.status().is_success() {
            contact.keep();
        }
        response
    });
    let builder = ClientBuilder::try_from(config).map_err(ClusterError::Client)?;
    Ok(builder.with_layer(&heard).build())
}

async fn config(cluster: &Cluster) -> Result<Config, ClusterError> {
    let Some(path) = &cluster.kubeconfig else {
        return Config::infer().await.map_err(|error| ClusterError::Config(error.into()));
    };
    let kubeconfig =
        Kubeconfig::read_from(path).map_err(|error| ClusterError::Config(error.into()))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(|error| ClusterError::Config(error.into()))
}

/// The gateway is stopping.
struct Stopping;

struct Source {
    objects: Objects,
    changes: Changes,
    egress: Arc<Egress>,
    contact: Arc<Contact>,
}

impl Source {
    /// Lists and watches for ever.
    async fn run(&mut self, secrets: Api<Secret>) -> Result<(), Stopping> {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let config = watcher::Config::default().timeout(WATCH);
            let mut events = pin!(watcher(secrets.clone(), config));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        // That a list has begun says nothing yet.
                        if !matches!(event, Event::Init) {
                            backoff = BACKOFF_FIRST;
                        }
                        if !self.take(event).await? {
                            break;
                        }
                    }
                    Err(error) => {
                        self.contact.lose(root_cause(&error));
                        sleep(backoff).await;
                        backoff = (backoff * 2).min(BACKOFF_LAST);
                    }
                }
            }
            // The list was not believed: it is made again from the beginning.
            sleep(BACKOFF_LAST).await;
        }
    }

    /// Takes one event in. False if it is not to be believed.
    async fn take(&mut self, event: Event<Secret>) -> Result<bool, Stopping> {
        let news = match event {
            Event::Init => {
                self.objects.begin_list();
                None
            }
            Event::InitApply(secret) => {
                self.objects.list(&secret);
                None
            }
            Event::InitDone => {
                let Some(news) = self.objects.end_list() else {
                    let reason = "the list of entries is empty, without even the config that the \
                                  operator writes there";
                    self.contact.doubt(Some(reason));
                    return Ok(false);
                };
                self.contact.doubt(None);
                Some(news)
            }
            Event::Apply(secret) => Some(self.objects.apply(&secret)),
            Event::Delete(secret) => Some(self.objects.delete(&secret)),
        };
        // Before the entries that may be there because of it.
        if let Some(forbidden) = self.objects.take_forbidden() {
            self.forbid(forbidden);
        }
        if let Some(news) = news {
            self.changes.send(Change::Source(news)).await.map_err(|_| Stopping)?;
        }
        Ok(true)
    }

    fn forbid(&self, forbidden: Forbidden) {
        let (ranges, allowed) = (forbidden.ranges.len(), forbidden.allowed.len());
        tracing::info!(ranges, allowed, "forbidden ranges of addresses are in force");
        self.egress.forbid(forbidden);
    }
}

/// The innermost cause says it best.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("{error}: {cause}")
}
