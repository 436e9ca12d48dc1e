//! The pods of gateway and operator: safe, told what they need, restarted only when they must be.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    helm::{FULL, NAMESPACE, Objects},
    restricted::violations,
};

#[test]
fn pods_meet_the_restricted_profile() {
    for values in ["", FULL] {
        let objects = Objects::render(values);

        // Whatever else runs pods has to be looked at here too.
        for kind in ["Pod", "Job", "CronJob", "DaemonSet", "StatefulSet", "ReplicaSet"] {
            assert_eq!(objects.of_kind(kind).count(), 0, "{kind}");
        }
        assert_eq!(objects.of_kind("Deployment").count(), 2);
        for deployment in objects.of_kind("Deployment") {
            let found = violations(&deployment["spec"]["template"]["spec"]);
            assert_eq!(found, [] as [&str; 0], "{}", deployment["metadata"]["name"]);
        }
    }
}

#[test]
fn containers_write_nothing_and_are_bounded() {
    for values in ["", FULL] {
        let objects = Objects::render(values);

        for name in ["gateway", "operator"] {
            let container = container(&objects, name);
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
            for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                assert_eq!(mount["readOnly"], true, "{name}");
            }
            let pod = pod(&objects, name);
            assert_eq!(pod["securityContext"]["runAsUser"], 65532, "{name}");
            assert_eq!(pod["serviceAccountName"], format!("fairway-{name}"));
        }
    }
}

#[test]
fn the_entries_namespace_is_restricted() {
    for (values, name) in [("", "fairway-entries"), (FULL, "tables")] {
        let objects = Objects::render(values);
        let labels = &objects.get("Namespace", name)["metadata"]["labels"];

        for mode in ["enforce", "audit", "warn"] {
            assert_eq!(labels[format!("pod-security.kubernetes.io/{mode}")], "restricted");
        }
    }
}

#[test]
fn the_gateway_is_told_what_it_needs() {
    let expected = |entries: &str, drain: &str, log: &str| {
        table(&[
            ("FAIRWAY_SOURCE", "cluster"),
            ("FAIRWAY_ENTRIES_NAMESPACE", entries),
            ("FAIRWAY_STATE", "/etc/fairway/keys/state.json"),
            ("FAIRWAY_CONFIG", "/etc/fairway/config/config.yaml"),
            ("FAIRWAY_LISTEN", "0.0.0.0:8080"),
            ("FAIRWAY_ADMIN_LISTEN", "0.0.0.0:9090"),
            ("FAIRWAY_PEER_LISTEN", "0.0.0.0:9091"),
            ("FAIRWAY_PEERS", "fairway-peers.fairway-system.svc:9091"),
            ("FAIRWAY_DRAIN", drain),
            ("FAIRWAY_POD_NAME", "<metadata.name>"),
            ("FAIRWAY_POD_UID", "<metadata.uid>"),
            ("RUST_LOG", log),
        ])
    };

    let (plain, full) = (Objects::render(""), Objects::render(FULL));

    assert_eq!(environment(&plain, "gateway"), expected("fairway-entries", "30", "info"));
    assert_eq!(environment(&full, "gateway"), expected("tables", "120", "info,gateway=debug"));
    let mounted: BTreeMap<&str, &str> = container(&plain, "gateway")["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| {
            let volumes = pod(&plain, "gateway")["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            // Read by the group of the pod, and nobody else.
            assert_eq!(volume["secret"]["defaultMode"], 0o440);
            let path = mount["mountPath"].as_str().unwrap();
            (path, volume["secret"]["secretName"].as_str().unwrap())
        })
        .collect();
    let expected =
        [("/etc/fairway/config", "fairway-config"), ("/etc/fairway/keys", "fairway-keys")];
    assert_eq!(mounted, BTreeMap::from(expected));
}

#[test]
fn the_operator_is_told_what_it_needs() {
    let mut expected = table(&[
        ("FAIRWAY_RELEASE", "fairway"),
        ("FAIRWAY_NAMESPACE", "<metadata.namespace>"),
        ("FAIRWAY_POD_NAME", "<metadata.name>"),
        ("FAIRWAY_ENTRIES_NAMESPACE", "fairway-entries"),
        (
            "FAIRWAY_GATEWAY_SELECTOR",
            "app.kubernetes.io/instance=fairway,app.kubernetes.io/component=gateway",
        ),
        ("FAIRWAY_ADMIN_LISTEN", "0.0.0.0:9090"),
        ("RUST_LOG", "info"),
    ]);

    assert_eq!(environment(&Objects::render(""), "operator"), expected);

    expected.extend(table(&[
        ("FAIRWAY_ENTRIES_NAMESPACE", "tables"),
        ("FAIRWAY_PUBLIC_URL", "https://mcp.example.com"),
        ("FAIRWAY_WATCH_NAMESPACES", "team-a,team-b"),
        ("FAIRWAY_FORBIDDEN_RANGES", "10.20.0.0/16,10.30.0.0/16"),
        ("FAIRWAY_ALLOWED_RANGES", "fd00::/8"),
        ("RUST_LOG", "debug"),
    ]));
    assert_eq!(environment(&Objects::render(FULL), "operator"), expected);
}

