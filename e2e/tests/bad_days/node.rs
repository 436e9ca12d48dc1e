//! The node restarts: gateway, operators and servers end at once and start again.

use e2e::{
    clients::{
        Transport,
        install::Sdk,
        sessions::{Mode, Sessions},
        stage,
    },
    cluster::release::{HOME, RELEASE},
};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::json;
use tokio::time::Instant;

use super::support::{Answer, PATIENCE, Scene, report, scene::ECHO};

#[tokio::test]
async fn everything_comes_back_with_the_node() {
    let Some(scene) = Scene::set("node").await.unwrap() else { return };
    let secrets = Api::<Secret>::namespaced(scene.client.clone(), HOME);
    let keys = secrets.get(&format!("{RELEASE}-keys")).await.unwrap();
    let endpoint = stage::endpoint(Transport::Http, &scene.release.url().unwrap(), &scene.key);
    let sessions = Sessions::open(Sdk::V1, Mode::Legacy, &endpoint, 10).await.unwrap();
    sessions.call_all(ECHO, &json!({"message": "before"})).await.unwrap();
    let minted = scene.tenant.key("minted", json!({"user": "alice"})).await.unwrap();
    let (before, run) = (scene.lead().await.unwrap(), scene.run().await.unwrap());
    let traffic = scene.traffic().unwrap();

    let began = Instant::now();
    scene.fault().unwrap().restart_node().await.unwrap();
    let restarted = began.elapsed();
    scene.wait_answer(&scene.key, ECHO, &Answer::Called, PATIENCE).await.unwrap();
    let serves = began.elapsed();
    let lead = scene.next_lead(&before, PATIENCE).await.unwrap();
    let leads = began.elapsed();
    scene.wait_steady(Some(&run)).await.unwrap();

    sessions.call_all(ECHO, &json!({"message": "after"})).await.unwrap();
    scene.wait_answer(&minted, ECHO, &Answer::Called, PATIENCE).await.unwrap();
    scene.delete("McpApiKey", "minted").await.unwrap();
    scene.wait_answer(&minted, ECHO, &Answer::Denied, PATIENCE).await.unwrap();
    scene.wait_converged().await.unwrap();
    scene.release.wait_rolled_out().await.unwrap();
    let answers = traffic.answers();
    report(&format!(
        "node restarted in {restarted:?}: serves after {serves:?}, {} leads after {leads:?}; all healthy after {:?}; \
         0 of {} sessions lost; answers {answers:?}",
        lead.pod,
        began.elapsed(),
        sessions.count()
    ));
    for answer in answers.keys() {
        let turned_away = matches!(answer, Answer::Denied | Answer::Unknown | Answer::Missing(_));
        assert!(!turned_away, "{answers:?}");
    }
    let now = secrets.get(&format!("{RELEASE}-keys")).await.unwrap();
    assert_eq!((now.metadata.uid, now.data), (keys.metadata.uid, keys.data), "the keys changed");
}
