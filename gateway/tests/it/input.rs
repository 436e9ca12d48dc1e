//! What clients should not send, and what they are told.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::client::{Session, Sse, call, hello, notification, request, text};
use crate::support::fixture::Fixture;
use crate::support::manifests::{key_with, policy, server};
use crate::support::raw::Raw;
use crate::support::stage::{ALICE, Stage, everything};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn what_is_no_message_is_told_as_json_rpc_says() {
    let stage = Stage::start(&[]).await;
    let sse = Sse::open(&stage.alice(), "/sse").await;
    let one = request(1, "ping", json!({}));

    for (body, code, id) in [
        ("{", -32700, Value::Null),
        ("", -32700, Value::Null),
        ("\u{fffd}", -32700, Value::Null),
        (&*format!("{one}{one}"), -32700, Value::Null),
        ("{}", -32600, Value::Null),
        ("[]", -32600, Value::Null),
        ("1", -32600, Value::Null),
        (&*format!("[{one},{one}]"), -32600, Value::Null),
        (r#"{"jsonrpc":"1.0","id":"a","method":"ping"}"#, -32600, json!("a")),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600, json!(1)),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, -32600, Value::Null),
        (&*format!(r#"{{"request":[{one}]}}"#), -32600, Value::Null),
    ] {
        for path in ["/mcp", &sse.endpoint] {
            let reply = stage.alice().post(path, body).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}: {reply:?}");
            let answer = reply.json();
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{body}");
        }
    }
    let batch = stage.alice().post("/mcp", format!("[{one}]")).await.json();
    assert!(batch["error"]["message"].as_str().unwrap().contains("batches"), "{batch}");
}

#[tokio::test]
async fn a_depth_bomb_is_refused_and_deep_text_is_not() {
    let everything = everything().await;
    let stage = Stage::start(&[server("everything", &everything.url())]).await;
    let bomb = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));

    for body in [
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{bomb}}}}}"#),
        format!(r#"{{"version":1,"request":{bomb}}}"#),
        format!(r#"{{"a":{}"#, "[".repeat(1_000_000)),
    ] {
        let reply = stage.alice().post("/mcp", body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("64 levels"), "{message}");
    }
    let deep = "[{".repeat(1000);
    let answer = stage.alice().post("/mcp", call(1, "echo", json!({"message": deep}))).await;
    assert_eq!(text(&answer.json()), deep);
}

