//! Clients: which URL leads where, and who may pass.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_core::{Namespace, Principal, Scope, ServerName};
use http::request::Parts;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::authn::{Authenticator, Source};
use crate::inflight::InFlight;
use crate::session::{Sealer, SessionId, Tombstones};
use crate::source::Contact;
use crate::table::Table;
use crate::telemetry::Telemetry;
use crate::upstream::ClientKey;

mod answer;
pub(crate) mod body;
mod dispatch;
mod events;
pub(crate) mod health;
mod origin;
pub(crate) mod reply;
mod spool;
mod sse;
mod streamable;

use health::Status;
pub(crate) use reply::Response;
pub(crate) use sse::Streams;

/// Largest request body.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// How long, and how much of, a body that is refused is read past.
const LINGER: Duration = Duration::from_secs(5);
const MAX_PAST: usize = 64 * 1024 * 1024;
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
    /// Names, besides loopback ones, by which a gateway on a loopback address may be called.
    pub(crate) allowed_hosts: Vec<String>,
    /// What health and readiness show to everybody.
    pub(crate) show: Status,
    pub(crate) contact: Arc<Contact>,
    /// Cancelled when the gateway stops: streams end once no call is open on them.
    pub(crate) stop: tokio_util::sync::CancellationToken,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Streamable,
    SseStream,
    SseMessages,
    Health,
    Readiness,
}

/// Where a URL leads.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    endpoint: Endpoint,
    /// `/t/{namespace}/…`
    tenant: Option<Namespace>,
    /// `/mcp` or `/mcp/{server}`
    scope: Scope,
}

impl Target {
    /// `None` for a path that leads nowhere. A table of ten paths, each a comparison: a router
    /// would cost more than what it routes to.
    fn of(path: &str) -> Option<Self> {
        let (tenant, rest) = match path.strip_prefix("/t/") {
            Some(rest) => {
                let (tenant, rest) = rest.split_once('/')?;
                (Some(Namespace::new(tenant)), rest)
            }
            None => (None, path.strip_prefix('/')?),
        };
        let (endpoint, server) = match (rest, rest.strip_prefix("mcp/")) {
            ("mcp", _) => (Endpoint::Streamable, None),
            (_, Some("sse")) => (Endpoint::SseStream, None),
            (_, Some("messages" | "messages/")) => (Endpoint::SseMessages, None),
            (_, Some(server)) if !server.is_empty() && !server.contains('/') => {
                (Endpoint::Streamable, Some(server))
            }
            ("sse", None) if tenant.is_none() => (Endpoint::SseStream, None),
            ("messages" | "messages/", None) if tenant.is_none() => (Endpoint::SseMessages, None),
            ("health", None) if tenant.is_none() => (Endpoint::Health, None),
            ("readyz", None) if tenant.is_none() => (Endpoint::Readiness, None),
            _ => return None,
        };
        let scope = server.map_or(Scope::All, |server| Scope::Server(ServerName::new(server)));
        Some(Self { endpoint, tenant, scope })
    }
}

/// A request and where it leads.
pub(crate) struct Arrival {
    parts: Parts,
    body: Incoming,
    target: Target,
    /// Whether the client reached us on a loopback address.
    local: bool,
}

