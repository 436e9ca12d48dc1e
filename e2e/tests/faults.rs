//! What Claude Code does when something between it and a tool breaks: the gateway must leave it able to go on.
//!
//! Each test is a row of the table of faults, played at a proxy before the gateway or at a server behind it.

use std::fs;

use anyhow::Result;
use e2e::clients::{
    Transport,
    claude::{self, Claude, Outcome, Run},
    model::{Gate, Model, Script},
    stage::{self, ALICE, Gateway, Manifests, Reference},
    tap::{Exchange, Fault, Tap},
};
use serde_json::json;
use tempfile::TempDir;

/// A gateway before one server, `one`, and a tap before the gateway.
struct Scene {
    tap: Tap,
    gateway: Gateway,
    manifests: Manifests,
    reference: Reference,
    claude: Claude,
    scratch: TempDir,
}

impl Scene {
    /// With a Claude Code that begins with `initialize`.
    async fn of_sessions() -> Result<Self> {
        let scene = Self::set().await?;
        Ok(Self { claude: scene.claude.beginning_with_initialize(), ..scene })
    }

    /// With a Claude Code that over HTTP asks for 2026-07-28.
    async fn set() -> Result<Self> {
        let scratch = TempDir::new()?;
        let reference = Reference::start("").await?;
        let manifests = Manifests::of_alice()?;
        manifests.server("one", &reference.url(), "Auto")?;
        let gateway = Gateway::start(&manifests, &scratch.path().join("state"), &["one"]).await?;
        let tap = Tap::start(&gateway.url()).await?;
        let claude = Claude::new().await?;

        Ok(Self { tap, gateway, manifests, reference, claude, scratch })
    }

    fn run(&self, transport: Transport, model: &Model) -> Result<Run> {
        self.claude.run(&stage::endpoint(transport, self.tap.url(), ALICE), model)
    }

    async fn play(&self, transport: Transport, script: Script) -> Result<Outcome> {
        let model = Model::start(script).await?;
        self.run(transport, &model)?.finish().await
    }

    fn initialized(&self) -> usize {
        self.tap.count(|exchange| exchange.is("initialize"))
    }
}

/// A call of `one_add` whose answer has the number `sum`.
fn add(script: Script, sum: u32) -> Script {
    script.call(&claude::tool("one_add"), json!({"a": sum - 1, "b": 1}))
}

fn gated_add(script: Script, sum: u32) -> (Script, Gate) {
    script.gated_call(&claude::tool("one_add"), json!({"a": sum - 1, "b": 1}))
}

/// The text of each answer, without the punctuation around a sum.
fn texts(outcome: &Outcome) -> Vec<&str> {
    outcome
        .results
        .iter()
        .map(|result| {
            let sum = result.text.strip_prefix("{\"result\":").and_then(|t| t.strip_suffix('}'));
            sum.unwrap_or(&result.text)
        })
        .collect()
}

#[tokio::test]
async fn one_404_is_replayed_in_a_new_session() {
    let scene = Scene::of_sessions().await.unwrap();
    scene.tap.break_next("tools/call", Fault::Status(404, ""));

    let outcome = scene.play(Transport::Http, add(add(Script::new(), 5), 6)).await.unwrap();

    assert_eq!(texts(&outcome), ["5", "6"]);
    assert!(scene.initialized() > 1, "it did not start a new session");
}

#[tokio::test]
async fn a_404_for_each_call_fails_them_and_nothing_after() {
    let scene = Scene::of_sessions().await.unwrap();
    // Each call is tried again in a new session.
    for _ in 0..4 {
        scene.tap.break_next("tools/call", Fault::Status(404, "no such session"));
    }

    let script = add(add(add(Script::new(), 5), 6), 7);
    let outcome = scene.play(Transport::Http, script).await.unwrap();

    let texts = texts(&outcome);
    assert!(texts[0].contains("session expired"), "{texts:?}");
    assert!(texts[1].contains("session expired"), "{texts:?}");
    assert_eq!(texts[2], "7");
}

