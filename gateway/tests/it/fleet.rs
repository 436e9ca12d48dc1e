//! Several gateways: a session is served by each of them as by the one that began it.

use http::{Method, StatusCode};
use serde_json::json;

use crate::bridge::{KINDS, able, answered, asked, converse, questions, told};
use crate::support::client::{Sse, call, cancel, events, hello_with, request, text};
use crate::support::eventually;
use crate::support::fixture::{Fixture, Seen};
use crate::support::fleet::{Fleet, metric};
use crate::support::guest::Guest;
use crate::support::modern::input;
use crate::support::stage::ALICE;

fn legs(server: &Fixture) -> Vec<String> {
    let calls = server.seen_of("tools/call");
    let mut legs: Vec<String> =
        calls.iter().map(|seen: &Seen| seen.session().unwrap().to_owned()).collect();
    legs.dedup();
    legs
}

#[tokio::test]
async fn a_session_has_one_leg_wherever_its_calls_come_in() {
    let server = Fixture::with_sessions().await;
    let mut fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(json!({})).await;

    for session in [&at_b, &at_a, &at_b, &at_a] {
        assert_eq!(text(&session.call("work", json!({})).await), "done");
    }

    assert_eq!(legs(&server).len(), 1);
    // That one, and each gateway's own.
    assert_eq!(server.seen_of("initialize").len(), 3);
    let relayed = r#"fairway_relays_total{outcome="answered"}"#;
    assert_eq!(metric(fleet.gateway("b"), relayed).await, Some(2.0));
    assert_eq!(metric(fleet.gateway("a"), relayed).await, None);
    // It is where the session began.
    drop(fleet.take("b"));
    assert_eq!(text(&at_a.call("work", json!({})).await), "done");
    assert_eq!(legs(&server).len(), 1);
}

#[tokio::test]
async fn what_a_key_asks_without_a_session_has_one_leg() {
    let server = Fixture::with_sessions().await;
    let fleet = Fleet::before(&server).await;
    for name in ["a", "b", "a", "b"] {
        let answer = fleet.alice(name).post("/mcp", call(1, "work", json!({}))).await;
        assert_eq!(text(&answer.json()), "done");
    }
    assert_eq!(legs(&server).len(), 1);
    assert_eq!(text(&fleet.bob("a").post("/mcp", call(1, "work", json!({}))).await.json()), "done");
    assert_eq!(legs(&server).len(), 2, "two principals share a leg");
}

#[tokio::test]
async fn a_question_is_answered_at_any_gateway() {
    let server = Fixture::with_sessions().await;
    server.asks(questions());
    let fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(able()).await;

    for (asks, answers) in [(&at_a, &at_b), (&at_b, &at_b), (&at_b, &at_a), (&at_a, &at_a)] {
        let mut open = events(asks.send(call("mine", "work", json!({}))).await);
        converse(&mut open, (&answers.client, "/mcp"), &KINDS).await;
        let heard = told(&open.answer(&"mine".into()).await);
        for (heard, asked) in heard.iter().zip(questions()) {
            let method = asked["method"].as_str().unwrap();
            assert_eq!((&heard["id"], &heard["result"]), (&asked["id"], &answered(method)));
        }
        assert_eq!(heard.len(), KINDS.len());
    }
    assert_eq!(legs(&server).len(), 1);
}

#[tokio::test]
async fn a_modern_client_answers_at_any_gateway() {
    let server = Fixture::with_sessions().await;
    server.asks(questions());
    let fleet = Fleet::before(&server).await;
    let guest = |name| Guest::new(&fleet.alice(name), "/mcp").can(able());
    let (at_a, at_b) = (guest("a"), guest("b"));

    for guests in [[&at_a, &at_b, &at_a, &at_b], [&at_b, &at_b, &at_a, &at_a]] {
        let before = server.seen_of("tools/call").len();
        let mut result = guests[0].call("work", json!({})).await;
        for (method, guest) in KINDS.iter().zip(&guests[1..]) {
            assert_eq!(result["result"]["resultType"], "input_required", "{result}");
            let inputs = result["result"]["inputRequests"].as_object().unwrap().clone();
            let (key, asks) = inputs.iter().next().unwrap();
            assert_eq!(*asks, input(method, asked(method)));
            // Nobody else has the call, wherever they look for it.
            for name in ["a", "b"] {
                let thief = Guest::new(&fleet.bob(name), "/mcp").can(able());
                let stolen = thief.answer("work", &result, json!({key: answered(method)})).await;
                assert_eq!(stolen["error"]["code"], -32602, "{stolen}");
            }
            result = guest.answer("work", &result, json!({key: answered(method)})).await;
        }
        assert_eq!(result["result"]["resultType"], "complete", "{result}");
        assert_eq!(told(&result).len(), KINDS.len());
        assert_eq!(server.seen_of("tools/call").len(), before + 1);
    }
}

