use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Api as Apiserver, Failure};

const ENTRY: &str = "/api/v1/namespaces/entries/secrets/config";

fn cluster() -> Apiserver {
    let api = Apiserver::default();
    api.put(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"},
        "spec": {"podCIDRs": ["10.244.0.0/24", "fd00:1::/64"]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "192.168.7.1"},
            {"type": "Hostname", "address": "node"},
        ]},
    }));
    api.put(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]},
    }));
    for (name, namespace, service, address) in [
        ("kubernetes", "default", "kubernetes", "192.168.7.9"),
        ("other", "default", "other", "192.168.7.10"),
        ("elsewhere", "team", "kubernetes", "192.168.7.11"),
    ] {
        api.put(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": [{"addresses": [address]}],
        }));
    }
    api
}

fn ranges(api: &Apiserver, forbidden: &[&str], allowed: &[&str]) -> (Arc<Leadership>, Ranges) {
    let parse = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect();
    let leadership = Arc::new(Leadership::default());
    leadership.hold(1);
    let own = leadership.clone();
    (leadership, Ranges::new(api.client(), "entries", own, parse(forbidden), parse(allowed)))
}

fn written(api: &Apiserver) -> Value {
    let secret: Secret = api.get(ENTRY);
    assert_eq!(secret.type_.as_deref(), Some("fairway.dev/config"));
    serde_json::from_slice(&secret.data.unwrap()["forbidden"].0).unwrap()
}

#[tokio::test]
async fn the_addresses_of_the_cluster_and_those_that_are_named() {
    let api = cluster();
    let (_, ranges) = ranges(&api, &["172.16.0.0/12"], &["10.96.7.7"]);

    ranges.update().await.unwrap();

    assert_eq!(
        written(&api),
        json!({
            "ranges": [
                "10.96.0.0/16", "10.244.0.0/24", "172.16.0.0/12", "192.168.7.1/32",
                "192.168.7.9/32", "fd00:1::/64",
            ],
            "allowed": ["10.96.7.7/32"],
        })
    );
}

#[tokio::test]
async fn they_are_written_when_they_change() {
    let api = cluster();
    let (_, ranges) = ranges(&api, &[], &[]);

    ranges.update().await.unwrap();
    ranges.update().await.unwrap();
    assert_eq!(api.briefs(), ["POST secrets/entries"]);

    api.put(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "another"},
        "spec": {"podCIDRs": ["10.244.1.0/24"]},
    }));
    ranges.update().await.unwrap();
    let writes = api.writes();
    assert_eq!(writes[0].brief(), "PATCH secrets/entries/config");
    assert!(writes[0].body["metadata"]["resourceVersion"].is_string());
}

#[tokio::test]
async fn what_cannot_be_read_opens_nothing() {
    for path in ["/nodes", "/servicecidrs", "/endpointslices"] {
        let api = cluster();
        let (_, ranges) = ranges(&api, &[], &[]);
        ranges.update().await.unwrap();
        let before = written(&api);
        api.calls();

        api.fail(Method::GET, path, Failure::Status(403), 1);
        let error = ranges.update().await.unwrap_err();

        assert_eq!(error.reason(), "forbidden", "{path}");
        assert!(api.writes().is_empty());
        assert_eq!(written(&api), before);
    }
}

#[tokio::test]
async fn only_who_leads_writes_them() {
    let api = cluster();
    let (leadership, ranges) = ranges(&api, &[], &[]);
    leadership.lose();

    assert_eq!(ranges.update().await.unwrap_err().reason(), "not_leader");
    assert!(api.writes().is_empty());
}

/// Who was paused looked before the other wrote.
#[tokio::test]
async fn who_knows_less_turns_nothing_back() {
    let api = cluster();
    let (_, paused) = ranges(&api, &[], &[]);
    let (_, now) = ranges(&api, &["172.16.0.0/12"], &[]);
    now.update().await.unwrap();
    // It reads that there is nothing yet.
    api.fail(Method::GET, "/secrets/config", Failure::Status(404), 1);

    let error = paused.update().await.unwrap_err();

    assert!(error.is_conflict(), "{error}");
    assert!(written(&api)["ranges"].to_string().contains("172.16.0.0/12"));
}
