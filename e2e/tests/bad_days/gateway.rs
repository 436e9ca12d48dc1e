//! The gateway's pod is killed with sessions open, also while there is no operator.

use anyhow::Result;
use e2e::{
    clients::{
        Transport,
        install::Sdk,
        sessions::{Event, Mode, Sessions},
        stage,
    },
    cluster::release::HOME,
};
use futures_util::future;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::support::{Answer, PATIENCE, Scene, Traffic, report, scene::ECHO, until};

/// Of each kind.
const SESSIONS: usize = 10;

/// Open sessions of one kind.
struct Group {
    name: &'static str,
    sessions: Sessions,
    /// Whether a session may end with the gateway: a stream that is refused while nobody is there is given up by
    /// the SDK, and over SSE the stream is the session.
    may_end: bool,
}

impl Group {
    async fn open(scene: &Scene) -> Result<Vec<Self>> {
        let kinds = [
            ("HTTP, SDK 1", Transport::Http, Sdk::V1, Mode::Legacy),
            ("HTTP, SDK 2", Transport::Http, Sdk::V2, Mode::Legacy),
            ("HTTP of 2026, SDK 2", Transport::Http, Sdk::V2, Mode::Auto),
            ("SSE, SDK 1", Transport::Sse, Sdk::V1, Mode::Legacy),
        ];
        let mut groups = Vec::new();
        for (name, transport, sdk, mode) in kinds {
            let endpoint = stage::endpoint(transport, &scene.release.url()?, &scene.key);
            let sessions = Sessions::open(sdk, mode, &endpoint, SESSIONS).await?;
            groups.push(Self { name, sessions, may_end: transport == Transport::Sse });
        }
        Ok(groups)
    }

    /// How many sessions cannot call any more.
    async fn lost(&self) -> Vec<String> {
        let arguments = json!({"message": "still here"});
        let calls = (0..self.sessions.count())
            .map(|session| self.sessions.call(session, ECHO, arguments.clone()));
        let calls = future::join_all(calls).await;
        calls.into_iter().filter_map(|call| call.err().map(|error| format!("{error:#}"))).collect()
    }

    /// How many sessions the SDK itself has ended.
    fn ended(&self) -> usize {
        let lost = |session: &usize| {
            self.sessions.events(*session).iter().any(|event| matches!(event, Event::Lost(_)))
        };
        (0..self.sessions.count()).filter(lost).count()
    }
}

/// Nobody may be told that the session, the key or the tool were gone.
fn assert_nobody_was_turned_away(traffic: &Traffic) {
    let answers = traffic.answers();
    for answer in answers.keys() {
        let said = matches!(answer, Answer::Called | Answer::Broken(_) | Answer::Status(502..=504));
        assert!(said, "{answer:?} among {answers:?}");
    }
}

#[tokio::test]
async fn sessions_outlive_a_gateway_that_is_killed() {
    let Some(scene) = Scene::set("sessions").await.unwrap() else { return };
    for (what, by_deletion) in [("container killed", false), ("pod deleted by force", true)] {
        let groups = Group::open(&scene).await.unwrap();
        for group in &groups {
            assert!(group.lost().await.is_empty(), "{}", group.name);
        }
        let traffic = scene.traffic().unwrap();
        let (pod, run) = (scene.gateway().await.unwrap(), scene.run().await.unwrap());

        let killed = Instant::now();
        if by_deletion {
            let pods = Api::<Pod>::namespaced(scene.client.clone(), HOME);
            let at_once = DeleteParams::default().grace_period(0);
            pods.delete(&pod, &at_once).await.unwrap();
        } else {
            scene.fault().unwrap().kill_pod(HOME, &pod).await.unwrap();
        }
        let fails = || async {
            Ok(traffic.answers_since(killed).keys().any(|answer| *answer != Answer::Called))
        };
        until("the gateway to go", PATIENCE, fails).await.unwrap();
        scene.wait_answer(&scene.key, ECHO, &Answer::Called, PATIENCE).await.unwrap();
        let away = killed.elapsed();
        scene.wait_steady(Some(&run)).await.unwrap();

        let course = traffic.course();
        report(&format!("gateway, {what}: first answers after {away:?}: {course:?}"));
        for group in &groups {
            let (lost, ended) = (group.lost().await, group.ended());
            let (name, count) = (group.name, group.sessions.count());
            report(&format!(
                "gateway, {what}: {name}: {} of {count} lost, {ended} ended",
                lost.len()
            ));
            assert!(lost.is_empty() || group.may_end, "{name}: {lost:?}");
        }
        assert_nobody_was_turned_away(&traffic);
    }
}

#[tokio::test]
async fn a_gateway_starts_and_serves_without_an_operator() {
    let Some(scene) = Scene::set("headless").await.unwrap() else { return };
    scene.wait_converged().await.unwrap();
    let endpoint = stage::endpoint(Transport::Http, &scene.release.url().unwrap(), &scene.key);
    let sessions = Sessions::open(Sdk::V1, Mode::Legacy, &endpoint, SESSIONS).await.unwrap();
    scene.scale_operators(0).await.unwrap();
    let traffic = scene.traffic().unwrap();

    let pods = Api::<Pod>::namespaced(scene.client.clone(), HOME);
    let (before, run) = (scene.gateway().await.unwrap(), scene.run().await.unwrap());
    let killed = Instant::now();
    pods.delete(&before, &DeleteParams::default().grace_period(0)).await.unwrap();
    let other = || async { Ok(scene.gateway().await? != before) };
    until("another gateway", PATIENCE, other).await.unwrap();
    let fails = || async {
        Ok(traffic.answers_since(killed).keys().any(|answer| *answer != Answer::Called))
    };
    until("the gateway to go", PATIENCE, fails).await.unwrap();
    scene.wait_answer(&scene.key, ECHO, &Answer::Called, PATIENCE).await.unwrap();
    let away = killed.elapsed();
    scene.wait_steady(Some(&run)).await.unwrap();

    let tools = sessions.list(0).await.unwrap();
    assert_eq!(tools, ["tools_add", "tools_echo", "tools_get_time"]);
    sessions.call_all(ECHO, &json!({"message": "hello"})).await.unwrap();
    let operators = ListParams::default().labels("app.kubernetes.io/component=operator");
    assert!(pods.list(&operators).await.unwrap().items.is_empty(), "an operator ran");
    report(&format!("gateway without operators: serves after {away:?}: {:?}", traffic.answers()));
    assert_nobody_was_turned_away(&traffic);
    scene.scale_operators(2).await.unwrap();
    // Its status is told again.
    scene.tenant.ready("mcpserver", "tools").await.unwrap();
}
