//! A tenant with a server that runs, a user who may use everything, and ways to change that quickly.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::{
    Fault, Program, Release, Tenant,
    release::{self, ENTRIES, HOME, RELEASE},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::ApiResource,
};
use serde_json::{Value, json};

use super::{Answer, Lead, PATIENCE, Traffic, entries, traffic, until};

/// The kinds of ours.
pub(crate) const KINDS: [(&str, &str); 3] =
    [("McpServer", "server"), ("McpApiKey", "key"), ("McpPolicy", "policy")];

/// The server that runs.
pub(crate) const SERVER: &str = "tools";
/// A tool of it.
pub(crate) const ECHO: &str = "tools_echo";
/// Who calls.
pub(crate) const USER: &str = "alice";
/// Until a write is in every entry: more than it takes on a machine that also compiles.
const CONVERGED: Duration = Duration::from_secs(20);

/// A gateway that ends waits for its clients as long as it may.
const ENDED: Duration = Duration::from_secs(90);

/// Longer than it takes the Ingress controller to hear that a pod is ready: it takes in changes every 2 s.
const TOLD: Duration = Duration::from_secs(5);

/// One life of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pod: String,
    restarts: i32,
}

impl Run {
    fn of(pod: &Pod) -> Self {
        let containers = pod.status.iter().flat_map(|status| &status.container_statuses).flatten();
        Self { pod: pod.name_any(), restarts: containers.map(|one| one.restart_count).sum() }
    }
}

/// How long ago a pod became ready, if it is.
fn ready_for(pod: &Pod) -> Option<Duration> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|one| one.type_ == "Ready" && one.status == "True")?;
    let since = ready.last_transition_time.as_ref()?.0.as_second();
    Some(super::now().saturating_sub(Duration::from_secs(u64::try_from(since).ok()?)))
}

/// Everything that a bad day happens to. The tenant goes before the cluster is given to others.
pub(crate) struct Scene {
    pub(crate) tenant: Tenant,
    pub(crate) release: Release,
    pub(crate) client: Client,
    /// A key that stays.
    pub(crate) key: String,
}

impl Scene {
    /// None where nothing may be broken.
    pub(crate) async fn set(name: &str) -> Result<Option<Self>> {
        let release = Release::alone().await?;
        if !release.cluster().is_own() {
            return Ok(None);
        }
        let client = client(&release).await?;
        wait_alone(&client).await?;
        let tenant = release.tenant(name).await?;
        let image = release.image(Program::Everything)?;
        tenant.run(SERVER, image, json!({})).await?;
        // A namespace of an earlier run may still be ending, and what two tenants claim is the first one's.
        let key = format!("key-of-{}-that-stays", tenant.name());
        let scene = Self { tenant, release, client, key };
        scene.give("stays", &scene.key).await?;
        scene.put("McpPolicy", "all", allow_everything()).await?;
        scene.tenant.ready("mcpserver", SERVER).await?;
        scene.wait_answer(&scene.key, ECHO, &Answer::Called, PATIENCE).await?;
        scene.wait_steady(None).await?;
        Ok(Some(scene))
    }

