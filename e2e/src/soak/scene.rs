//! What there is: gateways, servers, and a key for everybody.

use anyhow::{Context as _, Result};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams};
use serde_json::json;

use crate::cluster::{
    Program, Release, Tenant,
    release::{HOME, RETRIES},
};

/// One is left alone, one is in trouble, and one is there when that one shows.
const GATEWAYS: &str = "gateway.replicas=3";
/// Four, while one is replaced by its successor, have to fit on a node of two cores.
const CPU: &str = "gateway.resources.requests.cpu=100m";
/// Who uses everything.
pub(super) const USER: &str = "soak";

/// Everything that the load and the troubles need.
pub(super) struct Scene<'a> {
    pub(super) release: &'a Release,
    pub(super) tenant: Tenant,
    pub(super) client: Client,
    pub(super) key: String,
    /// The gateway that is left alone.
    pub(super) veteran: String,
}

impl std::fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl<'a> Scene<'a> {
    pub(super) async fn set(release: &'a Release) -> Result<Self> {
        release.upgrade(&[GATEWAYS, CPU, RETRIES]).await?;
        let client = release.cluster().client().await?;
        let tenant = release.tenant("soak").await?;
        let image = release.image(Program::Everything)?;
        for (server, session) in [("tools", "Shared"), ("held", "PerClient"), ("restless", "Auto")]
        {
            let mut workload = tenant.workload(server, image);
            let slow = json!({"name": "EVERYTHING_SLOW_TOOLS", "value": "true"});
            workload["env"].as_array_mut().context("a workload has variables")?.push(slow);
            let spec = json!({"workload": workload, "session": session});
            tenant.apply("McpServer", server, spec).await?;
        }
        tenant.allow(USER, USER, &["*"]).await?;
        for server in ["tools", "held", "restless"] {
            tenant.ready("mcpserver", server).await?;
        }
        let key = tenant.key(USER, json!({"user": USER})).await?;
        let mut scene = Self { release, tenant, client, key, veteran: String::new() };
        let first = scene.gateways().await?.into_iter().next();
        scene.veteran = first.context("no gateway runs")?.name_any();
        Ok(scene)
    }

    /// Resources of the tenant.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.tenant.name())
    }

    /// The pods of gateways that are to stay, the oldest first.
    pub(super) async fn gateways(&self) -> Result<Vec<Pod>> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), HOME);
        let gateways = ListParams::default().labels("app.kubernetes.io/component=gateway");
        let mut pods = pods.list(&gateways).await?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by_key(|pod| (pod.creation_timestamp(), pod.name_any()));
        Ok(pods)
    }
}
