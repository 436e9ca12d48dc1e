//! Deletes the entries of resources that are gone. There are no finalizers: what was deleted while
//! no operator led is found by comparing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::{McpApiKey, McpPolicy, McpServer};
use futures_util::{StreamExt, stream};
use gateway_core::{Kind, ResourceRef};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::context::Context;
use crate::objects::{Error, call, source};

/// However many there are, so many may always go at once; and this part of all.
const FEW: usize = 20;
const PART: usize = 5;
/// Gives leave for more, on the operator's Lease.
const LEAVE: &str = "fairway.dev/allow-sweep";
/// Deletions under way.
const AT_ONCE: usize = 16;
/// After a failure: the first delay and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// A resource and its UID.
type Gone = (ResourceRef, String);

/// Resources that were seen to go, and whether to look for others.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    /// Bounded by the number of objects there were since the last look.
    gone: Mutex<HashSet<Gone>>,
    look: AtomicBool,
    news: Notify,
}

impl Departed {
    /// A resource with this UID is gone.
    pub(crate) fn add(&self, resource: ResourceRef, uid: String) {
        self.add_all([(resource, uid)]);
        self.news.notify_one();
    }

    /// Some may be gone.
    pub(crate) fn look(&self) {
        self.look.store(true, Ordering::Release);
        self.news.notify_one();
    }

    fn add_all(&self, gone: impl IntoIterator<Item = Gone>) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).extend(gone);
    }

    fn take(&self) -> (Vec<Gone>, bool) {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        (gone, self.look.swap(false, Ordering::AcqRel))
    }
}

/// Deletes as long as it is polled. Where this replica does not lead nothing is deleted, and
/// nothing is forgotten: who begins to lead looks at everything.
pub(crate) async fn run(ctx: Arc<Context>, departed: Arc<Departed>) {
    let mut delay = None;
    loop {
        // What failed is tried again; what is new does not wait for that.
        let again = async {
            match delay {
                Some(delay) => sleep(delay).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = departed.news.notified() => {}
            () = again => {}
        }
        let (gone, look) = departed.take();
        if ctx.leadership.term().is_none() {
            delay = None;
            continue;
        }
        // First what is certain: somebody may have revoked a key.
        let failed = forget_all(&ctx, gone).await;
        let swept = if look { sweep(&ctx).await } else { Ok(Swept::All) };
        if let Some((_, error)) = failed.first()
            && delay.is_none()
        {
            tracing::warn!(%error, "entries cannot be deleted yet; trying again");
        }
        if let Err(error) = &swept
            && delay.is_none()
        {
            let source = source(error);
            tracing::warn!(%error, source, "cannot look for entries whose resource is gone; trying again");
        }
        let doubled = delay.map_or(RETRY_FIRST, |delay: Duration| (delay * 2).min(RETRY_LAST));
        delay = match swept {
            Ok(Swept::All) if failed.is_empty() => None,
            // Leave may be given at any time.
            Ok(Swept::Withheld) if failed.is_empty() => Some(RETRY_LAST),
            _ => Some(doubled),
        };
        departed.add_all(failed.into_iter().map(|(gone, _)| gone));
        if !matches!(swept, Ok(Swept::All)) {
            departed.look.store(true, Ordering::Release);
        }
    }
}

/// How far a look for orphans came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swept {
    /// None is left.
    All,
    /// They were too many.
    Withheld,
}

