//! The schemas themselves: descriptions, bounds, defaults, columns.

use std::collections::BTreeSet;

use crds::{
    Access, Credentials, McpApiKeySpec, McpApiKeyStatus, McpPolicySpec, McpPolicyStatus,
    McpServerSpec, McpServerStatus, Rotation, Rule, ServiceRef, Tls, Tools, Volume, Workload,
    WorkloadSecurityContext,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::apply_defaults;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The schema of a kind.
pub(crate) fn of(kind: &str) -> Value {
    let crds = crds::generate::crds();
    of_crd(crds.iter().find(|crd| crd.spec.names.kind == kind).unwrap())
}

/// The schema of a CRD.
pub(crate) fn of_crd(crd: &CustomResourceDefinition) -> Value {
    let schema = crd.spec.versions[0].schema.as_ref().unwrap();
    serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// Every CEL rule, with the path of the schema it stands in.
pub(crate) fn rules() -> Vec<(String, Value)> {
    nodes()
        .into_iter()
        .flat_map(|(path, node)| {
            let rules = node["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
            rules.into_iter().map(move |rule| (path.clone(), rule))
        })
        .collect()
}

#[test]
fn every_field_is_described_in_a_sentence() {
    for (path, node) in nodes() {
        if of_kubernetes(&path) {
            continue;
        }
        let item = path.ends_with("[]") || path.ends_with("{}");
        let description = node["description"].as_str().unwrap_or_default().trim();

        assert!(item || description.ends_with('.'), "{path} is described as {description:?}");
    }
}

/// Without bounds, an apiserver's estimate of what a CEL rule costs has no end.
#[test]
fn everything_a_user_writes_is_bounded() {
    for (path, node) in nodes() {
        if path.contains(".status") || of_kubernetes(&path) {
            continue;
        }
        let bounded = match node["type"].as_str().unwrap() {
            "string" => ["maxLength", "enum", "format"].iter().any(|key| node.get(key).is_some()),
            "integer" => node.get("minimum").is_some() && node.get("maximum").is_some(),
            "array" => node.get("maxItems").is_some(),
            "object" if node.get("additionalProperties").is_some() => {
                node.get("maxProperties").is_some()
            }
            _ => true,
        };
        assert!(bounded, "{path} has no bound");
    }
}

/// What is left out of the tests above must be there to be left out.
#[test]
fn kubernetes_has_schemas_of_its_own_for_what_pods_share() {
    let nodes = nodes();

    for subtree in KUBERNETES {
        assert!(nodes.iter().any(|(path, _)| path == subtree), "{subtree} is ours or gone");
        let below = |path: &str| of_kubernetes(path) && path.starts_with(subtree);
        assert!(nodes.iter().any(|(path, _)| below(path)), "nothing below {subtree}");
    }
    for (path, rule) in rules() {
        assert!(!of_kubernetes(&path), "{path}: without bounds it could cost anything: {rule}");
    }
}

/// A regular expression is all that an apiserver would say of one; rules have messages.
#[test]
fn nothing_is_refused_with_a_regular_expression() {
    for (path, node) in nodes() {
        assert!(node.get("pattern").is_none(), "{path} has a pattern");
    }
}

#[test]
fn schemas_are_structural() {
    for (path, node) in nodes() {
        for keyword in ["$ref", "allOf", "anyOf", "oneOf", "not"] {
            assert!(node.get(keyword).is_none(), "{path} has {keyword}");
        }
        // Others make apiservers from 1.34 on warn of an unrecognised format.
        let format = node["format"].as_str().unwrap_or("int64");
        assert!(["date-time", "int32", "int64"].contains(&format), "{path}: {format}");
    }
}

#[test]
fn rules_ask_only_for_fields_that_cannot_be_null() {
    for (path, node) in nodes() {
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            for asked in rule["rule"].as_str().unwrap().split("has(self.").skip(1) {
                let field = asked.split(')').next().unwrap();
                assert!(!field.contains('.'), "{path} has a rule that belongs to {field}");
                let property = &node["properties"][field];
                assert!(property.is_object(), "{path} has no {field}");
                assert!(property.get("nullable").is_none(), "{path}.{field} may be null");
            }
        }
    }
}

#[test]
fn messages_fit_on_one_line() {
    for (path, rule) in rules() {
        let message = rule["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty() && !message.contains('\n'), "{path}: {rule}");
    }
}

#[test]
fn defaults_are_in_the_schema() {
    let found =
        nodes().into_iter().filter_map(|(path, node)| Some((path, node.get("default")?.clone())));

    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            ("McpServer.spec.credentials.header", json!("Authorization")),
            ("McpServer.spec.session", json!("Auto")),
            ("McpServer.spec.toolChanges", json!("Accept")),
            ("McpServer.spec.tools", json!({})),
            ("McpServer.spec.transport", json!("Auto")),
            ("McpServer.spec.workload.port", json!(8000)),
            ("McpServer.spec.workload.replicas", json!(1)),
            ("McpServer.spec.workload.securityContext.readOnlyRootFilesystem", json!(false)),
            ("McpServer.spec.workload.volumes[].readOnly", json!(false)),
            ("McpServer.status.conditions", json!([])),
            ("McpApiKey.spec.allow.servers", json!(["*"])),
            ("McpApiKey.spec.allow.tools", json!(["*"])),
            ("McpApiKey.spec.disabled", json!(false)),
            ("McpApiKey.spec.groups", json!([])),
            ("McpApiKey.spec.rotation.overlap", json!("24h")),
            ("McpApiKey.status.conditions", json!([])),
            ("McpPolicy.spec.rules[].effect", json!("Allow")),
            ("McpPolicy.spec.rules[].servers", json!(["*"])),
            ("McpPolicy.spec.rules[].tools", json!(["*"])),
            ("McpPolicy.status.conditions", json!([])),
        ]
        .map(|(path, default)| (path.to_owned(), default))
    );
}

#[test]
fn enums_are_in_the_schema() {
    let found =
        nodes().into_iter().filter_map(|(path, node)| Some((path, node.get("enum")?.clone())));

    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            ("McpServer.spec.session", json!(["Auto", "Shared", "PerClient"])),
            ("McpServer.spec.toolChanges", json!(["Accept", "Quarantine"])),
            ("McpServer.spec.transport", json!(["Auto", "StreamableHttp", "Sse"])),
            (
                "McpServer.spec.workload.imagePullPolicy",
                json!(["Always", "IfNotPresent", "Never"]),
            ),
            ("McpPolicy.spec.rules[].effect", json!(["Allow", "Deny"])),
        ]
        .map(|(path, values)| (path.to_owned(), values))
    );
}

