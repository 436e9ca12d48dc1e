//! Whom it concerns when something in the cluster changes.

use std::collections::{BTreeSet, HashMap};

use crds::{McpApiKey, McpPolicy, McpServer};
use gateway_core::Kind;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};

use super::follow::Touch;
use super::{Listeners, Resources};
use crate::bell::Id;
use crate::context::{id, reference};
use crate::entries::{ENTRY_TYPE, Seen, version};
use crate::gateways::stream::Followers;
use crate::key::output_name;
use crate::server::catalogs::CATALOG_TYPE;
use crate::server::names::SERVER;

/// Resources of ours. `audience` are the namespaces whose policies may mean it.
pub(super) fn resource<K>(
    kind: Kind,
    listeners: &Listeners,
    audience: impl Fn(&K) -> BTreeSet<String> + Send + 'static,
    policies: Option<Store<DeserializeGuard<McpPolicy>>>,
) -> impl FnMut(Touch<'_, DeserializeGuard<K>>) + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let Listeners { departed, bells, gateways, failures, .. } = listeners.clone();
    // Whom a policy applies to stands in its status. The generation is what a policy can see of
    // another resource; bounded by the number of objects there are.
    let mut known: HashMap<Id, (Option<i64>, BTreeSet<String>)> = HashMap::new();
    let ring = move |namespaces: &BTreeSet<String>| {
        let Some(policies) = &policies else { return };
        let is_meant = |policy: &DeserializeGuard<McpPolicy>| {
            policy.meta().namespace.as_ref().is_some_and(|here| namespaces.contains(here))
        };
        let meant = policies.state_filter(is_meant);
        bells.later.ring_all(meant.iter().map(|policy| id(policy.meta())).collect::<Vec<_>>());
    };
    move |touch| match touch {
        Touch::Seen(object) => {
            let meta = object.meta();
            let now = object.0.as_ref().map(&audience).unwrap_or_default();
            let before = known.insert(id(meta), (meta.generation, now.clone()));
            if before.as_ref().is_none_or(|(generation, _)| *generation != meta.generation) {
                let before = before.map(|(_, before)| before).unwrap_or_default();
                ring(&now.union(&before).cloned().collect());
            }
        }
        Touch::Gone(object) | Touch::Missing(object) => {
            let meta = object.meta();
            let resource = reference(kind, meta);
            if let Some((_, before)) = known.remove(&id(meta)) {
                ring(&before);
            }
            failures.forget(&resource);
            gateways.forget(&resource);
            match (touch, meta.uid.clone()) {
                (Touch::Gone(_), Some(uid)) => departed.add(resource, uid),
                // Nobody saw it go: the apiserver is asked once more.
                _ => departed.look(),
            }
        }
        Touch::Listed => departed.look(),
    }
}

/// Namespaces whose policies may mean a key.
pub(super) fn audience_of_key(key: &McpApiKey) -> BTreeSet<String> {
    key.namespace().into_iter().collect()
}

/// Namespaces whose policies may mean a server.
pub(super) fn audience_of_server(server: &McpServer) -> BTreeSet<String> {
    let exposed = server.spec.expose_to.iter().flatten().cloned();
    server.namespace().into_iter().chain(exposed).collect()
}

/// What is owned by a server.
pub(super) fn owned<K: ResourceExt>(
    listeners: &Listeners,
) -> impl FnMut(Touch<'_, K>) + Send + use<K> {
    let bells = listeners.bells.clone();
    move |touch| {
        if let Some(object) = touch.object()
            && let Some(server) = object.labels().get(SERVER)
        {
            bells.servers.ring(&object.namespace().unwrap_or_default(), server);
        }
    }
}

