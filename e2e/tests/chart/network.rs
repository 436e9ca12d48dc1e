//! Who reaches whom, by the NetworkPolicies and the labels of pods.
//!
//! The policies of servers are made by the operator, not by the chart; the one in here has the form
//! that was agreed on, so that the labels on both sides are seen to fit.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use crate::{
    helm::{NAMESPACE, Objects},
    labels::Labels,
};

/// Something that opens a connection.
#[derive(Debug)]
enum Peer {
    Pod {
        namespace: String,
        labels: Labels,
    },
    /// Not a pod of this cluster.
    Outside(IpAddr),
}

/// A name to read in the tables, and what bears it.
type Named = (&'static str, Peer);

#[test]
fn only_gateways_reach_servers_and_each_other_and_only_operator_and_monitoring_the_admin_ports() {
    let objects = Objects::render("networkPolicy: {monitoringNamespaces: [monitoring]}");

    let found = reachable(&objects);

    let anyone = |port: &'static str| everyone(&objects).into_iter().map(move |who| (who, port));
    let mut expected: BTreeSet<(&str, &str)> = anyone("gateway:8080").collect();
    expected.extend([
        ("operator", "gateway:9090"),
        ("prometheus", "gateway:9090"),
        ("prometheus", "operator:9090"),
        ("gateway", "gateway:9091"),
        ("gateway", "server:8000"),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn metrics_are_the_operators_alone_by_default() {
    let found = reachable(&Objects::render(""));

    let admin: Vec<_> = found.iter().filter(|(_, to)| to.ends_with(":9090")).collect();
    assert_eq!(admin, [&("operator", "gateway:9090")]);
}

#[test]
fn clients_may_be_told_apart() {
    let objects = Objects::render(
        "networkPolicy:
           clients:
           - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}
           - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}",
    );

    let found = reachable(&objects);

    let clients: Vec<_> =
        found.iter().filter(|(_, to)| *to == "gateway:8080").map(|(from, _)| *from).collect();
    assert_eq!(clients, ["ingress controller", "known network"]);
}

#[test]
fn policies_can_be_left_out() {
    let objects = Objects::render("networkPolicy: {enabled: false}");

    assert_eq!(objects.of_kind("NetworkPolicy").count(), 0);
}

/// Services send to pods of this release only, and to all that they should.
#[test]
fn services_find_their_pods() {
    let objects = Objects::render("demo: {enabled: true}");
    let selected = |service: &str| -> Vec<&str> {
        let selector = &objects.get("Service", service)["spec"]["selector"];
        peers(&objects)
            .into_iter()
            .filter(|(_, peer)| match peer {
                Peer::Pod { namespace, labels } => namespace == NAMESPACE && labels.have(selector),
                Peer::Outside(_) => false,
            })
            .map(|(name, _)| name)
            .collect()
    };

    assert_eq!(selected("fairway-gateway"), ["gateway"]);
    assert_eq!(selected("fairway-metrics"), ["gateway", "operator"]);
    assert_eq!(selected("fairway-peers"), ["gateway"]);
}

/// A name that resolves to the pods themselves, also those that begin or end, on the port they listen at.
#[test]
fn gateways_find_each_other_by_name() {
    let objects = Objects::render("");

    let peers = &objects.get("Service", "fairway-peers")["spec"];

    assert_eq!(peers["clusterIP"], "None");
    assert_eq!(peers["publishNotReadyAddresses"], true);
    assert_eq!(peers["ports"], json!([{"name": "peer", "port": 9091, "targetPort": "peer"}]));
    let pod = &objects.get("Deployment", "fairway-gateway")["spec"]["template"]["spec"];
    let ports = pod["containers"][0]["ports"].as_array().unwrap();
    assert!(ports.contains(&json!({"name": "peer", "containerPort": 9091})), "{ports:?}");
}

/// Every pair of a peer and a port that the policies let through.
fn reachable(objects: &Objects) -> BTreeSet<(&'static str, &'static str)> {
    let mut policies: Vec<Value> = objects.of_kind("NetworkPolicy").cloned().collect();
    policies.push(policy_of_a_server());
    let peers = peers(objects);
    let ports = [
        ("gateway", 8080, "gateway:8080"),
        ("gateway", 9090, "gateway:9090"),
        ("gateway", 9091, "gateway:9091"),
        ("gateway", 8000, "gateway:8000"),
        ("operator", 9090, "operator:9090"),
        ("operator", 8080, "operator:8080"),
        ("server", 8000, "server:8000"),
        ("server", 9090, "server:9090"),
    ];

    let mut found = BTreeSet::new();
    for (to, port, target) in ports {
        let (_, to) = peers.iter().find(|(name, _)| *name == to).unwrap();
        for (name, from) in &peers {
            if allows(&policies, from, to, port) {
                found.insert((*name, target));
            }
        }
    }
    found
}

fn everyone(objects: &Objects) -> BTreeSet<&'static str> {
    peers(objects).into_iter().map(|(name, _)| name).collect()
}

/// The pods of the release, with the labels it gives them, and others that may mean well or ill.
fn peers(objects: &Objects) -> Vec<Named> {
    let of = |component: &str| {
        let deployment = objects.get("Deployment", &format!("fairway-{component}"));
        deployment["spec"]["template"]["metadata"]["labels"].clone()
    };
    let pod = |name, namespace: &str, labels: &Value| {
        (name, Peer::Pod { namespace: namespace.to_owned(), labels: Labels::from_json(labels) })
    };
    let outside = |name, address: &str| (name, Peer::Outside(address.parse().unwrap()));
    let server = json!({
        "app.kubernetes.io/name": "mcp-server",
        "app.kubernetes.io/instance": "git",
        "app.kubernetes.io/managed-by": "fairway",
        "fairway.dev/server": "git",
    });
    let mut other = server.clone();
    other["fairway.dev/server"] = json!("other");
    let mut foreign = of("gateway");
    foreign["app.kubernetes.io/instance"] = json!("staging");

    vec![
        pod("gateway", NAMESPACE, &of("gateway")),
        pod("operator", NAMESPACE, &of("operator")),
        pod("neighbour", NAMESPACE, &json!({"app": "a"})),
        pod("gateway of another release", NAMESPACE, &foreign),
        pod("server", "team-a", &server),
        pod("other server", "team-a", &other),
        pod("false gateway", "team-a", &of("gateway")),
        pod("false operator", "team-a", &of("operator")),
        pod("pod of another team", "team-b", &json!({})),
        pod("prometheus", "monitoring", &json!({"app": "prometheus"})),
        pod("ingress controller", "ingress", &json!({"app": "traefik"})),
        outside("known network", "192.0.2.7"),
        outside("excepted network", "192.0.2.200"),
        outside("elsewhere", "203.0.113.1"),
    ]
}

/// As the operator makes it for an McpServer `git`.
fn policy_of_a_server() -> Value {
    json!({
        "metadata": {"name": "mcp-git", "namespace": "team-a"},
        "spec": {
            "podSelector": {"matchLabels": {"fairway.dev/server": "git"}},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
                    "podSelector": {"matchLabels": {
                        "app.kubernetes.io/instance": "fairway",
                        "app.kubernetes.io/component": "gateway",
                    }},
                }],
                "ports": [{"protocol": "TCP", "port": 8000}],
            }],
        },
    })
}

