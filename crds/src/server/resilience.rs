//! What the gateway does about an `McpServer` that is slow, fails or takes only so much.

use kube::KubeSchema;
use kube::core::Rule;
use serde::{Deserialize, Serialize};

/// How long the gateway waits for a server. Durations are written like `500ms`, `2s`, `15m` or
/// `1h30m`.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// How long opening a connection may take, such as `2s`. Default: 2s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = duration())]
    pub connect: Option<String>,

    /// How long a request may go without a byte or a sign of progress from the server, such as
    /// `60s`. Default: 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = duration())]
    pub request: Option<String>,

    /// How long a request may take in total, such as `15m`. Default: 15m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = duration())]
    pub total: Option<String>,
}

/// When a call that came to nothing is sent again.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// How often one call is sent again at most. With 0 none is. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<i32>,

    /// How many calls of a hundred each gateway may send again, so that a server in trouble does not
    /// get twice the load; one a second it may in any case. Default: 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub budget_percent: Option<i32>,
}

/// When the gateway stops calling a server for a while.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// After how many failures in a row. A failure is a connection that is not made or breaks, an
    /// HTTP status from 500 on, or an answer that does not come in time; an error that the server
    /// answers with is none. With 0 the server is called whatever happens. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub failures: Option<i32>,

    /// For how long, such as `10s`. After that one call is let through: if it succeeds all are, else
    /// the time begins anew. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = duration())]
    pub open_for: Option<String>,
}

/// Whole units, largest first, as Go and the gateway read them alike. Six digits of hours cannot
/// overflow.
fn duration() -> Rule {
    Rule::new(
        "self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?$') && self != '' \
         && duration(self) >= duration('1ms') && duration(self) <= duration('24h')",
    )
    .message("must be a duration from 1ms to 24h in whole units, such as 500ms, 2s, 15m or 1h30m")
}
