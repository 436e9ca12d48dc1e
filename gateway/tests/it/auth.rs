//! Who may pass, and how soon not any more.

use std::sync::Mutex;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::client::{Reply, Session, Sse, call, events, fault, request, text};
use crate::support::events::Events;
use crate::support::fixture::{Fixture, done, driven, event, event_stream};
use crate::support::manifests::{key, key_with, policy, server};
use crate::support::raw::Raw;
use crate::support::stage::{ALICE, BOB, Stage, everything};
use crate::support::{REVOKED, eventually, within_time};

const CHARLIE: &str = "charlie-key-000";

fn ping() -> String {
    request(1, "ping", json!({}))
}

#[tokio::test]
async fn the_first_place_that_holds_a_key_decides() {
    let stage = Stage::start(&[]).await;
    let (good, bad) = (ALICE, "no-such-key-at-all");
    let bearer = |key: &str| format!("Bearer {key}");

    for (header, query, authorization, accepted) in [
        (Some(good), None, None, true),
        (None, Some(good), None, true),
        (None, None, Some(good), true),
        (Some(good), Some(bad), Some(bad), true),
        (Some(bad), Some(good), Some(good), false),
        (None, Some(bad), Some(good), false),
        (None, Some(good), Some(bad), true),
    ] {
        let mut client = stage.client();
        if let Some(key) = header {
            client = client.key(key);
        }
        if let Some(key) = authorization {
            client = client.with("authorization", &bearer(key));
        }
        let path = query.map_or_else(|| "/mcp".to_owned(), |key| format!("/mcp?api_key={key}"));
        let status = client.post(&path, ping()).await.status;
        assert_eq!(status == StatusCode::OK, accepted, "{header:?} {query:?} {authorization:?}");
        assert!(accepted || status == StatusCode::UNAUTHORIZED, "{status}");
    }
}

#[tokio::test]
async fn keys_that_are_not_good_are_refused_in_one_shape() {
    let disabled = key_with("charlie", CHARLIE, "disabled: true");
    let expired = key_with("dora", "dora-key-000000", "expiresAt: 2020-01-01T00:00:00Z");
    let stage = Stage::start(&[disabled, expired]).await;

    for (key, message) in [
        (None, "missing API key"),
        (Some(""), "missing API key"),
        (Some("no-such-key-at-all"), "invalid API key"),
        (Some(CHARLIE), "API key is disabled"),
        (Some("dora-key-000000"), "API key has expired"),
    ] {
        let client = key.map_or_else(|| stage.client(), |key| stage.client().key(key));
        for reply in [
            client.post("/mcp", ping()).await,
            client.post("/mcp/everything", ping()).await,
            client.get("/mcp").await,
            client.get("/sse").await,
            client.get("/mcp/sse").await,
            client.post("/messages/", ping()).await,
        ] {
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{key:?}");
            let challenge = reply.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Bearer "), "{challenge}");
            assert_eq!(reply.json(), json!({"error": message}), "{key:?}");
        }
    }
}

#[tokio::test]
async fn a_request_without_a_good_key_is_refused_before_its_body_comes() {
    let stage = Stage::start(&[]).await;
    for (path, key) in [
        ("/mcp", ""),
        ("/mcp", "X-Api-Key: no-such-key-at-all\r\n"),
        ("/messages/?session_id=x", ""),
        ("/messages/?session_id=x", "X-Api-Key: no-such-key-at-all\r\n"),
    ] {
        let mut raw = Raw::connect(stage.address()).await;
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{key}Content-Type: application/json\r\n\
             Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n"
        ))
        .await;
        let head = raw.read_until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{path} {key}: {head}");
        assert!(head.to_lowercase().contains("\r\nwww-authenticate: bearer "), "{head}");
    }
}

#[tokio::test]
async fn a_stream_opened_by_query_takes_messages_without_a_key() {
    let everything = everything().await;
    let stage = Stage::start(&[server("everything", &everything.url())]).await;

    for path in ["/sse", "/mcp/sse", "/t/default/mcp/sse"] {
        let mut sse = Sse::open(&stage.client(), &format!("{path}?api_key={ALICE}")).await;
        assert_eq!(text(&sse.call("echo", json!({"message": "a"})).await), "a", "{path}");
        for (client, status) in [
            (stage.client().key(ALICE), StatusCode::ACCEPTED),
            (stage.client().key(BOB), StatusCode::NOT_FOUND),
            (stage.client().key("no-such-key-at-all"), StatusCode::UNAUTHORIZED),
        ] {
            assert_eq!(client.post(&sse.endpoint, ping()).await.status, status, "{path}");
        }
    }
}

