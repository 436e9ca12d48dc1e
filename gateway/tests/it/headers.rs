//! What every response says to browsers, and whose pages may use the gateway.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;

use crate::support::client::{Client, Session, call, hello, notification, request};
use crate::support::fixture::Fixture;
use crate::support::guest::Guest;
use crate::support::manifests::server;
use crate::support::stage::{Stage, everything};
use crate::support::{eventually, within_time};

/// 15 s, and a call has 5 s more to be answered as JSON; with room for two busy cores.
const ALIVE: Duration = Duration::from_secs(25);
const APP: &str = "https://app.example.com";

fn assert_safe(headers: &HeaderMap, what: &str) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("strict-transport-security", "max-age=31536000"),
    ] {
        assert_eq!(headers.get(name).map(|v| v.to_str().unwrap()), Some(value), "{what}: {name}");
    }
    let kept = headers["cache-control"].to_str().unwrap();
    assert!(kept.contains("no-store"), "{what}: {kept}");
}

#[tokio::test]
async fn every_response_has_the_headers_that_browsers_heed() {
    let stage = Stage::start(&[]).await;
    let alice = stage.alice();
    let session = Session::open(&alice, "/mcp").await;
    let large = "x".repeat(5 << 20);

    for (client, method, path, body) in [
        (stage.client(), Method::GET, "/health", String::new()),
        (stage.client(), Method::GET, "/readyz", String::new()),
        (stage.client(), Method::GET, "/nowhere", String::new()),
        (stage.client(), Method::PUT, "/mcp", String::new()),
        (stage.client(), Method::POST, "/mcp", request(1, "ping", json!({}))),
        (alice.clone(), Method::POST, "/mcp", request(1, "initialize", hello())),
        (alice.clone(), Method::POST, "/mcp", request(1, "tools/list", json!({}))),
        (alice.clone(), Method::POST, "/mcp", notification("x", json!({}))),
        (alice.clone(), Method::POST, "/mcp", "{".to_owned()),
        (alice.clone(), Method::POST, "/mcp", large),
        (alice.clone().with("accept", "text/html"), Method::POST, "/mcp", String::new()),
        (alice.clone().with("content-type", "text/html"), Method::POST, "/mcp", String::new()),
        (alice.clone().with("origin", "https://evil.test"), Method::POST, "/mcp", String::new()),
        (alice.clone(), Method::GET, "/mcp", String::new()),
        (session.client.clone(), Method::GET, "/mcp", String::new()),
        (alice.clone(), Method::GET, "/sse", String::new()),
        (session.client.clone(), Method::DELETE, "/mcp", String::new()),
        (stage.admin(), Method::GET, "/metrics", String::new()),
    ] {
        let what = format!("{method} {path} {body:.20}");
        let response = client.send(method, path, body).await;
        assert_safe(response.headers(), &format!("{what} {}", response.status()));
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{what}");
    }
}

fn write(path: &Path, text: &str) {
    let aside = path.with_extension("new");
    fs::write(&aside, text).unwrap();
    fs::rename(aside, path).unwrap();
}

async fn configured(text: &str) -> Stage {
    let everything = everything().await;
    let mut stage = Stage::empty();
    stage.write(
        "alice.yaml",
        &crate::support::manifests::key("alice", crate::support::stage::ALICE),
    );
    stage.write("server.yaml", &server("everything", &everything.url()));
    let config = stage.directory.path().join("config.yaml");
    write(&config, text);
    stage.config = Some(config);
    stage.open().await;
    stage
}

async fn preflight(
    client: &Client,
    path: &str,
    origin: &str,
) -> http::Response<hyper::body::Incoming> {
    let client =
        client.clone().with("origin", origin).with("access-control-request-method", "POST");
    client.send(Method::OPTIONS, path, String::new()).await
}

