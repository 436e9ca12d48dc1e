//! Whom a policy applies to, and which servers it names. It is compared with everything in its
//! namespace, so only a status that is about to be written asks. Reads from what is known already.

use std::collections::BTreeSet;

use crds::{AppliesTo, McpApiKey, McpPolicy};
use kube::ResourceExt;

use crate::context::Context;

/// Most names that a status lists.
const MOST: usize = 16;

pub(super) fn applies_to(ctx: &Context, policy: &McpPolicy) -> AppliesTo {
    let namespace = policy.namespace().unwrap_or_default();
    let keys = ctx.world.keys_in(&namespace);
    let (keys, users) = meant(policy, keys.iter().filter_map(|key| key.0.as_ref().ok()));
    let servers = named(policy, ctx.world.servers_known_to(&namespace));
    AppliesTo { keys, users, servers }
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
    let patterns: Vec<String> =
        policy.spec.rules.iter().flat_map(|rule| &rule.servers).cloned().collect();
    let is_named = gateway_core::named_by(&patterns);
    servers.retain(|server| is_named(server));
    servers.sort_unstable();
    servers.truncate(MOST);
    servers
}
