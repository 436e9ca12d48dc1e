//! What there should be for a key. Performs no I/O.

use std::collections::BTreeMap;

use crds::McpApiKey;
use gateway_core::{Kind, Record, ResourceRef};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::observe::{Observed, output_name};
use super::validate::{MINTED_AT, ROTATE, Refusal, ValidKey, denied};
use crate::conditions::Verdict;
use crate::context::reference;
use crate::lease::Term;
use crate::objects::Error;

#[derive(Debug)]
pub(super) struct Desired {
    pub(super) resource: ResourceRef,
    /// None leaves the last good one in force.
    pub(super) record: Option<Record>,
    pub(super) in_force: Option<u64>,
    /// None leaves the one there is, if it was not collected.
    pub(super) output: Option<Output>,
    pub(super) accepted: Verdict,
    pub(super) next_rotation: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// The Secret in which a key is handed out.
pub(super) struct Output {
    pub(super) secret: Secret,
    pub(super) live: Option<Secret>,
}

/// Never shows a key.
impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Output({})", self.secret.name_any())
    }
}

pub(super) fn build(
    key: &McpApiKey,
    valid: Result<ValidKey, Refusal>,
    observed: &Observed,
    public_url: &str,
    term: Term,
) -> Result<Desired, Error> {
    let resource = reference(Kind::Key, &key.metadata);
    let (in_force, now) = (observed.in_force, observed.now);
    let uid = key.metadata.uid.clone().unwrap_or_default();
    let generation = key.metadata.generation.unwrap_or_default();
    Ok(match valid {
        Ok(ValidKey { entry, fresh, next_rotation }) => {
            let live = observed.output.as_ref();
            let value = match &fresh {
                Some(fresh) => Some((fresh.value.clone().into_bytes(), fresh.at.to_string())),
                None => observed.former.as_ref().or(live).and_then(handed_out),
            };
            let output = value.map(|(value, at)| {
                let secret = secret(key, &value, at, public_url)?;
                Ok::<_, Error>(Output { secret, live: live.cloned() })
            });
            Desired {
                resource,
                record: Some(Record::new(uid, generation, term, entry)),
                in_force,
                output: output.transpose()?,
                accepted: Verdict::yes("Accepted", "the key is valid"),
                next_rotation,
                now,
            }
        }
        Err(refusal) => {
            let denied = denied(key, observed.record.as_deref());
            Desired {
                resource,
                record: denied.map(|entry| Record::new(uid, generation, term, entry)),
                in_force,
                output: None,
                accepted: Verdict::refused(
                    refusal.reason(),
                    &refusal.to_string(),
                    in_force.is_some(),
                ),
                next_rotation: None,
                now,
            }
        }
    })
}

/// The key that a Secret of ours holds, and when it was made.
fn handed_out(secret: &Secret) -> Option<(Vec<u8>, String)> {
    let value = secret.data.as_ref()?.get("key")?.0.clone();
    Some((value, secret.annotations().get(MINTED_AT)?.clone()))
}

fn secret(
    key: &McpApiKey,
    value: &[u8],
    minted_at: String,
    public_url: &str,
) -> Result<Secret, Error> {
    let url = format!("{public_url}/mcp");
    let config = json!({"mcpServers": {"fairway": {
        "type": "http",
        "url": url,
        "headers": {"X-Api-Key": String::from_utf8_lossy(value)},
    }}});
    let data = [
        ("key", value.to_owned()),
        ("url", url.into_bytes()),
        ("mcp.json", serde_json::to_vec_pretty(&config)?),
    ];
    let mut annotations = BTreeMap::from([(MINTED_AT.to_owned(), minted_at)]);
    if let Some(request) = key.annotations().get(ROTATE) {
        annotations.insert(ROTATE.to_owned(), request.clone());
    }
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(output_name(key)),
            namespace: key.namespace(),
            annotations: Some(annotations),
            labels: Some(BTreeMap::from([(
                "app.kubernetes.io/managed-by".to_owned(),
                "fairway".to_owned(),
            )])),
            owner_references: key.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data.map(|(name, value)| (name.to_owned(), ByteString(value))).into()),
        ..Secret::default()
    })
}