#[test]
fn two_gateways_serve_and_one_operator_stands_by() {
    let objects = Objects::render("");

    let gateway = &objects.get("Deployment", "fairway-gateway")["spec"];
    assert_eq!(gateway["replicas"], 2);
    assert_eq!(gateway["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 0}));
    assert_eq!(objects.get("Deployment", "fairway-operator")["spec"]["replicas"], 2);
}

#[test]
fn a_gateway_serves_on_until_all_know_that_it_goes() {
    let objects = Objects::render("");

    assert_eq!(
        container(&objects, "gateway")["lifecycle"]["preStop"],
        json!({"sleep": {"seconds": 5}}),
        "the images have no shell",
    );
    assert_eq!(pod(&objects, "gateway")["terminationGracePeriodSeconds"], 40);
    let objects = Objects::render("gateway: {drainSeconds: 600}");
    assert_eq!(pod(&objects, "gateway")["terminationGracePeriodSeconds"], 610);
}

#[test]
fn replicas_are_spread_over_nodes() {
    for values in ["", FULL] {
        let objects = Objects::render(values);

        for name in ["gateway", "operator"] {
            let deployment = &objects.get("Deployment", &format!("fairway-{name}"))["spec"];
            let spread = &pod(&objects, name)["topologySpreadConstraints"];
            assert_eq!(spread.as_array().unwrap().len(), 1, "{name}");
            assert_eq!(spread[0]["topologyKey"], "kubernetes.io/hostname", "{name}");
            assert_eq!(spread[0]["whenUnsatisfiable"], "ScheduleAnyway", "{name}");
            assert_eq!(spread[0]["labelSelector"], deployment["selector"], "{name}");
        }
    }
}

#[test]
fn one_gateway_at_a_time_is_taken_where_there_are_several() {
    for (values, several) in [
        ("", true),
        (FULL, true),
        ("gateway: {replicas: 5}", true),
        ("gateway: {replicas: 1}", false),
        ("gateway: {replicas: 1, autoscaling: {enabled: true}}", true),
    ] {
        let objects = Objects::render(values);

        let budget = objects.find("PodDisruptionBudget", "fairway-gateway");
        assert_eq!(budget.is_some(), several, "{values}");
        let Some(budget) = budget else { continue };
        assert_eq!(budget["spec"]["maxUnavailable"], 1);
        let deployment = objects.get("Deployment", "fairway-gateway");
        assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);
    }
}

#[test]
fn the_load_says_how_many_gateways_run_when_told_so() {
    assert_eq!(Objects::render("").of_kind("HorizontalPodAutoscaler").count(), 0);
    let cpu = json!({
        "type": "Resource",
        "resource": {
            "name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80},
        },
    });
    let streams = |streams: &str| {
        json!({
            "type": "Pods",
            "pods": {
                "metric": {"name": "fairway_streams"},
                "target": {"type": "AverageValue", "averageValue": streams},
            },
        })
    };
    let table = [
        ("gateway: {autoscaling: {enabled: true}}", (2, 10), vec![cpu.clone()]),
        (FULL, (3, 20), vec![cpu, streams("5000")]),
        (
            "gateway: {autoscaling: {enabled: true, targetCPU: 0, targetStreams: 100}}",
            (2, 10),
            vec![streams("100")],
        ),
    ];

    for (values, (least, most), metrics) in table {
        let objects = Objects::render(values);

        let gateway = &objects.get("Deployment", "fairway-gateway")["spec"];
        assert!(gateway.get("replicas").is_none(), "an upgrade would undo what the load has done");
        let scaler = &objects.get("HorizontalPodAutoscaler", "fairway-gateway")["spec"];
        assert_eq!(scaler["scaleTargetRef"]["name"], "fairway-gateway");
        assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&json!(least), &json!(most)));
        assert_eq!(scaler["metrics"], json!(metrics), "{values}");
    }
}

