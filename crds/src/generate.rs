//! The CRDs as files: what `crdgen` writes and the drift test compares. Performs no I/O.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{McpApiKey, McpPolicy, McpServer};

/// One generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Name within `crds/generated`, such as `mcpservers.yaml`.
    pub name: String,
    /// What it holds.
    pub yaml: String,
}

/// The CRDs of all kinds.
pub fn crds() -> [CustomResourceDefinition; 3] {
    [McpServer::crd(), McpApiKey::crd(), McpPolicy::crd()]
}

/// The files of all kinds, one a kind.
///
/// # Errors
/// When a CRD cannot be written as YAML.
pub fn files() -> Result<Vec<File>, serde_saphyr::ser_error::Error> {
    crds()
        .into_iter()
        .map(|crd| {
            let name = format!("{}.yaml", crd.spec.names.plural);
            let yaml = serde_saphyr::to_string(&crd)?;
            Ok(File { name, yaml: format!("{HEADER}{}\n", yaml.trim_end()) })
        })
        .collect()
}

const HEADER: &str =
    "# Generated from the crate `crds` by `cargo run -p crds --bin crdgen`; do not edit.\n";
