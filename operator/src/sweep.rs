//! Deletes the entries of resources that are gone. There are no finalizers: what was deleted while
//! no operator led is found by comparing.

use std::collections::{HashMap, HashSet};
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
use crate::entries::catalog_name;
use crate::objects::{Error, call};

/// However many there are, so many may always go at once; and this part of all.
const FEW: usize = 20;
const PART: usize = 5;
/// Gives leave for more, on the operator's Lease.
const LEAVE: &str = "fairway.dev/allow-sweep";
/// Deletions under way.
const AT_ONCE: usize = 16;
/// After a failure.
const RETRY: Duration = Duration::from_millis(200);

/// Resources that were seen to go, and whether to look for others.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    /// By resource, its UID. Bounded by the number of objects there were.
    gone: Mutex<HashMap<ResourceRef, String>>,
    look: Mutex<bool>,
    news: Notify,
}

impl Departed {
    /// A resource with this UID is gone.
    pub(crate) fn add(&self, resource: ResourceRef, uid: String) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(resource, uid);
        self.news.notify_one();
    }

    /// Some may be gone.
    pub(crate) fn look(&self) {
        *self.look.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.news.notify_one();
    }

    fn take(&self) -> (Vec<(ResourceRef, String)>, bool) {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        let look = std::mem::take(&mut *self.look.lock().unwrap_or_else(PoisonError::into_inner));
        (gone, look)
    }
}

/// Deletes as long as it is polled. Where this replica does not lead nothing is deleted, and
/// nothing is forgotten: who begins to lead looks at everything.
pub(crate) async fn run(ctx: Arc<Context>, departed: Arc<Departed>) {
    loop {
        departed.news.notified().await;
        let (gone, look) = departed.take();
        if ctx.leadership.term().is_none() {
            continue;
        }
        // First what is certain: somebody may have revoked a key.
        let failed: Vec<(ResourceRef, String)> = stream::iter(gone)
            .map(|(resource, uid)| forget(&ctx, resource, uid))
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let swept = if look { sweep(&ctx).await } else { Ok(()) };
        if let Err(error) = &swept {
            tracing::warn!(%error, "cannot look for entries whose resource is gone; trying again");
        }
        if swept.is_err() || !failed.is_empty() {
            sleep(RETRY).await;
            failed.into_iter().for_each(|(resource, uid)| departed.add(resource, uid));
            if swept.is_err() {
                departed.look();
            }
        }
    }
}

/// Deletes what was kept of a resource; gives it back if that failed.
async fn forget(
    ctx: &Context,
    resource: ResourceRef,
    uid: String,
) -> Option<(ResourceRef, String)> {
    let entry = ctx.entries.delete(&resource, &uid).await;
    let list = match resource.kind {
        Kind::Server => {
            let name = catalog_name(resource.namespace.as_str(), &resource.name);
            ctx.catalogs.delete(&name).await
        }
        Kind::Key => {
            ctx.gateways.forget_key(resource.namespace.as_str(), &resource.name);
            Ok(())
        }
        Kind::Policy => Ok(()),
    };
    match entry.and(list) {
        Ok(()) => None,
        Err(error) => {
            tracing::warn!(%resource, %error, "cannot delete an entry yet");
            Some((resource, uid))
        }
    }
}

/// Looks for entries without a resource. The lists they are compared with are complete: nothing
/// runs before they are.
async fn sweep(ctx: &Context) -> Result<(), Error> {
    let all = ctx.entries.all();
    let orphans: Vec<(ResourceRef, String)> = all
        .iter()
        .filter(|(resource, record)| ctx.world.uid_of(resource).as_ref() != Some(&record.uid))
        .map(|(resource, record)| (resource.clone(), record.uid.clone()))
        .collect();
    let most = FEW.max(all.len() / PART);
    if orphans.len() > most && !has_leave(ctx).await? {
        ctx.telemetry.withheld.set(i64::try_from(orphans.len()).unwrap_or(i64::MAX));
        let (orphans, all) = (orphans.len(), all.len());
        tracing::error!(
            orphans,
            all,
            "so many resources are gone that it may be a mistake; their entries stay until the \
             operator's Lease has the annotation {LEAVE}=true"
        );
        return Ok(());
    }
    ctx.telemetry.withheld.set(0);
    let failed = stream::iter(orphans)
        .map(|(resource, uid)| async move {
            // The cache may be behind; the apiserver has the last word.
            if is_there(ctx, &resource, &uid).await? {
                return Ok(());
            }
            match forget(ctx, resource, uid).await {
                None => Ok(()),
                Some(_) => Err(Error::Slow("delete an entry")),
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|done: Result<(), Error>| std::future::ready(done.err()))
        .collect::<Vec<_>>()
        .await;
    let servers: HashSet<String> = ctx
        .world
        .servers
        .state()
        .iter()
        .map(|server| catalog_name(&server.namespace().unwrap_or_default(), &server.name_any()))
        .collect();
    let lists = ctx.catalogs.without(&servers);
    // As with entries, but they are only copies: what was too much stays for the next time.
    for list in lists.iter().take(most) {
        ctx.catalogs.delete(list).await?;
    }
    failed.into_iter().next().map_or(Ok(()), Err)
}

/// Whether the apiserver has the resource. Only its own word that the object is not there counts:
/// without the CRD, or without the right to read, nothing is known.
async fn is_there(ctx: &Context, resource: &ResourceRef, uid: &str) -> Result<bool, Error> {
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