/// A manifest means the same whether it comes from a directory or through an apiserver.
#[test]
fn defaults_of_serde_are_those_of_the_schema() {
    let secret = json!({"name": "weather", "key": "token"});
    let spec = |kind| of(kind)["properties"]["spec"].clone();
    let status = |kind| of(kind)["properties"]["status"].clone();
    let (server, key, policy) = (spec("McpServer"), spec("McpApiKey"), spec("McpPolicy"));

    let url = "http://weather";
    let volume = json!({"name": "tmp", "mountPath": "/tmp", "emptyDir": {}});
    for bare in [
        json!({"url": url}),
        json!({"url": url, "tools": {"deny": ["x"]}}),
        json!({"url": url, "timeouts": {}, "retries": {}, "circuitBreaker": {}}),
        json!({"url": url, "credentials": {"secretRef": secret}}),
        json!({"url": url, "tls": {"caSecretRef": secret}}),
        json!({"service": {"name": "weather"}}),
        json!({"workload": {"image": "weather"}}),
        json!({"workload": {"image": "weather", "securityContext": {}, "volumes": [volume]}}),
    ] {
        same_defaults::<McpServerSpec>(&server, &bare);
    }
    for bare in [
        json!({"user": "ann"}),
        json!({"user": "ann", "rotation": {"interval": "1h"}}),
        json!({"user": "ann", "allow": {}}),
        json!({"user": "ann", "allow": {"servers": ["a"]}}),
    ] {
        same_defaults::<McpApiKeySpec>(&key, &bare);
    }
    for bare in [
        json!({"subjects": [{"user": "ann"}], "rules": [{}]}),
        json!({"subjects": [{"key": "a"}], "rules": [{"effect": "Deny"}, {"tools": ["a"]}]}),
    ] {
        same_defaults::<McpPolicySpec>(&policy, &bare);
    }
    same_defaults::<McpServerStatus>(&status("McpServer"), &json!({}));
    same_defaults::<McpApiKeyStatus>(&status("McpApiKey"), &json!({}));
    same_defaults::<McpPolicyStatus>(&status("McpPolicy"), &json!({}));
}

