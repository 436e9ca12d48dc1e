//! What the CRDs refuse is refused without an apiserver too, in the same words; what they accept is
//! accepted. The rows are those that the CRDs themselves are tested with.

use std::collections::BTreeSet;

use gateway_core::{Entry, Invalid, References, Secrets};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{claim, manifest, pepper, resource};

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
    let rows: Vec<Row> =
        serde_saphyr::from_str(include_str!("../../../../crds/tests/api/manifests.yaml")).unwrap();
    assert!(rows.len() > 50);

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

/// The entry of a manifest whose Secrets all exist. A key's value is one, too: with a cluster the
/// operator makes it.
pub(crate) fn read(mut manifest: Value) -> Result<Entry, Unfit> {
    if manifest["kind"] == "McpApiKey" && manifest["spec"].get("valueFrom").is_none() {
        manifest["spec"]["valueFrom"] = json!({"secretKeyRef": {"name": "made", "key": "key"}});
    }
    let mut secrets = Secrets::default();
    for (path, name) in [("/spec/credentials", "secretRef"), ("/spec/valueFrom", "secretKeyRef")] {
        if let Some(reference) = manifest.pointer(path).and_then(|holder| holder.get(name)) {
            let secret = json!({
                "metadata": {"name": reference["name"], "namespace": "tools"},
                "stringData": {reference["key"].as_str().unwrap_or_default(): "long-enough-value"},
            });
            secrets.insert(serde_json::from_value(secret).unwrap());
        }
    }
    let resource = resource(manifest).map_err(Unfit::Shape)?;
    Entry::from_resource(&resource, References::without_cluster(claim(0), &secrets, &pepper()))
        .map_err(Unfit::Invalid)
}

fn weather() -> String {
    "weather".to_owned()
}
