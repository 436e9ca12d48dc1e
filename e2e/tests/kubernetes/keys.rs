//! Keys: made, collected, replaced, ended, and seen in use.

use std::time::Duration;

use e2e::cluster::{Release, Tenant};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    columns, put_secret,
    wire::{Caller, Stream},
};

/// Within this time a key that is no longer good ends what is open with it (DESIGN §4).
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_key_is_handed_out_once_and_outlives_its_secret() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("key").await.unwrap();
    let spec = json!({"user": "alice", "description": "for the laptop"});

    let key = team.key("laptop", spec.clone()).await.unwrap();
    let secret = team.read("secret", "mcp-key-laptop").await.unwrap();
    let resource = team.read("mcpapikey", "laptop").await.unwrap();

    assert!(key.starts_with("fw_") && key.len() == 67, "{key}");
    let data: Vec<&String> = secret["data"].as_object().unwrap().keys().collect();
    assert_eq!(data, ["key", "mcp.json", "url"]);
    let owner = &secret["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], resource["metadata"]["uid"], "it goes with the key");
    let status = &resource["status"];
    assert_eq!(status["prefix"], key[..8]);
    assert_eq!(status["phase"], "Active");
    assert!(status["issuedAt"].is_string() && status.get("nextRotation").is_none(), "{status}");
    let told = format!(
        "{resource} {}",
        team.namespace().kubectl(&["describe", "mcpapikeys"]).await.unwrap()
    );
    assert!(!told.contains(&key), "the key stands where people look");

    // Collected.
    team.namespace().kubectl(&["delete", "secret", "mcp-key-laptop"]).await.unwrap();
    let caller = Caller::new(&release, &key).unwrap();
    assert_eq!(caller.status().await.unwrap(), 200);
    let mut described = spec;
    described["description"] = json!("for the desk");
    team.apply("McpApiKey", "laptop", described).await.unwrap();
    team.ready("mcpapikey", "laptop").await.unwrap();
    let gone = ["get", "secret", "mcp-key-laptop", "--ignore-not-found", "--output=name"];
    assert_eq!(team.namespace().kubectl(&gone).await.unwrap(), "", "it was handed out again");
    assert_eq!(caller.status().await.unwrap(), 200);

    let used = |key: &Value| key["status"]["lastUsed"].is_string();
    let used = team.wait_for("mcpapikey", "laptop", "used", used).await.unwrap();
    let used: Timestamp = used["status"]["lastUsed"].as_str().unwrap().parse().unwrap();
    assert!(Timestamp::now().duration_since(used) < SignedDuration::from_mins(5), "{used}");
    let columns = columns(&team, "mcpapikey", "laptop").await.unwrap();
    let heads: Vec<&str> = columns.iter().map(|(head, _)| head.as_str()).collect();
    assert_eq!(heads, ["NAME", "USER", "READY", "PHASE", "PREFIX", "EXPIRES", "LAST-USED", "AGE"]);
    let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values[..6], ["laptop", "alice", "True", "Active", &key[..8], ""]);
    assert!(values[6].ends_with(['s', 'm']), "{values:?}");
}

#[tokio::test]
async fn a_key_that_is_asked_for_again_overlaps_with_the_one_before() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("rotate").await.unwrap();
    let spec = json!({"user": "alice", "rotation": {"interval": "24h", "overlap": "10s"}});
    let old = team.key("alice", spec).await.unwrap();
    let before = Caller::new(&release, &old).unwrap();
    let session = before.open().await.unwrap();
    let stream = session.listen().await.unwrap();

    rotate(&team, "1").await;
    let new = collect_other_than(&team, &old).await;
    let after = Caller::new(&release, &new).unwrap();

    team.ready("mcpapikey", "alice").await.unwrap();
    assert_eq!(after.status().await.unwrap(), 200);
    assert_eq!(before.status().await.unwrap(), 200, "both work while they overlap");
    // A session is the key's, not that of one of its values.
    let moved = session.with("x-api-key", &new);
    assert_eq!(moved.status().await.unwrap(), 200);
    assert!(stream.is_open());

    let overlap_ends = wait_refused(&before).await;
    assert!(stream.ends_after(overlap_ends).await.unwrap() < SECOND);
    assert_eq!(moved.status().await.unwrap(), 200);
    assert_eq!(session.status().await.unwrap(), 401);

    // The same value asks for nothing, another one does.
    rotate(&team, "1").await;
    team.ready("mcpapikey", "alice").await.unwrap();
    assert_eq!(team.collect("alice").await.unwrap(), new);
    rotate(&team, "2").await;
    collect_other_than(&team, &new).await;
}

