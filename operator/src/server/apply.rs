//! Writes what there should be for a server.

use std::fmt::Debug;
use std::sync::Arc;

use crds::McpServer;
use gateway_core::ResourceRef;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::{Desired, Table, Workload};
use super::catalogs::Verified;
use super::verify::Lists;
use super::workload::Objects;
use crate::conditions::{Holds, Verdict};
use crate::context::Context;
use crate::objects::{self, Error, absent_is_fine, call};
use crate::server::observe::{Live, Observed};

#[derive(Debug)]
pub(super) struct Applied {
    pub(super) resource: ResourceRef,
    /// `resourceVersion` of the entry; none if there is none.
    pub(super) version: Option<u64>,
    pub(super) accepted: Verdict,
    pub(super) address: Option<String>,
    /// The list that is kept.
    pub(super) verified: Option<Verified>,
    /// How the definitions changed, if they did.
    pub(super) change: Option<String>,
    /// Whether the list is too large to be kept.
    pub(super) too_large: bool,
    /// Why what it consists of cannot be run, to be tried again.
    pub(super) refused: Option<Error>,
}

pub(super) async fn apply(
    ctx: &Context,
    server: &McpServer,
    observed: &Observed,
    desired: Desired,
) -> Result<Applied, Error> {
    let Desired { resource, workload, table, in_force, lists, accepted, address } = desired;
    let hand = Hand { ctx, server };
    let refused = match &workload {
        Workload::Run(objects) => refusal(hand.run(objects, &observed.live).await)?,
        Workload::None | Workload::AsItIs => None,
    };
    let Lists { keep, change, too_large } = lists;
    if let Some(keep) = &keep {
        let (namespace, name) = (resource.namespace.as_str(), &*resource.name);
        ctx.catalogs.apply(namespace, name, keep, observed.news.as_ref()).await?;
    }
    // What cannot run is not told either: all of a version counts, or nothing.
    let (table, accepted) = match &refused {
        Some((_, text)) if observed.leads_home => {
            (Table::AsItIs, Verdict::refused("WorkloadRefused", text, in_force.is_some()))
        }
        Some((_, text)) => (Table::Withdraw, Verdict::refused("WorkloadRefused", text, false)),
        None => (table, accepted),
    };
    let version = match table {
        Table::Serve(record) => Some(ctx.entries.apply(&record).await?),
        Table::AsItIs => in_force,
        Table::Withdraw => {
            let uid = server.uid().unwrap_or_default();
            ctx.entries.delete(&resource, &uid).await?;
            None
        }
    };
    hand.prune(&workload, &observed.live, || {
        ctx.programmed(&resource, version, &accepted).holds != Holds::No
    })
    .await?;
    Ok(Applied {
        resource,
        version,
        accepted,
        address,
        verified: keep.or_else(|| observed.verified.clone()),
        change,
        too_large,
        refused: refused.map(|(error, _)| error),
    })
}

/// What somebody has to mend is told in a condition, too.
fn refusal(done: Result<(), Error>) -> Result<Option<(Error, String)>, Error> {
    let Err(error) = done else { return Ok(None) };
    match error.refusal() {
        Some(text) => Ok(Some((error, text))),
        None => Err(error),
    }
}

/// Writes objects of one server.
struct Hand<'a> {
    ctx: &'a Context,
    server: &'a McpServer,
}

impl Hand<'_> {
    async fn run(&self, desired: &Objects, live: &Live) -> Result<(), Error> {
        let Objects { service_account, deployment, service, headless, network_policy } = desired;
        // Closed before it opens.
        self.put(network_policy, live.network_policy.as_deref()).await?;
        self.put(service_account, live.service_account.as_deref()).await?;
        self.put(service, live.service.as_deref()).await?;
        if let Some(headless) = headless {
            self.put(headless, live.headless.as_deref()).await?;
        }
        self.put(deployment, live.deployment.as_deref()).await
    }

    /// Ends what is not to run any more, once nobody calls it: the gateways have to know first that
    /// the server is elsewhere. Until then they are waited for, and this is tried again.
    async fn prune(
        &self,
        workload: &Workload,
        live: &Live,
        is_known: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let Live { service_account, deployment, service, headless, network_policy, .. } = live;
        match workload {
            Workload::Run(objects)
                if objects.headless.is_none() && headless.is_some() && is_known() =>
            {
                self.end(headless).await
            }
            Workload::None if !live.is_empty() && is_known() => {
                self.end(deployment).await?;
                self.end(service).await?;
                self.end(headless).await?;
                self.end(service_account).await?;
                self.end(network_policy).await
            }
            Workload::Run(_) | Workload::None | Workload::AsItIs => Ok(()),
        }
    }

    async fn put<K>(&self, desired: &K, live: Option<&K>) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        self.ctx.term()?;
        let uid = self.server.uid().unwrap_or_default();
        objects::apply("run the server", &self.api(), desired, live, &uid).await
    }

    /// Deletes what is this server's; what only has its name stays.
    async fn end<K>(&self, live: &Option<Arc<K>>) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let uid = self.server.uid().unwrap_or_default();
        let Some(live) = live else { return Ok(()) };
        if live.owner_references().iter().all(|owner| owner.uid != uid) {
            return Ok(());
        }
        self.ctx.term()?;
        let preconditions = Preconditions { uid: live.uid(), resource_version: None };
        let params =
            DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let api = self.api::<K>();
        absent_is_fine(call("end the server", api.delete(&live.name_any(), &params)).await)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.ctx.client.clone(), &self.server.namespace().unwrap_or_default())
    }
}
