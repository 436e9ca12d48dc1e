//! Which values a key has, whatever stands in its entry and in its Secret.

use std::sync::Arc;

use crds::McpApiKey;
use gateway_core::{Entry, KeyEntry, KeyValue, Pepper, Record, Secrets};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::key::build::{Desired, build};
use crate::key::observe::Observed;
use crate::key::validate::{MINTED_AT, ROTATE, Refusal, ValidKey, validate};
use crate::testing::resources::{a_key, secret, typed};

const URL: &str = "https://mcp.example.com";

fn pepper() -> Pepper {
    Pepper::new(b"pepper")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// One key through time: each look sees what the one before left behind.
struct Life {
    key: McpApiKey,
    observed: Observed,
}

impl Life {
    fn of(spec: Value) -> Self {
        Self::of_key(a_key("alice", spec))
    }

    fn of_key(key: McpApiKey) -> Self {
        let observed = Observed {
            now: at(0),
            in_force: None,
            record: None,
            output: None,
            former: None,
            given: Secrets::default(),
            candidate: String::new(),
        };
        Self { key, observed }
    }

    fn validate(&mut self, second: i64) -> Result<ValidKey, Refusal> {
        self.observed.now = at(second);
        self.observed.candidate = format!("fw_made_at_{second}");
        validate(&self.key, &self.observed, &pepper())
    }

    /// Looks at the key, and writes only its Secret: the operator ends before it writes the entry.
    fn interrupted(&mut self, second: i64) -> Desired {
        let valid = self.validate(second);
        let desired = build(&self.key, valid, &self.observed, URL, 1).unwrap();
        if let Some(output) = &desired.output {
            self.observed.output = Some(output.secret.clone());
        }
        desired
    }

    /// Looks at the key and writes everything. Gives the values that are then in force, as
    /// `made at - works until`, and when the next one is made.
    fn look(&mut self, second: i64) -> (Vec<String>, Option<i64>) {
        let desired = self.interrupted(second);
        if let Some(record) = desired.record {
            self.observed.record = Some(Arc::new(record));
            self.observed.in_force = Some(1);
        }
        let entry = self.entry();
        let values = entry.values.iter().map(|value| {
            let made = value.minted.as_ref().unwrap().at.as_second();
            let until = value.not_after;
            let until =
                until.map_or_else(|| "ever".to_owned(), |until| until.as_second().to_string());
            format!("{made} - {until}")
        });
        (values.collect(), desired.next_rotation.map(Timestamp::as_second))
    }

    fn entry(&self) -> Arc<KeyEntry> {
        match &self.observed.record.as_ref().unwrap().entry {
            Entry::Key(entry) => entry.clone(),
            Entry::Server(_) | Entry::Policy(_) => panic!("no key"),
        }
    }

    /// What the user reads.
    fn handed_out(&self) -> String {
        let data = self.observed.output.as_ref().unwrap().data.as_ref().unwrap();
        String::from_utf8(data["key"].0.clone()).unwrap()
    }

    fn annotate(&mut self, value: &str) {
        let annotations = self.key.metadata.annotations.get_or_insert_default();
        annotations.insert(ROTATE.to_owned(), value.to_owned());
    }
}

fn hourly() -> Value {
    json!({"user": "alice", "rotation": {"interval": "1h", "overlap": "10m"}})
}

#[test]
fn a_key_is_made_once() {
    let mut life = Life::of(json!({"user": "alice"}));

    assert_eq!(life.look(5), (vec!["5 - ever".to_owned()], None));
    assert_eq!(life.handed_out(), "fw_made_at_5");
    assert_eq!(life.look(1_000_000), (vec!["5 - ever".to_owned()], None));
    assert_eq!(life.handed_out(), "fw_made_at_5");
}

#[test]
fn the_entry_knows_digests_only() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.look(5);

    let entry = life.entry();
    assert_eq!(entry.values[0].digest, pepper().digest(b"fw_made_at_5"));
    assert_eq!(entry.values[0].minted.as_ref().unwrap().prefix, "fw_made_");
    let record = life.observed.record.as_ref().unwrap();
    let json = String::from_utf8(record.to_json().unwrap()).unwrap();
    assert!(!json.contains("fw_made_at_5"), "{json}");
}

