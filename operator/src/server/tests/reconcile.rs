//! Reconciles against an apiserver in memory.

use gateway_core::report::{Line, ServerState};
use gateway_core::{Catalog, Entry};
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, timeout};

use super::{catalog, report};
use crate::server::names::headless_name;
use crate::server::verify::ACCEPT;
use crate::testing::resources::{DEPLOYMENTS, SERVICES, secret, server, service};
use crate::testing::{Bench, Failure, Gateway};

const GIT: &str = "/apis/fairway.dev/v1alpha1/namespaces/team/mcpservers/git";
const ENTRY: &str = "server.team.git";

async fn with_git(spec: Value) -> Bench {
    let bench = Bench::new().await;
    bench.gateway("one");
    bench.put(server("git", spec)).await;
    bench.api.calls();
    bench
}

fn workload() -> Value {
    json!({"workload": {"image": "git:1"}})
}

fn url() -> Value {
    json!({"url": "https://git.example.com/mcp"})
}

/// It runs: what was made is seen, and the entry written.
async fn running(bench: &Bench) {
    bench.server("git").await.unwrap();
    bench.server("git").await.unwrap();
    bench.api.calls();
}

fn address(bench: &Bench) -> Option<String> {
    let Entry::Server(entry) = bench.record(ENTRY)?.entry else { panic!("no server") };
    Some(entry.endpoint.address.map_or_else(|| "none".to_owned(), |address| address.to_string()))
}

#[tokio::test]
async fn a_workload_is_closed_before_it_runs_and_told_when_it_has_an_address() {
    let bench = with_git(workload()).await;

    bench.server("git").await.unwrap();
    assert_eq!(
        bench.api.briefs(),
        [
            "PATCH networkpolicies/team/mcp-git",
            "PATCH serviceaccounts/team/mcp-git",
            "PATCH services/team/mcp-git",
            "PATCH deployments/team/mcp-git",
            "PATCH mcpservers/team/git/status",
        ]
    );
    assert!(bench.record(ENTRY).is_none());
    assert_eq!(bench.condition(GIT, "Programmed").1, "Pending");

    bench.server("git").await.unwrap();
    assert_eq!(bench.api.briefs(), ["POST secrets/entries", "PATCH mcpservers/team/git/status"]);
    let service = bench.api.find(&format!("{SERVICES}/mcp-git")).unwrap();
    assert_eq!(json!(address(&bench)), service["spec"]["clusterIP"]);
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changed() {
    for spec in [
        url(),
        workload(),
        json!({"workload": {
            "image": "git:1", "replicas": 2, "command": [], "env": [{"name": "A", "value": ""}],
        }, "session": "PerClient"}),
    ] {
        let bench = with_git(spec.clone()).await;
        running(&bench).await;

        for _ in 0..3 {
            bench.server("git").await.unwrap();
        }

        assert_eq!(bench.api.briefs(), [""; 0], "{spec}");
    }
}

#[tokio::test]
async fn drift_is_mended() {
    let bench = with_git(workload()).await;
    running(&bench).await;

    bench.api.edit(&format!("{DEPLOYMENTS}/mcp-git"), |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil:1");
    });
    bench.server("git").await.unwrap();
    assert_eq!(bench.api.briefs(), ["PATCH deployments/team/mcp-git"]);

    bench.api.remove("/apis/networking.k8s.io/v1/namespaces/team/networkpolicies/mcp-git");
    bench.server("git").await.unwrap();
    assert_eq!(bench.api.briefs(), ["PATCH networkpolicies/team/mcp-git"]);
}

#[tokio::test]
async fn another_image_is_rolled_out_and_the_entry_follows_the_generation() {
    let bench = with_git(workload()).await;
    running(&bench).await;

    bench.api.edit(GIT, |git| git["spec"]["workload"]["image"] = json!("git:2"));
    bench.server("git").await.unwrap();

    assert_eq!(
        bench.api.briefs(),
        [
            "PATCH deployments/team/mcp-git",
            "PATCH secrets/entries/server.team.git",
            "PATCH mcpservers/team/git/status"
        ]
    );
    assert_eq!(bench.record(ENTRY).unwrap().generation, 2);
}

