//! Calls that wait for a modern client to answer what a legacy server asked.
//!
//! The client sends its request again with what we gave it as `requestState`: a random handle. Only
//! the principal that made the call finds it again, and only with the same request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use gateway_core::{Namespace, Principal};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::call::Call;
use crate::peer::Tag;

/// Calls of all clients, and of one key. Each holds what its server asked, of up to 256 KiB.
const MAX_PARKED: usize = 1024;
const MAX_OF_KEY: usize = 64;
/// How long a person may take to answer: as long as a call may take in all.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Tells our handles from what servers give as state.
const PREFIX: &str = "fairway-call:";

/// The gateway that keeps the call, and what nobody can guess.
type Handle = [u8; 24];

/// All calls that wait.
#[derive(Debug)]
pub(crate) struct Parked {
    here: Tag,
    calls: Mutex<HashMap<Handle, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    call: Box<Call>,
    of: (Namespace, Arc<str>),
    request: Request,
    /// Gives it up in the end.
    _end: AbortOnDropHandle<()>,
}

/// What tells one request from another: a hash over method and parameters.
pub(crate) type Request = [u8; 32];

impl Parked {
    /// At the gateway of that name.
    pub(crate) fn at(here: Tag) -> Arc<Self> {
        Arc::new(Self { here, calls: Mutex::default() })
    }

    /// Keeps a call and returns the result that asks its client for input.
    ///
    /// # Errors
    /// The call itself when too many wait.
    pub(crate) fn park(
        self: &Arc<Self>,
        principal: &Principal,
        call: Box<Call>,
    ) -> Result<Bytes, Box<Call>> {
        let mut handle = Handle::default();
        let (keeper, secret) = handle.split_at_mut(8);
        keeper.copy_from_slice(&self.here.to_bytes());
        if aws_lc_rs::rand::fill(secret).is_err() {
            return Err(call);
        }
        let of = (principal.key.namespace.clone(), principal.key.name.clone());
        // Without the lock: it may be long.
        let result = call.input_required(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(handle)));
        let request = call.digest();
        let mut calls = self.lock();
        let of_key = calls.values().filter(|waiting| waiting.of == of).count();
        if calls.len() >= MAX_PARKED || of_key >= MAX_OF_KEY {
            return Err(call);
        }
        let end = tokio::spawn(expire(Arc::downgrade(self), handle, call.revoked()));
        let _end = AbortOnDropHandle::new(end);
        calls.insert(handle, Waiting { call, of, request, _end });
        Ok(result)
    }

    /// Whether a state is one of ours.
    pub(crate) fn is_handle(state: &str) -> bool {
        state.starts_with(PREFIX)
    }

    /// The gateway that keeps the call which a state means.
    pub(crate) fn keeper(state: &str) -> Option<Tag> {
        Some(Tag::from_bytes(*handle(state)?.first_chunk()?))
    }

    /// The call that a state means.
    pub(crate) fn take(
        &self,
        state: &str,
        principal: &Principal,
        request: &Request,
    ) -> Option<Box<Call>> {
        let handle = handle(state)?;
        let mut calls = self.lock();
        let waiting = calls.get(&handle)?;
        let (namespace, name) = &waiting.of;
        let same = *namespace == principal.key.namespace
            && *name == principal.key.name
            && waiting.request == *request;
        same.then(|| calls.remove(&handle)).flatten().map(|waiting| waiting.call)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Handle, Waiting>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn handle(state: &str) -> Option<Handle> {
    URL_SAFE_NO_PAD.decode(state.strip_prefix(PREFIX)?).ok()?.try_into().ok()
}

/// Gives a call up that nobody came back for, or whose key is not good any more: dropped, it is
/// cancelled.
async fn expire(parked: Weak<Parked>, handle: Handle, revoked: impl Future<Output = ()>) {
    // Both are the end of it.
    let _ = timeout(PATIENCE, revoked).await;
    if let Some(parked) = parked.upgrade() {
        let waiting = parked.lock().remove(&handle);
        drop(waiting);
    }
}
