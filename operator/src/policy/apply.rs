//! Writes the entry of a policy.

use gateway_core::ResourceRef;

use super::build::Desired;
use crate::conditions::Verdict;
use crate::context::Context;
use crate::objects::Error;

#[derive(Debug)]
pub(super) struct Applied {
    pub(super) resource: ResourceRef,
    /// `resourceVersion` of the entry; none if there is none.
    pub(super) version: Option<u64>,
    pub(super) accepted: Verdict,
}

pub(super) async fn apply(ctx: &Context, desired: Desired) -> Result<Applied, Error> {
    let Desired { resource, record, in_force, accepted } = desired;
    let version = match record {
        Some(record) => Some(ctx.entries.apply(&record).await?),
        None => in_force,
    };
    Ok(Applied { resource, version, accepted })
}
