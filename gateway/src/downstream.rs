//! Clients: which URL leads where, and who may pass.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use gateway_core::{Account, Namespace, Principal, Scope, ServerName};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use tokio::sync::mpsc;

use crate::authn::{Authenticator, Source};
use crate::call::Commons;
use crate::client::Client;
use crate::config::Config;
use crate::home::Home;
use crate::http1::Incoming;
use crate::inflight::InFlight;
use crate::parked::Parked;
use crate::peer::{BodyHash, Fleet};
use crate::session::{SessionId, Tombstones};
use crate::source::Contact;
use crate::telemetry::Telemetry;
use crate::upstream::{ClientKey, Visitor};

mod answer;
mod away;
pub(crate) mod body;
mod capability;
mod cors;
mod dispatch;
mod events;
pub(crate) mod health;
mod list;
mod listen;
mod modern;
mod origin;
mod read;
pub(crate) mod reply;
pub(crate) mod revival;
mod route;
mod spool;
mod sse;
mod streamable;
mod watch;

use cors::Readers;
pub(crate) use events::Outgoing;
use health::Status;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use list::fuzz as fuzz_cursor;
use read::read_body;
pub(crate) use read::read_told;
pub(crate) use reply::Response;
use revival::Turn;
pub(crate) use sse::Streams;

/// What serves clients.
#[derive(Debug, Clone)]
pub(crate) struct Downstream {
    pub(crate) commons: Arc<Commons>,
    pub(crate) authenticator: Authenticator,
    pub(crate) tombstones: Arc<Tombstones>,
    pub(crate) calls: Arc<InFlight>,
    pub(crate) streams: Streams,
    pub(crate) parked: Arc<Parked>,
    pub(crate) fleet: Arc<Fleet>,
    /// Sessions that are to be seen to.
    pub(crate) revivals: mpsc::Sender<Turn>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) config: Arc<Config>,
    /// What the bodies of those take together whose key only another gateway knows.
    pub(crate) unkeyed: Arc<Account>,
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
    came: Came,
}

/// How a request came.
enum Came {
    /// From a client; whether on a loopback address.
    Here { local: bool },
    /// From another gateway, which has admitted it.
    Passed(Passed),
}

/// What another gateway vouches for.
pub(crate) struct Passed {
    /// Nobody where the stream of HTTP+SSE stands for its key.
    pub(crate) principal: Option<Principal>,
    /// Of HTTP+SSE, whose id is in the query.
    pub(crate) session: Option<SessionId>,
    /// As to all: nobody waits for an answer.
    pub(crate) told: bool,
    pub(crate) body: BodyHash,
}

impl Came {
    const fn passed(&self) -> Option<&Passed> {
        match self {
            Self::Here { .. } => None,
            Self::Passed(passed) => Some(passed),
        }
    }
}

/// Answers a client.
///
/// The answer is part of its connection as long as that lasts, busy or idle: it holds nothing twice,
/// as a future does that awaits what it was given.
pub(crate) fn serve(
    app: Arc<Downstream>,
    request: Request<Incoming>,
    local: bool,
) -> impl Future<Output = Response> {
    let (parts, body) = request.into_parts();
    let readers = Readers::of(&app.config.settings(), &parts.headers);
    answer(app, parts, body, Came::Here { local }).map(move |mut response| {
        readers.tell(response.headers_mut());
        response
    })
}

/// Answers a client of another gateway.
pub(crate) fn serve_passed(
    app: Arc<Downstream>,
    parts: Parts,
    body: Incoming,
    passed: Passed,
) -> impl Future<Output = Response> {
    answer(app, parts, body, Came::Passed(passed))
}

fn answer(
    app: Arc<Downstream>,
    parts: Parts,
    body: Incoming,
    came: Came,
) -> impl Future<Output = Response> {
    let target = Target::of(parts.uri.path());
    let arrival = target.map(|target| Box::new(Arrival { parts, body, target, came }));
    async move {
        match arrival {
            Some(arrival) => arrived(app, arrival).await,
            None => reply::error(StatusCode::NOT_FOUND, "no such path"),
        }
    }
}

