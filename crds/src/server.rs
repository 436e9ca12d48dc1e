//! `McpServer`: a tool server behind the gateway.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretKeyRef;

pub(crate) mod resilience;
pub(crate) mod status;
pub(crate) mod workload;

use resilience::{CircuitBreaker, Retries, Timeouts};
use status::McpServerStatus;
use workload::{ServiceRef, Workload};

/// Where the server is, how to speak with it and which of its tools to offer.
// What rules ask for is not nullable: `has()` must not count an explicit null as set.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "fairway.dev",
    version = "v1alpha1",
    kind = "McpServer",
    namespaced,
    status = "McpServerStatus",
    shortname = "mcps",
    category = "fairway",
    derive = "PartialEq",
    derive = "Default",
    doc = "McpServer is an MCP server whose tools the gateway offers, at its common URL \
           and at /mcp/NAME.",
    validation = (
        "!(self.metadata.name in ['sse', 'messages'])",
        "the name is reserved: /mcp/sse and /mcp/messages are endpoints; choose another name",
    ),
    validation = (
        "self.metadata.name.size() <= 63",
        "the name must be at most 63 characters; choose a shorter one",
    ),
    validation = (
        "!self.metadata.name.contains('.')",
        "the name must not have a '.', as tools are offered under it; write '-' instead",
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the tools of the server can be called"
    ),
    printcolumn(
        name = "Tools",
        type_ = "integer",
        json_path = ".status.tools.count",
        description = "How many tools the server has"
    ),
    printcolumn(
        name = "Address",
        type_ = "string",
        json_path = ".status.address",
        description = "Where the gateway reaches the server"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the server is ready or not",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "[has(self.workload), has(self.service), has(self.url)].filter(set, set).size() == 1",
        "must have exactly one of workload, service, url: what to run, a Service of this \
         namespace, or where else the server is",
    ),
    validation = Rule::new("!has(self.tls) || !has(self.url) || self.url.startsWith('https://')")
        .message("needs a spec.url that starts with https://")
        .field_path(".tls"),
)]
pub struct McpServerSpec {
    /// What to run as the server: the operator keeps a Deployment, and a Service that only the
    /// gateway reaches. Whoever may create an McpServer can run pods in its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Workload")]
    pub workload: Option<Workload>,

    /// A Service of this namespace, with a cluster IP and a selector, behind which the server runs
    /// already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServiceRef")]
    pub service: Option<ServiceRef>,

    /// URL of a server that runs elsewhere, http or https, such as `https://mcp.example.com/mcp`. It
    /// holds neither user nor password (see `credentials`) and no fragment. In a cluster it must not
    /// lead to an address of the cluster itself; use `service` for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 2048))]
    #[x_kube(
        validation = ("self.matches('^https?://')", "must start with http:// or https://"),
        validation = (
            "!self.matches('^https?://([/?#:]|$)')",
            "must name a host after the //, such as https://mcp.example.com/mcp",
        ),
        validation = (
            "!self.matches('^https?://[^/?#]*@')",
            "must not hold a user or password before an '@'; put the secret into a Secret and name \
             it in spec.credentials",
        ),
        validation = (
            "!self.contains('#')",
            "must not have a fragment; remove the '#' and what follows it",
        ),
        validation = (
            r"!self.matches('[\\s\\\\]')",
            "must not have spaces or backslashes; write a space as %20",
        ),
    )]
    pub url: Option<String>,

    /// Path of the MCP endpoint, which takes the place of the path in `url`. When left out it is
    /// the path in `url`, or else `/mcp` (`/sse` for the transport Sse).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(
        validation = ("self.startsWith('/')", "must begin with '/', such as /mcp"),
        validation = (
            r"!self.matches('[\\s\\\\#]')",
            "must not have spaces, backslashes or a '#'; write a space as %20",
        ),
    )]
    pub path: Option<String>,

    /// How the server is spoken to. `StreamableHttp` is the transport of MCP since 2025-03-26,
    /// `Sse` the HTTP with SSE of MCP 2024-11-05. With `Auto` the gateway finds out: the former if
    /// the server speaks it, else the latter. Default: Auto.
    #[serde(default)]
    pub transport: Transport,

    /// Whether clients share one session with the server. `Shared`: all of them do, for servers
    /// that keep nothing of their own for a client. `PerClient`: each has its own. `Auto`: shared
    /// when the server keeps no sessions, otherwise one for each client. Default: Auto.
    #[serde(default)]
    pub session: SessionMode,

    /// Which tools of the server are offered, and under which names. By default all of them,
    /// prefixed with the name of this resource.
    #[serde(default)]
    pub tools: Tools,

    /// What the gateway shows the server to be let in. Clients never see it, and their own
    /// credentials are never passed on. Nothing is sent when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,

    /// The Host header sent to the server, for servers that answer to one name only. Default: the
    /// host and port of `url`, or the name and port of the Service such as `mcp-git.team.svc:8000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = (
        r"self.matches('^([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?$')",
        "must be a host name with or without a port, such as weather.example.com:8443",
    ))]
    pub host_header: Option<String>,

    /// How the certificate of the server is verified. With it, a workload or a Service is spoken to
    /// over https; a `url` says so itself. Default: by the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Tls")]
    pub tls: Option<Tls>,

    /// What happens when the server changes the definition of a tool after it was first verified.
    /// `Accept`: the change is reported by an Event and by the condition Verified. `Quarantine`: the
    /// changed and new tools are hidden too, until the annotation `fairway.dev/accept-tools` on this
    /// resource holds the hash that the condition names. Default: Accept.
    #[serde(default)]
    pub tool_changes: ToolChanges,

    /// Other namespaces whose policies may grant this server, by naming it as `NAMESPACE/NAME`. A
    /// server is visible to no other namespace by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(validation = (
        "self.all(name, name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$'))",
        "must be names of namespaces: a-z, 0-9 and '-', with a letter or digit at both ends",
    ))]
    pub expose_to: Option<Vec<String>>,

    /// How long the gateway waits for the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,

    /// When a call that came to nothing is sent again: one that never reached the server, or one of
    /// a tool that the server annotates as read-only or idempotent, while nothing of an answer has
    /// come. A call that the server did not take because it forgot the session is always sent once
    /// more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,

    /// When the gateway stops calling the server for a while because its calls fail. Clients are
    /// then told so at once; the tools stay listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,

    /// How many calls each gateway has under way at the server at most. Further ones wait for up to
    /// 10s in a queue of four times as many places, but at least 16; when it is full they fail at
    /// once. No bound when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_concurrency: Option<i32>,

    /// What the server is for, in words for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

