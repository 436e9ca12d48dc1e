//! Fairway itself in the cluster, installed by Helm from this checkout: one release for all tests, whose namespaces
//! are its tenants.

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    Choice, Cluster, Image, Namespace, Profile, Program,
    lock::{Lock, Share},
    namespace,
};

pub use super::command::until;

/// Name of the release.
pub const RELEASE: &str = "fairway";
/// Its namespace.
pub const HOME: &str = "fairway-e2e";
/// The namespace that holds what gateways read.
pub const ENTRIES: &str = "fairway-entries";

/// Addresses of Services to which the `url` of a server may lead all the same: tests give them to what stands for a
/// server outside the cluster.
pub const OUTSIDE: &str = "10.96.255.240/28";

/// Has the Ingress controller of the own cluster try again what was never sent: its configuration has this middleware.
pub const RETRIES: &str = "ingress.retries.traefik.middleware=retry@file";

/// A release that runs.
#[derive(Clone, Debug)]
pub struct Release {
    running: Arc<Running>,
}

#[derive(Debug)]
struct Running {
    cluster: Cluster,
    images: Vec<Image>,
}

impl Release {
    /// Installs or upgrades it to what this checkout says, and waits until all its pods are ready. Other tests use it
    /// at the same time; those of this process install it once.
    pub async fn shared() -> Result<Self> {
        static SHARED: Mutex<Weak<Running>> = Mutex::const_new(Weak::new());

        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return Ok(Self { running });
        }
        let release = Self::install(Cluster::shared().await?, Profile::Image).await?;
        *shared = Arc::downgrade(&release.running);
        Ok(release)
    }

    /// The same with nobody beside.
    pub async fn alone() -> Result<Self> {
        Self::install(Cluster::alone().await?, Profile::Image).await
    }

    /// In the cluster that was chosen, with nobody beside.
    pub async fn chosen(choice: &Choice) -> Result<Self> {
        Self::install(Cluster::up(choice, Share::Alone).await?, Profile::Image).await
    }

    async fn install(cluster: Cluster, profile: Profile) -> Result<Self> {
        let images = cluster.images_of(&Program::ALL, profile).await?;
        let release = Self { running: Arc::new(Running { cluster, images }) };
        release.upgrade(&[]).await?;
        Ok(release)
    }

    /// Upgrades it with these values besides (`NAME=VALUE`), or installs it, and waits until all its pods are ready.
    pub async fn upgrade(&self, more: &[&str]) -> Result<()> {
        let Running { cluster, images } = &*self.running;
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
            // Shares of the CPU: compilers beside the cluster leave nothing of what the chart asks for.
            "operator.resources.requests.cpu=200m".to_owned(),
            "gateway.resources.requests.cpu=400m".to_owned(),
            "gateway.replicas=1".to_owned(),
            "ingress.enabled=true".to_owned(),
            "ingress.className=traefik".to_owned(),
            format!("config.publicUrl=http://{}", cluster.ingress()?.ip()),
            format!("upstreams.forbiddenRanges={{{}}}", super::layout::PODS),
            format!("upstreams.allowedRanges={{{OUTSIDE}}}"),
        ];
        for (image, program) in images.iter().zip(Program::ALL) {
            values.push(format!("{}.image.tag={}", program.component(), image.tag()));
        }
        let mut arguments = vec!["upgrade", "--install", RELEASE, &chart];
        arguments.extend(["--namespace", HOME, "--create-namespace"]);
        // What a test has changed by hand, and did not come to mend, is as it was.
        arguments.extend(["--server-side=true", "--force-conflicts"]);
        values.iter().for_each(|value| arguments.extend(["--set", value]));
        more.iter().for_each(|value| arguments.extend(["--set", value]));
        cluster.helm(&arguments, MINUTES).await.context("helm cannot install the chart")?;
        match self.wait_rolled_out().await {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(namespace::state(HOME, &cluster.access).await)),
        }
    }

    /// Removes it, and waits until everything is gone that goes with it.
    pub async fn uninstall(&self) -> Result<()> {
        let uninstall = ["uninstall", RELEASE, "--namespace", HOME, "--wait"];
        self.cluster().helm(&uninstall, MINUTES).await?;
        let entries = format!("namespace/{ENTRIES}");
        let gone = ["wait", &entries, "--for=delete", "--timeout=120s"];
        self.cluster().kubectl_for(&gone, MINUTES).await?;
        let gone = || async {
            let pods = ["--namespace", HOME, "get", "pods", "--output=name"];
            Ok(self.cluster().kubectl(&pods).await?.is_empty())
        };
        until("the pods of the release to go", MINUTES, gone).await
    }

    /// Waits until the pods of the release are those that it asks for, and ready.
    pub async fn wait_rolled_out(&self) -> Result<()> {
        for deployment in ["operator", "gateway"] {
            let deployment = format!("deployment/{RELEASE}-{deployment}");
            let arguments = ["--namespace", HOME, "rollout", "status", &deployment];
            self.cluster().kubectl_for(&arguments, MINUTES).await?;
        }
        // The Ingress controller follows a moment later.
        let through = || async { Ok(self.get("/health").await? == 200) };
        until("the gateway behind the Ingress", MINUTES, through).await
    }

    /// The cluster it runs in.
    pub fn cluster(&self) -> &Cluster {
        &self.running.cluster
    }

    /// The image of a program, as pods name it.
    pub fn image(&self, program: Program) -> Result<&str> {
        let image =
            self.running.images.iter().zip(Program::ALL).find(|(_, other)| *other == program);
        Ok(image.context("no such image")?.0.reference())
    }

    /// Where clients reach the gateway, through the Ingress controller.
    pub fn url(&self) -> Result<String> {
        Ok(format!("http://{}", self.cluster().ingress()?))
    }

    /// The status that a GET through the Ingress has.
    pub async fn get(&self, path: &str) -> Result<u16> {
        let address = self.cluster().ingress()?;
        Ok(super::http::get(address, path).await?.0)
    }

    /// What gateway and operator have logged.
    pub async fn logs(&self) -> Result<String> {
        let mut logs = String::new();
        for component in ["gateway", "operator"] {
            let pods = format!("--selector=app.kubernetes.io/component={component}");
            let arguments = ["--namespace", HOME, "logs", &pods, "--tail=-1", "--prefix"];
            logs += &self.cluster().kubectl(&arguments).await?;
        }
        Ok(logs)
    }

    /// A namespace that is a tenant of its own.
    pub async fn tenant(&self, name: &str) -> Result<Tenant> {
        Ok(Tenant { namespace: self.cluster().namespace(name).await? })
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
        spec["workload"] = self.workload(name, image);
        self.apply("McpServer", name, spec).await
    }

    /// The workload of a server that runs one of our images.
    pub fn workload(&self, name: &str, image: &str) -> Value {
        let host = format!("mcp-{name}.{}.svc", self.name());
        json!({
            "image": image,
            "healthPath": "/health",
            "env": [{"name": "ALLOWED_HOSTS", "value": host}],
        })
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

    /// Waits until a condition of a resource, as it is now, has this reason, and gives its message.
    pub async fn wait_reason(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        reason: &str,
    ) -> Result<String> {
        let what = format!("{condition} to be {reason}");
        let told = |object: &Value| {
            let found = condition_of(object, condition);
            let is_of_now = found["observedGeneration"] == object["metadata"]["generation"];
            is_of_now && found["reason"] == reason
        };
        let object = self.wait_for(kind, name, &what, told).await?;
        Ok(condition_of(&object, condition)["message"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a resource is as it should be, and gives it.
    pub async fn wait_for(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let last = std::sync::Mutex::new(Value::Null);
        let lock = || last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let looked = || async {
            let object = self.read(kind, name).await?;
            let so = is_so(&object);
            *lock() = object;
            Ok(so)
        };
        let waited = until(&format!("{kind} {name}: {what}"), MINUTES, looked).await;
        let last = lock().take();
        match waited {
            Ok(()) => Ok(last),
            Err(error) => bail!("{error:#}; it is {last}"),
        }
    }

    /// Changes fields of a resource (JSON merge patch).
    pub async fn patch(&self, kind: &str, name: &str, change: Value) -> Result<()> {
        let change = format!("--patch={change}");
        self.namespace.kubectl(&["patch", kind, name, "--type=merge", &change]).await.map(drop)
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

/// A condition of a resource; null if it has none of that type.
pub fn condition_of(object: &Value, condition: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.find(|found| found["type"] == condition).cloned().unwrap_or_default()
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
