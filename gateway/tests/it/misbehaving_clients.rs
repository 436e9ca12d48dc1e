//! Clients that never end what they begin, ask for too much, or do not read: what they hold is
//! bounded, they are told, and nobody else waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::client::{Client, Reply, Session, Sse, call, events, hello, request, text};
use crate::support::fixture::{Fixture, Part, body, done_text, event, event_stream, part, result};
use crate::support::raw::Raw;
use crate::support::stage::{ALICE, Stage};
use crate::support::{eventually, memory, within_time};

/// What waits for nobody.
const AT_ONCE: Duration = Duration::from_secs(2);
/// What any of this may leave behind, with what other tests hold meanwhile.
const ROOM: usize = 300 << 20;

/// What every request of 2026-07-28 says, with the capabilities of its client.
fn meta(capabilities: &Value) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    })
}

fn modern(client: &Client, method: &str, name: Option<&str>) -> Client {
    let client =
        client.clone().with("mcp-protocol-version", "2026-07-28").with("mcp-method", method);
    match name {
        Some(name) => client.with("mcp-name", name),
        None => client,
    }
}

/// A call of a client of 2026-07-28.
fn modern_call(tool: &str, capabilities: &Value, more: Value) -> String {
    let mut params = json!({"name": tool, "arguments": {}, "_meta": meta(capabilities)});
    let more = more.as_object().unwrap().clone();
    params.as_object_mut().unwrap().extend(more);
    request(1, "tools/call", params)
}

#[tokio::test]
async fn ten_thousand_sessions_without_an_end_cost_next_to_nothing() {
    let fixture = Fixture::with_sessions().await;
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let bob = Session::open(&stage.bob(), "/mcp").await;
    assert_eq!(text(&bob.call("work", json!({})).await), "done");
    let alice = stage.alice();
    let before = memory();

    let begin = request(0, "initialize", hello());
    let begun: Vec<String> = stream::iter(0..10_000)
        .map(|_| async {
            let reply = alice.post("/mcp", &begin).await;
            reply.headers["mcp-session-id"].to_str().unwrap().to_owned()
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let grown = memory().saturating_sub(before);
    assert!(grown < ROOM, "{} MiB", grown >> 20);

    // Legs are held for some of them, and the server is told of the end of the others.
    let calls = stream::iter(&begun[..300]).map(|id| {
        let client = alice.clone().with("mcp-session-id", id);
        async move { client.post("/mcp", call(1, "work", json!({}))).await.json() }
    });
    let answers: Vec<Value> = calls.buffer_unordered(8).collect().await;
    assert!(answers.iter().all(|answer| text(answer) == "done"));
    eventually("ends of sessions", || async {
        let deleted = fixture.seen().iter().filter(|seen| seen.http == Method::DELETE).count();
        (deleted >= 300 - 256).then_some(())
    })
    .await;
    let own = within_time("another client", AT_ONCE, bob.call("work", json!({})));
    assert_eq!(text(&own.await), "done");
    // The first and the last are as good as new.
    for id in [&begun[0], &begun[9999]] {
        let client = alice.clone().with("mcp-session-id", id);
        assert_eq!(text(&client.post("/mcp", call(2, "work", json!({}))).await.json()), "done");
    }
}

/// Asks its client something in each call and waits for the answer.
fn asking(fixture: &Fixture) {
    fixture.on("tools/call", |seen| {
        let schema = json!({"type": "object", "properties": {}});
        let params = json!({"message": "?", "requestedSchema": schema});
        let question = request(7, "elicitation/create", params);
        let parts = vec![part(event(&question)), Part::Hang, part(event(&done_text(&seen.id())))];
        async { event_stream(body(parts)) }
    });
}

#[tokio::test]
async fn calls_whose_client_never_comes_back_are_few_and_end_with_their_key() {
    let fixture = Fixture::with_sessions().await;
    asking(&fixture);
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let can = json!({"elicitation": {"form": {}}});
    let begin = modern_call("work", &can, json!({}));
    let alice = modern(&stage.alice(), "tools/call", Some("work"));
    let mut states = Vec::new();
    for at in 0..64 {
        let asked = alice.post("/mcp", &begin).await.json();
        assert_eq!(asked["result"]["resultType"], "input_required", "{at}: {asked}");
        states.push(asked["result"]["requestState"].as_str().unwrap().to_owned());
    }

    let refused = alice.post("/mcp", &begin).await.json();
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("wait for input"), "{refused}");
    let bob = modern(&stage.bob(), "tools/call", Some("work"));
    let asked = bob.post("/mcp", &begin).await.json();
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    // What one key was given is worth nothing to another, nor for another call.
    let foreign = modern_call("work", &can, json!({"requestState": states[0]}));
    assert_eq!(bob.post("/mcp", foreign).await.json()["error"]["code"], -32602);
    let other = json!({"requestState": states[0], "arguments": {"a": 1}});
    let other = modern_call("work", &can, other);
    assert_eq!(alice.post("/mcp", other).await.json()["error"]["code"], -32602);
    // Who comes back without an answer is asked again, under another handle, as often as it likes.
    for _ in 0..50 {
        let state = states.pop().unwrap();
        let again = modern_call("work", &can, json!({"requestState": state}));
        let asked = alice.post("/mcp", &again).await;
        let asked = match asked.headers["content-type"].to_str().unwrap() {
            "text/event-stream" => panic!("nothing came but the question: {asked:?}"),
            _ => asked.json(),
        };
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        let next = asked["result"]["requestState"].as_str().unwrap().to_owned();
        assert_ne!(next, state);
        assert_eq!(alice.post("/mcp", again).await.json()["error"]["code"], -32602);
        states.push(next);
    }

    stage.remove("alice.yaml");
    // With the one that was refused.
    fixture.sees("notifications/cancelled", 65).await;
    let cancelled = fixture.seen_of("notifications/cancelled").len();
    assert_eq!(cancelled, 65, "bob's call goes on");
}

#[tokio::test]
async fn capabilities_without_a_bound_are_refused_in_both_eras() {
    let fixture = Fixture::with_sessions().await;
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let before = fixture.seen_of("initialize").len();
    let large = json!({"experimental": {"x": "x".repeat(4096)}});

    let alice = modern(&stage.alice(), "tools/call", Some("work"));
    let refused = alice.post("/mcp", modern_call("work", &large, json!({}))).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["error"]["code"], -32602);
    let mut hello = hello();
    hello["capabilities"] = large;
    let refused = stage.alice().post("/mcp", request(0, "initialize", hello)).await;
    assert_eq!(refused.json()["error"]["code"], -32602);
    assert_eq!(fixture.seen_of("initialize").len(), before);
}

