//! What the CRDs refuse is refused without an apiserver too, in the same words; what they accept is
//! accepted. The rows are those that the CRDs themselves are tested with.

use std::collections::BTreeSet;

use gateway_core::{Entry, Invalid, References, Secrets};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{CERTIFICATE, PEPPER, claim, manifest, minted, place, resource};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    row: String,
    kind: String,
    #[serde(default = "weather")]
    name: String,
    spec: Value,
    #[serde(default)]
    refused: BTreeSet<String>,
}

#[test]
fn rows_of_the_crds_are_accepted_or_refused_alike() {
    let rows: Vec<Row> = [
        include_str!("../../../../crds/tests/api/manifests.yaml"),
        include_str!("../../../../crds/tests/api/workloads.yaml"),
    ]
    .into_iter()
    .flat_map(|rows| serde_saphyr::from_str::<Vec<Row>>(rows).unwrap())
    .collect();
    assert!(rows.len() > 130);

    for Row { row, kind, name, spec, refused } in rows {
        let given = manifest(&kind, "tools", &name, &spec);
        match read(given.clone()) {
            Ok(_) => assert!(refused.is_empty(), "{row}: accepted, though {refused:?}"),
            // What does not fit the types never becomes a resource.
            Err(Unfit::Shape(error)) => assert!(!refused.is_empty(), "{row}: {error}"),
            Err(Unfit::Invalid(invalid)) => {
                let text = invalid.to_string();
                let same = |refusal: &String| {
                    let (path, keyword) = refusal.split_once(": ").unwrap_or(("", refusal));
                    // Bounds have no words of their own; rules on the whole have no path.
                    let bound = keyword.starts_with("min") || keyword.starts_with("max");
                    text == *refusal
                        || text == format!("metadata.name: {refusal}")
                        || (bound && text.starts_with(&format!("{path}: ")))
                };
                assert!(refused.iter().any(same), "{row}: {text:?}, but {refused:?}");
            }
        }
    }
}

#[derive(Debug)]
pub(crate) enum Unfit {
    Shape(#[allow(dead_code)] serde_json::Error),
    Invalid(Invalid),
}

/// The entry of a manifest in a cluster where all is there that it refers to.
pub(crate) fn read(manifest: Value) -> Result<Entry, Unfit> {
    let mut secrets = Secrets::default();
    for (path, value) in [
        ("/spec/credentials/secretRef", "long-enough-value"),
        ("/spec/valueFrom/secretKeyRef", "long-enough-value"),
        ("/spec/tls/caSecretRef", CERTIFICATE),
    ] {
        if let Some(reference) = manifest.pointer(path) {
            let secret = json!({
                "metadata": {"name": reference["name"], "namespace": "tools"},
                "stringData": {reference["key"].as_str().unwrap_or_default(): value},
            });
            secrets.insert(serde_json::from_value(secret).unwrap());
        }
    }
    let references = References {
        place: Some(place()),
        minted: vec![minted("made-by-the-operator", None)],
        ..References::without_cluster(claim(0), &secrets, &PEPPER)
    };
    let resource = resource(manifest).map_err(Unfit::Shape)?;
    Entry::from_resource(&resource, references).map_err(Unfit::Invalid)
}

fn weather() -> String {
    "weather".to_owned()
}