#[tokio::test]
async fn a_call_refused_on_the_way_fails_alone() {
    refused_calls_fail_alone(Scene::of_sessions().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_call_of_2026_07_28_refused_on_the_way_fails_alone() {
    refused_calls_fail_alone(Scene::set().await.unwrap()).await.unwrap();
}

async fn refused_calls_fail_alone(scene: Scene) -> Result<()> {
    let faults = [
        Fault::Status(502, "the proxy found no one"),
        Fault::Status(503, "the proxy is full"),
        Fault::Status(429, "the proxy has had enough"),
        Fault::Drop,
    ];
    let mut script = add(Script::new(), 2);
    let mut gates = Vec::new();
    for _ in &faults {
        let (gated, gate) = gated_add(script, 3);
        script = add(gated, 4);
        gates.push(gate);
    }
    let model = Model::start(script).await?;

    let run = scene.run(Transport::Http, &model)?;
    let mut sessions = None;
    for (gate, fault) in gates.iter().zip(&faults) {
        gate.reached().await?;
        sessions.get_or_insert_with(|| scene.initialized());
        scene.tap.break_next("tools/call", fault.clone());
        gate.open();
    }
    let outcome = run.finish().await?;

    let texts = texts(&outcome);
    for (row, fault) in faults.iter().enumerate() {
        let failed = texts[2 * row + 1];
        match fault {
            Fault::Status(_, body) => assert!(failed.contains(body), "{fault:?}: {failed}"),
            Fault::Drop => assert!(outcome.results[2 * row + 1].is_error, "{fault:?}: {failed}"),
        }
        assert_eq!(texts[2 * row + 2], "4", "after {fault:?}");
    }
    assert_eq!(Some(scene.initialized()), sessions, "a fault of one call cost the session");
    Ok(())
}

#[tokio::test]
async fn a_stream_of_streamable_http_that_ends_is_opened_again() {
    let scene = Scene::of_sessions().await.unwrap();
    let (script, broken) = gated_add(Script::new(), 5);
    let (script, healed) = gated_add(script, 6);
    let script = script.call(&claude::tool("two_add"), json!({"a": 6, "b": 1}));
    let model = Model::start(script).await.unwrap();

    let run = scene.run(Transport::Http, &model).unwrap();
    broken.reached().await.unwrap();
    scene.tap.wait_count("GET", 1, Exchange::is_stream).await.unwrap();
    let sessions = scene.initialized();
    let streams = scene.tap.count(Exchange::is_stream);
    scene.tap.end_streams();
    broken.open();
    healed.reached().await.unwrap();
    scene.tap.wait_count("GET", streams + 1, Exchange::is_stream).await.unwrap();
    add_server_two(&scene).await.unwrap();
    healed.open();
    let outcome = run.finish().await.unwrap();

    assert_eq!(texts(&outcome), ["5", "6", "7"]);
    assert_eq!(scene.initialized(), sessions, "the end of a stream cost the session");
}

#[tokio::test]
async fn what_2026_07_28_listens_to_is_listened_to_again_when_it_ends() {
    let scene = Scene::set().await.unwrap();
    let (script, broken) = gated_add(Script::new(), 5);
    let (script, healed) = gated_add(script, 6);
    let script = script.call(&claude::tool("two_add"), json!({"a": 6, "b": 1}));
    let model = Model::start(script).await.unwrap();
    let listens = |exchange: &Exchange| exchange.is("subscriptions/listen");

    let run = scene.run(Transport::Http, &model).unwrap();
    broken.reached().await.unwrap();
    scene.tap.wait_count("subscriptions/listen", 1, listens).await.unwrap();
    let listening = scene.tap.count(listens);
    scene.tap.end_streams();
    broken.open();
    healed.reached().await.unwrap();
    scene.tap.wait_count("subscriptions/listen", listening + 1, listens).await.unwrap();
    add_server_two(&scene).await.unwrap();
    healed.open();
    let outcome = run.finish().await.unwrap();

    assert_eq!(texts(&outcome), ["5", "6", "7"]);
    assert_eq!(scene.initialized(), 0, "it fell back");
}

#[tokio::test]
async fn an_sse_stream_that_ends_while_no_call_is_open_is_opened_again() {
    let scene = Scene::set().await.unwrap();
    let (script, broken) = gated_add(add(Script::new(), 5), 6);
    let (script, healed) = gated_add(script, 7);
    let meanwhile = claude::tool("one_add");
    let meanwhile = (meanwhile.as_str(), json!({"a": 0, "b": 0}));
    let two = claude::tool("two_add");
    let script = script.call_once_offered(&two, json!({"a": 7, "b": 1}), meanwhile);
    let model = Model::start(script).await.unwrap();

    let run = scene.run(Transport::Sse, &model).unwrap();
    broken.reached().await.unwrap();
    let streams = scene.tap.count(Exchange::is_stream);
    scene.tap.end_streams();
    scene.tap.wait_count("GET", streams + 1, Exchange::is_stream).await.unwrap();
    broken.open();
    healed.reached().await.unwrap();
    add_server_two(&scene).await.unwrap();
    healed.open();
    let outcome = run.finish().await.unwrap();

    let mut texts = texts(&outcome);
    // Said while the new tool was not offered yet.
    texts.retain(|text| *text != "0");
    assert_eq!(texts, ["5", "6", "7", "8"]);
}

#[tokio::test]
async fn a_call_that_is_open_outlives_every_change_of_the_table() {
    for transport in Transport::ALL {
        let scene = Scene::set().await.unwrap();
        let file = scene.scratch.path().join("go on");
        let script = Script::new().call(&claude::tool("one_wait"), json!({"path": file}));
        let model = Model::start(add(script, 5)).await.unwrap();

        let run = scene.run(transport, &model).unwrap();
        scene.tap.wait_count("tools/call", 1, |exchange| exchange.is("tools/call")).await.unwrap();
        add_server_two(&scene).await.unwrap();
        scene.manifests.remove("two").unwrap();
        scene.gateway.wait_servers(&["one"]).await.unwrap();
        fs::write(&file, "").unwrap();
        let outcome = run.finish().await.unwrap();

        assert!(outcome.results[0].text.contains("it is there"), "{transport:?}: {outcome:?}");
        assert_eq!(texts(&outcome)[1], "5", "{transport:?}");
    }
}

#[tokio::test]
async fn a_dead_server_fails_its_own_calls_by_name_and_comes_back() {
    for transport in Transport::ALL {
        let mut scene = Scene::set().await.unwrap();
        let (script, killed) = gated_add(add(Script::new(), 5), 6);
        let (script, back) = gated_add(script, 7);
        let model = Model::start(script).await.unwrap();

        let run = scene.run(transport, &model).unwrap();
        killed.reached().await.unwrap();
        scene.reference.kill().await.unwrap();
        killed.open();
        back.reached().await.unwrap();
        scene.reference.start_again().await.unwrap();
        scene.gateway.wait_servers(&["one"]).await.unwrap();
        back.open();
        let outcome = run.finish().await.unwrap();

        let texts = texts(&outcome);
        assert_eq!(texts[0], "5", "{transport:?}");
        assert!(outcome.results[1].is_error, "{transport:?}: {texts:?}");
        assert!(texts[1].contains("one"), "{transport:?}: {texts:?}");
        assert_eq!(texts[2], "7", "{transport:?}");
    }
}

/// Adds a server of the same tools and waits until Claude Code has asked for the new list.
async fn add_server_two(scene: &Scene) -> Result<()> {
    let lists = scene.tap.count(|exchange| exchange.is("tools/list"));
    scene.manifests.server("two", &scene.reference.url(), "Auto")?;

    scene.gateway.wait_servers(&["one", "two"]).await?;
    scene.tap.wait_count("tools/list", lists + 1, |exchange| exchange.is("tools/list")).await
}
