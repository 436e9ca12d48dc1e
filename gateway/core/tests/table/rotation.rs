//! Keys that the operator makes, and makes anew: which of their values work, and until when.

use gateway_core::{Entry, Invalid, KeyValue, References, Refusal, Secrets};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fixture::{NOW, PEPPER, World, claim, manifest, minted, resource, secret};

const BEFORE: &str = "2027-01-31T11:59:59.999Z";
const END: &str = "2027-01-31T12:00:00Z";
const AFTER: &str = "2027-02-01T00:00:00Z";

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn try_key(name: &str, more: &Value, values: Vec<KeyValue>) -> Result<Entry, Invalid> {
    let mut spec = json!({"user": "ann"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let secrets = secret("a", "given", "key", "a-value-of-ones-own");
    let references =
        References { minted: values, ..References::without_cluster(claim(0), &secrets, &PEPPER) };
    Entry::from_resource(&resource(manifest("McpApiKey", "a", name, &spec)).unwrap(), references)
}

fn key(more: &Value, values: Vec<KeyValue>) -> Entry {
    try_key("ann", more, values).unwrap()
}

fn rotated() -> Vec<KeyValue> {
    vec![minted("the-new-value", None), minted("the-old-value", Some(at(END)))]
}

#[test]
fn both_values_work_until_the_overlap_ends() {
    let world = World::of([key(&json!({}), rotated())]);

    for (value, now, expected) in [
        ("the-new-value", BEFORE, Ok(())),
        ("the-old-value", BEFORE, Ok(())),
        ("the-new-value", END, Ok(())),
        ("the-old-value", END, Err(Refusal::Expired)),
        ("the-new-value", AFTER, Ok(())),
        ("the-old-value", AFTER, Err(Refusal::Expired)),
        ("the-value-before", BEFORE, Err(Refusal::Unknown)),
    ] {
        let found = world.present(value, at(now)).map(|ann| assert_eq!(&*ann.key.name, "ann"));

        assert_eq!(found, expected, "{value} at {now}");
    }
    assert!(world.diagnostics().is_empty(), "{:?}", world.diagnostics());
}

#[test]
fn every_value_ends_with_its_key() {
    let expires = |time: &str| key(&json!({"expiresAt": time}), rotated());
    let off = key(&json!({"disabled": true}), rotated());

    for (entry, now, expected) in [
        (expires(BEFORE), BEFORE, Refusal::Expired),
        (expires(BEFORE), AFTER, Refusal::Expired),
        (off, BEFORE, Refusal::Disabled),
    ] {
        let world = World::of([entry.clone()]);
        for value in ["the-new-value", "the-old-value"] {
            assert_eq!(world.present(value, at(now)).unwrap_err(), expected, "{value} {entry:?}");
        }
    }
    let world = World::of([expires(AFTER)]);
    assert_eq!(world.present("the-old-value", at(END)).unwrap_err(), Refusal::Expired);
    assert!(world.present("the-new-value", at(END)).is_ok());
}

#[test]
fn a_principal_is_renewed_by_its_own_value() {
    let before = World::of([key(&json!({}), vec![minted("the-old-value", None)])]);
    let after = World::of([key(&json!({}), rotated())]);
    let dropped = World::of([key(&json!({}), vec![minted("the-new-value", None)])]);
    let old = before.present("the-old-value", NOW).unwrap();
    let new = after.present("the-new-value", NOW).unwrap();

    for (what, principal, world, now, good) in [
        ("the old one in the overlap", &old, &after, BEFORE, true),
        ("the old one at its end", &old, &after, END, false),
        ("the old one when it was dropped", &old, &dropped, BEFORE, false),
        ("the new one in the overlap", &new, &after, BEFORE, true),
        ("the new one after the end of the old", &new, &after, AFTER, true),
        ("the new one when the old was dropped", &new, &dropped, AFTER, true),
        ("the new one when it was taken back", &new, &before, BEFORE, false),
    ] {
        assert_eq!(world.snapshot.renew(principal, at(now)).is_some(), good, "{what}");
    }
}

/// Another key may have been given the value that this one lost.
#[test]
fn a_value_is_refused_for_all_while_the_earlier_key_holds_it() {
    let ann = key(&json!({}), rotated());
    let bob = try_key("bob", &json!({}), vec![minted("the-old-value", None)]).unwrap();
    let world = World::of([bob.clone(), ann]);

    assert_eq!(world.present("the-old-value", at(AFTER)).unwrap_err(), Refusal::Expired);
    assert!(world.diagnostics()[0].starts_with("McpApiKey a/bob: KeyConflict: "));

    let world = World::of([bob, key(&json!({}), vec![minted("the-new-value", None)])]);
    assert_eq!(&*world.present("the-old-value", at(AFTER)).unwrap().key.name, "bob");
}

#[test]
fn what_was_made_is_kept_in_its_order() {
    let Entry::Key(entry) = key(&json!({"rotation": {"interval": "720h"}}), rotated()) else {
        panic!("a key")
    };

    assert_eq!(entry.values, rotated());
    let prefixes = entry.values.iter().map(|value| value.minted.as_ref().unwrap().prefix.as_str());
    assert_eq!(prefixes.collect::<Vec<_>>(), ["the-new-", "the-old-"]);
}

#[test]
fn a_key_from_a_secret_has_that_value_alone() {
    let given = json!({"valueFrom": {"secretKeyRef": {"name": "given", "key": "key"}}});
    let world = World::of([key(&given, rotated())]);

    assert!(world.present("a-value-of-ones-own", NOW).is_ok());
    assert_eq!(world.present("the-new-value", NOW).unwrap_err(), Refusal::Unknown);
}

#[test]
fn a_key_that_nobody_made_is_none() {
    let error = try_key("ann", &json!({"secretName": "ann"}), Vec::new()).unwrap_err();

    assert!(error.to_string().starts_with("spec.valueFrom: is needed: without a cluster"));
}

/// Entries are logged when they go wrong.
#[test]
fn a_minted_value_shows_how_it_begins_and_no_more() {
    let secrets = Secrets::default();
    let shown = format!("{:?} {secrets:?}", key(&json!({}), rotated()));

    assert!(shown.contains("the-new-") && !shown.contains("the-new-value"), "{shown}");
}
