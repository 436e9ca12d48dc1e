//! The schemas themselves: descriptions, bounds, defaults, columns.

use std::collections::BTreeSet;

use crds::{
    Access, Credentials, McpApiKeySpec, McpPolicySpec, McpServerSpec, McpServerStatus, Rule, Tools,
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
        let item = path.ends_with("[]") || path.ends_with("{}");
        let description = node["description"].as_str().unwrap_or_default().trim();

        assert!(item || description.ends_with('.'), "{path} is described as {description:?}");
    }
}

/// Without bounds, an apiserver's estimate of what a CEL rule costs has no end.
#[test]
fn everything_a_user_writes_is_bounded() {
    for (path, node) in nodes() {
        if path.contains(".status") {
            continue;
        }
        let bounded = match node["type"].as_str().unwrap() {
            "string" => ["maxLength", "enum", "format"].iter().any(|key| node.get(key).is_some()),
            "array" => node.get("maxItems").is_some(),
            "object" if node.get("additionalProperties").is_some() => {
                node.get("maxProperties").is_some()
            }
            _ => true,
        };
        assert!(bounded, "{path} has no bound");
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
            ("McpServer.spec.tools", json!({})),
            ("McpServer.spec.transport", json!("Auto")),
            ("McpServer.status.conditions", json!([])),
            ("McpApiKey.spec.allow.servers", json!(["*"])),
            ("McpApiKey.spec.allow.tools", json!(["*"])),
            ("McpApiKey.spec.disabled", json!(false)),
            ("McpApiKey.spec.groups", json!([])),
            ("McpPolicy.spec.rules[].effect", json!("Allow")),
            ("McpPolicy.spec.rules[].servers", json!(["*"])),
            ("McpPolicy.spec.rules[].tools", json!(["*"])),
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
            ("McpServer.spec.transport", json!(["Auto", "StreamableHttp", "Sse"])),
            ("McpPolicy.spec.rules[].effect", json!(["Allow", "Deny"])),
        ]
        .map(|(path, values)| (path.to_owned(), values))
    );
}

/// A manifest means the same whether it comes from a directory or through an apiserver.
#[test]
fn defaults_of_serde_are_those_of_the_schema() {
    let secret = json!({"name": "weather", "key": "token"});
    let server = of("McpServer")["properties"]["spec"].clone();
    let key = of("McpApiKey")["properties"]["spec"].clone();
    let policy = of("McpPolicy")["properties"]["spec"].clone();
    let status = of("McpServer")["properties"]["status"].clone();

    let url = "http://weather";
    same_defaults::<McpServerSpec>(&server, &json!({"url": url}));
    same_defaults::<McpServerSpec>(&server, &json!({"url": url, "tools": {"deny": ["x"]}}));
    same_defaults::<McpServerSpec>(&server, &json!({"url": url, "timeouts": {}}));
    same_defaults::<McpServerSpec>(
        &server,
        &json!({"url": url, "credentials": {"secretRef": secret}}),
    );
    same_defaults::<McpServerStatus>(&status, &json!({}));
    same_defaults::<McpApiKeySpec>(&key, &json!({"user": "ann"}));
    same_defaults::<McpApiKeySpec>(&key, &json!({"user": "ann", "allow": {}}));
    same_defaults::<McpApiKeySpec>(&key, &json!({"user": "ann", "allow": {"servers": ["a"]}}));
    same_defaults::<McpPolicySpec>(&policy, &json!({"subjects": [{"user": "ann"}], "rules": [{}]}));
    same_defaults::<McpPolicySpec>(
        &policy,
        &json!({"subjects": [{"key": "a"}], "rules": [{"effect": "Deny"}, {"tools": ["a"]}]}),
    );
}

/// `..Default::default()` in Rust leaves a field out just as a manifest does.
#[test]
fn defaults_of_rust_are_those_of_serde() {
    same_default::<McpServerSpec>(json!({"url": ""}));
    same_default::<McpServerStatus>(json!({}));
    same_default::<Tools>(json!({}));
    same_default::<Credentials>(json!({"secretRef": {"name": "", "key": ""}}));
    same_default::<McpApiKeySpec>(json!({"user": ""}));
    same_default::<Access>(json!({}));
    same_default::<McpPolicySpec>(json!({"subjects": [], "rules": []}));
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
            "READY TOOLS URL AGE | REASON",
            "USER DISABLED EXPIRES AGE | DESCRIPTION",
            "SUBJECTS AGE | RULES",
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
