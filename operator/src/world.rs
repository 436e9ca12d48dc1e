//! The cluster as it was last seen: one store for each kind that matters, and for whom to ring when
//! something in it changes.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use crds::{McpApiKey, McpPolicy, McpServer};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use gateway_core::{Kind, Namespace, ResourceRef};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::entries::{ENTRY_TYPE, Entries};
use crate::gateways::Bells;
use crate::gateways::stream::{Followers, address};
use crate::key::output_name;
use crate::server::catalogs::{CATALOG_TYPE, Catalogs};
use crate::server::names::{MANAGED, SERVER};
use crate::sweep::Departed;

/// The cluster as it was last seen.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) servers: Store<DeserializeGuard<McpServer>>,
    pub(crate) keys: Store<DeserializeGuard<McpApiKey>>,
    pub(crate) policies: Store<DeserializeGuard<McpPolicy>>,
    services: Store<Service>,
    deployments: Store<Deployment>,
    service_accounts: Store<ServiceAccount>,
    network_policies: Store<NetworkPolicy>,
    pods: Store<Pod>,
    gateways: Store<Pod>,
}

/// Objects of a kind as they come, for its controller.
pub(crate) type Changes<K> =
    std::pin::Pin<Box<dyn Stream<Item = Result<K, watcher::Error>> + Send>>;

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
}