async fn allowed(client: &Client, origin: &str) -> Option<String> {
    let client = client.clone().with("origin", origin);
    let reply = client.post("/mcp", request(1, "ping", json!({}))).await;
    let allowed = reply.headers.get("access-control-allow-origin");
    assert_eq!(allowed.is_some(), reply.status == StatusCode::OK, "{reply:?}");
    allowed.map(|origin| origin.to_str().unwrap().to_owned())
}

/// Every kind of stream shows that it lives, so that nothing on the way closes it.
#[tokio::test]
async fn streams_are_held_back_by_nobody_and_show_that_they_live() {
    let fixture = Fixture::start().await;
    fixture.on("tools/call", |_| std::future::pending());
    let stage = Stage::start(&[fixture.manifest("silent")]).await;
    stage.server_is("silent", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut guest = Guest::new(&stage.alice(), "/mcp");
    // It means nothing any more.
    guest.client = guest.client.with("last-event-id", "1");
    let filter = json!({"notifications": {"toolsListChanged": true}});

    let get = session.client.send(Method::GET, "/mcp", String::new()).await;
    let sse = stage.alice().send(Method::GET, "/sse", String::new()).await;
    let listen = guest.send("l", "subscriptions/listen", filter).await;
    // No answer in time for a head of JSON.
    let call = session.send(call(1, "work", json!({}))).await;

    let streams = [("GET", get), ("HTTP+SSE", sse), ("listen", listen), ("POST", call)];
    join_all(streams.map(|(what, response)| async move {
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/event-stream", "{what}");
        assert_eq!(headers["cache-control"], "no-store, no-transform", "{what}");
        assert_eq!(headers["x-accel-buffering"], "no", "{what}");
        let (mut body, mut text) = (response.into_body(), String::new());
        within_time(what, ALIVE, async {
            while !text.contains(": keep-alive\n\n") {
                let frame = body.frame().await.unwrap().unwrap();
                text.push_str(str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
        })
        .await;
        // What can be resumed is the GET stream alone.
        let has_id = text.lines().any(|line| line.starts_with("id:"));
        assert_eq!(has_id, what == "GET", "{what}: {text}");
    }))
    .await;
}

#[tokio::test]
async fn pages_of_configured_origins_may_use_the_gateway_and_no_others() {
    let config = "publicUrl: https://mcp.example.com\ncors: {origins: ['https://app.example.com']}";
    let stage = configured(config).await;
    let alice = stage.alice();

    // A browser asks without a key.
    for path in ["/mcp", "/mcp/everything", "/sse", "/messages/", "/t/default/mcp"] {
        let response = preflight(&stage.client(), path, APP).await;
        let headers = response.headers();
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{path}");
        assert_eq!(headers["access-control-allow-origin"], APP);
        assert_eq!(headers["access-control-allow-methods"], "GET, POST, DELETE");
        assert_eq!(headers["vary"], "Origin");
        let names = headers["access-control-allow-headers"].to_str().unwrap();
        for name in ["authorization", "content-type", "mcp-session-id", "mcp-protocol-version"] {
            assert!(names.split(", ").any(|known| known == name), "{name}");
        }
        assert_safe(headers, path);
    }
    for (path, origin, status) in [
        ("/mcp", "https://evil.test", StatusCode::FORBIDDEN),
        ("/mcp", "https://app.example.com.evil.test", StatusCode::FORBIDDEN),
        ("/mcp", "http://app.example.com", StatusCode::FORBIDDEN),
        ("/mcp", "null", StatusCode::FORBIDDEN),
        ("/nowhere", APP, StatusCode::NOT_FOUND),
    ] {
        let response = preflight(&stage.client(), path, origin).await;
        assert_eq!(response.status(), status, "{path} {origin}");
        assert!(!response.headers().contains_key("access-control-allow-methods"));
    }

    assert_eq!(allowed(&alice, APP).await.as_deref(), Some(APP));
    assert_eq!(allowed(&alice, "https://evil.test").await, None);
    let client = alice.clone().with("origin", APP);
    let reply = client.post("/mcp", request(1, "initialize", hello())).await;
    let exposed = reply.headers["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("mcp-session-id"), "{exposed}");
    // A page may read why it is refused, too, and a stream.
    let refused = stage.client().with("origin", APP).post("/mcp", "").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers["access-control-allow-origin"], APP);
    let stream = client.send(Method::GET, "/sse", String::new()).await;
    assert_eq!(stream.headers()["access-control-allow-origin"], APP);
    // Its own pages need no leave; who is no browser is told that answers differ.
    let own = alice.clone().with("origin", "https://mcp.example.com");
    assert_eq!(own.post("/mcp", request(1, "ping", json!({}))).await.status, StatusCode::OK);
    let plain = alice.post("/mcp", request(1, "ping", json!({}))).await;
    assert_eq!(plain.headers["vary"], "Origin");
    assert!(!plain.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn the_file_is_read_again_and_a_broken_one_leaves_the_last_good() {
    let stage = configured("cors: {origins: ['https://app.example.com']}").await;
    let (alice, file) = (stage.alice(), stage.config.clone().unwrap());
    let problem = |ready: &serde_json::Value| ready["config"].as_str().map(str::to_owned);

    for (broken, reason) in [
        ("cors: {origins: ['*']}", "cors.origins.0: * is not accepted"),
        ("cors: {origin: []}", "unknown field cors.origin"),
        ("publicUrl: [", "line"),
    ] {
        write(&file, broken);
        let shown =
            |ready: &serde_json::Value| problem(ready).is_some_and(|text| text.contains(reason));
        stage.ready_when(reason, shown).await;
        assert_eq!(allowed(&alice, APP).await.as_deref(), Some(APP), "{broken}");
    }
    fs::remove_file(&file).unwrap();
    let gone =
        |ready: &serde_json::Value| problem(ready).is_some_and(|text| text.contains("be read"));
    stage.ready_when("a missing file", gone).await;
    assert_eq!(allowed(&alice, APP).await.as_deref(), Some(APP));

    write(&file, "cors: {origins: ['https://other.example.com']}");
    stage.ready_when("the mended file", |ready| problem(ready).is_none()).await;
    assert_eq!(allowed(&alice, APP).await, None);
    assert!(allowed(&alice, "https://other.example.com").await.is_some());

    // As a Secret is mounted: a link that is swapped.
    let root = stage.directory.path();
    for (folder, origin) in [("1", "https://one.test"), ("2", "https://two.test")] {
        fs::create_dir(root.join(folder)).unwrap();
        let text = format!("cors: {{origins: ['{origin}']}}");
        fs::write(root.join(folder).join("config.yaml"), text).unwrap();
        let link = root.join("..data.new");
        std::os::unix::fs::symlink(root.join(folder), &link).unwrap();
        fs::rename(&link, root.join("..data")).unwrap();
        if folder == "1" {
            fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink(root.join("..data/config.yaml"), &file).unwrap();
        }
        eventually(origin, || async { allowed(&alice, origin).await }).await;
    }
}

#[tokio::test]
async fn a_gateway_does_not_start_with_a_broken_file() {
    let stage = Stage::start(&[]).await;
    for (text, reason) in
        [(Some("cors: {origins: ['*']}"), "cors.origins.0"), (None, "cannot read")]
    {
        let config = stage.directory.path().join("config.yaml");
        if let Some(text) = text {
            write(&config, text);
        } else {
            fs::remove_file(&config).unwrap();
        }
        let options = gateway::Options {
            source: gateway::Source::Directories(vec![stage.manifests()]),
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            allowed_hosts: Vec::new(),
            state: stage.directory.path().join("state.json"),
            config: Some(config),
            body_memory: gateway::Options::BODY_MEMORY,
            pod: gateway::Pod::default(),
            peers: None,
        };
        let Err(error) = gateway::Gateway::start(options).await else { panic!("{reason}") };
        assert!(error.to_string().contains(reason), "{error}");
    }
}
