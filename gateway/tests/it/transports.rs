//! Both transports, every URL, and what a call is on each of them.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::client::{
    Session, Sse, call, cancel, events, hello, request, text, tool_names,
};
use crate::support::events::Event;
use crate::support::fixture::{Fixture, Part, body, done_text, event, event_stream};
use crate::support::manifests::{server, server_with};
use crate::support::stage::{ALICE, BOB, CAROL, Demo, Stage, everything, slow};
use crate::support::{eventually, within};

const NINE: [&str; 9] = [
    "add",
    "describe_table",
    "echo",
    "get_time",
    "list_files",
    "list_tables",
    "query",
    "read_file",
    "write_file",
];
const SIX: [&str; 6] = ["add", "describe_table", "echo", "get_time", "list_tables", "query"];

#[tokio::test]
async fn both_users_have_their_tools_over_both_transports() {
    let demo = Demo::start().await;
    let client = demo.stage.client();

    for (key, tools) in [(ALICE, &NINE[..]), (BOB, &SIX[..])] {
        let session = Session::open(&client.clone().key(key), "/mcp").await;
        let by_query = format!("/sse?api_key={key}");
        let mut sse = Sse::open(&client, &by_query).await;
        let mut alias = Sse::open(&client, &format!("/mcp{by_query}")).await;

        assert_eq!(session.tools().await, tools);
        assert_eq!(sse.tools().await, tools);
        assert_eq!(alias.tools().await, tools);
        let sum = json!({"a": 2, "b": 3});
        assert_eq!(text(&session.call("add", sum.clone()).await), "5");
        assert_eq!(text(&sse.call("add", sum.clone()).await), "5");
        assert_eq!(text(&alias.call("add", sum).await), "5");
        let query = json!({"sql": "select count(*) from employees"});
        assert!(text(&sse.call("query", query).await).contains('5'));
    }
}

#[tokio::test]
async fn a_forbidden_tool_is_refused_before_its_server_sees_it() {
    let demo = Demo::start().await;
    let file = json!({"path": "note.txt", "content": "hello"});

    let bob = Session::open(&demo.stage.bob(), "/mcp").await;
    let refused = bob.call("write_file", file.clone()).await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    assert!(!demo.files.join("note.txt").exists());

    let written = Session::open(&demo.stage.alice(), "/mcp").await.call("write_file", file).await;
    assert_eq!(text(&written), "Wrote to note.txt");
    assert!(demo.files.join("note.txt").exists());
}

