//! Clients: which URL leads where, and who may pass.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use gateway_core::{Namespace, Principal, Scope, ServerName};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::authn::{Authenticator, Source};
use crate::inflight::InFlight;
use crate::session::{Sealer, Tombstones};
use crate::table::Table;
use crate::telemetry::Telemetry;

mod answer;
mod dispatch;
mod events;
mod health;
mod origin;
pub(crate) mod reply;
mod sse;
mod streamable;

pub(crate) use health::admin_router;
pub(crate) use sse::Streams;

/// Largest request body.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What serves clients.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) table: Arc<Table>,
    pub(crate) authenticator: Authenticator,
    pub(crate) sealer: Sealer,
    pub(crate) tombstones: Tombstones,
    pub(crate) calls: Arc<InFlight>,
    pub(crate) streams: Streams,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Cancelled when the gateway stops: streams end once no call is open on them.
    pub(crate) stop: tokio_util::sync::CancellationToken,
}

/// Where a URL leads.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// `/t/{namespace}/…`
    tenant: Option<Namespace>,
    /// `/mcp` or `/mcp/{server}`
    scope: Scope,
}

impl Target {
    fn of(parts: &Parts) -> Self {
        let path = parts.uri.path();
        let (tenant, rest) = match path.strip_prefix("/t/").and_then(|rest| rest.split_once('/')) {
            Some((tenant, rest)) => (Some(Namespace::new(tenant)), rest),
            None => (None, path.trim_start_matches('/')),
        };
        let scope = match rest.strip_prefix("mcp/") {
            Some("" | "sse" | "messages" | "messages/") | None => Scope::All,
            Some(server) => Scope::Server(ServerName::new(server)),
        };
        Self { tenant, scope }
    }
}

/// Everything clients may ask for.
pub(crate) fn router(downstream: Arc<Downstream>) -> Router {
    let streamable = || post(streamable::post).get(streamable::get).delete(streamable::delete);
    let mut router = Router::new()
        .route("/health", get(health::health))
        .route("/readyz", get(health::readiness))
        .route("/sse", get(sse::open))
        .route("/messages", post(sse::post))
        .route("/messages/", post(sse::post));
    for prefix in ["", "/t/{namespace}"] {
        router = router
            .route(&format!("{prefix}/mcp"), streamable())
            .route(&format!("{prefix}/mcp/sse"), get(sse::open))
            .route(&format!("{prefix}/mcp/messages"), post(sse::post))
            .route(&format!("{prefix}/mcp/messages/"), post(sse::post))
            .route(&format!("{prefix}/mcp/{{server}}"), streamable());
    }
    router
        .fallback(async || reply::error(StatusCode::NOT_FOUND, "no such path"))
        .method_not_allowed_fallback(async || {
            reply::error(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
        })
        .layer(axum::middleware::map_response(reply::harden))
        .with_state(downstream)
}

type App = State<Arc<Downstream>>;

impl Downstream {
    /// Checks what comes before any body: the table, the origin, the key.
    async fn admit(&self, parts: &Parts, target: &Target) -> Result<(Principal, Source), Response> {
        self.admit_unkeyed(parts).await?;
        self.authenticator.authenticate(parts, target.tenant.as_ref()).map_err(|error| {
            self.telemetry.unauthorized.inc();
            reply::unauthorized(&error.to_string())
        })
    }

    async fn admit_unkeyed(&self, parts: &Parts) -> Result<(), Response> {
        if !self.table.completed().await {
            return Err(reply::not_ready());
        }
        origin::check(&parts.headers)
            .map_err(|message| reply::error(StatusCode::FORBIDDEN, message))
    }
}

/// Reads a body of JSON.
async fn read_body(parts: &Parts, body: Body) -> Result<Bytes, Response> {
    let json = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    if !json {
        let message = "send the message as JSON, with Content-Type: application/json";
        return Err(reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    let read = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(reply::error(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(reply::error(StatusCode::REQUEST_TIMEOUT, "the body took over 30 s")),
    }
}

fn too_large() -> Response {
    let message = format!("the body is larger than the limit of {} MiB", MAX_BODY >> 20);
    reply::error(StatusCode::PAYLOAD_TOO_LARGE, &message)
}

fn split(request: Request<Body>) -> (Parts, Body, Target) {
    let (parts, body) = request.into_parts();
    let target = Target::of(&parts);
    (parts, body, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_tenant_and_server() {
        for (path, tenant, server) in [
            ("/mcp", None, None),
            ("/mcp/git", None, Some("git")),
            ("/mcp/sse", None, None),
            ("/mcp/messages/", None, None),
            ("/sse", None, None),
            ("/messages/", None, None),
            ("/t/team/mcp", Some("team"), None),
            ("/t/team/mcp/git", Some("team"), Some("git")),
            ("/t/team/mcp/sse", Some("team"), None),
        ] {
            let (parts, ()) = Request::builder().uri(path).body(()).unwrap().into_parts();

            let target = Target::of(&parts);

            assert_eq!(target.tenant.as_ref().map(Namespace::as_str), tenant, "{path}");
            let expected = server.map_or(Scope::All, |name| Scope::Server(ServerName::new(name)));
            assert_eq!(target.scope, expected, "{path}");
        }
    }
}
