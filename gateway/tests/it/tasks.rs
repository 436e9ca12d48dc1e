//! Tasks, of the extension and of 2025-11-25: each is its owner's, under an id that it alone can use.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::features::offer_everything;
use crate::support::client::{Session, request, text};
use crate::support::eventually;
use crate::support::fixture::{Fixture, Seen, done, json_reply, result};
use crate::support::guest::Guest;
use crate::support::stage::Stage;

const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const TASKS: &str = "notifications/tasks";

fn knows_tasks() -> Value {
    json!({"extensions": {EXTENSION: {}}})
}

/// A server of 2026-07-28 whose calls become the task `t`, beside one that has what it has.
async fn working() -> (Fixture, Fixture, Stage) {
    let (alpha, beta) = (Fixture::start().await, Fixture::modern().await);
    offer_everything(&alpha, "alpha");
    alpha.offer(&["other"]);
    offer_everything(&beta, "beta");
    beta.introduces(json!({
        "capabilities": {
            "tools": {"listChanged": true}, "resources": {}, "extensions": {EXTENSION: {}},
        },
        "serverInfo": {"name": "beta", "version": "1"},
    }));
    beta.on("tools/call", |seen| async move {
        let result = json!({"resultType": "task", "taskId": "t", "status": "working"});
        json_reply(json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}).to_string())
    });
    let stage = Stage::start(&[alpha.manifest("alpha"), beta.manifest("beta")]).await;
    stage.server_is("alpha", "connected").await;
    stage.server_is("beta", "connected").await;
    (alpha, beta, stage)
}

/// Waits until the server was last asked to tell of exactly these tasks.
async fn is_asked_for(server: &Fixture, ids: Value) -> Seen {
    eventually(&format!("a listen for {ids}"), || async {
        let last = server.seen_of("subscriptions/listen").pop()?;
        (last.message["params"]["notifications"]["taskIds"] == ids).then_some(last)
    })
    .await
}

#[tokio::test]
async fn who_listens_hears_of_its_tasks_by_the_ids_it_knows() {
    let (_alpha, beta, stage) = working().await;
    let guest = Guest::new(&stage.alice(), "/mcp").can(knows_tasks());
    let task = guest.call("work", json!({})).await["result"]["taskId"].clone();
    assert_ne!(task, "t");

    let filter = json!({"taskIds": ["made up", task]});
    let (mut events, honoured) = guest.listen("mine", filter.clone()).await;
    // Whose it is not is told what is told of one that is made up.
    let bob = Guest::new(&stage.bob(), "/mcp").can(knows_tasks());
    let (mut others, none) = bob.listen(1, filter).await;

    assert_eq!(honoured, json!({"taskIds": [task]}));
    assert_eq!(none, json!({}));
    let seen = is_asked_for(&beta, json!(["t"])).await;
    assert_eq!(seen.message["params"]["_meta"][CAPABILITIES], knows_tasks());
    let link = json!({"type": "resource_link", "name": "l", "uri": "file:///shared"});
    let told = |id: &str| {
        let result = json!({"content": [link]});
        let params = json!({"taskId": id, "status": "completed", "result": result});
        json!({"jsonrpc": "2.0", "method": TASKS, "params": params})
    };
    assert!(beta.announce(&told("another")));
    assert!(beta.announce(&told("t")));
    let first = events.next().await.unwrap().json();
    assert_eq!(first["method"], TASKS, "{first}");
    assert_eq!(first["params"]["taskId"], task, "{first}");
    assert_eq!(first["params"]["_meta"][SUBSCRIPTION], "mine", "{first}");
    let uri = &first["params"]["result"]["content"][0]["uri"];
    assert_eq!(*uri, "fairway+default+beta+file:///shared", "{first}");

    drop(events);
    is_asked_for(&beta, Value::Null).await;
    others.is_silent(Duration::ZERO).await;
}

#[tokio::test]
async fn a_task_is_its_owners_alone() {
    let (_alpha, beta, stage) = working().await;
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        beta.on(method, |seen| async move {
            let task = json!({"resultType": "complete", "taskId": "t", "status": "working"});
            result(&seen, &task)
        });
    }
    let alice = Guest::new(&stage.alice(), "/mcp").can(knows_tasks());
    let bob = Guest::new(&stage.bob(), "/mcp").can(knows_tasks());
    let task = alice.call("work", json!({})).await["result"]["taskId"].clone();
    let ask = async |guest: &Guest, method: &str, task: &Value| {
        let asked = request(1, method, guest.params(&json!({"taskId": task})));
        let client = guest.heading(method, &json!({})).with("mcp-name", task.as_str().unwrap());
        client.post("/mcp", asked).await.json()
    };

    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let told = ask(&alice, method, &task).await;
        assert_eq!(told["result"]["taskId"], task, "{method}: {told}");
        let seen = beta.seen_of(method);
        assert_eq!(seen[0].message["params"]["taskId"], "t", "{method}");
        assert_eq!(seen[0].headers["mcp-name"], "t", "{method}");
        // Who merely knows the id is told what is told of one that is made up.
        let stolen = ask(&bob, method, &task).await;
        let made_up = ask(&bob, method, &"made-up".into()).await;
        assert_eq!(stolen["error"]["code"], -32602, "{method}: {stolen}");
        assert_eq!(stolen["error"], made_up["error"], "{method}");
        assert_eq!(beta.seen_of(method).len(), 1, "{method}");
    }
}

