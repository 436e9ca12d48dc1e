//! The cluster as it was last seen: one store for each kind that matters, and for whom to ring when
//! something in it changes.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use crds::{McpApiKey, McpPolicy, McpServer};
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, Stream};
use futures_util::{FutureExt, StreamExt};
use gateway_core::{Kind, ResourceRef};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use tokio::sync::oneshot;

use crate::bell::Id;
use crate::context::Failures;
use crate::entries::Entries;
use crate::gateways::stream::{Followers, address};
use crate::gateways::{Bells, Gateways};
use crate::merge::Change;
use crate::server::catalogs::Catalogs;
use crate::server::names::{MANAGED, SERVER};
use crate::sweep::Departed;
use crate::telemetry::Telemetry;

mod follow;
mod ring;

use follow::{Scope, follow};

/// Objects in one answer of the apiserver when entries and lists are read: with lists they may be
/// a megabyte each.
const PAGE: u32 = 100;

/// The cluster as it was last seen.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) resources: Resources,
    services: Store<Service>,
    deployments: Store<Deployment>,
    service_accounts: Store<ServiceAccount>,
    network_policies: Store<NetworkPolicy>,
    pods: Store<Pod>,
    gateways: Store<Pod>,
    /// Their names and owners only: values are read when they are needed.
    secrets: Store<PartialObjectMeta<Secret>>,
}

/// Resources of ours.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    pub(crate) servers: Store<DeserializeGuard<McpServer>>,
    pub(crate) keys: Store<DeserializeGuard<McpApiKey>>,
    pub(crate) policies: Store<DeserializeGuard<McpPolicy>>,
}

/// Objects of a kind as they come, for its controller.
pub(crate) type Changes<K> = Pin<Box<dyn Stream<Item = K> + Send>>;

/// What has to be polled for the world to be kept up.
pub(crate) struct Watches {
    pub(crate) servers: Changes<DeserializeGuard<McpServer>>,
    pub(crate) keys: Changes<DeserializeGuard<McpApiKey>>,
    pub(crate) policies: Changes<DeserializeGuard<McpPolicy>>,
    /// Everything else.
    pub(crate) others: Vec<BoxFuture<'static, ()>>,
    /// Done when everything was listed once.
    pub(crate) listed: BoxFuture<'static, ()>,
}

/// Whom to tell.
#[derive(Clone)]
pub(crate) struct Listeners {
    pub(crate) bells: Arc<Bells>,
    pub(crate) departed: Arc<Departed>,
    pub(crate) entries: Arc<Entries>,
    pub(crate) catalogs: Arc<Catalogs>,
    pub(crate) gateways: Arc<Gateways>,
    pub(crate) failures: Arc<Failures>,
}

/// What to watch.
#[derive(Debug)]
pub(crate) struct Where<'a> {
    /// Of the operator and the gateways.
    pub(crate) own: &'a str,
    /// Holds the entries.
    pub(crate) entries: &'a str,
    /// Where resources of ours are; none for everywhere.
    pub(crate) resources: Option<&'a BTreeSet<String>>,
    pub(crate) gateway_labels: &'a [(String, String)],
}

