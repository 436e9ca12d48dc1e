//! What a policy is looked at with. Reads from what is known already.

use crds::McpPolicy;

use crate::context::{Context, reference, version_in_force};

/// What is there besides the policy itself.
#[derive(Debug)]
pub(super) struct Observed {
    /// Of its entry, if it has one.
    pub(super) in_force: Option<u64>,
}

pub(super) fn observe(ctx: &Context, policy: &McpPolicy) -> Observed {
    let reference = reference(gateway_core::Kind::Policy, &policy.metadata);
    let in_force = version_in_force(ctx.entries.of(&reference).as_ref(), &policy.metadata);
    Observed { in_force }
}
