use gateway_core::Kind;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;
use crate::testing::Bench;
use crate::testing::resources::a_key;

fn resource() -> ResourceRef {
    ResourceRef { namespace: Namespace::new("team"), kind: Kind::Key, name: "alice".into() }
}

fn slow() -> Error {
    Error::Slow("write")
}

#[test]
fn failures_are_tried_again_ever_more_seldom() {
    let failures = Failures::default();

    for millis in [50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
        let expected = Action::requeue(Duration::from_millis(millis));
        assert_eq!(failures.again(resource(), &slow()), expected);
    }
    failures.forget(&resource());
    assert_eq!(failures.again(resource(), &slow()), Action::requeue(BACKOFF_FIRST));
    // However long it goes on.
    for _ in 0..100 {
        failures.again(resource(), &slow());
    }
    assert_eq!(failures.again(resource(), &slow()), Action::requeue(BACKOFF_LAST));
}

#[test]
fn what_another_write_came_before_is_tried_at_once() {
    let failures = Failures::default();
    let status = kube::core::Status { code: 409, ..kube::core::Status::failure("", "Conflict") };
    let conflict = Error::Kube("write", Box::new(kube::Error::Api(Box::new(status))));

    for _ in 0..5 {
        assert_eq!(failures.again(resource(), &conflict), Action::requeue(BACKOFF_FIRST));
    }
}

#[test]
fn a_look_is_due_after_a_while_or_when_time_changes_something() {
    let seconds = |action: Action| action.after.unwrap().as_secs_f64();

    for _ in 0..100 {
        assert!((540.0..=660.0).contains(&seconds(resync())));
        let far = Some(Duration::from_secs(86_400));
        assert!((540.0..=660.0).contains(&seconds(resync_before(far))));
    }
    let near = Some(Duration::from_secs(530));
    assert_eq!(resync_before(near), Action::requeue(Duration::from_secs(530)));
}

fn condition(type_: &str, status: &str, reason: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    }
}

#[test]
fn progress_is_no_news() {
    for (type_, status, reason, news) in [
        ("Ready", "True", "Ready", true),
        ("Ready", "False", "Invalid", false),
        ("Accepted", "True", "Accepted", false),
        ("Accepted", "False", "Invalid", true),
        ("Programmed", "False", "Pending", false),
        ("Programmed", "False", "NotAccepted", false),
        ("Programmed", "Unknown", "NoGateway", false),
        ("Available", "False", "Starting", false),
        ("Available", "False", "ImageNotPulled", true),
        ("Verified", "False", "GatewaysDisagree", true),
        ("Verified", "True", "Verified", false),
    ] {
        assert_eq!(is_news(&condition(type_, status, reason)), news, "{type_} {status} {reason}");
    }
}

#[tokio::test]
async fn what_is_the_same_is_told_once() {
    let bench = Bench::new().await;
    let key = a_key("alice", json!({"user": "alice"}));
    let before = [condition("Ready", "False", "Pending")];
    let now = [condition("Ready", "True", "Ready")];

    bench.ctx.tell(&key, &before, &now).await;
    bench.ctx.tell(&key, &now, &now).await;

    assert_eq!(bench.api.events().len(), 1);
}

#[tokio::test]
async fn an_event_that_cannot_be_published_is_left_out() {
    let bench = Bench::new().await;
    bench.api.fail(http::Method::POST, "/events", crate::testing::Failure::Status(403), 1);
    let key = a_key("alice", json!({"user": "alice"}));

    bench.ctx.publish(&key, true, "Ready", &"long ".repeat(1000)).await;
    assert!(bench.api.events().is_empty());
    bench.ctx.publish(&key, true, "Ready", &"long ".repeat(1000)).await;

    assert_eq!(bench.api.events()[0].1.len(), 1000);
}

#[test]
fn namespaces_are_watched_all_or_as_named() {
    let settings = |watched: Option<&[&str]>| Settings {
        namespace: String::new(),
        watch_namespaces: watched.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
        gateway_labels: Vec::new(),
        lease: String::new(),
        public_url: String::new(),
    };

    assert!(settings(None).watches("team"));
    assert!(settings(Some(&["team"])).watches("team"));
    assert!(!settings(Some(&["team"])).watches("other"));
}

#[tokio::test(start_paused = true)]
async fn a_status_waits_a_moment_for_the_gateways() {
    let bench = Bench::new().await;
    bench.ctx.gateways.set_pod("one", "one", true);
    bench.put(crate::testing::resources::key("alice", json!({"user": "alice"}))).await;
    let path = "/apis/fairway.dev/v1alpha1/namespaces/team/mcpapikeys/alice";

    let gateways = bench.ctx.gateways.clone();
    let late = async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let all = gateway_core::report::Watermark { resource_version: u64::MAX, complete: true };
        gateways.take("one", gateway_core::report::Line::Table(all));
    };
    let (done, ()) = tokio::join!(bench.key("alice"), late);

    done.unwrap();
    assert_eq!(bench.condition(path, "Programmed").0, "True");
    // One status said it all.
    let statuses = bench.api.briefs();
    let statuses = statuses.iter().filter(|brief| brief.ends_with("/status"));
    assert_eq!(statuses.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn statuses_wait_in_a_storm() {
    let bench = Bench::new().await;
    bench.gateway("one");
    bench.put(crate::testing::resources::key("alice", json!({"user": "alice"}))).await;
    (0..100).for_each(|_| bench.ctx.entries.pace().tick());

    let action = bench.key("alice").await.unwrap();
    assert_eq!(bench.api.briefs(), ["POST secrets/team", "POST secrets/entries"]);
    assert_ne!(action, Action::await_change());

    tokio::time::advance(Duration::from_secs(5)).await;
    bench.key("alice").await.unwrap();
    assert_eq!(bench.api.briefs(), ["PATCH mcpapikeys/team/alice/status"]);
}
