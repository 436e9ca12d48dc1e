//! What is to reach a session's client wherever its stream is: offered to all gateways, one message
//! after the other, so that they arrive in order.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Fleet, Letter};
use crate::session::SessionId;

/// Messages that wait. Those for which there is no room are as if nobody had heard them.
pub(super) const QUEUE: usize = 1024;

/// What becomes of something that nobody heard.
type Unheard = Box<dyn FnOnce() + Send>;

/// Something for a session's client.
pub(crate) struct Parcel {
    session: SessionId,
    what: What,
}

enum What {
    /// A message for its stream.
    Say(Bytes, Option<Unheard>),
    /// Its stream is here now: others have none.
    Took,
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcel").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Paths of the fleet's own messages.
pub(super) const SAY: &str = "/peer/say";
pub(super) const TOOK: &str = "/peer/took";

impl Fleet {
    /// Has a client told something on its stream, which is not here. False if nobody could be asked.
    pub(crate) fn say(&self, session: SessionId, message: Bytes) -> bool {
        self.carry(Parcel { session, what: What::Say(message, None) })
    }

    /// The same, and `unheard` if nobody has the stream.
    pub(crate) fn say_or(
        &self,
        session: SessionId,
        message: Bytes,
        unheard: impl FnOnce() + Send + 'static,
    ) -> bool {
        self.carry(Parcel { session, what: What::Say(message, Some(Box::new(unheard))) })
    }

    /// Lets the others know that a session's stream is here.
    pub(crate) fn took(&self, session: SessionId) {
        self.carry(Parcel { session, what: What::Took });
    }

    fn carry(&self, parcel: Parcel) -> bool {
        !self.pods.load().is_empty() && self.parcels.try_send(parcel).is_ok()
    }
}

/// Carries what there is to carry.
pub(crate) async fn carry(
    fleet: Arc<Fleet>,
    mut parcels: mpsc::Receiver<Parcel>,
    stop: CancellationToken,
) {
    while let Some(Some(Parcel { session, what })) = stop.run_until_cancelled(parcels.recv()).await
    {
        let letter = Letter { session: Some(session), ..Letter::default() };
        let (path, message, unheard) = match what {
            What::Say(message, unheard) => (SAY, message, unheard),
            What::Took => (TOOK, Bytes::new(), None),
        };
        let pods = fleet.reachable();
        let offers = pods.iter().map(|pod| fleet.deliver(pod, path, letter, &message));
        let heard = join_all(offers).await.contains(&true);
        if let Some(unheard) = unheard.filter(|_| !heard) {
            unheard();
        }
    }
}
