//! What runs for a server.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{nothing, run, settings};
use crate::compare::says;
use crate::lease::Term;
use crate::server::build::{Desired, Workload, build};
use crate::server::names::{headless_name, object_name};
use crate::server::validate::ValidServer;
use crate::server::verify::Lists;
use crate::server::workload::{Objects, objects};

const TERM: Term = 1;

fn made(workload: &Value, stateful: bool) -> Objects {
    let server = run(workload);
    let spec = server.spec.workload.clone().unwrap();
    objects(&server, &spec, stateful, &settings())
}

fn pod(workload: &Value) -> Value {
    let deployment = serde_json::to_value(made(workload, false).deployment).unwrap();
    deployment["spec"]["template"]["spec"].clone()
}

fn all(objects: &Objects) -> Vec<Value> {
    let Objects { service_account, deployment, service, headless, network_policy } = objects;
    let mut all = vec![
        serde_json::to_value(service_account).unwrap(),
        serde_json::to_value(deployment).unwrap(),
        serde_json::to_value(service).unwrap(),
        serde_json::to_value(network_policy).unwrap(),
    ];
    all.extend(headless.as_ref().map(|headless| serde_json::to_value(headless).unwrap()));
    all
}

/// What the restricted profile of the Pod Security Standards asks for, wherever it may be set.
fn violations(pod: &Value) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut check = |holds: bool, what| {
        if !holds {
            found.push(what);
        }
    };
    let of_pod = &pod["securityContext"];
    check(of_pod["runAsNonRoot"] == true, "runAsNonRoot");
    check(of_pod["runAsUser"] != 0, "runAsUser");
    check(of_pod["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    check(of_pod["sysctls"].is_null(), "sysctls");
    for host in ["hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"] {
        check(pod[host].is_null(), host);
    }
    for container in pod["containers"].as_array().unwrap() {
        let own = &container["securityContext"];
        check(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        check(own["capabilities"] == json!({"drop": ["ALL"]}), "capabilities");
        for field in ["privileged", "procMount", "runAsNonRoot", "runAsUser", "seccompProfile"] {
            check(own[field].is_null(), "overridden in the container");
        }
        let ports = container["ports"].as_array().unwrap();
        check(ports.iter().all(|port| port["hostPort"].is_null()), "hostPort");
        check(container["readinessProbe"]["httpGet"]["host"].is_null(), "probed host");
    }
    let allowed = ["name", "emptyDir", "configMap", "secret", "persistentVolumeClaim", "projected"];
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let fields = volume.as_object().unwrap().keys();
        check(fields.clone().all(|field| allowed.contains(&&**field)), "volume");
        check(!volume.to_string().contains("serviceAccountToken"), "token");
    }
    found
}

#[test]
fn every_pod_meets_the_restricted_profile_and_has_no_token() {
    for workload in [
        json!({"image": "git:1"}),
        json!({
            "image": "git:1", "command": ["git"], "args": ["serve"],
            "env": [{"name": "A", "value": "b"}],
            "envFrom": [{"secretRef": {"name": "env"}}],
            "securityContext": {
                "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
                "readOnlyRootFilesystem": true,
            },
            "volumes": [
                {"name": "a", "mountPath": "/a", "emptyDir": {}},
                {"name": "b", "mountPath": "/b", "configMap": {"name": "b"}, "readOnly": true},
                {"name": "c", "mountPath": "/c", "secret": {"secretName": "c"}},
                {"name": "d", "mountPath": "/d", "persistentVolumeClaim": {"claimName": "d"}},
                {"name": "e", "mountPath": "/e", "projected": {"sources": []}},
            ],
        }),
    ] {
        let pod = pod(&workload);
        assert_eq!(violations(&pod), [""; 0], "{pod:#}");
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["serviceAccountName"], "mcp-git");
        assert_eq!(pod["enableServiceLinks"], false);
    }
}

