//! Whole operators, with an apiserver in memory.

use gateway_core::{Entry, Record};
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::testing::resources::{ENTRIES, KEYS, SERVERS, key, manifest, policy, secret, server};
use crate::testing::{Api, Failure};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/fairway/leases/fairway-operator";
const ALICE: &str = "/apis/fairway.dev/v1alpha1/namespaces/team/mcpapikeys/alice";

fn options(identity: &str) -> Options {
    Options {
        namespace: "fairway".to_owned(),
        entries_namespace: "entries".to_owned(),
        release: "fairway".to_owned(),
        watch_namespaces: BTreeSet::new(),
        gateway_labels: vec![("component".to_owned(), "gateway".to_owned())],
        public_url: "https://mcp.example.com".to_owned(),
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        forbidden_ranges: Vec::new(),
        allowed_ranges: Vec::new(),
        identity: identity.to_owned(),
    }
}

async fn start(api: &Api, identity: &str) -> Operator {
    start_as(api, options(identity)).await.unwrap()
}

async fn start_as(api: &Api, options: Options) -> Result<Operator, StartError> {
    let listener = TcpListener::bind(options.admin_listen).await.unwrap();
    Operator::start_with(api.client(), listener, options).await
}

/// Until it is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let reached = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let found = timeout(Duration::from_secs(300), reached).await;
    assert!(found.is_ok(), "{what}");
}

fn record(api: &Api, name: &str) -> Option<Record> {
    let secret: Secret = serde_json::from_value(api.find(&format!("{ENTRIES}/{name}"))?).unwrap();
    Some(Record::parse(&secret.data.unwrap()["entry"].0).unwrap())
}

fn user(api: &Api) -> Option<String> {
    match record(api, "key.team.alice")?.entry {
        Entry::Key(key) => Some(key.user.to_string()),
        Entry::Server(_) | Entry::Policy(_) => panic!("no key"),
    }
}

async fn until_user(api: &Api, expected: &str) {
    until(&format!("the user is {expected}"), || user(api).as_deref() == Some(expected)).await;
}

fn rename(api: &Api, user: &str) {
    api.edit(ALICE, |key| key["spec"]["user"] = json!(user));
}

fn holder(api: &Api) -> Value {
    api.find(LEASE).map_or(Value::Null, |lease| lease["spec"]["holderIdentity"].clone())
}

/// The apiserver answers nobody.
fn cut_off(api: &Api) {
    for method in [Method::GET, Method::POST, Method::PATCH, Method::PUT, Method::DELETE] {
        api.fail(method, "/", Failure::Status(503), usize::MAX);
    }
    api.break_watches();
}

