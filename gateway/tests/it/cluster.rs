//! Entries from the API of a cluster: what is taken, what is kept, and what nothing takes away.

use std::time::Duration;

use gateway_core::report::Line;
use gateway_core::{Entry, Record};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use crate::support::client::{Session, request, text, tool_names};
use crate::support::cluster::{
    ADMIN, ClusterStage, PEPPER, SEALING, key, key_peppered, key_with, server, service, uid,
};
use crate::support::fixture::{Fixture, tool};
use crate::support::stage::{ALICE, BOB, find};
use crate::support::{REVOKED, eventually, within_time};

async fn status(stage: &ClusterStage, key: &str) -> StatusCode {
    let ping = request(1, "ping", json!({}));
    stage.client().key(key).post("/mcp", ping).await.status
}

async fn tools(stage: &ClusterStage) -> Vec<String> {
    tool_names(&stage.alice().one_shot("/mcp", "tools/list", json!({})).await)
}

#[tokio::test]
async fn what_is_there_serves_and_what_changes_is_followed() {
    let (fixture, other) = (Fixture::start().await, Fixture::start().await);
    other.offer(&["play"]);
    let mut stage = ClusterStage::empty().await;
    stage.put(&key("alice", ALICE));
    stage.put(&server("one", &fixture.url()));
    // Others may keep things there, too.
    stage.api.put("sh.helm.release.v1", "helm.sh/release.v1", &[("release", b"x")]);
    stage.open().await;

    assert_eq!(tools(&stage).await, ["work"]);
    assert_eq!(status(&stage, BOB).await, StatusCode::UNAUTHORIZED);
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut listening = session.listen().await;

    stage.put(&key("bob", BOB));
    let version = stage.put(&server("two", &other.url()));
    stage.has_reached(version).await;
    assert_eq!(status(&stage, BOB).await, StatusCode::OK);
    listening.list_changed().await;
    assert_eq!(session.tools().await, ["play", "work"]);

    let version = stage.put(&server("two", &fixture.url()));
    stage.has_reached(version).await;
    stage.api.delete("server.default.one");
    listening.list_changed().await;
    eventually("the tools of the new address", || async {
        (session.tools().await == ["work"]).then_some(())
    })
    .await;

    let version = stage.api.delete("key.default.bob");
    stage.has_reached(version).await;
    assert_eq!(status(&stage, BOB).await, StatusCode::UNAUTHORIZED);
    assert_eq!(session.tools().await, ["work"]);
}

#[tokio::test]
async fn an_empty_namespace_is_a_complete_table() {
    let mut stage = ClusterStage::empty().await;
    stage.api.delete("config");
    stage.open().await;

    assert_eq!(status(&stage, ALICE).await, StatusCode::UNAUTHORIZED);
    assert_eq!(stage.client().get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_large_namespace_is_read_in_pages() {
    let mut stage = ClusterStage::empty().await;
    for number in 0..1200 {
        stage.put(&key(&format!("k{number:04}"), &format!("key-number-{number:04}")));
    }
    let last = stage.put(&key("alice", ALICE));
    stage.open().await;

    stage.has_reached(last).await;
    for key in [ALICE, "key-number-0000", "key-number-0777", "key-number-1199"] {
        assert_eq!(status(&stage, key).await, StatusCode::OK, "{key}");
    }
    assert!(stage.api.asked().0 >= 3);
}

#[tokio::test]
async fn after_a_new_list_what_it_does_not_name_is_gone() {
    let fixture = Fixture::start().await;
    let stage = ClusterStage::start().await;
    stage.put(&key("bob", BOB));
    let version = stage.put(&server("gone", &fixture.url()));
    stage.has_reached(version).await;
    assert_eq!(status(&stage, BOB).await, StatusCode::OK);

    stage.api.delete_unseen("key.default.bob");
    stage.api.delete_unseen("server.default.gone");
    let version = stage.put_unseen(&key("carol", "carol-key-def456"));
    stage.api.compact();

    stage.has_reached(version).await;
    assert_eq!(status(&stage, "carol-key-def456").await, StatusCode::OK);
    assert_eq!(status(&stage, BOB).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&stage, ALICE).await, StatusCode::OK);
    assert!(find(&stage.readyz().await, "gone").is_null());
}

#[tokio::test]
async fn an_api_that_is_away_or_refuses_takes_nothing_away() {
    let mut stage = ClusterStage::start().await;
    assert_eq!(status(&stage, ALICE).await, StatusCode::OK);

    for refusal in [Some(StatusCode::FORBIDDEN), Some(StatusCode::NOT_FOUND), None] {
        match refusal {
            Some(refusal) => {
                stage.api.refuse(Some(refusal));
                stage.api.compact();
                stage.api.is_asked_again().await;
            }
            None => stage.api.kill().await,
        }
        let ready = stage.ready_when("stale", |ready| ready["stale"].is_object()).await;
        assert_eq!(ready["status"], "ready", "{ready}");
        assert_eq!(status(&stage, ALICE).await, StatusCode::OK, "{refusal:?}");
        let metrics = stage.operator().get("/metrics").await;
        let stale = "fairway_table_staleness_seconds ";
        let value = metrics.text().lines().find_map(|line| line.strip_prefix(stale)).unwrap();
        assert!(value.parse::<f64>().unwrap() > 0.0, "{value}");

        stage.put_unseen(&key("bob", BOB));
        stage.api.refuse(None);
        if refusal.is_none() {
            // A watch from before goes on where it was: what it missed is told.
            stage.put(&key("bob", BOB));
            stage.api.revive().await;
        }
        eventually("what changed meanwhile", || async {
            (status(&stage, BOB).await == StatusCode::OK).then_some(())
        })
        .await;
        stage.ready_when("not stale", |ready| ready["stale"].is_null()).await;
        let version = stage.api.delete("key.default.bob");
        stage.has_reached(version).await;
    }
}

#[tokio::test]
async fn a_gateway_waits_for_an_api_that_is_not_there_yet() {
    let mut stage = ClusterStage::empty().await;
    stage.put(&key("alice", ALICE));
    stage.api.kill().await;
    stage.open().await;

    let ready = stage.client().get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json(), json!({"status": "starting"}));
    assert_eq!(stage.client().get("/health").await.json(), json!({"status": "ok"}));
    let stale = stage.ready_when("a reason", |ready| ready["stale"].is_object()).await;
    assert_eq!(stale["status"], "starting");

    stage.api.revive().await;
    eventually("alice", || async { (status(&stage, ALICE).await == StatusCode::OK).then_some(()) })
        .await;
}

