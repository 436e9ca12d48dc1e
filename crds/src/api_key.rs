//! `McpApiKey`: a key that an AI client presents, and whom it speaks for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::SecretKeyRef;
use crate::selector::{everything, not_empty};

/// Whom a key speaks for, where its value comes from and what it may use.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "fairway.dev",
    version = "v1alpha1",
    kind = "McpApiKey",
    namespaced,
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
        name = "Disabled",
        type_ = "boolean",
        json_path = ".spec.disabled",
        description = "Whether the key is refused for the time being"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".spec.expiresAt",
        description = "When the key stops working; empty for never"
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<KeySource>,

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

/// Servers, and the tools of theirs, that a key may use.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Names of McpServers of this namespace; `*` and `?` are wildcards. All of them when left out.
    #[serde(default = "everything")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = not_empty())]
    pub servers: Vec<String>,

    /// Names of tools as the server itself calls them, without the prefix; `*` and `?` are
    /// wildcards. All of them when left out.
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
