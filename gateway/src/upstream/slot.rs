//! Whose leg it is, and where it is kept until it is needed again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use gateway_core::{KeyEntry, Namespace, Principal};
use tokio::time::Instant;

use super::Upstream;
use super::fault::Fault;
use super::leg::Leg;
use crate::session::SessionId;

/// Whose leg it is: never two principals', and of one principal one for each session. Requests
/// without a session share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey {
    tenant: Namespace,
    key: Arc<str>,
    session: Option<SessionId>,
}

impl ClientKey {
    pub(crate) fn new(principal: &Principal, session: Option<SessionId>) -> Self {
        // A server that is exposed to other tenants has clients of theirs.
        let KeyEntry { namespace, name, .. } = &**principal.key;
        Self { tenant: namespace.clone(), key: name.clone(), session }
    }

    pub(super) fn is_of(&self, other: &Self) -> bool {
        (&self.tenant, &self.key) == (&other.tenant, &other.key)
    }
}

/// A place for a leg that is opened when it is first needed and again when it breaks.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Whose calls wait until it is known whether they share a leg; this is no place of its own.
    awaits: Option<ClientKey>,
    pub(super) current: ArcSwapOption<Leg>,
    /// Held while a leg is opened: all who need it wait for one.
    opening: tokio::sync::Mutex<()>,
    used: Mutex<Instant>,
}

impl Slot {
    pub(super) fn new() -> Arc<Self> {
        Self::with(None)
    }

    /// Stands for the place that a client will have once the server is connected.
    pub(super) fn awaiting(client: ClientKey) -> Arc<Self> {
        Self::with(Some(client))
    }

    fn with(awaits: Option<ClientKey>) -> Arc<Self> {
        Arc::new(Self {
            awaits,
            current: ArcSwapOption::empty(),
            opening: tokio::sync::Mutex::new(()),
            used: Mutex::new(Instant::now()),
        })
    }

    /// The leg, if there is a usable one.
    pub(crate) fn current(&self) -> Option<Arc<Leg>> {
        self.current.load_full().filter(|leg| !leg.is_closed())
    }

    /// The leg; opened if there is none, or if `broken` still is the one.
    pub(crate) async fn open(
        &self,
        upstream: &Arc<Upstream>,
        broken: Option<&Arc<Leg>>,
    ) -> Result<Arc<Leg>, Fault> {
        if let Some(client) = &self.awaits {
            upstream.standing.settled().await;
            let slot = upstream.place(|| client.clone())?;
            return slot.open_here(upstream, broken).await;
        }
        self.open_here(upstream, broken).await
    }

    async fn open_here(
        &self,
        upstream: &Arc<Upstream>,
        broken: Option<&Arc<Leg>>,
    ) -> Result<Arc<Leg>, Fault> {
        let usable =
            || self.current().filter(|leg| broken.is_none_or(|broken| !Arc::ptr_eq(leg, broken)));
        if let Some(leg) = usable() {
            return Ok(leg);
        }
        let _opening = self.opening.lock().await;
        if let Some(leg) = usable() {
            return Ok(leg);
        }
        let link = upstream.link().ok_or_else(|| upstream.outage())?;
        let leg = Leg::open(upstream, link).await?;
        self.current.store(Some(leg.clone()));
        Ok(leg)
    }

    pub(super) fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}