#[tokio::test]
async fn an_empty_list_is_not_believed_and_made_again() {
    let stage = ClusterStage::start().await;
    assert_eq!(status(&stage, ALICE).await, StatusCode::OK);

    stage.api.delete_unseen("key.default.alice");
    stage.api.delete_unseen("config");
    stage.api.compact();
    let lost = |ready: &serde_json::Value| {
        ready["stale"]["reason"].as_str().is_some_and(|reason| reason.contains("empty"))
    };
    stage.ready_when("the doubt", lost).await;
    assert_eq!(status(&stage, ALICE).await, StatusCode::OK);

    // The operator is back: what it writes is all there is.
    stage.put_unseen(&key("bob", BOB));
    eventually("the end of alice", || async {
        (status(&stage, ALICE).await == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    assert_eq!(status(&stage, BOB).await, StatusCode::OK);
}

fn disabled(term: i64, generation: i64, disabled: bool) -> Record {
    let fields = format!("allow: {{}}\ndisabled: {disabled}");
    let mut record = key_with("alice", ALICE, &fields);
    (record.term, record.generation) = (term, generation);
    record
}

#[tokio::test]
async fn what_a_former_leader_writes_is_refused_and_told() {
    let mut stage = ClusterStage::empty().await;
    stage.put(&disabled(2, 5, true));
    stage.open().await;
    let mut report = stage.report().await;

    for (record, reason) in [(disabled(1, 9, false), "term 1"), (disabled(2, 4, false), "term 2")] {
        let version = stage.put(&record);
        let rejected = |line: &Line| match line {
            Line::Rejected(all) if all.iter().any(|one| one.reason.contains(reason)) => {
                Some(all.clone())
            }
            _ => None,
        };
        let rejected = report.until(reason, rejected).await;
        assert_eq!((rejected.len(), &*rejected[0].entry), (1, "key.default.alice"));
        // The refusal comes before the word that everything up to there is in force.
        report.reaches(version).await;
        assert_eq!(status(&stage, ALICE).await, StatusCode::UNAUTHORIZED);
    }

    for record in [disabled(2, 6, false), disabled(3, 1, false)] {
        let version = stage.put(&record);
        let none =
            |line: &Line| matches!(line, Line::Rejected(all) if all.is_empty()).then_some(());
        if record.term == 2 {
            report.until("nothing is refused", none).await;
        }
        report.reaches(version).await;
        assert_eq!(status(&stage, ALICE).await, StatusCode::OK);
    }
    // Another resource of that name knows nothing of the one before.
    let mut anew = disabled(1, 1, true);
    anew.uid = "another".to_owned();
    let version = stage.put(&anew);
    report.reaches(version).await;
    assert_eq!(status(&stage, ALICE).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_resource_made_anew_as_it_was_is_in_force() {
    let stage = ClusterStage::start().await;
    assert_eq!(status(&stage, ALICE).await, StatusCode::OK);

    // Its entry was written over: nobody saw it go.
    let mut anew = key("alice", ALICE);
    anew.uid = "another".to_owned();
    let version = stage.put(&anew);

    stage.has_reached(version).await;
    assert_eq!(status(&stage, ALICE).await, StatusCode::OK);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_leaves_the_last_good_one() {
    let stage = ClusterStage::start().await;
    let bad = "fairway.dev/entry";
    for (name, kind, data, reason) in [
        ("key.default.alice", bad, ("entry", b"{}".as_slice()), "cannot be read"),
        ("key.default.alice", bad, ("entry", br#"{"version":9}"#.as_slice()), "upgrade"),
        ("key.default.alice", bad, ("other", b"".as_slice()), "no data key entry"),
        ("config", "fairway.dev/config", ("forbidden", b"[]".as_slice()), "forbidden"),
        ("catalog.a.b.c", "fairway.dev/catalog", ("uid", b"".as_slice()), "its name is not"),
    ] {
        let version = stage.api.put(name, kind, &[data]);
        stage.has_reached(version).await;
        let ready = stage.readyz().await;
        let all = ready["rejected"].as_array().unwrap();
        let told = all.iter().find(|rejected| rejected["file"] == name);
        let told = told.and_then(|told| told["reason"].as_str()).unwrap_or_default();
        assert!(told.contains(reason), "{name} {reason}: {ready}");
        assert_eq!(status(&stage, ALICE).await, StatusCode::OK, "{reason}");
    }

    let mut twice = key("alice", BOB);
    twice.uid = "other".to_owned();
    let json = twice.to_json().unwrap();
    let version = stage.api.put("key.default.copy", bad, &[("entry", &json)]);
    stage.has_reached(version).await;
    let ready = stage.readyz().await.to_string();
    assert!(ready.contains("is already in key.default.alice"), "{ready}");

    stage.put(&key("alice", ALICE));
    stage.api.delete("catalog.a.b.c");
    stage.api.delete("key.default.copy");
    let version = stage.forbid(&[], &["127.0.0.0/8"]);
    stage.has_reached(version).await;
    assert_eq!(stage.readyz().await["rejected"], json!([]));
    // It was gone for good when its Secret was.
    let version = stage.api.delete("key.default.alice");
    stage.has_reached(version).await;
    assert_eq!(status(&stage, ALICE).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_value_of_a_key_that_ends_takes_its_streams_along_and_leaves_the_others() {
    let stage = ClusterStage::start().await;
    let (old, new) = (key("alice", ALICE), key("alice", BOB));
    let (Entry::Key(old), Entry::Key(new)) = (&old.entry, &new.entry) else { unreachable!() };
    let mut before = old.values[0].clone();
    before.not_after = Some(Timestamp::now() + Duration::from_millis(1500));
    let mut rotated = (**old).clone();
    rotated.values = vec![new.values[0].clone(), before];
    let mut ending = stage.alice().stream("/sse").await;
    let mut record = key("alice", ALICE);
    record.entry = Entry::Key(rotated.into());

    let version = stage.put(&record);
    stage.has_reached(version).await;
    for key in [ALICE, BOB] {
        assert_eq!(status(&stage, key).await, StatusCode::OK, "both are good");
    }
    let mut staying = stage.client().key(BOB).stream("/sse").await;
    assert!(staying.next().await.is_some());

    within_time("the end of the stream", Duration::from_millis(1500) + REVOKED, async {
        while ending.next().await.is_some() {}
    })
    .await;
    assert_eq!(status(&stage, ALICE).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&stage, BOB).await, StatusCode::OK);
}

#[tokio::test]
async fn a_stored_list_serves_until_the_server_lists_itself() {
    let fixture = Fixture::start().await;
    fixture.offer(&["live"]);
    let gate = fixture.hold("initialize");
    let mut stage = ClusterStage::empty().await;
    stage.put(&key("alice", ALICE));
    stage.put(&server("one", &fixture.url()));
    stage.store("one", &uid("one"), &json!([tool("stored")]));
    stage.open().await;

    // At once: nobody waits for the server.
    assert_eq!(tools(&stage).await, ["stored"]);
    let version = stage.store("one", &uid("one"), &json!([tool("stored"), tool("later")]));
    stage.has_reached(version).await;
    assert_eq!(tools(&stage).await, ["later", "stored"]);
    assert_eq!(stage.operator().get("/catalog/default/one").await.status, StatusCode::NOT_FOUND);
    // A call waits for a server that was just begun, as after a restart under open sessions.
    let alice = stage.alice();
    let early = tokio::spawn(async move {
        alice.one_shot("/mcp", "tools/call", json!({"name": "stored", "arguments": {}})).await
    });
    fixture.sees("initialize", 1).await;

    gate.cancel();
    assert_eq!(text(&early.await.unwrap()), "done");
    eventually("the live list", || async { (tools(&stage).await == ["live"]).then_some(()) }).await;
    let version = stage.store("one", &uid("one"), &json!([tool("stored")]));
    stage.has_reached(version).await;
    assert_eq!(tools(&stage).await, ["live"]);
    let list = stage.operator().get("/catalog/default/one").await;
    assert_eq!(list.json()["tools"], json!([tool("live")]));
}

#[tokio::test]
async fn a_list_of_another_resource_is_not_the_servers() {
    let fixture = Fixture::start().await;
    let _gate = fixture.hold("initialize");
    let mut stage = ClusterStage::empty().await;
    stage.put(&key("alice", ALICE));
    stage.store("one", "the one before", &json!([tool("stale")]));
    stage.store("late", &uid("late"), &json!([tool("late")]));
    // Too large for a Secret: only what it is known by is kept.
    stage.api.put("catalog.default.two", "fairway.dev/catalog", &[("uid", b"x")]);
    stage.put(&server("one", &fixture.url()));
    stage.open().await;
    let version = stage.put(&server("late", &fixture.url()));
    stage.has_reached(version).await;

    assert_eq!(tools(&stage).await, ["late"]);
    assert_eq!(stage.readyz().await["rejected"], json!([]));
    // Deleted and made anew between two looks: its list went with it.
    let mut anew = server("late", &fixture.url());
    anew.uid = "anew".to_owned();
    let version = stage.put(&anew);
    stage.has_reached(version).await;
    assert_eq!(tools(&stage).await, [""; 0]);
}

#[tokio::test]
async fn a_service_is_dialled_at_its_address_with_its_own_name() {
    let fixture = Fixture::start().await;
    let port = fixture.url().rsplit(':').next().unwrap().trim_end_matches("/mcp").parse().unwrap();
    let mut stage = ClusterStage::empty().await;
    // Addresses of Services are the operator's to give, whatever is forbidden.
    stage.forbid(&["127.0.0.0/8"], &[]);
    stage.put(&key("alice", ALICE));
    stage.put(&service("svc", "127.0.0.1".parse().unwrap(), port));
    stage.open().await;

    eventually("its tools", || async { (tools(&stage).await == ["work"]).then_some(()) }).await;
    let seen = fixture.seen_of("initialize");
    assert_eq!(seen[0].headers["host"], format!("svc.default.svc:{port}"));
}

#[tokio::test]
async fn a_rotated_keyring_is_in_force_without_a_restart() {
    const NEW: [u8; 32] = [8; 32];
    const ANOTHER: &str = "another-admin-token-0123";
    let stage = ClusterStage::start().await;
    let old = Session::open(&stage.alice(), "/mcp").await;
    let bob = key_peppered("bob", BOB, "allow: {servers: [\"*\"]}", &NEW);
    let version = stage.put(&bob);
    stage.has_reached(version).await;
    assert_eq!(status(&stage, BOB).await, StatusCode::UNAUTHORIZED);

    // What is damaged changes nothing.
    stage.write_state_file("{");
    // Both are good while the operator goes from one to the other.
    stage.write_keys(&[NEW, PEPPER], &[NEW, SEALING], ADMIN);
    eventually("the new pepper", || async {
        (status(&stage, BOB).await == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(status(&stage, ALICE).await, StatusCode::OK);
    let ping = || request(1, "ping", json!({}));
    assert_eq!(old.post(ping()).await.status, StatusCode::OK);
    let fresh = Session::open(&stage.client().key(BOB), "/mcp").await;

    stage.write_keys(&[NEW], &[NEW], ANOTHER);
    let admin = |token: &str| stage.admin().with("authorization", &format!("Bearer {token}"));
    eventually("the new token", || async {
        (admin(ANOTHER).get("/metrics").await.status == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(admin(ADMIN).get("/metrics").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&stage, ALICE).await, StatusCode::UNAUTHORIZED, "its digest is of no pepper");
    assert_eq!(fresh.post(ping()).await.status, StatusCode::OK);

    stage.put(&key_peppered("alice", ALICE, "allow: {servers: [\"*\"]}", &NEW));
    eventually("alice", || async { (status(&stage, ALICE).await == StatusCode::OK).then_some(()) })
        .await;
    assert_eq!(old.post(ping()).await.status, StatusCode::NOT_FOUND, "its seal is of no key");
}