#[tokio::test]
async fn messages_for_a_stream_of_http_sse_are_taken_at_any_gateway() {
    let server = Fixture::with_sessions().await;
    let fleet = Fleet::before(&server).await;
    let by_header = Sse::open(&fleet.alice("a"), "/sse").await;
    let by_query = Sse::open(&fleet.client("a"), &format!("/sse?api_key={ALICE}")).await;
    let by_tenant = Sse::open(&fleet.alice("a"), "/t/default/mcp/sse").await;

    for mut sse in [by_header, by_query, by_tenant] {
        sse.client = sse.client.at(fleet.address("b"));
        sse.request("initialize", hello_with(able())).await;
        assert_eq!(text(&sse.call("work", json!({})).await), "done");
        server.asks(questions());
        assert_eq!(sse.post(call(77, "work", json!({}))).await.status, StatusCode::ACCEPTED);
        converse(&mut sse.events, (&sse.client, &sse.endpoint), &KINDS).await;
        assert_eq!(told(&sse.events.answer(&77.into()).await).len(), KINDS.len());
        server.behave();
        let wrong = sse.post("{").await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{wrong:?}");
    }
    assert_eq!(legs(&server).len(), 3);
}

#[tokio::test]
async fn a_stream_of_http_sse_takes_nothing_from_others_at_any_gateway() {
    let server = Fixture::with_sessions().await;
    let mut fleet = Fleet::before(&server).await;
    let by_header = Sse::open(&fleet.alice("a"), "/sse").await;
    let by_query = Sse::open(&fleet.client("a"), &format!("/sse?api_key={ALICE}")).await;
    let ping = || request(1, "ping", json!({}));
    let elsewhere = |sse: &Sse| {
        let (_, query) = sse.endpoint.split_once('?').unwrap();
        format!("/t/nowhere/mcp/messages?{query}")
    };

    for name in ["a", "b"] {
        for sse in [&by_header, &by_query] {
            let foreign = fleet.bob(name).post(&sse.endpoint, ping()).await;
            assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{foreign:?}");
            for client in [fleet.client(name), fleet.alice(name)] {
                let astray = client.post(&elsewhere(sse), ping()).await;
                assert_eq!(astray.status, StatusCode::UNAUTHORIZED, "{astray:?}");
            }
        }
        let unkeyed = fleet.client(name).post(&by_header.endpoint, ping()).await;
        assert_eq!(unkeyed.status, StatusCode::UNAUTHORIZED, "{unkeyed:?}");
    }
    // Once it is over it is over everywhere.
    let endpoint = by_query.endpoint.clone();
    drop(by_query);
    eventually("the end of the stream", || async {
        let posted = fleet.alice("b").post(&endpoint, ping()).await;
        (posted.status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    drop(fleet.take("a"));
    eventually("no gateway that has the stream", || async {
        let posted = fleet.alice("b").post(&by_header.endpoint, ping()).await;
        (posted.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ended_at_one_gateway_ended_at_all() {
    let server = Fixture::with_sessions().await;
    let fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(json!({})).await;
    assert_eq!(text(&at_a.call("work", json!({})).await), "done");
    let leg = legs(&server).remove(0);
    let foreign = at_b.with(|client| client.key("bob-key-xyz789"));
    assert_eq!(foreign.delete().await, StatusCode::NOT_FOUND);
    assert_eq!(text(&at_a.call("work", json!({})).await), "done");

    assert_eq!(at_b.delete().await, StatusCode::NO_CONTENT);

    for session in [&at_a, &at_b] {
        let ping = session.post(request(1, "ping", json!({}))).await;
        assert_eq!(ping.status, StatusCode::NOT_FOUND);
    }
    eventually("the end of the leg", || async {
        let ended = |seen: &Seen| seen.http == Method::DELETE && seen.session() == Some(&leg);
        server.seen().iter().any(ended).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_call_is_cancelled_from_any_gateway() {
    let server = Fixture::with_sessions().await;
    server.on("tools/call", |_| std::future::pending());
    let fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(json!({})).await;

    for (count, (asks, cancels)) in
        [(&at_a, &at_b), (&at_b, &at_a), (&at_b, &at_b)].into_iter().enumerate()
    {
        let (reply, ()) = tokio::join!(asks.post(call("mine", "work", json!({}))), async {
            server.sees("tools/call", count + 1).await;
            assert_eq!(cancels.post(cancel("mine")).await.status, StatusCode::ACCEPTED);
        });
        assert_eq!(reply.json()["error"]["code"], -32800, "{reply:?}");
        let seen = server.sees("notifications/cancelled", count + 1).await;
        let of = &server.seen_of("tools/call")[count];
        assert_eq!(seen[count].message["params"]["requestId"], of.id());
        server.is_left_alone().await;
    }
}
