use http::Method;
use serde_json::{Value, json};

use crate::testing::resources::{KEYS, key, manifest, policy, server};
use crate::testing::{Bench, Failure};

const ALL: &str = "/apis/fairway.dev/v1alpha1/namespaces/team/mcppolicies/all";

async fn with_policy(spec: Value) -> Bench {
    let bench = Bench::new().await;
    bench.gateway("one");
    bench.put(policy("all", spec)).await;
    bench.api.calls();
    bench
}

fn spec() -> Value {
    json!({"subjects": [{"user": "alice"}], "rules": [{"servers": ["*"], "tools": ["*"]}]})
}

fn applies_to(bench: &Bench) -> Value {
    bench.api.find(ALL).unwrap()["status"]["appliesTo"].clone()
}

#[tokio::test]
async fn a_policy_is_in_force_and_ready() {
    let bench = with_policy(spec()).await;

    bench.policy("all").await.unwrap();

    assert_eq!(bench.api.briefs(), ["POST secrets/entries", "PATCH mcppolicies/team/all/status"]);
    assert_eq!(bench.condition(ALL, "Ready").0, "True");
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changed() {
    let bench = with_policy(spec()).await;
    bench.policy("all").await.unwrap();
    bench.api.calls();

    for _ in 0..3 {
        bench.policy("all").await.unwrap();
    }

    assert_eq!(bench.api.briefs(), [""; 0]);
}

#[tokio::test]
async fn an_invalid_policy_leaves_the_last_good_version_in_force() {
    let bench = with_policy(spec()).await;
    bench.policy("all").await.unwrap();
    let before = bench.record("policy.team.all");

    bench.api.edit(ALL, |policy| policy["spec"]["subjects"] = json!([{}]));
    bench.policy("all").await.unwrap();

    assert_eq!(bench.record("policy.team.all"), before);
    let (status, reason, message) = bench.condition(ALL, "Accepted");
    assert_eq!((&*status, &*reason), ("False", "Invalid"));
    assert!(message.contains("spec.subjects[0]"), "{message}");
    assert!(message.ends_with("the last good version stays in force"), "{message}");
    assert_eq!(bench.condition(ALL, "Programmed").1, "NotAccepted");
}

#[tokio::test]
async fn whom_it_applies_to_is_told() {
    for (row, subjects, keys, users) in [
        ("nobody", json!([{"user": "nobody"}]), 0, json!([])),
        ("a user with two keys", json!([{"user": "alice"}]), 2, json!(["alice"])),
        ("a group", json!([{"group": "admins"}]), 2, json!(["alice", "bob"])),
        ("a key", json!([{"key": "bob"}]), 1, json!(["bob"])),
        (
            "each once",
            json!([{"user": "alice"}, {"group": "admins"}, {"key": "alice"}]),
            3,
            json!(["alice", "bob"]),
        ),
    ] {
        let mut spec = spec();
        spec["subjects"] = subjects;
        let bench = with_policy(spec).await;
        bench.put(key("alice", json!({"user": "alice", "groups": ["admins"]}))).await;
        bench.put(key("alice-2", json!({"user": "alice"}))).await;
        bench.put(key("bob", json!({"user": "bob", "groups": ["admins"]}))).await;
        let elsewhere = json!({"user": "alice", "groups": ["admins"]});
        bench.put(manifest("McpApiKey", "other", "bob", elsewhere)).await;

        bench.policy("all").await.unwrap();

        let told = applies_to(&bench);
        assert_eq!((&told["keys"], &told["users"]), (&json!(keys), &users), "{row}");
    }
}

#[tokio::test]
async fn which_servers_its_rules_mean_is_told() {
    for (row, servers, expected) in [
        ("all of its own", json!(["*"]), json!(["git", "grep"])),
        ("some", json!(["gi?"]), json!(["git"])),
        ("none", json!(["sql"]), json!([])),
        ("one that is exposed", json!(["other/wiki"]), json!(["other/wiki"])),
        ("one that is not", json!(["other/secret"]), json!([])),
        ("in any rule", json!(["grep", "other/*"]), json!(["grep", "other/wiki"])),
    ] {
        let mut spec = spec();
        spec["rules"] = json!([{"servers": servers}]);
        let bench = with_policy(spec).await;
        let url = || json!({"url": "http://a.example"});
        bench.put(server("git", url())).await;
        bench.put(server("grep", url())).await;
        let exposed = json!({"url": "http://a.example", "exposeTo": ["team", "third"]});
        bench.put(manifest("McpServer", "other", "wiki", exposed)).await;
        let kept = json!({"url": "http://a.example", "exposeTo": ["third"]});
        bench.put(manifest("McpServer", "other", "secret", kept)).await;

        bench.policy("all").await.unwrap();

        assert_eq!(applies_to(&bench)["servers"], expected, "{row}");
    }
}

#[tokio::test]
async fn long_lists_are_cut_and_the_count_is_not() {
    let mut spec = spec();
    spec["subjects"] = json!([{"group": "all"}]);
    let bench = with_policy(spec).await;
    for number in 0..20 {
        let name = format!("key-{number:02}");
        bench.put(key(&name, json!({"user": name, "groups": ["all"]}))).await;
    }

    bench.policy("all").await.unwrap();

    let told = applies_to(&bench);
    assert_eq!(told["keys"], 20);
    assert_eq!(told["users"].as_array().unwrap().len(), 16);
}

#[tokio::test]
async fn a_conflict_and_a_lost_term_write_no_status() {
    let bench = with_policy(spec()).await;
    bench.api.fail(Method::POST, "/namespaces/entries/", Failure::Status(409), 1);
    assert!(bench.policy("all").await.unwrap_err().is_conflict());
    assert!(bench.api.find(ALL).unwrap()["status"].is_null());

    bench.ctx.leadership.lose();
    assert_eq!(bench.policy("all").await.unwrap_err().reason(), "not_leader");
    assert!(bench.record("policy.team.all").is_none());
}

#[tokio::test]
async fn a_key_that_comes_or_goes_is_told_in_a_moment() {
    let bench = with_policy(spec()).await;
    bench.put(key("alice", json!({"user": "alice"}))).await;
    bench.policy("all").await.unwrap();
    assert_eq!(applies_to(&bench)["keys"], 1);

    bench.api.remove(&format!("{KEYS}/alice"));
    bench.settle().await;
    assert_eq!(bench.ctx.bells.later.take(), [("team".to_owned(), "all".to_owned())]);
    bench.policy("all").await.unwrap();

    assert_eq!(applies_to(&bench)["keys"], 0);
}
