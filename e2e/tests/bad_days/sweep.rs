//! So much is gone at once, while nobody looked, that it may be a mistake.

use std::time::Duration;

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::support::{Answer, PATIENCE, Scene, lease, report, scene::ECHO, until};

/// More than may always go at once, and more than a fifth of what this test leaves.
const MANY: usize = 30;
/// How long entries are seen to stay once an operator leads.
const WITHHELD: Duration = Duration::from_secs(4);
/// Gives leave.
const LEAVE: &str = "fairway.dev/allow-sweep";

#[tokio::test]
async fn many_resources_that_are_gone_at_once_are_withheld_until_there_is_leave() {
    let Some(scene) = Scene::set("sweep").await.unwrap() else { return };
    for at in 0..MANY {
        let spec = json!({"user": "nobody"});
        scene.put("McpApiKey", &format!("many-{at}"), spec).await.unwrap();
    }
    let other = format!("key-other-of-{}", scene.tenant.name());
    scene.give("other", &other).await.unwrap();
    scene.wait_answer(&other, ECHO, &Answer::Called, PATIENCE).await.unwrap();
    scene.wait_converged().await.unwrap();
    let before = scene.lead().await.unwrap();
    let of_keys =
        format!("fairway.dev/namespace={},fairway.dev/kind=McpApiKey", scene.tenant.name());
    let left = || async {
        let found = scene.entries().list(&ListParams::default().labels(&of_keys)).await?;
        anyhow::Ok(found.items.len())
    };
    let all = left().await.unwrap();
    assert!(all >= MANY, "only {all} entries of keys");

    scene.scale_operators(0).await.unwrap();
    for at in 0..MANY {
        scene.delete("McpApiKey", &format!("many-{at}")).await.unwrap();
    }
    scene.scale_operators(2).await.unwrap();
    let lead = scene.next_lead(&before, PATIENCE).await.unwrap();
    sleep(WITHHELD).await;
    assert_eq!(left().await.unwrap(), all, "entries went without leave");
    let log = scene.log(&lead.pod).await.unwrap();
    assert!(log.contains(LEAVE), "nobody was told what to do: {log}");
    // What was seen to go needs no leave.
    let began = Instant::now();
    scene.delete("McpApiKey", "other").await.unwrap();
    scene.wait_answer(&other, ECHO, &Answer::Denied, PATIENCE).await.unwrap();
    let revoked = began.elapsed();
    assert!(left().await.unwrap() >= MANY, "entries went without leave");

    let began = Instant::now();
    let leave = |value: serde_json::Value| json!({"metadata": {"annotations": {LEAVE: value}}});
    let leases = scene.leases();
    let params = PatchParams::default();
    leases.patch(&lease::name(), &params, &Patch::Merge(&leave(json!("true")))).await.unwrap();
    // All of them: leave that is taken back while they go leaves the rest of them.
    let swept = || async { Ok(left().await? + MANY < all) };
    let swept = until("the entries to go", PATIENCE, swept).await;
    let took = began.elapsed();
    // Leave that stays would be leave for the next mistake.
    leases.patch(&lease::name(), &params, &Patch::Merge(&leave(json!(null)))).await.unwrap();
    swept.unwrap();
    scene.wait_converged().await.unwrap();
    report(&format!(
        "{MANY} of {all} keys gone unseen: withheld for {WITHHELD:?} by {}, one seen to go denied after {revoked:?}; \
         swept {took:?} after leave",
        lead.pod
    ));
}
