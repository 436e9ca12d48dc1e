//! The demo as its user meets it: real clients, both transports, both users, and a table that changes under them.

use anyhow::Result;
use e2e::clients::{
    Endpoint, Transport,
    claude::{self, Claude},
    install::Sdk,
    model::{Model, Script},
    sessions::{Mode, Sessions},
    stage::{self, ALICE, BOB, Demo, Reference},
};
use serde_json::json;

/// What alice may use.
const ALL: [&str; 9] = [
    "add",
    "describe_table",
    "echo",
    "get_time",
    "list_files",
    "list_tables",
    "query",
    "read_file",
    "write_file",
];

/// What bob may use: everything but files.
const WITHOUT_FILES: [&str; 6] =
    ["add", "describe_table", "echo", "get_time", "list_tables", "query"];

/// JSON-RPC's code for a tool that is unknown, or that the caller may not use.
const INVALID_PARAMS: Option<i64> = Some(-32602);

/// Adds a server `extra` for alice, whose tools begin with `extra_`.
async fn add_extra(demo: &Demo, reference: &Reference) -> Result<()> {
    demo.manifests().allow("alice", "extra")?;
    demo.manifests().server("extra", &reference.url(), "Auto")?;

    demo.wait_servers(&["database", "everything", "extra", "filesystem"]).await
}

#[tokio::test]
async fn claude_code_connects_with_a_key_in_every_place() {
    let demo = Demo::start().await.unwrap();

    for transport in Transport::ALL {
        let plain = Endpoint::new(transport, &demo.url());
        for endpoint in [
            plain.clone().query("api_key", ALICE),
            plain.clone().header("X-Api-Key", ALICE),
            plain.clone().header("Authorization", &format!("Bearer {ALICE}")),
        ] {
            let claude = Claude::new().await.unwrap();
            claude.add(&endpoint).await.unwrap();

            let get = claude.get().await.unwrap();

            assert!(get.contains("✔ Connected"), "{endpoint:?}: {get}");
        }
    }
}

#[tokio::test]
async fn claude_code_does_not_connect_with_a_wrong_key() {
    let demo = Demo::start().await.unwrap();

    for transport in Transport::ALL {
        let claude = Claude::new().await.unwrap();
        claude.add(&stage::endpoint(transport, &demo.url(), "wrong")).await.unwrap();

        let get = claude.get().await.unwrap();

        assert!(!get.contains("✔ Connected"), "{transport:?}: {get}");
    }
}

#[tokio::test]
async fn claude_code_sees_and_uses_the_tools_of_its_user() {
    let demo = Demo::start().await.unwrap();
    let claude = Claude::new().await.unwrap();

    for transport in Transport::ALL {
        for (key, tools) in [(ALICE, &ALL[..]), (BOB, &WITHOUT_FILES[..])] {
            let script = Script::new().call(&claude::tool("add"), json!({"a": 2, "b": 3}));
            let model = Model::start(script).await.unwrap();
            let endpoint = stage::endpoint(transport, &demo.url(), key);

            let outcome = claude.run(&endpoint, &model).unwrap().finish().await.unwrap();

            let case = format!("{key} over {transport:?}");
            let seen = outcome.init.unwrap().tools;
            let wanted: Vec<String> = tools.iter().map(|tool| claude::tool(tool)).collect();
            assert_eq!(seen, wanted, "{case}");
            assert!(!outcome.results[0].is_error, "{case}: {:?}", outcome.results);
            assert!(outcome.results[0].text.contains('5'), "{case}: {:?}", outcome.results);
        }
    }
}

