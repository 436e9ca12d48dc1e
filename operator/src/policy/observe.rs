//! What a policy is looked at with. Reads from what is known already.

use std::collections::BTreeSet;

use crds::{AppliesTo, McpApiKey, McpPolicy};
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
    let (keys, users) = meant(policy, keys.iter().filter_map(|key| key.0.as_ref().ok()));
    let servers = named(policy, ctx.world.servers_known_to(&namespace));
    let applies_to = AppliesTo { keys, users, servers };
    Observed { in_force, applies_to }
}

/// The keys that a policy applies to: how many, and whose.
fn meant<'a>(policy: &McpPolicy, keys: impl Iterator<Item = &'a McpApiKey>) -> (i32, Vec<String>) {
    let is_meant = |key: &&McpApiKey| {
        let spec = &key.spec;
        policy.spec.subjects.iter().any(|subject| {
            subject.user.as_ref() == Some(&spec.user)
                || subject.group.as_ref().is_some_and(|group| spec.groups.contains(group))
                || subject.key.as_ref() == Some(&key.name_any())
        })
    };
    let users: Vec<&str> = keys.filter(is_meant).map(|key| &*key.spec.user).collect();
    let count = i32::try_from(users.len()).unwrap_or(i32::MAX);
    let users: BTreeSet<&str> = users.into_iter().collect();
    (count, users.into_iter().take(MOST).map(str::to_owned).collect())
}

/// The servers that its rules name, of those that it can mean.
fn named(policy: &McpPolicy, mut servers: Vec<String>) -> Vec<String> {
    let patterns: BTreeSet<&String> =
        policy.spec.rules.iter().flat_map(|rule| &rule.servers).collect();
    servers.retain(|server| {
        patterns.iter().any(|pattern| gateway_core::names_server(pattern, server))
    });
    servers.sort_unstable();
    servers.truncate(MOST);
    servers
}
