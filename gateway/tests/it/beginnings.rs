//! Sessions with servers that are let go while they begin: none of them is left at its server.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::Response;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::client::{Session, call, cancel, fault, text};
use crate::support::eventually;
use crate::support::fixture::{Fixture, Seen, json_reply, reply, result};
use crate::support::stage::Stage;

async fn stage(fixture: &Fixture, fields: &str) -> (Stage, Session) {
    let stage = Stage::start(&[fixture.manifest_with("stateful", fields)]).await;
    stage.server_is("stateful", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    (stage, session)
}

/// The sessions that the server was told are over.
fn ended(fixture: &Fixture) -> Vec<String> {
    let seen = fixture.seen().into_iter().filter(|seen| seen.http == Method::DELETE);
    seen.map(|seen| seen.session().unwrap().to_owned()).collect()
}

async fn only_the_gateways_own_is_left(fixture: &Fixture) {
    eventually("the end of a session", || async {
        (!ended(fixture).is_empty() && fixture.sessions().len() == 1).then_some(())
    })
    .await;
    let lists = fixture.seen_of("tools/list");
    let own = lists[0].session().unwrap();
    assert!(fixture.sessions().contains(own), "{:?}", ended(fixture));
}

#[tokio::test]
async fn a_session_that_begins_after_its_call_was_cancelled_is_ended() {
    let fixture = Fixture::with_sessions().await;
    let (_stage, session) = stage(&fixture, "").await;
    let gate = fixture.hold("initialize");

    let (answer, ()) = tokio::join!(session.post(call("c", "work", json!({}))), async {
        fixture.sees("initialize", 2).await;
        assert_eq!(session.post(cancel("c")).await.status, StatusCode::ACCEPTED);
    });
    assert_eq!(answer.json()["error"]["code"], -32800);
    gate.cancel();

    only_the_gateways_own_is_left(&fixture).await;
    assert!(fixture.seen_of("tools/call").is_empty());
    // A client must not cancel `initialize` (2025-11-25, basic/utilities/cancellation).
    assert!(fixture.seen_of("notifications/cancelled").is_empty());
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn a_session_that_begins_after_its_call_was_given_up_is_ended() {
    let fixture = Fixture::with_sessions().await;
    let (_stage, session) = stage(&fixture, "timeouts: {request: 500ms}").await;
    let gate = fixture.hold("initialize");

    let answer = session.call("work", json!({})).await;
    assert!(fault(&answer).contains("sent nothing for"), "{answer}");
    gate.cancel();

    only_the_gateways_own_is_left(&fixture).await;
}

#[tokio::test]
async fn a_session_that_begins_after_its_server_left_the_table_is_ended() {
    let fixture = Fixture::with_sessions().await;
    let gate = fixture.hold("initialize");
    let stage = Stage::start(&[]).await;
    stage.write("server.yaml", &fixture.manifest("server"));
    fixture.sees("initialize", 1).await;

    stage.remove("server.yaml");
    stage.ready_when("no server", |ready| ready["servers"] == json!([])).await;
    gate.cancel();

    eventually("the end of a session", || async { (ended(&fixture).len() == 1).then_some(()) })
        .await;
    assert!(fixture.sessions().is_empty());
}

/// Greets with a session of that name.
fn greet(seen: &Seen, session: &str, hello: &Value) -> Response {
    let mut response = result(seen, hello);
    response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
    response
}

#[tokio::test]
async fn a_session_whose_beginning_fails_is_ended() {
    type Answer = fn(Seen) -> BoxFuture<'static, Response>;
    let greeting = |seen: &Seen| {
        greet(seen, "half-begun", &json!({"protocolVersion": "2025-11-25", "capabilities": {}}))
    };
    let odds: [(&str, &str, Answer); 4] = [
        ("a version of its own", "initialize", |seen| {
            let hello = json!({"protocolVersion": "1999-01-01", "capabilities": {}});
            Box::pin(async move { greet(&seen, "half-begun", &hello) })
        }),
        ("no greeting", "initialize", |seen| {
            Box::pin(async move { greet(&seen, "half-begun", &json!("hello")) })
        }),
        ("no message", "initialize", |_| {
            let mut response = json_reply("<html>");
            response.headers_mut().insert("mcp-session-id", "half-begun".parse().unwrap());
            Box::pin(async move { response })
        }),
        ("initialized is refused", "notifications/initialized", |_| {
            Box::pin(async { reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "") })
        }),
    ];
    for (what, method, odd) in odds {
        let fixture = Fixture::start().await;
        fixture.on("initialize", move |seen| {
            let response = greeting(&seen);
            async { response }
        });
        fixture.on(method, odd);
        let stage = Stage::start(&[fixture.manifest("odd")]).await;

        stage.server_is("odd", "unreachable").await;

        eventually(what, || async { ended(&fixture).pop() }).await;
        assert!(ended(&fixture).iter().all(|session| session == "half-begun"), "{what}");
    }
}

/// Each attempt to connect begins a session, and a server whose list fails is connected to again.
#[tokio::test]
async fn a_server_without_a_list_is_not_left_with_a_session_for_each_attempt() {
    let fixture = Fixture::with_sessions().await;
    fixture.on("tools/list", |seen| async move { result(&seen, &json!("no list")) });
    let _stage = Stage::start(&[fixture.manifest("odd")]).await;

    fixture.sees("initialize", 4).await;

    eventually("the end of the others", || async { (ended(&fixture).len() >= 3).then_some(()) })
        .await;
}

/// A client that begins and cancels again and again does not have the gateway wait for a server
/// without a bound.
#[tokio::test]
async fn only_so_many_sessions_are_waited_for_that_nobody_wants() {
    const WAITED_FOR: usize = 256;
    const BEGUN: usize = WAITED_FOR + 20;
    let fixture = Fixture::with_sessions().await;
    let (_stage, session) = stage(&fixture, "").await;
    let gate = fixture.hold("initialize");
    let begun = AtomicUsize::new(1);

    for id in 0..BEGUN {
        tokio::join!(session.post(call(id, "work", json!({}))), async {
            fixture.sees("initialize", begun.fetch_add(1, Ordering::SeqCst) + 1).await;
            assert_eq!(session.post(cancel(id)).await.status, StatusCode::ACCEPTED);
        });
    }

    eventually("the end of those that are too many", || async {
        (fixture.open() == WAITED_FOR).then_some(())
    })
    .await;
    gate.cancel();
    only_the_gateways_own_is_left(&fixture).await;
    assert_eq!(ended(&fixture).len(), WAITED_FOR);
}