#[test]
fn the_container_is_as_the_resource_says() {
    let pod = pod(&json!({
        "image": "git:1", "command": ["git"], "args": ["serve", "--all"], "port": 9000,
        "env": [{"name": "A", "value": "b"}], "envFrom": [{"configMapRef": {"name": "env"}}],
        "resources": {"limits": {"cpu": "1"}}, "imagePullPolicy": "Always",
        "imagePullSecrets": ["registry"], "healthPath": "/health",
        "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": true},
        "volumes": [{
            "name": "data", "mountPath": "/data", "subPath": "git", "readOnly": true,
            "persistentVolumeClaim": {"claimName": "git"},
        }],
    }));

    let expected = json!({
        "imagePullSecrets": [{"name": "registry"}],
        "securityContext": {"runAsUser": 1000},
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "git"}}],
        "containers": [{
            "name": "server", "image": "git:1", "command": ["git"], "args": ["serve", "--all"],
            "env": [{"name": "A", "value": "b"}], "envFrom": [{"configMapRef": {"name": "env"}}],
            "imagePullPolicy": "Always", "resources": {"limits": {"cpu": "1"}},
            "ports": [{"name": "mcp", "containerPort": 9000, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": "mcp", "scheme": "HTTP"}},
            "securityContext": {"readOnlyRootFilesystem": true},
            "volumeMounts": [{
                "name": "data", "mountPath": "/data", "subPath": "git", "readOnly": true,
            }],
        }],
    });
    assert!(says(&pod, &expected), "{pod:#}");
}

#[test]
fn a_server_without_a_path_for_its_health_is_ready_when_its_port_is_open() {
    let probe = pod(&json!({"image": "git:1"}))["containers"][0]["readinessProbe"].clone();

    assert_eq!(probe["tcpSocket"], json!({"port": "mcp"}));
    assert!(probe["httpGet"].is_null());
}

#[test]
fn the_health_of_a_server_with_a_certificate_is_asked_over_https() {
    let mut server = run(&json!({"image": "git:1", "healthPath": "/health"}));
    server.spec.tls = Some(crds::Tls::default());
    let workload = server.spec.workload.clone().unwrap();

    let made = objects(&server, &workload, false, &settings());

    let made = serde_json::to_value(made.deployment).unwrap();
    let container = &made["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["readinessProbe"]["httpGet"]["scheme"], "HTTPS");
}

/// Nobody is sent to a pod that is about to end, and what is open there may come to its end.
#[test]
fn a_pod_ends_after_its_last_clients() {
    let pod = pod(&json!({"image": "git:1"}));

    let sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap();
    let grace = pod["terminationGracePeriodSeconds"].as_i64().unwrap();
    assert!(sleep >= 5 && grace >= sleep + 60, "{sleep} {grace}");
}

#[test]
fn a_new_version_is_there_before_the_old_one_goes() {
    let deployment =
        serde_json::to_value(made(&json!({"image": "git:1", "replicas": 3}), false).deployment)
            .unwrap();

    let expected = json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    assert_eq!(deployment["spec"]["strategy"], expected);
    assert_eq!(deployment["spec"]["replicas"], 3);
}

#[test]
fn all_that_runs_belongs_to_the_server_and_bears_its_name() {
    let objects = made(&json!({"image": "git:1", "replicas": 2}), true);

    let all = all(&objects);
    assert_eq!(all.len(), 5);
    for object in &all {
        let meta = &object["metadata"];
        let labels: BTreeMap<String, String> =
            serde_json::from_value(meta["labels"].clone()).unwrap();
        let expected = [
            ("app.kubernetes.io/instance", "git"),
            ("app.kubernetes.io/managed-by", "fairway"),
            ("app.kubernetes.io/name", "mcp-server"),
            ("fairway.dev/server", "git"),
        ];
        assert!(labels.iter().map(|(name, value)| (&**name, &**value)).eq(expected), "{meta}");
        assert_eq!(meta["namespace"], "team");
        let owner = &meta["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["uid"]), (&json!("McpServer"), &json!("uid")));
        assert_eq!(owner["controller"], true);
    }
    let names: Vec<&str> = all.iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect();
    let headless = headless_name("git");
    assert_eq!(names, ["mcp-git", "mcp-git", "mcp-git", "mcp-git", &headless]);
    assert_eq!(object_name("git"), "mcp-git");
}

#[test]
fn services_send_to_the_pods_by_the_name_of_their_port() {
    let objects = made(&json!({"image": "git:1", "port": 9000, "replicas": 2}), true);
    let template = serde_json::to_value(&objects.deployment).unwrap()["spec"].clone();

    for service in [&objects.service, objects.headless.as_ref().unwrap()] {
        let spec = serde_json::to_value(service).unwrap()["spec"].clone();
        assert_eq!(spec["type"], "ClusterIP");
        let port = json!([{"name": "mcp", "port": 9000, "targetPort": "mcp", "protocol": "TCP"}]);
        assert_eq!(spec["ports"], port);
        for (name, value) in spec["selector"].as_object().unwrap() {
            assert_eq!(template["template"]["metadata"]["labels"][name], *value);
            assert_eq!(template["selector"]["matchLabels"][name], *value);
        }
    }
}

#[test]
fn a_headless_service_is_for_sessions_that_have_several_pods() {
    for (stateful, replicas, headless) in
        [(false, 1, false), (false, 2, false), (true, 0, false), (true, 1, false), (true, 2, true)]
    {
        let made = made(&json!({"image": "git:1", "replicas": replicas}), stateful);
        assert_eq!(made.headless.is_some(), headless, "{stateful} {replicas}");
        let service = made.service.spec.unwrap();
        assert_eq!(service.cluster_ip, None, "the apiserver chooses");
        if let Some(headless) = made.headless {
            assert_eq!(headless.spec.unwrap().cluster_ip.as_deref(), Some("None"));
        }
    }
}

/// In the form that the chart's own test of NetworkPolicies takes a server's to have.
#[test]
fn only_the_gateways_reach_the_port_of_a_server() {
    let policy = made(&json!({"image": "git:1", "port": 9000}), false).network_policy;

    assert_eq!(
        serde_json::to_value(policy).unwrap()["spec"],
        json!({
            "podSelector": {"matchLabels": {"fairway.dev/server": "git"}},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": "fairway"},
                    },
                    "podSelector": {"matchLabels": {"component": "gateway"}},
                }],
                "ports": [{"protocol": "TCP", "port": 9000}],
            }],
        })
    );
}