#[test]
fn the_secret_holds_what_a_client_needs() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.look(5);

    let secret = life.observed.output.as_ref().unwrap();
    let data = secret.data.as_ref().unwrap();
    assert_eq!(data["url"].0, b"https://mcp.example.com/mcp");
    let config: Value = serde_json::from_slice(&data["mcp.json"].0).unwrap();
    let server = &config["mcpServers"]["fairway"];
    assert_eq!(server["url"], "https://mcp.example.com/mcp");
    assert_eq!(server["headers"]["X-Api-Key"], "fw_made_at_5");
    assert_eq!(secret.metadata.name.as_deref(), Some("mcp-key-alice"));
    let owner = &secret.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((&*owner.kind, &*owner.name, &*owner.uid), ("McpApiKey", "alice", "uid"));
    // Kubernetes would ask whether we may touch finalizers.
    assert_eq!(owner.block_owner_deletion, None);
}

#[test]
fn a_new_key_is_made_in_time_and_the_one_before_works_a_while_longer() {
    let mut life = Life::of(hourly());

    assert_eq!(life.look(0), (vec!["0 - ever".to_owned()], Some(3600)));
    assert_eq!(life.look(3599).0, ["0 - ever"]);
    assert_eq!(life.look(3600), (vec!["3600 - ever".into(), "0 - 4200".into()], Some(7200)));
    assert_eq!(life.handed_out(), "fw_made_at_3600");
    assert_eq!(life.look(4199).0, ["3600 - ever", "0 - 4200"]);
    assert_eq!(life.look(4200).0, ["3600 - ever"]);
}

#[test]
fn as_many_overlap_as_the_rotation_asks_for() {
    let mut life = Life::of(json!({"user": "a", "rotation": {"interval": "1h", "overlap": "24h"}}));

    for hour in 0..48 {
        life.look(hour * 3600);
    }

    let values = life.look(47 * 3600).0;
    assert_eq!(values.len(), 25);
    assert_eq!(values[0], format!("{} - ever", 47 * 3600));
    assert_eq!(values[24], format!("{} - {}", 23 * 3600, 48 * 3600));
}

#[test]
fn keys_that_are_replaced_faster_than_they_end_are_not_kept_without_bound() {
    let mut life = Life::of(json!({"user": "alice"}));

    for turn in 0..100 {
        life.annotate(&turn.to_string());
        life.look(turn);
    }

    let values = life.look(99).0;
    assert_eq!(values.len(), 32);
    assert_eq!(values[0], "99 - ever");
}

#[test]
fn an_annotation_asks_for_a_new_key_once() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.look(0);

    life.annotate("please");
    // Without a rotation of its own the one before works for a day.
    assert_eq!(life.look(10).0, ["10 - ever", "0 - 86410"]);
    assert_eq!(life.look(20).0, ["10 - ever", "0 - 86410"]);
    life.annotate("again");
    assert_eq!(life.look(30).0, ["30 - ever", "10 - 86430", "0 - 86410"]);
    life.key.metadata.annotations = None;
    assert_eq!(life.look(40).0, ["30 - ever", "10 - 86430", "0 - 86410"]);
}

#[test]
fn an_annotation_from_the_start_asks_for_nothing_more() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.annotate("please");

    assert_eq!(life.look(0).0, ["0 - ever"]);
    assert_eq!(life.look(10).0, ["0 - ever"]);
}

#[test]
fn a_key_that_was_handed_out_before_a_crash_is_the_key() {
    let mut life = Life::of(json!({"user": "alice"}));

    life.interrupted(5);
    assert_eq!(life.look(100).0, ["5 - ever"]);

    assert_eq!(life.handed_out(), "fw_made_at_5");
    assert_eq!(life.entry().values[0].digest, pepper().digest(b"fw_made_at_5"));
}