#[tokio::test]
async fn a_stream_opened_by_header_takes_no_message_without_its_key() {
    let stage = Stage::start(&[]).await;
    let sse = Sse::open(&stage.alice(), "/sse").await;
    let by_bearer = stage.client().with("authorization", &format!("Bearer {ALICE}"));
    let other = Sse::open(&by_bearer, "/sse").await;

    for endpoint in [&sse.endpoint, &other.endpoint] {
        for (client, status) in [
            (stage.client(), StatusCode::UNAUTHORIZED),
            (stage.bob(), StatusCode::NOT_FOUND),
            (stage.alice(), StatusCode::ACCEPTED),
            (by_bearer.clone(), StatusCode::ACCEPTED),
        ] {
            assert_eq!(client.post(endpoint, ping()).await.status, status);
        }
    }
    for (forged, status) in [("x", StatusCode::UNAUTHORIZED), ("", StatusCode::UNAUTHORIZED)] {
        let path = format!("/messages/?session_id={forged}");
        assert_eq!(stage.client().post(&path, ping()).await.status, status);
        assert_eq!(stage.alice().post(&path, ping()).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn the_id_of_a_stream_is_worth_nothing_once_it_ended() {
    let stage = Stage::start(&[]).await;
    let Sse { events, endpoint, .. } =
        Sse::open(&stage.client(), &format!("/sse?api_key={ALICE}")).await;
    drop(events);

    eventually("the end of the stream", || async {
        let status = stage.client().post(&endpoint, ping()).await.status;
        (status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    assert_eq!(stage.alice().post(&endpoint, ping()).await.status, StatusCode::NOT_FOUND);
}

/// A GET stream, an SSE stream and a call under way, all of charlie.
struct Busy {
    session: Session,
    listening: Events,
    sse: Sse,
    call: tokio::task::JoinHandle<Reply>,
}

impl Busy {
    async fn start(stage: &Stage, fixture: &Fixture) -> Self {
        let client = stage.client().key(CHARLIE);
        let session = Session::open(&client, "/mcp").await;
        let listening = session.listen().await;
        let sse = Sse::open(&client, &format!("/sse?api_key={CHARLIE}")).await;
        sse.post(call(1, "work", json!({}))).await;
        let call = tokio::spawn({
            let session = session.with(|client| client);
            async move { session.post(call(1, "work", json!({}))).await }
        });
        fixture.sees("tools/call", 2).await;
        Self { session, listening, sse, call }
    }

    async fn ends(mut self, fixture: &Fixture) {
        self.listening.ends_within(REVOKED).await;
        self.sse.events.ends_within(REVOKED).await;
        let reply = within_time("the end of the call", REVOKED, self.call).await.unwrap();
        assert!(fault(&reply.json()).contains("API key is no longer valid"), "{reply:?}");
        fixture.sees("notifications/cancelled", 2).await;
        assert_eq!(self.session.post(ping()).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(self.sse.post(ping()).await.status, StatusCode::UNAUTHORIZED);
    }
}

async fn stuck() -> Fixture {
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |_| std::future::pending());
    fixture
}

#[tokio::test]
async fn a_key_that_expires_ends_its_streams_and_calls() {
    let fixture = stuck().await;
    let stage = Stage::start(&[fixture.manifest("stuck")]).await;
    let end = Timestamp::now() + Duration::from_secs(3);
    let fields = format!("expiresAt: {end}\nallow: {{servers: [\"*\"]}}");
    stage.write("charlie.yaml", &key_with("charlie", CHARLIE, &fields));
    known(&stage).await;

    let busy = Busy::start(&stage, &fixture).await;
    let left = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left).await;

    busy.ends(&fixture).await;
}

#[tokio::test]
async fn a_key_whose_expiry_is_set_under_open_streams_ends_them_in_time() {
    let stage = Stage::start(&[]).await;
    stage.write("charlie.yaml", &key("charlie", CHARLIE));
    known(&stage).await;
    let session = Session::open(&stage.client().key(CHARLIE), "/mcp").await;
    let mut listening = session.listen().await;

    let end = Timestamp::now() + Duration::from_secs(1);
    stage.write("charlie.yaml", &key_with("charlie", CHARLIE, &format!("expiresAt: {end}")));

    listening.ends_within(Duration::from_secs(1) + REVOKED).await;
}

async fn known(stage: &Stage) {
    eventually("the key", || async {
        let status = stage.client().key(CHARLIE).post("/mcp", ping()).await.status;
        (status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn disabling_deleting_or_changing_a_key_ends_its_streams_and_calls() {
    for change in ["disable", "delete", "change"] {
        let fixture = stuck().await;
        let stage = Stage::start(&[fixture.manifest("stuck")]).await;
        stage.write("charlie.yaml", &key("charlie", CHARLIE));
        known(&stage).await;
        let mut other = Session::open(&stage.alice(), "/mcp").await.listen().await;
        let busy = Busy::start(&stage, &fixture).await;

        match change {
            "disable" => {
                stage.write("charlie.yaml", &key_with("charlie", CHARLIE, "disabled: true"));
            }
            "delete" => stage.remove("charlie.yaml"),
            _ => stage.write("charlie.yaml", &key("charlie", "charlie-key-111")),
        }

        busy.ends(&fixture).await;
        other.is_silent(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_rotated_key_keeps_its_sessions() {
    let stage = Stage::start(&[]).await;
    stage.write("charlie.yaml", &key("charlie", CHARLIE));
    known(&stage).await;
    let session = Session::open(&stage.client().key(CHARLIE), "/mcp").await;

    stage.write("charlie.yaml", &key("charlie", "charlie-key-111"));

    let rotated = session.with(|client| client.key("charlie-key-111"));
    eventually("the new key", || async {
        (rotated.post(ping()).await.status == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(session.post(ping()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_policy_edit_ends_neither_streams_nor_calls() {
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
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.write("charlie.yaml", &key_with("charlie", CHARLIE, ""));
    stage.write("policy.yaml", &policy("charlie", &["servers: [server]"]));
    known(&stage).await;
    let session = Session::open(&stage.client().key(CHARLIE), "/mcp").await;
    let mut listening = session.listen().await;
    assert_eq!(session.tools().await, ["work"]);
    let waiting = tokio::spawn({
        let session = session.with(|client| client);
        async move { session.post(call(1, "work", json!({}))).await }
    });
    fixture.sees("tools/call", 1).await;

    stage.write("policy.yaml", &policy("charlie", &["servers: [other]"]));

    listening.list_changed().await;
    assert!(session.tools().await.is_empty());
    assert_eq!(session.call("work", json!({})).await["error"]["code"], -32602);
    // Longer than a call whose key is gone would live.
    listening.is_silent(REVOKED).await;
    gate.cancel();
    assert_eq!(text(&waiting.await.unwrap().json()), "done");
}

#[tokio::test]
async fn a_call_on_a_stream_of_events_ends_with_its_key_too() {
    let fixture = Fixture::start().await;
    let (sender, held) = driven();
    let held = Mutex::new(Some(held));
    fixture.on("tools/call", move |_| {
        let body = held.lock().unwrap().take().unwrap();
        async { event_stream(body) }
    });
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.write("charlie.yaml", &key("charlie", CHARLIE));
    known(&stage).await;
    let session = Session::open(&stage.client().key(CHARLIE), "/mcp").await;
    let params = json!({"name": "work", "_meta": {"progressToken": "t"}});
    let asked = session.send(request(1, "tools/call", params));
    let progress = async {
        let id = fixture.sees("tools/call", 1).await[0].id();
        let message = json!({
            "jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": id, "progress": 1},
        });
        sender.send(event(&message.to_string())).await.unwrap();
    };
    let (response, ()) = tokio::join!(asked, progress);
    let mut stream = events(response);
    assert_eq!(stream.next().await.unwrap().json()["params"]["progressToken"], "t");

    stage.remove("charlie.yaml");

    let answer = within_time("the end of the call", REVOKED, stream.answer(&1.into())).await;
    assert!(fault(&answer).contains("no longer valid"), "{answer}");
}

/// A proxy that has sent its whole body keeps the connection for the next client.
#[tokio::test]
async fn a_refusal_before_the_body_leaves_the_connection_usable_or_says_that_it_closes() {
    let stage = Stage::start(&[]).await;
    let body = request(1, "ping", json!({})).to_string();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: unknown\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut raw = Raw::connect(stage.address()).await;

    raw.send(&head).await;
    let refused = raw.read_until("}").await;
    raw.send(&body).await;

    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    if !refused.to_lowercase().contains("connection: close") {
        raw.send(format!("{head}{body}")).await;
        let next = raw.read_until("}").await;
        assert!(next.starts_with("HTTP/1.1 401 "), "{next}");
    }
}