#[tokio::test]
async fn time_alone_replaces_keys_and_ends_them() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("time").await.unwrap();
    tokio::join!(replaced_by_time(&release, &team), ended_by_time(&release, &team));
}

async fn replaced_by_time(release: &Release, team: &Tenant) {
    let spec = json!({"user": "alice", "rotation": {"interval": "12s", "overlap": "6s"}});
    let mut key = team.key("alice", spec).await.unwrap();
    for _ in 0..2 {
        let caller = Caller::new(release, &key).unwrap();
        let next = collect_other_than(team, &key).await;
        assert_eq!(caller.status().await.unwrap(), 200, "the one before works meanwhile");
        wait_refused(&caller).await;
        assert_eq!(Caller::new(release, &next).unwrap().status().await.unwrap(), 200);
        key = next;
    }
    let resource = team.read("mcpapikey", "alice").await.unwrap();
    let next: Timestamp = resource["status"]["nextRotation"].as_str().unwrap().parse().unwrap();
    assert!(next.duration_since(Timestamp::now()) <= SignedDuration::from_secs(12), "{next}");
}

async fn ended_by_time(release: &Release, team: &Tenant) {
    let end = Timestamp::now() + SignedDuration::from_secs(15);
    let end = Timestamp::from_second(end.as_second()).unwrap();
    let spec = json!({"user": "bob", "expiresAt": end.to_string()});
    let key = team.key("bob", spec).await.unwrap();
    let caller = Caller::new(release, &key).unwrap();
    let [streamable, sse] = streams(&caller).await;
    let columns = columns(team, "mcpapikey", "bob").await.unwrap();
    assert!(columns.contains(&("EXPIRES".to_owned(), end.to_string())), "{columns:?}");

    let ended = wait_refused(&caller).await;

    assert!(Timestamp::now() >= end, "it ended too early");
    assert!(streamable.ends_after(ended).await.unwrap() < SECOND);
    assert!(sse.ends_after(ended).await.unwrap() < SECOND);
    assert_eq!(caller.ask("ping", json!({})).await.unwrap().error(), "API key has expired");
    let told = team.wait_reason("mcpapikey", "bob", "Ready", "Expired").await.unwrap();
    assert!(told.contains("spec.expiresAt"), "{told}");
    let resource = team.read("mcpapikey", "bob").await.unwrap();
    assert_eq!(resource["status"]["phase"], "Expired");
}

#[tokio::test]
async fn a_key_that_is_disabled_or_deleted_ends_what_is_open_with_it() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("revoke").await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let caller = Caller::new(&release, &key).unwrap();
    let session = caller.open().await.unwrap();

    let [streamable, sse] = streams(&caller).await;
    team.patch("mcpapikey", "alice", json!({"spec": {"disabled": true}})).await.unwrap();
    let disabled = Instant::now();
    assert!(streamable.ends_after(disabled).await.unwrap() < SECOND);
    assert!(sse.ends_after(disabled).await.unwrap() < SECOND);
    let refusal = session.ask("tools/list", json!({})).await.unwrap();
    assert_eq!((refusal.status, refusal.error().as_str()), (401, "API key is disabled"));
    team.wait_reason("mcpapikey", "alice", "Ready", "Disabled").await.unwrap();

    team.patch("mcpapikey", "alice", json!({"spec": {"disabled": false}})).await.unwrap();
    team.ready("mcpapikey", "alice").await.unwrap();
    assert_eq!(session.status().await.unwrap(), 200, "the session was not ended");

    let [streamable, sse] = streams(&caller).await;
    team.delete("mcpapikey", "alice").await.unwrap();
    let deleted = Instant::now();
    assert!(streamable.ends_after(deleted).await.unwrap() < SECOND);
    assert!(sse.ends_after(deleted).await.unwrap() < SECOND);
    let refusal = session.ask("tools/list", json!({})).await.unwrap();
    assert_eq!((refusal.status, refusal.error().as_str()), (401, "invalid API key"));

    // One of the same name is another key.
    let other = team.key("alice", json!({"user": "alice"})).await.unwrap();
    assert_ne!(other, key);
    assert_eq!(session.status().await.unwrap(), 401);
}

