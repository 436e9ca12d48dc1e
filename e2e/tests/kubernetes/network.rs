//! NetworkPolicies, where the cluster's network enforces them. Where it does not, `tests/chart/network.rs` looks at
//! what the rendered ones would let through, and isolation has to hold without.

use e2e::cluster::{Namespace, Program, Release, release::HOME};
use serde_json::{Value, json};

use crate::support::MINUTE;

#[tokio::test]
async fn only_gateways_reach_servers_and_nobody_the_admin_ports() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("closed").await.unwrap();
    let outside = release.cluster().namespace("prober").await.unwrap();
    let probe = release.cluster().probe().await.unwrap();
    for (name, arguments) in [("prober", json!(["sleep"])), ("shut", json!(["serve", ":8000"]))] {
        outside.apply(&pod(name, probe.reference(), &arguments).to_string()).await.unwrap();
    }
    team.run("tools", release.image(Program::Everything).unwrap(), json!({})).await.unwrap();
    for name in ["prober", "shut"] {
        outside.wait(&format!("pod/{name}"), "condition=Ready", MINUTE).await.unwrap();
    }
    team.ready("mcpserver", "tools").await.unwrap();

    // A pod that nobody may reach tells whether policies count here.
    let shut = ip(&outside, "pod/shut", "{.status.podIP}").await;
    assert!(
        reaches(&outside, &format!("{shut}:8000")).await,
        "pods do not reach each other at all"
    );
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny"},
        "spec": {"podSelector": {"matchLabels": {"app": "shut"}}, "policyTypes": ["Ingress"]},
    });
    outside.apply(&deny.to_string()).await.unwrap();
    let refused = || async { Ok(!reaches(&outside, &format!("{shut}:8000")).await) };
    let enforced = e2e::cluster::release::until("a policy to count", ENFORCED, refused).await;
    if enforced.is_err() {
        eprintln!("this cluster's network enforces no NetworkPolicy");
        return;
    }

    let server = ip(team.namespace(), "service/mcp-tools", "{.spec.clusterIP}").await;
    let pod = ip(team.namespace(), "pods", "{.items[0].status.podIP}").await;
    let of = async |component: &str| {
        let selector = format!("--selector=app.kubernetes.io/component={component}");
        let path = "--output=jsonpath={.items[0].status.podIP}";
        let arguments = ["--namespace", HOME, "get", "pods", &selector, path];
        release.cluster().kubectl(&arguments).await.unwrap()
    };
    let (gateway, operator) = (of("gateway").await, of("operator").await);
    for address in [
        format!("{server}:8000"),
        format!("{pod}:8000"),
        format!("{gateway}:9090"),
        format!("{operator}:9090"),
    ] {
        assert!(!reaches(&outside, &address).await, "{address} is reached");
    }
    assert!(reaches(&outside, &format!("{gateway}:8080")).await, "clients have to get in");
}

/// Enough for any network that enforces policies at all.
const ENFORCED: std::time::Duration = std::time::Duration::from_secs(10);

async fn reaches(namespace: &Namespace, address: &str) -> bool {
    let arguments = ["exec", "prober", "--", "/probe", "connect", address];
    namespace.kubectl_for(&arguments, MINUTE).await.is_ok()
}

async fn ip(namespace: &Namespace, object: &str, path: &str) -> String {
    let path = format!("--output=jsonpath={path}");
    namespace.kubectl(&["get", object, &path]).await.unwrap()
}

fn pod(name: &str, image: &str, arguments: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "probe",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": arguments,
            }],
        },
    })
}
