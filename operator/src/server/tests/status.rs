//! What is told of a server.

use std::sync::Arc;

use crds::McpServerStatus;
use gateway_core::report::ServerState;
use gateway_core::{Kind, Namespace, ResourceRef};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{catalog, nothing, owned, report, run, view};
use crate::conditions::{Holds, Verdict};
use crate::gateways::View;
use crate::server::apply::Applied;
use crate::server::catalogs::Verified;
use crate::server::observe::Observed;
use crate::server::status::{available, status, verified};
use crate::server::verify::ACCEPT;
use crate::testing::resources::{a_server, typed};

fn deployment(available: Option<i32>) -> Arc<Deployment> {
    let deployment: Deployment = typed(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "mcp-git", "namespace": "team", "generation": 2},
        "spec": {"selector": {}, "template": {}},
        // Kubernetes has not looked at the present version yet.
        "status": {"observedGeneration": 1, "availableReplicas": available},
    }));
    owned(&deployment)
}

fn pod(name: &str, status: &Value) -> Arc<Pod> {
    Arc::new(typed(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "team"}, "status": status,
    })))
}

/// A pod whose container waits for this reason.
fn waiting(reason: &str, message: &str) -> Arc<Pod> {
    pod(
        "mcp-git-1",
        &json!({"containerStatuses": [{
            "name": "server", "image": "git:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        }]}),
    )
}

/// A pod whose container ended before and has this state now.
fn crashing(state: &Value, ready: bool, restarts: i32) -> Arc<Pod> {
    pod(
        "mcp-git-1",
        &json!({"containerStatuses": [{
            "name": "server", "image": "git:1", "imageID": "", "ready": ready,
            "restartCount": restarts, "state": state,
            "lastState": {"terminated": {"exitCode": 1}},
        }]}),
    )
}

fn seen(count: Option<i32>, pods: Vec<Arc<Pod>>) -> Observed {
    let mut observed = nothing();
    observed.live.deployment = Some(deployment(count));
    observed.live.pods = pods;
    observed
}

#[test]
fn it_is_told_whether_pods_run_and_else_why_not() {
    let unscheduled = || {
        pod(
            "mcp-git-1",
            &json!({"conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient cpu.",
            }]}),
        )
    };
    let leaving = || {
        let mut pod = (*waiting("ImagePullBackOff", "")).clone();
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
        Arc::new(pod)
    };
    let running = || json!({"running": {}});
    for (row, observed, holds, reason, words) in [
        ("nothing yet", nothing(), Holds::No, "Starting", "no pod is available yet"),
        ("made, not started", seen(None, vec![]), Holds::No, "Starting", "no pod"),
        ("runs", seen(Some(1), vec![]), Holds::Yes, "Available", "1 pod is available"),
        ("run", seen(Some(2), vec![]), Holds::Yes, "Available", "2 pods are available"),
        (
            "no such image",
            seen(None, vec![waiting("ErrImagePull", "not found")]),
            Holds::No,
            "ImageNotPulled",
            "git:1 cannot be pulled: not found",
        ),
        (
            "still no such image",
            seen(Some(0), vec![waiting("ImagePullBackOff", "Back-off")]),
            Holds::No,
            "ImageNotPulled",
            "git:1",
        ),
        (
            "not even a name of an image",
            seen(None, vec![waiting("InvalidImageName", "")]),
            Holds::No,
            "ImageNotPulled",
            "git:1",
        ),
        (
            "a Secret is missing",
            seen(None, vec![waiting("CreateContainerConfigError", "secret \"env\" not found")]),
            Holds::No,
            "ContainerNotStarted",
            "secret \"env\" not found",
        ),
        (
            "ends at once",
            seen(None, vec![waiting("CrashLoopBackOff", "back-off 10s")]),
            Holds::No,
            "CrashLoop",
            "kubectl logs mcp-git-1",
        ),
        (
            "runs for a moment between two ends",
            seen(None, vec![crashing(&running(), false, 2)]),
            Holds::No,
            "CrashLoop",
            "kubectl logs",
        ),
        (
            "has just ended again",
            seen(None, vec![crashing(&json!({"terminated": {"exitCode": 1}}), false, 2)]),
            Holds::No,
            "CrashLoop",
            "kubectl logs",
        ),
        (
            "ended once",
            seen(None, vec![crashing(&running(), false, 1)]),
            Holds::No,
            "Starting",
            "no pod",
        ),
        (
            "ended often and runs now",
            seen(Some(1), vec![crashing(&running(), true, 9)]),
            Holds::Yes,
            "Available",
            "1 pod",
        ),
        (
            "no room",
            seen(None, vec![unscheduled()]),
            Holds::No,
            "Unschedulable",
            "Insufficient cpu",
        ),
        (
            "the next version does not start",
            seen(Some(1), vec![waiting("ErrImagePull", "not found")]),
            Holds::Yes,
            "Degraded",
            "1 pod is available, but another does not start",
        ),
        ("is to end anyway", seen(None, vec![leaving()]), Holds::No, "Starting", "no pod"),
        (
            "is made",
            seen(None, vec![waiting("ContainerCreating", "")]),
            Holds::No,
            "Starting",
            "no pod",
        ),
    ] {
        let found = available(&run(&json!({"image": "git:1"})), &observed);
        assert_eq!((found.holds, found.reason), (holds, reason), "{row}: {}", found.message);
        assert!(found.message.contains(words), "{row}: {}", found.message);
    }
}

#[test]
fn what_is_not_run_is_not_asked_for_its_pods() {
    let elsewhere = available(&a_server("git", json!({"url": "http://a"})), &nothing());
    assert_eq!((elsewhere.holds, elsewhere.reason), (Holds::Yes, "External"));

    let none = available(&run(&json!({"image": "git:1", "replicas": 0})), &seen(None, vec![]));
    assert_eq!((none.holds, none.reason), (Holds::No, "ScaledToZero"));
}

fn applied(verified: Option<Verified>) -> Applied {
    let namespace = Namespace::new("team");
    Applied {
        resource: ResourceRef { namespace, kind: Kind::Server, name: "git".into() },
        version: Some(1),
        accepted: Verdict::yes("Accepted", "the resource is valid"),
        address: Some("http://mcp-git.team.svc:8000/mcp".to_owned()),
        verified,
        change: None,
        too_large: false,
        refused: None,
    }
}

fn view_of(pod: &str, state: ServerState) -> View {
    View { pod: pod.to_owned(), report: Some(report(state, None)) }
}

#[test]
fn a_server_is_verified_when_every_gateway_listed_the_same() {
    let (list, other) = (catalog(&[("log", "shows")]), catalog(&[("log", "sends")]));
    let kept = || applied(Some(Verified::first("uid", &list)));
    let views = |views: Vec<View>| Observed { views, ..nothing() };
    let unreachable = ServerState::Unreachable("connection refused".to_owned());
    let two = || vec![view("one", &list), view("two", &list)];
    for (row, observed, applied, holds, reason, words) in [
        ("no gateway", views(vec![]), kept(), Holds::Unknown, "NoGateway", "no gateway is ready"),
        ("agreed", views(two()), kept(), Holds::Yes, "Verified", "1 tool is listed"),
        (
            "one does not reach it",
            views(vec![view("one", &list), view_of("two", unreachable)]),
            kept(),
            Holds::No,
            "Unreachable",
            "two cannot reach it: connection refused",
        ),
        (
            "one has not said anything",
            views(vec![view("one", &list), View { pod: "two".to_owned(), report: None }]),
            kept(),
            Holds::No,
            "Pending",
            "two has not listed",
        ),
        (
            "one is still connecting",
            views(vec![view_of("one", ServerState::Connecting)]),
            kept(),
            Holds::No,
            "Pending",
            "one has not listed",
        ),
        (
            "they disagree",
            views(vec![view("one", &list), view("two", &other)]),
            kept(),
            Holds::No,
            "GatewaysDisagree",
            "one has ",
        ),
        (
            "connected without a list",
            views(vec![view("one", &list), view_of("two", ServerState::Connected)]),
            kept(),
            Holds::No,
            "GatewaysDisagree",
            "two has none",
        ),
        ("not kept yet", views(two()), applied(None), Holds::No, "Pending", "looked at"),
        (
            "another list is kept",
            views(vec![view("one", &other)]),
            kept(),
            Holds::No,
            "Pending",
            "looked at",
        ),
        (
            "too large",
            views(two()),
            Applied { too_large: true, ..applied(None) },
            Holds::No,
            "ListTooLarge",
            "more tools",
        ),
        (
            "changed",
            views(two()),
            Applied { change: Some("changed: log".to_owned()), ..kept() },
            Holds::Yes,
            "ToolsChanged",
            "definitions changed: changed: log",
        ),
    ] {
        let server = run(&json!({"image": "git:1"}));
        let found = verified(&server, &observed, &applied, &[]);
        assert_eq!((found.holds, found.reason), (holds, reason), "{row}: {}", found.message);
        assert!(found.message.contains(words), "{row}: {}", found.message);
    }
}

#[test]
fn gateways_that_disagree_are_named_with_what_they_have() {
    let (list, other) = (catalog(&[("log", "shows")]), catalog(&[("log", "sends")]));
    let observed = Observed { views: vec![view("one", &list), view("two", &other)], ..nothing() };

    let message = verified(&run(&json!({"image": "a"})), &observed, &applied(None), &[]).message;

    for words in [format!("one has {}", list.hash()), format!("two has {}", other.hash())] {
        assert!(message.contains(&words), "{message}");
    }
}

#[test]
fn tools_in_quarantine_come_with_the_command_that_accepts_them() {
    let (before, now) = (catalog(&[("log", "shows")]), catalog(&[("log", "sends")]));
    let mut server = run(&json!({"image": "git:1"}));
    server.spec.tool_changes = crds::ToolChanges::Quarantine;
    let accepted = Verified::first("uid", &before).accepted;
    let kept = Verified { accepted, ..Verified::first("uid", &now) };
    let observed = Observed { views: vec![view("one", &now)], ..nothing() };

    let found = verified(&server, &observed, &applied(Some(kept)), &[]);

    assert_eq!((found.holds, found.reason), (Holds::No, "ToolsChanged"));
    let command = format!("kubectl annotate mcpserver git {ACCEPT}={} --overwrite", now.hash());
    assert!(found.message.contains(&command), "{}", found.message);
    assert!(found.message.contains("changed: log"), "{}", found.message);
}

#[test]
fn a_name_that_another_server_has_is_told_and_the_rest_serves() {
    let list = catalog(&[("log", "shows")]);
    let observed = Observed { views: vec![view("one", &list)], ..nothing() };
    let conflicts = ["tool log belongs to McpServer team/older".to_owned()];
    let kept = applied(Some(Verified::first("uid", &list)));

    let found = verified(&run(&json!({"image": "a"})), &observed, &kept, &conflicts);

    assert_eq!((found.holds, found.reason), (Holds::Yes, "NameConflict"));
    assert_eq!(found.message, conflicts[0]);
}

fn told(
    applied: &Applied,
    observed: &Observed,
    verdict: Verdict,
    before: &McpServerStatus,
) -> McpServerStatus {
    let programmed = Verdict::yes("Programmed", "every ready gateway knows it");
    status(
        &a_server("git", json!({"url": "http://a"})),
        observed,
        applied,
        [programmed, verdict],
        before,
    )
}

fn reason_of(status: &McpServerStatus, type_: &str) -> String {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.unwrap().reason.clone()
}

#[test]
fn a_status_that_was_told_is_told_again_to_the_letter() {
    let list = catalog(&[("log", "shows")]);
    let observed = Observed { views: vec![view("one", &list)], ..nothing() };
    let applied = applied(Some(Verified::first("uid", &list)));
    let verdict = || Verdict::yes("Verified", "1 tool is listed");

    let first = told(&applied, &observed, verdict(), &McpServerStatus::default());
    let mut later = observed;
    // Other figures, but the same list.
    later.views[0].report.as_mut().unwrap().tools.as_mut().unwrap().latency_millis = 99;
    let second = told(&applied, &later, verdict(), &first);

    assert_eq!(serde_json::to_value(&first).unwrap(), serde_json::to_value(&second).unwrap());
    assert_eq!(first.latency.as_deref(), Some("12ms"));
    assert_eq!(first.tools.unwrap().count, 1);
    assert_eq!(first.protocol.unwrap().transport, "StreamableHttp");
    assert!(first.last_verified.is_some());
}

#[test]
fn that_definitions_changed_can_be_read_until_the_next_list() {
    let (list, other) = (catalog(&[("log", "shows")]), catalog(&[("log", "sends")]));
    let observed = Observed { views: vec![view("one", &list)], ..nothing() };
    let kept = applied(Some(Verified::first("uid", &list)));
    let changed = || Verdict::yes("ToolsChanged", "1 tool is listed; changed: log");
    let plain = || Verdict::yes("Verified", "1 tool is listed");

    let first = told(&kept, &observed, changed(), &McpServerStatus::default());
    let second = told(&kept, &observed, plain(), &first);
    assert_eq!(reason_of(&second, "Verified"), "ToolsChanged");
    assert_eq!(first.conditions, second.conditions);

    let disagreed = told(&kept, &observed, Verdict::no("GatewaysDisagree", "…"), &second);
    assert_eq!(reason_of(&disagreed, "Verified"), "GatewaysDisagree");

    let next = applied(Some(Verified::first("uid", &other)));
    let third = told(&next, &observed, plain(), &second);
    assert_eq!(reason_of(&third, "Verified"), "Verified");
}

#[test]
fn a_breaker_that_is_open_anywhere_keeps_a_server_from_being_ready() {
    let list = catalog(&[("log", "shows")]);
    let mut observed =
        Observed { views: vec![view("one", &list), view("two", &list)], ..nothing() };
    let applied = applied(Some(Verified::first("uid", &list)));
    let verdict = || Verdict::yes("Verified", "1 tool is listed");
    let ready = |status: &McpServerStatus| {
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        (ready.status.clone(), ready.reason.clone(), ready.message.clone())
    };

    let well = told(&applied, &observed, verdict(), &McpServerStatus::default());
    assert_eq!(ready(&well).0, "True");

    let why = "it failed 5 times in a row (last: sent nothing for 60 s)".to_owned();
    observed.views[1].report.as_mut().unwrap().breaker = Some(why.clone());
    let tripped = told(&applied, &observed, verdict(), &well);
    let (status, reason, message) = ready(&tripped);
    assert_eq!((&*status, &*reason), ("False", "CircuitOpen"));
    assert!(message.starts_with("two ") && message.contains(&why), "{message}");
    assert_eq!(reason_of(&tripped, "Verified"), "Verified");

    // What has to be mended first is told first.
    let unreachable = told(&applied, &observed, Verdict::no("Unreachable", "…"), &tripped);
    assert_eq!(reason_of(&unreachable, "Ready"), "Unreachable");
}

#[test]
fn ready_is_the_first_thing_that_is_wrong() {
    let mut refused = applied(None);
    refused.accepted = Verdict::refused("Invalid", "no url", true);

    let status = told(&refused, &nothing(), Verdict::unknown("NoGateway", ""), &Default::default());

    let types: Vec<&str> = status.conditions.iter().map(|c| &*c.type_).collect();
    assert_eq!(types, ["Accepted", "Available", "Programmed", "Verified", "Ready"]);
    assert_eq!(reason_of(&status, "Ready"), "Invalid");
    let ready = status.conditions.last().unwrap();
    assert_eq!(ready.message, "no url; the last good version stays in force");
    assert!(status.conditions.iter().all(|c| c.observed_generation == Some(1)));
}