/// Whether a TCP connection to a port of a pod is let in.
fn allows(policies: &[Value], from: &Peer, to: &Peer, port: u16) -> bool {
    let Peer::Pod { namespace, labels } = to else { panic!("only pods have policies") };
    let mut selecting = policies
        .iter()
        .filter(|policy| policy["metadata"]["namespace"] == **namespace)
        .filter(|policy| labels.matched_by(&policy["spec"]["podSelector"]))
        .inspect(|policy| assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"])))
        .peekable();
    if selecting.peek().is_none() {
        return true;
    }
    selecting.any(|policy| {
        policy["spec"]["ingress"].as_array().into_iter().flatten().any(|rule| {
            let ports = rule["ports"].as_array();
            let to_port = ports.is_none_or(|ports| ports.iter().any(|p| p["port"] == port));
            let peers = rule["from"].as_array();
            to_port && peers.is_none_or(|peers| peers.iter().any(|p| is(p, from, namespace)))
        })
    })
}

/// Whether a peer of a rule is this one; `home` is the policy's namespace.
fn is(peer: &Value, from: &Peer, home: &str) -> bool {
    let (pods, namespaces, block) =
        (peer.get("podSelector"), peer.get("namespaceSelector"), peer.get("ipBlock"));
    match from {
        // Whether a block holds addresses of pods is up to the network; a policy should not rely on it.
        Peer::Pod { .. } if block.is_some() => false,
        Peer::Pod { namespace, labels } => {
            let namespace_labels =
                Labels::from_json(&json!({"kubernetes.io/metadata.name": namespace}));
            let there = match namespaces {
                Some(selector) => namespace_labels.matched_by(selector),
                None => namespace == home,
            };
            there && pods.is_none_or(|selector| labels.matched_by(selector))
        }
        Peer::Outside(address) => block.is_some_and(|block| {
            let mut excepted = block["except"].as_array().into_iter().flatten();
            within(*address, &block["cidr"]) && !excepted.any(|range| within(*address, range))
        }),
    }
}

fn within(address: IpAddr, range: &Value) -> bool {
    let (network, length) = range.as_str().unwrap().split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    match (address, network.parse().unwrap()) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

#[test]
fn pods_without_a_policy_are_open_and_a_policy_without_rules_closes() {
    let pod = |namespace: &str| Peer::Pod {
        namespace: namespace.to_owned(),
        labels: Labels::from_json(&json!({"app": "a"})),
    };
    let policy = |spec: Value| json!({"metadata": {"namespace": "n"}, "spec": spec});
    let closed = policy(json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
    let same_namespace = policy(json!({
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {}}]}],
    }));

    let (inside, outside) = (pod("n"), pod("m"));

    assert!(allows(&[], &outside, &inside, 80));
    assert!(allows(std::slice::from_ref(&closed), &inside, &outside, 80));
    assert!(!allows(std::slice::from_ref(&closed), &inside, &inside, 80));
    assert!(allows(std::slice::from_ref(&same_namespace), &inside, &inside, 80));
    assert!(!allows(std::slice::from_ref(&same_namespace), &outside, &inside, 80));
    assert!(allows(&[closed, same_namespace], &inside, &inside, 80), "policies add up");
}
