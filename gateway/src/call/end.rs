//! How a call ends: the bounds on its time, what its client is told when it fails, and what becomes of
//! a request that is still under way when nobody waits for it.

use std::time::Duration;

use bytes::Bytes;
use mcp::Era;
use mcp::error::{CANCELLED, UPSTREAM, error_response};
use mcp::tool::cancelled;
use tokio::time::{Instant, timeout};

use super::{Call, Event, FAREWELL, Running, Stage};
use crate::telemetry::Outcome;
use crate::upstream::fault::{Fault, Told};
use crate::upstream::gate::Place as Seat;

/// How long an answer may take before the client is shown a sign of life (DESIGN §4).
const SOON: Duration = Duration::from_secs(5);
/// How long the rest of a stream is read after its answer, so that the connection can serve again.
const REMAINDER: Duration = Duration::from_secs(1);

impl Call {
    /// Tells a server of the legacy era that nobody wants the answer any more. To a modern one the
    /// end of the connection says so (2026-07-28, basic/patterns/cancellation).
    pub(super) fn cancel_upstream(&self) {
        let (leg, id) = match &self.stage {
            Stage::Running(running) => (&running.leg, running.id),
            Stage::Resuming(_, leg, id) => (leg, *id),
            Stage::Waiting(_)
            | Stage::Opening(_)
            | Stage::Asking(_)
            | Stage::Relisting(_)
            | Stage::Over => return,
        };
        if leg.era() == Era::Legacy {
            self.upstream.tell(leg, cancelled(id).into());
        }
    }

    pub(super) fn cancelled(&mut self) -> Event {
        self.finish(Outcome::Cancelled);
        let message = "cancelled by the client";
        Event::Cancelled(error_response(self.client_id(), CANCELLED, message))
    }

    pub(super) fn look_at_the_clock(&mut self) -> Option<Event> {
        let now = Instant::now();
        if let Some(since) = self.cancelled_at {
            return (now >= since + FAREWELL).then(|| self.cancelled());
        }
        // Any byte counts, a comment that keeps a stream alive as well.
        if let Stage::Running(running) = &self.stage
            && running.exchange.received() != self.received
        {
            self.received = running.exchange.received();
            self.active = now;
        }
        if self.commons.table.renew(&self.caller.principal).is_none() {
            self.cancel_upstream();
            let message = "this API key is no longer valid";
            let answer = error_response(self.client_id(), UPSTREAM, message);
            return Some(self.end_with(answer, Outcome::Failed));
        }
        let timeouts = self.upstream.entry().timeouts;
        let waits = self.waits_for_client() || matches!(self.stage, Stage::Waiting(_));
        let fault = if now >= self.started + timeouts.total {
            Fault::TooSlow(timeouts.total.as_secs().max(1))
        } else if now >= self.active + timeouts.request && !waits {
            Fault::Silent(timeouts.request.as_secs().max(1))
        } else if !self.late && now >= self.started + SOON {
            self.late = true;
            return Some(Event::Late);
        } else {
            return None;
        };
        self.cancel_upstream();
        if waits {
            // Whatever takes so long, it is not the server.
            self.admission.abstain();
        }
        Some(self.fail(&fault))
    }

    pub(super) fn fail(&mut self, fault: &Fault) -> Event {
        self.admission.failed(fault);
        let entry = self.upstream.entry();
        tracing::warn!(namespace = %entry.namespace, server = %entry.name, reason = fault.reason(), %fault, "call failed");
        let outcome = match fault {
            Fault::Silent(_) | Fault::TooSlow(_) => Outcome::Timeout,
            _ => Outcome::Failed,
        };
        let told = Told(entry.name.as_str(), fault).to_string();
        let answer = error_response(self.client_id(), UPSTREAM, &told);
        self.end_with(answer, outcome)
    }

    pub(super) fn end_with(&mut self, answer: Bytes, outcome: Outcome) -> Event {
        self.finish(outcome);
        if self.committed { Event::Broken(answer) } else { Event::Answer(answer) }
    }

    pub(super) fn finish(&mut self, outcome: Outcome) {
        self.caller.registration = None;
        self.held.clear();
        // After the answer comes nothing: no question that nobody waits for.
        self.ready.clear();
        for (home, question) in self.asked.drain(..) {
            home.withdraw(question);
        }
        self.outcome = Some(outcome);
        if matches!(outcome, Outcome::Ok | Outcome::Error) {
            self.admission.well();
        }
        drop(self.admission.leave());
        self.upstream.metrics.count(outcome);
        self.upstream.metrics.duration.observe(self.started.elapsed());
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        if let Stage::Running(running) = stage
            && running.exchange.has_remainder()
            && matches!(outcome, Outcome::Ok | Outcome::Error)
        {
            drain(running, REMAINDER, REMAINDER, [None, None]);
        }
    }
}

impl Drop for Call {
    /// A legacy client that goes away has not cancelled (2025-11-25, basic/transports): the server
    /// finishes, and its answer is read and dropped. A modern one has (2026-07-28,
    /// basic/patterns/cancellation).
    fn drop(&mut self) {
        if self.outcome.is_some() {
            return;
        }
        // Gone with its key, though: that ends calls.
        if self.commons.table.renew(&self.caller.principal).is_none() {
            self.cancel_upstream();
            self.finish(Outcome::Failed);
            return;
        }
        if self.caller.client.era() == Era::Modern {
            self.cancel_upstream();
            let stage = std::mem::replace(&mut self.stage, Stage::Over);
            self.finish(Outcome::Cancelled);
            if let Stage::Running(running) = stage
                && running.leg.era() == Era::Legacy
            {
                drain(running, FAREWELL, FAREWELL, [None, None]);
            }
            return;
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let timeouts = self.upstream.entry().timeouts;
        let left = timeouts.total.saturating_sub(self.started.elapsed());
        // The server works on it as before.
        let seat = self.admission.leave();
        self.finish(Outcome::ClientGone);
        if let Stage::Running(running) = stage {
            match self.upstream.drain() {
                Some(place) => drain(running, timeouts.request, left, [Some(place), seat]),
                // Clients that call and leave, again and again: bounded before it is polite.
                None => self.upstream.tell(&running.leg, cancelled(running.id).into()),
            }
        }
    }
}

/// Reads the rest and drops it. Holds the leg and its places for so long, and ends after a silence of
/// `idle` or when `total` is over.
fn drain(mut running: Box<Running>, idle: Duration, total: Duration, places: [Option<Seat>; 2]) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(timeout(total, async move {
        let _places = places;
        loop {
            let next = std::future::poll_fn(|cx| running.exchange.poll_next(cx));
            match timeout(idle, next).await {
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            }
        }
    }));
}
