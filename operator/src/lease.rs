//! Leadership by Lease: of all replicas one writes.
//!
//! A leader that cannot renew stops before anybody else may start: it gives up after
//! [`GIVE_UP`], another takes over after [`DURATION`] without a renewal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(5);
/// After how long without a renewal the holder stops writing: what it sent before arrives before
/// anybody else may start.
const GIVE_UP: Duration = Duration::from_secs(3);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(500);
/// For one attempt.
const PATIENCE: Duration = Duration::from_secs(2);

/// Of a leader: later leaders have a higher one.
pub(crate) type Term = i64;

/// Whether this replica leads.
#[derive(Debug)]
pub(crate) struct Leadership {
    held: Mutex<Option<(Term, Instant)>>,
    term: watch::Sender<Option<Term>>,
}

impl Default for Leadership {
    fn default() -> Self {
        Self { held: Mutex::default(), term: watch::Sender::new(None) }
    }
}

impl Leadership {
    /// The term, while this replica leads. To be asked right before each write: a process that was
    /// paused learns here that its time is over.
    pub(crate) fn term(&self) -> Option<Term> {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.filter(|(_, renewed)| renewed.elapsed() < GIVE_UP).map(|(term, _)| term)
    }

    /// News of the term.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Term>> {
        self.term.subscribe()
    }

    /// Leads from now on, without a Lease.
    #[cfg(test)]
    pub(crate) fn hold(&self, term: Term) {
        self.set(Some((term, Instant::now() + Duration::from_secs(1_000_000))));
    }

    /// Leads no more.
    #[cfg(test)]
    pub(crate) fn lose(&self) {
        self.set(None);
    }

    fn set(&self, held: Option<(Term, Instant)>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        let term = held.map(|(term, _)| term);
        self.term.send_if_modified(|current| std::mem::replace(current, term) != term);
    }
}

/// A replica that wants to lead.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    leadership: Arc<Leadership>,
    /// The highest term that anybody is known to have written in.
    highest: Box<dyn Fn() -> Term + Send + Sync>,
    /// The lease as it last changed, and when that was by our own clock: clocks of others are not
    /// compared with.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        name: String,
        identity: String,
        leadership: Arc<Leadership>,
        highest: impl Fn() -> Term + Send + Sync + 'static,
    ) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name, identity, leadership, highest: Box::new(highest), seen: None }
    }

    /// Leads whenever it can, until `stop`; then lets go, so that another need not wait.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            if self.leadership.term().is_none() {
                self.step_down("the lease could not be renewed");
            }
            let sent = Instant::now();
            let failed = match timeout(PATIENCE, self.attempt()).await {
                Ok(Ok(Some(term))) => {
                    self.lead(term, sent);
                    None
                }
                Ok(Ok(None)) => {
                    self.step_down("another operator leads");
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {PATIENCE:?}")),
            };
            if let Some(error) = &failed
                && !failing
            {
                tracing::warn!(error, "cannot read or renew the lease; trying again");
            }
            failing = failed.is_some();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep(RETRY) => {}
            }
        }
        let led = self.leadership.term().is_some();
        self.step_down("this operator stops");
        if led && !matches!(timeout(PATIENCE, self.release()).await, Ok(Ok(()))) {
            tracing::warn!("cannot release the lease; another operator waits until it expires");
        }
    }

    /// The lease is ours since it was `sent` for.
    fn lead(&self, term: Term, sent: Instant) {
        if self.leadership.term().is_none() {
            tracing::info!(term, "this operator leads");
            // Writes were refused if an earlier renewal lost its force: whoever looks at everything
            // when a term begins has to do so again, even in the same one.
            self.leadership.set(None);
        }
        self.leadership.set(Some((term, sent)));
    }

    fn step_down(&self, why: &str) {
        if self.leadership.term.borrow().is_some() {
            tracing::info!(why, "this operator no longer leads");
        }
        self.leadership.set(None);
    }

    /// Takes or renews the lease. `None` while somebody else has it.
    async fn attempt(&mut self) -> Result<Option<Term>, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(self.next(0))),
            };
            return self.write(None, &lease).await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let term = Term::from(spec.lease_transitions.unwrap_or_default());
        let ours = spec.holder_identity.as_deref() == Some(&self.identity);
        // What bears a later term cannot be written over in this one.
        let leading = self.leadership.term() == Some(term) && (self.highest)() <= term;
        if ours && leading {
            lease.spec = Some(LeaseSpec { acquire_time: spec.acquire_time, ..self.spec(term) });
            return self.write(Some(&self.name), &lease).await;
        }
        // Ours, but not led by this process: that of a container of this pod that ended.
        let free = spec.holder_identity.as_deref().unwrap_or_default().is_empty() || ours;
        if !free && !self.has_expired(&spec) {
            return Ok(None);
        }
        lease.spec = Some(self.spec(self.next(term)));
        self.write(Some(&self.name), &lease).await
    }

    /// The term after this one, and after every term that entries bear: gateways refuse what comes
    /// from an earlier one, and the lease may have been deleted.
    fn next(&self, term: Term) -> Term {
        term.max((self.highest)()).saturating_add(1)
    }

    /// Whether it stood unchanged before our eyes for as long as it holds.
    fn has_expired(&mut self, spec: &LeaseSpec) -> bool {
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let holds = seconds.map_or(DURATION, Duration::from_secs);
        match &self.seen {
            Some((seen, since)) if seen == spec => since.elapsed() >= holds,
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn spec(&self, term: Term) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: i32::try_from(term).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    /// `resourceVersion` is that of what was read: of two who write one gets a conflict.
    async fn write(&self, name: Option<&str>, lease: &Lease) -> Result<Option<Term>, kube::Error> {
        let written = match name {
            Some(name) => self.api.replace(name, &PostParams::default(), lease).await,
            None => self.api.create(&PostParams::default(), lease).await,
        };
        match written {
            Ok(lease) => Ok(lease.spec.and_then(|spec| spec.lease_transitions).map(Term::from)),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let mut lease = self.api.get(&self.name).await?;
        if let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_deref() == Some(&self.identity)
        {
            spec.holder_identity = None;
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
