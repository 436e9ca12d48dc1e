//! The types stay light: whoever wants them gets neither a Kubernetes client nor an async runtime.

use std::process::Command;

#[test]
fn no_client_and_no_runtime_among_the_dependencies() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "crds", "-e", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let found: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();

    assert!(found.contains(&"kube-core"), "{}", String::from_utf8_lossy(&output.stderr));
    for banned in ["hyper", "kube-client", "kube-runtime", "tokio", "tower"] {
        assert!(!found.contains(&banned), "{banned} is a dependency");
    }
}
