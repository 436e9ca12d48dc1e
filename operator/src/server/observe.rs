//! What a server is looked at with.

use std::sync::Arc;

use crds::{McpServer, SecretKeyRef};
use gateway_core::report::{ServerId, ToolsReport};
use gateway_core::{Catalog, DefinitionHash, Entry, Kind, Namespace, Record, Secrets, ServerName};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, ResourceExt};

use super::catalogs::Verified;
use super::names::{headless_name, object_name};
use super::validate::{cluster_ip, is_filled_by_kubernetes};
use crate::context::{Context, reference, version_in_force};
use crate::gateways::View;
use crate::gateways::stream::fetch_catalog;
use crate::objects::{Error, find_secret};

/// What is there besides the server's resource itself.
#[derive(Debug)]
pub(super) struct Observed {
    /// Of its entry, if it has one.
    pub(super) in_force: Option<u64>,
    /// The entry that is in force.
    pub(super) record: Option<Arc<Record>>,
    /// Whether the place that the entry leads to is still this namespace's.
    pub(super) leads_home: bool,
    /// The Secrets it names.
    pub(super) secrets: Secrets,
    /// The Service it names.
    pub(super) service: Option<Arc<Service>>,
    /// What runs for it.
    pub(super) live: Live,
    /// What each ready gateway says.
    pub(super) views: Vec<View>,
    /// The list as it was last verified.
    pub(super) verified: Option<Verified>,
    /// The list that all gateways have, if it is another.
    pub(super) news: Option<Catalog>,
}

/// What runs for a server.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) service_account: Option<Arc<ServiceAccount>>,
    pub(super) deployment: Option<Arc<Deployment>>,
    pub(super) service: Option<Arc<Service>>,
    pub(super) headless: Option<Arc<Service>>,
    pub(super) network_policy: Option<Arc<NetworkPolicy>>,
    pub(super) pods: Vec<Arc<Pod>>,
}

impl Live {
    pub(super) fn is_empty(&self) -> bool {
        self.service_account.is_none()
            && self.deployment.is_none()
            && self.service.is_none()
            && self.headless.is_none()
            && self.network_policy.is_none()
    }
}

pub(super) async fn observe(ctx: &Context, server: &McpServer) -> Result<Observed, Error> {
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    let uid = server.uid().unwrap_or_default();
    let reference = reference(Kind::Server, &server.metadata);
    let stored = ctx.entries.of(&reference);
    let world = &ctx.world;
    let id = ServerId { namespace: Namespace::new(&namespace), name: ServerName::new(&name) };
    let views = ctx.gateways.views(&id, &uid);
    let verified = ctx.catalogs.of(&namespace, &name, &uid);
    let object = object_name(&name);
    let in_force = version_in_force(stored.as_ref(), &server.metadata);
    let record = stored.filter(|_| in_force.is_some()).and_then(|stored| stored.record);
    // In a storm entries come first: a list is kept when a status is written.
    let news = match ctx.settle(&reference) {
        Some(_) => None,
        None => news(ctx, &views, verified.as_ref(), &id).await,
    };
    Ok(Observed {
        in_force,
        leads_home: record.as_ref().is_none_or(|record| leads_home(ctx, record, &namespace)),
        record,
        secrets: secrets(ctx, server, &namespace).await?,
        service: server
            .spec
            .service
            .as_ref()
            .and_then(|service| world.service(&namespace, &service.name)),
        live: Live {
            service_account: world.service_account(&namespace, &object),
            deployment: world.deployment(&namespace, &object),
            service: world.service(&namespace, &object),
            headless: world.service(&namespace, &headless_name(&name)),
            network_policy: world.network_policy(&namespace, &object),
            pods: world.pods_of(&namespace, &name),
        },
        news,
        views,
        verified,
    })
}

/// Whether what an entry dials is still the Service that it names: a cluster IP that is given back
/// may be another tenant's the next moment.
fn leads_home(ctx: &Context, record: &Record, namespace: &str) -> bool {
    let Entry::Server(entry) = &record.entry else { return true };
    // Of a URL the gateway looks up the address itself, each time.
    let Some(dialled) = entry.endpoint.address else { return true };
    let host = entry.endpoint.streamable.host().unwrap_or_default();
    let service = host.split('.').next().unwrap_or_default();
    let service = ctx.world.service(namespace, service);
    service.is_some_and(|service| {
        is_filled_by_kubernetes(&service) && cluster_ip(&service) == Some(dialled)
    })
}

/// The Secrets that the server names, as far as they are there.
async fn secrets(ctx: &Context, server: &McpServer, namespace: &str) -> Result<Secrets, Error> {
    let api = Api::<Secret>::namespaced(ctx.client.clone(), namespace);
    let credentials = server.spec.credentials.as_ref().map(|given| &given.secret_ref);
    let authorities = server.spec.tls.as_ref().map(|given| &given.ca_secret_ref);
    let mut secrets = Secrets::default();
    for SecretKeyRef { name, .. } in credentials.into_iter().chain(authorities) {
        if let Some(secret) = find_secret("read a Secret of the server", &api, name).await? {
            secrets.insert(secret);
        }
    }
    Ok(secrets)
}

/// The hash of the tools on which all ready gateways agree.
pub(super) fn agreed(views: &[View]) -> Option<DefinitionHash> {
    agreed_on(views, |tools| Some(tools.hash))
}

fn agreed_on(
    views: &[View],
    hash: impl Fn(&ToolsReport) -> Option<DefinitionHash>,
) -> Option<DefinitionHash> {
    let mut hashes = views.iter().map(|view| hash(view.report.as_ref()?.tools.as_ref()?));
    let first = hashes.next()??;
    hashes.all(|other| other == Some(first)).then_some(first)
}

/// What all gateways list, if it is not what was verified: other tools, or with the same ones other
/// prompts or resources.
async fn news(
    ctx: &Context,
    views: &[View],
    verified: Option<&Verified>,
    ServerId { namespace, name }: &ServerId,
) -> Option<Catalog> {
    let hash = agreed(views)?;
    let whole = agreed_on(views, |tools| tools.whole);
    let same_tools = verified.is_some_and(|verified| verified.hash == hash);
    if same_tools && (whole.is_none() || verified.and_then(|verified| verified.whole) == whole) {
        return None;
    }
    let pod = &views.first()?.pod;
    let address = ctx.world.gateway_address(pod)?;
    let (namespace, name) = (namespace.as_str(), name.as_str());
    let json = match fetch_catalog(&address, namespace, name, &ctx.keyring.load().admin).await {
        Ok(json) => json,
        Err(error) => {
            tracing::info!(namespace, name, %error, "a list of tools cannot be fetched yet");
            return None;
        }
    };
    // It may have changed again: then another report is on its way. What a later version of the
    // gateway adds to the whole is no news that could be kept.
    Catalog::from_json(&json).ok().filter(|catalog| {
        catalog.hash() == hash && (!same_tools || Some(catalog.whole_hash()) == whole)
    })
}
