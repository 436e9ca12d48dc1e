//! Helm, and what it makes of the chart.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// The namespace of the release, whose name is `fairway`.
pub(crate) const NAMESPACE: &str = "fairway-system";

/// Values that turn everything on.
pub(crate) const FULL: &str = include_str!("full.yaml");

/// What a release consists of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Objects(Vec<Value>);

impl Objects {
    /// Rendered with these values, in YAML; none is `""`.
    pub(crate) fn render(values: &str) -> Self {
        Self::render_with(values, &[])
    }

    pub(crate) fn render_with(values: &str, flags: &[&str]) -> Self {
        let output = template(values, flags);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm template with\n{values}\n{errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        Self(objects.into_iter().filter(|object| !object.is_null()).collect())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.of_kind(kind).find(|object| object["metadata"]["name"] == name)
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name).unwrap_or_else(|| panic!("no {kind} {name}"))
    }
}

/// What Helm says when it refuses these values.
pub(crate) fn refusal(values: &str) -> String {
    let output = template(values, &[]);
    assert!(!output.status.success(), "not refused:\n{values}");
    String::from_utf8(output.stderr).unwrap()
}

/// `helm lint --strict` with these values.
pub(crate) fn lint(values: &str) -> Output {
    run(&["lint", "--strict", &chart_path(), "--values", "-"], values)
}

pub(crate) fn chart() -> PathBuf {
    repository().join("charts/fairway")
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The strings of a list.
pub(crate) fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

fn template(values: &str, flags: &[&str]) -> Output {
    let chart = chart_path();
    let mut arguments =
        vec!["template", "fairway", &chart, "--namespace", NAMESPACE, "--values", "-"];
    arguments.extend(flags);
    run(&arguments, values)
}

fn chart_path() -> String {
    chart().display().to_string()
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The one that `HELM` names, that of the test cluster, one on the PATH, or one that is built here.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cluster = target().join("cluster/bin/helm");
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::var_os("HELM").map(PathBuf::from).or_else(|| {
            let others = env::split_paths(&path).map(|directory| directory.join("helm"));
            [cluster].into_iter().chain(others).find(|program| program.is_file())
        });
        found.unwrap_or_else(build)
    })
}

/// From the module that pins the cluster's Helm, whose build shares Go's cache with this one.
fn build() -> PathBuf {
    let program = target().join("tmp/helm");
    let built = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg("helm.sh/helm/v4/cmd/helm")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/addons"))
        .env("CGO_ENABLED", "0")
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "there is no Helm and none can be built: name one with HELM, or install Go",
    );
    program
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}
