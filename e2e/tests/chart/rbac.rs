//! Who may do what: exactly this.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::helm::{FULL, NAMESPACE, Objects, strings};

/// What a gateway may do, anywhere.
const GATEWAY: [&str; 1] = ["gateway in ENTRIES: secrets get,list,watch"];

/// What the operator may do in every cluster.
const OPERATOR: [&str; 9] = [
    "operator everywhere: nodes list",
    "operator everywhere: networking.k8s.io/servicecidrs list",
    "operator in default: discovery.k8s.io/endpointslices list",
    "operator in NS: secrets create",
    "operator in NS: secrets get of fairway-keys,fairway-metrics-token",
    "operator in NS: coordination.k8s.io/leases create",
    "operator in NS: coordination.k8s.io/leases get,update of fairway-operator",
    "operator in NS: pods list,watch",
    "operator in ENTRIES: secrets get,list,watch,create,patch,delete",
];

/// What the operator may do where the resources are: everywhere, or in the namespaces it watches.
const RESOURCES: [&str; 13] = [
    "fairway.dev/mcpservers get,list,watch",
    "fairway.dev/mcpapikeys get,list,watch",
    "fairway.dev/mcppolicies get,list,watch",
    "fairway.dev/mcpservers/status patch",
    "fairway.dev/mcpapikeys/status patch",
    "fairway.dev/mcppolicies/status patch",
    "secrets get,list,watch,create,patch",
    "apps/deployments get,list,watch,create,patch,delete",
    "services get,list,watch,create,patch,delete",
    "serviceaccounts get,list,watch,create,patch,delete",
    "networking.k8s.io/networkpolicies get,list,watch,create,patch,delete",
    "pods list,watch",
    "events.k8s.io/events create,patch",
];

#[test]
fn rights_are_exactly_these() {
    for (values, entries, places) in [
        ("", "fairway-entries", vec!["everywhere"]),
        (FULL, "tables", vec!["in team-a", "in team-b"]),
    ] {
        let mut expected: BTreeSet<String> = GATEWAY
            .iter()
            .chain(&OPERATOR)
            .map(|line| line.replace("in NS", &format!("in {NAMESPACE}")))
            .map(|line| line.replace("in ENTRIES", &format!("in {entries}")))
            .collect();
        for place in places {
            expected.extend(RESOURCES.iter().map(|line| format!("operator {place}: {line}")));
        }

        let found = rights(&Objects::render(values));

        assert_eq!(found.difference(&expected).collect::<Vec<_>>(), [] as [&str; 0], "too much");
        assert_eq!(expected.difference(&found).collect::<Vec<_>>(), [] as [&str; 0], "missing");
    }
}

#[test]
fn no_rule_has_a_wildcard_or_reaches_beyond_resources() {
    for values in ["", FULL] {
        for role in roles(&Objects::render(values)) {
            for rule in role["rules"].as_array().unwrap() {
                assert!(!rule.to_string().contains('*'), "{rule}");
                assert_eq!(rule.get("nonResourceURLs"), None, "{rule}");
            }
            assert_eq!(role.get("aggregationRule"), None);
        }
    }
}

/// A role that nobody is bound to is one that somebody forgot.
#[test]
fn every_role_is_bound_once() {
    for values in ["", FULL] {
        let objects = Objects::render(values);
        let bindings = objects.all().filter(|object| {
            object["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding"))
        });

        let named =
            |kind: &Value, name: &Value, namespace: &Value| format!("{kind} {name} {namespace}");
        let mut bound: Vec<String> = bindings
            .map(|binding| {
                let role = &binding["roleRef"];
                named(&role["kind"], &role["name"], &binding["metadata"]["namespace"])
            })
            .collect();
        let mut present: Vec<String> = roles(&objects)
            .map(|role| {
                named(&role["kind"], &role["metadata"]["name"], &role["metadata"]["namespace"])
            })
            .collect();
        bound.sort();
        present.sort();
        assert_eq!(bound, present);
    }
}

fn roles(objects: &Objects) -> impl Iterator<Item = &Value> {
    objects.of_kind("Role").chain(objects.of_kind("ClusterRole"))
}

/// A line for each right: who, where, what, how, and of which names.
fn rights(objects: &Objects) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (kind, bindings) in [("Role", "RoleBinding"), ("ClusterRole", "ClusterRoleBinding")] {
        for binding in objects.of_kind(bindings) {
            let namespace = &binding["metadata"]["namespace"];
            let place = match namespace.as_str() {
                Some(namespace) => format!("in {namespace}"),
                None => "everywhere".to_owned(),
            };
            assert_eq!(binding["roleRef"]["kind"], kind);
            let role = objects
                .of_kind(kind)
                .find(|role| {
                    role["metadata"]["name"] == binding["roleRef"]["name"]
                        && role["metadata"]["namespace"] == *namespace
                })
                .unwrap();
            for subject in binding["subjects"].as_array().unwrap() {
                let who = account(subject, objects);
                let rules = role["rules"].as_array().unwrap().iter();
                found.extend(rules.flat_map(lines).map(|line| format!("{who} {place}: {line}")));
            }
        }
    }
    found
}

/// The component whose service account it is.
fn account<'s>(subject: &'s Value, objects: &Objects) -> &'s str {
    assert_eq!(subject["kind"], "ServiceAccount");
    let name = subject["name"].as_str().unwrap();
    let account = objects.get("ServiceAccount", name);
    assert_eq!(account["metadata"]["namespace"], subject["namespace"]);
    assert_eq!(subject["namespace"], NAMESPACE);
    name.strip_prefix("fairway-").unwrap()
}

fn lines(rule: &Value) -> Vec<String> {
    let verbs = strings(&rule["verbs"]).join(",");
    let names = match strings(&rule["resourceNames"]) {
        names if names.is_empty() => String::new(),
        names => format!(" of {}", names.join(",")),
    };
    let mut found = Vec::new();
    for group in strings(&rule["apiGroups"]) {
        for resource in strings(&rule["resources"]) {
            let resource = match group {
                "" => resource.to_owned(),
                group => format!("{group}/{resource}"),
            };
            found.push(format!("{resource} {verbs}{names}"));
        }
    }
    found
}