#[tokio::test]
async fn a_header_that_repeats_an_argument_twice_is_refused() {
    let fixture = Fixture::start().await;
    let schema = json!({
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    });
    fixture.offer_definitions(vec![json!({"name": "work", "inputSchema": schema})]);
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let message = modern_call("work", &json!({}), json!({"arguments": {"region": "a"}}));
    let mut alice = modern(&stage.alice(), "tools/call", Some("work"));
    alice.headers.insert("mcp-param-region", "a".parse().unwrap());
    assert_eq!(text(&alice.post("/mcp", &message).await.json()), "done");

    alice.headers.append("mcp-param-region", "b".parse().unwrap());

    let refused = alice.post("/mcp", &message).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
    assert_eq!(refused.json()["error"]["code"], -32020);
}

/// A server of 2026-07-28 with resources, which knows everybody's tasks.
async fn library() -> Fixture {
    let fixture = Fixture::start().await;
    fixture.on("server/discover", |seen| async move {
        let found = json!({
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}, "resources": {"subscribe": true}},
        });
        result(&seen, &found)
    });
    fixture.on("resources/list", |seen| async move { result(&seen, &json!({"resources": []})) });
    fixture.on("resources/templates/list", |seen| async move {
        let template = json!({"name": "books", "uriTemplate": "book://{title}"});
        result(&seen, &json!({"resourceTemplates": [template]}))
    });
    fixture.on("tasks/list", |seen| async move {
        result(&seen, &json!({"tasks": [{"taskId": "another's", "status": "working"}]}))
    });
    fixture
}

