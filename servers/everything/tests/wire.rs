//! The everything server as clients meet it.

#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

use std::{io, sync::mpsc, time::Duration};

use axum::http::StatusCode;
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use server_everything::{Config, router};
use tokio::time::timeout;

use crate::support::{McpClient, Server, lifecycles, text, tools_call};

/// Far longer than anything here takes; a hang fails instead of blocking.
const DEADLINE: Duration = Duration::from_secs(20);

fn initialize() -> Value {
    let params = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" },
    });
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })
}

fn with_slow_tools() -> Config {
    Config { slow_tools: true, ..Config::default() }
}

#[tokio::test]
async fn clients_of_both_eras_list_and_call_exactly_three_tools() {
    for (name, lifecycle) in lifecycles() {
        let client = McpClient::connect(router(&Config::default()), lifecycle).await;

        let tools = client.peer.list_all_tools().await.unwrap();
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(names, ["add", "echo", "get_time"], "{name}");
        for tool in &tools {
            let hints = tool.annotations.as_ref().unwrap();
            assert_eq!(hints.read_only_hint, Some(true), "{name}: {}", tool.name);
            assert_eq!(hints.open_world_hint, Some(false), "{name}: {}", tool.name);
            assert!(tool.description.is_some(), "{name}: {}", tool.name);
        }

        let echo = client.call("echo", json!({ "message": "grüß dich\n" })).await.unwrap();
        assert_eq!(text(&echo), "grüß dich\n", "{name}");
        let sum = client.call("add", json!({ "a": 2, "b": 3 })).await.unwrap();
        assert_eq!(text(&sum), "5", "{name}");
        let time = client.call("get_time", json!({})).await.unwrap();
        let age = Timestamp::now().duration_since(text(&time).parse().unwrap());
        assert!(age.as_secs() < 60 && !age.is_negative(), "{name}: {}", text(&time));
        assert!(text(&time).ends_with('Z'), "{name}: {}", text(&time));
    }
}

#[tokio::test]
async fn initialize_is_answered_in_plain_json_without_a_session() {
    let server = Server::start(router(&Config::default())).await;

    let reply = server.post(&initialize()).await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(!reply.headers.contains_key("mcp-session-id"));
    let answer = reply.json().await;
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(answer["result"]["serverInfo"]["name"], "server-everything");
}

#[tokio::test]
async fn unknown_tool_is_an_invalid_params_error() {
    let server = Server::start(router(&Config::default())).await;

    for name in ["nope", "slow"] {
        let answer = server.post(&tools_call(name, &json!({}))).await.json().await;

        assert_eq!(answer["error"]["code"], -32602, "{name}: {answer}");
    }
}

#[tokio::test]
async fn wrong_arguments_are_a_result_that_says_what_is_wrong() {
    let server = Server::start(router(&with_slow_tools())).await;

    for (tool, arguments, hint) in [
        ("echo", json!({}), "message"),
        ("add", json!({ "a": 1, "b": "two" }), "expected a JSON number"),
        ("add", json!({ "a": 1.7e308, "b": 1.7e308 }), "too large"),
        ("slow", json!({ "seconds": -1, "steps": 1 }), "0 to 600"),
        ("slow", json!({ "seconds": 1, "steps": 0 }), "0 to 600"),
    ] {
        let answer = server.post(&tools_call(tool, &arguments)).await.json().await;

        assert_eq!(answer["result"]["isError"], true, "{tool} {arguments}: {answer}");
        let message = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(message.contains(hint), "{tool} {arguments}: {message}");
    }
}

#[tokio::test]
async fn only_allowed_hosts_are_served() {
    let hosts = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect();
    for (allowed, host, status) in [
        (vec![], "localhost", StatusCode::OK),
        (vec![], "rebound.example", StatusCode::FORBIDDEN),
        (vec![""], "localhost:1", StatusCode::OK),
        (vec![""], "rebound.example", StatusCode::FORBIDDEN),
        (vec!["everything.tools", " other "], "everything.tools:8000", StatusCode::OK),
        (vec!["everything.tools", " other "], "other", StatusCode::OK),
        (vec!["everything.tools"], "rebound.example", StatusCode::FORBIDDEN),
        (vec!["*"], "rebound.example", StatusCode::OK),
    ] {
        let config = Config { allowed_hosts: hosts(&allowed), ..Config::default() };
        let server = Server::start(router(&config)).await;

        let reply = server.post_to_host(&initialize(), host).await;

        assert_eq!(reply.status, status, "{allowed:?} {host}");
    }
}

#[tokio::test]
async fn health_is_ok() {
    let server = Server::start(router(&Config::default())).await;

    let reply = server.get("/health").await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.json().await, json!({ "status": "ok" }));
}

#[tokio::test]
async fn slow_reports_every_step_to_a_caller_with_a_token() {
    let server = Server::start(router(&with_slow_tools())).await;
    let mut call = tools_call("slow", &json!({ "seconds": 0.02, "steps": 2 }));
    call["params"]["_meta"] = json!({ "progressToken": "p-1" });

    let reply = server.post(&call).await;

    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let stream = reply.text().await;
    let messages: Vec<Value> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let progress: Vec<_> = messages
        .iter()
        .filter(|message| message["params"]["progressToken"] == "p-1")
        .map(|message| message["params"]["progress"].as_f64().unwrap())
        .collect();
    assert_eq!(progress, [0.0, 1.0, 2.0], "{stream}");
    assert_eq!(messages.last().unwrap()["result"]["isError"], false, "{stream}");
}

#[tokio::test]
async fn slow_without_a_token_is_plain_json() {
    let server = Server::start(router(&with_slow_tools())).await;

    let reply = server.post(&tools_call("slow", &json!({ "seconds": 0, "steps": 1 }))).await;

    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.json().await["result"]["isError"], false);
}

#[tokio::test]
async fn slow_stops_when_its_caller_goes_away() {
    let logs = capture_logs();
    let server = Server::start(router(&with_slow_tools())).await;
    let mut call = tools_call("slow", &json!({ "seconds": 600, "steps": 1 }));
    call["params"]["_meta"] = json!({ "progressToken": 7 });

    let mut reply = server.post(&call).await;
    let first = timeout(DEADLINE, reply.body.frame()).await.unwrap();
    assert!(first.is_some_and(|frame| frame.is_ok()), "the stream has begun");
    drop(reply);

    let cancelled = tokio::task::spawn_blocking(move || {
        while let Ok(line) = logs.recv_timeout(DEADLINE) {
            if line.contains("slow call cancelled") {
                return true;
            }
        }
        false
    });
    assert!(cancelled.await.unwrap(), "the tool went on after its caller had gone");
}

/// The lines that the server logs from here on.
fn capture_logs() -> mpsc::Receiver<String> {
    struct Lines(mpsc::Sender<String>);
    impl io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // Nobody reads the log any more once its test is over.
            let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let (sender, receiver) = mpsc::channel();
    tracing_subscriber::fmt().with_writer(move || Lines(sender.clone())).init();
    receiver
}
