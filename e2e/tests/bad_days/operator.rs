//! The operator is killed, or stands still and wakes after another one has taken over.

use std::time::Duration;

use anyhow::Result;
use e2e::cluster::Component;
use tokio::time::{Instant, sleep};

use super::support::{
    Answer, Lead, PATIENCE, Scene, Storm, Watch, now, report,
    scene::{ECHO, allow_everything, deny},
};

/// A Lease holds for 5 s, and is looked at every half second.
const TAKEOVER: Duration = Duration::from_secs(7);
/// What changed while nobody led is in force so long after somebody does.
const IN_FORCE: Duration = Duration::from_secs(1);
/// How long a leader that wakes is watched: it tries to renew its lease within half a second.
const AFTER: Duration = Duration::from_secs(4);

/// What is to be revoked while no operator leads.
struct Victims {
    key: String,
    value: String,
    server: String,
}

impl Victims {
    /// Puts it in force.
    async fn set(scene: &Scene, round: usize) -> Result<Self> {
        let victims = Self {
            key: format!("victim-{round}"),
            value: format!("key-of-victim-{round}-in-{}", scene.tenant.name()),
            server: format!("victim-{round}"),
        };
        scene.give(&victims.key, &victims.value).await?;
        scene.alias(&victims.server).await?;
        scene.put("McpPolicy", "all", allow_everything()).await?;
        scene.wait_answer(&victims.value, &victims.tool(), &Answer::Called, PATIENCE).await?;
        scene.wait_answer(&scene.key, ECHO, &Answer::Called, PATIENCE).await?;
        Ok(victims)
    }

    fn tool(&self) -> String {
        format!("{}_echo", self.server)
    }

    /// Deletes a key and a server, and forbids a tool.
    async fn revoke(&self, scene: &Scene) -> Result<()> {
        scene.delete("McpApiKey", &self.key).await?;
        scene.delete("McpServer", &self.server).await?;
        scene.put("McpPolicy", "all", deny("echo")).await
    }

    /// Waits until all of it is in force, and says how long that took since somebody leads.
    async fn wait_revoked(&self, scene: &Scene, lead: &Lead, change: Duration) -> Result<Duration> {
        let mut slowest = Duration::ZERO;
        for (key, tool, answer) in self.revoked(scene) {
            scene.wait_answer(key, &tool, &answer, PATIENCE).await?;
            slowest = slowest.max(Scene::since(lead, change));
        }
        Ok(slowest)
    }

    fn revoked<'a>(&'a self, scene: &'a Scene) -> [(&'a str, String, Answer); 3] {
        [
            (&self.value, "tools_add".to_owned(), Answer::Denied),
            (&scene.key, self.tool(), Answer::Unknown),
            (&scene.key, ECHO.to_owned(), Answer::Unknown),
        ]
    }
}

#[tokio::test]
async fn a_killed_operator_is_replaced_and_nothing_is_missed() {
    let Some(scene) = Scene::set("killed").await.unwrap() else { return };
    let fault = scene.fault().unwrap();
    let watch = Watch::start(&scene.client).await.unwrap();
    // In the first round its container stays dead, as if its node were; then it is started again.
    for round in 0..3 {
        let victims = Victims::set(&scene, round).await.unwrap();
        let storm = Storm::start(&scene);
        // Its work is half done whenever that is.
        sleep(Duration::from_millis(300 + 170 * round as u64)).await;
        let node_is_gone = round == 0;
        if node_is_gone {
            fault.stop(Component::Kubelet).await.unwrap();
        }
        let before = scene.lead().await.unwrap();

        fault.kill_pod(e2e::cluster::release::HOME, &before.pod).await.unwrap();
        let killed = Instant::now();
        victims.revoke(&scene).await.unwrap();
        let changed = now();

        let lead = scene.next_lead(&before, PATIENCE).await.unwrap();
        let takeover = killed.elapsed();
        let in_force = victims.wait_revoked(&scene, &lead, changed).await.unwrap();
        if node_is_gone {
            fault.start(Component::Kubelet).await.unwrap();
        }
        let changes = storm.stop().await.unwrap();
        let converging = Instant::now();
        scene.wait_converged().await.unwrap();
        let converged = converging.elapsed();
        report(&format!(
            "operator killed (node gone: {node_is_gone}): {} led after {takeover:?} instead of {}; a change made while \
             nobody led was in force {in_force:?} later; {changes} other changes, converged in {converged:?}",
            lead.pod, before.pod
        ));
        assert!(takeover < TAKEOVER, "nobody led for {takeover:?}");
        assert!(in_force < IN_FORCE, "a change was in force {in_force:?} after somebody led");
        assert!(!node_is_gone || lead.pod != before.pod, "the dead leads");
        // Nothing comes back with what was done later.
        for (key, tool, answer) in victims.revoked(&scene) {
            assert_eq!(scene.call(key, &tool).await.unwrap(), answer, "{tool}");
        }
        let reverts = watch.reverts();
        assert!(reverts.is_empty(), "{reverts:?}");
    }
}

#[tokio::test]
async fn a_paused_leader_that_wakes_reverts_nothing() {
    let Some(scene) = Scene::set("paused").await.unwrap() else { return };
    let fault = scene.fault().unwrap();
    let watch = Watch::start(&scene.client).await.unwrap();
    for round in 0..2 {
        let victims = Victims::set(&scene, round).await.unwrap();
        let storm = Storm::start(&scene);
        sleep(Duration::from_millis(500 + 130 * round as u64)).await;
        let before = scene.lead().await.unwrap();

        let frozen = fault.freeze_pod(e2e::cluster::release::HOME, &before.pod).await.unwrap();
        let paused = Instant::now();
        let lead = scene.next_lead(&before, PATIENCE).await.unwrap();
        let takeover = paused.elapsed();
        assert_ne!(lead.pod, before.pod);
        victims.revoke(&scene).await.unwrap();
        let in_force = victims.wait_revoked(&scene, &lead, now()).await.unwrap();
        let changes = storm.stop().await.unwrap();
        scene.wait_converged().await.unwrap();

        frozen.thaw();
        let awake = Instant::now();
        let mut calls = 0;
        while awake.elapsed() < AFTER {
            for (key, tool, answer) in victims.revoked(&scene) {
                assert_eq!(scene.call(key, &tool).await.unwrap(), answer, "{tool} came back");
                calls += 1;
            }
        }
        scene.wait_converged().await.unwrap();
        let returned: Vec<Duration> = [("key", &victims.key), ("server", &victims.server)]
            .iter()
            .flat_map(|(kind, name)| watch.returned(&scene.entry(kind, name)))
            .collect();
        report(&format!(
            "leader paused: {} led after {takeover:?}; changes in force after {in_force:?}, {changes} others; awake \
             again for {AFTER:?}: {calls} calls refused, entries that came back: {returned:?}",
            lead.pod
        ));
        assert!(takeover < TAKEOVER, "nobody led for {takeover:?}");
        assert!(returned.iter().all(|time| *time < IN_FORCE), "{returned:?}");
        let reverts = watch.reverts();
        assert!(reverts.is_empty(), "{reverts:?}");
        assert_eq!(scene.lead().await.unwrap(), lead, "the one that woke leads again");
    }
}
