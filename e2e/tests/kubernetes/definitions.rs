//! Tools that are not what they were: reported, and hidden until somebody looked, if the server is held to that.

use e2e::cluster::{Release, Tenant};
use serde_json::{Value, json};

use crate::support::{MINUTE, stub::Stub, wire::Caller};

/// What the server has at first.
const FIRST: [(&str, &str); 2] = [("look", "Looks."), ("read", "Reads.")];
/// One changed, one as it was, one new.
const LATER: [(&str, &str); 3] =
    [("look", "Looks, and tells others."), ("read", "Reads."), ("write", "Writes.")];

#[tokio::test]
async fn a_changed_definition_is_reported() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("changes").await.unwrap();
    let (stub, caller) = stage(&release, &team, json!({})).await;
    let before = team.read("mcpserver", "far").await.unwrap();

    stub.offer(&LATER);
    let is_other = |server: &Value| hash(server) != hash(&before);
    let after = team.wait_for("mcpserver", "far", "another hash", is_other).await.unwrap();

    assert_eq!(before["status"]["tools"]["count"], 2);
    assert_eq!(after["status"]["tools"]["count"], 3);
    assert_eq!(hash(&after).len(), hash(&before).len());
    assert_eq!(caller.tools().await.unwrap(), ["far_look", "far_read", "far_write"]);
    let note = event(&team, "ToolsChanged").await;
    assert!(note.contains("changed: look; new: write"), "{note}");
    let told = team.wait_reason("mcpserver", "far", "Verified", "ToolsChanged").await.unwrap();
    assert!(told.contains("changed: look; new: write"), "{told}");
    team.ready("mcpserver", "far").await.unwrap();

    // As it was: the same tools have the same hash.
    stub.offer(&FIRST);
    let is_first = |server: &Value| hash(server) == hash(&before);
    team.wait_for("mcpserver", "far", "the first hash", is_first).await.unwrap();
}

#[tokio::test]
async fn a_changed_definition_is_hidden_until_it_is_accepted() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("quarantine").await.unwrap();
    let (stub, caller) = stage(&release, &team, json!({"toolChanges": "Quarantine"})).await;
    assert_eq!(caller.tools().await.unwrap(), ["far_look", "far_read"], "the first are trusted");

    stub.offer(&LATER);
    let told = team.wait_reason("mcpserver", "far", "Verified", "ToolsChanged").await.unwrap();

    assert!(told.contains("changed: look; new: write"), "{told}");
    assert_eq!(caller.tools().await.unwrap(), ["far_read"]);
    assert_eq!(caller.at("/mcp/far").tools().await.unwrap(), ["read"]);
    for tool in ["far_look", "far_write", "far_nothing"] {
        let refusal = caller.call(tool, json!({})).await.unwrap();
        assert_eq!(refusal.code(), Some(-32602), "{tool}: {refusal:?}");
    }
    assert_eq!(caller.call("far_read", json!({})).await.unwrap().content(), "\"read\" was called");

    // Somebody who looked at another list has accepted nothing.
    let server = team.read("mcpserver", "far").await.unwrap();
    let other = format!("fairway.dev/accept-tools={}", hash(&server).replace(['0', '1'], "2"));
    team.namespace().kubectl(&["annotate", "mcpserver", "far", &other]).await.unwrap();
    team.wait_reason("mcpserver", "far", "Ready", "ToolsChanged").await.unwrap();
    assert_eq!(caller.tools().await.unwrap(), ["far_read"]);

    // As the condition says.
    let command = told.split_once("kubectl ").unwrap().1;
    let command: Vec<&str> = command.split_whitespace().collect();
    team.namespace().kubectl(&command).await.unwrap();
    let all = || async { Ok(caller.tools().await? == ["far_look", "far_read", "far_write"]) };
    e2e::cluster::release::until("the accepted tools", MINUTE, all).await.unwrap();
    team.ready("mcpserver", "far").await.unwrap();

    // What was accepted once is not accepted for ever.
    stub.offer(&[("look", "Looks, and keeps it."), LATER[1], LATER[2]]);
    team.wait_reason("mcpserver", "far", "Verified", "ToolsChanged").await.unwrap();
    assert_eq!(caller.tools().await.unwrap(), ["far_read", "far_write"]);
    // Unless nobody minds.
    team.patch("mcpserver", "far", json!({"spec": {"toolChanges": "Accept"}})).await.unwrap();
    team.ready("mcpserver", "far").await.unwrap();
    e2e::cluster::release::until("all tools", MINUTE, all).await.unwrap();
}

/// A server elsewhere, ready, and alice, who may use it.
async fn stage(release: &Release, team: &Tenant, mut spec: Value) -> (Stub, Caller) {
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let stub = Stub::start(release, &FIRST).await.unwrap();
    spec["url"] = json!(stub.publish(team, "elsewhere").await.unwrap());
    team.apply("McpServer", "far", spec).await.unwrap();
    team.ready("mcpserver", "far").await.unwrap();
    (stub, Caller::new(release, &key).unwrap())
}

fn hash(server: &Value) -> &str {
    server["status"]["tools"]["hash"].as_str().unwrap_or_default()
}

/// The note of an Event of the server, once it is there.
async fn event(team: &Tenant, reason: &str) -> String {
    let selector = format!("--field-selector=reason={reason}");
    let arguments =
        ["get", "events.v1.events.k8s.io", &selector, "--output=jsonpath={.items[*].note}"];
    let mut note = String::new();
    let told = || async { Ok(!team.namespace().kubectl(&arguments).await?.is_empty()) };
    e2e::cluster::release::until(&format!("an Event {reason}"), MINUTE, told).await.unwrap();
    note += &team.namespace().kubectl(&arguments).await.unwrap();
    note
}
