//! Where servers of a cluster are reached, and by which certificates they are known.

use std::sync::Arc;

use gateway_core::{Entry, Invalid, Place, References, Secrets, ServerEntry};
use serde_json::{Value, json};

use crate::fixture::{
    CERTIFICATE, PEPPER, claim, from_resource, manifest, place, resource, secret,
};

fn try_server(
    spec: &Value,
    place: Option<Place>,
    secrets: &Secrets,
) -> Result<Arc<ServerEntry>, Invalid> {
    let resource = resource(manifest("McpServer", "tools", "git", spec)).unwrap();
    let references =
        References { place, ..References::without_cluster(claim(0), secrets, &PEPPER) };
    match Entry::from_resource(&resource, references)? {
        Entry::Server(server) => Ok(server),
        other => panic!("{other:?}"),
    }
}

fn server(spec: &Value) -> Arc<ServerEntry> {
    try_server(spec, Some(place()), &secret("tools", "ca", "ca.crt", CERTIFICATE)).unwrap()
}

fn tls() -> Value {
    json!({"caSecretRef": {"name": "ca", "key": "ca.crt"}})
}

#[test]
fn a_server_of_the_cluster_is_reached_at_its_service() {
    let workload = json!({"image": "git", "port": 9000});
    let service = json!({"name": "git"});
    let host = "http://mcp-git.tools.svc:8000";
    for (spec, base, streamable, sse) in [
        (json!({"workload": workload}), host, "/mcp", "/sse"),
        (json!({"service": service}), host, "/mcp", "/sse"),
        (json!({"service": service, "path": "/v1?a=1"}), host, "/v1?a=1", "/v1?a=1"),
        (
            json!({"workload": workload, "tls": tls()}),
            "https://mcp-git.tools.svc:8000",
            "/mcp",
            "/sse",
        ),
    ] {
        let endpoint = server(&spec).endpoint.clone();

        assert_eq!(endpoint.streamable.to_string(), format!("{base}{streamable}"), "{spec}");
        assert_eq!(endpoint.sse.to_string(), format!("{base}{sse}"), "{spec}");
        assert_eq!(endpoint.address, Some(place().address), "{spec}");
        assert_eq!(endpoint.authorities.is_some(), spec.get("tls").is_some(), "{spec}");
        assert_eq!(endpoint.host, None, "{spec}");
    }
}

/// Whatever the operator looked up: a URL is resolved by the gateway, which checks where it leads.
#[test]
fn a_url_pins_no_address() {
    let server = server(&json!({"url": "https://git", "tls": tls()}));

    assert_eq!(server.endpoint.address, None);
    assert_eq!(server.endpoint.streamable, "https://git/mcp");
}

#[test]
fn a_directory_has_no_cluster() {
    let needs = "needs a cluster; in a directory of manifests write the server's spec.url instead";
    for (spec, expected) in [
        (json!({"workload": {"image": "git"}}), format!("spec.workload: {needs}")),
        (json!({"service": {"name": "git"}}), format!("spec.service: {needs}")),
        // What is wrong in a cluster too is told first.
        (
            json!({"service": {"name": "git", "port": 0}}),
            "spec.service.port: must be from 1 to 65535".to_owned(),
        ),
        (json!({"workload": {"image": ""}}), "spec.workload.image: must not be empty".to_owned()),
    ] {
        let given = manifest("McpServer", "tools", "git", &spec);

        let invalid = from_resource(given, &Secrets::default()).unwrap_err();

        assert_eq!(invalid.to_string(), expected, "{spec}");
    }
}

#[test]
fn certificates_alone_are_handed_on() {
    let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let open = "-----BEGIN CERTIFICATE-----\n";
    let body = "MAMCAQA=\n-----END CERTIFICATE-----\n";
    let two = CERTIFICATE.repeat(2);
    for (given, expected) in [
        (CERTIFICATE.to_owned(), CERTIFICATE),
        (two.clone(), &two),
        (format!("Subject: git\n{CERTIFICATE}\n# another\n{CERTIFICATE}"), &two),
        (format!("{key}{CERTIFICATE}"), CERTIFICATE),
        (format!("{CERTIFICATE}{key}"), CERTIFICATE),
        (format!("{CERTIFICATE}{key}{CERTIFICATE}"), &two),
        (CERTIFICATE.replace('\n', "\r\n"), CERTIFICATE),
        (format!("{open}\n{body}"), CERTIFICATE),
        (CERTIFICATE.trim_end().to_owned(), CERTIFICATE),
        // A broken key is no concern of ours.
        (format!("-----BEGIN PRIVATE KEY-----\n?\n{CERTIFICATE}"), CERTIFICATE),
    ] {
        let secrets = secret("tools", "ca", "ca.crt", &given);

        let server = try_server(&json!({"url": "https://git", "tls": tls()}), None, &secrets);

        let server = server.unwrap_or_else(|error| panic!("{error}: {given}"));
        assert_eq!(server.endpoint.authorities.as_deref(), Some(expected), "{given}");
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    let none = "holds no certificate as PEM under the key ca.crt";
    let broken = "holds a certificate that cannot be read as PEM under the key ca.crt";
    let size = "must hold 1 to 262144 bytes under the key ca.crt";
    let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let open = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n";
    for (value, problem) in [
        (String::new(), size),
        ("\n".to_owned(), size),
        ("#".repeat(262_145), size),
        ("hunter2".to_owned(), none),
        ("MAMCAQA=".to_owned(), none),
        (key.to_owned(), none),
        (CERTIFICATE.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), none),
        (CERTIFICATE.replace("MAMC", "?unter2?"), broken),
        (open.to_owned(), broken),
        (format!("{CERTIFICATE}{open}"), broken),
        (format!("{open}{key}"), broken),
    ] {
        let secrets = secret("tools", "ca", "ca.crt", &value);

        let spec = json!({"url": "https://git", "tls": tls()});
        let invalid = try_server(&spec, None, &secrets).expect_err(&value);

        let expected = format!("spec.tls.caSecretRef: Secret ca {problem}");
        assert_eq!(invalid.to_string(), expected, "{value:.80}");
        assert!(!format!("{invalid:?}").contains("unter2"), "{invalid:?}");
    }
}

#[test]
fn certificates_of_other_namespaces_do_not_exist() {
    let secrets = secret("other", "ca", "ca.crt", CERTIFICATE);

    let spec = json!({"service": {"name": "git"}, "tls": tls()});
    let invalid = try_server(&spec, Some(place()), &secrets).unwrap_err();

    assert_eq!(
        invalid.to_string(),
        "spec.tls.caSecretRef: Secret ca does not exist in namespace tools"
    );
}