/// How the certificate of an https server is verified.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The Secret of this namespace, and the key in it, that holds the certificates of the
    /// authorities to trust, as PEM. They take the place of the public ones.
    pub ca_secret_ref: SecretKeyRef,
}

/// What happens when the definition of a tool changes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum ToolChanges {
    /// It is reported.
    #[default]
    Accept,
    /// It is reported, and the tool is hidden until the change is accepted.
    Quarantine,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum Transport {
    /// The gateway finds out: Streamable HTTP if the server speaks it, else HTTP with SSE.
    #[default]
    Auto,
    /// Streamable HTTP, the transport of MCP since 2025-03-26.
    StreamableHttp,
    /// HTTP with SSE, the transport of MCP 2024-11-05.
    Sse,
}

/// Whether clients share one session with a server.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum SessionMode {
    /// Shared when the server keeps no sessions, otherwise one for each client.
    #[default]
    Auto,
    /// All clients share one session, for servers that keep nothing of their own for a client.
    Shared,
    /// Each client has a session of its own.
    PerClient,
}

/// Which tools of a server are offered, and under which names.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tools {
    /// What is put before the name of each tool and each prompt, so that those of different servers
    /// have different names. Default: the name of this resource and `_`. An empty string leaves the
    /// names as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    #[x_kube(validation = (
        "self.matches('^[A-Za-z0-9_-]{0,40}$')",
        "must be at most 40 of A-Z, a-z, 0-9, '_' and '-'",
    ))]
    pub prefix: Option<String>,

    /// Tools to offer, as the server itself calls them; `*` and `?` are wildcards. All of them when
    /// left out, none when the list is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    pub allow: Option<Vec<String>>,

    /// Tools not to offer even though `allow` has them, as the server itself calls them; `*` and
    /// `?` are wildcards.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    pub deny: Option<Vec<String>>,

    /// Changes to single tools, by the name the server itself calls them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 256))]
    #[x_kube(validation = (
        "self.all(tool, tool.size() > 0 && tool.size() <= 128)",
        "must be keyed by the tool's own name, which has 1 to 128 characters",
    ))]
    pub overrides: Option<BTreeMap<String, ToolOverride>>,
}

/// A change to one tool.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolOverride {
    /// The description that clients see in place of the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
}

/// What the gateway shows a server to be let in.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The Secret of this namespace, and the key in it, that holds the credential.
    pub secret_ref: SecretKeyRef,

    /// Name of the request header that carries the credential. Default: Authorization.
    #[serde(default = "authorization", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = (
        "self.matches('^[A-Za-z0-9_-]+$')",
        "must be the name of a header, such as Authorization or X-Api-Key",
    ))]
    pub header: Option<String>,

    /// Word put before the credential in the header. Default: Bearer for the header Authorization,
    /// none for others. An empty string sends the credential alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = (
        "self.matches('^[A-Za-z0-9._-]*$')",
        "must be one word such as Bearer or Basic, or empty to send the credential alone",
    ))]
    pub scheme: Option<String>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self { secret_ref: SecretKeyRef::default(), header: authorization(), scheme: None }
    }
}

fn authorization() -> Option<String> {
    Some("Authorization".to_owned())
}
