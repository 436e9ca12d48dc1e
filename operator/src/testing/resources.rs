//! Resources, as manifests that are as small as can be.

use crds::{McpApiKey, McpServer};
use serde_json::{Value, json};

/// The namespace of most of them.
pub(crate) const TEAM: &str = "team";

/// Paths of collections in [`TEAM`].
pub(crate) const SERVERS: &str = "/apis/fairway.dev/v1alpha1/namespaces/team/mcpservers";
pub(crate) const KEYS: &str = "/apis/fairway.dev/v1alpha1/namespaces/team/mcpapikeys";
pub(crate) const POLICIES: &str = "/apis/fairway.dev/v1alpha1/namespaces/team/mcppolicies";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/team/secrets";
pub(crate) const SERVICES: &str = "/api/v1/namespaces/team/services";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/team/deployments";
/// Of the namespace of the entries.
pub(crate) const ENTRIES: &str = "/api/v1/namespaces/entries/secrets";

/// A resource of ours.
pub(crate) fn manifest(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    let mut made = json!({
        "apiVersion": "fairway.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    });
    made["spec"] = spec;
    made
}

pub(crate) fn server(name: &str, spec: Value) -> Value {
    manifest("McpServer", TEAM, name, spec)
}

pub(crate) fn key(name: &str, spec: Value) -> Value {
    manifest("McpApiKey", TEAM, name, spec)
}

pub(crate) fn policy(name: &str, spec: Value) -> Value {
    manifest("McpPolicy", TEAM, name, spec)
}

/// A Secret with one value, which is not encoded here.
pub(crate) fn secret(name: &str, key: &str, value: &str) -> Value {
    use base64::Engine;
    let value = base64::engine::general_purpose::STANDARD.encode(value);
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": TEAM}, "data": {key: value},
    })
}

/// A Service that Kubernetes fills.
pub(crate) fn service(name: &str, ports: &[i32]) -> Value {
    let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": {"selector": {"app": name}, "ports": ports},
    })
}

/// The same, typed, as an apiserver gives it: with a UID and a generation.
pub(crate) fn typed<K: serde::de::DeserializeOwned>(mut manifest: Value) -> K {
    let meta = &mut manifest["metadata"];
    for (name, value) in [
        ("uid", json!("uid")),
        ("generation", json!(1)),
        ("resourceVersion", json!("1")),
        ("creationTimestamp", json!("2026-01-01T00:00:00Z")),
    ] {
        if meta[name].is_null() {
            meta[name] = value;
        }
    }
    serde_json::from_value(manifest).unwrap()
}

pub(crate) fn a_server(name: &str, spec: Value) -> McpServer {
    typed(server(name, spec))
}

pub(crate) fn a_key(name: &str, spec: Value) -> McpApiKey {
    typed(key(name, spec))
}
