//! Several gateways: what a client is told on its stream, wherever that is.

use serde_json::{Value, json};

use crate::bridge::{KINDS, able, answered, question};
use crate::features::offer_everything;
use crate::support::client::{Session, answer, call, events, text};
use crate::support::events::Events;
use crate::support::eventually;
use crate::support::fixture::{Fixture, body, done_text, event, event_stream, part};
use crate::support::fleet::{Fleet, knows};

pub const UPDATED: &str = "notifications/resources/updated";
const LISTS: [&str; 3] = [
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
];

pub fn said(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// Has a server say something of two levels in the middle of each call.
pub fn logs_twice_a_call(server: &Fixture) {
    server.on("tools/call", |seen| {
        let log = |level: &str| {
            let params = json!({"level": level, "data": level});
            part(event(&said("notifications/message", params).to_string()))
        };
        let done = part(event(&done_text(&seen.id())));
        let parts = vec![log("debug"), log("error"), done];
        async { event_stream(body(parts)) }
    });
}

/// The levels of what a call brings.
pub async fn logged(session: &Session) -> Vec<Value> {
    let mut open = events(session.send(call("mine", "work", json!({}))).await);
    assert_eq!(text(&open.answer(&"mine".into()).await), "done");
    open.passed.iter().map(|event| event.json()["params"]["level"].clone()).collect()
}

async fn leg(server: &Fixture, session: &Session) -> String {
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    server.seen_of("tools/call").last().unwrap().session().unwrap().to_owned()
}

/// Has the server say something on a leg, and something else after it.
fn say(server: &Fixture, leg: &str, number: u64) {
    assert!(server.announce_to(leg, &said("notifications/vendor", json!({"n": number}))));
}

/// What a server asked on its stream is answered there.
async fn hears(server: &Fixture, id: &str) -> Value {
    eventually("an answer", || async {
        let answer = |seen: &crate::support::fixture::Seen| seen.id() == id && seen.method() == "";
        server.seen().into_iter().find(answer).map(|seen| seen.message)
    })
    .await
}

/// Asserts that a stream brings nothing before a change of the tools that is caused now.
async fn hears_nothing_but(server: &Fixture, tool: &str, listening: &mut [&mut Events]) {
    server.offer(&["work", tool]);
    let changed = said(LISTS[0], json!({}));
    eventually("a listener", || async { server.announce(&changed).then_some(()) }).await;
    for events in listening {
        let next = events.next().await.unwrap().json();
        assert_eq!(next["method"], LISTS[0], "{next}");
    }
}

/// The GET stream after what it begins with, for a server that has everything.
pub async fn listen(session: &Session) -> Events {
    let mut events = session.client.stream(&session.path).await;
    for list in LISTS {
        events.message(list).await;
    }
    events
}

#[tokio::test]
async fn what_a_server_says_unasked_finds_the_stream() {
    let server = Fixture::with_sessions().await.announcing();
    let fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(able()).await;
    let leg = leg(&server, &at_a).await;
    // Nobody is there to answer.
    assert!(server.announce_to(&leg, &question(json!("none"), KINDS[0])));
    let declined = hears(&server, "none").await;
    assert!(declined.get("error").is_some(), "{declined}");

    let mut to_b = at_b.listen().await;
    for (id, answers) in [("at-a", &at_a), ("at-b", &at_b)] {
        assert!(server.announce_to(&leg, &question(json!(id), KINDS[0])));
        let asked = to_b.message(KINDS[0]).await;
        answers.post(answer(&asked["id"], answered(KINDS[0]))).await;
        assert_eq!(hears(&server, id).await["result"], answered(KINDS[0]));
    }
    assert!(to_b.passed.is_empty(), "{:?}", to_b.passed);
    for number in 0..10 {
        say(&server, &leg, number);
    }
    for number in 0..10 {
        let next = to_b.next().await.unwrap().json();
        assert_eq!(next["params"]["n"], number, "{next}");
    }

    // The newest stream is the one that is spoken to.
    let mut to_a = at_a.listen().await;
    say(&server, &leg, 10);
    assert_eq!(to_a.next().await.unwrap().json()["params"]["n"], 10);
    hears_nothing_but(&server, "one", &mut [&mut to_a, &mut to_b]).await;
    let mut again = at_b.listen().await;
    say(&server, &leg, 11);
    assert_eq!(again.next().await.unwrap().json()["params"]["n"], 11);
    hears_nothing_but(&server, "two", &mut [&mut to_a, &mut again]).await;
    drop(again);
}

#[tokio::test]
async fn a_resource_that_changes_is_told_of_once() {
    let server = Fixture::start().await.announcing();
    offer_everything(&server, "server");
    let fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(able()).await;
    let mut to_b = listen(&at_b).await;
    let uri = "server:///own";
    let updated = |number: u64| said(UPDATED, json!({"uri": uri, "title": number.to_string()}));

    let answer = at_a.request("resources/subscribe", json!({"uri": uri})).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
    // Each gateway asks for itself.
    server.sees("resources/subscribe", 2).await;
    for number in 0..3 {
        assert!(server.announce(&updated(number)));
    }
    for number in 0..3 {
        let next = to_b.next().await.unwrap().json();
        assert_eq!(next["params"]["title"], number.to_string(), "{next}");
    }
    let answer = at_a.request("resources/unsubscribe", json!({"uri": uri})).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
    server.sees("resources/unsubscribe", 2).await;
    assert!(server.announce(&updated(3)));
    hears_nothing_but(&server, "one", &mut [&mut to_b]).await;
}

#[tokio::test]
async fn a_subscription_on_a_leg_of_its_own_moves_with_the_session() {
    let server = Fixture::with_sessions().await.announcing();
    offer_everything(&server, "server");
    let mut fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(able()).await;
    let mut to_b = listen(&at_b).await;
    let (first, second) = ("server:///own", "file:///shared");
    let updated = |uri: &str| said(UPDATED, json!({"uri": uri}));

    for (session, uri) in [(&at_a, first), (&at_b, second)] {
        let answer = session.request("resources/subscribe", json!({"uri": uri})).await;
        assert_eq!(answer["result"], json!({}), "{answer}");
    }
    let seen = server.seen_of("resources/subscribe");
    assert_eq!(seen.len(), 2, "only the session's one leg subscribes");
    let leg = seen[0].session().unwrap().to_owned();
    assert_eq!(seen[1].session(), Some(&*leg));
    for uri in [first, second] {
        assert!(server.announce_to(&leg, &updated(uri)));
        assert_eq!(to_b.next().await.unwrap().json()["params"]["uri"], uri);
    }
    let answer = at_b.request("resources/unsubscribe", json!({"uri": second})).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
    let seen = server.sees("resources/unsubscribe", 1).await;
    assert_eq!(seen[0].session(), Some(&*leg));
    hears_nothing_but(&server, "one", &mut [&mut to_b]).await;

    drop(fleet.take("a"));
    // A call in the moment of its end would be lost with it.
    knows(fleet.gateway("b"), 0).await;
    assert_eq!(text(&at_b.call("work", json!({})).await), "done");
    let seen = server.sees("resources/subscribe", 3).await;
    assert_eq!(seen.len(), 3, "the next leg is told of what is still subscribed to: {seen:?}");
    assert_eq!(seen[2].message["params"]["uri"], first);
    assert!(server.announce_to(seen[2].session().unwrap(), &updated(first)));
    assert_eq!(to_b.message(UPDATED).await["params"]["uri"], first);
    assert!(to_b.passed.is_empty(), "{:?}", to_b.passed);
}

#[tokio::test]
async fn a_log_level_holds_at_all_gateways() {
    for server in [Fixture::start().await, Fixture::with_sessions().await] {
        offer_everything(&server, "server");
        logs_twice_a_call(&server);
        let fleet = Fleet::before(&server).await;
        let (at_a, at_b) = fleet.session(able()).await;

        for (level, shown) in [("warning", vec!["error"]), ("debug", vec!["debug", "error"])] {
            let answer = at_a.request("logging/setLevel", json!({"level": level})).await;
            assert_eq!(answer["result"], json!({}), "{answer}");
            for session in [&at_a, &at_b] {
                assert_eq!(logged(session).await, shown, "{level}");
            }
        }
    }
}
