//! How much a server may take, fail and be asked at once. Performs no I/O.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stored;

/// Bounds on the time a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// To connect.
    #[serde(with = "stored::millis")]
    pub connect: Duration,
    /// From one byte or progress notification to the next.
    #[serde(with = "stored::millis")]
    pub request: Duration,
    /// For a whole call.
    #[serde(with = "stored::millis")]
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(60),
            total: Duration::from_secs(15 * 60),
        }
    }
}

/// When a call that came to nothing is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// How often one call is.
    pub attempts: u32,
    /// How many calls of a hundred are.
    pub budget_percent: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 1, budget_percent: 20 }
    }
}

/// When a server is not called for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// After so many failures in a row; never with 0.
    pub failures: u32,
    /// For so long.
    #[serde(with = "stored::millis")]
    pub open_for: Duration,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(10) }
    }
}
