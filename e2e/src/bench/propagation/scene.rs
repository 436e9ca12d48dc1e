//! A tenant with a server that runs, and as many servers and keys beside it as are asked for.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use crds::{
    Access, KeySource, McpApiKey, McpApiKeySpec, McpPolicy, McpPolicySpec, McpServer,
    McpServerSpec, Rule, SecretKeyRef, ServiceRef, Subject,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::probe::Probe;
use crate::cluster::{
    Program, Release, Tenant,
    release::{ENTRIES, HOME, condition_of},
};

/// The server that runs, and its Service.
pub(super) const RUNNING: &str = "running";
/// Who calls.
const USER: &str = "bench";
/// Objects written at a time.
const AT_ONCE: usize = 32;
/// Until everything that was written is in force.
const SETTLED: Duration = Duration::from_secs(300);

/// Everything a measurement needs.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) release: &'a Release,
    pub(super) tenant: Tenant,
    pub(super) client: ClientOf,
    /// A key that stays.
    pub(super) key: String,
}

/// A client of the apiserver. It has no `Debug` of its own.
#[derive(Clone)]
pub(super) struct ClientOf(pub(super) Client);

impl std::fmt::Debug for ClientOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl<'a> Scene<'a> {
    pub(super) async fn set(release: &'a Release) -> Result<Self> {
        let client = ClientOf(release.cluster().client().await?);
        let tenant = release.tenant("bench").await?;
        let mut workload = tenant.workload(RUNNING, release.image(Program::Everything)?);
        // A pod that asks for nothing gets nothing while everybody beside it is busy.
        workload["resources"] = json!({"requests": {"cpu": "300m"}});
        tenant.apply("McpServer", RUNNING, json!({"workload": workload})).await?;
        tenant.ready("mcpserver", RUNNING).await?;
        let scene = Self { release, tenant, client, key: "bench-key-that-stays".to_owned() };
        scene.give("stays", &scene.key).await?;
        let everything = json!({"subjects": [{"user": USER}], "rules": [{"servers": ["*"]}]});
        scene.tenant.apply("McpPolicy", "all", everything).await?;
        scene.tenant.ready("mcppolicy", "all").await?;
        scene.tenant.ready("mcpapikey", "stays").await?;
        Ok(scene)
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.0.clone(), self.tenant.name())
    }

    pub(super) fn entries(&self) -> Api<Secret> {
        Api::namespaced(self.client.0.clone(), ENTRIES)
    }

    /// A connection to the gateway itself: the Ingress would be measured too.
    pub(super) async fn probe(&self) -> Result<Probe> {
        Probe::to(self.gateway().await?).await
    }

    pub(super) async fn gateway(&self) -> Result<SocketAddr> {
        let pods = Api::<Pod>::namespaced(self.client.0.clone(), HOME);
        let gateways = ListParams::default().labels("app.kubernetes.io/component=gateway");
        let pods = pods.list(&gateways).await?;
        let running = pods.items.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
        let address = running.and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
        Ok(SocketAddr::new(address.context("no gateway runs")?.parse()?, 8080))
    }

    /// Sees to it that there are so many servers and keys, and that all of it is in force.
    pub(super) async fn fill(&self, count: u32) -> Result<()> {
        self.apply_all(0..count, |at| server(&format!("filler-{at}"))).await?;
        self.apply_all(0..count, |at| McpApiKey {
            metadata: named(&format!("filler-{at}")),
            spec: McpApiKeySpec { user: format!("user-{at}"), ..McpApiKeySpec::default() },
            status: None,
        })
        .await?;
        self.settle::<McpServer>(count).await?;
        self.settle::<McpApiKey>(count).await
    }

    /// Waits until so many of a kind are ready.
    async fn settle<K>(&self, count: u32) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let deadline = Instant::now() + SETTLED;
        loop {
            let ready = self.ready::<K>().await?;
            if ready > count as usize {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "only {ready} of {count} are ready");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// How many of a kind are ready.
    async fn ready<K>(&self) -> Result<usize>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let all = self.api::<K>().list(&ListParams::default()).await?;
        Ok(all.items.iter().filter(|object| is_ready(*object)).count())
    }

    /// Applies many objects, some at a time.
    pub(super) async fn apply_all<K>(
        &self,
        range: std::ops::Range<u32>,
        make: impl Fn(u32) -> K,
    ) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let objects: Vec<K> = range.map(make).collect();
        let api = self.api::<K>();
        stream::iter(objects)
            .map(|object| {
                let api = api.clone();
                async move { apply(&api, &object).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Makes a key of this value for the user of the benchmark.
    pub(super) async fn give(&self, name: &str, value: &str) -> Result<()> {
        let secret = Secret {
            metadata: named(name),
            string_data: Some(BTreeMap::from([("key".to_owned(), value.to_owned())])),
            ..Secret::default()
        };
        apply(&self.api(), &secret).await?;
        apply(&self.api(), &key(name)).await
    }

    pub(super) async fn delete<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// Whether a resource says so.
pub(super) fn is_ready(object: &impl Serialize) -> bool {
    let object = serde_json::to_value(object).unwrap_or_default();
    condition_of(&object, "Ready")["status"] == "True"
}

/// Server-side apply, as kubectl does it.
pub(super) async fn apply<K>(api: &Api<K>, object: &K) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let params = PatchParams::apply("bench").force();
    api.patch(&object.name_any(), &params, &Patch::Apply(object)).await?;
    Ok(())
}

pub(super) fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// Another name for the server that runs.
pub(super) fn server(name: &str) -> McpServer {
    let service = ServiceRef { name: format!("mcp-{RUNNING}"), port: None };
    McpServer {
        metadata: named(name),
        spec: McpServerSpec {
            service: Some(service),
            host_header: None,
            ..McpServerSpec::default()
        },
        status: None,
    }
}

fn key(name: &str) -> McpApiKey {
    let secret_key_ref = SecretKeyRef { name: name.to_owned(), key: "key".to_owned() };
    McpApiKey {
        metadata: named(name),
        spec: McpApiKeySpec {
            user: USER.to_owned(),
            value_from: Some(KeySource { secret_key_ref }),
            ..McpApiKeySpec::default()
        },
        status: None,
    }
}

/// A policy that denies a tool of the running server, or another that nobody calls.
pub(super) fn denial(tool: &str) -> McpPolicy {
    let Access { servers, .. } = Access::default();
    let rule = Rule { effect: crds::Effect::Deny, servers, tools: vec![tool.to_owned()] };
    McpPolicy {
        metadata: named("denial"),
        spec: McpPolicySpec {
            subjects: vec![Subject { user: Some(USER.to_owned()), ..Subject::default() }],
            rules: vec![rule],
        },
        status: None,
    }
}
