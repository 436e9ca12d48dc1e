//! What a call needs to be let through to its server: a breaker that is not open, and a place among
//! the calls under way. It tells the breaker what came of the call, and says whether the call may be
//! sent again.

use std::sync::Arc;
use std::time::Duration;

use super::Upstream;
use super::breaker::{Millis, Pass, State, Turn};
use super::fault::Fault;
use super::gate::{Entrance, Gate, Place, Waiting};
use super::supervisor::jittered;
use crate::telemetry::Refusal;
use crate::worker::Local;

/// Before a call is sent again for the first time; each further time doubles it.
const BACKOFF: Duration = Duration::from_millis(100);

/// A call that was let through.
#[derive(Debug)]
pub(crate) struct Admission {
    upstream: Local<Upstream>,
    /// `None` when the breaker needs to hear nothing more.
    pass: Option<Pass>,
    /// When the call was sent last.
    began: Millis,
    place: Option<Place>,
    /// How often it was sent again.
    retries: u32,
}

impl Upstream {
    /// Milliseconds since it was made.
    fn now(&self) -> Millis {
        Millis::try_from(self.made.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn suspended(&self, wait: Millis) -> Fault {
        // Rounded up: whoever waits so long is not told to wait again.
        Fault::Suspended { why: self.why(), seconds: wait.div_ceil(1000) }
    }

    /// What the breaker is and why, if it is not closed.
    pub(crate) fn tripped(&self) -> Option<(&'static str, String)> {
        let state = match self.breaker.state() {
            State::Closed { .. } => return None,
            State::Open { until } if until > self.now() => "open",
            State::Open { .. } | State::HalfOpen => "half_open",
        };
        Some((state, self.why()))
    }

    fn why(&self) -> String {
        let why = self.tripped.load();
        // Not there yet in the moment in which it opens for the first time.
        why.as_ref().map_or_else(|| "its calls failed".to_owned(), |why| why.to_string())
    }

    /// Tells of what became of the breaker.
    fn turned(&self, Turn { from, to }: Turn, fault: Option<&Fault>) {
        // One that was replaced and drains is not the server that people look at.
        if from == to || self.stop.is_cancelled() {
            return;
        }
        self.metrics.breaker.set(match to {
            State::Closed { .. } => 0,
            State::HalfOpen => 1,
            State::Open { .. } => 2,
        });
        let entry = self.entry.load();
        if from.is_closed() && !to.is_closed() {
            let failures = entry.circuit_breaker.failures;
            let last = fault.map(ToString::to_string).unwrap_or_default();
            let why = format!("it failed {failures} times in a row (last: {last})");
            tracing::warn!(namespace = %entry.namespace, server = %entry.name, reason = why, "circuit breaker opens");
            self.tripped.store(Some(Arc::new(why)));
            self.standing.tell();
        } else if to.is_closed() && !from.is_closed() {
            tracing::info!(namespace = %entry.namespace, server = %entry.name, "circuit breaker closes");
            self.standing.tell();
        }
        if matches!(to, State::Open { .. }) {
            // Perhaps the server is away as a whole, which another attempt to list finds out.
            self.refresh();
        }
    }

    /// When a list that comes closes a breaker that is open: if no call came that would have decided,
    /// long after it might have.
    pub(super) fn heals_at(&self) -> Option<tokio::time::Instant> {
        let State::Open { until } = self.breaker.state() else { return None };
        let open_for = self.entry.load().circuit_breaker.open_for;
        Some(self.made + Duration::from_millis(until) + open_for)
    }

    /// The server gave a list.
    pub(super) fn listed(&self) {
        if self.heals_at().is_some_and(|heals_at| heals_at <= tokio::time::Instant::now()) {
            self.forgive();
        }
    }

    /// Closes the breaker: the server is another than the one that failed.
    pub(super) fn forgive(&self) {
        self.turned(self.breaker.reset(), None);
    }

    /// Takes what the entry says of now, for calls that come from now on.
    pub(super) fn renew(&self, entry: &Arc<gateway_core::ServerEntry>) {
        let before = self.entry.swap(entry.clone());
        if before.max_concurrency != entry.max_concurrency {
            self.gate.store(entry.max_concurrency.map(|max| Arc::new(Gate::new(max))));
        }
        if before.circuit_breaker != entry.circuit_breaker {
            self.forgive();
        }
    }
}

impl Admission {
    /// Lets a call through.
    ///
    /// # Errors
    /// While the breaker is open.
    pub(crate) fn to(upstream: &Local<Upstream>) -> Result<Self, Fault> {
        let now = upstream.now();
        let (pass, turn) = upstream.breaker.admit(now).map_err(|wait| {
            upstream.metrics.refused(Refusal::Open);
            upstream.suspended(wait)
        })?;
        upstream.turned(turn, None);
        upstream.budget.earn(upstream.entry.load().retries.budget_percent);
        let (pass, place) = (Some(pass), None);
        Ok(Self { upstream: upstream.clone(), pass, began: now, place, retries: 0 })
    }

    /// Takes a place among the calls under way, unless it has one or needs none. What comes back has
    /// to be waited for.
    ///
    /// # Errors
    /// When too many wait already.
    pub(crate) fn enter(&mut self) -> Result<Option<Waiting>, Fault> {
        if self.place.is_some() {
            return Ok(None);
        }
        let gate = self.upstream.gate.load();
        let Some(gate) = &*gate else { return Ok(None) };
        match gate.enter() {
            Ok(Entrance::Place(place)) => {
                self.place = Some(place);
                Ok(None)
            }
            Ok(Entrance::Queue(waiting)) => Ok(Some(waiting)),
            Err(fault) => {
                self.upstream.metrics.refused(Refusal::Busy);
                Err(fault)
            }
        }
    }

    /// Takes the place that was waited for.
    ///
    /// # Errors
    /// When it took too long.
    pub(crate) fn seat(&mut self, waited: Result<Place, Fault>) -> Result<(), Fault> {
        if waited.is_err() {
            self.upstream.metrics.refused(Refusal::Busy);
        }
        self.place = Some(waited?);
        self.began = self.upstream.now();
        Ok(())
    }

    /// Gives the place up, or to whoever goes on with the call.
    pub(crate) fn leave(&mut self) -> Option<Place> {
        self.place.take()
    }

    /// The server answered, be it with an error.
    pub(crate) fn well(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.upstream.turned(self.upstream.breaker.well(pass), None);
        }
    }

    /// What comes of the call says nothing of the server.
    pub(crate) fn abstain(&mut self) {
        if self.pass.take() == Some(Pass::Probe) {
            self.upstream.turned(self.upstream.breaker.abandoned(self.upstream.now()), None);
        }
    }

    /// The call came to nothing. What that says of the server is told once.
    pub(crate) fn failed(&mut self, fault: &Fault) {
        if !fault.is_sick() {
            return;
        }
        if let Some(pass) = self.pass.take() {
            let now = self.upstream.now();
            // Each of those that waited in vain did so for as long as it was asked to.
            let began = if fault.is_timeout() { now } else { self.began };
            let rules = self.upstream.entry.load().circuit_breaker;
            let turn = self.upstream.breaker.sick(pass, began, now, &rules);
            self.upstream.turned(turn, Some(fault));
        }
    }

    /// Whether the call may be sent again after a fault, and after which pause.
    pub(crate) fn again(&mut self, fault: &Fault) -> Option<Duration> {
        let upstream = &self.upstream.clone();
        let retries = upstream.entry.load().retries;
        if !fault.is_transient() || self.retries >= retries.attempts {
            return None;
        }
        self.failed(fault);
        if !upstream.breaker.state().is_closed() {
            return None;
        }
        let now = upstream.now();
        if !upstream.budget.spend(u32::try_from(now / 1000).unwrap_or(u32::MAX)) {
            upstream.metrics.retries_refused.inc();
            return None;
        }
        upstream.metrics.retries.inc();
        let pause = jittered(BACKOFF.saturating_mul(2_u32.saturating_pow(self.retries)));
        self.retries += 1;
        self.began = now;
        self.pass = Some(Pass::Plain);
        Some(pause)
    }
}

impl Drop for Admission {
    /// A call that was to decide and came to no end leaves that to the next one.
    fn drop(&mut self) {
        self.abstain();
    }
}