async fn arrived(app: Arc<Downstream>, arrival: Box<Arrival>) -> Response {
    let Parts { method, headers, .. } = &arrival.parts;
    if cors::is_preflight(method, headers) {
        return cors::preflight(&app.config.settings(), headers);
    }
    // Boxed but for calls: what a connection may ever await is part of it as long as it lasts.
    match (arrival.target.endpoint, method) {
        (Endpoint::Streamable, &Method::POST) => streamable::post(app, arrival).await,
        (Endpoint::Streamable, &Method::GET) => Box::pin(streamable::get(app, arrival)).await,
        (Endpoint::Streamable, &Method::DELETE) => Box::pin(streamable::delete(app, arrival)).await,
        (Endpoint::SseStream, &Method::GET) => Box::pin(sse::open(app, arrival)).await,
        (Endpoint::SseMessages, &Method::POST) => Box::pin(sse::post(app, arrival)).await,
        (Endpoint::Health, &Method::GET) => health::health(&app.commons.table, app.show),
        (Endpoint::Readiness, &Method::GET) => {
            health::readiness(&app.commons.table, &app.contact, &app.config, &app.fleet, app.show)
        }
        _ => reply::error(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method"),
    }
}

impl Downstream {
    /// The same for one worker. What its requests hold is counted by that worker alone: a count that
    /// several write travels between their processors, which takes longer than most of what a request
    /// needs.
    pub(crate) fn for_worker(&self) -> Arc<Self> {
        let commons = Arc::new((*self.commons).clone());
        let calls = Arc::new((*self.calls).clone());
        Arc::new(Self { commons, calls, ..self.clone() })
    }

    /// Checks what comes before any body: the table, the origin, the key.
    async fn admit(&self, arrival: &Arrival) -> Result<(Principal, Source), Response> {
        self.admit_unkeyed(arrival).await?;
        if let Some(passed) = arrival.came.passed() {
            let principal = passed.principal.clone();
            return principal
                .map(|principal| (principal, Source::Header))
                .ok_or_else(|| reply::unauthorized("missing API key"));
        }
        let tenant = arrival.target.tenant.as_ref();
        self.authenticator.authenticate(&arrival.parts, tenant).map_err(|error| {
            self.telemetry.unauthorized.inc();
            reply::unauthorized(&error.to_string())
        })
    }

    /// A client that may need a leg of its own.
    fn visitor<'a>(
        &'a self,
        client: &'a Client,
        principal: &'a Principal,
        scope: &'a Scope,
    ) -> Visitor<'a> {
        let Self { commons, fleet, .. } = self;
        let Commons { table, sealer, homes, .. } = &**commons;
        Visitor { client, principal, scope, table, sealer, homes, fleet }
    }

    /// Closes what servers keep for a session that ended.
    fn close_legs(&self, principal: &Principal, session: SessionId, home: &Home) {
        let client = ClientKey::of_session(principal, session);
        for upstream in home.lodgings() {
            upstream.forget(&client);
        }
    }

    /// Tells something to all servers at which a session has legs of its own. `message` gets an id
    /// for it.
    fn tell_legs(&self, principal: &Principal, session: SessionId, message: impl Fn(u64) -> Bytes) {
        let Some(home) = self.commons.homes.get(session) else { return };
        let client = ClientKey::of_session(principal, session);
        for upstream in home.lodgings() {
            if let Some(leg) = upstream.leg_of(&client) {
                upstream.tell(&leg, message(leg.next_id()));
            }
        }
    }

    async fn admit_unkeyed(&self, arrival: &Arrival) -> Result<(), Response> {
        if !self.commons.table.completed().await {
            return Err(reply::not_ready());
        }
        let Came::Here { local } = arrival.came else { return Ok(()) };
        origin::check(&arrival.parts.headers, local, &self.allowed_hosts, &self.config)
            .map_err(|message| reply::error(StatusCode::FORBIDDEN, message))
    }
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
