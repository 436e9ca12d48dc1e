//! Sessions with servers that ended are begun once more, for all who need one, and requests are
//! sent again only where that is safe.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;

use crate::features::everything;
use crate::support::client::{Session, fault, text};
use crate::support::fixture::{Fixture, Part, body, json_reply, replayable, tool};
use crate::support::legacy::Legacy;
use crate::support::stage::Stage;

#[tokio::test]
async fn twenty_calls_that_find_the_session_gone_begin_one_new_one() {
    let error =
        r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"No valid session"},"id":null}"#;
    for (status, lost) in [(StatusCode::NOT_FOUND, "gone"), (StatusCode::BAD_REQUEST, error)] {
        let server = Fixture::with_sessions().await;
        server.introduces(everything("server"));
        server.list("prompts", vec![json!({"name": "ask"})]);
        let stage = Stage::start(&[server.manifest("server")]).await;
        stage.server_is("server", "connected").await;
        let session = Session::open(&stage.alice(), "/mcp").await;
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        let begun = server.seen_of("initialize").len();
        server.forget_sessions(status, lost);

        let calls = join_all((0..20).map(|_| session.call("work", json!({}))));
        let prompts =
            join_all((0..5).map(|_| session.request("prompts/get", json!({"name": "ask"}))));
        let (answers, prompts) = tokio::join!(calls, prompts);

        for answer in answers {
            assert_eq!(text(&answer), "done", "{status}");
        }
        for answer in prompts {
            assert!(answer["result"]["messages"].is_array(), "{status}: {answer}");
        }
        let known = server.sessions();
        let mut made = server.seen_of("tools/call");
        made.retain(|seen| known.contains(seen.session().unwrap()));
        assert_eq!(made.len(), 20, "{status}");
        let legs: BTreeSet<_> = made.iter().map(|seen| seen.session().unwrap()).collect();
        assert_eq!(legs.len(), 1, "{status}");
        // One for the calls, and perhaps one for lists.
        assert!(server.seen_of("initialize").len() <= begun + 2, "{status}");
    }
}

#[tokio::test]
async fn twenty_calls_that_find_the_stream_ended_open_one_new_one() {
    let server = Legacy::start().await;
    let stage = Stage::start(&[server.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    let begun = server.seen_of("initialize").len();

    server.end_streams();
    let answers = join_all((0..20).map(|_| session.call("work", json!({})))).await;

    // A call may have been written before the end was seen: it is not made twice.
    let done = answers.iter().filter(|answer| answer.get("result").is_some()).count();
    for answer in answers.iter().filter(|answer| answer.get("error").is_some()) {
        assert!(fault(answer).contains("\"server\""), "{answer}");
    }
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    assert_eq!(server.seen_of("tools/call").len(), done + 2);
    assert!(server.seen_of("initialize").len() <= begun + 2);
}

#[tokio::test]
async fn what_changes_nothing_is_asked_again_and_what_may_is_not() {
    let server = Fixture::start().await;
    server.introduces(everything("server"));
    server.offer_definitions(vec![replayable("read"), tool("write")]);
    server.list("prompts", vec![json!({"name": "ask"})]);
    server.list("resources", vec![json!({"uri": "a:b", "name": "a"})]);
    let manifest = server.manifest_with("server", "circuitBreaker: {failures: 0}");
    let stage = Stage::start(&[manifest]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let methods =
        ["tools/call", "prompts/get", "resources/read", "completion/complete", "vendor/do"];
    for method in methods {
        server.on(method, |_| async { json_reply(body(vec![Part::Break])) });
    }
    let reference = json!({"type": "ref/prompt", "name": "ask"});
    let one = Session::open(&stage.alice(), "/mcp/server").await;

    for (session, method, params, times) in [
        (&session, "tools/call", json!({"name": "read"}), 2),
        (&session, "tools/call", json!({"name": "write"}), 1),
        (&session, "prompts/get", json!({"name": "ask"}), 2),
        (&session, "resources/read", json!({"uri": "a:b"}), 2),
        (
            &session,
            "completion/complete",
            json!({"ref": reference, "argument": {"name": "a", "value": ""}}),
            2,
        ),
        (&one, "vendor/do", json!({}), 1),
    ] {
        let before = server.seen_of(method).len();
        let answer = session.request(method, params.clone()).await;
        assert!(fault(&answer).contains("\"server\" closed the connection"), "{answer}");
        assert_eq!(server.seen_of(method).len(), before + times, "{method} {params}");
    }
}