#[test]
fn a_rotation_that_a_crash_cut_short_goes_on() {
    let mut life = Life::of(hourly());
    life.look(0);

    life.interrupted(3600);
    assert_eq!(life.look(3700).0, ["3600 - ever", "0 - 4200"]);
    assert_eq!(life.handed_out(), "fw_made_at_3600");

    life.annotate("please");
    life.interrupted(3800);
    assert_eq!(life.look(3900).0, ["3800 - ever", "3600 - 4400", "0 - 4200"]);
}

#[test]
fn a_secret_that_was_collected_is_not_made_again() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.look(0);
    life.observed.output = None;

    assert_eq!(life.look(10).0, ["0 - ever"]);
    assert!(life.observed.output.is_none());

    // The next key is handed out again.
    life.annotate("please");
    life.look(20);
    assert_eq!(life.handed_out(), "fw_made_at_20");
}

#[test]
fn a_secret_whose_name_was_changed_is_handed_out_under_the_new_one() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.look(0);

    life.key.spec.secret_name = Some("new".to_owned());
    life.observed.former = life.observed.output.take();
    assert_eq!(life.look(10).0, ["0 - ever"]);

    assert_eq!(life.handed_out(), "fw_made_at_0");
    let output = life.observed.output.as_ref().unwrap();
    assert_eq!(output.metadata.name.as_deref(), Some("new"));
    assert_eq!(output.metadata.annotations.as_ref().unwrap()[MINTED_AT], at(0).to_string());
}

#[test]
fn a_public_url_that_changes_is_written_and_the_key_stays() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.look(0);

    let valid = life.validate(10);
    let desired = build(&life.key, valid, &life.observed, "https://other.example", 1).unwrap();

    let data = desired.output.unwrap().secret.data.unwrap();
    assert_eq!(data["url"].0, b"https://other.example/mcp");
    assert_eq!(data["key"].0, b"fw_made_at_0");
}

#[test]
fn the_secret_of_somebody_else_is_not_touched() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.observed.output = Some(typed(secret("mcp-key-alice", "key", "mine")));

    let desired = life.interrupted(0);

    assert!(desired.output.is_none());
    assert!(desired.record.is_none());
    assert_eq!(desired.accepted.reason, "SecretTaken");
    assert!(desired.accepted.message.contains("mcp-key-alice"), "{}", desired.accepted.message);
}

#[test]
fn the_secret_of_the_resource_before_is_waited_for() {
    let mut before = Life::of(json!({"user": "alice"}));
    before.look(0);
    let mut life = Life::of(json!({"user": "alice"}));
    life.key.metadata.uid = Some("another".to_owned());
    life.observed.output = before.observed.output.take();

    let desired = life.interrupted(10);

    assert!(desired.output.is_none() && desired.record.is_none());
    assert_eq!(desired.accepted.reason, "Pending");
}

#[test]
fn a_key_that_has_ended_needs_no_other() {
    let mut life = Life::of(json!({
        "user": "alice", "expiresAt": "1970-01-01T00:30:00Z",
        "rotation": {"interval": "1h", "overlap": "10m"},
    }));
    life.look(0);

    assert_eq!(life.look(7200), (vec!["0 - ever".to_owned()], None));

    // Unless it is given more time.
    life.key.spec.expires_at = None;
    assert_eq!(life.look(7300).0, ["7300 - ever", "0 - 7900"]);
}

#[test]
fn a_key_that_the_user_brings_is_taken_as_it_is() {
    let mut life = Life::of(json!({
        "user": "alice", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "value"}},
    }));
    life.observed.given.insert(typed(secret("mine", "value", "a-key-of-my-own")));

    let desired = life.interrupted(0);

    let Some(Record { entry: Entry::Key(entry), .. }) = desired.record else { panic!("no key") };
    let digest = pepper().digest(b"a-key-of-my-own");
    assert_eq!(entry.values, [KeyValue { digest, not_after: None, minted: None }]);
    assert!(desired.output.is_none());
}

