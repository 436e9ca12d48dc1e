//! Entries as operator and gateway hand them on.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::{Entry, Record, References, Secrets};
use serde_json::{Value, json};

use crate::fixture::{
    CERTIFICATE, NOW, PEPPER, catalog, claim, from_resource, key, manifest, minted, place, policy,
    resource, secret,
};

fn record(entry: Entry) -> Record {
    Record::new("uid".to_owned(), 3, 7, entry)
}

fn server() -> Entry {
    let spec = json!({
        "url": "https://host:8443/x/mcp?team=a",
        "transport": "Sse",
        "session": "PerClient",
        "hostHeader": "weather.example.com",
        "credentials": {"secretRef": {"name": "s", "key": "token"}},
        "timeouts": {"connect": "1s", "total": "1h"},
        "tools": {
            "prefix": "w_",
            "allow": ["a*"],
            "deny": ["b"],
            "overrides": {"a": {"description": "d"}},
        },
        "exposeTo": ["other"],
        "retries": {"attempts": 3},
        "circuitBreaker": {"failures": 0},
        "maxConcurrency": 8,
    });
    from_resource(manifest("McpServer", "a", "w", &spec), &secret("a", "s", "token", "t\u{f6}p"))
        .unwrap()
}

/// With everything that only the operator knows.
fn in_cluster() -> [Entry; 2] {
    let spec = json!({
        "workload": {"image": "git"},
        "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}},
        "toolChanges": "Quarantine",
    });
    let tools = catalog("a/git", &["log", "push"]);
    let accepted = tools.tools().iter().map(|tool| (tool.name.to_string(), tool.hash)).collect();
    let secrets = secret("a", "ca", "ca.crt", CERTIFICATE);
    let server = References {
        place: Some(place()),
        accepted: Some(Arc::new(accepted)),
        ..References::without_cluster(claim(0), &secrets, &PEPPER)
    };
    let mut asked = minted("the-new-value", None);
    asked.minted.as_mut().unwrap().request = Some("2027-01-31".to_owned());
    let key = References {
        minted: vec![asked, minted("the-old-value", Some(NOW))],
        ..References::without_cluster(claim(0), &secrets, &PEPPER)
    };
    [
        (manifest("McpServer", "a", "git", &spec), server),
        (manifest("McpApiKey", "a", "ann", &json!({"user": "ann"})), key),
    ]
    .map(|(given, references)| Entry::from_resource(&resource(given).unwrap(), references).unwrap())
}

fn all() -> [Entry; 3] {
    [
        server(),
        key("a/k", json!({"groups": ["g"], "allow": {}, "expiresAt": "2030-01-01T00:00:00Z"})),
        policy(
            "a/p",
            &json!([{"user": "u"}, {"group": "g"}, {"key": "k"}]),
            &json!([{"servers": ["x*", "b/*"]}, {"effect": "Deny", "tools": ["t"]}]),
        ),
    ]
}

#[test]
fn a_record_is_read_as_it_was_written() {
    for entry in all().into_iter().chain(in_cluster()) {
        let record = record(entry);

        let json = record.to_json().unwrap();

        let read = Record::parse(&json).unwrap();
        assert_eq!(read, record);
        assert_eq!(read.to_json().unwrap(), json);
    }
}

/// What was written before a field came to be is read as if it had been left out.
#[test]
fn what_only_the_operator_knows_is_left_out_where_there_is_none() {
    let json = |entry| String::from_utf8(record(entry).to_json().unwrap()).unwrap();
    let (plain, full) = (all().map(json).concat(), in_cluster().map(json).concat());

    for start in [
        r#""address":"#,
        r#""authorities":"#,
        r#""pods":"#,
        r#""accepted":"#,
        r#""notAfter":"#,
        r#""minted":"#,
        r#""request":""#,
    ] {
        assert!(full.contains(start) && !plain.contains(start), "{start}");
    }
    assert!(!full.contains("the-new-value") && !full.contains("the-old-value"), "{full}");
}

/// An entry of an earlier version says nothing of what came later, and a program of an earlier
/// version finds nothing that it does not know.
#[test]
fn what_a_resource_leaves_to_the_defaults_is_not_stored() {
    let spec = json!({"url": "http://host", "retries": {}, "circuitBreaker": {"failures": 5}});
    let entry = from_resource(manifest("McpServer", "a", "w", &spec), &Secrets::default()).unwrap();

    let json = record(entry).to_json().unwrap();

    let text = String::from_utf8(json.clone()).unwrap();
    for field in ["retries", "circuitBreaker", "maxConcurrency"] {
        assert!(!text.contains(field), "{text}");
    }
    let Entry::Server(server) = Record::parse(&json).unwrap().entry else { panic!("{text}") };
    assert_eq!((server.retries.attempts, server.retries.budget_percent), (1, 20));
    assert_eq!(server.circuit_breaker.failures, 5);
    assert_eq!(server.circuit_breaker.open_for, Duration::from_secs(10));
    assert_eq!(server.max_concurrency, None);
}

#[test]
fn a_credential_that_was_stored_is_still_a_secret() {
    let read = Record::parse(&record(server()).to_json().unwrap()).unwrap();

    let Entry::Server(server) = &read.entry else { panic!("{read:?}") };
    assert!(server.credential.as_ref().unwrap().value.is_sensitive());
    assert!(!format!("{read:?}").contains("t\u{f6}p"));
}

#[test]
fn a_later_layout_is_refused_and_unknown_fields_are_not() {
    let json = record(server()).to_json().unwrap();
    let mut value: Value = serde_json::from_slice(&json).unwrap();

    value["entry"]["server"]["later"] = json!(1);
    assert!(Record::parse(value.to_string().as_bytes()).is_ok());

    value["version"] = json!(2);
    let error = Record::parse(value.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("upgrade"), "{error}");
    for json in ["", "{}", "[]", r#"{"version":1}"#, r#"{"version":-1}"#] {
        assert!(Record::parse(json.as_bytes()).is_err(), "{json}");
    }
}

#[test]
fn a_writer_of_an_earlier_term_or_generation_is_told_apart() {
    let at = |term, generation| Record::new("uid".to_owned(), generation, term, server());
    let other = Record::new("other".to_owned(), 1, 1, server());

    for (record, older) in
        [(at(7, 3), false), (at(6, 9), true), (at(7, 2), true), (at(8, 1), false), (other, false)]
    {
        assert_eq!(record.is_older_than(&at(7, 3)), older, "{} {}", record.term, record.generation);
    }
}

#[test]
fn who_wrote_it_does_not_change_what_it_says() {
    let one = Record::new("uid".to_owned(), 3, 7, server());

    assert!(one.says(&Record::new("uid".to_owned(), 3, 8, server())));
    assert!(!one.says(&Record::new("uid".to_owned(), 4, 7, server())));
    assert!(!one.says(&record(key("a/k", json!({})))));
}
