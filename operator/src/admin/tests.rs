use axum::body::Body;
use axum::http::Request;
use gateway_core::Kind;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::gateways::Bells;

struct Port {
    admin: Admin,
    ready: watch::Sender<bool>,
}

impl Port {
    fn new() -> Self {
        let (ready, is_ready) = watch::channel(false);
        let admin = Admin {
            telemetry: Telemetry::new(),
            gateways: Arc::new(Gateways::new(Arc::new(Bells::default()))),
            ready: is_ready,
            keyring: Arc::new(OnceLock::new()),
        };
        Self { admin, ready }
    }

    async fn get(&self, path: &str, authorization: Option<&str>) -> (StatusCode, String) {
        let mut request = Request::get(path);
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = router(self.admin.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn health_is_open_and_readiness_tells_whether_everything_is_listed() {
    let port = Port::new();

    assert_eq!(port.get("/health", None).await.0, StatusCode::OK);
    assert_eq!(port.get("/readyz", None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    port.ready.send_replace(true);
    assert_eq!(port.get("/readyz", None).await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_need_the_token() {
    let port = Port::new();
    let denied = StatusCode::UNAUTHORIZED;
    // Not even an empty one before it is known.
    assert_eq!(port.get("/metrics", Some("Bearer ")).await.0, denied);

    port.admin.keyring.set(Keyring::any()).unwrap();
    for (authorization, expected) in [
        (None, denied),
        (Some("Bearer"), denied),
        (Some("Bearer "), denied),
        (Some("Bearer metrics-toke"), denied),
        (Some("Bearer metrics-tokem"), denied),
        (Some("Bearer metrics-token-and-more"), denied),
        (Some("Basic metrics-token"), denied),
        (Some("metrics-token"), denied),
        (Some("Bearer metrics-token"), StatusCode::OK),
        (Some("bearer  metrics-token"), StatusCode::OK),
    ] {
        let (status, body) = port.get("/metrics", authorization).await;
        assert_eq!(status, expected, "{authorization:?}");
        assert_eq!(body.contains("fairway_operator"), status.is_success());
    }
}

#[tokio::test]
async fn metrics_tell_what_was_done() {
    let port = Port::new();
    port.admin.keyring.set(Keyring::any()).unwrap();
    let telemetry = &port.admin.telemetry;
    telemetry.entry_written(Kind::Server);
    telemetry.entry_written(Kind::Server);
    telemetry.entry_deleted(Kind::Key);
    telemetry.watch_failed("Secret");
    telemetry.reconciled(Kind::Policy, 0.1);
    telemetry.failed(Kind::Policy, "conflict");
    telemetry.leading.set(1);
    telemetry.terms.inc();
    port.admin.gateways.set_pod("one", "one", true);

    let (_, text) = port.get("/metrics", Some("Bearer metrics-token")).await;

    for line in [
        "fairway_operator_entries_written_total{kind=\"McpServer\"} 2",
        "fairway_operator_entries_deleted_total{kind=\"McpApiKey\"} 1",
        "fairway_operator_watch_failures_total{kind=\"Secret\"} 1",
        "fairway_operator_reconciles_total{kind=\"McpPolicy\"} 1",
        "fairway_operator_reconcile_failures_total{kind=\"McpPolicy\",reason=\"conflict\"} 1",
        "fairway_operator_leading 1",
        "fairway_operator_terms_total 1",
        "fairway_operator_gateways_ready 1",
        "fairway_operator_orphans_withheld 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
