//! From one table to the next: what stays, stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gateway_core::{Kind, Scope, Snapshot};
use proptest::prelude::*;
use serde_json::json;

use crate::fixture::{NOW, key, pepper, scope, value_of};
use crate::universe::{KEYS, NAMESPACES, SERVERS, Server, described, tools, universe};

#[derive(Debug, Clone)]
enum Step {
    Apply(Server),
    Offer(String, Vec<&'static str>),
    Delete(String),
}

impl Step {
    fn server(&self) -> &str {
        match self {
            Self::Apply(server) => &server.id,
            Self::Offer(id, _) | Self::Delete(id) => id,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let id = (prop::sample::select(&NAMESPACES[..]), prop::sample::select(&SERVERS[..]))
        .prop_map(|(namespace, name)| format!("{namespace}/{name}"));
    id.prop_flat_map(|id| {
        prop_oneof![
            2 => described(id.clone()).prop_map(Step::Apply),
            4 => (Just(id.clone()), tools()).prop_map(|(id, tools)| Step::Offer(id, tools)),
            1 => Just(Step::Delete(id)),
        ]
    })
}

/// What a key sees, as bytes, with the hash of it.
fn views(snapshot: &Snapshot) -> BTreeMap<(&'static str, &'static str), (Vec<Bytes>, u64)> {
    let mut views = BTreeMap::new();
    for key in KEYS {
        let digest = pepper().digest(value_of(key).as_bytes());
        let principal = snapshot.authenticate(&digest, NOW).unwrap();
        for name in SERVERS.into_iter().chain(["*"]) {
            let scope = if name == "*" { Scope::All } else { scope(name) };
            let list = principal.tenant.list(&scope, &principal).cloned().collect();
            views.insert((key, name), (list, principal.tenant.view_hash(&scope, &principal)));
        }
    }
    views
}

/// A key of each tenant that sees everything.
fn root(namespace: &str) -> String {
    format!("{namespace}/root")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_stays_stays(universe in universe(), steps in prop::collection::vec(step(), 1..12)) {
        let mut world = universe.world();
        let mut described: BTreeMap<String, (i64, bool)> =
            universe.servers.iter().map(|s| (s.id.clone(), (s.created, true))).collect();
        for namespace in NAMESPACES {
            world.apply(key(&root(namespace), json!({"allow": {}})));
        }

        for step in steps {
            let namespace = step.server().split_once('/').unwrap().0.to_owned();
            let other = NAMESPACES.into_iter().find(|other| **other != namespace).unwrap();
            let untouched = world.principal(&root(other)).tenant.clone();
            let (before, held) = (views(&world.snapshot), world.list(&root(&namespace)));
            let known = described.clone();

            match step {
                Step::Apply(server) => {
                    let listed = known.get(&server.id).is_some_and(|(_, listed)| *listed);
                    described.insert(server.id.clone(), (server.created, listed));
                    world.apply(server.entry());
                }
                Step::Offer(id, tools) => {
                    described.entry(id.clone()).and_modify(|(_, listed)| *listed = true);
                    world.offer(&id, &tools);
                }
                Step::Delete(id) => {
                    described.remove(&id);
                    world.delete(Kind::Server, &id);
                }
            }
            let after = views(&world.snapshot);

            // Another tenant's table is the very same.
            prop_assert!(Arc::ptr_eq(&world.principal(&root(other)).tenant, &untouched));

            // Who asks whether a list has changed gets the right answer.
            for (view, (list, hash)) in &after {
                let (old_list, old_hash) = &before[view];
                prop_assert_eq!(list == old_list, hash == old_hash, "{:?}", view);
            }

            // Tools that were taken over from the table before are those that would be made anew.
            let fresh = Snapshot::build(&mut world.entries, &Snapshot::default());
            for (view, (list, _)) in views(&fresh).iter().filter(|(view, _)| view.1 != "*") {
                prop_assert_eq!(&after[view].0, list, "{:?}", view);
            }
            prop_assert_eq!(
                fresh.diagnostics().len(),
                world.snapshot.diagnostics().len()
            );

            // Only the first list of an earlier claim takes a name from who still wants it.
            for tool in held {
                let (loser, own_name) = tool.origin.rsplit_once('/').unwrap();
                let lost = format!(
                    "McpServer {loser}: NameConflict: tool {own_name} is hidden: the name {} is",
                    tool.name
                );
                if !world.diagnostics().iter().any(|text| text.starts_with(&lost)) {
                    continue;
                }
                let winner = world.origin(&tool.name, &root(&namespace)).unwrap();
                let winner = winner.rsplit_once('/').unwrap().0;
                let remade = |id: &str| known.get(id).map(|s| s.0) != Some(described[id].0);
                let first = remade(winner) || !known[winner].1;
                let earlier = (described[winner].0, winner) < (described[loser].0, loser);
                prop_assert!(remade(loser) || (first && earlier), "{:?} to {}", tool, winner);
            }
        }
    }
}
