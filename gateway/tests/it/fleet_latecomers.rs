//! Several gateways: one that comes later knows what the others were told before.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::bridge::able;
use crate::features::offer_everything;
use crate::fleet_bad_days::pass_on;
use crate::fleet_streams::{UPDATED, listen, logged, logs_twice_a_call, said};
use crate::support::client::{Session, request};
use crate::support::eventually;
use crate::support::fixture::Fixture;
use crate::support::fleet::{Fleet, knows, peer_address};

const OWN: &str = "server:///own";

/// A session that ended before: who knows that knows all.
async fn ended(fleet: &Fleet) -> Session {
    let (at_a, at_b) = fleet.session(json!({})).await;
    assert_eq!(at_b.delete().await, StatusCode::NO_CONTENT);
    at_a
}

/// Waits until a gateway was told all.
async fn is_told(fleet: &Fleet, name: &str, ended: &Session) {
    let there = ended.with(|client| client.at(fleet.address(name)));
    eventually("a gateway that was told", || async {
        let ping = there.post(request(1, "ping", json!({}))).await;
        (ping.status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
}

/// One more gateway, `c`, which was told all, and the session there.
async fn joined_by_c(fleet: &mut Fleet, session: &Session, ended: &Session) -> Session {
    fleet.join("c").await;
    fleet.server_is_connected("server").await;
    is_told(fleet, "c", ended).await;
    session.with(|client| client.at(fleet.address("c")))
}

/// Lets `c` be alone.
async fn leave_c(fleet: &mut Fleet) {
    drop(fleet.take("a"));
    drop(fleet.take("b"));
    knows(fleet.gateway("c"), 0).await;
}

fn updated() -> Value {
    said(UPDATED, json!({"uri": OWN}))
}

async fn ask(session: &Session, method: &str, params: Value) {
    let answer = session.request(method, params).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
}

#[tokio::test]
async fn a_session_that_ended_ended_for_who_comes_later() {
    let mut fleet = Fleet::start(&[]).await;
    let ended = ended(&fleet).await;
    let (_, other) = fleet.session(json!({})).await;

    fleet.join("c").await;

    is_told(&fleet, "c", &ended).await;
    leave_c(&mut fleet).await;
    // And passes it on.
    fleet.join("d").await;
    is_told(&fleet, "d", &ended).await;
    let other = other.with(|client| client.at(fleet.address("d")));
    assert_eq!(other.post(request(1, "ping", json!({}))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_log_level_holds_where_who_comes_later_takes_over() {
    for server in [Fixture::start().await, Fixture::with_sessions().await] {
        offer_everything(&server, "server");
        logs_twice_a_call(&server);
        let mut fleet = Fleet::before(&server).await;
        let (at_a, _) = fleet.session(able()).await;
        ask(&at_a, "logging/setLevel", json!({"level": "info"})).await;
        ask(&at_a, "logging/setLevel", json!({"level": "warning"})).await;
        let told = server.seen_of("logging/setLevel").len();
        let ended = ended(&fleet).await;

        let at_c = joined_by_c(&mut fleet, &at_a, &ended).await;
        leave_c(&mut fleet).await;

        assert_eq!(logged(&at_c).await, ["error"]);
        // A leg of its own is told, too.
        let levels: Vec<Value> = server.seen_of("logging/setLevel")[told..]
            .iter()
            .map(|seen| seen.message["params"]["level"].clone())
            .collect();
        assert!(levels.is_empty() || levels == ["warning"], "{levels:?}");
        assert_eq!(levels.is_empty(), server.sessions().is_empty());
    }
}

#[tokio::test]
async fn a_subscription_holds_where_who_comes_later_takes_over() {
    let server = Fixture::start().await.announcing();
    offer_everything(&server, "server");
    let mut fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(able()).await;
    for uri in [OWN, "file:///shared"] {
        ask(&at_a, "resources/subscribe", json!({"uri": uri})).await;
    }
    // What was taken back before does not come again.
    ask(&at_b, "resources/unsubscribe", json!({"uri": "file:///shared"})).await;
    let ended = ended(&fleet).await;

    let at_c = joined_by_c(&mut fleet, &at_a, &ended).await;
    leave_c(&mut fleet).await;
    let before = server.seen_of("resources/subscribe").len();
    let mut to_c = listen(&at_c).await;

    let seen = server.sees("resources/subscribe", before + 1).await;
    assert_eq!(seen[before].message["params"]["uri"], OWN);
    assert!(server.announce(&updated()));
    assert_eq!(to_c.message(UPDATED).await["params"]["uri"], OWN);
    assert!(to_c.passed.is_empty(), "{:?}", to_c.passed);
    let left = server.seen_of("resources/unsubscribe").len();
    ask(&at_c, "resources/unsubscribe", json!({"uri": OWN})).await;
    server.sees("resources/unsubscribe", left + 1).await;
    assert_eq!(server.seen_of("resources/subscribe").len(), before + 1);
}

#[tokio::test]
async fn a_stream_that_was_opened_before_its_gateway_was_told_brings_updates() {
    let server = Fixture::start().await.announcing();
    offer_everything(&server, "server");
    let mut fleet = Fleet::before(&server).await;
    let (at_a, _) = fleet.session(able()).await;
    ask(&at_a, "resources/subscribe", json!({"uri": OWN})).await;
    // Each gateway asks for itself.
    server.sees("resources/subscribe", 2).await;
    // Nobody answers there yet.
    let way = TcpListener::bind("127.0.0.1:0").await.unwrap();
    fleet.join_at("c", vec![way.local_addr().unwrap().to_string()]).await;
    fleet.server_is_connected("server").await;
    let at_c = at_a.with(|client| client.at(fleet.address("c")));
    let mut to_c = listen(&at_c).await;
    knows(fleet.gateway("c"), 0).await;

    pass_on(way, peer_address(fleet.gateway("a")));

    server.sees("resources/subscribe", 3).await;
    assert!(server.announce(&updated()));
    assert_eq!(to_c.message(UPDATED).await["params"]["uri"], OWN);
}

#[tokio::test]
async fn a_subscription_on_a_leg_of_its_own_moves_without_a_call() {
    let server = Fixture::with_sessions().await.announcing();
    offer_everything(&server, "server");
    let mut fleet = Fleet::before(&server).await;
    let ended = ended(&fleet).await;
    // Of some the next home is where the stream is, of others it is not.
    let mut streams = Vec::new();
    for _ in 0..6 {
        let (at_a, at_b) = fleet.session(able()).await;
        ask(&at_a, "resources/subscribe", json!({"uri": OWN})).await;
        streams.push(listen(&at_b).await);
    }
    let subscribed = server.seen_of("resources/subscribe").len();
    assert_eq!(subscribed, streams.len());
    fleet.join("c").await;
    fleet.server_is_connected("server").await;
    is_told(&fleet, "c", &ended).await;

    drop(fleet.take("a"));

    let seen = server.sees("resources/subscribe", 2 * subscribed).await;
    for seen in &seen[subscribed..] {
        eventually("a listener", || async {
            server.announce_to(seen.session().unwrap(), &updated()).then_some(())
        })
        .await;
    }
    for mut stream in streams {
        assert_eq!(stream.message(UPDATED).await["params"]["uri"], OWN);
    }
    assert_eq!(server.seen_of("resources/subscribe").len(), 2 * subscribed);
    assert!(server.seen_of("tools/call").is_empty());
}
