//! `crds/generated` is what the types say.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

#[test]
fn generated_files_are_up_to_date() {
    let wanted: BTreeMap<String, String> =
        crds::generate::files().unwrap().into_iter().map(|file| (file.name, file.yaml)).collect();

    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated");
    let found: BTreeMap<String, String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();

    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&wanted), "{MEND}, and remove files of kinds that are gone");
    for (name, yaml) in wanted {
        assert!(found[&name] == yaml, "{name} differs: {MEND}");
    }
}

/// `kubectl apply` keeps a copy in an annotation, and all annotations together may have 256 KiB.
#[test]
fn generated_files_can_be_applied() {
    for file in crds::generate::files().unwrap() {
        let size = file.yaml.len();
        assert!(size < 200_000, "{} has {size} bytes, too many for kubectl apply", file.name);
    }
}

/// Folded and quoted scalars must come back as they were, the CEL rules above all.
#[test]
fn generated_files_read_back_as_the_crds() {
    for (file, crd) in crds::generate::files().unwrap().iter().zip(crds::generate::crds()) {
        let read: CustomResourceDefinition = serde_saphyr::from_str(&file.yaml).unwrap();

        assert_eq!(read, crd, "{}", file.name);
    }
}

const MEND: &str = "run cargo run -p crds --bin crdgen";
