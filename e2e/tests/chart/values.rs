//! What the schema of the values lets through, and what it says of the rest.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::helm::{self, Objects};

#[test]
fn mistakes_are_refused_and_named() {
    let table = [
        ("config: {cors: {origins: ['*']}}", "'/config/cors/origins/0': '*' does not match"),
        ("config: {cors: {origins: ['https://*.example.com']}}", "'/config/cors/origins/0'"),
        ("config: {cors: {origins: ['null']}}", "'/config/cors/origins/0'"),
        ("config: {cors: {origins: [example.com]}}", "'/config/cors/origins/0'"),
        ("config: {cors: {origins: ['https://example.com/']}}", "'/config/cors/origins/0'"),
        ("config: {cors: {origins: ['https://a@example.com']}}", "'/config/cors/origins/0'"),
        ("config: {cors: {origin: []}}", "'/config/cors': additional properties 'origin' not"),
        ("config: {publicUrl: mcp.example.com}", "'/config/publicUrl'"),
        ("config: {publicUrl: 'https://example.com/mcp'}", "'/config/publicUrl'"),
        ("config: {jwt: {}}", "'/config': additional properties 'jwt' not allowed"),
        ("typo: 1", "additional properties 'typo' not allowed"),
        ("gateway: {replicas: 0}", "'/gateway/replicas': minimum: got 0, want 1"),
        ("gateway: {drainSeconds: -1}", "'/gateway/drainSeconds': minimum: got -1, want 0"),
        (
            "gateway: {autoscaling: {enabled: true, minReplicas: 11}}",
            "gateway.autoscaling.minReplicas must not be greater than maxReplicas",
        ),
        (
            "gateway: {autoscaling: {enabled: true, targetCPU: 0}}",
            "gateway.autoscaling needs a target: set targetCPU or targetStreams",
        ),
        ("gateway: {image: {name: a}}", "'/gateway/image': additional properties 'name' not"),
        ("gateway: {service: {type: ExternalName}}", "'/gateway/service/type'"),
        ("operator: {replicas: 0}", "'/operator/replicas': minimum: got 0, want 1"),
        ("operator: {watchNamespaces: ['*']}", "'/operator/watchNamespaces/0'"),
        ("image: {pullPolicy: Sometimes}", "'/image/pullPolicy': value must be one of 'Always'"),
        ("upstreams: {allowedRanges: [10.0.0.0]}", "'/upstreams/allowedRanges/0'"),
        ("upstreams: {forbiddenRanges: ['10.0.0.0/8,::/0']}", "'/upstreams/forbiddenRanges/0'"),
        ("ingress: {controller: other}", "value must be one of '', 'traefik', 'nginx'"),
        ("ingress: {host: 'https://example.com'}", "'/ingress/host'"),
        ("ingress: {annotations: {a: 1}}", "'/ingress/annotations/a': got number, want string"),
        ("httpRoute: {enabled: true}", "'/httpRoute/parentRefs': minItems: got 0, want 1"),
        ("networkPolicy: {clients: [{}]}", "'/networkPolicy/clients/0'"),
        ("networkPolicy: {clients: [{pods: a}]}", "additional properties 'pods' not allowed"),
        ("serviceMonitor: {interval: often}", "'/serviceMonitor/interval'"),
        (
            "entriesNamespace: fairway-system",
            "entriesNamespace must not be the release's own namespace",
        ),
        (
            "{demo: {enabled: true}, operator: {watchNamespaces: [team-a]}}",
            "the demo is in the namespace fairway-system, which is not in operator.watchNamespaces",
        ),
        (
            "demo: {enabled: true, namespace: fairway-entries}",
            "demo.namespace must not be the entries namespace",
        ),
    ];

    for (values, said) in table {
        let text = helm::refusal(values);

        assert!(text.contains(said), "{values}: {text}");
    }
}

#[test]
fn what_is_right_is_let_through() {
    for values in [
        "config: {cors: {origins: ['http://localhost:3000', 'https://app.example.com']}}",
        "config: {publicUrl: 'http://10.0.0.1:8080'}",
        "global: {anything: [1]}",
        "upstreams: {allowedRanges: [10.0.0.0/8, 'fd00::/8']}",
    ] {
        Objects::render(values);
    }
}

/// A value that the file lacks is one that nobody finds; one that the schema lacks, Helm refuses.
#[test]
fn every_value_is_in_the_file_with_its_default() {
    let read = |name: &str| fs::read_to_string(helm::chart().join(name)).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();

    let mut expected = BTreeSet::new();
    declared(&schema, &schema, "", &mut expected);
    expected.remove("/global");
    for path in expected {
        assert!(values.pointer(&path).is_some(), "values.yaml has no {path}");
    }
}

#[test]
fn no_object_of_the_schema_takes_unknown_keys() {
    let text = fs::read_to_string(helm::chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();

    let mut nodes = vec![&schema];
    while let Some(node) = nodes.pop() {
        if node["type"] == "object" && node.get("properties").is_some() {
            assert_eq!(node["additionalProperties"], false, "{node}");
        }
        nodes.extend(node.as_object().into_iter().flat_map(|object| object.values()));
    }
}

/// JSON pointers of all values that a schema declares by name.
fn declared(schema: &Value, root: &Value, path: &str, found: &mut BTreeSet<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        found.insert(path.clone());
        declared(property, root, &path, found);
    }
}
