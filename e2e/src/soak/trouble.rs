//! What goes wrong all the time. None of it ends by itself.

use std::{convert::Infallible, time::Duration};

use anyhow::{Context as _, Result};
use crds::{McpApiKey, McpPolicy, McpServer};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{
    Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::{
    ledger::Ledger,
    scene::{Scene, USER},
};
use crate::cluster::release::{HOME, manifest};

/// The names of what happens, as the report has them.
pub(super) const EDITED: &str = "table changes";
pub(super) const RESTARTED: &str = "servers restarted";
pub(super) const DRAINED: &str = "gateways drained";
pub(super) const KILLED: &str = "gateways killed";

/// Between two changes of the table.
const EDIT: Duration = Duration::from_secs(1);
/// Between two restarts of the server.
const RESTART: Duration = Duration::from_secs(10);
/// Between two gateways that go.
const GO: Duration = Duration::from_secs(60);

/// The name of what comes, changes and goes.
const PASSING: &str = "passing";

/// A server, a policy and a key come, change and go.
pub(super) async fn edits(scene: &Scene<'_>, ledger: &Ledger) -> Result<Infallible> {
    let mut pace = interval(EDIT);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 0_u64.. {
        pace.tick().await;
        let server =
            || json!({"service": {"name": "mcp-tools"}, "description": format!("the {number}th")});
        match number % 6 {
            0 | 2 => apply::<McpServer>(scene, "McpServer", server()).await,
            1 => {
                let rule =
                    json!({"effect": "Deny", "servers": ["*"], "tools": [format!("no_{number}")]});
                let spec = json!({"subjects": [{"user": USER}], "rules": [rule]});
                apply::<McpPolicy>(scene, "McpPolicy", spec).await
            }
            3 => apply::<McpApiKey>(scene, "McpApiKey", json!({"user": USER})).await,
            4 => delete::<McpApiKey>(scene).await,
            _ => delete::<McpServer>(scene).await,
        }
        .with_context(|| format!("change {number}"))?;
        ledger.happens(EDITED);
    }
    unreachable!("the time is over before the numbers are")
}

/// The one pod of a server goes, and another one starts.
pub(super) async fn server_restarts(scene: &Scene<'_>, ledger: &Ledger) -> Result<Infallible> {
    let pods = scene.api::<Pod>();
    let mut pace = interval_at(Instant::now() + RESTART, RESTART);
    loop {
        pace.tick().await;
        for pod in pods.list(&ListParams::default()).await?.items {
            let name = pod.name_any();
            if name.starts_with("mcp-restless-") && pod.metadata.deletion_timestamp.is_none() {
                pods.delete(&name, &DeleteParams::default()).await?;
                ledger.happens(RESTARTED);
            }
        }
    }
}

/// In turn a gateway is deleted, which it hears of and drains, and one is killed.
pub(super) async fn gateways(scene: &Scene<'_>, ledger: &Ledger) -> Result<Infallible> {
    let fault = scene.release.cluster().fault()?;
    let pods = kube::Api::<Pod>::namespaced(scene.client.clone(), HOME);
    let mut pace = interval_at(Instant::now() + GO / 2, GO);
    loop {
        for drains in [true, false] {
            pace.tick().await;
            let mut others = scene.gateways().await?;
            others.retain(|pod| pod.name_any() != scene.veteran && is_ready(pod));
            // A container that is killed twice waits longer each time before it starts again.
            others.sort_by_key(|pod| if drains { -restarts(pod) } else { restarts(pod) });
            let pod = others.first().context("no gateway is ready beside the one left alone")?;
            let name = pod.name_any();
            if drains {
                pods.delete(&name, &DeleteParams::default()).await?;
                ledger.drained();
                ledger.happens(DRAINED);
            } else {
                ledger.killed(fault.kill_pod(HOME, &name).await?);
                ledger.happens(KILLED);
            }
        }
    }
}

async fn apply<K>(scene: &Scene<'_>, kind: &str, spec: Value) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let params = PatchParams::apply("soak").force();
    let object = Patch::Apply(manifest(kind, PASSING, &spec));
    scene.api::<K>().patch(PASSING, &params, &object).await?;
    Ok(())
}

async fn delete<K>(scene: &Scene<'_>) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    scene.api::<K>().delete(PASSING, &DeleteParams::default()).await?;
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn restarts(pod: &Pod) -> i32 {
    let containers =
        pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}
