//! What an `McpServer` runs, or which Service it stands for.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, EnvFromSource, EnvVar,
    PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, ResourceRequirements,
    SecretVolumeSource,
};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A container that speaks MCP over HTTP. It runs as the restricted Pod Security profile asks: not
/// as root, without privileges, and without a token for the Kubernetes API.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Image of the container, such as `ghcr.io/acme/weather-mcp:1.4`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = (r"!self.matches('\\s')", "must not have spaces"))]
    pub image: String,

    /// What is run, in place of the image's entrypoint.
    // Linux takes arguments of up to 131,071 bytes each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 131_071)))]
    pub command: Option<Vec<String>>,

    /// Arguments, in place of the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 131_071)))]
    pub args: Option<Vec<String>>,

    /// Environment variables, as in a Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub env: Option<Vec<EnvVar>>,

    /// ConfigMaps and Secrets of this namespace whose keys become environment variables, as in a
    /// Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub env_from: Option<Vec<EnvFromSource>>,

    /// Port on which the container listens. Default: 8000.
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// How many pods run. Default: 1.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,

    /// CPU and memory, as in a Pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Volumes and where the container sees them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = (
            "self.all(one, self.exists_one(other, other.name == one.name))",
            "must not have two volumes of one name",
        ),
        validation = (
            "self.all(one, self.exists_one(other, other.mountPath == one.mountPath))",
            "must not have two volumes at one mountPath",
        ),
    )]
    pub volumes: Option<Vec<Volume>>,

    /// As whom the container runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<WorkloadSecurityContext>,

    /// Path that answers 200 to a GET when the container can take requests, such as `/health`. When
    /// left out the container is ready as soon as its port is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(
        validation = ("self.startsWith('/')", "must begin with '/', such as /health"),
        validation = (
            r"!self.matches('[\\s\\\\#]')",
            "must not have spaces, backslashes or a '#'; write a space as %20",
        ),
    )]
    pub health_path: Option<String>,

    /// When the image is pulled. Default: Always for the tag `latest`, otherwise IfNotPresent.
    // Not nullable, or else the description of the type would take the place of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ImagePullPolicy")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Names of Secrets of this namespace with which the image is pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[x_kube(validation = (
        "self.all(name, name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$'))",
        "must be names of Secrets: a-z, 0-9, '-' and '.', with a letter or digit at both ends",
    ))]
    pub image_pull_secrets: Option<Vec<String>>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            image: String::new(),
            command: None,
            args: None,
            env: None,
            env_from: None,
            port: port(),
            replicas: replicas(),
            resources: None,
            volumes: None,
            security_context: None,
            health_path: None,
            image_pull_policy: None,
            image_pull_secrets: None,
        }
    }
}

fn port() -> i32 {
    8000
}

fn replicas() -> i32 {
    1
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ImagePullPolicy {
    /// Whenever a container starts.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Not at all: the node must have it.
    Never,
}

/// As whom a container runs. Whatever is not here is as the restricted Pod Security profile asks.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSecurityContext {
    /// User id, which must not be 0. Default: the image's; an image that runs as root is refused by
    /// the kubelet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,

    /// Group id, which must not be 0. Default: the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_group: Option<i64>,

    /// Group that owns the files of volumes. Default: as the volume has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub fs_group: Option<i64>,

    /// Whether the container's own files are read-only. Default: false.
    #[serde(default)]
    pub read_only_root_filesystem: bool,
}

/// A volume, and where the container sees it: exactly one of emptyDir, configMap, secret,
/// persistentVolumeClaim and projected.
// Not nullable, so that `has()` does not count an explicit null as set.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.emptyDir), has(self.configMap), has(self.secret), has(self.persistentVolumeClaim), \
     has(self.projected)].filter(set, set).size() == 1",
    "must have exactly one of emptyDir, configMap, secret, persistentVolumeClaim, projected",
))]
pub struct Volume {
    /// Name of the volume.
    #[schemars(length(max = 63))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
        "must be of a-z, 0-9 and '-', with a letter or digit at both ends, such as data",
    ))]
    pub name: String,

    /// Path at which the container sees it.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = (
        "self.matches('^/[^:]*$')",
        "must begin with '/' and have no ':', such as /data",
    ))]
    pub mount_path: String,

    /// Path within the volume that is seen there. Default: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = (
        r"!self.matches('^/|(^|/)[.][.](/|$)')",
        "must be a path within the volume: without '/' at its start and without '..'",
    ))]
    pub sub_path: Option<String>,

    /// Whether the container may not write to it. Default: false.
    #[serde(default)]
    pub read_only: bool,

    /// An empty directory that lives as long as the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EmptyDirVolumeSource")]
    pub empty_dir: Option<EmptyDirVolumeSource>,

    /// A ConfigMap of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConfigMapVolumeSource")]
    pub config_map: Option<ConfigMapVolumeSource>,

    /// A Secret of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretVolumeSource")]
    pub secret: Option<SecretVolumeSource>,

    /// A PersistentVolumeClaim of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PersistentVolumeClaimVolumeSource")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,

    /// ConfigMaps, Secrets and facts of the pod in one directory. Tokens and certificates of a service
    /// account are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProjectedVolumeSource")]
    pub projected: Option<ProjectedVolumeSource>,
}

/// A port of a Service.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// Name of the Service, which must be in the same namespace as this resource.
    #[schemars(length(max = 63))]
    #[x_kube(validation = (
        "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
        "must be the name of a Service: a-z, 0-9 and '-', with a letter or digit at both ends",
    ))]
    pub name: String,

    /// Number of the Service's port. Default: its only port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}
