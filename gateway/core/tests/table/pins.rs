//! Definitions that were accepted: with `toolChanges: Quarantine` no other is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::{Catalog, DefinitionHash, Entry, Namespace, References, Secrets, ServerName};
use mcp::json::Json;
use serde_json::{Value, json};

use crate::fixture::{PEPPER, World, claim, key, manifest, resource};

/// Definitions by name: another text is another definition.
fn catalog(tools: &[(&str, &str)]) -> Catalog {
    let mut catalog = Catalog::default();
    for (name, description) in tools {
        let definition = json!({"name": name, "description": description});
        catalog.add(Json::parse(&definition.to_string()).unwrap()).unwrap();
    }
    catalog
}

fn hashes(catalog: &Catalog) -> Arc<BTreeMap<String, DefinitionHash>> {
    Arc::new(catalog.tools().iter().map(|tool| (tool.name.to_string(), tool.hash)).collect())
}

/// A server that offers `log`, changed since it was accepted, `push`, which was not, and `blame`,
/// which is new.
fn names(more: &Value, accepted: Option<&Catalog>) -> Vec<String> {
    let mut spec = json!({"url": "http://host"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let secrets = Secrets::default();
    let references = References {
        accepted: accepted.map(hashes),
        ..References::without_cluster(claim(0), &secrets, &PEPPER)
    };
    let git = resource(manifest("McpServer", "a", "git", &spec)).unwrap();
    let mut world = World::of([
        Entry::from_resource(&git, references).unwrap(),
        key("a/ann", json!({"allow": {}})),
    ]);
    let now = catalog(&[("log", "steals"), ("push", "pushes"), ("blame", "blames")]);
    world.entries.offer(&Namespace::new("a"), &ServerName::new("git"), Arc::new(now));
    world.build();
    world.names("a/ann")
}

fn before() -> Catalog {
    catalog(&[("gone", "goes"), ("log", "logs"), ("push", "pushes")])
}

#[test]
fn changed_and_new_tools_are_hidden_in_quarantine() {
    assert_eq!(names(&json!({"toolChanges": "Quarantine"}), Some(&before())), ["git_push"]);
}

#[test]
fn nothing_is_hidden_before_anything_was_accepted() {
    let all = ["git_log", "git_push", "git_blame"];

    assert_eq!(names(&json!({"toolChanges": "Quarantine"}), None), all);
}

#[test]
fn nothing_is_shown_of_a_server_that_had_no_tools() {
    let none = catalog(&[]);

    assert_eq!(names(&json!({"toolChanges": "Quarantine"}), Some(&none)), [""; 0]);
}

#[test]
fn changes_are_shown_unless_the_manifest_asks_for_quarantine() {
    let all = ["git_log", "git_push", "git_blame"];

    assert_eq!(names(&json!({}), Some(&before())), all);
    assert_eq!(names(&json!({"toolChanges": "Accept"}), Some(&before())), all);
}

/// The pin is on what the server says, not on what clients see of it.
#[test]
fn prefixes_and_descriptions_of_the_manifest_are_no_change() {
    let tools = json!({
        "prefix": "g-",
        "deny": ["blame"],
        "overrides": {"push": {"description": "Pushes, but nicer"}},
    });
    let spec = json!({"toolChanges": "Quarantine", "tools": tools});

    assert_eq!(names(&spec, Some(&before())), ["g-push"]);
}

#[test]
fn a_denied_tool_stays_hidden_when_its_definition_is_accepted() {
    let spec = json!({"toolChanges": "Quarantine", "tools": {"deny": ["push"]}});

    assert_eq!(names(&spec, Some(&before())), [""; 0]);
}
