use gateway_core::{
    Claim, Entry, KeyValue, Minted, Namespace, Pepper, References, Resource, Secrets,
};
use http::Method;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::testing::resources::{ENTRIES, a_key, secret};
use crate::testing::{Api, Failure};

const ALICE: &str = "/api/v1/namespaces/entries/secrets/key.team.alice";

fn record(user: &str, generation: i64, term: Term) -> Record {
    let key = Resource::Key(Box::new(a_key("alice", json!({"user": user}))));
    let (secrets, pepper) = (Secrets::default(), Pepper::new(b"pepper"));
    let minted = Minted { at: Timestamp::UNIX_EPOCH, prefix: "fw_".to_owned(), request: None };
    let value = KeyValue { digest: pepper.digest(b"key"), not_after: None, minted: Some(minted) };
    let claim = Claim { created: 0, tie: "uid".into() };
    let references =
        References { minted: vec![value], ..References::without_cluster(claim, &secrets, &pepper) };
    let entry = Entry::from_resource(&key, references).unwrap();
    Record::new("uid".to_owned(), generation, term, entry)
}

fn alice() -> ResourceRef {
    ResourceRef { namespace: Namespace::new("team"), kind: Kind::Key, name: "alice".into() }
}

/// A replica that leads in term 1.
fn replica(api: &Api) -> (Arc<Leadership>, Entries) {
    let leadership = Arc::new(Leadership::default());
    leadership.hold(1);
    let entries = Entries::new(api.client(), "entries", leadership.clone(), Telemetry::new());
    (leadership, entries)
}

/// What a watch would tell.
fn seen(api: &Api) -> Secret {
    api.get(ALICE)
}

#[tokio::test]
async fn an_entry_is_written_once() {
    let api = Api::default();
    let (_, entries) = replica(&api);

    let version = entries.apply(&record("alice", 1, 1)).await.unwrap();
    let again = entries.apply(&record("alice", 1, 1)).await.unwrap();

    assert_eq!(version, again);
    assert_eq!(api.briefs(), ["POST secrets/entries"]);
    assert_eq!(entries.of(&alice()).unwrap().version, version);
}

#[tokio::test]
async fn a_change_is_written_over_what_was_seen() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    let first = entries.apply(&record("alice", 1, 1)).await.unwrap();
    api.calls();

    let second = entries.apply(&record("bob", 2, 1)).await.unwrap();

    assert!(second > first);
    let writes = api.writes();
    assert_eq!(writes[0].brief(), "PATCH secrets/entries/key.team.alice");
    assert_eq!(writes[0].body["metadata"]["resourceVersion"], json!(first.to_string()));
    assert!(writes[0].query.contains("fieldManager=fairway-operator"), "{}", writes[0].query);
}

#[tokio::test]
async fn a_new_term_alone_is_no_change() {
    let api = Api::default();
    let (leadership, entries) = replica(&api);
    entries.apply(&record("alice", 1, 1)).await.unwrap();
    api.calls();

    leadership.hold(2);
    entries.apply(&record("alice", 1, 2)).await.unwrap();

    assert!(api.writes().is_empty());
}

/// Two leaders at once: one of them was paused and knows nothing of the other.
#[tokio::test]
async fn who_knows_less_turns_nothing_back() {
    let api = Api::default();
    let (_, paused) = replica(&api);
    paused.apply(&record("alice", 1, 1)).await.unwrap();
    let (leadership, now) = replica(&api);
    leadership.hold(2);
    assert_eq!(now.saw(&seen(&api)), Seen::News(Some(alice())));
    now.apply(&record("bob", 2, 2)).await.unwrap();

    let refused = paused.apply(&record("mallory", 1, 1)).await.unwrap_err();

    assert!(refused.is_conflict(), "{refused}");
    assert_eq!(entries_user(&api), "bob");
}

/// The cluster was restored from a backup: versions begin again where they were then.
#[tokio::test]
async fn what_was_turned_back_by_a_backup_is_written_again() {
    let restored = Api::default();
    replica(&restored).1.apply(&record("alice", 1, 1)).await.unwrap();
    let old = seen(&restored);
    let api = Api::default();
    let (_, entries) = replica(&api);
    (0..9).for_each(|number| drop(api.put(secret(&format!("other-{number}"), "a", "b"))));
    entries.apply(&record("bob", 2, 1)).await.unwrap();

    // As if the watch had told of what there is now: it is older than what is known.
    api.edit(ALICE, |secret| secret["data"] = serde_json::to_value(&old.data).unwrap());
    assert!(matches!(entries.saw(&old), Seen::Echo(_)));
    assert!(entries.apply(&record("carol", 3, 1)).await.unwrap_err().is_conflict());
    entries.apply(&record("carol", 3, 1)).await.unwrap();

    assert_eq!(entries_user(&api), "carol");
}

