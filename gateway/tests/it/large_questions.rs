//! What modern servers ask of legacy clients in answers too large to hold.

use http::StatusCode;
use serde_json::{Value, json};

use crate::bridge::able;
use crate::support::client::{Client, Session, Sse, answer, call, events, fault, hello_with, text};
use crate::support::events::Events;
use crate::support::fixture::{
    Fixture, Part, Seen, body, driven, event, event_stream, json_reply, part,
};
use crate::support::stage::Stage;
use crate::support::within;

const MIB: usize = 1024 * 1024;

async fn stage(server: &Fixture) -> (Stage, Session, Sse) {
    let stage = Stage::start(&[server.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;
    let mut sse = Sse::open(&stage.bob(), "/sse").await;
    sse.request("initialize", hello_with(able())).await;
    (stage, session, sse)
}

/// A result with these members, in this order.
fn result(id: &Value, members: &[(&str, Value)]) -> String {
    let members: Vec<String> =
        members.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{}}}}}"#, members.join(","))
}

/// A question whose text has that length.
fn question(length: usize) -> (&'static str, Value) {
    let schema = json!({"type": "object", "properties": {}});
    let params = json!({"message": "?".repeat(length), "requestedSchema": schema});
    ("inputRequests", json!({"who": {"method": "elicitation/create", "params": params}}))
}

const ASKS: &str = "input_required";