#[tokio::test]
async fn an_invalid_server_leaves_the_last_good_version_in_force_and_says_so() {
    let bench = with_git(workload()).await;
    running(&bench).await;
    let before = bench.record(ENTRY);

    bench.api.edit(GIT, |git| git["spec"]["workload"]["image"] = json!(""));
    bench.server("git").await.unwrap();

    assert_eq!(bench.record(ENTRY), before);
    assert_eq!(bench.api.briefs(), ["PATCH mcpservers/team/git/status"]);
    for (type_, reason) in
        [("Accepted", "Invalid"), ("Programmed", "NotAccepted"), ("Ready", "Invalid")]
    {
        let (status, found, message) = bench.condition(GIT, type_);
        assert_eq!((&*status, &*found), ("False", reason), "{type_}");
        assert!(message.ends_with("the last good version stays in force"), "{type_}: {message}");
    }
    let events = bench.api.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].0, "Invalid");
}

#[tokio::test]
async fn what_the_apiserver_does_not_run_is_told_and_tried_again() {
    let bench = with_git(workload()).await;
    running(&bench).await;
    let before = bench.record(ENTRY);
    bench.api.edit(GIT, |git| git["spec"]["workload"]["image"] = json!("git:2"));
    bench.api.fail(Method::PATCH, "/deployments/", Failure::Status(422), 1);

    let refused = bench.server("git").await.unwrap_err();

    assert_eq!(refused.reason(), "refused");
    let (status, reason, message) = bench.condition(GIT, "Accepted");
    assert_eq!((&*status, &*reason), ("False", "WorkloadRefused"));
    assert!(message.contains("cannot run the server"), "{message}");
    assert!(message.ends_with("the last good version stays in force"), "{message}");
    assert_eq!(bench.record(ENTRY), before);

    bench.server("git").await.unwrap();
    assert_eq!(bench.condition(GIT, "Accepted").0, "True");
    assert_eq!(bench.record(ENTRY).unwrap().generation, 2);
}

#[tokio::test]
async fn an_object_of_somebody_else_is_neither_changed_nor_deleted() {
    let bench = with_git(workload()).await;
    // Without the label that is watched, so that nobody sees it before it is in the way.
    bench
        .put(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "mcp-git", "namespace": "team"},
            "spec": {"selector": {"matchLabels": {"app": "mine"}}, "template": {}},
        }))
        .await;
    let before = bench.api.find(&format!("{DEPLOYMENTS}/mcp-git"));

    bench.server("git").await.unwrap_err();
    assert_eq!(bench.condition(GIT, "Accepted").1, "WorkloadRefused");
    bench.api.edit(GIT, |git| git["spec"] = url());
    bench.server("git").await.unwrap();

    assert_eq!(bench.api.find(&format!("{DEPLOYMENTS}/mcp-git")), before);
}

#[tokio::test]
async fn a_server_that_goes_elsewhere_ends_its_pods_when_nobody_calls_them() {
    let bench = with_git(workload()).await;
    running(&bench).await;
    // It does not know yet where the server went.
    bench.ctx.gateways.set_pod("two", "two", true);

    bench.api.edit(GIT, |git| git["spec"] = url());
    bench.server("git").await.unwrap();
    assert_eq!(
        bench.api.briefs(),
        ["PATCH secrets/entries/server.team.git", "PATCH mcpservers/team/git/status"]
    );
    assert_eq!(address(&bench).as_deref(), Some("none"));

    bench.gateway("two");
    bench.server("git").await.unwrap();
    assert_eq!(
        bench.api.briefs(),
        [
            "DELETE deployments/team/mcp-git",
            "DELETE services/team/mcp-git",
            "DELETE serviceaccounts/team/mcp-git",
            "DELETE networkpolicies/team/mcp-git",
            "PATCH mcpservers/team/git/status",
        ]
    );
    bench.server("git").await.unwrap();
    assert!(bench.api.writes().is_empty());
}

