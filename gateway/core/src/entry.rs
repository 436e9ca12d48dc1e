//! Resolved, validated and defaulted facts of one resource. Performs no I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crds::{SessionMode, Transport};
use http::{HeaderName, HeaderValue, Uri};
use jiff::Timestamp;

use crate::glob::Globs;
use crate::rights::Access;
use crate::{KeyDigest, Kind, Namespace, ResourceRef, ServerName};

/// One resource, one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// When the resource came to be, in any unit that grows.
    pub created: i64,
    /// Tells resources of one moment apart: a UID, or the path of a file.
    pub tie: Arc<str>,
}

/// A server to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEntry {
    /// Its tenant.
    pub namespace: Namespace,
    /// Its name.
    pub name: ServerName,
    /// Decides who wins a name.
    pub claim: Claim,
    /// Where and how it is reached.
    pub endpoint: Endpoint,
    /// Whose sessions share a connection.
    pub session: SessionMode,
    /// Sent with every request.
    pub credential: Option<Credential>,
    /// Bounds on time.
    pub timeouts: Timeouts,
    pub(crate) tools: ToolRules,
}

/// Where and how a server is reached. When it changes, connections are made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// For Streamable HTTP.
    pub streamable: Uri,
    /// For HTTP+SSE.
    pub sse: Uri,
    /// Which of the two, or both in turn.
    pub transport: Transport,
    /// `Host` to send, if not the address's own.
    pub host: Option<HeaderValue>,
}

impl Endpoint {
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
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Name of the header.
    pub header: HeaderName,
    /// Its value, marked sensitive.
    pub value: HeaderValue,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: …", self.header)
    }
}

/// Bounds on the time a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// From one byte or progress notification to the next.
    pub request: Duration,
    /// For a whole call.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(60),
            total: Duration::from_secs(15 * 60),
        }
    }
}

/// Which of a server's tools are shown, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolRules {
    pub(crate) prefix: String,
    pub(crate) allow: Option<Globs>,
    pub(crate) deny: Option<Globs>,
    pub(crate) descriptions: BTreeMap<String, String>,
}

impl ToolRules {
    pub(crate) fn show(&self, tool: &str) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.matches(tool))
            && !self.deny.as_ref().is_some_and(|deny| deny.matches(tool))
    }
}

/// An API key, of which only digests are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub(crate) digest: KeyDigest,
    pub(crate) groups: Vec<String>,
    pub(crate) allow: Option<Arc<Access>>,
}

/// Rules and to whom they apply.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    User(String),
    Group(String),
    Key(String),
}