/// Services: those of servers, and those that servers name.
pub(super) fn service(
    listeners: &Listeners,
    servers: &Store<DeserializeGuard<McpServer>>,
) -> impl FnMut(Touch<'_, Service>) + Send + use<> {
    let (bells, servers) = (listeners.bells.clone(), servers.clone());
    move |touch| {
        let Some(service) = touch.object() else { return };
        let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
        if let Some(server) = service.labels().get(SERVER) {
            bells.servers.ring(&namespace, server);
        }
        let named = |server: &McpServer| {
            server.spec.service.as_ref().is_some_and(|service| service.name == name)
        };
        bells.servers.ring_all(at_home(&servers, &namespace, named));
    }
}

/// Secrets that resources name.
pub(super) fn secret(
    listeners: &Listeners,
    servers: &Store<DeserializeGuard<McpServer>>,
    keys: &Store<DeserializeGuard<McpApiKey>>,
) -> impl FnMut(Touch<'_, PartialObjectMeta<Secret>>) + Send + use<> {
    let bells = listeners.bells.clone();
    let (servers, keys) = (servers.clone(), keys.clone());
    move |touch| {
        let Some(ObjectMeta { namespace: Some(namespace), name: Some(name), .. }) =
            touch.object().map(|secret| &secret.metadata)
        else {
            return;
        };
        let by_server = |server: &McpServer| {
            let credentials = server.spec.credentials.as_ref().map(|given| &given.secret_ref.name);
            let authorities = server.spec.tls.as_ref().map(|given| &given.ca_secret_ref.name);
            credentials.into_iter().chain(authorities).any(|named| named == name)
        };
        bells.servers.ring_all(at_home(&servers, namespace, by_server));
        let by_key = |key: &McpApiKey| match &key.spec.value_from {
            Some(source) => source.secret_key_ref.name == *name,
            None => output_name(key) == *name,
        };
        bells.keys.ring_all(at_home(&keys, namespace, by_key));
    }
}

/// Resources of a namespace that can be read: references never leave it.
fn at_home<K>(
    store: &Store<DeserializeGuard<K>>,
    namespace: &str,
    wanted: impl Fn(&K) -> bool,
) -> Vec<Id>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let here = |object: &DeserializeGuard<K>| {
        object.meta().namespace.as_deref() == Some(namespace)
            && object.0.as_ref().is_ok_and(&wanted)
    };
    store.state_filter(here).iter().map(|object| id(object.meta())).collect()
}

/// Pods of the gateway.
pub(super) fn gateway(mut followers: Followers) -> impl FnMut(Touch<'_, Pod>) + Send {
    move |touch| match touch {
        Touch::Seen(pod) => followers.saw(pod),
        Touch::Gone(pod) | Touch::Missing(pod) => followers.lost(&pod.uid().unwrap_or_default()),
        Touch::Listed => {}
    }
}

/// Entries and lists. One that somebody else wrote, or that belongs to nobody, is looked into.
pub(super) fn stored(
    listeners: &Listeners,
    resources: &Resources,
) -> impl FnMut(Touch<'_, Secret>) + Send + use<> {
    let Listeners { bells, departed, entries, catalogs, .. } = listeners.clone();
    let resources = resources.clone();
    move |touch| match touch {
        Touch::Seen(secret) => match secret.type_.as_deref() {
            Some(ENTRY_TYPE) => match entries.saw(secret) {
                Seen::Echo(resource) | Seen::News(Some(resource))
                    if resources.uid_of(&resource).is_none() =>
                {
                    departed.look();
                }
                Seen::Echo(_) => {}
                Seen::News(Some(resource)) => bells.ring(&resource),
                Seen::News(None) => departed.look(),
            },
            Some(CATALOG_TYPE) => catalogs.saw(secret),
            _ => {}
        },
        Touch::Gone(secret) | Touch::Missing(secret) => {
            let (name, version) = (secret.name_any(), version(&secret.metadata));
            if let Some(resource) = entries.lost(&name, version) {
                bells.ring(&resource);
            }
            catalogs.lost(&name, version);
        }
        Touch::Listed => departed.look(),
    }
}
