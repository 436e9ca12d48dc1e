//! What is known of an `McpServer`: the part that the operator writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What is known of the server. Written by the operator.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct McpServerStatus {
    /// How the server is doing. `Accepted`: the resource is valid. `Available`: its pods run.
    /// `Programmed`: every ready gateway knows it. `Verified`: every ready gateway listed its tools.
    /// `Ready`: its tools can be called.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The `metadata.generation` that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Where the gateway reaches the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,

    /// The tools the server has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolsStatus>,

    /// What the server said of itself when the gateway connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ProtocolStatus>,

    /// When the present list of tools was first seen by every gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_verified: Option<Time>,

    /// How long the server last took to list its tools, such as `12ms`; the longest of all gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
}

/// The tools a server has.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolsStatus {
    /// How many tools there are.
    pub count: i32,

    /// A hash of the definitions of all tools, which changes when any of them does.
    pub hash: String,
}

/// What a server said of itself when the gateway connected.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtocolStatus {
    /// The version of MCP that is spoken with the server, such as `2025-11-25`.
    pub version: String,

    /// The transport that is spoken with the server: StreamableHttp or Sse.
    pub transport: String,

    /// The name the server gives itself.
    pub server_name: String,

    /// The version the server gives itself.
    pub server_version: String,
}
