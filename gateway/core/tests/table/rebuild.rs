//! What comes first does not matter: the same resources and lists make the same table.

use proptest::prelude::*;

use crate::fixture::{Listed, World, list, scope};
use crate::universe::{KEYS, SERVERS, Universe, universe};
use gateway_core::{Entry, Scope};

/// What anybody can tell of a table.
type Seen = (Vec<(Vec<Listed>, u64)>, Vec<String>);

fn seen(world: &World) -> Seen {
    let views = KEYS.iter().flat_map(|key| {
        let principal = world.principal(key);
        SERVERS.iter().map(|server| scope(server)).chain([Scope::All]).map(move |scope| {
            (list(&principal, &scope), principal.tenant.view_hash(&scope, &principal))
        })
    });
    (views.collect(), world.diagnostics())
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Entry),
    /// The list of that server, which is nothing while the server has no entry.
    Offer(usize),
}

/// Entries and lists in any order, and in the end all lists once more.
fn shuffled() -> impl Strategy<Value = (Universe, Vec<Step>, Vec<bool>)> {
    universe().prop_flat_map(|universe| {
        let offers: Vec<_> = (0..universe.servers.len()).map(Step::Offer).collect();
        let entries = universe.entries().into_iter().map(Step::Apply);
        let steps: Vec<_> = entries.chain(offers.clone()).collect();
        let builds = prop::collection::vec(any::<bool>(), steps.len() + offers.len());
        let steps = (Just(steps).prop_shuffle(), Just(offers).prop_shuffle())
            .prop_map(|(first, second)| [first, second].concat());
        (Just(universe), steps, builds)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_order_of_resources_and_first_lists_is_nothing(
        (universe, steps, builds) in shuffled(),
    ) {
        let expected = seen(&universe.world());
        let mut world = World::default();

        // Some steps have a table each, others share one.
        for (step, build) in steps.into_iter().zip(builds) {
            match step {
                Step::Apply(entry) => world.entries.apply(entry),
                Step::Offer(at) => {
                    let server = &universe.servers[at];
                    world.keep(&server.id, &server.tools);
                }
            }
            if build {
                world.build();
            }
        }
        world.build();

        prop_assert_eq!(seen(&world), expected);
    }
}
