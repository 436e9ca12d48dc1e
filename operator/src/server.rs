//! Keeps the workload, the entry and the status of each [`McpServer`].

use crds::McpServer;

use crate::context::Context;
use crate::control::Action;
use crate::objects::Error;

mod apply;
mod build;
pub(crate) mod catalogs;
pub(crate) mod names;
mod observe;
mod status;
mod validate;
mod verify;
mod workload;

/// One look at a server.
pub(crate) async fn reconcile(server: &McpServer, ctx: &Context) -> Result<Action, Error> {
    let observed = observe::observe(ctx, server).await?;
    let valid = validate::validate(server, &observed, &ctx.keyring.load().pepper);
    let desired = build::build(server, valid, &observed, &ctx.settings, ctx.term()?);
    let applied = apply::apply(ctx, server, &observed, desired).await?;
    status::update(ctx, server, &observed, applied).await
}

#[cfg(test)]
mod tests;
