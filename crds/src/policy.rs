//! `McpPolicy`: which users, groups and keys may use which tools.
// `self::Rule`: KubeSchema brings a `Rule` of its own into scope.
#![allow(unused_qualifications)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::{everything, not_empty};

/// To whom the policy applies, and what it allows or denies them.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize,
)]
#[kube(
    group = "fairway.dev",
    version = "v1alpha1",
    kind = "McpPolicy",
    namespaced,
    status = "McpPolicyStatus",
    shortname = "mcpp",
    category = "fairway",
    derive = "PartialEq",
    derive = "Default",
    doc = "McpPolicy says which users, groups and keys may use which tools of the McpServers in \
           its namespace. Nothing is allowed by default. A caller may use what the key's own \
           `allow` and all policies together allow, less what any policy denies.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the policy is in force at every gateway"
    ),
    printcolumn(
        name = "Keys",
        type_ = "integer",
        json_path = ".status.appliesTo.keys",
        description = "How many McpApiKeys it applies to"
    ),
    printcolumn(
        name = "Subjects",
        type_ = "string",
        json_path = ".spec.subjects",
        description = "To whom the policy applies"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Rules",
        type_ = "string",
        json_path = ".spec.rules",
        description = "What the policy allows and denies",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct McpPolicySpec {
    /// To whom the rules apply: to every caller that at least one of these subjects names.
    #[schemars(length(min = 1, max = 256))]
    pub subjects: Vec<Subject>,

    /// What the subjects may and may not use. Their order does not matter: a tool that any rule of
    /// any policy denies is denied, and a tool that nothing allows is denied too.
    #[schemars(length(min = 1, max = 256))]
    pub rules: Vec<self::Rule>,
}

/// What is known of the policy. Written by the operator.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct McpPolicyStatus {
    /// How the policy is doing. `Accepted`: the resource is valid. `Programmed`: every ready gateway
    /// knows it. `Ready`: it is in force.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The `metadata.generation` that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Whom the policy applies to now, and which servers its rules name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applies_to: Option<AppliesTo>,
}

/// Whom a policy applies to now.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliesTo {
    /// How many McpApiKeys of this namespace the subjects name.
    pub keys: i32,

    /// Users of these keys, the first 16 of them.
    pub users: Vec<String>,

    /// McpServers that the rules name, the first 16 of them.
    pub servers: Vec<String>,
}

/// Exactly one of a user, a group or a key.
// Not nullable, unlike other optional fields: `has()` must not count an explicit null as set.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.user), has(self.group), has(self.key)].filter(set, set).size() == 1",
    "must have exactly one of user, group, key; list another subject for another one",
))]
pub struct Subject {
    /// A user, as named by `spec.user` of an McpApiKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253))]
    pub user: Option<String>,

    /// A group, as named by `spec.groups` of an McpApiKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253))]
    pub group: Option<String>,

    /// The name of an McpApiKey of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// Servers and tools that are allowed or denied.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Whether the tools are allowed or denied. Deny wins over whatever else allows a tool.
    /// Default: Allow.
    #[serde(default)]
    pub effect: Effect,

    /// Names of McpServers of this namespace; `*` and `?` are wildcards. All of them when left out.
    /// A server that another namespace exposes to this one is named as `NAMESPACE/NAME`.
    #[serde(default = "everything")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 127)))]
    #[x_kube(validation = not_empty())]
    pub servers: Vec<String>,

    /// Names of tools as the server itself calls them, without the prefix; `*` and `?` are
    /// wildcards. All of them when left out. A rule for all tools, left out or `*`, is for the
    /// server's prompts and resources too; one that names tools is for these tools alone.
    #[serde(default = "everything")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = not_empty())]
    pub tools: Vec<String>,
}

impl Default for Rule {
    fn default() -> Self {
        Self { effect: Effect::default(), servers: everything(), tools: everything() }
    }
}

/// What a rule does with the tools it names.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Effect {
    /// The subjects may use the tools, unless something denies them.
    #[default]
    Allow,
    /// The subjects may not use the tools, whatever allows them.
    Deny,
}
