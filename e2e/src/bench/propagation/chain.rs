//! One change at a time, from the call that makes it to the first answer that shows it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use crds::{McpApiKey, McpServer};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{
    probe::Answer,
    scene::{RUNNING, Scene, apply, denial, named, server},
};
use crate::{bench::histogram::Histogram, cluster::release::HOME};

/// Apply, watch, apply, watch: what the apiserver takes of it.
pub(super) async fn bare(scene: &Scene<'_>, changes: u32) -> Result<Histogram> {
    let (first, second) = (scene.api::<ConfigMap>(), scene.api::<Secret>());
    let mut seen = watch(second.clone(), "metadata.name=bare");
    let mut relay = JoinSet::new();
    let mut heard = watch(first.clone(), "metadata.name=bare");
    relay.spawn(async move {
        while let Some(map) = heard.recv().await {
            let data = map.data.unwrap_or_default();
            let secret =
                Secret { metadata: named("bare"), string_data: Some(data), ..Secret::default() };
            apply(&second, &secret).await?;
        }
        anyhow::Ok(())
    });
    let mut times = Histogram::default();
    for at in 0..changes {
        let value = format!("{at}-{:?}", Instant::now());
        let data = BTreeMap::from([("value".to_owned(), value.clone())]);
        let map = ConfigMap { metadata: named("bare"), data: Some(data), ..ConfigMap::default() };
        let began = Instant::now();
        apply(&first, &map).await?;
        loop {
            let secret = seen.recv().await.context("the watch ended")?;
            let data = secret.data.unwrap_or_default();
            if data.get("value").is_some_and(|bytes| bytes.0 == value.as_bytes()) {
                break;
            }
        }
        times.record(began.elapsed());
    }
    Ok(times)
}

/// A server that runs already is applied, and its tool answers.
pub(super) async fn apply_to_callable(scene: &Scene<'_>, changes: u32) -> Result<Histogram> {
    let mut probe = scene.probe().await?;
    let api = scene.api::<McpServer>();
    let mut times = Histogram::default();
    for at in 0..changes {
        let name = format!("new-{at}");
        let began = Instant::now();
        apply(&api, &server(&name)).await?;
        let tool = format!("{name}_echo");
        times.record(probe.until(Answer::Called, &tool, &scene.key).await? - began);
        scene.delete::<McpServer>(&name).await?;
        probe.until(Answer::Unknown, &tool, &scene.key).await?;
    }
    Ok(times)
}

/// A key is deleted, and its calls are refused; and of that, the part after the entry was gone.
pub(super) async fn revoke_to_denied(
    scene: &Scene<'_>,
    changes: u32,
) -> Result<(Histogram, Histogram)> {
    let mut probe = scene.probe().await?;
    let tool = format!("{RUNNING}_echo");
    let mut gone = deletions(scene.entries());
    let (mut times, mut share) = (Histogram::default(), Histogram::default());
    for at in 0..changes {
        let (name, value) = (format!("revoked-{at}"), format!("bench-key-to-revoke-{at}"));
        scene.give(&name, &value).await?;
        probe.until(Answer::Called, &tool, &value).await?;
        let began = Instant::now();
        scene.delete::<McpApiKey>(&name).await?;
        let denied = probe.until(Answer::Denied, &tool, &value).await?;
        times.record(denied - began);
        let entry = format!("key.{}.{name}", scene.tenant.name());
        loop {
            let (deleted, when) = gone.recv().await.context("the watch ended")?;
            if deleted == entry {
                // Negative when the gateway was told first.
                share.record(denied.saturating_duration_since(when));
                break;
            }
        }
    }
    Ok((times, share))
}

/// A policy denies a tool and no longer denies it, in turn.
pub(super) async fn policy_to_in_force(scene: &Scene<'_>, changes: u32) -> Result<Histogram> {
    let mut probe = scene.probe().await?;
    let tool = format!("{RUNNING}_echo");
    let api = scene.api();
    let mut times = Histogram::default();
    for at in 0..changes {
        let (denied, shown) =
            if at % 2 == 0 { ("echo", Answer::Unknown) } else { ("nothing", Answer::Called) };
        let began = Instant::now();
        apply(&api, &denial(denied)).await?;
        times.record(probe.until(shown, &tool, &scene.key).await? - began);
    }
    apply(&api, &denial("nothing")).await?;
    probe.until(Answer::Called, &tool, &scene.key).await?;
    Ok(times)
}

/// Keys are deleted in the moment in which the operator that leads is killed.
pub(super) async fn revoke_under_kill(scene: &Scene<'_>, kills: u32) -> Result<Vec<Duration>> {
    let mut probe = scene.probe().await?;
    let tool = format!("{RUNNING}_echo");
    let mut times = Vec::new();
    for at in 0..kills {
        let (name, value) = (format!("killed-{at}"), format!("bench-key-under-kill-{at}"));
        scene.give(&name, &value).await?;
        probe.until(Answer::Called, &tool, &value).await?;
        let leader = leader(scene).await?;
        scene.release.cluster().fault()?.kill_pod(HOME, &leader).await?;
        let began = Instant::now();
        scene.delete::<McpApiKey>(&name).await?;
        times.push(probe.until(Answer::Denied, &tool, &value).await? - began);
        scene.release.wait_rolled_out().await?;
    }
    Ok(times)
}

async fn leader(scene: &Scene<'_>) -> Result<String> {
    let path = "--output=jsonpath={.spec.holderIdentity}";
    let arguments = ["--namespace", HOME, "get", "lease", "fairway-operator", path];
    scene.release.cluster().kubectl(&arguments).await
}

/// Objects as they are and as they change.
pub(super) fn watch<K>(api: Api<K>, fields: &str) -> mpsc::Receiver<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().fields(fields);
    let changes = watcher(api, config).default_backoff().applied_objects();
    forward(changes.filter_map(|change| std::future::ready(change.ok())))
}

/// Names of Secrets as they go, and when that was seen.
fn deletions(api: Api<Secret>) -> mpsc::Receiver<(String, Instant)> {
    let changes = watcher(api, watcher::Config::default()).default_backoff();
    forward(changes.into_stream().filter_map(|event| {
        std::future::ready(match event {
            Ok(Event::Delete(secret)) => Some((secret.name_any(), Instant::now())),
            _ => None,
        })
    }))
}

fn forward<T: Send + 'static>(stream: impl Stream<Item = T> + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel(1024);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(item) = stream.next().await {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    receiver
}
