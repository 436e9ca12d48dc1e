//! How long a call may take, and what keeps it alive.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::client::{Session, Sse, fault, text};
use crate::support::fixture::{Fixture, Part, body, done_text, event, event_stream, part};
use crate::support::stage::Stage;

#[tokio::test]
async fn a_call_that_hears_nothing_ends_and_the_server_is_told() {
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |_| std::future::pending());
    let stage = Stage::start(&[fixture.manifest_with("slow", "timeouts: {request: 500ms}")]).await;
    stage.server_is("slow", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;

    let answer = session.call("work", json!({})).await;

    let message = fault(&answer);
    assert!(message.contains("\"slow\"") && message.contains("sent nothing for"), "{message}");
    let cancelled = fixture.sees("notifications/cancelled", 1).await;
    let asked = fixture.seen_of("tools/call");
    assert_eq!(cancelled[0].message["params"]["requestId"], asked[0].id());
    assert_eq!(asked.len(), 1, "it was sent again");
    fixture.is_left_alone().await;
    let timeout =
        r#"fairway_tool_calls_total{namespace="default",server="slow",outcome="timeout"}"#;
    assert_eq!(stage.metric(timeout).await, Some(1.0));
}

#[tokio::test]
async fn progress_keeps_a_call_alive_until_its_total() {
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |seen| async move {
        let progress = json!({
            "jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": seen.id(), "progress": 1},
        });
        let events = stream::unfold(progress.to_string(), |progress| async {
            sleep(Duration::from_millis(200)).await;
            Some((Ok::<_, io::Error>(event(&progress)), progress))
        });
        event_stream(Body::from_stream(events))
    });
    let timeouts = "timeouts: {request: 1s, total: 2500ms}";
    let stage = Stage::start(&[fixture.manifest_with("chatty", timeouts)]).await;
    stage.server_is("chatty", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let started = Instant::now();

    let answer = session.call("work", json!({})).await;

    assert!(fault(&answer).contains("did not finish within"), "{answer}");
    assert!(started.elapsed() > Duration::from_secs(2), "{:?}", started.elapsed());
    fixture.sees("notifications/cancelled", 1).await;
    fixture.is_left_alone().await;
}

#[tokio::test]
async fn a_comment_keeps_a_call_alive() {
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |seen| async move {
        let parts = stream::unfold((seen.id(), 0), |(id, sent)| async move {
            sleep(Duration::from_millis(300)).await;
            let part = match sent {
                0..8 => Bytes::from_static(b": here\n\n"),
                8 => event(&done_text(&id)),
                _ => return None,
            };
            Some((Ok::<_, io::Error>(part), (id, sent + 1)))
        });
        event_stream(Body::from_stream(parts))
    });
    let stage = Stage::start(&[fixture.manifest_with("chatty", "timeouts: {request: 1s}")]).await;
    stage.server_is("chatty", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;
    let started = Instant::now();

    let answers = tokio::join!(session.call("work", json!({})), sse.call("work", json!({})));

    assert_eq!((text(&answers.0), text(&answers.1)), ("done", "done"));
    assert!(started.elapsed() > Duration::from_millis(2500), "{:?}", started.elapsed());
    assert!(fixture.seen_of("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn a_silence_after_signs_of_life_is_told_with_its_time() {
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |_| async {
        let parts = vec![part(": here\n\n"), Part::Hang];
        event_stream(body(parts))
    });
    let stage = Stage::start(&[fixture.manifest_with("silent", "timeouts: {request: 1s}")]).await;
    stage.server_is("silent", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;

    let answer = session.call("work", json!({})).await;

    assert!(fault(&answer).starts_with("MCP server \"silent\" sent nothing for 1 s"), "{answer}");
    fixture.sees("notifications/cancelled", 1).await;
    fixture.is_left_alone().await;
}
