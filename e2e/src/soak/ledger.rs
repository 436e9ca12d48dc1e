//! What went wrong and when, and which calls and sessions were lost over it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    cause::Cause,
    load::{Kind, Step},
};

/// How long a killed gateway shows: its container starts again within seconds, but the Ingress controller takes it
/// back only when it is ready, and SDKs retry on their own for some seconds more.
const KILL_SHOWS: Duration = Duration::from_secs(20);

/// Shared by everybody who has something to write down.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    troubles: BTreeMap<&'static str, usize>,
    kills: Vec<Instant>,
    failures: Vec<Failure>,
    losses: Vec<Loss>,
}

/// A call that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: &'static Kind,
    pub(super) step: Step,
    pub(super) cause: Cause,
    text: String,
}

/// A session that was lost.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub(super) kind: &'static Kind,
    pub(super) cause: Cause,
    text: String,
}

impl Ledger {
    /// Something of this name happens.
    pub(super) fn happens(&self, trouble: &'static str) {
        *self.pages().troubles.entry(trouble).or_default() += 1;
    }

    /// A gateway is killed now.
    pub(super) fn kill(&self) {
        self.pages().kills.push(Instant::now());
    }

    /// A call failed that began then.
    pub(super) fn failed(&self, kind: &'static Kind, step: Step, began: Instant, text: String) {
        let mut pages = self.pages();
        let cause = Cause::of(step, &text, pages.kill_shows(began));
        let failure = Failure { kind, step, cause, text };
        if cause == Cause::Other {
            eprintln!("unexplained: {failure}");
        }
        pages.failures.push(failure);
    }

    /// A session was lost over a call that began then.
    pub(super) fn lost(&self, kind: &'static Kind, step: Step, began: Instant, text: String) {
        let mut pages = self.pages();
        let cause = Cause::of(step, &text, pages.kill_shows(began));
        let loss = Loss { kind, cause, text };
        eprintln!("lost: {loss}");
        pages.losses.push(loss);
    }

    /// Everything that was written down.
    pub(super) fn close(&self) -> (Vec<(&'static str, usize)>, Vec<Failure>, Vec<Loss>) {
        let pages = std::mem::take(&mut *self.pages());
        (pages.troubles.into_iter().collect(), pages.failures, pages.losses)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// Whether a kill shows at some time between then and now.
    fn kill_shows(&self, began: Instant) -> bool {
        // None is in the future.
        self.kills.iter().any(|kill| began < *kill + KILL_SHOWS)
    }
}

impl Loss {
    /// Line 1 of the Python SDK ends its session at any status that is no success; the gateway does not get to say
    /// anything.
    pub(super) fn is_explained(&self) -> bool {
        self.cause == Cause::Ingress && self.kind.ends_at_502
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, step, text, .. } = self;
        write!(f, "{}, {}: {text}", kind.name, step.name())
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name, self.text)
    }
}