#[tokio::test]
async fn claude_code_uses_a_tool_that_was_added_while_it_runs() {
    for transport in Transport::ALL {
        let demo = Demo::start().await.unwrap();
        let reference = Reference::start("").await.unwrap();
        let claude = Claude::new().await.unwrap();
        let (script, gate) =
            Script::new().gated_call(&claude::tool("add"), json!({"a": 2, "b": 3}));
        let extra = claude::tool("extra_add");
        let meanwhile = (claude::tool("echo"), json!({"message": "not yet"}));
        let meanwhile = (meanwhile.0.as_str(), meanwhile.1);
        let script = script.call_once_offered(&extra, json!({"a": 3, "b": 4}), meanwhile);
        let model = Model::start(script).await.unwrap();

        let run = claude.run(&stage::endpoint(transport, &demo.url(), ALICE), &model).unwrap();
        gate.reached().await.unwrap();
        add_extra(&demo, &reference).await.unwrap();
        gate.open();
        let outcome = run.finish().await.unwrap();

        let offered = model.requests();
        assert!(!offered[0].tools.contains(&extra), "{transport:?}");
        let results = outcome.results;
        assert!(
            results[0].text.contains('5') && !results[0].is_error,
            "{transport:?}: {results:?}"
        );
        let last = results.last().unwrap();
        assert!(last.text.contains('7') && !last.is_error, "{transport:?}: {results:?}");
    }
}

#[tokio::test]
async fn python_sessions_see_and_use_the_tools_of_their_user() {
    let demo = Demo::start().await.unwrap();

    for sdk in [Sdk::V1, Sdk::V2] {
        for transport in Transport::ALL {
            for (key, tools) in [(ALICE, &ALL[..]), (BOB, &WITHOUT_FILES[..])] {
                let case = format!("{sdk:?} over {transport:?} with {key}");
                let endpoint = stage::endpoint(transport, &demo.url(), key);
                let sessions = Sessions::open(sdk, Mode::Auto, &endpoint, 1).await.unwrap();

                let list = sessions.list(0).await.unwrap();
                let sum = sessions.call(0, "add", json!({"a": 2, "b": 3})).await.unwrap();
                let unknown = sessions.refusal(0, "nothing", json!({})).await.unwrap();

                assert_eq!(list, tools, "{case}");
                assert_eq!((sum.text.as_str(), sum.is_error), ("5", false), "{case}");
                assert_eq!(unknown.code, INVALID_PARAMS, "{case}: {unknown}");
                if key == BOB {
                    let path = json!({"path": "readme.txt"});
                    let forbidden = sessions.refusal(0, "read_file", path).await.unwrap();
                    let told = forbidden.message.replace("read_file", "nothing");
                    assert_eq!((told, forbidden.code), (unknown.message, unknown.code), "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn python_sessions_hear_of_every_change() {
    let demo = Demo::start().await.unwrap();
    let reference = Reference::start("").await.unwrap();

    for sdk in [Sdk::V1, Sdk::V2] {
        for transport in Transport::ALL {
            let case = format!("{sdk:?} over {transport:?}");
            let endpoint = stage::endpoint(transport, &demo.url(), ALICE);
            let sessions = Sessions::open(sdk, Mode::Auto, &endpoint, 2).await.unwrap();

            let before = sessions.list_changes();
            add_extra(&demo, &reference).await.unwrap();
            sessions.wait_list_changed(&before).await.unwrap();
            let lists = sessions.list_all().await.unwrap();
            let sums = sessions.call_all("extra_add", &json!({"a": 3, "b": 4})).await.unwrap();

            let before = sessions.list_changes();
            demo.manifests().remove("extra").unwrap();
            sessions.wait_list_changed(&before).await.unwrap();
            let refusal = sessions.refusal(1, "extra_add", json!({"a": 3, "b": 4})).await.unwrap();

            let knows = |list: &Vec<String>| list.iter().any(|tool| tool == "extra_add");
            assert!(lists.iter().all(knows), "{case}: {lists:?}");
            assert!(sums.iter().all(|sum| sum.text == "7"), "{case}: {sums:?}");
            assert_eq!(refusal.code, INVALID_PARAMS, "{case}: {refusal}");
            assert_eq!(sessions.list(0).await.unwrap(), ALL, "{case}");
        }
    }
}

#[tokio::test]
async fn python_2_asked_to_start_with_initialize_does() {
    let demo = Demo::start().await.unwrap();

    for transport in Transport::ALL {
        let endpoint = stage::endpoint(transport, &demo.url(), ALICE);
        let sessions = Sessions::open(Sdk::V2, Mode::Legacy, &endpoint, 1).await.unwrap();

        assert_eq!(sessions.list(0).await.unwrap(), ALL, "{transport:?}");
    }
}