/// Answers a client.
pub(crate) async fn serve(
    app: Arc<Downstream>,
    request: Request<Incoming>,
    local: bool,
) -> Response {
    let (parts, body) = request.into_parts();
    let Some(target) = Target::of(parts.uri.path()) else {
        return reply::error(StatusCode::NOT_FOUND, "no such path");
    };
    let endpoint = target.endpoint;
    let arrival = Arrival { parts, body, target, local };
    match (endpoint, &arrival.parts.method) {
        (Endpoint::Streamable, &Method::POST) => streamable::post(app, arrival).await,
        (Endpoint::Streamable, &Method::GET) => streamable::get(app, arrival).await,
        (Endpoint::Streamable, &Method::DELETE) => streamable::delete(app, arrival).await,
        (Endpoint::SseStream, &Method::GET) => sse::open(app, arrival).await,
        (Endpoint::SseMessages, &Method::POST) => sse::post(app, arrival).await,
        (Endpoint::Health, &Method::GET) => health::health(&app.table, app.show),
        (Endpoint::Readiness, &Method::GET) => {
            health::readiness(&app.table, &app.contact, app.show)
        }
        _ => reply::error(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method"),
    }
}

impl Downstream {
    /// Checks what comes before any body: the table, the origin, the key.
    async fn admit(&self, arrival: &Arrival) -> Result<(Principal, Source), Response> {
        self.admit_unkeyed(arrival).await?;
        let tenant = arrival.target.tenant.as_ref();
        self.authenticator.authenticate(&arrival.parts, tenant).map_err(|error| {
            self.telemetry.unauthorized.inc();
            reply::unauthorized(&error.to_string())
        })
    }

    /// Closes what servers keep for a session that ended.
    fn close_legs(&self, principal: &Principal, session: SessionId) {
        let client = ClientKey::new(principal, Some(session));
        for upstream in self.table.load().upstreams.values() {
            upstream.forget(&client);
        }
    }

    async fn admit_unkeyed(&self, arrival: &Arrival) -> Result<(), Response> {
        if !self.table.completed().await {
            return Err(reply::not_ready());
        }
        origin::check(&arrival.parts.headers, arrival.local, &self.allowed_hosts)
            .map_err(|message| reply::error(StatusCode::FORBIDDEN, message))
    }
}

/// Reads a body of JSON.
async fn read_body(parts: &Parts, mut body: Incoming) -> Result<Bytes, Response> {
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
    let read = match announced {
        Some(length) if length > MAX_BODY => Ok(None),
        _ => timeout(BODY_TIMEOUT, collect(&mut body)).await,
    };
    match read {
        Ok(Some(Ok(body))) => Ok(body),
        Ok(Some(Err(_))) => Err(reply::error(StatusCode::BAD_REQUEST, "the body broke off")),
        Ok(None) => {
            tokio::spawn(timeout(LINGER, read_past(body)));
            Err(too_large())
        }
        Err(_) => Err(reply::error(StatusCode::REQUEST_TIMEOUT, "the body took over 30 s")),
    }
}

/// A body; `None` if it is too large. One that comes in one piece is not copied.
async fn collect(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => return Some(Err(error)),
        };
        if first.len() + more.len() + data.len() > MAX_BODY {
            return None;
        }
        if first.is_empty() {
            first = data;
        } else {
            more.extend_from_slice(&data);
        }
    }
    if more.is_empty() {
        return Some(Ok(first));
    }
    let mut whole = BytesMut::with_capacity(first.len() + more.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&more);
    Some(Ok(whole.freeze()))
}

/// Reads the rest of a body that is refused: a connection that is closed on a client which is still
/// sending takes the answer with it.
async fn read_past(mut body: Incoming) {
    let mut left = MAX_PAST;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}

fn too_large() -> Response {
    let message = format!("the body is larger than the limit of {} MiB", MAX_BODY >> 20);
    reply::error(StatusCode::PAYLOAD_TOO_LARGE, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_tenant_and_server() {
        for (path, expected) in [
            ("/mcp", Some((Endpoint::Streamable, None, None))),
            ("/mcp/git", Some((Endpoint::Streamable, None, Some("git")))),
            ("/mcp/sse", Some((Endpoint::SseStream, None, None))),
            ("/mcp/messages/", Some((Endpoint::SseMessages, None, None))),
            ("/sse", Some((Endpoint::SseStream, None, None))),
            ("/messages/", Some((Endpoint::SseMessages, None, None))),
            ("/t/team/mcp", Some((Endpoint::Streamable, Some("team"), None))),
            ("/t/team/mcp/git", Some((Endpoint::Streamable, Some("team"), Some("git")))),
            ("/t/team/mcp/sse", Some((Endpoint::SseStream, Some("team"), None))),
            ("/health", Some((Endpoint::Health, None, None))),
            ("/t/team/health", None),
            ("/t/team", None),
            ("/mcp/", None),
            ("/mcp/git/x", None),
            ("/.well-known/oauth-protected-resource/mcp", None),
            ("/", None),
        ] {
            let found = Target::of(path);

            let found = found.as_ref().map(|target| {
                let server = match &target.scope {
                    Scope::All => None,
                    Scope::Server(name) => Some(name.as_str()),
                };
                (target.endpoint, target.tenant.as_ref().map(Namespace::as_str), server)
            });
            assert_eq!(found, expected, "{path}");
        }
    }
}