impl World {
    /// Begins to watch.
    pub(crate) fn watch(
        client: &Client,
        places: &Where<'_>,
        listeners: &Listeners,
        followers: Followers,
        telemetry: &Arc<Telemetry>,
    ) -> (Self, Watches) {
        let namespaces = places.resources.map(|all| all.iter().cloned().collect());
        let scope = Scope { client: client.clone(), namespaces, telemetry: telemetry.clone() };
        let all = watcher::Config::default();
        let managed = watcher::Config::default().labels(MANAGED);
        let mut others = Vec::new();

        let touch = ring::resource(Kind::Policy, listeners, |_| BTreeSet::new(), None);
        let (policies, policy_changes) = follow(scope.everywhere(&all), |_| {}, touch);
        let meant = || Some(policies.clone());
        let touch = ring::resource(Kind::Server, listeners, ring::audience_of_server, meant());
        let (servers, server_changes) = follow(scope.everywhere(&all), |_| {}, touch);
        let touch = ring::resource(Kind::Key, listeners, ring::audience_of_key, meant());
        let (keys, key_changes) = follow(scope.everywhere(&all), |_| {}, touch);
        let resources = Resources { servers, keys, policies };

        let touch = ring::service(listeners, &resources.servers);
        let (services, run) = follow(scope.everywhere(&all), |_| {}, touch);
        others.push(drain(run));
        let (deployments, run) = follow(scope.everywhere(&managed), |_| {}, ring::owned(listeners));
        others.push(drain(run));
        let (service_accounts, run) =
            follow(scope.everywhere(&managed), |_| {}, ring::owned(listeners));
        others.push(drain(run));
        let (network_policies, run) =
            follow(scope.everywhere(&managed), |_| {}, ring::owned(listeners));
        others.push(drain(run));
        let (pods, run) = follow(scope.everywhere(&managed), |_| {}, ring::owned(listeners));
        others.push(drain(run));

        let labels = places.gateway_labels.iter().map(|(name, value)| format!("{name}={value}"));
        let config = watcher::Config::default().labels(&labels.collect::<Vec<_>>().join(","));
        let (gateways, run) =
            follow(scope.within(places.own, config), |_| {}, ring::gateway(followers));
        others.push(drain(run));

        let elsewhere = format!("metadata.namespace!={}", places.entries);
        let config = watcher::Config::default().fields(&elsewhere);
        let touch = ring::secret(listeners, &resources.servers, &resources.keys);
        let (secrets, run) = follow(scope.everywhere(&config), only_owners, touch);
        others.push(drain(run));

        // What they hold is known to those who are told.
        let without_data = |secret: &mut Secret| secret.data = None;
        let config = watcher::Config::default().page_size(PAGE);
        let touch = ring::stored(listeners, &resources);
        let (entries, run) = follow(scope.within(places.entries, config), without_data, touch);
        others.push(drain(run));

        let world = Self {
            resources,
            services,
            deployments,
            service_accounts,
            network_policies,
            pods,
            gateways,
            secrets,
        };
        let (server_changes, servers) = announcing(server_changes);
        let (key_changes, keys) = announcing(key_changes);
        let (policy_changes, policies) = announcing(policy_changes);
        let watches = Watches {
            servers: applied(server_changes),
            keys: applied(key_changes),
            policies: applied(policy_changes),
            others,
            listed: world.clone().listed([servers, keys, policies], entries).boxed(),
        };
        (world, watches)
    }

    async fn listed(self, resources: [oneshot::Receiver<()>; 3], entries: Store<Secret>) {
        // An error means that its writer is gone: the operator stops.
        let _ = tokio::join!(
            join_all(resources),
            self.services.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.service_accounts.wait_until_ready(),
            self.network_policies.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.gateways.wait_until_ready(),
            self.secrets.wait_until_ready(),
            entries.wait_until_ready(),
        );
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(&ObjectRef::new(name).within(namespace))
    }

    pub(crate) fn deployment(&self, namespace: &str, name: &str) -> Option<Arc<Deployment>> {
        self.deployments.get(&ObjectRef::new(name).within(namespace))
    }

    pub(crate) fn service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<ServiceAccount>> {
        self.service_accounts.get(&ObjectRef::new(name).within(namespace))
    }

    pub(crate) fn network_policy(&self, namespace: &str, name: &str) -> Option<Arc<NetworkPolicy>> {
        self.network_policies.get(&ObjectRef::new(name).within(namespace))
    }

    /// Pods that run a server, in the order of their names.
    pub(crate) fn pods_of(&self, namespace: &str, server: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.state_filter(|pod| {
            pod.metadata.namespace.as_deref() == Some(namespace)
                && pod.labels().get(SERVER).is_some_and(|name| name == server)
        });
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        pods
    }

    /// Names of the Secrets that belong to a resource with this UID.
    pub(crate) fn secrets_of(&self, namespace: &str, uid: &str) -> Vec<String> {
        let is_its = |secret: &PartialObjectMeta<Secret>| {
            secret.metadata.namespace.as_deref() == Some(namespace)
                && secret.owner_references().iter().any(|owner| owner.uid == uid)
        };
        self.secrets.state_filter(is_its).iter().map(|secret| secret.name_any()).collect()
    }

