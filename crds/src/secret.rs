//! A reference to one key of a Secret.

use kube::KubeSchema;
use kube::core::Rule;
use serde::{Deserialize, Serialize};

/// One key of a Secret in the namespace of the resource.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, which must be in the same namespace as this resource.
    #[schemars(length(max = 253))]
    #[x_kube(validation = name())]
    pub name: String,

    /// Key within the Secret's data whose value is read.
    #[schemars(length(max = 253))]
    #[x_kube(validation = (
        "self.matches('^[A-Za-z0-9._-]+$')",
        "must be a key of the Secret's data: A-Z, a-z, 0-9, '-', '_' and '.'",
    ))]
    pub key: String,
}

/// Refuses what cannot be the name of a Secret.
pub(crate) fn name() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message(
        "must be the name of a Secret: a-z, 0-9, '-' and '.', with a letter or digit at both ends",
    )
}
