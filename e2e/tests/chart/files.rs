//! Copies are copies, and the CRDs reach the cluster as they are.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::helm::{self, FULL, Objects};

#[test]
fn crds_are_the_generated_ones_byte_for_byte() {
    let generated = files(&helm::repository().join("crds/generated"));
    let chart = files(&helm::chart().join("crds"));

    assert_eq!(
        chart.keys().collect::<Vec<_>>(),
        generated.keys().collect::<Vec<_>>(),
        "run cp crds/generated/*.yaml charts/fairway/crds, and remove files of kinds that are gone",
    );
    for (name, text) in generated {
        assert!(
            chart[&name] == text,
            "{name} differs: run cp crds/generated/*.yaml charts/fairway/crds"
        );
    }
}

#[test]
fn sample_files_are_those_of_the_demo() {
    let samples = files(&helm::repository().join("servers/demo/sample-files"));

    assert_eq!(files(&helm::chart().join("files/demo")), samples);
}

#[test]
fn the_version_is_that_of_the_workspace() {
    let text = fs::read_to_string(helm::chart().join("Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&text).unwrap();

    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_chart_has_no_lint() {
    for values in ["", FULL] {
        let output = helm::lint(values);

        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Helm installs them from crds/ by itself, and only once.
#[test]
fn an_install_leaves_the_crds_to_helm() {
    let rendered = Objects::render("");
    let included = Objects::render_with("", &["--include-crds"]);

    assert_eq!(rendered.of_kind("CustomResourceDefinition").count(), 0);
    assert_eq!(included.of_kind("CustomResourceDefinition").count(), 3);
}

#[test]
fn an_upgrade_applies_the_crds_as_a_hook() {
    let upgraded = Objects::render_with("", &["--is-upgrade"]);

    let found: BTreeMap<String, Value> = upgraded
        .of_kind("CustomResourceDefinition")
        .map(|crd| {
            let mut crd = crd.clone();
            let metadata = crd["metadata"].as_object_mut().unwrap();
            // No more than this: any other policy, or none of Helm's own for CRDs, could delete them.
            assert_eq!(
                metadata.remove("annotations"),
                Some(json!({"helm.sh/hook": "pre-upgrade"}))
            );
            let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
            (format!("{plural}.yaml"), crd)
        })
        .collect();
    let generated: BTreeMap<String, Value> = files(&helm::chart().join("crds"))
        .into_iter()
        .map(|(name, text)| (name, serde_saphyr::from_str(&text).unwrap()))
        .collect();
    assert_eq!(found, generated);
}

#[test]
fn an_upgrade_leaves_the_crds_alone_when_told_so() {
    let upgraded = Objects::render_with("crds: {upgrade: false}", &["--is-upgrade"]);

    assert_eq!(upgraded.of_kind("CustomResourceDefinition").count(), 0);
}

/// Keys of all pods: Helm must neither make nor delete them.
#[test]
fn the_operators_secrets_are_not_helms() {
    for values in ["", FULL] {
        let objects = Objects::render(values);

        for name in ["fairway-keys", "fairway-metrics-token"] {
            assert_eq!(objects.find("Secret", name), None, "{name}");
        }
    }
}

/// Every file of a directory, by name.
fn files(directory: &Path) -> BTreeMap<String, String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}
