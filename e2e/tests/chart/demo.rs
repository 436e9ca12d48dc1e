//! The demo's resources: those of `cargo demo`, as the CRDs want them.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use crate::helm::{self, FULL, NAMESPACE, Objects, strings};

const POSTGRES: &str = "demo: {enabled: true, postgres: {url: 'postgres://db.example.com/app'}}";

#[test]
fn there_is_no_demo_by_default() {
    let objects = Objects::render("");

    for kind in ["McpServer", "McpApiKey", "McpPolicy", "ConfigMap"] {
        assert_eq!(objects.of_kind(kind).count(), 0, "{kind}");
    }
}

/// Nine tools for alice, six for bob: all three servers, and all but the files.
#[test]
fn alice_may_use_all_servers_and_bob_all_but_the_files() {
    for (values, namespace, database) in [
        ("demo: {enabled: true}", NAMESPACE, "database"),
        (POSTGRES, NAMESPACE, "postgres"),
        (FULL, "team-a", "postgres"),
    ] {
        let objects = Objects::render(values);

        let mut servers = names(&objects, "McpServer");
        servers.sort_unstable();
        let mut all = ["everything", "filesystem", database];
        all.sort_unstable();
        assert_eq!(servers, all);
        let granted: BTreeMap<&str, Vec<&str>> = objects
            .of_kind("McpPolicy")
            .map(|policy| {
                let spec = &policy["spec"];
                assert_eq!(spec["subjects"], json!([{"user": policy["metadata"]["name"]}]));
                assert_eq!(spec["rules"].as_array().unwrap().len(), 1);
                assert_eq!(spec["rules"][0].as_object().unwrap().len(), 1, "servers alone");
                let user = spec["subjects"][0]["user"].as_str().unwrap();
                (user, strings(&spec["rules"][0]["servers"]))
            })
            .collect();
        let expected = [("alice", vec!["*"]), ("bob", vec!["everything", database])];
        assert_eq!(granted, BTreeMap::from(expected));
        for kind in ["McpServer", "McpApiKey", "McpPolicy", "ConfigMap"] {
            for object in objects.of_kind(kind) {
                assert_eq!(object["metadata"]["namespace"], namespace, "{object}");
            }
        }
    }
}

#[test]
fn the_operator_makes_the_keys() {
    let objects = Objects::render("demo: {enabled: true}");

    assert_eq!(names(&objects, "McpApiKey"), ["alice", "bob"]);
    for key in objects.of_kind("McpApiKey") {
        assert_eq!(key["spec"]["user"], key["metadata"]["name"]);
        assert_eq!(key["spec"].get("valueFrom"), None);
    }
}

#[test]
fn tools_keep_their_names() {
    let objects = Objects::render("demo: {enabled: true}");

    for server in objects.of_kind("McpServer") {
        assert_eq!(server["spec"]["tools"], json!({"prefix": ""}), "{server}");
    }
}

#[test]
fn the_database_is_the_one_that_the_values_name() {
    let of = |values: &str, server: &str| {
        let objects = Objects::render(values);
        let environment = objects.get("McpServer", server)["spec"]["workload"]["env"].clone();
        let variable = |name: &str| {
            let variables = environment.as_array().unwrap();
            variables.iter().find(|variable| variable["name"] == name).unwrap().clone()
        };
        let secret = objects.find("Secret", "fairway-demo-database").cloned();
        (variable("DATABASE_URL"), variable("SEED")["value"].clone(), secret)
    };
    let from = |name: &str, key: &str| {
        let source = json!({"secretKeyRef": {"name": name, "key": key}});
        json!({"name": "DATABASE_URL", "valueFrom": source})
    };

    let (url, seed, secret) = of("demo: {enabled: true}", "database");
    assert_eq!(url["value"], "sqlite:/data/sample.db");
    assert_eq!((seed, secret), (json!("true"), None));

    let (url, seed, secret) = of(POSTGRES, "postgres");
    assert_eq!(url, from("fairway-demo-database", "DATABASE_URL"));
    assert_eq!(seed, "false", "somebody's own database");
    let data = &secret.unwrap()["data"];
    assert_eq!(data["DATABASE_URL"], "cG9zdGdyZXM6Ly9kYi5leGFtcGxlLmNvbS9hcHA=");

    let (url, seed, secret) = of(FULL, "postgres");
    assert_eq!(url, from("database", "url"));
    assert_eq!((seed, secret), (json!("true"), None));
}

/// They answer to one name only; another one would be refused with 403.
#[test]
fn servers_answer_to_the_name_of_their_service() {
    let objects = Objects::render(FULL);

    for server in objects.of_kind("McpServer") {
        let name = server["metadata"]["name"].as_str().unwrap();
        let hosts = &server["spec"]["workload"]["env"][0];
        let expected = json!({"name": "ALLOWED_HOSTS", "value": format!("mcp-{name}.team-a.svc")});
        assert_eq!(*hosts, expected);
    }
}

#[test]
fn the_sample_files_lie_where_the_server_looks() {
    let objects = Objects::render("demo: {enabled: true}");
    let files = objects.get("ConfigMap", "fairway-demo-files")["data"].as_object().unwrap();
    let workload = &objects.get("McpServer", "filesystem")["spec"]["workload"];

    let root = workload["env"].as_array().unwrap().iter().find(|v| v["name"] == "FILESYSTEM_ROOT");
    let root = root.unwrap()["value"].as_str().unwrap();
    let volumes = workload["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|v| v["mountPath"] == root && v.get("emptyDir").is_some()));
    for (name, text) in files {
        let sample = helm::repository().join("servers/demo/sample-files").join(name);
        assert_eq!(text.as_str().unwrap(), fs::read_to_string(sample).unwrap(), "{name}");
        let path = format!("{root}/{name}");
        let mount = volumes.iter().find(|volume| volume["mountPath"] == path).unwrap();
        assert_eq!(mount["subPath"], **name);
        assert_eq!(mount["configMap"]["name"], "fairway-demo-files");
    }
    assert_eq!(files.len(), 2);
}

/// What a CRD does not know the apiserver drops without a word.
#[test]
fn every_field_is_one_that_the_crds_know() {
    let kinds =
        [("McpServer", "mcpservers"), ("McpApiKey", "mcpapikeys"), ("McpPolicy", "mcppolicies")];

    for values in ["demo: {enabled: true}", FULL] {
        let objects = Objects::render(values);
        for (kind, plural) in kinds {
            let file = helm::chart().join(format!("crds/{plural}.yaml"));
            let crd: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            for object in objects.of_kind(kind) {
                let mut found = Vec::new();
                unknown(&object["spec"], &schema["properties"]["spec"], "spec", &mut found);
                assert_eq!(found, [] as [&str; 0], "{kind} {}", object["metadata"]["name"]);
            }
        }
    }
}

/// Fields that a structural schema does not have, and those it asks for in vain.
fn unknown(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    for required in strings(&schema["required"]) {
        if value.get(required).is_none() {
            found.push(format!("{path} lacks {required}"));
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match (schema["properties"].get(key), schema.get("additionalProperties")) {
            (Some(schema), _) | (None, Some(schema)) => unknown(value, schema, &path, found),
            (None, None) if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            (None, None) => found.push(path),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        unknown(item, &schema["items"], path, found);
    }
}

fn names<'o>(objects: &'o Objects, kind: &'o str) -> Vec<&'o str> {
    objects.of_kind(kind).map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
}
