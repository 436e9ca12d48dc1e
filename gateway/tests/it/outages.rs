//! Servers that are away, slow or hang: their calls fail at once, and nobody else waits.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::client::{Session, Sse, fault, text};
use crate::support::fixture::{
    Fixture, Part, Seen, body, done_text, event, event_stream, json_reply, part, replayable, reply,
    tool,
};
use crate::support::full::Full;
use crate::support::manifests::{server, server_with};
use crate::support::stage::{Stage, everything};
use crate::support::{eventually, within_time};

/// What is known to be away is not waited for.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The message of a call that fails at once and names its server.
async fn fails_at_once(session: &Session, tool: &str, server: &str) -> String {
    let call = session.call(tool, json!({}));
    let answer = within_time("an error at once", AT_ONCE, call).await;
    let message = fault(&answer).to_owned();
    assert!(message.starts_with(&format!("MCP server \"{server}\" ")), "{message}");
    message
}

#[tokio::test]
async fn a_server_that_dies_keeps_its_list_and_comes_back_by_itself() {
    let (everything, mut fixture) = (everything().await, Fixture::start().await);
    let manifests = [fixture.manifest("mortal"), server("everything", &everything.url())];
    let stage = Stage::start(&manifests).await;
    stage.server_is("mortal", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;
    let mut listening = session.listen().await;
    let tools = session.tools().await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");

    fixture.kill().await;
    fails_at_once(&session, "work", "mortal").await;
    let down = stage.server_is("mortal", "unreachable").await;
    assert!(down["reason"].as_str().unwrap().contains("refused"), "{down}");
    for _ in 0..20 {
        let message = fails_at_once(&session, "work", "mortal").await;
        assert!(message.contains("not reachable") && message.contains("try again"), "{message}");
    }
    fault(&sse.call("work", json!({})).await);
    assert_eq!(session.tools().await, tools);
    assert_eq!(text(&session.call("add", json!({"a": 1, "b": 1})).await), "2");
    let up = r#"fairway_upstream_up{namespace="default",server="mortal"}"#;
    assert_eq!(stage.metric(up).await, Some(0.0));
    assert_eq!(stage.client().get("/health").await.json()["backends"], json!(["everything"]));

    fixture.revive().await;
    stage.server_is("mortal", "connected").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    assert_eq!(text(&sse.call("work", json!({})).await), "done");
    assert_eq!(stage.metric(up).await, Some(1.0));
    // The list was the same all the time.
    listening.is_silent(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_delays_nobody() {
    let everything = everything().await;
    let away = server("away", "http://127.0.0.1:1/mcp");
    let started = Instant::now();
    let stage = Stage::start(&[away, server("everything", &everything.url())]).await;

    let session = Session::open(&stage.alice(), "/mcp").await;

    assert_eq!(session.tools().await, ["add", "echo", "get_time"]);
    assert!(started.elapsed() < AT_ONCE * 2, "{:?}", started.elapsed());
    stage.server_is("away", "unreachable").await;
    let ready = stage.client().get("/readyz").await;
    assert_eq!(ready.status, StatusCode::OK, "{ready:?}");
}

#[tokio::test]
async fn a_restart_that_nobody_noticed_costs_no_call() {
    let mut fixture = Fixture::start().await;
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    // So that connections of every worker are kept.
    for _ in 0..8 {
        let client = session.with(|client| client.at(client.address));
        assert_eq!(text(&client.call("work", json!({})).await), "done");
    }

    fixture.kill().await;
    fixture.revive().await;

    for _ in 0..8 {
        let client = session.with(|client| client.at(client.address));
        assert_eq!(text(&client.call("work", json!({})).await), "done");
    }
}

/// A listener that takes connections and never says a word.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn a_server_that_never_answers_is_told_apart_and_delays_nobody() {
    let (everything, (_listener, url)) = (everything().await, silent().await);
    let stage = Stage::start(&[server("everything", &everything.url())]).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    assert_eq!(session.tools().await.len(), 3);

    let timeouts = "tools: {prefix: \"\"}\ntimeouts: {connect: 200ms, request: 300ms}";
    stage.write("hanging.yaml", &server_with("hanging", &url, timeouts));

    let down = stage.server_is("hanging", "unreachable").await;
    assert!(down["reason"].as_str().unwrap().contains("nothing for"), "{down}");
    let add = session.call("add", json!({"a": 1, "b": 1}));
    assert_eq!(text(&within_time("another server", AT_ONCE, add).await), "2");
}

/// Some servers never answer a method that they do not know.
#[tokio::test]
async fn a_server_that_is_silent_about_the_newest_era_is_asked_in_the_other_one() {
    let fixture = Fixture::start().await;
    fixture.on("server/discover", |_| std::future::pending());

    let stage = Stage::start(&[fixture.manifest("silent")]).await;

    stage.server_is("silent", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn a_connection_that_is_never_made_is_given_up() {
    let full = Full::bind("127.0.0.1:0".parse().unwrap()).await;
    let fields = "tools: {prefix: \"\"}\ntimeouts: {connect: 200ms}";

    let stage = Stage::start(&[server_with("full", &full.url(), fields)]).await;

    let down = stage.server_is("full", "unreachable").await;
    assert!(down["reason"].is_string(), "{down}");
}

#[tokio::test]
async fn a_server_that_comes_to_hang_on_connect_costs_the_first_calls_that_time_alone() {
    let mut fixture = Fixture::start().await;
    let manifest = fixture.manifest_with("hanging", "timeouts: {connect: 300ms}");
    let stage = Stage::start(&[manifest]).await;
    stage.server_is("hanging", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let address = fixture.url().parse::<http::Uri>().unwrap();
    let address = address.authority().unwrap().as_str().parse().unwrap();

    fixture.kill().await;
    let full = Full::bind(address).await;

    // Sent twice, as it never left.
    let first = within_time("an error", AT_ONCE * 3, session.call("work", json!({})));
    assert!(fault(&first.await).contains("is not reachable"));
    stage.server_is("hanging", "unreachable").await;
    for _ in 0..10 {
        fails_at_once(&session, "work", "hanging").await;
    }
    drop(full);
    fixture.revive().await;
    stage.server_is("hanging", "connected").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn answers_that_break_off_name_the_server_and_only_harmless_calls_are_sent_again() {
    let fixture = Fixture::start().await;
    fixture.offer_definitions(vec![replayable("read"), tool("write")]);
    let manifest = fixture.manifest_with("breaking", "circuitBreaker: {failures: 0}");
    let stage = Stage::start(&[manifest]).await;
    stage.server_is("breaking", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;

    // Before any byte of the answer.
    fixture.on("tools/call", |_| async { json_reply(body(vec![Part::Break])) });
    for (tool, sent) in [("write", 1), ("read", 2)] {
        let before = fixture.seen_of("tools/call").len();
        let answer = session.call(tool, json!({})).await;
        let message = fault(&answer).to_owned();
        assert!(message.contains("\"breaking\" closed the connection"), "{message}");
        assert_eq!(fixture.seen_of("tools/call").len(), before + sent, "{tool}");
    }
    // In the middle of it.
    for (events, half) in
        [(false, r#"{"jsonrpc":"2.0","#), (true, "data: {\"jsonrpc\""), (true, "")]
    {
        fixture.on("tools/call", move |_| async move {
            let body = body(vec![part(half), Part::Break]);
            if events { event_stream(body) } else { json_reply(body) }
        });
        for tool in ["write", "read"] {
            let answer = session.call(tool, json!({})).await;
            assert!(fault(&answer).contains("\"breaking\" closed the connection"), "{answer}");
        }
    }
    // An end that is polite and no answer.
    fixture.on("tools/call", |_| async { event_stream(event("")) });
    assert!(fault(&session.call("write", json!({})).await).contains("\"breaking\""));
    fixture.behave();
    assert_eq!(text(&session.call("write", json!({})).await), "done");
}

#[tokio::test]
async fn nonsense_is_told_as_the_servers() {
    let fixture = Fixture::start().await;
    let manifest = fixture.manifest_with("odd", "circuitBreaker: {failures: 0}");
    let stage = Stage::start(&[manifest]).await;
    stage.server_is("odd", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let result = r#"{"content":[{"type":"text","text":"stolen"}]}"#;
    let foreign = move |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);

    let replies: Vec<(&str, StatusCode, &str, String)> = vec![
        ("garbage", StatusCode::OK, "application/json", "<html>".to_owned()),
        ("nothing", StatusCode::OK, "application/json", String::new()),
        ("half", StatusCode::OK, "application/json", r#"{"jsonrpc""#.to_owned()),
        ("no message", StatusCode::OK, "application/json", r#"{"a":1}"#.to_owned()),
        ("media type", StatusCode::OK, "text/html", "<html>".to_owned()),
        ("accepted", StatusCode::ACCEPTED, "text/plain", String::new()),
        ("no content", StatusCode::NO_CONTENT, "text/plain", String::new()),
        ("500", StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "oops".to_owned()),
        ("500", StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}".to_owned()),
        ("503", StatusCode::SERVICE_UNAVAILABLE, "text/html", "<html>".to_owned()),
        ("401", StatusCode::UNAUTHORIZED, "application/json", "{}".to_owned()),
        ("404", StatusCode::NOT_FOUND, "text/plain", String::new()),
        ("redirect", StatusCode::TEMPORARY_REDIRECT, "text/plain", String::new()),
        ("wrong id", StatusCode::OK, "application/json", foreign("999999")),
        (
            "wrong id",
            StatusCode::OK,
            "text/event-stream",
            format!("data: {}\n\n", foreign("\"x\"")),
        ),
        ("null id", StatusCode::OK, "application/json", foreign("null")),
        ("no event", StatusCode::OK, "text/event-stream", "nonsense\n\n".to_owned()),
        ("bad event", StatusCode::OK, "text/event-stream", "data: nonsense\n\n".to_owned()),
    ];
    for (what, status, media_type, body) in replies {
        fixture.on("tools/call", move |_| {
            let answer = reply(status, media_type, body.clone());
            async { answer }
        });
        let answer = session.call("work", json!({})).await;
        assert!(fault(&answer).starts_with("MCP server \"odd\" "), "{what}: {answer}");
        assert!(!answer.to_string().contains("stolen"), "{what}: {answer}");
    }
    fixture.behave();
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn answers_of_uncommon_form_are_understood() {
    let fixture = Fixture::start().await;
    let stage = Stage::start(&[fixture.manifest("odd")]).await;
    stage.server_is("odd", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    type Form = fn(String, &Value) -> (&'static str, StatusCode, String);
    let forms: [(&str, Form); 7] = [
        ("JSON labelled as events", |done, _| ("text/event-stream", StatusCode::OK, done)),
        ("id as a string", |done, id| {
            let quoted = done.replace(&format!("\"id\":{id}"), &format!("\"id\":\"{id}\""));
            ("application/json", StatusCode::OK, quoted)
        }),
        ("media type with a parameter", |done, _| {
            ("application/json; charset=utf-8", StatusCode::OK, format!("\n {done}\r\n"))
        }),
        ("events without a name, in CRLF", |done, _| {
            let body = format!("id: 1\r\nretry: 5\r\ndata:\r\n\r\n: c\r\ndata:{done}\r\n\r\n");
            ("text/event-stream", StatusCode::OK, body)
        }),
        ("data in lines", |done, _| {
            let body = format!("event: message\ndata: {}\n\n", done.replace(",\"", ",\ndata: \""));
            ("text/event-stream", StatusCode::OK, body)
        }),
        ("other events first", |done, _| {
            let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
            let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
            let body = format!("data: {log}\n\ndata: {ping}\n\nevent: x\ndata: {done}\n\n");
            ("text/event-stream", StatusCode::OK, body)
        }),
        ("success of another kind", |done, _| ("application/json", StatusCode::CREATED, done)),
    ];
    for (what, form) in forms {
        fixture.on("tools/call", move |seen| async move {
            let done = done_text(&seen.id());
            let (media_type, status, body) = form(done, &seen.id());
            reply(status, media_type, body)
        });
        let answer = session.call("work", json!({})).await;
        assert_eq!(text(&answer), "done", "{what}");
    }
    // The ping in between was answered.
    eventually("the answer to the ping", || async {
        let answered = |seen: &Seen| seen.id() == 1 && seen.message.get("result").is_some();
        fixture.seen().iter().any(answered).then_some(())
    })
    .await;

    // A JSON-RPC error is the client's, whatever status it came with.
    for status in [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::INTERNAL_SERVER_ERROR] {
        fixture.on("tools/call", move |seen| async move {
            let error = json!({"code": -32011, "message": "own", "data": [1]});
            let body = json!({"jsonrpc": "2.0", "id": seen.id(), "error": error});
            reply(status, "application/json", body.to_string())
        });
        let answer = session.call("work", json!({})).await;
        let own = json!({"code": -32011, "message": "own", "data": [1]});
        assert_eq!(answer["error"], own, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_answers_its_handshake_with_nonsense_comes_back_when_it_mends() {
    let fixture = Fixture::start().await;
    fixture.on("initialize", |_| async { json_reply("<html>") });
    let stage = Stage::start(&[fixture.manifest("odd")]).await;
    stage.server_is("odd", "unreachable").await;
    fixture.behave();
    stage.server_is("odd", "connected").await;
    assert_eq!(stage.metric("fairway_streams").await, Some(0.0));

    // The list alone is at fault: the last known one stays.
    let session = Session::open(&stage.alice(), "/mcp").await;
    fixture.on("tools/list", |_| async { json_reply("<html>") });
    fixture.kill().await;
    fault(&session.call("work", json!({})).await);
    assert_eq!(session.tools().await, ["work"]);
}
