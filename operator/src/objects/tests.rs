use http::Method;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::testing::resources::{SERVICES, service};
use crate::testing::{Api as Apiserver, Failure};

/// A Service that belongs to the owner `uid`.
fn desired(port: i32) -> Service {
    let mut desired = service("git", &[port]);
    desired["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "fairway.dev/v1alpha1", "kind": "McpServer", "name": "git", "uid": "uid",
    }]);
    serde_json::from_value(desired).unwrap()
}

struct Team {
    apiserver: Apiserver,
    api: Api<Service>,
}

impl Team {
    fn new() -> Self {
        let apiserver = Apiserver::default();
        let api = Api::namespaced(apiserver.client(), "team");
        Self { apiserver, api }
    }

    async fn apply(&self, desired: &Service, live: Option<&Service>) -> Result<(), Error> {
        apply("run the server", &self.api, desired, live, "uid").await
    }

    fn live(&self) -> Service {
        self.apiserver.get(&format!("{SERVICES}/git"))
    }
}

#[tokio::test]
async fn what_is_missing_is_made_and_what_is_there_is_left_alone() {
    let team = Team::new();

    team.apply(&desired(80), None).await.unwrap();
    team.apply(&desired(80), Some(&team.live())).await.unwrap();

    assert_eq!(team.apiserver.briefs(), ["PATCH services/team/git"]);
}

#[tokio::test]
async fn drift_is_mended_on_top_of_what_was_seen() {
    let team = Team::new();
    team.apply(&desired(80), None).await.unwrap();
    team.apiserver.edit(&format!("{SERVICES}/git"), |s| s["spec"]["ports"] = json!([]));
    let live = team.live();
    team.apiserver.calls();

    team.apply(&desired(80), Some(&live)).await.unwrap();

    let write = &team.apiserver.writes()[0];
    assert_eq!(write.body["metadata"]["resourceVersion"], json!(live.resource_version()));
    assert!(write.query.contains("force=true"));
    assert_eq!(team.live().spec.unwrap().ports.unwrap()[0].port, 80);
}

#[tokio::test]
async fn who_knows_less_turns_nothing_back() {
    let team = Team::new();
    team.apply(&desired(80), None).await.unwrap();
    let stale = team.live();
    team.apply(&desired(81), Some(&stale)).await.unwrap();

    let refused = team.apply(&desired(82), Some(&stale)).await.unwrap_err();

    assert!(refused.is_conflict(), "{refused}");
    assert_eq!(team.live().spec.unwrap().ports.unwrap()[0].port, 81);
}

#[tokio::test]
async fn what_somebody_else_made_is_not_taken_over() {
    let team = Team::new();
    team.apiserver.put(service("git", &[22]));
    let live = team.live();
    team.apiserver.calls();

    // Seen, or not seen because it lacks the label that is watched.
    for live in [Some(&live), None] {
        let refused = team.apply(&desired(80), live).await.unwrap_err();
        assert_eq!(refused.reason(), "foreign");
        assert!(refused.refusal().unwrap().contains("Service git"), "{refused}");
    }
    assert!(team.apiserver.writes().is_empty());
}

#[tokio::test]
async fn what_is_ours_is_found_though_its_label_was_taken_away() {
    let team = Team::new();
    team.apply(&desired(80), None).await.unwrap();
    team.apiserver.calls();

    team.apply(&desired(80), None).await.unwrap();

    assert!(team.apiserver.writes().is_empty());
}

#[tokio::test]
async fn what_the_apiserver_refuses_has_to_be_mended_by_somebody() {
    let team = Team::new();

    for (code, reason, is_refusal) in [
        (400, "refused", true),
        (403, "forbidden", true),
        (409, "conflict", false),
        (413, "refused", true),
        (422, "refused", true),
        (429, "refused", false),
        (500, "refused", false),
    ] {
        team.apiserver.fail(Method::PATCH, "/services/", Failure::Status(code), 1);
        let error = team.apply(&desired(80), None).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{code}");
        assert_eq!(error.refusal().is_some(), is_refusal, "{code}");
    }
}

#[test]
fn an_object_that_cannot_be_applied_has_to_be_mended_by_somebody() {
    // With code 500, as the apiserver has it.
    let message = "failed to create typed patch object (team/mcp-git; apps/v1, Kind=Deployment): \
                   .spec.template.spec.containers[name=\"server\"].env: duplicate entries";
    let status = kube::core::Status { code: 500, ..kube::core::Status::failure(message, "") };
    let error = Error::Kube("run the server", Box::new(kube::Error::Api(Box::new(status))));

    assert!(error.refusal().unwrap().contains("duplicate entries"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_that_is_silent_is_not_waited_for_for_ever() {
    let team = Team::new();
    team.apiserver.fail(Method::PATCH, "/services/", Failure::Silence, 1);

    let began = Instant::now();
    let error = team.apply(&desired(80), None).await.unwrap_err();

    assert_eq!(error.reason(), "slow");
    assert!(began.elapsed() <= 2 * PATIENCE);
}

#[tokio::test]
async fn a_status_that_stands_there_is_not_written() {
    let team = Team::new();
    team.apply(&desired(80), None).await.unwrap();
    team.apiserver.calls();
    let status = json!({"loadBalancer": {}});

    let same = write_status(&team.api, "git", status.clone(), &status).await.unwrap();
    let other = write_status(&team.api, "git", status, &json!({})).await.unwrap();

    assert_eq!((same, other), (false, true));
    let writes = team.apiserver.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].brief(), "PATCH services/team/git/status");
    assert!(writes[0].body["spec"].is_null());
}