/// Whatever the apiserver adds, and however it writes it.
#[test]
fn what_the_apiserver_makes_of_it_is_no_difference() {
    let workload = json!({
        "image": "git:1", "command": [], "env": [{"name": "A", "value": ""}],
        "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
        "volumes": [{"name": "a", "mountPath": "/a", "emptyDir": {"sizeLimit": "1024Mi"}}],
    });
    let desired = serde_json::to_value(made(&workload, false).deployment).unwrap();
    let mut live = desired.clone();
    live["metadata"]["managedFields"] = json!([{}]);
    live["spec"]["revisionHistoryLimit"] = json!(10);
    let pod = &mut live["spec"]["template"]["spec"];
    pod["dnsPolicy"] = json!("ClusterFirst");
    pod["volumes"][0]["emptyDir"]["sizeLimit"] = json!("1Gi");
    let container = &mut pod["containers"][0];
    container.as_object_mut().unwrap().remove("command");
    container["env"] = json!([{"name": "A"}]);
    container["resources"]["limits"] = json!({"cpu": "1", "memory": "1Gi"});
    container["terminationMessagePath"] = json!("/dev/termination-log");

    assert!(says(&live, &desired), "{live:#}");
    live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("git:2");
    assert!(!says(&live, &desired));
}

fn stateful(session: &str, live_headless: bool, reported: Option<bool>) -> bool {
    let mut server = run(&json!({"image": "git:1", "replicas": 2}));
    server.spec.session = serde_json::from_value(json!(session)).unwrap();
    let mut observed = nothing();
    let mut view = super::view("one", &super::catalog(&[]));
    match reported {
        Some(stateful) => {
            view.report.as_mut().unwrap().about.as_mut().unwrap().stateful = stateful;
            observed.views = vec![view];
        }
        None => observed.views = vec![crate::gateways::View { report: None, ..view }],
    }
    if live_headless {
        observed.live.headless = Some(super::owned(&super::a_service("h", &json!({}))));
    }
    let valid = ValidServer { entry: None, address: String::new(), lists: Lists::default() };
    let Desired { workload, .. } = build(&server, Ok(valid), &observed, &settings(), TERM);
    let Workload::Run(objects) = workload else { panic!("{workload:?}") };
    objects.headless.is_some()
}

#[test]
fn the_server_says_whether_it_keeps_sessions_unless_the_resource_does() {
    for (session, live, reported, expected) in [
        ("PerClient", false, Some(false), true),
        ("Shared", true, Some(true), false),
        ("Auto", false, Some(true), true),
        ("Auto", true, Some(false), false),
        // While gateways restart nobody says anything: it stays as it is.
        ("Auto", true, None, true),
        ("Auto", false, None, false),
    ] {
        assert_eq!(stateful(session, live, reported), expected, "{session} {live} {reported:?}");
    }
}
