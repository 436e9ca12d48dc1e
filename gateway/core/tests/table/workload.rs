//! What servers run: refusals that the rows of the CRDs do not show.

use gateway_core::{Secrets, workload};
use serde_json::{Value, json};

use crate::fixture::{from_resource, manifest};

fn check(more: &Value) -> Result<(), String> {
    let mut workload = json!({"image": "git"});
    workload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let given = serde_json::from_value(workload.clone()).unwrap();
    let checked = workload::check(&given).map_err(|invalid| invalid.to_string());
    if checked.is_err() {
        // Whoever asks for the entry is told the same.
        let given = manifest("McpServer", "tools", "git", &json!({"workload": workload}));
        let invalid = from_resource(given, &Secrets::default()).unwrap_err();
        assert_eq!(Err(invalid.to_string()), checked);
    }
    checked
}

fn projected(sources: &[Value]) -> Value {
    json!({"volumes": [
        {"name": "tmp", "mountPath": "/tmp", "emptyDir": {}},
        {"name": "all", "mountPath": "/all", "projected": {"sources": sources}},
    ]})
}

#[test]
fn refusals_name_the_field_and_the_mend() {
    let id = "must be from 1 to 2147483647";
    let context = |field: &str, id: i64| json!({"securityContext": {field: id}});
    for (given, expected) in [
        (json!({"image": ""}), "image: must not be empty".to_owned()),
        (json!({"image": "git\u{a0}:1"}), "image: must not have spaces".to_owned()),
        (json!({"port": 0}), "port: must be from 1 to 65535".to_owned()),
        (json!({"port": 65_536}), "port: must be from 1 to 65535".to_owned()),
        (json!({"replicas": -1}), "replicas: must be from 0 to 1000".to_owned()),
        (json!({"args": vec!["a"; 257]}), "args: must have at most 256 entries".to_owned()),
        (
            json!({"command": ["git", "x".repeat(131_072)]}),
            "command[1]: must have at most 131071 characters".to_owned(),
        ),
        (
            json!({"env": vec![json!({"name": "A"}); 257]}),
            "env: must have at most 256 entries".to_owned(),
        ),
        (context("runAsUser", 0), format!("securityContext.runAsUser: {id}")),
        (context("runAsGroup", -1), format!("securityContext.runAsGroup: {id}")),
        (context("fsGroup", 1 << 31), format!("securityContext.fsGroup: {id}")),
        (
            json!({"imagePullSecrets": ["a", "x".repeat(254)]}),
            "imagePullSecrets[1]: must have at most 253 characters".to_owned(),
        ),
        (
            json!({"healthPath": "/\u{a0}"}),
            "healthPath: must not have spaces, backslashes or a '#'; write a space as %20".into(),
        ),
    ] {
        assert_eq!(check(&given), Err(format!("spec.workload.{expected}")), "{given:.80}");
    }
}

/// With either a server could speak to the Kubernetes API in the name of its pod.
#[test]
fn a_volume_holds_no_identity_of_the_pod() {
    let fine = json!({"secret": {"name": "git"}});
    let token = json!({"serviceAccountToken": {"path": "token"}});
    let certificate = json!({"podCertificate": {
        "signerName": "kubernetes.io/kube-apiserver-client-pod",
        "keyType": "ED25519",
        "credentialBundlePath": "bundle.pem",
    }});
    let is = |at: usize, what: &str| {
        format!(
            "spec.workload.volumes[1].projected.sources[{at}].{what} of a service account; remove it"
        )
    };
    let token_is = "serviceAccountToken: is not allowed: servers get no tokens";
    let certificate_is = "podCertificate: is not allowed: servers get no certificates";
    for (sources, expected) in [
        (vec![token.clone()], is(0, token_is)),
        (vec![fine.clone(), token.clone()], is(1, token_is)),
        (vec![fine.clone(), certificate, token], is(1, certificate_is)),
        // An apiserver would refuse two in one source; until it does, one is enough.
        (
            vec![json!({"secret": {"name": "git"}, "serviceAccountToken": {"path": "token"}})],
            is(0, token_is),
        ),
    ] {
        assert_eq!(check(&projected(&sources)), Err(expected), "{sources:?}");
    }

    let others = [
        fine,
        json!({"configMap": {"name": "git"}}),
        json!({"downwardAPI": {"items": [
            {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        ]}}),
        json!({"clusterTrustBundle": {"name": "roots", "path": "roots.pem"}}),
    ];
    assert_eq!(check(&projected(&others)), Ok(()));
    assert_eq!(check(&projected(&[])), Ok(()));
}

#[test]
fn what_stands_in_one_volume_is_told_before_what_stands_in_two() {
    let volume = |path: &str| json!({"name": "data", "mountPath": path, "emptyDir": {}});
    let volumes = json!({"volumes": [volume("/a"), volume("a")]});

    assert_eq!(
        check(&volumes),
        Err("spec.workload.volumes[1].mountPath: must begin with '/' and have no ':', such as \
             /data"
            .to_owned())
    );
}
