//! Metrics. Every label is a configured name or one of a closed set; handles are looked up when a
//! server appears, not when it is called.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use gateway_core::{Namespace, ServerName};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

mod durations;

use durations::Durations;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Ok,
    /// The server answered with an error.
    Error,
    /// The server failed: the reason is in the log.
    Failed,
    Timeout,
    Cancelled,
    /// The client went away before the answer.
    ClientGone,
}

impl Outcome {
    const ALL: [Self; 6] =
        [Self::Ok, Self::Error, Self::Failed, Self::Timeout, Self::Cancelled, Self::ClientGone];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::ClientGone => "client_gone",
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

/// What became of a request for another gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Relay {
    Answered,
    /// It is gone, or does not take the request.
    Unreached,
    /// It went away before its answer.
    BrokenOff,
    /// Too many were under way.
    Refused,
}

impl EncodeLabelValue for Relay {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::Answered => "answered",
            Self::Unreached => "unreached",
            Self::BrokenOff => "broken_off",
            Self::Refused => "refused",
        }
        .encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RelayLabels {
    outcome: Relay,
}

/// Why a call was not sent to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// It is known to be away.
    Unreachable,
    /// Its circuit breaker is open.
    Open,
    /// As many calls as it takes are under way.
    Busy,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Unreachable, Self::Open, Self::Busy];
}

impl EncodeLabelValue for Refusal {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::Unreachable => "unreachable",
            Self::Open => "open",
            Self::Busy => "busy",
        };
        text.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    namespace: String,
    server: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    namespace: String,
    server: String,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    namespace: String,
    server: String,
    reason: Refusal,
}

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Telemetry {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    durations: Family<ServerLabels, Durations>,
    up: Family<ServerLabels, Gauge>,
    relays: Family<RelayLabels, Counter>,
    /// Other gateways that serve.
    pub(crate) peers: Gauge,
    breakers: Family<ServerLabels, Gauge>,
    refusals: Family<RefusalLabels, Counter>,
    retries: Family<ServerLabels, Counter>,
    retries_refused: Family<ServerLabels, Counter>,
    /// Streams to clients that are open: GET and HTTP+SSE.
    pub(crate) streams: Gauge,
    /// Connections of clients.
    pub(crate) connections: Gauge,
    /// Sessions begun.
    pub(crate) sessions: Counter,
    /// Requests without a good credential.
    pub(crate) unauthorized: Counter,
    /// Manifests that are not in force.
    pub(crate) rejected: Gauge,
    /// Age of what the table was made from.
    pub(crate) staleness: Gauge<f64, AtomicU64>,
}

/// Handles to the metrics of one server.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    outcomes: [Counter<u64, AtomicU64>; 6],
    pub(crate) duration: Durations,
    /// 1 while connected.
    pub(crate) up: Gauge,
    /// 0 closed, 1 half open, 2 open.
    pub(crate) breaker: Gauge,
    refusals: [Counter<u64, AtomicU64>; 3],
    /// Calls that were sent again.
    pub(crate) retries: Counter,
    /// Calls that were not, because the budget was spent.
    pub(crate) retries_refused: Counter,
}

impl CallMetrics {
    pub(crate) fn count(&self, outcome: Outcome) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.inc();
        }
    }

    pub(crate) fn refused(&self, reason: Refusal) {
        if let Some(counter) = self.refusals.get(reason as usize) {
            counter.inc();
        }
    }
}

