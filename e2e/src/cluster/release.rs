//! Fairway itself in the cluster, installed by Helm from this checkout: one release for all tests, whose namespaces
//! are its tenants.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{
    Cluster, Image, Namespace, Profile, Program, command,
    lock::{Lock, Share},
};

/// Name of the release.
pub const RELEASE: &str = "fairway";
/// Its namespace.
pub const HOME: &str = "fairway-e2e";
/// The namespace that holds what gateways read.
pub const ENTRIES: &str = "fairway-entries";

/// A release that runs.
#[derive(Debug)]
pub struct Release {
    cluster: Cluster,
    images: Vec<Image>,
}

impl Release {
    /// Installs or upgrades it to what this checkout says, and waits until all its pods are ready. Other tests use it
    /// at the same time.
    pub async fn shared() -> Result<Self> {
        Self::install(Cluster::shared().await?, Profile::Image, &[]).await
    }

    /// The same with nobody beside.
    pub async fn alone() -> Result<Self> {
        Self::install(Cluster::alone().await?, Profile::Image, &[]).await
    }

    /// The same for measurements: as it is released, and with nobody beside.
    pub async fn measured() -> Result<Self> {
        Self::install(Cluster::alone().await?, Profile::Release, &[]).await
    }

    async fn install(cluster: Cluster, profile: Profile, more: &[&str]) -> Result<Self> {
        let images = cluster.images_of(&Program::ALL, profile).await?;
        let _installing = Lock::take(
            &cluster.layout.release_lock(),
            Share::Alone,
            Duration::from_secs(600),
            &cluster.progress,
        )
        .await?;
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/fairway");
        let chart = chart.display().to_string();
        let mut values = vec![
            format!("entriesNamespace={ENTRIES}"),
            "ingress.enabled=true".to_owned(),
            "ingress.className=traefik".to_owned(),
            format!("config.publicUrl=http://{}", cluster.ingress()?.ip()),
            format!("upstreams.forbiddenRanges={{{}}}", super::layout::PODS),
        ];
        for (image, program) in images.iter().zip(Program::ALL) {
            let component = match program {
                Program::Gateway => "gateway",
                Program::Operator => "operator",
                Program::Everything => "demo.everything",
                Program::Filesystem => "demo.filesystem",
                Program::Sql => "demo.sql",
            };
            values.push(format!("{component}.image.tag={}", image.tag()));
        }
        let mut arguments = vec!["upgrade", "--install", RELEASE, &chart];
        arguments.extend(["--namespace", HOME, "--create-namespace"]);
        values.iter().for_each(|value| arguments.extend(["--set", value]));
        arguments.extend(more);
        cluster.helm(&arguments, MINUTES).await.context("helm cannot install the chart")?;
        let release = Self { cluster, images };
        release.wait_rolled_out().await?;
        Ok(release)
    }

    /// Waits until the pods of the release are those that it asks for, and ready.
    pub async fn wait_rolled_out(&self) -> Result<()> {
        for deployment in ["operator", "gateway"] {
            let deployment = format!("deployment/{RELEASE}-{deployment}");
            let arguments = ["--namespace", HOME, "rollout", "status", &deployment];
            self.cluster.kubectl_for(&arguments, MINUTES).await?;
        }
        // The Ingress controller follows a moment later.
        let through = || async { Ok(self.get("/health").await? == 200) };
        command::until("the gateway behind the Ingress", MINUTES, through).await
    }

    /// The cluster it runs in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The image of a program, as pods name it.
    pub fn image(&self, program: Program) -> Result<&str> {
        let image = self.images.iter().zip(Program::ALL).find(|(_, other)| *other == program);
        Ok(image.context("no such image")?.0.reference())
    }

    /// Where clients reach the gateway, through the Ingress controller.
    pub fn url(&self) -> Result<String> {
        Ok(format!("http://{}", self.cluster.ingress()?))
    }

    /// The status that a GET through the Ingress has.
    pub async fn get(&self, path: &str) -> Result<u16> {
        let address = self.cluster.ingress()?;
        Ok(super::http::get(address, path).await?.0)
    }

    /// A namespace that is a tenant of its own.
    pub async fn tenant(&self, name: &str) -> Result<Tenant> {
        Ok(Tenant { namespace: self.cluster.namespace(name).await? })
    }
}

/// A tenant: a namespace with servers, keys and policies.
#[derive(Debug)]
pub struct Tenant {
    namespace: Namespace,
}

impl Tenant {
    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Applies a resource of ours.
    pub async fn apply(&self, kind: &str, name: &str, spec: Value) -> Result<()> {
        self.namespace.apply(&manifest(kind, name, &spec).to_string()).await.map(drop)
    }

    /// Applies a server that runs one of our images, with these fields besides.
    pub async fn run(&self, name: &str, image: &str, mut spec: Value) -> Result<()> {
        let host = format!("mcp-{name}.{}.svc", self.name());
        spec["workload"] = json!({
            "image": image,
            "healthPath": "/health",
            "env": [{"name": "ALLOWED_HOSTS", "value": host}],
        });
        self.apply("McpServer", name, spec).await
    }

    /// Deletes a resource of ours, and does not wait for what depends on it.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        self.namespace.kubectl(&["delete", kind, name, "--wait=false"]).await.map(drop)
    }

    /// Waits until a resource is ready.
    pub async fn ready(&self, kind: &str, name: &str) -> Result<()> {
        self.namespace.wait(&format!("{kind}/{name}"), "condition=Ready", MINUTES).await
    }

    /// A resource as it is.
    pub async fn read(&self, kind: &str, name: &str) -> Result<Value> {
        let printed = self.namespace.kubectl(&["get", kind, name, "--output=json"]).await?;
        Ok(serde_json::from_str(&printed)?)
    }

    /// Waits until a condition of a resource has this reason, and gives its message.
    pub async fn wait_reason(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        reason: &str,
    ) -> Result<String> {
        let last = std::sync::Mutex::new(Value::Null);
        let found = || async {
            let object = self.read(kind, name).await?;
            let conditions = object["status"]["conditions"].as_array().cloned();
            let found = conditions.into_iter().flatten().find(|c| c["type"] == condition);
            let found = found.unwrap_or_default();
            let is_it = found["reason"] == reason;
            *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = found;
            Ok(is_it)
        };
        let what = format!("{condition} of {kind} {name} to be {reason}");
        let waited = command::until(&what, MINUTES, found).await;
        let last = last.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(error) = waited {
            bail!("{error:#}; it is {last}");
        }
        Ok(last["message"].as_str().unwrap_or_default().to_owned())
    }

    /// A key that the operator makes, once it works.
    pub async fn key(&self, name: &str, spec: Value) -> Result<String> {
        self.apply("McpApiKey", name, spec).await?;
        self.ready("mcpapikey", name).await?;
        self.collect(name).await
    }

    /// What the Secret of a key holds.
    pub async fn collect(&self, name: &str) -> Result<String> {
        let secret = format!("mcp-key-{name}");
        let path = "--output=go-template={{.data.key | base64decode}}";
        self.namespace.kubectl(&["get", "secret", &secret, path]).await
    }

    /// A policy that lets a user use these servers.
    pub async fn allow(&self, name: &str, user: &str, servers: &[&str]) -> Result<()> {
        let spec = json!({"subjects": [{"user": user}], "rules": [{"servers": servers}]});
        self.apply("McpPolicy", name, spec).await?;
        self.ready("mcppolicy", name).await
    }
}

/// A resource of ours.
pub fn manifest(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "fairway.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// Pods start within seconds when nothing else is done; tests run beside each other.
const MINUTES: Duration = Duration::from_secs(240);
