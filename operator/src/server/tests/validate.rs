//! Where a server is, or what is wrong with it.

use std::sync::Arc;

use gateway_core::{Entry, ServerEntry};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::{a_service, nothing, owned, pepper, run, settings};
use crate::server::build::{Desired, Table, Workload, build};
use crate::server::observe::{Live, Observed};
use crate::server::validate::{Refusal, ValidServer, validate};
use crate::testing::resources::{a_server, secret, typed};

fn with_service(spec: &Value) -> Observed {
    Observed { service: Some(Arc::new(a_service("backend", spec))), ..nothing() }
}

fn reason(spec: Value, observed: &Observed) -> (&'static str, String) {
    let refusal: Refusal = validate(&a_server("git", spec), observed, &pepper()).unwrap_err();
    (refusal.reason(), refusal.to_string())
}

fn entry(valid: ValidServer) -> Arc<ServerEntry> {
    match valid.entry {
        Some(Entry::Server(entry)) => entry,
        other => panic!("no server: {other:?}"),
    }
}

#[test]
fn a_service_is_dialled_at_its_own_address() {
    let server = a_server("git", json!({"service": {"name": "backend", "port": 80}}));

    let valid = validate(&server, &with_service(&json!({})), &pepper()).unwrap();

    assert_eq!(valid.address, "http://backend.team.svc:80/mcp");
    let entry = entry(valid);
    assert_eq!(entry.endpoint.address, Some([10, 96, 0, 7].into()));
}

#[test]
fn sessions_stay_with_one_of_several_pods_as_soon_as_these_can_be_found() {
    let service = owned(&a_service("mcp-git", &json!({})));
    let found = || Live { service: Some(service.clone()), ..Live::default() };
    let headless = || Live {
        headless: Some(owned(&a_service("mcph-git", &json!({"clusterIP": "None"})))),
        ..found()
    };
    for (row, replicas, session, live, expected) in [
        ("several", 2, "PerClient", headless(), Some("mcph-git.team.svc")),
        ("as it was found to be", 2, "Auto", headless(), Some("mcph-git.team.svc")),
        ("not to be found yet", 2, "PerClient", found(), None),
        ("one", 1, "PerClient", headless(), None),
        ("no sessions", 2, "Shared", headless(), None),
        ("nothing is known", 2, "Auto", found(), None),
    ] {
        let spec =
            json!({"workload": {"image": "git:1", "replicas": replicas}, "session": session});
        let observed = Observed { live, ..nothing() };

        let valid = validate(&a_server("git", spec), &observed, &pepper()).unwrap();

        let entry = entry(valid);
        assert_eq!(entry.pods.as_deref(), expected, "{row}");
        assert_eq!(entry.endpoint.address, Some([10, 96, 0, 7].into()), "{row}");
    }
}

#[test]
fn the_only_port_of_a_service_need_not_be_named() {
    let server = a_server("git", json!({"service": {"name": "backend"}}));

    let valid = validate(&server, &with_service(&json!({})), &pepper()).unwrap();

    assert_eq!(valid.address, "http://backend.team.svc:80/mcp");
}

#[test]
fn services_that_could_lead_anywhere_are_refused_in_plain_words() {
    let service = || json!({"service": {"name": "backend"}});
    let port = |port: i32| json!({"service": {"name": "backend", "port": port}});
    let two = json!({"ports": [{"port": 80}, {"port": 81}]});

    for (row, spec, observed, reason_, words) in [
        ("missing", service(), nothing(), "ServiceNotFound", "does not exist"),
        (
            "another name",
            service(),
            with_service(&json!({"type": "ExternalName", "externalName": "evil.example"})),
            "ServiceNotUsable",
            "ExternalName",
        ),
        (
            "no selector",
            service(),
            with_service(&json!({"selector": null})),
            "ServiceNotUsable",
            "selector",
        ),
        (
            "empty selector",
            service(),
            with_service(&json!({"selector": {}})),
            "ServiceNotUsable",
            "selector",
        ),
        (
            "headless",
            service(),
            with_service(&json!({"clusterIP": "None"})),
            "ServiceNotUsable",
            "headless",
        ),
        (
            "no address yet",
            service(),
            with_service(&json!({"clusterIP": null})),
            "ServiceNotUsable",
            "no cluster IP",
        ),
        ("no such port", port(99), with_service(&json!({})), "ServiceNotUsable", "no port 99"),
        ("no port", service(), with_service(&json!({"ports": []})), "ServiceNotUsable", "port"),
        ("which port", service(), with_service(&two), "ServiceNotUsable", "several ports"),
    ] {
        let (found, text) = reason(spec, &observed);
        assert_eq!(found, reason_, "{row}: {text}");
        assert!(text.contains(words) && text.contains("backend"), "{row}: {text}");
    }
    let valid = validate(&a_server("git", port(81)), &with_service(&two), &pepper());
    assert_eq!(valid.unwrap().address, "http://backend.team.svc:81/mcp");
}