#[tokio::test]
async fn unknown_and_forbidden_tools_are_one_answer() {
    let fixture = Fixture::start().await;
    fixture.offer(&["secret", "work"]);
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.write("charlie.yaml", &key_with("charlie", "charlie-key-000", ""));
    stage.write("policy.yaml", &policy("charlie", &["tools: [work]"]));
    let client = stage.client().key("charlie-key-000");
    crate::support::eventually("the key", || async {
        (client.get("/mcp").await.status != StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    let session = Session::open(&client, "/mcp").await;
    let one = Session::open(&client, "/mcp/server").await;
    let mut sse = Sse::open(&client, "/sse").await;

    let ask = |tool: &str| call(1, tool, json!({"a": 1}));
    let masked = |text: &str, tool: &str| text.replace(tool, "TOOL");
    for session in [&session, &one] {
        let forbidden = session.post(ask("secret")).await;
        let unknown = session.post(ask("nothing")).await;
        assert_eq!(forbidden.status, StatusCode::OK);
        assert_eq!(forbidden.json()["error"]["code"], -32602, "{forbidden:?}");
        assert_eq!(masked(forbidden.text(), "secret"), masked(unknown.text(), "nothing"));
    }
    let forbidden = sse.call("secret", json!({})).await;
    let unknown = sse.call("nothing", json!({})).await;
    assert_eq!(
        masked(&forbidden["error"].to_string(), "secret"),
        masked(&unknown["error"].to_string(), "nothing")
    );
    assert!(fixture.seen_of("tools/call").is_empty());
    assert_eq!(session.tools().await, ["work"]);
}

#[tokio::test]
async fn keys_that_others_may_read_otherwise_are_refused() {
    let fixture = Fixture::start().await;
    fixture.offer(&["add", "write_file"]);
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;
    let head = r#""jsonrpc":"2.0","id":1"#;
    let params = r#"{"name":"add","arguments":{}}"#;

    for (message, code) in [
        (r#""method":"tools/call","params":{"name":"add","Name":"write_file"}"#, -32602),
        (r#""method":"tools/call","params":{"NAME":"write_file","name":"add"}"#, -32602),
        (r#""method":"tools/call","params":{"Name":"write_file"}"#, -32602),
        (r#""method":"tools/call","params":{"name":"add","name":"write_file"}"#, -32602),
        (r#""method":"tools/call","params":{"name":"add","n\u0061me":"write_file"}"#, -32602),
        (r#""method":"tools/call","params":{"name":"add","arguments":{},"Arguments":{}}"#, -32602),
        (&format!(r#""method":"ping","Method":"tools/call","params":{params}"#), -32600),
        (&format!(r#""method":"ping","method":"tools/call","params":{params}"#), -32600),
        (&format!(r#""method":"tools/call","params":{params},"Params":{params}"#), -32600),
        (&format!(r#""method":"tools/call","params":{params},"ID":2"#), -32600),
    ] {
        let body = format!("{{{head},{message}}}");
        for body in [body.clone(), format!(r#"{{"request":{body}}}"#)] {
            let told = session.post(&body).await.json();
            assert_eq!(told["error"]["code"], code, "{body}: {told}");
            let told = stage.alice().post("/mcp", &body).await.json();
            assert_eq!(told["error"]["code"], code, "{body}: {told}");
        }
        let posted = sse.post(&body).await;
        let told = if posted.status == StatusCode::ACCEPTED {
            sse.events.answer(&1.into()).await
        } else {
            posted.json()
        };
        assert_eq!(told["error"]["code"], code, "{body}: {told}");
    }
    assert!(fixture.seen_of("tools/call").is_empty());
    // What a tool is given is its own affair.
    let own = json!({"path": 1, "Path": 2});
    assert_eq!(text(&session.call("add", own.clone()).await), "done");
    assert_eq!(fixture.seen_of("tools/call")[0].message["params"]["arguments"], own);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_not_found() {
    let fixture = Fixture::start().await;
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    stage.write("charlie.yaml", &key_with("charlie", "charlie-key-000", ""));
    let charlie = stage.client().key("charlie-key-000");
    crate::support::eventually("the key", || async {
        (charlie.get("/mcp").await.status != StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;

    for (client, path, status) in [
        (stage.alice(), "/mcp/server", StatusCode::OK),
        (stage.alice(), "/mcp/nope", StatusCode::NOT_FOUND),
        (stage.alice(), "/t/default/mcp/nope", StatusCode::NOT_FOUND),
        // There, but not for this key.
        (charlie, "/mcp/server", StatusCode::NOT_FOUND),
    ] {
        for (method, params) in [
            ("initialize", hello()),
            ("tools/list", json!({})),
            ("tools/call", json!({"name": "work"})),
        ] {
            let reply = client.post(path, request(1, method, params)).await;
            assert_eq!(reply.status, status, "{path} {method}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_why() {
    let stage = Stage::start(&[]).await;
    let mut sse = Sse::open(&stage.alice(), "/sse").await;

    for (method, params, code) in [
        ("nothing/at_all", json!({}), -32601),
        ("prompts/execute", json!({}), -32601),
        ("tools/call", json!({}), -32602),
        ("tools/call", json!({"name": 7}), -32602),
        ("tools/call", json!([]), -32602),
        ("tools/list", json!({"cursor": "made-up"}), -32602),
        ("tools/list", json!({"cursor": 7}), -32602),
        ("initialize", json!({}), -32602),
        ("initialize", json!({"protocolVersion": 7}), -32602),
    ] {
        let answer = stage.alice().one_shot("/mcp", method, params.clone()).await;
        assert_eq!(answer["error"]["code"], code, "{method} {params}: {answer}");
        let answer = sse.request(method, params.clone()).await;
        assert_eq!(answer["error"]["code"], code, "{method} {params}: {answer}");
    }
    let long = "x".repeat(100_000);
    let answer = stage.alice().one_shot("/mcp", &long, json!({})).await;
    assert!(answer["error"]["message"].as_str().unwrap().len() < 1000);
    let answer = stage.alice().post("/mcp", call(1, &long, json!({}))).await;
    assert!(answer.body.len() < 1000);
}

#[tokio::test]
async fn notifications_and_answers_are_taken_without_a_word() {
    let stage = Stage::start(&[]).await;
    for body in [
        notification("notifications/initialized", json!({})),
        notification("notifications/nothing", json!({})),
        notification("notifications/cancelled", json!({"requestId": 1})),
        notification("notifications/cancelled", json!({})),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(),
    ] {
        let reply = stage.alice().post("/mcp", &body).await;
        assert_eq!((reply.status, reply.body.len()), (StatusCode::ACCEPTED, 0), "{body}");
    }
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_refused_before_it_comes() {
    let stage = Stage::start(&[]).await;
    let sse = Sse::open(&stage.alice(), "/sse").await;
    for path in ["/mcp", &sse.endpoint] {
        let mut raw = Raw::connect(stage.address()).await;
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {ALICE}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            4 * MIB + 1
        ))
        .await;
        let reply = raw.read_until("}").await;
        assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
        assert!(reply.contains("4 MiB"), "{reply}");
    }
}

#[tokio::test]
async fn a_body_in_chunks_is_refused_when_it_becomes_too_large() {
    let stage = Stage::start(&[]).await;
    let mut raw = Raw::connect(stage.address()).await;
    raw.send(format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {ALICE}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ))
    .await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..64 {
        raw.send(&chunk).await;
    }
    raw.send("1\r\n \r\n").await;

    let reply = raw.read_until("}").await;

    assert!(reply.starts_with("HTTP/1.1 413 ") && reply.contains("4 MiB"), "{reply}");
}

#[tokio::test]
async fn a_client_that_sends_too_much_to_its_end_reads_why() {
    let stage = Stage::start(&[]).await;
    let sse = Sse::open(&stage.alice(), "/sse").await;
    let large = call(1, "work", json!({"text": "x".repeat(5 * MIB)}));
    let chunks: String = large
        .as_bytes()
        .chunks(0x10000)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), str::from_utf8(chunk).unwrap()))
        .collect();
    for path in ["/mcp", &sse.endpoint] {
        for (framing, body) in [
            (format!("Content-Length: {}", large.len()), large.clone()),
            ("Transfer-Encoding: chunked".to_owned(), format!("{chunks}0\r\n\r\n")),
        ] {
            let mut raw = Raw::connect(stage.address()).await;
            raw.send(format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {ALICE}\r\n\
                 Content-Type: application/json\r\n{framing}\r\n\r\n{body}"
            ))
            .await;
            let reply = raw.read_until("}").await;
            assert!(reply.starts_with("HTTP/1.1 413 "), "{framing}: {reply}");
            assert!(reply.contains("4 MiB"), "{framing}: {reply}");
        }
        let reply = stage.alice().post(path, &large).await;
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE, "{reply:?}");
        assert!(reply.text().contains("4 MiB"), "{reply:?}");
    }
}

#[tokio::test]
async fn a_body_of_just_the_limit_passes() {
    let fixture = Fixture::start().await;
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    let empty = call(1, "work", json!({"text": ""}));
    let full = call(1, "work", json!({"text": "x".repeat(4 * MIB - empty.len())}));
    assert_eq!(full.len(), 4 * MIB);

    let reply = stage.alice().post("/mcp", &full).await;

    assert_eq!(text(&reply.json()), "done");
    assert_eq!(fixture.seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn content_type_accept_and_version_are_checked() {
    let stage = Stage::start(&[]).await;
    let ping = || request(1, "ping", json!({}));

    for (header, value, status) in [
        ("content-type", Some("application/json; charset=utf-8"), StatusCode::OK),
        ("content-type", Some("APPLICATION/JSON"), StatusCode::OK),
        ("content-type", Some("text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("content-type", None, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("accept", None, StatusCode::OK),
        ("accept", Some("*/*"), StatusCode::OK),
        ("accept", Some("application/json"), StatusCode::OK),
        ("accept", Some("application/json;q=0.9, text/event-stream"), StatusCode::OK),
        ("accept", Some("text/event-stream"), StatusCode::NOT_ACCEPTABLE),
        ("accept", Some("text/html"), StatusCode::NOT_ACCEPTABLE),
        ("mcp-protocol-version", Some("2025-06-18"), StatusCode::OK),
        ("mcp-protocol-version", Some("1999-01-01"), StatusCode::BAD_REQUEST),
    ] {
        let client = match value {
            Some(value) => stage.alice().with(header, value),
            None => stage.alice().without(header),
        };
        let reply = client.post("/mcp", ping()).await;
        assert_eq!(reply.status, status, "{header}: {value:?}: {reply:?}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let stage = Stage::start(&[]).await;
    let sse = Sse::open(&stage.alice(), "/sse").await;
    for (origin, accepted) in [
        ("http://localhost:6274", true),
        ("http://127.0.0.1:6274", true),
        ("https://evil.example", false),
        ("http://localhost.evil.example", false),
        ("null", false),
    ] {
        let client = stage.alice().with("origin", origin);
        let ping = request(1, "ping", json!({}));
        for (method, path) in [
            (Method::POST, "/mcp"),
            (Method::GET, "/mcp"),
            (Method::DELETE, "/mcp"),
            (Method::GET, "/sse"),
            (Method::POST, &sse.endpoint),
        ] {
            let status = client.send(method.clone(), path, ping.clone()).await.status();
            let refused = status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !accepted, "{origin} {method} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn unknown_paths_are_not_found_with_or_without_a_key() {
    let stage = Stage::start(&[]).await;
    for path in ["/", "/mcp/a/b", "/.well-known/oauth-protected-resource", "/metrics", "/t/x"] {
        for client in [stage.client(), stage.alice()] {
            assert_eq!(client.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
    let reply = stage.client().get("/health").await;
    assert_eq!(reply.headers["x-content-type-options"], "nosniff");
}
