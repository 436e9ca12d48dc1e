//! Is it alive, is it ready, and how are the servers doing.

use http::StatusCode;
use serde::Serialize;

use super::reply::{self, Response};
use crate::config::Config;
use crate::peer::Fleet;
use crate::source::Contact;
use crate::table::{Published, Rejected, Table};
use crate::upstream::State as ServerState;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// No names.
    Bare,
    Detail,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// Servers that are connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    backends: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Bare {
    status: &'static str,
}

#[derive(Serialize)]
struct Readiness<'a> {
    status: &'static str,
    servers: Vec<Server<'a>>,
    /// Manifests that are not in force.
    rejected: &'a [Rejected],
    /// Resources that are in each other's way.
    conflicts: Vec<Conflict>,
    /// Why the source of all this is not heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<Stale>,
    /// Why the configuration file as it is now is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a str>,
}

#[derive(Serialize)]
struct Stale {
    seconds: u64,
    reason: String,
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
    /// Why its calls are refused for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<Breaker>,
}

#[derive(Serialize)]
struct Breaker {
    state: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct Conflict {
    resource: String,
    reason: &'static str,
    message: String,
}

/// Alive, and which servers are connected.
pub(crate) fn health(table: &Table, show: Status) -> Response {
    let connected = || {
        let published = table.load();
        let mut backends: Vec<String> = published
            .upstreams
            .iter()
            .filter(|(_, up)| matches!(*up.standing.state(), ServerState::Connected { .. }))
            .map(|((_, name), _)| name.to_string())
            .collect();
        backends.sort_unstable();
        // Two tenants may each have a server of one name.
        backends.dedup();
        backends
    };
    let backends = (show == Status::Detail).then(connected);
    reply::value(StatusCode::OK, &Health { status: "ok", backends })
}

/// Ready once there is a table and it is known which other gateways there are, until it is about to
/// end. A server that is away does not change that.
pub(crate) fn readiness(
    table: &Table,
    contact: &Contact,
    config: &Config,
    fleet: &Fleet,
    show: Status,
) -> Response {
    let (code, status) = if fleet.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if table.is_complete() && fleet.is_met() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    };
    if show == Status::Bare {
        return reply::value(code, &Bare { status });
    }
    let published = table.load();
    let mut servers: Vec<Server<'_>> = published
        .upstreams
        .iter()
        .map(|((namespace, name), upstream)| {
            let (state, tools, reason) = match &*upstream.standing.state() {
                ServerState::Connecting => ("connecting", None, None),
                ServerState::Connected { tools } => ("connected", Some(*tools), None),
                ServerState::Unreachable { reason } => ("unreachable", None, Some(reason.clone())),
            };
            let (namespace, name) = (namespace.as_str(), name.as_str());
            let breaker = upstream.tripped().map(|(state, reason)| Breaker { state, reason });
            Server { namespace, name, state, tools, reason, breaker }
        })
        .collect();
    servers.sort_by_key(|server| (server.namespace, server.name));
    let stale = contact
        .lost()
        .map(|lost| Stale { seconds: contact.staleness().as_secs(), reason: lost.reason.clone() });
    let problem = config.problem();
    let body = Readiness {
        status,
        servers,
        rejected: &published.rejected,
        conflicts: conflicts(&published),
        stale,
        config: problem.as_ref().map(|problem| problem.as_str()),
    };
    reply::value(code, &body)
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