#[tokio::test]
async fn a_headless_service_comes_and_goes_with_the_need_for_it() {
    let bench = with_git(json!({
        "workload": {"image": "git:1", "replicas": 2}, "session": "PerClient",
    }))
    .await;
    running(&bench).await;
    let headless = headless_name("git");
    assert!(bench.api.find(&format!("{SERVICES}/{headless}")).is_some());

    bench.api.edit(GIT, |git| git["spec"]["workload"]["replicas"] = json!(1));
    bench.server("git").await.unwrap();

    assert!(bench.api.find(&format!("{SERVICES}/{headless}")).is_none());
    assert!(bench.api.find(&format!("{SERVICES}/mcp-git")).is_some());
}

/// A cluster IP that is given back may be another tenant's the next moment.
#[tokio::test]
async fn a_server_whose_service_goes_is_withdrawn_and_comes_back_with_it() {
    let bench = with_git(json!({"service": {"name": "backend"}})).await;
    bench.server("git").await.unwrap();
    assert!(bench.record(ENTRY).is_none());
    assert_eq!(bench.condition(GIT, "Accepted").1, "ServiceNotFound");

    bench.put(service("backend", &[80])).await;
    bench.server("git").await.unwrap();
    let first = address(&bench).unwrap();

    bench.api.remove(&format!("{SERVICES}/backend"));
    bench.server("git").await.unwrap();
    assert!(bench.record(ENTRY).is_none());
    let (_, reason, message) = bench.condition(GIT, "Accepted");
    assert_eq!(reason, "ServiceNotFound");
    assert!(!message.contains("last good"), "{message}");

    bench.put(service("backend", &[80])).await;
    bench.server("git").await.unwrap();
    assert_ne!(address(&bench).unwrap(), first);
}

#[tokio::test]
async fn a_service_that_turns_into_another_kind_is_withdrawn() {
    let bench = with_git(json!({"service": {"name": "backend"}})).await;
    for change in [
        json!({"type": "ExternalName", "externalName": "evil.example"}),
        json!({"selector": null}),
        json!({"clusterIP": "10.96.99.99", "ports": []}),
    ] {
        bench.put(service("backend", &[80])).await;
        bench.server("git").await.unwrap();
        assert!(bench.record(ENTRY).is_some(), "{change}");

        bench.api.edit(&format!("{SERVICES}/backend"), |service| {
            for (field, value) in change.as_object().unwrap() {
                service["spec"][field] = value.clone();
            }
        });
        bench.server("git").await.unwrap();
        assert!(bench.record(ENTRY).is_none(), "{change}");
        bench.api.remove(&format!("{SERVICES}/backend"));
    }
}

#[tokio::test]
async fn a_service_that_only_got_another_port_goes_on_as_it_was() {
    let bench = with_git(json!({"service": {"name": "backend"}})).await;
    bench.put(service("backend", &[80])).await;
    bench.server("git").await.unwrap();
    let before = bench.record(ENTRY);

    bench.put(service("backend", &[80, 81])).await;
    bench.server("git").await.unwrap();

    assert_eq!(bench.record(ENTRY), before);
    let (_, reason, message) = bench.condition(GIT, "Accepted");
    assert_eq!(reason, "ServiceNotUsable");
    assert!(message.ends_with("the last good version stays in force"), "{message}");
}

#[tokio::test]
async fn a_workload_whose_service_is_deleted_gets_another_and_its_address() {
    let bench = with_git(workload()).await;
    running(&bench).await;
    let first = address(&bench).unwrap();

    bench.api.remove(&format!("{SERVICES}/mcp-git"));
    bench.server("git").await.unwrap();
    assert!(bench.record(ENTRY).is_none(), "whose address is it now?");
    bench.server("git").await.unwrap();

    assert_ne!(address(&bench).unwrap(), first);
}

#[tokio::test]
async fn a_credential_is_read_again_when_its_secret_changes() {
    let bench = with_git(json!({
        "url": "https://git.example.com",
        "credentials": {"secretRef": {"name": "token", "key": "value"}},
    }))
    .await;
    bench.server("git").await.unwrap();
    assert_eq!(bench.condition(GIT, "Accepted").1, "SecretNotUsable");

    let credential = |bench: &Bench| {
        let Entry::Server(entry) = bench.record(ENTRY).unwrap().entry else { panic!() };
        entry.credential.clone().unwrap().value.to_str().unwrap().to_owned()
    };
    for value in ["first", "second"] {
        bench.put(secret("token", "value", value)).await;
        bench.server("git").await.unwrap();
        assert_eq!(credential(&bench), format!("Bearer {value}"));
    }
    bench.api.remove("/api/v1/namespaces/team/secrets/token");
    bench.server("git").await.unwrap();
    assert_eq!(credential(&bench), "Bearer second");
    assert_eq!(bench.condition(GIT, "Accepted").1, "SecretNotUsable");
}

