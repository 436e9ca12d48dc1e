//! The controller of one kind: has its objects reconciled when one of them changes or its bell
//! rings, where this replica leads.
//!
//! kube's own queues everything in a timer that counts milliseconds and rounds up, which would be
//! a quarter of the time that a change needs to be in force.

use std::fmt::Debug;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use gateway_core::Kind;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bell::{Bell, Id};
use crate::context::{Context, id, reference};
use crate::objects::{Error, source};
use crate::queue::Queue;
use crate::unreadable;
use crate::world::Changes;

/// Reconciles of one kind that run at a time: enough to hide the apiserver's latency, few enough
/// not to be throttled by it.
const CONCURRENCY: usize = 16;

/// When an object is looked at again, if nothing about it changes; never if there is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) after: Option<Duration>,
}

impl Action {
    pub(crate) const fn requeue(after: Duration) -> Self {
        Self { after: Some(after) }
    }

    pub(crate) const fn await_change() -> Self {
        Self { after: None }
    }
}

/// How a kind is looked after.
pub(crate) struct Control {
    pub(crate) kind: Kind,
    /// True once everything was listed.
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) stop: CancellationToken,
}

impl Control {
    /// Reconciles until it is stopped; what is under way then comes to its end.
    pub(crate) async fn run<K, F, R>(
        self,
        ctx: Arc<Context>,
        (changes, store): (Changes<DeserializeGuard<K>>, Store<DeserializeGuard<K>>),
        bell: Arc<Bell>,
        reconcile: F,
    ) where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        F: Fn(Arc<K>, Arc<Context>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Action, Error>> + Send + 'static,
    {
        let Self { kind, ready, stop } = self;
        let look = |id: Id| {
            let (store, ready) = (store.clone(), ready.clone());
            let (ctx, reconcile) = (ctx.clone(), reconcile.clone());
            async move {
                let object = store.get(&ObjectRef::new(&id.1).within(&id.0));
                let action = match object {
                    Some(object) => look(kind, &object, ready, &ctx, reconcile).await,
                    None => Action::await_change(),
                };
                (id, action)
            }
        };
        let (mut queue, mut looks) = (Queue::default(), JoinSet::new());
        let (mut changes, mut rung) = (changes.fuse(), pin!(bell.listen()));
        loop {
            while looks.len() < CONCURRENCY
                && let Some(id) = queue.next(Instant::now())
            {
                looks.spawn(look(id));
            }
            let alarm = queue.soonest().filter(|_| looks.len() < CONCURRENCY);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = looks.join_next() => match done {
                    Ok((id, Action { after })) => {
                        queue.done(id, after.map(|after| Instant::now() + after));
                    }
                    Err(error) => {
                        if let Ok(panic) = error.try_into_panic() {
                            resume_unwind(panic);
                        }
                    }
                },
                Some(object) = changes.next() => queue.ring(id(object.meta())),
                Some(id) = rung.next() => queue.ring(id),
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {}
            }
        }
        while looks.join_next().await.is_some() {}
    }
}

/// One look at an object.
async fn look<K, F, R>(
    kind: Kind,
    object: &DeserializeGuard<K>,
    mut ready: watch::Receiver<bool>,
    ctx: &Arc<Context>,
    reconcile: F,
) -> Action
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
    F: Fn(Arc<K>, Arc<Context>) -> R,
    R: Future<Output = Result<Action, Error>>,
{
    // What it would be compared with has to be known.
    let known = ready.wait_for(|ready| *ready).await.is_ok();
    // A standby is woken by nothing: who begins to lead looks at everything.
    if !known || ctx.leadership.term().is_none() {
        return Action::await_change();
    }
    let began = Instant::now();
    let done = match &object.0 {
        Ok(object) => reconcile(Arc::new(object.clone()), ctx.clone()).await,
        Err(invalid) => unreadable::tell::<K>(ctx, kind, invalid).await,
    };
    ctx.telemetry.reconciled(kind, began.elapsed().as_secs_f64());
    match done {
        Ok(action) => {
            ctx.failures.forget(&reference(kind, object.meta()));
            action
        }
        Err(error) => failed(kind, object.meta(), &error, ctx),
    }
}

/// When to try again.
fn failed(
    kind: Kind,
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    error: &Error,
    ctx: &Context,
) -> Action {
    let resource = reference(kind, meta);
    // Nothing is tried again, nor remembered, of what is gone; a term that begins looks at all.
    if matches!(error, Error::NotLeader) || ctx.world.resources.uid_of(&resource).is_none() {
        return Action::await_change();
    }
    ctx.telemetry.failed(kind, error.reason());
    if error.is_conflict() {
        tracing::debug!(%resource, "another write came first; trying again");
    } else {
        let source = source(error);
        tracing::warn!(%resource, %error, source, "a reconcile failed and is tried again");
    }
    ctx.failures.again(resource, error)
}
