//! What is to reach a session's client wherever its stream is: offered to all gateways, one message
//! after the other, so that they arrive in order.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use gateway_core::KeyDigest;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Fleet, Letter, Pod};
use crate::session::SessionId;

/// Messages that wait, and their bytes. Those for which there is no room are as if nobody had heard
/// them.
pub(super) const QUEUE: usize = 1024;
pub(super) const MAX_WAITING: usize = 16 * 1024 * 1024;

/// What becomes of something that nobody heard.
type Unheard = Box<dyn FnOnce() + Send>;

/// Something for a session's client, on its stream.
pub(crate) struct Parcel {
    session: SessionId,
    message: Bytes,
    unheard: Option<Unheard>,
    _room: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcel").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Paths of the fleet's own messages.
pub(super) const SAY: &str = "/peer/say";
pub(super) const TOOK: &str = "/peer/took";
pub(super) const ATTEND: &str = "/peer/attend";

impl Fleet {
    /// Has a client told something on its stream, which is not here. False if nobody could be asked.
    pub(crate) fn say(&self, session: SessionId, message: Bytes) -> bool {
        self.carry(session, message, None)
    }

    /// The same, and `unheard` if nobody has the stream.
    pub(crate) fn say_or(
        &self,
        session: SessionId,
        message: Bytes,
        unheard: impl FnOnce() + Send + 'static,
    ) -> bool {
        self.carry(session, message, Some(Box::new(unheard)))
    }

    fn carry(&self, session: SessionId, message: Bytes, unheard: Option<Unheard>) -> bool {
        if self.is_alone() {
            return false;
        }
        let bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let Ok(room) = self.waiting.clone().try_acquire_many_owned(bytes) else { return false };
        self.parcels.try_send(Parcel { session, message, unheard, _room: room }).is_ok()
    }

    /// Has another gateway open the legs on which a session subscribed to something: its stream is
    /// here.
    pub(crate) async fn attend(
        &self,
        pod: &Pod,
        principal: KeyDigest,
        session: SessionId,
        note: &Bytes,
    ) {
        let (principal, session) = (Some(principal), Some(session));
        let letter = Letter { principal, session, told: false };
        // One that does not take it is asked again in time.
        self.deliver(pod, ATTEND, letter, note).await;
    }

    /// Lets the others know that a session's stream is here: they have none. Whoever opens another
    /// one does it after they have heard of this one.
    pub(crate) async fn took(&self, session: SessionId) {
        let letter = Letter { session: Some(session), ..Letter::default() };
        let (pods, nothing) = (self.reachable(), Bytes::new());
        join_all(pods.iter().map(|pod| self.deliver(pod, TOOK, letter, &nothing))).await;
    }
}

/// Carries what there is to carry.
pub(crate) async fn carry(
    fleet: Arc<Fleet>,
    mut parcels: mpsc::Receiver<Parcel>,
    stop: CancellationToken,
) {
    while let Some(Some(parcel)) = stop.run_until_cancelled(parcels.recv()).await {
        let Parcel { session, message, unheard, _room } = parcel;
        let letter = Letter { session: Some(session), ..Letter::default() };
        let pods = fleet.reachable();
        let offers = pods.iter().map(|pod| fleet.deliver(pod, SAY, letter, &message));
        let heard = join_all(offers).await.contains(&true);
        if let Some(unheard) = unheard.filter(|_| !heard) {
            unheard();
        }
    }
}