/// `..Default::default()` in Rust leaves a field out just as a manifest does.
#[test]
fn defaults_of_rust_are_those_of_serde() {
    same_default::<McpServerSpec>(json!({}));
    same_default::<McpServerStatus>(json!({}));
    same_default::<Workload>(json!({"image": ""}));
    same_default::<WorkloadSecurityContext>(json!({}));
    same_default::<Volume>(json!({"name": "", "mountPath": ""}));
    same_default::<ServiceRef>(json!({"name": ""}));
    same_default::<Tls>(json!({"caSecretRef": {"name": "", "key": ""}}));
    same_default::<Tools>(json!({}));
    same_default::<Credentials>(json!({"secretRef": {"name": "", "key": ""}}));
    same_default::<McpApiKeySpec>(json!({"user": ""}));
    same_default::<McpApiKeyStatus>(json!({}));
    same_default::<Rotation>(json!({"interval": ""}));
    same_default::<Access>(json!({}));
    same_default::<McpPolicySpec>(json!({"subjects": [], "rules": []}));
    same_default::<McpPolicyStatus>(json!({}));
    same_default::<Rule>(json!({}));
}

#[test]
fn kinds_are_found_by_short_name_and_category() {
    let found = crds::generate::crds().map(|crd| {
        let names = crd.spec.names;
        assert_eq!(names.categories, Some(vec!["fairway".to_owned()]), "{}", names.kind);
        assert_eq!(crd.spec.scope, "Namespaced", "{}", names.kind);
        (names.plural, names.short_names.unwrap().join(","))
    });

    assert_eq!(
        found,
        [("mcpservers", "mcps"), ("mcpapikeys", "mcpk"), ("mcppolicies", "mcpp")]
            .map(|(plural, short)| (plural.to_owned(), short.to_owned()))
    );
}

#[test]
fn kubectl_get_shows_whether_it_works() {
    let found = crds::generate::crds().map(|crd| {
        let columns = crd.spec.versions.into_iter().next().unwrap().additional_printer_columns;
        let name = |wide: bool| {
            let columns = columns.iter().flatten();
            let shown = columns.filter(move |column| (column.priority.unwrap_or(0) > 0) == wide);
            shown.map(|column| column.name.to_uppercase()).collect::<Vec<_>>().join(" ")
        };
        format!("{} | {}", name(false), name(true))
    });

    assert_eq!(
        found,
        [
            "READY TOOLS ADDRESS AGE | REASON",
            "USER READY PHASE PREFIX EXPIRES LAST-USED AGE | DESCRIPTION",
            "READY KEYS SUBJECTS AGE | RULES",
        ]
    );
}

fn same_defaults<T>(schema: &Value, bare: &Value)
where
    T: DeserializeOwned + Serialize,
{
    let by_serde: T = serde_json::from_value(bare.clone()).unwrap();

    assert_eq!(serde_json::to_value(by_serde).unwrap(), apply_defaults(schema, bare), "{bare}");
}

fn same_default<T>(bare: Value)
where
    T: Default + std::fmt::Debug + PartialEq + for<'de> Deserialize<'de>,
{
    assert_eq!(T::default(), serde_json::from_value(bare).unwrap());
}

/// Whether a schema is described and bounded by Kubernetes, whose type it is.
fn of_kubernetes(path: &str) -> bool {
    KUBERNETES.iter().any(|subtree| {
        path.strip_prefix(subtree).is_some_and(|below| below.starts_with(['.', '[', '{']))
    })
}

/// Fields that are as in a Pod: what is below them.
const KUBERNETES: [&str; 8] = [
    "McpServer.spec.workload.env",
    "McpServer.spec.workload.envFrom",
    "McpServer.spec.workload.resources",
    "McpServer.spec.workload.volumes[].emptyDir",
    "McpServer.spec.workload.volumes[].configMap",
    "McpServer.spec.workload.volumes[].secret",
    "McpServer.spec.workload.volumes[].persistentVolumeClaim",
    "McpServer.spec.workload.volumes[].projected",
];

/// Every schema below the kinds, with its path: `[]` for the items of a list, `{}` for the values
/// of a map.
fn nodes() -> Vec<(String, Value)> {
    let mut nodes = Vec::new();
    for crd in crds::generate::crds() {
        collect(&of_crd(&crd), crd.spec.names.kind, &mut nodes);
    }
    let paths: BTreeSet<_> = nodes.iter().map(|(path, _)| path).collect();
    assert_eq!(paths.len(), nodes.len(), "paths are unique");
    nodes
}

fn collect(node: &Value, path: String, into: &mut Vec<(String, Value)>) {
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        collect(property, format!("{path}.{name}"), into);
    }
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = node.get(keyword) {
            collect(inner, format!("{path}{mark}"), into);
        }
    }
    into.push((path, node.clone()));
}
