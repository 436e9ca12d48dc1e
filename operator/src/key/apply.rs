//! Hands out a key and writes its entry.

use gateway_core::{Entry, KeyEntry, Record, ResourceRef};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use std::sync::Arc;

use super::build::{Desired, Output};
use crate::conditions::Verdict;
use crate::context::Context;
use crate::objects::{self, Error};

#[derive(Debug)]
pub(super) struct Applied {
    pub(super) resource: ResourceRef,
    /// `resourceVersion` of the entry; none if there is none.
    pub(super) version: Option<u64>,
    /// What is in force now.
    pub(super) entry: Option<Arc<KeyEntry>>,
    pub(super) accepted: Verdict,
    pub(super) next_rotation: Option<Timestamp>,
    pub(super) now: Timestamp,
}

/// The Secret comes first: a key that is in force and that nobody can read would be lost.
pub(super) async fn apply(ctx: &Context, desired: Desired) -> Result<Applied, Error> {
    let Desired { resource, record, in_force, output, accepted, next_rotation, now } = desired;
    if let Some(Output { secret, live }) = output {
        ctx.term()?;
        let api =
            Api::<Secret>::namespaced(ctx.client.clone(), &secret.namespace().unwrap_or_default());
        let owner = secret.owner_references().first().map(|owner| owner.uid.clone());
        let owner = owner.unwrap_or_default();
        objects::apply("hand out a key", &api, &secret, live.as_ref(), &owner).await?;
    }
    let version = match &record {
        Some(record) => Some(ctx.entries.apply(record).await?),
        None => in_force,
    };
    let entry = match record.as_ref().map(|Record { entry, .. }| entry) {
        Some(Entry::Key(entry)) => Some(entry.clone()),
        _ => None,
    };
    Ok(Applied { resource, version, entry, accepted, next_rotation, now })
}
