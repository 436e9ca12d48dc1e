use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use crate::bell::Bell;
use crate::testing::resources::{
    DEPLOYMENTS, ENTRIES, KEYS, SECRETS, SERVERS, SERVICES, key, manifest, policy, secret, server,
    service,
};
use crate::testing::{Api, Bench, Failure};

/// For whom a bell rang, as `namespace/name`.
fn rung(bell: &Bell) -> BTreeSet<String> {
    bell.take().into_iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
}

fn only(name: &str) -> BTreeSet<String> {
    [name.to_owned()].into()
}

/// A bench on which nothing is due.
async fn quiet() -> Bench {
    let bench = Bench::new().await;
    calm(&bench);
    bench
}

fn calm(bench: &Bench) {
    let bells = &bench.ctx.bells;
    for bell in [&bells.servers, &bells.keys, &bells.policies, &bells.later] {
        bell.take();
    }
}

fn in_other(mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!("other");
    object
}

#[tokio::test]
async fn a_secret_concerns_those_who_name_it_in_its_namespace() {
    let bench = quiet().await;
    let reference = json!({"name": "shared", "key": "value"});
    let url = "https://a.example";
    for (name, spec) in [
        ("credentials", json!({"url": url, "credentials": {"secretRef": reference}})),
        ("authorities", json!({"url": url, "tls": {"caSecretRef": reference}})),
        ("neither", json!({"url": url})),
    ] {
        bench.put(server(name, spec.clone())).await;
        bench.put(in_other(server(name, spec))).await;
    }
    for (name, spec) in [
        ("given", json!({"user": "a", "valueFrom": {"secretKeyRef": reference}})),
        ("made", json!({"user": "a", "secretName": "shared"})),
        ("another", json!({"user": "a"})),
    ] {
        bench.put(key(name, spec.clone())).await;
        bench.put(in_other(key(name, spec))).await;
    }
    calm(&bench);
    let bells = &bench.ctx.bells;

    bench.put(secret("shared", "value", "a")).await;
    let servers: BTreeSet<_> = ["team/authorities".into(), "team/credentials".into()].into();
    assert_eq!(rung(&bells.servers), servers);
    assert_eq!(rung(&bells.keys), ["team/given".to_owned(), "team/made".to_owned()].into());

    bench.put(secret("shared", "value", "b")).await;
    assert_eq!(rung(&bells.servers), servers);
    bench.api.remove(&format!("{SECRETS}/shared"));
    bench.settle().await;
    assert_eq!(rung(&bells.servers), servers);

    rung(&bells.keys);
    bench.put(secret("mcp-key-another", "value", "a")).await;
    assert_eq!(rung(&bells.keys), only("team/another"));
    assert!(rung(&bells.servers).is_empty());
}

#[tokio::test]
async fn a_service_concerns_its_server_and_those_who_name_it() {
    let bench = quiet().await;
    let named = json!({"service": {"name": "backend"}});
    bench.put(server("named", named.clone())).await;
    bench.put(in_other(server("named", named))).await;
    bench.put(server("url", json!({"url": "http://a"}))).await;
    calm(&bench);
    let bells = &bench.ctx.bells;

    bench.put(service("backend", &[80])).await;
    assert_eq!(rung(&bells.servers), only("team/named"));

    let mut own = service("mcp-git", &[80]);
    own["metadata"]["labels"] = json!({"fairway.dev/server": "git"});
    bench.put(own).await;
    assert_eq!(rung(&bells.servers), only("team/git"));

    bench.api.remove(&format!("{SERVICES}/backend"));
    bench.settle().await;
    assert_eq!(rung(&bells.servers), only("team/named"));
}

