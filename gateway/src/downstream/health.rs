//! Is it alive, is it ready, and how are the servers doing.

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use super::Downstream;
use super::reply::{self, Response};
use crate::table::{Published, Rejected};
use crate::upstream::State as ServerState;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// Servers that are connected.
    backends: Vec<String>,
}

#[derive(Serialize)]
struct Readiness<'a> {
    status: &'static str,
    servers: Vec<Server<'a>>,
    /// Manifests that are not in force.
    rejected: &'a [Rejected],
    /// Resources that are in each other's way.
    conflicts: Vec<Conflict>,
}

#[derive(Serialize)]
struct Server<'a> {
    namespace: &'a str,
    name: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Conflict {
    resource: String,
    reason: &'static str,
    message: String,
}

/// Alive, and which servers are connected.
pub(super) fn health(app: &Downstream) -> Response {
    let published = app.table.load();
    let mut backends: Vec<String> = published
        .upstreams
        .iter()
        .filter(|(_, upstream)| matches!(upstream.state(), ServerState::Connected { .. }))
        .map(|((_, name), _)| name.to_string())
        .collect();
    backends.sort_unstable();
    // Two tenants may each have a server of one name.
    backends.dedup();
    reply::value(StatusCode::OK, &Health { status: "ok", backends })
}

/// Ready once there is a table. A server that is away does not change that.
pub(super) fn readiness(app: &Downstream) -> Response {
    let published = app.table.load();
    let ready = app.table.is_complete();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut servers: Vec<Server<'_>> = published
        .upstreams
        .iter()
        .map(|((namespace, name), upstream)| {
            let (state, tools, reason) = match upstream.state() {
                ServerState::Connecting => ("connecting", None, None),
                ServerState::Connected { tools } => ("connected", Some(tools), None),
                ServerState::Unreachable { reason } => ("unreachable", None, Some(reason)),
            };
            Server { namespace: namespace.as_str(), name: name.as_str(), state, tools, reason }
        })
        .collect();
    servers.sort_by_key(|server| (server.namespace, server.name));
    let body = Readiness {
        status: if ready { "ready" } else { "starting" },
        servers,
        rejected: &published.rejected,
        conflicts: conflicts(&published),
    };
    reply::value(status, &body)
}

fn conflicts(published: &Published) -> Vec<Conflict> {
    let diagnostics = published.snapshot.diagnostics().iter();
    diagnostics
        .map(|diagnostic| Conflict {
            resource: diagnostic.resource.to_string(),
            reason: diagnostic.reason.as_str(),
            message: diagnostic.message.clone(),
        })
        .collect()
}

/// Answers on the admin port.
pub(crate) fn serve_admin(app: &Downstream, request: &Request<Incoming>) -> Response {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/health") => health(app),
        (&Method::GET, "/readyz") => readiness(app),
        (&Method::GET, "/metrics") => reply::metrics(app.telemetry.text()),
        _ => reply::error(StatusCode::NOT_FOUND, "no such path"),
    }
}
