//! The status of a policy.

use crds::{AppliesTo, McpPolicy, McpPolicyStatus};
use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::applies_to::applies_to;
use super::apply::Applied;
use crate::conditions::{ACCEPTED, PROGRAMMED, READY, Verdict, conditions, ready};
use crate::context::{Context, resync};
use crate::control::Action;
use crate::objects::{Error, write_status};

pub(super) async fn update(
    ctx: &Context,
    policy: &McpPolicy,
    applied: &Applied,
) -> Result<Action, Error> {
    if let Some(wait) = ctx.settle(&applied.resource) {
        return Ok(Action::requeue(wait));
    }
    let before = policy.status.clone().unwrap_or_default();
    let programmed = ctx.programmed(&applied.resource, applied.version, &applied.accepted);
    let facts = Facts { programmed, applies_to: applies_to(ctx, policy) };
    let status = status(policy, applied, facts, &before, Timestamp::now());
    let api =
        Api::<McpPolicy>::namespaced(ctx.client.clone(), &policy.namespace().unwrap_or_default());
    let (body, was) = (serde_json::to_value(&status)?, serde_json::to_value(&before)?);
    ctx.term()?;
    if write_status(&api, &policy.name_any(), body, &was).await? {
        ctx.tell(policy, &before.conditions, &status.conditions).await;
    }
    Ok(resync())
}

/// What the status tells besides what was applied.
#[derive(Debug)]
struct Facts {
    programmed: Verdict,
    applies_to: AppliesTo,
}

fn status(
    policy: &McpPolicy,
    applied: &Applied,
    Facts { programmed, applies_to }: Facts,
    before: &McpPolicyStatus,
    now: Timestamp,
) -> McpPolicyStatus {
    let mut verdicts = vec![(ACCEPTED, applied.accepted.clone()), (PROGRAMMED, programmed)];
    verdicts.push((READY, ready(&verdicts, "the policy is in force")));
    let generation = policy.metadata.generation;
    McpPolicyStatus {
        conditions: conditions(verdicts, &before.conditions, generation, now),
        observed_generation: generation,
        applies_to: Some(applies_to),
    }
}