#[tokio::test]
async fn a_tenants_urls_serve_its_own_keys_and_nobody_elses() {
    let demo = Demo::start().await;
    let client = demo.stage.client();
    let carol = client.clone().key(CAROL);
    let tools = ["everything_add", "everything_echo", "everything_get_time"];

    let session = Session::open(&carol, "/t/tools/mcp").await;
    let mut sse = Sse::open(&client, &format!("/t/tools/mcp/sse?api_key={CAROL}")).await;
    assert_eq!(session.tools().await, tools);
    assert!(sse.endpoint.starts_with("/t/tools/mcp/messages?"), "{}", sse.endpoint);
    assert_eq!(sse.tools().await, tools);
    assert_eq!(Session::open(&carol, "/mcp").await.tools().await, tools);
    let own = Session::open(&carol, "/t/tools/mcp/everything").await;
    assert_eq!(own.tools().await, ["add", "echo", "get_time"]);

    for path in ["/t/tools/mcp", "/t/tools/mcp/everything", "/t/nowhere/mcp"] {
        let foreign = demo.stage.alice().post(path, request(1, "ping", json!({}))).await;
        let unknown = client
            .clone()
            .key("no-such-key-at-all")
            .post(path, request(1, "ping", json!({})))
            .await;
        assert_eq!(foreign.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!((foreign.body, unknown.status), (unknown.body, foreign.status), "{path}");
    }
    let foreign = demo.stage.alice().get("/t/tools/mcp/sse").await;
    assert_eq!(foreign.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn one_servers_url_has_its_own_names() {
    let everything = everything().await;
    let prefixed = server_with("every", &everything.url(), "");
    let stage = Stage::start(&[prefixed]).await;
    stage.server_is("every", "connected").await;

    let all = Session::open(&stage.alice(), "/mcp").await;
    let one = Session::open(&stage.alice(), "/mcp/every").await;

    assert_eq!(all.tools().await, ["every_add", "every_echo", "every_get_time"]);
    assert_eq!(one.tools().await, ["add", "echo", "get_time"]);
    assert_eq!(text(&all.call("every_echo", json!({"message": "a"})).await), "a");
    assert_eq!(text(&one.call("echo", json!({"message": "b"})).await), "b");
    assert_eq!(one.call("every_echo", json!({"message": "b"})).await["error"]["code"], -32602);
    let nowhere = stage.alice().post("/mcp/nothing", request(0, "initialize", json!({}))).await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn requests_without_a_session_and_wrapped_ones_are_answered_as_json() {
    let everything = everything().await;
    let stage = Stage::start(&[server("everything", &everything.url())]).await;
    let plain = call(7, "add", json!({"a": 40, "b": 2}));

    for body in [
        plain.clone(),
        format!(r#"{{"version":"1","request":{plain}}}"#),
        format!(r#"{{"request": {plain}}}"#),
    ] {
        for path in ["/mcp", "/mcp/everything", "/t/default/mcp"] {
            let reply = stage.alice().post(path, &body).await;
            assert_eq!(reply.headers["content-type"], "application/json", "{body}");
            assert_eq!((text(&reply.json()), &reply.json()["id"]), ("42", &json!(7)), "{body}");
        }
    }
}

#[tokio::test]
async fn ids_come_back_as_they_were_sent() {
    let everything = everything().await;
    let stage = Stage::start(&[server("everything", &everything.url())]).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;

    for id in [
        "0",
        "-7",
        "\"0\"",
        "1.50",
        "1e2",
        "123456789012345678901234567890",
        r#""a\u0041\"\\ ü""#,
        "\"\"",
    ] {
        for tool in ["add", "nothing"] {
            let params = format!(r#"{{"name":"{tool}","arguments":{{"a":1,"b":1}}}}"#);
            let body = format!(
                r#"{{"params":{params},"id": {id} ,"method":"tools/call","jsonrpc":"2.0"}}"#
            );
            let reply = session.post(&body).await;
            let spelled = format!("\"id\":{id}");
            assert!(reply.text().contains(&spelled), "{id}: {}", reply.text());
            assert_eq!(sse.post(&body).await.status, StatusCode::ACCEPTED);
            let event = sse.events.next().await.unwrap();
            assert!(event.data.contains(&spelled), "{id}: {}", event.data);
        }
    }
}

#[tokio::test]
async fn progress_comes_with_the_clients_token_over_both_transports() {
    let slow = slow().await;
    let stage = Stage::start(&[server("slow", &slow.url())]).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;

    for token in [json!("token-1"), json!(1), json!("17"), json!(9_007_199_254_740_993_u64)] {
        let params = json!({
            "name": "slow", "arguments": {"seconds": 0.2, "steps": 2},
            "_meta": {"progressToken": token},
        });
        let call = request("call", "tools/call", params);

        let mut stream = events(session.send(&call).await);
        let answer = stream.answer(&"call".into()).await;
        assert_eq!(text(&answer), "Took 0.2 seconds in 2 steps");
        assert_eq!(
            progress(&mut stream.passed),
            [(token.clone(), 0), (token.clone(), 1), (token.clone(), 2)]
        );
        assert!(stream.next().await.is_none(), "the stream goes on after the answer");

        assert_eq!(sse.post(&call).await.status, StatusCode::ACCEPTED);
        let answer = sse.events.answer(&"call".into()).await;
        assert_eq!(text(&answer), "Took 0.2 seconds in 2 steps");
        assert_eq!(
            progress(&mut sse.events.passed),
            [(token.clone(), 0), (token.clone(), 1), (token, 2)]
        );
    }
}

/// A proxy in Go ends a stream whose head comes while it is still at the request's body.
#[tokio::test]
async fn a_stream_of_events_begins_when_a_proxy_is_done_with_the_request() {
    let slow = slow().await;
    let stage = Stage::start(&[server("slow", &slow.url())]).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let params = json!({
        "name": "slow", "arguments": {"seconds": 0.2, "steps": 2},
        "_meta": {"progressToken": 1},
    });

    let asked = Instant::now();
    let mut stream = events(session.send(&request("call", "tools/call", params)).await);
    let headed = asked.elapsed();

    assert!(headed >= Duration::from_millis(20), "after {headed:?}");
    stream.answer(&"call".into()).await;
}

fn progress(passed: &mut Vec<Event>) -> Vec<(Value, u64)> {
    let read = |event: Event| {
        let message = event.json();
        assert_eq!(message["method"], "notifications/progress", "{message}");
        let params = &message["params"];
        (params["progressToken"].clone(), params["progress"].as_f64().unwrap() as u64)
    };
    passed.drain(..).map(read).collect()
}

#[tokio::test]
async fn without_a_token_or_a_stream_progress_is_left_out() {
    let slow = slow().await;
    let stage = Stage::start(&[server("slow", &slow.url())]).await;
    let arguments = json!({"seconds": 0.1, "steps": 2});
    let with_token = json!({
        "name": "slow", "arguments": arguments, "_meta": {"progressToken": "t"},
    });
    // Without a session both are taken, and JSON is what comes.
    let json_only = stage.alice().with("accept", "application/json");

    for client in [json_only, stage.alice()] {
        for body in
            [call(1, "slow", arguments.clone()), request(1, "tools/call", with_token.clone())]
        {
            let reply = client.post("/mcp", body).await;
            assert_eq!(reply.headers["content-type"], "application/json");
            assert_eq!(text(&reply.json()), "Took 0.1 seconds in 2 steps");
        }
    }
}

/// A server whose calls take for ever.
async fn stuck() -> Fixture {
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |_| std::future::pending());
    fixture
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_server_over_both_transports() {
    let fixture = stuck().await;
    let stage = Stage::start(&[fixture.manifest("stuck")]).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;

    let asked = call("mine", "work", json!({}));
    let (reply, ()) = within("the end of a cancelled call", async {
        tokio::join!(session.post(&asked), async {
            fixture.sees("tools/call", 1).await;
            // Of another session: none of this one's business.
            assert_eq!(sse.post(cancel("mine")).await.status, StatusCode::ACCEPTED);
            assert_eq!(session.post(cancel("other")).await.status, StatusCode::ACCEPTED);
            assert_eq!(session.post(cancel("mine")).await.status, StatusCode::ACCEPTED);
        })
    })
    .await;
    assert_eq!(reply.json()["error"]["code"], -32800, "{reply:?}");
    assert_eq!(cancelled_at(&fixture, 1).await, upstream_id(&fixture, 0));
    fixture.is_left_alone().await;

    assert_eq!(sse.post(&asked).await.status, StatusCode::ACCEPTED);
    fixture.sees("tools/call", 2).await;
    assert_eq!(sse.post(cancel("mine")).await.status, StatusCode::ACCEPTED);
    assert_eq!(cancelled_at(&fixture, 2).await, upstream_id(&fixture, 1));
    fixture.is_left_alone().await;
    // The id is free again, and the cancelled call said nothing.
    fixture.behave();
    assert_eq!(sse.post(&asked).await.status, StatusCode::ACCEPTED);
    assert_eq!(text(&sse.events.answer(&"mine".into()).await), "done");
    assert!(sse.events.passed.is_empty(), "{:?}", sse.events.passed);
}

async fn cancelled_at(fixture: &Fixture, count: usize) -> Value {
    let seen = fixture.sees("notifications/cancelled", count).await;
    assert_eq!(seen.len(), count);
    seen[count - 1].message["params"]["requestId"].clone()
}

fn upstream_id(fixture: &Fixture, call: usize) -> Value {
    fixture.seen_of("tools/call")[call].id()
}

#[tokio::test]
async fn an_id_that_is_under_way_is_refused_in_its_session_only() {
    let fixture = stuck().await;
    let stage = Stage::start(&[fixture.manifest("stuck")]).await;
    let (first, second) =
        (Session::open(&stage.alice(), "/mcp").await, Session::open(&stage.alice(), "/mcp").await);
    let mut sse = Sse::open(&stage.alice(), "/sse").await;
    let asked = call(5, "work", json!({}));

    let waiting = tokio::spawn({
        let (session, asked) = (first.with(|client| client), asked.clone());
        async move { session.post(asked).await }
    });
    fixture.sees("tools/call", 1).await;
    assert_eq!(first.post(&asked).await.json()["error"]["code"], -32600);
    // Another type is another id.
    let other = tokio::spawn({
        let session = first.with(|client| client);
        async move { session.post(call("5", "work", json!({}))).await }
    });
    fixture.sees("tools/call", 2).await;

    assert_eq!(sse.post(&asked).await.status, StatusCode::ACCEPTED);
    fixture.sees("tools/call", 3).await;
    assert_eq!(sse.post(&asked).await.status, StatusCode::ACCEPTED);
    assert_eq!(sse.events.answer(&5.into()).await["error"]["code"], -32600);
    fixture.behave();
    assert_eq!(text(&second.post(&asked).await.json()), "done");
    // The server of all of them tells them apart.
    let calls = fixture.seen_of("tools/call");
    let ids: BTreeSet<String> = calls.iter().map(|seen| seen.id().to_string()).collect();
    assert_eq!((calls.len(), ids.len()), (4, 4), "{ids:?}");
    waiting.abort();
    other.abort();
}

#[tokio::test]
async fn a_client_that_leaves_has_not_cancelled() {
    let fixture = Fixture::start().await;
    let gate = CancellationToken::new();
    let held = gate.clone();
    fixture.on("tools/call", move |seen| {
        let parts = vec![Part::Gate(held.clone()), Part::Bytes(event(&done_text(&seen.id())))];
        async { event_stream(body(parts)) }
    });
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let sse = Sse::open(&stage.alice(), "/sse").await;

    let waiting = tokio::spawn({
        let session = session.with(|client| client.at(client.address));
        async move { session.post(call(1, "work", json!({}))).await }
    });
    fixture.sees("tools/call", 1).await;
    waiting.abort();
    assert_eq!(sse.post(call(1, "work", json!({}))).await.status, StatusCode::ACCEPTED);
    fixture.sees("tools/call", 2).await;
    drop(sse);
    let gone =
        r#"fairway_tool_calls_total{namespace="default",server="server",outcome="client_gone"}"#;
    eventually("both clients gone", || async {
        (stage.metric(gone).await == Some(2.0)).then_some(())
    })
    .await;

    gate.cancel();
    fixture.is_left_alone().await;
    // A marker after which a cancellation would have come.
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    assert!(fixture.seen_of("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn a_stream_of_http_sse_serves_calls_without_initialize() {
    let everything = everything().await;
    let stage = Stage::start(&[server("everything", &everything.url())]).await;
    let mut events = stage.alice().stream("/sse").await;

    let first = events.next().await.unwrap();
    assert!((100..=500).contains(&first.retry.unwrap()), "{first:?}");
    assert!(first.data.starts_with("/messages/?session_id="), "{first:?}");
    let reply = stage.alice().post(&first.data, call(1, "add", json!({"a": 1, "b": 1}))).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED);
    assert_eq!(text(&events.answer(&1.into()).await), "2");
    let probe = request(2, "server/discover", json!({}));
    stage.alice().post(&first.data, probe).await;
    assert_eq!(events.answer(&2.into()).await["error"]["code"], -32601);
    let hello = request(3, "initialize", hello());
    stage.alice().post(&first.data, hello).await;
    let hello = events.answer(&3.into()).await;
    assert_eq!(hello["result"]["capabilities"]["tools"]["listChanged"], true);
}

#[tokio::test]
async fn initialize_offers_tools_that_change_and_a_version_the_client_knows() {
    let stage = Stage::start(&[]).await;
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let params = json!({
            "protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
        });
        let answer = stage.alice().one_shot("/mcp", "initialize", params).await;
        assert_eq!(answer["result"]["protocolVersion"], given, "{asked}");
        assert_eq!(answer["result"]["capabilities"]["tools"]["listChanged"], true);
    }
    let options = stage.alice().send(Method::PUT, "/mcp", String::new()).await;
    assert_eq!(options.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(tool_names(&stage.alice().one_shot("/mcp", "tools/list", json!({})).await).is_empty());
}
