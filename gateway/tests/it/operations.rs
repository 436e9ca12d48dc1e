//! What those who run a gateway see of it.

use http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::client::{Session, Sse, call, request, tool_names};
use crate::support::eventually;
use crate::support::fixture::Fixture;
use crate::support::manifests::{key, server};
use crate::support::stage::{ALICE, Demo, Stage, everything};

#[tokio::test]
async fn health_names_the_servers_that_are_connected() {
    let demo = Demo::start().await;
    for name in ["everything", "filesystem", "database"] {
        demo.stage.server_is(name, "connected").await;
    }

    for client in [demo.stage.client(), demo.stage.admin()] {
        let reply = client.get("/health").await;
        let backends = ["database", "everything", "filesystem"];
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.json(), json!({"status": "ok", "backends": backends}));
    }
    demo.servers[1].kill().await;
    Session::open(&demo.stage.alice(), "/mcp").await.call("list_files", json!({})).await;
    demo.stage.server_is("filesystem", "unreachable").await;
    let reply = demo.stage.client().get("/health").await;
    assert_eq!(reply.json(), json!({"status": "ok", "backends": ["database", "everything"]}));
}

#[tokio::test]
async fn readiness_tells_each_server_by_tenant() {
    let demo = Demo::start().await;
    for name in ["everything", "filesystem", "database"] {
        demo.stage.server_is(name, "connected").await;
    }
    let settled = |ready: &serde_json::Value| {
        let servers = ready["servers"].as_array().unwrap();
        ready["status"] == "ready" && servers.iter().all(|server| server["state"] == "connected")
    };
    let ready = demo.stage.ready_when("all servers", settled).await;

    let server = |namespace: &str, name: &str| json!({"namespace": namespace, "name": name, "state": "connected", "tools": 3});
    let servers = [
        server("default", "database"),
        server("default", "everything"),
        server("default", "filesystem"),
        server("tools", "everything"),
    ];
    let all = json!({"status": "ready", "servers": servers, "rejected": [], "conflicts": []});
    assert_eq!(ready, all);
    assert_eq!(demo.stage.client().get("/readyz").await.json(), all);
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let fixture = Fixture::start().await;
    let stage = Stage::start(&[fixture.manifest("counted")]).await;
    let other = Fixture::start().await;
    stage.write("other.yaml", &other.manifest("short-lived"));
    stage.server_is("counted", "connected").await;
    stage.server_is("short-lived", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let listening = session.listen().await;
    let sse = Sse::open(&stage.bob(), "/sse").await;
    for _ in 0..3 {
        session.call("work", json!({})).await;
    }
    stage.client().post("/mcp", call(1, "work", json!({}))).await;

    let labels = |outcome: &str| {
        format!(
            r#"fairway_tool_calls_total{{namespace="default",server="counted",outcome="{outcome}"}}"#
        )
    };
    for (name, value) in [
        (labels("ok").as_str(), 3.0),
        (labels("error").as_str(), 0.0),
        (r#"fairway_upstream_up{namespace="default",server="counted"}"#, 1.0),
        (r#"fairway_tool_call_duration_seconds_count{namespace="default",server="counted"}"#, 3.0),
        ("fairway_streams", 2.0),
        ("fairway_sessions_total", 2.0),
        ("fairway_unauthorized_requests_total", 1.0),
        ("fairway_rejected_manifests", 0.0),
    ] {
        assert_eq!(stage.metric(name).await, Some(value), "{name}");
    }
    assert!(stage.metric("fairway_connections").await.unwrap() >= 3.0);
    let reply = stage.admin().get("/metrics").await;
    let media_type = reply.headers["content-type"].to_str().unwrap();
    assert!(media_type.starts_with("application/openmetrics-text"), "{media_type}");
    assert!(reply.text().ends_with("# EOF\n"));

    drop((listening, sse));
    eventually("the end of both streams", || async {
        (stage.metric("fairway_streams").await == Some(0.0)).then_some(())
    })
    .await;
    stage.remove("other.yaml");
    eventually("the end of its metrics", || async {
        (!stage.metrics().await.contains("short-lived")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_client_port_shows_no_metrics_and_the_admin_port_no_mcp() {
    let stage = Stage::start(&[]).await;
    assert_eq!(stage.alice().get("/metrics").await.status, StatusCode::NOT_FOUND);
    let admin = stage.admin().key(ALICE).post("/mcp", request(1, "ping", json!({}))).await;
    assert_eq!(admin.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn until_the_first_lists_are_there_requests_wait_and_are_not_refused() {
    let everything = everything().await;
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", hanging.local_addr().unwrap());
    let stage =
        Stage::start(&[server("hanging", &url), server("everything", &everything.url())]).await;

    let ready = stage.client().get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()["status"], "starting");
    assert_eq!(stage.client().get("/health").await.status, StatusCode::OK);
    let early = stage.alice().post("/mcp", request(1, "tools/list", json!({}))).await;

    assert_eq!(tool_names(&early.json()), ["add", "echo", "get_time"]);
    assert_eq!(stage.client().get("/readyz").await.status, StatusCode::OK);
    assert_eq!(stage.server_is("hanging", "connecting").await["tools"], json!(null));
}

#[tokio::test]
async fn a_taken_port_and_an_unreadable_directory_are_told() {
    let stage = Stage::start(&[]).await;
    let options = |listen, source: &str| gateway::Options {
        source: gateway::Source::Directories(vec![source.into()]),
        listen,
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        allowed_hosts: Vec::new(),
        state: stage.directory.path().join("state.json"),
        config: None,
        body_memory: gateway::Options::BODY_MEMORY,
        pod: gateway::Pod::default(),
        peers: None,
    };
    let free = "127.0.0.1:0".parse().unwrap();
    let manifests = stage.manifests();

    let taken =
        gateway::Gateway::start(options(stage.address(), manifests.to_str().unwrap())).await;
    assert!(
        matches!(taken, Err(gateway::StartError::Listen(address, _)) if address == stage.address())
    );
    let missing = gateway::Gateway::start(options(free, "/no/such/directory")).await;
    assert!(matches!(missing, Err(gateway::StartError::Source(..))), "{missing:?}");
    // Neither harmed the one that runs.
    stage.write("charlie.yaml", &key("charlie", "charlie-key-000"));
    let client = stage.client().key("charlie-key-000");
    eventually("the key", || async {
        (client.post("/mcp", request(1, "ping", json!({}))).await.status == StatusCode::OK)
            .then_some(())
    })
    .await;
}