impl Telemetry {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = <Registry>::with_prefix("fairway");
        let calls = Family::default();
        let durations = Family::default();
        let (relays, peers) = (Family::default(), Gauge::default());
        let (up, breakers) = (Family::default(), Family::default());
        let refusals = Family::default();
        let (retries, retries_refused) = (Family::default(), Family::default());
        let (streams, connections) = (Gauge::default(), Gauge::default());
        let (sessions, unauthorized) = (Counter::default(), Counter::default());
        let rejected = Gauge::default();
        let staleness = Gauge::<f64, AtomicU64>::default();
        registry.register("tool_calls", "Tool calls by server and outcome", calls.clone());
        registry.register(
            "tool_call_duration_seconds",
            "Time from a call to the end of its answer",
            durations.clone(),
        );
        registry.register("upstream_up", "Whether a server is connected", up.clone());
        registry.register("relays", "Requests passed to other gateways", relays.clone());
        registry.register("peers", "Other gateways that serve", peers.clone());
        registry.register(
            "upstream_breaker",
            "Circuit breaker of a server: 0 closed, 1 half open, 2 open",
            breakers.clone(),
        );
        registry.register(
            "upstream_refusals",
            "Calls that were not sent to their server, by reason",
            refusals.clone(),
        );
        registry.register("upstream_retries", "Calls that were sent again", retries.clone());
        registry.register(
            "upstream_retries_refused",
            "Calls that were not sent again because the budget was spent",
            retries_refused.clone(),
        );
        registry.register("streams", "Open streams to clients", streams.clone());
        registry.register("connections", "Open connections of clients", connections.clone());
        registry.register("sessions", "Sessions begun", sessions.clone());
        registry.register(
            "unauthorized_requests",
            "Requests without a good credential",
            unauthorized.clone(),
        );
        registry.register("rejected_manifests", "Manifests not in force", rejected.clone());
        registry.register(
            "table_staleness_seconds",
            "How long the source of the table has not been heard",
            staleness.clone(),
        );
        Arc::new(Self {
            registry,
            calls,
            durations,
            up,
            relays,
            peers,
            breakers,
            refusals,
            retries,
            retries_refused,
            streams,
            connections,
            sessions,
            unauthorized,
            rejected,
            staleness,
        })
    }

    /// All metrics as OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    pub(crate) fn calls_of(&self, namespace: &Namespace, server: &ServerName) -> CallMetrics {
        let labels = labels(namespace, server);
        CallMetrics {
            outcomes: Outcome::ALL.map(|outcome| {
                self.calls.get_or_create_owned(&call_labels(namespace, server, outcome))
            }),
            duration: self.durations.get_or_create_owned(&labels),
            up: self.up.get_or_create_owned(&labels),
            breaker: self.breakers.get_or_create_owned(&labels),
            refusals: Refusal::ALL.map(|reason| {
                self.refusals.get_or_create_owned(&refusal_labels(namespace, server, reason))
            }),
            retries: self.retries.get_or_create_owned(&labels),
            retries_refused: self.retries_refused.get_or_create_owned(&labels),
        }
    }

    pub(crate) fn relayed(&self, outcome: Relay) {
        self.relays.get_or_create_owned(&RelayLabels { outcome }).inc();
    }

    /// Drops the metrics of a server that is gone.
    pub(crate) fn forget(&self, namespace: &Namespace, server: &ServerName) {
        for outcome in Outcome::ALL {
            self.calls.remove(&call_labels(namespace, server, outcome));
        }
        for reason in Refusal::ALL {
            self.refusals.remove(&refusal_labels(namespace, server, reason));
        }
        let labels = labels(namespace, server);
        self.durations.remove(&labels);
        self.up.remove(&labels);
        self.breakers.remove(&labels);
        self.retries.remove(&labels);
        self.retries_refused.remove(&labels);
    }
}

fn labels(namespace: &Namespace, server: &ServerName) -> ServerLabels {
    ServerLabels { namespace: namespace.to_string(), server: server.to_string() }
}

fn call_labels(namespace: &Namespace, server: &ServerName, outcome: Outcome) -> CallLabels {
    CallLabels { namespace: namespace.to_string(), server: server.to_string(), outcome }
}

fn refusal_labels(namespace: &Namespace, server: &ServerName, reason: Refusal) -> RefusalLabels {
    RefusalLabels { namespace: namespace.to_string(), server: server.to_string(), reason }
}