#[test]
fn a_url_is_taken_as_it_is_and_its_query_is_told_to_nobody() {
    let server = a_server("git", json!({"url": "https://git.example.com/mcp?token=hush"}));

    let valid = validate(&server, &nothing(), &pepper()).unwrap();

    assert_eq!(valid.address, "https://git.example.com/mcp");
    let entry = entry(valid);
    assert_eq!(entry.endpoint.streamable.to_string(), "https://git.example.com/mcp?token=hush");
    // The gateway looks the address up each time, and where it must not lead.
    assert_eq!(entry.endpoint.address, None);
}

#[test]
fn the_address_is_that_of_the_transport() {
    let server = a_server("git", json!({"url": "http://git.example.com", "transport": "Sse"}));

    let valid = validate(&server, &nothing(), &pepper()).unwrap();

    assert_eq!(valid.address, "http://git.example.com/sse");
}

fn live(service: &Service) -> Live {
    Live { service: Some(owned(service)), ..Live::default() }
}

#[test]
fn a_workload_has_an_entry_as_soon_as_its_service_has_an_address() {
    let server = run(&json!({"image": "git:1", "port": 9000}));

    let before = validate(&server, &nothing(), &pepper()).unwrap();
    assert!(before.entry.is_none());
    assert_eq!(before.address, "http://mcp-git.team.svc:9000/mcp");

    let observed = Observed { live: live(&a_service("mcp-git", &json!({}))), ..nothing() };
    let entry = entry(validate(&server, &observed, &pepper()).unwrap());
    assert_eq!(entry.endpoint.address, Some([10, 96, 0, 7].into()));
}

#[test]
fn what_has_the_name_of_something_that_is_to_run_is_named() {
    let server = run(&json!({"image": "git:1"}));
    let foreign = || Some(Arc::new(a_service("mcp-git", &json!({}))));
    let mut before = serde_json::to_value(&*owned(&a_service("mcp-git", &json!({})))).unwrap();
    before["metadata"]["ownerReferences"][0]["uid"] = json!("before");
    let before = Some(Arc::new(serde_json::from_value(before).unwrap()));
    let of = |live: Live| Observed { live, ..nothing() };
    let rows = [
        ("Service mcp-git", Live { service: foreign(), ..Live::default() }, "NameTaken"),
        ("Service mcp-headless-git", Live { headless: foreign(), ..Live::default() }, "NameTaken"),
        (
            "Deployment mcp-git",
            Live { deployment: Some(Arc::default()), ..Live::default() },
            "NameTaken",
        ),
        (
            "ServiceAccount mcp-git",
            Live { service_account: Some(Arc::default()), ..Live::default() },
            "NameTaken",
        ),
        (
            "NetworkPolicy mcp-git",
            Live { network_policy: Some(Arc::default()), ..Live::default() },
            "NameTaken",
        ),
        ("Service mcp-git", Live { service: before, ..Live::default() }, "Pending"),
    ];

    for (name, live, reason) in rows {
        let refusal = validate(&server, &of(live), &pepper()).unwrap_err();
        assert_eq!(refusal.reason(), reason, "{refusal}");
        let name = name.replace("mcp-headless-git", &crate::server::names::headless_name("git"));
        assert!(refusal.to_string().contains(&name), "{refusal}");
    }
}

#[test]
fn secrets_that_are_missing_are_named() {
    let spec = || {
        json!({
            "url": "https://git.example.com",
            "credentials": {"secretRef": {"name": "token", "key": "value"}},
        })
    };
    let (found, text) = reason(spec(), &nothing());
    assert_eq!(found, "SecretNotUsable");
    assert!(text.contains("token"), "{text}");

    let mut observed = nothing();
    observed.secrets.insert(typed(secret("token", "other", "hush")));
    let (found, text) = reason(spec(), &observed);
    assert_eq!(found, "SecretNotUsable");
    assert!(text.contains("value") && !text.contains("hush"), "{text}");
}

#[test]
fn a_secret_of_another_namespace_is_none_of_ours() {
    let mut elsewhere = secret("token", "value", "hush");
    elsewhere["metadata"]["namespace"] = json!("other");
    let mut observed = nothing();
    observed.secrets.insert(typed(elsewhere));

    let spec = json!({
        "url": "https://git.example.com",
        "credentials": {"secretRef": {"name": "token", "key": "value"}},
    });
    assert_eq!(reason(spec, &observed).0, "SecretNotUsable");
}

