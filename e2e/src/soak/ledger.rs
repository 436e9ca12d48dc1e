//! What went wrong and when, and which calls and sessions were lost over it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{
    cause::Cause,
    load::{Kind, Step},
};
use crate::Span;

/// Shared by everybody who has something to write down.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pages: Arc<Mutex<Pages>>,
    opened: Instant,
}

#[derive(Debug, Default)]
struct Pages {
    troubles: BTreeMap<&'static str, usize>,
    kills: Vec<Span>,
    failed: Vec<Call>,
    lost: Vec<Call>,
}

/// A call that failed, and when it was under way. Why is told in the end: a kill is written down when it is done.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) kind: &'static Kind,
    pub(super) step: Step,
    pub(super) when: Span,
    pub(super) text: String,
}

/// A call that failed, or over which a session was lost.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: &'static Kind,
    pub(super) cause: Cause,
    step: Step,
    text: String,
}

/// All that was written down.
#[derive(Debug)]
pub(super) struct Sum {
    /// What happened, and how often.
    pub(super) troubles: Vec<(&'static str, usize)>,
    pub(super) failed: Vec<Failure>,
    pub(super) lost: Vec<Failure>,
}

impl Ledger {
    pub(super) fn open() -> Self {
        Self { pages: Arc::default(), opened: Instant::now() }
    }

    /// Something of this name happens.
    pub(super) fn happens(&self, trouble: &'static str) {
        *self.pages().troubles.entry(trouble).or_default() += 1;
    }

    /// A gateway was killed.
    pub(super) fn killed(&self, when: Span) {
        self.say("killed: a gateway");
        self.pages().kills.push(when);
    }

    /// A gateway is to end.
    pub(super) fn drained(&self) {
        self.say("drained: a gateway");
    }

    /// A call failed.
    pub(super) fn failed(&self, call: Call) {
        self.say(format_args!("failed: {call}"));
        self.pages().failed.push(call);
    }

    /// A session was lost over a call.
    pub(super) fn lost(&self, call: Call) {
        self.say(format_args!("lost: {call}"));
        self.pages().lost.push(call);
    }

    /// Everything, with what explains it.
    pub(super) fn close(&self) -> Sum {
        let Pages { troubles, kills, failed, lost } = std::mem::take(&mut *self.pages());
        let is_killed = |when: &Span| kills.iter().any(|kill| kill.meets(when));
        let lost: Vec<(Span, Failure)> = lost
            .into_iter()
            .map(|call| (call.when, Failure::new(is_killed(&call.when), call)))
            .collect();
        let failed = failed.into_iter().map(|call| {
            // What else is under way in a session ends with it.
            let with_session = lost.iter().any(|(when, loss)| {
                loss.explains_loss() && loss.kind.name == call.kind.name && when.meets(&call.when)
            });
            Failure::new(with_session || is_killed(&call.when), call)
        });
        Sum {
            troubles: troubles.into_iter().collect(),
            failed: failed.collect(),
            lost: lost.into_iter().map(|(_, loss)| loss).collect(),
        }
    }

    /// With when it was, in seconds.
    fn say(&self, what: impl fmt::Display) {
        eprintln!("{:8.3} {what}", self.opened.elapsed().as_secs_f64());
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failure {
    fn new(killed: bool, Call { kind, step, text, .. }: Call) -> Self {
        Self { kind, cause: Cause::of(step, &text, killed), step, text }
    }

    /// As the loss of a session. Line 1 of the Python SDK ends its session at any status that is no success; the gateway
    /// does not get to say anything.
    pub(super) fn explains_loss(&self) -> bool {
        self.cause == Cause::Killed && self.kind.ends_at_502
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.kind.name, self.step.name(), self.text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.kind.name, self.step.name(), self.text)
    }
}
