//! Metrics of the operator, and the port that serves them with its health.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    kind: &'static str,
    reason: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Telemetry {
    registry: Registry,
    reconciles: Family<KindLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    /// 1 while this replica leads.
    pub(crate) leading: Gauge,
    /// Gateways that are ready.
    pub(crate) gateways: Gauge,
    /// Entries whose resource is gone and that are not deleted without leave.
    pub(crate) withheld: Gauge,
}

impl Telemetry {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = <Registry>::with_prefix("fairway_operator");
        let reconciles = Family::default();
        let failures = Family::default();
        // 1 ms to 16 s: from nothing to do to the longest call of an apiserver.
        let durations: Family<KindLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15)));
        let (leading, gateways, withheld) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("reconciles", "Reconciles by kind", reconciles.clone());
        registry.register(
            "reconcile_failures",
            "Reconciles that have to be tried again, by kind and reason",
            failures.clone(),
        );
        registry.register("reconcile_duration_seconds", "Time of a reconcile", durations.clone());
        registry.register("leading", "Whether this replica leads", leading.clone());
        registry.register("gateways_ready", "Gateways that are ready", gateways.clone());
        registry.register(
            "orphans_withheld",
            "Entries without a resource that are too many to be deleted without leave",
            withheld.clone(),
        );
        Arc::new(Self { registry, reconciles, failures, durations, leading, gateways, withheld })
    }

    pub(crate) fn reconciled(&self, kind: &'static str, seconds: f64) {
        self.reconciles.get_or_create_owned(&KindLabels { kind }).inc();
        self.durations.get_or_create_owned(&KindLabels { kind }).observe(seconds);
    }

    pub(crate) fn failed(&self, kind: &'static str, reason: &'static str) {
        self.failures.get_or_create_owned(&FailureLabels { kind, reason }).inc();
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[derive(Clone)]
struct Admin {
    telemetry: Arc<Telemetry>,
    /// True once everything was listed: a standby is ready too.
    ready: watch::Receiver<bool>,
}

/// Serves health and metrics until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    telemetry: Arc<Telemetry>,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(Admin { telemetry, ready });
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin port is no longer served");
    }
}

async fn readiness(State(admin): State<Admin>) -> impl IntoResponse {
    if *admin.ready.borrow() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not everything is listed yet")
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], admin.telemetry.text())
}
