//! An McpApiKey to its entry. Performs no I/O.

use std::sync::Arc;

use crds::{KeySource, McpApiKeySpec, Rotation};

use super::field::{NAME, access, description, items, length, long_duration};
use super::secrets::check_name;
use super::{Invalid, References, Secrets};
use crate::{KeyDigest, KeyEntry, KeyValue, Namespace, Pepper, ResourceRef};

/// Shortest API key: less can be guessed online.
const MIN_KEY: usize = 12;

pub(super) fn entry(
    spec: &McpApiKeySpec,
    ResourceRef { namespace, name, .. }: ResourceRef,
    References { claim, secrets, pepper, minted, .. }: References<'_>,
) -> Result<Arc<KeyEntry>, Invalid> {
    length("spec.user", &spec.user, NAME)?;
    items("spec.groups", &spec.groups, 64, NAME)?;
    description(spec.description.as_ref())?;
    let allow = match &spec.allow {
        None => None,
        Some(allow) => Some(access("spec.allow", &allow.servers, &allow.tools)?),
    };
    if let Some(name) = &spec.secret_name {
        check_name("spec.secretName", name)?;
    }
    if let Some(Rotation { interval, overlap }) = &spec.rotation {
        long_duration("spec.rotation.interval", interval)?;
        long_duration("spec.rotation.overlap", overlap)?;
        if spec.value_from.is_some() {
            let problem =
                "must be left out beside valueFrom: the operator replaces only keys that it made";
            return Err(Invalid::field("spec.rotation", problem));
        }
    }
    let values = match &spec.value_from {
        Some(source) => {
            let digest = given(source, secrets, pepper, &namespace)?;
            vec![KeyValue { digest, not_after: None, minted: None }]
        }
        None if minted.is_empty() => {
            let problem = "is needed: without a cluster nobody makes keys, so name a Secret that \
                           stands in this directory";
            return Err(Invalid::field("spec.valueFrom", problem));
        }
        None => minted,
    };
    Ok(Arc::new(KeyEntry {
        namespace,
        name,
        user: spec.user.as_str().into(),
        claim,
        disabled: spec.disabled,
        expires_at: spec.expires_at.as_ref().map(|time| time.0),
        values,
        groups: spec.groups.clone(),
        allow,
    }))
}

/// The digest of a key that stands in a Secret.
fn given(
    source: &KeySource,
    secrets: &Secrets,
    pepper: &Pepper,
    namespace: &Namespace,
) -> Result<KeyDigest, Invalid> {
    let field = "spec.valueFrom.secretKeyRef";
    let value = secrets.read(field, &source.secret_key_ref, namespace)?;
    let problem = if value.len() < MIN_KEY {
        Some(format!("holds a key of fewer than {MIN_KEY} characters, which could be guessed"))
    } else if !value.chars().all(|c| c.is_ascii_graphic()) {
        Some("holds a key with characters that no header carries; use ASCII without spaces".into())
    } else {
        None
    };
    if let Some(problem) = problem {
        let secret = source.secret_key_ref.name.clone();
        return Err(Invalid::Reference { field: field.to_owned(), secret, problem });
    }
    Ok(pepper.digest(value.as_bytes()))
}
