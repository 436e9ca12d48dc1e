//! Who a key is: known, in time, not switched off, and of one resource alone.

use gateway_core::{Kind, Refusal};
use serde_json::json;

use crate::fixture::{NOW, World, key, key_of, value_of};

#[test]
fn unknown_disabled_and_expired_keys_are_refused() {
    let world = World::of([
        key("a/good", json!({})),
        key("a/off", json!({"disabled": true})),
        key("a/timed", json!({"expiresAt": "2027-01-31T12:00:00Z"})),
        key("a/both", json!({"disabled": true, "expiresAt": "2027-01-31T12:00:00Z"})),
    ]);
    let (before, end, after) =
        ("2027-01-31T11:59:59.999Z", "2027-01-31T12:00:00Z", "2027-02-01T00:00:00Z");

    for (key, now, expected) in [
        ("a/good", after, Ok("good")),
        ("a/nobody", before, Err(Refusal::Unknown)),
        ("a/off", before, Err(Refusal::Disabled)),
        ("a/timed", before, Ok("timed")),
        ("a/timed", end, Err(Refusal::Expired)),
        ("a/timed", after, Err(Refusal::Expired)),
        ("a/both", after, Err(Refusal::Disabled)),
    ] {
        let principal = world.present(&value_of(key), now.parse().unwrap());

        let name = principal.as_ref().map(|principal| &*principal.key.name).map_err(|e| *e);
        assert_eq!(name, expected, "{key} at {now}");
    }
}

#[test]
fn a_key_is_compared_as_a_whole() {
    let world = World::of([key("a/ann", json!({}))]);
    let value = value_of("a/ann");

    for other in
        ["", &value[1..], &value[..value.len() - 1], &format!("{value} "), &value.to_uppercase()]
    {
        assert_eq!(world.present(other, NOW).unwrap_err(), Refusal::Unknown, "{other:?}");
    }
}

#[test]
fn of_two_resources_with_one_key_the_earlier_claim_counts() {
    let ann = key_of("a/ann", "one-key-for-two", 2, json!({}));
    let bob = key_of("b/bob", "one-key-for-two", 1, json!({}));
    let carl = key_of("b/carl", "one-key-for-two", 2, json!({}));

    for order in [[&ann, &bob, &carl], [&carl, &bob, &ann], [&bob, &carl, &ann]] {
        let world = World::of(order.map(Clone::clone));

        let principal = world.present("one-key-for-two", NOW).unwrap();
        assert_eq!(format!("{principal:?}"), "b/bob");
        let message = "another McpApiKey holds the same key; give this one a key of its own";
        assert_eq!(
            world.diagnostics(),
            [
                format!("McpApiKey a/ann: KeyConflict: {message}"),
                format!("McpApiKey b/carl: KeyConflict: {message}"),
            ]
        );
    }
}

#[test]
fn the_later_claim_takes_over_when_the_earlier_goes() {
    let mut world = World::of([
        key_of("a/ann", "one-key-for-two", 1, json!({})),
        key_of("a/bob", "one-key-for-two", 2, json!({})),
    ]);

    world.delete(Kind::Key, "a/ann");

    let principal = world.present("one-key-for-two", NOW).unwrap();
    assert_eq!(&*principal.key.name, "bob");
    assert!(world.diagnostics().is_empty());
}

/// Otherwise the disabled key could still be used, under another name.
#[test]
fn a_disabled_winner_refuses_the_key_for_all() {
    let world = World::of([
        key_of("a/ann", "one-key-for-two", 1, json!({"disabled": true})),
        key_of("a/bob", "one-key-for-two", 2, json!({})),
    ]);

    assert_eq!(world.present("one-key-for-two", NOW).unwrap_err(), Refusal::Disabled);
}

#[test]
fn a_principal_is_renewed_while_its_key_is_good() {
    let before = World::of([key("a/ann", json!({}))]);
    let ann = before.principal("a/ann");
    let end = "1970-01-01T00:00:00Z";

    for (change, entries, good) in [
        ("nothing", vec![key("a/ann", json!({}))], true),
        ("a policy of the key itself", vec![key("a/ann", json!({"allow": {}}))], true),
        ("the user", vec![key("a/ann", json!({"user": "anna"}))], true),
        ("gone", vec![], false),
        ("disabled", vec![key("a/ann", json!({"disabled": true}))], false),
        ("expired", vec![key("a/ann", json!({"expiresAt": end}))], false),
        ("another value", vec![key_of("a/ann", "another-value", 0, json!({}))], false),
        (
            "its value in another resource",
            vec![key_of("a/anna", &value_of("a/ann"), 0, json!({}))],
            false,
        ),
        (
            "its value in another tenant",
            vec![key_of("b/ann", &value_of("a/ann"), 0, json!({}))],
            false,
        ),
    ] {
        let after = World::of(entries);

        let renewed = after.snapshot.renew(&ann, NOW);

        assert_eq!(renewed.is_some(), good, "{change}");
        if let Some(renewed) = renewed {
            assert!(!std::sync::Arc::ptr_eq(&renewed.tenant, &ann.tenant), "{change}: old table");
        }
    }
}
