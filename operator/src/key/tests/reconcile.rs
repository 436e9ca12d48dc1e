//! Reconciles against an apiserver in memory.

use gateway_core::Entry;
use http::Method;
use serde_json::{Value, json};

use crate::key::validate::ROTATE;
use crate::testing::resources::{SECRETS, key, secret};
use crate::testing::{Bench, Failure};

const ALICE: &str = "/apis/fairway.dev/v1alpha1/namespaces/team/mcpapikeys/alice";
const HANDED_OUT: &str = "/api/v1/namespaces/team/secrets/mcp-key-alice";

async fn with_alice(spec: Value) -> Bench {
    let bench = Bench::new().await;
    bench.gateway("one");
    bench.put(key("alice", spec)).await;
    bench.api.calls();
    bench
}

async fn alice() -> Bench {
    with_alice(json!({"user": "alice"})).await
}

fn user(bench: &Bench) -> String {
    match bench.record("key.team.alice").unwrap().entry {
        Entry::Key(key) => key.user.to_string(),
        Entry::Server(_) | Entry::Policy(_) => panic!("no key"),
    }
}

#[tokio::test]
async fn a_key_is_handed_out_then_in_force_then_ready() {
    let bench = alice().await;

    bench.key("alice").await.unwrap();

    assert_eq!(
        bench.api.briefs(),
        ["POST secrets/team", "POST secrets/entries", "PATCH mcpapikeys/team/alice/status"]
    );
    let (status, ..) = bench.condition(ALICE, "Ready");
    assert_eq!(status, "True");
    assert_eq!(bench.api.events(), [("Ready".into(), "clients can call with the key".into())]);
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changed() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    bench.api.calls();

    for _ in 0..3 {
        bench.key("alice").await.unwrap();
    }

    assert_eq!(bench.api.briefs(), [""; 0]);
}

#[tokio::test]
async fn the_status_of_a_key_is_no_reason_to_look_at_it_for_ever() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    let before = bench.api.find(ALICE);

    bench.key("alice").await.unwrap();

    assert_eq!(bench.api.find(ALICE), before);
}

#[tokio::test]
async fn without_a_gateway_nobody_knows_whether_it_is_in_force() {
    let bench = alice().await;
    bench.ctx.gateways.remove_pod("one");

    bench.key("alice").await.unwrap();

    let (status, reason, _) = bench.condition(ALICE, "Programmed");
    assert_eq!((&*status, &*reason), ("Unknown", "NoGateway"));
    assert!(bench.record("key.team.alice").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_behind_is_named() {
    let bench = alice().await;
    bench.ctx.gateways.set_pod("two", "two", true);

    bench.key("alice").await.unwrap();

    let (status, reason, message) = bench.condition(ALICE, "Programmed");
    assert_eq!((&*status, &*reason), ("False", "Pending"));
    assert!(message.contains("two") && !message.contains("one"), "{message}");
    assert!(bench.api.events().is_empty(), "progress is no news");
}

#[tokio::test]
async fn a_key_that_is_edited_is_written_anew() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    bench.api.calls();

    bench.api.edit(ALICE, |key| key["spec"]["user"] = json!("bob"));
    bench.key("alice").await.unwrap();

    assert_eq!(user(&bench), "bob");
    assert_eq!(
        bench.api.briefs(),
        ["PATCH secrets/entries/key.team.alice", "PATCH mcpapikeys/team/alice/status"]
    );
}

#[tokio::test]
async fn an_invalid_key_leaves_the_last_good_version_in_force() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    bench.api.calls();

    bench.api.edit(ALICE, |key| key["spec"]["user"] = json!(""));
    bench.key("alice").await.unwrap();

    assert_eq!(user(&bench), "alice");
    assert_eq!(bench.api.briefs(), ["PATCH mcpapikeys/team/alice/status"]);
    let (status, reason, message) = bench.condition(ALICE, "Accepted");
    assert_eq!((&*status, &*reason), ("False", "Invalid"));
    assert!(message.contains("spec.user"), "{message}");
    assert!(message.ends_with("the last good version stays in force"), "{message}");
    let (status, _, message) = bench.condition(ALICE, "Programmed");
    assert_eq!((&*status, &*message), ("False", "the last good version stays in force"));
    let events = bench.api.events();
    assert!(events.iter().any(|(reason, _)| reason == "Invalid"), "{events:?}");
}

#[tokio::test]
async fn an_invalid_key_that_was_never_good_is_in_force_nowhere() {
    let bench = with_alice(json!({"user": ""})).await;

    bench.key("alice").await.unwrap();

    assert!(bench.record("key.team.alice").is_none());
    let (_, _, message) = bench.condition(ALICE, "Accepted");
    assert!(!message.contains("last good"), "{message}");
    let (_, reason, message) = bench.condition(ALICE, "Programmed");
    assert_eq!(reason, "NotAccepted");
    assert!(message.contains("nothing is in force"), "{message}");
}