/// What happened to an object.
enum Touch<'a, K> {
    Seen(&'a K),
    Gone(&'a K),
    /// A full list begins; what it does not have is gone.
    Listing,
    Listed,
}

impl World {
    /// Begins to watch.
    pub(crate) fn watch(
        client: &Client,
        namespaces: (&str, &str),
        gateway_labels: &[(String, String)],
        listeners: &Listeners,
        followers: Followers,
    ) -> (Self, Watches) {
        let (own, entries) = namespaces;
        let mut others = Vec::new();
        let managed = || watcher::Config::default().labels(MANAGED);

        let (policies, policy_changes) =
            resources::<McpPolicy>(client, Kind::Policy, listeners, |_| {});
        // Whom a policy applies to stands in its status.
        let ring = ring_policies(&listeners.bells, &policies);
        let (servers, server_changes) =
            resources::<McpServer>(client, Kind::Server, listeners, ring);
        let ring = ring_policies(&listeners.bells, &policies);
        let (keys, key_changes) = resources::<McpApiKey>(client, Kind::Key, listeners, ring);

        let bells = listeners.bells.clone();
        let known = servers.clone();
        let (services, run) =
            follow(Api::<Service>::all(client.clone()), watcher::Config::default(), move |touch| {
                if let Touch::Seen(service) | Touch::Gone(service) = touch {
                    ring_for_service(&bells, &known, service);
                }
            });
        others.push(run.boxed());
        let (deployments, run) = follow(Api::all(client.clone()), managed(), owned(listeners));
        others.push(run.boxed());
        let (service_accounts, run) = follow(Api::all(client.clone()), managed(), owned(listeners));
        others.push(run.boxed());
        let (network_policies, run) = follow(Api::all(client.clone()), managed(), owned(listeners));
        others.push(run.boxed());
        let (pods, run) = follow(Api::all(client.clone()), managed(), owned(listeners));
        others.push(run.boxed());

        let labels: Vec<String> =
            gateway_labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let config = watcher::Config::default().labels(&labels.join(","));
        let (gateways, run) =
            follow(Api::namespaced(client.clone(), own), config, follow_gateways(followers));
        others.push(run.boxed());

        // Only their names: values are read when they are needed.
        let elsewhere =
            watcher::Config::default().fields(&format!("metadata.namespace!={entries}"));
        let bells = listeners.bells.clone();
        let (known_servers, known_keys) = (servers.clone(), keys.clone());
        let (secrets, run) = follow(
            Api::<PartialObjectMeta<Secret>>::all(client.clone()),
            elsewhere,
            move |touch| {
                if let Touch::Seen(secret) | Touch::Gone(secret) = touch {
                    ring_for_secret(&bells, &known_servers, &known_keys, &secret.metadata);
                }
            },
        );
        others.push(run.boxed());

        let stored = stored(listeners, &servers, &keys, &policies);
        let (entries, run) = follow(
            Api::<Secret>::namespaced(client.clone(), entries),
            watcher::Config::default(),
            stored,
        );
        others.push(run.boxed());

        let world = Self {
            servers,
            keys,
            policies,
            services,
            deployments,
            service_accounts,
            network_policies,
            pods,
            gateways,
        };
        let listed = world.clone().listed(secrets, entries).boxed();
        let (servers, keys, policies) = (server_changes, key_changes, policy_changes);
        (world, Watches { servers, keys, policies, others, listed })
    }

    async fn listed(self, secrets: Store<PartialObjectMeta<Secret>>, entries: Store<Secret>) {
        // An error means that its writer is gone: the operator stops.
        let _ = tokio::join!(
            self.servers.wait_until_ready(),
            self.keys.wait_until_ready(),
            self.policies.wait_until_ready(),
            self.services.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.service_accounts.wait_until_ready(),
            self.network_policies.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.gateways.wait_until_ready(),
            secrets.wait_until_ready(),
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

    /// Pods that run a server.
    pub(crate) fn pods_of(&self, namespace: &str, server: &str) -> Vec<Arc<Pod>> {
        let is_its = |pod: &Arc<Pod>| {
            pod.metadata.namespace.as_deref() == Some(namespace)
                && pod.labels().get(SERVER).is_some_and(|name| name == server)
        };
        self.pods.state().into_iter().filter(is_its).collect()
    }

    /// The admin port of a gateway.
    pub(crate) fn gateway_address(&self, pod: &str) -> Option<String> {
        let find = |candidate: &Pod| candidate.name_any() == pod;
        address(&*self.gateways.find(find)?)
    }

    /// The keys of a namespace that can be read.
    pub(crate) fn keys_in(&self, namespace: &str) -> Vec<McpApiKey> {
        let keys = self.keys.state().into_iter();
        keys.filter_map(|key| key.0.as_ref().ok().cloned())
            .filter(|key| key.metadata.namespace.as_deref() == Some(namespace))
            .collect()
    }

    /// Names of the servers that rules of a namespace can mean.
    pub(crate) fn servers_known_to(&self, namespace: &str) -> Vec<String> {
        let servers = self.servers.state().into_iter();
        servers
            .filter_map(|server| {
                let server = server.0.as_ref().ok()?;
                let (home, name) = (server.metadata.namespace.as_deref()?, server.name_any());
                if home == namespace {
                    return Some(name);
                }
                let exposed = server.spec.expose_to.as_ref()?.iter().any(|to| to == namespace);
                exposed.then(|| format!("{home}/{name}"))
            })
            .collect()
    }

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
}

/// Keeps a store of a kind.
fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    touch: impl FnMut(Touch<'_, K>) + Send + 'static,
) -> (Store<K>, impl Future<Output = ()> + Send)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Default + Eq + Hash + Send + Sync,
{
    let (store, changes) = changes(api, config, touch);
    (store, changes.for_each(|_| std::future::ready(())))
}

fn changes<K>(
    api: Api<K>,
    config: watcher::Config,
    mut touch: impl FnMut(Touch<'_, K>) + Send + 'static,
) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Default + Eq + Hash + Send + Sync,
{
    let (store, writer) = reflector::store();
    let mut failing = false;
    let changes = watch(api, config)
        .default_backoff()
        .reflect(writer)
        .inspect(move |event| {
            if let Err(error) = event
                && !std::mem::replace(&mut failing, true)
            {
                tracing::warn!(%error, "a watch failed and is tried again");
            }
            failing = event.is_err();
        })
        .inspect_ok(move |event| match event {
            Event::Init => touch(Touch::Listing),
            Event::InitDone => touch(Touch::Listed),
            Event::InitApply(object) | Event::Apply(object) => touch(Touch::Seen(object)),
            Event::Delete(object) => touch(Touch::Gone(object)),
        })
        .applied_objects();
    (store, changes)
}

/// Resources of ours.
fn resources<K>(
    client: &Client,
    kind: Kind,
    listeners: &Listeners,
    changed: impl Fn(&str) + Send + 'static,
) -> (Store<DeserializeGuard<K>>, Changes<DeserializeGuard<K>>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let departed = listeners.departed.clone();
    let touch = move |touch: Touch<'_, DeserializeGuard<K>>| match touch {
        Touch::Seen(object) => changed(object.meta().namespace.as_deref().unwrap_or_default()),
        Touch::Gone(object) => {
            let meta = object.meta();
            changed(meta.namespace.as_deref().unwrap_or_default());
            if let (Some(namespace), Some(name), Some(uid)) =
                (&meta.namespace, &meta.name, &meta.uid)
            {
                let namespace = Namespace::new(namespace);
                let resource = ResourceRef { namespace, kind, name: name.as_str().into() };
                departed.add(resource, uid.clone());
            }
        }
        Touch::Listing => {}
        Touch::Listed => departed.look(),
    };
    let (store, changes) = changes(Api::all(client.clone()), watcher::Config::default(), touch);
    (store, changes.boxed())
}

/// Rings for the policies of a namespace.
fn ring_policies(
    bells: &Arc<Bells>,
    policies: &Store<DeserializeGuard<McpPolicy>>,
) -> impl Fn(&str) + Send + use<> {
    let (bells, policies) = (bells.clone(), policies.clone());
    move |namespace| {
        let here = policies.state().into_iter().filter_map(|policy| {
            let meta = policy.meta();
            (meta.namespace.as_deref() == Some(namespace))
                .then(|| (namespace.to_owned(), meta.name.clone().unwrap_or_default()))
        });
        bells.policies.ring_all(here.collect::<Vec<_>>());
    }
}

/// What is owned by a server.
fn owned<K: ResourceExt>(listeners: &Listeners) -> impl FnMut(Touch<'_, K>) + Send + use<K> {
    let bells = listeners.bells.clone();
    move |touch| {
        if let Touch::Seen(object) | Touch::Gone(object) = touch
            && let Some(server) = object.labels().get(SERVER)
        {
            bells.servers.ring(&object.namespace().unwrap_or_default(), server);
        }
    }
}

fn ring_for_service(
    bells: &Bells,
    servers: &Store<DeserializeGuard<McpServer>>,
    service: &Service,
) {
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    if let Some(server) = service.labels().get(SERVER) {
        bells.servers.ring(&namespace, server);
    }
    let named = servers.state().into_iter().filter_map(|server| {
        let server = server.0.as_ref().ok()?;
        let named = server.spec.service.as_ref()?.name == name;
        (named && server.metadata.namespace.as_deref() == Some(&*namespace))
            .then(|| (namespace.clone(), server.name_any()))
    });
    bells.servers.ring_all(named.collect::<Vec<_>>());
}

fn ring_for_secret(
    bells: &Bells,
    servers: &Store<DeserializeGuard<McpServer>>,
    keys: &Store<DeserializeGuard<McpApiKey>>,
    secret: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) {
    let (Some(namespace), Some(name)) = (&secret.namespace, &secret.name) else { return };
    let at_home = |home: &Option<String>| home.as_ref() == Some(namespace);
    let named = servers.state().into_iter().filter_map(|server| {
        let server = server.0.as_ref().ok().filter(|s| at_home(&s.metadata.namespace))?;
        let credentials = server.spec.credentials.as_ref().map(|given| &given.secret_ref.name);
        let authorities = server.spec.tls.as_ref().map(|given| &given.ca_secret_ref.name);
        let names = credentials.into_iter().chain(authorities).any(|named| named == name);
        names.then(|| (namespace.clone(), server.name_any()))
    });
    bells.servers.ring_all(named.collect::<Vec<_>>());
    let named = keys.state().into_iter().filter_map(|key| {
        let key = key.0.as_ref().ok().filter(|key| at_home(&key.metadata.namespace))?;
        let named = match &key.spec.value_from {
            Some(source) => source.secret_key_ref.name == *name,
            None => output_name(key) == *name,
        };
        named.then(|| (namespace.clone(), key.name_any()))
    });
    bells.keys.ring_all(named.collect::<Vec<_>>());
}

fn follow_gateways(mut followers: Followers) -> impl FnMut(Touch<'_, Pod>) + Send {
    let mut listed = Vec::new();
    move |touch| match touch {
        Touch::Listing => listed.clear(),
        Touch::Seen(pod) => {
            listed.extend(pod.uid());
            followers.saw(pod);
        }
        Touch::Gone(pod) => followers.lost(&pod.uid().unwrap_or_default()),
        Touch::Listed => {
            followers.retain(&listed);
            listed.clear();
        }
    }
}

/// Entries and lists. One that somebody else wrote, or that belongs to nobody, is looked into.
fn stored(
    listeners: &Listeners,
    servers: &Store<DeserializeGuard<McpServer>>,
    keys: &Store<DeserializeGuard<McpApiKey>>,
    policies: &Store<DeserializeGuard<McpPolicy>>,
) -> impl FnMut(Touch<'_, Secret>) + Send + use<> {
    let Listeners { bells, departed, entries, catalogs } = listeners.clone();
    let (servers, keys, policies) = (servers.clone(), keys.clone(), policies.clone());
    let is_there = move |resource: &ResourceRef| {
        let (name, namespace) = (&*resource.name, resource.namespace.as_str());
        match resource.kind {
            Kind::Server => servers.get(&ObjectRef::new(name).within(namespace)).is_some(),
            Kind::Key => keys.get(&ObjectRef::new(name).within(namespace)).is_some(),
            Kind::Policy => policies.get(&ObjectRef::new(name).within(namespace)).is_some(),
        }
    };
    let mut listed = HashSet::new();
    move |touch| match touch {
        Touch::Listing => listed.clear(),
        Touch::Seen(secret) => {
            listed.insert(secret.name_any());
            match secret.type_.as_deref() {
                Some(ENTRY_TYPE) => match entries.saw(secret) {
                    Some(resource) if is_there(&resource) => bells.ring(&resource),
                    _ => departed.look(),
                },
                Some(CATALOG_TYPE) => catalogs.saw(secret),
                _ => {}
            }
        }
        Touch::Gone(secret) => match secret.type_.as_deref() {
            Some(ENTRY_TYPE) => {
                if let Some(resource) = entries.lost(secret) {
                    bells.ring(&resource);
                }
            }
            Some(CATALOG_TYPE) => catalogs.lost(secret),
            _ => {}
        },
        Touch::Listed => {
            entries.retain(&listed);
            catalogs.retain(&listed);
            departed.look();
        }
    }
}
