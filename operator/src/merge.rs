//! The watches of several namespaces as one: what there is once all of them were listed, and from
//! then on what becomes different, whichever of them has to be listed again. Performs no I/O.

use std::collections::{HashMap, HashSet};

use futures_util::stream::{self, Stream, StreamExt};
use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;

use crate::bell::Id;
use crate::context::id;

/// What happened to objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change<K> {
    /// All there are. Told once, when every namespace was listed.
    Listed(Vec<K>),
    /// Is new or another than before.
    Seen(K),
    /// Was seen to go.
    Gone(K),
    /// Was there before a watch broke off, and is not in the list that was made then. Nobody saw it
    /// go.
    Missing(K),
}

/// One watch, and the namespace it is of; none for all.
pub(crate) type Watch<S> = (Option<String>, S);

/// Merges watches. Whoever polls keeps `store` up: what a list lacks is what the store still has.
pub(crate) fn merge<K, S>(
    watches: Vec<Watch<S>>,
    store: Store<K>,
) -> impl Stream<Item = Change<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    S: Stream<Item = Event<K>> + Send + Unpin,
{
    let (namespaces, streams): (Vec<_>, Vec<_>) = watches.into_iter().unzip();
    let mut merged = Merged::Listing(namespaces.iter().map(|_| First::default()).collect());
    let streams = streams.into_iter().enumerate();
    let events = streams.map(|(at, events)| events.map(move |event| (at, event)));
    stream::select_all(events.collect::<Vec<_>>()).flat_map(move |(at, event)| {
        let namespace = namespaces.get(at).and_then(Option::as_deref);
        stream::iter(merged.take(at, event, namespace, &store))
    })
}

enum Merged<K> {
    /// By watch; until each of them was listed.
    Listing(Vec<First<K>>),
    /// By watch that is being listed again: what was in the list so far.
    Following(HashMap<usize, HashSet<Id>>),
}

/// The first list of one watch.
struct First<K> {
    objects: HashMap<Id, K>,
    complete: bool,
}

impl<K> Default for First<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), complete: false }
    }
}

impl<K> Merged<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn take(
        &mut self,
        at: usize,
        event: Event<K>,
        namespace: Option<&str>,
        store: &Store<K>,
    ) -> Vec<Change<K>> {
        match self {
            Self::Listing(all) => {
                if let Some(first) = all.get_mut(at) {
                    first.take(event);
                }
                if !all.iter().all(|first| first.complete) {
                    return Vec::new();
                }
                let objects = all.drain(..).flat_map(|first| first.objects.into_values()).collect();
                *self = Self::Following(HashMap::new());
                vec![Change::Listed(objects)]
            }
            Self::Following(listing) => match event {
                Event::Init => {
                    listing.insert(at, HashSet::new());
                    Vec::new()
                }
                Event::InitApply(object) => {
                    if let Some(listed) = listing.get_mut(&at) {
                        listed.insert(id(object.meta()));
                    }
                    differs(object, store)
                }
                Event::InitDone => match listing.remove(&at) {
                    Some(listed) => missing(&listed, namespace, store),
                    None => Vec::new(),
                },
                Event::Apply(object) => vec![Change::Seen(object)],
                Event::Delete(object) => vec![Change::Gone(object)],
            },
        }
    }
}

impl<K: Resource> First<K> {
    fn take(&mut self, event: Event<K>) {
        match event {
            // A list that broke off in the middle begins anew.
            Event::Init => {
                self.objects.clear();
                self.complete = false;
            }
            Event::InitApply(object) | Event::Apply(object) => {
                self.objects.insert(id(object.meta()), object);
            }
            Event::InitDone => self.complete = true,
            Event::Delete(object) => {
                self.objects.remove(&id(object.meta()));
            }
        }
    }
}

/// What a later list says of an object.
fn differs<K>(object: K, store: &Store<K>) -> Vec<Change<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let known = store.get(&ObjectRef::from_obj(&object));
    let (meta, known) = (object.meta(), known.as_deref());
    if let Some(known) = known
        && known.meta().uid != meta.uid
    {
        // It went and another of its name came.
        return vec![Change::Missing(known.clone()), Change::Seen(object)];
    }
    let same = |known: &K| {
        meta.resource_version.is_some() && known.meta().resource_version == meta.resource_version
    };
    if known.is_some_and(same) { Vec::new() } else { vec![Change::Seen(object)] }
}

fn missing<K>(listed: &HashSet<Id>, namespace: Option<&str>, store: &Store<K>) -> Vec<Change<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let is_missing = |object: &K| {
        let meta = object.meta();
        namespace.is_none_or(|namespace| meta.namespace.as_deref() == Some(namespace))
            && !listed.contains(&id(meta))
    };
    store
        .state_filter(is_missing)
        .iter()
        .map(|object| Change::Missing((**object).clone()))
        .collect()
}

#[cfg(test)]
mod tests;
