//! How many calls a server has under way, and which are sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::client::{Session, fault, text};
use crate::support::fixture::{Fixture, done, replayable, reply, tool};
use crate::support::manifests::{server, server_with};
use crate::support::stage::{Stage, everything};
use crate::support::{eventually, within_time};

const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_server_gets_so_many_calls_at_once_and_a_bounded_queue() {
    let fixture = Fixture::start().await;
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = tokio_util::sync::CancellationToken::new();
    let (counted, peak, held) = (under_way.clone(), most.clone(), gate.clone());
    fixture.on("tools/call", move |seen| {
        let (under_way, most, held) = (counted.clone(), peak.clone(), held.clone());
        async move {
            most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            held.cancelled().await;
            // So that those of the queue meet.
            sleep(Duration::from_millis(5)).await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            done(&seen)
        }
    });
    let stage = Stage::start(&[fixture.manifest_with("narrow", "maxConcurrency: 2")]).await;
    stage.server_is("narrow", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let busy =
        r#"fairway_upstream_refusals_total{namespace="default",server="narrow",reason="busy"}"#;

    let calls = join_all((0..30).map(|_| session.call("work", json!({}))));
    let (answers, ()) = tokio::join!(calls, async {
        eventually("refusals", || async { (stage.metric(busy).await == Some(12.0)).then_some(()) })
            .await;
        assert_eq!(fixture.seen_of("tools/call").len(), 2);
        // Lists do not stand in the queue.
        within_time("a list", AT_ONCE, session.tools()).await;
        gate.cancel();
    });

    let (done, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.get("result").is_some());
    assert_eq!((done.len(), refused.len()), (18, 12));
    for answer in &refused {
        let message = fault(answer);
        assert!(message.contains("as many calls under way as it takes, which is 2"), "{message}");
        assert!(message.contains("Try again"), "{message}");
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_leaves_the_queue_is_not_called_for() {
    let fixture = Fixture::start().await;
    let gate = fixture.hold("tools/call");
    let stage = Stage::start(&[fixture.manifest_with("narrow", "maxConcurrency: 1")]).await;
    stage.server_is("narrow", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let cancelled =
        r#"fairway_tool_calls_total{namespace="default",server="narrow",outcome="client_gone"}"#;

    let (answer, ()) = tokio::join!(session.call("work", json!({})), async {
        fixture.sees("tools/call", 1).await;
        let leaving = session.with(|client| client.at(client.address));
        let left =
            tokio::time::timeout(Duration::from_millis(200), leaving.call("work", json!({})));
        assert!(left.await.is_err());
        drop(leaving);
        eventually("its end", || async {
            (stage.metric(cancelled).await == Some(1.0)).then_some(())
        })
        .await;
        gate.cancel();
    });

    assert_eq!(text(&answer), "done");
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    assert_eq!(fixture.seen_of("tools/call").len(), 2);
}

#[tokio::test]
async fn another_bound_is_in_force_with_the_next_call() {
    let fixture = Fixture::start().await;
    let gate = fixture.hold("tools/call");
    let stage = Stage::start(&[fixture.manifest_with("narrow", "maxConcurrency: 1")]).await;
    stage.server_is("narrow", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;

    let (answers, ()) =
        tokio::join!(join_all((0..2).map(|_| session.call("work", json!({})))), async {
            fixture.sees("tools/call", 1).await;
            let mut listening = session.listen().await;
            // With something to see, so that there is word of it.
            let tools = "tools: {prefix: \"\", overrides: {work: {description: works}}}";
            stage.write("rest.yaml", &server_with("narrow", &fixture.url(), tools));
            listening.list_changed().await;
            let (third, ()) = tokio::join!(session.call("work", json!({})), async {
                fixture.sees("tools/call", 2).await;
                gate.cancel();
            });
            assert_eq!(text(&third), "done");
        });

    assert!(answers.iter().all(|answer| text(answer) == "done"));
    assert_eq!(fixture.seen_of("initialize").len(), 1);
}

/// Has a tool to read and one to write. Of the calls of each it fails so many with this status.
async fn failing_first(times: usize, status: StatusCode) -> Fixture {
    let fixture = Fixture::start().await;
    fixture.offer_definitions(vec![replayable("read"), tool("write")]);
    let calls = Arc::new(AtomicUsize::new(0));
    fixture.on("tools/call", move |seen| {
        let fails = calls.fetch_add(1, Ordering::SeqCst) < times;
        async move { if fails { reply(status, "text/plain", "later") } else { done(&seen) } }
    });
    fixture
}

async fn session_at(fixture: &Fixture, fields: &str) -> (Stage, Session) {
    let stage = Stage::start(&[fixture.manifest_with("server", fields)]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    (stage, session)
}

#[tokio::test]
async fn only_what_may_be_called_twice_is_sent_again_and_only_so_often() {
    use StatusCode as S;
    for (tool, fails, status, fields, sent, succeeds) in [
        ("read", 1, S::SERVICE_UNAVAILABLE, "", 2, true),
        ("read", 2, S::SERVICE_UNAVAILABLE, "", 2, false),
        ("read", 3, S::BAD_GATEWAY, "retries: {attempts: 3}", 4, true),
        ("read", 1, S::GATEWAY_TIMEOUT, "retries: {attempts: 0}", 1, false),
        // It may say so again for ever.
        ("read", 1, S::INTERNAL_SERVER_ERROR, "", 1, false),
        ("read", 1, S::TOO_MANY_REQUESTS, "", 1, false),
        ("write", 1, S::SERVICE_UNAVAILABLE, "retries: {attempts: 3}", 1, false),
        // After the second failure nothing more is sent.
        (
            "read",
            9,
            S::BAD_GATEWAY,
            "retries: {attempts: 9}\ncircuitBreaker: {failures: 2}",
            2,
            false,
        ),
    ] {
        let fixture = failing_first(fails, status).await;
        let (_stage, session) = session_at(&fixture, fields).await;

        let answer = session.call(tool, json!({})).await;

        let row = format!("{tool} {fails} {status} {fields}: {answer}");
        assert_eq!(answer.get("result").is_some(), succeeds, "{row}");
        assert_eq!(fixture.seen_of("tools/call").len(), sent, "{row}");
    }
}

#[tokio::test]
async fn a_server_in_trouble_does_not_get_twice_the_load() {
    let fixture = failing_first(usize::MAX, StatusCode::SERVICE_UNAVAILABLE).await;
    let fields = "retries: {budgetPercent: 10}\ncircuitBreaker: {failures: 0}";
    let (stage, session) = session_at(&fixture, fields).await;
    let started = Instant::now();

    for _ in 0..5 {
        let answers = join_all((0..20).map(|_| session.call("read", json!({})))).await;
        assert!(answers.iter().all(|answer| fault(answer).contains("HTTP 503")));
    }

    // What a new server has, one of ten calls, and one for each second.
    let most = 10 + 10 + usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    let sent = fixture.seen_of("tools/call").len();
    assert!((101..=100 + most).contains(&sent), "{sent} sent for 100 calls");
    let metric =
        |name: &str| format!(r#"fairway_{name}_total{{namespace="default",server="server"}}"#);
    let again = stage.metric(&metric("upstream_retries")).await.unwrap();
    let refused = stage.metric(&metric("upstream_retries_refused")).await.unwrap();
    assert_eq!((again + refused, again), (100.0, (sent - 100) as f64));
}

#[tokio::test]
async fn a_call_to_read_outlives_the_restart_of_its_server() {
    let mut fixture = Fixture::start().await;
    fixture.offer_definitions(vec![replayable("read"), tool("write")]);
    fixture.hold("tools/call");
    let (_stage, session) = session_at(&fixture, "retries: {attempts: 5}").await;

    let calls = ["read", "write"].map(|tool| session.call(tool, json!({})));
    let (answers, ()) = tokio::join!(join_all(calls), async {
        fixture.sees("tools/call", 2).await;
        fixture.kill().await;
        fixture.behave();
        fixture.revive().await;
    });

    assert_eq!(text(&answers[0]), "done");
    assert!(fault(&answers[1]).contains("closed the connection"), "{}", answers[1]);
}

#[tokio::test]
async fn a_server_that_restarts_in_a_loop_is_its_own_problem() {
    let (everything, mut fixture) = (everything().await, Fixture::with_sessions().await);
    let manifests = [fixture.manifest("looping"), server("everything", &everything.url())];
    let stage = Stage::start(&manifests).await;
    stage.server_is("looping", "connected").await;
    stage.server_is("everything", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let tools = session.tools().await;

    let (mut ends, mut waited) = (0, Duration::ZERO);
    for round in 0..20 {
        fixture.kill().await;
        let (answer, other): (Value, Value) = tokio::join!(
            within_time("an end", AT_ONCE * 2, session.call("work", json!({}))),
            within_time("another server", AT_ONCE, session.call("add", json!({"a": 1, "b": 1}))),
        );
        assert_eq!(text(&other), "2");
        ends += usize::from(answer.get("error").is_some());
        assert_eq!(session.tools().await, tools);
        fixture.revive().await;
        let before = Instant::now();
        // Every other time it is gone before anybody noticed that it came back.
        if round % 2 == 0 {
            stage.server_is("looping", "connected").await;
            let work = within_time("a call", AT_ONCE * 2, session.call("work", json!({})));
            assert_eq!(text(&work.await), "done");
        }
        waited = waited.max(before.elapsed());
    }

    assert!(ends > 0, "nothing failed at a server that was away");
    assert!(waited < Duration::from_secs(5), "{waited:?} until it worked again");
    stage.server_is("looping", "connected").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
}
