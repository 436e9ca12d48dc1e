//! Whose leg it is, and where it is kept until it is needed again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use gateway_core::{KeyEntry, Namespace, Principal};
use mcp::Era;
use tokio::time::Instant;

use super::Upstream;
use super::fault::Fault;
use super::leg::Leg;
use super::lodger::Lodger;
use crate::client::Client;
use crate::session::SessionId;

/// Legs nobody used for so long are closed.
const LEG_IDLE: Duration = Duration::from_secs(30 * 60);

/// Whose leg it is: never two principals', and of one principal one for each session. Requests
/// without a session share one, those of the modern era one for all who can do the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey {
    tenant: Namespace,
    key: Arc<str>,
    who: Who,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Session(SessionId),
    Nobody,
    /// JSON text of what it can do.
    Guest(Bytes),
}

impl ClientKey {
    pub(crate) fn new(principal: &Principal, client: &Client) -> Self {
        let who = match client {
            Client::Legacy(None) => Who::Nobody,
            Client::Legacy(Some(member)) => Who::Session(member.session),
            Client::Modern(_) => Who::Guest(client.capabilities_bytes()),
        };
        Self::with(principal, who)
    }

    pub(crate) fn of_session(principal: &Principal, session: SessionId) -> Self {
        Self::with(principal, Who::Session(session))
    }

    fn with(principal: &Principal, who: Who) -> Self {
        // A server that is exposed to other tenants has clients of theirs.
        let KeyEntry { namespace, name, .. } = &*principal.key;
        Self { tenant: namespace.clone(), key: name.clone(), who }
    }

    /// The same at all gateways.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let who = match &self.who {
            Who::Session(session) => session.as_bytes(),
            Who::Nobody => &[][..],
            Who::Guest(capabilities) => capabilities,
        };
        [self.tenant.as_str().as_bytes(), b"/", self.key.as_bytes(), b"/", who].concat()
    }

    /// The session, if it is one's.
    pub(super) const fn session(&self) -> Option<SessionId> {
        match self.who {
            Who::Session(session) => Some(session),
            Who::Nobody | Who::Guest(_) => None,
        }
    }

    pub(super) fn is_of(&self, other: &Self) -> bool {
        (&self.tenant, &self.key) == (&other.tenant, &other.key)
    }
}

/// A place for a leg that is opened when it is first needed and again when it breaks.
#[derive(Debug)]
pub(crate) struct Slot {
    of: Of,
    pub(super) current: ArcSwapOption<Leg>,
    /// Held while a leg is opened: all who need it wait for one.
    opening: tokio::sync::Mutex<()>,
    /// Nobody comes back for its leg.
    given_up: AtomicBool,
    used: Mutex<Instant>,
}

/// Where a client's calls go.
#[derive(Debug)]
pub(crate) enum Seat {
    /// Over the gateway's own leg, which its server holds.
    Own,
    /// Over that of the legacy era.
    Legacy,
    /// Over one of its own.
    Apart(Arc<Slot>),
}

impl Seat {
    pub(crate) fn slot<'a>(&'a self, upstream: &'a Upstream) -> &'a Arc<Slot> {
        match self {
            Self::Own => &upstream.own,
            Self::Legacy => &upstream.legacy,
            Self::Apart(slot) => slot,
        }
    }
}

/// Whose legs a slot holds.
#[derive(Debug)]
pub(super) enum Of {
    /// The gateway's own, of the newest era the server speaks: lists come over it.
    Gateway,
    /// The gateway's own of the legacy era, at a server that speaks both.
    GatewayLegacy,
    /// One client's.
    Client(Box<Lodger>),
    /// No place of its own: for a client whose place is not known yet.
    Awaiting(Era, Box<Lodger>),
}

impl Slot {
    pub(super) fn new(of: Of) -> Arc<Self> {
        Arc::new(Self {
            of,
            current: ArcSwapOption::empty(),
            opening: tokio::sync::Mutex::new(()),
            given_up: AtomicBool::new(false),
            used: Mutex::new(Instant::now()),
        })
    }

    /// The leg, if there is a usable one.
    pub(crate) fn current(&self) -> Option<Arc<Leg>> {
        self.current.load_full().filter(|leg| !leg.is_closed())
    }

    /// Whether it still has that leg, usable or not.
    pub(super) fn holds(&self, leg: &Arc<Leg>) -> bool {
        self.current.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, leg))
    }

    /// The leg; opened if there is none, or if `broken` still is the one.
    pub(crate) async fn open(
        &self,
        upstream: &Arc<Upstream>,
        broken: Option<&Arc<Leg>>,
    ) -> Result<Arc<Leg>, Fault> {
        if let Of::Awaiting(era, lodger) = &self.of {
            let seat = upstream.find_place(*era, lodger).await?;
            return seat.slot(upstream).open_here(upstream, broken).await;
        }
        self.open_here(upstream, broken).await
    }

    pub(super) async fn open_here(
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
        let leg = match &self.of {
            Of::Gateway if upstream.is_modern() => Leg::discover(upstream).await?,
            Of::Client(lodger) => Leg::open(upstream, upstream.link()?, Some(lodger)).await?,
            // A place that is awaited is never opened here.
            Of::Gateway | Of::GatewayLegacy | Of::Awaiting(..) => {
                Leg::open(upstream, upstream.link()?, None).await?
            }
        };
        self.current.store(Some(leg.clone()));
        // Whoever takes it out of the place closes it.
        if self.given_up.load(Ordering::SeqCst)
            && let Some(leg) = self.current.swap(None)
        {
            upstream.close_soon(leg);
        }
        Ok(leg)
    }

    /// Gives the place up: the leg in it, to be closed. One that is being opened is closed after the
    /// calls that wait for it.
    pub(super) fn give_up(&self) -> Option<Arc<Leg>> {
        self.given_up.store(true, Ordering::SeqCst);
        self.current.swap(None)
    }

    pub(super) fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Whether a call has it, besides the place where it is kept.
    pub(super) fn is_in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Whether its leg was used so long ago that it is closed.
    pub(super) fn is_unused(self: &Arc<Self>) -> bool {
        !self.is_in_use() && self.idle() >= LEG_IDLE
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leg_is_closed_half_an_hour_after_its_last_use() {
        let slot = Slot::new(Of::Gateway);
        advance(LEG_IDLE / 2).await;
        slot.touch();
        advance(LEG_IDLE / 2).await;
        assert!(!slot.is_unused());

        advance(LEG_IDLE / 2).await;
        let call = slot.clone();
        assert!(!slot.is_unused(), "closed under a call");
        drop(call);
        assert!(slot.is_unused());
    }
}
