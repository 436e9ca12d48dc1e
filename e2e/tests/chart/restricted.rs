//! The restricted Pod Security profile as a pure check, and that it sees what it should.
//!
//! After the Pod Security Standards of Kubernetes 1.36; Windows and what only the node decides
//! (AppArmor, SELinux) are left out.

use serde_json::{Value, json};

/// Volumes that the profile allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Everything in which a pod's spec falls short of the profile.
pub(crate) fn violations(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec[field] == true {
            found.push(field.to_owned());
        }
    }
    if spec["securityContext"]["sysctls"].as_array().is_some_and(|list| !list.is_empty()) {
        found.push("sysctls".to_owned());
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        for kind in volume.as_object().into_iter().flat_map(|volume| volume.keys()) {
            if kind != "name" && !VOLUMES.contains(&kind.as_str()) {
                found.push(format!("volume {kind}"));
            }
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            let of_pod = &spec["securityContext"];
            found.extend(in_container(container, of_pod).map(|what| format!("{name}: {what}")));
        }
    }
    found
}

fn in_container(container: &Value, of_pod: &Value) -> impl Iterator<Item = &'static str> {
    let own = &container["securityContext"];
    let either = |field: &str| own.get(field).or_else(|| of_pod.get(field)).unwrap_or(&Value::Null);
    let has = |list: &Value, item: &str| list.as_array().is_some_and(|l| l.contains(&json!(item)));
    let only_net_bind = |list: &Value| {
        list.as_array().into_iter().flatten().all(|capability| capability == "NET_BIND_SERVICE")
    };
    let ports = container["ports"].as_array().into_iter().flatten();
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"];

    [
        (own["privileged"] == true, "privileged"),
        (own["allowPrivilegeEscalation"] != false, "allowPrivilegeEscalation"),
        (!has(&own["capabilities"]["drop"], "ALL"), "capabilities are not dropped"),
        (!only_net_bind(&own["capabilities"]["add"]), "capabilities are added"),
        (either("runAsNonRoot") != true, "runAsNonRoot"),
        (*either("runAsUser") == 0, "runAsUser"),
        (
            !["RuntimeDefault", "Localhost"].iter().any(|t| either("seccompProfile")["type"] == *t),
            "seccompProfile",
        ),
        (!matches!(own["procMount"].as_str(), None | Some("Default")), "procMount"),
        (ports.clone().any(|port| port["hostPort"].as_u64().unwrap_or(0) != 0), "hostPort"),
        (probes.iter().any(|probe| !container[probe]["httpGet"]["host"].is_null()), "probed host"),
    ]
    .into_iter()
    .filter_map(|(violated, what)| violated.then_some(what))
}

#[test]
fn a_pod_that_meets_the_profile_passes() {
    assert_eq!(violations(&good()), [] as [&str; 0]);
}

#[test]
fn each_way_to_miss_the_profile_is_seen() {
    let table = [
        ("/hostNetwork", json!(true), "hostNetwork"),
        ("/hostPID", json!(true), "hostPID"),
        ("/hostIPC", json!(true), "hostIPC"),
        ("/securityContext/sysctls", json!([{"name": "a"}]), "sysctls"),
        ("/volumes", json!([{"name": "a", "hostPath": {"path": "/"}}]), "volume hostPath"),
        ("/securityContext/runAsNonRoot", json!(false), "c: runAsNonRoot"),
        ("/securityContext/runAsUser", json!(0), "c: runAsUser"),
        ("/securityContext/seccompProfile", json!({"type": "Unconfined"}), "c: seccompProfile"),
        ("/securityContext/seccompProfile", json!({}), "c: seccompProfile"),
        ("/containers/0/securityContext/privileged", json!(true), "c: privileged"),
        ("/containers/0/securityContext/runAsNonRoot", json!(false), "c: runAsNonRoot"),
        ("/containers/0/securityContext/procMount", json!("Unmasked"), "c: procMount"),
        (
            "/containers/0/securityContext/allowPrivilegeEscalation",
            json!(null),
            "c: allowPrivilegeEscalation",
        ),
        (
            "/containers/0/securityContext/capabilities",
            json!({"drop": ["CHOWN"]}),
            "c: capabilities are not dropped",
        ),
        (
            "/containers/0/securityContext/capabilities/add",
            json!(["SYS_ADMIN"]),
            "c: capabilities are added",
        ),
        ("/containers/0/ports", json!([{"hostPort": 80}]), "c: hostPort"),
        ("/containers/0/livenessProbe", json!({"httpGet": {"host": "a"}}), "c: probed host"),
        ("/initContainers", json!([{"name": "i"}]), "i: allowPrivilegeEscalation"),
    ];

    for (path, value, seen) in table {
        let mut pod = good();
        let (parent, field) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;

        let found = violations(&pod);

        assert!(found.iter().any(|what| what == seen), "{path}: {found:?}");
    }
}

fn good() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "c",
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            },
        }],
        "volumes": [{"name": "a", "secret": {"secretName": "a"}}],
    })
}
