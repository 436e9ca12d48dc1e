//! What is told of a key, and when it is looked at again.

use std::sync::Arc;
use std::time::Duration;

use crds::McpApiKey;
use gateway_core::report::Conflict;
use gateway_core::{Kind, Namespace, ResourceRef};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::conditions::Verdict;
use crate::key::apply::Applied;
use crate::key::status::{Facts, next_look, status};
use crate::testing::resources::a_key;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn applied(now: i64) -> Applied {
    let namespace = Namespace::new("team");
    Applied {
        resource: ResourceRef { namespace, kind: Kind::Key, name: "alice".into() },
        version: Some(1),
        entry: None,
        accepted: Verdict::yes("Accepted", "the key is valid"),
        next_rotation: None,
        now: at(now),
        refused: None,
    }
}

fn programmed() -> Facts {
    Facts {
        programmed: Verdict::yes("Programmed", "every ready gateway knows it"),
        conflict: None,
        used: None,
    }
}

fn told(key: &McpApiKey, applied: &Applied, facts: Facts) -> (String, String, String) {
    let status = status(key, applied, facts, &Default::default());
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    (status.phase.unwrap(), ready.status.clone(), ready.reason.clone())
}

#[test]
fn a_phase_says_all_conditions_in_a_word() {
    let plain = || json!({"user": "alice"});
    let pending = || Facts { programmed: Verdict::no("Pending", "not yet"), ..programmed() };
    let conflict = || Conflict {
        kind: Kind::Key,
        namespace: Namespace::new("team"),
        name: "alice".to_owned(),
        reason: "KeyConflict".to_owned(),
        message: "bob has the same key".to_owned(),
    };
    let invalid = || Applied { accepted: Verdict::no("Invalid", "no user"), ..applied(0) };
    let rows: Vec<(&str, Value, Applied, Facts, [&str; 3])> = vec![
        ("all is well", plain(), applied(0), programmed(), ["Active", "True", "Ready"]),
        ("not known yet", plain(), applied(0), pending(), ["Pending", "False", "Pending"]),
        ("not valid", plain(), invalid(), programmed(), ["Invalid", "False", "Invalid"]),
        (
            "switched off",
            json!({"user": "alice", "disabled": true}),
            applied(0),
            programmed(),
            ["Disabled", "False", "Disabled"],
        ),
        (
            "over",
            json!({"user": "alice", "disabled": true, "expiresAt": "1970-01-01T00:00:05Z"}),
            applied(5),
            programmed(),
            ["Expired", "False", "Expired"],
        ),
        (
            "not over yet",
            json!({"user": "alice", "expiresAt": "1970-01-01T00:00:05Z"}),
            applied(4),
            programmed(),
            ["Active", "True", "Ready"],
        ),
        (
            "another has it",
            plain(),
            applied(0),
            Facts { conflict: Some(conflict()), ..programmed() },
            ["Invalid", "False", "KeyConflict"],
        ),
    ];

    for (row, spec, applied, facts, [phase, ready, reason]) in rows {
        let found = told(&a_key("alice", spec), &applied, facts);
        assert_eq!(found, (phase.to_owned(), ready.to_owned(), reason.to_owned()), "{row}");
    }
}

#[test]
fn it_is_looked_at_again_when_time_alone_changes_something() {
    let ending = |end: &str| json!({"user": "alice", "expiresAt": end});
    let rotating = || Applied { next_rotation: Some(at(300)), ..applied(0) };
    let overlapping = |until: Option<i64>| {
        let key: gateway_core::KeyEntry = serde_json::from_value(json!({
            "namespace": "team", "name": "alice", "user": "alice",
            "claim": {"created": 0, "tie": ""}, "disabled": false, "expiresAt": null,
            "values": [{
                "digest": "00".repeat(32),
                "notAfter": until.map(|until| at(until).to_string()),
            }],
            "groups": [], "allow": null,
        }))
        .unwrap();
        Applied { entry: Some(Arc::new(key)), ..applied(0) }
    };

    for (row, spec, applied, seconds) in [
        ("never", json!({"user": "alice"}), applied(0), None),
        ("its end", ending("1970-01-01T00:05:00Z"), applied(0), Some(300)),
        ("its end, long past", ending("1970-01-01T00:05:00Z"), applied(400), None),
        ("far off", ending("1970-01-02T00:00:00Z"), applied(0), Some(86_400)),
        ("rotation", json!({"user": "alice"}), rotating(), Some(300)),
        ("what comes first", ending("1970-01-01T00:00:07Z"), rotating(), Some(7)),
        ("the end of an overlap", json!({"user": "alice"}), overlapping(Some(60)), Some(60)),
        ("no overlap", json!({"user": "alice"}), overlapping(None), None),
    ] {
        let wait = next_look(&a_key("alice", spec), &applied);
        let expected = seconds.map(|s| Duration::from_secs(s) + Duration::from_millis(10));
        assert_eq!(wait, expected, "{row}");
    }
}

#[test]
fn the_latest_use_is_told_and_that_of_another_key_of_the_name_is_not() {
    let mut key = a_key("alice", json!({"user": "alice"}));
    key.metadata.creation_timestamp = serde_json::from_value(json!("1970-01-01T01:00:30Z")).ok();
    let used = |used: Option<i64>, before: Option<i64>| {
        let before = crds::McpApiKeyStatus {
            last_used: before
                .map(|at_| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(at_))),
            ..Default::default()
        };
        let facts = Facts { used: used.map(at), ..programmed() };
        status(&key, &applied(9000), facts, &before).last_used.map(|time| time.0.as_second())
    };

    assert_eq!(used(None, None), None);
    assert_eq!(used(Some(7200), None), Some(7200));
    assert_eq!(used(None, Some(7200)), Some(7200));
    assert_eq!(used(Some(7260), Some(7200)), Some(7260));
    assert_eq!(used(Some(7140), Some(7200)), Some(7200));
    // Told to the minute.
    assert_eq!(used(Some(3600), None), Some(3600));
    assert_eq!(used(Some(3540), None), None);
}
