//! Hands out a key and writes its entry.

use std::sync::Arc;

use gateway_core::{Entry, KeyEntry, Record, ResourceRef};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use super::build::{Desired, Output};
use crate::conditions::Verdict;
use crate::context::Context;
use crate::objects::{self, Error, put};

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
    /// Why the key cannot be handed out, to be tried again.
    pub(super) refused: Option<Error>,
}

/// The Secret comes first: a key that is in force and that nobody can read would be lost.
pub(super) async fn apply(ctx: &Context, desired: Desired) -> Result<Applied, Error> {
    let Desired { resource, record, in_force, output, accepted, next_rotation, now } = desired;
    let refused = match hand_out(ctx, output).await {
        Ok(()) => None,
        // What somebody has to mend is told in a condition, too.
        Err(error) => Some((error.refusal(), error)),
    };
    let (record, accepted, refused) = match refused {
        None => (record, accepted, None),
        Some((None, error)) => return Err(error),
        Some((Some(text), error)) => {
            let verdict = Verdict::refused("SecretRefused", &text, in_force.is_some());
            (None, verdict, Some(error))
        }
    };
    let version = match &record {
        Some(record) => Some(ctx.entries.apply(record).await?),
        None => in_force,
    };
    let entry = match record.as_ref().map(|Record { entry, .. }| entry) {
        Some(Entry::Key(entry)) => Some(entry.clone()),
        _ => None,
    };
    Ok(Applied { resource, version, entry, accepted, next_rotation, now, refused })
}

async fn hand_out(ctx: &Context, output: Option<Output>) -> Result<(), Error> {
    let Some(Output { secret, live }) = output else { return Ok(()) };
    ctx.term()?;
    let namespace = secret.namespace().unwrap_or_default();
    let api = Api::<Secret>::namespaced(ctx.client.clone(), &namespace);
    if live.is_none() {
        // Of two who make a key one gets a conflict, and then uses what the other made.
        let name = secret.name_any();
        return put("hand out a key", &api, &name, &secret, false).await.map(drop);
    }
    let owner = secret.owner_references().first().map(|owner| owner.uid.clone());
    let owner = owner.unwrap_or_default();
    objects::apply("hand out a key", &api, &secret, live.as_ref(), &owner).await
}
