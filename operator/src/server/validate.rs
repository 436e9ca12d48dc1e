//! A server as gateways take it, or what is wrong with it. Performs no I/O.

use std::net::{IpAddr, Ipv4Addr};

use crds::{McpServer, ServiceRef, ToolChanges};
use gateway_core::{Entry, Invalid, Pepper, Place, References, Resource};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::names::object_name;
use super::observe::Observed;
use super::verify::{Lists, lists};
use crate::context::claim;

/// A server that is good.
#[derive(Debug)]
pub(super) struct ValidServer {
    /// None until its Service has an address.
    pub(super) entry: Option<Entry>,
    /// Where gateways reach it.
    pub(super) address: String,
    /// What is to be kept of its list.
    pub(super) lists: Lists,
}

/// Why a server makes no entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Refusal {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("the Service {0} does not exist in this namespace")]
    NoService(String),
    #[error("the Service {name} {problem}")]
    Service { name: String, problem: String },
    #[error("the {0} exists and does not belong to this resource; delete or rename it")]
    Taken(String),
}

impl Refusal {
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(Invalid::Reference { .. }) => "SecretNotUsable",
            Self::Invalid(_) => "Invalid",
            Self::NoService(_) => "ServiceNotFound",
            Self::Service { .. } => "ServiceNotUsable",
            Self::Taken(_) => "NameTaken",
        }
    }
}

pub(super) fn validate(
    server: &McpServer,
    observed: &Observed,
    pepper: &Pepper,
) -> Result<ValidServer, Refusal> {
    let spec = &server.spec;
    let place = match (&spec.workload, &spec.service) {
        (Some(workload), None) => {
            is_free(server, observed)?;
            let name = object_name(&server.name_any());
            let port = u16::try_from(workload.port).unwrap_or_default();
            // Before it was ever applied it has no address: everything else is looked at already.
            let address = observed.live.service.as_deref().and_then(cluster_ip);
            Some((place(server, &name, port, address), address.is_some()))
        }
        (None, Some(reference)) => {
            Some((given_service(server, reference, observed.service.as_deref())?, true))
        }
        _ => None,
    };
    let lists = lists(server, observed);
    let quarantine = spec.tool_changes == ToolChanges::Quarantine;
    let accepted = lists.kept(observed).filter(|_| quarantine).map(|kept| kept.accepted.clone());
    let known = place.as_ref().is_none_or(|(_, known)| *known);
    let references = References {
        place: place.map(|(place, _)| place),
        accepted,
        ..References::without_cluster(claim(&server.metadata), &observed.secrets, pepper)
    };
    let entry = Entry::from_resource(&Resource::Server(Box::new(server.clone())), references)?;
    let address = match &entry {
        Entry::Server(entry) => {
            let sse = spec.transport == crds::Transport::Sse;
            let url = if sse { &entry.endpoint.sse } else { &entry.endpoint.streamable };
            // A query may hold a secret.
            url.to_string().split('?').next().unwrap_or_default().to_owned()
        }
        Entry::Key(_) | Entry::Policy(_) => String::new(),
    };
    Ok(ValidServer { entry: known.then_some(entry), address, lists })
}

fn place(server: &McpServer, name: &str, port: u16, address: Option<IpAddr>) -> Place {
    Place {
        host: format!("{name}.{}.svc", server.namespace().unwrap_or_default()),
        port,
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    }
}

/// Where a Service of the user is reached. Only one that Kubernetes itself fills with pods of this
/// namespace is taken: others could lead anywhere.
fn given_service(
    server: &McpServer,
    ServiceRef { name, port }: &ServiceRef,
    service: Option<&Service>,
) -> Result<Place, Refusal> {
    let service = service.ok_or_else(|| Refusal::NoService(name.clone()))?;
    let wrong =
        |problem: &str| Err(Refusal::Service { name: name.clone(), problem: problem.to_owned() });
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return wrong("is of type ExternalName; write its target into spec.url");
    }
    if spec.selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty) {
        return wrong(
            "has no selector; only Services that select pods of this namespace are taken",
        );
    }
    let Some(address) = cluster_ip(service) else {
        return wrong("has no cluster IP; a headless Service cannot be used");
    };
    let mut ports = spec.ports.into_iter().flatten().map(|port| port.port);
    let port = match port {
        Some(port) if ports.any(|known| known == *port) => *port,
        Some(port) => return wrong(&format!("has no port {port}")),
        None => match (ports.next(), ports.next()) {
            (Some(only), None) => only,
            _ => return wrong("has several ports; name one in spec.service.port"),
        },
    };
    let port = u16::try_from(port).unwrap_or_default();
    Ok(place(server, name, port, Some(address)))
}

fn cluster_ip(service: &Service) -> Option<IpAddr> {
    service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
}

/// Whether what is to run has its names to itself.
fn is_free(server: &McpServer, observed: &Observed) -> Result<(), Refusal> {
    fn foreign<K: ResourceExt>(object: Option<&K>, uid: &str) -> bool {
        object.is_some_and(|object| object.owner_references().iter().all(|o| o.uid != uid))
    }
    let uid = server.metadata.uid.as_deref().unwrap_or_default();
    let live = &observed.live;
    let taken = [
        ("ServiceAccount", foreign(live.service_account.as_deref(), uid)),
        ("Deployment", foreign(live.deployment.as_deref(), uid)),
        ("Service", foreign(live.service.as_deref(), uid)),
        ("Service (headless)", foreign(live.headless.as_deref(), uid)),
        ("NetworkPolicy", foreign(live.network_policy.as_deref(), uid)),
    ];
    match taken.iter().find(|(_, taken)| *taken) {
        Some((kind, _)) => {
            Err(Refusal::Taken(format!("{kind} {}", object_name(&server.name_any()))))
        }
        None => Ok(()),
    }
}
