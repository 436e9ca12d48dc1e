//! Which rules match whose key. Performs no I/O.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;

use super::Rights;
use crate::KeyEntry;
use crate::entry::Subject;
use crate::rights::{Access, Entitlement};
use crate::snapshot::TenantEntries;

/// Finds the rules that match each key. Keys that match the same rules share an entitlement.
pub(super) fn entitle(entries: &TenantEntries) -> Rights {
    let policies: Vec<_> = entries.policies.values().collect();
    let mut by_subject: HashMap<&Subject, Vec<usize>> = HashMap::new();
    for (at, policy) in policies.iter().enumerate() {
        for subject in &policy.subjects {
            by_subject.entry(subject).or_default().push(at);
        }
    }
    let mut entitlements = Vec::new();
    let mut known: HashMap<(Option<&Access>, Vec<usize>), usize> = HashMap::new();
    let keys = entries.keys.values().map(|key| {
        let mut matching: Vec<usize> = subjects(key)
            .filter_map(|subject| by_subject.get(&subject))
            .flatten()
            .copied()
            .collect();
        matching.sort_unstable();
        matching.dedup();
        let entitlement = match known.entry((key.allow.as_deref(), matching)) {
            MapEntry::Occupied(known) => *known.get(),
            MapEntry::Vacant(new) => {
                let mut entitlement = Entitlement::default();
                entitlement.allow.extend(key.allow.clone());
                for policy in new.key().1.iter().filter_map(|at| policies.get(*at)) {
                    entitlement.allow.extend(policy.allow.iter().cloned());
                    entitlement.deny.extend(policy.deny.iter().cloned());
                }
                entitlements.push(entitlement);
                *new.insert(entitlements.len() - 1)
            }
        };
        (key.clone(), entitlement)
    });
    Rights { keys: keys.collect(), entitlements }
}

fn subjects(key: &KeyEntry) -> impl Iterator<Item = Subject> {
    let named = [Subject::User(key.user.to_string()), Subject::Key(key.name.to_string())];
    named.into_iter().chain(key.groups.iter().cloned().map(Subject::Group))
}
