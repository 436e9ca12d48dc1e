//! The status of a policy.

use crds::{McpPolicy, McpPolicyStatus};
use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::apply::Applied;
use crate::conditions::{ACCEPTED, PROGRAMMED, READY, Verdict, conditions, ready};
use crate::context::Context;
use crate::objects::{Error, write_status};

pub(super) async fn update(
    ctx: &Context,
    policy: &McpPolicy,
    applied: &Applied,
) -> Result<(), Error> {
    if let Some(version) = applied.version {
        ctx.gateways.reached(version).await;
    }
    let before = policy.status.clone().unwrap_or_default();
    let status = status(ctx, policy, applied, &before, Timestamp::now());
    let api =
        Api::<McpPolicy>::namespaced(ctx.client.clone(), &policy.namespace().unwrap_or_default());
    let (body, was) = (serde_json::to_value(&status)?, serde_json::to_value(&before)?);
    ctx.term()?;
    if write_status(&api, &policy.name_any(), body, Some(&was)).await? {
        ctx.tell(policy, &before.conditions, &status.conditions).await;
    }
    Ok(())
}

fn status(
    ctx: &Context,
    policy: &McpPolicy,
    applied: &Applied,
    before: &McpPolicyStatus,
    now: Timestamp,
) -> McpPolicyStatus {
    let Applied { resource, version, accepted, applies_to } = applied;
    let programmed = match version {
        Some(version) => ctx.gateways.programmed(resource, *version),
        None => Verdict::no("NotAccepted", "there is no valid version yet"),
    };
    let mut verdicts = vec![(ACCEPTED, accepted.clone()), (PROGRAMMED, programmed)];
    verdicts.push((READY, ready(&verdicts, "the policy is in force")));
    let generation = policy.metadata.generation;
    McpPolicyStatus {
        conditions: conditions(verdicts, &before.conditions, generation, now),
        observed_generation: generation,
        applies_to: Some(applies_to.clone()),
    }
}
