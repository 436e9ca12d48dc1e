//! How much the bodies of all requests may hold.

use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::{Client, call, request, text};
use crate::support::eventually;
use crate::support::fixture::Fixture;
use crate::support::manifests::key;
use crate::support::stage::Stage;

/// A call of about so many bytes.
fn large(bytes: usize) -> String {
    call(1, "work", json!({"text": "x".repeat(bytes)}))
}

async fn stage(fixture: &Fixture, keys: usize) -> (Stage, Vec<Client>) {
    let mut stage = Stage::empty();
    stage.body_memory = 16 << 20;
    stage.write("server.yaml", &fixture.manifest("server"));
    let names: Vec<String> = (0..keys).map(|number| format!("key-number-{number}")).collect();
    for name in &names {
        stage.write(&format!("{name}.yaml"), &key(name, name));
    }
    stage.open().await;
    stage.server_is("server", "connected").await;
    let clients = names.iter().map(|name| stage.client().key(name)).collect();
    (stage, clients)
}

#[tokio::test]
async fn a_key_has_a_quarter_of_the_room_and_gets_it_back() {
    let fixture = Fixture::start().await;
    let (_stage, clients) = stage(&fixture, 2).await;
    let gate = fixture.hold("tools/call");
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let client = clients[0].clone();
        calls.spawn(async move { client.post("/mcp", large(1 << 20)).await });
    }
    fixture.sees("tools/call", 3).await;

    let refused = clients[0].post("/mcp", large(1 << 20)).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.json()["error"].as_str().unwrap().contains("this key"), "{refused:?}");
    // What comes in one piece costs nothing, and others have their own share.
    let small = clients[0].post("/mcp", request(1, "ping", json!({}))).await;
    assert_eq!(small.status, StatusCode::OK);
    let other = clients[1].clone();
    calls.spawn(async move { other.post("/mcp", large(1 << 20)).await });
    fixture.sees("tools/call", 4).await;

    gate.cancel();
    while let Some(answer) = calls.join_next().await {
        assert_eq!(text(&answer.unwrap().json()), "done");
    }
    let again = clients[0].post("/mcp", large(3 << 20)).await;
    assert_eq!(text(&again.json()), "done");
}

#[tokio::test]
async fn all_keys_together_have_no_more_than_there_is() {
    let fixture = Fixture::start().await;
    let (_stage, clients) = stage(&fixture, 6).await;
    let gate = fixture.hold("tools/call");
    let mut calls = JoinSet::new();
    for client in &clients[..5] {
        let client = client.clone();
        calls.spawn(async move { client.post("/mcp", large(3 << 20)).await });
    }
    fixture.sees("tools/call", 5).await;

    let refused = clients[5].post("/mcp", large(3 << 20)).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.json()["error"].as_str().unwrap().contains("no room"), "{refused:?}");

    gate.cancel();
    eventually("room", || async {
        (clients[5].post("/mcp", large(3 << 20)).await.status == StatusCode::OK).then_some(())
    })
    .await;
}
