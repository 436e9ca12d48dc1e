//! The circuit breaker of a server: what opens it, what a client is told, and what closes it again.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use gateway_core::report::Line;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::client::{Session, fault, text};
use crate::support::cluster::{ClusterStage, key, server_with as entry_with};
use crate::support::fixture::{Fixture, json_reply, reply, result};
use crate::support::manifests::server;
use crate::support::stage::{ALICE, Stage, everything, find};
use crate::support::{eventually, within_time};

/// What is refused is not waited for.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A server whose calls fail with this status.
async fn failing(status: StatusCode) -> Fixture {
    let fixture = Fixture::start().await;
    fail(&fixture, status);
    fixture
}

fn fail(fixture: &Fixture, status: StatusCode) {
    fixture.on("tools/call", move |_| async move { reply(status, "text/plain", "no") });
}

/// A stage with the server `sick` and a session at it.
async fn stage_with(fixture: &Fixture, fields: &str) -> (Stage, Session) {
    let stage = Stage::start(&[fixture.manifest_with("sick", fields)]).await;
    stage.server_is("sick", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    (stage, session)
}

/// What the client of a call is told that is refused.
async fn refused(session: &Session) -> String {
    let call = session.call("work", json!({}));
    let answer = within_time("a refusal", AT_ONCE, call).await;
    let message = fault(&answer).to_owned();
    assert!(message.starts_with("MCP server \"sick\" is not called for now"), "{message}");
    message
}

/// Calls until one comes through.
async fn works_again(session: &Session) {
    eventually("a call that comes through", || async {
        session.call("work", json!({})).await.get("result").map(drop)
    })
    .await;
}

const BREAKER: &str = r#"fairway_upstream_breaker{namespace="default",server="sick"}"#;

#[tokio::test]
async fn a_server_that_fails_again_and_again_is_left_alone_for_a_while() {
    let (everything, fixture) =
        (everything().await, failing(StatusCode::INTERNAL_SERVER_ERROR).await);
    let fields = "circuitBreaker: {failures: 3, openFor: 1500ms}";
    let manifests =
        [fixture.manifest_with("sick", fields), server("everything", &everything.url())];
    let stage = Stage::start(&manifests).await;
    stage.server_is("sick", "connected").await;
    stage.server_is("everything", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let tools = session.tools().await;

    for _ in 0..3 {
        let answer = session.call("work", json!({})).await;
        assert!(fault(&answer).contains("answered HTTP 500"), "{answer}");
    }
    for _ in 0..10 {
        let message = refused(&session).await;
        assert!(message.contains("failed 3 times in a row"), "{message}");
        assert!(message.contains("HTTP 500"), "{message}");
        assert!(message.contains("Try again in ") && message.contains(" s, or go on"), "{message}");
    }
    assert_eq!(fixture.seen_of("tools/call").len(), 3, "it was called");
    assert_eq!(session.tools().await, tools);
    assert_eq!(text(&session.call("add", json!({"a": 1, "b": 1})).await), "2");
    let ready = stage.readyz().await;
    let sick = find(&ready, "sick");
    assert_eq!((&sick["state"], &sick["breaker"]["state"]), (&json!("connected"), &json!("open")));
    assert!(sick["breaker"]["reason"].as_str().unwrap().contains("HTTP 500"), "{sick}");
    assert_eq!(find(&ready, "everything")["breaker"], Value::Null);
    assert_eq!(stage.metric(BREAKER).await, Some(2.0));
    let refusals =
        r#"fairway_upstream_refusals_total{namespace="default",server="sick",reason="open"}"#;
    assert_eq!(stage.metric(refusals).await, Some(10.0));

    fixture.behave();
    works_again(&session).await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    assert_eq!(find(&stage.readyz().await, "sick")["breaker"], Value::Null);
    assert_eq!(stage.metric(BREAKER).await, Some(0.0));
}

#[tokio::test]
async fn when_the_time_is_over_one_call_finds_out() {
    let fixture = failing(StatusCode::BAD_GATEWAY).await;
    let fields = "circuitBreaker: {failures: 1, openFor: 300ms}";
    let (stage, session) = stage_with(&fixture, fields).await;
    fault(&session.call("work", json!({})).await);
    let half_open = || {
        stage
            .ready_when("half open", |ready| find(ready, "sick")["breaker"]["state"] == "half_open")
    };

    // It still fails: for as long again nothing is called.
    half_open().await;
    let before = fixture.seen_of("tools/call").len();
    let answers = join_all((0..8).map(|_| session.call("work", json!({})))).await;
    assert!(answers.iter().all(|answer| !fault(answer).is_empty()));
    assert_eq!(fixture.seen_of("tools/call").len(), before + 1);

    // It takes its time, and others do not wait for that.
    half_open().await;
    let gate = fixture.hold("tools/call");
    let (answer, ()) = tokio::join!(session.call("work", json!({})), async {
        fixture.sees("tools/call", before + 2).await;
        let message = refused(&session).await;
        assert!(message.contains("One call finds out"), "{message}");
        assert_eq!(stage.metric(BREAKER).await, Some(1.0));
        gate.cancel();
    });
    assert_eq!(text(&answer), "done");
    let answers = join_all((0..8).map(|_| session.call("work", json!({})))).await;
    assert!(answers.iter().all(|answer| text(answer) == "done"));
}

#[tokio::test]
async fn a_client_that_leaves_lets_the_next_call_find_out() {
    let fixture = failing(StatusCode::BAD_GATEWAY).await;
    let (stage, session) =
        stage_with(&fixture, "circuitBreaker: {failures: 1, openFor: 100ms}").await;
    fault(&session.call("work", json!({})).await);
    stage
        .ready_when("half open", |ready| find(ready, "sick")["breaker"]["state"] == "half_open")
        .await;
    let gate = fixture.hold("tools/call");

    let leaving = session.with(|client| client.at(client.address));
    tokio::select! {
        answer = leaving.call("work", json!({})) => panic!("{answer}"),
        _ = fixture.sees("tools/call", 2) => {}
    }
    drop(leaving);
    gate.cancel();

    works_again(&session).await;
}

#[tokio::test]
async fn what_a_server_answers_to_a_call_never_opens_it() {
    let fixture = Fixture::start().await;
    let (_stage, session) =
        stage_with(&fixture, "circuitBreaker: {failures: 2, openFor: 1h}").await;
    let error = |id: &Value| {
        json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": "no"}}).to_string()
    };

    for status in [StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR] {
        fixture.on("tools/call", move |seen| {
            let answer = reply(status, "application/json", error(&seen.id()));
            async { answer }
        });
        for _ in 0..4 {
            let answer = session.call("work", json!({})).await;
            assert_eq!(answer["error"]["code"], -32603, "{answer}");
        }
    }
    fixture.on("tools/call", |seen| async move {
        result(&seen, &json!({"isError": true, "content": [{"type": "text", "text": "no"}]}))
    });
    for _ in 0..4 {
        assert_eq!(session.call("work", json!({})).await["result"]["isError"], true);
    }
    for status in [StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS] {
        fail(&fixture, status);
        for _ in 0..4 {
            let answer = session.call("work", json!({})).await;
            assert!(fault(&answer).contains(status.as_str()), "{answer}");
        }
    }
    fixture.on("tools/call", |_| async { json_reply("<html>") });
    for _ in 0..4 {
        assert!(fault(&session.call("work", json!({})).await).contains("not MCP"));
    }
    fixture.behave();
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn a_server_twice_as_slow_as_its_timeout_costs_few_clients_that_time() {
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |seen| async move {
        sleep(Duration::from_secs(2)).await;
        result(&seen, &json!({"content": []}))
    });
    let fields = "timeouts: {request: 1s}\ncircuitBreaker: {failures: 2, openFor: 1h}";
    let (_stage, session) = stage_with(&fixture, fields).await;

    // They wait at the same time, and in vain each.
    let answers = join_all((0..2).map(|_| session.call("work", json!({})))).await;
    for answer in answers {
        assert!(fault(&answer).contains("sent nothing for 1 s"), "{answer}");
    }

    for _ in 0..5 {
        let message = refused(&session).await;
        assert!(message.contains("sent nothing for 1 s"), "{message}");
    }
    assert_eq!(fixture.seen_of("tools/call").len(), 2);
}

#[tokio::test]
async fn a_server_of_a_byte_a_second_has_its_time_in_total_and_delays_nobody() {
    let (everything, fixture) = (everything().await, Fixture::start().await);
    fixture.on("tools/call", |_| async {
        let bytes = stream::unfold((), |()| async {
            sleep(Duration::from_millis(500)).await;
            Some((Ok::<_, io::Error>(Bytes::from_static(b" ")), ()))
        });
        json_reply(Body::from_stream(bytes))
    });
    let fields = "timeouts: {request: 1s, total: 2s}\ncircuitBreaker: {failures: 1, openFor: 1h}";
    let manifests =
        [fixture.manifest_with("sick", fields), server("everything", &everything.url())];
    let stage = Stage::start(&manifests).await;
    stage.server_is("sick", "connected").await;
    stage.server_is("everything", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;

    let (answer, ()) = tokio::join!(session.call("work", json!({})), async {
        fixture.sees("tools/call", 1).await;
        let add = session.call("add", json!({"a": 1, "b": 1}));
        assert_eq!(text(&within_time("another server", AT_ONCE, add).await), "2");
    });

    assert!(fault(&answer).contains("did not finish within 2 s"), "{answer}");
    refused(&session).await;
    fixture.is_left_alone().await;
}

#[tokio::test]
async fn many_calls_that_one_crash_costs_are_one_failure() {
    let mut fixture = Fixture::start().await;
    let (stage, session) = stage_with(&fixture, "circuitBreaker: {failures: 2, openFor: 1h}").await;
    fixture.hold("tools/call");

    let (answers, ()) =
        tokio::join!(join_all((0..20).map(|_| session.call("work", json!({})))), async {
            fixture.sees("tools/call", 20).await;
            fixture.kill().await;
        });

    for answer in answers {
        assert!(fault(&answer).contains("closed the connection"), "{answer}");
    }
    assert_eq!(find(&stage.readyz().await, "sick")["breaker"], Value::Null);
    fixture.behave();
    fixture.revive().await;
    stage.server_is("sick", "connected").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn a_server_that_was_away_and_is_back_begins_anew() {
    // Its stream tells at once when it goes.
    let mut fixture = failing(StatusCode::SERVICE_UNAVAILABLE).await.announcing();
    let (stage, session) = stage_with(&fixture, "circuitBreaker: {failures: 1, openFor: 1h}").await;
    fault(&session.call("work", json!({})).await);
    refused(&session).await;

    fixture.kill().await;
    stage.server_is("sick", "unreachable").await;
    fixture.behave();
    fixture.revive().await;

    stage.server_is("sick", "connected").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn a_list_closes_it_when_nobody_calls() {
    let fixture = failing(StatusCode::BAD_GATEWAY).await;
    let (stage, session) =
        stage_with(&fixture, "circuitBreaker: {failures: 1, openFor: 200ms}").await;
    fault(&session.call("work", json!({})).await);
    assert_ne!(find(&stage.readyz().await, "sick")["breaker"], Value::Null);

    stage.ready_when("closed", |ready| find(ready, "sick")["breaker"].is_null()).await;

    assert_eq!(fixture.seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn other_rules_are_in_force_without_another_connection() {
    let fixture = failing(StatusCode::BAD_GATEWAY).await;
    let (stage, session) = stage_with(&fixture, "circuitBreaker: {failures: 1, openFor: 1h}").await;
    fault(&session.call("work", json!({})).await);
    refused(&session).await;
    let begun = fixture.seen_of("initialize").len();

    let off = fixture.manifest_with("sick", "circuitBreaker: {failures: 0}");
    stage.write("rest.yaml", &off);

    stage.ready_when("closed", |ready| find(ready, "sick")["breaker"].is_null()).await;
    for _ in 0..10 {
        let answer = session.call("work", json!({})).await;
        assert!(fault(&answer).contains("HTTP 502"), "{answer}");
    }
    fixture.behave();
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    assert_eq!(fixture.seen_of("initialize").len(), begun);
}

#[tokio::test]
async fn the_operator_is_told_when_it_opens_and_when_it_closes() {
    let fixture = failing(StatusCode::BAD_GATEWAY).await;
    let mut stage = ClusterStage::empty().await;
    let fields = "tools: {prefix: \"\"}\ncircuitBreaker: {failures: 1, openFor: 500ms}";
    stage.put(&entry_with("sick", &fixture.url(), fields));
    stage.put(&key("alice", ALICE));
    stage.open().await;
    let connected = |ready: &Value| find(ready, "sick")["state"] == "connected";
    stage.ready_when("sick is connected", connected).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut report = stage.report().await;
    let breaker = |line: &Line| match line {
        Line::Server(server) => Some(server.breaker.clone()),
        _ => None,
    };
    assert_eq!(report.until("a first report", breaker).await, None);

    fault(&session.call("work", json!({})).await);
    let why = report.until("an open one", |line| breaker(line).flatten()).await;
    assert!(why.contains("HTTP 502"), "{why}");

    fixture.behave();
    works_again(&session).await;
    report.until("a closed one", |line| breaker(line).filter(Option::is_none)).await;
}
