//! Keeps the entry and the status of each [`McpPolicy`].

use crds::McpPolicy;

use crate::context::Context;
use crate::control::Action;
use crate::objects::Error;

mod applies_to;
mod apply;
mod build;
mod observe;
mod status;
mod validate;

/// One look at a policy.
pub(crate) async fn reconcile(policy: &McpPolicy, ctx: &Context) -> Result<Action, Error> {
    let observed = observe::observe(ctx, policy);
    let valid = validate::validate(policy, &ctx.keyring.load().pepper);
    let desired = build::build(policy, valid, &observed, ctx.term()?);
    let applied = apply::apply(ctx, desired).await?;
    status::update(ctx, policy, &applied).await
}

#[cfg(test)]
mod tests;
