//! Sessions with servers: whose they are, how they end, and how they begin anew.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, StreamExt};
use http::{Method, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::client::{Session, Sse, call, cancel, fault, text};
use crate::support::fixture::{
    Fixture, Part, Seen, body, done_text, event, event_stream, part, reply,
};
use crate::support::stage::Stage;
use crate::support::{eventually, within_time};

/// What waits for no server.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn stateful() -> (Fixture, Stage) {
    let fixture = Fixture::with_sessions().await;
    let stage = Stage::start(&[fixture.manifest("stateful")]).await;
    stage.server_is("stateful", "connected").await;
    (fixture, stage)
}

fn sessions_of(calls: &[Seen]) -> Vec<String> {
    calls.iter().map(|seen| seen.session().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn no_two_sessions_and_no_two_principals_share_a_leg() {
    let (fixture, stage) = stateful().await;
    let (alice, bob) = (stage.alice(), stage.bob());
    let first = Session::open(&alice, "/mcp").await;
    let second = Session::open(&alice, "/mcp").await;
    let third = Session::open(&bob, "/mcp").await;

    for _ in 0..3 {
        for session in [&first, &second, &third] {
            assert_eq!(text(&session.call("work", json!({})).await), "done");
        }
        for client in [&alice, &bob] {
            let reply = client.post("/mcp", call(1, "work", json!({}))).await;
            assert_eq!(text(&reply.json()), "done");
        }
    }

    let calls = sessions_of(&fixture.seen_of("tools/call"));
    let distinct: BTreeSet<_> = calls.iter().collect();
    // Three sessions, and one leg each for what alice and bob asked without a session.
    assert_eq!(distinct.len(), 5, "{calls:?}");
    for (at, session) in calls.iter().enumerate() {
        assert_eq!(session, &calls[at % 5], "{calls:?}");
    }
    // Lists are asked for on a leg that makes no calls.
    for list in fixture.seen_of("tools/list") {
        assert!(!calls.contains(&list.session().unwrap().to_owned()));
    }
    assert_eq!(fixture.seen_of("initialize").len(), 6);
}

#[tokio::test]
async fn a_leg_says_hello_and_which_version_it_speaks() {
    let (fixture, stage) = stateful().await;
    Session::open(&stage.alice(), "/mcp").await.call("work", json!({})).await;

    for hello in fixture.seen_of("initialize") {
        let params = &hello.message["params"];
        assert_eq!(params["protocolVersion"], "2025-11-25");
        // Nothing is offered that nobody can answer.
        assert_eq!(params["capabilities"], json!({}));
        assert!(hello.session().is_none());
    }
    assert_eq!(fixture.seen_of("notifications/initialized").len(), 2);
    for seen in fixture.seen_of("tools/call") {
        assert_eq!(seen.headers["mcp-protocol-version"], "2025-11-25");
        assert_eq!(seen.headers["accept"], "application/json, text/event-stream");
        assert_eq!(seen.headers["content-type"], "application/json");
    }
}

/// Many servers answer to one name only.
#[tokio::test]
async fn a_server_is_called_by_the_name_that_its_manifest_says() {
    let fixture = Fixture::with_sessions().await.announcing();
    let manifest = fixture.manifest_with("named", "hostHeader: git.example:8443");
    let stage = Stage::start(&[manifest]).await;
    stage.server_is("named", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    session.call("work", json!({})).await;
    session.delete().await;
    eventually("all kinds of requests", || async {
        let methods: BTreeSet<_> = fixture.seen().into_iter().map(|s| s.http.to_string()).collect();
        (methods.len() == 3).then_some(())
    })
    .await;

    for seen in fixture.seen() {
        assert_eq!(seen.headers["host"], "git.example:8443", "{} {}", seen.http, seen.method());
    }
}

#[tokio::test]
async fn the_end_of_a_session_is_the_end_of_its_leg() {
    let (fixture, stage) = stateful().await;
    let first = Session::open(&stage.alice(), "/mcp").await;
    let second = Session::open(&stage.alice(), "/mcp").await;
    first.call("work", json!({})).await;
    second.call("work", json!({})).await;
    let calls = sessions_of(&fixture.seen_of("tools/call"));

    assert_eq!(first.delete().await, StatusCode::NO_CONTENT);

    let deleted = eventually("the end of the leg", || async {
        fixture.seen().into_iter().find(|seen| seen.http == Method::DELETE)
    })
    .await;
    assert_eq!(deleted.session(), Some(&*calls[0]));
    // An id of its own, which tells nothing of the server's.
    let own = first.client.headers["mcp-session-id"].to_str().unwrap();
    assert!(!own.contains(&calls[0]), "{own}");
    assert!(fixture.sessions().contains(&calls[1]));
    assert_eq!(text(&second.call("work", json!({})).await), "done");
}

#[tokio::test]
async fn a_server_that_goes_has_its_legs_closed() {
    let fixture = Fixture::with_sessions().await;
    let stage = Stage::start(&[]).await;
    stage.write("server.yaml", &fixture.manifest("server"));
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    session.call("work", json!({})).await;
    assert_eq!(fixture.sessions().len(), 2);

    stage.remove("server.yaml");

    eventually("the end of both legs", || async { fixture.sessions().is_empty().then_some(()) })
        .await;
}

/// A server of a new version at another address: new calls go there at once, and the old one has
/// each leg closed when its last call is over.
#[tokio::test]
async fn a_server_that_moves_drains() {
    let (old, stage) = stateful().await;
    let new = Fixture::with_sessions().await;
    let (busy, idle) =
        (Session::open(&stage.alice(), "/mcp").await, Session::open(&stage.alice(), "/mcp").await);
    assert_eq!(text(&idle.call("work", json!({})).await), "done");
    let idle_leg = busy_leg(&old, 1).await;
    let gate = old.hold("tools/call");

    let (answer, leg) = tokio::join!(busy.call("work", json!({})), async {
        let leg = busy_leg(&old, 2).await;
        stage.write("rest.yaml", &new.manifest("stateful"));
        is_deleted(&old, &idle_leg).await;
        assert_eq!(text(&idle.call("work", json!({})).await), "done");
        // The session that has a call at the old one begins another at the new one.
        assert_eq!(text(&busy.call("work", json!({})).await), "done");
        assert_eq!(new.seen_of("tools/call").len(), 2);
        assert!(old.sessions().contains(&leg), "a leg ended under its call");
        gate.cancel();
        leg
    });

    assert_eq!(text(&answer), "done");
    is_deleted(&old, &leg).await;
    assert!(old.sessions().is_empty());
    assert_eq!(old.seen_of("tools/call").len(), 2);
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_begun_anew_and_the_call_sent_again() {
    let error = r#""error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}"#;
    for (status, body) in [
        (StatusCode::NOT_FOUND, "no session".to_owned()),
        (StatusCode::NOT_FOUND, format!(r#"{{"jsonrpc":"2.0","id":null,{error}}}"#)),
        // What the reference servers say.
        (StatusCode::BAD_REQUEST, format!(r#"{{"jsonrpc":"2.0",{error},"id":null}}"#)),
        (StatusCode::BAD_REQUEST, format!(r#"{{"jsonrpc":"2.0","id":"server-error",{error}}}"#)),
        (StatusCode::BAD_REQUEST, format!(r#"{{"jsonrpc":"2.0","id":$id,{error}}}"#)),
        (StatusCode::NOT_FOUND, format!(r#"{{"jsonrpc":"2.0","id":$id,{error}}}"#)),
        (StatusCode::BAD_REQUEST, "Session not found".to_owned()),
    ] {
        let (fixture, stage) = stateful().await;
        let session = Session::open(&stage.alice(), "/mcp").await;
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        let begun = fixture.seen_of("initialize").len();
        fixture.forget_sessions(status, &body);

        // All who wait get the same new session.
        let answers = join_all((0..5).map(|_| session.call("work", json!({})))).await;

        for answer in answers {
            assert_eq!(text(&answer), "done", "{status} {body}");
        }
        let mut calls = sessions_of(&fixture.seen_of("tools/call"));
        calls.retain(|session| fixture.sessions().contains(session));
        assert_eq!(calls.len(), 5, "{status} {body}");
        assert_eq!(calls.into_iter().collect::<BTreeSet<_>>().len(), 1, "{status} {body}");
        // One for the calls, and perhaps one for lists.
        assert!(fixture.seen_of("initialize").len() <= begun + 2, "{status} {body}");
    }
}

#[tokio::test]
async fn a_server_that_always_forgets_is_asked_twice_only() {
    let (fixture, stage) = stateful().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    fixture.on("tools/call", |_| async { reply(StatusCode::NOT_FOUND, "text/plain", "no") });

    let answer = session.call("work", json!({})).await;

    assert!(fault(&answer).contains("\"stateful\" lost the session"), "{answer}");
    assert_eq!(fixture.seen_of("tools/call").len(), 2);
}

#[tokio::test]
async fn sessions_outlive_a_restart_of_a_server_that_keeps_some() {
    let (mut fixture, stage) = stateful().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let other = Session::open(&stage.bob(), "/mcp").await;
    for session in [&session, &other] {
        assert_eq!(text(&session.call("work", json!({})).await), "done");
    }

    fixture.kill().await;
    fault(&session.call("work", json!({})).await);
    fixture.revive().await;
    stage.server_is("stateful", "connected").await;

    for session in [&session, &other] {
        assert_eq!(text(&session.call("work", json!({})).await), "done");
    }
}

#[tokio::test]
async fn a_manifest_may_say_that_legs_are_shared_or_are_not() {
    for (fixture, mode, legs) in
        [(Fixture::with_sessions().await, "Shared", 1), (Fixture::start().await, "PerClient", 3)]
    {
        let stage =
            Stage::start(&[fixture.manifest_with("server", &format!("session: {mode}"))]).await;
        stage.server_is("server", "connected").await;
        let client = stage.alice();
        for session in [Session::open(&client, "/mcp").await, Session::open(&client, "/mcp").await]
        {
            assert_eq!(text(&session.call("work", json!({})).await), "done", "{mode}");
        }
        assert_eq!(fixture.seen_of("initialize").len(), legs, "{mode}");
    }
}

#[tokio::test]
async fn requests_of_the_server_on_its_stream_are_answered() {
    let fixture = Fixture::with_sessions().await.announcing();
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    for (method, member) in [("ping", "result"), ("roots/list", "error")] {
        let asked = json!({"jsonrpc": "2.0", "id": method, "method": method});
        eventually("a listener", || async { fixture.announce(&asked).then_some(()) }).await;
        let answer = eventually(method, || async {
            fixture.seen().into_iter().find(|seen| seen.id() == method && seen.method().is_empty())
        })
        .await;
        assert!(answer.message.get(member).is_some(), "{:?}", answer.message);
    }
}

#[tokio::test]
async fn a_get_that_is_odd_keeps_no_tools_away() {
    type Odd = fn() -> BoxFuture<'static, Response>;
    let odds: [Odd; 4] = [
        || Box::pin(std::future::pending()),
        || Box::pin(async { reply(StatusCode::OK, "text/html", "<html>") }),
        || Box::pin(async { reply(StatusCode::OK, "application/json", "{}") }),
        || Box::pin(async { reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "") }),
    ];
    for odd in odds {
        let fixture = Fixture::start().await;
        fixture.on("", move |_| odd());
        let stage = Stage::start(&[fixture.manifest("odd")]).await;
        stage.server_is("odd", "connected").await;
        let session = Session::open(&stage.alice(), "/mcp").await;
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        assert_eq!(fixture.seen_of("tools/list").len(), 1, "it is listed again and again");
    }
}

#[tokio::test]
async fn a_stream_whose_head_comes_late_is_heard_and_not_waited_for() {
    let (fixture, stage) = stateful().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut events = session.listen().await;
    let gate = CancellationToken::new();
    let held = gate.clone();
    fixture.on("", move |seen| {
        let (held, said) = (held.clone(), json!({"jsonrpc": "2.0", "method": "notifications/x"}));
        async move {
            if seen.http != Method::GET {
                return reply(StatusCode::ACCEPTED, "text/plain", "");
            }
            held.cancelled().await;
            event_stream(body(vec![part(event(&said.to_string())), Part::Hang]))
        }
    });

    let answer = within_time("the first call", AT_ONCE, session.call("work", json!({}))).await;

    assert_eq!(text(&answer), "done");
    gate.cancel();
    events.message("notifications/x").await;
}

#[tokio::test]
async fn a_leg_that_opens_while_its_session_is_deleted_is_closed_after_its_call() {
    let (fixture, stage) = stateful().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let begun = fixture.seen_of("initialize").len();
    let gate = fixture.hold("initialize");

    let (answer, ()) = tokio::join!(session.call("work", json!({})), async {
        fixture.sees("initialize", begun + 1).await;
        assert_eq!(session.delete().await, StatusCode::NO_CONTENT);
        gate.cancel();
    });

    assert_eq!(text(&answer), "done");
    let leg = busy_leg(&fixture, 1).await;
    is_deleted(&fixture, &leg).await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_its_leg_opens_is_never_made() {
    let (fixture, stage) = stateful().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut sse = Sse::open(&stage.bob(), "/sse").await;
    let begun = fixture.seen_of("initialize").len();
    let gate = fixture.hold("initialize");
    let asked = call("c", "work", json!({"cancelled": true}));

    let (reply, ()) = within_time("the end of a cancelled call", AT_ONCE, async {
        tokio::join!(session.post(&asked), async {
            fixture.sees("initialize", begun + 1).await;
            assert_eq!(session.post(cancel("c")).await.status, StatusCode::ACCEPTED);
        })
    })
    .await;
    assert_eq!(reply.json()["error"]["code"], -32800, "{reply:?}");
    assert_eq!(sse.post(&asked).await.status, StatusCode::ACCEPTED);
    fixture.sees("initialize", begun + 2).await;
    assert_eq!(sse.post(cancel("c")).await.status, StatusCode::ACCEPTED);
    eventually("the end of both calls", || async {
        let cancelled =
            r#"fairway_tool_calls_total{namespace="default",server="stateful",outcome="cancelled"}"#;
        (stage.metric(cancelled).await == Some(2.0)).then_some(())
    })
    .await;
    // The id is free, while the server still says nothing.
    let again = call("c", "work", json!({"cancelled": false}));
    assert_eq!(sse.post(&again).await.status, StatusCode::ACCEPTED);

    gate.cancel();

    assert_eq!(text(&sse.events.answer(&"c".into()).await), "done");
    assert!(sse.events.passed.is_empty(), "{:?}", sse.events.passed);
    assert_eq!(text(&session.post(&again).await.json()), "done");
    let calls = fixture.seen_of("tools/call");
    let cancelled = |seen: &Seen| seen.message["params"]["arguments"]["cancelled"] == true;
    assert!(calls.len() == 2 && !calls.iter().any(cancelled), "{calls:?}");
}

/// The leg of a call that is under way.
async fn busy_leg(fixture: &Fixture, calls: usize) -> String {
    fixture.sees("tools/call", calls).await[calls - 1].session().unwrap().to_owned()
}

async fn is_deleted(fixture: &Fixture, leg: &str) {
    eventually("the end of a leg", || async {
        let ended = |seen: &Seen| seen.http == Method::DELETE && seen.session() == Some(leg);
        fixture.seen().iter().any(ended).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_leg_ends_after_the_calls_on_it_when_its_session_is_deleted() {
    let (fixture, stage) = stateful().await;
    let (busy, idle) =
        (Session::open(&stage.alice(), "/mcp").await, Session::open(&stage.alice(), "/mcp").await);
    assert_eq!(text(&idle.call("work", json!({})).await), "done");
    let idle_leg = busy_leg(&fixture, 1).await;
    let gate = fixture.hold("tools/call");

    let (answer, leg) = tokio::join!(busy.call("work", json!({})), async {
        let leg = busy_leg(&fixture, 2).await;
        assert_eq!(busy.delete().await, StatusCode::NO_CONTENT);
        // The other one went later and has no call: a leg that waited for none is gone by then.
        assert_eq!(idle.delete().await, StatusCode::NO_CONTENT);
        is_deleted(&fixture, &idle_leg).await;
        assert!(fixture.sessions().contains(&leg), "a leg ended under its call");
        gate.cancel();
        leg
    });

    assert_eq!(text(&answer), "done");
    is_deleted(&fixture, &leg).await;
}

#[tokio::test]
async fn a_call_whose_client_left_is_finished_before_its_leg_ends() {
    let (fixture, stage) = stateful().await;
    let busy = Sse::open(&stage.alice(), "/sse").await;
    let mut idle = Sse::open(&stage.alice(), "/sse").await;
    assert_eq!(text(&idle.call("work", json!({})).await), "done");
    let idle_leg = busy_leg(&fixture, 1).await;
    let (gate, read) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let (held, ended) = (gate.clone(), read.clone());
    fixture.on("tools/call", move |seen| {
        let (held, ended) = (held.clone(), ended.clone());
        let answer = event(&done_text(&seen.id()));
        // What comes after the answer is asked for only by who has read it.
        let rest = stream::once(async move {
            held.cancelled().await;
            Ok::<_, io::Error>(answer)
        })
        .chain(stream::once(async move {
            ended.store(true, Ordering::SeqCst);
            Ok(Bytes::from_static(b": end\n\n"))
        }));
        async { event_stream(Body::from_stream(rest)) }
    });

    assert_eq!(busy.post(call(1, "work", json!({}))).await.status, StatusCode::ACCEPTED);
    let leg = busy_leg(&fixture, 2).await;
    drop(busy);
    let gone =
        r#"fairway_tool_calls_total{namespace="default",server="stateful",outcome="client_gone"}"#;
    eventually("the client gone", || async {
        (stage.metric(gone).await == Some(1.0)).then_some(())
    })
    .await;
    drop(idle);
    is_deleted(&fixture, &idle_leg).await;
    assert!(fixture.sessions().contains(&leg), "a leg ended under its call");
    assert!(!read.load(Ordering::SeqCst));
    gate.cancel();

    is_deleted(&fixture, &leg).await;
    assert!(read.load(Ordering::SeqCst), "the answer was not read");
    assert!(fixture.seen_of("notifications/cancelled").is_empty());
}
