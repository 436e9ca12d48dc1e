//! Thousands of servers at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use crds::McpServer;
use kube::api::{DeleteParams, ListParams};
use tokio::time::{Instant, sleep};

use super::{
    probe::Answer,
    scene::{Scene, server},
};

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
    let before = scene.ready::<McpServer>().await?;
    let began = Instant::now();
    scene.apply_all(0..servers, |at| server(&format!("flood-{at}"))).await?;
    let applied = began.elapsed();
    let wanted = servers as usize;
    let entries = async {
        until(began, || async {
            let all = scene.entries().list_metadata(&ListParams::default()).await?;
            let prefix = format!("server.{}.flood-", scene.tenant.name());
            let is_one =
                |name: &Option<String>| name.as_ref().is_some_and(|name| name.starts_with(&prefix));
            Ok(all.items.iter().filter(|entry| is_one(&entry.metadata.name)).count() >= wanted)
        })
        .await
    };
    let callable = async {
        let mut probe = scene.probe().await?;
        for at in 0..servers {
            probe.until(Answer::Called, &format!("flood-{at}_echo"), &scene.key).await?;
        }
        Ok(began.elapsed())
    };
    let statuses = async {
        until(began, || async { Ok(scene.ready::<McpServer>().await? >= before + wanted) }).await
    };
    let (entries, callable, statuses) = tokio::try_join!(entries, callable, statuses)?;
    let api = scene.api::<McpServer>();
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    Ok(Flood { servers, applied, entries, callable, statuses })
}

async fn until<F: Future<Output = Result<bool>>>(
    began: Instant,
    done: impl Fn() -> F,
) -> Result<Duration> {
    loop {
        if done().await? {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < PATIENCE, "not done after {PATIENCE:?}");
        // Listing thousands of objects is work for the apiserver that is measured.
        sleep(Duration::from_secs(1)).await;
    }
}