    pub(crate) fn fault(&self) -> Result<Fault<'_>> {
        self.release.cluster().fault()
    }

    /// Where clients reach the gateway.
    pub(crate) fn ingress(&self) -> Result<SocketAddr> {
        self.release.cluster().ingress()
    }

    pub(crate) fn resources(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), self.tenant.name(), &resource(kind))
    }

    /// Applies a resource of ours.
    pub(crate) async fn put(&self, kind: &str, name: &str, spec: Value) -> Result<()> {
        put(&self.resources(kind), kind, name, &spec).await
    }

    /// Deletes a resource of ours.
    pub(crate) async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        self.resources(kind).delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Another name for the server that runs.
    pub(crate) async fn alias(&self, name: &str) -> Result<()> {
        self.put("McpServer", name, alias("")).await
    }

    /// Makes a key of this value.
    pub(crate) async fn give(&self, name: &str, value: &str) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": value},
        });
        let secrets = Api::<Secret>::namespaced(self.client.clone(), self.tenant.name());
        secrets.patch(name, &params(), &Patch::Apply(&secret)).await?;
        self.put("McpApiKey", name, key(name)).await
    }

    /// What a call is answered with.
    pub(crate) async fn call(&self, key: &str, tool: &str) -> Result<Answer> {
        Ok(traffic::call(self.ingress()?, key, tool).await)
    }

    /// Waits for an answer.
    pub(crate) async fn wait_answer(
        &self,
        key: &str,
        tool: &str,
        wanted: &Answer,
        deadline: Duration,
    ) -> Result<()> {
        let last = std::sync::Mutex::new(None);
        let is_it = || async {
            let answer = self.call(key, tool).await?;
            let is_it = answer == *wanted;
            last.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.replace(answer);
            Ok(is_it)
        };
        let waited =
            until(&format!("{tool} to be answered with {wanted:?}"), deadline, is_it).await;
        waited.with_context(|| format!("the last answer was {last:?}"))
    }

    /// Calls that go on, with the key that stays.
    pub(crate) fn traffic(&self) -> Result<Traffic> {
        Ok(Traffic::start(self.ingress()?, &self.key, ECHO))
    }

    /// Waits until every resource of the tenant has its entry, of its generation, and every entry its resource.
    pub(crate) async fn wait_converged(&self) -> Result<()> {
        let last = std::sync::Mutex::new(String::new());
        let converged = || async {
            let (resources, entries) = (self.wanted().await?, self.stored().await?);
            let differ = |(name, one): (&String, &(String, i64))| {
                (entries.get(name) != Some(one)).then(|| name.clone())
            };
            let wrong: Vec<String> = resources.iter().filter_map(differ).collect();
            let orphans: Vec<&String> =
                entries.keys().filter(|name| !resources.contains_key(*name)).collect();
            *last.lock().map_err(|_| anyhow::anyhow!("poisoned"))? =
                format!("not of their resource: {wrong:?}; without one: {orphans:?}");
            Ok(wrong.is_empty() && orphans.is_empty())
        };
        let waited = until("entries and resources to agree", CONVERGED, converged).await;
        waited.with_context(|| format!("{last:?}"))
    }

    /// UID and generation of each resource, by the name of its entry.
    async fn wanted(&self) -> Result<BTreeMap<String, (String, i64)>> {
        let mut wanted = BTreeMap::new();
        for (kind, short) in KINDS {
            for object in self.resources(kind).list(&ListParams::default()).await? {
                let name = format!("{short}.{}.{}", self.tenant.name(), object.name_any());
                let generation = object.metadata.generation.unwrap_or_default();
                wanted.insert(name, (object.uid().unwrap_or_default(), generation));
            }
        }
        Ok(wanted)
    }

    async fn stored(&self) -> Result<BTreeMap<String, (String, i64)>> {
        let ours = format!("fairway.dev/namespace={}", self.tenant.name());
        let secrets = self.entries().list(&ListParams::default().labels(&ours)).await?;
        let read = |secret: &Secret| {
            let record = entries::record(secret)?;
            Some((secret.name_any(), (record.uid, record.generation)))
        };
        Ok(secrets.iter().filter_map(read).collect())
    }

    pub(crate) fn entries(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), ENTRIES)
    }

    /// The name of an entry.
    pub(crate) fn entry(&self, short: &str, name: &str) -> String {
        format!("{short}.{}.{name}", self.tenant.name())
    }

    /// Ends the operators or brings them back.
    pub(crate) async fn scale_operators(&self, replicas: i32) -> Result<()> {
        let deployments = Api::<Deployment>::namespaced(self.client.clone(), HOME);
        let name = format!("{RELEASE}-operator");
        let scale = json!({"spec": {"replicas": replicas}});
        deployments.patch_scale(&name, &PatchParams::default(), &Patch::Merge(&scale)).await?;
        if replicas == 0 {
            let none = || async { Ok(self.pods("operator").await?.is_empty()) };
            until("the operators to end", PATIENCE, none).await?;
        }
        Ok(())
    }

    /// Pods of a component of the release.
    pub(crate) async fn pods(&self, component: &str) -> Result<Vec<Pod>> {
        let of =
            format!("app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}");
        let pods = Api::<Pod>::namespaced(self.client.clone(), HOME);
        Ok(pods.list(&ListParams::default().labels(&of)).await?.items)
    }

    /// The pod of the gateway.
    pub(crate) async fn gateway(&self) -> Result<String> {
        Ok(self.gateway_pod().await?.name_any())
    }

    async fn gateway_pod(&self) -> Result<Pod> {
        let pods = self.pods("gateway").await?;
        let running = |pod: &Pod| pod.meta().deletion_timestamp.is_none();
        let mut running = pods.into_iter().filter(running);
        let one = running.next().context("no gateway runs")?;
        ensure!(running.next().is_none(), "two gateways run");
        Ok(one)
    }

    /// The gateway that runs now.
    pub(crate) async fn run(&self) -> Result<Run> {
        Ok(Run::of(&self.gateway_pod().await?))
    }

    /// Waits until a gateway serves that is not this one, if there was one, and nobody is about to turn its clients
    /// away: a gateway that was restarted answers before the kubelet says that it was not ready, and before the
    /// Ingress controller hears of either.
    pub(crate) async fn wait_steady(&self, before: Option<&Run>) -> Result<()> {
        let steady = || async {
            let pod = self.gateway_pod().await?;
            let another = before.is_none_or(|before| Run::of(&pod) != *before);
            let told = ready_for(&pod).is_some_and(|time| time >= TOLD);
            Ok(another && told && self.call(&self.key, ECHO).await? == Answer::Called)
        };
        until("the gateway to serve steadily", PATIENCE, steady).await
    }

    /// What a pod of the release has said.
    pub(crate) async fn log(&self, pod: &str) -> Result<String> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), HOME);
        Ok(pods.logs(pod, &LogParams::default()).await?)
    }

    /// How long after somebody led, or after a later change, it was now.
    pub(crate) fn since(lead: &Lead, change: Duration) -> Duration {
        super::now().saturating_sub(lead.since.max(change))
    }
}

