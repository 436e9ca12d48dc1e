//! Calls under way, by session and id: so that they can be cancelled, and an id not be used twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::session::SessionId;

/// Sessions rarely meet in one shard.
const SHARDS: usize = 64;

/// Session, and JSON text of the id.
type CallId = (SessionId, Bytes);

/// How each call is told.
type Calls = HashMap<CallId, Arc<Cancel>>;

/// All calls under way that belong to a session. Each worker has a clone of its own, so that who
/// holds it is counted by that worker alone.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    shards: Arc<[Mutex<Calls>; SHARDS]>,
}

/// Tells a call that its client wants it no more.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    cancelled: AtomicBool,
    call: AtomicWaker,
}

impl Cancel {
    /// Whether the call was cancelled; if not, wakes `waker` when it is.
    pub(crate) fn poll(&self, waker: &std::task::Waker) -> bool {
        self.call.register(waker);
        self.cancelled.load(Ordering::Acquire)
    }
}

/// A call's place in the table, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    calls: Arc<InFlight>,
    id: CallId,
    pub(crate) cancel: Arc<Cancel>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.calls.with(&self.id, |calls| calls.remove(&self.id));
    }
}

impl InFlight {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { shards: Arc::new(std::array::from_fn(|_| Mutex::default())) })
    }

    /// Enters a call. `None` if a call of that id is under way in the session.
    pub(crate) fn register(
        self: &Arc<Self>,
        session: SessionId,
        id: Bytes,
    ) -> Option<Registration> {
        let id = (session, id);
        let cancel = Arc::new(Cancel::default());
        let entered = self.with(&id, |calls| match calls.entry(id.clone()) {
            Entry::Vacant(free) => {
                free.insert(cancel.clone());
                true
            }
            Entry::Occupied(_) => false,
        });
        entered.then(|| Registration { calls: self.clone(), id, cancel })
    }

    /// Cancels a call, if it is under way.
    pub(crate) fn cancel(&self, session: SessionId, id: Bytes) {
        let id = (session, id);
        if let Some(cancel) = self.with(&id, |calls| calls.get(&id).cloned()) {
            cancel.cancelled.store(true, Ordering::Release);
            cancel.call.wake();
        }
    }

    fn with<T>(&self, id: &CallId, act: impl FnOnce(&mut Calls) -> T) -> T {
        let shard = &self.shards[id.0.shard(SHARDS)];
        act(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