#[tokio::test]
async fn what_runs_for_a_server_concerns_it() {
    let bench = quiet().await;
    let labels = json!({"app.kubernetes.io/managed-by": "fairway", "fairway.dev/server": "git"});
    for (api, kind) in [
        ("apps/v1", "Deployment"),
        ("v1", "ServiceAccount"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("v1", "Pod"),
    ] {
        let mut object = json!({
            "apiVersion": api, "kind": kind,
            "metadata": {"name": "mcp-git", "namespace": "team", "labels": labels},
        });
        if kind == "Deployment" {
            object["spec"] = json!({"selector": {}, "template": {}});
        }
        bench.put(object).await;
        assert_eq!(rung(&bench.ctx.bells.servers), only("team/git"), "{kind}");
    }
    bench.api.remove(&format!("{DEPLOYMENTS}/mcp-git"));
    bench.settle().await;
    assert_eq!(rung(&bench.ctx.bells.servers), only("team/git"));
}

#[tokio::test]
async fn servers_and_keys_concern_the_policies_that_may_mean_them() {
    let bench = quiet().await;
    let spec = || json!({"subjects": [{"user": "a"}], "rules": [{}]});
    for namespace in ["team", "other", "third"] {
        bench.put(manifest("McpPolicy", namespace, "all", spec())).await;
    }
    calm(&bench);
    let later = &bench.ctx.bells.later;
    let path = format!("{SERVERS}/git");

    bench.put(key("alice", json!({"user": "a"}))).await;
    assert_eq!(rung(later), only("team/all"));
    bench.put(server("git", json!({"url": "http://a", "exposeTo": ["other"]}))).await;
    assert_eq!(rung(later), ["other/all".to_owned(), "team/all".to_owned()].into());

    // A status is none of their business.
    bench.api.edit(&path, |git| git["status"] = json!({"observedGeneration": 1}));
    bench.settle().await;
    assert!(rung(later).is_empty());

    // Who may no longer mean it must know, too.
    bench.api.edit(&path, |git| git["spec"]["exposeTo"] = json!(["third"]));
    bench.settle().await;
    let all = ["other/all".to_owned(), "team/all".to_owned(), "third/all".to_owned()].into();
    assert_eq!(rung(later), all);

    bench.api.remove(&path);
    bench.settle().await;
    assert_eq!(rung(later), ["team/all".to_owned(), "third/all".to_owned()].into());
}

#[tokio::test]
async fn an_entry_that_somebody_else_touched_concerns_its_resource() {
    let bench = quiet().await;
    bench.put(policy("all", json!({"subjects": [{"user": "a"}], "rules": [{}]}))).await;
    bench.policy("all").await.unwrap();
    calm(&bench);
    let bells = &bench.ctx.bells;
    let path = format!("{ENTRIES}/policy.team.all");

    // Our own write is no news.
    bench.policy("all").await.unwrap();
    assert!(rung(&bells.policies).is_empty());

    bench.api.edit(&path, |entry| entry["metadata"]["labels"]["a"] = json!("b"));
    bench.settle().await;
    assert_eq!(rung(&bells.policies), only("team/all"));

    bench.api.remove(&path);
    bench.settle().await;
    assert_eq!(rung(&bells.policies), only("team/all"));
    bench.policy("all").await.unwrap();
    assert!(bench.record("policy.team.all").is_some());
}

#[tokio::test]
async fn what_is_kept_of_secrets_is_not_what_they_hold() {
    let api = Api::default();
    let mut made = secret("mine", "value", "hush");
    made["metadata"]["annotations"] = json!({
        "kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"value\":\"aHVzaA==\"}}",
    });
    made["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    api.put(made);
    api.put(in_other(secret("theirs", "value", "hush")));

    let bench = Bench::over(api).await;

    let kept = format!("{:?}", bench.ctx.world.secrets.state());
    assert!(kept.contains("mine") && kept.contains("theirs"), "{kept}");
    assert!(!kept.contains("aHVzaA") && !kept.contains("kubectl"), "{kept}");
}

#[tokio::test]
async fn pods_of_a_server_come_in_the_order_of_their_names() {
    let bench = quiet().await;
    for name in ["c", "a", "b"] {
        for (namespace, server) in [("team", "git"), ("team", "sql"), ("other", "git")] {
            bench
                .put(json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": format!("{name}-{server}"), "namespace": namespace,
                        "labels": {"app.kubernetes.io/managed-by": "fairway",
                            "fairway.dev/server": server}},
                }))
                .await;
        }
    }

    let pods = bench.ctx.world.pods_of("team", "git");

    let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["a-git", "b-git", "c-git"]);
}

