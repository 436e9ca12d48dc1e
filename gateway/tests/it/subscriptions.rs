//! What servers tell unasked: which resources changed, and which lists, to exactly those who asked.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::features::offer_everything;
use crate::support::client::{Client, Session, Sse, call, text};
use crate::support::events::Events;
use crate::support::eventually;
use crate::support::fixture::{Fixture, Seen};
use crate::support::guest::Guest;
use crate::support::stage::{BOB, Stage};

const UPDATED: &str = "notifications/resources/updated";
const LISTS: [&str; 3] = [
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
];
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

fn said(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

fn updated(uri: &str) -> Value {
    said(UPDATED, json!({"uri": uri, "title": "t"}))
}

/// How the second of two servers shows what the first one has too.
const SHOWN: &str = "fairway+default+beta+file:///shared";

/// A server `alpha` that has whatever `beta` has, and has it first.
async fn beside(beta: &Fixture) -> (Fixture, Stage) {
    let alpha = Fixture::start().await;
    offer_everything(&alpha, "alpha");
    offer_everything(beta, "beta");
    alpha.offer(&["other"]);
    let stage = Stage::start(&[alpha.manifest("alpha"), beta.manifest("beta")]).await;
    stage.server_is("alpha", "connected").await;
    stage.server_is("beta", "connected").await;
    (alpha, stage)
}

/// The GET stream of a session, after what it begins with: a client that comes may have missed a
/// change of any list.
async fn listen(session: &Session) -> Events {
    let mut events = session.client.stream(&session.path).await;
    for list in LISTS {
        events.message(list).await;
    }
    events
}

async fn subscribe(session: &Session, uri: &str) {
    let answer = session.request("resources/subscribe", json!({"uri": uri})).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
}

/// Announces as soon as there is somebody who listens.
async fn announce(server: &Fixture, message: &Value) {
    eventually("a listener", || async { server.announce(message).then_some(()) }).await;
}

/// Asserts that nothing was said before a change of the tools that is caused now.
async fn hears_nothing_but(server: &Fixture, tool: &str, listening: &mut [&mut Events]) {
    server.offer(&["work", tool]);
    announce(server, &said(LISTS[0], json!({}))).await;
    for events in listening {
        let next = events.next().await.unwrap().json();
        assert_eq!(next["method"], LISTS[0], "{next}");
    }
}

#[tokio::test]
async fn one_subscription_at_the_server_serves_all_clients_of_a_shared_leg() {
    let beta = Fixture::start().await.announcing();
    let (alpha, stage) = beside(&beta).await;
    let alice = Session::open(&stage.alice(), "/mcp").await;
    let bob = Session::open(&stage.bob(), "/mcp").await;
    let other = Session::open(&stage.bob(), "/mcp").await;
    let (mut to_alice, mut to_bob, mut to_other) =
        (listen(&alice).await, listen(&bob).await, listen(&other).await);

    subscribe(&alice, SHOWN).await;
    subscribe(&bob, SHOWN).await;
    // The one of the first server, which has the same URI.
    subscribe(&other, "file:///shared").await;
    let seen = beta.sees("resources/subscribe", 1).await;
    assert_eq!(seen[0].message["params"]["uri"], "file:///shared");
    announce(&beta, &updated("file:///shared")).await;
    for events in [&mut to_alice, &mut to_bob] {
        let told = events.message(UPDATED).await;
        assert_eq!(told["params"], json!({"uri": SHOWN, "title": "t"}));
    }
    // Nobody asked for that one.
    announce(&beta, &updated("beta:///own")).await;
    hears_nothing_but(&beta, "one", &mut [&mut to_alice, &mut to_bob, &mut to_other]).await;

    let answer = alice.request("resources/unsubscribe", json!({"uri": SHOWN})).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
    announce(&beta, &updated("file:///shared")).await;
    assert_eq!(to_bob.message(UPDATED).await["params"]["uri"], SHOWN);
    hears_nothing_but(&beta, "two", &mut [&mut to_alice, &mut to_bob, &mut to_other]).await;
    assert!(beta.seen_of("resources/unsubscribe").is_empty());
    assert_eq!(bob.delete().await, StatusCode::NO_CONTENT);
    let seen = beta.sees("resources/unsubscribe", 1).await;
    assert_eq!(seen[0].message["params"]["uri"], "file:///shared");
    assert_eq!(beta.seen_of("resources/subscribe").len(), 1);
    assert_eq!(alpha.seen_of("resources/subscribe").len(), 1);
}

#[tokio::test]
async fn a_client_with_a_leg_of_its_own_subscribes_on_it() {
    let beta = Fixture::with_sessions().await.announcing();
    let (_alpha, stage) = beside(&beta).await;
    let alice = Session::open(&stage.alice(), "/mcp").await;
    let bob = Session::open(&stage.bob(), "/mcp").await;
    let (mut to_alice, mut to_bob) = (listen(&alice).await, listen(&bob).await);
    for session in [&alice, &bob] {
        assert_eq!(text(&session.call("work", json!({})).await), "done");
    }
    let legs: Vec<String> =
        beta.seen_of("tools/call").iter().map(|seen| seen.session().unwrap().to_owned()).collect();

    subscribe(&alice, SHOWN).await;
    let seen = &beta.sees("resources/subscribe", 1).await[0];
    assert_eq!(seen.session(), Some(&*legs[0]));
    assert_eq!(seen.message["params"]["uri"], "file:///shared");
    assert!(beta.announce_to(&legs[0], &updated("file:///shared")));
    assert_eq!(to_alice.message(UPDATED).await["params"]["uri"], SHOWN);
    // What the server says to one of its sessions is of no other.
    assert!(beta.announce_to(&legs[0], &said("notifications/vendor", json!({"x": 1.5}))));
    assert_eq!(to_alice.message("notifications/vendor").await["params"], json!({"x": 1.5}));
    hears_nothing_but(&beta, "one", &mut [&mut to_alice, &mut to_bob]).await;
    let answer = alice.request("resources/unsubscribe", json!({"uri": SHOWN})).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
    let seen = &beta.sees("resources/unsubscribe", 1).await[0];
    assert_eq!(seen.session(), Some(&*legs[0]));
}

#[tokio::test]
async fn listeners_of_this_era_are_told_what_they_asked_for_and_to_what_it_belongs() {
    for beta in [Fixture::start().await.announcing(), Fixture::modern().await] {
        let (_alpha, mut stage) = beside(&beta).await;
        let guest = Guest::new(&stage.alice(), "/mcp");
        let filter = json!({
            "resourceSubscriptions": [SHOWN, "nothing:///there"], "toolsListChanged": true,
        });
        let (mut first, honoured) = guest.listen("first", filter).await;
        assert_eq!(honoured["resourceSubscriptions"], json!([SHOWN]), "{honoured}");
        assert_eq!(honoured["toolsListChanged"], true, "{honoured}");
        let (mut second, honoured) = guest.listen(2, json!({"promptsListChanged": true})).await;
        assert_eq!(honoured, json!({"promptsListChanged": true}));

        let asked = |seen: &Seen| {
            seen.message["params"]["uri"] == "file:///shared"
                || seen.message["params"]["notifications"]["resourceSubscriptions"]
                    == json!(["file:///shared"])
        };
        eventually("the subscription", || async { beta.seen().iter().any(asked).then_some(()) })
            .await;
        announce(&beta, &updated("file:///shared")).await;
        let told = first.message(UPDATED).await;
        assert_eq!(told["params"]["uri"], SHOWN, "{told}");
        assert_eq!(told["params"]["_meta"][SUBSCRIPTION], "first", "{told}");
        beta.offer(&["work", "more"]);
        beta.list("prompts", vec![json!({"name": "ask"}), json!({"name": "more"})]);
        announce(&beta, &said(LISTS[0], json!({}))).await;
        let told = first.message(LISTS[0]).await;
        assert_eq!(told["params"]["_meta"][SUBSCRIPTION], "first", "{told}");
        // The other one hears of prompts alone.
        let told = second.next().await.unwrap().json();
        assert_eq!(told["method"], LISTS[1], "{told}");
        assert_eq!(told["params"]["_meta"][SUBSCRIPTION], 2, "{told}");

        stage.stop().await;
        for (events, id) in [(&mut first, json!("first")), (&mut second, json!(2))] {
            let last = events.answer(&id).await;
            assert_eq!(last["result"]["resultType"], "complete", "{last}");
            assert_eq!(last["result"]["_meta"][SUBSCRIPTION], id, "{last}");
            assert!(events.next().await.is_none() && !events.broken);
        }
    }
}

#[tokio::test]
async fn who_takes_no_events_cannot_listen() {
    let stage = Stage::start(&[]).await;
    let mut guest = Guest::new(&stage.alice(), "/mcp");
    let params = json!({"notifications": {"toolsListChanged": true}});

    let shapeless = guest.post(1, "subscriptions/listen", json!({"notifications": 7})).await;
    guest.client = guest.client.with("accept", "application/json");
    let reply = guest.post(1, "subscriptions/listen", params).await;

    assert_eq!(shapeless.json()["error"]["code"], -32602, "{shapeless:?}");
    assert_eq!(reply.status, StatusCode::NOT_ACCEPTABLE, "{reply:?}");
}

#[tokio::test]
async fn changes_of_all_lists_are_told_on_all_kinds_of_streams() {
    let beta = Fixture::start().await.announcing();
    let (_alpha, stage) = beside(&beta).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut get = listen(&session).await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;
    for list in &LISTS[1..] {
        sse.events.message(list).await;
    }
    let all = json!({
        "toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true,
    });
    let (mut listen, honoured) = Guest::new(&stage.bob(), "/mcp").listen("l", all.clone()).await;
    assert_eq!(honoured, all);

    type Change = fn(&Fixture);
    let changes: [Change; 4] = [
        |server| server.offer(&["work", "more"]),
        |server| server.list("prompts", vec![json!({"name": "new"})]),
        |server| server.list("resources", vec![json!({"uri": "new:x", "name": "new"})]),
        |server| server.list("resourceTemplates", Vec::new()),
    ];
    for (change, list) in changes.into_iter().zip([LISTS[0], LISTS[1], LISTS[2], LISTS[2]]) {
        change(&beta);
        announce(&beta, &said(list, json!({}))).await;
        for events in [&mut get, &mut sse.events, &mut listen] {
            let next = events.next().await.unwrap().json();
            assert_eq!(next["method"], list, "{next}");
        }
    }
}

#[tokio::test]
async fn who_is_over_watches_nothing_any_more() {
    let beta = Fixture::start().await.announcing();
    let (_alpha, stage) = beside(&beta).await;
    let guest = Guest::new(&stage.alice(), "/mcp");
    let (listening, _) = guest.listen(1, json!({"resourceSubscriptions": [SHOWN]})).await;
    let mut sse = Sse::open(&stage.bob(), "/sse").await;
    let answer = sse.request("resources/subscribe", json!({"uri": SHOWN})).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
    beta.sees("resources/subscribe", 1).await;

    drop(listening);
    assert_eq!(text(&sse.call("work", json!({})).await), "done");
    assert!(beta.seen_of("resources/unsubscribe").is_empty());
    drop(sse);

    beta.sees("resources/unsubscribe", 1).await;
    assert_eq!(beta.seen_of("resources/subscribe").len(), 1);
    // Without a session there is nothing to subscribe for.
    let answer = stage.alice().one_shot("/mcp", "resources/subscribe", json!({"uri": SHOWN})).await;
    assert_eq!(answer["error"]["code"], -32600, "{answer}");
}

#[tokio::test]
async fn a_server_that_lost_its_session_is_asked_to_tell_again() {
    let beta = Fixture::with_sessions().await.announcing();
    offer_everything(&beta, "beta");
    let stage = Stage::start(&[beta.manifest_with("beta", "session: Shared")]).await;
    stage.server_is("beta", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut listening = listen(&session).await;
    subscribe(&session, "file:///shared").await;
    let first = beta.sees("resources/subscribe", 1).await[0].session().unwrap().to_owned();

    beta.forget_sessions(StatusCode::NOT_FOUND, "no session");
    assert_eq!(text(&session.call("work", json!({})).await), "done");

    let second = beta.sees("resources/subscribe", 2).await[1].session().unwrap().to_owned();
    assert_ne!(first, second);
    assert!(beta.announce_to(&second, &updated("file:///shared")));
    assert_eq!(listening.message(UPDATED).await["params"]["uri"], "file:///shared");
}

#[tokio::test]
async fn a_leg_of_a_client_is_told_again_and_heard_again() {
    let beta = Fixture::with_sessions().await.announcing();
    let (_alpha, stage) = beside(&beta).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut listening = listen(&session).await;
    subscribe(&session, SHOWN).await;
    let first = beta.sees("resources/subscribe", 1).await[0].session().unwrap().to_owned();

    beta.forget_sessions(StatusCode::NOT_FOUND, "no session");
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    let second = beta.sees("resources/subscribe", 2).await[1].session().unwrap().to_owned();
    assert_ne!(first, second);
    assert!(beta.announce_to(&second, &updated("file:///shared")));
    assert_eq!(listening.message(UPDATED).await["params"]["uri"], SHOWN);

    // Whatever is in between ends streams that are silent for long.
    beta.end_streams();
    eventually("another stream", || async {
        let of_leg = |seen: &&Seen| seen.http == Method::GET && seen.session() == Some(&*second);
        (beta.seen().iter().filter(of_leg).count() == 2).then_some(())
    })
    .await;
    assert!(beta.announce_to(&second, &updated("file:///shared")));
    assert_eq!(listening.message(UPDATED).await["params"]["uri"], SHOWN);

    let answer = session.request("resources/unsubscribe", json!({"uri": SHOWN})).await;
    assert_eq!(answer["result"], json!({}), "{answer}");
    beta.forget_sessions(StatusCode::NOT_FOUND, "no session");
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    assert_eq!(beta.seen_of("resources/subscribe").len(), 2);
}

#[tokio::test]
async fn a_leg_of_a_client_that_subscribed_is_opened_again_without_a_call() {
    let mut beta = Fixture::with_sessions().await.announcing();
    let (_alpha, stage) = beside(&beta).await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let other = Session::open(&stage.bob(), "/mcp").await;
    let mut listening = listen(&session).await;
    // Who subscribed to nothing needs no leg.
    assert_eq!(text(&other.call("work", json!({})).await), "done");
    subscribe(&session, SHOWN).await;
    beta.sees("resources/subscribe", 1).await;

    beta.forget_sessions(StatusCode::NOT_FOUND, "no session");
    beta.end_streams();

    let second = beta.sees("resources/subscribe", 2).await[1].session().unwrap().to_owned();
    assert!(beta.announce_to(&second, &updated("file:///shared")));
    assert_eq!(listening.message(UPDATED).await["params"]["uri"], SHOWN);

    beta.kill().await;
    stage.server_is("beta", "unreachable").await;
    beta.revive().await;

    let third = beta.sees("resources/subscribe", 3).await[2].session().unwrap().to_owned();
    assert_ne!(second, third);
    eventually("a listener", || async {
        beta.announce_to(&third, &updated("file:///shared")).then_some(())
    })
    .await;
    assert_eq!(listening.message(UPDATED).await["params"]["uri"], SHOWN);
    assert_eq!(beta.sessions().len(), 2, "the gateway's own leg and that of who subscribed");
}

#[tokio::test]
async fn a_key_that_is_not_good_any_more_hears_nothing_more() {
    let beta = Fixture::start().await.announcing();
    let (_alpha, stage) = beside(&beta).await;
    let bob: Client = stage.client().key(BOB);
    let filter = json!({"resourceSubscriptions": [SHOWN], "toolsListChanged": true});
    let (mut listening, _) = Guest::new(&bob, "/mcp").listen(1, filter).await;
    beta.sees("resources/subscribe", 1).await;

    stage.remove("bob.yaml");

    listening.ends_within(crate::support::DEADLINE).await;
    beta.sees("resources/unsubscribe", 1).await;
    let reply = bob.post("/mcp", call(1, "work", json!({}))).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{reply:?}");
}

#[tokio::test]
async fn lists_are_good_for_a_minute_for_who_is_told_when_they_change() {
    let beta = Fixture::start().await;
    let (_alpha, stage) = beside(&beta).await;
    let (alice, bob) = (Guest::new(&stage.alice(), "/mcp"), Guest::new(&stage.bob(), "/mcp"));
    let one = Guest::new(&stage.alice(), "/mcp/beta");
    let ttl = async |guest: &Guest, method: &str| {
        guest.request(method, json!({})).await["result"]["ttlMs"].clone()
    };
    assert_eq!(ttl(&alice, "tools/list").await, 0);

    let filter = json!({"toolsListChanged": true, "resourcesListChanged": true});
    let (listening, _) = alice.listen("l", filter).await;

    for (guest, method, expected) in [
        (&alice, "tools/list", 60_000),
        (&alice, "resources/list", 60_000),
        (&alice, "resources/templates/list", 60_000),
        // Who did not ask for that list, at that URL, or at all, is not told.
        (&alice, "prompts/list", 0),
        (&one, "tools/list", 0),
        (&bob, "tools/list", 0),
    ] {
        assert_eq!(ttl(guest, method).await, expected, "{method} {}", guest.path);
    }
    drop(listening);
    eventually("the end of the stream", || async {
        (ttl(&alice, "tools/list").await == 0).then_some(())
    })
    .await;
}
