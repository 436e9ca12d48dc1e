//! Somebody takes rights away, or a CRD: nothing is emptied, and what is restored heals.

use std::{path::Path, time::Duration};

use e2e::cluster::{
    Component,
    release::{ENTRIES, HOME, RELEASE},
};
use k8s_openapi::api::{
    core::v1::Pod,
    rbac::v1::{ClusterRoleBinding, RoleBinding},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use tokio::time::{Instant, sleep};

use super::support::{
    Answer, PATIENCE, Scene, Traffic, Watch,
    entries::Seen,
    report,
    scene::{ECHO, allow_everything},
    until,
};

/// How long the mistake lasts once it shows: many attempts of all who cannot read.
const MISTAKE: Duration = Duration::from_secs(5);

/// Everybody was served all the time, and no entry of the scene went: those of namespaces that end beside it may.
fn assert_nothing_was_emptied(what: &str, scene: &Scene, traffic: &Traffic, watch: &Watch) {
    let answers = traffic.answers();
    report(&format!("{what}: answers {answers:?}"));
    assert!(answers.keys().all(|answer| *answer == Answer::Called), "{what}: {answers:?}");
    let here = format!(".{}.", scene.tenant.name());
    let is_ours = |seen: &Seen| seen.record.is_none() && seen.name.contains(&here);
    let gone: Vec<Seen> = watch.all().into_iter().filter(is_ours).collect();
    assert!(gone.is_empty(), "{what}: {gone:?}");
}

#[tokio::test]
async fn rights_that_were_taken_away_empty_nothing() {
    let Some(scene) = Scene::set("rights").await.unwrap() else { return };
    let fault = scene.fault().unwrap();
    let gateways = Api::<RoleBinding>::namespaced(scene.client.clone(), ENTRIES);
    let operators = Api::<ClusterRoleBinding>::all(scene.client.clone());
    let of_gateway = format!("{RELEASE}-gateway");
    let of_operator = format!("{RELEASE}-operator");
    let mut gateway = gateways.get(&of_gateway).await.unwrap();
    let mut operator = operators.get(&of_operator).await.unwrap();
    scene.wait_converged().await.unwrap();
    let traffic = scene.traffic().unwrap();
    let watch = Watch::start(&scene.client).await.unwrap();

    gateways.delete(&of_gateway, &DeleteParams::default()).await.unwrap();
    operators.delete(&of_operator, &DeleteParams::default()).await.unwrap();
    // Rights are asked for when a watch begins: all begin anew, and the leader also knows nothing any more.
    let before = scene.lead().await.unwrap();
    fault.kill_pod(HOME, &before.pod).await.unwrap();
    fault.restart(Component::Apiserver).await.unwrap();
    let refused = || async {
        let log = scene.log(&scene.gateway().await?).await?;
        Ok(log.contains("orbidden"))
    };
    // A gateway that is refused says so, or is known not to be heard from its metrics; here it is enough that time
    // passes in which it asks again.
    let said = until("the gateway to say that it is refused", MISTAKE, refused).await.is_ok();
    sleep(MISTAKE).await;
    assert_nothing_was_emptied("rights gone", &scene, &traffic, &watch);

    restore(&mut gateway.metadata);
    restore(&mut operator.metadata);
    gateways.create(&PostParams::default(), &gateway).await.unwrap();
    operators.create(&PostParams::default(), &operator).await.unwrap();
    let restored = Instant::now();
    scene.alias("late").await.unwrap();
    scene.wait_answer(&scene.key, "late_echo", &Answer::Called, PATIENCE).await.unwrap();
    let healed = restored.elapsed();
    scene.wait_converged().await.unwrap();
    assert_nothing_was_emptied("rights restored", &scene, &traffic, &watch);
    report(&format!(
        "rights restored: a change is in force after {healed:?}; refusals logged: {said}"
    ));
    scene.release.wait_rolled_out().await.unwrap();
}

#[tokio::test]
async fn a_gateway_without_rights_turns_nobody_away() {
    let Some(scene) = Scene::set("mute").await.unwrap() else { return };
    let bindings = Api::<RoleBinding>::namespaced(scene.client.clone(), ENTRIES);
    let name = format!("{RELEASE}-gateway");
    let mut binding = bindings.get(&name).await.unwrap();
    let traffic = scene.traffic().unwrap();

    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    let pod = scene.gateway().await.unwrap();
    let pods = Api::<Pod>::namespaced(scene.client.clone(), HOME);
    pods.delete(&pod, &DeleteParams::default().grace_period(0)).await.unwrap();
    let running = || async {
        let status = pods.get(&scene.gateway().await?).await?.status.unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        Ok(containers.iter().any(|one| one.started == Some(true)))
    };
    until("another gateway to run", PATIENCE, running).await.unwrap();
    let since = Instant::now();
    sleep(MISTAKE).await;
    let meanwhile = traffic.answers_since(since);
    let course = traffic.course();
    assert!(!meanwhile.contains_key(&Answer::Called), "served from nothing: {course:?}");

    restore(&mut binding.metadata);
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let restored = Instant::now();
    scene.wait_answer(&scene.key, ECHO, &Answer::Called, PATIENCE).await.unwrap();
    let (healed, answers) = (restored.elapsed(), traffic.answers());
    report(&format!(
        "gateway without rights: serves {healed:?} after they are back; answers {answers:?}"
    ));
    for answer in answers.keys() {
        let said = matches!(answer, Answer::Called | Answer::Broken(_) | Answer::Status(502..=504));
        assert!(said, "{answers:?}");
    }
}

#[tokio::test]
async fn a_missing_crd_empties_nothing() {
    let Some(scene) = Scene::set("crd").await.unwrap() else { return };
    scene.wait_converged().await.unwrap();
    let cluster = scene.release.cluster();
    let before = scene.lead().await.unwrap();
    scene.scale_operators(0).await.unwrap();
    let traffic = scene.traffic().unwrap();
    let watch = Watch::start(&scene.client).await.unwrap();

    // What a CRD defines goes with it: with nobody there to see it go, only its absence could be noticed.
    let name = "mcppolicies.fairway.dev";
    cluster.kubectl_for(&["delete", "crd", name], PATIENCE).await.unwrap();
    scene.scale_operators(2).await.unwrap();
    let asks = || async {
        let mut asked = false;
        for pod in scene.pods("operator").await? {
            asked |= scene.log(&pod.name_any()).await?.contains("404");
        }
        Ok(asked)
    };
    until("an operator to find no CRD", PATIENCE, asks).await.unwrap();
    sleep(MISTAKE).await;
    assert_nothing_was_emptied("CRD gone", &scene, &traffic, &watch);
    assert!(scene.lead().await.is_err_and(|error| error.to_string() == "nobody leads"));

    let chart =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/fairway/crds/mcppolicies.yaml");
    // The restored policy is another object. Until it is there the old one is not: what is gone is gone.
    scene.scale_operators(0).await.unwrap();
    // As Helm does it, which could not upgrade what is somebody else's.
    let chart = chart.display().to_string();
    let restore = ["apply", "--server-side", "--field-manager=helm", "--filename", &chart];
    cluster.kubectl_for(&restore, PATIENCE).await.unwrap();
    let put = || async { scene.put("McpPolicy", "all", allow_everything()).await.map(|()| true) };
    until("policies to be known again", PATIENCE, put).await.unwrap();
    scene.scale_operators(2).await.unwrap();
    let restored = Instant::now();
    let lead = scene.next_lead(&before, PATIENCE).await.unwrap();
    scene.wait_converged().await.unwrap();
    let healed = restored.elapsed();
    report(&format!("CRD restored: {} leads, converged after {healed:?}", lead.pod));
    assert_nothing_was_emptied("CRD restored", &scene, &traffic, &watch);
    scene.release.wait_rolled_out().await.unwrap();
}

/// As it is created again.
fn restore(metadata: &mut kube::core::ObjectMeta) {
    metadata.resource_version = None;
    metadata.uid = None;
    metadata.creation_timestamp = None;
    metadata.managed_fields = None;
}