#[test]
fn what_the_crd_would_refuse_is_refused_here_too() {
    for (spec, words) in [
        (json!({}), "exactly one of workload, service, url"),
        (json!({"url": "http://a", "service": {"name": "b"}}), "exactly one of"),
        (json!({"url": "ftp://a"}), "must start with http"),
        (json!({"workload": {"image": ""}}), "spec.workload.image"),
        (json!({"workload": {"image": "git:1", "port": 0}}), "spec.workload.port"),
    ] {
        let (found, text) = reason(spec, &nothing());
        assert_eq!(found, "Invalid", "{text}");
        assert!(text.contains(words), "{text}");
    }
}

/// What becomes of a server with this spec: what runs, what gateways are told, what people are.
fn built(spec: Value, observed: &Observed) -> Desired {
    let server = a_server("git", spec);
    let valid = validate(&server, observed, &pepper());
    build(&server, valid, observed, &settings(), 7)
}

/// Something is in force for the server with this spec.
fn in_force(spec: Value) -> Observed {
    let Table::Serve(record) = built(spec, &with_service(&json!({}))).table else { panic!() };
    Observed { in_force: Some(5), record: Some(Arc::new(*record)), ..nothing() }
}

#[test]
fn an_entry_says_from_what_and_when_it_was_made() {
    let desired = built(json!({"url": "http://a.example"}), &nothing());

    let Table::Serve(record) = desired.table else { panic!("{:?}", desired.table) };
    assert_eq!((&*record.uid, record.generation, record.term), ("uid", 1, 7));
    assert!(matches!(desired.workload, Workload::None));
    assert_eq!(desired.accepted.reason, "Accepted");
}

#[test]
fn an_invalid_server_goes_on_as_it_was() {
    let observed = in_force(json!({"url": "http://a.example"}));

    let desired = built(json!({"workload": {"image": ""}}), &observed);

    assert!(matches!(desired.table, Table::AsItIs), "{:?}", desired.table);
    assert!(matches!(desired.workload, Workload::AsItIs));
    let message = desired.accepted.message;
    assert!(message.ends_with("the last good version stays in force"), "{message}");
}

#[test]
fn an_invalid_server_that_never_was_good_says_nothing_of_a_last_version() {
    let message = built(json!({"url": "ftp://a"}), &nothing()).accepted.message;

    assert!(!message.contains("last good"), "{message}");
}

/// A cluster IP that is given back may be another tenant's the next moment.
#[test]
fn a_server_whose_service_is_gone_is_withdrawn() {
    let spec = json!({"service": {"name": "backend"}});
    let observed = Observed { leads_home: false, ..in_force(spec.clone()) };

    let desired = built(spec, &observed);

    assert!(matches!(desired.table, Table::Withdraw), "{:?}", desired.table);
    let message = desired.accepted.message;
    assert!(!message.contains("last good"), "{message}");
}

#[test]
fn a_workload_whose_service_is_gone_is_withdrawn_until_it_is_back() {
    let spec = json!({"workload": {"image": "git:1"}});
    let observed = Observed { leads_home: false, in_force: Some(5), ..nothing() };

    let desired = built(spec, &observed);

    assert!(matches!(desired.table, Table::Withdraw), "{:?}", desired.table);
    assert!(matches!(desired.workload, Workload::Run(_)));
}

#[test]
fn exposing_a_server_no_more_works_whatever_else_is_wrong_with_it() {
    let observed = in_force(json!({"url": "http://a.example", "exposeTo": ["b", "c"]}));

    let same = built(json!({"url": "", "exposeTo": ["c", "b"]}), &observed);
    assert!(matches!(same.table, Table::AsItIs), "{:?}", same.table);
    let wider = built(json!({"url": "", "exposeTo": ["b", "c", "d"]}), &observed);
    assert!(matches!(wider.table, Table::AsItIs), "{:?}", wider.table);

    let narrower = built(json!({"url": "", "exposeTo": ["c"]}), &observed);
    let Table::Serve(record) = narrower.table else { panic!("{:?}", narrower.table) };
    let Entry::Server(entry) = &record.entry else { panic!() };
    assert_eq!(entry.exposed_to, [gateway_core::Namespace::new("c")]);
    assert_eq!(entry.endpoint.streamable.to_string(), "http://a.example/mcp");
    assert_eq!(narrower.accepted.reason, "Invalid");
}

#[test]
fn nothing_of_it_shows_a_credential() {
    let mut observed = nothing();
    observed.secrets.insert(typed(secret("token", "value", "hush-hush-hush")));
    let spec = json!({
        "url": "https://git.example.com",
        "credentials": {"secretRef": {"name": "token", "key": "value"}},
    });
    let desired = built(spec, &observed);

    let shown = format!("{observed:?} {desired:?}");
    assert!(!shown.contains("hush"), "{shown}");
    assert!(!shown.contains("104, 117, 115, 104"), "{shown}");
}
