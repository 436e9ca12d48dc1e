//! What a replica does when its term begins, and from time to time until it ends.

use std::sync::Arc;
use std::time::Duration;

use crds::{McpApiKey, McpServer};
use gateway_core::Kind;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use tokio::time::sleep;

use crate::bell::Bell;
use crate::context::{Context, id, reference};
use crate::ranges::Ranges;
use crate::sweep::Departed;

/// Before what did not change is looked at: what did comes first.
const CALM: Duration = Duration::from_millis(500);
/// Between two looks at the ranges of the cluster: nodes come and go.
const RANGES: Duration = Duration::from_secs(30);
/// Between two looks at whether a gateway is left.
const GATEWAYS: Duration = Duration::from_secs(10);
/// After ranges that could not be written.
const RETRY: Duration = Duration::from_secs(2);

/// Runs as long as it is polled, through terms and the times between them.
pub(crate) async fn run(ctx: Arc<Context>, departed: Arc<Departed>, ranges: Ranges) {
    let mut term = ctx.leadership.watch();
    loop {
        let leads = term.borrow_and_update().is_some();
        ctx.telemetry.leading.set(i64::from(leads));
        let ended = if leads {
            ctx.telemetry.terms.inc();
            // What is gone first: somebody may have revoked a key while nobody led.
            departed.look();
            ring_changed(&ctx);
            let rest = async {
                sleep(CALM).await;
                ring_all(&ctx);
            };
            tokio::select! {
                ended = term.changed() => ended,
                _ = async { tokio::join!(rest, keep_ranges(&ranges), heed_gateways(&ctx)) } => return,
            }
        } else {
            term.changed().await
        };
        if ended.is_err() {
            return;
        }
    }
}

async fn keep_ranges(ranges: &Ranges) {
    let mut failing = false;
    loop {
        let done = ranges.update().await;
        if let Err(error) = &done
            && !failing
        {
            let source = crate::objects::source(error);
            tracing::warn!(%error, source, "the ranges of the cluster cannot be written; trying again");
        }
        failing = done.is_err();
        sleep(if failing { RETRY } else { RANGES }).await;
    }
}

/// When no gateway is left, nothing is in force any more; that is told of everything, but not for
/// the moment in which one restarts.
async fn heed_gateways(ctx: &Context) {
    let mut none = ctx.gateways.ready() == 0;
    loop {
        sleep(GATEWAYS).await;
        let before = std::mem::replace(&mut none, ctx.gateways.ready() == 0);
        if none && !before {
            ring_all(ctx);
        }
    }
}

/// Rings for every object whose entry is not of its present generation, and for those that depend on
/// Secrets or Services of the user: nobody saw whether they changed.
fn ring_changed(ctx: &Context) {
    fn changed<K>(
        ctx: &Context,
        kind: Kind,
        store: &Store<DeserializeGuard<K>>,
        bell: &Bell,
        depends: impl Fn(&K) -> bool,
    ) where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        let is_due = |object: &DeserializeGuard<K>| {
            let meta = object.meta();
            let stored = ctx.entries.of(&reference(kind, meta)).and_then(|stored| stored.record);
            let same = stored.is_some_and(|record| {
                Some(&record.uid) == meta.uid.as_ref() && Some(record.generation) == meta.generation
            });
            !same || object.0.as_ref().is_ok_and(&depends)
        };
        let due = store.state().into_iter().filter(|object| is_due(object));
        bell.ring_all(due.map(|object| id(object.meta())).collect::<Vec<_>>());
    }
    let (resources, bells) = (&ctx.world.resources, &ctx.bells);
    let brought = |key: &McpApiKey| key.spec.value_from.is_some();
    changed(ctx, Kind::Key, &resources.keys, &bells.keys, brought);
    changed(ctx, Kind::Policy, &resources.policies, &bells.policies, |_| false);
    let refers = |server: &McpServer| {
        let spec = &server.spec;
        spec.credentials.is_some() || spec.tls.is_some() || spec.service.is_some()
    };
    changed(ctx, Kind::Server, &resources.servers, &bells.servers, refers);
}

/// Rings for every object.
fn ring_all(ctx: &Context) {
    let (resources, bells) = (&ctx.world.resources, &ctx.bells);
    bells.keys.ring_all(resources.all(Kind::Key));
    bells.policies.ring_all(resources.all(Kind::Policy));
    bells.servers.ring_all(resources.all(Kind::Server));
}
