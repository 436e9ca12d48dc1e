//! A policy as gateways take it, or what is wrong with it. Performs no I/O.

use crds::McpPolicy;
use gateway_core::{Entry, Invalid, Pepper, References, Resource, Secrets};

use crate::context::claim;

pub(super) fn validate(policy: &McpPolicy, pepper: &Pepper) -> Result<Entry, Invalid> {
    let secrets = Secrets::default();
    let references = References::without_cluster(claim(&policy.metadata), &secrets, pepper);
    Entry::from_resource(&Resource::Policy(Box::new(policy.clone())), references)
}
