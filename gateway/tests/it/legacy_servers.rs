//! Servers that speak HTTP+SSE.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::client::{Session, Sse, call, cancel, events, fault, request, text};
use crate::support::eventually;
use crate::support::fixture::{done_text, reply};
use crate::support::legacy::Legacy;
use crate::support::manifests::server;
use crate::support::running::Running;
use crate::support::stage::Stage;

async fn stage() -> (Legacy, Stage) {
    let legacy = Legacy::start().await;
    let stage = Stage::start(&[legacy.manifest("legacy")]).await;
    stage.server_is("legacy", "connected").await;
    (legacy, stage)
}

#[tokio::test]
async fn a_server_that_takes_no_post_is_spoken_to_over_http_sse() {
    let (legacy, stage) = stage().await;
    let (first, second) =
        (Session::open(&stage.alice(), "/mcp").await, Session::open(&stage.alice(), "/mcp").await);
    let mut sse = Sse::open(&stage.bob(), "/sse").await;

    for _ in 0..2 {
        assert_eq!(text(&first.call("work", json!({})).await), "done");
        assert_eq!(text(&second.call("work", json!({})).await), "done");
        assert_eq!(text(&sse.call("work", json!({})).await), "done");
    }

    // The stream is the session: each has its own, and lists another.
    let streams: Vec<_> = legacy.seen_of("tools/call").iter().map(|(stream, _)| *stream).collect();
    assert_eq!(streams.iter().collect::<BTreeSet<_>>().len(), 3, "{streams:?}");
    assert_eq!(streams[..3], streams[3..]);
    assert_eq!(legacy.seen_of("initialize").len(), 4);
}

#[tokio::test]
async fn progress_and_cancellation_pass() {
    let (legacy, stage) = stage().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    legacy.on_call(|call| {
        let progress = |token: &Value| {
            let params = json!({"progressToken": token, "progress": 1});
            let method = "notifications/progress";
            json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
        };
        let own = &call["params"]["_meta"]["progressToken"];
        // Of somebody else's call: not for this client. Nor is what comes after the answer.
        vec![progress(&json!(424_242)), progress(own), done_text(&call["id"]), progress(own)]
    });
    let params = json!({"name": "work", "_meta": {"progressToken": "mine"}});
    let mut stream = events(session.send(request(1, "tools/call", params)).await);
    assert_eq!(text(&stream.answer(&1.into()).await), "done");
    assert_eq!(stream.passed.len(), 1, "{:?}", stream.passed);
    assert_eq!(stream.passed[0].json()["params"]["progressToken"], "mine");
    assert!(stream.next().await.is_none(), "something comes after the answer");

    legacy.on_call(|_| Vec::new());
    let (reply, ()) = tokio::join!(session.post(call("c", "work", json!({}))), async {
        legacy.sees("tools/call", 2).await;
        session.post(cancel("c")).await;
    });
    assert_eq!(reply.json()["error"]["code"], -32800);
    let cancelled = legacy.sees("notifications/cancelled", 1).await;
    assert_eq!(cancelled[0].1["params"]["requestId"], legacy.seen_of("tools/call")[1].1["id"]);
}

#[tokio::test]
async fn a_change_of_tools_reaches_all_sessions() {
    let (legacy, stage) = stage().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut listening = session.listen().await;
    let mut sse = Sse::open(&stage.bob(), "/sse").await;

    legacy.offer(&["work", "more"]);
    legacy.announce(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).await;

    listening.list_changed().await;
    sse.events.list_changed().await;
    assert_eq!(session.tools().await, ["more", "work"]);
    assert_eq!(text(&sse.call("more", json!({})).await), "done");
}

#[tokio::test]
async fn an_end_of_the_stream_ends_its_calls_and_the_next_one_opens_another() {
    let (legacy, stage) = stage().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    legacy.on_call(|_| Vec::new());

    let asked = session.call("work", json!({}));
    let (answer, ()) = tokio::join!(asked, async {
        legacy.sees("tools/call", 1).await;
        legacy.end_streams();
    });

    let message = fault(&answer);
    assert!(message.contains("\"legacy\"") && message.contains("stream"), "{message}");
    legacy.on_call(|call| vec![done_text(&call["id"])]);
    eventually("the next call", || async {
        (session.call("work", json!({})).await.get("result").is_some()).then_some(())
    })
    .await;
    // While nobody calls, too.
    for _ in 0..5 {
        legacy.end_streams();
        eventually("the next call", || async {
            (session.call("work", json!({})).await.get("result").is_some()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_restarts_comes_back_by_itself() {
    let (mut legacy, stage) = stage().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");

    legacy.kill().await;
    // The end of the stream tells, without any call.
    stage.server_is("legacy", "unreachable").await;
    assert!(fault(&session.call("work", json!({})).await).contains("\"legacy\""));
    assert_eq!(session.tools().await, ["work"]);
    legacy.revive().await;

    stage.server_is("legacy", "connected").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn a_large_answer_passes_and_holds_nobody_up() {
    let (legacy, stage) = stage().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let large = "x".repeat(5 * 1024 * 1024);
    let content = json!([{"type": "text", "text": large}]);
    legacy.on_call(move |call| {
        let result = json!({"content": content});
        vec![json!({"jsonrpc": "2.0", "result": result, "id": call["id"]}).to_string()]
    });

    let answers =
        futures_util::future::join_all((0..3).map(|_| session.call("work", json!({})))).await;

    assert!(answers.iter().all(|answer| text(answer) == large));
}

#[tokio::test]
async fn requests_of_the_server_are_answered() {
    let (legacy, stage) = stage().await;
    for (method, member) in [("ping", "result"), ("roots/list", "error")] {
        legacy.announce(&json!({"jsonrpc": "2.0", "id": method, "method": method})).await;
        let answer = eventually(method, || async {
            legacy.answers().into_iter().find(|answer| answer["id"] == method)
        })
        .await;
        assert!(answer.get(member).is_some(), "{answer}");
    }
    assert_eq!(stage.server_is("legacy", "connected").await["tools"], 1);
}

#[tokio::test]
async fn an_endpoint_elsewhere_is_not_followed() {
    let elsewhere = Legacy::start().await;
    let stream = "event: endpoint\ndata: http://127.0.0.1:1/messages\n\n";
    let router = axum::Router::new().fallback(move |method: http::Method| async move {
        if method == http::Method::GET {
            reply(http::StatusCode::OK, "text/event-stream", stream)
        } else {
            reply(http::StatusCode::METHOD_NOT_ALLOWED, "text/plain", "")
        }
    });
    let running = Running::start(router).await;
    let manifest = crate::support::manifests::server_with(
        "stray",
        &running.url(),
        "transport: Sse\ntimeouts: {request: 1s}",
    );
    let stage = Stage::start(&[manifest, elsewhere.manifest("other")]).await;

    let down = stage.server_is("stray", "unreachable").await;

    assert!(down["reason"].as_str().unwrap().contains("another origin"), "{down}");
    stage.server_is("other", "connected").await;
}

#[tokio::test]
async fn a_server_of_neither_transport_is_told_as_such() {
    let router = axum::Router::new()
        .fallback(|| async { reply(http::StatusCode::NOT_FOUND, "text/plain", "nothing here") });
    let running = Running::start(router).await;
    let stage = Stage::start(&[server("neither", &running.url())]).await;

    let down = stage.server_is("neither", "unreachable").await;

    assert!(down["reason"].as_str().unwrap().contains("404"), "{down}");
}
