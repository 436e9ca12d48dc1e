//! Keeps the Secret, the entry and the status of each [`McpApiKey`].

use crds::McpApiKey;

use crate::context::Context;
use crate::control::Action;
use crate::objects::Error;

mod apply;
mod build;
mod observe;
mod status;
mod validate;

pub(crate) use observe::output_name;

/// One look at a key.
pub(crate) async fn reconcile(key: &McpApiKey, ctx: &Context) -> Result<Action, Error> {
    let observed = observe::observe(ctx, key).await?;
    let valid = validate::validate(key, &observed, &ctx.keyring.load().pepper);
    let desired = build::build(key, valid, &observed, &ctx.settings.public_url, ctx.term()?)?;
    let applied = apply::apply(ctx, desired).await?;
    status::update(ctx, key, applied).await
}

#[cfg(test)]
mod tests;