#[tokio::test]
async fn an_entry_that_vanished_unseen_is_made_again() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    entries.apply(&record("alice", 1, 1)).await.unwrap();
    api.remove(ALICE);
    api.fail(Method::PATCH, "/secrets/", Failure::Status(409), 1);

    assert!(entries.apply(&record("bob", 2, 1)).await.unwrap_err().is_conflict());
    entries.apply(&record("bob", 2, 1)).await.unwrap();

    assert_eq!(entries_user(&api), "bob");
}

/// One that was paused may read as often as it likes: its term is over.
#[tokio::test]
async fn who_was_paused_learns_of_the_later_term() {
    let api = Api::default();
    let (_, paused) = replica(&api);
    paused.apply(&record("alice", 1, 1)).await.unwrap();
    let (leadership, now) = replica(&api);
    leadership.hold(2);
    now.saw(&seen(&api));
    now.apply(&record("bob", 2, 2)).await.unwrap();

    for _ in 0..3 {
        paused.apply(&record("mallory", 9, 1)).await.unwrap_err();
    }

    assert_eq!(entries_user(&api), "bob");
}

#[tokio::test]
async fn of_two_who_find_nothing_one_creates() {
    let api = Api::default();
    let ((_, one), (_, two)) = (replica(&api), replica(&api));
    one.apply(&record("alice", 1, 1)).await.unwrap();

    let refused = two.apply(&record("mallory", 1, 1)).await.unwrap_err();

    assert!(refused.is_conflict(), "{refused}");
    assert_eq!(entries_user(&api), "alice");
}

fn entries_user(api: &Api) -> String {
    let data = seen(api).data.unwrap();
    match Record::parse(&data["entry"].0).unwrap().entry {
        Entry::Key(key) => key.user.to_string(),
        Entry::Server(_) | Entry::Policy(_) => panic!("no key"),
    }
}

#[tokio::test]
async fn nobody_writes_who_does_not_lead() {
    let api = Api::default();
    let (leadership, entries) = replica(&api);
    entries.apply(&record("alice", 1, 1)).await.unwrap();
    api.calls();

    leadership.lose();
    let write = entries.apply(&record("bob", 2, 1)).await.unwrap_err();
    let delete = entries.delete(&alice(), "uid").await.unwrap_err();

    assert!(matches!((write, delete), (Error::NotLeader, Error::NotLeader)));
    assert!(api.writes().is_empty());
}

#[tokio::test]
async fn what_began_in_an_earlier_term_is_not_written() {
    let api = Api::default();
    let (leadership, entries) = replica(&api);

    leadership.hold(3);
    let write = entries.apply(&record("alice", 1, 1)).await.unwrap_err();

    assert!(matches!(write, Error::NotLeader));
    assert!(api.writes().is_empty());
}

#[tokio::test]
async fn an_entry_is_deleted_as_it_was_seen() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    let version = entries.apply(&record("alice", 1, 1)).await.unwrap();
    let uid = seen(&api).uid();
    api.calls();

    entries.delete(&alice(), "uid").await.unwrap();

    let writes = api.writes();
    assert_eq!(writes[0].brief(), "DELETE secrets/entries/key.team.alice");
    let conditions = &writes[0].body["preconditions"];
    assert_eq!(*conditions, json!({"uid": uid, "resourceVersion": version.to_string()}));
    assert!(entries.of(&alice()).is_none());
    assert!(api.names(ENTRIES).is_empty());
}

#[tokio::test]
async fn what_was_written_anew_is_not_deleted() {
    let api = Api::default();
    let ((_, one), (_, two)) = (replica(&api), replica(&api));
    one.apply(&record("alice", 1, 1)).await.unwrap();
    two.saw(&seen(&api));
    two.apply(&record("bob", 2, 1)).await.unwrap();

    let refused = one.delete(&alice(), "uid").await.unwrap_err();

    assert!(refused.is_conflict(), "{refused}");
    assert_eq!(api.names(ENTRIES), ["key.team.alice"]);
}

#[tokio::test]
async fn the_entry_of_another_resource_of_that_name_stays() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    entries.apply(&record("alice", 1, 1)).await.unwrap();

    entries.delete(&alice(), "uid of the one before").await.unwrap();

    assert_eq!(api.names(ENTRIES), ["key.team.alice"]);
}

#[tokio::test]
async fn an_entry_that_is_gone_already_is_deleted() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    entries.apply(&record("alice", 1, 1)).await.unwrap();
    api.remove(ALICE);

    entries.delete(&alice(), "uid").await.unwrap();

    assert!(entries.of(&alice()).is_none());
}

