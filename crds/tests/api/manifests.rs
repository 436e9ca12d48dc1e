//! What the CRDs accept and refuse: the rows of `manifests.yaml` and `workloads.yaml`.

use std::collections::BTreeSet;

use crds::{McpApiKey, McpPolicy, McpServer};
use kube::CustomResourceExt;
use kube::core::cel::{apply_defaults, validate_cel};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{bounds, schema};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    row: String,
    kind: String,
    /// `metadata.name`
    #[serde(default = "weather")]
    name: String,
    spec: Value,
    /// Everything that must be found wrong; nothing when the manifest must be accepted.
    #[serde(default)]
    refused: BTreeSet<String>,
}

#[test]
fn manifests_are_accepted_or_refused_with_the_mend() {
    for row in rows() {
        let manifest = row.manifest();

        let found = match row.kind.as_str() {
            "McpServer" => refusals::<McpServer>(&manifest),
            "McpApiKey" => refusals::<McpApiKey>(&manifest),
            "McpPolicy" => refusals::<McpPolicy>(&manifest),
            kind => panic!("{}: unknown kind {kind}", row.row),
        };

        assert_eq!(found, row.refused, "{}", row.row);
    }
}

#[test]
fn lengths_are_bounded() {
    let long = |length| "a".repeat(length);
    let many = |length| vec!["a"; length];
    let overrides = |length: usize| -> Value {
        (0..length)
            .map(|tool| (tool.to_string(), json!({})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let url = |length: usize| format!("http://{}", long(length - "http://".len()));
    let subjects = |length| vec![json!({"user": "ann"}); length];
    let rules = |length| vec![json!({}); length];
    let with_url = |field: &str, value: Value| json!({"url": "http://a", field: value});
    let tools = |field: &str, value: Value| with_url("tools", json!({ field: value }));
    let key = |field: &str, value: Value| json!({"user": "ann", field: value});
    let workload = |field: &str, value: Value| json!({"workload": {"image": "a", field: value}});
    let volumes = |length| vec![json!({"name": "a", "mountPath": "/a"}); length];

    let table = [
        ("McpServer", "url", json!({"url": url(2048)}), json!({"url": url(2049)})),
        (
            "McpServer",
            "description",
            with_url("description", json!(long(1024))),
            with_url("description", json!(long(1025))),
        ),
        ("McpServer", "allow", tools("allow", json!(many(256))), tools("allow", json!(many(257)))),
        ("McpServer", "deny", tools("deny", json!(many(256))), tools("deny", json!(many(257)))),
        (
            "McpServer",
            "glob",
            tools("allow", json!([long(128)])),
            tools("allow", json!([long(129)])),
        ),
        (
            "McpServer",
            "overrides",
            tools("overrides", overrides(256)),
            tools("overrides", overrides(257)),
        ),
        (
            "McpServer",
            "exposeTo",
            with_url("exposeTo", json!(many(64))),
            with_url("exposeTo", json!(many(65))),
        ),
        (
            "McpServer",
            "args",
            workload("args", json!([long(131_071)])),
            workload("args", json!([long(131_072)])),
        ),
        (
            "McpServer",
            "volumes",
            workload("volumes", json!(volumes(64))),
            workload("volumes", json!(volumes(65))),
        ),
        ("McpServer", "port", workload("port", json!(65_535)), workload("port", json!(65_536))),
        (
            "McpServer",
            "replicas",
            workload("replicas", json!(1000)),
            workload("replicas", json!(1001)),
        ),
        (
            "McpServer",
            "group",
            workload("securityContext", json!({"fsGroup": 2_147_483_647_i64})),
            workload("securityContext", json!({"fsGroup": 2_147_483_648_i64})),
        ),
        (
            "McpApiKey",
            "secretName",
            key("secretName", json!(long(253))),
            key("secretName", json!(long(254))),
        ),
        (
            "McpApiKey",
            "server of another namespace",
            key("allow", json!({"servers": [long(127)]})),
            key("allow", json!({"servers": [long(128)]})),
        ),
        ("McpApiKey", "user", json!({"user": long(253)}), json!({"user": long(254)})),
        ("McpApiKey", "groups", key("groups", json!(many(64))), key("groups", json!(many(65)))),
        (
            "McpApiKey",
            "servers",
            key("allow", json!({"servers": many(256)})),
            key("allow", json!({"servers": many(257)})),
        ),
        (
            "McpPolicy",
            "subjects",
            json!({"subjects": subjects(256), "rules": rules(1)}),
            json!({"subjects": subjects(257), "rules": rules(1)}),
        ),
        (
            "McpPolicy",
            "rules",
            json!({"subjects": subjects(1), "rules": rules(256)}),
            json!({"subjects": subjects(1), "rules": rules(257)}),
        ),
    ];
    for (kind, field, longest, too_long) in table {
        let schema = schema::of(kind);
        let check = |spec| bounds::check(&schema["properties"]["spec"], &spec, "spec");

        assert_eq!(check(longest), [] as [&str; 0], "longest {field} of {kind}");
        let found = check(too_long);
        assert!(found.len() == 1 && found[0].contains(": max"), "{field} of {kind}: {found:?}");
    }
}

/// A message that no row provokes is a rule that nobody has seen refuse anything.
#[test]
fn every_rule_has_a_row_that_it_refuses() {
    let provoked: BTreeSet<String> = rows().into_iter().flat_map(|row| row.refused).collect();

    for (path, rule) in schema::rules() {
        let message = rule["message"].as_str().unwrap();
        let seen = provoked.iter().any(|text| text.ends_with(message));
        assert!(seen, "{path}: no row is refused with: {message}");
    }
}

impl Row {
    fn manifest(&self) -> Value {
        json!({
            "apiVersion": "fairway.dev/v1alpha1",
            "kind": self.kind,
            "metadata": {"name": self.name, "namespace": "tools"},
            "spec": self.spec,
        })
    }
}

/// In the order of an apiserver: defaults, bounds, and CEL only on what has the right shape.
fn refusals<K>(manifest: &Value) -> BTreeSet<String>
where
    K: CustomResourceExt + DeserializeOwned + Serialize,
{
    let schema = schema::of_crd(&K::crd());
    let manifest = apply_defaults(&schema, manifest);
    let spec = (&schema["properties"]["spec"], &manifest["spec"]);
    let mut found: BTreeSet<String> = bounds::check(spec.0, spec.1, "spec").into_iter().collect();
    // Some of what is out of bounds keeps an apiserver from asking the rules.
    let blocked = |text: &String| {
        ["required", "maxLength", "maxItems", "maxProperties"].iter().any(|end| text.ends_with(end))
            || text.contains(": must be of type ")
    };
    if found.iter().any(blocked) {
        return found;
    }
    if let Ok(resource) = serde_json::from_value::<K>(manifest)
        && let Err(errors) = validate_cel(&resource)
    {
        found.extend(errors.iter().map(ToString::to_string));
    }
    found
}

fn rows() -> Vec<Row> {
    [include_str!("manifests.yaml"), include_str!("workloads.yaml")]
        .into_iter()
        .flat_map(|rows| serde_saphyr::from_str::<Vec<Row>>(rows).unwrap())
        .collect()
}

fn weather() -> String {
    "weather".to_owned()
}
