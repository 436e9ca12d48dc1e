//! The filesystem server as clients meet it.

#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

use std::{fs, path::Path};

use axum::http::StatusCode;
use serde_json::json;
use server_filesystem::{Config, Error, router};

use crate::support::{McpClient, Server, lifecycles, text, tools_call};

fn config(root: &Path) -> Config {
    Config { root: root.to_owned(), allowed_hosts: Vec::new() }
}

#[tokio::test]
async fn clients_of_both_eras_list_read_and_write_files() {
    for (name, lifecycle) in lifecycles() {
        let root = tempfile::tempdir().unwrap();
        let client = McpClient::connect(router(&config(root.path())).unwrap(), lifecycle).await;

        let empty = client.call("list_files", json!({})).await.unwrap();
        assert_eq!(text(&empty), "(empty)", "{name}");

        let arguments = json!({ "path": "notes/today.txt", "content": "grüß dich\n" });
        let written = client.call("write_file", arguments).await.unwrap();
        assert_eq!(text(&written), "Wrote to notes/today.txt", "{name}");
        assert_eq!(fs::read_to_string(root.path().join("notes/today.txt")).unwrap(), "grüß dich\n");

        fs::write(root.path().join("a.txt"), "").unwrap();
        let listed = client.call("list_files", json!({ "path": "." })).await.unwrap();
        assert_eq!(text(&listed), "[DIR] notes\na.txt", "{name}");
        let read = client.call("read_file", json!({ "path": "notes/today.txt" })).await.unwrap();
        assert_eq!(text(&read), "grüß dich\n", "{name}");

        let refused = client.call("read_file", json!({ "path": "../x" })).await.unwrap();
        assert_eq!(refused.is_error, Some(true), "{name}");
        assert!(text(&refused).contains("leads outside the root"), "{name}: {}", text(&refused));
    }
}

#[tokio::test]
async fn exactly_three_tools_say_what_they_do() {
    let root = tempfile::tempdir().unwrap();
    let [(_, lifecycle), _] = lifecycles();
    let client = McpClient::connect(router(&config(root.path())).unwrap(), lifecycle).await;

    let tools = client.peer.list_all_tools().await.unwrap();

    let hints = |name: &str| {
        let tool = tools.iter().find(|tool| tool.name == name).unwrap();
        let hints = tool.annotations.as_ref().unwrap();
        (hints.read_only_hint.unwrap(), hints.destructive_hint.unwrap())
    };
    assert_eq!(tools.len(), 3);
    assert_eq!(hints("list_files"), (true, false));
    assert_eq!(hints("read_file"), (true, false));
    assert_eq!(hints("write_file"), (false, true));
    let list = tools.iter().find(|tool| tool.name == "list_files").unwrap();
    assert_eq!(list.input_schema["properties"]["path"]["default"], ".");
}

#[tokio::test]
async fn the_largest_content_fits_however_it_is_escaped() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(router(&config(root.path())).unwrap()).await;
    let write = |content: String| {
        tools_call("write_file", &json!({ "path": "control", "content": content }))
    };

    let fits = server.post(&write("\u{1}".repeat(1 << 20))).await.json().await;
    let over = server.post(&write("x".repeat((1 << 20) + 1))).await.json().await;
    let flood = server.post(&write("\u{1}".repeat(2 << 20))).await;

    assert_eq!(fits["result"]["content"][0]["text"], "Wrote to control", "{fits}");
    assert_eq!(over["result"]["isError"], true, "{over}");
    assert_eq!(flood.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(fs::metadata(root.path().join("control")).unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn unknown_tool_is_an_invalid_params_error() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(router(&config(root.path())).unwrap()).await;

    let answer = server.post(&tools_call("delete_file", &json!({}))).await.json().await;

    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}

#[tokio::test]
async fn answers_are_plain_json_for_allowed_hosts_only() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(router(&config(root.path())).unwrap()).await;
    let call = tools_call("list_files", &json!({}));

    let reply = server.post(&call).await;
    let rebound = server.post_to_host(&call, "rebound.example").await;
    let health = server.get("/health").await;

    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(!reply.headers.contains_key("mcp-session-id"));
    assert_eq!(rebound.status, StatusCode::FORBIDDEN);
    assert_eq!(health.status, StatusCode::OK);
    assert_eq!(health.json().await, json!({ "status": "ok" }));
}

#[test]
fn a_root_that_is_not_there_is_named() {
    let root = tempfile::tempdir().unwrap();

    let error = router(&config(&root.path().join("nowhere"))).unwrap_err();

    assert!(matches!(&error, Error::Root { path, .. } if path.ends_with("nowhere")), "{error}");
}
