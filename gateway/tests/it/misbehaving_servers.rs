//! Servers that say what nobody asked for, twice, late, without an end or without a sense: their
//! calls fail in words, memory stays bounded, and nobody else notices.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::client::{Client, Session, fault, request, text};
use crate::support::fixture::{
    Fixture, Part, Seen, body, done_text, event, event_stream, json_reply, part, reply, result,
};
use crate::support::legacy::Legacy;
use crate::support::manifests::server;
use crate::support::stage::{Stage, everything};
use crate::support::{eventually, memory, within_time};

/// What waits for no server.
const AT_ONCE: Duration = Duration::from_secs(2);
/// What 1 GB that servers send may leave behind, with what other tests hold meanwhile.
const ROOM: usize = 300 * 1024 * 1024;

/// Makes a fixture one of 2026-07-28.
fn modern(fixture: &Fixture) {
    fixture.on("server/discover", |seen| async move {
        let found = json!({
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}},
        });
        result(&seen, &found)
    });
}

/// A call of a client of 2026-07-28.
async fn modern_call(client: &Client, tool: &str) -> Value {
    let client = client
        .clone()
        .with("accept", "application/json")
        .with("mcp-protocol-version", "2026-07-28")
        .with("mcp-method", "tools/call")
        .with("mcp-name", tool);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({"name": tool, "arguments": {}, "_meta": meta});
    client.post("/mcp", request(1, "tools/call", params)).await.json()
}