#[tokio::test(start_paused = true)]
async fn everything_comes_to_be_from_nothing() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    api.put(policy("all", json!({"subjects": [{"user": "alice"}], "rules": [{}]})));
    api.put(server("git", json!({"workload": {"image": "git:1"}})));
    api.put(server("web", json!({"url": "https://web.example.com"})));

    let operator = start(&api, "one").await;
    until("all have entries", || api.names(ENTRIES).len() == 5).await;

    assert_eq!(
        api.names(ENTRIES),
        ["config", "key.team.alice", "policy.team.all", "server.team.git", "server.team.web"]
    );
    assert_eq!(
        api.names("/api/v1/namespaces/fairway/secrets"),
        ["fairway-keys", "fairway-metrics-token"]
    );
    assert_eq!(holder(&api), "one");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_world_that_does_not_change_is_not_written_to() {
    let api = Api::default();
    api.put(secret("mine", "value", "a-key-of-my-own"));
    for (name, spec) in [
        ("alice", json!({"user": "alice"})),
        ("bad", json!({"user": ""})),
        (
            "mine",
            json!({"user": "a", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "value"}}}),
        ),
        (
            "missing",
            json!({"user": "a", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}),
        ),
    ] {
        api.put(key(name, spec));
    }
    for (name, spec) in [
        ("url", json!({"url": "https://web.example.com"})),
        (
            "workload",
            json!({
                "workload": {"image": "git:1", "replicas": 2, "args": [],
                    "resources": {"limits": {"cpu": "1000m"}}},
                "session": "PerClient",
            }),
        ),
        ("bad", json!({"url": "ftp://a"})),
        ("service", json!({"service": {"name": "missing"}})),
    ] {
        api.put(server(name, spec));
    }
    api.put(policy("all", json!({"subjects": [{"user": "alice"}], "rules": [{}]})));
    api.put(policy("bad", json!({"subjects": [], "rules": []})));

    let operator = start(&api, "one").await;
    sleep(Duration::from_secs(60)).await;
    api.calls();
    // Everything is looked at again six times, and all watches are made anew.
    sleep(Duration::from_secs(3600)).await;

    assert_eq!(api.briefs(), [""; 0]);
    assert!(api.everything().len() > 1000, "it looks");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_edits_end_in_the_last_one() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    let operator = start(&api, "one").await;
    until_user(&api, "alice").await;

    for number in 0..100 {
        rename(&api, &format!("user-{number}"));
        tokio::task::yield_now().await;
    }

    until_user(&api, "user-99").await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(user(&api).as_deref(), Some("user-99"));
    let status = api.find(ALICE).unwrap()["status"].clone();
    assert_eq!(status["observedGeneration"], 101);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_operators_one_writes() {
    let api = Api::default();
    let one = start(&api, "one").await;
    until("one leads", || holder(&api) == "one").await;
    let two = start(&api, "two").await;
    sleep(Duration::from_secs(10)).await;
    api.calls();

    api.put(key("alice", json!({"user": "alice"})));
    until_user(&api, "alice").await;
    sleep(Duration::from_secs(10)).await;

    // As many as one alone would write.
    assert_eq!(
        api.briefs(),
        ["POST secrets/team", "POST secrets/entries", "PATCH mcpapikeys/team/alice/status"]
    );
    assert_eq!(record(&api, "key.team.alice").unwrap().term, 1);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_waits_for_no_timer() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    let operator = start(&api, "one").await;
    until_user(&api, "alice").await;
    // What is due after its first status has passed.
    sleep(Duration::from_secs(10)).await;

    let began = Instant::now();
    rename(&api, "bob");
    // The clock goes on only when everybody waits for it.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }

    assert_eq!((user(&api).as_deref(), began.elapsed()), (Some("bob"), Duration::ZERO));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_only_watches() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    api.fail(Method::GET, "/leases/", Failure::Status(500), usize::MAX);
    let operator = start(&api, "one").await;
    sleep(Duration::from_secs(60)).await;
    api.calls();

    rename(&api, "bob");
    api.put(server("git", json!({"workload": {"image": "git:1"}})));
    sleep(Duration::from_secs(3600)).await;

    for call in api.calls() {
        // Its keys have to be those of now when it begins to lead.
        let is_look = call.method == Method::GET && call.path.ends_with("/secrets/fairway-keys");
        let is_own = is_look || call.path.contains("/leases/");
        let is_watch = call.query.contains("watch=");
        assert!(is_watch || is_own, "{} {}", call.method, call.path);
    }
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_is_followed_at_once_and_writes_no_more() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    let one = start(&api, "one").await;
    until_user(&api, "alice").await;
    let two = start(&api, "two").await;
    sleep(Duration::from_secs(5)).await;

    one.stop().await;
    assert_eq!(holder(&api), Value::Null);
    let stopped = Instant::now();
    rename(&api, "bob");
    until_user(&api, "bob").await;

    assert!(stopped.elapsed() < Duration::from_secs(1), "{:?}", stopped.elapsed());
    assert_eq!(holder(&api), "two");
    assert_eq!(record(&api, "key.team.alice").unwrap().term, 2);
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_takeover_writes_only_what_changed() {
    let api = Api::default();
    for name in ["alice", "bob", "carol"] {
        api.put(key(name, json!({"user": name})));
    }
    let one = start(&api, "one").await;
    until("all have entries", || api.names(ENTRIES).len() == 4).await;
    sleep(Duration::from_secs(10)).await;
    one.stop().await;
    rename(&api, "eve");
    api.remove(&format!("{KEYS}/bob"));
    api.calls();

    let two = start(&api, "two").await;
    until_user(&api, "eve").await;
    sleep(Duration::from_secs(60)).await;

    let mut writes = api.briefs();
    writes.sort();
    assert_eq!(
        writes,
        [
            "DELETE secrets/entries/key.team.bob",
            "PATCH mcpapikeys/team/alice/status",
            "PATCH secrets/entries/key.team.alice",
        ]
    );
    two.stop().await;
}

/// Revocations above all.
#[tokio::test(start_paused = true)]
async fn what_changed_while_nobody_led_is_in_force_within_a_second() {
    let api = Api::default();
    api.put(secret("mine", "value", "a-key-of-my-own"));
    let given =
        json!({"user": "a", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "value"}}});
    api.put(key("mine", given));
    for name in ["alice", "bob"] {
        api.put(key(name, json!({"user": name})));
    }
    let one = start(&api, "one").await;
    until("all have entries", || api.names(ENTRIES).len() == 4).await;
    one.stop().await;
    let before = record(&api, "key.team.mine");
    api.edit(ALICE, |key| key["spec"]["disabled"] = json!(true));
    api.remove(&format!("{KEYS}/bob"));
    api.put(secret("mine", "value", "another-of-my-own"));

    let two = start(&api, "two").await;
    until("two leads", || holder(&api) == "two").await;
    let leads = Instant::now();
    until(
        "alice is disabled",
        || matches!(record(&api, "key.team.alice").unwrap().entry, Entry::Key(key) if key.disabled),
    )
    .await;
    until("bob is gone", || record(&api, "key.team.bob").is_none()).await;
    until("the key is another", || record(&api, "key.team.mine") != before).await;

    // Before everything else is looked at.
    assert!(leads.elapsed() < Duration::from_millis(400), "{:?}", leads.elapsed());
    two.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_term_is_later_than_all_that_was_written() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    for turn in 1..=3 {
        let operator = start(&api, "one").await;
        rename(&api, &format!("user-{turn}"));
        until_user(&api, &format!("user-{turn}")).await;
        assert_eq!(record(&api, "key.team.alice").unwrap().term, turn);
        operator.stop().await;
        // Gateways would refuse what comes from a term that begins at one again.
        api.remove(LEASE);
    }
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_that_was_away_is_caught_up_with() {
    let api = Api::default();
    for name in ["alice", "bob"] {
        api.put(key(name, json!({"user": name})));
    }
    let operator = start(&api, "one").await;
    until("all have entries", || api.names(ENTRIES).len() == 3).await;

    cut_off(&api);
    sleep(Duration::from_secs(30)).await;
    rename(&api, "eve");
    api.remove(&format!("{KEYS}/bob"));
    api.mend();
    let back = Instant::now();
    until_user(&api, "eve").await;
    until("bob is gone", || record(&api, "key.team.bob").is_none()).await;

    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_that_is_away_at_the_start_is_waited_for() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    cut_off(&api);

    let (operator, ()) = tokio::join!(start(&api, "one"), async {
        sleep(Duration::from_secs(30)).await;
        api.mend();
    });

    until_user(&api, "alice").await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_keyring_is_no_keyring() {
    let api = Api::default();
    let mut damaged = secret("fairway-keys", "state.json", "{}");
    damaged["metadata"]["namespace"] = json!("fairway");
    api.put(damaged);

    let error = start_as(&api, options("one")).await.unwrap_err();

    assert!(matches!(error, StartError::Keyring(KeyringError::Damaged(_))), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_are_tried_again() {
    let api = Api::default();
    api.fail(Method::POST, "/namespaces/entries/", Failure::Status(500), 5);
    api.fail(Method::PATCH, "/status", Failure::Status(500), 5);
    api.put(key("alice", json!({"user": "alice"})));

    let operator = start(&api, "one").await;
    until_user(&api, "alice").await;
    until("its status is written", || !api.find(ALICE).unwrap()["status"].is_null()).await;

    // Whoever collected the key has the one that is in force.
    let handed_out: Secret = api.get("/api/v1/namespaces/team/secrets/mcp-key-alice");
    let key = String::from_utf8(handed_out.data.unwrap()["key"].0.clone()).unwrap();
    let prefix = api.find(ALICE).unwrap()["status"]["prefix"].clone();
    assert!(key.starts_with(prefix.as_str().unwrap()));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_read_is_told_so_and_holds_nobody_up() {
    let api = Api::default();
    let path = format!("{SERVERS}/git");
    api.put(server("git", json!({"url": "https://git.example.com"})));
    let operator = start(&api, "one").await;
    until("it has an entry", || record(&api, "server.team.git").is_some()).await;
    let before = record(&api, "server.team.git");

    api.edit(&path, |git| git["spec"]["url"] = json!(7));
    api.put(server("other", json!({"url": "https://other.example.com"})));
    until("the other has an entry", || record(&api, "server.team.other").is_some()).await;
    let condition = || api.find(&path).unwrap()["status"]["conditions"][0].clone();
    until("it is told", || condition()["reason"] == "Unreadable").await;

    assert_eq!(condition()["status"], "False");
    // The same each time.
    assert_eq!(condition()["lastTransitionTime"], "2026-01-01T00:00:00Z");
    let message = condition()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("the resource cannot be read"), "{message}");
    assert!(message.ends_with("the last good version stays in force"), "{message}");
    assert_eq!(record(&api, "server.team.git"), before);
    let version = api.find(&path).unwrap()["metadata"]["resourceVersion"].clone();
    sleep(Duration::from_secs(1800)).await;
    assert_eq!(api.find(&path).unwrap()["metadata"]["resourceVersion"], version);

    api.edit(&path, |git| git["spec"]["url"] = json!("https://new.example.com"));
    until("it is good again", || record(&api, "server.team.git") != before).await;
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn namespaces_that_are_not_watched_are_left_alone() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    api.put(manifest("McpApiKey", "other", "bob", json!({"user": "bob"})));

    let watching = Options { watch_namespaces: ["team".to_owned()].into(), ..options("one") };
    let operator = start_as(&api, watching).await.unwrap();
    until_user(&api, "alice").await;
    sleep(Duration::from_secs(60)).await;

    assert_eq!(api.names(ENTRIES), ["config", "key.team.alice"]);
    let asked = api.everything();
    let other = asked.iter().find(|call| call.path.contains("/namespaces/other"));
    assert!(other.is_none(), "{other:?}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_is_dropped_stops() {
    let api = Api::default();
    let operator = start(&api, "one").await;
    until("it leads", || holder(&api) == "one").await;

    drop(operator);

    until("it lets go", || holder(&api).is_null()).await;
    api.put(key("alice", json!({"user": "alice"})));
    sleep(Duration::from_secs(60)).await;
    assert!(record(&api, "key.team.alice").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_key_is_rotated_when_its_time_comes() {
    let api = Api::default();
    let rotation = json!({"interval": "1h", "overlap": "10m"});
    api.put(key("alice", json!({"user": "alice", "rotation": rotation})));
    let operator = start(&api, "one").await;
    until_user(&api, "alice").await;
    let minted = api.find(ALICE).unwrap();
    until("it is told when", || !api.find(ALICE).unwrap()["status"]["nextRotation"].is_null())
        .await;

    // Its clock is that of the system, which no test turns; but an annotation asks as well.
    api.edit(ALICE, |key| {
        key["metadata"]["annotations"] = json!({"fairway.dev/rotate": "please"});
    });
    until("there are two", || {
        matches!(record(&api, "key.team.alice").unwrap().entry, Entry::Key(key) if key.values.len() == 2)
    })
    .await;
    assert_ne!(api.find(ALICE), Some(minted));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_no_gateway_is_left_that_is_told() {
    let api = Api::default();
    api.put(key("alice", json!({"user": "alice"})));
    api.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "gateway", "namespace": "fairway", "labels": {"component": "gateway"}},
        "spec": {"containers": []},
        // Nobody listens there.
        "status": {"podIP": "127.0.0.1", "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]},
    }));
    let operator = start(&api, "one").await;
    let programmed = || {
        let all = api.find(ALICE).unwrap()["status"]["conditions"].clone();
        all[1]["reason"].clone()
    };
    until("it is pending", || programmed() == "Pending").await;

    api.remove("/api/v1/namespaces/fairway/pods/gateway");

    until("nothing is in force", || programmed() == "NoGateway").await;
    operator.stop().await;
}
