//! The rules of the CRDs, tried on random values: what they refuse is refused in the same words, and
//! what they accept is accepted but for what they cannot say.

use std::collections::BTreeMap;

use gateway_core::{Invalid, Resource};
use kube::core::cel::{CompiledSchema, compile_schema, validate_compiled};
use proptest::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::fixture::{manifest, resource};
use crate::manifests::{Unfit, read};

/// Values that are mostly almost right, for every field that has a rule on its text.
fn field() -> impl Strategy<Value = (&'static str, &'static str, String)> {
    prop_oneof![server(), workload(), key()]
}

fn of(
    spec: &'static str,
    fields: &[(&'static str, &'static str)],
) -> BoxedStrategy<(&'static str, &'static str, String)> {
    let field = |&(path, values): &(&'static str, &'static str)| {
        values.prop_map(move |value: String| (spec, path, value)).boxed()
    };
    prop::strategy::Union::new(fields.iter().map(field)).boxed()
}

fn server() -> BoxedStrategy<(&'static str, &'static str, String)> {
    of(
        "url",
        &[
            ("/metadata/name", "sse|messages|[a-z0-9]{1,3}([.A_-][a-z0-9]{0,2})?"),
            ("/spec/url", "(https?|HTTP|ws)://[a0:@#?/\\\\ .\n%\\[\\]é-]{0,8}"),
            ("/spec/path", "/?[a0:@#?/\\\\ .\n%é-]{0,6}"),
            ("/spec/hostHeader", "\\[?[a0g:._ é-]{0,5}\\]?(:[0-9a]{0,6})?"),
            ("/spec/tools/prefix", "[aZ0_ .é\n-]{0,5}"),
            ("/spec/timeouts/connect", "([0-9]{0,7}(h|m|s|ms|d| )){0,4}"),
            ("/spec/timeouts/total", "([0-9]{1,2}h)?([0-9]{1,2}m)?([0-9]{1,2}s)?([0-9]{1,3}ms)?"),
            ("/spec/circuitBreaker/openFor", "([0-9]{0,7}(h|m|s|ms|d| )){0,2}"),
            ("/spec/credentials/header", "[aZ0_ :.é\n-]{0,5}"),
            ("/spec/credentials/scheme", "[aZ0._ é\n-]{0,5}"),
            ("/spec/credentials/secretRef/name", "[aZ0._ é\n-]{0,5}"),
            ("/spec/credentials/secretRef/key", "[aZ0._ é\n-]{0,5}"),
            ("/spec/tls/caSecretRef/name", "[aZ0._ é\n-]{0,5}"),
            ("/spec/exposeTo/1", "[aZ0._ é\n-]{0,5}"),
        ],
    )
}

fn workload() -> BoxedStrategy<(&'static str, &'static str, String)> {
    let workload = of(
        "workload",
        &[
            ("/spec/workload/image", "[aZ0:/@ \t\né-]{1,6}"),
            ("/spec/workload/healthPath", "/?[a0:@#?/\\\\ .\n%é-]{0,6}"),
            ("/spec/workload/imagePullSecrets/1", "[aZ0._ é\n-]{0,5}"),
            ("/spec/workload/volumes/1/name", "data|[aZ0._ é\n-]{0,5}"),
            ("/spec/workload/volumes/1/mountPath", "/data|/?[a0:/\\\\ .\né-]{0,5}"),
            ("/spec/workload/volumes/1/subPath", "(\\.{0,2}[a/\n]){0,3}\\.{0,2}"),
        ],
    );
    prop_oneof![6 => workload, 1 => of("service", &[("/spec/service/name", "[aZ0._ é\n-]{0,5}")])]
        .boxed()
}

fn key() -> BoxedStrategy<(&'static str, &'static str, String)> {
    of(
        "key",
        &[
            ("/spec/secretName", "[aZ0._ é\n-]{0,5}"),
            ("/spec/rotation/interval", "([0-9]{0,7}(h|m|s|ms|d| )){0,4}"),
            ("/spec/rotation/overlap", "([0-9]{1,5}h)?([0-9]{1,2}m)?([0-9]{1,2}s)?"),
        ],
    )
}

/// A valid manifest in which every one of these fields can be set.
fn valid(spec: &str) -> Value {
    let (kind, spec) = match spec {
        "url" => (
            "McpServer",
            json!({
                "url": "https://git",
                "tools": {},
                "credentials": {"secretRef": {"name": "git", "key": "token"}},
                "tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}},
                "timeouts": {},
                "circuitBreaker": {},
                "exposeTo": ["team-a", "team-b"],
            }),
        ),
        "workload" => (
            "McpServer",
            json!({"workload": {
                "image": "git",
                "imagePullSecrets": ["registry", "other"],
                "volumes": [
                    {"name": "data", "mountPath": "/data", "emptyDir": {}},
                    {"name": "tmp", "mountPath": "/tmp", "emptyDir": {}},
                ],
            }}),
        ),
        "service" => ("McpServer", json!({"service": {"name": "git"}})),
        _ => ("McpApiKey", json!({"user": "ann", "rotation": {"interval": "1h"}})),
    };
    manifest(kind, "tools", "git", &spec)
}

/// What the rules of the CRD say of a manifest that fits the types.
fn refusals(given: Value) -> Vec<String> {
    thread_local! {
        static SCHEMAS: BTreeMap<String, CompiledSchema> = crds::generate::crds()
            .into_iter()
            .map(|crd| {
                let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
                (crd.spec.names.kind, compile_schema(&schema["openAPIV3Schema"]))
            })
            .collect();
    }
    fn check(resource: &impl Serialize, kind: &str) -> Vec<String> {
        let object = serde_json::to_value(resource).unwrap();
        let result = SCHEMAS.with(|schemas| validate_compiled(&schemas[kind], &object, None));
        let errors = result.err().into_iter().flat_map(|errors| errors.into_vec());
        errors.map(|error| error.to_string()).collect()
    }
    match resource(given).unwrap() {
        Resource::Server(server) => check(&*server, "McpServer"),
        Resource::Key(key) => check(&*key, "McpApiKey"),
        Resource::Policy(policy) => check(&*policy, "McpPolicy"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn rules_of_the_crds_hold((spec, path, value) in field()) {
        let mut given = valid(spec);
        prop_assert_eq!(refusals(given.clone()), [""; 0]);
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = given.pointer_mut(parent).unwrap();
        match name.parse::<usize>() {
            Ok(at) => parent[at] = json!(value),
            Err(_) => parent[name] = json!(value),
        }

        let refused = refusals(given.clone());
        let entry = read(given);

        match entry {
            Ok(entry) => prop_assert_eq!(refused, [""; 0], "{:?}", entry),
            Err(Unfit::Invalid(invalid)) => {
                let text = invalid.to_string();
                let same = |refusal: &String| {
                    text == *refusal || text == format!("metadata.name: {refusal}")
                };
                // An apiserver checks names itself, and rules cannot say what is a URL.
                let Invalid::Field { field, .. } = &invalid else { panic!("{text}") };
                let more = ["metadata.name", "spec.url", "spec.path"].contains(&&**field);
                prop_assert!(more || refused.iter().any(same), "{} {:?} {:?}", text, value, refused);
            }
            Err(Unfit::Shape(error)) => panic!("{error}"),
        }
    }
}
