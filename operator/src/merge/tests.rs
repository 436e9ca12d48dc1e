use std::task::Poll;

use futures_util::FutureExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::runtime::reflector;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;

type Events = mpsc::Sender<Event<ConfigMap>>;

fn object(namespace: &str, name: &str, uid: &str, version: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {
        "namespace": namespace, "name": name, "uid": uid, "resourceVersion": version,
    }}))
    .unwrap()
}

/// Merged watches of `a` and `b`, and a store that is kept up with them.
struct World {
    a: Events,
    b: Events,
    changes: stream::BoxStream<'static, Change<ConfigMap>>,
    store: Store<ConfigMap>,
}

impl World {
    fn new() -> Self {
        let (store, mut writer) = reflector::store::<ConfigMap>();
        let watch = |namespace: &str| {
            let (events, mut received) = mpsc::channel(16);
            let stream = stream::poll_fn(move |context| received.poll_recv(context));
            (events, (Some(namespace.to_owned()), stream))
        };
        let ((a, of_a), (b, of_b)) = (watch("a"), watch("b"));
        let changes = merge(vec![of_a, of_b], store.clone()).inspect(move |change| match change {
            Change::Listed(all) => {
                writer.apply_watcher_event(&Event::Init);
                for one in all {
                    writer.apply_watcher_event(&Event::InitApply(one.clone()));
                }
                writer.apply_watcher_event(&Event::InitDone);
            }
            Change::Seen(one) => writer.apply_watcher_event(&Event::Apply(one.clone())),
            Change::Gone(one) | Change::Missing(one) => {
                writer.apply_watcher_event(&Event::Delete(one.clone()));
            }
        });
        Self { a, b, changes: changes.boxed(), store }
    }

    /// Both were listed: `a` has one object, `b` another.
    fn listed() -> Self {
        let mut world = Self::new();
        tell(
            &world.a,
            [Event::Init, Event::InitApply(object("a", "x", "1", "1")), Event::InitDone],
        );
        tell(
            &world.b,
            [Event::Init, Event::InitApply(object("b", "x", "2", "2")), Event::InitDone],
        );
        world.changes();
        world
    }

    /// Everything that is told now.
    fn changes(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(Some(change)) = self.changes.next().now_or_never() {
            let name = |object: &ConfigMap| {
                let version = object.resource_version().unwrap();
                format!("{}/{}@{version}", object.namespace().unwrap(), object.name_any())
            };
            told.push(match &change {
                Change::Listed(all) => {
                    let mut all: Vec<String> = all.iter().map(name).collect();
                    all.sort();
                    format!("listed {}", all.join(" "))
                }
                Change::Seen(object) => format!("seen {}", name(object)),
                Change::Gone(object) => format!("gone {}", name(object)),
                Change::Missing(object) => format!("missing {}", name(object)),
            });
        }
        told
    }

    fn stored(&self) -> Vec<String> {
        let all = self.store.state();
        let mut names: Vec<String> = all
            .iter()
            .map(|one| format!("{}/{}", one.namespace().unwrap(), one.name_any()))
            .collect();
        names.sort();
        names
    }

    fn is_ready(&self) -> bool {
        self.store.wait_until_ready().now_or_never().is_some()
    }
}

fn tell<const N: usize>(to: &Events, events: [Event<ConfigMap>; N]) {
    for event in events {
        to.try_send(event).unwrap();
    }
}

#[test]
fn nothing_is_told_before_every_namespace_was_listed() {
    let mut world = World::new();

    tell(&world.a, [Event::Init, Event::InitApply(object("a", "x", "1", "1")), Event::InitDone]);
    assert!(world.changes().is_empty());
    assert!(!world.is_ready());

    tell(&world.b, [Event::Init, Event::InitDone]);
    assert_eq!(world.changes(), ["listed a/x@1"]);
    assert!(world.is_ready());
}

#[test]
fn what_happens_while_others_are_listed_is_in_the_list() {
    let mut world = World::new();
    tell(
        &world.a,
        [
            Event::Init,
            Event::InitApply(object("a", "changed", "1", "1")),
            Event::InitApply(object("a", "gone", "2", "2")),
            Event::InitDone,
            Event::Apply(object("a", "changed", "1", "3")),
            Event::Apply(object("a", "new", "3", "4")),
            Event::Delete(object("a", "gone", "2", "5")),
        ],
    );
    world.changes();

    tell(&world.b, [Event::Init, Event::InitApply(object("b", "x", "4", "1")), Event::InitDone]);

    assert_eq!(world.changes(), ["listed a/changed@3 a/new@4 b/x@1"]);
}

#[test]
fn a_first_list_that_broke_off_counts_for_nothing() {
    let mut world = World::new();
    tell(&world.b, [Event::Init, Event::InitDone]);

    tell(
        &world.a,
        [
            Event::Init,
            Event::InitApply(object("a", "stale", "1", "1")),
            Event::Init,
            Event::InitApply(object("a", "x", "2", "2")),
            Event::InitDone,
        ],
    );

    assert_eq!(world.changes(), ["listed a/x@2"]);
}

#[test]
fn changes_are_passed_on_as_they_come() {
    let mut world = World::listed();

    tell(
        &world.b,
        [Event::Apply(object("b", "y", "3", "3")), Event::Delete(object("b", "x", "2", "4"))],
    );

    assert_eq!(world.changes(), ["seen b/y@3", "gone b/x@4"]);
    assert_eq!(world.stored(), ["a/x", "b/y"]);
}

#[test]
fn a_later_list_of_one_namespace_tells_what_is_different_there() {
    let mut world = World::listed();
    tell(&world.b, [Event::Apply(object("b", "same", "3", "3"))]);
    world.changes();

    tell(&world.b, [Event::Init, Event::InitApply(object("b", "new", "4", "4"))]);
    assert_eq!(world.changes(), ["seen b/new@4"]);
    assert_eq!(world.stored(), ["a/x", "b/new", "b/same", "b/x"]);

    tell(&world.b, [Event::InitApply(object("b", "same", "3", "3")), Event::InitDone]);
    // And nothing of `a`, which was not listed again.
    assert_eq!(world.changes(), ["missing b/x@2"]);
    assert_eq!(world.stored(), ["a/x", "b/new", "b/same"]);
}

#[test]
fn another_object_of_the_same_name_is_another_object() {
    let mut world = World::listed();

    tell(&world.a, [Event::Init, Event::InitApply(object("a", "x", "9", "9")), Event::InitDone]);

    assert_eq!(world.changes(), ["missing a/x@1", "seen a/x@9"]);
    assert_eq!(world.stored(), ["a/x", "b/x"]);
}

#[test]
fn a_later_list_that_broke_off_takes_nothing_away() {
    let mut world = World::listed();

    tell(&world.a, [Event::Init]);
    tell(&world.a, [Event::Init, Event::InitApply(object("a", "x", "1", "1")), Event::InitDone]);

    assert!(world.changes().is_empty());
    assert_eq!(world.stored(), ["a/x", "b/x"]);
}

#[test]
fn a_watch_that_ends_does_not_end_the_others() {
    let mut world = World::listed();
    let World { a, .. } = &mut world;
    drop(std::mem::replace(a, mpsc::channel(1).0));

    tell(&world.b, [Event::Apply(object("b", "y", "3", "3"))]);

    assert_eq!(world.changes(), ["seen b/y@3"]);
    assert_eq!(
        world.changes.next().now_or_never().map_or(Poll::Pending, Poll::Ready),
        Poll::Pending
    );
}
