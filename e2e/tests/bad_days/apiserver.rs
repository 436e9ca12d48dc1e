//! The apiserver, or what is behind it, is away for a while.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    clients::{
        Transport,
        install::Sdk,
        sessions::{Mode, Sessions},
        stage,
    },
    cluster::Component,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::support::{Answer, PATIENCE, Scene, now, report, scene::ECHO, traffic::Call};

/// How long it is away: longer than a Lease holds, and than clients of the apiserver wait before they try again.
const AWAY: Duration = Duration::from_secs(12);
/// What is changed when it is back is in force after that, however long clients waited between two attempts.
const IN_FORCE: Duration = Duration::from_secs(1);

/// Sessions that begin in the middle of it.
async fn new_session(scene: &Scene) -> Result<()> {
    sleep(AWAY / 3).await;
    for transport in Transport::ALL {
        let endpoint = stage::endpoint(transport, &scene.release.url()?, &scene.key);
        let sessions = Sessions::open(Sdk::V1, Mode::Legacy, &endpoint, 1).await?;
        sessions.call(0, ECHO, json!({"message": "new"})).await?;
    }
    Ok(())
}

/// Something is revoked as soon as it can be, and something else added.
async fn change(scene: &Scene, what: &str) -> Result<()> {
    let back = now();
    let again = Instant::now();
    // The apiserver answers; what it asks in turn may need a moment more.
    let written = super::support::until("the apiserver to take changes", PATIENCE, || async {
        scene.alias(what).await.map(|()| true)
    });
    written.await?;
    scene.delete("McpApiKey", what).await?;
    let changed = now();
    scene.wait_answer(&value(scene, what), ECHO, &Answer::Denied, PATIENCE).await?;
    let lead = scene.lead().await?;
    // Of the change, of the new term, or of the return, whatever was last.
    let denied = Scene::since(&lead, changed);
    let tool = format!("{what}_echo");
    scene.wait_answer(&scene.key, &tool, &Answer::Called, PATIENCE).await?;
    let (led, added) = (lead.since.saturating_sub(back), again.elapsed());
    report(&format!(
        "{what}: led again {led:?} after it was back; a key revoked then was denied {denied:?} after change and term; a \
         server added then was callable after {added:?}"
    ));
    anyhow::ensure!(denied < IN_FORCE, "{what}: revoked after {denied:?}");
    Ok(())
}

fn value(scene: &Scene, name: &str) -> String {
    format!("key-{name}-of-{}", scene.tenant.name())
}

#[tokio::test]
async fn traffic_goes_on_while_the_apiserver_is_away() {
    let Some(scene) = Scene::set("apiserver").await.unwrap() else { return };
    let fault = scene.fault().unwrap();
    let whats = ["apiserver-gone", "apiserver-frozen", "etcd-restarted"];
    for what in whats {
        scene.give(what, &value(&scene, what)).await.unwrap();
        scene.wait_answer(&value(&scene, what), ECHO, &Answer::Called, PATIENCE).await.unwrap();
    }
    for what in whats {
        let traffic = scene.traffic().unwrap();
        let outage = async {
            match what {
                "apiserver-gone" => fault.outage(Component::Apiserver, AWAY).await,
                "apiserver-frozen" => {
                    let frozen = fault.freeze(Component::Apiserver)?;
                    sleep(AWAY).await;
                    frozen.thaw();
                    Ok(())
                }
                _ => fault.restart(Component::Etcd).await,
            }
        };
        let (outage, session) = tokio::join!(outage, new_session(&scene));
        outage.unwrap();
        session.unwrap();
        change(&scene, what).await.unwrap();
        scene.wait_converged().await.unwrap();

        let (answers, gap) = (traffic.answers(), traffic.longest_gap());
        report(&format!("{what}: answers {answers:?}, longest time without one {gap:?}"));
        let failed = |call: &Call| call.answer != Answer::Called;
        let failures: Vec<Call> = traffic.calls().into_iter().filter(failed).collect();
        assert!(failures.is_empty(), "{what}: {failures:?}");
    }
}
