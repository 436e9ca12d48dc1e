//! A server as gateways take it, or what is wrong with it. Performs no I/O.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crds::{McpServer, ServiceRef, ToolChanges, Workload};
use gateway_core::{Entry, Invalid, Pepper, Place, Record, References, Resource};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use super::names::{headless_name, object_name};
use super::observe::Observed;
use super::verify::{Lists, lists};
use crate::context::claim;
use crate::owner::{Owner, owner};

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
    #[error("the {0} of the resource of this name that was there before is being deleted")]
    Leaving(String),
}

impl Refusal {
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(Invalid::Reference { .. }) => "SecretNotUsable",
            Self::Invalid(_) => "Invalid",
            Self::NoService(_) => "ServiceNotFound",
            Self::Service { .. } => "ServiceNotUsable",
            Self::Taken(_) => "NameTaken",
            Self::Leaving(_) => "Pending",
        }
    }
}

pub(super) fn validate(
    server: &McpServer,
    observed: &Observed,
    pepper: &Pepper,
) -> Result<ValidServer, Refusal> {
    let spec = &server.spec;
    let place = match (&spec.workload, &spec.service, &spec.url) {
        (Some(workload), None, None) => {
            is_free(server, observed)?;
            let name = object_name(&server.name_any());
            let port = u16::try_from(workload.port).unwrap_or_default();
            // Before it was ever applied it has no address: everything else is looked at already.
            let address = observed.live.service.as_deref().and_then(cluster_ip);
            let pods = pods(server, workload, observed);
            Some((Place { pods, ..place(server, &name, port, address) }, address.is_some()))
        }
        (None, Some(reference), None) => {
            Some((given_service(server, reference, observed.service.as_deref())?, true))
        }
        _ => None,
    };
    let lists = lists(server, observed);
    let quarantine = spec.tool_changes == ToolChanges::Quarantine;
    let accepted = match lists.kept(observed) {
        Some(kept) => Some(kept.accepted.clone()),
        // What cannot be told from what was accepted is not shown.
        None if lists.too_large => Some(Arc::default()),
        None => None,
    };
    let accepted = accepted.filter(|_| quarantine);
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

/// What a server is denied though its new version is not valid: not to be exposed any more must not
/// wait until the rest is mended.
pub(super) fn denied(server: &McpServer, last: Option<&Record>) -> Option<Entry> {
    let Entry::Server(last) = &last?.entry else { return None };
    let mut denied = (**last).clone();
    let exposed = server.spec.expose_to.as_deref().unwrap_or_default();
    denied.exposed_to.retain(|to| exposed.iter().any(|name| name == to.as_str()));
    (denied != **last).then(|| Entry::Server(Arc::new(denied)))
}

fn place(server: &McpServer, name: &str, port: u16, address: Option<IpAddr>) -> Place {
    Place {
        host: format!("{name}.{}.svc", server.namespace().unwrap_or_default()),
        port,
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        pods: None,
    }
}

/// What leads to each of the pods, where clients have to come back to the one that knows them. Once
/// it is there: before that gateways would find nothing.
fn pods(server: &McpServer, workload: &Workload, observed: &Observed) -> Option<String> {
    let several = workload.replicas > 1 && is_stateful(server, observed);
    let name = headless_name(&server.name_any());
    (several && observed.live.headless.is_some())
        .then(|| format!("{name}.{}.svc", server.namespace().unwrap_or_default()))
}

/// Whether a client has to come back to the pod that knows it: as the resource says, or the server.
pub(super) fn is_stateful(server: &McpServer, observed: &Observed) -> bool {
    match server.spec.session {
        crds::SessionMode::PerClient => true,
        crds::SessionMode::Shared => false,
        crds::SessionMode::Auto => {
            let views = observed.views.iter();
            let mut abouts = views.filter_map(|view| view.report.as_ref()?.about.as_ref());
            let first = abouts.next().map(|about| about.stateful);
            // Until a gateway says something it is as it was found to be before.
            match first {
                None => observed.live.headless.is_some(),
                Some(first) => first || abouts.any(|about| about.stateful),
            }
        }
    }
}

/// Where a Service of the user is reached.
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
    if !is_filled_by_kubernetes(service) {
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

/// The address of a Service, if it has one of its own.
pub(super) fn cluster_ip(service: &Service) -> Option<IpAddr> {
    service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
}

/// Whether a Service sends to pods of its namespace that Kubernetes itself selects: others could
/// lead anywhere.
pub(super) fn is_filled_by_kubernetes(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() != Some("ExternalName")
            && spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
    })
}

/// Whether what is to run has its names to itself.
fn is_free(server: &McpServer, observed: &Observed) -> Result<(), Refusal> {
    fn whose<K: kube::Resource>(object: Option<&K>, server: &McpServer) -> Owner {
        object.map_or(Owner::Us, |object| owner(object, server))
    }
    let live = &observed.live;
    let (name, headless) = (object_name(&server.name_any()), headless_name(&server.name_any()));
    for (kind, name, whose) in [
        ("ServiceAccount", &name, whose(live.service_account.as_deref(), server)),
        ("Deployment", &name, whose(live.deployment.as_deref(), server)),
        ("Service", &name, whose(live.service.as_deref(), server)),
        ("Service", &headless, whose(live.headless.as_deref(), server)),
        ("NetworkPolicy", &name, whose(live.network_policy.as_deref(), server)),
    ] {
        match whose {
            Owner::Us => {}
            Owner::Predecessor => return Err(Refusal::Leaving(format!("{kind} {name}"))),
            Owner::Somebody => return Err(Refusal::Taken(format!("{kind} {name}"))),
        }
    }
    Ok(())
}
