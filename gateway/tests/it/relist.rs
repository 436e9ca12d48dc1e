//! Tools whose servers want other arguments as headers than they said.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::client::{Session, request, text};
use crate::support::fixture::{Fixture, Seen, body, done, event, event_stream, part, reply};
use crate::support::guest::Guest;
use crate::support::stage::Stage;

fn wanting(header: &str) -> Value {
    let city = json!({"type": "string", "x-mcp-header": header});
    json!({"name": "work", "inputSchema": {"type": "object", "properties": {"city": city}}})
}

fn mismatch(seen: &Seen) -> String {
    let error = json!({"code": -32020, "message": "Mcp-Param-Town is missing"});
    json!({"jsonrpc": "2.0", "id": seen.id(), "error": error}).to_string()
}

/// A server that wants `Town` since it was listed, where it said `City`.
async fn changed() -> (Fixture, Stage) {
    let server = Fixture::modern().await;
    server.offer_definitions(vec![wanting("City")]);
    let stage = Stage::start(&[server.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    server.offer_definitions(vec![wanting("Town")]);
    server.on("tools/call", |seen| async move {
        if seen.headers.contains_key("mcp-param-town") {
            done(&seen)
        } else {
            reply(StatusCode::BAD_REQUEST, "application/json", mismatch(&seen))
        }
    });
    (server, stage)
}

fn city() -> Value {
    json!({"city": "Bern"})
}

#[tokio::test]
async fn a_call_with_the_headers_of_an_old_list_is_sent_once_more_with_those_of_now() {
    for modern in [false, true] {
        let (server, stage) = changed().await;

        let answer = if modern {
            let guest = Guest::new(&stage.alice(), "/mcp");
            let params = json!({"name": "work", "arguments": city()});
            let asked = request(1, "tools/call", guest.params(&params));
            // As the list that this client has says.
            let client = guest.heading("tools/call", &params).with("mcp-param-city", "Bern");
            client.post("/mcp", asked).await.json()
        } else {
            Session::open(&stage.alice(), "/mcp").await.call("work", city()).await
        };

        assert_eq!(text(&answer), "done", "modern: {modern}");
        let calls = server.seen_of("tools/call");
        assert_eq!(calls.len(), 2, "modern: {modern}");
        assert_eq!(calls[0].headers["mcp-param-city"], "Bern");
        assert_eq!(calls[1].headers["mcp-param-town"], "Bern");
        assert!(!calls[1].headers.contains_key("mcp-param-city"));
        assert_eq!(calls[1].message["params"]["arguments"], city());
    }
}

#[tokio::test]
async fn a_server_that_is_never_content_is_asked_twice_only() {
    let (server, stage) = changed().await;
    server.on("tools/call", |seen| async move {
        reply(StatusCode::BAD_REQUEST, "application/json", mismatch(&seen))
    });

    let answer = Session::open(&stage.alice(), "/mcp").await.call("work", city()).await;

    assert_eq!(answer["error"]["code"], -32020, "{answer}");
    assert_eq!(server.seen_of("tools/call").len(), 2);
}

#[tokio::test]
async fn a_tool_that_is_gone_by_the_new_list_is_not_called_again() {
    let (server, stage) = changed().await;
    server.offer(&["other"]);

    let answer = Session::open(&stage.alice(), "/mcp").await.call("work", city()).await;

    assert_eq!(answer["error"]["code"], -32020, "{answer}");
    assert_eq!(server.seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn a_call_of_which_the_client_has_seen_something_is_not_sent_once_more() {
    let (server, stage) = changed().await;
    server.on("tools/call", |seen| async move {
        let said = json!({"jsonrpc": "2.0", "method": "notifications/x"});
        event_stream(body(vec![part(event(&said.to_string())), part(event(&mismatch(&seen)))]))
    });

    let answer = Session::open(&stage.alice(), "/mcp").await.call("work", city()).await;

    assert_eq!(answer["error"]["code"], -32020, "{answer}");
    assert_eq!(server.seen_of("tools/call").len(), 1);
}
