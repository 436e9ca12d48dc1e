//! A gateway that is killed and starts again, or is replaced by another: no client loses its session.

use std::time::Duration;

use anyhow::Result;
use e2e::clients::{
    Transport,
    claude::{self, Claude},
    install::Sdk,
    model::{Gate, Model, Script},
    sessions::{Mode, Sessions},
    stage::{self, ALICE, Gateway, Manifests, Reference},
    tap::{Exchange, Tap},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::time;

/// The same server twice: once with one session for all clients, once with one for each.
const SERVERS: [&str; 2] = ["own", "shared"];

/// How long a client is refused: longer than any wait that a stream announces to it before it tries again.
const OUTAGE: Duration = Duration::from_secs(1);

struct Scene {
    manifests: Manifests,
    gateway: Gateway,
    reference: Reference,
    state: TempDir,
}

impl Scene {
    async fn set() -> Result<Self> {
        let state = TempDir::new()?;
        let reference = Reference::start("").await?;
        let manifests = Manifests::of_alice()?;
        manifests.server("own", &reference.url(), "PerClient")?;
        manifests.server("shared", &reference.url(), "Shared")?;
        let gateway = Gateway::start(&manifests, &state.path().join("state"), &SERVERS).await?;

        Ok(Self { manifests, gateway, reference, state })
    }

    async fn restart(&mut self) -> Result<()> {
        self.gateway.kill().await?;
        self.gateway.start_again(&SERVERS).await
    }
}

/// Calls both servers before the gate, and both after it.
fn script() -> (Script, Gate) {
    let (own, shared) = (claude::tool("own_add"), claude::tool("shared_add"));
    let script =
        Script::new().call(&own, json!({"a": 1, "b": 1})).call(&shared, json!({"a": 1, "b": 2}));
    let (script, gate) = script.gated_call(&own, json!({"a": 1, "b": 3}));
    (script.call(&shared, json!({"a": 1, "b": 4})), gate)
}

const ANSWERS: [&str; 4] =
    [r#"{"result":2}"#, r#"{"result":3}"#, r#"{"result":4}"#, r#"{"result":5}"#];

#[tokio::test]
async fn claude_code_over_http_goes_on_at_once() {
    let mut scene = Scene::set().await.unwrap();
    let tap = Tap::start(&scene.gateway.url()).await.unwrap();
    let claude = Claude::new().await.unwrap();
    let (script, gate) = script();
    let model = Model::start(script).await.unwrap();
    let endpoint = stage::endpoint(Transport::Http, tap.url(), ALICE);

    let run = claude.run(&endpoint, &model).unwrap();
    gate.reached().await.unwrap();
    scene.restart().await.unwrap();
    gate.open();
    let outcome = run.finish().await.unwrap();

    let texts: Vec<&str> = outcome.results.iter().map(|result| result.text.as_str()).collect();
    assert_eq!(texts, ANSWERS);
    // It would begin anew by itself if its session were gone, and nobody would notice.
    let calls = tap.count(|exchange| exchange.method.as_deref() == Some("tools/call"));
    assert_eq!(calls, ANSWERS.len(), "a call had to be repeated");
}

#[tokio::test]
async fn claude_code_idle_on_sse_resumes_when_its_connection_broke() {
    let mut scene = Scene::set().await.unwrap();
    let tap = Tap::start(&scene.gateway.url()).await.unwrap();
    let claude = Claude::new().await.unwrap();
    let (script, gate) = script();
    let model = Model::start(script).await.unwrap();
    let endpoint = stage::endpoint(Transport::Sse, tap.url(), ALICE);

    let run = claude.run(&endpoint, &model).unwrap();
    gate.reached().await.unwrap();
    let streams = tap.count(Exchange::is_stream);
    scene.restart().await.unwrap();
    tap.wait_count("GET", streams + 1, Exchange::is_stream).await.unwrap();
    gate.open();
    let outcome = run.finish().await.unwrap();

    let texts: Vec<&str> = outcome.results.iter().map(|result| result.text.as_str()).collect();
    assert_eq!(texts, ANSWERS);
}

#[tokio::test]
async fn claude_code_idle_on_sse_begins_anew_when_it_was_refused() {
    let mut scene = Scene::set().await.unwrap();
    let mut tap = Tap::start(&scene.gateway.url()).await.unwrap();
    let claude = Claude::new().await.unwrap();
    let (script, gate) = script();
    let model = Model::start(script).await.unwrap();
    let endpoint = stage::endpoint(Transport::Sse, tap.url(), ALICE);

    let run = claude.run(&endpoint, &model).unwrap();
    gate.reached().await.unwrap();
    let begun = tap.count(|exchange| exchange.is("initialize"));
    tap.go_away().await;
    scene.restart().await.unwrap();
    time::sleep(OUTAGE).await;
    tap.come_back().await.unwrap();
    // A call while it begins anew would fail in the client itself.
    tap.wait_after(
        "tools/list of a new session",
        begun + 1,
        |exchange| exchange.is("initialize"),
        |exchange| exchange.is("tools/list"),
    )
    .await
    .unwrap();
    gate.open();
    let outcome = run.finish().await.unwrap();

    let texts: Vec<&str> = outcome.results.iter().map(|result| result.text.as_str()).collect();
    assert_eq!(texts, ANSWERS);
}

#[tokio::test]
async fn claude_code_hears_of_what_changed_while_the_gateway_was_away() {
    for transport in Transport::ALL {
        let mut scene = Scene::set().await.unwrap();
        let tap = Tap::start(&scene.gateway.url()).await.unwrap();
        let claude = Claude::new().await.unwrap();
        let (script, gate) = script();
        let meanwhile = claude::tool("own_add");
        let meanwhile = (meanwhile.as_str(), json!({"a": 0, "b": 0}));
        let late = claude::tool("late_add");
        let script = script.call_once_offered(&late, json!({"a": 1, "b": 5}), meanwhile);
        let model = Model::start(script).await.unwrap();
        let endpoint = stage::endpoint(transport, tap.url(), ALICE);

        let run = claude.run(&endpoint, &model).unwrap();
        gate.reached().await.unwrap();
        let lists = tap.count(|exchange| exchange.is("tools/list"));
        scene.gateway.kill().await.unwrap();
        scene.manifests.server("late", &scene.reference.url(), "Shared").unwrap();
        scene.gateway.start_again(&["late", "own", "shared"]).await.unwrap();
        tap.wait_count("tools/list", lists + 1, |exchange| exchange.is("tools/list"))
            .await
            .unwrap();
        gate.open();
        let outcome = run.finish().await.unwrap();

        let late = outcome.results.last().map(|result| result.text.as_str());
        assert_eq!(late, Some(r#"{"result":6}"#), "{transport:?}");
    }
}

#[tokio::test]
async fn fifty_sessions_over_http_outlive_the_gateway() {
    for sdk in [Sdk::V1, Sdk::V2] {
        let mut scene = Scene::set().await.unwrap();
        let endpoint = stage::endpoint(Transport::Http, &scene.gateway.url(), ALICE);
        let sessions = Sessions::open(sdk, Mode::Auto, &endpoint, 50).await.unwrap();
        call_both(&sessions).await.unwrap();

        scene.restart().await.unwrap();

        call_both(&sessions).await.unwrap();
        // Their streams are back too, or nobody would hear of this.
        let before = sessions.list_changes();
        scene.manifests.server("late", &scene.reference.url(), "Shared").unwrap();
        sessions.wait_list_changed(&before).await.unwrap();
        scene.gateway.wait_servers(&["late", "own", "shared"]).await.unwrap();
        sessions.call_all("late_add", &json!({"a": 1, "b": 1})).await.unwrap();
    }
}

#[tokio::test]
async fn fifty_sessions_over_http_are_served_by_another_gateway_with_the_same_state() {
    let mut scene = Scene::set().await.unwrap();
    let state = scene.state.path().join("state");
    let other = Gateway::start(&scene.manifests, &state, &SERVERS).await.unwrap();
    let tap = Tap::start(&scene.gateway.url()).await.unwrap();
    let endpoint = stage::endpoint(Transport::Http, tap.url(), ALICE);
    let sessions = Sessions::open(Sdk::V1, Mode::Auto, &endpoint, 50).await.unwrap();
    call_both(&sessions).await.unwrap();

    tap.retarget(&other.url()).unwrap();
    call_both(&sessions).await.unwrap();
    scene.gateway.kill().await.unwrap();
    call_both(&sessions).await.unwrap();

    let sessions_begun = tap.count(|exchange| exchange.is("initialize"));
    assert_eq!(sessions_begun, sessions.count(), "a session was begun anew");
}

/// Every session calls both servers.
async fn call_both(sessions: &Sessions) -> Result<()> {
    for tool in ["own_add", "shared_add"] {
        let sums = sessions.call_all(tool, &json!({"a": 2, "b": 3})).await?;

        assert!(sums.iter().all(|sum| sum.text == "5"), "{tool}: {sums:?}");
    }
    Ok(())
}