#[tokio::test]
async fn a_refusal_is_told_and_nothing_is_believed() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    entries.apply(&record("alice", 1, 1)).await.unwrap();

    api.fail(Method::DELETE, "/secrets/", Failure::Status(403), 1);
    let refused = entries.delete(&alice(), "uid").await.unwrap_err();

    assert_eq!(refused.reason(), "forbidden");
    assert!(entries.of(&alice()).is_some());
}

#[tokio::test]
async fn an_echo_is_no_news() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    entries.apply(&record("alice", 1, 1)).await.unwrap();
    let before = seen(&api);
    entries.apply(&record("bob", 2, 1)).await.unwrap();

    assert_eq!(entries.saw(&before), Seen::Echo(alice()));
    assert_eq!(entries.saw(&seen(&api)), Seen::Echo(alice()));

    assert_eq!(entries.of(&alice()).unwrap().record.unwrap().generation, 2);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_written_anew() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    entries.apply(&record("alice", 1, 1)).await.unwrap();
    api.edit(ALICE, |secret| secret["data"]["entry"] = json!("bm9uZQ=="));
    assert_eq!(entries.saw(&seen(&api)), Seen::News(Some(alice())));

    entries.apply(&record("alice", 1, 1)).await.unwrap();

    assert_eq!(entries_user(&api), "alice");
}

#[tokio::test]
async fn an_entry_that_says_it_is_of_another_resource_is_written_anew() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    let mut other = serde_json::to_value(record("alice", 1, 1)).unwrap();
    entries.apply(&record("alice", 1, 1)).await.unwrap();
    other["entry"]["key"]["name"] = json!("bob");
    let other = ByteString(other.to_string().into_bytes());
    api.edit(ALICE, |secret| secret["data"]["entry"] = json!(other));
    assert_eq!(entries.saw(&seen(&api)), Seen::News(Some(alice())));
    assert!(entries.all().is_empty());

    entries.apply(&record("alice", 1, 1)).await.unwrap();

    assert_eq!(entries_user(&api), "alice");
}

#[tokio::test]
async fn a_loss_from_before_our_own_write_is_none() {
    let api = Api::default();
    let (_, entries) = replica(&api);
    let first = entries.apply(&record("alice", 1, 1)).await.unwrap();
    let second = entries.apply(&record("bob", 2, 1)).await.unwrap();

    assert_eq!(entries.lost("key.team.alice", first), None);
    assert!(entries.of(&alice()).is_some());
    assert_eq!(entries.lost("key.team.alice", second), Some(alice()));
    assert!(entries.of(&alice()).is_none());
    // It was known already.
    assert_eq!(entries.lost("key.team.alice", second), None);
}

#[tokio::test]
async fn what_would_be_older_than_an_entry_waits_for_another_term() {
    let api = Api::default();
    let (leadership, entries) = replica(&api);
    entries.apply(&record("alice", 1, 1)).await.unwrap();
    let by_hand = ByteString(record("mallory", 1_000, 1).to_json().unwrap());
    api.edit(ALICE, |secret| secret["data"]["entry"] = json!(by_hand));
    entries.saw(&seen(&api));

    let refused = entries.apply(&record("alice", 1, 1)).await.unwrap_err();
    assert!(matches!(refused, Error::NotLeader), "{refused}");
    let next = entries.highest_term() + 1;
    leadership.hold(next);
    entries.apply(&record("alice", 1, next)).await.unwrap();

    assert_eq!(entries_user(&api), "alice");
}

#[tokio::test]
async fn the_highest_term_is_known() {
    let api = Api::default();
    let (leadership, entries) = replica(&api);
    assert_eq!(entries.highest_term(), 0);

    leadership.hold(7);
    entries.apply(&record("alice", 1, 7)).await.unwrap();

    assert_eq!(entries.highest_term(), 7);
}

#[test]
fn names_of_secrets_are_names_and_no_two_are_alike() {
    let name = |kind, namespace: &str, name: &str| {
        let namespace = Namespace::new(namespace);
        secret_name(&ResourceRef { kind, namespace, name: name.into() })
    };

    assert_eq!(name(Kind::Server, "team", "git"), "server.team.git");
    assert_ne!(name(Kind::Key, "a", "b.c"), name(Kind::Policy, "a", "b.c"));
    let (long, other) = ("k".repeat(253), format!("{}j", "k".repeat(252)));
    assert!(name(Kind::Key, &"n".repeat(63), &long).len() <= MAX_NAME);
    assert_ne!(name(Kind::Key, "a", &long), name(Kind::Key, "a", &other));
}