#[tokio::test]
async fn one_key_that_watches_thousands_of_resources_leaves_room_for_others() {
    let fixture = library().await;
    let stage = Stage::start(&[fixture.manifest("library")]).await;
    stage.server_is("library", "connected").await;
    let listen = |client: &Client, number: usize| {
        let client = modern(client, "subscriptions/listen", None);
        async move {
            let uris: Vec<String> =
                (0..256).map(|book| format!("book://{number}-{book}")).collect();
            let params = json!({
                "notifications": {"resourceSubscriptions": uris},
                "_meta": meta(&json!({})),
            });
            let message = request(1, "subscriptions/listen", params);
            let mut stream = events(client.send(Method::POST, "/mcp", message).await);
            let told = stream.next().await.unwrap().json();
            let honoured = &told["params"]["notifications"]["resourceSubscriptions"];
            (honoured.as_array().map_or(0, Vec::len), stream)
        }
    };
    let (alice, bob) = (stage.alice(), stage.bob());
    let mut streams = Vec::new();
    let mut honoured = Vec::new();
    for number in 0..6 {
        let (count, stream) = listen(&alice, number).await;
        honoured.push(count);
        streams.push(stream);
    }
    assert_eq!(honoured, [256, 256, 256, 256, 0, 0]);
    // A session of the same key has no more than that, and is told.
    let session = Session::open(&alice, "/mcp").await;
    let refused = session.request("resources/subscribe", json!({"uri": "book://more"})).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("unsubscribe"), "{refused}");

    assert_eq!(listen(&bob, 0).await.0, 256);

    // What ends gives its room back.
    streams.pop();
    streams.remove(0);
    eventually("room", || async {
        let params = json!({"uri": "book://more"});
        let answer = session.request("resources/subscribe", params).await;
        answer.get("result").map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn tasks_of_a_server_that_all_share_are_listed_to_nobody() {
    let fixture = library().await;
    let stage = Stage::start(&[fixture.manifest("library")]).await;
    stage.server_is("library", "connected").await;
    let params =
        json!({"_meta": meta(&json!({"extensions": {"io.modelcontextprotocol/tasks": {}}}))});

    for path in ["/mcp", "/mcp/library"] {
        for method in ["tasks/list", "tasks/result"] {
            let client = modern(&stage.alice(), method, None);
            let mut params = params.clone();
            params["taskId"] = "another's".into();
            let answer = client.post(path, request(1, method, params)).await.json();
            assert_eq!(answer["error"]["code"], -32601, "{path}: {answer}");
        }
        let session = Session::open(&stage.alice(), path).await;
        let answer = session.request("tasks/list", json!({})).await;
        assert_eq!(answer["error"]["code"], -32601, "{path}: {answer}");
    }
    assert!(fixture.seen_of("tasks/list").is_empty());
    assert!(fixture.seen_of("tasks/result").is_empty());
}

#[tokio::test]
async fn ten_megabytes_of_headers_are_refused_long_before_their_end() {
    let stage = Stage::start(&[]).await;
    let bob = Session::open(&stage.bob(), "/mcp").await;
    let before = memory();
    for (name, value) in [("x-filler", "x"), ("mcp-session-id", "A"), ("mcp-name", "x")] {
        let mut raw = Raw::connect(stage.address()).await;
        raw.send(format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-api-key: {ALICE}\r\n")).await;
        raw.send(format!("{name}: ")).await;
        // Not all of it is read: what is not may come to a closed connection.
        let filler = value.repeat(64 * 1024);
        let flood = async {
            for _ in 0..160 {
                raw.try_send(&filler).await?;
            }
            Ok::<_, io::Error>(())
        };
        let _ = within_time("an end", AT_ONCE * 5, flood).await;
        let answer = within_time("an answer", AT_ONCE, raw.rest()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{name}: {answer}");
        assert!(within_time("another client", AT_ONCE, bob.tools()).await.is_empty());
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < ROOM, "{} MiB", grown >> 20);
}

#[tokio::test]
async fn calls_under_an_id_that_is_in_use_are_refused_however_many_there_are() {
    let fixture = Fixture::start().await;
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let (alice, bob) =
        (Session::open(&stage.alice(), "/mcp").await, Session::open(&stage.bob(), "/mcp").await);
    let gate = fixture.hold("tools/call");
    let same = call(1, "work", json!({"text": "x".repeat(64 << 10)}));
    let before = memory();

    let (first, ()) = tokio::join!(alice.post(&same), async {
        fixture.sees("tools/call", 1).await;
        let refused = stream::iter(0..500).map(|_| alice.post(&same)).buffer_unordered(16);
        let refused: Vec<_> = within_time("refusals", AT_ONCE * 5, refused.collect()).await;
        let codes = refused.iter().map(|reply: &Reply| reply.json()["error"]["code"].clone());
        assert!(codes.into_iter().all(|code| code == -32600));
        let grown = memory().saturating_sub(before);
        assert!(grown < ROOM, "{} MiB", grown >> 20);
        let tools = within_time("another client", AT_ONCE, bob.tools()).await;
        assert_eq!(tools, ["work"]);
        gate.cancel();
    });

    assert_eq!(text(&first.json()), "done");
    assert_eq!(fixture.seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn a_batch_of_thousands_is_refused_as_one() {
    let fixture = Fixture::start().await;
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let (alice, bob) =
        (Session::open(&stage.alice(), "/mcp").await, Session::open(&stage.bob(), "/mcp").await);
    let calls: Vec<String> = (0..30_000).map(|id| call(id, "work", json!({}))).collect();
    let batch = format!("[{}]", calls.join(","));
    assert!(batch.len() < 4 << 20, "a batch that is refused for its size");
    let before = memory();

    for _ in 0..20 {
        let refused = alice.post(&batch).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let error = &refused.json()["error"];
        assert!(error["message"].as_str().unwrap().contains("batches"), "{error}");
    }

    let grown = memory().saturating_sub(before);
    assert!(grown < ROOM, "{} MiB", grown >> 20);
    let own = within_time("another client", AT_ONCE, bob.call("work", json!({})));
    assert_eq!(text(&own.await), "done");
    assert_eq!(fixture.seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_own_server_only() {
    static LOG: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"$\"}}\n\n";
    let fixture = Fixture::start().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    fixture.on("tools/call", move |_| {
        let sent = counted.clone();
        let log = Bytes::from(LOG.replace('$', &"x".repeat(16 << 10)));
        let logs = stream::repeat_with(move || {
            sent.fetch_add(log.len(), Ordering::SeqCst);
            Ok::<_, io::Error>(log.clone())
        });
        async { event_stream(Body::from_stream(logs)) }
    });
    fixture.offer(&["work"]);
    let quick = Fixture::start().await;
    quick.offer(&["quick"]);
    let stage = Stage::start(&[fixture.manifest("endless"), quick.manifest("quick")]).await;
    stage.server_is("endless", "connected").await;
    stage.server_is("quick", "connected").await;
    let mut unread = Vec::new();
    for _ in 0..4 {
        let session = Session::open(&stage.alice(), "/mcp").await;
        unread.push(session.send(call(1, "work", json!({}))).await);
    }
    let sse = Sse::open(&stage.alice(), "/sse").await;
    assert_eq!(sse.post(call(1, "work", json!({}))).await.status, StatusCode::ACCEPTED);

    // What is on the way fills up, and then nothing more is taken.
    let mut before = usize::MAX;
    let held = eventually("a stop", || {
        let now = sent.load(Ordering::SeqCst);
        let stopped = (now == std::mem::replace(&mut before, now)).then_some(now);
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            stopped
        }
    })
    .await;

    assert!(held < 5 * (24 << 20), "{} MiB", held >> 20);
    let bob = Session::open(&stage.bob(), "/mcp").await;
    let answer = within_time("another client", AT_ONCE, bob.call("quick", json!({}))).await;
    assert_eq!(text(&answer), "done");
    let alice = Session::open(&stage.alice(), "/mcp").await;
    let answer = within_time("the same key", AT_ONCE, alice.call("quick", json!({}))).await;
    assert_eq!(text(&answer), "done");
}

#[tokio::test]
async fn of_clients_that_leave_only_so_many_answers_are_waited_for() {
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |_| std::future::pending());
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let bob = Session::open(&stage.bob(), "/mcp").await;
    let token = session.client.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let before = memory();

    let mut open = Vec::new();
    for id in 0..276 {
        let mut raw = Raw::connect(stage.address()).await;
        let message = call(id, "work", json!({}));
        raw.send(format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-api-key: {ALICE}\r\n\
             mcp-session-id: {token}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{message}",
            message.len()
        ))
        .await;
        open.push(raw);
    }
    fixture.sees("tools/call", 276).await;
    drop(open);

    // Their server is told of those that are too many; the others have not cancelled.
    fixture.sees("notifications/cancelled", 20).await;
    let cancelled = fixture.seen_of("notifications/cancelled").len();
    assert_eq!(cancelled, 20);
    let grown = memory().saturating_sub(before);
    assert!(grown < ROOM, "{} MiB", grown >> 20);
    assert_eq!(within_time("another client", AT_ONCE, bob.tools()).await, ["work"]);
    fixture.behave();
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn a_session_that_ends_takes_its_open_questions_along() {
    let fixture = Fixture::with_sessions().await;
    asking(&fixture);
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let mut hello = hello();
    hello["capabilities"] = json!({"elicitation": {}});
    let greeted = stage.alice().post("/mcp", request(0, "initialize", hello)).await;
    let id = greeted.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let client = stage.alice().with("mcp-session-id", &id);
    let mut call = events(client.send(Method::POST, "/mcp", call(1, "work", json!({}))).await);
    let asked = call.next().await.unwrap().json();

    assert_eq!(client.send(Method::DELETE, "/mcp", String::new()).await.status(), 204);

    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept"}});
    assert_eq!(client.post("/mcp", &answer).await.status, StatusCode::NOT_FOUND);
    drop(call);
    let answered = |seen: &crate::support::fixture::Seen| seen.message.get("result").is_some();
    assert!(!fixture.seen().iter().any(answered));
    let next = Session::open(&stage.alice(), "/mcp").await;
    fixture.behave();
    assert_eq!(text(&next.call("work", json!({})).await), "done");
}
