//! What an McpServer runs: whether it can be, before anybody tries. Performs no I/O.

use std::collections::HashSet;

use crds::{Volume, Workload, WorkloadSecurityContext};
use k8s_openapi::api::core::v1::ProjectedVolumeSource;

use super::field::{count, items, length, path, range};
use super::secrets::is_secret_name;
use super::{Invalid, LABEL, SUBDOMAIN, is_label};

/// Checks the workload that stands at `spec.workload`.
///
/// # Errors
/// The first thing found wrong with it.
pub fn check(workload: &Workload) -> Result<(), Invalid> {
    length("spec.workload.image", &workload.image, 1..=1024)?;
    if workload.image.contains(char::is_whitespace) {
        return Err(Invalid::field("spec.workload.image", "must not have spaces"));
    }
    let list = |list: Option<&Vec<String>>, field| {
        items(field, list.map_or(&[], |list| list.as_slice()), 256, 0..=ARGUMENT)
    };
    list(workload.command.as_ref(), "spec.workload.command")?;
    list(workload.args.as_ref(), "spec.workload.args")?;
    count("spec.workload.env", workload.env.iter().flatten().count(), 256)?;
    count("spec.workload.envFrom", workload.env_from.iter().flatten().count(), 64)?;
    range("spec.workload.port", workload.port, 1..=65_535)?;
    range("spec.workload.replicas", workload.replicas, 0..=1000)?;
    volumes(workload.volumes.as_deref().unwrap_or_default())?;
    security_context(workload.security_context.as_ref())?;
    if let Some(health) = &workload.health_path {
        path("spec.workload.healthPath", health, "/health")?;
    }
    pull_secrets(workload.image_pull_secrets.as_deref().unwrap_or_default())
}

/// Longest argument: Linux takes 128 KiB with the byte that ends it.
const ARGUMENT: usize = 131_071;

fn volumes(volumes: &[Volume]) -> Result<(), Invalid> {
    const FIELD: &str = "spec.workload.volumes";
    count(FIELD, volumes.len(), 64)?;
    for (at, given) in volumes.iter().enumerate() {
        volume(&format!("{FIELD}[{at}]"), given)?;
    }
    let differ = |of: fn(&Volume) -> &str| {
        let mut seen = HashSet::new();
        volumes.iter().all(|volume| seen.insert(of(volume)))
    };
    if !differ(|volume| &volume.name) {
        return Err(Invalid::field(FIELD, "must not have two volumes of one name"));
    }
    if !differ(|volume| &volume.mount_path) {
        return Err(Invalid::field(FIELD, "must not have two volumes at one mountPath"));
    }
    Ok(())
}

fn volume(field: &str, volume: &Volume) -> Result<(), Invalid> {
    let wrong =
        |name: &str, problem: &str| Err(Invalid::field(format_args!("{field}.{name}"), problem));
    if volume.name.len() > LABEL || !is_label(&volume.name) {
        return wrong(
            "name",
            "must be of a-z, 0-9 and '-', with a letter or digit at both ends, such as data",
        );
    }
    length(format_args!("{field}.mountPath"), &volume.mount_path, 0..=1024)?;
    if !volume.mount_path.starts_with('/') || volume.mount_path.contains(':') {
        return wrong("mountPath", "must begin with '/' and have no ':', such as /data");
    }
    if let Some(within) = &volume.sub_path {
        length(format_args!("{field}.subPath"), within, 0..=1024)?;
        if within.starts_with('/') || within.split('/').any(|part| part == "..") {
            return wrong(
                "subPath",
                "must be a path within the volume: without '/' at its start and without '..'",
            );
        }
    }
    let Volume { empty_dir, config_map, secret, persistent_volume_claim, projected, .. } = volume;
    let sources = [
        empty_dir.is_some(),
        config_map.is_some(),
        secret.is_some(),
        persistent_volume_claim.is_some(),
        projected.is_some(),
    ];
    if sources.into_iter().filter(|set| *set).count() != 1 {
        let problem = "must have exactly one of emptyDir, configMap, secret, \
                       persistentVolumeClaim, projected";
        return Err(Invalid::field(field, problem));
    }
    projected.as_ref().map_or(Ok(()), |projected| no_identity(field, projected))
}

/// A token or a certificate of the pod's service account would open the Kubernetes API to it. The
/// CRD cannot say so: an apiserver does not know how long the list may be.
fn no_identity(field: &str, projected: &ProjectedVolumeSource) -> Result<(), Invalid> {
    for (at, source) in projected.sources.iter().flatten().enumerate() {
        let (name, what) = if source.service_account_token.is_some() {
            ("serviceAccountToken", "tokens")
        } else if source.pod_certificate.is_some() {
            ("podCertificate", "certificates")
        } else {
            continue;
        };
        return Err(Invalid::field(
            format_args!("{field}.projected.sources[{at}].{name}"),
            format!("is not allowed: servers get no {what} of a service account; remove it"),
        ));
    }
    Ok(())
}

fn security_context(given: Option<&WorkloadSecurityContext>) -> Result<(), Invalid> {
    let Some(given) = given else { return Ok(()) };
    // Highest id of a user or a group that Kubernetes takes.
    let check = |name: &str, id: Option<i64>| {
        let field = format!("spec.workload.securityContext.{name}");
        id.map_or(Ok(()), |id| range(field, id, 1..=i64::from(i32::MAX)))
    };
    check("runAsUser", given.run_as_user)?;
    check("runAsGroup", given.run_as_group)?;
    check("fsGroup", given.fs_group)
}

fn pull_secrets(names: &[String]) -> Result<(), Invalid> {
    const FIELD: &str = "spec.workload.imagePullSecrets";
    items(FIELD, names, 16, 0..=SUBDOMAIN)?;
    if !names.iter().all(|name| is_secret_name(name)) {
        let problem = "must be names of Secrets: a-z, 0-9, '-' and '.', with a letter or digit at \
                       both ends";
        return Err(Invalid::field(FIELD, problem));
    }
    Ok(())
}
