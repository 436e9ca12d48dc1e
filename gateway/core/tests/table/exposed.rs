//! Servers of one tenant that another may be granted: both sides have to want it.

use gateway_core::{Entry, Kind, Secrets};
use serde_json::{Value, json};

use crate::fixture::{World, from_resource, key, manifest, policy};

fn exposed(id: &str, to: &[&str], tools: &Value) -> Entry {
    let (namespace, name) = id.split_once('/').unwrap();
    let spec = json!({"url": "http://host", "tools": tools, "exposeTo": to});
    from_resource(manifest("McpServer", namespace, name, &spec), &Secrets::default()).unwrap()
}

fn world(exposed_to: &[&str], granted: &str) -> World {
    let mut world = World::of([
        exposed("ops/git", exposed_to, &json!({})),
        key("dev/alice", json!({})),
        policy("dev/all", &json!([{"user": "alice"}]), &json!([{"servers": [granted]}])),
    ]);
    world.offer("ops/git", &["log", "push"]);
    world
}

#[test]
fn a_server_is_shared_when_its_owner_and_its_user_both_say_so() {
    for (to, granted, seen) in [
        (&["dev"][..], "ops/git", true),
        (&["dev"], "ops/*", true),
        (&["dev"], "*/*", true),
        (&["dev"], "*", false),
        (&["dev"], "git", false),
        (&["other"], "ops/git", false),
        (&[], "ops/git", false),
    ] {
        let world = world(to, granted);

        let expected: &[&str] = if seen { &["git_log", "git_push"] } else { &[] };
        assert_eq!(world.names("dev/alice"), expected, "{to:?} {granted}");
        assert_eq!(world.origin("git_log", "dev/alice").is_some(), seen, "{to:?} {granted}");
    }
}

#[test]
fn what_is_no_longer_exposed_is_gone_at_once() {
    let mut world = world(&["dev"], "ops/*");

    world.apply(exposed("ops/git", &[], &json!({})));
    assert_eq!(world.names("dev/alice"), [""; 0]);

    world.apply(exposed("ops/git", &["dev"], &json!({})));
    assert_eq!(world.names("dev/alice").len(), 2);
    world.delete(Kind::Server, "ops/git");
    assert_eq!(world.names("dev/alice"), [""; 0]);
}

#[test]
fn a_new_list_reaches_those_it_is_exposed_to() {
    let mut world = world(&["dev"], "ops/*");

    world.offer("ops/git", &["log", "blame"]);

    assert_eq!(world.names("dev/alice"), ["git_log", "git_blame"]);
}

#[test]
fn an_exposed_server_keeps_a_prefix_and_takes_no_name_from_an_own_one() {
    let mut world = world(&["dev"], "*/*");
    world.apply(exposed("ops/git", &["dev"], &json!({"prefix": ""})));
    assert_eq!(world.names("dev/alice"), ["git_log", "git_push"]);

    world.apply(exposed("dev/git", &[], &json!({})));
    world.apply(policy("dev/own", &json!([{"user": "alice"}]), &json!([{}])));
    world.offer("dev/git", &["log"]);

    assert_eq!(world.origin("git_log", "dev/alice").unwrap(), "dev/git/log");
    assert_eq!(world.origin("git_push", "dev/alice").unwrap(), "ops/git/push");
}

#[test]
fn a_denial_of_the_user_counts_and_one_of_the_owner_does_not() {
    let mut world = world(&["dev"], "ops/git");
    let deny = |server: &str| json!([{"effect": "Deny", "servers": [server], "tools": ["push"]}]);
    world.apply(policy("ops/deny", &json!([{"user": "alice"}]), &deny("git")));
    assert_eq!(world.names("dev/alice").len(), 2);

    world.apply(policy("dev/deny", &json!([{"user": "alice"}]), &deny("ops/git")));

    assert_eq!(world.names("dev/alice"), ["git_log"]);
}
