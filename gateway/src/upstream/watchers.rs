//! Who wants to hear of which resources of a server, where one leg serves all.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
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

/// The resources of a server that somebody watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    by_uri: Mutex<BTreeMap<Box<str>, Vec<Watcher>>>,
    next: AtomicU64,
    /// Word that another set of resources is watched.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct Watcher {
    number: u64,
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

impl Upstream {
    /// Watches a resource for a client that knows it as `shown`. `None` if too much is watched.
    pub(crate) fn watch(self: &Arc<Self>, uri: &str, shown: &str, ear: Ear) -> Option<Watch> {
        let number = self.watchers.next.fetch_add(1, Ordering::Relaxed);
        let mut by_uri = self.watchers.lock();
        let room = by_uri.len() < MAX_WATCHED;
        match by_uri.entry(uri.into()) {
            Entry::Vacant(_) if !room => return None,
            Entry::Vacant(new) => {
                new.insert(vec![Watcher { number, shown: shown.into(), ear }]);
                self.watchers.changed.notify_one();
            }
            Entry::Occupied(known) if known.get().len() >= MAX_WATCHERS => return None,
            Entry::Occupied(mut known) => {
                known.get_mut().push(Watcher { number, shown: shown.into(), ear });
            }
        }
        Some(Watch { upstream: Arc::downgrade(self), uri: uri.into(), number })
    }
}

impl Watchers {
    /// The resources that are watched.
    pub(super) fn uris(&self) -> Vec<Box<str>> {
        self.lock().keys().cloned().collect()
    }

    /// Passes the news of a resource on to all who watch it.
    pub(super) fn tell(&self, bytes: &Bytes, params: Option<&RawValue>) {
        let Some(Ok(UriParams { uri })) = params.map(UriParams::parse) else { return };
        let Some(own) = text(uri) else { return };
        let told: Vec<(Ear, Bytes)> = {
            let by_uri = self.lock();
            let watchers = by_uri.get(&*own).into_iter().flatten();
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
        let mut by_uri = self.lock();
        if let Some(watchers) = by_uri.get_mut(uri) {
            watchers.retain(|watcher| watcher.number != number);
            if watchers.is_empty() {
                by_uri.remove(uri);
                self.changed.notify_one();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Box<str>, Vec<Watcher>>> {
        self.by_uri.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