#[tokio::test]
async fn only_the_namespaces_that_are_watched_are_asked_for() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    api.put(manifest("McpApiKey", "other", "bob", json!({"user": "bob"})));
    api.put(manifest("McpApiKey", "third", "carol", json!({"user": "carol"})));
    let calls = api.clone();

    let bench = Bench::watching(api, &["team", "other"]).await;

    let keys = bench.ctx.world.resources.all(gateway_core::Kind::Key);
    let names: BTreeSet<_> = keys.into_iter().map(|(namespace, _)| namespace).collect();
    assert_eq!(names, ["other".to_owned(), "team".to_owned()].into());
    bench.put(manifest("McpApiKey", "other", "dave", json!({"user": "dave"}))).await;
    assert_eq!(bench.ctx.world.keys_in("other").len(), 2);
    // As the Roles of the chart allow: in those, and pods and entries in their own.
    for call in calls.everything() {
        let namespace = call.path.split("/namespaces/").nth(1).unwrap_or("everywhere");
        let namespace = namespace.split('/').next().unwrap();
        let own = (call.path.ends_with("/namespaces/fairway/pods"))
            || call.path.contains("/namespaces/entries/secrets");
        assert!(["team", "other"].contains(&namespace) || own, "{} {}", call.method, call.path);
    }
}

#[tokio::test]
async fn nothing_is_known_until_every_namespace_was_listed() {
    let api = Api::default();
    api.fail(Method::GET, "/namespaces/other/mcpapikeys", Failure::Status(403), usize::MAX);
    api.put(key("alice", json!({"user": "alice"})));

    let namespaces = ["team", "other"];
    let bench = Bench::watching(api.clone(), &namespaces);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(300), bench).await;

    assert!(waited.is_err(), "who leads must know everything");
}

#[tokio::test(start_paused = true)]
async fn watches_that_break_off_lose_nothing() {
    let bench = quiet().await;
    bench.put(key("stays", json!({"user": "a"}))).await;
    bench.put(key("goes", json!({"user": "a"}))).await;
    calm(&bench);

    bench.api.break_watches();
    bench.api.remove(&format!("{KEYS}/goes"));
    bench.api.put(key("comes", json!({"user": "a"})));
    bench.api.edit(&format!("{KEYS}/stays"), |key| key["spec"]["user"] = json!("b"));
    while !bench.api.is_taken_in() || bench.api.watches() < 11 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    let mut users: Vec<String> = bench
        .ctx
        .world
        .keys_in("team")
        .iter()
        .map(|key| {
            format!(
                "{} {}",
                key.0.as_ref().unwrap().metadata.name.clone().unwrap(),
                key.0.as_ref().unwrap().spec.user
            )
        })
        .collect();
    users.sort();
    assert_eq!(users, ["comes a", "stays b"]);
}

#[tokio::test(start_paused = true)]
async fn watches_that_fail_are_counted_and_tried_again_but_not_too_often() {
    let api = Api::default();
    api.fail(Method::GET, "/mcpapikeys", Failure::Status(403), 20);

    let began = tokio::time::Instant::now();
    let bench = Bench::over(api).await;

    let text = bench.ctx.telemetry.text();
    assert!(
        text.contains("fairway_operator_watch_failures_total{kind=\"McpApiKey\"} 20"),
        "{text}"
    );
    // 0.1 + 0.2 + 0.4 and then 0.5 s each.
    let took = began.elapsed().as_secs();
    assert!((8..15).contains(&took), "{took} s");
}
