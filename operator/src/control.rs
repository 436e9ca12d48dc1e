//! The controller of one kind: has its objects reconciled when one of them changes or its bell
//! rings, where this replica leads.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::StreamExt;
use gateway_core::Kind;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::Store;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bell::Bell;
use crate::context::{Context, reference};
use crate::objects::{Error, source};
use crate::unreadable;
use crate::world::Changes;

/// Reconciles of one kind that run at a time: enough to hide the apiserver's latency, few enough
/// not to be throttled by it.
const CONCURRENCY: u16 = 16;

/// How a kind is looked after.
pub(crate) struct Control {
    pub(crate) kind: Kind,
    /// True once everything was listed.
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) stop: CancellationToken,
}

impl Control {
    /// Reconciles until it is stopped; what is under way then comes to its end.
    pub(crate) fn run<K, F, R>(
        self,
        ctx: Arc<Context>,
        (changes, store): (Changes<DeserializeGuard<K>>, Store<DeserializeGuard<K>>),
        bell: Arc<Bell>,
        reconcile: F,
    ) -> impl Future<Output = ()> + Send + 'static
    where
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
        let look = move |object: Arc<DeserializeGuard<K>>, ctx: Arc<Context>| {
            let (reconcile, mut ready) = (reconcile.clone(), ready.clone());
            async move {
                // What it would be compared with has to be known.
                let known = ready.wait_for(|ready| *ready).await.is_ok();
                // A standby is woken by nothing: who begins to lead looks at everything.
                if !known || ctx.leadership.term().is_none() {
                    return Ok(Action::await_change());
                }
                let began = Instant::now();
                let done = match &object.0 {
                    Ok(object) => reconcile(Arc::new(object.clone()), ctx.clone()).await,
                    Err(invalid) => unreadable::tell::<K>(&ctx, kind, invalid).await,
                };
                ctx.telemetry.reconciled(kind, began.elapsed().as_secs_f64());
                if done.is_ok() {
                    ctx.failures.forget(&reference(kind, object.meta()));
                }
                done
            }
        };
        let again = move |object: Arc<DeserializeGuard<K>>, error: &Error, ctx: Arc<Context>| {
            failed(kind, object.meta(), error, &ctx)
        };
        let controller = Controller::for_stream(changes, store)
            .with_config(Config::default().concurrency(CONCURRENCY))
            .reconcile_on(bell.listen())
            .graceful_shutdown_on(stop.cancelled_owned());
        controller.run(look, again, ctx).for_each(|_| std::future::ready(()))
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
