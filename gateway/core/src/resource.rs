//! One resource to one entry: resolved, validated, defaulted. Performs no I/O.
//!
//! What the CRDs refuse is refused here too, in the same words: a directory of manifests has no
//! apiserver. Their tables and bounds are this module's tests.

mod authorities;
mod field;
mod key;
mod policy;
mod resilience;
mod secrets;
mod server;
pub mod workload;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crds::{McpApiKey, McpPolicy, McpServer};
use kube::ResourceExt;

use crate::{Claim, DefinitionHash, Entry, KeyValue, Kind, Namespace, Pepper, ResourceRef};

pub use secrets::Secrets;

/// A custom resource of any of our kinds.
#[derive(Debug, Clone)]
pub enum Resource {
    /// McpServer
    Server(Box<McpServer>),
    /// McpApiKey
    Key(Box<McpApiKey>),
    /// McpPolicy
    Policy(Box<McpPolicy>),
}

impl Resource {
    /// Its name. A resource that names no namespace is in `default`, as with kubectl.
    pub fn resource(&self) -> ResourceRef {
        let (kind, namespace, name) = match self {
            Self::Server(server) => (Kind::Server, server.namespace(), server.name_any()),
            Self::Key(key) => (Kind::Key, key.namespace(), key.name_any()),
            Self::Policy(policy) => (Kind::Policy, policy.namespace(), policy.name_any()),
        };
        let namespace = Namespace::new(namespace.as_deref().unwrap_or("default"));
        ResourceRef { namespace, kind, name: name.into() }
    }
}

/// Why a resource makes no entry. The text says what to change and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A field with a wrong value.
    #[error("{field}: {problem}")]
    Field {
        /// Where in the manifest, such as `spec.rules[1].servers`.
        field: String,
        /// What it must be.
        problem: String,
    },
    /// A Secret that is not there or lacks what is asked of it.
    #[error("{field}: Secret {secret} {problem}")]
    Reference {
        /// Where in the manifest the Secret is named.
        field: String,
        /// Name of the Secret.
        secret: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Invalid {
    fn field(field: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::Field { field: field.to_string(), problem: problem.into() }
    }
}

/// What a resource refers to, as it is at the moment.
#[derive(Debug)]
pub struct References<'a> {
    /// Decides between resources that want one name.
    pub claim: Claim,
    /// The Secrets of its namespace.
    pub secrets: &'a Secrets,
    /// Keys the digests of API keys.
    pub pepper: &'a Pepper,
    /// Where the Service of an McpServer is reached, if it has one.
    pub place: Option<Place>,
    /// The definitions of an McpServer's tools that were accepted. With `toolChanges: Quarantine` all
    /// others are hidden; until there are any, none is.
    pub accepted: Option<Arc<BTreeMap<String, DefinitionHash>>>,
    /// The values that were made for an McpApiKey, the newest first.
    pub minted: Vec<KeyValue>,
}

impl<'a> References<'a> {
    /// Of a resource that needs no cluster.
    pub const fn without_cluster(claim: Claim, secrets: &'a Secrets, pepper: &'a Pepper) -> Self {
        Self { claim, secrets, pepper, place: None, accepted: None, minted: Vec::new() }
    }
}

/// Where a Service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name in the cluster, such as `mcp-git.team.svc`.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its cluster IP.
    pub address: IpAddr,
    /// The name of another that leads to each of its pods, if sessions are to stay with one.
    pub pods: Option<String>,
}

impl Entry {
    /// The entry of a resource.
    ///
    /// # Errors
    /// The first thing found wrong with the resource.
    pub fn from_resource(resource: &Resource, references: References<'_>) -> Result<Self, Invalid> {
        let reference = resource.resource();
        check_name(&reference)?;
        match resource {
            Resource::Server(server) => {
                server::entry(&server.spec, reference, references).map(Self::Server)
            }
            Resource::Key(key) => key::entry(&key.spec, reference, references).map(Self::Key),
            Resource::Policy(policy) => policy::entry(&policy.spec, reference).map(Self::Policy),
        }
    }
}

fn check_name(reference: &ResourceRef) -> Result<(), Invalid> {
    let name = |problem| Err(Invalid::field("metadata.name", problem));
    let namespace = reference.namespace.as_str();
    if namespace.len() > LABEL || !is_label(namespace) {
        let problem = "must be 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends";
        return Err(Invalid::field("metadata.namespace", problem));
    }
    if reference.kind != Kind::Server {
        if reference.name.len() > SUBDOMAIN || !reference.name.split('.').all(is_label) {
            return name(
                "must be 1 to 253 of a-z, 0-9, '-' and '.', with a letter or digit at both ends \
                 of each part",
            );
        }
        return Ok(());
    }
    match &*reference.name {
        "sse" | "messages" => name(
            "the name is reserved: /mcp/sse and /mcp/messages are endpoints; choose another name",
        ),
        long if long.len() > LABEL => {
            name("the name must be at most 63 characters; choose a shorter one")
        }
        dotted if dotted.contains('.') => {
            name("the name must not have a '.', as tools are offered under it; write '-' instead")
        }
        label if !is_label(label) => {
            name("must be of a-z, 0-9 and '-', with a letter or digit at both ends")
        }
        _ => Ok(()),
    }
}

/// RFC 1123, but for the length.
fn is_label(name: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(end) && name.ends_with(end) && name.chars().all(|c| end(c) || c == '-')
}

/// Longest label and longest subdomain of RFC 1123.
const LABEL: usize = 63;
const SUBDOMAIN: usize = 253;