/// Deletes what was kept of resources; gives back those for which that failed.
async fn forget_all(ctx: &Context, gone: Vec<Gone>) -> Vec<(Gone, Error)> {
    stream::iter(gone)
        .map(|(resource, uid)| async move {
            let failed = forget(ctx, &resource, &uid).await.err()?;
            Some(((resource, uid), failed))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Deletes what was kept of a resource.
async fn forget(ctx: &Context, resource: &ResourceRef, uid: &str) -> Result<(), Error> {
    ctx.entries.delete(resource, uid).await?;
    match resource.kind {
        Kind::Server => ctx.catalogs.delete(resource.namespace.as_str(), &resource.name, uid).await,
        Kind::Key | Kind::Policy => Ok(()),
    }
}

/// Looks for entries and lists without a resource. What they are compared with is complete: nothing
/// runs before everything was listed.
async fn sweep(ctx: &Context) -> Result<Swept, Error> {
    let (entries, lists) = (ctx.entries.all(), ctx.catalogs.all());
    let kept = entries.len();
    let of_entries = entries.into_iter().map(|(resource, record)| (resource, record.uid.clone()));
    let all = of_entries.chain(lists).collect::<HashSet<Gone>>();
    let is_orphan =
        |(resource, uid): &Gone| ctx.world.resources.uid_of(resource).as_ref() != Some(uid);
    let orphans: Vec<Gone> = all.into_iter().filter(is_orphan).collect();
    let most = FEW.max(kept / PART);
    if orphans.len() > most && !has_leave(ctx).await? {
        withhold(ctx, orphans.len(), kept);
        return Ok(Swept::Withheld);
    }
    ctx.telemetry.withheld.set(0);
    let failed: Vec<Error> = stream::iter(orphans)
        .map(|(resource, uid)| async move {
            // The cache may be behind; the apiserver has the last word.
            if is_there(ctx, &resource, &uid).await? {
                return Ok(());
            }
            forget(ctx, &resource, &uid).await
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|done: Result<(), Error>| std::future::ready(done.err()))
        .collect()
        .await;
    failed.into_iter().next().map_or(Ok(Swept::All), Err)
}

/// Leaves so many orphans alone, and says so once.
fn withhold(ctx: &Context, orphans: usize, entries: usize) {
    let withheld = i64::try_from(orphans).unwrap_or(i64::MAX);
    if ctx.telemetry.withheld.set(withheld) == withheld {
        return;
    }
    tracing::error!(
        orphans,
        entries,
        "so many resources are gone that it may be a mistake; their entries stay until the \
         operator's Lease has the annotation {LEAVE}=true"
    );
}

/// Whether the apiserver has the resource. Only its own word that the object is not there counts:
/// without the CRD, or without the right to read, nothing is known.
async fn is_there(ctx: &Context, resource: &ResourceRef, uid: &str) -> Result<bool, Error> {
    // Somebody decided that it is none of ours any more; we may not even ask for it.
    if !ctx.settings.watches(resource.namespace.as_str()) {
        return Ok(false);
    }
    async fn uid_of<K>(api: Api<K>, name: &str) -> Result<Option<String>, Error>
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        match call("look whether a resource is there", api.get_metadata(name)).await {
            Ok(object) => Ok(object.metadata.uid),
            Err(Error::Kube(what, error)) => match *error {
                kube::Error::Api(status)
                    if status.is_not_found()
                        && status.details.as_ref().is_some_and(|d| d.name == name) =>
                {
                    Ok(None)
                }
                other => Err(Error::Kube(what, Box::new(other))),
            },
            Err(other) => Err(other),
        }
    }
    let (namespace, client) = (resource.namespace.as_str(), ctx.client.clone());
    let found = match resource.kind {
        Kind::Server => {
            uid_of(Api::<McpServer>::namespaced(client, namespace), &resource.name).await
        }
        Kind::Key => uid_of(Api::<McpApiKey>::namespaced(client, namespace), &resource.name).await,
        Kind::Policy => {
            uid_of(Api::<McpPolicy>::namespaced(client, namespace), &resource.name).await
        }
    }?;
    Ok(found.as_deref() == Some(uid))
}

async fn has_leave(ctx: &Context) -> Result<bool, Error> {
    let api = Api::<Lease>::namespaced(ctx.client.clone(), &ctx.settings.namespace);
    let lease = call("read the Lease", api.get_opt(&ctx.settings.lease)).await?;
    Ok(lease.is_some_and(|lease| lease.annotations().get(LEAVE).is_some_and(|v| v == "true")))
}

#[cfg(test)]
mod tests;
