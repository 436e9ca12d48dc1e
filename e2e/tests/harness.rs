//! The harness itself, against a server of the official SDK: what it says of clients has to be true without Fairway.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use e2e::clients::{
    Endpoint, Transport,
    claude::{self, Claude},
    install::Sdk,
    model::{Model, Script},
    sessions::{Event, Mode, Sessions},
    stage::Reference,
    tap::{Fault, Tap},
    within,
};
use serde_json::json;
use tempfile::TempDir;

#[tokio::test]
async fn claude_code_connects_and_lists() {
    let reference = Reference::start("").await.unwrap();

    for transport in Transport::ALL {
        let claude = Claude::new().await.unwrap();
        claude.add(&Endpoint::new(transport, &reference.url())).await.unwrap();

        let get = claude.get().await.unwrap();
        let list = claude.list().await.unwrap();

        assert!(get.contains("✔ Connected"), "{transport:?}: {get}");
        assert!(list.contains("✔ Connected"), "{transport:?}: {list}");
    }
}

#[tokio::test]
async fn claude_code_says_when_a_server_is_not_there() {
    let mut reference = Reference::start("").await.unwrap();
    let claude = Claude::new().await.unwrap();
    claude.add(&Endpoint::new(Transport::Http, &reference.url())).await.unwrap();
    reference.kill().await.unwrap();

    let get = claude.get().await.unwrap();

    assert!(!get.contains("✔ Connected"), "{get}");
}

#[tokio::test]
async fn claude_code_plays_a_script_and_uses_a_tool_that_was_added_meanwhile() {
    let reference = Reference::start("").await.unwrap();
    let claude = Claude::new().await.unwrap();

    for transport in Transport::ALL {
        let tap = Tap::start(&reference.url()).await.unwrap();
        let add = claude::tool("add");
        let name = format!("over_{}", transport.name());
        let (script, growing) = Script::new()
            .call(&add, json!({"a": 2, "b": 3}))
            .gated_call(&claude::tool("grow"), json!({"name": name}));
        let (script, grown) = script.gated_call(&add, json!({"a": 3, "b": 4}));
        let grown_tool = claude::tool(&name);
        let script =
            script.call_once_offered(&grown_tool, json!({}), (&add, json!({"a": 0, "b": 0})));
        let model = Model::start(script).await.unwrap();

        let mut run = claude.run(&Endpoint::new(transport, tap.url()), &model).unwrap();
        let init = run.init().await.unwrap();
        growing.reached().await.unwrap();
        // Claude Code may list more than once when it connects: only what comes later is new.
        let lists = tap.count(|exchange| exchange.is("tools/list"));
        growing.open();
        grown.reached().await.unwrap();
        // What the model may use is settled when it is asked: this turn began before the new list.
        tap.wait_count("tools/list", lists + 1, |exchange| exchange.is("tools/list"))
            .await
            .unwrap();
        grown.open();
        let outcome = run.finish().await.unwrap();

        for tool in ["add", "grow", "wait"] {
            assert!(init.tools.contains(&claude::tool(tool)), "{transport:?}: {init:?}");
        }
        assert_eq!(init.servers, [("gw".to_owned(), "connected".to_owned())], "{transport:?}");
        let results = outcome.results;
        assert_eq!(results[0].text, r#"{"result":5}"#, "{transport:?}");
        assert!(results[1].text.contains("is there"), "{transport:?}: {results:?}");
        assert_eq!(results[2].text, r#"{"result":7}"#, "{transport:?}");
        let last = results.last().unwrap();
        assert!(last.text.contains("grown"), "{transport:?}: {results:?}");
        assert!(!results.iter().any(|result| result.is_error), "{transport:?}: {results:?}");
        assert_eq!(outcome.text.as_deref(), Some("The script is over."), "{transport:?}");
    }
}

#[tokio::test]
async fn a_closed_gate_holds_the_client_and_a_tap_breaks_what_it_should() {
    let reference = Reference::start("").await.unwrap();
    let tap = Tap::start(&reference.url()).await.unwrap();
    let claude = Claude::new().await.unwrap();
    let add = claude::tool("add");
    let (script, gate) =
        Script::new().call(&add, json!({"a": 2, "b": 3})).gated_call(&add, json!({"a": 3, "b": 4}));
    let script = script.call(&add, json!({"a": 4, "b": 5}));
    let model = Model::start(script).await.unwrap();

    let mut run = claude.run(&Endpoint::new(Transport::Http, tap.url()), &model).unwrap();
    let first = run.next_result().await.unwrap();
    gate.reached().await.unwrap();
    let asked = model.requests().len();
    tap.break_next("tools/call", Fault::Status(503, "come back later"));
    gate.open();
    let outcome = run.finish().await.unwrap();

    assert_eq!(first.text, r#"{"result":5}"#);
    assert_eq!(asked, 2, "the model was asked again though its gate was closed");
    assert!(outcome.results[1].is_error);
    assert!(outcome.results[1].text.contains("come back later"), "{:?}", outcome.results);
    assert_eq!(outcome.results[2].text, r#"{"result":9}"#);
    assert_eq!(tap.count(|exchange| exchange.status == Some(503)), 1);
}

#[tokio::test]
async fn python_sessions_list_call_and_hear_of_changes() {
    let reference = Reference::start("").await.unwrap();
    let files = TempDir::new().unwrap();
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();

    for sdk in [Sdk::V1, Sdk::V2] {
        for transport in Transport::ALL {
            let case = format!("{sdk:?} over {transport:?}");
            let endpoint = Endpoint::new(transport, &reference.url());
            let sessions = Sessions::open(sdk, Mode::Auto, &endpoint, 3).await.unwrap();
            let sum = sessions.call_all("add", &json!({"a": 2, "b": 3})).await.unwrap();
            let unknown = sessions.call(0, "nothing", json!({})).await.unwrap();
            let name = format!("{sdk:?}_{transport:?}_{stamp}");
            sessions.call(1, "grow", json!({"name": name})).await.unwrap();

            assert!(sum.iter().all(|sum| sum.text == "5" && !sum.is_error), "{case}: {sum:?}");
            assert!(unknown.is_error, "{case}: {unknown:?}");
            let changed = |events: &[_]| events.contains(&(1, Event::ListChanged));
            sessions.wait_events("list_changed", changed).await.unwrap();
            assert!(!sessions.events(0).contains(&Event::ListChanged), "{case}");
            let lists = sessions.list_all().await.unwrap();
            assert!(lists.iter().all(|list| list.contains(&name)), "{case}: {lists:?}");

            let file = files.path().join(&name);
            let wait = sessions.call_with_progress(2, "wait", json!({"path": file}));
            let progress = async {
                let progressed = |events: &[_]| events.contains(&(2, Event::Progress(2.0)));
                sessions.wait_events("progress", progressed).await.unwrap();
                fs::write(&file, "").unwrap();
            };
            let (waited, ()) =
                within("a call that makes progress", async { tokio::join!(wait, progress) })
                    .await
                    .unwrap();
            assert_eq!(waited.unwrap().text, "it is there", "{case}");
            sessions.close(0).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_python_session_whose_server_dies_says_so() {
    let mut reference = Reference::start("").await.unwrap();
    let endpoint = Endpoint::new(Transport::Http, &reference.url());
    let sessions = Sessions::open(Sdk::V1, Mode::Auto, &endpoint, 1).await.unwrap();

    reference.kill().await.unwrap();
    let refusal = sessions.refusal(0, "add", json!({"a": 2, "b": 3})).await.unwrap();

    assert_eq!(refusal.code, None, "{refusal}");
    assert_ne!(refusal.message, "");
}
