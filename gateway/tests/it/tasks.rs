//! Tasks of the extension: who listens hears of its own, under the ids it knows.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::features::offer_everything;
use crate::support::eventually;
use crate::support::fixture::{Fixture, Seen, json_reply};
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
