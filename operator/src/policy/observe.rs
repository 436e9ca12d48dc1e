//! What a policy is looked at with. Reads from what is known already.

use crds::{AppliesTo, McpPolicy};
use kube::ResourceExt;

use crate::context::{Context, reference, version_in_force};

/// What is there besides the policy itself.
#[derive(Debug)]
pub(super) struct Observed {
    /// Of its entry, if it has one.
    pub(super) in_force: Option<u64>,
    pub(super) applies_to: AppliesTo,
}

/// Most names that a status lists.
const MOST: usize = 16;

pub(super) fn observe(ctx: &Context, policy: &McpPolicy) -> Observed {
    let reference = reference(gateway_core::Kind::Policy, &policy.metadata);
    let in_force = version_in_force(ctx.entries.of(&reference).as_ref(), &policy.metadata);
    let namespace = policy.namespace().unwrap_or_default();
    let keys = ctx.world.keys_in(&namespace);
    let meant: Vec<_> = keys
        .iter()
        .filter(|key| {
            let spec = &key.spec;
            policy.spec.subjects.iter().any(|subject| {
                subject.user.as_ref() == Some(&spec.user)
                    || subject.group.as_ref().is_some_and(|group| spec.groups.contains(group))
                    || subject.key.as_ref() == Some(&key.name_any())
            })
        })
        .collect();
    let mut users: Vec<String> = meant.iter().map(|key| key.spec.user.clone()).collect();
    users.sort_unstable();
    users.dedup();
    users.truncate(MOST);
    let named = |server: &str| {
        let rules = policy.spec.rules.iter();
        rules
            .flat_map(|rule| &rule.servers)
            .any(|pattern| gateway_core::names_server(pattern, server))
    };
    let mut servers = ctx.world.servers_known_to(&namespace);
    servers.retain(|server| named(server));
    servers.sort_unstable();
    servers.truncate(MOST);
    let applies_to =
        AppliesTo { keys: i32::try_from(meant.len()).unwrap_or(i32::MAX), users, servers };
    Observed { in_force, applies_to }
}