#[tokio::test]
async fn a_leader_that_lost_its_term_writes_nothing() {
    let bench = with_git(workload()).await;
    bench.ctx.leadership.lose();

    let error = bench.server("git").await.unwrap_err();

    assert_eq!(error.reason(), "not_leader");
    assert!(bench.api.writes().is_empty());
}

#[tokio::test]
async fn a_conflict_is_tried_again() {
    let bench = with_git(url()).await;
    bench.api.fail(Method::POST, "/namespaces/entries/", Failure::Status(409), 1);

    let conflict = bench.server("git").await.unwrap_err();
    assert!(conflict.is_conflict(), "{conflict}");

    bench.server("git").await.unwrap();
    assert!(bench.record(ENTRY).is_some());
}

/// A bench whose gateway is a pod with a report of its own.
struct Reported {
    bench: Bench,
    gateway: Gateway,
}

impl Reported {
    async fn new(spec: Value) -> Self {
        let (bench, gateway) = (Bench::new().await, Gateway::start("one").await);
        gateway.knows_all();
        bench.put(gateway.pod(true)).await;
        bench.put(server("git", spec)).await;
        Self { bench, gateway }
    }

    /// The gateway lists this; it is looked at until the status says this of it.
    async fn lists(&self, catalog: &Catalog, reason: &str) {
        self.gateway.lists("git", catalog);
        self.reports(catalog);
        self.until(reason).await;
    }

    fn reports(&self, catalog: &Catalog) {
        let uid = self.bench.api.find(GIT).unwrap()["metadata"]["uid"].clone();
        let mut report = report(ServerState::Connected, Some(catalog));
        report.uid = uid.as_str().unwrap().to_owned();
        self.gateway.tell(&Line::Server(Box::new(report)));
    }

    async fn until(&self, reason: &str) {
        let mut last = String::new();
        let reached = async {
            loop {
                self.bench.server("git").await.unwrap();
                let (_, found, message) = self.bench.condition(GIT, "Verified");
                if found == reason {
                    return;
                }
                last = format!("{found}: {message}");
                sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(Duration::from_secs(10), reached).await.is_ok(), "{reason}, not {last}");
        self.bench.settle().await;
    }

    /// The list that is kept.
    fn kept(&self) -> Catalog {
        let kept: k8s_openapi::api::core::v1::Secret =
            self.bench.api.get("/api/v1/namespaces/entries/secrets/catalog.team.git");
        assert_eq!(kept.type_.as_deref(), Some("fairway.dev/catalog"));
        let mut unpacked = Vec::new();
        let packed = &kept.data.unwrap()["catalog"].0;
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&**packed), &mut unpacked)
            .unwrap();
        Catalog::from_json(&unpacked).unwrap()
    }

    fn pinned(&self) -> Value {
        let Entry::Server(entry) = self.bench.record(ENTRY).unwrap().entry else { panic!() };
        serde_json::to_value(&*entry).unwrap()["tools"]["accepted"].clone()
    }
}

#[tokio::test]
async fn a_list_is_kept_and_the_server_ready() {
    let reported = Reported::new(url()).await;
    let list = catalog(&[("log", "shows"), ("push", "sends")]);

    reported.lists(&list, "Verified").await;

    let bench = &reported.bench;
    assert_eq!(bench.condition(GIT, "Ready").0, "True");
    let status = bench.api.find(GIT).unwrap()["status"].clone();
    assert_eq!(status["tools"], json!({"count": 2, "hash": list.hash().to_string()}));
    assert_eq!(status["latency"], "12ms");
    assert_eq!(status["protocol"]["serverName"], "git");
    assert_eq!(reported.kept(), list);

    bench.api.calls();
    bench.server("git").await.unwrap();
    assert!(bench.api.writes().is_empty());
}

