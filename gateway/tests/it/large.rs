//! Answers too large to hold: they pass through as they come.

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::features::offer_everything;
use crate::support::client::{Session, Sse, call, cancel, fault, request, text};
use crate::support::fixture::{
    Fixture, Part, body, driven, event, event_stream, json_reply, part, reply,
};
use crate::support::guest::Guest;
use crate::support::stage::Stage;
use crate::support::{eventually, within};

const MIB: usize = 1024 * 1024;

/// An answer with a text of that length.
fn answer(id: &Value, length: usize, id_first: bool) -> String {
    let text = "é\\\"".repeat(length / 4);
    let result = format!(r#""result":{{"content":[{{"type":"text","text":"{text}"}}],"id":7}}"#);
    if id_first {
        format!(r#"{{"jsonrpc":"2.0","id":{id},{result}}}"#)
    } else {
        format!(r#"{{{result},"jsonrpc":"2.0","id":{id}}}"#)
    }
}

fn same_text(answer: &Value, length: usize) -> bool {
    text(answer) == "é\"".repeat(length / 4)
}

async fn stage(fixture: &Fixture) -> (Stage, Session) {
    let stage = Stage::start(&[fixture.manifest("large")]).await;
    stage.server_is("large", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    (stage, session)
}

#[tokio::test]
async fn five_megabytes_pass_in_every_form_with_the_clients_id() {
    let fixture = Fixture::start().await;
    let (stage, session) = stage(&fixture).await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;
    for (events, id_first) in [(false, true), (false, false), (true, true), (true, false)] {
        fixture.on("tools/call", move |seen| async move {
            let answer = answer(&seen.id(), 5 * MIB, id_first);
            if events { event_stream(event(&answer)) } else { json_reply(answer) }
        });
        let what = format!("events: {events}, id first: {id_first}");
        let asked = call("my \"id\"", "work", json!({}));
        let reply = session.post(&asked).await;
        assert_eq!(reply.json()["id"], "my \"id\"", "{what}");
        assert!(same_text(&reply.json(), 5 * MIB), "{what}");
        assert_eq!(reply.json()["result"]["id"], 7, "{what}");

        assert_eq!(sse.post(&asked).await.status, StatusCode::ACCEPTED);
        let answer = sse.events.answer(&"my \"id\"".into()).await;
        assert!(same_text(&answer, 5 * MIB), "{what}");
        // The stream goes on.
        sse.request("ping", json!({})).await;
    }
}

#[tokio::test]
async fn an_answer_in_many_small_pieces_is_not_larger_for_it() {
    let fixture = Fixture::start().await;
    let (_stage, session) = stage(&fixture).await;
    fixture.on("tools/call", |seen| async move {
        let answer = answer(&seen.id(), 200_000, false);
        let pieces: Vec<Part> =
            answer.as_bytes().chunks(16).map(|piece| part(Bytes::copy_from_slice(piece))).collect();
        json_reply(body(pieces))
    });

    let answer = session.call("work", json!({})).await;

    assert!(same_text(&answer, 200_000), "{}", answer["error"]);
}

/// What is left of a transfer that was aborted.
async fn aborted(session: &Session, asked: String) -> usize {
    let response = session.send(asked).await;
    let mut body = response.into_body();
    let mut read = 0;
    within("the end of the transfer", async {
        loop {
            match body.frame().await {
                Some(Ok(frame)) => read += frame.into_data().unwrap_or_default().len(),
                Some(Err(_)) => return read,
                None => panic!("a polite end after {read} bytes"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_over_the_limit_is_cut_and_never_closed_politely() {
    let fixture = Fixture::start().await;
    let (stage, session) = stage(&fixture).await;

    fixture.on("tools/call", |seen| async move { json_reply(answer(&seen.id(), 33 * MIB, true)) });
    let read = aborted(&session, call(1, "work", json!({}))).await;
    assert!((MIB..=32 * MIB + MIB).contains(&read), "{read}");

    // An event has a limit of its own.
    fixture.on("tools/call", |seen| async move {
        event_stream(event(&answer(&seen.id(), 9 * MIB, true)))
    });
    let read = aborted(&session, call(1, "work", json!({}))).await;
    assert!(read <= 9 * MIB, "{read}");

    fixture.behave();
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    let failed = r#"fairway_tool_calls_total{namespace="default",server="large",outcome="failed"}"#;
    assert_eq!(stage.metric(failed).await, Some(2.0));
}

#[tokio::test]
async fn a_large_answer_that_breaks_off_is_cut_too() {
    let fixture = Fixture::start().await;
    let (stage, session) = stage(&fixture).await;
    for events in [false, true] {
        fixture.on("tools/call", move |seen| async move {
            let answer = answer(&seen.id(), MIB, true);
            let half = answer[..answer.len() / 4].to_owned();
            if events {
                event_stream(body(vec![part(format!("data: {half}")), Part::Break]))
            } else {
                json_reply(body(vec![part(half), Part::Break]))
            }
        });
        assert!(aborted(&session, call(1, "work", json!({}))).await > 0);
    }
    // On HTTP+SSE no part of it was passed on: the call fails, and the stream goes on.
    let mut sse = Sse::open(&stage.alice(), "/sse").await;
    sse.post(call(1, "work", json!({}))).await;
    let failed = sse.events.next().await.unwrap().json();
    assert_eq!(failed["id"], 1, "{failed}");
    assert!(fault(&failed).contains("large"), "{failed}");
    sse.post(request(2, "ping", json!({}))).await;
    assert_eq!(sse.events.next().await.unwrap().json()["id"], 2);
}

#[tokio::test]
async fn a_large_body_that_is_no_answer_is_told_as_the_servers() {
    let fixture = Fixture::start().await;
    let (_stage, session) = stage(&fixture).await;
    let bodies: [fn() -> String; 3] = [
        || "x".repeat(MIB),
        || format!(r#"{{"jsonrpc":"2.0","filler":"{}"}}"#, "x".repeat(MIB)),
        || "[".repeat(MIB),
    ];
    for body in bodies {
        fixture.on("tools/call", move |_| async move { json_reply(body()) });
        let answer = session.call("work", json!({})).await;
        assert!(fault(&answer).starts_with("MCP server \"large\" sent something"), "{answer}");
    }
    // An error page of any size is a status.
    fixture.on("tools/call", |_| async {
        let page = "x".repeat(MIB);
        reply(StatusCode::BAD_GATEWAY, "text/html", page)
    });
    assert!(fault(&session.call("work", json!({})).await).contains("502"));
}

#[tokio::test]
async fn a_slow_large_answer_holds_nobody_up_on_its_stream() {
    let fixture = Fixture::start().await;
    let (stage, _session) = stage(&fixture).await;
    let other = Fixture::start().await;
    other.offer(&["other"]);
    stage.write("other.yaml", &other.manifest("other"));
    stage.server_is("other", "connected").await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;
    let (sender, held) = driven();
    let held = std::sync::Mutex::new(Some(held));
    fixture.on("tools/call", move |_| {
        let body = held.lock().unwrap().take().unwrap();
        async { json_reply(body) }
    });
    sse.post(call(1, "work", json!({}))).await;
    let id = fixture.sees("tools/call", 1).await[0].id();
    let answer = answer(&id, MIB, true);
    let (first, rest) = answer.split_at(answer.len() / 2);
    sender.send(Bytes::from(first.to_owned())).await.unwrap();

    sse.post(call(2, "other", json!({}))).await;
    assert_eq!(sse.events.next().await.unwrap().json()["id"], 2);
    sse.post(request(3, "ping", json!({}))).await;
    assert_eq!(sse.events.next().await.unwrap().json()["id"], 3);
    other.offer(&["other", "more"]);
    stage.write("other.yaml", &other.manifest("renamed"));
    assert!(sse.events.next().await.unwrap().is_list_changed());

    sender.send(Bytes::from(rest.to_owned())).await.unwrap();
    drop(sender);
    loop {
        let event = sse.events.next().await.unwrap();
        if !event.is_list_changed() {
            assert!(same_text(&event.json(), MIB));
            break;
        }
    }
}

#[tokio::test]
async fn a_large_answer_that_is_cancelled_half_way_breaks_off() {
    let fixture = Fixture::start().await;
    let (stage, session) = stage(&fixture).await;
    fixture.on("tools/call", |seen| async move {
        let answer = answer(&seen.id(), MIB, true);
        json_reply(body(vec![part(answer[..answer.len() / 2].to_owned()), Part::Hang]))
    });
    let mut sse = Sse::open(&stage.alice(), "/sse").await;
    sse.post(call(1, "work", json!({}))).await;
    fixture.sees("tools/call", 1).await;
    sse.post(cancel(1)).await;
    fixture.sees("notifications/cancelled", 1).await;
    sse.post(request(5, "ping", json!({}))).await;
    assert_eq!(sse.events.next().await.unwrap().json()["id"], 5, "something else than the ping");

    let (read, ()) = tokio::join!(aborted(&session, call(2, "work", json!({}))), async {
        fixture.sees("tools/call", 2).await;
        session.post(cancel(2)).await;
    });
    assert!(read > 0);
    eventually("both cancelled at the server", || async {
        (fixture.seen_of("notifications/cancelled").len() == 2).then_some(())
    })
    .await;
    fixture.is_left_alone().await;
}

/// An answer whose result is larger than what is held whole.
fn filled(id: &Value, mut result: Value) -> String {
    result["filler"] = "x".repeat(MIB).into();
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

#[tokio::test]
async fn names_in_a_large_answer_are_those_that_the_client_knows() {
    let (alpha, beta) = (Fixture::start().await, Fixture::modern().await);
    offer_everything(&alpha, "alpha");
    alpha.offer(&["other"]);
    offer_everything(&beta, "beta");
    beta.list("prompts", vec![json!({"name": "say"})]);
    let stage = Stage::start(&[alpha.manifest("alpha"), beta.manifest("beta")]).await;
    stage.server_is("alpha", "connected").await;
    stage.server_is("beta", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let extension = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let guest = Guest::new(&stage.alice(), "/mcp").can(extension);
    let shown = "fairway+default+beta+file:///shared";
    let link = json!({"type": "resource_link", "name": "l", "uri": "file:///shared"});
    let read = json!({"contents": [{"uri": "beta:///own"}, {"uri": "file:///shared"}]});
    let said = json!({"messages": [{"role": "user", "content": link}]});
    for (method, params, result, at) in [
        ("resources/read", json!({"uri": shown}), read, "/result/contents/1/uri"),
        (
            "tools/call",
            json!({"name": "work"}),
            json!({"content": [link]}),
            "/result/content/0/uri",
        ),
        ("prompts/get", json!({"name": "say"}), said, "/result/messages/0/content/uri"),
    ] {
        beta.on(method, move |seen| {
            let answer = filled(&seen.id(), result.clone());
            async move { event_stream(event(&answer)) }
        });
        for answer in [
            session.request(method, params.clone()).await,
            guest.request(method, params.clone()).await,
        ] {
            assert_eq!(answer.pointer(at).unwrap(), shown, "{method}");
            assert_eq!(answer["result"]["filler"].as_str().unwrap().len(), MIB);
        }
        if method == "resources/read" {
            let one = Guest::new(&stage.alice(), "/mcp/beta");
            let own = one.request(method, json!({"uri": "file:///shared"})).await;
            assert_eq!(own.pointer(at).unwrap(), "file:///shared");
        }
    }

    beta.on("tools/call", |seen| async move {
        let result = json!({"resultType": "task", "taskId": "t", "status": "working"});
        json_reply(json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}).to_string())
    });
    beta.on("tasks/get", move |seen| {
        assert_eq!(seen.message["params"]["taskId"], "t");
        let result = json!({"taskId": "t", "status": "completed", "result": {"content": [link]}});
        let answer = filled(&seen.id(), result);
        async { json_reply(answer) }
    });
    let task = guest.call("work", json!({})).await["result"]["taskId"].clone();
    let asked = request(7, "tasks/get", guest.params(&json!({"taskId": task})));
    let client = guest.heading("tasks/get", &json!({})).with("mcp-name", task.as_str().unwrap());
    let got = client.post("/mcp", asked).await.json();
    assert_eq!(got["result"]["taskId"], task);
    assert_eq!(got["result"]["result"]["content"][0]["uri"], shown);
}

#[tokio::test]
async fn a_question_too_large_to_be_read_is_declined() {
    let fixture = Fixture::with_sessions().await.announcing();
    let question = |id: Value| {
        let params = json!({"messages": [], "maxTokens": 1, "filler": "x".repeat(MIB)});
        json!({"jsonrpc": "2.0", "id": id, "method": "sampling/createMessage", "params": params})
    };
    fixture.asks(vec![question(json!("q"))]);
    let stage = Stage::start(&[fixture.manifest("large")]).await;
    stage.server_is("large", "connected").await;
    let able = json!({"sampling": {}});
    let session = Session::open_with(&stage.alice(), "/mcp", able.clone()).await;
    let guest = Guest::new(&stage.alice(), "/mcp").can(able);

    for answer in [session.call("work", json!({})).await, guest.call("work", json!({})).await] {
        let told: Value = serde_json::from_str(text(&answer)).unwrap();
        assert_eq!(told[0]["id"], "q", "{told}");
        assert_eq!(told[0]["error"]["code"], -32600, "{told}");
    }
    // On the streams that belong to no call as well: the gateway's own and those of two clients.
    assert!(fixture.announce(&question(json!(7))));
    eventually("three refusals", || async {
        let refusals = fixture.seen().into_iter().filter(|seen| seen.id() == 7);
        (refusals.filter(|seen| seen.message["error"]["code"] == -32600).count() == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_large_answer_that_comes_on_another_stream_is_completed() {
    let fixture = Fixture::start().await;
    let (stage, session) = stage(&fixture).await;
    fixture.on("tools/call", |seen| async move {
        // The stream ends and says where it goes on: the call is told by its id.
        event_stream(format!("id: call-{}\nretry: 1\ndata: \n\n", seen.id()))
    });
    fixture.on("", |seen| async move {
        let last = seen.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        match last.and_then(|id| id.strip_prefix("call-")) {
            Some(id) => event_stream(event(&answer(&id.parse().unwrap(), MIB, false))),
            None => reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", ""),
        }
    });

    let legacy = session.call("work", json!({})).await;
    let modern = Guest::new(&stage.alice(), "/mcp").call("work", json!({})).await;

    assert!(same_text(&legacy, MIB) && same_text(&modern, MIB));
    assert!(legacy["result"].get("resultType").is_none());
    assert_eq!(modern["result"]["resultType"], "complete");
    assert!(modern["result"]["_meta"].is_object());
    assert_eq!(fixture.seen_of("tools/call").len(), 2);
}
