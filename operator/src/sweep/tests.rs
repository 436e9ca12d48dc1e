use http::Method;
use serde_json::json;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::*;
use crate::testing::resources::{ENTRIES, KEYS, SECRETS, SERVERS, key, manifest, server};
use crate::testing::{Api as Apiserver, Bench, Failure};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/fairway/leases/fairway-operator";

/// A bench on which departed resources are looked after.
struct Sweeper {
    bench: Bench,
    task: AbortHandle,
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sweeper {
    fn over(bench: Bench) -> Self {
        let task = tokio::spawn(run(bench.ctx.clone(), bench.departed.clone()));
        Self { bench, task: task.abort_handle() }
    }

    /// So many keys, each with its entry.
    async fn with_keys(count: usize) -> Self {
        let bench = Bench::new().await;
        for name in names(count) {
            bench.put(key(&name, json!({"user": name}))).await;
            bench.key(&name).await.unwrap();
        }
        bench.api.calls();
        Self::over(bench)
    }

    fn entries(&self) -> Vec<String> {
        self.bench.api.names(ENTRIES)
    }

    /// Until so many entries are left.
    async fn left(&self, count: usize) {
        let left = async {
            while self.entries().len() != count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let found = timeout(Duration::from_secs(120), left).await;
        assert!(found.is_ok(), "{} are left", self.entries().len());
        self.bench.settle().await;
    }

    /// Long enough for everything that might happen.
    async fn rest(&self) {
        sleep(Duration::from_secs(120)).await;
        self.bench.settle().await;
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key-{number:03}")).collect()
}

/// What was there when an operator that is gone now wrote its entries: keys, but without the keys.
async fn orphaned(count: usize) -> Apiserver {
    let sweeper = Sweeper::with_keys(count).await;
    for name in names(count) {
        sweeper.bench.api.remove(&format!("{KEYS}/{name}"));
    }
    // Before anybody looks.
    sweeper.task.abort();
    sweeper.bench.api.clone()
}

#[tokio::test(start_paused = true)]
async fn the_entry_goes_with_its_resource() {
    let sweeper = Sweeper::with_keys(2).await;

    sweeper.bench.api.remove(&format!("{KEYS}/key-000"));
    sweeper.left(1).await;

    assert_eq!(sweeper.entries(), ["key.team.key-001"]);
    // What was seen to go is not asked for.
    let asked = sweeper.bench.api.calls();
    assert!(asked.iter().all(|call| !call.path.contains("mcpapikeys")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn all_that_are_seen_to_go_go_however_many() {
    let sweeper = Sweeper::with_keys(50).await;

    for name in names(50) {
        sweeper.bench.api.remove(&format!("{KEYS}/{name}"));
    }

    sweeper.left(0).await;
}

#[tokio::test(start_paused = true)]
async fn what_went_while_nobody_looked_is_found() {
    let api = orphaned(3).await;

    let sweeper = Sweeper::over(Bench::over(api).await);
    sweeper.left(0).await;

    // Each was asked for first.
    let asked = sweeper.bench.api.calls();
    let asked = asked.iter().filter(|c| c.method == Method::GET && c.path.contains("mcpapikeys/"));
    assert_eq!(asked.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn too_many_are_left_until_there_is_leave() {
    let api = orphaned(21).await;
    let sweeper = Sweeper::over(Bench::over(api).await);
    sweeper.rest().await;

    assert_eq!(sweeper.entries().len(), 21);
    assert_eq!(sweeper.bench.ctx.telemetry.withheld.get(), 21);

    sweeper.bench.api.put(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "fairway-operator", "namespace": "fairway",
            "annotations": {LEAVE: "true"}},
    }));
    assert!(sweeper.bench.api.find(LEASE).is_some());
    sweeper.left(0).await;
    assert_eq!(sweeper.bench.ctx.telemetry.withheld.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_few_may_always_go() {
    let api = orphaned(20).await;

    Sweeper::over(Bench::over(api).await).left(0).await;
}

#[tokio::test(start_paused = true)]
async fn of_many_a_fifth_may_go() {
    let sweeper = Sweeper::with_keys(150).await;
    sweeper.task.abort();
    let api = sweeper.bench.api.clone();
    drop(sweeper);
    for name in names(30) {
        api.remove(&format!("{KEYS}/{name}"));
    }

    Sweeper::over(Bench::over(api.clone()).await).left(120).await;

    // 25 of 120 are more.
    for name in names(55).into_iter().skip(30) {
        api.remove(&format!("{KEYS}/{name}"));
    }
    let sweeper = Sweeper::over(Bench::over(api).await);
    sweeper.rest().await;
    assert_eq!(sweeper.entries().len(), 120);
}

#[tokio::test(start_paused = true)]
async fn without_the_crd_nothing_is_known_to_be_gone() {
    let api = orphaned(3).await;
    api.fail(Method::GET, "/mcpapikeys/", Failure::NoSuchPath, usize::MAX);

    let sweeper = Sweeper::over(Bench::over(api).await);
    sweeper.rest().await;
    assert_eq!(sweeper.entries().len(), 3);

    sweeper.bench.api.mend();
    sweeper.left(0).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_read_nothing_is_known_to_be_gone() {
    let api = orphaned(3).await;
    api.fail(Method::GET, "/mcpapikeys/", Failure::Status(403), usize::MAX);

    let sweeper = Sweeper::over(Bench::over(api).await);
    sweeper.rest().await;

    assert_eq!(sweeper.entries().len(), 3);
    // And it is not asked for again and again.
    let asked = sweeper.bench.api.calls();
    let asked = asked.iter().filter(|call| call.path.contains("mcpapikeys/")).count();
    assert!(asked <= 3 * 12, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn what_is_there_after_all_stays() {
    let bench = Bench::new().await;
    bench.put(key("alice", json!({"user": "alice"}))).await;
    bench.key("alice").await.unwrap();

    // As if the cache knew nothing of it.
    let resource = crate::context::reference(
        Kind::Key,
        &bench.api.get::<McpApiKey>(&format!("{KEYS}/alice")).metadata,
    );
    let uid = bench.record("key.team.alice").unwrap().uid;
    assert!(is_there(&bench.ctx, &resource, &uid).await.unwrap());
    assert!(!is_there(&bench.ctx, &resource, "uid of the one before").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_standby_deletes_nothing_and_a_new_leader_everything() {
    let sweeper = Sweeper::with_keys(2).await;
    let bench = &sweeper.bench;
    bench.ctx.leadership.lose();

    bench.api.remove(&format!("{KEYS}/key-000"));
    sweeper.rest().await;
    assert_eq!(sweeper.entries().len(), 2);
    assert!(bench.departed.take().0.is_empty(), "a standby would remember ever more");

    bench.ctx.leadership.hold(2);
    bench.departed.look();
    sweeper.left(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_is_tried_again_and_keeps_no_other_waiting() {
    let sweeper = Sweeper::with_keys(2).await;
    let api = &sweeper.bench.api;
    api.fail(Method::DELETE, "key.team.key-000", Failure::Status(500), 9);

    api.remove(&format!("{KEYS}/key-000"));
    // By now it waits for long before it tries again.
    sleep(Duration::from_secs(20)).await;
    api.remove(&format!("{KEYS}/key-001"));
    let removed = tokio::time::Instant::now();
    sweeper.left(1).await;
    assert!(removed.elapsed() < RETRY_FIRST, "{:?}", removed.elapsed());

    sweeper.left(0).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_made_anew_keeps_its_entry() {
    let sweeper = Sweeper::with_keys(1).await;
    let bench = &sweeper.bench;
    bench.api.fail(Method::DELETE, "key.team.key-000", Failure::Status(500), 3);

    bench.api.remove(&format!("{KEYS}/key-000"));
    // As the apiserver does.
    bench.api.remove(&format!("{SECRETS}/mcp-key-key-000"));
    bench.put(key("key-000", json!({"user": "new"}))).await;
    bench.key("key-000").await.unwrap();
    sweeper.rest().await;

    let uid = bench.api.find(&format!("{KEYS}/key-000")).unwrap()["metadata"]["uid"].clone();
    assert_eq!(json!(bench.record("key.team.key-000").unwrap().uid), uid);
}

#[tokio::test(start_paused = true)]
async fn namespaces_that_are_no_longer_watched_are_given_up() {
    let api = Apiserver::default();
    let bench = Bench::over(api.clone()).await;
    for namespace in ["team", "other"] {
        bench
            .put(manifest(
                "McpPolicy",
                namespace,
                "all",
                json!({
                    "subjects": [{"user": "alice"}], "rules": [{}],
                }),
            ))
            .await;
    }
    bench.policy("all").await.unwrap();
    let other: McpPolicy = api.get("/apis/fairway.dev/v1alpha1/namespaces/other/mcppolicies/all");
    crate::policy::reconcile(&other, &bench.ctx).await.unwrap();
    assert_eq!(api.names(ENTRIES), ["policy.other.all", "policy.team.all"]);
    drop(bench);
    // It may not be asked for there.
    api.fail(Method::GET, "/namespaces/other/", Failure::Status(403), usize::MAX);

    let sweeper = Sweeper::over(Bench::watching(api, &["team"]).await);

    sweeper.left(1).await;
    assert_eq!(sweeper.entries(), ["policy.team.all"]);
}

#[tokio::test(start_paused = true)]
async fn what_vanished_in_a_gap_is_asked_for_first() {
    let sweeper = Sweeper::with_keys(2).await;
    let api = &sweeper.bench.api;

    // Nobody sees it go: the watches are broken off, and everything is listed anew.
    api.break_watches();
    api.remove(&format!("{KEYS}/key-000"));
    sweeper.left(1).await;

    let asked = api.calls();
    assert!(asked.iter().any(|call| call.path.ends_with("/mcpapikeys/key-000")), "{asked:?}");
    assert_eq!(sweeper.entries(), ["key.team.key-001"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_a_resource_goes_with_it() {
    let sweeper = Sweeper::with_keys(1).await;
    let ctx = &sweeper.bench.ctx;
    let key: McpApiKey = sweeper.bench.api.get(&format!("{KEYS}/key-000"));
    let resource = crate::context::reference(Kind::Key, &key.metadata);
    ctx.failures.again(resource, &Error::Slow("try"));
    assert_eq!(ctx.failures.len(), 1);

    sweeper.bench.api.remove(&format!("{KEYS}/key-000"));
    sweeper.left(0).await;

    assert_eq!(ctx.failures.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_list_of_a_server_goes_with_it() {
    let bench = Bench::new().await;
    bench.put(server("git", json!({"url": "https://git.example.com/mcp"}))).await;
    bench.server("git").await.unwrap();
    let uid = bench.record("server.team.git").unwrap().uid;
    let verified =
        crate::server::catalogs::Verified::first(&uid, &gateway_core::Catalog::default());
    bench.ctx.catalogs.apply("team", "git", &verified, None).await.unwrap();
    bench.settle().await;
    let sweeper = Sweeper::over(bench);
    assert_eq!(sweeper.entries(), ["catalog.team.git", "server.team.git"]);

    sweeper.bench.api.remove(&format!("{SERVERS}/git"));

    sweeper.left(0).await;
}
