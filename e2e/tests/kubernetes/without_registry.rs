//! The README's way without a registry, as it stands there.
//!
//! Nobody else is beside: it installs a release of its own. After all others, as the upgrade.

use std::{path::Path, process::Stdio, time::Duration};

use e2e::cluster::{Cluster, Release, release::ENTRIES};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::support::MINUTE;

const README: &str = include_str!("../../../README.md");
const SECTION: &str = "### Without a registry";
/// Where the README installs it.
const NAMESPACE: &str = "fairway-system";

#[tokio::test]
async fn the_commands_of_the_readme_work_as_they_stand() {
    let release = Release::alone().await.unwrap();
    let cluster = release.cluster();
    if !cluster.is_own() {
        // They are about the one that they bring up.
        return;
    }
    release.uninstall().await.unwrap();

    let answer = run(&commands(), 5 * MINUTE).await;

    let answer = answer.lines().last().unwrap_or_default();
    let answer: Value = serde_json::from_str(answer).unwrap_or_else(|_| panic!("{answer}"));
    assert_eq!(answer["result"]["tools"].as_array().map(Vec::len), Some(9), "{answer}");
    remove(cluster).await;
    release.upgrade(&[]).await.unwrap();
}

/// What the section has people type, but for what brings the cluster up, which is there, and down,
/// which others use.
fn commands() -> String {
    let section = README.split(SECTION).nth(1).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let (up, rest) = block.split_once('\n').unwrap();
    assert!(up.starts_with("cargo e2e up "), "{up}");
    rest.trim_end().strip_suffix("cargo e2e down").unwrap().to_owned()
}

async fn run(commands: &str, deadline: Duration) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let shell = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .current_dir(root)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(deadline, shell).await.unwrap().unwrap();
    let [out, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}\n{error}");
    out.into_owned()
}

async fn remove(cluster: &Cluster) {
    let uninstall = ["uninstall", "fairway", "--namespace", NAMESPACE, "--wait"];
    cluster.helm(&uninstall, 2 * MINUTE).await.unwrap();
    let both = [NAMESPACE, ENTRIES].map(|name| format!("namespace/{name}"));
    let delete = ["delete", &both[0], "--timeout=120s"];
    cluster.kubectl_for(&delete, 2 * MINUTE).await.unwrap();
    let gone = ["wait", &both[1], "--for=delete", "--timeout=120s"];
    cluster.kubectl_for(&gone, 2 * MINUTE).await.unwrap();
}