/// Tasks of 2025-11-25, where the client decides that a call becomes one.
#[tokio::test]
async fn tasks_of_a_legacy_server_are_those_of_the_session_that_made_them() {
    let server = Fixture::with_sessions().await;
    server.introduces(json!({
        "capabilities": {"tools": {}, "tasks": {"list": {}, "cancel": {}}},
        "serverInfo": {"name": "server", "version": "1"},
    }));
    let task = json!({"taskId": "t", "status": "working"});
    let made = json!({"task": task});
    server.on("tools/call", move |seen| {
        assert_eq!(seen.message["params"]["task"], json!({"ttl": 60_000}));
        let response = result(&seen, &made);
        async { response }
    });
    let listed = json!({"tasks": [task]});
    server.on("tasks/list", move |seen| {
        let response = result(&seen, &listed);
        async { response }
    });
    for method in ["tasks/get", "tasks/cancel"] {
        let task = task.clone();
        server.on(method, move |seen| {
            let response = result(&seen, &task);
            async { response }
        });
    }
    server.on("tasks/result", |seen| async move { done(&seen) });
    let stage = Stage::start(&[server.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp/server").await;
    let other = Session::open(&stage.bob(), "/mcp/server").await;

    let params = json!({"name": "work", "arguments": {}, "task": {"ttl": 60_000}});
    let id = session.request("tools/call", params).await["result"]["task"]["taskId"].clone();

    assert_ne!(id, "t");
    let named = json!({"taskId": id});
    for method in ["tasks/get", "tasks/cancel"] {
        let answer = session.request(method, named.clone()).await;
        assert_eq!(answer["result"]["taskId"], id, "{method}: {answer}");
    }
    assert_eq!(text(&session.request("tasks/result", named.clone()).await), "done");
    let list = session.request("tasks/list", json!({})).await;
    assert_eq!(list["result"]["tasks"][0]["taskId"], id, "{list}");
    for method in ["tasks/get", "tasks/cancel", "tasks/result"] {
        assert!(server.seen_of(method).iter().all(|seen| seen.message["params"]["taskId"] == "t"));
        let stolen = other.request(method, named.clone()).await;
        assert_eq!(stolen["error"]["code"], -32602, "{method}: {stolen}");
    }
}

#[tokio::test]
async fn who_does_not_know_tasks_cannot_listen_for_one() {
    let (_alpha, _beta, stage) = working().await;
    let params = json!({"notifications": {"taskIds": ["t"]}});

    let guest = Guest::new(&stage.alice(), "/mcp");
    let refused = guest.post(1, "subscriptions/listen", params).await;

    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
    let error = &refused.json()["error"];
    assert_eq!(error["code"], -32021, "{error}");
    assert_eq!(error["data"]["requiredCapabilities"], knows_tasks(), "{error}");
}

#[tokio::test]
async fn nothing_is_missed_while_a_server_is_asked_for_more() {
    let (_alpha, beta, stage) = working().await;
    let guest = Guest::new(&stage.alice(), "/mcp").can(knows_tasks());
    let task = guest.call("work", json!({})).await["result"]["taskId"].clone();
    let (mut events, _) = guest.listen(1, json!({"taskIds": [task]})).await;
    is_asked_for(&beta, json!(["t"])).await;
    let said = |status: &str| {
        let params = json!({"taskId": "t", "status": status});
        json!({"jsonrpc": "2.0", "method": TASKS, "params": params})
    };
    assert!(beta.announce(&said("working")));
    events.message(TASKS).await;

    let gate = beta.hold("subscriptions/listen");
    let asked = beta.seen_of("subscriptions/listen").len();
    let filter = json!({"resourceSubscriptions": ["beta:///own"]});
    let (mut others, _) = guest.listen(2, filter).await;
    beta.sees("subscriptions/listen", asked + 1).await;
    assert!(beta.announce(&said("completed")), "nobody listens any more");

    // What came before may come twice: by what the server tells now and by what it told until then.
    while events.message(TASKS).await["params"]["status"] != "completed" {}
    gate.cancel();
    // And then by what the server was asked to tell besides.
    is_asked_for(&beta, json!(["t"])).await;
    let params = json!({"uri": "beta:///own"});
    let updated =
        json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params});
    assert!(beta.announce(&updated));
    others.message("notifications/resources/updated").await;
}