#[tokio::test]
async fn nonsense_of_a_modern_server_is_told_as_the_servers_to_clients_of_both_eras() {
    let (everything, fixture) = (everything().await, Fixture::start().await);
    modern(&fixture);
    let manifest = fixture.manifest_with("odd", "circuitBreaker: {failures: 0}");
    let stage = Stage::start(&[manifest, server("everything", &everything.url())]).await;
    stage.server_is("odd", "connected").await;
    stage.server_is("everything", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let bob = Session::open(&stage.bob(), "/mcp").await;
    let before = memory();
    let foreign = r#"{"jsonrpc":"2.0","id":"x","result":{"content":[],"secret":"stolen"}}"#;
    let shapeless = r#"{"jsonrpc":"2.0","id":$id,"result":{"resultType":"input_required","inputRequests":"stolen"}}"#;
    let replies: [(&str, StatusCode, &str, &str); 12] = [
        ("garbage", StatusCode::OK, "application/json", "<html>"),
        ("a string", StatusCode::OK, "application/json", "\"stolen\""),
        ("half", StatusCode::OK, "application/json", r#"{"jsonrpc""#),
        ("nothing", StatusCode::OK, "text/event-stream", ""),
        ("media type", StatusCode::OK, "text/html", "<html>"),
        ("accepted", StatusCode::ACCEPTED, "text/plain", ""),
        ("500", StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "stolen"),
        ("500", StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"),
        ("404", StatusCode::NOT_FOUND, "text/plain", ""),
        ("redirect", StatusCode::TEMPORARY_REDIRECT, "text/plain", ""),
        ("wrong id", StatusCode::OK, "application/json", foreign),
        ("shapeless questions", StatusCode::OK, "application/json", shapeless),
    ];
    for (what, status, media_type, body) in replies {
        fixture.on("tools/call", move |seen| {
            let answer = reply(status, media_type, body.replace("$id", &seen.id().to_string()));
            async { answer }
        });
        let legacy = session.call("work", json!({})).await;
        assert!(fault(&legacy).starts_with("MCP server \"odd\" "), "{what}: {legacy}");
        assert!(!legacy.to_string().contains("stolen"), "{what}: {legacy}");
        // Questions of a modern server are the modern client's to read, whatever their shape.
        if what != "shapeless questions" {
            let modern = modern_call(&stage.alice(), "work").await;
            assert!(fault(&modern).starts_with("MCP server \"odd\" "), "{what}: {modern}");
            assert!(!modern.to_string().contains("stolen"), "{what}: {modern}");
        }
        let add = bob.call("add", json!({"a": 1, "b": 1}));
        assert_eq!(text(&within_time("another client", AT_ONCE, add).await), "2", "{what}");
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < ROOM, "{} MiB", grown >> 20);
    fixture.on("tools/call", |seen| async move { json_reply(done_text(&seen.id())) });
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    assert_eq!(text(&modern_call(&stage.alice(), "work").await), "done");
}

#[tokio::test]
async fn what_a_server_says_in_place_of_a_greeting_is_quoted_nowhere() {
    let fixture = Fixture::start().await;
    fixture.on("initialize", |seen| async move { result(&seen, &json!("Bearer hush")) });
    let stage = Stage::start(&[fixture.manifest("odd")]).await;

    let down = stage.server_is("odd", "unreachable").await;

    assert!(!down.to_string().contains("hush"), "{down}");
}

#[tokio::test]
async fn an_answer_that_comes_twice_or_late_is_nobody_elses() {
    let legacy = Legacy::start().await;
    let stage = Stage::start(&[legacy.manifest("odd")]).await;
    stage.server_is("odd", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let said = |id: &Value, text: &str| done_text(id).replace("done", text);

    // Before the answer one for each id there was and will be, and after it another one.
    legacy.on_call(move |call| {
        let own = call["id"].as_u64().unwrap();
        let others = (0..own + 20).filter(|id| *id != own);
        let mut answers: Vec<String> =
            others.map(|id| said(&json!(id), "another's")).take(30).collect();
        answers.push(said(&json!(own), &format!("own {own}")));
        answers.push(said(&json!(own), "again"));
        answers
    });
    for _ in 0..5 {
        let answer = session.call("work", json!({})).await;
        assert!(text(&answer).starts_with("own "), "{answer}");
    }

    // The same where each answer has a stream of its own.
    let fixture = Fixture::start().await;
    fixture.on("tools/call", move |seen| async move {
        let own = seen.id();
        let events = [said(&json!(0), "another's"), said(&own, "own"), said(&own, "again")];
        event_stream(events.map(|message| format!("data: {message}\n\n")).concat())
    });
    stage.write("other.yaml", &fixture.manifest_with("other", "").replace("\"\"", "other_"));
    stage.server_is("other", "connected").await;
    for _ in 0..5 {
        assert_eq!(text(&session.call("other_work", json!({})).await), "own");
    }
}

/// A body that never ends: `start`, then the same again and again.
fn endless(start: &str, again: &'static [u8]) -> Body {
    let parts = stream::unfold(Some(Bytes::from(start.to_owned())), move |start| async move {
        // Lets others have their turn, as bytes from elsewhere do.
        tokio::task::yield_now().await;
        let part = start.unwrap_or_else(|| Bytes::from_static(again));
        Some((Ok::<_, io::Error>(part), None))
    });
    Body::from_stream(parts)
}

static LINE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

#[tokio::test]
async fn a_line_without_an_end_is_given_up_and_not_kept() {
    let (everything, fixture) = (everything().await, Fixture::start().await);
    let manifests = [fixture.manifest("endless"), server("everything", &everything.url())];
    let stage = Stage::start(&manifests).await;
    stage.server_is("endless", "connected").await;
    stage.server_is("everything", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let before = memory();

    for (events, start) in [
        (false, "{\"jsonrpc\":\"2.0\",\"method\":\""),
        (false, "{\"jsonrpc\":\"2.0\",\"params\":{\"a\":\""),
        (true, "data: {\"jsonrpc\":\"2.0\",\"method\":\""),
        (true, "data: {\"jsonrpc\":\"2.0\",\"params\":{\"a\":\""),
        (true, "event: "),
        (true, "id: "),
    ] {
        fixture.on("tools/call", move |_| async move {
            let body = endless(start, &LINE);
            if events { event_stream(body) } else { json_reply(body) }
        });
        let answer = within_time("an end", AT_ONCE * 5, session.call("work", json!({}))).await;
        assert!(fault(&answer).starts_with("MCP server \"endless\" sent"), "{start}: {answer}");
        let add = session.call("add", json!({"a": 1, "b": 1}));
        assert_eq!(text(&within_time("another server", AT_ONCE, add).await), "2");
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < ROOM, "{} MiB", grown >> 20);
    fixture.behave();
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn a_stream_of_news_that_never_pauses_starves_nobody_and_is_not_kept() {
    const NEWS: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":1}}\n\n";
    let (everything, fixture) = (everything().await, Fixture::with_sessions().await);
    static MANY: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| NEWS.repeat(500).into_bytes());
    // The empty method is that of GET.
    fixture.on("", |seen| async move {
        if seen.http == http::Method::GET {
            event_stream(endless("", &MANY))
        } else {
            reply(StatusCode::NO_CONTENT, "text/plain", "")
        }
    });
    let manifests = [fixture.manifest("chatty"), server("everything", &everything.url())];
    let stage = Stage::start(&manifests).await;
    stage.server_is("chatty", "connected").await;
    stage.server_is("everything", "connected").await;
    let before = memory();
    let mut streams = Vec::new();
    for client in [stage.alice(), stage.bob()] {
        let session = Session::open(&client, "/mcp").await;
        // Opened and not read.
        streams.push(session.client.stream("/mcp").await);
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        streams.push(session.client.stream("/mcp").await);
        for _ in 0..20 {
            let add = session.call("add", json!({"a": 1, "b": 1}));
            assert_eq!(text(&within_time("another server", AT_ONCE, add).await), "2");
        }
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < ROOM, "{} MiB", grown >> 20);
}

#[tokio::test]
async fn a_stream_of_news_that_ends_is_opened_again() {
    const LOG: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"here\"}}\n\n";
    let fixture = Fixture::with_sessions().await;
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let streams = Arc::new(AtomicUsize::new(0));
    fixture.on("", move |seen| {
        let first = seen.http == http::Method::GET && streams.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first { event_stream("") } else { event_stream(body(vec![part(LOG), Part::Hang])) }
        }
    });
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut news = session.listen().await;

    assert_eq!(text(&session.call("work", json!({})).await), "done");

    assert_eq!(news.next().await.unwrap().json()["params"]["data"], "here");
}

/// Opens a session of a client that can be asked.
async fn askable(client: &Client) -> Session {
    let hello = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "test", "version": "1"},
    });
    let greeted = client.post("/mcp", request(0, "initialize", hello)).await;
    let id = greeted.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let session = Session::open(client, "/mcp").await;
    session.with(|client| client.with("mcp-session-id", &id))
}

fn question(id: impl Into<Value>) -> String {
    let params = json!({"message": "?", "requestedSchema": {"type": "object", "properties": {}}});
    request(id, "elicitation/create", params)
}

/// Asks so often in each call, then waits for an answer to the last, and is done.
fn asking(fixture: &Fixture, questions: usize) -> tokio_util::sync::CancellationToken {
    let gate = tokio_util::sync::CancellationToken::new();
    let held = gate.clone();
    fixture.on("tools/call", move |seen| {
        let mut parts: Vec<Part> = (0..questions).map(|id| part(event(&question(id)))).collect();
        parts.push(Part::Gate(held.clone()));
        parts.push(part(event(&done_text(&seen.id()))));
        async { event_stream(body(parts)) }
    });
    gate
}

fn answers(fixture: &Fixture) -> Vec<Seen> {
    let answers = fixture.seen().into_iter();
    answers.filter(|seen| seen.method().is_empty() && seen.message.is_object()).collect()
}

#[tokio::test]
async fn a_flood_of_questions_leaves_room_for_those_of_others() {
    let (flooding, asking_once) = (Fixture::with_sessions().await, Fixture::with_sessions().await);
    let gates = [asking(&flooding, 40), asking(&asking_once, 1)];
    asking_once.offer(&["other"]);
    let manifests = [flooding.manifest("flooding"), asking_once.manifest("once")];
    let stage = Stage::start(&manifests).await;
    stage.server_is("flooding", "connected").await;
    stage.server_is("once", "connected").await;
    let session = askable(&stage.alice()).await;

    let first = session.send(crate::support::client::call(1, "work", json!({}))).await;
    let mut first = crate::support::client::events(first);
    // The rest is refused in the client's stead.
    eventually("refusals", || async { (answers(&flooding).len() >= 24).then_some(()) }).await;
    assert!(answers(&flooding).iter().all(|seen| seen.message["error"]["code"] == -32601));
    let second = session.send(crate::support::client::call(2, "other", json!({}))).await;
    let mut second = crate::support::client::events(second);
    let asked = second.next().await.unwrap().json();
    assert_eq!(asked["method"], "elicitation/create", "{asked}");

    // The answer to the other one goes to the other one, once, however often it is given.
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept"}});
    for _ in 0..3 {
        assert_eq!(session.post(&answer).await.status, StatusCode::ACCEPTED);
    }
    let seen = eventually("an answer", || async { answers(&asking_once).pop() }).await;
    assert_eq!(seen.message, json!({"jsonrpc": "2.0", "id": 0, "result": {"action": "accept"}}));
    for gate in gates {
        gate.cancel();
    }
    assert_eq!(text(&second.answer(&json!(2)).await), "done");
    assert_eq!(text(&first.answer(&json!(1)).await), "done");
    assert_eq!(first.passed.len(), 16, "{:?}", first.passed);

    // What comes after the end of the call is nobody's.
    for event in &first.passed {
        let late = json!({"jsonrpc": "2.0", "id": event.json()["id"], "result": {}});
        assert_eq!(session.post(late).await.status, StatusCode::ACCEPTED);
    }
    assert_eq!(text(&session.call("other", json!({})).await), "done");
    assert!(answers(&flooding).iter().all(|seen| seen.message.get("result").is_none()));
    assert_eq!(answers(&asking_once).iter().filter(|seen| seen.message["id"] == 0).count(), 1);
}

#[tokio::test]
async fn an_answer_to_a_question_is_taken_from_its_session_only() {
    let fixture = Fixture::with_sessions().await;
    let gate = asking(&fixture, 1);
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let (session, other, foreign) =
        (askable(&stage.alice()).await, askable(&stage.alice()).await, askable(&stage.bob()).await);
    let call = session.send(crate::support::client::call(1, "work", json!({}))).await;
    let mut call = crate::support::client::events(call);
    let asked = call.next().await.unwrap().json();
    let answer = |action: &str| {
        json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": action}}).to_string()
    };

    for stranger in [&other, &foreign] {
        assert_eq!(stranger.post(answer("decline")).await.status, StatusCode::ACCEPTED);
    }
    let without = stage.alice().post("/mcp", answer("decline")).await;
    assert_eq!(without.status, StatusCode::ACCEPTED);
    assert_eq!(session.post(answer("accept")).await.status, StatusCode::ACCEPTED);

    let seen = eventually("an answer", || async { answers(&fixture).pop() }).await;
    assert_eq!(seen.message["result"]["action"], "accept", "{seen:?}");
    gate.cancel();
    assert_eq!(text(&call.answer(&json!(1)).await), "done");
    assert_eq!(answers(&fixture).len(), 1);
}

#[tokio::test]
async fn a_half_closed_connection_is_told_and_not_waited_for() {
    let fixture = Fixture::start().await;
    let stage = Stage::start(&[fixture.manifest("half")]).await;
    stage.server_is("half", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;

    for start in ["data: {\"jsonrpc\":\"2.0\",\"id\":", "data: {}\n\n", ": here\n\n"] {
        fixture.on("tools/call", move |_| async move {
            event_stream(body(vec![part(start), Part::Break]))
        });
        let answer = within_time("an error", AT_ONCE, session.call("work", json!({}))).await;
        assert!(fault(&answer).starts_with("MCP server \"half\" "), "{start}: {answer}");
    }
}

/// A server that has said all it will and still listens: its side alone is closed.
#[tokio::test]
async fn a_server_that_says_no_more_and_still_listens_is_not_waited_for() {
    let everything = everything().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let half = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            held.push(stream);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let manifests = [server("half", &url), server("everything", &everything.url())];

    let stage = Stage::start(&manifests).await;

    let down = stage.server_is("half", "unreachable").await;
    assert!(down["reason"].as_str().unwrap().contains("closed the connection"), "{down}");
    let bob = Session::open(&stage.bob(), "/mcp").await;
    let before = memory();
    eventually("some more attempts", || async {
        let add = bob.call("add", json!({"a": 1, "b": 1}));
        assert_eq!(text(&within_time("another server", AT_ONCE, add).await), "2");
        (accepted.load(Ordering::SeqCst) >= 8).then_some(())
    })
    .await;
    let grown = memory().saturating_sub(before);
    assert!(grown < ROOM, "{} MiB", grown >> 20);
    half.abort();
}

#[tokio::test]
async fn lists_of_a_server_that_floods_are_asked_for_at_a_pace() {
    const CHANGED: &str =
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n";
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |seen| async move {
        event_stream(CHANGED.repeat(5000) + &format!("data: {}\n\n", done_text(&seen.id())))
    });
    let stage = Stage::start(&[fixture.manifest("flooding")]).await;
    stage.server_is("flooding", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let before = fixture.seen_of("tools/list").len();

    for _ in 0..5 {
        assert_eq!(text(&session.call("work", json!({})).await), "done");
    }

    let lists = fixture.seen_of("tools/list").len() - before;
    assert!(lists < 50, "{lists} lists for 25,000 announcements");
}

#[tokio::test]
async fn a_greeting_of_megabytes_is_not_passed_to_each_session() {
    let fixture = Fixture::start().await;
    fixture.on("initialize", |seen| async move {
        let hello = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}, "experimental": {"large": "x".repeat(1 << 20)}},
            "instructions": "x".repeat(1 << 20),
            "serverInfo": {"name": "x".repeat(1 << 20), "version": "1"},
        });
        result(&seen, &hello)
    });
    let stage = Stage::start(&[fixture.manifest("large")]).await;
    stage.server_is("large", "connected").await;
    let hello = crate::support::client::hello();

    let greeted = stage.alice().post("/mcp/large", request(0, "initialize", hello)).await;

    assert!(greeted.body.len() < 4096, "{}", greeted.body.len());
    assert_eq!(greeted.json()["result"]["capabilities"]["tools"]["listChanged"], true);
    let session = Session::open(&stage.alice(), "/mcp/large").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}
