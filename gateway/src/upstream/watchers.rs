//! Who wants to hear of which resources of a server, where one leg serves all.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use gateway_core::{Namespace, Principal};
use mcp::modern::quoted;
use mcp::resource::UriParams;
use mcp::splice::{Edit, splice};
use mcp::tool::text;
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc};

use super::Upstream;
use crate::downstream::Outgoing;
use crate::home::Home;

/// Resources of one server that are watched.
const MAX_WATCHED: usize = 4096;
/// Clients that watch one resource.
const MAX_WATCHERS: usize = 4096;
/// Watches of one key at one server: a quarter, so that three others are not in its way.
const MAX_OF_KEY: usize = MAX_WATCHED / 4;
/// Largest news of a resource, which is copied for each who watches it: a URI, and little besides.
const MAX_NEWS: usize = 8 * 1024;

/// The resources of a server that somebody watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watched: Mutex<ByUri>,
    next: AtomicU64,
    /// Word that another set of resources is watched.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct ByUri {
    watchers: BTreeMap<Box<str>, Vec<Watcher>>,
    of_keys: HashMap<Key, usize>,
}

/// Namespace and name of a key.
type Key = (Namespace, Arc<str>);

#[derive(Debug)]
struct Watcher {
    number: u64,
    key: Key,
    /// How the client knows the resource.
    shown: Box<str>,
    ear: Ear,
}

/// Where a watcher hears of changes.
#[derive(Debug, Clone)]
pub(crate) enum Ear {
    /// On whichever stream the session has then.
    Session(Weak<Home>),
    /// On this one.
    Stream(mpsc::Sender<Outgoing>),
}

/// As long as it is held, its client hears of changes.
#[derive(Debug)]
pub(crate) struct Watch {
    upstream: Weak<Upstream>,
    uri: Box<str>,
    number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(upstream) = self.upstream.upgrade() {
            upstream.watchers.remove(&self.uri, self.number);
        }
    }
}

/// A resource that a client of a key may watch, and where.
#[derive(Debug)]
pub(crate) struct Watched {
    upstream: Arc<Upstream>,
    uri: Box<str>,
    key: Key,
}

impl Watched {
    pub(crate) fn new(upstream: Arc<Upstream>, uri: &str, principal: &Principal) -> Self {
        let key = (principal.key.namespace.clone(), principal.key.name.clone());
        Self { upstream, uri: uri.into(), key }
    }

    /// Watches it for a client that knows it as `shown`. `None` if too much is watched.
    pub(crate) fn watch(self, shown: &str, ear: Ear) -> Option<Watch> {
        let Self { upstream, uri, key } = self;
        let watchers = &upstream.watchers;
        let number = watchers.next.fetch_add(1, Ordering::Relaxed);
        let mut watched = watchers.lock();
        let ByUri { watchers: by_uri, of_keys } = &mut *watched;
        if of_keys.get(&key).is_some_and(|count| *count >= MAX_OF_KEY) {
            return None;
        }
        let room = by_uri.len() < MAX_WATCHED;
        let watcher = Watcher { number, key: key.clone(), shown: shown.into(), ear };
        match by_uri.entry(uri.clone()) {
            Entry::Vacant(_) if !room => return None,
            Entry::Vacant(new) => {
                new.insert(vec![watcher]);
                watchers.changed.notify_one();
            }
            Entry::Occupied(known) if known.get().len() >= MAX_WATCHERS => return None,
            Entry::Occupied(mut known) => known.get_mut().push(watcher),
        }
        *of_keys.entry(key).or_default() += 1;
        Some(Watch { upstream: Arc::downgrade(&upstream), uri, number })
    }

    /// The watch, if it is one of this; else another one.
    pub(crate) fn keep(
        self,
        watch: Watch,
        shown: &str,
        ear: impl FnOnce() -> Ear,
    ) -> Option<Watch> {
        if watch.uri == self.uri && std::ptr::eq(watch.upstream.as_ptr(), &*self.upstream) {
            return Some(watch);
        }
        drop(watch);
        self.watch(shown, ear())
    }
}

impl Watchers {
    /// The resources that are watched.
    pub(super) fn uris(&self) -> Vec<Box<str>> {
        self.lock().watchers.keys().cloned().collect()
    }

    /// Passes the news of a resource on to all who watch it.
    pub(super) fn tell(&self, bytes: &Bytes, params: Option<&RawValue>) {
        if bytes.len() > MAX_NEWS {
            return;
        }
        let Some(Ok(UriParams { uri })) = params.map(UriParams::parse) else { return };
        let Some(own) = text(uri) else { return };
        let told: Vec<(Ear, Bytes)> = {
            let watched = self.lock();
            let watchers = watched.watchers.get(&*own).into_iter().flatten();
            watchers
                .filter_map(|watcher| {
                    if *watcher.shown == *own {
                        return Some((watcher.ear.clone(), bytes.clone()));
                    }
                    let shown = quoted(&watcher.shown);
                    let edit = Edit::replace(bytes, uri.get().as_bytes(), shown.as_bytes())?;
                    Some((watcher.ear.clone(), splice(bytes, &mut [edit])))
                })
                .collect()
        };
        // Without the lock: the last hold on a home ends its watches.
        for (ear, message) in told {
            // Who does not read misses it: nobody else waits.
            match ear {
                Ear::Session(home) => {
                    home.upgrade().map(|home| home.say(message));
                }
                Ear::Stream(outlet) => {
                    let _ = outlet.try_send(Outgoing::Message(message));
                }
            }
        }
    }

    fn remove(&self, uri: &str, number: u64) {
        let mut watched = self.lock();
        let ByUri { watchers: by_uri, of_keys } = &mut *watched;
        let Some(watchers) = by_uri.get_mut(uri) else { return };
        let Some(at) = watchers.iter().position(|watcher| watcher.number == number) else { return };
        let gone = watchers.swap_remove(at);
        if watchers.is_empty() {
            by_uri.remove(uri);
            self.changed.notify_one();
        }
        if let std::collections::hash_map::Entry::Occupied(mut of_key) = of_keys.entry(gone.key) {
            *of_key.get_mut() -= 1;
            if *of_key.get() == 0 {
                of_key.remove();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ByUri> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