#[tokio::test]
async fn a_key_that_is_switched_off_though_it_is_invalid_is_off() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();

    bench.api.edit(ALICE, |key| {
        key["spec"]["user"] = json!("");
        key["spec"]["disabled"] = json!(true);
    });
    bench.key("alice").await.unwrap();

    let Entry::Key(entry) = bench.record("key.team.alice").unwrap().entry else { panic!() };
    assert!(entry.disabled);
    let phase = bench.api.find(ALICE).unwrap()["status"]["phase"].clone();
    assert_eq!(phase, "Disabled");
}

#[tokio::test]
async fn a_new_key_stands_in_the_secret_before_it_is_in_force() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    let first = bench.api.find(HANDED_OUT).unwrap();
    bench.api.edit(ALICE, |key| key["metadata"]["annotations"] = json!({ROTATE: "please"}));
    bench.settle().await;
    bench.api.calls();

    bench.key("alice").await.unwrap();

    let writes = bench.api.writes();
    assert_eq!(writes[0].brief(), "PATCH secrets/team/mcp-key-alice");
    let seen = &first["metadata"]["resourceVersion"];
    assert_eq!(writes[0].body["metadata"]["resourceVersion"], *seen);
    assert_eq!(writes[1].brief(), "PATCH secrets/entries/key.team.alice");
    assert_ne!(bench.api.find(HANDED_OUT).unwrap()["data"]["key"], first["data"]["key"]);
    let Entry::Key(entry) = bench.record("key.team.alice").unwrap().entry else { panic!() };
    assert_eq!(entry.values.len(), 2);
}

#[tokio::test]
async fn a_key_is_made_once_though_writing_its_entry_failed() {
    let bench = alice().await;
    bench.api.fail(Method::POST, "/namespaces/entries/", Failure::Status(500), 1);

    let failed = bench.key("alice").await.unwrap_err();
    assert_eq!(failed.reason(), "refused");
    let first = bench.api.find(HANDED_OUT).unwrap();
    bench.key("alice").await.unwrap();

    assert_eq!(bench.api.find(HANDED_OUT).unwrap()["data"], first["data"]);
    let value: k8s_openapi::api::core::v1::Secret = bench.api.get(HANDED_OUT);
    let digest = bench.ctx.keyring.load().pepper.digest(&value.data.unwrap()["key"].0);
    let Entry::Key(entry) = bench.record("key.team.alice").unwrap().entry else { panic!() };
    assert_eq!(entry.values[0].digest, digest);
}

/// The one that was paused looked before the other wrote, and writes after it.
#[tokio::test]
async fn a_paused_leader_overwrites_no_key() {
    let bench = alice().await;
    bench.api.fail(Method::GET, "mcp-key-alice", Failure::Status(404), 1);
    bench.api.put(secret("mcp-key-alice", "key", "made by the other"));

    let refused = bench.key("alice").await.unwrap_err();

    assert!(refused.is_conflict(), "{refused}");
    let kept = bench.api.find(HANDED_OUT).unwrap();
    assert_eq!(kept["data"], secret("x", "key", "made by the other")["data"]);
    assert!(bench.record("key.team.alice").is_none());
}

#[tokio::test]
async fn a_secret_that_may_not_be_made_is_told_and_tried_again() {
    let bench = alice().await;
    bench.api.fail(Method::POST, "/namespaces/team/secrets", Failure::Status(403), 1);

    let refused = bench.key("alice").await.unwrap_err();

    assert_eq!(refused.reason(), "forbidden");
    let (status, reason, message) = bench.condition(ALICE, "Accepted");
    assert_eq!((&*status, &*reason), ("False", "SecretRefused"));
    assert!(message.contains("cannot hand out a key"), "{message}");
    assert!(bench.record("key.team.alice").is_none(), "nobody could read the key");

    bench.key("alice").await.unwrap();
    assert_eq!(bench.condition(ALICE, "Ready").0, "True");
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_changes_nothing() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    let before = bench.record("key.team.alice");
    bench.api.calls();
    bench.api.fail(Method::GET, "/namespaces/team/secrets/", Failure::Status(403), 1);

    let refused = bench.key("alice").await.unwrap_err();

    assert_eq!(refused.reason(), "forbidden");
    assert!(bench.api.writes().is_empty());
    assert_eq!(bench.record("key.team.alice"), before);
}

#[tokio::test]
async fn a_resource_that_is_gone_by_now_is_an_error_like_any_other() {
    let bench = alice().await;
    bench.api.fail(Method::PATCH, "/mcpapikeys/alice/status", Failure::Status(404), 1);

    let gone = bench.key("alice").await.unwrap_err();

    assert_eq!(gone.reason(), "refused");
}

