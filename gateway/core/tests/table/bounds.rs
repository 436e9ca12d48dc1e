//! Every bound of the CRDs' schemas holds without an apiserver too: what is at the limit is
//! accepted, what is beyond it refused.

use serde_json::{Map, Value, json};

use crate::fixture::manifest;
use crate::manifests::read;

#[test]
fn bounds_of_the_schemas_hold() {
    let mut checked = 0;
    for crd in crds::generate::crds() {
        let kind = &crd.spec.names.kind;
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let schema = &schema["openAPIV3Schema"]["properties"]["spec"];
        let specs = full(kind);
        for (path, node) in nodes(schema) {
            for (keyword, limit) in BOUNDS.iter().filter_map(|key| Some((key, node.get(key)?))) {
                let limit = limit.as_f64().unwrap() as i64;
                let beyond = if keyword.starts_with("min") { limit - 1 } else { limit + 1 };
                for (size, accepted) in [(limit, true), (beyond, false)] {
                    // No duration of 32 characters is within bounds.
                    let duration = ["timeouts", "circuitBreaker", "rotation"].contains(&&*path[0])
                        && node["type"] == "string";
                    let nothing = *keyword != "minimum" && size < 0;
                    if (duration && accepted) || nothing {
                        continue;
                    }
                    let sized = |old: &Value| resize(&path, old, size);
                    let spec = specs.iter().find_map(|spec| replace(spec, &path, &sized));
                    let spec = spec.unwrap_or_else(|| panic!("{kind} {path:?} is not in `full`"));

                    let entry = read(manifest(kind, "tools", "weather", &spec));

                    let what = format!("{kind} {path:?} {keyword} {size}: {entry:?}");
                    assert_eq!(entry.is_ok(), accepted, "{what}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 150, "{checked} bounds");
}

const BOUNDS: [&str; 8] = [
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
];

/// Specs that hold every field.
fn full(kind: &str) -> Vec<Value> {
    let rules = json!([{"effect": "Deny", "servers": ["git"], "tools": ["log"]}]);
    match kind {
        "McpServer" => vec![
            json!({
                "url": "https://git",
                "path": "/mcp",
                "hostHeader": "git",
                "description": "d",
                "tools": {
                    "prefix": "g",
                    "allow": ["a"],
                    "deny": ["b"],
                    "overrides": {"a": {"description": "d"}},
                },
                "credentials": {
                    "secretRef": {"name": "git", "key": "token"},
                    "header": "authorization",
                    "scheme": "Basic",
                },
                "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}},
                "exposeTo": ["team-a"],
                "timeouts": {"connect": "1s", "request": "1s", "total": "1s"},
                "retries": {"attempts": 1, "budgetPercent": 1},
                "circuitBreaker": {"failures": 1, "openFor": "1s"},
                "maxConcurrency": 1,
            }),
            json!({"workload": {
                "image": "git",
                "command": ["git"],
                "args": ["a"],
                "env": [{"name": "A"}],
                "envFrom": [{"secretRef": {"name": "a"}}],
                "port": 1,
                "replicas": 1,
                "volumes": [{"name": "a", "mountPath": "/a", "subPath": "a", "emptyDir": {}}],
                "securityContext": {"runAsUser": 1, "runAsGroup": 1, "fsGroup": 1},
                "healthPath": "/a",
                "imagePullSecrets": ["a"],
            }}),
            json!({"service": {"name": "git", "port": 1}}),
        ],
        "McpApiKey" => vec![
            json!({
                "user": "ann",
                "groups": ["analysts"],
                "description": "d",
                "valueFrom": {"secretKeyRef": {"name": "ann", "key": "key"}},
                "allow": {"servers": ["git"], "tools": ["log"]},
            }),
            json!({
                "user": "ann",
                "secretName": "ann",
                "rotation": {"interval": "1h", "overlap": "1h"},
            }),
        ],
        "McpPolicy" => ["user", "group", "key"]
            .map(|subject| json!({"subjects": [{subject: "ann"}], "rules": rules}))
            .into(),
        kind => panic!("unknown kind {kind}"),
    }
}

/// A valid value of that size, but for the size.
fn resize(path: &[String], old: &Value, size: i64) -> Value {
    let count = usize::try_from(size).unwrap_or_default();
    let name = path.last().unwrap().as_str();
    match old {
        Value::Number(_) => json!(size),
        Value::String(_) => {
            let start = match name {
                "url" => "https://",
                "path" | "healthPath" | "mountPath" => "/",
                _ => "",
            };
            json!(format!("{start}{}", "a".repeat(count.saturating_sub(start.len()))))
        }
        // No two of them may be alike.
        Value::Array(items) if name == "volumes" => (0..count)
            .map(|at| {
                let mut volume = items[0].clone();
                volume["name"] = json!(at.to_string());
                volume["mountPath"] = json!(format!("/{at}"));
                volume
            })
            .collect(),
        Value::Array(items) => items.iter().cycle().take(count).cloned().collect(),
        Value::Object(_) => {
            (0..count).map(|at| (at.to_string(), json!({}))).collect::<Map<_, _>>().into()
        }
        other => panic!("{path:?} is {other}"),
    }
}

/// Every schema node with its path; `[]` is an item, `{}` a value.
fn nodes(schema: &Value) -> Vec<(Vec<String>, &Value)> {
    fn walk<'a>(at: &[String], node: &'a Value, found: &mut Vec<(Vec<String>, &'a Value)>) {
        let mut go = |name: &str, node| {
            let path: Vec<String> = at.iter().cloned().chain([name.to_owned()]).collect();
            found.push((path.clone(), node));
            walk(&path, node, found);
        };
        for (name, node) in node["properties"].as_object().into_iter().flatten() {
            go(name, node);
        }
        if let Some(node) = node.get("items") {
            go("[]", node);
        }
        if let Some(node) = node.get("additionalProperties") {
            go("{}", node);
        }
    }
    let mut found = Vec::new();
    walk(&[], schema, &mut found);
    found
}

/// The spec with another value at the path; `None` if there is nothing.
fn replace(spec: &Value, path: &[String], new: &dyn Fn(&Value) -> Value) -> Option<Value> {
    let Some((first, rest)) = path.split_first() else { return Some(new(spec)) };
    let mut spec = spec.clone();
    let child = match first.as_str() {
        "[]" => spec.as_array_mut()?.first_mut()?,
        "{}" => spec.as_object_mut()?.values_mut().next()?,
        name => spec.as_object_mut()?.get_mut(name)?,
    };
    *child = replace(child, rest, new)?;
    Some(spec)
}
