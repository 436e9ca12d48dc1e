//! The admin port: health for all, metrics for those who have the token.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::gateways::Gateways;
use crate::keyring::Keyring;
use crate::telemetry::Telemetry;

/// What the admin port tells of.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) gateways: Arc<Gateways>,
    /// True once everything was listed: a standby is ready too.
    pub(crate) ready: watch::Receiver<bool>,
    /// Has what opens the metrics, as soon as it is read.
    pub(crate) keyring: Arc<OnceLock<Arc<ArcSwap<Keyring>>>>,
}

/// Serves until `stop`.
pub(crate) async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let served = axum::serve(listener, router(admin));
    if let Err(error) = served.with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "the admin port is no longer served");
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn readiness(State(admin): State<Admin>) -> impl IntoResponse {
    if *admin.ready.borrow() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not everything is listed yet")
    }
}

/// Isolation never rests on a NetworkPolicy alone.
async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let keyring = admin.keyring.get().map(|keyring| keyring.load());
    if !may_see_metrics(&headers, keyring.as_ref().map(|keyring| &keyring.metrics)) {
        let realm = [(header::WWW_AUTHENTICATE, "Bearer")];
        let reason = "metrics need the token of the Secret RELEASE-metrics-token";
        return (StatusCode::UNAUTHORIZED, realm, reason).into_response();
    }
    let ready = i64::try_from(admin.gateways.ready()).unwrap_or(i64::MAX);
    admin.telemetry.gateways.set(ready);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], admin.telemetry.text()).into_response()
}

/// Takes as long wherever the first difference is.
fn may_see_metrics(headers: &HeaderMap, token: Option<&String>) -> bool {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, presented)) = text.and_then(|text| text.split_once(' ')) else {
        return false;
    };
    let is = |token: &String| {
        let presented = presented.trim().as_bytes();
        aws_lc_rs::constant_time::verify_slices_are_equal(token.as_bytes(), presented).is_ok()
    };
    scheme.eq_ignore_ascii_case("bearer") && token.is_some_and(is)
}

#[cfg(test)]
mod tests;
