//! `McpApiKey`: a key that an AI client presents, and whom it speaks for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::selector::{everything, not_empty};
use crate::{SecretKeyRef, secret};

/// Whom a key speaks for, where its value comes from and what it may use.
// `valueFrom` and `rotation` are not nullable: `has()` must not count an explicit null as set.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "fairway.dev",
    version = "v1alpha1",
    kind = "McpApiKey",
    namespaced,
    status = "McpApiKeyStatus",
    shortname = "mcpk",
    category = "fairway",
    derive = "PartialEq",
    derive = "Default",
    doc = "McpApiKey is a key with which an AI client calls the gateway. A key may use nothing \
           until its own `allow` or an McpPolicy of its namespace grants it something.",
    printcolumn(
        name = "User",
        type_ = "string",
        json_path = ".spec.user",
        description = "Whom the key speaks for"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every gateway takes the key"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Pending, Active, Disabled, Expired or Invalid"
    ),
    printcolumn(
        name = "Prefix",
        type_ = "string",
        json_path = ".status.prefix",
        description = "How the key begins, to recognise it by"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".spec.expiresAt",
        description = "When the key stops working; empty for never"
    ),
    printcolumn(
        name = "Last-Used",
        type_ = "date",
        json_path = ".status.lastUsed",
        description = "When the key was last used, to the minute"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Description",
        type_ = "string",
        json_path = ".spec.description",
        description = "What the key is for",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.valueFrom) || !has(self.rotation)")
    .message("must be left out beside valueFrom: the operator replaces only keys that it made")
    .field_path(".rotation"))]
pub struct McpApiKeySpec {
    /// The user this key speaks for, as policies and the audit log name them. Several keys may
    /// speak for one user.
    #[schemars(length(min = 1, max = 253))]
    pub user: String,

    /// Groups the user is in, for policies that name a group. None by default.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,

    /// What the key is for, in words for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,

    /// Where the value of the key comes from. When left out, the operator makes a key and puts it
    /// into a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KeySource")]
    pub value_from: Option<KeySource>,

    /// Name of the Secret into which the operator puts the key it makes, with the URL of the gateway
    /// and a ready `mcp.json` for clients. The Secret may be deleted once it is collected; the key
    /// goes on working. Default: `mcp-key-` and the name of this resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = secret::name())]
    pub secret_name: Option<String>,

    /// Lets the operator make a new key from time to time, unless `valueFrom` gives the key. Never
    /// when left out. The annotation `fairway.dev/rotate` asks for a new key whenever its value
    /// changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Rotation")]
    pub rotation: Option<Rotation>,

    /// When the key stops working, as RFC 3339 such as `2027-01-31T12:00:00Z`. Never when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// Refuses the key while true, and ends what is open with it; set it back to false to let the
    /// key work again. Default: false.
    #[serde(default)]
    pub disabled: bool,

    /// What this key may use, in addition to what policies allow. Nothing is allowed by default:
    /// when left out, only an McpPolicy can allow something. What any policy denies stays denied,
    /// whatever stands here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Access>,
}

/// Where the value of a key comes from.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeySource {
    /// A key of a Secret in this namespace that holds the API key.
    pub secret_key_ref: SecretKeyRef,
}

/// How often a key is replaced. Durations are written like `12h` or `720h`.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// How long a key is given out before the next one is made, such as `720h`.
    #[schemars(length(max = 32))]
    #[x_kube(validation = long_duration())]
    pub interval: String,

    /// How long the key before works beside the new one. Default: 24h.
    #[serde(default = "overlap")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = long_duration())]
    pub overlap: String,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { interval: String::new(), overlap: overlap() }
    }
}

fn overlap() -> String {
    "24h".to_owned()
}

/// Whole units, largest first, as Go and the operator read them alike.
fn long_duration() -> Rule {
    Rule::new(
        "self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && self != '' \
         && duration(self) >= duration('1s') && duration(self) <= duration('87600h')",
    )
    .message("must be a duration from 1s to 87600h in whole units, such as 90s, 12h or 720h")
}

/// What is known of the key. Written by the operator.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct McpApiKeyStatus {
    /// How the key is doing. `Accepted`: the resource is valid and the key is made. `Programmed`:
    /// every ready gateway knows it. `Ready`: clients can call with it.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The `metadata.generation` that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The conditions in one word: Pending, Active, Disabled, Expired or Invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,

    /// How the key begins, to recognise it by. Only for keys that the operator made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,

    /// When the key was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,

    /// When the key stops working; empty for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,

    /// When the next key is made; empty for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_rotation: Option<Time>,

    /// When a client last called with the key, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Time>,
}

/// Servers, and the tools of theirs, that a key may use.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Names of McpServers of this namespace; `*` and `?` are wildcards. All of them when left out.
    /// A server that another namespace exposes to this one is named as `NAMESPACE/NAME`.
    #[serde(default = "everything")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 127)))]
    #[x_kube(validation = not_empty())]
    pub servers: Vec<String>,

    /// Names of tools as the server itself calls them, without the prefix; `*` and `?` are
    /// wildcards. All of them when left out. All tools, left out or `*`, means the server's prompts
    /// and resources too; tools that are named are these tools alone.
    #[serde(default = "everything")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = not_empty())]
    pub tools: Vec<String>,
}

impl Default for Access {
    fn default() -> Self {
        Self { servers: everything(), tools: everything() }
    }
}
