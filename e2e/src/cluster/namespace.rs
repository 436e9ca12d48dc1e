//! A namespace for one test: prints what is in it when the test fails, and goes with it.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{client::Access, command, daemon::Daemon};

/// A namespace that is deleted when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    access: Access,
}

impl Namespace {
    /// Makes one whose name begins like this, and waits until pods can be created in it.
    pub(crate) async fn create(name: &str, access: &Access) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let owner = Daemon::ourselves()?;
        let name = format!("e2e-{name}-{}-{number}", owner.pid());
        let manifest = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {OWNER: owner.to_string()}},
        });
        // The name may be that of a test long ago, whose process had our id: then it still goes.
        let gone = || async {
            let arguments = ["get", "namespace", &name, "--ignore-not-found", "--output", "name"];
            Ok(access.kubectl(&arguments).await?.is_empty())
        };
        command::until(&format!("the last {name} to go"), MOMENT, gone).await?;
        access.apply(&manifest.to_string()).await?;
        let namespace = Self { name, access: access.clone() };
        let account = || async {
            namespace.kubectl(&["get", "serviceaccount", "default"]).await.map(|_| true)
        };
        command::until("the default service account", MOMENT, account).await?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `kubectl --namespace` prints.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.access.kubectl(&self.scoped(arguments)).await
    }

    /// The same for commands that wait: `wait`, `rollout status`, `exec`.
    pub async fn kubectl_for(&self, arguments: &[&str], deadline: Duration) -> Result<String> {
        self.access.kubectl_for(&self.scoped(arguments), deadline).await
    }

    /// Applies manifests to it.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
        let command = self.access.kubectl_command(&self.scoped(&arguments), MOMENT);
        command::feed(command, manifests, MOMENT).await
    }

    /// Waits for a condition as `kubectl wait --for` names it (`condition=Ready`, `delete`) on an object (`pod/x`).
    pub async fn wait(&self, object: &str, condition: &str, deadline: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", deadline.as_secs());
        let arguments = ["wait", object, &format!("--for={condition}"), &timeout];
        self.kubectl_for(&arguments, deadline).await.map(drop)
    }

    /// What happened in it: objects, events, the end of all logs.
    pub async fn state(&self) -> String {
        state(&self.name, &self.access).await
    }

    fn scoped<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        ["--namespace", &self.name].into_iter().chain(arguments.iter().copied()).collect()
    }
}

/// Deletes what tests have left that were killed on this host.
pub(crate) async fn sweep(access: &Access) -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let columns = format!("--label-columns={OWNER}");
    let selector = format!("--selector={OWNER}");
    let listed =
        access.kubectl(&["get", "namespaces", "--no-headers", &selector, &columns]).await?;
    for line in listed.lines() {
        let mut words = line.split_whitespace();
        let owner = words.next_back().and_then(|owner| owner.parse::<Daemon>().ok());
        if let (Some(name), Some(owner)) = (words.next(), owner)
            && !owner.alive()
        {
            // It may be going already, since its test was about to end.
            let delete = ["delete", "namespace", name, "--wait=false", "--ignore-not-found"];
            access.kubectl(&delete).await?;
        }
    }
    Ok(())
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let failed = thread::panicking();
        let (name, access) = (self.name.clone(), self.access.clone());
        // A runtime that is being dropped cannot wait, another one can. The cluster may be what broke.
        let bury = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .context("no runtime")
                .and_then(|runtime| runtime.block_on(bury(name, access, failed)))
        });
        let _ = bury.join();
    }
}

async fn bury(name: String, access: Access, failed: bool) -> Result<()> {
    if failed {
        eprintln!("=== namespace {name} ===\n{}", state(&name, &access).await);
    }
    access.kubectl(&["delete", "namespace", &name, "--wait=false"]).await.map(drop)
}

pub(crate) async fn state(namespace: &str, access: &Access) -> String {
    let mut text = String::new();
    let pods = access.kubectl(&["--namespace", namespace, "get", "pods", "--output=name"]).await;
    let pods = pods.unwrap_or_default();
    let logs =
        pods.lines().map(|pod| vec!["logs", pod, "--all-containers", "--prefix", "--tail=50"]);
    for question in QUESTIONS.iter().map(|question| question.to_vec()).chain(logs) {
        let arguments = [&["--namespace", namespace][..], &question].concat();
        let answer = access.kubectl(&arguments).await;
        let answer = answer.unwrap_or_else(|error| format!("{error:#}"));
        text += &format!("--- kubectl {} ---\n{answer}\n", question.join(" "));
    }
    text
}

/// The label that says which process made a namespace.
const OWNER: &str = "fairway.dev/e2e";

/// What to ask when a test failed.
const QUESTIONS: [&[&str]; 4] = [
    &["get", "all,ingresses,endpointslices,networkpolicies", "--output=wide"],
    &["get", "fairway", "--output=yaml"],
    &["get", "events", "--sort-by=.metadata.creationTimestamp"],
    &["describe", "pods"],
];

/// The controllers do this in a tenth of a second when they are not busy.
const MOMENT: Duration = Duration::from_secs(60);
