//! Names and labels of what belongs to a server. Performs no I/O.

use std::collections::BTreeMap;

use crds::McpServer;
use kube::{Resource, ResourceExt};

use crate::entries::hashed;

/// On every object of a server: its name.
pub(crate) const SERVER: &str = "fairway.dev/server";
/// Selects what the operator runs.
pub(crate) const MANAGED: &str = "app.kubernetes.io/managed-by=fairway";

/// Name of a server's Deployment, Service, ServiceAccount and NetworkPolicy.
pub(crate) fn object_name(server: &str) -> String {
    within_label("mcp-", server)
}

/// Name of the Service without an address of its own. With a suffix it could be that of another
/// server.
pub(crate) fn headless_name(server: &str) -> String {
    within_label("mcph-", server)
}

fn within_label(prefix: &str, server: &str) -> String {
    // A Service's name is a label, and has at most 63 characters.
    let name = format!("{prefix}{server}");
    if name.len() <= 63 { name } else { format!("{prefix}{}", hashed(server)) }
}

/// Labels of a server's pods.
pub(super) fn pod_labels(server: &McpServer) -> BTreeMap<String, String> {
    let name = server.name_any();
    [
        ("app.kubernetes.io/name", "mcp-server"),
        ("app.kubernetes.io/instance", &name),
        ("app.kubernetes.io/managed-by", "fairway"),
        (SERVER, &name),
    ]
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .into()
}

/// What selects them. It can never change once a Deployment has it.
pub(super) fn selector(server: &McpServer) -> BTreeMap<String, String> {
    BTreeMap::from([(SERVER.to_owned(), server.name_any())])
}

/// Metadata of an object that goes when the server goes.
pub(super) fn metadata(
    server: &McpServer,
    name: String,
) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        name: Some(name),
        namespace: server.namespace(),
        labels: Some(pod_labels(server)),
        owner_references: server.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_no_two_are_alike() {
        let (long, other) = ("s".repeat(63), format!("{}t", "s".repeat(62)));

        assert_eq!(object_name("git"), "mcp-git");
        assert_eq!(headless_name("git"), "mcph-git");
        for name in [&long, &other] {
            assert!(object_name(name).len() <= 63 && headless_name(name).len() <= 63);
            assert_ne!(object_name(name), headless_name(name));
        }
        assert_ne!(object_name(&long), object_name(&other));
    }
}