#[tokio::test]
async fn a_leader_that_lost_its_term_writes_nothing() {
    let bench = alice().await;
    bench.ctx.leadership.lose();

    let error = bench.key("alice").await.unwrap_err();

    assert_eq!(error.reason(), "not_leader");
    assert!(bench.api.writes().is_empty());
}

#[tokio::test]
async fn a_key_that_the_user_brings_follows_its_secret() {
    let bench = with_alice(json!({
        "user": "alice", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "value"}},
    }))
    .await;
    bench.key("alice").await.unwrap();
    assert_eq!(bench.condition(ALICE, "Accepted").1, "SecretNotUsable");

    bench.put(secret("mine", "value", "a-key-of-my-own")).await;
    bench.key("alice").await.unwrap();
    let first = bench.record("key.team.alice").unwrap();
    bench.put(secret("mine", "value", "another-of-my-own")).await;
    bench.key("alice").await.unwrap();

    assert_ne!(bench.record("key.team.alice").unwrap(), first);
    assert_eq!(bench.condition(ALICE, "Ready").0, "True");
    assert_eq!(bench.api.names(SECRETS), ["mine"]);
}

#[tokio::test]
async fn a_secret_of_another_namespace_is_never_read() {
    let bench = with_alice(json!({
        "user": "alice",
        "valueFrom": {"secretKeyRef": {"name": "../../entries/secrets/key", "key": "entry"}},
    }))
    .await;

    // Whatever came of it: nothing outside was asked for.
    let _ = bench.key("alice").await;

    for call in bench.api.calls().iter().filter(|call| call.method == Method::GET) {
        assert!(call.path.starts_with(SECRETS), "{}", call.path);
        assert!(!call.path.contains(".."), "{}", call.path);
    }
}

#[tokio::test]
async fn a_secret_that_gets_another_name_keeps_the_key() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    let first = bench.api.find(HANDED_OUT).unwrap();

    bench.api.edit(ALICE, |key| key["spec"]["secretName"] = json!("new"));
    bench.key("alice").await.unwrap();

    let renamed = bench.api.find(&format!("{SECRETS}/new")).unwrap();
    assert_eq!(renamed["data"]["key"], first["data"]["key"]);
    bench.api.calls();
    bench.key("alice").await.unwrap();
    assert!(bench.api.writes().is_empty());
}

#[tokio::test]
async fn a_secret_that_gets_its_old_name_back_has_the_newest_key() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    bench.api.edit(ALICE, |key| key["spec"]["secretName"] = json!("new"));
    bench.key("alice").await.unwrap();
    bench.api.edit(ALICE, |key| key["metadata"]["annotations"] = json!({ROTATE: "please"}));
    bench.key("alice").await.unwrap();
    let newest = bench.api.find(&format!("{SECRETS}/new")).unwrap();
    assert_ne!(bench.api.find(HANDED_OUT).unwrap()["data"]["key"], newest["data"]["key"]);

    bench.api.edit(ALICE, |key| key["spec"]["secretName"] = Value::Null);
    bench.key("alice").await.unwrap();

    assert_eq!(bench.api.find(HANDED_OUT).unwrap()["data"]["key"], newest["data"]["key"]);
}

#[tokio::test]
async fn a_key_that_is_about_to_end_is_looked_at_when_it_does() {
    let now = jiff::Timestamp::now();
    let end = now + jiff::SignedDuration::from_secs(100);
    let bench = with_alice(json!({"user": "alice", "expiresAt": end.to_string()})).await;

    let action = bench.key("alice").await.unwrap();

    let seconds = action.after.unwrap().as_secs_f64();
    assert!(seconds > 90.0 && seconds < 100.1, "{action:?}");
}

#[tokio::test]
async fn a_second_key_of_one_value_is_told_so() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    let conflict = serde_json::from_value(json!({"conflicts": [{
        "kind": "Key", "namespace": "team", "name": "alice",
        "reason": "KeyConflict", "message": "McpApiKey team/bob holds the same key",
    }]}))
    .unwrap();

    bench.ctx.gateways.take("one", conflict);
    bench.key("alice").await.unwrap();

    let (status, reason, message) = bench.condition(ALICE, "Ready");
    assert_eq!((&*status, &*reason), ("False", "KeyConflict"));
    assert!(message.contains("bob"), "{message}");
}

#[tokio::test]
async fn no_write_or_event_shows_a_key_but_its_own_secret() {
    let bench = alice().await;
    bench.key("alice").await.unwrap();
    let value: k8s_openapi::api::core::v1::Secret = bench.api.get(HANDED_OUT);
    let key = String::from_utf8(value.data.unwrap()["key"].0.clone()).unwrap();

    for call in bench.api.calls() {
        if !call.path.ends_with("/namespaces/team/secrets") {
            assert!(!call.body.to_string().contains(&key), "{}", call.brief());
        }
    }
}
