//! What a gateway reports to the operator: lines of JSON over one stream. Performs no I/O.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DefinitionHash, Kind, Namespace, ServerName};

/// One line. After `Hello` everything there is is reported once, then what becomes different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// Always the first.
    Hello(Hello),
    /// A table is in force.
    Table(Watermark),
    /// How a server is doing.
    Server(Box<ServerReport>),
    /// A server that is no longer in the table.
    ServerGone(ServerId),
    /// Resources that are in each other's way: all of them.
    Conflicts(Vec<Conflict>),
    /// Entries that cannot be read, and why: all of them.
    Rejected(Vec<RejectedEntry>),
    /// Keys that were used since they were last reported.
    Used(Vec<KeyUse>),
}

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub uid: String,
    /// Version of the gateway.
    pub version: String,
}

/// How far a gateway has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Watermark {
    /// Every entry with this `resourceVersion` or an earlier one is in the table.
    pub resource_version: u64,
    /// Whether clients are served: the entries were read in full once.
    pub complete: bool,
}

/// Names a server among all tenants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerId {
    /// Its tenant.
    pub namespace: Namespace,
    /// Its name there.
    pub name: ServerName,
}

/// How a server is doing, as one gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerReport {
    /// Which one.
    pub server: ServerId,
    /// Tells a server that was deleted and made anew from the one before: the UID of its resource.
    pub uid: String,
    /// Whether it can be reached.
    pub state: ServerState,
    /// Why its calls are refused for now; none while they are passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// What it said of itself when it was last reached; none if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// Its list, as last seen from here; none if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolsReport>,
}

/// Whether a server can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServerState {
    /// Not known yet.
    Connecting,
    /// It is.
    Connected,
    /// It is not, and why.
    Unreachable(String),
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The version of MCP that is spoken with it.
    pub version: String,
    /// The transport: StreamableHttp or Sse.
    pub transport: String,
    /// The name it gives itself.
    pub server_name: String,
    /// The version it gives itself.
    pub server_version: String,
    /// Whether it keeps sessions of its own.
    pub stateful: bool,
}

/// A list of tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolsReport {
    /// How many.
    pub count: usize,
    /// Of all definitions.
    pub hash: DefinitionHash,
    /// Of everything else too that the server offers and says of itself; a gateway of an earlier
    /// version does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<DefinitionHash>,
    /// How long the server took to list them, in milliseconds.
    pub latency_millis: u64,
}

/// A resource that is in another one's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// Kind of the resource that has to be mended.
    pub kind: Kind,
    /// Its tenant.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// CamelCase, as in conditions.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// An entry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedEntry {
    /// Name of its Secret.
    pub entry: String,
    /// Why.
    pub reason: String,
}

/// When a key was last used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyUse {
    /// Its tenant.
    pub namespace: Namespace,
    /// Name of the McpApiKey.
    pub name: String,
    /// To the minute.
    pub at: Timestamp,
}