/// A client of the apiserver that repeats nothing by itself.
async fn client(release: &Release) -> Result<Client> {
    // With two providers in the tree rustls does not choose.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(release.cluster().kubeconfig())?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Waits until no pod of an earlier installation serves or leads any more.
async fn wait_alone(client: &Client) -> Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), HOME);
    let none_ends = || async {
        let pods = pods.list(&ListParams::default()).await?;
        Ok(pods.iter().all(|pod| pod.meta().deletion_timestamp.is_none()))
    };
    until("pods of an earlier installation to end", ENDED, none_ends).await
}

pub(crate) fn resource(kind: &str) -> ApiResource {
    match kind {
        "McpServer" => ApiResource::erase::<crds::McpServer>(&()),
        "McpApiKey" => ApiResource::erase::<crds::McpApiKey>(&()),
        _ => ApiResource::erase::<crds::McpPolicy>(&()),
    }
}

/// Server-side apply, as kubectl does it.
pub(crate) async fn put(
    api: &Api<DynamicObject>,
    kind: &str,
    name: &str,
    spec: &Value,
) -> Result<()> {
    api.patch(name, &params(), &Patch::Apply(&release::manifest(kind, name, spec))).await?;
    Ok(())
}

pub(crate) fn params() -> PatchParams {
    PatchParams::apply("bad-days").force()
}

/// A server that is the one that runs.
pub(crate) fn alias(description: &str) -> Value {
    let host = json!({"name": format!("mcp-{SERVER}")});
    json!({"service": host, "description": description})
}

/// A key whose value is in the Secret of its name.
pub(crate) fn key(name: &str) -> Value {
    json!({"user": USER, "valueFrom": {"secretKeyRef": {"name": name, "key": "key"}}})
}

pub(crate) fn allow_everything() -> Value {
    json!({"subjects": [{"user": USER}], "rules": [{"servers": ["*"]}]})
}

/// Everything but one tool, named as its server does.
pub(crate) fn deny(tool: &str) -> Value {
    json!({
        "subjects": [{"user": USER}],
        "rules": [{"servers": ["*"]}, {"effect": "Deny", "servers": ["*"], "tools": [tool]}],
    })
}
