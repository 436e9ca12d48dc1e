//! Who wants to hear of which resources and tasks of a server, where one leg serves all.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use gateway_core::{Namespace, Principal, ServerEntry};
use mcp::json::Json;
use mcp::modern::quoted;
use mcp::resource::UriParams;
use mcp::splice::{Edit, splice};
use mcp::tool::text;
use tokio::sync::{Notify, mpsc};

use super::Upstream;
use super::lodger::Sight;
use crate::downstream::Outgoing;
use crate::home::Home;

/// Resources and tasks of one server that are watched.
const MAX_WATCHED: usize = 4096;
/// Clients that watch one of them.
const MAX_WATCHERS: usize = 4096;
/// Watches of one key at one server: a quarter, so that three others are not in its way.
const MAX_OF_KEY: usize = MAX_WATCHED / 4;
/// Largest news of a resource, which is copied for each who watches it: a URI, and little besides.
const MAX_NEWS: usize = 8 * 1024;

/// The notification of a task (extension).
const TASKS: &str = "notifications/tasks";

/// What is watched, as its server names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// A resource, by its URI.
    Resource(Box<str>),
    /// A task, by its id.
    Task(Box<str>),
}

/// What of a server somebody watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watched: Mutex<BySubject>,
    next: AtomicU64,
    /// Word that other things are watched.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct BySubject {
    watchers: BTreeMap<Subject, Vec<Watcher>>,
    of_keys: HashMap<Key, usize>,
}

/// Namespace and name of a key.
type Key = (Namespace, Arc<str>);

#[derive(Debug)]
struct Watcher {
    number: u64,
    key: Key,
    /// How the client knows it.
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
    /// On this one, of a task: its news hold a result, which may name resources.
    Task(mpsc::Sender<Outgoing>, Box<Sight>),
}

impl Ear {
    /// Who does not read misses it: nobody else waits.
    fn say(self, message: Bytes) {
        match self {
            Self::Session(home) => {
                home.upgrade().map(|home| home.say(message));
            }
            Self::Stream(outlet) | Self::Task(outlet, _) => {
                let _ = outlet.try_send(Outgoing::Message(message));
            }
        }
    }
}

/// As long as it is held, its client hears of changes.
#[derive(Debug)]
pub(crate) struct Watch {
    upstream: Weak<Upstream>,
    subject: Subject,
    number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(upstream) = self.upstream.upgrade() {
            upstream.watchers.remove(&self.subject, self.number);
        }
    }
}

/// What a client of a key may watch, and where.
#[derive(Debug)]
pub(crate) struct Watched {
    upstream: Arc<Upstream>,
    subject: Subject,
    key: Key,
}

impl Watched {
    pub(crate) fn new(upstream: Arc<Upstream>, subject: Subject, principal: &Principal) -> Self {
        let key = (principal.key.namespace.clone(), principal.key.name.clone());
        Self { upstream, subject, key }
    }

    /// Watches it for a client that knows it as `shown`. `None` if too much is watched.
    pub(crate) fn watch(self, shown: &str, ear: Ear) -> Option<Watch> {
        let Self { upstream, subject, key } = self;
        let watchers = &upstream.watchers;
        let number = watchers.next.fetch_add(1, Ordering::Relaxed);
        let mut watched = watchers.lock();
        let BySubject { watchers: by_subject, of_keys } = &mut *watched;
        if of_keys.get(&key).is_some_and(|count| *count >= MAX_OF_KEY) {
            return None;
        }
        let room = by_subject.len() < MAX_WATCHED;
        let watcher = Watcher { number, key: key.clone(), shown: shown.into(), ear };
        match by_subject.entry(subject.clone()) {
            Entry::Vacant(_) if !room => return None,
            Entry::Vacant(new) => {
                new.insert(vec![watcher]);
                watchers.changed.notify_one();
            }
            Entry::Occupied(known) if known.get().len() >= MAX_WATCHERS => return None,
            Entry::Occupied(mut known) => known.get_mut().push(watcher),
        }
        *of_keys.entry(key).or_default() += 1;
        Some(Watch { upstream: Arc::downgrade(&upstream), subject, number })
    }

    /// The watch, if it is one of this; else another one.
    pub(crate) fn keep(
        self,
        watch: Watch,
        shown: &str,
        ear: impl FnOnce() -> Ear,
    ) -> Option<Watch> {
        if watch.subject == self.subject && std::ptr::eq(watch.upstream.as_ptr(), &*self.upstream) {
            return Some(watch);
        }
        drop(watch);
        self.watch(shown, ear())
    }
}

impl Watchers {
    /// What is watched.
    pub(super) fn subjects(&self) -> BTreeSet<Subject> {
        self.lock().watchers.keys().cloned().collect()
    }

    /// Passes the news of a resource on to all who watch it.
    pub(super) fn tell(&self, bytes: &Bytes, params: Option<Json<'_>>) {
        if bytes.len() > MAX_NEWS {
            return;
        }
        let Some(Ok(UriParams { uri })) = params.map(UriParams::parse) else { return };
        let Some(own) = text(uri) else { return };
        // Without the lock: the last hold on a home ends its watches.
        for (ear, shown) in self.who_watch(&Subject::Resource((*own).into())) {
            if *shown == *own {
                ear.say(bytes.clone());
                continue;
            }
            let shown = quoted(&shown);
            if let Some(edit) = Edit::replace(bytes, uri.get().as_bytes(), shown.as_bytes()) {
                ear.say(splice(bytes, &mut [edit]));
            }
        }
    }

    /// Passes the news of a task on to all who watch it: those that may know its id.
    pub(super) fn tell_of_task(
        &self,
        server: &ServerEntry,
        bytes: &Bytes,
        params: Option<Json<'_>>,
    ) {
        let ids = mcp::task::in_params(TASKS, params);
        let Some(own) = ids.first().and_then(|id| text(*id)) else { return };
        for (ear, shown) in self.who_watch(&Subject::Task((*own).into())) {
            let shown = quoted(&shown);
            let of_task = ids.iter().filter(|id| text(**id).is_some_and(|id| id == own));
            let mut edits: Vec<Edit<'_>> = of_task
                .filter_map(|id| Edit::replace(bytes, id.get().as_bytes(), shown.as_bytes()))
                .collect();
            if let (Ear::Task(_, sight), Some(params)) = (&ear, params) {
                edits.extend(sight.expose_uris(server, bytes, params, TASKS));
            }
            ear.say(splice(bytes, &mut edits));
        }
    }

    /// Those who watch it, and how each knows it.
    fn who_watch(&self, subject: &Subject) -> Vec<(Ear, Box<str>)> {
        let watched = self.lock();
        let watchers = watched.watchers.get(subject).into_iter().flatten();
        watchers.map(|watcher| (watcher.ear.clone(), watcher.shown.clone())).collect()
    }

    fn remove(&self, subject: &Subject, number: u64) {
        let mut watched = self.lock();
        let BySubject { watchers: by_subject, of_keys } = &mut *watched;
        let Some(watchers) = by_subject.get_mut(subject) else { return };
        let Some(at) = watchers.iter().position(|watcher| watcher.number == number) else { return };
        let gone = watchers.swap_remove(at);
        if watchers.is_empty() {
            by_subject.remove(subject);
            self.changed.notify_one();
        }
        if let std::collections::hash_map::Entry::Occupied(mut of_key) = of_keys.entry(gone.key) {
            *of_key.get_mut() -= 1;
            if *of_key.get() == 0 {
                of_key.remove();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BySubject> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
