//! Thousands of servers at once.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context as _, Result};
use crds::McpServer;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
    core::PartialObjectMeta,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    chain::watch,
    probe::Answer,
    scene::{Scene, is_ready, server},
};
use crate::cluster::release::ENTRIES;

/// Times from the first apply on.
#[derive(Debug)]
pub(super) struct Flood {
    pub(super) servers: u32,
    /// The last was applied.
    pub(super) applied: Duration,
    /// The last entry was written.
    pub(super) entries: Duration,
    /// Tools of all of them answer.
    pub(super) callable: Duration,
    /// All say `Ready`.
    pub(super) statuses: Duration,
}

/// What takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn flood(scene: &Scene<'_>, servers: u32) -> Result<Flood> {
    let wanted = servers as usize;
    // Watched, not listed: lists of thousands are work for the apiserver that is measured.
    let entries: Api<PartialObjectMeta<Secret>> = Api::namespaced(scene.client.0.clone(), ENTRIES);
    let mut entries = watch(entries, "");
    let mut resources = watch(scene.api::<McpServer>(), "");
    let prefix = format!("server.{}.flood-", scene.tenant.name());
    let began = Instant::now();
    let called = async {
        scene.apply_all(0..servers, |at| server(&format!("flood-{at}"))).await?;
        let applied = began.elapsed();
        let mut probe = scene.probe().await?;
        for at in 0..servers {
            probe.until(Answer::Called, &format!("flood-{at}_echo"), &scene.key).await?;
        }
        anyhow::Ok((applied, began.elapsed()))
    };
    let entries = async {
        seen(&mut entries, wanted, |entry| entry.name_any().starts_with(&prefix)).await?;
        anyhow::Ok(began.elapsed())
    };
    let statuses = async {
        let says_so =
            |server: &McpServer| server.name_any().starts_with("flood-") && is_ready(server);
        seen(&mut resources, wanted, says_so).await?;
        anyhow::Ok(began.elapsed())
    };
    let all = async { tokio::try_join!(called, entries, statuses) };
    let all: Result<_> = timeout(PATIENCE, all).await.context("the flood does not settle")?;
    let ((applied, callable), entries, statuses) = all?;
    let api = scene.api::<McpServer>();
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    Ok(Flood { servers, applied, entries, callable, statuses })
}

/// Waits until so many objects were seen as they should be.
async fn seen<K: kube::ResourceExt>(
    objects: &mut mpsc::Receiver<K>,
    wanted: usize,
    is_so: impl Fn(&K) -> bool,
) -> Result<()> {
    let mut names = HashSet::new();
    while names.len() < wanted {
        let object = objects.recv().await.context("the watch ended")?;
        if is_so(&object) {
            names.insert(object.name_any());
        }
    }
    Ok(())
}