#[test]
fn a_secret_that_is_missing_is_named() {
    let mut life = Life::of(json!({
        "user": "alice", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "value"}},
    }));

    let accepted = life.interrupted(0).accepted;
    assert_eq!(accepted.reason, "SecretNotUsable");
    assert!(accepted.message.contains("mine"), "{}", accepted.message);
    assert!(!accepted.message.contains("last good"), "{}", accepted.message);
}

#[test]
fn a_key_of_ours_follows_one_that_the_user_brought() {
    let brought = json!({
        "user": "alice", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "value"}},
    });
    let mut life = Life::of(brought);
    life.observed.given.insert(typed(secret("mine", "value", "a-key-of-my-own")));
    let desired = life.interrupted(0);
    life.observed.record = desired.record.map(Arc::new);
    life.observed.in_force = Some(1);

    life.key.spec.value_from = None;

    assert_eq!(life.look(10).0, ["10 - ever"]);
}

#[test]
fn disabling_a_key_works_whatever_else_is_wrong_with_it() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.look(0);

    life.key.spec.user = String::new();
    assert!(life.interrupted(10).record.is_none());

    life.key.spec.disabled = true;
    let desired = life.interrupted(20);
    let Some(Record { entry: Entry::Key(entry), .. }) = desired.record else { panic!("no key") };
    assert!(entry.disabled);
    assert_eq!(&*entry.user, "alice");
    assert_eq!(desired.accepted.reason, "Invalid");
    assert!(desired.accepted.message.contains("the last good version stays in force"));
}

#[test]
fn ending_a_key_sooner_works_whatever_else_is_wrong_with_it() {
    let end = |text: &str| Some(serde_json::from_value(json!(text)).unwrap());
    let mut life = Life::of(json!({"user": "alice", "expiresAt": "1970-01-01T02:00:00Z"}));
    life.look(0);
    life.key.spec.user = String::new();

    life.key.spec.expires_at = end("1970-01-01T03:00:00Z");
    assert!(life.interrupted(10).record.is_none(), "later is no denial");
    life.key.spec.expires_at = end("1970-01-01T01:00:00Z");
    let record = life.interrupted(20).record;

    let Some(Record { entry: Entry::Key(entry), .. }) = record else { panic!("no key") };
    assert_eq!(entry.expires_at, Some(at(3600)));
}

#[test]
fn nothing_of_it_shows_a_key() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.look(0);
    life.annotate("please");

    let observed = format!("{:?}", life.observed);
    let valid = life.validate(10);
    let shown = format!("{valid:?}");
    let desired = format!("{:?}", build(&life.key, valid, &life.observed, URL, 1).unwrap());

    for text in [observed, shown, desired] {
        // Its prefix is for people.
        assert!(!text.contains("made_at"), "{text}");
        assert!(!text.contains("102, 119, 95"), "bytes of fw_: {text}");
    }
}

#[test]
fn overlaps_are_counted_from_when_the_next_key_was_made() {
    // The operator was away for a day.
    let mut life = Life::of(hourly());
    life.look(0);

    assert_eq!(life.look(86_400).0, ["86400 - ever", "0 - 87000"]);
}

#[test]
fn moments_are_whole_seconds_as_people_read_them() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.observed.now = at(5) + SignedDuration::from_millis(700);
    life.observed.candidate = "fw_key".to_owned();

    let valid = validate(&life.key, &life.observed, &pepper()).unwrap();

    assert_eq!(valid.fresh.unwrap().at, at(5));
}

#[test]
fn a_secret_of_ours_without_its_annotation_is_not_trusted() {
    let mut life = Life::of(json!({"user": "alice"}));
    life.look(0);
    let mut output: Secret = life.observed.output.clone().unwrap();
    output.metadata.annotations = None;
    life.observed.output = Some(output);

    assert_eq!(life.look(10).0, ["0 - ever"]);
}
