//! Writes what there should be for a server.

use std::fmt::Debug;

use crds::McpServer;
use gateway_core::ResourceRef;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::{Desired, Workload};
use super::catalogs::Verified;
use super::verify::Lists;
use super::workload::Objects;
use crate::conditions::Verdict;
use crate::context::Context;
use crate::entries::is_not_found;
use crate::objects::{self, Error, call};
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
}

pub(super) async fn apply(
    ctx: &Context,
    server: &McpServer,
    observed: &Observed,
    desired: Desired,
) -> Result<Applied, Error> {
    let Desired { resource, workload, record, in_force, lists, accepted, address } = desired;
    let hand = Hand { ctx, server };
    match workload {
        Workload::Run(objects) => hand.run(*objects, &observed.live).await?,
        Workload::None => hand.clear(&observed.live).await?,
        Workload::AsItIs => {}
    }
    let Lists { keep, change } = lists;
    if let Some(keep) = &keep {
        let (namespace, name) = (resource.namespace.as_str(), &*resource.name);
        ctx.catalogs.apply(namespace, name, keep, observed.news.as_ref()).await?;
    }
    let version = match record {
        Some(record) => Some(ctx.entries.apply(&record).await?),
        None => in_force,
    };
    let verified = keep.or_else(|| observed.verified.clone());
    Ok(Applied { resource, version, accepted, address, verified, change })
}

/// Writes objects of one server.
struct Hand<'a> {
    ctx: &'a Context,
    server: &'a McpServer,
}

impl Hand<'_> {
    async fn run(&self, desired: Objects, live: &Live) -> Result<(), Error> {
        let Objects { service_account, deployment, service, headless, network_policy } = desired;
        // Closed before it opens.
        self.put(&network_policy, live.network_policy.as_deref()).await?;
        self.put(&service_account, live.service_account.as_deref()).await?;
        self.put(&service, live.service.as_deref()).await?;
        match headless {
            Some(headless) => self.put(&headless, live.headless.as_deref()).await?,
            None => self.drop(live.headless.as_deref()).await?,
        }
        self.put(&deployment, live.deployment.as_deref()).await
    }

    async fn clear(&self, live: &Live) -> Result<(), Error> {
        self.drop::<Deployment>(live.deployment.as_deref()).await?;
        self.drop::<Service>(live.service.as_deref()).await?;
        self.drop::<Service>(live.headless.as_deref()).await?;
        self.drop::<ServiceAccount>(live.service_account.as_deref()).await?;
        self.drop::<NetworkPolicy>(live.network_policy.as_deref()).await
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
        objects::apply("run a server", &self.api(), desired, live, &uid).await?;
        Ok(())
    }

    /// Deletes what is this server's; what only has its name stays.
    async fn drop<K>(&self, live: Option<&K>) -> Result<(), Error>
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
        match call("end a server", api.delete(&live.name_any(), &params)).await {
            Err(Error::Kube(_, error)) if is_not_found(&error) => Ok(()),
            other => other.map(drop),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.ctx.client.clone(), &self.server.namespace().unwrap_or_default())
    }
}
