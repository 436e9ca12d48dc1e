//! How much a server may take, fail and be asked at once, as its resource says. Performs no I/O.

use std::ops::RangeInclusive;
use std::time::Duration;

use crds::McpServerSpec;

use super::Invalid;
use super::field::{duration, range};
use crate::{CircuitBreaker, Retries, Timeouts};

pub(super) fn timeouts(spec: &McpServerSpec) -> Result<Timeouts, Invalid> {
    let defaults = Timeouts::default();
    let Some(given) = &spec.timeouts else { return Ok(defaults) };
    Ok(Timeouts {
        connect: time("spec.timeouts.connect", given.connect.as_ref(), defaults.connect)?,
        request: time("spec.timeouts.request", given.request.as_ref(), defaults.request)?,
        total: time("spec.timeouts.total", given.total.as_ref(), defaults.total)?,
    })
}

pub(super) fn retries(spec: &McpServerSpec) -> Result<Retries, Invalid> {
    let defaults = Retries::default();
    let Some(given) = &spec.retries else { return Ok(defaults) };
    let percent = given.budget_percent;
    Ok(Retries {
        attempts: number("spec.retries.attempts", given.attempts, 0..=10)?
            .unwrap_or(defaults.attempts),
        budget_percent: number("spec.retries.budgetPercent", percent, 0..=100)?
            .unwrap_or(defaults.budget_percent),
    })
}

pub(super) fn breaker(spec: &McpServerSpec) -> Result<CircuitBreaker, Invalid> {
    let defaults = CircuitBreaker::default();
    let Some(given) = &spec.circuit_breaker else { return Ok(defaults) };
    let open_for = given.open_for.as_ref();
    Ok(CircuitBreaker {
        failures: number("spec.circuitBreaker.failures", given.failures, 0..=1000)?
            .unwrap_or(defaults.failures),
        open_for: time("spec.circuitBreaker.openFor", open_for, defaults.open_for)?,
    })
}

pub(super) fn max_concurrency(spec: &McpServerSpec) -> Result<Option<u32>, Invalid> {
    number("spec.maxConcurrency", spec.max_concurrency, 1..=100_000)
}

fn time(field: &str, text: Option<&String>, default: Duration) -> Result<Duration, Invalid> {
    text.map_or(Ok(default), |text| duration(field, text))
}

/// Within bounds that hold no number below zero.
fn number(
    field: &str,
    given: Option<i32>,
    bounds: RangeInclusive<i32>,
) -> Result<Option<u32>, Invalid> {
    let Some(given) = given else { return Ok(None) };
    range(field, given, bounds)?;
    Ok(u32::try_from(given).ok())
}