/// Once, and without a word about tools that are what they were.
#[tokio::test]
async fn prompts_and_resources_are_kept_when_they_change_alone() {
    let reported = Reported::new(url()).await;
    let mut list = catalog(&[("log", "shows")]);
    reported.lists(&list, "Verified").await;
    let prompt: Box<_> = serde_json::from_str(r#"{"name":"review"}"#).unwrap();
    list.add_prompt(&prompt).unwrap();
    reported.gateway.lists("git", &list);

    reported.reports(&list);

    let kept = async {
        while reported.kept() != list {
            reported.bench.server("git").await.unwrap();
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), kept).await.unwrap();
    reported.bench.settle().await;
    assert_eq!(reported.bench.condition(GIT, "Verified").1, "Verified");
    reported.bench.api.calls();
    reported.bench.server("git").await.unwrap();
    assert!(reported.bench.api.writes().is_empty());
}

#[tokio::test]
async fn a_list_that_changed_is_told_by_an_event_and_a_condition() {
    let reported = Reported::new(url()).await;
    reported.lists(&catalog(&[("log", "shows")]), "Verified").await;

    reported.lists(&catalog(&[("log", "sends")]), "ToolsChanged").await;

    let (status, _, message) = reported.bench.condition(GIT, "Verified");
    assert_eq!(status, "True");
    assert!(message.contains("changed: log"), "{message}");
    let events = reported.bench.api.events();
    let told = events.iter().filter(|(reason, _)| reason == "ToolsChanged");
    assert_eq!(told.count(), 1, "{events:?}");
    assert!(reported.pinned().is_null());
}

#[tokio::test]
async fn a_list_in_quarantine_is_hidden_until_it_is_accepted() {
    let mut spec = url();
    spec["toolChanges"] = json!("Quarantine");
    let reported = Reported::new(spec).await;
    let (first, second) = (catalog(&[("log", "shows")]), catalog(&[("log", "sends")]));
    reported.lists(&first, "Verified").await;
    assert_eq!(reported.pinned()["log"], first.tools()[0].hash.to_string());

    reported.lists(&second, "ToolsChanged").await;
    assert_eq!(reported.bench.condition(GIT, "Ready").0, "False");
    assert_eq!(reported.pinned()["log"], first.tools()[0].hash.to_string());

    reported.bench.api.edit(GIT, |git| {
        git["metadata"]["annotations"] = json!({ACCEPT: second.hash().to_string()});
    });
    reported.until("Verified").await;
    assert_eq!(reported.pinned()["log"], second.tools()[0].hash.to_string());
    // The list itself was kept along.
    let kept = reported.bench.api.find("/api/v1/namespaces/entries/secrets/catalog.team.git");
    assert!(kept.unwrap()["data"]["catalog"].is_string());
}

#[tokio::test]
async fn a_list_that_cannot_be_fetched_is_fetched_later() {
    let reported = Reported::new(url()).await;
    let list = catalog(&[("log", "shows")]);
    // It says that it has one, and does not give it.
    reported.reports(&list);
    reported.until("Pending").await;
    while reported.bench.ctx.gateways.views(
        &report(ServerState::Connected, None).server,
        reported.bench.api.find(GIT).unwrap()["metadata"]["uid"].as_str().unwrap(),
    )[0]
    .report
    .is_none()
    {
        sleep(Duration::from_millis(5)).await;
    }

    let action = reported.bench.server("git").await.unwrap();

    assert_eq!(action, crate::control::Action::requeue(Duration::from_secs(2)));
    let (_, reason, message) = reported.bench.condition(GIT, "Verified");
    assert_eq!(reason, "Pending");
    assert!(message.contains("looked at"), "{message}");
}

#[tokio::test]
async fn a_server_that_was_made_anew_is_trusted_anew() {
    let reported = Reported::new(url()).await;
    reported.lists(&catalog(&[("log", "shows")]), "Verified").await;
    let bench = &reported.bench;

    bench.api.remove(GIT);
    bench.put(server("git", url())).await;
    bench.server("git").await.unwrap();
    // What is known is of the one before.
    assert_eq!(bench.condition(GIT, "Verified").1, "Pending");

    reported.lists(&catalog(&[("log", "sends")]), "Verified").await;
}
