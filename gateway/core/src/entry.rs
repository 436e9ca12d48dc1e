//! Resolved, validated and defaulted facts of one resource. Performs no I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crds::{SessionMode, Transport};
use http::{HeaderName, HeaderValue, Uri};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::Tool;
use crate::glob::Globs;
use crate::rights::Access;
use crate::{
    CircuitBreaker, DefinitionHash, KeyDigest, Kind, Namespace, ResourceRef, Retries, ServerName,
    Timeouts, stored,
};

/// One resource, one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// From an McpServer.
    Server(Arc<ServerEntry>),
    /// From an McpApiKey.
    Key(Arc<KeyEntry>),
    /// From an McpPolicy.
    Policy(Arc<PolicyEntry>),
}

impl Entry {
    /// The resource it came from.
    pub fn resource(&self) -> ResourceRef {
        let (namespace, kind, name): (_, _, Arc<str>) = match self {
            Self::Server(server) => (&server.namespace, Kind::Server, server.name.as_str().into()),
            Self::Key(key) => (&key.namespace, Kind::Key, key.name.clone()),
            Self::Policy(policy) => (&policy.namespace, Kind::Policy, policy.name.clone()),
        };
        ResourceRef { namespace: namespace.clone(), kind, name }
    }
}

/// Orders claims of two resources to one name: the lesser wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// When the resource came to be, in any unit that grows.
    pub created: i64,
    /// Tells resources of one moment apart: a UID, or the path of a file.
    pub tie: Arc<str>,
}

/// A server to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerEntry {
    /// Its tenant.
    pub namespace: Namespace,
    /// Its name.
    pub name: ServerName,
    /// Decides who wins a name.
    pub claim: Claim,
    /// Where and how it is reached.
    pub endpoint: Endpoint,
    /// What resolves to the pods of a server that keep sessions apart, so that each session stays
    /// with one. Applies to new sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Box<str>>,
    /// Whose sessions share a connection.
    pub session: SessionMode,
    /// Sent with every request.
    pub credential: Option<Credential>,
    /// Bounds on time.
    pub timeouts: Timeouts,
    /// When a call is sent again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: Retries,
    /// When it is not called for a while.
    #[serde(default, skip_serializing_if = "is_default")]
    pub circuit_breaker: CircuitBreaker,
    /// How many calls each gateway has under way there at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Other tenants whose policies may grant it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed_to: Vec<Namespace>,
    pub(crate) tools: ToolRules,
}

impl ServerEntry {
    /// How the rules of a tenant name the server: by its name, or as `NAMESPACE/NAME` if it is
    /// another tenant's.
    pub fn known_as(&self, tenant: &Namespace) -> ServerName {
        if self.namespace == *tenant {
            self.name.clone()
        } else {
            ServerName::new(&format!("{}/{}", self.namespace, self.name))
        }
    }
}

/// What a resource does not say stands in no entry: a program of an earlier version reads it, too.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where and how a server is reached. When it changes, connections are made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// For Streamable HTTP.
    #[serde(with = "stored::text")]
    pub streamable: Uri,
    /// For HTTP+SSE.
    #[serde(with = "stored::text")]
    pub sse: Uri,
    /// Which of the two, or both in turn.
    pub transport: Transport,
    /// `Host` to send, if not the address's own.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "stored::header")]
    pub host: Option<HeaderValue>,
    /// Dialled as it is, in place of what the host of the URL resolves to: the address of a Service
    /// that the operator looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Authorities to trust in place of the system's, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Arc<str>>,
}

impl Endpoint {
    /// The port that is connected to.
    pub fn port(&self) -> u16 {
        let usual = if self.streamable.scheme_str() == Some("https") { 443 } else { 80 };
        self.streamable.port_u16().unwrap_or(usual)
    }

    /// Whether Streamable HTTP is tried.
    pub fn tries_streamable(&self) -> bool {
        self.transport != Transport::Sse
    }

    /// Whether HTTP+SSE is tried, after Streamable HTTP if both are.
    pub fn tries_sse(&self) -> bool {
        self.transport != Transport::StreamableHttp
    }
}

/// A header with a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Name of the header.
    #[serde(with = "stored::text")]
    pub header: HeaderName,
    /// Its value, marked sensitive.
    #[serde(with = "stored::secret")]
    pub value: HeaderValue,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: …", self.header)
    }
}

/// Which of a server's tools are shown, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToolRules {
    pub(crate) prefix: String,
    pub(crate) allow: Option<Globs>,
    pub(crate) deny: Option<Globs>,
    pub(crate) descriptions: BTreeMap<String, String>,
    /// The definitions that were accepted, if no others may be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<Arc<BTreeMap<String, DefinitionHash>>>,
}

impl ToolRules {
    pub(crate) fn show(&self, tool: &Tool) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.matches(&tool.name))
            && !self.deny.as_ref().is_some_and(|deny| deny.matches(&tool.name))
            && self.accepted.as_ref().is_none_or(|all| all.get(&*tool.name) == Some(&tool.hash))
    }

    /// The prefix for clients of another tenant, who must see whose the tool is: never none.
    pub(crate) fn prefix_for(&self, server: &ServerName, own: bool) -> String {
        if own || !self.prefix.is_empty() { self.prefix.clone() } else { format!("{server}_") }
    }
}

/// An API key, of which only digests are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyEntry {
    /// Its tenant.
    pub namespace: Namespace,
    /// Name of the McpApiKey.
    pub name: Arc<str>,
    /// Who holds it.
    pub user: Arc<str>,
    /// Decides which of two resources with one key is meant.
    pub claim: Claim,
    /// Switched off by hand.
    pub disabled: bool,
    /// Not valid from then on.
    pub expires_at: Option<Timestamp>,
    /// Its values, the newest first: more than one while a rotation overlaps.
    pub values: Vec<KeyValue>,
    pub(crate) groups: Vec<String>,
    pub(crate) allow: Option<Arc<Access>>,
}

/// One value of an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyValue {
    /// All that is kept of it.
    pub digest: KeyDigest,
    /// Not valid from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// How and when it was made, if the operator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minted: Option<Minted>,
}

/// How and when the operator made a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minted {
    /// When.
    pub at: Timestamp,
    /// How it begins, for people.
    pub prefix: String,
    /// What asked for it: the value of the annotation of that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// Rules and to whom they apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyEntry {
    /// Its tenant.
    pub namespace: Namespace,
    /// Name of the McpPolicy.
    pub name: Arc<str>,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) allow: Vec<Arc<Access>>,
    pub(crate) deny: Vec<Arc<Access>>,
}

/// To whom a policy applies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Subject {
    User(String),
    Group(String),
    Key(String),
}
