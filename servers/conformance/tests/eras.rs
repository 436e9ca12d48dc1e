//! A server of one era and requests of the other.

#![allow(clippy::panic, clippy::unwrap_used)]
#![allow(dead_code, reason = "each test binary uses its part of the support")]

mod support;

use axum::http::StatusCode;
use serde_json::{Value, json};
use server_conformance::Era;

use crate::support::Server;

fn initialize(version: &str) -> Value {
    let params = json!({
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" },
    });
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })
}

/// A request of the modern era, and the headers that go with it.
fn modern(method: &str) -> (Value, [(&str, &str); 2]) {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let message =
        json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "_meta": meta } });
    (message, [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)])
}

fn list() -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })
}

#[tokio::test]
async fn a_legacy_server_refuses_modern_requests_as_one_that_does_not_know_them() {
    let server = Server::start(Era::Legacy).await;
    for method in ["server/discover", "tools/list"] {
        let (message, headers) = modern(method);

        let reply = server.post(&message, &headers).await;

        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{method}");
        assert_eq!(reply.code(), Some(-32000), "{method}: {}", reply.text);
        assert!(reply.text.contains("2025-11-25"), "{method}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_legacy_server_knows_no_method_of_the_modern_era_in_a_session_either() {
    let server = Server::start(Era::Legacy).await;
    let begun = server.post(&initialize("2026-07-28"), &[]).await;
    assert_eq!(begun.message()["result"]["protocolVersion"], "2025-11-25");
    assert!(begun.message()["result"]["capabilities"].get("extensions").is_none());
    let session = begun.headers["mcp-session-id"].to_str().unwrap();

    for method in ["server/discover", "subscriptions/listen", "tasks/get"] {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": {} });
        let reply = server.post(&message, &[("mcp-session-id", session)]).await;

        assert_eq!(reply.code(), Some(-32601), "{method}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_legacy_server_wants_a_session() {
    let server = Server::start(Era::Legacy).await;

    let without = server.post(&list(), &[]).await;
    let unknown = server.post(&list(), &[("mcp-session-id", "gone")]).await;

    assert_eq!(without.status, StatusCode::BAD_REQUEST);
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_modern_server_refuses_initialize_and_names_what_it_speaks() {
    let server = Server::start(Era::Modern).await;

    let reply = server.post(&initialize("2025-11-25"), &[]).await;

    assert_eq!(reply.code(), Some(-32022), "{}", reply.text);
    assert_eq!(reply.message()["error"]["data"]["supported"], json!(["2026-07-28"]));
    assert!(!reply.headers.contains_key("mcp-session-id"));
}

#[tokio::test]
async fn a_modern_server_refuses_requests_that_do_not_carry_their_revision() {
    let server = Server::start(Era::Modern).await;

    let bare = server.post(&list(), &[]).await;
    let legacy = server.post(&list(), &[("mcp-protocol-version", "2025-11-25")]).await;
    let stream = server.get("/mcp").await;

    assert_eq!((bare.status, bare.code()), (StatusCode::BAD_REQUEST, Some(-32020)));
    assert_eq!((legacy.status, legacy.code()), (StatusCode::BAD_REQUEST, Some(-32602)));
    assert_eq!(stream.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_dual_server_serves_both() {
    let server = Server::start(Era::Dual).await;
    let (message, headers) = modern("server/discover");

    let begun = server.post(&initialize("2025-06-18"), &[]).await;
    let discovered = server.post(&message, &headers).await;

    assert_eq!(begun.message()["result"]["protocolVersion"], "2025-06-18");
    let versions = discovered.message()["result"]["supportedVersions"].clone();
    assert!(versions.as_array().unwrap().contains(&json!("2026-07-28")), "{versions}");
}

#[tokio::test]
async fn only_loopback_names_are_served_by_default() {
    for era in [Era::Dual, Era::Legacy, Era::Modern] {
        let server = Server::start(era).await;

        let host = server.post(&initialize("2025-11-25"), &[("host", "evil.example")]).await;
        let origin =
            server.post(&initialize("2025-11-25"), &[("origin", "http://evil.example")]).await;
        let health = server.get("/health").await;

        assert_eq!(host.status, StatusCode::FORBIDDEN, "{era:?}");
        assert_eq!(origin.status, StatusCode::FORBIDDEN, "{era:?}");
        assert_eq!((health.status, &*health.text), (StatusCode::OK, r#"{"status":"ok"}"#));
    }
}
