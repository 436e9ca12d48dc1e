//! The admin port in a cluster: who sees what, and what the operator is told.

use gateway_core::report::{Line, ServerState};
use gateway_core::{Catalog, ServerName};
use http::StatusCode;
use serde_json::json;

use crate::support::client::{Client, Session, request};
use crate::support::cluster::{ClusterStage, METRICS, key, server, uid};
use crate::support::eventually;
use crate::support::fixture::{Fixture, tool};
use crate::support::stage::{ALICE, BOB};

fn with_token(client: Client, token: &str) -> Client {
    client.with("authorization", &format!("Bearer {token}"))
}

#[tokio::test]
async fn without_a_token_there_is_the_bare_status_alone() {
    let fixture = Fixture::start().await;
    let stage = ClusterStage::start().await;
    let version = stage.put(&server("secret-name", &fixture.url()));
    stage.has_reached(version).await;
    stage.ready_when("readiness", |ready| ready["status"] == "ready").await;
    let bare = json!({"status": "ready"});
    let scraper = with_token(stage.admin(), METRICS);

    for client in [stage.admin(), with_token(stage.admin(), "guess"), scraper.clone()] {
        assert_eq!(client.get("/readyz").await.json(), bare);
        assert_eq!(client.get("/health").await.json(), json!({"status": "ok"}));
        for path in ["/report", "/catalog/default/secret-name"] {
            assert_eq!(client.get(path).await.status, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    for client in [stage.client(), stage.alice()] {
        assert_eq!(client.get("/readyz").await.json(), bare);
        assert_eq!(client.get("/health").await.json(), json!({"status": "ok"}));
        for path in ["/report", "/metrics", "/catalog/default/secret-name"] {
            assert_eq!(client.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
    assert_eq!(stage.admin().get("/metrics").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(scraper.get("/metrics").await.status, StatusCode::OK);
    assert!(stage.readyz().await.to_string().contains("secret-name"));
}

#[tokio::test]
async fn a_report_says_everything_and_then_what_becomes_different() {
    let fixture = Fixture::start().await;
    let mut stage = ClusterStage::empty().await;
    stage.put(&key("alice", ALICE));
    let version = stage.put(&server("one", &fixture.url()));
    stage.open().await;
    let mut report = stage.report().await;

    let Some(Line::Hello(hello)) = report.next().await else { panic!("no hello") };
    assert_eq!((&*hello.pod, &*hello.uid), ("gateway-0", "pod-uid"));
    assert!(report.reaches(version).await.resource_version < version + 1);
    let connected = |line: &Line| match line {
        Line::Server(server) if server.state == ServerState::Connected => Some(server.clone()),
        _ => None,
    };
    let one = report.until("the server", connected).await;
    assert_eq!((one.server.namespace.as_str(), one.server.name.as_str()), ("default", "one"));
    assert_eq!(one.uid, uid("one"));
    let about = one.about.unwrap();
    assert_eq!((&*about.server_name, &*about.server_version), ("fixture", "1"));
    assert_eq!((&*about.version, &*about.transport), ("2025-11-25", "StreamableHttp"));
    assert!(!about.stateful);
    let tools = one.tools.unwrap();
    let list = stage.operator().get("/catalog/default/one").await;
    let catalog = Catalog::from_json(&list.body).unwrap();
    assert_eq!((tools.count, tools.hash), (1, catalog.hash()));
    assert_eq!(list.headers["etag"], format!("\"{}\"", tools.hash));

    fixture.offer(&["work", "more"]);
    Session::open(&stage.alice(), "/mcp").await;
    fixture.kill().await;
    Session::open(&stage.alice(), "/mcp").await.call("work", json!({})).await;
    let unreachable = |line: &Line| match line {
        Line::Server(server) => match &server.state {
            ServerState::Unreachable(reason) => Some((reason.clone(), server.tools.clone())),
            _ => None,
        },
        _ => None,
    };
    let (reason, last) = report.until("the outage", unreachable).await;
    assert!(reason.contains("refused"), "{reason}");
    assert_eq!(last, Some(tools));

    stage.api.delete("server.default.one");
    let gone = |line: &Line| match line {
        Line::ServerGone(server) => Some(server.name.clone()),
        _ => None,
    };
    assert_eq!(report.until("the end", gone).await, ServerName::new("one"));
}

#[tokio::test]
async fn what_a_table_makes_untrue_is_told_before_it() {
    let (fixture, other) = (Fixture::start().await, Fixture::start().await);
    let _gate = other.hold("initialize");
    let stage = ClusterStage::start().await;
    let mut report = stage.report().await;
    stage.put(&server("one", &fixture.url()));
    let state = |line: &Line| match line {
        Line::Server(server) => Some(server.state.clone()),
        _ => None,
    };
    while report.until("a state", state).await != ServerState::Connected {}

    // Nobody must take it for connected at its new address.
    let version = stage.put(&server("one", &other.url()));
    assert_eq!(report.until("its state", state).await, ServerState::Connecting);
    report.reaches(version).await;

    stage.put(&server("two", &fixture.url()));
    while report.until("a state", state).await != ServerState::Connected {}
    let version = stage.api.delete("server.default.two");
    let gone = |line: &Line| matches!(line, Line::ServerGone(_)).then_some(());
    report.until("its end", gone).await;
    report.reaches(version).await;
}

#[tokio::test]
async fn conflicts_are_told_before_the_table_they_are_in() {
    let (one, two) = (Fixture::start().await, Fixture::start().await);
    let mut stage = ClusterStage::empty().await;
    stage.put(&key("alice", ALICE));
    stage.put(&server("one", &one.url()));
    stage.store("one", &uid("one"), &json!([tool("work")]));
    stage.open().await;
    let mut report = stage.report().await;

    stage.store("two", &uid("two"), &json!([tool("work")]));
    let version = stage.put(&server("two", &two.url()));

    let mut conflicts = Vec::new();
    loop {
        match report.next().await {
            Some(Line::Conflicts(all)) => conflicts = all,
            Some(Line::Table(mark)) if mark.resource_version >= version => break,
            _ => {}
        }
    }
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!((&*conflicts[0].name, &*conflicts[0].reason), ("two", "NameConflict"));
    // One key in two resources.
    stage.put(&key("bob", ALICE));
    let both = |line: &Line| match line {
        Line::Conflicts(all) => all.iter().any(|c| c.reason == "KeyConflict").then_some(()),
        _ => None,
    };
    report.until("both", both).await;
}

#[tokio::test]
async fn uses_of_keys_are_told_by_the_minute() {
    let stage = ClusterStage::start().await;
    let version = stage.put(&key("bob", BOB));
    stage.has_reached(version).await;
    let ping = || request(1, "ping", json!({}));
    let used = |line: &Line| match line {
        Line::Used(uses) => Some(uses.clone()),
        _ => None,
    };
    for _ in 0..3 {
        stage.alice().post("/mcp", ping()).await;
    }

    // Whoever begins to listen is told at once; another use is told when there is a sign of life.
    let mut report = stage.report().await;
    let uses = report.until("a use", used).await;
    assert_eq!(uses.len(), 1, "{uses:?}");
    assert_eq!((uses[0].namespace.as_str(), &*uses[0].name), ("default", "alice"));
    assert_eq!(uses[0].at.as_second() % 60, 0);
    // What was counted outlives the table it was counted in.
    let version = stage.put(&key("carol", "carol-key-def456"));
    stage.has_reached(version).await;
    let mut other = stage.report().await;
    assert_eq!(other.until("the same use", used).await[0].name, "alice");

    stage.client().key(BOB).post("/mcp", ping()).await;
    let uses = report.until("the other use", used).await;
    assert!(uses.iter().any(|key| key.name == "bob"), "{uses:?}");
}

#[tokio::test]
async fn a_rotated_pepper_takes_keys_of_both() {
    let mut stage = ClusterStage::empty().await;
    stage.put(&key("alice", ALICE));
    std::fs::remove_file(stage.file("state.json")).unwrap();
    stage.write_state(&[[8; 32], [7; 32]]);
    stage.open().await;

    let post = || async { stage.alice().post("/mcp", request(1, "ping", json!({}))).await.status };
    eventually("alice", || async { (post().await == StatusCode::OK).then_some(()) }).await;
    let stranger = stage.client().key(BOB).post("/mcp", request(1, "ping", json!({}))).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    stage.stop().await;

    std::fs::remove_file(stage.file("state.json")).unwrap();
    stage.write_state(&[[8; 32]]);
    stage.open().await;
    let refused = stage.alice().post("/mcp", request(1, "ping", json!({}))).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}