/// Answers like this until its question is answered; then the text of its result is that answer.
fn asks(server: &Fixture, events: bool, members: Vec<(&'static str, Value)>) {
    server.on("tools/call", move |seen: Seen| {
        let told = &seen.message["params"]["inputResponses"];
        let message = if told.is_null() {
            result(&seen.id(), &members)
        } else {
            assert_eq!(seen.message["params"]["requestState"], "state");
            let content = json!([{"type": "text", "text": told.to_string()}]);
            result(&seen.id(), &[("content", content), ("resultType", json!("complete"))])
        };
        async move { if events { event_stream(event(&message)) } else { json_reply(message) } }
    });
}

/// Reads a question of that length and answers it; the result of the call.
async fn converse(
    events: &mut Events,
    (client, path): (&Client, &str),
    id: &Value,
    length: usize,
) -> Value {
    let asked = events.message("elicitation/create").await;
    assert_eq!(asked["params"]["message"].as_str().unwrap().len(), length);
    let accepted = json!({"action": "accept", "content": {"name": "A"}});
    let reply = client.post(path, answer(&asked["id"], accepted)).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{reply:?}");
    events.answer(id).await
}

#[tokio::test]
async fn a_large_question_reaches_a_legacy_client_wherever_its_type_stands() {
    let server = Fixture::modern().await;
    let (_stage, session, mut sse) = stage(&server).await;
    let (kind, state) = (("resultType", json!(ASKS)), ("requestState", json!("state")));
    let told = json!({"who": {"action": "accept", "content": {"name": "A"}}});

    for events_of_server in [false, true] {
        for (what, length, members) in [
            ("first", 100_000, vec![kind.clone(), state.clone(), question(100_000)]),
            ("last", 100_000, vec![question(100_000), state.clone(), kind.clone()]),
            ("after much", 3 * MIB, vec![state.clone(), question(3 * MIB), kind.clone()]),
            (
                "behind something unknown",
                100_000,
                vec![("x", json!(1)), question(100_000), state.clone(), kind.clone()],
            ),
        ] {
            asks(&server, events_of_server, members);

            let mut open = events(session.send(call("a", "work", json!({}))).await);
            let place = (&session.client, "/mcp");
            let over_http = converse(&mut open, place, &"a".into(), length).await;
            assert_eq!(sse.post(call("b", "work", json!({}))).await.status, StatusCode::ACCEPTED);
            let place = (&sse.client.clone(), &*sse.endpoint.clone());
            let over_sse = converse(&mut sse.events, place, &"b".into(), length).await;

            for over in [over_http, over_sse] {
                let heard: Value = serde_json::from_str(text(&over)).unwrap();
                assert_eq!(heard, told, "{what}, events: {events_of_server}");
            }
        }
    }
}

#[tokio::test]
async fn a_question_beyond_the_bound_fails_and_says_so() {
    let server = Fixture::modern().await;
    let (_stage, session, mut sse) = stage(&server).await;
    let kind = ("resultType", json!(ASKS));

    for members in [
        vec![kind.clone(), question(4 * MIB)],
        vec![question(4 * MIB), kind.clone()],
        vec![("_meta", json!({"x": "y".repeat(4 * MIB)})), kind.clone()],
    ] {
        asks(&server, false, members);
        for answer in [session.call("work", json!({})).await, sse.call("work", json!({})).await] {
            assert!(fault(&answer).contains("4 MiB"), "{answer}");
        }
    }
    server.behave();
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

/// What is put together of an answer is held in the room that the key has for its requests, too.
#[tokio::test]
async fn a_large_question_for_which_a_key_has_no_room_fails_and_says_so() {
    let (server, holding) = (Fixture::modern().await, Fixture::start().await);
    holding.offer(&["hold"]);
    let mut stage = Stage::set(&[server.manifest("server"), holding.manifest("holding")]);
    stage.body_memory = 16 * MIB;
    stage.open().await;
    stage.server_is("server", "connected").await;
    stage.server_is("holding", "connected").await;
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;
    let other = Session::open_with(&stage.bob(), "/mcp", able()).await;
    let kind = ("resultType", json!(ASKS));
    asks(&server, false, vec![kind, ("requestState", json!("state")), question(2 * MIB)]);
    let gate = holding.hold("tools/call");

    // Three of the four MiB that a key may have are in use.
    let held = session.call("hold", json!({"text": "x".repeat(3 * MIB)}));
    let (answer, ()) = tokio::join!(held, async {
        holding.sees("tools/call", 1).await;
        let refused = session.call("work", json!({})).await;
        assert!(fault(&refused).contains("more than there is room for now"), "{refused}");
        let mut open = events(other.send(call("b", "work", json!({}))).await);
        converse(&mut open, (&other.client, "/mcp"), &"b".into(), 2 * MIB).await;
        gate.cancel();
    });

    assert_eq!(text(&answer), "done");
    let mut open = events(session.send(call("a", "work", json!({}))).await);
    let told = converse(&mut open, (&session.client, "/mcp"), &"a".into(), 2 * MIB).await;
    assert!(text(&told).contains("accept"), "{told}");
}

#[tokio::test]
async fn a_question_that_looked_like_an_answer_is_not_passed_for_one() {
    let server = Fixture::modern().await;
    let (_stage, session, mut sse) = stage(&server).await;
    let filler = ("content", json!([{"type": "text", "text": "x".repeat(MIB)}]));
    asks(&server, false, vec![filler, question(10), ("resultType", json!(ASKS))]);

    let told = sse.call("work", json!({})).await;
    let response = session.send(call(1, "work", json!({}))).await;

    assert!(fault(&told).contains("too late"), "{told}");
    let body = http_body_util::BodyExt::collect(response.into_body());
    assert!(within("the end", body).await.is_err(), "a polite end");
}

#[tokio::test]
async fn a_large_task_is_refused_as_a_small_one() {
    let server = Fixture::modern().await;
    let (_stage, session, _sse) = stage(&server).await;
    let meta = ("_meta", json!({"x": "y".repeat(MIB)}));
    asks(&server, false, vec![meta, ("taskId", json!("t")), ("resultType", json!("task"))]);

    let told = session.call("work", json!({})).await;

    assert!(fault(&told).contains("wants a task"), "{told}");
}

#[tokio::test]
async fn a_large_answer_of_a_modern_server_passes_as_it_comes() {
    let server = Fixture::modern().await;
    let (_stage, session, _sse) = stage(&server).await;
    let (sender, held) = driven();
    let held = std::sync::Mutex::new(Some(held));
    server.on("tools/call", move |_| {
        let body = held.lock().unwrap().take().unwrap();
        async { json_reply(body) }
    });
    let client = session.client.clone();
    let asked = tokio::spawn(async move {
        client.send(http::Method::POST, "/mcp", call(1, "work", json!({}))).await
    });
    let id = server.sees("tools/call", 1).await[0].id();
    let text = "x".repeat(200_000);
    let content = json!([{"type": "text", "text": text}]);
    let whole = result(&id, &[("content", content), ("resultType", json!("complete"))]);
    let (first, rest) = whole.split_at(150_000);
    sender.send(first.to_owned().into()).await.unwrap();

    // What has come is the client's before the rest of it is sent.
    let mut body = within("the head", asked).await.unwrap().into_body();
    let mut read = 0;
    while read < 100_000 {
        let frame = within("a part", http_body_util::BodyExt::frame(&mut body)).await;
        read += frame.unwrap().unwrap().into_data().unwrap().len();
    }

    sender.send(rest.to_owned().into()).await.unwrap();
    drop(sender);
    let rest = within("the rest", http_body_util::BodyExt::collect(body)).await.unwrap();
    assert!(rest.to_bytes().ends_with(br#""resultType":"complete"}}"#));
}

#[tokio::test]
async fn a_large_question_that_breaks_off_fails() {
    let server = Fixture::modern().await;
    let (_stage, session, _sse) = stage(&server).await;
    server.on("tools/call", |seen| async move {
        let whole = result(&seen.id(), &[question(200_000), ("resultType", json!(ASKS))]);
        json_reply(body(vec![part(whole[..150_000].to_owned()), Part::Break]))
    });

    let told = session.call("work", json!({})).await;

    assert!(fault(&told).contains("closed the connection"), "{told}");
}