#[test]
fn pods_are_probed_where_no_token_is_needed() {
    let objects = Objects::render("");

    for (name, port) in [("gateway", "http"), ("operator", "admin")] {
        let container = container(&objects, name);
        for (probe, path) in [("livenessProbe", "/health"), ("readinessProbe", "/readyz")] {
            let asked = json!({"path": path, "port": port});
            assert_eq!(container[probe]["httpGet"], asked, "{name}: {probe}");
        }
    }
}

/// A restart ends every open stream, and the configuration is read anew without one.
#[test]
fn configuration_restarts_no_gateway() {
    let template = |values: &str| {
        let objects = Objects::render(values);
        objects.get("Deployment", "fairway-gateway")["spec"]["template"].clone()
    };

    let plain = template("");

    for values in [
        "config: {publicUrl: 'https://mcp.example.com'}",
        "config: {cors: {origins: ['https://app.example.com']}}",
        "ingress: {enabled: true, host: mcp.example.com}",
        "upstreams: {forbiddenRanges: [10.0.0.0/8]}",
        "demo: {enabled: true}",
        "operator: {image: {tag: other}}",
    ] {
        assert_eq!(template(values), plain, "{values}");
    }
    assert_ne!(template("gateway: {logLevel: debug}"), plain);
}

#[test]
fn images_come_from_where_the_values_say() {
    let image = |values: &str, name: &str| {
        container(&Objects::render(values), name)["image"].as_str().unwrap().to_owned()
    };
    let version = env!("CARGO_PKG_VERSION");

    assert_eq!(image("", "gateway"), format!("fairway/fairway-gateway:{version}"));
    assert_eq!(image("", "operator"), format!("fairway/fairway-operator:{version}"));
    assert_eq!(
        image(FULL, "gateway"),
        "other.example.com/fairway/fairway-gateway@sha256:0123456789abcdef"
    );
    assert_eq!(image(FULL, "operator"), "registry.example.com/fairway/fairway-operator:edge");
    assert_eq!(image("image: {tag: edge}", "gateway"), "fairway/fairway-gateway:edge");
    assert_eq!(
        image("image: {registry: localhost:5000}", "operator"),
        format!("localhost:5000/fairway/fairway-operator:{version}")
    );
    let full = Objects::render(FULL);
    assert_eq!(container(&full, "gateway")["imagePullPolicy"], "Always");
    assert_eq!(pod(&full, "gateway")["imagePullSecrets"], json!([{"name": "pull"}]));
}

#[test]
fn the_configuration_file_says_what_the_values_say() {
    let file = |values: &str| -> Value {
        let objects = Objects::render(values);
        let secret = objects.get("Secret", "fairway-config");
        assert_eq!(secret["metadata"]["namespace"], NAMESPACE);
        let file = STANDARD.decode(secret["data"]["config.yaml"].as_str().unwrap()).unwrap();
        serde_saphyr::from_str(&String::from_utf8(file).unwrap()).unwrap()
    };

    assert_eq!(file(""), json!({"cors": {"origins": []}}));
    assert_eq!(
        file(FULL),
        json!({
            "publicUrl": "https://mcp.example.com",
            "cors": {"origins": ["https://app.example.com", "http://localhost:3000"]},
        }),
    );
    for (tls, url) in [("false", "http://mcp.example.com"), ("true", "https://mcp.example.com")] {
        let values =
            format!("ingress: {{enabled: true, host: mcp.example.com, tls: {{enabled: {tls}}}}}");
        assert_eq!(file(&values)["publicUrl"], url, "{values}");
    }
}

/// The pod of a component, whose container has the component's name.
fn pod<'o>(objects: &'o Objects, component: &str) -> &'o Value {
    &objects.get("Deployment", &format!("fairway-{component}"))["spec"]["template"]["spec"]
}

fn container<'o>(objects: &'o Objects, component: &str) -> &'o Value {
    let containers = &pod(objects, component)["containers"];
    assert_eq!(containers.as_array().unwrap().len(), 1);
    assert_eq!(containers[0]["name"], component);
    &containers[0]
}

/// Variables and their values, fields of the pod as `<metadata.name>`.
fn environment(objects: &Objects, component: &str) -> BTreeMap<String, String> {
    let variables = container(objects, component)["env"].as_array().unwrap();
    let environment: BTreeMap<_, _> = variables
        .iter()
        .map(|variable| {
            let value = match variable["value"].as_str() {
                Some(value) => value.to_owned(),
                None => {
                    let field = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str();
                    format!("<{}>", field.unwrap())
                }
            };
            (variable["name"].as_str().unwrap().to_owned(), value)
        })
        .collect();
    assert_eq!(environment.len(), variables.len(), "a variable is given twice");
    environment
}

fn table(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
