//! The live routing table: one immutable value, replaced as a whole.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::{
    Catalog, Diagnostic, Entries, Entry, Namespace, Principal, ResourceRef, ServerEntry,
    ServerName, Snapshot,
};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::telemetry::Telemetry;
use crate::upstream::{Pool, Upstream};

/// How long the first change waits for company, so that many become one table.
const LINGER: Duration = Duration::from_millis(2);
/// How long the first lists of all servers are waited for before clients are served without the
/// missing ones.
const FIRST_LISTS: Duration = Duration::from_secs(3);
/// How long a request that comes before the table waits for it.
const HOLD: Duration = Duration::from_secs(5);
/// Changes that wait to be built in; a source that is faster waits.
const QUEUE: usize = 1024;

/// Names a server among all tenants.
pub(crate) type ServerId = (Namespace, ServerName);

/// What a request is decided by and served with.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Snapshot,
    pub(crate) upstreams: HashMap<ServerId, Arc<Upstream>>,
    /// Manifests that cannot be used, as the source sees it: file and reason.
    pub(crate) rejected: Arc<[Rejected]>,
}

/// A manifest that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Rejected {
    /// File it stands in, relative to the directory.
    pub(crate) file: String,
    /// The resource, as far as it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<String>,
    /// What is wrong.
    pub(crate) reason: String,
}

/// The table that is in force, and news of the next.
#[derive(Debug)]
pub(crate) struct Table {
    published: ArcSwap<Published>,
    generation: watch::Sender<u64>,
    complete: watch::Sender<bool>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            published: ArcSwap::default(),
            generation: watch::Sender::new(0),
            complete: watch::Sender::new(false),
        }
    }

    /// The table of this moment. A request loads it once and keeps to it.
    pub(crate) fn load(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// Whether there is a first complete table: the source is read and every server has listed its
    /// tools or had its time. Until then nobody can be told who they are or what there is.
    pub(crate) fn is_complete(&self) -> bool {
        *self.complete.borrow()
    }

    /// Waits for the first complete table, as a gateway that restarts under open sessions must not
    /// turn their next calls away. False when it does not come.
    pub(crate) async fn completed(&self) -> bool {
        if self.is_complete() {
            return true;
        }
        let mut complete = self.complete.subscribe();
        timeout(HOLD, complete.wait_for(|complete| *complete)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Number of the table, and news when there is another.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The principal as the table of now has it; `None` when its key is no longer good.
    pub(crate) fn renew(&self, principal: &Principal) -> Option<Principal> {
        self.load().snapshot.renew(principal, Timestamp::now())
    }
}

/// News for the publisher.
#[derive(Debug)]
pub(crate) enum Change {
    /// The source saw something: entries to apply, resources that are gone, manifests it could not
    /// use (all of them, each time).
    Source { applied: Vec<Entry>, deleted: Vec<ResourceRef>, rejected: Vec<Rejected> },
    /// A server said what it offers.
    Catalog { server: Arc<ServerEntry>, catalog: Arc<Catalog> },
    /// A server cannot be reached: nobody needs to wait for its first list.
    Unreachable { server: Arc<ServerEntry> },
}

impl Default for Change {
    /// A source that is empty.
    fn default() -> Self {
        Self::Source { applied: Vec::new(), deleted: Vec::new(), rejected: Vec::new() }
    }
}

/// Builds tables from news.
pub(crate) struct Publisher {
    table: Arc<Table>,
    pool: Pool,
    telemetry: Arc<Telemetry>,
    entries: Entries,
    rejected: Arc<[Rejected]>,
    changes: mpsc::Receiver<Change>,
    /// Servers whose first list is missing; `None` before the source is read.
    awaited: Option<HashSet<ServerId>>,
}

/// Where news is sent.
pub(crate) type Changes = mpsc::Sender<Change>;

/// The queue of news.
pub(crate) fn changes() -> (Changes, mpsc::Receiver<Change>) {
    mpsc::channel(QUEUE)
}

impl Publisher {
    pub(crate) fn new(
        table: Arc<Table>,
        pool: Pool,
        telemetry: Arc<Telemetry>,
        changes: mpsc::Receiver<Change>,
    ) -> Self {
        let entries = Entries::default();
        let (rejected, awaited) = (Arc::default(), None);
        Self { table, pool, telemetry, entries, rejected, changes, awaited }
    }

    /// Publishes until `stop`, or until nobody is left to send news.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut deadline = pin!(sleep(FIRST_LISTS));
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                first = self.changes.recv() => first,
                () = &mut deadline, if !self.table.is_complete() && self.awaited.is_some() => {
                    self.table.complete.send_replace(true);
                    continue;
                }
            };
            let Some(first) = first else { return };
            self.take(first);
            sleep(LINGER).await;
            while let Ok(change) = self.changes.try_recv() {
                self.take(change);
            }
            self.publish();
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Source { applied, deleted, rejected } => {
                for resource in deleted {
                    self.entries.delete(&resource);
                }
                for entry in applied {
                    self.entries.apply(entry);
                }
                self.telemetry.rejected.set(i64::try_from(rejected.len()).unwrap_or(i64::MAX));
                self.rejected = rejected.into();
                let entries = &self.entries;
                self.awaited.get_or_insert_with(|| entries.servers().map(|s| id_of(s)).collect());
            }
            Change::Catalog { server, catalog } => {
                // A list may be late: of a server that has gone, or moved since.
                let known = self.entries.server(&server.namespace, &server.name);
                if known.is_some_and(|known| known.endpoint == server.endpoint) {
                    self.entries.offer(&server.namespace, &server.name, catalog);
                    self.heard_of(&server);
                }
            }
            Change::Unreachable { server } => self.heard_of(&server),
        }
    }

    fn heard_of(&mut self, server: &ServerEntry) {
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(&id_of(server));
        }
    }

    fn publish(&mut self) {
        let previous = self.table.load();
        let snapshot = Snapshot::build(&mut self.entries, &previous.snapshot);
        report(snapshot.diagnostics(), previous.snapshot.diagnostics());
        let upstreams = self.pool.reconcile(self.entries.servers());
        let rejected = self.rejected.clone();
        self.table.published.store(Arc::new(Published { snapshot, upstreams, rejected }));
        self.table.generation.send_modify(|generation| *generation += 1);
        if self.awaited.as_ref().is_some_and(HashSet::is_empty) {
            self.table.complete.send_if_modified(|complete| !std::mem::replace(complete, true));
        }
    }
}

fn id_of(server: &ServerEntry) -> ServerId {
    (server.namespace.clone(), server.name.clone())
}

/// Logs what is newly wrong.
fn report(now: &[Diagnostic], before: &[Diagnostic]) {
    for diagnostic in now.iter().filter(|diagnostic| !before.contains(diagnostic)) {
        tracing::warn!(resource = %diagnostic.resource, reason = diagnostic.reason.as_str(), message = %diagnostic.message, "resource is in conflict");
    }
}
