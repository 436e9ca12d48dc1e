//! Every refusal of a resource: it names the field, says what to do and holds no secret.

use gateway_core::{Entry, Secrets};
use serde_json::{Value, json};

use crate::fixture::{from_resource, manifest, secret};

/// Stands in every Secret of these tests.
const SECRET: &str = "hunter2-and-more";

fn server(field: &str, value: Value) -> Value {
    let mut spec = json!({"url": "http://git"});
    spec[field] = value;
    manifest("McpServer", "tools", "git", &spec)
}

fn credentials(more: &Value) -> Value {
    let mut credentials = json!({"secretRef": {"name": "git", "key": "token"}});
    credentials.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server("credentials", credentials)
}

fn key(field: &str, value: Value) -> Value {
    let mut spec =
        json!({"user": "ann", "valueFrom": {"secretKeyRef": {"name": "git", "key": "token"}}});
    spec[field] = value;
    manifest("McpApiKey", "tools", "ann", &spec)
}

fn policy(subjects: &Value, rules: &Value) -> Value {
    manifest("McpPolicy", "tools", "all", &json!({"subjects": subjects, "rules": rules}))
}

fn named(kind: &str, namespace: &str, name: &str) -> Value {
    let spec = json!({
        "url": "http://git",
        "user": "ann",
        "valueFrom": {"secretKeyRef": {"name": "git", "key": "token"}},
        "subjects": [{"user": "ann"}],
        "rules": [{}],
    });
    manifest(kind, namespace, name, &spec)
}

/// What the rows of the CRDs do not show.
#[test]
fn refusals_name_the_field_and_the_mend() {
    let secrets = secret("tools", "git", "token", SECRET);
    let label = "must be of a-z, 0-9 and '-', with a letter or digit at both ends";
    let namespace = "metadata.namespace: must be 1 to 63 of a-z, 0-9 and '-', with a letter or \
                     digit at both ends";
    let subdomain = "metadata.name: must be 1 to 253 of a-z, 0-9, '-' and '.', with a letter or \
                     digit at both ends of each part";
    let not_url = "spec.url: is not a URL; write for instance http://host:8000/mcp";
    let port = "spec.url: must have a port from 1 to 65535 after the ':', or none";
    for (given, expected) in [
        (named("McpServer", "Tools", "git"), namespace.to_owned()),
        (named("McpServer", "", "git"), namespace.to_owned()),
        (named("McpServer", "tools", ""), format!("metadata.name: {label}")),
        (named("McpServer", "tools", "Git"), format!("metadata.name: {label}")),
        (named("McpServer", "tools", "git-"), format!("metadata.name: {label}")),
        (named("McpServer", "tools", "a/b"), format!("metadata.name: {label}")),
        (named("McpApiKey", "tools", "a..b"), subdomain.to_owned()),
        (named("McpPolicy", "tools", &"a".repeat(254)), subdomain.to_owned()),
        (server("url", json!("HTTP://git")), "spec.url: must start with http:// or https://".into()),
        (server("url", json!("http://git:99999/mcp")), port.to_owned()),
        (server("url", json!("http://git:0/mcp")), port.to_owned()),
        (server("url", json!("http://git:/mcp")), port.to_owned()),
        (server("url", json!("http://gi[t/mcp")), not_url.to_owned()),
        (server("url", json!("http://git/<mcp>?<")), not_url.to_owned()),
        (
            server("url", json!(format!("http://{}", "a".repeat(2042)))),
            "spec.url: must have at most 2048 characters".into(),
        ),
        (
            server("hostHeader", json!("git:http")),
            "spec.hostHeader: must be a host name with or without a port, such as \
             weather.example.com:8443".into(),
        ),
        (
            server("path", json!("/mcp\u{7f}")),
            "spec.path: must be a path as in a URL, such as /mcp".into(),
        ),
        (
            server("tools", json!({"overrides": {"log": {"description": "x".repeat(4097)}}})),
            "spec.tools.overrides.log.description: must have at most 4096 characters".into(),
        ),
        (
            server("tools", json!({"allow": ["a", ""]})),
            "spec.tools.allow[1]: must not be empty".into(),
        ),
        (
            server("tools", json!({"deny": vec!["a"; 257]})),
            "spec.tools.deny: must have at most 256 entries".into(),
        ),
        (
            server("exposeTo", json!(vec!["a"; 65])),
            "spec.exposeTo: must have at most 64 entries".into(),
        ),
        (
            server("exposeTo", json!(["a", "b".repeat(64)])),
            "spec.exposeTo[1]: must have at most 63 characters".into(),
        ),
        (
            credentials(&json!({"header": "Mcp-Session-Id"})),
            "spec.credentials.header: belongs to the transport; choose another header".into(),
        ),
        (
            credentials(&json!({"header": "HOST"})),
            "spec.credentials.header: belongs to the transport; choose another header".into(),
        ),
        (
            credentials(&json!({"secretRef": {"name": "other", "key": "token"}})),
            "spec.credentials.secretRef: Secret other does not exist in namespace tools".into(),
        ),
        (
            credentials(&json!({"secretRef": {"name": "git", "key": "other"}})),
            "spec.credentials.secretRef: Secret git has no key other".into(),
        ),
        (
            key("valueFrom", json!(null)),
            "spec.valueFrom: is needed: without a cluster nobody makes keys, so name a Secret that \
             stands in this directory"
                .into(),
        ),
        (
            key("valueFrom", json!({"secretKeyRef": {"name": "ann", "key": "token"}})),
            "spec.valueFrom.secretKeyRef: Secret ann does not exist in namespace tools".into(),
        ),
        (key("groups", json!(["a", ""])), "spec.groups[1]: must not be empty".into()),
        (
            key("allow", json!({"servers": ["git", ""]})),
            "spec.allow.servers[1]: must not be empty".into(),
        ),
        (
            key("allow", json!({"servers": ["x".repeat(128)]})),
            "spec.allow.servers[0]: must have at most 127 characters".into(),
        ),
        (
            policy(&json!([]), &json!([{}])),
            "spec.subjects: must name at least one user, group or key".into(),
        ),
        (policy(&json!([{"user": "a"}]), &json!([])), "spec.rules: must have at least one rule".into()),
        (
            policy(&json!([{"user": "a"}, {"group": ""}]), &json!([{}])),
            "spec.subjects[1].group: must not be empty".into(),
        ),
        (
            policy(&json!([{"user": "a"}]), &json!([{}, {"tools": ["x".repeat(129)]}])),
            "spec.rules[1].tools[0]: must have at most 128 characters".into(),
        ),
    ] {
        let invalid = from_resource(given.clone(), &secrets).expect_err(&expected);

        assert_eq!(invalid.to_string(), expected, "{given}");
        assert!(!format!("{invalid} {invalid:?}").contains(SECRET), "{invalid:?}");
    }
}