#[tokio::test]
async fn a_key_of_ones_own_is_taken_from_its_secret_and_followed() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("own").await.unwrap();
    let reference = json!({"secretKeyRef": {"name": "mine", "key": "token"}});
    let spec = json!({"user": "alice", "valueFrom": reference});

    team.apply("McpApiKey", "alice", spec.clone()).await.unwrap();
    let told = team.wait_reason("mcpapikey", "alice", "Accepted", "SecretNotUsable").await.unwrap();
    assert!(told.contains("mine"), "{told}");

    let (first, second) = ("my-own-key-of-a-good-length-1", "my-own-key-of-a-good-length-2");
    put_secret(&team, "mine", first).await;
    team.ready("mcpapikey", "alice").await.unwrap();
    assert_eq!(Caller::new(&release, first).unwrap().status().await.unwrap(), 200);
    let made = ["get", "secret", "mcp-key-alice", "--ignore-not-found", "--output=name"];
    assert_eq!(team.namespace().kubectl(&made).await.unwrap(), "", "nothing is to be handed out");

    put_secret(&team, "mine", second).await;
    wait_refused(&Caller::new(&release, first).unwrap()).await;
    assert_eq!(Caller::new(&release, second).unwrap().status().await.unwrap(), 200);

    // What is gone by mistake takes nothing away.
    team.namespace().kubectl(&["delete", "secret", "mine"]).await.unwrap();
    team.wait_reason("mcpapikey", "alice", "Accepted", "SecretNotUsable").await.unwrap();
    assert_eq!(Caller::new(&release, second).unwrap().status().await.unwrap(), 200);
    put_secret(&team, "mine", second).await;
    team.ready("mcpapikey", "alice").await.unwrap();

    // Nobody's key may become another one's.
    team.apply("McpApiKey", "mallory", json!({"user": "mallory", "valueFrom": reference}))
        .await
        .unwrap();
    let told = team.wait_reason("mcpapikey", "mallory", "Ready", "KeyConflict").await.unwrap();
    assert!(told.contains("another McpApiKey holds the same key"), "{told}");
    team.ready("mcpapikey", "alice").await.unwrap();
}

async fn rotate(team: &Tenant, value: &str) {
    let annotation = format!("fairway.dev/rotate={value}");
    let arguments = ["annotate", "--overwrite", "mcpapikey", "alice", &annotation];
    team.namespace().kubectl(&arguments).await.unwrap();
}

/// Waits until another key of alice is handed out.
async fn collect_other_than(team: &Tenant, key: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let of = |secret: &Value| {
        let text = secret["data"]["key"].as_str().unwrap_or_default();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    };
    let is_other = |secret: &Value| of(secret) != key;
    let secret = team.wait_for("secret", "mcp-key-alice", "another key", is_other).await.unwrap();
    of(&secret)
}

/// Waits until a key is refused, and says when.
async fn wait_refused(caller: &Caller) -> Instant {
    let refused = || async { Ok(caller.status().await? == 401) };
    let minute = Duration::from_secs(60);
    e2e::cluster::release::until("the key to be refused", minute, refused).await.unwrap();
    Instant::now()
}

/// A stream of either transport.
async fn streams(caller: &Caller) -> [Stream; 2] {
    let streamable = caller.open().await.unwrap().listen().await.unwrap();
    let sse = caller.at("/sse").listen().await.unwrap();
    sse.endpoint().await.unwrap();
    [streamable, sse]
}