    /// The admin port of a gateway.
    pub(crate) fn gateway_address(&self, pod: &str) -> Option<String> {
        let find = |candidate: &Pod| candidate.name_any() == pod;
        address(&*self.gateways.find(find)?)
    }

    /// Keys of a namespace.
    pub(crate) fn keys_in(&self, namespace: &str) -> Vec<Arc<DeserializeGuard<McpApiKey>>> {
        let here =
            |key: &DeserializeGuard<McpApiKey>| key.meta().namespace.as_deref() == Some(namespace);
        self.resources.keys.state_filter(here)
    }

    /// Names of the servers that rules of a namespace can mean.
    pub(crate) fn servers_known_to(&self, namespace: &str) -> Vec<String> {
        let is_known = |server: &DeserializeGuard<McpServer>| {
            server.0.as_ref().is_ok_and(|server| {
                let mut exposed = server.spec.expose_to.iter().flatten();
                server.metadata.namespace.as_deref() == Some(namespace)
                    || exposed.any(|to| to == namespace)
            })
        };
        let known = self.resources.servers.state_filter(is_known);
        let name = |server: &Arc<DeserializeGuard<McpServer>>| {
            let (home, name) = crate::context::id(server.meta());
            if home == namespace { name } else { format!("{home}/{name}") }
        };
        known.iter().map(name).collect()
    }
}

impl Resources {
    /// UID of a resource, if it is there.
    pub(crate) fn uid_of(&self, resource: &ResourceRef) -> Option<String> {
        fn uid<K>(store: &Store<DeserializeGuard<K>>, resource: &ResourceRef) -> Option<String>
        where
            K: Resource<DynamicType = ()> + Clone + 'static,
        {
            let reference = ObjectRef::new(&resource.name).within(resource.namespace.as_str());
            store.get(&reference)?.meta().uid.clone()
        }
        match resource.kind {
            Kind::Server => uid(&self.servers, resource),
            Kind::Key => uid(&self.keys, resource),
            Kind::Policy => uid(&self.policies, resource),
        }
    }

    /// Namespace and name of all of a kind.
    pub(crate) fn all(&self, kind: Kind) -> Vec<Id> {
        fn all<K>(store: &Store<DeserializeGuard<K>>) -> Vec<Id>
        where
            K: Resource<DynamicType = ()> + Clone + 'static,
        {
            store.state().iter().map(|object| crate::context::id(object.meta())).collect()
        }
        match kind {
            Kind::Server => all(&self.servers),
            Kind::Key => all(&self.keys),
            Kind::Policy => all(&self.policies),
        }
    }
}

/// What a Secret's value has no part in. An annotation of kubectl may repeat the value.
fn only_owners(secret: &mut PartialObjectMeta<Secret>) {
    let ObjectMeta { name, namespace, uid, resource_version, owner_references, .. } =
        std::mem::take(&mut secret.metadata);
    secret.metadata = ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        owner_references,
        ..ObjectMeta::default()
    };
}

fn drain<K: Send>(
    changes: impl Stream<Item = Change<K>> + Send + 'static,
) -> BoxFuture<'static, ()> {
    changes.for_each(|_| std::future::ready(())).boxed()
}

/// Tells when everything of a kind was listed. Its store does too, but wakes only one of those who
/// wait for it (kube-runtime 5.0, `DelayedInit`), and the controller of the kind waits for it.
fn announcing<K>(
    changes: impl Stream<Item = Change<K>>,
) -> (impl Stream<Item = Change<K>>, oneshot::Receiver<()>) {
    let (sender, listed) = oneshot::channel();
    let mut sender = Some(sender);
    let changes = changes.inspect(move |change| {
        if matches!(change, Change::Listed(_))
            && let Some(sender) = sender.take()
        {
            // Nobody waits in an operator that stops.
            let _ = sender.send(());
        }
    });
    (changes, listed)
}

/// What a controller has to look at.
fn applied<K: Send + 'static>(
    changes: impl Stream<Item = Change<K>> + Send + 'static,
) -> Changes<K> {
    let objects = changes.flat_map(|change| {
        stream::iter(match change {
            Change::Listed(all) => all,
            Change::Seen(object) => vec![object],
            Change::Gone(_) | Change::Missing(_) => Vec::new(),
        })
    });
    objects.boxed()
}

#[cfg(test)]
mod tests;