#[test]
fn values_of_secrets_are_refused_without_being_told() {
    let in_server = credentials(&json!({}));
    let in_key = key("disabled", json!(false));
    let (of_server, of_key) = ("spec.credentials.secretRef", "spec.valueFrom.secretKeyRef");
    let size = "must hold 1 to 4096 bytes under the key token";
    let header = "holds characters that no header can carry";
    let guess = "holds a key of fewer than 12 characters, which could be guessed";
    let graphic = "holds a key with characters that no header carries; use ASCII without spaces";
    let long = SECRET.repeat(300);
    for (given, field, value, problem) in [
        (&in_server, of_server, "", size),
        (&in_server, of_server, "\r\n", size),
        (&in_server, of_server, &*long, size),
        (&in_server, of_server, "hunter2-and-more\r\nX-Admin: 1", header),
        (&in_server, of_server, "hunter2-and-more\0", header),
        (&in_key, of_key, "", size),
        (&in_key, of_key, "hunter2-and", guess),
        (&in_key, of_key, "hunter2-and\n\n", guess),
        (&in_key, of_key, "hunter2-and-more secret", graphic),
        (&in_key, of_key, " hunter2-and-more", graphic),
        (&in_key, of_key, "hunter2-and-more\u{e9}", graphic),
        (&in_key, of_key, &*long, size),
    ] {
        let secrets = secret("tools", "git", "token", value);

        let invalid = from_resource(given.clone(), &secrets).expect_err(value);

        assert_eq!(invalid.to_string(), format!("{field}: Secret git {problem}"), "{value:?}");
        assert!(!format!("{invalid} {invalid:?}").contains("hunter2"), "{invalid:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut secrets = Secrets::default();
    let value =
        json!({"metadata": {"name": "git", "namespace": "tools"}, "data": {"token": "/w=="}});
    secrets.insert(serde_json::from_value(value).unwrap());

    let invalid = from_resource(credentials(&json!({})), &secrets).unwrap_err();

    assert_eq!(
        invalid.to_string(),
        "spec.credentials.secretRef: Secret git holds bytes that are no text under the key token"
    );
}

#[test]
fn secrets_of_other_namespaces_do_not_exist() {
    let secrets = secret("other", "git", "token", SECRET);

    for given in [credentials(&json!({})), key("disabled", json!(false))] {
        let invalid = from_resource(given, &secrets).unwrap_err().to_string();
        assert!(invalid.ends_with("Secret git does not exist in namespace tools"), "{invalid}");
    }
}

#[test]
fn nothing_shows_a_secret() {
    let secrets = secret("tools", "git", "token", SECRET);
    let server = from_resource(credentials(&json!({})), &secrets).unwrap();
    let key = from_resource(key("disabled", json!(false)), &secrets).unwrap();
    let Entry::Server(facts) = &server else { panic!("{server:?}") };
    let credential = facts.credential.as_ref().unwrap();
    assert_eq!(credential.value, format!("Bearer {SECRET}"));

    for shown in [
        format!("{server:?} {server:#?}"),
        format!("{key:?} {key:#?}"),
        format!("{credential:?} {:?}", credential.value),
        format!("{secrets:?} {secrets:#?}"),
        format!("{:?}", crate::fixture::pepper()),
        format!("{:?}", crate::fixture::pepper().digest(SECRET.as_bytes())),
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("pepper"), "{shown}");
    }
}

#[test]
fn a_credential_is_sent_as_the_manifest_says() {
    let mut secrets = Secrets::default();
    // `echo s3cr3t | base64`
    let value = json!({
        "metadata": {"name": "git", "namespace": "tools"},
        "data": {"token": "czNjcjN0Cg=="},
    });
    secrets.insert(serde_json::from_value(value).unwrap());
    for (given, header, value) in [
        (json!({}), "authorization", "Bearer s3cr3t"),
        (json!({"header": null}), "authorization", "Bearer s3cr3t"),
        (json!({"scheme": "Basic"}), "authorization", "Basic s3cr3t"),
        (json!({"scheme": ""}), "authorization", "s3cr3t"),
        (json!({"header": "X-Api-Key"}), "x-api-key", "s3cr3t"),
        (json!({"header": "X-Api-Key", "scheme": "Token"}), "x-api-key", "Token s3cr3t"),
    ] {
        let entry = from_resource(credentials(&given), &secrets).unwrap();

        let Entry::Server(server) = entry else { panic!("{given}") };
        let credential = server.credential.as_ref().unwrap();
        assert_eq!(
            (credential.header.as_str(), credential.value.to_str().unwrap()),
            (header, value)
        );
        assert!(credential.value.is_sensitive(), "{given}");
    }
}

#[test]
fn a_server_is_reached_where_the_manifest_says() {
    for (url, path, streamable, sse) in [
        ("http://git", None, "http://git/mcp", "http://git/sse"),
        ("http://git:8000/", None, "http://git:8000/mcp", "http://git:8000/sse"),
        ("https://git/v1", None, "https://git/v1", "https://git/v1"),
        ("http://git/v1/", None, "http://git/v1/", "http://git/v1/"),
        ("http://git/v1?a=1", None, "http://git/v1?a=1", "http://git/v1?a=1"),
        ("http://git?a=1", None, "http://git/mcp?a=1", "http://git/sse?a=1"),
        ("http://git/?a=1", None, "http://git/mcp?a=1", "http://git/sse?a=1"),
        ("http://git/v1", Some("/"), "http://git/", "http://git/"),
        ("http://git/v1", Some("/v2"), "http://git/v2", "http://git/v2"),
        ("http://git/v1?a=1", Some("/v2"), "http://git/v2?a=1", "http://git/v2?a=1"),
        ("http://git/v1?a=1", Some("/v2?b=2"), "http://git/v2?b=2", "http://git/v2?b=2"),
        ("http://[fd00::1]:80/mcp", None, "http://[fd00::1]:80/mcp", "http://[fd00::1]:80/mcp"),
    ] {
        let mut given = server("url", json!(url));
        given["spec"]["path"] = json!(path);

        let Entry::Server(server) = from_resource(given, &Secrets::default()).unwrap() else {
            panic!("{url}")
        };

        let found = (server.endpoint.streamable.to_string(), server.endpoint.sse.to_string());
        assert_eq!(found, (streamable.to_owned(), sse.to_owned()), "{url} {path:?}");
    }
}
