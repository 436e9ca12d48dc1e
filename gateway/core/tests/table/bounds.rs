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
            for (keyword, limit) in node.as_object().unwrap() {
                let Some(limit) = limit.as_u64().map(|limit| limit as usize) else { continue };
                let beyond =
                    if keyword.starts_with("min") { limit.checked_sub(1) } else { Some(limit + 1) };
                for (size, accepted) in [(Some(limit), true), (beyond, false)] {
                    // No duration of 32 characters is within a day.
                    if path[0] == "timeouts" && accepted {
                        continue;
                    }
                    let Some(size) = size else { continue };
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
    assert!(checked > 80, "{checked} bounds");
}

/// Specs that hold every field.
fn full(kind: &str) -> Vec<Value> {
    let rules = json!([{"effect": "Deny", "servers": ["git"], "tools": ["log"]}]);
    match kind {
        "McpServer" => vec![json!({
            "url": "http://git",
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
            "timeouts": {"connect": "1s", "request": "1s", "total": "1s"},
        })],
        "McpApiKey" => vec![json!({
            "user": "ann",
            "groups": ["analysts"],
            "description": "d",
            "valueFrom": {"secretKeyRef": {"name": "ann", "key": "key"}},
            "allow": {"servers": ["git"], "tools": ["log"]},
        })],
        "McpPolicy" => ["user", "group", "key"]
            .map(|subject| json!({"subjects": [{subject: "ann"}], "rules": rules}))
            .into(),
        kind => panic!("unknown kind {kind}"),
    }
}

/// A valid value of that size, but for the size.
fn resize(path: &[String], old: &Value, size: usize) -> Value {
    match old {
        Value::String(_) => {
            let start = match path[0].as_str() {
                "url" => "http://",
                "path" => "/",
                _ => "",
            };
            json!(format!("{start}{}", "a".repeat(size.saturating_sub(start.len()))))
        }
        Value::Array(items) => items.iter().cycle().take(size).cloned().collect(),
        Value::Object(_) => {
            (0..size).map(|at| (at.to_string(), json!({}))).collect::<Map<_, _>>().into()
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
