//! Sessions: whose they are, where they hold, and what they outlive.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::client::{Client, Session, Sse, call, hello, notification, request, text};
use crate::support::fixture::{Fixture, done};
use crate::support::manifests::server;
use crate::support::stage::{BOB, Stage, everything};

#[tokio::test]
async fn foreign_forged_and_deleted_sessions_are_not_found() {
    let stage = Stage::start(&[]).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let ping = || request(1, "ping", json!({}));
    let id = session.client.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let mut tampered = id.clone();
    let last = tampered.pop().unwrap();
    tampered.insert(10, if last == 'A' { 'B' } else { 'A' });

    let foreign = session.with(|client| client.key(BOB));
    assert_eq!(foreign.post(ping()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(foreign.delete().await, StatusCode::NOT_FOUND);
    let stream = foreign.client.get("/mcp").await;
    assert_eq!(stream.status, StatusCode::NOT_FOUND);
    for forged in ["x", "", tampered.as_str(), &"A".repeat(1000), &"A".repeat(200)] {
        let forged = session.with(|client| client.with("mcp-session-id", forged));
        assert_eq!(forged.post(ping()).await.status, StatusCode::NOT_FOUND, "{forged:?}");
    }

    assert_eq!(session.post(ping()).await.status, StatusCode::OK);
    assert_eq!(session.delete().await, StatusCode::NO_CONTENT);
    assert_eq!(session.post(ping()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(session.delete().await, StatusCode::NOT_FOUND);
    assert_eq!(session.client.get("/mcp").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_session_holds_at_its_own_url_only() {
    let everything = everything().await;
    let stage = Stage::start(&[server("everything", &everything.url())]).await;
    let all = Session::open(&stage.alice(), "/mcp").await;
    let one = Session::open(&stage.alice(), "/mcp/everything").await;
    let sse = Sse::open(&stage.alice(), "/sse").await;
    let ping = || request(1, "ping", json!({}));

    for (session, path, status) in [
        (&all, "/mcp", StatusCode::OK),
        // The same URL by its full name.
        (&all, "/t/default/mcp", StatusCode::OK),
        (&all, "/mcp/everything", StatusCode::NOT_FOUND),
        (&one, "/mcp/everything", StatusCode::OK),
        (&one, "/mcp", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(session.client.post(path, ping()).await.status, status, "{path}");
    }
    // An id of one transport is none of the other.
    let token = sse.endpoint.split_once("session_id=").unwrap().1;
    let streamable = stage.alice().with("mcp-session-id", token).post("/mcp", ping()).await;
    assert_eq!(streamable.status, StatusCode::NOT_FOUND);
    let id = all.client.headers["mcp-session-id"].to_str().unwrap();
    let posted = stage.alice().post(&format!("/messages/?session_id={id}"), ping()).await;
    assert_eq!(posted.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn streams_and_ends_need_a_session() {
    let stage = Stage::start(&[]).await;

    assert_eq!(stage.alice().get("/mcp").await.status, StatusCode::BAD_REQUEST);
    let delete = stage.alice().send(http::Method::DELETE, "/mcp", String::new()).await;
    assert_eq!(delete.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_client_that_says_no_more_than_it_must_is_served() {
    let everything = everything().await;
    let stage = Stage::start(&[server("everything", &everything.url())]).await;
    stage.server_is("everything", "connected").await;
    let greeted = stage.alice().post("/mcp", request(0, "initialize", hello())).await;
    let id = greeted.headers["mcp-session-id"].to_str().unwrap();

    // No `notifications/initialized`, no MCP-Protocol-Version, and the log level before anything else.
    let client = stage.alice().with("mcp-session-id", id);
    let level = json!({"level": "error"});
    assert_eq!(client.one_shot("/mcp", "logging/setLevel", level).await["result"], json!({}));
    assert_eq!(client.one_shot("/mcp", "ping", json!({})).await["result"], json!({}));
    let answer = client.post("/mcp", call(1, "add", json!({"a": 1, "b": 2}))).await;
    assert_eq!(text(&answer.json()), "3");
    let late = notification("notifications/initialized", json!({}));
    assert_eq!(client.post("/mcp", late).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn two_gateways_with_one_state_file_serve_each_others_sessions() {
    let everything = everything().await;
    let stage = Stage::start(&[server("everything", &everything.url())]).await;
    let other = stage.another_gateway("127.0.0.1:0".parse().unwrap()).await;
    let at_other = |client: Client| client.at(other.address());

    let here = Session::open(&stage.alice(), "/mcp").await;
    let there = Session::open(&at_other(stage.alice()), "/mcp").await;

    let sum = json!({"a": 1, "b": 2});
    assert_eq!(text(&here.with(at_other).call("add", sum.clone()).await), "3");
    let back = there.with(|client| client.at(stage.address()));
    assert_eq!(text(&back.call("add", sum).await), "3");
    back.listen().await;
    other.stop().await;
}

#[tokio::test]
async fn fifty_sessions_outlive_a_restart() {
    let everything = everything().await;
    let mut stage = Stage::start(&[server("everything", &everything.url())]).await;
    let client = stage.alice();
    let sessions = join_all((0..50).map(|_| Session::open(&client, "/mcp"))).await;
    let mut streams = join_all(sessions.iter().map(Session::listen)).await;
    let address = stage.address();

    stage.stop().await;
    for stream in &mut streams {
        assert!(stream.next().await.is_none(), "something else than the end");
        assert!(!stream.broken, "the stream was torn");
    }
    stage.open_at(address).await;

    let calls = sessions.iter().map(|session| session.call("add", json!({"a": 20, "b": 22})));
    for answer in join_all(calls).await {
        assert_eq!(text(&answer), "42");
    }
    for session in &sessions {
        session.listen().await;
    }
}

#[tokio::test]
async fn a_stopping_gateway_ends_streams_and_lets_short_calls_end() {
    let fixture = Fixture::start().await;
    let gate = CancellationToken::new();
    let held = gate.clone();
    fixture.on("tools/call", move |seen| {
        let held = held.clone();
        async move {
            held.cancelled().await;
            done(&seen)
        }
    });
    let mut stage = Stage::start(&[fixture.manifest("server")]).await;
    let mut busy = Sse::open(&stage.alice(), "/sse").await;
    let mut idle = Sse::open(&stage.alice(), "/sse").await;
    busy.post(call(1, "work", json!({}))).await;
    fixture.sees("tools/call", 1).await;

    let (ended, ()) = tokio::join!(
        async {
            let ended = idle.events.next().await;
            gate.cancel();
            assert_eq!(text(&busy.events.answer(&1.into()).await), "done");
            assert!(busy.events.next().await.is_none());
            ended
        },
        stage.stop()
    );

    assert!(ended.is_none() && !idle.events.broken && !busy.events.broken);
}

#[tokio::test]
async fn a_stream_that_is_opened_again_hears_of_the_changes_it_missed_only() {
    let fixture = Fixture::start().await.announcing();
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let first = session.client.stream("/mcp").await.next().await.unwrap();
    assert!(first.is_list_changed());
    let seen = first.id.unwrap();

    let again = session.with(|client| client.with("last-event-id", &seen));
    let mut unchanged = again.client.stream("/mcp").await;
    fixture.offer(&["work", "more"]);
    assert!(fixture.announce(&json!({
        "jsonrpc": "2.0", "method": "notifications/tools/list_changed",
    })));
    let change = unchanged.next().await.unwrap();
    assert!(change.is_list_changed());
    assert_ne!(change.id.as_ref(), Some(&seen), "the first event was no news");

    let late = again.client.stream("/mcp").await.next().await.unwrap();
    assert!(late.is_list_changed());
    assert_eq!(late.id, change.id);
}
